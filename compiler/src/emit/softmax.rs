//! The arithmetic of the online softmax in base 2, which all schedules share. A row has a running maximum m, a running sum l and an output O,
//! and goes through tiles of keys with scores s and values v:
//!
//! ```text
//! start    m = EMPTY, l = 0; where a sink is seen m = sink, l = 1       RowStart
//! see      m' = max(m, s); in full tiles at least LEAST                 raise, raised
//! move     l = l·2^(m − m'); O = O·2^(m − m')                           rescaling
//! weigh    p = 2^(s − m'); l = l + Σ p; O = O + Σ p·v                   weight
//! end      O = O / l, or 0 where l is 0; m and l, or their logarithm    inverse, row_number
//! ```
//!
//! Which scores a unit holds, and how what it holds of a row meets what others do, is a schedule's own.
//!
//! A hidden key's score is [`HIDDEN`], the maximum of a row that has seen no key is [`EMPTY`], and that of a row that has seen one is at
//! least [`LEAST`]. All three are finite, since WGSL has no constant for −∞, and so far from each other that 2 to the power of a
//! difference is exactly 0. A finite score may be lower than `LEAST`, since to base 2 it may overflow: a row of which
//! [that shows](is_too_great()) at its end is computed again, [with care](super::careful).

use super::arguments::ParameterValues;
use super::math::{exp2_native, ln};
use super::nvidia::tensor_core;
use super::place::Place;
use crate::expr::Expr;
use crate::ir::RowNumber;
use cubecl::prelude::*;

/// The score of a hidden key.
pub const HIDDEN: f32 = f32::MIN;

/// The running maximum of a row that has seen no key.
pub const EMPTY: f32 = -3.40e38;

/// The least running maximum of a row that has seen a key.
pub const LEAST: f32 = -3.39e38;

/// The bits of −∞.
const NEGATIVE_INFINITY: u32 = f32::NEG_INFINITY.to_bits();

/// What a hidden key's score or weight becomes.
pub fn hidden(softmax: bool) -> f32 {
    if softmax { HIDDEN } else { 0.0 }
}

/// The score of a key that is seen, raised to [`LEAST`] if it is lower; NaN stays NaN. By integers: compilers for GPUs make `max`, which
/// drops a NaN, of a comparison of floats and a select.
#[cube]
pub fn raise<N: Size>(score: Vector<f32, N>) -> Vector<f32, N> {
    let least = comptime![LEAST.to_bits()];
    let beyond = Vector::<u32, N>::reinterpret(score) - Vector::new(least);
    let is_lower = beyond.less_equal(&Vector::new(comptime![NEGATIVE_INFINITY - least]));
    select_many(is_lower, Vector::new(LEAST), score)
}

/// The running maximum that rows have at least with a tile in which each of them `sees` a key.
#[cube]
pub fn raised<N: Size>(maximum: Vector<f32, N>, #[comptime] sees: bool) -> Vector<f32, N> {
    if sees { max(maximum, Vector::new(LEAST)) } else { maximum }
}

/// What rows have before any key. Code for its numbers is made where they are asked for.
#[derive(CubeType)]
pub struct RowStart<N: Size> {
    /// The sink's logit, where there is one.
    sink: Sequence<Vector<f32, N>>,
}

#[cube]
impl<N: Size> RowStart<N> {
    /// Rows of an accumulator without a sink.
    pub fn unseen() -> RowStart<N> {
        RowStart::<N> { sink: Sequence::new() }
    }

    /// Rows at `place` of a softmax with this `sink`: it is a score that all of them have seen.
    pub fn of_sink(place: &Place<N>, parameters: &ParameterValues, #[comptime] sink: Expr) -> RowStart<N> {
        let mut logits = Sequence::new();
        logits.push(parameters.float::<N>(place, sink));
        RowStart::<N> { sink: logits }
    }

    /// The running maximum.
    pub fn maximum(&self) -> Vector<f32, N> {
        if comptime![self.sink.len() > 0] { raise::<N>(self.sink[0]) } else { Vector::new(EMPTY) }
    }

    /// The running sum.
    pub fn sum(&self) -> Vector<f32, N> {
        Vector::new(comptime![if self.sink.len() > 0 { 1.0 } else { 0.0 }])
    }
}

