//! The reference of gradients: those of an attention, in f64, straight from its specification.
//!
//! As [`interpret`](mod@crate::interpret) it knows no tiles and no passes. For each query it has the textbook derivative of each accumulator
//! by every score, and the derivatives of scores, weights, sinks and outputs by [dual numbers](crate::dual). It takes time proportional to
//! queries times keys, and memory for the gradients and for one query's keys.

use crate::dual::{Leaf, differentiate};
use crate::eval::{Environment, HostTensor, Value};
use crate::expr::{Expr, Type};
use crate::interpret::{
    Dims, Inputs, InterpretError, Pair, Place, Row, Sizes, check, environment, expect, fill_rows, key_sets, locate,
    masked_pushes, weigh,
};
use crate::lower::{check_form, check_pruned};
use crate::pruned::Constants;
use crate::spec::{Accumulator, Push, Role, ScalarParam, Spec};

/// The gradients of an attention: of the sum of its outputs, each element times its own in `d_outputs`, and of its log-sum-exp likewise.
#[derive(Clone, Debug, PartialEq)]
pub struct ReferenceGradients {
    /// By each operand, in the order of the signature and in its shape. What several query heads read has the sum of theirs.
    pub operands: Vec<HostTensor>,
    /// By each captured tensor, in the order of the signature and in its shape; `None` of integers and truth values.
    pub tensors: Vec<Option<HostTensor>>,
    /// By each scalar, in the order of the signature; `None` of integers and truth values, and of what is known when the attention is
    /// compiled.
    pub scalars: Vec<Option<f64>>,
    /// By `scale()`.
    pub scale: f64,
}

/// Computes the gradients of `spec` on `inputs`, where those of its outputs, `[B, H, S, Dv]` each, are `d_outputs`, in their order,
/// and that of its log-sum-exp `[B, H, S]`, if it is given, `d_lse`.
///
/// A row that sees no key has none, whatever `d_outputs` hold there, and a key whose score is −∞ is not seen. Where a function has no derivative
/// the conventions are PyTorch's, as [`dual`](crate::dual) lists them; a `Mean` whose weights sum to zero gives none.
///
/// # Errors
/// As [`interpret`](crate::interpret::interpret()), [`InterpretError::Shape`] where a gradient has another shape than what it is of, and
/// [`InterpretError::NoLogSumExp`].
pub fn interpret_backward(
    spec: &Spec,
    inputs: &Inputs,
    d_outputs: &[HostTensor],
    d_lse: Option<&HostTensor>,
) -> Result<ReferenceGradients, InterpretError> {
    check_form(spec)?;
    let Sizes { head_dim, dims: Dims { outputs: output_dims, .. }, .. } = check(spec, inputs)?;
    if d_lse.is_some() && !spec.has_lse() {
        return Err(InterpretError::NoLogSumExp { name: spec.name.clone() });
    }
    // An accumulator that a comptime scalar takes away has no gradient.
    let spec = &with_products_once(spec.pruned(&Constants::new(spec, inputs.scalars, head_dim)).into_owned());
    check_pruned(spec)?;
    let sizes = check(spec, inputs)?;
    let Sizes { batch, heads, queries, ref dims, .. } = sizes;
    if d_outputs.len() != spec.outputs.len() {
        let (given, expected, name) = (d_outputs.len(), spec.outputs.len(), spec.name.clone());
        return Err(InterpretError::Count { what: "gradients of outputs", given, expected, name });
    }
    for (d_out, dim) in d_outputs.iter().zip(&output_dims) {
        let of_out = [batch, heads, queries, *dim];
        expect("d_out", d_out, d_out.shape == of_out, || format!("{of_out:?}"))?;
    }
    if let Some(d_lse) = d_lse {
        let of_lse = [batch, heads, queries];
        expect("d_lse", d_lse, d_lse.shape == of_lse, || format!("{of_lse:?}"))?;
    }

    let scalars: Vec<Value> = inputs.scalars.iter().map(|&value| value.into()).collect();
    let keys = key_sets(spec, inputs);
    let loops = masked_pushes(spec);
    let mut rows: Vec<Row> = spec.accumulators.iter().map(|_| Row::default()).collect();
    let mut results: Vec<Vec<f64>> = dims.accumulators.iter().map(|dim| vec![0.0; *dim]).collect();
    let mut walk = Backward { spec, inputs, gradients: ReferenceGradients::zeros(spec, inputs) };
    for b in 0..batch {
        for h in 0..heads {
            let mut at = Environment { keys: &keys, scalars: &scalars, ..environment(spec, inputs, &sizes, b, h) };
            for i in 0..queries {
                at.query = inputs.query_offset + i as i64;
                let place = Place { b, h, heads };
                fill_rows(spec, inputs, &loops, &place, i, &mut at, &mut rows)?;
                for ((accumulator, row), result) in spec.accumulators.iter().zip(&rows).zip(&mut results) {
                    row.reduce(&accumulator.kind, result);
                }
                let nth_row = (b * heads + h) * queries + i;
                let mut d_results: Vec<Vec<f64>> = results.iter().map(|result| vec![0.0; result.len()]).collect();
                for (nth, (d_out, dim)) in d_outputs.iter().zip(&output_dims).enumerate() {
                    let d_row = &d_out.data[nth_row * dim..][..*dim];
                    walk.output(&spec.outputs[nth], &place, i, &at, (&results, &mut d_results), d_row)?;
                }
                let d_lse = d_lse.map_or(0.0, |d_lse| d_lse.data[nth_row]);
                for ((accumulator, row), d_result) in spec.accumulators.iter().zip(&rows).zip(&d_results) {
                    walk.accumulator(&accumulator.kind, row, d_result, d_lse, &place, i, &at)?;
                }
            }
        }
    }
    Ok(walk.gradients)
}

