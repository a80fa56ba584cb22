//! The reference: an attention computed in f64 straight from its specification.
//!
//! It knows no tiles, no passes and no tricks, and takes time proportional to queries times keys; every kernel is compared
//! with it.

use crate::eval::{self, Environment, EvalError, HostTensor, Value};
use crate::expr::Expr;
use crate::launch::Keys;
use crate::lower::{LowerError, check_form, check_pruned};
use crate::pruned::Constants;
use crate::spec::{Accumulator, KeyLoop, MAX_DOTS, Push, Role, ScalarType, ScalarValue, Spec};
use std::ops::Range;
use thiserror::Error;

/// What an attention is computed from.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// All of the specification's operands, in order: along queries `[B, H, S, D]`, and along keys `[B, G, T, D]`, where each has a G of
    /// its own that divides H, and each a D.
    pub operands: &'a [HostTensor],
    /// All of the specification's scalars, in order.
    pub scalars: &'a [ScalarValue],
    /// All of the specification's captured tensors, in order.
    pub tensors: &'a [HostTensor],
    /// The value of `scale()`.
    pub scale: f64,
    /// The position of the first query.
    pub query_offset: i64,
    /// The position of the first key of each set.
    pub key_offsets: &'a [i64],
}

/// What an attention gives.
#[derive(Clone, Debug, PartialEq)]
pub struct Reference {
    /// The output, or the first of them: `[B, H, S, Dv]`; of an accumulator of a query that sees no key, zero.
    pub out: HostTensor,
    /// The outputs after the first, likewise.
    pub further: Vec<HostTensor>,
    /// `[B, H, S]`: the natural logarithm of each row's sum of exponentials, a sink's included; −∞ where there is nothing
    /// to sum. NaN unless there is one accumulator, a `Softmax`: others have none.
    pub lse: HostTensor,
    /// `[B, H, S]`: the greatest of each row's scores, a sink included; −∞ where there is none, and NaN where a score is NaN, as everywhere
    /// where the log-sum-exp is.
    pub max: HostTensor,
}

impl Reference {
    /// All outputs, in the order of the specification.
    pub fn outputs(&self) -> impl Iterator<Item = &HostTensor> {
        std::iter::once(&self.out).chain(&self.further)
    }
}

/// Why an attention has no value.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum InterpretError {
    /// A number of inputs that is not the specification's.
    #[error("{given} {what}, but `{name}` takes {expected}")]
    Count {
        /// What is counted.
        what: &'static str,
        /// How many were given.
        given: usize,
        /// How many there must be.
        expected: usize,
        /// The attention's name.
        name: String,
    },
    /// A tensor of the wrong shape.
    #[error("`{name}` has shape {given:?}, expected {expected}")]
    Shape {
        /// The tensor's name.
        name: String,
        /// Its shape.
        given: Vec<usize>,
        /// What it must be.
        expected: String,
    },
    /// An output of what has other numbers of elements.
    #[error("an output of `{name}` is of `{first}`, of dim {first_dim}, and of `{other}`, of dim {other_dim}")]
    Output {
        /// The attention's name.
        name: String,
        /// An accumulator, or an operand along queries.
        first: String,
        /// The elements of a row of it.
        first_dim: usize,
        /// Another.
        other: String,
        /// The elements of a row of that.
        other_dim: usize,
    },
    /// A scalar of the wrong type.
    #[error("the scalar `{name}` is {given:?}, expected {expected}")]
    Scalar {
        /// The scalar's name.
        name: String,
        /// What was given.
        given: ScalarValue,
        /// Its declared type.
        expected: &'static str,
    },
    /// A gradient of a log-sum-exp that there is none of.
    #[error("a gradient of the log-sum-exp of `{name}`, which has none")]
    NoLogSumExp {
        /// The attention's name.
        name: String,
    },
    /// The specification is at fault.
    #[error(transparent)]
    Spec(#[from] LowerError),
    /// An expression without a value.
    #[error("{place}: {message} at batch {batch}, head {head}, query position {query}, key position {key}")]
    Eval {
        /// Where the attention is written.
        place: String,
        /// What is wrong.
        message: String,
        /// The batch index.
        batch: i64,
        /// The query head.
        head: i64,
        /// The query's position.
        query: i64,
        /// The key's position (that of the last key before, for a sink).
        key: i64,
    },
}

