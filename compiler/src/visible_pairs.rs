//! How many pairs of a query and a key are visible, and which queries see none, without a look at every pair.
//!
//! Where [ranges](crate::analysis::bounds) decide every condition of a mask, the keys that one query sees are those of the loop's
//! ranges for a tile of that query alone: a few numbers for each row. Otherwise a full tile counts whole, and the mask is evaluated
//! on the pairs of partial tiles only.

use crate::analysis::bounds::undecided;
use crate::analysis::simplify::simplify;
use crate::eval::{Environment, EvalError, Value, evaluate};
use crate::expr::{BinaryOp, Expr, UnaryOp};
use crate::ir::{MAX_RANGES, Range, TileLoop};
use crate::launch::Keys;
use crate::tiles::Tiling;
use crate::typing::Parameters;
use std::ops::RangeInclusive;

/// The most queries, of all heads and batches that differ, whose keys are counted.
pub const MAX_COUNTED_ROWS: u64 = 1 << 21;

/// The most pairs of partial tiles, of all heads and batches that differ, on which masks are evaluated.
pub const MAX_COUNTED_PAIRS: u64 = 1 << 24;

/// What is visible at a launch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visible {
    /// The visible pairs of each loop, of all heads and batches.
    pub pairs: Vec<u64>,
    /// The queries that see no key of any loop.
    pub masked: MaskedRows,
}

/// Queries that see no key: their output is zero, but for a sink's or an accumulator's own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MaskedRows {
    /// How many there are, of all heads and batches.
    pub count: u64,
    /// Their positions, ascending; in some head and batch at least.
    pub positions: Vec<RangeInclusive<i64>>,
}

/// The keys that each query alone sees, where ranges say exactly that.
pub fn exact_ranges(key_loop: &TileLoop, parameters: Parameters) -> Option<Vec<Range>> {
    let Some(visible) = key_loop.visible(false) else { return Some(vec![Range::ALL]) };
    // Too many ranges have been merged.
    if !undecided(&visible, parameters).is_empty() || key_loop.visit.len() >= MAX_RANGES {
        return None;
    }
    let of_query = |expr: &Option<Expr>| expr.as_ref().map(|expr| simplify(&for_one_query(expr), parameters));
    let ranges = key_loop.visit.iter();
    let ranges: Vec<_> = ranges
        .map(|range| Range { when: of_query(&range.when), from: of_query(&range.from), to: of_query(&range.to) })
        .collect();
    // An extreme over one index is its element, but over a box that only comes to be one it is that of a block.
    let of_a_block =
        |expr: &Expr| matches!(expr, Expr::Extreme { index, .. } if index.iter().any(|(first, last)| first != last));
    let exact = !ranges.iter().flat_map(Range::exprs).any(|expr| expr.any(&mut |expr| of_a_block(expr)));
    exact.then_some(ranges)
}

/// What an expression of a tile of queries is for a tile of one.
fn for_one_query(expr: &Expr) -> Expr {
    match expr {
        Expr::QueryFirst | Expr::QueryLast => Expr::Query,
        Expr::Extreme { tensor, greatest, index } => {
            let ends = |(first, last): &(Expr, Expr)| {
                let index = (for_one_query(first), for_one_query(last));
                // Where bounds of the query narrow what a tile reads, a range is empty for a query outside them.
                let inside = (for_one_query(&unbounded(first)), for_one_query(&unbounded(last)));
                if index.0 != index.1 && inside.0 == inside.1 { inside } else { index }
            };
            Expr::Extreme { tensor: *tensor, greatest: *greatest, index: index.iter().map(ends).collect() }
        }
        other => other.map_children(for_one_query),
    }
}

