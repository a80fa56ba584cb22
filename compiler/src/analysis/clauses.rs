//! Predicates as alternatives, each of affine comparisons that must all hold.

use crate::analysis::affine::Affine;
use crate::expr::{BinaryOp, Expr, Type, UnaryOp};
use crate::spec::ScalarType;
use crate::typing::Parameters;
use std::cell::Cell;

/// The most alternatives that a predicate is taken apart into; a part of it that has more stays whole.
pub const MAX_CLAUSES: usize = 16;

/// The most conditions of an alternative, likewise: what is derived from each two of them is checked, too.
const MAX_CONDITIONS: usize = 32;

/// The most cases of the `if`s in a comparison that are looked at, also of those that turn out to contradict themselves.
const MAX_CASES: usize = 64;

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
/// `&&`, `||`, `!` and `if` are multiplied out, and so are `abs`, `min`, `max` and `if` inside the comparisons of integers, also
/// where they are divided: |x| <= w is x <= w and -x <= w, and |x| >= w is x >= w or -x >= w. A quotient that is compared with
/// something that is the same for the whole launch becomes a comparison of the dividend, and `x - x % d` becomes `d * (x / d)`.
/// Divisors are taken not to be zero. An alternative that contradicts itself is left out, and so is a condition that another
/// one implies.
pub fn clauses(predicate: &Expr, parameters: Parameters) -> Vec<Clause> {
    Alternatives { parameters, cases: Cell::new(0) }.of(predicate, true)
}

/// The forms that are at most zero wherever `predicate` holds; `None` if it never does.
pub fn required(predicate: &Expr, parameters: Parameters) -> Option<Vec<Affine>> {
    let clauses = clauses(predicate, parameters);
    if clauses.is_empty() {
        return None;
    }
    let mut required: Vec<Affine> = Vec::new();
    for form in clauses.iter().flat_map(|clause| &clause.at_most_zero) {
        let everywhere = clauses.iter().all(|clause| clause.at_most_zero.iter().any(|known| implies(known, form)));
        if everywhere && !required.contains(form) {
            required.push(form.clone());
        }
    }
    Some(required)
}

/// Whether `form` is at most zero where `known` is, because both have the same terms.
fn implies(known: &Affine, form: &Affine) -> bool {
    known.constant >= form.constant && known.same_terms(form, 1)
}

/// Whether `a` and `b` can't both be at most zero, because each has the terms of the other with opposite signs.
fn contradict(a: &Affine, b: &Affine) -> bool {
    a.constant.saturating_add(b.constant) > 0 && a.same_terms(b, -1)
}

/// Whether an integer that is the same for a whole tile is never negative, whatever the launch; as a divisor, which is not zero,
/// it is positive then.
pub fn never_negative(expr: &Expr, parameters: Parameters) -> bool {
    match expr {
        Expr::Batch | Expr::Head | Expr::KvHead | Expr::QueryLen | Expr::KeyLen(_) => true,
        Expr::Int(value) => *value >= 0,
        Expr::Scalar(place) => parameters.scalars[*place].ty == ScalarType::U32,
        Expr::Binary(BinaryOp::Add | BinaryOp::Mul | BinaryOp::Div, a, b) => {
            never_negative(a, parameters) && never_negative(b, parameters)
        }
        _ => false,
    }
}

