//! Predicates as alternatives, each of affine comparisons that must all hold.

use crate::analysis::affine::Affine;
use crate::expr::{BinaryOp, Expr, Type, UnaryOp};
use crate::spec::ScalarType;
use crate::typing::Parameters;

/// The most alternatives that a predicate is taken apart into; a part of it that has more stays whole.
pub const MAX_CLAUSES: usize = 16;

/// The most conditions of an alternative, likewise: what is derived from each two of them is checked, too.
const MAX_CONDITIONS: usize = 32;

/// Conditions that must all hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Clause {
    /// Forms that are at most zero.
    pub at_most_zero: Vec<Affine>,
    /// Conditions that are no comparison of integers.
    pub others: Vec<Expr>,
}

/// The alternatives of `predicate`, one of which holds exactly where it does; none if it never does.
///
/// `&&`, `||`, `!` and `if` are multiplied out, and so are `abs`, `min`, `max` and `if` inside the comparisons of integers:
/// |x| <= w is x <= w and -x <= w, and |x| >= w is x >= w or -x >= w. A quotient that is compared with something that is the
/// same for the whole launch becomes a comparison of the dividend, and `x - x % d` becomes `d * (x / d)`. Divisors are taken not
/// to be zero.
pub fn clauses(predicate: &Expr, parameters: Parameters) -> Vec<Clause> {
    Alternatives { parameters }.of(predicate, true)
}

/// The forms that are at most zero wherever `predicate` holds; `None` if it never does.
pub fn required(predicate: &Expr, parameters: Parameters) -> Option<Vec<Affine>> {
    let clauses = clauses(predicate, parameters);
    let (first, others) = clauses.split_first()?;
    let everywhere = |form: &&Affine| others.iter().all(|clause| clause.at_most_zero.contains(form));
    Some(first.at_most_zero.iter().filter(everywhere).cloned().collect())
}

/// Whether an integer that is the same for a whole tile is never negative, whatever the launch; as a divisor, which is not zero,
/// it is positive then.
pub fn never_negative(expr: &Expr, parameters: Parameters) -> bool {
    match expr {
        Expr::Batch | Expr::Head | Expr::KvHead => true,
        Expr::Int(value) => *value >= 0,
        Expr::Scalar(place) => parameters.scalars[*place].ty == ScalarType::U32,
        Expr::Binary(BinaryOp::Add | BinaryOp::Mul, a, b) => {
            never_negative(a, parameters) && never_negative(b, parameters)
        }
        _ => false,
    }
}

struct Alternatives<'a> {
    parameters: Parameters<'a>,
}

