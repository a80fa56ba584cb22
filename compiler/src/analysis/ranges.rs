//! The ranges of integer expressions at a launch: whether they fit their tensors and 32 bits.
//!
//! Everything is known but which pair is looked at: positions, heads and batch have ranges, scalars have values, captured
//! tensors have lengths and maybe a range of elements. Interval arithmetic gives the range of every integer in between, and of
//! the floats that are cast to integers. Ranges are narrowed by what must hold for the expression to matter: under
//! `mask(…, j <= i)`, in `if j <= i { … }` and after `j <= i &&` the difference `i - j` is not negative. Such facts are kept in [canonical form](crate::analysis::canonical), with
//! the values of scalars, so that they are found however an expression is written.

use crate::analysis::affine::Affine;
use crate::analysis::canonical::{canonical, canonical_form};
use crate::analysis::clauses::{Clause, clauses};
use crate::analysis::facts::{Facts, alike, bounds_of_form, joined, reduced};
use crate::analysis::float_interval::FloatInterval;
use crate::analysis::interval::{Interval, Values};
use crate::analysis::range_error::RangeError;
use crate::eval::floor_div;
use crate::expr::{BinaryOp, Expr, Type, UnaryOp};
use crate::launch::Launch;
use crate::lower::{Parts, runtime_scalars};
use crate::pruned::Constants;
use crate::scheduled::Scheduled;
use crate::spec::{Accumulator, Location, ScalarValue, Spec, TensorType};
use crate::typing::Parameters;
use std::cell::Cell;

/// Refuses a launch of `program`, compiled from `spec`, in which an index could leave its captured tensor, an integer 32
/// bits, or a divisor be zero.
///
/// Divisors must not be zero for any pair, hidden ones and those that only fill a tile included, because kernels divide
/// there too. An index may be anything where the mask, an `if`, `&&` or `||` makes it irrelevant: kernels must clamp it.
/// A launch without queries is fine; so is what is computed for the keys of a set that has none.
pub fn check_launch(spec: &Spec, program: &Scheduled, launch: &Launch) -> Result<(), RangeError> {
    check_counts(spec, launch)?;
    if launch.is_empty() {
        return Ok(());
    }
    let spec = &spec.pruned(&Constants::new(spec, launch.scalars, program.head_dim()));
    let asked = RangeChecker::new(spec, program, launch, spec.parameters(), launch.scalars.to_vec());
    asked.check_positions()?;
    let sinks = spec.accumulators.iter().filter_map(|accumulator| match &accumulator.kind {
        Accumulator::Softmax { sink } => sink.as_ref(),
        Accumulator::Sum | Accumulator::Mean => None,
    });
    for of_row in sinks.chain(&spec.outputs) {
        asked.check_everywhere(of_row, 0)?;
        asked.walk(of_row, &Facts::none(), Checks::VALUES, 0)?;
    }
    for (key_loop, push) in spec.pushes() {
        let set = key_loop.set;
        if launch.keys[set].length == 0 {
            continue;
        }
        let exprs = || std::iter::once(&push.score).chain(&push.weight);
        exprs().try_for_each(|expr| asked.check_everywhere(expr, set))?;
        let visible = Parts::of(&push.score).visible.unwrap_or(Expr::Bool(true));
        asked.walk(&visible, &Facts::none(), Checks::VALUES, set)?;
        for expr in exprs() {
            let push = |facts: &Facts| asked.walk(expr, facts, Checks::VALUES, set);
            asked.under(&Facts::none(), &visible, true, set, &push)?;
        }
    }
    Ok(())
}

/// The most blocks of a summary of a captured tensor: with three numbers for each, 192 MB.
const MAX_SUMMARY_BLOCKS: u64 = 1 << 24;

/// Refuses what decides of the program's tiles where it could leave 32 bits, or needs a summary of more than 2²⁴ blocks, for a launch
/// that [`check_launch`] accepts. A sum of
/// positions and scalars may do so even where those of the mask do not: the program must then be run
/// [without skipping](crate::ir::Program::without_skipping).
pub fn check_tiles(spec: &Spec, program: &Scheduled, launch: &Launch) -> Result<(), RangeError> {
    if launch.is_empty() {
        return Ok(());
    }
    for summary in program.summaries() {
        let shape = &launch.tensors[summary.tensor].shape;
        let blocks = summary.shape(shape).iter().fold(1u64, |blocks, length| blocks.saturating_mul(*length as u64));
        if blocks > MAX_SUMMARY_BLOCKS {
            let tensor = program.tensors[summary.tensor].name.clone();
            return Err(RangeError::Summary { tensor, blocks, most: MAX_SUMMARY_BLOCKS });
        }
    }
    let scalars = runtime_scalars(spec, launch.scalars);
    let compiled = RangeChecker::new(spec, program, launch, program.parameters(), scalars);
    for key_loop in &program.loops {
        let set = program.key_set(key_loop);
        // A set without keys has bounds, too, which divide. Reads are clamped: an index that leaves its tensor here is one of a pair that does not matter.
        let checks = Checks { overflow: true, division: true, index: false };
        for expr in key_loop.tile_exprs() {
            compiled.walk(expr, &Facts::none(), checks, set)?;
        }
    }
    Ok(())
}

