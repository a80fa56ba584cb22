//! What all derived programs are made of: operands, numbers of rows, names, and what becomes of a push.

use super::derivative::{derivative, minus, plus, times};
use super::{RowNumbers, Source};
use crate::analysis::simplify::simplify;
use crate::expr::{BinaryOp, Expr, UnaryOp};
use crate::ir::forward::Pushed;
use crate::ir::{Axis, Captured, Heads, Kept, Number, Operand, Program, Reduction, RowNumber, TileOp};
use crate::passes::use_base_two::times_log2_e;
use crate::typing::Parameters;
use std::borrow::Cow;
use std::collections::{BTreeSet, HashSet};

/// Names that are not taken.
#[derive(Clone)]
pub struct Names {
    pub taken: HashSet<String>,
}

impl Names {
    /// Those that the parameters of `program` leave.
    pub fn of(program: &Program) -> Names {
        let operands = program.operands.iter().map(|operand| operand.name.clone());
        let scalars = program.scalars.iter().map(|scalar| scalar.name.clone());
        let tensors = program.tensors.iter().map(|tensor| tensor.name.clone());
        Names { taken: operands.chain(scalars).chain(tensors).chain([program.name.clone()]).collect() }
    }

    /// `name`, or that with a number, which is then taken.
    pub fn fresh(&mut self, name: &str) -> String {
        let numbered = (2..).map(|number| format!("{name}{number}"));
        let mut names = std::iter::once(name.to_string()).chain(numbered);
        names.find(|name| self.taken.insert(name.clone())).unwrap_or_default()
    }
}

/// What derived programs are made of.
pub struct Derive<'a> {
    /// The forward program.
    pub forward: &'a Program,
    /// All that derived programs may have for operands: those of the forward program come first, in its order.
    pub sources: Vec<(Source, Operand)>,
    /// The place in [`sources`](Self::sources) of the gradient of each accumulator's result.
    pub gradients: Vec<usize>,
    /// The numbers of rows that programs with loops have.
    pub numbers: Vec<RowNumbers>,
    /// What no tile may be called.
    pub names: Names,
}

/// What becomes of a push of the forward program, whose score and factor are expressions of its loop's products.
pub struct Pulled {
    /// The weight that its values have in the accumulator's result.
    pub weight: Expr,
    /// The derivative of what is lost by the score.
    of_score: Expr,
    /// The score.
    pub score: Expr,
    /// The derivative of what is lost by the factor.
    of_factor: Expr,
    /// The factor.
    pub factor: Expr,
    /// Where it is visible.
    pub mask: Option<Expr>,
}

impl Pulled {
    /// The derivative of what is lost by a leaf of score and factor.
    pub fn by(&self, leaf: &Expr) -> Expr {
        let of_score = times(self.of_score.clone(), derivative(&self.score, leaf));
        plus(of_score, times(self.of_factor.clone(), derivative(&self.factor, leaf)))
    }
}