impl Alternatives<'_> {
    /// The alternatives in which `predicate` holds, or in which it does not.
    fn of(&self, predicate: &Expr, holds: bool) -> Vec<Clause> {
        use BinaryOp::*;
        let whole = || vec![other(predicate, holds)];
        match (predicate, holds) {
            (Expr::Bool(value), _) => {
                if *value == holds {
                    vec![Clause::default()]
                } else {
                    Vec::new()
                }
            }
            (Expr::Unary(UnaryOp::Not, a), _) => self.of(a, !holds),
            (Expr::Binary(And, a, b), true) | (Expr::Binary(Or, a, b), false) => self.both_of((a, holds), (b, holds)),
            (Expr::Binary(And, a, b), false) | (Expr::Binary(Or, a, b), true) => {
                either(self.of(a, holds), self.of(b, holds)).unwrap_or_else(whole)
            }
            (Expr::Binary(op, a, b), _) if op.is_comparison() => match (self.parameters.assume_type(a), op) {
                (Type::Int, _) => self.compare(*op, a, b, holds).unwrap_or_else(whole),
                (Type::Bool, _) => {
                    let equal = (*op == Eq) == holds;
                    let same = |value: bool| self.both_of((a, value), (b, value == equal));
                    either(same(true), same(false)).unwrap_or_else(whole)
                }
                (Type::Float, _) => whole(),
            },
            (Expr::Select(condition, a, b), _) => {
                let branch = |chosen, branch| self.both_of((condition, chosen), (branch, holds));
                either(branch(true, a), branch(false, b)).unwrap_or_else(whole)
            }
            _ => whole(),
        }
    }

    /// The alternatives of two conditions that both hold. Where there are too many, the one that has more stays whole.
    fn both_of(&self, a: (&Expr, bool), b: (&Expr, bool)) -> Vec<Clause> {
        let (of_a, of_b) = (self.of(a.0, a.1), self.of(b.0, b.1));
        let (of_a, of_b) = if both(of_a.clone(), of_b.clone()).is_some() {
            (of_a, of_b)
        } else if of_a.len() > of_b.len() {
            (vec![other(a.0, a.1)], of_b)
        } else {
            (of_a, vec![other(b.0, b.1)])
        };
        product(&of_a, &of_b)
    }

    fn compare(&self, op: BinaryOp, a: &Expr, b: &Expr, holds: bool) -> Option<Vec<Clause>> {
        use BinaryOp::*;
        let difference = Affine::of(a)?.plus(&Affine::of(b)?, -1)?;
        let opposite = difference.scaled(-1)?;
        match (op, holds) {
            (Le, true) | (Gt, false) => self.at_most_zero(difference),
            (Lt, true) | (Ge, false) => self.at_most_zero(difference.shifted(1)?),
            (Ge, true) | (Lt, false) => self.at_most_zero(opposite),
            (Gt, true) | (Le, false) => self.at_most_zero(opposite.shifted(1)?),
            (Eq, true) | (Ne, false) => both(self.at_most_zero(difference)?, self.at_most_zero(opposite)?),
            _ => either(self.at_most_zero(difference.shifted(1)?)?, self.at_most_zero(opposite.shifted(1)?)?),
        }
    }

    /// The alternatives in which `form` is at most zero; `None` where there are too many or a number is too large.
    fn at_most_zero(&self, form: Affine) -> Option<Vec<Clause>> {
        let with = |atom: &Expr, by: &Expr| form.substituted(atom, &Affine::of(by)?);
        for (atom, coefficient) in &form.terms {
            let larger = *coefficient > 0;
            let (parts, all) = match atom {
                Expr::Unary(UnaryOp::Abs, a) => {
                    ([with(atom, a)?, form.substituted(atom, &Affine::of(a)?.scaled(-1)?)?], larger)
                }
                Expr::Binary(BinaryOp::Max, a, b) => ([with(atom, a)?, with(atom, b)?], larger),
                Expr::Binary(BinaryOp::Min, a, b) => ([with(atom, a)?, with(atom, b)?], !larger),
                Expr::Select(condition, a, b) => {
                    return self.chosen(condition, with(atom, a)?, with(atom, b)?);
                }
                Expr::Unary(UnaryOp::ToInt, a) if self.parameters.assume_type(a) == Type::Bool => {
                    return self.chosen(a, with(atom, &Expr::Int(1))?, with(atom, &Expr::Int(0))?);
                }
                _ => continue,
            };
            let [first, second] = parts.map(|part| self.at_most_zero(part));
            return if all { both(first?, second?) } else { either(first?, second?) };
        }
        if let Some(simpler) = self.without_remainder(&form).or_else(|| self.without_quotient(&form)) {
            return self.at_most_zero(simpler);
        }
        if form.terms.is_empty() {
            return Some(if form.constant <= 0 { vec![Clause::default()] } else { Vec::new() });
        }
        Some(vec![Clause { at_most_zero: vec![form], others: Vec::new() }])
    }

    fn chosen(&self, condition: &Expr, then: Affine, otherwise: Affine) -> Option<Vec<Clause>> {
        let then = both(self.of(condition, true), self.at_most_zero(then)?)?;
        either(then, both(self.of(condition, false), self.at_most_zero(otherwise)?)?)
    }

    /// The form with x - d * (x / d) for a remainder x % d, where that makes it no longer.
    fn without_remainder(&self, form: &Affine) -> Option<Affine> {
        form.terms.iter().find_map(|(atom, _)| {
            let Expr::Binary(BinaryOp::Rem, x, divisor) = atom else { return None };
            let whole = Expr::binary(
                BinaryOp::Mul,
                (**divisor).clone(),
                Expr::binary(BinaryOp::Div, (**x).clone(), (**divisor).clone()),
            );
            let by = Affine::of(x)?.plus(&Affine::of(&whole)?, -1)?;
            let rewritten = form.substituted(atom, &by)?;
            (rewritten.terms.len() <= form.terms.len()).then_some(rewritten)
        })
    }

    /// The form x - d * (m + 1) + 1 for c * (x / d) + u <= 0, where m is the floor of -u / c and u is the same for the launch;
    /// and d * m - x for a negative c, where m is the ceiling of u / -c.
    fn without_quotient(&self, form: &Affine) -> Option<Affine> {
        let quotient = |atom: &Expr| match atom {
            Expr::Binary(BinaryOp::Div, x, divisor) if !atom.is_uniform() => Some(((**x).clone(), (**divisor).clone())),
            _ => None,
        };
        let (atom, coefficient) = form.terms.iter().find(|(atom, _)| quotient(atom).is_some())?;
        let (x, divisor) = quotient(atom)?;
        let rest = form.without(atom);
        let others_are_uniform = rest.terms.iter().all(|(atom, _)| atom.is_uniform());
        if !others_are_uniform || !never_negative(&divisor, self.parameters) {
            return None;
        }
        of_quotient(&Affine::of(&x)?, &divisor, *coefficient, &rest)
    }
}

/// The form in x that is at most zero where coefficient * (x / divisor) + rest is; the divisor is positive.
pub(super) fn of_quotient(x: &Affine, divisor: &Expr, coefficient: i64, rest: &Affine) -> Option<Affine> {
    let times = |bound: Expr| Affine::of(&Expr::binary(BinaryOp::Mul, divisor.clone(), bound));
    if coefficient > 0 {
        x.plus(&times(rest.scaled(-1)?.shifted(coefficient)?.divided(coefficient)?)?, -1)?.shifted(1)
    } else {
        let over = coefficient.checked_neg()?;
        times(rest.shifted(over - 1)?.divided(over)?)?.plus(x, -1)
    }
}

