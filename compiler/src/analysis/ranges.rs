//! The ranges of integer expressions at a launch: whether they fit their tensors and 32 bits.
//!
//! Everything is known but which pair is looked at: positions, heads and batch have ranges, scalars have values, captured
//! tensors have lengths and maybe a range of elements. Interval arithmetic gives the range of every integer in between. It is
//! narrowed by what must hold for the expression to matter: under `mask(…, j <= i)`, in `if j <= i { … }` and after
//! `j <= i &&` the difference `i - j` is not negative.

use crate::analysis::affine::Affine;
use crate::analysis::clauses::required;
use crate::eval::{floor_div, floor_rem};
use crate::expr::{BinaryOp, Expr, Type, UnaryOp};
use crate::ir::Program;
use crate::launch::Launch;
use crate::lower::{Parts, runtime_scalars};
use crate::spec::{Accumulator, Location, ScalarValue, Spec, TensorType};
use crate::typing::Parameters;
use thiserror::Error;

/// Why a launch is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RangeError {
    /// An index that can leave its tensor.
    #[error(
        "{location}: index `{index}` of `{tensor}` ranges over {low}..={high}, its dimension {dimension} has length {length}"
    )]
    Index {
        /// Where it is written.
        location: Location,
        /// The index, as text.
        index: String,
        /// The tensor's name.
        tensor: String,
        /// The least value that the index can be proved to have.
        low: i64,
        /// The greatest.
        high: i64,
        /// The dimension, from 0.
        dimension: usize,
        /// Its length.
        length: usize,
    },
    /// An integer that can leave 32 bits.
    #[error("{location}: `{text}` ranges over {low}..={high}, which leaves 32 bits")]
    Overflow {
        /// Where it is written.
        location: Location,
        /// The expression, as text.
        text: String,
        /// The least value that it can be proved to have.
        low: i64,
        /// The greatest.
        high: i64,
    },
    /// An integer divisor that can be zero.
    #[error("{location}: the divisor of `{text}` ranges over {low}..={high}, which includes zero")]
    Division {
        /// Where it is written.
        location: Location,
        /// The division, as text.
        text: String,
        /// The least value that the divisor can be proved to have.
        low: i64,
        /// The greatest.
        high: i64,
    },
    /// A captured tensor whose summary would be too large; only of [`check_tiles`].
    #[error("a summary of `{tensor}` would have {blocks} blocks, at most {most} are made")]
    Summary {
        /// The tensor's name.
        tensor: String,
        /// The blocks that its summary would have.
        blocks: u64,
        /// The most there may be.
        most: u64,
    },
    /// Positions that leave 32 bits.
    #[error("{what} are at {low}..={high}, which leaves 32 bits")]
    Positions {
        /// Whose.
        what: String,
        /// The first.
        low: i64,
        /// The last, with those that fill the last tile.
        high: i64,
    },
    /// A launch that does not fit the attention.
    #[error("`{attention}` takes {expected} {what}, {given} were given")]
    Count {
        /// The attention's name.
        attention: String,
        /// What is counted.
        what: &'static str,
        /// How many it takes.
        expected: usize,
        /// How many there are.
        given: usize,
    },
}

/// Refuses a launch of `program`, compiled from `spec`, in which an index could leave its captured tensor, an integer 32
/// bits, or a divisor be zero.
///
/// Divisors must not be zero for any pair, hidden ones and those that only fill a tile included, because kernels divide
/// there too. An index may be anything where the mask, an `if`, `&&` or `||` makes it irrelevant: kernels must clamp it.
/// A launch without queries is fine; so is what is computed for
/// the keys of a pair that has none.
pub fn check_launch(spec: &Spec, program: &Program, launch: &Launch) -> Result<(), RangeError> {
    check_counts(spec, launch)?;
    if launch.is_empty() {
        return Ok(());
    }
    let asked = Checker::new(spec, launch, spec.parameters(), launch.scalars.to_vec(), padding(program));
    asked.check_positions()?;
    if let Accumulator::Softmax { sink: Some(sink) } = &spec.accumulator {
        asked.check_everywhere(sink, 0)?;
        asked.walk(sink, &Facts::none(), Checks::VALUES, 0)?;
    }
    for push_loop in &spec.loops {
        let pair = push_loop.pair;
        if launch.keys[pair].length == 0 {
            continue;
        }
        asked.check_everywhere(&push_loop.push, pair)?;
        let visible = Parts::of(&push_loop.push).visible.unwrap_or(Expr::Bool(true));
        asked.walk(&visible, &Facts::none(), Checks::VALUES, pair)?;
        let facts = asked.assume(&Facts::none(), &visible, true, pair);
        asked.walk(&push_loop.push, &facts, Checks::VALUES, pair)?;
    }
    Ok(())
}

