//! The reference: an attention computed in f64 straight from its specification.
//!
//! It knows no tiles, no passes and no tricks, and takes time proportional to queries times keys; every kernel is compared
//! with it.

use crate::eval::{self, Environment, EvalError, HostTensor, Value};
use crate::expr::Expr;
use crate::spec::{Accumulator, PushLoop, ScalarType, ScalarValue, Spec};
use thiserror::Error;

/// What an attention is computed from.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// Queries, `[B, H, S, D]`.
    pub query: &'a HostTensor,
    /// For each of the specification's pairs, keys `[B, G, T, D]` and values `[B, G, T, Dv]`, where G divides H.
    pub pairs: &'a [(HostTensor, HostTensor)],
    /// All of the specification's scalars, in order.
    pub scalars: &'a [ScalarValue],
    /// All of the specification's captured tensors, in order.
    pub tensors: &'a [HostTensor],
    /// The value of `scale()`.
    pub scale: f64,
    /// The position of the first query.
    pub query_offset: i64,
    /// The position of each pair's first key.
    pub key_offsets: &'a [i64],
}

/// What an attention gives.
#[derive(Clone, Debug, PartialEq)]
pub struct Reference {
    /// `[B, H, S, Dv]`; zero where a query sees no key.
    pub out: HostTensor,
    /// `[B, H, S]`: the natural logarithm of each row's sum of exponentials, a sink's included; −∞ where there is nothing
    /// to sum. NaN for `Sum` and `Mean`, which have none.
    pub lse: HostTensor,
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
pub fn interpret(spec: &Spec, inputs: &Inputs) -> Result<Reference, InterpretError> {
    let sizes = check(spec, inputs)?;
    let Sizes { batch, heads, kv_heads, queries, qk_dim, v_dim } = sizes;
    let scalars: Vec<Value> = inputs.scalars.iter().map(|&value| value.into()).collect();

    let pushes: Vec<Push> = spec.loops.iter().map(Push::of).collect();
    let mut out = HostTensor { shape: vec![batch, heads, queries, v_dim], data: Vec::new() };
    let mut lse = HostTensor { shape: vec![batch, heads, queries], data: Vec::new() };
    let mut row = Row { weights: Vec::new(), sink: None };
    for b in 0..batch {
        for h in 0..heads {
            let g = h / (heads / kv_heads);
            let mut at = Environment {
                batch: b as i64,
                head: h as i64,
                kv_head: g as i64,
                scale: inputs.scale,
                scalars: &scalars,
                tensors: inputs.tensors,
                tensor_params: &spec.tensors,
                ..Environment::EMPTY
            };
            for i in 0..queries {
                at.query = inputs.query_offset + i as i64;
                let query = &inputs.query.data[((b * heads + h) * queries + i) * qk_dim..][..qk_dim];
                row.weights.clear();
                for push in &pushes {
                    let (keys, values) = &inputs.pairs[push.pair];
                    let length = keys.shape[2];
                    for j in 0..length {
                        at.key = inputs.key_offsets[push.pair] + j as i64;
                        let head = (b * kv_heads + g) * length + j;
                        let key = &keys.data[head * qk_dim..][..qk_dim];
                        if let Some(weight) =
                            push.evaluate(query, key, &mut at).map_err(|error| locate(spec, error, &at))?
                        {
                            row.weights.push((weight, &values.data[head * v_dim..][..v_dim]));
                        }
                    }
                }
                row.sink = match &spec.accumulator {
                    Accumulator::Softmax { sink: Some(sink) } => {
                        eval::evaluate(sink, &at).map_err(|error| locate(spec, error, &at))?.map(Value::float)
                    }
                    _ => None,
                };
                let start = out.data.len();
                out.data.resize(start + v_dim, 0.0);
                lse.data.push(row.reduce(&spec.accumulator, &mut out.data[start..]));
            }
        }
    }
    Ok(Reference { out, lse })
}

struct Sizes {
    batch: usize,
    heads: usize,
    kv_heads: usize,
    queries: usize,
    qk_dim: usize,
    v_dim: usize,
}

/// A push, and the masks around it that a query and a key decide alone: a key they hide costs no product.
struct Push<'a> {
    pair: usize,
    whole: &'a Expr,
    masks: Vec<&'a Expr>,
    inside: &'a Expr,
}

