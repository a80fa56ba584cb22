//! Interval arithmetic of integers, and what an expression can be.

use crate::analysis::float_interval::FloatInterval;
use crate::eval::{floor_div, floor_rem, ilog2};
use crate::expr::{BinaryOp, UnaryOp};

/// The integers `low..=high`; none where `low > high`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    /// The least.
    pub low: i64,
    /// The greatest.
    pub high: i64,
}

impl Interval {
    /// No integer.
    pub const NONE: Interval = Interval { low: 0, high: -1 };
    /// Those of 32 bits.
    pub const I32: Interval = Interval { low: i32::MIN as i64, high: i32::MAX as i64 };

    /// `low..=high`.
    pub fn new(low: i64, high: i64) -> Interval {
        Interval { low, high }
    }

    /// Whether there is none.
    pub fn is_none(self) -> bool {
        self.low > self.high
    }

    /// Whether all of `other` are in it.
    pub fn contains(self, other: Interval) -> bool {
        other.is_none() || (self.low <= other.low && other.high <= self.high)
    }

    /// The least interval with both.
    pub fn union(self, other: Interval) -> Interval {
        match (self.is_none(), other.is_none()) {
            (true, _) => other,
            (_, true) => self,
            _ => Interval::new(self.low.min(other.low), self.high.max(other.high)),
        }
    }

    /// Those in both.
    pub fn intersection(self, other: Interval) -> Interval {
        let (low, high) = (self.low.max(other.low), self.high.min(other.high));
        if low > high { Interval::NONE } else { Interval::new(low, high) }
    }

    /// Those with the other sign.
    pub fn negated(self) -> Interval {
        Interval::new(self.high.saturating_neg(), self.low.saturating_neg())
    }

    fn of_corners(self, other: Interval, op: impl Fn(i64, i64) -> i64) -> Interval {
        let corners =
            [op(self.low, other.low), op(self.low, other.high), op(self.high, other.low), op(self.high, other.high)];
        Interval::new(corners.into_iter().min().unwrap_or(0), corners.into_iter().max().unwrap_or(-1))
    }

    /// All values of `a op b`; of a division, those by a divisor that is not zero.
    pub fn binary(op: BinaryOp, a: Interval, b: Interval) -> Interval {
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

/// What an expression can be.
#[derive(Clone, Copy, Debug)]
pub enum Values {
    /// Nothing, because it does not matter.
    None,
    /// One of such integers.
    Int(Interval),
    /// One of such floats.
    Float(FloatInterval),
    /// A truth value.
    Truth,
}

impl Values {
    /// The integers that it can be.
    pub fn int(self) -> Interval {
        if let Values::Int(interval) = self { interval } else { Interval::NONE }
    }

    /// The floats that it can be.
    pub fn float(self) -> FloatInterval {
        if let Values::Float(interval) = self { interval } else { FloatInterval::NONE }
    }

    /// What is one or the other.
    pub fn union(self, other: Values) -> Values {
        match (self, other) {
            (Values::None, other) => other,
            (Values::Int(a), Values::Int(b)) => Values::Int(a.union(b)),
            (Values::Float(a), Values::Float(b)) => Values::Float(a.union(b)),
            (found, _) => found,
        }
    }

    /// What `op` makes of it.
    pub fn unary(self, op: UnaryOp) -> Values {
        match (op, self) {
            (_, Values::None) => Values::None,
            (UnaryOp::Not, _) => Values::Truth,
            (UnaryOp::Neg, Values::Int(a)) if a.is_none() => Values::Int(a),
            (UnaryOp::Neg, Values::Int(a)) => Values::Int(a.negated()),
            (UnaryOp::Abs, Values::Int(a)) => {
                Values::Int(a.union(a.negated()).intersection(Interval::new(0, i64::MAX)))
            }
            (UnaryOp::Ilog2, Values::Int(a)) if a.is_none() => Values::Int(a),
            (UnaryOp::Ilog2, Values::Int(a)) => Values::Int(Interval::new(ilog2(a.low), ilog2(a.high))),
            (UnaryOp::ToFloat, Values::Int(a)) => Values::Float(FloatInterval::of_integers(a.low, a.high)),
            (UnaryOp::ToFloat, _) => Values::Float(FloatInterval::new(0.0, 1.0)),
            (UnaryOp::ToInt, Values::Float(a)) => {
                Values::Int(a.to_integers().map_or(Interval::NONE, |(low, high)| Interval::new(low, high)))
            }
            (UnaryOp::ToInt, _) => Values::Int(Interval::new(0, 1)),
            (op, a) => Values::Float(a.float().unary(op)),
        }
    }
}
