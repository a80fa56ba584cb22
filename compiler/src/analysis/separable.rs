//! Scores to which rows and columns of a tile add something of their own.
//!
//! `s * a + b * (i - j) as f32 + c`, with a, b and c the same for the whole tile, is a multiple of s, plus what depends on the column,
//! plus what depends on the row: `a*s - b*(j - j') + (b*(i - j') + c)` for any key j'. A softmax need not add what depends on the row to
//! each score: it is in the row's maximum.

use super::affine::Affine;
use crate::expr::{BinaryOp, Expr, UnaryOp};

/// `factor * s + rate * distance as f32 + rest`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Separable {
    /// The same for the whole tile, a float.
    pub factor: Expr,
    /// The same for the whole tile, a float.
    pub rate: Expr,
    /// An integer that grows by `key_step` from key to key, and by `query_step` from query to query.
    pub distance: Expr,
    /// How much it grows from key to key.
    pub key_step: i32,
    /// How much it grows from query to query.
    pub query_step: i32,
    /// The same for the whole tile, a float.
    pub rest: Expr,
}

impl Separable {
    /// That of the float `map`, if it is of this form.
    pub fn of(map: &Expr) -> Option<Separable> {
        let terms = Terms::of(map)?;
        let (rate, distance) = terms.distance?;
        let form = Affine::of(&distance)?;
        let (mut key_step, mut query_step) = (0, 0);
        for (atom, coefficient) in &form.terms {
            match atom {
                Expr::Key => key_step = i32::try_from(*coefficient).ok()?,
                Expr::Query => query_step = i32::try_from(*coefficient).ok()?,
                other if uniform(other) => {}
                _ => return None,
            }
        }
        let rest = terms.rest.unwrap_or_else(|| Expr::float(0.0));
        Some(Separable { factor: terms.score?, rate, distance, key_step, query_step, rest })
    }

    /// What is added to `factor * s`.
    pub fn at_a_key(&self) -> Expr {
        let distance = Expr::unary(UnaryOp::ToFloat, self.distance.clone());
        let bias = Expr::binary(BinaryOp::Mul, self.rate.clone(), distance);
        Expr::binary(BinaryOp::Add, bias, self.rest.clone())
    }

    /// What is the same for the whole tile, if the rows are of one head.
    pub fn uniforms(&self) -> [&Expr; 3] {
        [&self.factor, &self.rate, &self.rest]
    }
}

/// Whether `expr` is the same for the whole tile, if the rows are of one head.
fn uniform(expr: &Expr) -> bool {
    !expr.any(&mut |expr| matches!(expr, Expr::Value(_) | Expr::Query | Expr::Key))
}

/// The terms of a sum.
#[derive(Clone, Default)]
struct Terms {
    /// The factor of the score.
    score: Option<Expr>,
    /// A rate and an integer.
    distance: Option<(Expr, Expr)>,
    /// What is the same for the whole tile.
    rest: Option<Expr>,
}

impl Terms {
    fn of(expr: &Expr) -> Option<Terms> {
        if uniform(expr) {
            return Some(Terms { rest: Some(expr.clone()), ..Terms::default() });
        }
        match expr {
            Expr::Value(_) => Some(Terms { score: Some(Expr::float(1.0)), ..Terms::default() }),
            Expr::Unary(UnaryOp::ToFloat, distance) => {
                Some(Terms { distance: Some((Expr::float(1.0), (**distance).clone())), ..Terms::default() })
            }
            Expr::Unary(UnaryOp::Neg, a) => Some(Terms::of(a)?.times(&Expr::float(-1.0))),
            Expr::Binary(BinaryOp::Mul, a, b) if uniform(a) => Some(Terms::of(b)?.times(a)),
            Expr::Binary(BinaryOp::Mul, a, b) if uniform(b) => Some(Terms::of(a)?.times(b)),
            Expr::Binary(BinaryOp::Div, a, b) if uniform(b) => {
                let inverse = Expr::binary(BinaryOp::Div, Expr::float(1.0), (**b).clone());
                Some(Terms::of(a)?.times(&inverse))
            }
            Expr::Binary(BinaryOp::Add, a, b) => Terms::of(a)?.plus(Terms::of(b)?),
            Expr::Binary(BinaryOp::Sub, a, b) => Terms::of(a)?.plus(Terms::of(b)?.times(&Expr::float(-1.0))),
            _ => None,
        }
    }

    fn times(self, factor: &Expr) -> Terms {
        let product = |expr: Expr| Expr::binary(BinaryOp::Mul, expr, factor.clone());
        Terms {
            score: self.score.map(product),
            distance: self.distance.map(|(rate, distance)| (product(rate), distance)),
            rest: self.rest.map(product),
        }
    }

    /// The sum, if it has no more than one term with a score and one with a distance.
    fn plus(self, other: Terms) -> Option<Terms> {
        if (self.score.is_some() && other.score.is_some()) || (self.distance.is_some() && other.distance.is_some()) {
            return None;
        }
        let rest = match (self.rest, other.rest) {
            (Some(a), Some(b)) => Some(Expr::binary(BinaryOp::Add, a, b)),
            (a, b) => a.or(b),
        };
        Some(Terms { score: self.score.or(other.score), distance: self.distance.or(other.distance), rest })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn distance() -> Expr {
        Expr::binary(BinaryOp::Sub, Expr::Query, Expr::Key)
    }

    fn biased(bias: Expr) -> Expr {
        let score = Expr::binary(BinaryOp::Mul, Expr::SCORE, Expr::Scale);
        Expr::binary(BinaryOp::Mul, Expr::binary(BinaryOp::Sub, score, bias), Expr::float(2.0))
    }

    #[test]
    fn a_bias_that_grows_with_distance() {
        let slope = Expr::Load { tensor: 0, index: vec![Expr::Head] };
        let bias = Expr::binary(BinaryOp::Mul, slope, Expr::unary(UnaryOp::ToFloat, distance()));
        let found = Separable::of(&biased(bias)).unwrap();
        assert_eq!((found.distance, found.key_step, found.query_step), (distance(), -1, 1));
        assert!([found.factor, found.rate, found.rest].iter().all(uniform));
    }

    #[test]
    fn other_biases_are_not() {
        let float = |distance: Expr| Expr::unary(UnaryOp::ToFloat, distance);
        let gathered = Expr::Load { tensor: 0, index: vec![Expr::Key] };
        let squared = Expr::binary(BinaryOp::Mul, distance(), distance());
        for bias in [
            float(Expr::unary(UnaryOp::Abs, distance())),
            float(squared),
            gathered,
            Expr::binary(BinaryOp::Mul, Expr::SCORE, float(distance())),
            Expr::SCORE,
            Expr::float(1.0),
        ] {
            assert_eq!(Separable::of(&biased(bias.clone())), None, "{bias:?}");
        }
    }
}
