//! Intervals of floats: what a kernel may compute, on any device.
//!
//! A kernel's floats have 32 bits. A device may round an operation otherwise than another, contract a product and a sum, take a
//! function from an approximation and make zeros of subnormal numbers; so the bounds of a result lie outside of what mathematics
//! gives, by more than any of these is off. Where the bounds are exact in 32 bits, sums and products keep them: rounding never
//! passes a number that needs none. The margins are those of WGSL's and Vulkan's specifications, of
//! [`emit::math`](crate::emit) and of NVIDIA's approximate instructions, with room to spare.

use crate::eval::function;
use crate::expr::{BinaryOp, UnaryOp};

/// How far a sum, a product, a quotient or a square root may be off, relatively: 8 units in the last place.
const ROUNDING: f64 = 1.0 / (1u64 << 20) as f64;

/// The same of an exponential, whose argument, up to 88, was rounded before.
const EXPONENTIAL: f64 = 1.0 / (1u64 << 14) as f64;

/// The same of a logarithm, also absolutely.
const LOGARITHM: f64 = 1.0 / (1u64 << 18) as f64;

/// The same of a power, whose exponent to base 2, up to 128, was rounded before.
const POWER: f64 = 1.0 / (1u64 << 13) as f64;

/// The same of a hyperbolic tangent, of which NVIDIA's GPUs have 11 bits, also absolutely; and absolutely of a sine.
const TRIGONOMETRIC: f64 = 1.0 / (1u64 << 10) as f64;

/// Numbers nearer to 0 may be taken for 0.
const LEAST_NORMAL: f64 = f32::MIN_POSITIVE as f64;

/// The floats `low..=high`, none where `low > high`; and NaN, if that is said. The bounds have 32 bits, and may be infinite.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FloatInterval {
    /// The least.
    pub low: f64,
    /// The greatest.
    pub high: f64,
    /// Whether it may be NaN.
    pub nan: bool,
}

impl FloatInterval {
    /// Nothing.
    pub const NONE: FloatInterval = FloatInterval { low: f64::INFINITY, high: f64::NEG_INFINITY, nan: false };
    /// Every number, both infinities, and NaN.
    pub const ANY: FloatInterval = FloatInterval { low: f64::NEG_INFINITY, high: f64::INFINITY, nan: true };
    /// Every finite number.
    pub const FINITE: FloatInterval = FloatInterval { low: f32::MIN as f64, high: f32::MAX as f64, nan: false };

    /// The numbers `low..=high`, which may be subnormal and need more than 32 bits.
    pub fn new(low: f64, high: f64) -> FloatInterval {
        FloatInterval { low: flushed_down(down(low)), high: flushed_up(up(high)), nan: false }
    }

    /// One constant, as a kernel holds it: −∞ is a very small number there.
    pub fn constant(value: f32) -> FloatInterval {
        if value.is_nan() {
            return FloatInterval { nan: true, ..FloatInterval::NONE };
        }
        let high = if value == f32::NEG_INFINITY { -1e37 } else { value.into() };
        FloatInterval::new(value.into(), high)
    }

    /// The numbers up to `bound`, or only those before it; or also those a little beyond it, as far as one may be rounded otherwise
    /// than when it was compared.
    pub fn below(bound: f64, strictly: bool, about: bool) -> FloatInterval {
        if about {
            return FloatInterval::rounded(f64::NEG_INFINITY, bound, ROUNDING);
        }
        let bound = bound as f32;
        FloatInterval::new(f64::NEG_INFINITY, if strictly { bound.next_down() } else { bound }.into())
    }

    /// The integers `low..=high`, each rounded to 32 bits.
    pub fn of_integers(low: i64, high: i64) -> FloatInterval {
        if low > high { FloatInterval::NONE } else { FloatInterval::new(low as f64, high as f64) }
    }

    /// Whether there is no number in it.
    fn is_empty(self) -> bool {
        self.low > self.high
    }

    /// Whether there is neither a number nor NaN in it.
    pub fn is_none(self) -> bool {
        self.is_empty() && !self.nan
    }

    fn has(self, number: f64) -> bool {
        self.low <= number && number <= self.high
    }

    fn has_infinity(self) -> bool {
        self.has(f64::INFINITY) || self.has(f64::NEG_INFINITY)
    }