/// The most blocks of a summary of a captured tensor: with three numbers for each, 192 MB.
const MAX_SUMMARY_BLOCKS: u64 = 1 << 24;

/// Refuses what decides of the program's tiles where it could leave 32 bits, or needs a summary of more than 2²⁴ blocks, for a launch
/// that [`check_launch`] accepts. A sum of
/// positions and scalars may do so even where those of the mask do not: the program must then be run
/// [without skipping](Program::without_skipping).
pub fn check_tiles(spec: &Spec, program: &Program, launch: &Launch) -> Result<(), RangeError> {
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
    let compiled =
        Checker::new(spec, launch, program.parameters(), runtime_scalars(spec, launch.scalars), padding(program));
    for key_loop in &program.loops {
        let pair = key_loop.pair;
        // A pair without keys has bounds, too, which divide. Reads are clamped: an index that leaves its tensor here is one of a pair that does not matter.
        let checks = Checks { overflow: true, division: true, index: false };
        for expr in key_loop.tile_exprs() {
            compiled.walk(expr, &Facts::none(), checks, pair)?;
        }
    }
    Ok(())
}

/// Queries and keys that may be computed beyond the last.
fn padding(program: &Program) -> (i64, i64) {
    program.schedule.map_or((0, 0), |schedule| (schedule.query_tile() as i64, schedule.key_tile() as i64))
}

