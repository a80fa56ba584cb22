//! A row computed again, with care, where the quick way gave what is not finite or met scores that are too great for it.
//!
//! The quick way multiplies every value in a tile by a weight, that of a hidden key by 0; but 0·NaN is NaN, and 0·∞ too. And its
//! scores are to base 2, 1.44 times what was asked for, so that a finite score may overflow. It is right whenever its output
//! is finite and its scores were not [too great](super::softmax::is_too_great()), and else a schedule computes the row again by what is here:
//!
//! - A hidden key adds nothing. Hidden are the keys that the mask hides, and for a softmax those whose score is −∞.
//! - A value that is not finite and is seen is added as it is, or times the factor that it is pushed with: a softmax's weight is positive, even
//!   if it is less than any f32.
//! - Scores are in quarters ([`quarter_scores`]), so that none overflows to base 2.
//! - A softmax's output is a mean at every step, and overflows only where a value does.
//!
//! It costs a few times what the quick way does, and nothing where it is not needed but the look at each tile's output.

use super::arguments::ParameterValues;
use super::place::Place;
use super::softmax::{Exp2, is_finite, is_negative_infinity, power};
use crate::analysis::product::{Factor, Product};
use crate::expr::Expr;
use crate::ir::forward::Pushed;
use crate::ir::{Program, Reduction};
use cubecl::prelude::*;

/// The scores of a careful row are in units of a quarter.
pub const PARTS: f32 = 4.0;

/// A row that is computed with care, on each lane.
#[derive(CubeType)]
pub struct CarefulRows<N: Size> {
    /// The running maximum, in quarters.
    pub maximum: RuntimeCell<Vector<f32, N>>,
    /// The running sum of weights.
    pub sum: RuntimeCell<Vector<f32, N>>,
}

/// What a key does to a row's output.
#[derive(CubeType)]
pub struct Step<N: Size> {
    /// The factor of what was accumulated.
    keep: Vector<f32, N>,
    /// The factor of the key's value.
    weight: Vector<f32, N>,
    /// What of that is not a softmax's weight, but [pushed](Pushed::factor) with it: 1 if nothing is.
    factor: Vector<f32, N>,
    /// Whether the key is hidden from the row.
    hidden: Vector<bool, N>,
}

#[cube]
impl<N: Size> CarefulRows<N> {
    /// Rows at `place` that have seen no key; with a softmax's sink, where there is one and `sinks`.
    pub fn new(
        place: &Place<N>,
        parameters: &ParameterValues,
        sinks: bool,
        #[comptime] accumulator: Reduction,
    ) -> CarefulRows<N> {
        let maximum = RuntimeCell::<Vector<f32, N>>::new(Vector::new(f32::MIN));
        let sum = RuntimeCell::<Vector<f32, N>>::new(Vector::new(0.0));
        let sink = comptime![accumulator.sink().map(quarter)];
        if comptime![sink.is_some()] {
            if sinks {
                let logit = parameters.float::<N>(place, comptime![sink.clone().unwrap()]);
                let is_none = is_negative_infinity::<N>(logit);
                maximum.store(select_many(is_none, Vector::new(f32::MIN), logit));
                sum.store(select_many(is_none, Vector::new(0.0), Vector::new(1.0)));
            }
        }
        CarefulRows::<N> { maximum, sum }
    }

    /// Rows that are at such a maximum and sum.
    pub fn resume(maximum: Vector<f32, N>, sum: Vector<f32, N>) -> CarefulRows<N> {
        CarefulRows::<N> { maximum: RuntimeCell::new(maximum), sum: RuntimeCell::new(sum) }
    }