impl<'a> Push<'a> {
    fn of(push_loop: &'a PushLoop) -> Push<'a> {
        let whole = &push_loop.push;
        let mut push = Push { pair: push_loop.pair, whole, masks: Vec::new(), inside: whole };
        while let Expr::Mask(score, visible) = push.inside
            && !visible.mentions(&Expr::SCORE)
        {
            push.masks.push(visible);
            push.inside = score;
        }
        push
    }

    /// The value for one pair, `None` where it is hidden.
    fn evaluate(&self, query: &[f64], key: &[f64], at: &mut Environment) -> Result<Option<f64>, EvalError> {
        let mut expr = self.inside;
        for visible in &self.masks {
            match eval::evaluate(visible, at) {
                Ok(None | Some(Value::Bool(false))) => return Ok(None),
                Ok(Some(_)) => {}
                // Not an error yet: another mask may hide the pair.
                Err(_) => expr = self.whole,
            }
        }
        at.score = dot(query, key);
        Ok(eval::evaluate(expr, at)?.map(Value::float))
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

/// What one query sees: a score or weight and a value for each visible key.
struct Row<'a> {
    weights: Vec<(f64, &'a [f64])>,
    sink: Option<f64>,
}

impl Row<'_> {
    /// Writes the row of the output, and gives its log-sum-exp.
    fn reduce(&self, accumulator: &Accumulator, out: &mut [f64]) -> f64 {
        let add = |out: &mut [f64], weight: f64, value: &[f64]| {
            for (out, value) in out.iter_mut().zip(value) {
                *out += weight * value;
            }
        };
        match accumulator {
            Accumulator::Softmax { .. } => {
                let scores = self.weights.iter().map(|(score, _)| *score);
                let max = scores.chain(self.sink).fold(f64::NEG_INFINITY, f64::max);
                let mut sum = self.sink.map_or(0.0, |sink| weigh(sink, max));
                for (score, value) in &self.weights {
                    if *score != f64::NEG_INFINITY {
                        // Of a key that is seen, however little: what it holds is not lost.
                        let weight = weigh(*score, max);
                        sum += weight;
                        add(out, if weight == 0.0 { f64::MIN_POSITIVE } else { weight }, value);
                    }
                }
                if sum != 0.0 {
                    out.iter_mut().for_each(|out| *out /= sum);
                }
                max + sum.ln()
            }
            Accumulator::Sum | Accumulator::Mean => {
                let mut sum = 0.0;
                for (weight, value) in &self.weights {
                    sum += weight;
                    add(out, *weight, value);
                }
                if *accumulator == Accumulator::Mean {
                    out.iter_mut().for_each(|out| *out = if sum == 0.0 { 0.0 } else { *out / sum });
                }
                f64::NAN
            }
        }
    }
}

/// exp(score - max), and zero for a score of −∞ even where `max` is −∞ too.
fn weigh(score: f64, max: f64) -> f64 {
    if score == f64::NEG_INFINITY { 0.0 } else { (score - max).exp() }
}

fn locate(spec: &Spec, error: EvalError, at: &Environment) -> InterpretError {
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

fn check(spec: &Spec, inputs: &Inputs) -> Result<Sizes, InterpretError> {
    let counts = [
        ("key and value pairs", inputs.pairs.len(), spec.pairs.len()),
        ("key offsets", inputs.key_offsets.len(), spec.pairs.len()),
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
    let query = inputs.query;
    expect(&spec.query, query, query.shape.len() == 4, || "[B, H, S, D]".into())?;
    let &[batch, heads, queries, qk_dim] = &query.shape[..] else { unreachable!("four dimensions") };
    let mut sizes = Sizes { batch, heads, kv_heads: heads.max(1), queries, qk_dim, v_dim: 0 };
    for (place, (names, (key, value))) in spec.pairs.iter().zip(inputs.pairs).enumerate() {
        let fits = matches!(key.shape[..], [b, g, _, d] if b == batch && d == qk_dim && (g > 0 && heads % g == 0 || heads == 0));
        expect(&names.key, key, fits, || format!("[{batch}, a divisor of {heads}, T, {qk_dim}]"))?;
        if place == 0 {
            sizes.kv_heads = key.shape[1].max(1);
            sizes.v_dim = value.shape.last().copied().unwrap_or(0);
        }
        let expected = [batch, if heads == 0 { key.shape[1] } else { sizes.kv_heads }, key.shape[2]];
        expect(&names.key, key, key.shape[..3] == expected, || format!("{expected:?} and {qk_dim}"))?;
        let fits = value.shape.len() == 4 && value.shape[..3] == expected && value.shape[3] == sizes.v_dim;
        expect(&names.value, value, fits, || format!("{expected:?} and {}", sizes.v_dim))?;
    }
    Ok(sizes)
}

fn expect(name: &str, tensor: &HostTensor, fits: bool, expected: impl Fn() -> String) -> Result<(), InterpretError> {
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