fn check_counts(spec: &Spec, launch: &Launch) -> Result<(), RangeError> {
    let counts = [
        ("key and value pairs", spec.pairs.len(), launch.keys.len()),
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

/// The integers `low..=high`; none where `low > high`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    /// The least.
    pub low: i64,
    /// The greatest.
    pub high: i64,
}

impl Interval {
    const NONE: Interval = Interval { low: 0, high: -1 };
    const I32: Interval = Interval { low: i32::MIN as i64, high: i32::MAX as i64 };

    /// `low..=high`.
    pub fn new(low: i64, high: i64) -> Interval {
        Interval { low, high }
    }

    fn is_none(self) -> bool {
        self.low > self.high
    }

    fn contains(self, other: Interval) -> bool {
        other.is_none() || (self.low <= other.low && other.high <= self.high)
    }

    fn union(self, other: Interval) -> Interval {
        match (self.is_none(), other.is_none()) {
            (true, _) => other,
            (_, true) => self,
            _ => Interval::new(self.low.min(other.low), self.high.max(other.high)),
        }
    }

    fn intersection(self, other: Interval) -> Interval {
        let (low, high) = (self.low.max(other.low), self.high.min(other.high));
        if low > high { Interval::NONE } else { Interval::new(low, high) }
    }

    fn negated(self) -> Interval {
        Interval::new(self.high.saturating_neg(), self.low.saturating_neg())
    }

    fn of_corners(self, other: Interval, op: impl Fn(i64, i64) -> i64) -> Interval {
        let corners =
            [op(self.low, other.low), op(self.low, other.high), op(self.high, other.low), op(self.high, other.high)];
        Interval::new(corners.into_iter().min().unwrap_or(0), corners.into_iter().max().unwrap_or(-1))
    }

    /// All values of `a op b`; of a division, those by a divisor that is not zero.
    fn binary(op: BinaryOp, a: Interval, b: Interval) -> Interval {
        if a.is_none() || b.is_none() {
            return Interval::NONE;
        }
        let divisors = [b.intersection(Interval::new(i64::MIN, -1)), b.intersection(Interval::new(1, i64::MAX))];
        let by_sign = |quotient: &dyn Fn(Interval) -> Interval| {
            let parts = divisors.into_iter().filter(|part| !part.is_none());
            parts.fold(Interval::NONE, |all, part| all.union(quotient(part)))
        };
        match op {
            BinaryOp::Add => Interval::new(a.low.saturating_add(b.low), a.high.saturating_add(b.high)),
            BinaryOp::Sub => Interval::new(a.low.saturating_sub(b.high), a.high.saturating_sub(b.low)),
            BinaryOp::Mul => a.of_corners(b, i64::saturating_mul),
            BinaryOp::Min => Interval::new(a.low.min(b.low), a.high.min(b.high)),
            BinaryOp::Max => Interval::new(a.low.max(b.low), a.high.max(b.high)),
            BinaryOp::Div => by_sign(&|part| a.of_corners(part, |a, b| floor_div(a, b).unwrap_or(i64::MAX))),
            BinaryOp::Rem => by_sign(&|part| remainder(a, part)),
            _ => Interval::NONE,
        }
    }
}

/// All remainders of `a` by the divisors `b`, which have one sign.
fn remainder(a: Interval, b: Interval) -> Interval {
    if b.low < 0 {
        return remainder(a.negated(), b.negated()).negated();
    }
    let whole = Interval::new(0, b.high.saturating_sub(1));
    if b.low == b.high && floor_div(a.low, b.low) == floor_div(a.high, b.low) {
        let of = |a| floor_rem(a, b.low).unwrap_or(0);
        return Interval::new(of(a.low), of(a.high));
    }
    if a.low >= 0 { whole.intersection(Interval::new(0, a.high)) } else { whole }
}

/// What is assumed to hold.
#[derive(Clone, Debug)]
struct Facts {
    /// Forms that are at most zero, with scalars replaced by their values.
    at_most_zero: Vec<Affine>,
    /// What follows for single atoms.
    narrowed: Vec<(Expr, Interval)>,
    /// Whether the facts contradict each other: nothing that assumes them matters.
    unreachable: bool,
}

impl Facts {
    fn none() -> Facts {
        Facts { at_most_zero: Vec::new(), narrowed: Vec::new(), unreachable: false }
    }

    fn narrow(&self, atom: &Expr, interval: Interval) -> Interval {
        match self.narrowed.iter().find(|(known, _)| known == atom) {
            Some((_, known)) => interval.intersection(*known),
            None => interval,
        }
    }
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

struct Checker<'a> {
    spec: &'a Spec,
    launch: &'a Launch<'a>,
    parameters: Parameters<'a>,
    scalars: Vec<ScalarValue>,
    /// Queries and keys that may be computed beyond the last, to fill a tile.
    padding: (i64, i64),
    /// Whether positions include those.
    padded: bool,
}

impl<'a> Checker<'a> {
    fn new(
        spec: &'a Spec,
        launch: &'a Launch<'a>,
        parameters: Parameters<'a>,
        scalars: Vec<ScalarValue>,
        padding: (i64, i64),
    ) -> Self {
        Checker { spec, launch, parameters, scalars, padding, padded: false }
    }

    fn queries(&self) -> Interval {
        let first = self.launch.query_offset;
        let last = first.saturating_add(self.launch.queries as i64 - 1);
        Interval::new(first, if self.padded { last.saturating_add(self.padding.0) } else { last })
    }

    fn keys(&self, pair: usize) -> Interval {
        let keys = self.launch.keys[pair];
        let last = keys.offset.saturating_add(keys.length as i64 - 1);
        if self.padded {
            return Interval::new(keys.offset.saturating_sub(self.padding.1), last.saturating_add(self.padding.1));
        }
        Interval::new(keys.offset, last)
    }

    fn check_positions(&self) -> Result<(), RangeError> {
        let padded = Checker { padded: true, scalars: Vec::new(), ..*self };
        let keys = self.spec.pairs.iter().enumerate();
        let keys = keys.map(|(pair, names)| (format!("the positions of `{}`", names.key), padded.keys(pair)));
        let queries = (format!("the positions of `{}`", self.spec.query), padded.queries());
        for (what, Interval { low, high }) in std::iter::once(queries).chain(keys) {
            if !Interval::I32.contains(Interval { low, high }) {
                return Err(RangeError::Positions { what, low, high });
            }
        }
        Ok(())
    }

    /// Checks what must hold for every pair that a kernel computes, whether or not it matters.
    fn check_everywhere(&self, expr: &Expr, pair: usize) -> Result<(), RangeError> {
        let padded = Checker { padded: true, scalars: self.scalars.clone(), ..*self };
        padded.walk(expr, &Facts::none(), Checks::DIVISION, pair).map(drop)
    }

    /// The facts, and that `predicate`, which has been checked, holds (or does not).
    fn assume(&self, facts: &Facts, predicate: &Expr, holds: bool, pair: usize) -> Facts {
        let mut predicate = self.with_scalars(predicate);
        if !holds {
            predicate = Expr::unary(UnaryOp::Not, predicate);
        }
        let mut facts = facts.clone();
        match required(&predicate, self.parameters) {
            None => facts.unreachable = true,
            Some(forms) => facts.at_most_zero.extend(forms),
        }
        // Twice, so that a fact that narrows one atom helps another.
        for _ in 0..2 {
            for place in 0..facts.at_most_zero.len() {
                self.narrow_atoms(&mut facts, place, pair);
            }
        }
        facts
    }

    /// From Σ c·x + d <= 0: a bound of each x from the ranges of the others.
    fn narrow_atoms(&self, facts: &mut Facts, place: usize, pair: usize) {
        let form = facts.at_most_zero[place].clone();
        if form.terms.is_empty() {
            facts.unreachable |= form.constant > 0;
            return;
        }
        for (atom, coefficient) in &form.terms {
            let rest = self.evaluate_form(&form.without(atom), facts, pair);
            let before = self.range_of_atom(atom, facts, pair);
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

    /// The expression with the values of its integer scalars.
    fn with_scalars(&self, expr: &Expr) -> Expr {
        match expr {
            Expr::Scalar(place) => match self.scalars[*place] {
                ScalarValue::I32(value) => Expr::Int(value),
                ScalarValue::U32(value) => i32::try_from(value).map_or_else(|_| expr.clone(), Expr::Int),
                ScalarValue::Bool(value) => Expr::Bool(value),
                ScalarValue::F32(_) => expr.clone(),
            },
            other => other.map_children(|child| self.with_scalars(child)),
        }
    }

    fn scalar(&self, place: usize) -> Interval {
        let value = match self.scalars[place] {
            ScalarValue::I32(value) => value.into(),
            ScalarValue::U32(value) => value.into(),
            ScalarValue::F32(_) | ScalarValue::Bool(_) => 0,
        };
        Interval::new(value, value)
    }

    fn evaluate_form(&self, form: &Affine, facts: &Facts, pair: usize) -> Interval {
        form.terms.iter().fold(Interval::new(form.constant, form.constant), |sum, (atom, coefficient)| {
            let times = Interval::new(*coefficient, *coefficient);
            let multiple = Interval::binary(BinaryOp::Mul, self.range_of_atom(atom, facts, pair), times);
            Interval::binary(BinaryOp::Add, sum, multiple)
        })
    }

    /// `found`, narrowed by what the facts say of the sum that `expr` is.
    fn narrow_sum(&self, expr: &Expr, found: Interval, facts: &Facts, pair: usize) -> Interval {
        let sum = matches!(
            expr,
            Expr::Binary(BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul, ..) | Expr::Unary(UnaryOp::Neg, _)
        );
        if !sum || found.is_none() {
            return found;
        }
        let Some(form) = Affine::of(&self.with_scalars(expr)) else { return found };
        let mut narrowed = found;
        // Of other atoms the range is known already, and finding it again would double the work at every level.
        if form.terms.iter().all(|(atom, _)| atom.children().is_empty()) {
            narrowed = narrowed.intersection(self.evaluate_form(&form, facts, pair));
        }
        for fact in &facts.at_most_zero {
            let bound = if form.same_terms(fact, 1) {
                Interval::new(i64::MIN, form.constant.saturating_sub(fact.constant))
            } else if form.same_terms(fact, -1) {
                Interval::new(form.constant.saturating_add(fact.constant), i64::MAX)
            } else {
                continue;
            };
            narrowed = narrowed.intersection(bound);
        }
        narrowed
    }

    /// The range of an atom of a form; nothing is refused.
    fn range_of_atom(&self, expr: &Expr, facts: &Facts, pair: usize) -> Interval {
        self.walk_parts(expr, facts, Checks::NOTHING, pair).unwrap_or(Interval::I32)
    }

    /// The range of an expression (of an integer; another's means nothing), refusing what `checks` says in all of its parts.
    fn walk(&self, expr: &Expr, facts: &Facts, checks: Checks, pair: usize) -> Result<Interval, RangeError> {
        let found = self.walk_parts(expr, facts, checks, pair)?;
        Ok(self.narrow_sum(expr, found, facts, pair))
    }

    /// As [`walk`](Self::walk), where `expr` may be part of a sum.
    fn walk_parts(&self, expr: &Expr, facts: &Facts, checks: Checks, pair: usize) -> Result<Interval, RangeError> {
        if facts.unreachable {
            return Ok(Interval::NONE);
        }
        let found = match expr {
            Expr::Query => self.queries(),
            Expr::Key => self.keys(pair),
            Expr::Batch => Interval::new(0, self.launch.batch as i64 - 1),
            Expr::Head => Interval::new(0, self.launch.heads as i64 - 1),
            Expr::KvHead => Interval::new(0, self.launch.kv_heads as i64 - 1),
            Expr::QueryFirst => self.queries(),
            Expr::QueryLast => {
                let queries = self.queries();
                Interval::new(queries.low, queries.high + (self.padding.0 - 1).max(0))
            }
            Expr::KeyFirst | Expr::KeyLast => self.keys(pair),
            Expr::Extreme { tensor, .. } => {
                for index in expr.children() {
                    self.walk(index, facts, checks, pair)?;
                }
                self.range_of_elements(*tensor)
            }
            Expr::Count { tensor, .. } | Expr::Next { tensor, .. } => {
                for operand in expr.children() {
                    self.walk(operand, facts, checks, pair)?;
                }
                Interval::new(0, *self.launch.tensors[*tensor].shape.last().unwrap_or(&0) as i64)
            }
            Expr::Int(value) => Interval::new((*value).into(), (*value).into()),
            Expr::Scalar(place) => self.scalar(*place),
            Expr::Score | Expr::Scale | Expr::Float(_) | Expr::Bool(_) => Interval::NONE,
            Expr::Load { tensor, index } => self.walk_load(expr, *tensor, index, facts, checks, pair)?,
            Expr::Unary(op, a) => {
                let of = if *op == UnaryOp::Neg { Self::walk_parts } else { Self::walk };
                let a_range = of(self, a, facts, checks, pair)?;
                match op {
                    UnaryOp::Neg if a_range.is_none() => Interval::NONE,
                    UnaryOp::Neg => a_range.negated(),
                    UnaryOp::Abs => a_range.union(a_range.negated()).intersection(Interval::new(0, i64::MAX)),
                    UnaryOp::ToInt if self.parameters.assume_type(a) == Type::Bool => Interval::new(0, 1),
                    UnaryOp::ToInt => Interval::I32,
                    _ => Interval::NONE,
                }
            }
            Expr::Binary(op @ (BinaryOp::And | BinaryOp::Or), a, b) if checks.conditional() => {
                // Where the first operand decides, the second does not matter.
                self.walk(a, facts, checks, pair)?;
                let with_a = self.assume(facts, a, *op == BinaryOp::And, pair);
                self.walk(b, &with_a, checks, pair)?;
                Interval::NONE
            }
            Expr::Binary(op, a, b) => {
                let sum = matches!(op, BinaryOp::Add | BinaryOp::Sub);
                let of = if sum { Self::walk_parts } else { Self::walk };
                let (a_range, b_range) = (of(self, a, facts, checks, pair)?, of(self, b, facts, checks, pair)?);
                let divides =
                    matches!(op, BinaryOp::Div | BinaryOp::Rem) && self.parameters.assume_type(a) == Type::Int;
                if divides && checks.division && !b_range.is_none() && b_range.low <= 0 && b_range.high >= 0 {
                    let text = expr.display(self.parameters).to_string();
                    let Interval { low, high } = b_range;
                    return Err(RangeError::Division { location: self.locate(&[expr]), text, low, high });
                }
                Interval::binary(*op, a_range, b_range)
            }
            Expr::Select(condition, then, otherwise) => {
                self.walk(condition, facts, checks, pair)?;
                let assume = |holds, branch| {
                    if !checks.conditional() {
                        return facts.clone();
                    }
                    let facts = self.assume(facts, condition, holds, pair);
                    // What a branch's own masks hide does not matter in any part of it.
                    match Parts::of(branch).visible {
                        Some(visible) => self.assume(&facts, &visible, true, pair),
                        None => facts,
                    }
                };
                let (yes, no) = (assume(true, then), assume(false, otherwise));
                let then = self.walk(then, &yes, checks, pair)?;
                then.union(self.walk(otherwise, &no, checks, pair)?)
            }
            Expr::Mask(score, visible) => {
                // The predicate has been looked at, with all others, before it was assumed.
                if checks.division {
                    self.walk(visible, facts, checks, pair)?;
                }
                let facts = self.assume(facts, visible, true, pair);
                self.walk(score, &facts, checks, pair)?
            }
        };
        let found = facts.narrow(expr, found);
        if checks.overflow && !Interval::I32.contains(found) {
            let found = self.narrow_sum(expr, found, facts, pair);
            if !Interval::I32.contains(found) {
                let (text, Interval { low, high }) = (expr.display(self.parameters).to_string(), found);
                return Err(RangeError::Overflow { location: self.locate(&[expr]), text, low, high });
            }
            return Ok(found);
        }
        Ok(found)
    }

    fn walk_load(
        &self,
        load: &Expr,
        tensor: usize,
        index: &[Expr],
        facts: &Facts,
        checks: Checks,
        pair: usize,
    ) -> Result<Interval, RangeError> {
        let (param, known) = (&self.parameters.tensors[tensor], &self.launch.tensors[tensor]);
        for (dimension, (index, &length)) in index.iter().zip(&known.shape).enumerate() {
            let range = self.walk(index, facts, checks, pair)?;
            if checks.index && !Interval::new(0, length as i64 - 1).contains(range) {
                return Err(RangeError::Index {
                    location: self.locate(&[index, load]),
                    index: index.display(self.parameters).to_string(),
                    tensor: param.name.clone(),
                    low: range.low,
                    high: range.high,
                    dimension,
                    length,
                });
            }
        }
        Ok(if param.ty == TensorType::I32 { self.range_of_elements(tensor) } else { Interval::NONE })
    }

    /// The range of the elements of a tensor of integers or truth values.
    fn range_of_elements(&self, tensor: usize) -> Interval {
        match (self.parameters.tensors[tensor].ty, self.launch.tensors[tensor].values) {
            (TensorType::I32, Some((low, high))) => Interval::new(low, high),
            (TensorType::I32, None) => Interval::I32,
            _ => Interval::new(0, 1),
        }
    }

    /// Where the first of `exprs` is written of which that is known.
    fn locate(&self, exprs: &[&Expr]) -> Location {
        let places = exprs.iter().map(|expr| self.spec.locate(expr));
        places.into_iter().find(|place| **place != self.spec.source).unwrap_or(&self.spec.source).clone()
    }
}
