//! The sizes of a launch that has been validated.

use crate::error::Error;
use crate::shape::{Shape, greatest_common_divisor};
use purview_compiler::ir::forward::OperandDims;
use purview_compiler::launch::{Keys, Launch, TensorFacts};
use purview_compiler::spec::{Role, ScalarValue, Spec};

/// The sizes of a validated launch.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    pub batch: usize,
    pub heads: usize,
    /// Heads of the first operand along keys.
    pub kv_heads: usize,
    /// Query heads that share the heads of all operands along keys.
    pub group: usize,
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
        let group = heads.checked_div(kv_heads).unwrap_or(1);
        Operation { batch, heads, kv_heads, group, queries, operands, keys: Vec::new(), query_offset: 0, scale: 1.0 }
    }

    /// With operands along keys of these heads, which divide the query heads.
    pub fn with_key_heads(mut self, key_heads: impl IntoIterator<Item = usize>) -> Operation {
        let groups = key_heads.into_iter().filter_map(|heads| self.heads.checked_div(heads));
        self.group = groups.fold(0, greatest_common_divisor).max(1);
        self
    }

    /// The sizes of `shape`, with nothing said of keys, positions and scale.
    ///
    /// # Errors
    /// As [`Shape::operand_dims`].
    pub fn of(shape: &Shape, spec: &Spec) -> Result<Operation, Error> {
        let &Shape { batch, heads, queries, .. } = shape;
        let (dims, of_operands) = (shape.operand_dims(spec)?, shape.operand_heads(spec)?);
        let along_keys = spec.operands.iter().zip(of_operands).filter(|(param, _)| param.role != Role::Query);
        let key_heads: Vec<usize> = along_keys.map(|(_, heads)| heads).collect();
        let kv_heads = key_heads.first().copied().unwrap_or(shape.kv_heads);
        Ok(Operation::sizes(batch, heads, kv_heads, queries, dims).with_key_heads(key_heads))
    }

    /// The default position of the first query, with which the last query is at the last of these keys.
    pub fn default_query_offset(keys: Option<&Keys>, queries: usize) -> i64 {
        keys.map_or(0, |keys| keys.offset + keys.length as i64 - queries as i64)
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
