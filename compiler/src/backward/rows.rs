//! What derived programs over rows alone have: the derivative of the outputs' expressions and of sinks.

use super::derivative::{derivative, minus, times};
use super::derive::{Derive, elements_of, unless_zero};
use super::{Backward, Derived, Given, RowNumbers, Source, Wanted};
use crate::expr::{BinaryOp, Expr, UnaryOp};
use crate::ir::{Axis, Captured, Element, Heads, Load, Operand, Output, Program, Reduction, RowAdd, RowNumber, RowSum};
use crate::passes::simplify_expressions;
use crate::passes::use_base_two::times_log2_e;
use std::collections::BTreeSet;

impl Derive<'_> {
    /// The program over rows alone, for the `others`; `None` where nothing is wanted of it.
    pub fn over_rows(&self, wanted: &Wanted, others: &Backward) -> Option<Derived> {
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
                let mut product = times(gradient.clone(), Expr::Value(result));
                if product != zero() {
                    if accumulator.reduction.sink().is_some() {
                        // A row that sees nothing gives its sink nothing. Without a sink nobody reads what such a row has.
                        product = unless_zero(Expr::Value(result), product);
                    }
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
            numbers: numbers.iter().map(|number| self.declared(*number)).collect(),
            sums,
            outputs,
            ..self.blank("rows", Axis::Queries)
        };
        let operands = self.load_values(&mut program);
        Some(Derived { program, operands, numbers, outputs: given })
    }

    /// The program that adds what each row has to the gradient of `captured`; `None` where no sink and no output is of it.
    pub fn captured_in_rows(&self, captured: Captured) -> Option<Derived> {
        let forward = self.forward;
        let mut names = self.names.clone();
        names.taken.extend(self.numbers.iter().map(|number| self.declared(*number).name));
        let (mut sums, mut adds) = (Vec::new(), Vec::new());
        let values = self.sources.len();
        for output in self.losses() {
            for element in elements_of(captured, [&output.value]) {
                let value = self.lost_by(&output, &element);
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
        let mut program = Program { sums, adds, ..self.blank_of_captured(captured, "rows") };
        let operands = self.load_values(&mut program);
        simplify_expressions(&mut program);
        let numbers = self.keep_numbers(&mut program);
        Some(Derived { program, operands, numbers, outputs: vec![Given::Captured(captured)] })
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
