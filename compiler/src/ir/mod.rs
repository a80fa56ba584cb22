//! The tile program: one attention, typed, as loops over tiles.
//!
//! For every batch, query head and tile of queries, a program runs its key loops in order over the same accumulator, and
//! stores it:
//!
//! ```text
//! attention @sliding_window(window: u32) -> f32[B, H, S, 64]
//!   q: f32[B, H, S, 64]
//!   k: f32[B, G, T0, 64]  v: f32[B, G, T0, 64]
//!   for i in tiles(S)
//!     o = softmax base 2
//!     q = load q[i] * (scale() * 1.442695)
//!     for j in tiles(T0) from i0 - window + 1 to i1 + 1 if window >= 1
//!         full from i1 - window + 1 to i0 + 1
//!       s = dot q, k[j]
//!       s = mask s where j <= i && i - j < window on partial
//!       o = push s, v[j]
//!     store o
//! ```
//!
//! (what the parts mean is said at each type below; [`verify`] lists what a program must satisfy after every pass;
//! [`print`](mod@print) and [`parse`] turn it into this text and back.)

pub mod parse;
pub mod print;
mod tokens;
pub mod verify;

use crate::expr::{BinaryOp, Expr};
use crate::spec::{Pair, ScalarParam, TensorParam};

/// An attention, typed, as loops over tiles.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Program {
    /// The attention's name.
    pub name: String,
    /// The scalars that are runtime values.
    pub scalars: Vec<ScalarParam>,
    /// The captured tensors.
    pub tensors: Vec<TensorParam>,
    /// The name of the query tensor.
    pub query: String,
    /// The key and value tensors.
    pub pairs: Vec<Pair>,
    /// Element type and head dims of queries, keys, values and the output.
    pub operands: Operands,
    /// What queries are multiplied by as they are loaded, the same for all of a tile: scalars, heads, batch.
    pub query_scale: Option<Expr>,
    /// What the loops push into.
    pub accumulator: Accumulator,
    /// The key loops, in order.
    pub loops: Vec<KeyLoop>,
}

/// The type of the elements of queries, keys, values and the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Element {
    /// 32-bit IEEE float.
    F32,
    /// 16-bit IEEE float.
    F16,
    /// bfloat16.
    Bf16,
}

impl Element {
    /// Its name: `f32`, `f16`, `bf16`.
    pub fn name(self) -> &'static str {
        match self {
            Element::F32 => "f32",
            Element::F16 => "f16",
            Element::Bf16 => "bf16",
        }
    }

    /// Its size in bytes.
    pub fn size(self) -> usize {
        match self {
            Element::F32 => 4,
            Element::F16 | Element::Bf16 => 2,
        }
    }
}

/// Element type and head dims.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Operands {
    /// The element type of queries, keys, values and the output.
    pub element: Element,
    /// The head dim of queries and keys, 1 to [`MAX_HEAD_DIM`].
    pub qk_dim: usize,
    /// The head dim of values and the output, 1 to [`MAX_HEAD_DIM`].
    pub v_dim: usize,
}

/// The largest head dim.
pub const MAX_HEAD_DIM: usize = 256;

/// What the loops push into, and what becomes of it at the end.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Accumulator {
    /// Online softmax (Milakov and Gimelshein 2018): a running maximum m and a running sum l of baseˢ⁻ᵐ a row; the output
    /// is Σ baseˢ⁻ᵐ·v / l, and zero where no key was visible.
    Softmax {
        /// The base of the exponentials: scores and sink are logarithms to it.
        base: Base,
        /// One more logit in the sum, with no value.
        sink: Option<Expr>,
    },
    /// Σ s·v.
    Sum,
    /// Σ s·v / Σ s, and zero where Σ s is zero.
    Mean,
}

/// The base of a softmax's exponentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Base {
    /// e: as specified.
    E,
    /// 2: what machines compute.
    Two,
}

