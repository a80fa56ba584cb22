//! The sizes of a launch, where there are no tensors to take them from.

use purview_compiler::ir::Element;
use purview_compiler::ir::forward::Operands;

/// The sizes and the element type of an attention's operands.
///
/// ```
/// use purview::Shape;
/// let shape = Shape::new(1, 32, 4096, 128).with_kv_heads(8).with_queries(1); // decoding, 32 query heads on 8
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// B.
    pub batch: usize,
    /// H: query heads.
    pub heads: usize,
    /// G: key and value heads.
    pub kv_heads: usize,
    /// S: queries.
    pub queries: usize,
    /// T of each pair; one number stands for all pairs.
    pub keys: Vec<usize>,
    /// D of queries and keys.
    pub qk_dim: usize,
    /// D of values and the output.
    pub v_dim: usize,
    /// The element type.
    pub element: Element,
}

impl Shape {
    /// `batch` × `heads` × `length` × `dim`, queries and keys alike, in f32.
    pub fn new(batch: usize, heads: usize, length: usize, dim: usize) -> Shape {
        Shape {
            batch,
            heads,
            kv_heads: heads,
            queries: length,
            keys: vec![length],
            qk_dim: dim,
            v_dim: dim,
            element: Element::F32,
        }
    }

    /// With `kv_heads` key and value heads, a divisor of the query heads.
    pub fn with_kv_heads(self, kv_heads: usize) -> Shape {
        Shape { kv_heads, ..self }
    }

    /// With `queries` queries.
    pub fn with_queries(self, queries: usize) -> Shape {
        Shape { queries, ..self }
    }

    /// With these numbers of keys: one for each pair, or one for all.
    pub fn with_keys(self, keys: impl Into<Vec<usize>>) -> Shape {
        Shape { keys: keys.into(), ..self }
    }

    /// With values of another head dim.
    pub fn with_v_dim(self, v_dim: usize) -> Shape {
        Shape { v_dim, ..self }
    }

    /// With another element type.
    pub fn with_element(self, element: Element) -> Shape {
        Shape { element, ..self }
    }

    /// Element type and head dims.
    pub fn operands(&self) -> Operands {
        Operands { element: self.element, qk_dim: self.qk_dim, v_dim: self.v_dim }
    }
}