/// `spec` with one value for each product, also where it is written twice: the two are never different, so that `max` of both is no kink.
fn with_products_once(mut spec: Spec) -> Spec {
    for one in &mut spec.loops {
        let dots = one.dots.clone();
        let first = |place: usize| {
            let same = dots.get(place).and_then(|dot| dots.iter().position(|other| other == dot));
            Expr::Value(same.unwrap_or(place))
        };
        for push in &mut one.pushes {
            push.score = push.score.map_values(&first);
            push.weight = push.weight.as_ref().map(|weight| weight.map_values(&first));
        }
    }
    spec
}

impl ReferenceGradients {
    fn zeros(spec: &Spec, inputs: &Inputs) -> ReferenceGradients {
        let zeros =
            |tensor: &HostTensor| HostTensor { shape: tensor.shape.clone(), data: vec![0.0; tensor.data.len()] };
        let of_tensors = spec.tensors.iter().zip(inputs.tensors);
        let has_gradient = |param: &ScalarParam| param.ty.ty() == Type::Float && !param.comptime;
        ReferenceGradients {
            operands: inputs.operands.iter().map(zeros).collect(),
            tensors: of_tensors.map(|(param, of)| (param.ty.ty() == Type::Float).then(|| zeros(of))).collect(),
            scalars: spec.scalars.iter().map(|param| has_gradient(param).then_some(0.0)).collect(),
            scale: 0.0,
        }
    }
}

/// The gradients so far, and what they are of.
struct Backward<'a> {
    spec: &'a Spec,
    inputs: &'a Inputs<'a>,
    gradients: ReferenceGradients,
}