fn check_counts(spec: &Spec, launch: &Launch) -> Result<(), RangeError> {
    let counts = [
        ("sets of keys", spec.sets(), launch.keys.len()),
        ("scalars", spec.scalars.len(), launch.scalars.len()),
        ("captured tensors", spec.tensors.len(), launch.tensors.len()),
    ];
    for (what, expected, given) in counts {
        if expected != given {
            return Err(RangeError::Count { attention: spec.name.clone(), what, expected, given });
        }
    }
    for (param, facts) in spec.tensors.iter().zip(launch.tensors) {
        if param.rank != facts.shape.len() {
            let (expected, given) = (param.rank, facts.shape.len());
            return Err(RangeError::Count { attention: param.name.clone(), what: "dimensions", expected, given });
        }
    }
    Ok(())
}

/// The most facts of which two are taken from a sum at once.
const MAX_FACTS_IN_PAIRS: usize = 12;

/// Whether an integer is a sum, a difference or a product.
fn is_sum(expr: &Expr) -> bool {
    matches!(expr, Expr::Binary(BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul, ..) | Expr::Unary(UnaryOp::Neg, _))
}

/// What is refused.
#[derive(Clone, Copy, Debug)]
struct Checks {
    overflow: bool,
    division: bool,
    index: bool,
}

impl Checks {
    const VALUES: Checks = Checks { overflow: true, division: false, index: true };
    const DIVISION: Checks = Checks { overflow: false, division: true, index: false };
    const NOTHING: Checks = Checks { overflow: false, division: false, index: false };

    /// Whether conditions count: a division by zero is refused even where its quotient does not matter.
    fn conditional(self) -> bool {
        !self.division && (self.overflow || self.index)
    }
}

struct RangeChecker<'a> {
    spec: &'a Spec,
    launch: &'a Launch<'a>,
    parameters: Parameters<'a>,
    scalars: Vec<ScalarValue>,
    /// Queries and keys that may be computed beyond the last, to fill a tile.
    padding: (i64, i64),
    /// The elements of a row of the first operand along queries.
    head_dim: usize,
    /// Whether positions include those.
    padded: bool,
    /// How often alternatives may still be looked at one by one.
    splits: Cell<u32>,
}

/// How often alternatives are looked at one by one before a launch is refused.
const MAX_SPLITS: u32 = 64;

impl<'a> RangeChecker<'a> {
    fn new(
        spec: &'a Spec,
        program: &Scheduled,
        launch: &'a Launch<'a>,
        parameters: Parameters<'a>,
        scalars: Vec<ScalarValue>,
    ) -> Self {
        let padding = (program.schedule().query_tile() as i64, program.schedule().key_tile() as i64);
        let (head_dim, splits) = (program.head_dim(), Cell::new(MAX_SPLITS));
        RangeChecker { spec, launch, parameters, scalars, padding, head_dim, padded: false, splits }
    }

