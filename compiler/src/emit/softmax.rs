//! The arithmetic of the online softmax in base 2.

use super::math::ln;
use cubecl::prelude::*;

/// The score of a hidden key, finite because WGSL has no constant for −∞: so far below [`EMPTY`] that it weighs exactly 0.
pub const HIDDEN: f32 = -3.0e38;

/// What a hidden key's score or weight becomes.
pub fn hidden(softmax: bool) -> f32 {
    if softmax { HIDDEN } else { 0.0 }
}

/// The running maximum of a row that has seen no key. A score below it would count as hidden; no finite f32 product of a
/// query and a key that matters comes near.
pub const EMPTY: f32 = -1.0e38;

/// 2 to the x, for x ≤ 0: within 2 ulp, and exactly 0 below −126.
///
/// x is split into an integer t and a fraction f in [−½, ½] by adding 1.5·2²³, whose last bit is worth 1; 2^f is a minimax
/// polynomial of degree 5 (relative error 7.5e-8), and t is added to its exponent.
#[cube]
pub fn exp2<N: Size>(x: Vector<f32, N>) -> Vector<f32, N> {
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

/// The natural logarithm of the row's sum of exponentials, from its maximum m and sum l in base 2: (m + log₂ l)·ln 2, and
/// `empty` where l is 0.
#[cube]
pub fn log_sum_exp<N: Size>(maximum: Vector<f32, N>, sum: Vector<f32, N>, empty: f32) -> Vector<f32, N> {
    let is_empty = sum.equal(&Vector::new(0.0));
    let sum = select_many(is_empty, Vector::new(1.0), sum);
    let lse = fma(maximum, Vector::new(std::f32::consts::LN_2), ln::<N>(sum));
    select_many(is_empty, Vector::new(empty), lse)
}
