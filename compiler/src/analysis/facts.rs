//! What is assumed of an expression while it is looked at: what a mask, an `if` or an `&&` proves.

use crate::analysis::affine::Affine;
use crate::analysis::clauses::Clause;
use crate::analysis::float_interval::FloatInterval;
use crate::analysis::interval::Interval;
use crate::eval::floor_div;
use crate::expr::Expr;

/// What is assumed to hold, in canonical form.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Forms that are at most zero, with scalars replaced by their values.
    pub at_most_zero: Vec<Affine>,
    /// What follows for single atoms.
    pub narrowed: Vec<(Expr, Interval)>,
    /// What is known of floats.
    pub floats: Vec<(Expr, FloatInterval)>,
    /// Whether the facts contradict each other: nothing that assumes them matters.
    pub unreachable: bool,
}

impl Facts {
    /// Nothing.
    pub fn none() -> Facts {
        Facts { at_most_zero: Vec::new(), narrowed: Vec::new(), floats: Vec::new(), unreachable: false }
    }

    /// `interval`, narrowed by what is known of an atom.
    pub fn narrow(&self, atom: &Expr, interval: Interval) -> Interval {
        match self.narrowed.iter().find(|(known, _)| known == atom) {
            Some((_, known)) => interval.intersection(*known),
            None => interval,
        }
    }

    /// `interval`, narrowed by what is known of a float.
    pub fn narrow_float(&self, expr: &Expr, interval: FloatInterval) -> FloatInterval {
        let known = self.floats.iter().filter(|(known, _)| known == expr);
        known.fold(interval, |interval, (_, known)| interval.intersection(*known))
    }
}

/// The form divided by what its factors have in common; it is at most zero where `form` is.
pub fn reduced(form: &Affine) -> Affine {
    let common = common_factor(form);
    if common <= 1 {
        return form.clone();
    }
    let terms = form.terms.iter().map(|(atom, factor)| (atom.clone(), factor / common)).collect();
    let constant = floor_div(form.constant.saturating_neg(), common).map_or(form.constant, i64::saturating_neg);
    Affine { terms, constant }
}

/// The greatest number that divides all factors of a form; 0 if it has none.
pub fn common_factor(form: &Affine) -> i64 {
    let divisor = |mut a: i64, mut b: i64| {
        while b != 0 {
            (a, b) = (b, a.checked_rem(b).unwrap_or(0));
        }
        a.saturating_abs()
    };
    form.terms.iter().fold(0, |common, (_, factor)| divisor(common, *factor))
}

/// What holds in every one of `clauses`, of which there is one: of two bounds of the same sum the weaker one.
pub fn joined(clauses: &[Clause]) -> Option<Clause> {
    let (first, others) = clauses.split_first()?;
    let weakest = |form: &Affine| {
        others.iter().try_fold(form.clone(), |form, clause| {
            let same = clause.at_most_zero.iter().filter(|other| form.same_terms(other, 1));
            let constant = same.map(|other| other.constant).max()?.min(form.constant);
            Some(Affine { constant, ..form })
        })
    };
    Some(Clause {
        at_most_zero: first.at_most_zero.iter().filter_map(weakest).collect(),
        others: first
            .others
            .iter()
            .filter(|condition| others.iter().all(|clause| clause.others.contains(condition)))
            .cloned()
            .collect(),
    })
}

/// Whether facts of `a` can be of `b`, as far as a glance tells.
pub fn alike(a: &Expr, b: &Expr) -> bool {
    match (a, b) {
        (Expr::Load { tensor: a, .. }, Expr::Load { tensor: b, .. }) => a == b,
        (Expr::Unary(a, _), Expr::Unary(b, _)) => a == b,
        (Expr::Binary(a, ..), Expr::Binary(b, ..)) => a == b,
        _ => std::mem::discriminant(a) == std::mem::discriminant(b),
    }
}

/// What the facts say of a form with the same terms as one of theirs, or with a multiple of them.
pub fn bounds_of_form(form: &Affine, facts: &Facts) -> Interval {
    let anything = Interval::new(i64::MIN, i64::MAX);
    let times = common_factor(form);
    if times == 0 {
        return anything;
    }
    let terms = form.terms.iter().map(|(atom, factor)| (atom.clone(), factor / times)).collect();
    let part = Affine { terms, constant: 0 };
    let mut found = anything;
    if let [(atom, sign)] = part.terms.as_slice() {
        let known = facts.narrow(atom, anything);
        found = if *sign > 0 { known } else { known.negated() };
    }
    for fact in &facts.at_most_zero {
        if part.same_terms(fact, 1) {
            found = found.intersection(Interval::new(i64::MIN, fact.constant.saturating_neg()));
        } else if part.same_terms(fact, -1) {
            found = found.intersection(Interval::new(fact.constant, i64::MAX));
        }
    }
    let of = |bound: i64| bound.saturating_mul(times).saturating_add(form.constant);
    let of = |bound: i64| if bound == i64::MIN || bound == i64::MAX { bound } else { of(bound) };
    if found.is_none() { found } else { Interval::new(of(found.low), of(found.high)) }
}
