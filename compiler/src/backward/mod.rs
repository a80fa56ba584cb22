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
//! each accumulator's result, where no output's is that, and what operands along queries have from outputs that are of them. A score that is a sum of several products, weights after the softmax, other accumulators and several loops follow
//! the same rules:
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
//! d f · ∂f/∂x and d g · ∂g/∂x, of a row what its outputs have, and what a sink has, which is a score without values. So there is a program for
//! the pairs and one for the rows, whose loops have no accumulators, but add to sums for each element: `add ds to slope[head()]`.

mod body;
pub mod derivative;

use self::body::{Body, take_common_factors};
use self::derivative::{derivative, minus, plus, times};
use crate::analysis::simplify::simplify;
use crate::expr::{BinaryOp, Expr, UnaryOp};
use crate::ir::forward::Pushed;
use crate::ir::{
    Accumulator, Axis, Captured, DotTerm, Element, Heads, Kept, Load, Number, Operand, Output, Program, Reduction,
    RowAdd, RowNumber, RowSum, TileLoop, TileOp,
};
use crate::passes::simplify_expressions;
use crate::passes::use_base_two::times_log2_e;
use crate::typing::Parameters;
use std::borrow::Cow;
use std::collections::{BTreeSet, HashSet};
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
    /// a row is of the first of them, and one of more heads is summed over those that share a head.
    pub outputs: Vec<Given>,
}

/// What an operand of a derived program is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// An operand of the attention, by its place.
    Operand(usize),
    /// The result of an accumulator, as the forward pass [keeps](Kept::Each) it.
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
    /// A number that the forward pass [keeps](Kept::Each) of an accumulator.
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

/// The programs that give the gradients of the operands of `forward` that are `wanted`.
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

/// Names that are not taken.
#[derive(Clone)]
struct Names {
    taken: HashSet<String>,
}

impl Names {
    fn of(program: &Program) -> Names {
        let operands = program.operands.iter().map(|operand| operand.name.clone());
        let scalars = program.scalars.iter().map(|scalar| scalar.name.clone());
        let tensors = program.tensors.iter().map(|tensor| tensor.name.clone());
        Names { taken: operands.chain(scalars).chain(tensors).chain([program.name.clone()]).collect() }
    }

    /// `name`, or that with a number, which is then taken.
    fn fresh(&mut self, name: &str) -> String {
        let numbered = (2..).map(|number| format!("{name}{number}"));
        let mut names = std::iter::once(name.to_string()).chain(numbered);
        names.find(|name| self.taken.insert(name.clone())).unwrap_or_default()
    }
}

/// What derived programs are made of.
struct Derive<'a> {
    forward: &'a Program,
    /// All that derived programs may have for operands: those of the forward program come first, in its order.
    sources: Vec<(Source, Operand)>,
    /// The place in [`sources`](Self::sources) of the gradient of each accumulator's result.
    gradients: Vec<usize>,
    /// The numbers of rows that programs with loops have.
    numbers: Vec<RowNumbers>,
    /// What no tile may be called.
    names: Names,
}

/// What becomes of a push of the forward program, whose score and factor are expressions of its loop's products.
struct Pulled {
    /// The weight that its values have in the accumulator's result.
    weight: Expr,
    /// The derivative of what is lost by the score.
    of_score: Expr,
    score: Expr,
    /// The derivative of what is lost by the factor.
    of_factor: Expr,
    factor: Expr,
    /// Where it is visible.
    mask: Option<Expr>,
}

impl Pulled {
    /// The derivative of what is lost by a leaf of score and factor.
    fn by(&self, leaf: &Expr) -> Expr {
        let of_score = times(self.of_score.clone(), derivative(&self.score, leaf));
        plus(of_score, times(self.of_factor.clone(), derivative(&self.factor, leaf)))
    }
}

