//! Affine forms: `2*i - j + 3*(window) - 5` as a list of terms and a constant.

use crate::analysis::simplify::simplify;
use crate::eval::{floor_div, floor_rem};
use crate::expr::{BinaryOp, Expr, UnaryOp};
use crate::typing::Parameters;

/// Σ coefficient · atom + constant. Atoms are integer expressions that are not themselves sums or multiples; none occurs
/// twice and no coefficient is zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Affine {
    /// The atoms and their coefficients, in the order in which they are written.
    pub terms: Vec<(Expr, i64)>,
    /// The constant.
    pub constant: i64,
}

impl Affine {
    /// The form of a constant.
    pub fn constant(constant: i64) -> Affine {
        Affine { terms: Vec::new(), constant }
    }

    /// The form of an integer expression; `None` where a coefficient overflows.
    pub fn of(expr: &Expr) -> Option<Affine> {
        match expr {
            Expr::Int(value) => Some(Affine::constant((*value).into())),
            Expr::Unary(UnaryOp::Neg, a) => Affine::of(a)?.scaled(-1),
            Expr::Binary(BinaryOp::Add, a, b) => Affine::of(a)?.plus(&Affine::of(b)?, 1),
            Expr::Binary(BinaryOp::Sub, a, b) => Affine::of(a)?.plus(&Affine::of(b)?, -1),
            Expr::Binary(BinaryOp::Mul, a, b) => {
                let (a, b) = (Affine::of(a)?, Affine::of(b)?);
                match (a.terms.is_empty(), b.terms.is_empty()) {
                    (true, _) => b.scaled(a.constant),
                    (_, true) => a.scaled(b.constant),
                    _ => Some(Affine { terms: vec![(expr.clone(), 1)], constant: 0 }),
                }
            }
            atom => Some(Affine { terms: vec![(atom.clone(), 1)], constant: 0 }),
        }
    }

    /// `self + factor * other`.
    pub fn plus(&self, other: &Affine, factor: i64) -> Option<Affine> {
        let mut sum = self.clone();
        sum.constant = sum.constant.checked_add(other.constant.checked_mul(factor)?)?;
        for (atom, coefficient) in &other.terms {
            let coefficient = coefficient.checked_mul(factor)?;
            match sum.terms.iter_mut().find(|(known, _)| known == atom) {
                Some((_, known)) => *known = known.checked_add(coefficient)?,
                None => sum.terms.push((atom.clone(), coefficient)),
            }
        }
        sum.terms.retain(|(_, coefficient)| *coefficient != 0);
        Some(sum)
    }

    /// `factor * self`.
    pub fn scaled(&self, factor: i64) -> Option<Affine> {
        Affine::constant(0).plus(self, factor)
    }

    /// `self + constant`.
    pub fn shifted(&self, constant: i64) -> Option<Affine> {
        self.plus(&Affine::constant(constant), 1)
    }

    /// The form that is at most zero where this is, without a factor that all coefficients have: 2·x - 3 <= 0 is x - 1 <= 0.
    pub fn reduced(&self) -> Option<Affine> {
        let divisor = |a: i64, b: i64| {
            let (mut a, mut b) = (a, b);
            while b != 0 {
                (a, b) = (b, a % b);
            }
            a
        };
        let factor =
            self.terms.iter().try_fold(0, |all, (_, coefficient)| Some(divisor(coefficient.checked_abs()?, all)))?;
        if factor < 2 {
            return Some(self.clone());
        }
        let terms = self.terms.iter().map(|(atom, coefficient)| (atom.clone(), coefficient / factor)).collect();
        // The greatest multiple that the constant leaves: -⌊-c / f⌋.
        let constant = floor_div(self.constant.checked_neg()?, factor)?.checked_neg()?;
        Some(Affine { terms, constant })
    }

    /// How often `atom` is counted.
    pub fn coefficient(&self, atom: &Expr) -> i64 {
        self.terms.iter().find(|(known, _)| known == atom).map_or(0, |(_, coefficient)| *coefficient)
    }

