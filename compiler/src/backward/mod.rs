//! The derivative of an attention, as programs of the same kind.
//!
//! From a forward program, as it is after its dots are joined, [`differentiate`] makes one over rows alone, one with rows of queries, which
//! gives the gradients of what lies along queries, and for each set of keys one with rows of keys, which gives those of keys and values. For
//! one softmax o = Σ p·v with p = exp(f(s) − lse) the last two are
//!
//! ```text
//! for i in tiles(S)                                     for j in tiles(T0)
//!   for j in tiles(T0)                                    for i in tiles(S) of each head
//!     s = dot q, k[j]                                       s = dot k, q[i]
//!     dp = dot d_out, v[j]                                  dp = dot v, d_out[i]
//!     ds = map exp(f(s) - lse[i]) * (dp - delta[i]) * f'(s)   ds = …
//!     ds = mask ds where …                                  p = map exp(f(s) - lse[i])
//!     d_q = push ds, k[j]                                   d_k = push ds, q[i]
//!   store d_q                                               d_v = push p, d_out[i]
//!                                                         store d_k  store d_v
//! ```
//!
//! with delta = Σ dO·O of each row (Dao et al., "FlashAttention", 2022, appendix B.2; FlashAttention-2, 2023, §3.1), which the program over rows
//! gives, as one of the [`RowNumbers`] of each accumulator. That program has the derivative of the outputs' expressions too: the gradient of
//! each accumulator's result, where no output's is that, and what operands along queries have from outputs that are of them.
//!
//! A score of several products, weights after the softmax, other accumulators and several loops follow the same rules:
//!
//! | accumulator | pushed f with factor g | d f | d g | weight of dV |
//! |---|---|---|---|---|
//! | `Softmax` | p = exp(f − lse) | p (g·dp − delta) | p·dp | p·g |
//! | `Sum` | f | g·dp | f·dp | f·g |
//! | `Mean` | f / Z | (g·dp − delta) / Z | f·dp / Z | f·g / Z |
//!
//! Numbers of rows are to base 2 for a softmax, so that the weight is one power of two; of a row that sees nothing the log-sum-exp is given
//! as the greatest number, and its weights are zero. Pairs that are hidden weigh nothing in any push, whatever they hold.
//!
//! The gradient of something captured, a tensor, a scalar or `scale()`, is the sum of what each pair and each row has of it: of a pair
//! d f · ∂f/∂x and d g · ∂g/∂x, of a row what its outputs have, and what a sink has, which is a score without values. So there is a program of
//! pairs and one of rows. Neither has accumulators: they add to a sum for each element, as in `add ds to slope[head()]`.

mod body;
pub mod derivative;
mod derive;
mod loops;
mod rows;

use self::derive::Derive;
use crate::ir::{Axis, Captured, Program, RowNumber};
use thiserror::Error;

/// The programs that give an attention's gradients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backward {
    /// The program over rows alone, which is run first: it gives numbers of rows, the gradients of accumulators, and what operands along
    /// queries have from the outputs that are of them.
    pub rows: Option<Derived>,
    /// The program that gives the gradients of what lies along queries, if any is wanted.
    pub queries: Option<Derived>,
    /// That of each set of keys, those that have one.
    pub keys: Vec<Derived>,
    /// The programs whose sum is the gradient of something captured, for each that is wanted: one of pairs, one of rows alone, or both.
    pub captured: Vec<Derived>,
}

impl Backward {
    /// All programs, in the order in which they are run.
    pub fn programs(&self) -> impl Iterator<Item = &Derived> {
        self.rows.iter().chain(&self.queries).chain(&self.keys).chain(&self.captured)
    }

    /// All programs likewise.
    pub(crate) fn programs_mut(&mut self) -> impl Iterator<Item = &mut Derived> {
        self.rows.iter_mut().chain(&mut self.queries).chain(&mut self.keys).chain(&mut self.captured)
    }
}