    /// The key at `place`, whose products with the rows' queries are `dots`.
    pub fn see(
        &self,
        dots: &Sequence<Vector<f32, N>>,
        place: &Place<N>,
        parameters: &ParameterValues,
        #[comptime] push: Pushed,
        #[comptime] accumulator: Reduction,
        #[comptime] by: Exp2,
    ) -> Step<N> {
        let score = parameters.float_of::<N>(place, dots, comptime![push.score.clone()]);
        let visible = comptime![push.mask.as_ref().map_or(Expr::Bool(true), |(visible, _)| visible.clone())];
        let visible = parameters.truth::<N>(place, visible);
        let zero = Vector::<f32, N>::new(0.0);
        let one = Vector::<f32, N>::new(1.0);
        if comptime![accumulator.is_softmax()] {
            let least = parameters.empty_lse;
            let score = select_many(visible, score, Vector::new(least));
            let hides = is_negative_infinity::<N>(score);
            let before = self.maximum.read();
            // One number in both the maximum and the exponent: a compiler that made a multiply-add of the map's last product and the
            // subtraction would round it in one and not in the other, which at 10³⁸ is far from 0.
            let score = select_many(hides, before, score);
            let maximum = max(before, score);
            let parts = Vector::<f32, N>::new(PARTS);
            let kept = self.sum.read() * power::<N>((before - maximum) * parts, by);
            // A NaN is carried by itself: a device's exponential may lose it.
            let weight = select_many(is_finite::<N>(score), power::<N>((score - maximum) * parts, by), score);
            let weight = select_many(hides, zero, weight);
            let sum = kept + weight;
            self.maximum.store(maximum);
            self.sum.store(sum);
            let divisor = select_many(sum.equal(&zero), one, sum);
            let weight = weight / divisor;
            let keep = kept / divisor;
            if comptime![push.factor.is_some()] {
                let factor = parameters.float_of::<N>(place, dots, comptime![push.factor.clone().unwrap()]);
                Step::<N> { keep, weight: weight * factor, factor, hidden: hides }
            } else {
                Step::<N> { keep, weight, factor: one, hidden: hides }
            }
        } else {
            self.sum.store(self.sum.read() + select_many(visible, score, zero));
            let counts = select_many(visible, Vector::<u32, N>::new(1u32), Vector::new(0u32));
            let hidden = counts.equal(&Vector::new(0u32));
            if comptime![push.factor.is_some()] {
                let factor = parameters.float_of::<N>(place, dots, comptime![push.factor.clone().unwrap()]);
                Step::<N> { keep: one, weight: score * factor, factor, hidden }
            } else {
                Step::<N> { keep: one, weight: score, factor: one, hidden }
            }
        }
    }
}

#[cube]
impl<N: Size> Step<N> {
    /// The output's element that was `output`, with the key's `value`, of a push that `has_factor` or not.
    pub fn add(
        &self,
        output: Vector<f32, N>,
        value: Vector<f32, N>,
        #[comptime] has_factor: bool,
        #[comptime] accumulator: Reduction,
    ) -> Vector<f32, N> {
        let mut kept = output;
        let mut added = self.weight * value;
        if comptime![accumulator.is_softmax()] {
            kept = select_many(is_finite::<N>(output), output * self.keep, output);
            let counts = is_finite::<N>(self.weight);
            let as_it_is = select_many(counts, self.as_it_is(value, has_factor), added);
            added = select_many(is_finite::<N>(value), added, as_it_is);
        }
        select_many(self.hidden, output, kept + added)
    }

    /// A value that is not finite, as it is added. Not by a local that changes, which backends read anew each time.
    fn as_it_is(&self, value: Vector<f32, N>, #[comptime] has_factor: bool) -> Vector<f32, N> {
        if comptime![has_factor] { value * self.factor } else { value }
    }
}

/// The factor by which a schedule multiplies scaled queries, or keys, for scores in quarters: where all that a program pushes are scores of one
/// softmax, and its queries are scaled.
pub fn quarter_of_queries(program: &Program) -> f32 {
    let is_scaled = program.loads.iter().enumerate().all(|(at, load)| load.scale.is_some() || !program.is_in_dots(at));
    let is_quartered =
        |push: &Pushed| is_proportional(&push.score) && !push.factor.as_ref().is_some_and(Expr::has_values);
    let is_proportional = program.loops.iter().flat_map(|one| one.pushes()).all(|push| is_quartered(&push));
    if program.has_lse() && is_scaled && is_proportional { 1.0 / PARTS } else { 1.0 }
}

/// Whether a score is a product of a dot and of what no dot is in.
fn is_proportional(score: &Expr) -> bool {
    let factors = Product::of(score).varying;
    let mut of_dots = factors.iter().filter(|factor| match factor {
        Factor::Times(expr) | Factor::Over(expr) => expr.has_values(),
    });
    matches!((of_dots.next(), of_dots.next()), (Some(Factor::Times(Expr::Value(_))), None))
}

/// What `program` pushes, where scores are a quarter of what they were if they are a softmax's. Where the queries are scaled, what is left of
/// the maps is proportional to the score, so that [the queries](quarter_of_queries) are what is made less.
pub fn quarter_scores(program: &Program, push: &Pushed) -> Pushed {
    let mut quartered = push.clone();
    if quarter_of_queries(program) == 1.0 && program.accumulators[push.accumulator].reduction.is_softmax() {
        quartered.score = quarter(&push.score);
    }
    quartered
}

/// A quarter of `expr`, in which a constant factor takes it up: what overflows in `expr` need not here.
fn quarter(expr: &Expr) -> Expr {
    let mut product = Product::of(expr);
    product.constant /= f64::from(PARTS);
    product
        .to_expr()
        .unwrap_or_else(|_| Expr::binary(crate::expr::BinaryOp::Mul, expr.clone(), Expr::float(1.0 / PARTS)))
}