    /// Whether `leaf` occurs in an atom.
    pub fn mentions(&self, leaf: &Expr) -> bool {
        self.terms.iter().any(|(atom, _)| atom.mentions(leaf))
    }

    /// How many nodes its atoms have.
    pub fn size(&self) -> usize {
        self.terms.iter().map(|(atom, _)| atom.size()).sum()
    }

    /// The form without its terms in `atom`.
    pub fn without(&self, atom: &Expr) -> Affine {
        let terms = self.terms.iter().filter(|(known, _)| known != atom).cloned().collect();
        Affine { terms, constant: self.constant }
    }

    /// The form with `by` in the place of `atom`.
    pub fn substituted(&self, atom: &Expr, by: &Affine) -> Option<Affine> {
        by.scaled(self.coefficient(atom))?.plus(&self.without(atom), 1)
    }

    /// The form with what `by` says in the place of operands of its atoms, at any depth; `None` where a coefficient overflows.
    pub fn replaced(&self, by: &impl Fn(&Expr) -> Option<Expr>) -> Option<Affine> {
        fn with(expr: &Expr, by: &impl Fn(&Expr) -> Option<Expr>) -> Expr {
            by(expr).map_or_else(|| expr.map_children(|child| with(child, by)), |other| with(&other, by))
        }
        self.map_atoms(|atom| with(atom, by))
    }

    /// The form with simple atoms; `None` where a coefficient overflows.
    pub fn simplified(&self, parameters: Parameters) -> Option<Affine> {
        self.map_atoms(|atom| simplify(atom, parameters))
    }

    fn map_atoms(&self, change: impl Fn(&Expr) -> Expr) -> Option<Affine> {
        self.terms.iter().try_fold(Affine::constant(self.constant), |sum, (atom, coefficient)| {
            sum.plus(&Affine::of(&change(atom))?, *coefficient)
        })
    }

    /// Whether both have the same terms, and `other` each of them `sign` times.
    pub fn same_terms(&self, other: &Affine, sign: i64) -> bool {
        self.terms.len() == other.terms.len()
            && self
                .terms
                .iter()
                .all(|(atom, coefficient)| coefficient.checked_mul(sign) == Some(other.coefficient(atom)))
    }

    /// The form as an expression, tile bounds first and the constant last; `None` where a number in it needs more than
    /// 32 bits.
    pub fn to_expr(&self) -> Option<Expr> {
        let is_bound = |atom: &Expr| matches!(atom, Expr::QueryFirst | Expr::QueryLast);
        let (bounds, others): (Vec<_>, Vec<_>) = self.terms.iter().partition(|(atom, _)| is_bound(atom));
        let mut terms: Vec<_> = bounds.into_iter().chain(others).collect();
        // A sum starts with a term that needs no sign, if there is one.
        if let Some(positive) = terms.iter().position(|(_, coefficient)| *coefficient > 0) {
            let first = terms.remove(positive);
            terms.insert(0, first);
        }
        let mut sum: Option<Expr> = None;
        for (atom, coefficient) in terms {
            let size = i32::try_from(coefficient.checked_abs()?).ok()?;
            let multiple =
                if size == 1 { atom.clone() } else { Expr::binary(BinaryOp::Mul, Expr::Int(size), atom.clone()) };
            sum = Some(match (sum, *coefficient > 0) {
                (None, true) => multiple,
                (None, false) if self.constant > 0 => {
                    let constant = Expr::Int(i32::try_from(self.constant).ok()?);
                    return Affine { terms: self.terms.clone(), constant: 0 }.subtract_all(constant);
                }
                (None, false) => Expr::unary(UnaryOp::Neg, multiple),
                (Some(sum), true) => Expr::binary(BinaryOp::Add, sum, multiple),
                (Some(sum), false) => Expr::binary(BinaryOp::Sub, sum, multiple),
            });
        }
        let constant = i32::try_from(self.constant).ok()?;
        Some(match sum {
            None => Expr::Int(constant),
            Some(sum) if constant == 0 => sum,
            Some(sum) if constant > 0 => Expr::binary(BinaryOp::Add, sum, Expr::Int(constant)),
            Some(sum) => Expr::binary(BinaryOp::Sub, sum, Expr::Int(constant.checked_neg()?)),
        })
    }