/// Computes `spec` on `inputs`.
///
/// A key whose score is −∞ weighs nothing; a NaN score makes its row NaN.
///
/// # Errors
/// [`InterpretError`].
pub fn interpret(spec: &Spec, inputs: &Inputs) -> Result<Reference, InterpretError> {
    check_form(spec)?;
    let Sizes { head_dim, dims: Dims { outputs: output_dims, .. }, .. } = check(spec, inputs)?;
    let has_lse = spec.has_lse();
    // An accumulator that a comptime scalar takes away has no value.
    let spec = &spec.pruned(&Constants::new(spec, inputs.scalars, head_dim));
    check_pruned(spec)?;
    let sizes = check(spec, inputs)?;
    let Sizes { batch, heads, queries, ref dims, .. } = sizes;
    let scalars: Vec<Value> = inputs.scalars.iter().map(|&value| value.into()).collect();
    let along_queries: Vec<&HostTensor> =
        spec.operands_of(Role::Query).map(|(place, _)| &inputs.operands[place]).collect();

    let of_output = |dim: &usize| HostTensor { shape: vec![batch, heads, queries, *dim], data: Vec::new() };
    let mut outputs: Vec<HostTensor> = output_dims.iter().map(of_output).collect();
    let keys = key_sets(spec, inputs);
    let of_rows = || HostTensor { shape: vec![batch, heads, queries], data: Vec::new() };
    let (mut lse, mut max) = (of_rows(), of_rows());
    let mut rows: Vec<Row> = spec.accumulators.iter().map(|_| Row::default()).collect();
    let mut results: Vec<Vec<f64>> = dims.accumulators.iter().map(|dim| vec![0.0; *dim]).collect();
    let loops = masked_pushes(spec);
    for b in 0..batch {
        for h in 0..heads {
            let mut at = Environment { keys: &keys, scalars: &scalars, ..environment(spec, inputs, &sizes, b, h) };
            for i in 0..queries {
                at.query = inputs.query_offset + i as i64;
                let place = Place { b, h, heads };
                fill_rows(spec, inputs, &loops, &place, i, &mut at, &mut rows)?;
                let mut numbers = RowNumbers::NONE;
                for ((accumulator, row), result) in spec.accumulators.iter().zip(&rows).zip(&mut results) {
                    numbers = row.reduce(&accumulator.kind, result);
                }
                let RowNumbers { log_sum_exp, maximum } = if has_lse { numbers } else { RowNumbers::NONE };
                lse.data.push(log_sum_exp);
                max.data.push(maximum);
                let queries = along_queries.iter().map(|tensor| place.row(tensor, i));
                let made_of: Vec<&[f64]> = results.iter().map(|result| &result[..]).chain(queries).collect();
                for ((output, dim), out) in spec.outputs.iter().zip(&output_dims).zip(&mut outputs) {
                    for element in 0..*dim {
                        // What has another number of elements is not part of the output, as was checked.
                        let of_row = |row: &&[f64]| if row.len() == *dim { row[element] } else { 0.0 };
                        let values: Vec<f64> = made_of.iter().map(of_row).collect();
                        let at = Environment { values: &values, ..at };
                        let stored = eval::evaluate(output, &at).map_err(|error| locate(spec, error, &at))?;
                        out.data.push(stored.map_or(0.0, Value::float));
                    }
                }
            }
        }
    }
    let out = outputs.remove(0);
    Ok(Reference { out, further: outputs, lse, max })
}

/// Where the expressions of a batch and a query head are evaluated, but for their keys and scalars.
pub(crate) fn environment<'a>(
    spec: &'a Spec,
    inputs: &Inputs<'a>,
    sizes: &Sizes,
    b: usize,
    h: usize,
) -> Environment<'a> {
    Environment {
        batch: b as i64,
        head: h as i64,
        kv_head: (h / (sizes.heads / sizes.kv_heads)) as i64,
        query_length: sizes.queries as i64,
        head_dim: sizes.head_dim as i64,
        scale: inputs.scale,
        tensors: inputs.tensors,
        tensor_params: &spec.tensors,
        ..Environment::EMPTY
    }
}