impl<'a> Derive<'a> {
    fn new(forward: &'a Program) -> Derive<'a> {
        let mut names = Names::of(forward);
        let of_queries =
            |name: String, element, dim| Operand { name, element, heads: Heads::Query, axis: Axis::Queries, dim };
        let element = forward.outputs[0].element;
        let mut sources: Vec<(Source, Operand)> = Vec::new();
        sources.extend(forward.operands.iter().cloned().enumerate().map(|(place, of)| (Source::Operand(place), of)));
        for (place, accumulator) in forward.accumulators.iter().enumerate() {
            let name = names.fresh(&accumulator.name);
            sources.push((Source::Accumulator(place), of_queries(name, element, forward.dim_of(place))));
        }
        for (place, output) in forward.outputs.iter().enumerate() {
            let name = if forward.outputs.len() == 1 { "d_out".into() } else { format!("d_out{place}") };
            let operand = of_queries(names.fresh(&name), output.element, output.dim);
            sources.push((Source::OutputGradient(place), operand));
        }
        let mut numbers = Vec::new();
        for (place, accumulator) in forward.accumulators.iter().enumerate() {
            match accumulator.reduction {
                Reduction::Softmax { .. } => numbers.extend([RowNumbers::LogSumExp(place), RowNumbers::Delta(place)]),
                Reduction::Mean => numbers.extend([RowNumbers::Inverse(place), RowNumbers::Delta(place)]),
                Reduction::Sum => {}
            }
        }
        let mut derive = Derive { forward, sources, gradients: Vec::new(), numbers, names };
        for (place, accumulator) in forward.accumulators.iter().enumerate() {
            // Where one output is the accumulator and no other is of it, that output's gradient is the accumulator's.
            let gradient = match derive.of_outputs(derive.place(Source::Accumulator(place))) {
                Expr::Value(of) => of,
                _ => {
                    let name = derive.names.fresh(&format!("d_{}", accumulator.name));
                    let operand = of_queries(name, element, forward.dim_of(place));
                    derive.sources.push((Source::AccumulatorGradient(place), operand));
                    derive.sources.len() - 1
                }
            };
            derive.gradients.push(gradient);
        }
        derive
    }

    /// The place of a source, which there is.
    fn place(&self, source: Source) -> usize {
        self.sources.iter().position(|(known, _)| *known == source).expect("a source is known")
    }

    fn operand(&self, source: usize) -> &Operand {
        &self.sources[source].1
    }

    /// The derivative of what is lost by an element of a source that outputs are of, in elements of sources.
    fn of_outputs(&self, source: usize) -> Expr {
        let losses = self.losses();
        let by_output = losses.iter().map(|of| times(derivative(&of.value, &Expr::Value(source)), of.lost.clone()));
        by_output.fold(Expr::float(0.0), plus)
    }

    /// The outputs and the derivatives of what is lost by them, in elements of sources.
    fn losses(&self) -> Vec<OutputLoss> {
        let accumulators = self.forward.accumulators.len();
        let at = |value: usize| match value.checked_sub(accumulators) {
            Some(load) => Expr::Value(self.forward.loads[load].operand),
            None => Expr::Value(self.place(Source::Accumulator(value))),
        };
        let outputs = self.forward.outputs.iter().enumerate();
        let losses = outputs.map(|(place, output)| OutputLoss {
            value: output.value.map_values(&at),
            lost: Expr::Value(self.place(Source::OutputGradient(place))),
        });
        losses.collect()
    }

    /// The program over rows alone, for the `others`; `None` where nothing is wanted of it.
    fn over_rows(&self, wanted: &Wanted, others: &Backward) -> Option<Derived> {
        let forward = self.forward;
        let is_read = |number: RowNumbers| others.programs().any(|derived| derived.numbers.contains(&number));
        let is_loaded = |source: Source| others.programs().any(|derived| derived.operands.contains(&source));
        let mut names = self.names.clone();
        let mut made = RowsMade { sums: Vec::new(), outputs: Vec::new(), numbers: Vec::new() };
        for (place, accumulator) in forward.accumulators.iter().enumerate() {
            let result = self.place(Source::Accumulator(place));
            let gradient = self.of_outputs(result);
            let number = |value, of| (Output { element: Element::F32, heads: Heads::Query, dim: 1, value }, of);
            let zero = || Expr::float(0.0);
            match accumulator.reduction {
                Reduction::Softmax { .. } if is_read(RowNumbers::LogSumExp(place)) => {
                    let lse = made.number(RowNumbers::Kept(place, RowNumber::LogSumExp));
                    let is_empty = Expr::binary(BinaryOp::Lt, lse.clone(), Expr::float(f32::MIN));
                    let lse = Expr::select(is_empty, Expr::float(f32::MAX), times_log2_e(&lse));
                    made.outputs.push(number(lse, Given::Number(RowNumbers::LogSumExp(place))));
                }
                Reduction::Mean if is_read(RowNumbers::Inverse(place)) => {
                    let sum = made.number(RowNumbers::Kept(place, RowNumber::Sum));
                    let is_empty = Expr::binary(BinaryOp::Eq, sum.clone(), zero());
                    let inverse = Expr::binary(BinaryOp::Div, Expr::float(1.0), sum);
                    let inverse = Expr::select(is_empty, zero(), inverse);
                    made.outputs.push(number(inverse, Given::Number(RowNumbers::Inverse(place))));
                }
                _ => {}
            }
            if is_read(RowNumbers::Delta(place)) {
                let mut delta = zero();
                let product = times(gradient.clone(), Expr::Value(result));
                if product != zero() {
                    let name = names.fresh(&self.number_name(RowNumbers::Delta(place)));
                    made.sums.push(RowSum { name, value: product });
                    delta = Expr::Value(self.sources.len() + made.sums.len() - 1);
                }
                if wanted.of_lse && accumulator.reduction.is_softmax() {
                    let of_lse = made.number(RowNumbers::LseGradient(place));
                    delta = minus(delta, of_lse);
                }
                made.outputs.push(number(delta, Given::Number(RowNumbers::Delta(place))));
            }
            let (source, operand) = &self.sources[self.gradients[place]];
            if matches!(source, Source::AccumulatorGradient(_)) && is_loaded(*source) {
                let Operand { element, heads, dim, .. } = *operand;
                let output = Output { element, heads, dim, value: gradient };
                made.outputs.push((output, Given::AccumulatorGradient(place)));
            }
        }
        for (place, operand) in forward.operands.iter().enumerate().filter(|(place, _)| wanted.has(*place)) {
            let value = if operand.axis == Axis::Queries { self.of_outputs(place) } else { Expr::float(0.0) };
            if value != Expr::float(0.0) {
                let Operand { element, heads, dim, .. } = *operand;
                made.outputs.push((Output { element, heads, dim, value }, Given::Gradient(place)));
            }
        }
        let RowsMade { sums, outputs, numbers } = made;
        if outputs.is_empty() {
            return None;
        }
        let (outputs, given) = outputs.into_iter().unzip();
        let mut program = Program {
            name: names.fresh(&format!("{}_backward_rows", forward.name)),
            scalars: forward.scalars.clone(),
            tensors: forward.tensors.clone(),
            numbers: numbers.iter().map(|number| self.declared(*number)).collect(),
            operands: self.sources.iter().map(|(_, operand)| operand.clone()).collect(),
            rows: Axis::Queries,
            accumulators: Vec::new(),
            loads: Vec::new(),
            sums,
            outputs,
            captured: None,
            adds: Vec::new(),
            loops: Vec::new(),
            kept: Kept::default(),
        };
        let operands = self.load_values(&mut program);
        Some(Derived { program, operands, numbers, outputs: given })
    }

    /// A program of sums like `captured`, with what it has of rows or of pairs.
    fn of_captured(&self, captured: Captured, of: &str, loops: Vec<TileLoop>) -> Program {
        let mut names = self.names.clone();
        let name = match captured {
            Captured::Tensor(place) => &self.forward.tensors[place].name,
            Captured::Scalar(place) => &self.forward.scalars[place].name,
            Captured::Scale => "scale",
        };
        Program {
            name: names.fresh(&format!("{}_backward_{name}_of_{of}", self.forward.name)),
            scalars: self.forward.scalars.clone(),
            tensors: self.forward.tensors.clone(),
            numbers: self.numbers.iter().map(|number| self.declared(*number)).collect(),
            operands: self.sources.iter().map(|(_, operand)| operand.clone()).collect(),
            rows: Axis::Queries,
            accumulators: Vec::new(),
            loads: Vec::new(),
            sums: Vec::new(),
            outputs: Vec::new(),
            captured: Some(captured),
            adds: Vec::new(),
            loops,
            kept: Kept::default(),
        }
    }

    /// The program that adds what each pair has to the gradient of `captured`; `None` where no score and no factor is of it.
    fn captured_in_pairs(&self, captured: Captured) -> Option<Derived> {
        let loops: Vec<TileLoop> = self.forward.loops.iter().filter_map(|one| self.add_loop(captured, one)).collect();
        if loops.is_empty() {
            return None;
        }
        let mut program = self.of_captured(captured, "pairs", loops);
        simplify_expressions(&mut program);
        let operands = self.load_what_is_used(&mut program);
        let numbers = self.keep_numbers(&mut program);
        Some(Derived { program, operands, numbers, outputs: vec![Given::Captured(captured)] })
    }

    /// The loop that adds what the pairs of `one` have to the gradient of `captured`.
    fn add_loop(&self, captured: Captured, one: &TileLoop) -> Option<TileLoop> {
        let (dots, pushes) = (one.dots(), one.pushes_of_tiles());
        let mut body = Body { dots: dots.clone(), scores: dots.len(), ..Body::default() };
        for push in &pushes {
            let product = DotTerm { row: self.gradients[push.accumulator], column: push.values, dim: push.dim };
            let known = body.dots[dots.len()..].iter().position(|terms| *terms == [product]);
            let place = known.unwrap_or(body.dots.len() - dots.len());
            if known.is_none() {
                body.dots.push(vec![product]);
            }
            let pulled = self.pull(push, &Expr::Value(dots.len() + place));
            for element in elements_of(captured, [&pulled.score, &pulled.factor]) {
                let lost = self.simplified(&pulled.by(&element), body.dots.len());
                if lost != Expr::float(0.0) {
                    let map = body.map("ds", lost, &pulled.mask);
                    body.adds.push((map, element));
                }
            }
        }
        (!body.adds.is_empty()).then(|| body.into_loop(self, one.columns, false))
    }

    /// The program that adds what each row has to the gradient of `captured`; `None` where no sink and no output is of it.
    fn captured_in_rows(&self, captured: Captured) -> Option<Derived> {
        let forward = self.forward;
        let mut names = self.names.clone();
        names.taken.extend(self.numbers.iter().map(|number| self.declared(*number).name));
        let (mut sums, mut adds) = (Vec::new(), Vec::new());
        let values = self.sources.len();
        for output in self.losses() {
            for element in elements_of(captured, [&output.value]) {
                let value = times(derivative(&output.value, &element), output.lost.clone());
                if value != Expr::float(0.0) {
                    adds.push(RowAdd { value: Expr::Value(values + sums.len()), element });
                    sums.push(RowSum { name: names.fresh("lost"), value });
                }
            }
        }
        for (place, accumulator) in forward.accumulators.iter().enumerate() {
            let Some(sink) = accumulator.reduction.sink() else { continue };
            for element in elements_of(captured, [sink]) {
                // A sink is a score without values: of the product of those and of the gradient nothing is left.
                let power = minus(times_log2_e(sink), self.number(RowNumbers::LogSumExp(place)));
                let weight = Expr::unary(UnaryOp::Exp2, power);
                let lost = times(weight, minus(Expr::float(0.0), self.number(RowNumbers::Delta(place))));
                adds.push(RowAdd { value: times(lost, derivative(sink, &element)), element });
            }
        }
        if adds.is_empty() {
            return None;
        }
        let mut program = Program { sums, adds, ..self.of_captured(captured, "rows", Vec::new()) };
        let operands = self.load_values(&mut program);
        simplify_expressions(&mut program);
        let numbers = self.keep_numbers(&mut program);
        Some(Derived { program, operands, numbers, outputs: vec![Given::Captured(captured)] })
    }

    fn number(&self, wanted: RowNumbers) -> Expr {
        let place = self.numbers.iter().position(|number| *number == wanted);
        Expr::Number(place.expect("each accumulator has its numbers"))
    }

    /// The derivative of `push`, where `dp`, the product of its accumulator's gradient and its values, is a value too.
    fn pull(&self, push: &Pushed, dp: &Expr) -> Pulled {
        let Pushed { accumulator, score, mask, factor, .. } = push;
        let factor = factor.clone().unwrap_or_else(|| Expr::float(1.0));
        let weighted = times(factor.clone(), dp.clone());
        // What f is multiplied by in the result, f's own derivative, and what the factor's derivative is multiplied by.
        let (weight, of_score, of_factor) = match &self.forward.accumulators[*accumulator].reduction {
            Reduction::Softmax { .. } => {
                let power = minus(times_log2_e(score), self.number(RowNumbers::LogSumExp(*accumulator)));
                let weight = Expr::unary(UnaryOp::Exp2, power);
                let lost = minus(weighted, self.number(RowNumbers::Delta(*accumulator)));
                (weight.clone(), times(weight.clone(), lost), times(weight, dp.clone()))
            }
            Reduction::Sum => (score.clone(), weighted, times(score.clone(), dp.clone())),
            Reduction::Mean => {
                let inverse = self.number(RowNumbers::Inverse(*accumulator));
                let lost = minus(weighted, self.number(RowNumbers::Delta(*accumulator)));
                let weight = times(score.clone(), inverse.clone());
                (weight.clone(), times(lost, inverse), times(weight, dp.clone()))
            }
        };
        let weight = times(weight, factor.clone());
        let mask = mask.as_ref().map(|(visible, _)| visible.clone());
        Pulled { weight, of_score, score: score.clone(), of_factor, factor, mask }
    }

    /// An expression of so many products, as [`simplify`] has it: of what is zero nothing is made.
    fn simplified(&self, expr: &Expr, products: usize) -> Expr {
        let numbers: Vec<Number> = self.numbers.iter().map(|number| self.declared(*number)).collect();
        let values = vec![Cow::Borrowed("s"); products];
        let Program { scalars, tensors, .. } = self.forward;
        simplify(expr, Parameters { scalars, tensors, values: &values, numbers: &numbers })
    }

    /// The program with these rows; `None` where none of what lies along them has a gradient that is wanted.
    fn program(&self, rows: Axis, wanted: &Wanted) -> Option<Derived> {
        let forward = self.forward;
        let mut made = Made { of: Vec::new(), loops: Vec::new() };
        for one in forward.loops.iter().filter(|one| rows == Axis::Queries || rows == one.columns) {
            made.add_loop(self, rows, one, wanted);
        }
        let Made { of, mut loops } = made;
        if of.is_empty() {
            return None;
        }
        let mut names = self.names.clone();
        let accumulators = of.iter().map(|(operand, _)| Accumulator {
            name: names.fresh(&format!("d_{}", forward.operands[*operand].name)),
            reduction: Reduction::Sum,
        });
        let accumulators: Vec<Accumulator> = accumulators.collect();
        let outputs = of.iter().zip(take_common_factors(&mut loops, of.len())).enumerate();
        let outputs = outputs.map(|(place, (&(operand, dim), factor))| {
            let Operand { element, heads, .. } = forward.operands[operand];
            Output { element, heads, dim, value: factor.iter().cloned().fold(Expr::Value(place), times) }
        });
        let rows_of = if rows == Axis::Queries { "queries" } else { "keys" };
        let mut program = Program {
            name: names.fresh(&format!("{}_backward_{rows_of}", forward.name)),
            scalars: forward.scalars.clone(),
            tensors: forward.tensors.clone(),
            numbers: self.numbers.iter().map(|number| self.declared(*number)).collect(),
            operands: self.sources.iter().map(|(_, operand)| operand.clone()).collect(),
            rows,
            accumulators,
            loads: Vec::new(),
            sums: Vec::new(),
            outputs: outputs.collect(),
            captured: None,
            adds: Vec::new(),
            loops,
            kept: Kept::default(),
        };
        simplify_expressions(&mut program);
        let operands = self.load_what_is_used(&mut program);
        let numbers = self.keep_numbers(&mut program);
        let outputs = of.iter().map(|(operand, _)| Given::Gradient(*operand)).collect();
        Some(Derived { program, operands, numbers, outputs })
    }

    /// What a number of rows is called, if nothing else is.
    fn number_name(&self, number: RowNumbers) -> String {
        let (what, accumulator) = match number {
            RowNumbers::LogSumExp(of) | RowNumbers::Kept(of, RowNumber::LogSumExp) => ("lse", of),
            RowNumbers::Kept(of, RowNumber::Maximum) => ("maximum", of),
            RowNumbers::Kept(of, RowNumber::Sum) => ("sum_of", of),
            RowNumbers::LseGradient(of) => ("d_lse", of),
            RowNumbers::Delta(of) => ("delta", of),
            RowNumbers::Inverse(of) => ("inverse", of),
        };
        match &self.forward.accumulators[..] {
            [_] => what.to_string(),
            several => format!("{what}_{}", several[accumulator].name),
        }
    }

    /// A number of rows as a program declares it.
    fn declared(&self, number: RowNumbers) -> Number {
        let mut name = self.number_name(number);
        while self.names.taken.contains(&name) {
            name.push('_');
        }
        Number { name, heads: Heads::Query, axis: Axis::Queries }
    }

    /// Loads what lies along the rows of a product, and leaves out the operands that nothing is of. Returns what the others are.
    fn load_what_is_used(&self, program: &mut Program) -> Vec<Source> {
        let (mut rows, mut used) = (BTreeSet::new(), BTreeSet::new());
        for op in program.loops.iter().flat_map(|one| &one.body) {
            match op {
                TileOp::Dot { terms, .. } => {
                    rows.extend(terms.iter().map(|term| term.row));
                    used.extend(terms.iter().flat_map(|term| [term.row, term.column]));
                }
                TileOp::Push { values, .. } => drop(used.insert(*values)),
                TileOp::Map { .. } | TileOp::Mask { .. } | TileOp::Add { .. } => {}
            }
        }
        let place = |of: usize| used.range(..of).count();
        for op in program.loops.iter_mut().flat_map(|one| &mut one.body) {
            match op {
                TileOp::Dot { terms, .. } => {
                    for term in terms {
                        (term.row, term.column) = (place(term.row), place(term.column));
                    }
                }
                TileOp::Push { values, .. } => *values = place(*values),
                TileOp::Map { .. } | TileOp::Mask { .. } | TileOp::Add { .. } => {}
            }
        }
        program.loads = rows.iter().map(|operand| Load { operand: place(*operand), scale: None }).collect();
        self.keep_operands(program, &used)
    }

    /// Loads what sums and outputs are of: their values are sources, and after those sums.
    fn load_values(&self, program: &mut Program) -> Vec<Source> {
        let of_sums = program.sums.iter().map(|sum| &sum.value);
        let values = of_sums.chain(program.outputs.iter().map(|output| &output.value));
        let values: Vec<&Expr> = values.collect();
        let is_used = |source: &usize| values.iter().any(|value| value.mentions(&Expr::Value(*source)));
        let used: BTreeSet<usize> = (0..self.sources.len()).filter(is_used).collect();
        let at = |value: usize| match value.checked_sub(self.sources.len()) {
            Some(sum) => Expr::Value(used.len() + sum),
            None => Expr::Value(used.range(..value).count()),
        };
        program.sums.iter_mut().for_each(|sum| sum.value = sum.value.map_values(&at));
        program.outputs.iter_mut().for_each(|output| output.value = output.value.map_values(&at));
        program.adds.iter_mut().for_each(|add| add.value = add.value.map_values(&at));
        program.loads = (0..used.len()).map(|operand| Load { operand, scale: None }).collect();
        self.keep_operands(program, &used)
    }

    /// Leaves out the numbers that nothing is of, and returns what the others are.
    fn keep_numbers(&self, program: &mut Program) -> Vec<RowNumbers> {
        let mut used = BTreeSet::new();
        let maps = program.loops.iter_mut().flat_map(|one| &mut one.body).filter_map(|op| match op {
            TileOp::Map { value, .. } => Some(value),
            _ => None,
        });
        let of_rows = program.sums.iter_mut().map(|sum| &mut sum.value);
        let of_rows = of_rows.chain(program.adds.iter_mut().map(|add| &mut add.value));
        let mut exprs: Vec<&mut Expr> = maps.chain(of_rows).collect();
        for expr in &exprs {
            expr.any(&mut |expr| {
                used.extend(if let Expr::Number(place) = expr { Some(*place) } else { None });
                false
            });
        }
        exprs.iter_mut().for_each(|expr| **expr = renumbered(expr, &|place| used.range(..place).count()));
        program.numbers = used.iter().map(|place| program.numbers[*place].clone()).collect();
        used.iter().map(|place| self.numbers[*place]).collect()
    }

    /// Leaves the operands that are `used`, and returns what they are.
    fn keep_operands(&self, program: &mut Program, used: &BTreeSet<usize>) -> Vec<Source> {
        program.operands = used.iter().map(|source| self.operand(*source).clone()).collect();
        used.iter().map(|source| self.sources[*source].0).collect()
    }
}

/// `expr`, in which the numbers have other places.
fn renumbered(expr: &Expr, place: &impl Fn(usize) -> usize) -> Expr {
    match expr {
        Expr::Number(number) => Expr::Number(place(*number)),
        other => other.map_children(|child| renumbered(child, place)),
    }
}

/// An output of the forward program, and the derivative of what is lost by it.
struct OutputLoss {
    value: Expr,
    lost: Expr,
}

/// The elements of `captured` that `exprs` are of, each once.
fn elements_of<const N: usize>(captured: Captured, exprs: [&Expr; N]) -> Vec<Expr> {
    let mut found: Vec<Expr> = Vec::new();
    for expr in exprs {
        expr.any(&mut |expr| {
            if Captured::of(expr) == Some(captured) && !found.contains(expr) {
                found.push(expr.clone());
            }
            false
        });
    }
    found
}

/// The program over rows that is made.
struct RowsMade {
    sums: Vec<RowSum>,
    outputs: Vec<(Output, Given)>,
    numbers: Vec<RowNumbers>,
}

impl RowsMade {
    /// A number that it is given.
    fn number(&mut self, number: RowNumbers) -> Expr {
        self.numbers.push(number);
        Expr::Number(self.numbers.len() - 1)
    }
}

/// The loops of a program that is made, and the operands whose gradients it has so far, with how many elements of a row: each has an accumulator.
struct Made {
    of: Vec<(usize, usize)>,
    loops: Vec<TileLoop>,
}

impl Made {
    /// The accumulator of the gradient of the first `dim` elements of an operand's rows.
    fn accumulator(&mut self, operand: usize, dim: usize) -> usize {
        let known = self.of.iter().position(|of| *of == (operand, dim));
        known.unwrap_or_else(|| {
            self.of.push((operand, dim));
            self.of.len() - 1
        })
    }

