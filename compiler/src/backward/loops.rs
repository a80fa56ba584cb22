//! The derived programs with loops: of pairs of a query and a key.

use super::body::{Body, take_common_factors};
use super::derivative::times;
use super::derive::{Derive, elements_of};
use super::{Derived, Given, Source, Wanted};
use crate::expr::Expr;
use crate::ir::{Accumulator, Axis, Captured, DotTerm, Load, Operand, Output, Program, Reduction, TileLoop, TileOp};
use crate::passes::simplify_expressions;
use std::collections::BTreeSet;

impl Derive<'_> {
    /// The program with these rows; `None` where none of what lies along them has a gradient that is wanted.
    pub fn program(&self, rows: Axis, wanted: &Wanted) -> Option<Derived> {
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
        let blank = self.blank(rows_of, rows);
        let mut program = Program { accumulators, outputs: outputs.collect(), loops, ..blank };
        simplify_expressions(&mut program);
        let operands = self.load_what_is_used(&mut program);
        let numbers = self.keep_numbers(&mut program);
        let outputs = of.iter().map(|(operand, _)| Given::Gradient(*operand)).collect();
        Some(Derived { program, operands, numbers, outputs })
    }

    /// The program that adds what each pair has to the gradient of `captured`; `None` where no score and no factor is of it.
    pub fn captured_in_pairs(&self, captured: Captured) -> Option<Derived> {
        let loops: Vec<TileLoop> = self.forward.loops.iter().filter_map(|one| self.add_loop(captured, one)).collect();
        if loops.is_empty() {
            return None;
        }
        let mut program = Program { loops, ..self.blank_of_captured(captured, "pairs") };
        simplify_expressions(&mut program);
        let operands = self.load_what_is_used(&mut program);
        let numbers = self.keep_numbers(&mut program);
        Some(Derived { program, operands, numbers, outputs: vec![Given::Captured(captured)] })
    }

    /// The loop that adds what the pairs of `one` have to the gradient of `captured`.
    fn add_loop(&self, captured: Captured, one: &TileLoop) -> Option<TileLoop> {
        let (mut body, products) = Body::with_products(self, one, |term| *term);
        for (push, product) in one.pushes_of_tiles().iter().zip(products) {
            let pulled = self.pull(push, &product);
            for element in elements_of(captured, [&pulled.score, &pulled.factor]) {
                let lost = body.simplified(self, &pulled.by(&element));
                if lost != Expr::float(0.0) {
                    let map = body.map("ds", lost, &pulled.mask);
                    body.adds.push((map, element));
                }
            }
        }
        (!body.adds.is_empty()).then(|| body.into_loop(self, one.columns, false))
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
        let (mut body, products) = Body::with_products(derive, one, along);
        let dots = one.dots();
        for (push, product) in one.pushes_of_tiles().iter().zip(products) {
            let pulled = derive.pull(push, &product);
            for (dot, terms) in dots.iter().enumerate() {
                let lost = body.simplified(derive, &pulled.by(&Expr::Value(dot)));
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
                let weight = body.simplified(derive, &pulled.weight);
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