/// The sets of keys, whose operands are checked.
pub(crate) fn key_sets(spec: &Spec, inputs: &Inputs) -> Vec<Keys> {
    let operands = || spec.operands.iter().zip(inputs.operands);
    let length = |set| operands().find(|(param, _)| param.role.set() == Some(set)).map_or(0, |(_, of)| of.shape[2]);
    inputs.key_offsets.iter().enumerate().map(|(set, &offset)| Keys { length: length(set), offset }).collect()
}

/// A batch and a query head, of how many.
pub(crate) struct Place {
    pub b: usize,
    pub h: usize,
    pub heads: usize,
}

impl Place {
    /// The row at `position` of the head of `tensor` that the query head reads.
    pub fn row<'a>(&self, tensor: &'a HostTensor, position: usize) -> &'a [f64] {
        &tensor.data[self.range(tensor, position)]
    }

    /// Where that is in the tensor's data.
    pub fn range(&self, tensor: &HostTensor, position: usize) -> Range<usize> {
        let &[_, heads, length, dim] = &tensor.shape[..] else { unreachable!("four dimensions") };
        let head = self.h / (self.heads / heads);
        let start = ((self.b * heads + head) * length + position) * dim;
        start..start + dim
    }
}

/// Fills the row of each accumulator with what is pushed for query `i`, and its sink.
pub(crate) fn fill_rows<'a>(
    spec: &Spec,
    inputs: &Inputs<'a>,
    loops: &[Vec<Masked>],
    place: &Place,
    i: usize,
    at: &mut Environment,
    rows: &mut [Row<'a>],
) -> Result<(), InterpretError> {
    rows.iter_mut().for_each(|row| row.pairs.clear());
    for (nth, (key_loop, pushes)) in spec.loops.iter().zip(loops).enumerate() {
        push_all(spec, inputs, (nth, key_loop, pushes), place, i, at, rows)?;
    }
    for (accumulator, row) in spec.accumulators.iter().zip(rows) {
        row.sink = match &accumulator.kind {
            Accumulator::Softmax { sink: Some(sink) } => {
                eval::evaluate(sink, at).map_err(|error| locate(spec, error, at))?.map(Value::float)
            }
            _ => None,
        };
    }
    Ok(())
}

/// Pushes what one loop gives for query `i`.
fn push_all<'a>(
    spec: &Spec,
    inputs: &Inputs<'a>,
    (nth, key_loop, pushes): (usize, &KeyLoop, &[Masked]),
    place: &Place,
    i: usize,
    at: &mut Environment,
    rows: &mut [Row<'a>],
) -> Result<(), InterpretError> {
    let Keys { length, offset } = at.keys[key_loop.set];
    for j in 0..length {
        at.key = offset + j as i64;
        // A key that no push sees costs no product.
        let mut products = None;
        for (nth_push, push) in pushes.iter().enumerate() {
            let product = || {
                let mut products = [0.0; MAX_DOTS];
                for (product, of) in products.iter_mut().zip(&key_loop.dots) {
                    let (query, key) = (&inputs.operands[of.query], &inputs.operands[of.key]);
                    *product = dot(place.row(query, i), place.row(key, j));
                }
                products
            };
            let mut computed = || *products.get_or_insert_with(product);
            let evaluated = push.evaluate(&mut computed, at).map_err(|error| locate(spec, error, at))?;
            if let Some((score, factor)) = evaluated {
                let values = place.row(&inputs.operands[push.push.values], j);
                let dim = push.push.dim.map_or(Some(values.len()), |dim| dim.value(inputs.scalars));
                let values = &values[..dim.unwrap_or(0).min(values.len())];
                let products = computed();
                rows[push.push.accumulator].pairs.push(Pair {
                    score,
                    factor,
                    values,
                    push: (nth, nth_push),
                    key: j,
                    products,
                });
            }
        }
    }
    Ok(())
}