/// A program of a backward pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Derived {
    /// The program.
    pub program: Program,
    /// What its operands are.
    pub operands: Vec<Source>,
    /// What its numbers of rows are.
    pub numbers: Vec<RowNumbers>,
    /// What its outputs are. An operand's gradient is the sum of all that are [of it](Given::Gradient), in all programs: one of fewer elements
    /// a row is of the first of them, and one of more heads is summed over those that share a head. Of what is captured likewise.
    pub outputs: Vec<Given>,
}

/// What an operand of a derived program is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// An operand of the attention, by its place.
    Operand(usize),
    /// The result of an accumulator, as the forward pass [keeps](crate::ir::Kept::Each) it.
    Accumulator(usize),
    /// The gradient of an output.
    OutputGradient(usize),
    /// The gradient of an accumulator's result, of the [program over rows](Backward::rows).
    AccumulatorGradient(usize),
}

/// What an output of a derived program is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Given {
    /// A part of the gradient of an operand of the attention.
    Gradient(usize),
    /// A part of the gradient of something captured.
    Captured(Captured),
    /// The gradient of an accumulator's result.
    AccumulatorGradient(usize),
    /// A number of each row.
    Number(RowNumbers),
}

/// A number of each row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowNumbers {
    /// A number that the forward pass [keeps](crate::ir::Kept::Each) of an accumulator.
    Kept(usize, RowNumber),
    /// What is wanted of an accumulator's log-sum-exp.
    LseGradient(usize),
    /// A softmax's log-sum-exp to base 2, and the greatest number where that is −∞.
    LogSumExp(usize),
    /// Σ dA·A of an accumulator, less what is wanted of its log-sum-exp.
    Delta(usize),
    /// 1 / Z of a mean, and 0 where Z is 0.
    Inverse(usize),
}

/// Why a program has no derivative.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BackwardError {
    /// It is one that has no rows of queries.
    #[error("`{0}` has no rows of queries, expected a forward program")]
    NotForward(String),
}

/// What is asked of a backward pass.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Wanted {
    /// Of which operands the gradients are wanted, in the order of the attention's.
    pub operands: Vec<bool>,
    /// Of what is captured likewise.
    pub captured: Vec<Captured>,
    /// Whether there is a gradient of the log-sum-exp.
    pub of_lse: bool,
}

impl Wanted {
    fn has(&self, operand: usize) -> bool {
        self.operands.get(operand).copied().unwrap_or(false)
    }
}

/// The programs that give the gradients of what is `wanted`, of the operands of `forward` and of what it captures.
///
/// `forward` is a program as [simplified](crate::passes::simplify_expressions), with softmaxes to base e.
///
/// # Errors
/// [`BackwardError`] where it has no rows of queries.
pub fn differentiate(forward: &Program, wanted: &Wanted) -> Result<Backward, BackwardError> {
    if forward.rows != Axis::Queries {
        return Err(BackwardError::NotForward(forward.name.clone()));
    }
    let derive = Derive::new(forward);
    let queries = derive.program(Axis::Queries, wanted);
    let keys = (0..forward.key_sets()).filter_map(|set| derive.program(Axis::Keys(set), wanted)).collect();
    let of_captured = |captured: &Captured| [derive.captured_in_pairs(*captured), derive.captured_in_rows(*captured)];
    let captured = wanted.captured.iter().flat_map(of_captured).flatten().collect();
    let mut backward = Backward { rows: None, queries, keys, captured };
    backward.rows = derive.over_rows(wanted, &backward);
    Ok(backward)
}

#[cfg(test)]
mod tests {
    use super::{Wanted, differentiate};
    use crate::ir::Captured;
    use crate::ir::parse::parse;
    use crate::ir::verify::verify;
    use crate::passes::PASSES;

    /// Programs after all passes, as text, with the gradients of what is `captured`.
    fn derived(forward: &str, captured: &[Captured]) -> String {
        let forward = parse(forward).unwrap();
        let (operands, captured) = (vec![true; forward.operands.len()], captured.to_vec());
        let wanted = Wanted { operands, captured, of_lse: false };
        let backward = differentiate(&forward, &wanted).unwrap();
        let mut texts = Vec::new();
        for derived in backward.programs() {
            let mut program = derived.program.clone();
            assert_eq!(verify(&program), Ok(()), "{program}");
            for pass in PASSES {
                (pass.run)(&mut program);
                assert_eq!(verify(&program), Ok(()), "{program}");
            }
            assert_eq!(parse(&program.to_string()).as_ref(), Ok(&program));
            texts.push(program.to_string());
        }
        texts.join("\n")
    }