    fn or_nan(self, nan: bool) -> FloatInterval {
        FloatInterval { nan: self.nan || nan, ..self }
    }

    /// What is in either.
    pub fn union(self, other: FloatInterval) -> FloatInterval {
        let (low, high) = (self.low.min(other.low), self.high.max(other.high));
        FloatInterval { low, high, nan: self.nan || other.nan }
    }

    /// What is in both.
    pub fn intersection(self, other: FloatInterval) -> FloatInterval {
        let (low, high) = (self.low.max(other.low), self.high.min(other.high));
        let nan = self.nan && other.nan;
        if low > high { FloatInterval { nan, ..FloatInterval::NONE } } else { FloatInterval { low, high, nan } }
    }

    /// The interval with bounds that a device's rounding may have moved; signs are kept.
    fn rounded(low: f64, high: f64, relative: f64) -> FloatInterval {
        // An infinity stays, and a number that is nearly 0 is off by more.
        let by = |bound: f64| match bound.abs() {
            size if size.is_infinite() || size == 0.0 => 0.0,
            size if size < LEAST_NORMAL => LEAST_NORMAL,
            size => size * relative,
        };
        let (moved_down, moved_up) = (low - by(low), high + by(high));
        FloatInterval::new(
            if low >= 0.0 { moved_down.max(0.0) } else { moved_down },
            if high <= 0.0 { moved_up.min(0.0) } else { moved_up },
        )
    }

    /// The same with an absolute error too, which may change a sign.
    fn approximate(low: f64, high: f64, error: f64) -> FloatInterval {
        let by = |bound: f64| if bound.is_finite() { bound.abs() * error + error } else { 0.0 };
        FloatInterval::new(low - by(low), high + by(high))
    }

    /// The interval between bounds of which it is known whether they are exact in 64 bits. One that is so in 32 bits stays.
    fn between(low: (f64, bool), high: (f64, bool)) -> FloatInterval {
        let moved = FloatInterval::rounded(low.0, high.0, ROUNDING);
        let stays = |(bound, exact): (f64, bool)| exact && f64::from(bound as f32) == bound;
        FloatInterval {
            low: if stays(low) { flushed_down(low.0) } else { moved.low },
            high: if stays(high) { flushed_up(high.0) } else { moved.high },
            nan: false,
        }
    }

    /// All values of `op a` for a in `self`; `op` is a function from floats to floats.
    pub fn unary(self, op: UnaryOp) -> FloatInterval {
        let FloatInterval { low, high, nan } = self;
        if self.is_empty() {
            // A maximum of NaN and 0 may be either.
            let zero = FloatInterval::constant(0.0);
            return if nan && op == UnaryOp::Relu { zero.or_nan(true) } else { self };
        }
        let of = |bound: f64| function(op, bound).unwrap_or(f64::NAN);
        let found = match op {
            UnaryOp::Neg => FloatInterval { low: -high, high: -low, nan },
            UnaryOp::Abs => {
                let least = if self.has(0.0) { 0.0 } else { low.abs().min(high.abs()) };
                FloatInterval { low: least, high: low.abs().max(high.abs()), nan }
            }
            UnaryOp::Relu => return self.binary(BinaryOp::Max, FloatInterval::constant(0.0)),
            UnaryOp::Exp | UnaryOp::Exp2 | UnaryOp::Sigmoid => FloatInterval::rounded(of(low), of(high), EXPONENTIAL),
            UnaryOp::Sqrt if high < 0.0 => FloatInterval::NONE.or_nan(true),
            UnaryOp::Sqrt => FloatInterval::rounded(of(low.max(0.0)), of(high), ROUNDING).or_nan(low < 0.0),
            UnaryOp::Log | UnaryOp::Log2 if high < 0.0 => FloatInterval::NONE.or_nan(true),
            UnaryOp::Log | UnaryOp::Log2 => {
                FloatInterval::approximate(of(low.max(0.0)), of(high), LOGARITHM).or_nan(low < 0.0)
            }
            // Where e to the x is infinite, a driver may divide infinities.
            UnaryOp::Tanh => {
                FloatInterval::approximate(of(low), of(high), TRIGONOMETRIC).or_nan(low < -40.0 || high > 40.0)
            }
            UnaryOp::Sin | UnaryOp::Cos => {
                FloatInterval::approximate(-1.0, 1.0, TRIGONOMETRIC).or_nan(self.has_infinity())
            }
            // Exact, and of subnormal numbers, which a device may take for 0, the bounds already are.
            UnaryOp::Floor | UnaryOp::Ceil | UnaryOp::Round => FloatInterval { low: of(low), high: of(high), nan },
            UnaryOp::Not | UnaryOp::ToFloat | UnaryOp::ToInt | UnaryOp::Ilog2 => FloatInterval::ANY,
        };
        found.or_nan(nan)
    }