pub(crate) struct Sizes {
    pub batch: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub queries: usize,
    /// The elements of a row of the first operand along queries.
    pub head_dim: usize,
    pub dims: Dims,
}

pub(crate) struct Dims {
    /// The elements of each accumulator's result.
    pub accumulators: Vec<usize>,
    /// The elements of a row of each output.
    pub outputs: Vec<usize>,
}

/// A push, and the masks around its score that a query and a key decide alone: a key they hide costs no product.
pub(crate) struct Masked<'a> {
    push: &'a Push,
    masks: Vec<&'a Expr>,
    inside: &'a Expr,
}

/// The pushes of each loop.
pub(crate) fn masked_pushes(spec: &Spec) -> Vec<Vec<Masked<'_>>> {
    spec.loops.iter().map(|one| one.pushes.iter().map(Masked::of).collect()).collect()
}

impl<'a> Masked<'a> {
    fn of(push: &'a Push) -> Masked<'a> {
        let mut masked = Masked { push, masks: Vec::new(), inside: &push.score };
        while let Expr::Mask(score, visible) = masked.inside
            && !visible.has_values()
        {
            masked.masks.push(visible);
            masked.inside = score;
        }
        masked
    }

    /// The score and the factor of its weight for one pair, `None` where it is hidden.
    fn evaluate(
        &self,
        products: &mut impl FnMut() -> [f64; MAX_DOTS],
        at: &Environment,
    ) -> Result<Option<(f64, f64)>, EvalError> {
        let mut expr = self.inside;
        for visible in &self.masks {
            match eval::evaluate(visible, at) {
                Ok(None | Some(Value::Bool(false))) => return Ok(None),
                Ok(Some(_)) => {}
                // Not an error yet: another mask may hide the pair.
                Err(_) => expr = &self.push.score,
            }
        }
        let at = Environment { values: &products(), ..*at };
        let Some(score) = eval::evaluate(expr, &at)?.map(Value::float) else { return Ok(None) };
        let factor = match &self.push.weight {
            Some(weight) => eval::evaluate(weight, &at)?.map_or(1.0, Value::float),
            None => 1.0,
        };
        Ok(Some((score, factor)))
    }
}

/// Four sums at once, which do not wait for one another.
fn dot(query: &[f64], key: &[f64]) -> f64 {
    let mut sums = [0.0; 4];
    let (queries, keys) = (query.chunks_exact(4), key.chunks_exact(4));
    let rest: f64 = queries.remainder().iter().zip(keys.remainder()).map(|(q, k)| q * k).sum();
    for (q, k) in queries.zip(keys) {
        for lane in 0..4 {
            sums[lane] += q[lane] * k[lane];
        }
    }
    (sums[0] + sums[1]) + (sums[2] + sums[3]) + rest
}

/// What is pushed into an accumulator for one query and one key that it sees.
pub(crate) struct Pair<'a> {
    /// The score, or the weight of a `Sum` or a `Mean`.
    pub score: f64,
    /// What the weight is multiplied by in the output.
    pub factor: f64,
    /// The elements of the value.
    pub values: &'a [f64],
    /// The loop that it is pushed in, and the push in that.
    pub push: (usize, usize),
    /// The key, from 0.
    pub key: usize,
    /// The loop's products of the two.
    pub products: [f64; MAX_DOTS],
}

/// What is pushed into an accumulator for one query.
#[derive(Default)]
pub(crate) struct Row<'a> {
    pub pairs: Vec<Pair<'a>>,
    pub sink: Option<f64>,
}

/// What a softmax knows of a row beside its result.
#[derive(Clone, Copy)]
pub(crate) struct RowNumbers {
    log_sum_exp: f64,
    maximum: f64,
}

impl RowNumbers {
    /// Those of what is no softmax.
    const NONE: RowNumbers = RowNumbers { log_sum_exp: f64::NAN, maximum: f64::NAN };
}