/// A loop over the tiles of one pair's keys.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeyLoop {
    /// The pair whose keys it visits, by its place in [`Program::pairs`].
    pub pair: usize,
    /// The keys that may be visible to a query of the tile, at most [`MAX_RANGES`] ranges in any order. A tile outside all of
    /// them is skipped; the others are visited in ascending order, each once.
    pub visit: Vec<KeyRange>,
    /// Keys that every query of the tile sees, at most [`MAX_RANGES`] ranges: a tile inside one of them is full, and its mask
    /// is not evaluated.
    pub full: Vec<KeyRange>,
    /// What decides of a visited tile that is not inside a full range; `None` where the ranges say all that can be known.
    pub class: Option<TileClass>,
    /// A position, by i0, i1 and j0, before which no key from j0 on is visible: where a captured tensor says what is, the tiles
    /// without a key are not even looked at. It skips none that the class would visit.
    pub hop: Option<Expr>,
    /// What is done with each tile, in order.
    pub body: Vec<TileOp>,
}

/// A summary of a captured tensor of integers or truth values: the least and the greatest element of each of its blocks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Summary {
    /// The tensor's place in [`Program::tensors`].
    pub tensor: usize,
    /// The dimensions along which [`SUMMARY_BLOCK`] indices share a block; along the others each index has its own.
    pub blocked: Vec<bool>,
    /// Whether each block also has the place, along the last dimension, of the first block from it on that is not all zero.
    pub linked: bool,
}

/// Whether a summary has blocks along a dimension of which a tile reads the indices `first` to `last`: not if that is one index,
/// nor if it is a quotient, since a tile then reads few.
pub fn is_blocked(first: &Expr, last: &Expr) -> bool {
    first != last && !matches!(first, Expr::Binary(BinaryOp::Div, ..))
}

impl Summary {
    /// The summary from which an expression is read; `None` where it is read from a single element, or is no such expression.
    pub fn of(expr: &Expr) -> Option<Summary> {
        match expr {
            Expr::Extreme { tensor, index, .. } if index.iter().any(|(first, last)| first != last) => {
                let blocked = index.iter().map(|(first, last)| is_blocked(first, last)).collect();
                Some(Summary { tensor: *tensor, blocked, linked: false })
            }
            Expr::Next { tensor, index, from } => {
                let blocked = index.iter().map(|(first, last)| is_blocked(first, last));
                let blocked = blocked.chain([is_blocked(from, &Expr::KeyLast)]).collect();
                Some(Summary { tensor: *tensor, blocked, linked: true })
            }
            _ => None,
        }
    }

    /// Whether this has all that `other` has.
    pub fn serves(&self, other: &Summary) -> bool {
        self.tensor == other.tensor && self.blocked == other.blocked && (self.linked || !other.linked)
    }

    /// Its number of blocks along each dimension of a tensor of `shape`.
    pub fn shape(&self, shape: &[usize]) -> Vec<usize> {
        let blocks = self.blocked.iter().zip(shape);
        blocks.map(|(&blocked, &length)| if blocked { length.div_ceil(SUMMARY_BLOCK) } else { length }).collect()
    }

    /// Its size in memory for a tensor of `shape`, in bytes.
    pub fn bytes(&self, shape: &[usize]) -> usize {
        let numbers = if self.linked { 3 } else { 2 };
        4 * numbers * self.shape(shape).iter().product::<usize>()
    }
}

impl Program {
    /// The same program, which visits every tile and evaluates every mask: for launches at which what decides of tiles cannot be
    /// computed in 32 bits.
    pub fn without_skipping(&self) -> Program {
        Program { loops: self.loops.iter().map(KeyLoop::without_skipping).collect(), ..self.clone() }
    }

    /// The summaries that its tiles are decided by, each once.
    pub fn summaries(&self) -> Vec<Summary> {
        let mut summaries: Vec<Summary> = Vec::new();
        for expr in self.loops.iter().flat_map(KeyLoop::tile_exprs) {
            expr.any(&mut |expr| {
                if let Some(summary) = Summary::of(expr)
                    && !summaries.iter().any(|known| known.serves(&summary))
                {
                    summaries.retain(|known| !summary.serves(known));
                    summaries.push(summary);
                }
                false
            });
        }
        summaries
    }
}

