//! The tile program: a computation over tiles, typed.
//!
//! For every batch, head and tile of rows, a program loads what lies along the rows, runs its loops over tiles of columns in order, and
//! stores its outputs. In a forward pass the rows are queries and the columns are keys:
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
//! `i` is always a query and `j` always a key, whichever of the two the rows are: a predicate reads the same in a program and in its
//! transpose. A number of each row or column is written with its position, as in `lse[i]`. Tiles and accumulators have names, and there may be
//! several of each; what a [`Schedule`](crate::schedule::Schedule) can run of that is checked when a program is given one ([`forward`]).
//!
//! A program may also give sums like something captured, one for each of its elements, in place of outputs: `-> like slope`. Its loops, or its
//! rows where it has no loops, then add to those: `add ds to slope[head()]`.
//!
//! The grammar:
//!
//! ```text
//! program = "attention" "@" name "(" params ")" "->" ( array { "," array } | "like" captured )
//!           { name ":" array }
//!           { name ":" numbers }
//!           "for" ("i"|"j") "in" "tiles" "(" axis ")"
//!           { name "=" ( "softmax" "base" ("e"|"2") [ "sink" expr ] | "sum" | "mean" ) }
//!           { name "=" "load" name "[" ("i"|"j") "]" [ "*" "(" expr ")" ] }
//!           { name "=" "sum" "of" expr }
//!           { loop }  { "add" expr "to" element }
//!           { "store" ( expr | "like" captured ) } [ "keep" ( "maximum" | "undivided" | "each" ) ]
//! array   = ("f32"|"f16"|"bf16") "[" "B" "," ("H"|"G") "," axis "," integer "]"
//! numbers = "f32" "[" "B" "," ("H"|"G") "," axis "]"
//! axis    = "S" | "T"n
//! loop    = "for" ("j"|"i") "in" "tiles" "(" axis ")" [ "of" "each" "head" ] [ "nowhere" | ranges ] [ "full" ranges ]
//!           [ "skip" "unless" expr "full" "where" expr ] [ "hop" "to" expr ] { op }
//! ranges  = range { "," range }
//! range   = ( "all" | "from" expr [ "to" expr ] | "to" expr ) [ "if" expr ]
//! op      = name "=" "dot" term { "+" term }  |  name "=" "map" expr
//!         | name "=" "mask" name "where" expr "on" ("all"|"partial")
//!         | name "=" "push" name [ "*" name ] "," name "[" ("j"|"i") "]" [ part ]
//!         | "add" name "to" element
//! term    = name [ part ] "," name "[" ("j"|"i") "]" [ part ]
//! part    = "[" ".." integer "]"
//! captured = name | "scale" "(" ")"
//! element = an expr that is an element of a captured tensor, a scalar, or "scale" "(" ")"
//! ```
//!
//! What the parts mean is said at each type below; [`verify`] lists what a program must satisfy after every pass; [`print`](mod@print)
//! and [`parse`] turn it into this text and back.

pub mod forward;
pub mod parse;
pub mod print;
pub mod tokens;
pub mod verify;

use crate::expr::{BinaryOp, Expr};
use crate::spec::{ScalarParam, TensorParam};
use std::borrow::Cow;

/// A computation over tiles of rows and columns, typed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Program {
    /// The attention's name.
    pub name: String,
    /// The scalars that are runtime values.
    pub scalars: Vec<ScalarParam>,
    /// The captured tensors.
    pub tensors: Vec<TensorParam>,
    /// What lies along queries and keys, one row each.
    pub operands: Vec<Operand>,
    /// What lies along queries and keys, one number each: [`Expr::Number`] counts in them.
    pub numbers: Vec<Number>,
    /// What its rows are: it computes a tile of them at a time.
    pub rows: Axis,
    /// What it pushes into.
    pub accumulators: Vec<Accumulator>,
    /// The operands along the rows, loaded once for a tile of them.
    pub loads: Vec<Load>,
    /// The sums over elements, of each row. Only a program over rows alone has some.
    pub sums: Vec<RowSum>,
    /// The loops over tiles of columns, in order. A program over rows alone has none.
    pub loops: Vec<TileLoop>,
    /// What it stores for each row.
    pub outputs: Vec<Output>,
    /// What is captured, where the program stores something like that and nothing for rows: a sum for each of its elements.
    pub captured: Option<Captured>,
    /// What each row adds to such a sum, in a program over rows alone.
    pub adds: Vec<RowAdd>,
    /// Which numbers of accumulators it stores of each row beside them.
    pub kept: Kept,
}