    /// The same with the positions that only fill a tile.
    fn padded(&self, scalars: Vec<ScalarValue>) -> RangeChecker<'a> {
        let RangeChecker { spec, launch, parameters, padding, head_dim, .. } = *self;
        let splits = Cell::new(MAX_SPLITS);
        RangeChecker { spec, launch, parameters, scalars, padding, head_dim, padded: true, splits }
    }

    fn queries(&self) -> Interval {
        let first = self.launch.query_offset;
        let last = first.saturating_add(self.launch.queries as i64 - 1);
        Interval::new(first, if self.padded { last.saturating_add(self.padding.0) } else { last })
    }

    fn keys(&self, set: usize) -> Interval {
        let keys = self.launch.keys[set];
        let last = keys.offset.saturating_add(keys.length as i64 - 1);
        if self.padded {
            return Interval::new(keys.offset.saturating_sub(self.padding.1), last.saturating_add(self.padding.1));
        }
        Interval::new(keys.offset, last)
    }

    fn check_positions(&self) -> Result<(), RangeError> {
        let padded = self.padded(Vec::new());
        let sets = 0..self.spec.sets();
        let keys = sets.map(|set| (format!("the positions of `{}`", self.spec.set_name(set)), padded.keys(set)));
        let queries = (format!("the positions of `{}`", self.spec.query()), padded.queries());
        for (what, Interval { low, high }) in std::iter::once(queries).chain(keys) {
            if !Interval::I32.contains(Interval { low, high }) {
                return Err(RangeError::Positions { what, low, high });
            }
        }
        Ok(())
    }

    /// Checks what must hold for every pair that a kernel computes, whether or not it matters.
    fn check_everywhere(&self, expr: &Expr, set: usize) -> Result<(), RangeError> {
        let padded = self.padded(self.scalars.clone());
        padded.walk(expr, &Facts::none(), Checks::DIVISION, set).map(drop)
    }

    /// What `walk` finds where `predicate`, which has been checked, holds (or does not). Where what all of its alternatives have in
    /// common does not do, they are looked at one by one.
    fn under(
        &self,
        facts: &Facts,
        predicate: &Expr,
        holds: bool,
        set: usize,
        walk: &dyn Fn(&Facts) -> Result<Values, RangeError>,
    ) -> Result<Values, RangeError> {
        if facts.unreachable {
            return Ok(Values::None);
        }
        let mut clauses = self.clauses(predicate, holds);
        let Some(mut common) = joined(&clauses) else { return Ok(Values::None) };
        if clauses.len() > 1 {
            let whole = self.of_whole(predicate, holds);
            clauses
                .iter_mut()
                .chain([&mut common])
                .for_each(|clause| clause.at_most_zero.extend(whole.iter().cloned()));
        }
        let found = walk(&self.assume(facts, &common, set));
        if found.is_ok() || clauses.len() < 2 || self.splits.get() == 0 {
            return found;
        }
        self.splits.set(self.splits.get() - 1);
        let each = clauses.iter().map(|clause| walk(&self.assume(facts, clause, set)));
        match each.collect::<Result<Vec<_>, _>>() {
            Ok(values) => Ok(values.into_iter().fold(Values::None, Values::union)),
            Err(_) => found,
        }
    }

    /// The alternatives in which `predicate` holds (or does not), in canonical form; none if there is none.
    fn clauses(&self, predicate: &Expr, holds: bool) -> Vec<Clause> {
        let mut predicate = self.with_values(predicate);
        if !holds {
            predicate = Expr::unary(UnaryOp::Not, predicate);
        }
        let mut clauses = clauses(&predicate, self.parameters);
        for clause in &mut clauses {
            let forms = clause.at_most_zero.iter().filter_map(|form| canonical_form(form, self.parameters));
            clause.at_most_zero = forms.map(|form| reduced(&form)).collect();
        }
        clauses
    }

    /// What `predicate` says where it holds (or does not) of absolute values, extremes and choices as they are: its alternatives are of
    /// what those are made of, and have nothing in common.
    fn of_whole(&self, predicate: &Expr, holds: bool) -> Vec<Affine> {
        let is_split = |atom: &Expr| {
            matches!(
                atom,
                Expr::Unary(UnaryOp::Abs, _) | Expr::Binary(BinaryOp::Min | BinaryOp::Max, ..) | Expr::Select(..)
            )
        };
        let mut forms = Vec::new();
        self.comparisons(&self.with_values(predicate), holds, &mut forms);
        let forms = forms.iter().filter_map(|form| canonical_form(form, self.parameters));
        forms.filter(|form| form.terms.iter().any(|(atom, _)| is_split(atom))).map(|form| reduced(&form)).collect()
    }

    /// Adds the forms that are at most zero where `predicate` holds (or does not), by its comparisons of integers.
    fn comparisons(&self, predicate: &Expr, holds: bool, forms: &mut Vec<Affine>) {
        use BinaryOp::*;
        let (op, a, b) = match predicate {
            Expr::Unary(UnaryOp::Not, a) => return self.comparisons(a, !holds, forms),
            Expr::Binary(op @ (And | Or), a, b) if (*op == And) == holds => {
                self.comparisons(a, holds, forms);
                return self.comparisons(b, holds, forms);
            }
            Expr::Binary(op, a, b) if op.is_comparison() && self.parameters.assume_type(a) == Type::Int => (*op, a, b),
            _ => return,
        };
        let difference = |a: &Expr, b: &Expr, more: i64| Affine::of(a)?.plus(&Affine::of(b)?, -1)?.shifted(more);
        match (op, holds) {
            (Lt, true) | (Ge, false) => forms.extend(difference(a, b, 1)),
            (Le, true) | (Gt, false) => forms.extend(difference(a, b, 0)),
            (Gt, true) | (Le, false) => forms.extend(difference(b, a, 1)),
            (Ge, true) | (Lt, false) => forms.extend(difference(b, a, 0)),
            (Eq, true) | (Ne, false) => forms.extend(difference(a, b, 0).into_iter().chain(difference(b, a, 0))),
            _ => {}
        }
    }

    /// The facts, and that all conditions of `clause` hold.
    fn assume(&self, facts: &Facts, clause: &Clause, set: usize) -> Facts {
        let mut facts = facts.clone();
        let of_dividends = clause.at_most_zero.iter().filter_map(of_dividends);
        let of_dividends = of_dividends.filter_map(|form| canonical_form(&form, self.parameters));
        for form in clause.at_most_zero.iter().cloned().chain(of_dividends.collect::<Vec<_>>()) {
            if !facts.at_most_zero.contains(&form) {
                facts.at_most_zero.push(form);
            }
        }
        for condition in &clause.others {
            match condition {
                Expr::Unary(UnaryOp::Not, condition) => self.assume_order(&mut facts, condition, false, set),
                condition => self.assume_order(&mut facts, condition, true, set),
            }
        }
        // Twice, so that a fact that narrows one atom helps another.
        for _ in 0..2 {
            for place in 0..facts.at_most_zero.len() {
                self.narrow_atoms(&mut facts, place, set);
            }
        }
        facts
    }

    /// Notes what a comparison of floats that holds, or does not, says of them. Neither is NaN where one holds.
    fn assume_order(&self, facts: &mut Facts, condition: &Expr, holds: bool, set: usize) {
        let Expr::Binary(op, a, b) = condition else { return };
        if !op.is_comparison() || self.parameters.assume_type(a) != Type::Float {
            return;
        }
        let range = |expr: &Expr| {
            self.walk(expr, facts, Checks::NOTHING, set).map_or(FloatInterval::ANY, |values| values.float())
        };
        let (of_a, of_b) = (range(a), range(b));
        // What is computed once more may be rounded otherwise, which what is only read is not.
        let is_read = is_read(a) && is_read(b);
        let below = |bound: f64, strict: bool| FloatInterval::below(bound, strict && is_read, !is_read);
        let above =
            |bound: f64, strict: bool| FloatInterval::below(-bound, strict && is_read, !is_read).unary(UnaryOp::Neg);
        let or_nan = |interval: FloatInterval, other_is_nan: bool| {
            if other_is_nan { FloatInterval::ANY } else { FloatInterval { nan: true, ..interval } }
        };
        let strict = matches!(op, BinaryOp::Lt | BinaryOp::Gt);
        let (for_a, for_b) = match (op, holds) {
            (BinaryOp::Lt | BinaryOp::Le, true) => (below(of_b.high, strict), above(of_a.low, strict)),
            (BinaryOp::Gt | BinaryOp::Ge, true) => (above(of_b.low, strict), below(of_a.high, strict)),
            (BinaryOp::Eq, true) => (
                below(of_b.high, false).intersection(above(of_b.low, false)),
                below(of_a.high, false).intersection(above(of_a.low, false)),
            ),
            // What does not hold is the opposite, or one of the two is NaN.
            (BinaryOp::Lt | BinaryOp::Le, false) => {
                (or_nan(above(of_b.low, !strict), of_b.nan), or_nan(below(of_a.high, !strict), of_a.nan))
            }
            (BinaryOp::Gt | BinaryOp::Ge, false) => {
                (or_nan(below(of_b.high, !strict), of_b.nan), or_nan(above(of_a.low, !strict), of_a.nan))
            }
            _ => return,
        };
        for (float, interval) in [(a, of_a.intersection(for_a)), (b, of_b.intersection(for_b))] {
            if is_steady(float) {
                self.assume_float(facts, float, interval);
            }
        }
    }

    /// Notes that a float is in `interval`, and what that says of what it is made of.
    fn assume_float(&self, facts: &mut Facts, expr: &Expr, interval: FloatInterval) {
        facts.unreachable |= interval.is_none();
        match expr {
            Expr::Unary(UnaryOp::ToFloat, a) if self.parameters.assume_type(a) == Type::Int && !interval.is_none() => {
                // Beyond 2²⁴ the integer was rounded.
                let exact = |bound: f64| bound.abs() < 16_777_216.0;
                let room = |bound: f64| if exact(bound) { 0.0 } else { 1.0 + bound.abs() / 4_194_304.0 };
                let most = (interval.high + room(interval.high)).floor() as i64;
                let least = (interval.low - room(interval.low)).ceil() as i64;
                let Some(form) = Affine::of(a).and_then(|form| canonical_form(&form, self.parameters)) else { return };
                let below = (interval.high < 1e10).then(|| form.shifted(most.saturating_neg()));
                let above = (interval.low > -1e10).then(|| form.scaled(-1).and_then(|form| form.shifted(least)));
                facts.at_most_zero.extend(below.flatten().map(|form| reduced(&form)));
                facts.at_most_zero.extend(above.flatten().map(|form| reduced(&form)));
            }
            Expr::Unary(UnaryOp::Neg, a) => return self.assume_float(facts, a, interval.unary(UnaryOp::Neg)),
            Expr::Binary(op @ (BinaryOp::Mul | BinaryOp::Div), a, b) => {
                let inverse = if *op == BinaryOp::Mul { BinaryOp::Div } else { BinaryOp::Mul };
                let by = |factor: &Expr| match factor {
                    Expr::Float(value) if value.value().is_normal() => {
                        Some(interval.binary(inverse, FloatInterval::constant(value.value())))
                    }
                    _ => None,
                };
                match (by(a), by(b)) {
                    (_, Some(of_a)) => self.assume_float(facts, a, FloatInterval { nan: interval.nan, ..of_a }),
                    (Some(of_b), None) if *op == BinaryOp::Mul => {
                        self.assume_float(facts, b, FloatInterval { nan: interval.nan, ..of_b });
                    }
                    _ => {}
                }
            }
            _ => {}
        }
        if !expr.children().is_empty() {
            facts.floats.push((canonical(expr, self.parameters), interval));
        }
    }

    /// From Σ c·x + d <= 0: a bound of each x from the ranges of the others.
    fn narrow_atoms(&self, facts: &mut Facts, place: usize, set: usize) {
        let form = facts.at_most_zero[place].clone();
        if form.terms.is_empty() {
            facts.unreachable |= form.constant > 0;
            return;
        }
        for (atom, coefficient) in &form.terms {
            let rest = self.evaluate_form(&form.without(atom), facts, set);
            let before = self.range_of_atom(atom, facts, set);
            if rest.is_none() || before.is_none() || rest.low <= i64::MIN / 2 {
                continue;
            }
            let most = rest.low.saturating_neg();
            let bound = if *coefficient > 0 {
                Interval::new(i64::MIN, floor_div(most, *coefficient).unwrap_or(i64::MAX))
            } else {
                let over = coefficient.saturating_neg();
                Interval::new(
                    floor_div(most.saturating_neg().saturating_add(over - 1), over).unwrap_or(i64::MIN),
                    i64::MAX,
                )
            };
            let narrowed = before.intersection(bound);
            facts.unreachable |= narrowed.is_none();
            facts.narrowed.retain(|(known, _)| known != atom);
            facts.narrowed.push((atom.clone(), narrowed));
        }
    }

    /// The expression with the values of its scalars that are no floats, and of positions, heads and batches that have one value.
    fn with_values(&self, expr: &Expr) -> Expr {
        let single = |Interval { low, high }: Interval| {
            if low == high { i32::try_from(low).map_or_else(|_| expr.clone(), Expr::Int) } else { expr.clone() }
        };
        let count = |length: usize| Interval::new(0, length as i64 - 1);
        match expr {
            Expr::Scalar(place) => match self.scalars[*place] {
                ScalarValue::I32(value) => Expr::Int(value),
                ScalarValue::U32(value) => i32::try_from(value).map_or_else(|_| expr.clone(), Expr::Int),
                ScalarValue::Bool(value) => Expr::Bool(value),
                ScalarValue::F32(_) => expr.clone(),
            },
            Expr::Query => single(self.queries()),
            Expr::Batch => single(count(self.launch.batch)),
            Expr::Head => single(count(self.launch.heads)),
            Expr::KvHead if self.launch.heads == self.launch.kv_heads => self.with_values(&Expr::Head),
            Expr::KvHead => single(count(self.launch.kv_heads)),
            Expr::QueryLen | Expr::KeyLen(_) | Expr::HeadDim => single(self.length(expr)),
            other => other.map_children(|child| self.with_values(child)),
        }
    }

    /// The sum that `expr` is, in canonical form.
    fn form_of(&self, expr: &Expr) -> Option<Affine> {
        canonical_form(&Affine::of(&self.with_values(expr))?, self.parameters)
    }

    /// The value of a length, or of the head dim.
    fn length(&self, expr: &Expr) -> Interval {
        let length = match expr {
            Expr::QueryLen => self.launch.queries,
            Expr::KeyLen(set) => self.launch.keys[*set].length,
            _ => self.head_dim,
        };
        Interval::new(length as i64, length as i64)
    }

    fn scalar(&self, place: usize) -> Values {
        let single = |value: i64| Values::Int(Interval::new(value, value));
        match self.scalars[place] {
            ScalarValue::I32(value) => single(value.into()),
            ScalarValue::U32(value) => single(value.into()),
            ScalarValue::F32(value) => Values::Float(FloatInterval::constant(value)),
            ScalarValue::Bool(_) => Values::Truth,
        }
    }

    fn evaluate_form(&self, form: &Affine, facts: &Facts, set: usize) -> Interval {
        form.terms.iter().fold(Interval::new(form.constant, form.constant), |sum, (atom, coefficient)| {
            let times = Interval::new(*coefficient, *coefficient);
            let multiple = Interval::binary(BinaryOp::Mul, self.range_of_atom(atom, facts, set), times);
            Interval::binary(BinaryOp::Add, sum, multiple)
        })
    }

    /// `found`, narrowed by what the facts say of `expr`, or of what it is a constant away from.
    fn narrow_atom(&self, expr: &Expr, found: Interval, facts: &Facts) -> Interval {
        let known = |(known, _): &(Expr, Interval)| expr == known || alike(known, &self.with_values_of_leaf(expr));
        if found.is_none() || !facts.narrowed.iter().any(known) {
            return found;
        }
        match self.form_of(expr).as_ref().map(|form| (form.terms.as_slice(), form.constant)) {
            Some(([(atom, 1)], constant)) => {
                let shift = |Interval { low, high }: Interval, by: i64| {
                    Interval::new(low.saturating_add(by), high.saturating_add(by))
                };
                shift(facts.narrow(atom, shift(found, constant.saturating_neg())), constant)
            }
            _ => found,
        }
    }

    fn with_values_of_leaf(&self, expr: &Expr) -> Expr {
        if matches!(expr, Expr::KvHead) { self.with_values(expr) } else { expr.clone() }
    }

    /// `found`, narrowed by what the facts say of the sum that `expr` is.
    fn narrow_sum(&self, expr: &Expr, found: Interval, facts: &Facts, set: usize) -> Interval {
        if !is_sum(expr) || found.is_none() {
            return found;
        }
        let Some(form) = self.form_of(expr) else { return found };
        let mut narrowed = found;
        // Of other atoms the range is known already, and finding it again would double the work at every level.
        if form.terms.iter().all(|(atom, _)| atom.children().is_empty()) {
            narrowed = narrowed.intersection(self.evaluate_form(&form, facts, set));
        }
        narrowed.intersection(bounds_of_form(&form, facts))
    }

    /// `found`, narrowed by more work: each fact is taken from the sum that `expr` is, and what is left has a range, too.
    fn narrow_by_differences(&self, expr: &Expr, found: Interval, facts: &Facts, set: usize) -> Interval {
        let Some(form) = self.form_of(expr) else { return found };
        let few = facts.at_most_zero.len() <= MAX_FACTS_IN_PAIRS;
        found.intersection(self.bounds_by_differences(&form, facts, set, if few { 2 } else { 1 }))
    }

    fn bounds_by_differences(&self, form: &Affine, facts: &Facts, set: usize, depth: u32) -> Interval {
        let mut found = bounds_of_form(form, facts).intersection(self.evaluate_form(form, facts, set));
        if depth == 0 || found.is_none() {
            return found;
        }
        for fact in &facts.at_most_zero {
            let shared = fact.terms.iter().map(|(atom, factor)| (form.coefficient(atom), *factor));
            let Some((in_form, in_fact)) = shared.into_iter().find(|(in_form, _)| *in_form != 0) else { continue };
            // A multiple of the fact that has as much of the atom as the form: what is at most zero bounds one side.
            let times = in_form / in_fact;
            if times == 0 {
                continue;
            }
            let Some(rest) = form.plus(fact, times.saturating_neg()) else { continue };
            if rest.terms.len() > form.terms.len() {
                continue;
            }
            let rest = self.bounds_by_differences(&rest, facts, set, depth - 1);
            let bound = if times > 0 { Interval::new(i64::MIN, rest.high) } else { Interval::new(rest.low, i64::MAX) };
            if !rest.is_none() {
                found = found.intersection(bound);
            }
        }
        found
    }

    /// The range of an atom of a form; nothing is refused.
    fn range_of_atom(&self, expr: &Expr, facts: &Facts, set: usize) -> Interval {
        self.walk_parts(expr, facts, Checks::NOTHING, set).map_or(Interval::I32, Values::int)
    }

    /// What an expression can be, refusing what `checks` says in all of its parts.
    fn walk(&self, expr: &Expr, facts: &Facts, checks: Checks, set: usize) -> Result<Values, RangeError> {
        Ok(match self.walk_parts(expr, facts, checks, set)? {
            Values::Int(found) => Values::Int(self.narrow_sum(expr, found, facts, set)),
            other => other,
        })
    }

    /// As [`walk`](Self::walk), where `expr` may be part of a sum.
    fn walk_parts(&self, expr: &Expr, facts: &Facts, checks: Checks, set: usize) -> Result<Values, RangeError> {
        if facts.unreachable {
            return Ok(Values::None);
        }
        let count = |length: usize| Values::Int(Interval::new(0, length as i64 - 1));
        let found = match expr {
            Expr::Query => Values::Int(self.queries()),
            Expr::Key => Values::Int(self.keys(set)),
            Expr::Batch => count(self.launch.batch),
            Expr::Head => count(self.launch.heads),
            Expr::KvHead => count(self.launch.kv_heads),
            Expr::QueryLen | Expr::KeyLen(_) | Expr::HeadDim => Values::Int(self.length(expr)),
            Expr::QueryFirst => Values::Int(self.queries()),
            Expr::QueryLast => {
                let queries = self.queries();
                Values::Int(Interval::new(queries.low, queries.high + (self.padding.0 - 1).max(0)))
            }
            Expr::KeyFirst | Expr::KeyLast => Values::Int(self.keys(set)),
            Expr::Extreme { tensor, .. } => {
                for index in expr.children() {
                    self.walk(index, facts, checks, set)?;
                }
                Values::Int(self.range_of_elements(*tensor))
            }
            Expr::Count { tensor, .. } | Expr::Next { tensor, .. } => {
                for operand in expr.children() {
                    self.walk(operand, facts, checks, set)?;
                }
                Values::Int(Interval::new(0, *self.launch.tensors[*tensor].shape.last().unwrap_or(&0) as i64))
            }
            Expr::Int(value) => Values::Int(Interval::new((*value).into(), (*value).into())),
            Expr::Scalar(place) => self.scalar(*place),
            Expr::Value(_) | Expr::Number(_) => Values::Float(FloatInterval::ANY),
            Expr::Scale => Values::Float(FloatInterval::FINITE),
            Expr::Float(value) => Values::Float(FloatInterval::constant(value.value())),
            Expr::Bool(_) => Values::Truth,
            Expr::Load { tensor, index } => self.walk_load(expr, *tensor, index, facts, checks, set)?,
            Expr::Unary(op, a) => {
                let of = if *op == UnaryOp::Neg { Self::walk_parts } else { Self::walk };
                of(self, a, facts, checks, set)?.unary(*op)
            }
            Expr::Binary(op @ (BinaryOp::And | BinaryOp::Or), a, b) if checks.conditional() => {
                // Where the first operand decides, the second does not matter.
                self.walk(a, facts, checks, set)?;
                let second = |facts: &Facts| self.walk(b, facts, checks, set);
                self.under(facts, a, *op == BinaryOp::And, set, &second)?;
                Values::Truth
            }
            Expr::Binary(op, a, b) => {
                let sum = matches!(op, BinaryOp::Add | BinaryOp::Sub);
                let of = if sum { Self::walk_parts } else { Self::walk };
                let (of_a, of_b) = (of(self, a, facts, checks, set)?, of(self, b, facts, checks, set)?);
                match (of_a, of_b) {
                    _ if op.is_comparison() || matches!(op, BinaryOp::And | BinaryOp::Or) => Values::Truth,
                    (Values::Float(a), Values::Float(b)) => Values::Float(a.binary(*op, b)),
                    _ => {
                        let (a_range, b_range) = (of_a.int(), of_b.int());
                        if checks.division && matches!(op, BinaryOp::Div | BinaryOp::Rem) {
                            self.check_division(expr, (a, a_range), (b, b_range))?;
                        }
                        Values::Int(Interval::binary(*op, a_range, b_range))
                    }
                }
            }
            Expr::Random(of) => {
                for integer in of.iter() {
                    self.walk(integer, facts, checks, set)?;
                }
                Values::Float(FloatInterval::new(0.0, 1.0))
            }
            Expr::Select(condition, then, otherwise) => {
                self.walk(condition, facts, checks, set)?;
                let branch = |holds: bool, branch: &Expr| {
                    let inside = |facts: &Facts| self.walk(branch, facts, checks, set);
                    if !checks.conditional() {
                        return inside(facts);
                    }
                    self.under(facts, condition, holds, set, &|facts| {
                        // What a branch's own masks hide does not matter in any part of it.
                        match Parts::of(branch).visible {
                            Some(visible) => self.under(facts, &visible, true, set, &inside),
                            None => inside(facts),
                        }
                    })
                };
                branch(true, then)?.union(branch(false, otherwise)?)
            }
            Expr::Mask(score, visible) => {
                // The predicate has been looked at, with all others, before it was assumed.
                if checks.division {
                    self.walk(visible, facts, checks, set)?;
                }
                self.under(facts, visible, true, set, &|facts| self.walk(score, facts, checks, set))?
            }
        };
        let found = match found {
            Values::Int(found) if is_sum(expr) => found,
            Values::Int(found) => self.narrow_atom(expr, found, facts),
            Values::Float(found) if facts.floats.iter().any(|(known, _)| alike(known, expr)) => {
                let known = canonical(&self.with_values(expr), self.parameters);
                return Ok(Values::Float(facts.narrow_float(&known, found)));
            }
            other => return Ok(other),
        };
        if Interval::I32.contains(found) {
            return Ok(Values::Int(found));
        }
        // What a kernel computes where it does not matter wraps around.
        if !checks.overflow {
            return Ok(Values::Int(if checks.division { Interval::I32 } else { found }));
        }
        let mut narrowed = self.narrow_sum(expr, found, facts, set);
        if !Interval::I32.contains(narrowed) {
            narrowed = self.narrow_by_differences(expr, narrowed, facts, set);
        }
        if !Interval::I32.contains(narrowed) {
            let help = self.help_for_overflow(expr, facts, checks, set).map(String::into);
            let (text, Interval { low, high }) = (expr.display(self.parameters).to_string(), narrowed);
            return Err(RangeError::Overflow { location: self.locate(&[expr]), text, low, high, help });
        }
        Ok(Values::Int(narrowed))
    }

    /// Refuses a division by what may be zero, or of −2³¹ by −1, which has no 32 bits.
    fn check_division(
        &self,
        expr: &Expr,
        (a, a_range): (&Expr, Interval),
        (b, b_range): (&Expr, Interval),
    ) -> Result<(), RangeError> {
        let has = |range: Interval, number: i64| range.contains(Interval::new(number, number));
        if has(b_range, 0) {
            let text = expr.display(self.parameters).to_string();
            let Interval { low, high } = b_range;
            return Err(RangeError::Division { location: self.locate(&[expr]), text, low, high });
        }
        if has(b_range, -1) && has(a_range, i32::MIN.into()) {
            let quotient = Expr::binary(BinaryOp::Div, a.clone(), b.clone());
            let text = quotient.display(self.parameters).to_string();
            let Interval { low, high } = Interval::binary(BinaryOp::Div, a_range, b_range);
            return Err(RangeError::Overflow { location: self.locate(&[expr]), text, low, high, help: None });
        }
        Ok(())
    }

    /// What to write for an integer of which a part has no bounds: a float that is cast, or an element of a captured tensor. It has
    /// been tried.
    fn help_for_overflow(&self, expr: &Expr, facts: &Facts, checks: Checks, set: usize) -> Option<String> {
        let verb = match expr {
            Expr::Binary(BinaryOp::Add, ..) => "add",
            Expr::Binary(BinaryOp::Sub, ..) => "subtract",
            Expr::Binary(BinaryOp::Mul, ..) => "multiply",
            Expr::Unary(UnaryOp::Neg, _) => "negate",
            Expr::Unary(UnaryOp::Abs, _) => "take its size",
            _ => return None,
        };
        [1_000_000, 1_000].into_iter().find_map(|bound| {
            let mut written = Vec::new();
            let changed = self.clamp_sources(expr, bound, facts, set, &mut written);
            if written.is_empty() || self.walk(&changed, facts, checks, set).is_err() {
                return None;
            }
            Some(format!("clamp before you {verb}: write {}", written.join(" and ")))
        })
    }

    /// `expr` with its parts that have no bounds held to ±`bound`, and how each is `written`.
    fn clamp_sources(&self, expr: &Expr, bound: i32, facts: &Facts, set: usize, written: &mut Vec<String>) -> Expr {
        let clamp = |x: &Expr, low: Expr, high: Expr| {
            Expr::binary(BinaryOp::Min, Expr::binary(BinaryOp::Max, x.clone(), low), high)
        };
        let is_wide = |expr: &Expr| {
            let range = self.range_of_atom(expr, facts, set);
            range.low < -i64::from(bound) || range.high > i64::from(bound)
        };
        let mut note = |text: String| {
            if !written.contains(&text) {
                written.push(text);
            }
        };
        match expr {
            Expr::Unary(UnaryOp::ToInt, x) if self.parameters.assume_type(x) == Type::Float => {
                if !is_wide(expr) {
                    return expr.clone();
                }
                let text = x.display(self.parameters);
                note(format!("`clamp({text}, -{bound}.0, {bound}.0) as i32`"));
                let size = bound as f32;
                Expr::unary(UnaryOp::ToInt, clamp(x, Expr::float(-size), Expr::float(size)))
            }
            Expr::Load { .. } if is_wide(expr) => {
                note(format!("`clamp({}, -{bound}, {bound})`", expr.display(self.parameters)));
                clamp(expr, Expr::Int(-bound), Expr::Int(bound))
            }
            Expr::Load { .. } | Expr::Unary(UnaryOp::ToFloat, _) => expr.clone(),
            Expr::Select(condition, a, b) => {
                let a = self.clamp_sources(a, bound, facts, set, written);
                Expr::select((**condition).clone(), a, self.clamp_sources(b, bound, facts, set, written))
            }
            other => other.map_children(|child| self.clamp_sources(child, bound, facts, set, written)),
        }
    }

    fn walk_load(
        &self,
        load: &Expr,
        tensor: usize,
        index: &[Expr],
        facts: &Facts,
        checks: Checks,
        set: usize,
    ) -> Result<Values, RangeError> {
        let (param, known) = (&self.parameters.tensors[tensor], &self.launch.tensors[tensor]);
        for (dimension, (index, &length)) in index.iter().zip(&known.shape).enumerate() {
            let inside = Interval::new(0, length as i64 - 1);
            let mut range = self.walk(index, facts, checks, set)?.int();
            if checks.index && !inside.contains(range) {
                range = self.narrow_by_differences(index, range, facts, set);
            }
            if checks.index && !inside.contains(range) {
                let is_float = |expr: &Expr| self.parameters.assume_type(expr) == Type::Float;
                let is_cast = |expr: &Expr| matches!(expr, Expr::Unary(UnaryOp::ToInt, x) if is_float(x));
                let text = index.display(self.parameters).to_string();
                let clamped = || format!("clamp it: write `clamp({text}, 0, {})`", inside.high);
                let help = (index.any(&mut |expr| is_cast(expr)) && length > 0).then(clamped);
                return Err(RangeError::Index {
                    location: self.locate(&[load, index]),
                    index: text.into(),
                    tensor: param.name.clone(),
                    low: range.low,
                    high: range.high,
                    dimension,
                    length,
                    help: help.map(String::into),
                });
            }
        }
        Ok(match param.ty {
            TensorType::I32 => Values::Int(self.range_of_elements(tensor)),
            TensorType::F32 | TensorType::F16 | TensorType::Bf16 => Values::Float(FloatInterval::ANY),
            TensorType::Bool => Values::Truth,
        })
    }

    /// The range of the elements of a tensor of integers or truth values.
    fn range_of_elements(&self, tensor: usize) -> Interval {
        match (self.parameters.tensors[tensor].ty, self.launch.tensors[tensor].values) {
            (TensorType::I32, Some((low, high))) => Interval::new(low, high),
            (TensorType::I32, None) => Interval::I32,
            _ => Interval::new(0, 1),
        }
    }

    /// Where the first of `exprs` is written of which that is known, or else a part of one.
    fn locate(&self, exprs: &[&Expr]) -> Location {
        let place = |expr: &Expr| Some(self.spec.locate(expr)).filter(|place| **place != self.spec.source);
        let whole = exprs.iter().find_map(|expr| place(expr));
        let mut part = None;
        if whole.is_none() {
            exprs.iter().any(|expr| {
                expr.any(&mut |expr| {
                    part = place(expr);
                    part.is_some()
                })
            });
        }
        whole.or(part).unwrap_or(&self.spec.source).clone()
    }
}