impl Row<'_> {
    /// The greatest score of a softmax, its sink included.
    pub fn maximum(&self) -> f64 {
        self.pairs.iter().map(|pair| pair.score).chain(self.sink).fold(f64::NEG_INFINITY, f64::max)
    }

    /// Writes the row of the result, and gives what is known of it.
    pub fn reduce(&self, accumulator: &Accumulator, out: &mut [f64]) -> RowNumbers {
        out.fill(0.0);
        let add = |out: &mut [f64], weight: f64, value: &[f64]| {
            for (out, value) in out.iter_mut().zip(value) {
                *out += weight * value;
            }
        };
        match accumulator {
            Accumulator::Softmax { .. } => {
                let max = self.maximum();
                let mut sum = self.sink.map_or(0.0, |sink| weigh(sink, max));
                for Pair { score, factor, values, .. } in &self.pairs {
                    if *score != f64::NEG_INFINITY {
                        // Of a key that is seen, however little: what it holds is not lost.
                        let weight = weigh(*score, max);
                        sum += weight;
                        add(out, factor * if weight == 0.0 { f64::MIN_POSITIVE } else { weight }, values);
                    }
                }
                if sum != 0.0 {
                    out.iter_mut().for_each(|out| *out /= sum);
                }
                // `f64::max` drops a NaN, and the sum does not.
                RowNumbers { log_sum_exp: max + sum.ln(), maximum: if sum.is_nan() { sum } else { max } }
            }
            Accumulator::Sum | Accumulator::Mean => {
                let mut sum = 0.0;
                for Pair { score: weight, factor, values, .. } in &self.pairs {
                    sum += weight;
                    add(out, weight * factor, values);
                }
                if *accumulator == Accumulator::Mean {
                    out.iter_mut().for_each(|out| *out = if sum == 0.0 { 0.0 } else { *out / sum });
                }
                RowNumbers::NONE
            }
        }
    }
}

/// exp(score - max), and zero for a score of −∞ even where `max` is −∞ too.
pub(crate) fn weigh(score: f64, max: f64) -> f64 {
    if score == f64::NEG_INFINITY { 0.0 } else { (score - max).exp() }
}

pub(crate) fn locate(spec: &Spec, error: EvalError, at: &Environment) -> InterpretError {
    let message = match error {
        EvalError::OutOfRange { tensor, dimension, index, length } => {
            let name = &spec.tensors[tensor].name;
            format!("index {index} is outside dimension {dimension} of `{name}`, which has length {length},")
        }
        other => other.to_string(),
    };
    let (batch, head, query, key) = (at.batch, at.head, at.query, at.key);
    InterpretError::Eval { place: spec.source.to_string(), message, batch, head, query, key }
}