/// Which numbers of accumulators are stored of each row, beside the outputs. All are in f32, `[B, H, S]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Kept {
    /// The log-sum-exp, where the one accumulator is a softmax.
    #[default]
    LogSumExp,
    /// The log-sum-exp and the maximum: `keep maximum`.
    LogSumExpAndMaximum,
    /// The maximum and the sum, beside an output in f32 that is not divided by the sum: `keep undivided`. That is a partial result, which
    /// can be [merged](crate::emit::merge) with those of other keys.
    Partial,
    /// Of each accumulator what a [backward pass](crate::backward) needs, a softmax's log-sum-exp and the sum of a mean's weights, and each
    /// that no output is as it is, as one more output: `keep each`.
    Each,
}

/// A number of an accumulator's row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RowNumber {
    /// The natural logarithm of the sum of exponentials of its scores, a sink's included; −∞ where nothing is visible.
    LogSumExp,
    /// The greatest of its scores, in natural units, a sink included; −∞ where nothing is visible, and NaN where a score is.
    Maximum,
    /// The sum of the exponentials of its scores less the maximum, a sink's included, and of a mean that of its weights; 0 where nothing is
    /// visible.
    Sum,
}

impl RowNumber {
    /// What it is called in messages.
    pub fn name(self) -> &'static str {
        match self {
            RowNumber::LogSumExp => "the log-sum-exp",
            RowNumber::Maximum => "the maximum",
            RowNumber::Sum => "the sum of weights",
        }
    }
}

/// What a tensor lies along, and a loop runs over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Axis {
    /// The queries: `S`, at positions `i`.
    Queries,
    /// The keys of a set, of which there may be several, each with a length and an offset of its own: `T0`, `T1`, …, at positions `j`.
    Keys(usize),
}

impl Axis {
    /// How many rows there are along it, as an expression.
    pub fn length(self) -> Expr {
        match self {
            Axis::Queries => Expr::QueryLen,
            Axis::Keys(set) => Expr::KeyLen(set),
        }
    }
}

/// The heads of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Heads {
    /// One for each query head: `H`.
    Query,
    /// A number of its own, which divides the query heads: `G`. Query heads that follow each other share one.
    Key,
}

/// A tensor with a row of `dim` elements for each batch, head and position: `[B, H, S, D]` or `[B, G, T, D]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Operand {
    /// Its name.
    pub name: String,
    /// The type of its elements.
    pub element: Element,
    /// Its heads.
    pub heads: Heads,
    /// What its rows are.
    pub axis: Axis,
    /// The elements of a row, at least 1.
    pub dim: usize,
}

/// A tensor with one f32 for each batch, head and position: `[B, H, S]` or `[B, G, T]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Number {
    /// Its name.
    pub name: String,
    /// Its heads.
    pub heads: Heads,
    /// What it has a number of each of.
    pub axis: Axis,
}

/// An operand along the rows, loaded for a tile of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Load {
    /// Its place in [`Program::operands`].
    pub operand: usize,
    /// What it is multiplied by, the same for all of a tile: an expression of scalars, heads, batch and captured tensors.
    pub scale: Option<Expr>,
}

/// What is stored for each row: a tensor as an [`Operand`] is, along the rows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Output {
    /// The type of its elements.
    pub element: Element,
    /// Its heads.
    pub heads: Heads,
    /// The elements of a row.
    pub dim: usize,
    /// An expression, element by element, of the accumulators, the loads and then the sums, which [`Expr::Value`] counts; where there are no
    /// loops, of numbers of rows too.
    pub value: Expr,
}