    /// The floor of the form divided by a positive `divisor`, as an expression; `None` where a number needs more than 32 bits.
    pub fn divided(&self, divisor: i64) -> Option<Expr> {
        // ⌊(x + c) / d⌋ is ⌊(x + c mod d) / d⌋ + ⌊c / d⌋, and ⌊d·x / d⌋ is x.
        let whole = floor_div(self.constant, divisor)?;
        if self.terms.iter().all(|(_, coefficient)| coefficient % divisor == 0) {
            let terms = self.terms.iter().map(|(atom, coefficient)| (atom.clone(), coefficient / divisor)).collect();
            return Affine { terms, constant: whole }.to_expr();
        }
        let dividend = Affine { constant: floor_rem(self.constant, divisor)?, ..self.clone() }.to_expr()?;
        let quotient = Expr::binary(BinaryOp::Div, dividend, Expr::Int(i32::try_from(divisor).ok()?));
        Affine { terms: vec![(quotient, 1)], constant: whole }.to_expr()
    }

    /// The condition that the form is at most zero, with terms on the side where they need no sign; `None` where a number
    /// needs more than 32 bits.
    pub fn at_most_zero(&self) -> Option<Expr> {
        let side = |sign: i64| {
            let terms = self.terms.iter().filter(|(_, coefficient)| coefficient.signum() == sign);
            let terms: Vec<_> = terms.map(|(atom, coefficient)| (atom.clone(), coefficient * sign)).collect();
            Affine { terms, constant: 0 }
        };
        let (mut left, mut right) = (side(1), side(-1));
        Some(if left.terms.is_empty() {
            left.constant = self.constant;
            Expr::binary(BinaryOp::Ge, right.to_expr()?, left.to_expr()?)
        } else {
            right.constant = self.constant.checked_neg()?;
            Expr::binary(BinaryOp::Le, left.to_expr()?, right.to_expr()?)
        })
    }

    /// `first - a - b …`, where all terms are negative.
    fn subtract_all(&self, first: Expr) -> Option<Expr> {
        self.terms.iter().try_fold(first, |sum, (atom, coefficient)| {
            let size = i32::try_from(coefficient.checked_abs()?).ok()?;
            let multiple =
                if size == 1 { atom.clone() } else { Expr::binary(BinaryOp::Mul, Expr::Int(size), atom.clone()) };
            Some(Expr::binary(BinaryOp::Sub, sum, multiple))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::parse::parse_expr;
    use crate::spec::{ScalarParam, ScalarType};

    #[test]
    fn sums_are_collected() {
        let scalars = [ScalarParam { name: "w".into(), ty: ScalarType::I32, comptime: false }];
        let parameters = Parameters { scalars: &scalars, tensors: &[], values: crate::typing::SCORE, numbers: &[] };
        for (text, expected) in [
            ("i - j + i + 3 - 1", "2 * i - j + 2"),
            ("3 * (i - 2 * w) - i", "2 * i - 6 * w"),
            ("-(j - w)", "w - j"),
            ("5 - j", "5 - j"),
            ("-5 - j", "-j - 5"),
            ("i - i", "0"),
            ("w - i0 * i0 + i1", "i1 + w - i0 * i0"),
            ("w * i - w * i + j / 2", "j / 2"),
        ] {
            let expr = Affine::of(&parse_expr(text, parameters).unwrap()).unwrap().to_expr().unwrap();
            assert_eq!(expr.display(parameters).to_string(), expected, "of {text}");
        }
        assert_eq!(Affine::of(&parse_expr("2147483647 * 4 * i", parameters).unwrap()).unwrap().to_expr(), None);
    }
}