    /// All values of `a op b` for a in `self`; `op` gives a float.
    pub fn binary(self, op: BinaryOp, other: FloatInterval) -> FloatInterval {
        let (a, b) = (self, other);
        let nan = a.nan || b.nan;
        match op {
            BinaryOp::Min | BinaryOp::Max => return a.extreme(op, b),
            // 1 to the NaN and NaN to the 0 are 1.
            BinaryOp::Pow if nan => return FloatInterval::ANY,
            _ if a.is_empty() || b.is_empty() => return FloatInterval::NONE.or_nan(nan),
            _ => {}
        }
        let found = match op {
            BinaryOp::Add => a.plus(b),
            BinaryOp::Sub => a.plus(b.unary(UnaryOp::Neg)),
            BinaryOp::Mul => a.times(b),
            BinaryOp::Div => a.over(b),
            BinaryOp::Pow => a.power(b),
            _ => FloatInterval::ANY,
        };
        found.or_nan(nan)
    }

    /// Of a NaN and a number, a device may give either.
    fn extreme(self, op: BinaryOp, other: FloatInterval) -> FloatInterval {
        let (a, b) = (self, other);
        let mut found = if a.is_empty() || b.is_empty() {
            FloatInterval::NONE
        } else if op == BinaryOp::Min {
            FloatInterval { low: a.low.min(b.low), high: a.high.min(b.high), nan: false }
        } else {
            FloatInterval { low: a.low.max(b.low), high: a.high.max(b.high), nan: false }
        };
        for (this, that) in [(a, b), (b, a)] {
            if this.nan {
                found = found.union(that).or_nan(!that.is_none());
            }
        }
        found
    }

    fn plus(self, other: FloatInterval) -> FloatInterval {
        let sum = |a: f64, b: f64, opposite: f64| {
            let sum = a + b;
            if sum.is_nan() {
                return (opposite, true);
            }
            // What 64 bits have lost (Knuth's two-sum).
            let part = sum - a;
            let lost = (a - (sum - part)) + (b - part);
            (sum, sum.is_infinite() || lost == 0.0)
        };
        let low = sum(self.low, other.low, f64::NEG_INFINITY);
        let high = sum(self.high, other.high, f64::INFINITY);
        let (up, down) = (f64::INFINITY, f64::NEG_INFINITY);
        let opposites = self.has(up) && other.has(down) || self.has(down) && other.has(up);
        FloatInterval::between(low, high).or_nan(opposites)
    }

    fn times(self, other: FloatInterval) -> FloatInterval {
        // A product of two numbers of 24 bits has 48, and 64 bits hold it. 0·∞ is NaN, and what is beside it is 0.
        let product = |a: f64, b: f64| if a == 0.0 || b == 0.0 { 0.0 } else { a * b };
        let (low, high) = self.corners(other, product);
        let undefined = |a: FloatInterval, b: FloatInterval| a.has(0.0) && b.has_infinity();
        FloatInterval::between((low, true), (high, true)).or_nan(undefined(self, other) || undefined(other, self))
    }

    fn over(self, other: FloatInterval) -> FloatInterval {
        let nan = self.has(0.0) && other.has(0.0) || self.has_infinity() && other.has_infinity();
        if other.has(0.0) {
            return FloatInterval { nan, ..FloatInterval::ANY };
        }
        let quotient = |a: f64, b: f64| if a == 0.0 || b.is_infinite() { 0.0 } else { a / b };
        let (mut low, mut high) = self.corners(other, quotient);
        // A device may multiply by the inverse, which is subnormal then.
        let largest = other.low.abs().max(other.high.abs());
        if largest > 0.25 / LEAST_NORMAL {
            (low, high) = (low.min(0.0), high.max(0.0));
        }
        let infinite_by_zero = self.has_infinity() && largest > 0.25 / LEAST_NORMAL;
        FloatInterval::rounded(low, high, ROUNDING).or_nan(nan || infinite_by_zero)
    }