/// A sum over the elements of each row.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RowSum {
    /// Its name.
    pub name: String,
    /// What is summed, as an [output's](Output::value) expression is of the loads and of numbers of rows.
    pub value: Expr,
}

/// What an attention is given besides its operands, of floats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Captured {
    /// A tensor, by its place in [`Program::tensors`].
    Tensor(usize),
    /// A scalar, by its place in [`Program::scalars`].
    Scalar(usize),
    /// `scale()`.
    Scale,
}

impl Captured {
    /// What an expression is an element of, if it is one.
    pub fn of(element: &Expr) -> Option<Captured> {
        match element {
            Expr::Load { tensor, .. } => Some(Captured::Tensor(*tensor)),
            Expr::Scalar(place) => Some(Captured::Scalar(*place)),
            Expr::Scale => Some(Captured::Scale),
            _ => None,
        }
    }
}

/// What each row adds to a sum: `add E to slope[head()]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RowAdd {
    /// What is added, of [sums](Program::sums) and of numbers of rows.
    pub value: Expr,
    /// The element of [what is captured](Program::captured) to whose sum it is added.
    pub element: Expr,
}

/// The type of a tensor's elements.
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

/// What loops push weights and values into, for each row.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Accumulator {
    /// Its name.
    pub name: String,
    /// What becomes of what is pushed.
    pub reduction: Reduction,
}

/// What an accumulator makes of the weights s and values v that are pushed into it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Reduction {
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

impl Reduction {
    /// Whether weights are logarithms, and each row's are to sum to 1.
    pub fn is_softmax(&self) -> bool {
        matches!(self, Reduction::Softmax { .. })
    }

    /// Whether what is accumulated is divided by the sum of its weights.
    pub fn is_divided(&self) -> bool {
        !matches!(self, Reduction::Sum)
    }

    /// A softmax's sink.
    pub fn sink(&self) -> Option<&Expr> {
        match self {
            Reduction::Softmax { sink, .. } => sink.as_ref(),
            Reduction::Sum | Reduction::Mean => None,
        }
    }
}

/// The base of a softmax's exponentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Base {
    /// e: as specified.
    E,
    /// 2: what machines compute.
    Two,
}

/// A loop over the tiles of an axis.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TileLoop {
    /// What its columns are.
    pub columns: Axis,
    /// Whether it runs once for each query head of the rows' group: only where the rows are keys.
    pub each_head: bool,
    /// The columns that a row of the tile may see, at most [`MAX_RANGES`] ranges in any order. A tile outside all of them is skipped; the
    /// others are visited in ascending order, each once.
    pub visit: Vec<Range>,
    /// Columns that every row of the tile sees, at most [`MAX_RANGES`] ranges: a tile inside one of them is full, and its masks are not
    /// evaluated.
    pub full: Vec<Range>,
    /// What decides of a visited tile that is not inside a full range; `None` where the ranges say all that can be known.
    pub kind: Option<TileKind>,
    /// A key position, by i0, i1 and j0, before which no key from j0 on is visible: where a captured tensor says what is, the tiles
    /// without a key are not even looked at. It skips none that [`kind`](Self::kind) would visit. It has no transpose: only loops over
    /// keys have one.
    pub key_hop: Option<Expr>,
    /// The names of its tiles, one element for each pair of a row and a column. [`Expr::Value`] counts in them.
    pub tiles: Vec<Cow<'static, str>>,
    /// What is done with each tile of columns, in order.
    pub body: Vec<TileOp>,
}