/// How 2 to a power is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Exp2 {
    /// By a polynomial: on a CPU.
    Polynomial,
    /// By [the device](exp2_native()).
    Device,
    /// By the [instruction of NVIDIA's GPUs](tensor_core::exp2()).
    Nvidia,
}

/// 2 to the x, for x ≤ 0.
#[cube]
pub fn power<N: Size>(x: Vector<f32, N>, #[comptime] by: Exp2) -> Vector<f32, N> {
    if comptime![by == Exp2::Polynomial] {
        exp2::<N>(x)
    } else if comptime![by == Exp2::Device] {
        exp2_native::<N>(x)
    } else {
        tensor_core::exp2::<N>(x)
    }
}

/// What the sum and the output of rows are multiplied by when their maximum moves from `before` to `maximum`.
#[cube]
pub fn rescaling<N: Size>(before: Vector<f32, N>, maximum: Vector<f32, N>, #[comptime] by: Exp2) -> Vector<f32, N> {
    power::<N>(before - maximum, by)
}

/// What a key with such a score weighs in rows with such a maximum.
#[cube]
pub fn weight<N: Size>(score: Vector<f32, N>, maximum: Vector<f32, N>, #[comptime] by: Exp2) -> Vector<f32, N> {
    power::<N>(score - maximum, by)
}

/// The same of a score that is `factor` times `product`: by one multiply-add.
#[cube]
pub fn weight_of_product<N: Size>(
    product: Vector<f32, N>,
    factor: f32,
    maximum: Vector<f32, N>,
    #[comptime] by: Exp2,
) -> Vector<f32, N> {
    power::<N>(fma(product, Vector::new(factor), -maximum), by)
}

/// Whether each number is finite. By its bits, since compilers for GPUs may assume that all are.
#[cube]
pub fn is_finite<N: Size>(x: Vector<f32, N>) -> Vector<bool, N> {
    let infinity = comptime![f32::INFINITY.to_bits()];
    let exponent = Vector::<u32, N>::reinterpret(x) & Vector::new(infinity);
    exponent.not_equal(&Vector::new(infinity))
}

/// Whether each number is a NaN, likewise.
#[cube]
pub fn is_nan<N: Size>(x: Vector<f32, N>) -> Vector<bool, N> {
    let magnitude = Vector::<u32, N>::reinterpret(x) & Vector::new(comptime![i32::MAX.cast_unsigned()]);
    magnitude.greater_than(&Vector::new(comptime![f32::INFINITY.to_bits()]))
}

/// Whether each number is −∞, likewise.
#[cube]
pub fn is_negative_infinity<N: Size>(x: Vector<f32, N>) -> Vector<bool, N> {
    Vector::<u32, N>::reinterpret(x).equal(&Vector::new(NEGATIVE_INFINITY))
}

/// Whether a row with such a maximum and sum met scores that are too great for the quick way, as 1 or 0. To base 2 they may have overflowed:
/// the maximum is still [`LEAST`], or infinite. Or a compiler made a multiply-add of a score's last product and the subtraction of the
/// maximum, which is that product rounded: beyond 10⁹ they may differ by more than an exponential has room for, and a row that saw a
/// key has the sum 0.
#[cube]
pub fn is_too_great<N: Size>(maximum: Vector<f32, N>, sum: Vector<f32, N>) -> Vector<u32, N> {
    let bits = Vector::<u32, N>::reinterpret(maximum);
    let (yes, no) = (Vector::<u32, N>::new(1u32), Vector::<u32, N>::new(0u32));
    let least = select_many(bits.equal(&Vector::new(comptime![LEAST.to_bits()])), yes, no);
    let infinite = select_many(bits.equal(&Vector::new(comptime![f32::INFINITY.to_bits()])), yes, no);
    let saw_none = bits.equal(&Vector::new(comptime![EMPTY.to_bits()]));
    let lost = select_many(saw_none, no, select_many(sum.equal(&Vector::new(0.0)), yes, no));
    least | infinite | lost
}