fn other(predicate: &Expr, holds: bool) -> Clause {
    let condition = if holds { predicate.clone() } else { Expr::unary(UnaryOp::Not, predicate.clone()) };
    Clause { at_most_zero: Vec::new(), others: vec![condition] }
}

fn product(a: &[Clause], b: &[Clause]) -> Vec<Clause> {
    let mut clauses = Vec::new();
    for a in a {
        for b in b {
            let mut clause = a.clone();
            for form in &b.at_most_zero {
                if !clause.at_most_zero.contains(form) {
                    clause.at_most_zero.push(form.clone());
                }
            }
            for other in &b.others {
                if !clause.others.contains(other) {
                    clause.others.push(other.clone());
                }
            }
            clauses.push(clause);
        }
    }
    clauses
}

fn both(a: Vec<Clause>, b: Vec<Clause>) -> Option<Vec<Clause>> {
    let longest =
        |clauses: &[Clause]| clauses.iter().map(|clause| clause.at_most_zero.len() + clause.others.len()).max();
    let conditions = longest(&a).unwrap_or(0) + longest(&b).unwrap_or(0);
    (a.len() * b.len() <= MAX_CLAUSES && conditions <= MAX_CONDITIONS).then(|| product(&a, &b))
}

fn either(mut a: Vec<Clause>, b: Vec<Clause>) -> Option<Vec<Clause>> {
    for clause in b {
        if !a.contains(&clause) {
            a.push(clause);
        }
    }
    if a.contains(&Clause::default()) {
        return Some(vec![Clause::default()]);
    }
    (a.len() <= MAX_CLAUSES).then_some(a)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::parse::parse_expr;
    use crate::spec::ScalarParam;

    #[test]
    fn predicates_are_taken_apart() {
        let scalars = [("w", ScalarType::I32), ("c", ScalarType::U32)].map(|(name, ty)| ScalarParam {
            name: name.into(),
            ty,
            comptime: false,
        });
        let parameters = Parameters { scalars: &scalars, tensors: &[] };
        for (text, expected) in [
            ("j <= i && i - j < w", "j - i, i - j - w + 1"),
            ("!(j > i || i - j >= w)", "j - i, i - j - w + 1"),
            ("abs(i - j) <= w", "i - j - w, j - i - w"),
            ("abs(i - j) >= w", "j - i + w | i - j + w"),
            (
                "min(w, 2 * w - i) > j && j != 3",
                "j - w + 1, i - 2 * w + j + 1, j - 2 | j - w + 1, i - 2 * w + j + 1, 4 - j",
            ),
            ("i == j", "i - j, j - i"),
            ("j <= i || j < w", "j - i | j - w + 1"),
            ("!(j <= i && (s > 0.0))", "i - j + 1 | !(s > 0.0)"),
            ("j <= i || !true", "j - i"),
            ("j <= i || true", ""),
            ("!(j > i && false)", ""),
            ("j <= i && false", "none"),
            ("if j < 4 { i < 4 } else { j <= i }", "j - 3, i - 3 | 4 - j, j - i"),
            ("j < (if i > 2 { w } else { 5 })", "3 - i, j - w + 1 | i - 2, j - 4"),
            ("i / 4 == 2", "i - 11, 8 - i"),
            ("abs(i - j) / c < w", "i - j - c * w + 1, j - i - c * w + 1"),
            ("j >= i - i % c", "c * (i / c) - j"),
            ("i / c == j / c", "i / c - j / c, j / c - i / c"),
            ("(j < w) == (i < w)", "j - w + 1, i - w + 1 | w - j, w - i"),
        ] {
            let display = |expr: &Expr| expr.display(parameters).to_string();
            let clause = |clause: &Clause| {
                let forms = clause.at_most_zero.iter().map(|form| display(&form.to_expr().unwrap()));
                forms.chain(clause.others.iter().map(display)).collect::<Vec<_>>().join(", ")
            };
            let found = clauses(&parse_expr(text, parameters).unwrap(), parameters);
            let found =
                if found.is_empty() { "none".into() } else { found.iter().map(clause).collect::<Vec<_>>().join(" | ") };
            assert_eq!(found, expected, "of {text}");
        }
    }

    #[test]
    fn a_part_with_too_many_alternatives_stays_whole() {
        let parameters = Parameters { scalars: &[], tensors: &[] };
        let differ = |n: i32| format!("j != {n}");
        let text = (0..5).map(differ).collect::<Vec<_>>().join(" && ");
        let found = clauses(&parse_expr(&text, parameters).unwrap(), parameters);
        assert!(found.len() <= MAX_CLAUSES);
        assert_eq!(found.iter().map(|clause| clause.others.len()).sum::<usize>(), 2, "{found:?}");
    }
}