/// A summary of a captured tensor of integers or truth values: the least and the greatest element of each of its blocks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Summary {
    /// The tensor's place in [`Program::tensors`].
    pub tensor: usize,
    /// The dimensions along which [`SUMMARY_BLOCK`] indices share a block; along the others each index has its own.
    pub blocked: Vec<bool>,
    /// Whether each block also has the place, along the last dimension, of the first block from it on that is not all zero. That
    /// dimension is the keys': there are no such links along queries.
    pub links_keys: bool,
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
                Some(Summary { tensor: *tensor, blocked, links_keys: false })
            }
            Expr::Next { tensor, index, from } => {
                let blocked = index.iter().map(|(first, last)| is_blocked(first, last));
                let blocked = blocked.chain([is_blocked(from, &Expr::KeyLast)]).collect();
                Some(Summary { tensor: *tensor, blocked, links_keys: true })
            }
            _ => None,
        }
    }

    /// Whether this has all that `other` has.
    pub fn serves(&self, other: &Summary) -> bool {
        self.tensor == other.tensor && self.blocked == other.blocked && (self.links_keys || !other.links_keys)
    }

    /// Its number of blocks along each dimension of a tensor of `shape`.
    pub fn shape(&self, shape: &[usize]) -> Vec<usize> {
        let blocks = self.blocked.iter().zip(shape);
        blocks.map(|(&blocked, &length)| if blocked { length.div_ceil(SUMMARY_BLOCK) } else { length }).collect()
    }

    /// Its size in memory for a tensor of `shape`, in bytes.
    pub fn bytes(&self, shape: &[usize]) -> usize {
        let numbers = if self.links_keys { 3 } else { 2 };
        4 * numbers * self.shape(shape).iter().product::<usize>()
    }
}

impl Program {
    /// The same program, which visits every tile and evaluates every mask: for launches at which what decides of tiles cannot be
    /// computed in 32 bits.
    pub fn without_skipping(&self) -> Program {
        Program { loops: self.loops.iter().map(TileLoop::without_skipping).collect(), ..self.clone() }
    }

    /// The same program, which keeps these numbers of each row; the output of a [partial result](Kept::Partial) is in f32.
    pub fn keeping(mut self, kept: Kept) -> Program {
        self.kept = kept;
        if self.is_undivided() {
            self.outputs.iter_mut().for_each(|output| output.element = Element::F32);
        }
        if kept == Kept::Each {
            for place in 0..self.accumulators.len() {
                if self.output_of(place).is_none() {
                    let Output { element, heads, .. } = self.outputs[0];
                    let (dim, value) = (self.dim_of(place), Expr::Value(place));
                    self.outputs.push(Output { element, heads, dim, value });
                }
            }
        }
        self
    }

    /// Whether an expression may be outside of the loops: where they run for each query head, nothing else is of one.
    pub fn is_outside_of_loops(&self, expr: &Expr) -> bool {
        !expr.mentions(&Expr::Head) || !self.loops.iter().any(|one| one.each_head)
    }

    /// Whether what it stores is not divided by the sum of its row.
    pub fn is_undivided(&self) -> bool {
        self.kept == Kept::Partial
    }

    /// The lengths that its expressions are of: that of the queries, and then those of sets of keys.
    pub fn lengths(&self) -> Vec<Axis> {
        let of_body = |one| TileLoop::tile_exprs(one).chain(one.maps()).chain(one.masks()).chain(one.elements());
        let bodies = self.loops.iter().flat_map(of_body);
        let sinks = self.accumulators.iter().filter_map(|accumulator| accumulator.reduction.sink());
        let scales = self.loads.iter().filter_map(|load| load.scale.as_ref());
        let sums = self.sums.iter().map(|sum| &sum.value);
        let outputs = self.outputs.iter().map(|output| &output.value);
        let adds = self.adds.iter().flat_map(|add| [&add.value, &add.element]);
        let exprs: Vec<&Expr> = bodies.chain(sinks).chain(scales).chain(sums).chain(outputs).chain(adds).collect();
        let axes = std::iter::once(Axis::Queries).chain((0..self.key_sets()).map(Axis::Keys));
        axes.filter(|axis| exprs.iter().any(|expr| expr.mentions(&axis.length()))).collect()
    }

    /// The elements of a row of the first operand along queries; 0 where there is none.
    pub fn head_dim(&self) -> usize {
        self.operands.iter().find(|operand| operand.axis == Axis::Queries).map_or(0, |operand| operand.dim)
    }

