//! The sizes of a launch, where there are no tensors to take them from.

use crate::error::Error;
use purview_compiler::ir::Element;
use purview_compiler::ir::forward::{OperandDims, Operands};
use purview_compiler::lower::dims_of;
use purview_compiler::spec::{OperandParam, Role, Spec};

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
    /// T of each set of keys, in the order of their first keys in the signature; one number stands for all. A set is what one key loop
    /// reads.
    pub keys: Vec<usize>,
    /// D of queries and keys.
    pub qk_dim: usize,
    /// D of values and the output.
    pub v_dim: usize,
    /// The element type.
    pub element: Element,
    /// D of single operands, by name, where it is not `qk_dim` or `v_dim`. Each name is an operand's, and given once.
    pub dims: Vec<(String, usize)>,
    /// Heads of single operands along keys, by name, where they are not `kv_heads`. Each name is such an operand's, and given once.
    pub key_heads: Vec<(String, usize)>,
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
            dims: Vec::new(),
            key_heads: Vec::new(),
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
    /// which have `v_dim`. That an attention has operands of these names is checked where the shape is used.
    ///
    /// ```
    /// use purview::Shape;
    /// let latent = Shape::new(1, 16, 4096, 128).with_dims([("q_rope", 64), ("k_rope", 64)]).with_key_heads([("k_rope", 1)]);
    /// ```
    pub fn with_dims<const COUNT: usize>(mut self, dims: [(&str, usize); COUNT]) -> Shape {
        self.dims.extend(dims.map(|(name, dim)| (name.to_string(), dim)));
        self
    }

    /// With other heads of single operands along keys: divisors of the query heads. That an attention has operands of these names along
    /// keys is checked where the shape is used.
    pub fn with_key_heads<const COUNT: usize>(mut self, heads: [(&str, usize); COUNT]) -> Shape {
        self.key_heads.extend(heads.map(|(name, heads)| (name.to_string(), heads)));
        self
    }

    /// With one batch, and with as few heads as keep the number of query heads that share a head of each operand along keys.
    pub fn with_one_group(mut self) -> Shape {
        let of_operands = self.key_heads.iter().map(|(_, heads)| *heads);
        let groups = of_operands.chain([self.kv_heads]).fold(self.heads, greatest_common_divisor).max(1);
        for heads in self.key_heads.iter_mut().map(|(_, heads)| heads).chain([&mut self.heads, &mut self.kv_heads]) {
            *heads /= groups;
        }
        Shape { batch: 1, ..self }
    }

    /// Element type and head dims, of the operands that have no other.
    pub fn operands(&self) -> Operands {
        Operands { element: self.element, qk_dim: self.qk_dim, v_dim: self.v_dim }
    }

    /// Element type and head dims of each of `spec`'s operands.
    ///
    /// # Errors
    /// [`Error::NoOperand`], [`Error::GivenTwice`] and [`Error::QueryHeads`] for a name in [`dims`](Self::dims) or
    /// [`key_heads`](Self::key_heads) that is no operand's, is there twice, or is of an operand along queries; [`Error::HeadDim`] for a
    /// head dim of 0, and [`Error::Heads`] for heads of keys or values that do not divide the query heads.
    pub fn operand_dims(&self, spec: &Spec) -> Result<OperandDims, Error> {
        named_once(spec, "head dim", &self.dims)?;
        let mut dims = dims_of(spec, self.operands());
        for (dim, param) in dims.dims.iter_mut().zip(&spec.operands) {
            *dim = given(&self.dims, param).unwrap_or(*dim);
            if *dim == 0 {
                return Err(Error::HeadDim { name: param.name.clone(), dim: 0 });
            }
        }
        self.operand_heads(spec)?;
        Ok(dims)
    }

    /// The shape of each of `spec`'s operands, `[B, H, S, D]` or `[B, G, T, D]`, in the order of the signature.
    ///
    /// # Errors
    /// As [`Shape::operand_dims`], and [`Error::Count`] for a number of lengths of keys that is neither 1 nor that of the sets of keys.
    pub fn operand_shapes(&self, spec: &Spec) -> Result<Vec<[usize; 4]>, Error> {
        let (dims, heads) = (self.operand_dims(spec)?.dims, self.operand_heads(spec)?);
        let keys = self.lengths_of_keys(spec)?;
        let shapes = spec.operands.iter().zip(heads).zip(dims).map(|((param, heads), dim)| {
            let length = param.role.set().map_or(self.queries, |set| keys[set]);
            [self.batch, heads, length, dim]
        });
        Ok(shapes.collect())
    }

    /// The number of keys of each set of `spec`'s.
    ///
    /// # Errors
    /// [`Error::Count`].
    pub(crate) fn lengths_of_keys(&self, spec: &Spec) -> Result<Vec<usize>, Error> {
        match self.keys.as_slice() {
            [length] => Ok(vec![*length; spec.sets()]),
            lengths if lengths.len() == spec.sets() => Ok(lengths.to_vec()),
            lengths => {
                let (attention, what) = (spec.name.clone(), "lengths of keys");
                Err(Error::Count { attention, what, expected: spec.sets(), given: lengths.len() })
            }
        }
    }

    /// The heads of each of `spec`'s operands, in the order of the signature.
    ///
    /// # Errors
    /// As [`Shape::operand_dims`], as far as they concern heads.
    pub(crate) fn operand_heads(&self, spec: &Spec) -> Result<Vec<usize>, Error> {
        let query_heads = self.heads;
        named_once(spec, "number of heads", &self.key_heads)?;
        let heads = spec.operands.iter().map(|param| {
            let of_operand = given(&self.key_heads, param);
            if param.role == Role::Query {
                let name = param.name.clone();
                return match of_operand {
                    Some(given) => Err(Error::QueryHeads { name, heads: query_heads, given }),
                    None => Ok(query_heads),
                };
            }
            let heads = of_operand.unwrap_or(self.kv_heads);
            if heads == 0 || !query_heads.is_multiple_of(heads) {
                let (query, key) = (spec.query().into(), param.name.clone());
                return Err(Error::Heads { query, heads: query_heads, key, kv_heads: heads });
            }
            Ok(heads)
        });
        heads.collect()
    }
}

/// What is given for an operand.
fn given(of_operands: &[(String, usize)], param: &OperandParam) -> Option<usize> {
    of_operands.iter().find(|(name, _)| *name == param.name).map(|(_, number)| *number)
}

/// Checks that each name is of one of `spec`'s operands, and given once.
fn named_once(spec: &Spec, what: &'static str, of_operands: &[(String, usize)]) -> Result<(), Error> {
    for (place, (name, number)) in of_operands.iter().enumerate() {
        if spec.operands.iter().all(|param| param.name != *name) {
            let operands: Vec<&str> = spec.operands.iter().map(|operand| operand.name.as_str()).collect();
            let (attention, operands) = (spec.name.clone(), operands.join(", "));
            return Err(Error::NoOperand { attention, name: name.clone(), operands });
        }
        if let Some((_, first)) = of_operands[..place].iter().find(|(other, _)| other == name) {
            return Err(Error::GivenTwice { what, name: name.clone(), first: *first, second: *number });
        }
    }
    Ok(())
}

/// Of numbers of which one may be 0.
pub(crate) fn greatest_common_divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}