impl Backward<'_> {
    /// From the gradient of a row of an output to those of the accumulators' results, to which it adds, and of what else the output is of.
    fn output(
        &mut self,
        output: &Expr,
        place: &Place,
        i: usize,
        at: &Environment,
        (results, d_results): (&[Vec<f64>], &mut [Vec<f64>]),
        d_row: &[f64],
    ) -> Result<(), InterpretError> {
        let (spec, inputs) = (self.spec, self.inputs);
        let along_queries: Vec<usize> = spec.operands_of(Role::Query).map(|(place, _)| place).collect();
        let of_queries = along_queries.iter().map(|operand| place.row(&inputs.operands[*operand], i));
        let made_of: Vec<&[f64]> = results.iter().map(|result| &result[..]).chain(of_queries).collect();
        for (element, d_element) in d_row.iter().enumerate() {
            // What has another number of elements is not part of the output, as was checked.
            let of_row = |row: &&[f64]| if row.len() == d_row.len() { row[element] } else { 0.0 };
            let values: Vec<f64> = made_of.iter().map(of_row).collect();
            self.pass_on(output, *d_element, &Environment { values: &values, ..*at }, |gradients, value, d| {
                match d_results.get_mut(value) {
                    Some(d_result) => d_result[element] += d,
                    None => {
                        let operand = along_queries[value - results.len()];
                        let row = place.range(&inputs.operands[operand], i);
                        gradients.operands[operand].data[row][element] += d;
                    }
                }
            })?;
        }
        Ok(())
    }

    /// From the gradients of an accumulator's result and log-sum-exp, for query `i`, to those of everything that was pushed.
    #[allow(clippy::too_many_arguments, reason = "a row, its gradients and where it is")]
    fn accumulator(
        &mut self,
        kind: &Accumulator,
        row: &Row,
        d_result: &[f64],
        d_lse: f64,
        place: &Place,
        i: usize,
        at: &Environment,
    ) -> Result<(), InterpretError> {
        let d_value = |pair: &Pair| dot(d_result, pair.values);
        // For each pair the gradients of its score and of its factor, and what the gradient of its value is of the result's.
        match kind {
            Accumulator::Softmax { sink } => {
                let max = row.maximum();
                let scores = row.pairs.iter().map(|pair| pair.score).chain(row.sink);
                let sum: f64 = scores.map(|score| weigh(score, max)).sum();
                let share = |score: f64| weigh(score, max) / sum;
                // A key whose score is −∞ is hidden: what it holds reaches nothing.
                let seen = || row.pairs.iter().filter(|pair| pair.score != f64::NEG_INFINITY);
                let mean: f64 = seen().map(|pair| share(pair.score) * pair.factor * d_value(pair)).sum();
                for pair in seen() {
                    let (p, dp) = (share(pair.score), d_value(pair));
                    let d_score = p * (pair.factor * dp - mean + d_lse);
                    self.pair(pair, (d_score, p * dp, p * pair.factor), d_result, place, i, at)?;
                }
                // The sink has no value.
                if let (Some(expr), Some(logit)) = (sink, row.sink)
                    && logit != f64::NEG_INFINITY
                {
                    self.pass_on(expr, share(logit) * (d_lse - mean), at, |_, _, _| {})?;
                }
            }
            Accumulator::Sum => {
                for pair in &row.pairs {
                    let dp = d_value(pair);
                    let of_value = pair.score * pair.factor;
                    self.pair(pair, (pair.factor * dp, pair.score * dp, of_value), d_result, place, i, at)?;
                }
            }
            Accumulator::Mean => {
                let sum: f64 = row.pairs.iter().map(|pair| pair.score).sum();
                if sum == 0.0 {
                    return Ok(());
                }
                let mean = row.pairs.iter().map(|pair| pair.score * pair.factor * d_value(pair)).sum::<f64>() / sum;
                for pair in &row.pairs {
                    let (share, dp) = (pair.score / sum, d_value(pair));
                    let d_weight = (pair.factor * dp - mean) / sum;
                    self.pair(pair, (d_weight, share * dp, share * pair.factor), d_result, place, i, at)?;
                }
            }
        }
        Ok(())
    }

    /// From the gradients of a pair's score and factor, and its value's share of the result's, to those of what they are made of.
    fn pair(
        &mut self,
        pair: &Pair,
        (d_score, d_factor, of_value): (f64, f64, f64),
        d_result: &[f64],
        place: &Place,
        i: usize,
        at: &Environment,
    ) -> Result<(), InterpretError> {
        let (spec, inputs) = (self.spec, self.inputs);
        let key_loop = &spec.loops[pair.push.0];
        let Push { score, weight, values, .. } = &key_loop.pushes[pair.push.1];
        let d_values = &mut self.gradients.operands[*values].data[place.range(&inputs.operands[*values], pair.key)];
        add(d_values, of_value, d_result);

        let key = at.keys[key_loop.set].offset + pair.key as i64;
        let at = Environment { key, values: &pair.products, ..*at };
        let product = |gradients: &mut ReferenceGradients, nth: usize, d: f64| {
            let of = key_loop.dots[nth];
            let (query, key) = (&inputs.operands[of.query], &inputs.operands[of.key]);
            add(&mut gradients.operands[of.query].data[place.range(query, i)], d, place.row(key, pair.key));
            add(&mut gradients.operands[of.key].data[place.range(key, pair.key)], d, place.row(query, i));
        };
        self.pass_on(score, d_score, &at, product)?;
        weight.as_ref().map_or(Ok(()), |weight| self.pass_on(weight, d_factor, &at, product))
    }

    /// Adds what the gradient `d` of `expr` gives to those of scalars, captured tensors and the scale, and by `to_value` to those of the
    /// values that it counts in. A gradient of zero gives nothing, whatever the derivatives are, and the other way round: results of
    /// rows that see nothing are zeros.
    fn pass_on(
        &mut self,
        expr: &Expr,
        d: f64,
        at: &Environment,
        mut to_value: impl FnMut(&mut ReferenceGradients, usize, f64),
    ) -> Result<(), InterpretError> {
        if d == 0.0 {
            return Ok(());
        }
        let dual = differentiate(expr, at).map_err(|error| locate(self.spec, error, at))?;
        let gradients = &mut self.gradients;
        let derivatives = dual.into_iter().flat_map(|dual| dual.derivatives);
        for (leaf, derivative) in derivatives.filter(|(_, derivative)| *derivative != 0.0) {
            let d = d * derivative;
            match leaf {
                Leaf::Value(value) => to_value(gradients, value, d),
                Leaf::Scale => gradients.scale += d,
                Leaf::Scalar(scalar) => {
                    if let Some(sum) = &mut gradients.scalars[scalar] {
                        *sum += d;
                    }
                }
                Leaf::Element { tensor, place } => {
                    if let Some(sum) = &mut gradients.tensors[tensor] {
                        sum.data[place] += d;
                    }
                }
            }
        }
        Ok(())
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Adds `factor * of` to `to`, which may be longer.
fn add(to: &mut [f64], factor: f64, of: &[f64]) {
    for (to, of) in to.iter_mut().zip(of) {
        *to += factor * of;
    }
}