    /// The summaries that its tiles are decided by, each once.
    pub fn summaries(&self) -> Vec<Summary> {
        let mut summaries: Vec<Summary> = Vec::new();
        for expr in self.loops.iter().flat_map(TileLoop::tile_exprs) {
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

/// The columns at positions `from <= j < to`, if `when` holds, else none. The ends and the condition are uniform over a tile of rows
/// (`i0` and `i1`, or `j0` and `j1`, scalars, heads, batch, captured tensors at such indices); `None` is the end of the axis on that side.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Range {
    /// What must hold; `None` if nothing.
    pub when: Option<Expr>,
    /// The first position.
    pub from: Option<Expr>,
    /// The position after the last.
    pub to: Option<Expr>,
}

impl Range {
    /// All columns.
    pub const ALL: Range = Range { when: None, from: None, to: None };

    /// Its expressions.
    pub fn exprs(&self) -> impl Iterator<Item = &Expr> {
        self.when.iter().chain(&self.from).chain(&self.to)
    }
}

/// What decides whether a tile of queries `i0..=i1` and keys `j0..=j1` is empty, partial or full, as predicates of those, scalars, heads,
/// batch and captured tensors.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TileKind {
    /// Whether some query may see some key: otherwise the tile is empty, and skipped.
    pub some: Expr,
    /// Whether every query sees every key, for certain: then the tile is full, and its masks are not evaluated.
    pub all: Expr,
}

impl Program {
    /// Whether the query heads that share a key head also share tiles and what is loaded is multiplied by, so that their queries can be
    /// rows of one tile.
    pub fn heads_alike(&self) -> bool {
        let scales = self.loads.iter().flat_map(|load| &load.scale);
        let exprs = self.loops.iter().flat_map(TileLoop::tile_exprs).chain(scales);
        exprs.into_iter().all(|expr| !expr.mentions(&Expr::Head))
    }
}

impl TileLoop {
    /// The expressions that decide of its tiles: those of its ranges and of what its tiles are.
    pub fn tile_exprs(&self) -> impl Iterator<Item = &Expr> {
        let kind = self.kind.iter().flat_map(|kind| [&kind.some, &kind.all]);
        self.visit.iter().chain(&self.full).flat_map(Range::exprs).chain(kind).chain(&self.key_hop)
    }

    /// The same loop, of which every tile is visited and none with a mask is full.
    pub fn without_skipping(&self) -> TileLoop {
        let full = if self.masks().next().is_some() { Vec::new() } else { vec![Range::ALL] };
        let mut all = TileLoop { visit: vec![Range::ALL], full, kind: None, key_hop: None, ..self.clone() };
        all.mask_on(MaskedTiles::All);
        all
    }

    /// Takes a tile from its list that no operation has any more; the others' places follow.
    pub fn forget_tile(&mut self, removed: usize) {
        let below = |tile: &mut usize| *tile -= usize::from(*tile > removed);
        self.tiles.remove(removed);
        for op in &mut self.body {
            match op {
                TileOp::Dot { tile, .. } | TileOp::Mask { tile, .. } => below(tile),
                TileOp::Map { tile, value } => {
                    below(tile);
                    *value = value.map_values(&|tile| Expr::Value(tile - usize::from(tile > removed)));
                }
                TileOp::Push { weights, factor, .. } => {
                    below(weights);
                    factor.iter_mut().for_each(below);
                }
                TileOp::Add { tile, .. } => below(tile),
            }
        }
    }

    /// Lets its masks be evaluated on `tiles`.
    pub fn mask_on(&mut self, tiles: MaskedTiles) {
        for op in &mut self.body {
            if let TileOp::Mask { on, .. } = op {
                *on = tiles;
            }
        }
    }

    /// The predicates of its masks.
    pub fn masks(&self) -> impl Iterator<Item = &Expr> {
        self.body.iter().filter_map(|op| if let TileOp::Mask { visible, .. } = op { Some(visible) } else { None })
    }