    fn power(self, other: FloatInterval) -> FloatInterval {
        let (base, nan) = (self.unary(UnaryOp::Abs), self.low < 0.0);
        // 0 to the 0, 1 to the ∞ and ∞ to the 0 are NaN by way of logarithms.
        let undefined = base.has(0.0) && other.has(0.0)
            || base.has_infinity() && other.has(0.0)
            || base.has(1.0) && other.has_infinity();
        let power = |a: f64, b: f64| if b == 0.0 { 1.0 } else { a.powf(b) };
        let (mut low, mut high) = base.corners(other, power);
        if other.has(0.0) || base.has(1.0) {
            (low, high) = (low.min(1.0), high.max(1.0));
        }
        let found = FloatInterval::rounded(low, high, POWER);
        // A zero may be negative, and its inverse −∞.
        let signed = nan || self.has(0.0) && other.low < 0.0;
        let found = if signed { found.union(found.unary(UnaryOp::Neg)) } else { found };
        found.or_nan(nan || undefined)
    }

    /// The least and the greatest of what `op` makes of the bounds.
    fn corners(self, other: FloatInterval, op: impl Fn(f64, f64) -> f64) -> (f64, f64) {
        let corners =
            [op(self.low, other.low), op(self.low, other.high), op(self.high, other.low), op(self.high, other.high)];
        (corners.into_iter().fold(f64::INFINITY, f64::min), corners.into_iter().fold(f64::NEG_INFINITY, f64::max))
    }

    /// The integers that it is cut to, the least and the greatest: of NaN that is 0, and what has no 32 bits is the nearest that
    /// has. `None` if there is nothing.
    pub fn to_integers(self) -> Option<(i64, i64)> {
        let cut = |bound: f64| i64::from(bound as i32);
        match (self.is_empty(), self.nan) {
            (true, true) => Some((0, 0)),
            (true, false) => None,
            (false, nan) => {
                let (low, high) = (cut(self.low), cut(self.high));
                Some(if nan { (low.min(0), high.max(0)) } else { (low, high) })
            }
        }
    }
}

/// The greatest number of 32 bits that is not above `x`.
fn down(x: f64) -> f64 {
    let nearest = x as f32;
    f64::from(if f64::from(nearest) > x { nearest.next_down() } else { nearest })
}

/// The least number of 32 bits that is not below `x`.
fn up(x: f64) -> f64 {
    -down(-x)
}

/// A lower bound, also where subnormal numbers are 0.
fn flushed_down(low: f64) -> f64 {
    if low > 0.0 && low < LEAST_NORMAL { 0.0 } else { low }
}

