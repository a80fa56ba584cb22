//! Rounding an exact result to a narrower type (PTX ISA, "Rounding Modifiers").

use half::{bf16, f16};

/// Where a value goes that lies between two representable ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rounding {
    /// To the nearest, ties to the even one: `.rn`.
    Nearest,
    /// Towards zero: `.rz`.
    Zero,
    /// Towards −∞: `.rm`.
    Down,
    /// Towards +∞: `.rp`.
    Up,
}

impl Rounding {
    /// The mode a modifier names, for floating-point results.
    pub(super) fn named(word: &str) -> Option<Rounding> {
        Some(match word {
            "rn" => Rounding::Nearest,
            "rz" => Rounding::Zero,
            "rm" => Rounding::Down,
            "rp" => Rounding::Up,
            _ => return None,
        })
    }

    /// The mode a modifier names, for results that are whole numbers.
    pub(super) fn integral(word: &str) -> Option<Rounding> {
        Rounding::named(word.strip_suffix('i')?)
    }
}

/// `value + error`, of which `value` is the nearest f64, as an f64 that rounds to anything narrower as the exact sum does: of the two
/// neighbours of an inexact sum, the one whose last bit is set (Boldo and Melquiond, "Emulation of FMA and correctly rounded sums").
#[inline]
pub(super) fn sticky(value: f64, error: f64) -> f64 {
    let bits = value.to_bits();
    let towards = if (error > 0.0) == (value > 0.0) { bits.wrapping_add(1) } else { bits.wrapping_sub(1) };
    let exact = error == 0.0 || !value.is_finite() || bits & 1 == 1;
    f64::from_bits(if exact { bits } else { towards })
}

/// The sum and what is lost in it, exactly (Knuth).
#[inline]
fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let sum = a + b;
    let of_b = sum - a;
    (sum, (a - (sum - of_b)) + (b - of_b))
}

/// To f32. A value that came from [`sticky`] is rounded as the exact one.
#[inline]
pub(super) fn to_single(value: f64, mode: Rounding) -> f32 {
    let near = value as f32;
    let wide = near as f64;
    match mode {
        Rounding::Zero if wide.abs() > value.abs() => f32::from_bits(near.to_bits() - 1),
        Rounding::Down if wide > value => near.next_down(),
        Rounding::Up if wide < value => near.next_up(),
        _ => near,
    }
}

/// To f32, never losing that it was inexact, so that a second rounding is harmless.
pub(super) fn to_odd_single(value: f64) -> f32 {
    let toward_zero = to_single(value, Rounding::Zero);
    if toward_zero as f64 != value && value.is_finite() {
        f32::from_bits(toward_zero.to_bits() | 1)
    } else {
        toward_zero
    }
}

/// To f16.
pub(super) fn to_half(value: f64, mode: Rounding) -> f16 {
    let near = f16::from_f32(to_odd_single(value));
    let wide = near.to_f64();
    let next = |up: bool| f16::from_bits(neighbour(near.to_bits(), up));
    match mode {
        Rounding::Zero if wide.abs() > value.abs() => f16::from_bits(near.to_bits() - 1),
        Rounding::Down if wide > value => next(false),
        Rounding::Up if wide < value => next(true),
        _ => near,
    }
}

/// To bf16.
pub(super) fn to_brain(value: f64, mode: Rounding) -> bf16 {
    let near = bf16::from_f32(to_odd_single(value));
    let wide = near.to_f64();
    let next = |up: bool| bf16::from_bits(neighbour(near.to_bits(), up));
    match mode {
        Rounding::Zero if wide.abs() > value.abs() => bf16::from_bits(near.to_bits() - 1),
        Rounding::Down if wide > value => next(false),
        Rounding::Up if wide < value => next(true),
        _ => near,
    }
}

/// The next 16-bit float above or below one that is a number.
fn neighbour(bits: u16, up: bool) -> u16 {
    match (bits & 0x7fff == 0, (bits >> 15 == 1) == up) {
        (true, _) => 1 | if up { 0 } else { 0x8000 },
        (false, true) => bits - 1,
        (false, false) => bits + 1,
    }
}

/// A sum of f32 in any mode.
pub(super) fn add(a: f32, b: f32, mode: Rounding) -> f32 {
    let (sum, error) = two_sum(a as f64, b as f64);
    to_single(sticky(sum, error), mode)
}

/// `a * b + c` in f32 with one rounding, in any mode.
#[inline]
pub(super) fn fma(a: f32, b: f32, c: f32, mode: Rounding) -> f32 {
    let (sum, error) = two_sum(a as f64 * b as f64, c as f64);
    to_single(sticky(sum, error), mode)
}

/// A quotient of f32 in any mode.
pub(super) fn divide(a: f32, b: f32, mode: Rounding) -> f32 {
    let (a, b) = (a as f64, b as f64);
    let quotient = a / b;
    let rest = (-quotient).mul_add(b, a);
    let error = if rest.is_finite() && b.is_finite() { rest * b.signum() } else { 0.0 };
    to_single(sticky(quotient, error), mode)
}

/// A square root of f32 in any mode.
pub(super) fn root(a: f32, mode: Rounding) -> f32 {
    let wide = a as f64;
    let root = wide.sqrt();
    let rest = (-root).mul_add(root, wide);
    to_single(sticky(root, if rest.is_finite() { rest } else { 0.0 }), mode)
}

/// Subnormals to zero of the same sign: `.ftz`.
pub(super) fn flush(a: f32) -> f32 {
    if a.abs() < f32::MIN_POSITIVE { 0.0f32.copysign(a) } else { a }
}

/// Into \[0, 1\], what is no number to zero: `.sat`.
pub(super) fn saturate(a: f32) -> f32 {
    if a >= 1.0 {
        1.0
    } else if a > 0.0 {
        a
    } else {
        0.0
    }
}