pub(crate) fn check(spec: &Spec, inputs: &Inputs) -> Result<Sizes, InterpretError> {
    let counts = [
        ("operands", inputs.operands.len(), spec.operands.len()),
        ("key offsets", inputs.key_offsets.len(), spec.sets()),
        ("scalars", inputs.scalars.len(), spec.scalars.len()),
        ("captured tensors", inputs.tensors.len(), spec.tensors.len()),
    ];
    for (what, given, expected) in counts {
        if given != expected {
            return Err(InterpretError::Count { what, given, expected, name: spec.name.clone() });
        }
    }
    for (param, &given) in spec.scalars.iter().zip(inputs.scalars) {
        if given.declared() != param.ty {
            return Err(InterpretError::Scalar { name: param.name.clone(), given, expected: param.ty.name() });
        }
    }
    for (param, tensor) in spec.tensors.iter().zip(inputs.tensors) {
        expect(&param.name, tensor, tensor.shape.len() == param.rank, || format!("{} dimensions", param.rank))?;
    }
    for (param, tensor) in spec.operands.iter().zip(inputs.operands) {
        expect(&param.name, tensor, tensor.shape.len() == 4, || "[B, H, S, D]".into())?;
    }
    let shape = |place: usize| &inputs.operands[place].shape;
    let Some((first, _)) = spec.operands_of(Role::Query).next() else {
        return Err(InterpretError::Count { what: "queries", given: 0, expected: 1, name: spec.name.clone() });
    };
    let &[batch, heads, queries, head_dim] = &shape(first)[..] else { unreachable!("four dimensions") };
    let mut kv_heads = None;
    let mut lengths = vec![None; spec.sets()];
    for (param, tensor) in spec.operands.iter().zip(inputs.operands) {
        let &[_, of_heads, length, dim] = &tensor.shape[..] else { unreachable!("four dimensions") };
        let Some(set) = param.role.set() else {
            let expected = [batch, heads, queries, dim];
            expect(&param.name, tensor, tensor.shape == expected, || format!("{expected:?}"))?;
            continue;
        };
        let known = lengths[set];
        let length = *lengths[set].get_or_insert(length);
        kv_heads.get_or_insert(of_heads.max(1));
        let divides = of_heads > 0 && heads % of_heads == 0 || heads == 0;
        let fits = divides && tensor.shape == [batch, of_heads, length, dim];
        let expected = known.map_or("T".to_string(), |length| length.to_string());
        expect(&param.name, tensor, fits, || format!("[{batch}, a divisor of {heads}, {expected}, {dim}]"))?;
    }
    for dot in spec.loops.iter().flat_map(|key_loop| &key_loop.dots) {
        let dim = shape(dot.query)[3];
        let key = &inputs.operands[dot.key];
        let expected = || format!("a head dim of {dim}, as `{}` has", spec.operands[dot.query].name);
        expect(&spec.operands[dot.key].name, key, key.shape[3] == dim, expected)?;
    }
    let mut results = vec![None; spec.accumulators.len()];
    for (_, push) in spec.pushes() {
        let (name, values) = (&spec.operands[push.values].name, &inputs.operands[push.values]);
        let dim = match push.dim {
            None => values.shape[3],
            Some(leading) => {
                let dim = leading.value(inputs.scalars).unwrap_or(0);
                let fits = (1..=values.shape[3]).contains(&dim);
                expect(name, values, fits, || format!("a head dim of at least {dim}, and that at least 1"))?;
                dim
            }
        };
        let expected = *results[push.accumulator].get_or_insert(dim);
        expect(name, values, dim == expected, || format!("{expected} elements of each row"))?;
    }
    let results: Vec<usize> = results.into_iter().map(|dim| dim.unwrap_or(0)).collect();
    let along_queries = spec.operands_of(Role::Query).map(|(place, _)| shape(place)[3]);
    let dims: Vec<usize> = results.iter().copied().chain(along_queries).collect();
    let mut outputs = Vec::new();
    for output in &spec.outputs {
        let is_of = |value: &usize| output.mentions(&Expr::Value(*value));
        let first = (0..dims.len()).find(is_of).unwrap_or(0);
        let dim = dims[first];
        if let Some(other) = (0..dims.len()).filter(is_of).find(|value| dims[*value] != dim) {
            let names = spec.output_values();
            return Err(InterpretError::Output {
                name: spec.name.clone(),
                first: names[first].to_string(),
                first_dim: dim,
                other: names[other].to_string(),
                other_dim: dims[other],
            });
        }
        outputs.push(dim);
    }
    let dims = Dims { accumulators: results, outputs };
    Ok(Sizes { batch, heads, kv_heads: kv_heads.unwrap_or(1), queries, head_dim, dims })
}

pub(crate) fn expect(
    name: &str,
    tensor: &HostTensor,
    fits: bool,
    expected: impl Fn() -> String,
) -> Result<(), InterpretError> {
    let fits = fits && tensor.shape.iter().product::<usize>() == tensor.data.len();
    if fits {
        return Ok(());
    }
    Err(InterpretError::Shape { name: name.to_string(), given: tensor.shape.clone(), expected: expected() })
}

impl ScalarValue {
    /// The type a scalar of this value is declared with.
    pub fn declared(self) -> ScalarType {
        match self {
            ScalarValue::I32(_) => ScalarType::I32,
            ScalarValue::U32(_) => ScalarType::U32,
            ScalarValue::F32(_) => ScalarType::F32,
            ScalarValue::Bool(_) => ScalarType::Bool,
        }
    }
}