fn flushed_up(high: f64) -> f64 {
    -flushed_down(-high)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Floats by operations: what they may be, and one of them, rounded to 32 bits after each operation and, each time, by a little
    /// more or less.
    #[derive(Clone, Debug)]
    struct Computed {
        text: String,
        interval: FloatInterval,
        number: f32,
        exact: f64,
    }

    const FUNCTIONS: [UnaryOp; 15] = {
        use UnaryOp::*;
        [Neg, Abs, Exp, Exp2, Log, Log2, Sqrt, Tanh, Sigmoid, Relu, Sin, Cos, Floor, Ceil, Round]
    };
    const OPERATIONS: [BinaryOp; 7] = {
        use BinaryOp::*;
        [Add, Sub, Mul, Div, Min, Max, Pow]
    };

    fn bound() -> impl Strategy<Value = f32> {
        prop_oneof![
            4 => (-20..20i32).prop_map(|value| value as f32),
            2 => -4.0..4.0f32,
            1 => any::<f32>().prop_filter("a number", |x| !x.is_nan()),
            1 => prop::sample::select(vec![0.0, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN, 1e-39, -1e-39]),
        ]
    }

    fn leaf() -> impl Strategy<Value = Computed> {
        (bound(), bound(), 0..4u32, 0.0..1.0f32).prop_map(|(a, b, place, share)| {
            let (low, high) = (a.min(b), a.max(b));
            let inside = low / 2.0 + share * (high / 2.0 - low / 2.0);
            let number = match place {
                0 => low,
                1 => high,
                _ if (low..=high).contains(&inside) => inside,
                _ => low,
            };
            let interval = FloatInterval { low: low.into(), high: high.into(), nan: false };
            Computed {
                text: format!("{number:?} of {low:?}..={high:?}"),
                interval: interval.union(FloatInterval::new(low.into(), high.into())),
                number,
                exact: number.into(),
            }
        })
    }

    fn nudged(x: f32, by: i32) -> f32 {
        match by {
            -1 if x != 0.0 && x.is_finite() => x.next_down(),
            1 if x != 0.0 && x.is_finite() => x.next_up(),
            _ => x,
        }
    }

    fn of_numbers(op: BinaryOp, a: f64, b: f64) -> f64 {
        match op {
            BinaryOp::Add => a + b,
            BinaryOp::Sub => a - b,
            BinaryOp::Mul => a * b,
            BinaryOp::Div => a / b,
            BinaryOp::Min => a.min(b),
            BinaryOp::Max => a.max(b),
            _ => a.powf(b),
        }
    }

    fn computed() -> impl Strategy<Value = Computed> {
        leaf().prop_recursive(4, 16, 2, |part| {
            let functions = (prop::sample::select(FUNCTIONS.to_vec()), part.clone(), -1..2i32);
            let operations = (prop::sample::select(OPERATIONS.to_vec()), part.clone(), part, -1..2i32);
            prop_oneof![
                functions.prop_map(|(op, a, by)| {
                    use UnaryOp::*;
                    let of = |x: f64| function(op, x).unwrap_or(f64::NAN);
                    let rounds = !matches!(op, Neg | Abs | Relu | Floor | Ceil | Round);
                    let number = of(a.number.into()) as f32;
                    let number = if rounds && number != 1.0 { nudged(number, by) } else { number };
                    let text = format!("{op:?}({})", a.text);
                    Computed { text, interval: a.interval.unary(op), number, exact: of(a.exact) }
                }),
                operations.prop_map(|(op, a, b, by)| {
                    let number = of_numbers(op, a.number.into(), b.number.into()) as f32;
                    let rounds = matches!(op, BinaryOp::Div | BinaryOp::Pow);
                    Computed {
                        text: format!("{op:?}({}, {})", a.text, b.text),
                        interval: a.interval.binary(op, b.interval),
                        number: if rounds { nudged(number, by) } else { number },
                        exact: of_numbers(op, a.exact, b.exact),
                    }
                }),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_computed_is_inside(computed in computed()) {
            let Computed { text, interval, number, exact } = computed;
            let (low, high) = interval.to_integers().unwrap_or((1, 0));
            for number in [f64::from(number), exact] {
                let inside = if number.is_nan() { interval.nan } else { interval.has(number) };
                // Beyond 32 bits the reference has other numbers.
                let beyond = number.abs() > f32::MAX.into() && interval.has_infinity();
                prop_assert!(inside || beyond, "{text}: {number} is not in {interval:?}");
                prop_assert!((low..=high).contains(&i64::from(number as i32)), "{text}: {number} as i32 is not in {low}..={high}");
            }
        }
    }

    #[test]
    fn numbers_without_rounding_keep_their_bounds() {
        let numbers = FloatInterval::of_integers(3, 40);
        let double = numbers.binary(BinaryOp::Mul, FloatInterval::constant(2.0));
        assert_eq!(double.to_integers(), Some((6, 80)));
        let sum = double.binary(BinaryOp::Add, FloatInterval::constant(0.5));
        assert_eq!((sum.low, sum.high), (6.5, 80.5));
        let third = numbers.binary(BinaryOp::Div, FloatInterval::constant(3.0));
        assert_eq!(third.to_integers(), Some((0, 13)));
        assert_eq!(FloatInterval::ANY.to_integers(), Some((i32::MIN.into(), i32::MAX.into())));
        let clamped = FloatInterval::ANY
            .binary(BinaryOp::Max, FloatInterval::constant(8.0))
            .binary(BinaryOp::Min, FloatInterval::constant(15.0));
        // What it makes of NaN, a device decides.
        assert_eq!(clamped.to_integers(), Some((0, 15)));
    }
}