    const WINDOW: &str = "\
attention @window_backward_rows(window: u32) -> f32[B, H, S, 1], f32[B, H, S, 1]
  r#o: f32[B, H, S, 64]  d_out: f32[B, H, S, 64]
  lse: f32[B, H, S]
  for i in tiles(S)
    r#o = load r#o[i]
    d_out = load d_out[i]
    delta = sum of d_out * r#o
    store if lse[i] < -3.4028235e38 { 3.4028235e38 } else { lse[i] * 1.442695 }
    store delta

attention @window_backward_queries(window: u32) -> f32[B, H, S, 64]
  q: f32[B, H, S, 64]
  k: f32[B, G, T0, 64]  v: f32[B, G, T0, 64]
  d_out: f32[B, H, S, 64]
  lse: f32[B, H, S]  delta: f32[B, H, S]
  for i in tiles(S)
    d_q = sum
    q = load q[i] * (scale() * 1.442695)
    d_out = load d_out[i]
    for j in tiles(T0) from i0 - window + 1 to i1 + 1 if window >= 1
        full from i1 - window + 1 to i0 + 1
      s = dot q, k[j]
      dp = dot d_out, v[j]
      ds = map exp2(s - lse[i]) * (dp - delta[i])
      ds = mask ds where j <= i && i - j < window on partial
      d_q = push ds, k[j]
    store d_q * scale()

attention @window_backward_keys(window: u32) -> f32[B, G, T0, 64], f32[B, G, T0, 64]
  q: f32[B, H, S, 64]
  k: f32[B, G, T0, 64]  v: f32[B, G, T0, 64]
  d_out: f32[B, H, S, 64]
  lse: f32[B, H, S]  delta: f32[B, H, S]
  for j in tiles(T0)
    d_k = sum
    d_v = sum
    k = load k[j] * (scale() * 1.442695)
    v = load v[j]
    for i in tiles(S) of each head from j0 to j1 + window if window >= 1
        full from j1 to j0 + window
      s = dot k, q[i]
      dp = dot v, d_out[i]
      ds = map exp2(s - lse[i]) * (dp - delta[i])
      ds = mask ds where j <= i && i - j < window on partial
      p = map exp2(s - lse[i])
      p = mask p where j <= i && i - j < window on partial
      d_k = push ds, q[i]
      d_v = push p, d_out[i]
    store d_k * scale()
    store d_v
";

    #[test]
    fn a_window() {
        let forward = "\
attention @window(window: u32) -> f32[B, H, S, 64]
  q: f32[B, H, S, 64]
  k: f32[B, G, T0, 64]  v: f32[B, G, T0, 64]
  for i in tiles(S)
    o = softmax base e
    q = load q[i]
    for j in tiles(T0)
      s = dot q, k[j]
      s = map s * scale()
      s = mask s where j <= i && i - j < window on all
      o = push s, v[j]
    store o
";
        assert_eq!(derived(forward, &[]), WINDOW);
    }

    /// Two accumulators, of which the output is an expression, with a sink, and what is captured by each form of index.
    #[test]
    fn an_output_expression_and_what_is_captured() {
        let forward = "\
attention @both(cap: f32, bias: Tensor<f32, 2>, logit: Tensor<f32, 1>, gain: Tensor<f32, 1>) -> f32[B, H, S, 8]
  q: f32[B, H, S, 4]  gate: f32[B, H, S, 8]
  k: f32[B, G, T0, 4]  v: f32[B, G, T0, 8]
  for i in tiles(S)
    a = softmax base e sink logit[head()]
    m = mean
    q = load q[i]
    gate = load gate[i]
    for j in tiles(T0)
      s = dot q, k[j]
      w = map exp(s)
      s = map s * scale() + bias[i][j] * cap
      s = mask s where j <= i on all
      a = push s, v[j]
      m = push w, v[j]
    store a * sigmoid(gate) - gain[head()] * m
";
        let captured =
            [Captured::Tensor(0), Captured::Tensor(1), Captured::Tensor(2), Captured::Scalar(0), Captured::Scale];
        assert_eq!(derived(forward, &captured), BOTH);
    }