    /// Adds the loop that `one` becomes where the rows are `rows`, with a push for each gradient that it has a part of.
    fn add_loop(&mut self, derive: &Derive, rows: Axis, one: &TileLoop, wanted: &Wanted) {
        let of_queries = rows == Axis::Queries;
        let along = |term: &DotTerm| {
            if of_queries { *term } else { DotTerm { row: term.column, column: term.row, dim: term.dim } }
        };
        let (dots, pushes) = (one.dots(), one.pushes_of_tiles());
        let mut body = Body { scores: dots.len(), ..Body::default() };
        for terms in &dots {
            body.dots.push(terms.iter().map(along).collect());
        }
        // A product of each accumulator's gradient with its values, which several pushes may share.
        let product_of = |push: &Pushed| {
            let row = derive.gradients[push.accumulator];
            along(&DotTerm { row, column: push.values, dim: push.dim })
        };
        let mut products: Vec<DotTerm> = Vec::new();
        for product in pushes.iter().map(product_of) {
            if !products.contains(&product) {
                products.push(product);
                body.dots.push(vec![product]);
            }
        }
        for push in &pushes {
            let product = products.iter().position(|product| *product == product_of(push)).unwrap_or(0);
            let pulled = derive.pull(push, &Expr::Value(dots.len() + product));
            for (dot, terms) in dots.iter().enumerate() {
                let lost = derive.simplified(&pulled.by(&Expr::Value(dot)), body.dots.len());
                let targets: Vec<DotTerm> = terms.iter().map(along).filter(|term| wanted.has(term.row)).collect();
                if lost == Expr::float(0.0) || targets.is_empty() {
                    continue;
                }
                let tile = body.map("ds", lost, &pulled.mask);
                for DotTerm { row, column, dim } in targets {
                    body.push(self.accumulator(row, dim), tile, column, dim);
                }
            }
            if !of_queries && wanted.has(push.values) {
                let weight = derive.simplified(&pulled.weight, body.dots.len());
                if weight == Expr::float(0.0) {
                    continue;
                }
                let tile = body.map("p", weight, &pulled.mask);
                let gradient = derive.gradients[push.accumulator];
                body.push(self.accumulator(push.values, push.dim), tile, gradient, push.dim);
            }
        }
        if body.pushes.is_empty() {
            return;
        }
        let columns = if of_queries { one.columns } else { Axis::Queries };
        self.loops.push(body.into_loop(derive, columns, !of_queries));
    }
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
    delta_a = sum of sigmoid(gate) * d_out * a
    delta_m = sum of -gain[head()] * d_out * m
    store if lse_a[i] < -3.4028235e38 { 3.4028235e38 } else { lse_a[i] * 1.442695 }
    store delta_a
    store sigmoid(gate) * d_out
    store if sum_of_m[i] == 0.0 { 0.0 } else { 1.0 / sum_of_m[i] }
    store delta_m
    store -gain[head()] * d_out
    store a * (sigmoid(gate) * (1.0 - sigmoid(gate))) * d_out

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
    lost = sum of -m * d_out
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