struct Alternatives<'a> {
    parameters: Parameters<'a>,
    /// How many cases a comparison has been split into so far.
    cases: Cell<usize>,
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
        match both(&of_a, &of_b) {
            Some(clauses) => clauses,
            None if of_a.len() > of_b.len() => product(&[other(a.0, a.1)], &of_b),
            None => product(&of_a, &[other(b.0, b.1)]),
        }
    }

    fn compare(&self, op: BinaryOp, a: &Expr, b: &Expr, holds: bool) -> Option<Vec<Clause>> {
        self.cases.set(0);
        self.compare_with_zero(op, Affine::of(a)?.plus(&Affine::of(b)?, -1)?, holds)
    }

    fn compare_with_zero(&self, op: BinaryOp, difference: Affine, holds: bool) -> Option<Vec<Clause>> {
        use BinaryOp::*;
        // Here and not in the parts of an equality, which would be split each on its own.
        if let Some(split) = self.split(&difference, |form| self.compare_with_zero(op, form, holds)) {
            return split;
        }
        let opposite = difference.scaled(-1)?;
        match (op, holds) {
            (Le, true) | (Gt, false) => self.at_most_zero(difference),
            (Lt, true) | (Ge, false) => self.at_most_zero(difference.shifted(1)?),
            (Ge, true) | (Lt, false) => self.at_most_zero(opposite),
            (Gt, true) | (Le, false) => self.at_most_zero(opposite.shifted(1)?),
            (Eq, true) | (Ne, false) => both(&self.at_most_zero(difference)?, &self.at_most_zero(opposite)?),
            _ => either(self.at_most_zero(difference.shifted(1)?)?, self.at_most_zero(opposite.shifted(1)?)?),
        }
    }

    /// The alternatives in which `form` is at most zero; `None` where there are too many or a number is too large.
    fn at_most_zero(&self, form: Affine) -> Option<Vec<Clause>> {
        if let Some(split) = self.split(&form, |form| self.at_most_zero(form)) {
            return split;
        }
        for (atom, coefficient) in &form.terms {
            let Some((op, a, b)) = self.extreme(atom) else { continue };
            let [first, second] = [a, b].map(|by| self.at_most_zero(form.substituted(atom, &Affine::of(&by)?)?));
            let all = (op == BinaryOp::Max) == (*coefficient > 0);
            return if all { both(&first?, &second?) } else { either(first?, second?) };
        }
        if let Some(simpler) = self.without_remainder(&form).or_else(|| self.without_quotient(&form)) {
            return self.at_most_zero(simpler);
        }
        if form.terms.is_empty() {
            return Some(if form.constant <= 0 { vec![Clause::default()] } else { Vec::new() });
        }
        Some(vec![Clause { at_most_zero: vec![form], others: Vec::new() }])
    }

    /// What `compare` says of a form with an `if` in it, by cases; `None` where there is no `if`.
    fn split(&self, form: &Affine, compare: impl Fn(Affine) -> Option<Vec<Clause>>) -> Option<Option<Vec<Clause>>> {
        let choice = form.terms.iter().find_map(|(atom, _)| self.choice(atom))?;
        let (Expr::Select(condition, ..) | Expr::Unary(_, condition)) = choice else { return None };
        let whole = form.terms.iter().any(|(atom, _)| atom == choice);
        let case = |holds| {
            self.cases.set(self.cases.get() + 1);
            let chosen = |expr: &Expr| match expr {
                Expr::Select(known, then, otherwise) if known == condition => {
                    Some(if holds { (**then).clone() } else { (**otherwise).clone() })
                }
                Expr::Unary(UnaryOp::ToInt, known) if known == condition => Some(Expr::Int(holds.into())),
                _ => None,
            };
            let found = compare(form.replaced(&chosen)?.simplified(self.parameters)?)?;
            // What ranges do not decide has no more to say in parts.
            let decided = whole || found.iter().all(|clause| self.is_linear(clause));
            if decided { both(&self.of(condition, holds), &found) } else { None }
        };
        let too_many = self.cases.get() >= MAX_CASES;
        Some(if too_many { None } else { case(true).and_then(|then| either(then, case(false)?)) })
    }

    /// An `if`, or a truth value as a number, that is an operand of sums, multiples, quotients, `min`, `max`, `abs` and of indices
    /// of sorted tensors.
    fn choice<'e>(&self, expr: &'e Expr) -> Option<&'e Expr> {
        let inside = |expr: &'e Expr| self.choice(expr).filter(|choice| !choice.is_uniform());
        match expr {
            Expr::Select(..) => Some(expr),
            Expr::Unary(UnaryOp::ToInt, a) if self.parameters.assume_type(a) == Type::Bool => Some(expr),
            Expr::Unary(UnaryOp::Neg | UnaryOp::Abs, a) => inside(a),
            Expr::Binary(BinaryOp::Add | BinaryOp::Sub | BinaryOp::Min | BinaryOp::Max, a, b) => {
                inside(a).or_else(|| inside(b))
            }
            Expr::Binary(BinaryOp::Mul, a, b) if a.is_uniform() || b.is_uniform() => inside(a).or_else(|| inside(b)),
            Expr::Binary(BinaryOp::Div, a, b) if never_negative(b, self.parameters) => inside(a),
            Expr::Load { tensor, index } if self.parameters.tensors[*tensor].order.is_sorted() => {
                index.last().and_then(inside)
            }
            _ => None,
        }
    }

    /// `a` and `b`, of which `expr` is the least or the greatest: also where it is that of what is multiplied or divided.
    fn extreme(&self, expr: &Expr) -> Option<(BinaryOp, Expr, Expr)> {
        let never_negative = |expr: &Expr| never_negative(expr, self.parameters);
        // A divisor is not zero.
        let of = |op, a: Expr, other: &Expr| if a == Expr::Int(0) { a } else { Expr::binary(op, a, other.clone()) };
        let of_each = |op: BinaryOp, (extreme, a, b), other: &Expr| (extreme, of(op, a, other), of(op, b, other));
        match expr {
            Expr::Unary(UnaryOp::Abs, a) => {
                Some((BinaryOp::Max, (**a).clone(), Expr::unary(UnaryOp::Neg, (**a).clone())))
            }
            Expr::Binary(op @ (BinaryOp::Min | BinaryOp::Max), a, b) => Some((*op, (**a).clone(), (**b).clone())),
            Expr::Binary(op @ (BinaryOp::Mul | BinaryOp::Div), a, b) if never_negative(b) => {
                Some(of_each(*op, self.extreme_of_sum(a)?, b))
            }
            Expr::Binary(op @ BinaryOp::Mul, a, b) if never_negative(a) => {
                Some(of_each(*op, self.extreme_of_sum(b)?, a))
            }
            _ => None,
        }
    }

    /// The same of a sum, which is that of its term with all others added.
    fn extreme_of_sum(&self, expr: &Expr) -> Option<(BinaryOp, Expr, Expr)> {
        let sum = Affine::of(expr)?;
        sum.terms.iter().filter(|(atom, _)| !atom.is_uniform()).find_map(|(atom, coefficient)| {
            let (op, a, b) = self.extreme(atom)?;
            let with = |by: &Expr| sum.substituted(atom, &Affine::of(by)?)?.to_expr();
            let opposite = if op == BinaryOp::Min { BinaryOp::Max } else { BinaryOp::Min };
            Some((if *coefficient > 0 { op } else { opposite }, with(&a)?, with(&b)?))
        })
    }

    /// Whether a clause has nothing but comparisons of positions, their quotients and elements of sorted tensors.
    fn is_linear(&self, clause: &Clause) -> bool {
        let varying = clause.at_most_zero.iter().flat_map(|form| &form.terms).filter(|(atom, _)| !atom.is_uniform());
        clause.others.iter().all(Expr::is_uniform)
            && varying.into_iter().all(|(atom, _)| match atom {
                Expr::Query | Expr::Key => true,
                Expr::Binary(BinaryOp::Div, _, divisor) => never_negative(divisor, self.parameters),
                Expr::Binary(BinaryOp::Mul, factor, quotient) => {
                    factor.is_uniform() && matches!(**quotient, Expr::Binary(BinaryOp::Div, ..))
                }
                Expr::Load { tensor, .. } => self.parameters.tensors[*tensor].order.is_sorted(),
                _ => false,
            })
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

/// The clauses of which one of `a` and one of `b` hold.
fn product(a: &[Clause], b: &[Clause]) -> Vec<Clause> {
    let mut clauses: Vec<Clause> = Vec::new();
    for clause in a.iter().flat_map(|a| b.iter().filter_map(|b| joined(a, b))) {
        if !clauses.contains(&clause) {
            clauses.push(clause);
        }
    }
    clauses
}

/// The conditions of both; `None` where they contradict each other.
fn joined(a: &Clause, b: &Clause) -> Option<Clause> {
    let mut clause = a.clone();
    for form in &b.at_most_zero {
        if clause.at_most_zero.iter().any(|known| contradict(known, form)) {
            return None;
        }
        if clause.at_most_zero.iter().any(|known| implies(known, form)) {
            continue;
        }
        match clause.at_most_zero.iter_mut().find(|known| implies(form, known)) {
            Some(known) => *known = form.clone(),
            None => clause.at_most_zero.push(form.clone()),
        }
    }
    for other in &b.others {
        let opposite = |known: &Expr| {
            let is_not = |a: &Expr, b: &Expr| matches!(a, Expr::Unary(UnaryOp::Not, a) if **a == *b);
            is_not(known, other) || is_not(other, known)
        };
        if clause.others.iter().any(opposite) {
            return None;
        }
        if !clause.others.contains(other) {
            clause.others.push(other.clone());
        }
    }
    Some(clause)
}

fn both(a: &[Clause], b: &[Clause]) -> Option<Vec<Clause>> {
    let clauses = product(a, b);
    let longest = clauses.iter().map(|clause| clause.at_most_zero.len() + clause.others.len()).max().unwrap_or(0);
    (clauses.len() <= MAX_CLAUSES && longest <= MAX_CONDITIONS).then_some(clauses)
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
        let parameters = Parameters { scalars: &scalars, tensors: &[], values: crate::typing::SCORE, numbers: &[] };
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
            ("j != 3 && j != 9", "j - 2 | 4 - j, j - 8 | 10 - j"),
            ("(j <= i || i < 4) && j <= i + 2 && i >= 4", "j - i, 4 - i"),
            ("(s > 0.0 || j <= i) && !(s > 0.0)", "j - i, !(s > 0.0)"),
            ("(if i > 2 { i } else { 5 }) / 4 == j", "3 - i, i / 4 - j, j - i / 4 | i - 2, 1 - j, j - 1"),
            ("max(i - w, 3) / 4 <= j", "(i - w) / 4 - j, 3 / 4 - j"),
            ("(3 - min(i, j)) / c < w", "4 - i - c * w, 4 - j - c * w"),
            (
                "(if i > 2 { i } else { 5 }) % 4 / 2 == j",
                "(if i > 2 { i } else { 5 }) % 4 / 2 - j, j - (if i > 2 { i } else { 5 }) % 4 / 2",
            ),
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
        let parameters = Parameters { scalars: &[], tensors: &[], values: crate::typing::SCORE, numbers: &[] };
        let differ = |n: i32| format!("j != {n} * i");
        let text = (0..5).map(differ).collect::<Vec<_>>().join(" && ");
        let found = clauses(&parse_expr(&text, parameters).unwrap(), parameters);
        assert!(found.len() <= MAX_CLAUSES);
        assert_eq!(found.iter().map(|clause| clause.others.len()).sum::<usize>(), 2, "{found:?}");
    }
}
