//! The sizes of a launch that has been validated.

use crate::shape::Shape;
use purview_compiler::ir::forward::OperandDims;
use purview_compiler::launch::{Keys, Launch, TensorFacts};
use purview_compiler::spec::{ScalarValue, Spec};

/// The sizes of a validated launch.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    pub batch: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub queries: usize,
    pub operands: OperandDims,
    /// Each set's keys.
    pub keys: Vec<Keys>,
    /// The first query's position.
    pub query_offset: i64,
    /// `scale()`.
    pub scale: f32,
}

impl Operation {
    /// Sizes, with nothing said of keys, positions and scale.
    pub fn sizes(batch: usize, heads: usize, kv_heads: usize, queries: usize, operands: OperandDims) -> Operation {
        Operation { batch, heads, kv_heads, queries, operands, keys: Vec::new(), query_offset: 0, scale: 1.0 }
    }

    /// The sizes of `shape`, with nothing said of keys, positions and scale.
    pub fn of(shape: &Shape, spec: &Spec) -> Operation {
        let &Shape { batch, heads, kv_heads, queries, .. } = shape;
        Operation::sizes(batch, heads, kv_heads, queries, shape.operand_dims(spec))
    }

    /// The default position of the first query, with which the last query is at the last key of the last set.
    pub fn default_query_offset(keys: &[Keys], queries: usize) -> i64 {
        keys.last().map_or(0, |keys| keys.offset + keys.length as i64 - queries as i64)
    }

    /// The launch in the compiler's terms, with `scalars` and what is known of captured tensors.
    pub fn described<'a>(&'a self, scalars: &'a [ScalarValue], tensors: &'a [TensorFacts]) -> Launch<'a> {
        Launch {
            batch: self.batch,
            heads: self.heads,
            kv_heads: self.kv_heads,
            queries: self.queries,
            query_offset: self.query_offset,
            keys: &self.keys,
            scalars,
            tensors,
        }
    }
}