/// The most ranges of a list. A kernel compares a tile with each of them; what a predicate has more is merged.
pub const MAX_RANGES: usize = 8;

/// How many indices along a dimension share an element of a captured tensor's summary, from which
/// [extremes](Expr::Extreme) are read.
pub const SUMMARY_BLOCK: usize = 64;

/// The keys at positions `from <= j < to`, if `when` holds, else none. The ends and the condition are uniform over a query tile
/// (`i0`, `i1`, scalars, heads, batch, captured tensors at such indices); `None` is the end of the pair's keys on that side.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeyRange {
    /// What must hold; `None` if nothing.
    pub when: Option<Expr>,
    /// The first position.
    pub from: Option<Expr>,
    /// The position after the last.
    pub to: Option<Expr>,
}

impl KeyRange {
    /// All of the pair's keys.
    pub const ALL: KeyRange = KeyRange { when: None, from: None, to: None };

    /// Its expressions.
    pub fn exprs(&self) -> impl Iterator<Item = &Expr> {
        self.when.iter().chain(&self.from).chain(&self.to)
    }
}

/// What decides of a tile of queries `i0..=i1` and keys `j0..=j1`, as predicates of those, scalars, heads, batch and captured
/// tensors.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TileClass {
    /// Whether some query may see some key: otherwise the tile is skipped.
    pub some: Expr,
    /// Whether every query sees every key, for certain: then its mask is not evaluated.
    pub all: Expr,
}

impl Program {
    /// Whether the query heads that share a key head also share tiles and the queries' scale, so that their queries can be rows of
    /// one tile.
    pub fn heads_alike(&self) -> bool {
        let exprs = self.loops.iter().flat_map(KeyLoop::tile_exprs).chain(&self.query_scale);
        exprs.into_iter().all(|expr| !expr.mentions(&Expr::Head))
    }
}

impl KeyLoop {
    /// The expressions that decide of its tiles: those of its ranges and of its class.
    pub fn tile_exprs(&self) -> impl Iterator<Item = &Expr> {
        let class = self.class.iter().flat_map(|class| [&class.some, &class.all]);
        self.visit.iter().chain(&self.full).flat_map(KeyRange::exprs).chain(class).chain(&self.hop)
    }

    /// The same loop, of which every tile is visited and none with a mask is full.
    pub fn without_skipping(&self) -> KeyLoop {
        let full = if self.visible().is_some() { Vec::new() } else { vec![KeyRange::ALL] };
        let body = self.body.iter().map(|op| match op {
            TileOp::Mask { visible, .. } => TileOp::Mask { visible: visible.clone(), tiles: MaskedTiles::All },
            other => other.clone(),
        });
        KeyLoop { pair: self.pair, visit: vec![KeyRange::ALL], full, class: None, hop: None, body: body.collect() }
    }

    /// The predicate of its mask.
    pub fn visible(&self) -> Option<&Expr> {
        self.body.iter().find_map(|op| if let TileOp::Mask { visible, .. } = op { Some(visible) } else { None })
    }
}

/// An operation on the tile `s` of scores, one per (query, key).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TileOp {
    /// `s = dot q[i], k[j]`.
    Dot,
    /// `s = map E`: each element becomes E of its old value `s`, its positions, heads, batch, scalars and captured tensors.
    Map(Expr),
    /// `s = mask s where E on TILES`: keys for which E is false are hidden: they weigh nothing.
    Mask {
        /// The predicate.
        visible: Expr,
        /// The tiles on which it is evaluated.
        tiles: MaskedTiles,
    },
    /// `o = push s, v[j]`: the tile's scores and values enter the accumulator.
    Push,
}

/// The tiles on which a mask is evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MaskedTiles {
    /// Every visited tile.
    All,
    /// Those that are not full.
    Partial,
}
