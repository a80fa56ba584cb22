//! What a launch is: sizes, positions, scalars and what is known of captured tensors.

use crate::expr::Expr;
use crate::spec::ScalarValue;

/// The sizes and arguments that an attention is launched with.
#[derive(Clone, Copy, Debug)]
pub struct Launch<'a> {
    /// B.
    pub batch: usize,
    /// H: query heads.
    pub heads: usize,
    /// G: key and value heads, which divides H.
    pub kv_heads: usize,
    /// S: queries.
    pub queries: usize,
    /// The position of the first query.
    pub query_offset: i64,
    /// The keys of each set, in order.
    pub keys: &'a [Keys],
    /// All of the specification's scalars, in order.
    pub scalars: &'a [ScalarValue],
    /// All of the specification's captured tensors, in order.
    pub tensors: &'a [TensorFacts],
}

/// The keys of one set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keys {
    /// T: how many there are.
    pub length: usize,
    /// The position of the first.
    pub offset: i64,
}

/// What is known of a captured tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorFacts {
    /// The length of each dimension.
    pub shape: Vec<usize>,
    /// The least and the greatest element of an integer tensor, where they are known.
    pub values: Option<(i64, i64)>,
}

impl Launch<'_> {
    /// The key and value head that query head `head` reads.
    pub fn kv_head(&self, head: usize) -> usize {
        head / (self.heads / self.kv_heads.max(1)).max(1)
    }

    /// A batch and head for each way in which expressions can differ between them: all batches or the first, by all heads or the
    /// first; and how many each stands for.
    pub fn heads_that_differ<'e>(&self, exprs: impl IntoIterator<Item = &'e Expr>) -> (Vec<(usize, usize)>, u64) {
        let (mut batches, mut heads) = (1.min(self.batch), 1.min(self.heads));
        for expr in exprs {
            if expr.mentions(&Expr::Batch) {
                batches = self.batch;
            }
            if expr.mentions(&Expr::Head) || expr.mentions(&Expr::KvHead) {
                heads = self.heads;
            }
        }
        let repeated = (self.batch * self.heads) / (batches * heads).max(1);
        let differ = (0..batches).flat_map(|batch| (0..heads).map(move |head| (batch, head)));
        (differ.collect(), repeated as u64)
    }

    /// Whether there is no query, so that nothing is computed.
    pub fn is_empty(&self) -> bool {
        self.batch == 0 || self.heads == 0 || self.queries == 0
    }
}

impl Keys {
    /// The tiles, of `tile` keys, that hold a position `from <= j < to`: a first one and the one after the last.
    pub fn tiles(&self, from: i64, to: i64, tile: usize) -> (usize, usize) {
        let end = self.length as i64;
        let first = (from.saturating_sub(self.offset)).clamp(0, end);
        let last = (to.saturating_sub(self.offset)).clamp(0, end);
        if first >= last {
            return (0, 0);
        }
        // Neither is negative.
        let (first, last) = (first as usize, last as usize);
        (first / tile, (last - 1) / tile + 1)
    }

    /// The tiles, of `tile` keys, all of whose keys are at `from <= j < to`; the last tile may be short.
    pub fn tiles_inside(&self, from: i64, to: i64, tile: usize) -> (usize, usize) {
        let (end, tile) = (self.length as i64, tile as i64);
        let first = (from.saturating_sub(self.offset)).clamp(0, end);
        let last = (to.saturating_sub(self.offset)).clamp(0, end);
        let first = (first + tile - 1) / tile;
        let last = if last == end { (end + tile - 1) / tile } else { last / tile };
        if first >= last { (0, 0) } else { (first as usize, last as usize) }
    }
}