    const BOTH: &str = "\
attention @both_backward_rows(cap: f32, bias: Tensor<f32, 2>, logit: Tensor<f32, 1>, gain: Tensor<f32, 1>) -> f32[B, H, S, 1], f32[B, H, S, 1], f32[B, H, S, 8], f32[B, H, S, 1], f32[B, H, S, 1], f32[B, H, S, 8], f32[B, H, S, 8]
  gate: f32[B, H, S, 8]  a: f32[B, H, S, 8]  m: f32[B, H, S, 8]  d_out: f32[B, H, S, 8]
  lse_a: f32[B, H, S]  sum_of_m: f32[B, H, S]
  for i in tiles(S)
    gate = load gate[i]
    a = load a[i]
    m = load m[i]
    d_out = load d_out[i]
    delta_a = sum of if a == 0.0 { 0.0 } else { sigmoid(gate) * d_out * a }
    delta_m = sum of -gain[head()] * d_out * m
    store if lse_a[i] < -3.4028235e38 { 3.4028235e38 } else { lse_a[i] * 1.442695 }
    store delta_a
    store sigmoid(gate) * d_out
    store if sum_of_m[i] == 0.0 { 0.0 } else { 1.0 / sum_of_m[i] }
    store delta_m
    store -gain[head()] * d_out
    store if a * (sigmoid(gate) * (1.0 - sigmoid(gate))) == 0.0 { 0.0 } else { a * (sigmoid(gate) * (1.0 - sigmoid(gate))) * d_out }

attention @both_backward_queries(cap: f32, bias: Tensor<f32, 2>, logit: Tensor<f32, 1>, gain: Tensor<f32, 1>) -> f32[B, H, S, 4]
  q: f32[B, H, S, 4]
  k: f32[B, G, T0, 4]  v: f32[B, G, T0, 8]
  d_a: f32[B, H, S, 8]  d_m: f32[B, H, S, 8]
  lse_a: f32[B, H, S]  delta_a: f32[B, H, S]  inverse_m: f32[B, H, S]  delta_m: f32[B, H, S]
  for i in tiles(S)
    d_q = sum
    q = load q[i]
    d_a = load d_a[i]
    d_m = load d_m[i]
    for j in tiles(T0)
        full to i0 + 1
      s = dot q, k[j]
      dp = dot d_a, v[j]
      dp2 = dot d_m, v[j]
      ds = map exp2((s * scale() + bias[i][j] * cap) * 1.442695 - lse_a[i]) * (dp - delta_a[i]) * scale()
      ds = mask ds where j <= i on partial
      ds2 = map (dp2 - delta_m[i]) * inverse_m[i] * exp(s)
      d_q = push ds, k[j]
      d_q = push ds2, k[j]
    store d_q

attention @both_backward_keys(cap: f32, bias: Tensor<f32, 2>, logit: Tensor<f32, 1>, gain: Tensor<f32, 1>) -> f32[B, G, T0, 4], f32[B, G, T0, 8]
  q: f32[B, H, S, 4]
  k: f32[B, G, T0, 4]  v: f32[B, G, T0, 8]
  d_a: f32[B, H, S, 8]  d_m: f32[B, H, S, 8]
  lse_a: f32[B, H, S]  delta_a: f32[B, H, S]  inverse_m: f32[B, H, S]  delta_m: f32[B, H, S]
  for j in tiles(T0)
    d_k = sum
    d_v = sum
    k = load k[j]
    v = load v[j]
    for i in tiles(S) of each head
        full from j1
      s = dot k, q[i]
      dp = dot v, d_a[i]
      dp2 = dot v, d_m[i]
      ds = map exp2((s * scale() + bias[i][j] * cap) * 1.442695 - lse_a[i]) * (dp - delta_a[i]) * scale()
      ds = mask ds where j <= i on partial
      p = map exp2((s * scale() + bias[i][j] * cap) * 1.442695 - lse_a[i])
      p = mask p where j <= i on partial
      ds2 = map (dp2 - delta_m[i]) * inverse_m[i] * exp(s)
      p2 = map exp(s) * inverse_m[i]
      d_k = push ds, q[i]
      d_v = push p, d_a[i]
      d_k = push ds2, q[i]
      d_v = push p2, d_m[i]
    store d_k
    store d_v

attention @both_backward_bias_of_pairs(cap: f32, bias: Tensor<f32, 2>, logit: Tensor<f32, 1>, gain: Tensor<f32, 1>) -> like bias
  q: f32[B, H, S, 4]
  k: f32[B, G, T0, 4]  v: f32[B, G, T0, 8]
  d_a: f32[B, H, S, 8]
  lse_a: f32[B, H, S]  delta_a: f32[B, H, S]
  for i in tiles(S)
    q = load q[i] * (scale())
    d_a = load d_a[i]
    for j in tiles(T0) to i1 + 1
        full to i0 + 1
      s = dot q, k[j]
      dp = dot d_a, v[j]
      ds = map exp2((s + bias[i][j] * cap) * 1.442695 - lse_a[i]) * (dp - delta_a[i]) * cap
      ds = mask ds where j <= i on partial
      add ds to bias[i][j]
    store like bias

attention @both_backward_logit_of_rows(cap: f32, bias: Tensor<f32, 2>, logit: Tensor<f32, 1>, gain: Tensor<f32, 1>) -> like logit
  lse_a: f32[B, H, S]  delta_a: f32[B, H, S]
  for i in tiles(S)
    add exp2(logit[head()] * 1.442695 - lse_a[i]) * -delta_a[i] to logit[head()]
    store like logit

attention @both_backward_gain_of_rows(cap: f32, bias: Tensor<f32, 2>, logit: Tensor<f32, 1>, gain: Tensor<f32, 1>) -> like gain
  m: f32[B, H, S, 8]  d_out: f32[B, H, S, 8]
  for i in tiles(S)
    m = load m[i]
    d_out = load d_out[i]
    lost = sum of if -m == 0.0 { 0.0 } else { -m * d_out }
    add lost to gain[head()]
    store like gain

attention @both_backward_cap_of_pairs(cap: f32, bias: Tensor<f32, 2>, logit: Tensor<f32, 1>, gain: Tensor<f32, 1>) -> like cap
  q: f32[B, H, S, 4]
  k: f32[B, G, T0, 4]  v: f32[B, G, T0, 8]
  d_a: f32[B, H, S, 8]
  lse_a: f32[B, H, S]  delta_a: f32[B, H, S]
  for i in tiles(S)
    q = load q[i] * (scale())
    d_a = load d_a[i]
    for j in tiles(T0) to i1 + 1
        full to i0 + 1
      s = dot q, k[j]
      dp = dot d_a, v[j]
      ds = map exp2((s + bias[i][j] * cap) * 1.442695 - lse_a[i]) * (dp - delta_a[i]) * bias[i][j]
      ds = mask ds where j <= i on partial
      add ds to cap
    store like cap

attention @both_backward_scale_of_pairs(cap: f32, bias: Tensor<f32, 2>, logit: Tensor<f32, 1>, gain: Tensor<f32, 1>) -> like scale()
  q: f32[B, H, S, 4]
  k: f32[B, G, T0, 4]  v: f32[B, G, T0, 8]
  d_a: f32[B, H, S, 8]
  lse_a: f32[B, H, S]  delta_a: f32[B, H, S]
  for i in tiles(S)
    q = load q[i]
    d_a = load d_a[i]
    for j in tiles(T0) to i1 + 1
        full to i0 + 1
      s = dot q, k[j]
      dp = dot d_a, v[j]
      ds = map exp2((s * scale() + bias[i][j] * cap) * 1.442695 - lse_a[i]) * (dp - delta_a[i]) * s
      ds = mask ds where j <= i on partial
      add ds to scale()
    store like scale()
";
}