/// The polynomial: within 2 ulp, and exactly 0 below −126.
///
/// x is split into an integer t and a fraction f in [−½, ½] by adding 1.5·2²³, whose last bit is worth 1; 2^f is a minimax
/// polynomial of degree 5 (relative error 7.5e-8), and t is added to its exponent.
#[cube]
fn exp2<N: Size>(x: Vector<f32, N>) -> Vector<f32, N> {
    let smallest = Vector::<f32, N>::new(-126.0);
    let vanishes = x.less_than(&smallest);
    let round = Vector::<f32, N>::new(12582912.0);
    let shifted = x + round;
    let fraction = x - (shifted - round);
    let mut power = Vector::<f32, N>::new(0.0013276471);
    power = fma(power, fraction, Vector::new(0.009675541));
    power = fma(power, fraction, Vector::new(0.05550713));
    power = fma(power, fraction, Vector::new(0.2402212));
    power = fma(power, fraction, Vector::new(0.69314694));
    power = fma(power, fraction, Vector::new(1.0));
    let exponent = Vector::<u32, N>::reinterpret(shifted) << Vector::<u32, N>::new(23);
    let power = Vector::<f32, N>::reinterpret(Vector::<u32, N>::reinterpret(power) + exponent);
    select_many(vanishes, Vector::new(0.0), power)
}

/// What makes an output of what was accumulated: 1 over the row's sum, and 0 where that is 0.
#[cube]
pub fn inverse<N: Size>(sum: Vector<f32, N>) -> Vector<f32, N> {
    let empty = sum.equal(&Vector::new(0.0));
    select_many(empty, Vector::new(0.0), Vector::new(1.0) / select_many(empty, Vector::new(1.0), sum))
}

/// `output`, and `factor` times what another part of the keys has. What is not finite counts as it is, however little it weighs: its keys
/// have been seen.
#[cube]
pub fn add_part<N: Size>(output: Vector<f32, N>, part: Vector<f32, N>, factor: Vector<f32, N>) -> Vector<f32, N> {
    select_many(is_finite::<N>(part), fma(part, factor, output), output + part)
}

/// A number of rows, from their maximum m, in units of 1/`parts` to base 2, and their sum l; `empty` for rows that see nothing, whose l is 0.
#[cube]
pub fn row_number<N: Size>(
    maximum: Vector<f32, N>,
    sum: Vector<f32, N>,
    empty: f32,
    #[comptime] number: RowNumber,
    #[comptime] parts: f32,
) -> Vector<f32, N> {
    if comptime![number == RowNumber::LogSumExp] {
        log_sum_exp::<N>(maximum, sum, empty, parts)
    } else if comptime![number == RowNumber::Sum] {
        sum
    } else {
        natural_maximum::<N>(maximum, sum, empty, parts)
    }
}

/// The maximum in natural units: `parts`·m·ln 2, and `empty` where l is 0. Where it overflows, the least finite number. A NaN among the
/// scores is only in their sum.
#[cube]
fn natural_maximum<N: Size>(
    maximum: Vector<f32, N>,
    sum: Vector<f32, N>,
    empty: f32,
    #[comptime] parts: f32,
) -> Vector<f32, N> {
    let natural = maximum * Vector::new(comptime![parts * std::f32::consts::LN_2]);
    let natural = select_many(is_negative_infinity::<N>(natural), Vector::new(f32::MIN), natural);
    let natural = select_many(is_nan::<N>(sum), sum, natural);
    select_many(sum.equal(&Vector::new(0.0)), Vector::new(empty), natural)
}

/// The natural logarithm of the row's sum of exponentials, from its maximum m, in units of 1/`parts` to base 2, and its sum l:
/// `parts`·m·ln 2 + ln l, and `empty` where l is 0. Where the sum overflows, the least finite number.
#[cube]
pub fn log_sum_exp<N: Size>(
    maximum: Vector<f32, N>,
    sum: Vector<f32, N>,
    empty: f32,
    #[comptime] parts: f32,
) -> Vector<f32, N> {
    let is_empty = sum.equal(&Vector::new(0.0));
    let sum = select_many(is_empty, Vector::new(1.0), sum);
    let lse = fma(maximum, Vector::new(comptime![parts * std::f32::consts::LN_2]), ln::<N>(sum));
    let lse = select_many(is_negative_infinity::<N>(lse), Vector::new(f32::MIN), lse);
    select_many(is_empty, Vector::new(empty), lse)
}