/// An end of what a tile of queries reads without the bounds of the query.
fn unbounded(expr: &Expr) -> Expr {
    match expr {
        Expr::Binary(BinaryOp::Max, a, b) if a.mentions(&Expr::QueryFirst) && b.is_uniform() => unbounded(a),
        Expr::Binary(BinaryOp::Min, a, b) if a.mentions(&Expr::QueryLast) && b.is_uniform() => unbounded(a),
        other => other.map_children(unbounded),
    }
}

/// What is visible in the heads and batches of `heads`, each of which stands for `repeated` like it. `None` where there are more
/// than [`MAX_COUNTED_ROWS`] or [`MAX_COUNTED_PAIRS`] to look at.
///
/// # Errors
/// What ranges or masks can't be evaluated for.
pub fn count(tiling: &Tiling, heads: &[(usize, usize)], repeated: u64) -> Result<Option<Visible>, EvalError> {
    let (program, launch) = (tiling.program, tiling.launch);
    let rows = launch.queries as u64 * heads.len() as u64;
    let loops: Vec<_> =
        program.loops.iter().map(|key_loop| (key_loop, exact_ranges(key_loop, program.parameters()))).collect();
    if rows > MAX_COUNTED_ROWS || pairs_to_test(tiling, heads, &loops)? > MAX_COUNTED_PAIRS {
        return Ok(None);
    }
    let mut pairs = vec![0; loops.len()];
    // In how many heads and batches a query sees nothing.
    let mut masked = vec![0u32; launch.queries];
    for &(batch, head) in heads {
        for query_tile in 0..tiling.query_tiles() {
            let first = query_tile * tiling.query_tile;
            let mut seen = vec![0u64; tiling.query_tile.min(launch.queries - first)];
            for ((key_loop, ranges), pairs) in loops.iter().zip(&mut pairs) {
                let before: u64 = seen.iter().sum();
                let mut at = tiling.environment(batch, head, query_tile);
                match ranges {
                    Some(ranges) => by_ranges(ranges, launch.keys[key_loop.column_set()], &mut at, &mut seen)?,
                    None => by_pairs(tiling, key_loop, (batch, head, query_tile), &mut seen)?,
                }
                *pairs += seen.iter().sum::<u64>() - before;
            }
            for (row, seen) in seen.into_iter().enumerate() {
                masked[first + row] += u32::from(seen == 0);
            }
        }
    }
    let count = masked.iter().map(|heads| u64::from(*heads)).sum::<u64>() * repeated;
    let positions = positions(&masked, launch.query_offset);
    pairs.iter_mut().for_each(|pairs| *pairs *= repeated);
    Ok(Some(Visible { pairs, masked: MaskedRows { count, positions } }))
}

/// The pairs of the partial tiles of loops that ranges do not decide.
fn pairs_to_test(
    tiling: &Tiling,
    heads: &[(usize, usize)],
    loops: &[(&TileLoop, Option<Vec<Range>>)],
) -> Result<u64, EvalError> {
    let mut pairs = 0;
    for (key_loop, _) in loops.iter().filter(|(_, ranges)| ranges.is_none()) {
        for &(batch, head) in heads {
            for query_tile in 0..tiling.query_tiles() {
                let runs = tiling.runs(key_loop, batch, head, query_tile)?;
                let tiles: usize = runs.iter().filter(|run| !run.full).map(|run| run.count()).sum();
                pairs += (tiles * tiling.query_tile * tiling.key_tile) as u64;
                if pairs > MAX_COUNTED_PAIRS {
                    return Ok(pairs);
                }
            }
        }
    }
    Ok(pairs)
}

