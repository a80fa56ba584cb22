//! The tiles that a key loop visits at a query tile, in rows of the set's keys.

use super::arguments::{Counters, ParameterValues};
use super::place::{Ends, Place};
use crate::expr::{Expr, UnaryOp};
use crate::ir::{Range, TileKind, TileLoop};
use cubecl::prelude::*;

/// A tile of keys is not visited.
pub const SKIPPED: i32 = 0;
/// A tile is visited, and its mask evaluated.
pub const PARTIAL: i32 = 1;
/// A tile is visited, and its mask is not evaluated.
pub const FULL: i32 = 2;

/// Rows of a set's keys; none where `to` is not above `from`.
#[derive(CubeType, Clone, Copy)]
#[expand(derive(Clone, Copy))]
pub struct Span {
    /// The first.
    pub from: usize,
    /// The one after the last.
    pub to: usize,
}

/// The key tiles of a query tile, of one loop.
#[derive(CubeType)]
pub struct KeyTiles {
    /// How many keys there are.
    pub len: usize,
    /// The position of the first.
    pub offset: i32,
    /// The rows to visit.
    visit: Sequence<Span>,
    /// The rows that every query sees.
    full: Sequence<Span>,
    /// What the loop's kind needs that is the same for all key tiles.
    known: Sequence<i32>,
    /// Keys in a tile.
    #[cube(comptime)]
    size: usize,
    /// The loop.
    #[cube(comptime)]
    pub key_loop: TileLoop,
}

/// A tile of keys that is visited.
#[derive(CubeType, Clone, Copy)]
#[expand(derive(Clone, Copy))]
pub struct Visited {
    /// Its first key; the number of keys if there is no such tile.
    pub first: usize,
    /// Its kind.
    pub kind: i32,
}

/// A tile of a set of keys.
#[derive(CubeType, Clone, Copy)]
#[expand(derive(Clone, Copy))]
pub struct KeyTile {
    /// The tile's first key.
    pub first: usize,
    /// The last key of the set.
    pub last: usize,
    /// The rows whose values may be read: a key outside is seen by no query, and what its value holds must not matter.
    pub seen: Span,
}

#[cube]
impl KeyTile {
    /// The row of the tile's key number `at`; past the last, the last.
    pub fn key(&self, at: usize) -> usize {
        min(self.first + at, self.last)
    }

    /// The row of whose value the tile's key number `at` takes: its own, or the nearest that is seen. It then weighs nothing.
    pub fn value(&self, at: usize) -> usize {
        clamp(self.first + at, self.seen.from, self.seen.to - 1)
    }
}

#[cube]
impl KeyTiles {
    /// Those of `key_loop` at `place`, of `size` keys each, for `len` keys of which the first is at position `offset`.
    pub fn new<N: Size>(
        parameters: &ParameterValues,
        place: &Place<N>,
        len: usize,
        offset: i32,
        #[comptime] size: usize,
        #[comptime] key_loop: TileLoop,
    ) -> KeyTiles {
        let mut visit = Sequence::new();
        #[unroll]
        for at in 0..comptime![key_loop.visit.len()] {
            visit.push(span::<N>(parameters, place, len as i32, offset, comptime![key_loop.visit[at].clone()]));
        }
        let mut full = Sequence::new();
        #[unroll]
        for at in 0..comptime![if key_loop.occurs(false) { key_loop.full.len() } else { 0 }] {
            full.push(span::<N>(parameters, place, len as i32, offset, comptime![key_loop.full[at].clone()]));
        }
        let mut known = Sequence::new();
        let invariant = comptime![invariant(&key_loop)];
        #[unroll]
        for at in 0..comptime![invariant.len()] {
            known.push(parameters.uniform::<N>(place, comptime![invariant[at].clone()]));
        }
        KeyTiles { len, offset, visit, full, known, size, key_loop }
    }

    /// The first row of the first tile to look at of those from row `at`, the first of a tile; the number of keys if there is none.
    pub fn next<N: Size>(&self, parameters: &ParameterValues, place: &Place<N>, at: usize) -> usize {
        let mut next = self.in_range(at);
        if comptime![self.key_loop.key_hop.is_some()] {
            let first = self.offset + next as i32;
            let here = place.of_columns(Ends { first, last: first });
            let hop = parameters.uniform::<N>(&here, comptime![self.key_loop.key_hop.clone().unwrap()]);
            let row = clamp(hop, first, self.offset + self.len as i32) - self.offset;
            let hopped = row as usize / comptime![self.size] * comptime![self.size];
            if hopped > next {
                next = self.in_range(hopped);
            }
        }
        next
    }

    /// The same by ranges alone.
    fn in_range(&self, at: usize) -> usize {
        let mut next = self.len;
        #[unroll]
        for range in 0..comptime![self.key_loop.visit.len()] {
            let span = &self.visit[range];
            if at < span.to {
                next = min(next, max(at, span.from / comptime![self.size] * comptime![self.size]));
            }
        }
        next
    }

    /// The first tile that is visited of those from row `at`.
    pub fn visited<N: Size>(&self, parameters: &ParameterValues, place: &Place<N>, at: usize) -> Visited {
        let size = comptime![self.size];
        let mut first = self.next::<N>(parameters, place, at);
        let count = min(size, self.len - first);
        let mut kind = self.kind::<N>(parameters, place, first, count);
        if comptime![skips(&self.key_loop)] {
            while first < self.len && kind == SKIPPED {
                first = self.next::<N>(parameters, place, first + size);
                let count = min(size, self.len - first);
                kind = self.kind::<N>(parameters, place, first, count);
            }
        }
        Visited { first, kind }
    }