impl<'a> Derive<'a> {
    /// That of `forward`.
    pub fn new(forward: &'a Program) -> Derive<'a> {
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
    pub fn place(&self, source: Source) -> usize {
        self.sources.iter().position(|(known, _)| *known == source).expect("a source is known")
    }

    /// The derivative of what is lost by an element of a source that outputs are of, in elements of sources.
    pub fn of_outputs(&self, source: usize) -> Expr {
        let losses = self.losses();
        let by_output = losses.iter().map(|of| self.lost_by(of, &Expr::Value(source)));
        by_output.fold(Expr::float(0.0), plus)
    }

    /// The derivative of what is lost by a leaf of an output. Where results of accumulators make the output's own derivative zero, as those of rows
    /// that see nothing do, it is zero whatever is lost by the output.
    pub fn lost_by(&self, output: &OutputLoss, leaf: &Expr) -> Expr {
        let of_output = derivative(&output.value, leaf);
        let lost = times(of_output.clone(), output.lost.clone());
        let is_result = |value: usize| matches!(self.sources[value].0, Source::Accumulator(_));
        if of_output.any(&mut |expr| matches!(expr, Expr::Value(value) if is_result(*value))) {
            unless_zero(of_output, lost)
        } else {
            lost
        }
    }

    /// The outputs and the derivatives of what is lost by them, in elements of sources.
    pub fn losses(&self) -> Vec<OutputLoss> {
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

    /// A program with these rows of which `part` tells what it gives: it has all operands and numbers that there are, and does nothing yet.
    pub fn blank(&self, part: &str, rows: Axis) -> Program {
        Program {
            name: self.names.clone().fresh(&format!("{}_backward_{part}", self.forward.name)),
            scalars: self.forward.scalars.clone(),
            tensors: self.forward.tensors.clone(),
            numbers: self.numbers.iter().map(|number| self.declared(*number)).collect(),
            operands: self.sources.iter().map(|(_, operand)| operand.clone()).collect(),
            rows,
            accumulators: Vec::new(),
            loads: Vec::new(),
            sums: Vec::new(),
            outputs: Vec::new(),
            captured: None,
            adds: Vec::new(),
            loops: Vec::new(),
            kept: Kept::default(),
        }
    }

    /// Such a program of sums like `captured`, of what is told by `of`.
    pub fn blank_of_captured(&self, captured: Captured, of: &str) -> Program {
        let name = match captured {
            Captured::Tensor(place) => &self.forward.tensors[place].name,
            Captured::Scalar(place) => &self.forward.scalars[place].name,
            Captured::Scale => "scale",
        };
        Program { captured: Some(captured), ..self.blank(&format!("{name}_of_{of}"), Axis::Queries) }
    }

    /// A number of rows, in an expression.
    pub fn number(&self, wanted: RowNumbers) -> Expr {
        let place = self.numbers.iter().position(|number| *number == wanted);
        Expr::Number(place.expect("each accumulator has its numbers"))
    }

    /// The derivative of `push`, where `dp`, the product of its accumulator's gradient and its values, is a value too.
    pub fn pull(&self, push: &Pushed, dp: &Expr) -> Pulled {
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
    pub fn simplified(&self, expr: &Expr, products: usize) -> Expr {
        let numbers: Vec<Number> = self.numbers.iter().map(|number| self.declared(*number)).collect();
        let values = vec![Cow::Borrowed("s"); products];
        let Program { scalars, tensors, .. } = self.forward;
        simplify(expr, Parameters { scalars, tensors, values: &values, numbers: &numbers })
    }

    /// What a number of rows is called, if nothing else is.
    pub fn number_name(&self, number: RowNumbers) -> String {
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
    pub fn declared(&self, number: RowNumbers) -> Number {
        let mut name = self.number_name(number);
        while self.names.taken.contains(&name) {
            name.push('_');
        }
        Number { name, heads: Heads::Query, axis: Axis::Queries }
    }

    /// Leaves out the numbers that nothing is of, and returns what the others are.
    pub fn keep_numbers(&self, program: &mut Program) -> Vec<RowNumbers> {
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
    pub fn keep_operands(&self, program: &mut Program, used: &BTreeSet<usize>) -> Vec<Source> {
        program.operands = used.iter().map(|source| self.sources[*source].1.clone()).collect();
        used.iter().map(|source| self.sources[*source].0).collect()
    }
}

/// `expr`, or zero where `factor` of it is: also where the rest is not finite.
pub fn unless_zero(factor: Expr, expr: Expr) -> Expr {
    let zero = || Expr::float(0.0);
    Expr::select(Expr::binary(BinaryOp::Eq, factor, zero()), zero(), expr)
}

/// `expr`, in which the numbers have other places.
fn renumbered(expr: &Expr, place: &impl Fn(usize) -> usize) -> Expr {
    match expr {
        Expr::Number(number) => Expr::Number(place(*number)),
        other => other.map_children(|child| renumbered(child, place)),
    }
}

/// An output of the forward program, and the derivative of what is lost by it.
pub struct OutputLoss {
    /// The output.
    pub value: Expr,
    /// The derivative.
    pub lost: Expr,
}

/// The elements of `captured` that `exprs` are of, each once.
pub fn elements_of<const N: usize>(captured: Captured, exprs: [&Expr; N]) -> Vec<Expr> {
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
