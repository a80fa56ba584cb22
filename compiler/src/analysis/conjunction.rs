//! What a predicate requires: the affine comparisons that hold wherever it does.

use crate::analysis::affine::Affine;
use crate::expr::{BinaryOp, Expr, Type, UnaryOp};
use crate::typing::Parameters;

/// A predicate as conditions that must all hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conjunction {
    /// Forms that are at most zero.
    pub at_most_zero: Vec<Affine>,
    /// Conditions that are no comparison of affine forms.
    pub others: Vec<Expr>,
    /// Whether one of the conditions is the constant false.
    pub never: bool,
}

impl Conjunction {
    /// The conditions of `predicate`, which all hold exactly where it does.
    ///
    /// Takes apart `&&`, negated `||`, and the comparisons of integers, in which `abs`, `min` and `max` become two
    /// comparisons where that is a conjunction (`abs(i - j) <= w`, but not `abs(i - j) >= w`).
    pub fn of(predicate: &Expr, parameters: Parameters) -> Conjunction {
        let mut conjunction = Conjunction::default();
        conjunction.require(predicate, true, parameters);
        conjunction
    }

    fn require(&mut self, predicate: &Expr, holds: bool, parameters: Parameters) {
        use BinaryOp::*;
        match (predicate, holds) {
            (Expr::Bool(value), _) => self.never |= *value != holds,
            (Expr::Unary(UnaryOp::Not, a), _) => self.require(a, !holds, parameters),
            (Expr::Binary(And, a, b), true) | (Expr::Binary(Or, a, b), false) => {
                self.require(a, holds, parameters);
                self.require(b, holds, parameters);
            }
            // `j <= i || !causal`, where the value of `causal` is known.
            (Expr::Binary(And | Or, known, other) | Expr::Binary(And | Or, other, known), _)
                if constant(known).is_some() =>
            {
                if constant(known) != Some(holds) {
                    self.require(other, holds, parameters);
                }
            }
            (Expr::Binary(op, a, b), _) if op.is_comparison() && parameters.assume_type(a) == Type::Int => {
                let known = match (op, holds) {
                    (Le, true) | (Gt, false) => self.require_at_most(a, b, 0),
                    (Lt, true) | (Ge, false) => self.require_at_most(a, b, 1),
                    (Ge, true) | (Lt, false) => self.require_at_most(b, a, 0),
                    (Gt, true) | (Le, false) => self.require_at_most(b, a, 1),
                    (Eq, true) | (Ne, false) => {
                        let before = self.at_most_zero.len();
                        let known = self.require_at_most(a, b, 0).and_then(|()| self.require_at_most(b, a, 0));
                        // Half of an equality would be true, but no longer all that is required.
                        if known.is_none() {
                            self.at_most_zero.truncate(before);
                        }
                        known
                    }
                    _ => None,
                };
                if known.is_none() {
                    self.others.push(signed(predicate, holds));
                }
            }
            _ => self.others.push(signed(predicate, holds)),
        }
    }

    /// Requires a + gap <= b.
    fn require_at_most(&mut self, a: &Expr, b: &Expr, gap: i64) -> Option<()> {
        let form = Affine::of(a)?.plus(&Affine::of(b)?, -1)?.shifted(gap)?;
        let forms = expand(form, 16)?;
        self.at_most_zero.extend(forms);
        Some(())
    }
}

fn signed(predicate: &Expr, holds: bool) -> Expr {
    if holds { predicate.clone() } else { Expr::unary(UnaryOp::Not, predicate.clone()) }
}

/// The value of a constant truth value, negated or not.
fn constant(predicate: &Expr) -> Option<bool> {
    match predicate {
        Expr::Bool(value) => Some(*value),
        Expr::Unary(UnaryOp::Not, a) => constant(a).map(|value| !value),
        _ => None,
    }
}

/// The forms that are all at most zero exactly where `form` is: |a| <= 0 is a <= 0 and -a <= 0.
fn expand(form: Affine, most: usize) -> Option<Vec<Affine>> {
    let parts = form.terms.iter().find_map(|(atom, coefficient)| {
        let parts = match atom {
            Expr::Unary(UnaryOp::Abs, a) if *coefficient > 0 => [Affine::of(a)?, Affine::of(a)?.scaled(-1)?],
            Expr::Binary(BinaryOp::Max, a, b) if *coefficient > 0 => [Affine::of(a)?, Affine::of(b)?],
            Expr::Binary(BinaryOp::Min, a, b) if *coefficient < 0 => [Affine::of(a)?, Affine::of(b)?],
            _ => return None,
        };
        Some((atom.clone(), parts))
    });
    let Some((atom, parts)) = parts else { return Some(vec![form]) };
    if most < 2 {
        return None;
    }
    let mut forms = Vec::new();
    for part in parts {
        forms.extend(expand(form.substituted(&atom, &part)?, most / 2)?);
    }
    Some(forms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::parse::parse_expr;
    use crate::spec::{ScalarParam, ScalarType};

    #[test]
    fn predicates_are_taken_apart() {
        let scalars = [ScalarParam { name: "w".into(), ty: ScalarType::I32, comptime: false }];
        let parameters = Parameters { scalars: &scalars, tensors: &[] };
        for (text, at_most_zero, others) in [
            ("j <= i && i - j < w", "j - i, i - j - w + 1", ""),
            ("!(j > i || i - j >= w)", "j - i, i - j - w + 1", ""),
            ("abs(i - j) <= w", "i - j - w, j - i - w", ""),
            ("abs(i - j) >= w", "w - abs(i - j)", ""),
            ("min(w, 2 * w - i) > j && j != 3", "j - w + 1, i - 2 * w + j + 1", "j != 3"),
            ("i == j", "i - j, j - i", ""),
            ("j <= i || j < w", "", "j <= i || j < w"),
            ("!(j <= i && (s > 0.0))", "", "!(j <= i && s > 0.0)"),
            ("j <= i || !true", "j - i", ""),
            ("j <= i || true", "", ""),
            ("!(true && j > i)", "j - i", ""),
            ("!(j > i && false)", "", ""),
        ] {
            let found = Conjunction::of(&parse_expr(text, parameters).unwrap(), parameters);
            let display = |expr: &Expr| expr.display(parameters).to_string();
            let forms: Vec<_> = found.at_most_zero.iter().map(|form| display(&form.to_expr().unwrap())).collect();
            assert_eq!(forms.join(", "), at_most_zero, "of {text}");
            assert_eq!(found.others.iter().map(display).collect::<Vec<_>>().join(", "), others, "of {text}");
        }
    }
}