/// Adds to `seen` how many keys each row of a tile sees.
fn by_ranges(ranges: &[Range], keys: Keys, at: &mut Environment, seen: &mut [u64]) -> Result<(), EvalError> {
    let (begin, end) = (keys.offset, keys.offset + keys.length as i64);
    let mut spans = Vec::new();
    for (row, seen) in seen.iter_mut().enumerate() {
        at.query = at.query_first + row as i64;
        spans.clear();
        for range in ranges {
            let value = |expr: &Option<Expr>, open| match expr {
                None => Ok(open),
                Some(expr) => Ok::<_, EvalError>(evaluate(expr, at)?.map_or(open, Value::int)),
            };
            let (from, to) = (value(&range.from, begin)?.max(begin), value(&range.to, end)?.min(end));
            let holds = match &range.when {
                Some(when) if from < to => evaluate(when, at)?.is_some_and(Value::bool),
                _ => true,
            };
            if holds && from < to {
                spans.push((from, to));
            }
        }
        spans.sort_unstable();
        let mut counted = begin;
        for &(from, to) in &spans {
            *seen += (to - from.max(counted)).max(0) as u64;
            counted = counted.max(to);
        }
    }
    Ok(())
}

/// The same, from the mask itself where a tile is partial.
fn by_pairs(
    tiling: &Tiling,
    key_loop: &TileLoop,
    (batch, head, query_tile): (usize, usize, usize),
    seen: &mut [u64],
) -> Result<(), EvalError> {
    let keys = tiling.launch.keys[key_loop.column_set()];
    let mut at = Environment { clamped: false, ..tiling.environment(batch, head, query_tile) };
    let visible = key_loop.visible(false);
    for run in tiling.runs(key_loop, batch, head, query_tile)? {
        let (from, to) = (run.from * tiling.key_tile, (run.to * tiling.key_tile).min(keys.length));
        for (row, seen) in seen.iter_mut().enumerate() {
            match &visible {
                Some(visible) if !run.full => {
                    at.query = at.query_first + row as i64;
                    for key in from..to {
                        at.key = keys.offset + key as i64;
                        *seen += u64::from(sees(visible, &at)?);
                    }
                }
                _ => *seen += (to - from) as u64,
            }
        }
    }
    Ok(())
}

/// Whether a predicate without masks in it holds: what [`evaluate`] says, which looks at both sides of `&&` and `||` in case one is
/// masked.
pub fn sees(predicate: &Expr, at: &Environment) -> Result<bool, EvalError> {
    match predicate {
        Expr::Binary(op @ (BinaryOp::And | BinaryOp::Or), a, b) => {
            let decides = *op == BinaryOp::Or;
            match sees(a, at) {
                Ok(a) if a == decides => Ok(a),
                Ok(_) => sees(b, at),
                // What cannot matter is no error.
                Err(error) => sees(b, at).ok().filter(|b| *b == decides).ok_or(error),
            }
        }
        Expr::Unary(UnaryOp::Not, a) => Ok(!sees(a, at)?),
        other => Ok(evaluate(other, at)?.is_some_and(Value::bool)),
    }
}

/// The positions, from `offset`, of what is not zero.
fn positions(masked: &[u32], offset: i64) -> Vec<RangeInclusive<i64>> {
    let mut positions: Vec<RangeInclusive<i64>> = Vec::new();
    for (row, _) in masked.iter().enumerate().filter(|(_, heads)| **heads > 0) {
        let position = offset + row as i64;
        match positions.last_mut() {
            Some(last) if *last.end() + 1 == position => *last = *last.start()..=position,
            _ => positions.push(position..=position),
        }
    }
    positions
}

impl MaskedRows {
    /// The positions as text: `-10..=-1`; of many, the first few.
    pub fn text(&self) -> String {
        const MOST: usize = 4;
        let one = |range: &RangeInclusive<i64>| match (range.start(), range.end()) {
            (start, end) if start == end => start.to_string(),
            (start, end) => format!("{start}..={end}"),
        };
        let mut texts: Vec<String> = self.positions.iter().take(MOST).map(one).collect();
        if self.positions.len() > MOST {
            texts.push(format!("{} more", self.positions.len() - MOST));
        }
        match texts.split_last() {
            Some((last, [])) => last.clone(),
            Some((last, first)) => format!("{} and {last}", first.join(", ")),
            None => "none".into(),
        }
    }
}
