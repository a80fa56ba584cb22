//! The sizes of a launch, where there are no tensors to take them from.

use purview_compiler::ir::Element;
use purview_compiler::ir::forward::{OperandDims, Operands};
use purview_compiler::lower::dims_of;
use purview_compiler::spec::{OperandParam, Role, Spec};
use std::collections::BTreeMap;

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
    /// T of each set of keys, as each pair of keys and values is; one number stands for all.
    pub keys: Vec<usize>,
    /// D of queries and keys.
    pub qk_dim: usize,
    /// D of values and the output.
    pub v_dim: usize,
    /// The element type.
    pub element: Element,
    /// D of single operands, by name, where it is not `qk_dim` or `v_dim`.
    pub dims: BTreeMap<String, usize>,
    /// Heads of single operands along keys, by name, where they are not `kv_heads`.
    pub key_heads: BTreeMap<String, usize>,
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
            dims: BTreeMap::new(),
            key_heads: BTreeMap::new(),
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

    /// With these numbers of keys: one for each set of keys, or one for all.
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

    /// With other head dims of single operands: the others have `qk_dim`, but values, and operands along queries that are in no product,
    /// which have `v_dim`.
    ///
    /// ```
    /// use purview::Shape;
    /// let latent = Shape::new(1, 16, 4096, 128).with_dims([("q_rope", 64), ("k_rope", 64)]).with_key_heads([("k_rope", 1)]);
    /// ```
    pub fn with_dims<const COUNT: usize>(mut self, dims: [(&str, usize); COUNT]) -> Shape {
        self.dims.extend(dims.map(|(name, dim)| (name.to_string(), dim)));
        self
    }

    /// With other heads of single operands along keys: divisors of the query heads.
    pub fn with_key_heads<const COUNT: usize>(mut self, heads: [(&str, usize); COUNT]) -> Shape {
        self.key_heads.extend(heads.map(|(name, heads)| (name.to_string(), heads)));
        self
    }

    /// Element type and head dims, of the operands that have no other.
    pub fn operands(&self) -> Operands {
        Operands { element: self.element, qk_dim: self.qk_dim, v_dim: self.v_dim }
    }

    /// Element type and head dims of each of `spec`'s operands.
    pub fn operand_dims(&self, spec: &Spec) -> OperandDims {
        let mut dims = dims_of(spec, self.operands());
        for (dim, param) in dims.dims.iter_mut().zip(&spec.operands) {
            *dim = self.dims.get(&param.name).copied().unwrap_or(*dim);
        }
        dims
    }

    /// The shape of each of `spec`'s operands, `[B, H, S, D]` or `[B, G, T, D]`, in the order of the signature. One number of keys stands
    /// for all sets of keys.
    pub fn operand_shapes(&self, spec: &Spec) -> Vec<[usize; 4]> {
        let dims = self.operand_dims(spec).dims;
        let shapes = spec.operands.iter().zip(dims).map(|(param, dim)| {
            let length = match param.role.set() {
                None => self.queries,
                Some(set) => self.keys.get(set).or(self.keys.last()).copied().unwrap_or(0),
            };
            [self.batch, self.heads_of(param), length, dim]
        });
        shapes.collect()
    }

    /// The heads of an operand.
    pub(crate) fn heads_of(&self, param: &OperandParam) -> usize {
        let others = if param.role == Role::Query { self.heads } else { self.kv_heads };
        self.key_heads.get(&param.name).copied().unwrap_or(others)
    }

    /// The names of operands that it says something of.
    pub(crate) fn named_operands(&self) -> impl Iterator<Item = &str> {
        self.dims.keys().chain(self.key_heads.keys()).map(String::as_str)
    }
}