    /// The rows between the first and the last that a range has, of the `count` from row `at`, where ranges leave something out. What
    /// the values of others hold must not matter.
    pub fn seen(&self, at: usize, count: usize) -> Span {
        let mut from = at;
        let mut to = at + count;
        if comptime![trims(&self.key_loop)] {
            from = at + count - 1;
            to = at + 1;
            #[unroll]
            for range in 0..comptime![self.key_loop.visit.len()] {
                let span = &self.visit[range];
                let first = max(span.from, at);
                let last = min(span.to, at + count);
                if first < last {
                    from = min(from, first);
                    to = max(to, last);
                }
            }
        }
        Span { from, to }
    }

    /// What the tile of `count` keys from row `at`, one that a range has, is: [`SKIPPED`], [`PARTIAL`] or [`FULL`].
    pub fn kind<N: Size>(&self, parameters: &ParameterValues, place: &Place<N>, at: usize, count: usize) -> i32 {
        if comptime![!self.key_loop.occurs(false)] {
            FULL.runtime()
        } else {
            let mut kind = PARTIAL.runtime();
            #[unroll]
            for range in 0..comptime![self.key_loop.full.len()] {
                let span = &self.full[range];
                if at >= span.from && at + count <= span.to {
                    kind = FULL.runtime();
                }
            }
            let decides = comptime![self.key_loop.kind.as_ref().map(code)];
            if comptime![decides.is_some()] {
                if kind == PARTIAL {
                    let first = self.offset + at as i32;
                    let here = place.of_columns(Ends { first, last: first + count as i32 - 1 });
                    kind = parameters.uniform_with::<N>(
                        &here,
                        &self.known,
                        comptime![invariant(&self.key_loop)],
                        comptime![decides.clone().unwrap()],
                    );
                }
            }
            kind
        }
    }
}

/// Whether a loop's ranges leave anything out, and it has tiles whose mask is evaluated.
pub fn trims(key_loop: &TileLoop) -> bool {
    key_loop.occurs(false) && key_loop.visit.iter().all(|range| *range != Range::ALL)
}

/// Whether the tile of `size` keys from row `first` of `len` is done by the code for `full` tiles, in which every query sees every key,
/// and all keys exist; or by the other.
#[cube]
pub fn has_code(first: usize, kind: i32, len: usize, #[comptime] size: usize, #[comptime] full: bool) -> bool {
    if full { kind == FULL && first + size <= len } else { kind != FULL || first + size > len }
}

/// Counts a tile of `key_loop`, the place of the loop in the program.
#[cube]
pub fn count_tile(counters: &Counters, kind: i32, #[comptime] key_loop: usize) {
    if kind != SKIPPED {
        counters.tiles[comptime![2 * key_loop]].fetch_add(1u32);
    }
    if kind == FULL {
        counters.tiles[comptime![2 * key_loop + 1]].fetch_add(1u32);
    }
}

/// The rows at positions `range`, within 0..=len.
#[cube]
pub fn span<N: Size>(
    parameters: &ParameterValues,
    place: &Place<N>,
    len: i32,
    offset: i32,
    #[comptime] range: Range,
) -> Span {
    let from = row::<N>(parameters, place, len, offset, comptime![range.from.clone()], 0i32);
    let mut to = row::<N>(parameters, place, len, offset, comptime![range.to.clone()], len);
    let when = comptime![range.when.clone().map(|when| Expr::unary(UnaryOp::ToInt, when))];
    let mut holds = from < to;
    if comptime![when.is_some()] {
        holds = holds && parameters.uniform::<N>(place, comptime![when.clone().unwrap()]) != 0;
    }
    if !holds {
        to = 0;
    }
    Span { from: from as usize, to: to as usize }
}

/// The row of the key at position `bound`, within 0..=len; `otherwise` where there is no bound.
#[cube]
fn row<N: Size>(
    parameters: &ParameterValues,
    place: &Place<N>,
    len: i32,
    offset: i32,
    #[comptime] bound: Option<Expr>,
    otherwise: i32,
) -> i32 {
    let mut row = otherwise;
    if comptime![bound.is_some()] {
        // Clamped before it is moved, so that no bound can overflow.
        let bound = parameters.uniform::<N>(place, comptime![bound.clone().unwrap()]);
        row = clamp(bound, offset, offset + len) - offset;
    }
    row
}

/// Whether a tile that a range has can be one that is skipped.
pub fn skips(key_loop: &TileLoop) -> bool {
    key_loop.kind.is_some()
}

/// The kind as a number.
fn code(kind: &TileKind) -> Expr {
    let full = Expr::select(kind.all.clone(), Expr::Int(FULL), Expr::Int(PARTIAL));
    Expr::select(kind.some.clone(), full, Expr::Int(SKIPPED))
}

/// The extremes and counts of the loop's kind that are the same for all key tiles: each is a loop, and is evaluated once.
fn invariant(key_loop: &TileLoop) -> Vec<Expr> {
    let mut found = Vec::new();
    if let Some(kind) = &key_loop.kind {
        collect_invariant(&kind.some, &mut found);
        collect_invariant(&kind.all, &mut found);
    }
    found
}

fn collect_invariant(expr: &Expr, found: &mut Vec<Expr>) {
    let varies = expr.mentions(&Expr::KeyFirst) || expr.mentions(&Expr::KeyLast);
    if !varies && matches!(expr, Expr::Extreme { .. } | Expr::Count { .. }) {
        if !found.contains(expr) {
            found.push(expr.clone());
        }
    } else {
        expr.children().into_iter().for_each(|child| collect_invariant(child, found));
    }
}