/// Whether a float is what somebody else computed, a position, or one of several such: nothing in it is rounded.
fn is_read(expr: &Expr) -> bool {
    match expr {
        Expr::Float(_) | Expr::Scalar(_) | Expr::Load { .. } | Expr::Unary(UnaryOp::ToFloat, _) => true,
        Expr::Unary(op, a) => is_exact(*op) && is_read(a),
        Expr::Binary(BinaryOp::Min | BinaryOp::Max, a, b) => is_read(a) && is_read(b),
        _ => false,
    }
}

/// What a / d - b / d + n <= 0 says of a and b: a - b <= d * (1 - n) - 1, as a floor is less than 1 below.
fn of_dividends(form: &Affine) -> Option<Affine> {
    let [(first, of_first @ (1 | -1)), (second, of_second)] = form.terms.as_slice() else { return None };
    let (Expr::Binary(BinaryOp::Div, a, divisor), Expr::Binary(BinaryOp::Div, b, other)) = (first, second) else {
        return None;
    };
    match **divisor {
        Expr::Int(size @ 1..) if divisor == other && *of_first == -of_second => {
            let most = i64::from(size).checked_mul(1i64.checked_sub(form.constant)?)?.checked_sub(1)?;
            Affine::of(a)?.plus(&Affine::of(b)?, -1)?.scaled(*of_first)?.shifted(most.checked_neg()?)
        }
        _ => None,
    }
}

/// Whether a function of a float rounds nothing but to a whole number.
fn is_exact(op: UnaryOp) -> bool {
    matches!(op, UnaryOp::Neg | UnaryOp::Abs | UnaryOp::Relu) || is_whole(op)
}

fn is_whole(op: UnaryOp) -> bool {
    matches!(op, UnaryOp::Floor | UnaryOp::Ceil | UnaryOp::Round)
}

/// Whether a float that is computed once more is nearly the same. What is made whole of one that was rounded may be another number.
fn is_steady(expr: &Expr) -> bool {
    !expr.any(&mut |expr| matches!(expr, Expr::Unary(op, a) if is_whole(*op) && !is_read(a)))
}