    /// The predicate of the pairs that enter some accumulator, or with `every` all that the loop pushes into; `None` where those are all
    /// pairs.
    pub fn visible(&self, every: bool) -> Option<Expr> {
        let mut found: Option<Expr> = None;
        for op in &self.body {
            let (TileOp::Push { weights, .. } | TileOp::Add { tile: weights, .. }) = op else { continue };
            let mask = self.body.iter().find_map(|op| match op {
                TileOp::Mask { tile, visible, .. } if tile == weights => Some(visible),
                _ => None,
            });
            found = match (found, mask) {
                (_, None) if !every => return None,
                (found, None) => found,
                (None, Some(mask)) => Some(mask.clone()),
                (Some(found), Some(mask)) if found == *mask => Some(found),
                (Some(found), Some(mask)) => {
                    let op = if every { BinaryOp::And } else { BinaryOp::Or };
                    Some(Expr::binary(op, found, mask.clone()))
                }
            };
        }
        found
    }
}

/// An operation on named tiles. A tile has an element for each pair of a row and a column.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TileOp {
    /// `s = dot q, k[j]`: each element becomes the product of a row's and a column's vector, or the sum of several.
    Dot {
        /// The tile, by its place in [`TileLoop::tiles`].
        tile: usize,
        /// The products, at least one.
        terms: Vec<DotTerm>,
    },
    /// `s = map E`: each element becomes E of the tiles' elements, its positions, heads, batch, scalars and captured tensors.
    Map {
        /// The tile, which E may also be of, or a new one.
        tile: usize,
        /// E.
        value: Expr,
    },
    /// `s = mask s where E on TILES`: pairs for which E is false are hidden: they weigh nothing in any push of the tile.
    Mask {
        /// The tile.
        tile: usize,
        /// The predicate.
        visible: Expr,
        /// The tiles of columns on which it is evaluated.
        on: MaskedTiles,
    },
    /// `o = push s, v[j]`: the tile's elements, as weights or their logarithms, and the values enter an accumulator. `o = push s * w,
    /// v[j]`: the weights are multiplied by those of another tile in what is accumulated, and not in their sum.
    Push {
        /// The accumulator, by its place in [`Program::accumulators`].
        accumulator: usize,
        /// The tile.
        weights: usize,
        /// The tile of factors.
        factor: Option<usize>,
        /// The operand along the columns, by its place in [`Program::operands`].
        values: usize,
        /// How many elements of its rows are the values, from the first on.
        dim: usize,
    },
    /// `add s to slope[head()]`: each element of the tile is added to the sum for an element of what is captured.
    Add {
        /// The tile.
        tile: usize,
        /// The element of [what is captured](Program::captured), at each pair.
        element: Expr,
    },
}

/// A product of a dot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DotTerm {
    /// The operand along the rows, one of the [loads](Program::loads), by its place in [`Program::operands`].
    pub row: usize,
    /// The operand along the columns, likewise.
    pub column: usize,
    /// How many elements of both are multiplied, from the first on.
    pub dim: usize,
}

impl TileOp {
    /// Whether it reads a tile to make something else of it: another tile, or part of an accumulator.
    pub fn uses(&self, of: usize) -> bool {
        match self {
            TileOp::Dot { .. } | TileOp::Mask { .. } => false,
            TileOp::Map { tile, value } => *tile != of && value.mentions(&Expr::Value(of)),
            TileOp::Push { weights, factor, .. } => *weights == of || *factor == Some(of),
            TileOp::Add { tile, .. } => *tile == of,
        }
    }

    /// Whether it makes or changes a tile.
    pub fn changes(&self, of: usize) -> bool {
        match self {
            TileOp::Dot { tile, .. } | TileOp::Map { tile, .. } | TileOp::Mask { tile, .. } => *tile == of,
            TileOp::Push { .. } | TileOp::Add { .. } => false,
        }
    }
}

/// The tiles on which a mask is evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MaskedTiles {
    /// Every visited tile.
    All,
    /// Those that are not full.
    Partial,
}
