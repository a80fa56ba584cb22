//! The keys that a tile of queries can see, and those that all of its queries see, as ranges in closed form.
//!
//! A predicate is taken apart into [`clauses`]. In a clause, each comparison a·i + K(j) + u <= 0 in which K is one term that grows
//! with j (j itself, `j / c`, an element of a sorted tensor at such an index) gives an end of a range: some i of the tile
//! satisfies it, and does at the end of the tile where the rest is least; all do where they do at the other end. A comparison
//! without j says when there is a range at all.
//!
//! For one key, each comparison bounds the queries that see it from below or from above, and there is such a query in the tile if
//! every lower bound is at most every upper one. So two comparisons that bound i, or the same quotient of it, from both sides give
//! one more, in which i does not occur (Fourier and Motzkin's elimination). One that bounds i without j narrows the tile's
//! rows in the quotients and elements of the others: `i < a && j / b <= i / b` is read at `min(i1, a - 1)` instead of i1.
//!
//! The ranges of a clause are therefore exact where i and j have factors 1 and -1, each in one term of a comparison, and of each
//! two comparisons that bound i from both sides one has no j, or both have the same term of i (i itself, or the same `i / c`)
//! and leave j in one term. Two in different terms of i leave a condition of j alone that is no range, like that of
//! `j / c < i / c && i - j < w`, a remainder: it is left out, which visits more. So are unions of exact clauses exact, unless there
//! are more than [`MAX_RANGES`]. Conditions that give no end are left to [each tile](super::tile::kind).

use crate::analysis::affine::Affine;
use crate::analysis::clauses::{Clause, clauses, never_negative, of_quotient};
use crate::analysis::tile;
use crate::expr::{BinaryOp, Expr};
use crate::ir::{MAX_RANGES, Range};
use crate::typing::Parameters;

/// The keys that some query of the tile may see where `predicate` is their mask: at most [`MAX_RANGES`] ranges, none of which is
/// inside another for certain.
pub fn visited_keys(predicate: &Expr, parameters: Parameters) -> Vec<Range> {
    let bounds = Bounds { parameters };
    let ranges = clauses(predicate, parameters).iter().filter_map(|clause| bounds.visited(clause)).collect();
    let mut ranges = bounds.united(ranges);
    while ranges.len() > MAX_RANGES {
        let (last, before) = (ranges.pop(), ranges.pop());
        ranges.extend(before.zip(last).map(|(before, last)| hull(before, last)));
    }
    ranges
}

/// The keys that every query of the tile sees for certain: at most [`MAX_RANGES`] ranges.
pub fn full_keys(predicate: &Expr, parameters: Parameters) -> Vec<Range> {
    let bounds = Bounds { parameters };
    let ranges = clauses(predicate, parameters).iter().filter_map(|clause| bounds.full(clause)).collect();
    let mut ranges = bounds.united(ranges);
    ranges.truncate(MAX_RANGES);
    ranges
}

/// The queries that may see some key of the tile `j0..=j1`: what [`visited_keys`] is, the other way round. In the ranges,
/// positions are those of queries.
pub fn visiting_queries(predicate: &Expr, parameters: Parameters) -> Vec<Range> {
    transposed_ranges(visited_keys(&transposed(predicate), parameters))
}

/// The queries that see every key of the tile `j0..=j1` for certain: what [`full_keys`] is, the other way round.
pub fn full_queries(predicate: &Expr, parameters: Parameters) -> Vec<Range> {
    transposed_ranges(full_keys(&transposed(predicate), parameters))
}

fn transposed_ranges(ranges: Vec<Range>) -> Vec<Range> {
    let end = |end: Option<Expr>| end.map(|end| transposed(&end));
    ranges.into_iter().map(|range| Range { when: end(range.when), from: end(range.from), to: end(range.to) }).collect()
}

/// A position, by the tile of queries and `j0`, before which no key from `j0` on is visible, from an element of a captured tensor
/// of truth values that `predicate` requires; `None` where it requires none, or none whose last index grows with the key.
pub fn next_visible_key(predicate: &Expr, parameters: Parameters) -> Option<Expr> {
    let bounds = Bounds { parameters };
    let mut conditions = Vec::new();
    conjuncts(predicate, &mut conditions);
    conditions.iter().find_map(|condition| bounds.next_element(condition))
}

/// The conditions of `predicate`, all of which must hold, that give ranges; of the others, that do not, see [`undecided`].
pub fn decided(predicate: &Expr, parameters: Parameters) -> Vec<Expr> {
    let open = undecided(predicate, parameters);
    let mut conditions = Vec::new();
    conjuncts(predicate, &mut conditions);
    conditions.retain(|condition| !open.contains(condition) && !open.contains(predicate));
    conditions
}

/// The conditions of `predicate`, all of which must hold, that give no ranges.
pub fn undecided(predicate: &Expr, parameters: Parameters) -> Vec<Expr> {
    let bounds = Bounds { parameters };
    let mut conditions = Vec::new();
    conjuncts(predicate, &mut conditions);
    let is_decided = |condition: &Expr| clauses(condition, parameters).iter().all(|clause| bounds.is_decided(clause));
    conditions.retain(|condition| !is_decided(condition));
    // Conditions that are decided each may together have too many alternatives.
    if conditions.is_empty() && !is_decided(predicate) { vec![predicate.clone()] } else { conditions }
}

/// `expr` where queries are keys and keys are queries.
pub fn transposed(expr: &Expr) -> Expr {
    match expr {
        Expr::Query => Expr::Key,
        Expr::Key => Expr::Query,
        Expr::QueryFirst => Expr::KeyFirst,
        Expr::QueryLast => Expr::KeyLast,
        Expr::KeyFirst => Expr::QueryFirst,
        Expr::KeyLast => Expr::QueryLast,
        other => other.map_children(transposed),
    }
}

fn conjuncts(predicate: &Expr, into: &mut Vec<Expr>) {
    match predicate {
        Expr::Binary(BinaryOp::And, a, b) => {
            conjuncts(a, into);
            conjuncts(b, into);
        }
        other => into.push(other.clone()),
    }
}

/// Which queries of a tile must satisfy a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Queries {
    /// One of them.
    Any,
    /// Each of them.
    All,
}

/// What a condition says of a range of keys.
enum Limit {
    When(Expr),
    From(Expr),
    To(Expr),
}

impl Limit {
    /// Limits `range` by this too.
    fn narrow(self, range: &mut Range) {
        let (part, op, by) = match self {
            Limit::When(by) => (&mut range.when, BinaryOp::And, by),
            Limit::From(by) => (&mut range.from, BinaryOp::Max, by),
            Limit::To(by) => (&mut range.to, BinaryOp::Min, by),
        };
        *part = Some(join(op, part.take(), by));
    }
}

/// `a op b`, of a minimum, maximum or conjunction, where a operand is not said twice and constants are one.
fn join(op: BinaryOp, a: Option<Expr>, b: Expr) -> Expr {
    match (a, b) {
        (None, b) => b,
        (Some(a), b) if is_operand(&a, op, &b) => a,
        (Some(Expr::Int(a)), Expr::Int(b)) => Expr::Int(if op == BinaryOp::Max { a.max(b) } else { a.min(b) }),
        (Some(a), b) => Expr::binary(op, a, b),
    }
}

/// Whether `operand` is one of those of the nested operation `expr`.
fn is_operand(expr: &Expr, op: BinaryOp, operand: &Expr) -> bool {
    expr == operand
        || matches!(expr, Expr::Binary(known, a, b) if *known == op && (**b == *operand || is_operand(a, op, operand)))
}

struct Bounds<'a> {
    parameters: Parameters<'a>,
}

impl Bounds<'_> {
    fn is_decided(&self, clause: &Clause) -> bool {
        clause.others.iter().all(Expr::is_uniform)
            && clause.at_most_zero.iter().all(|form| self.limit(form, Queries::Any, &[]).is_some())
    }

    /// The keys for which some query of the tile may satisfy `clause`; `None` if there is none for certain.
    fn visited(&self, clause: &Clause) -> Option<Range> {
        let mut range = Range::ALL;
        let rows: Vec<Option<Affine>> = clause.at_most_zero.iter().map(|form| self.bound_of_query(form)).collect();
        let of_query = |(form, row): (&Affine, &Option<Affine>)| row.clone().unwrap_or_else(|| form.clone());
        let between = self.without_queries(&clause.at_most_zero.iter().zip(&rows).map(of_query).collect::<Vec<_>>());
        let known: Vec<Affine> = rows.into_iter().flatten().collect();
        for form in clause.at_most_zero.iter().chain(&between) {
            if form.terms.is_empty() && form.constant > 0 {
                return None;
            }
            if self.never_positive(form) {
                continue;
            }
            // A row's own bounds narrow the others, not the condition that they are.
            let known = if form.mentions(&Expr::Key) { &known[..] } else { &[] };
            let limit = self.limit(form, Queries::Any, known).or_else(|| self.limit(form, Queries::Any, &[]));
            if let Some(limit) = limit {
                limit.narrow(&mut range);
            }
        }
        for condition in clause.others.iter().filter(|condition| condition.is_uniform()) {
            Limit::When(condition.clone()).narrow(&mut range);
        }
        (!self.is_empty(&range)).then_some(range)
    }

    /// The keys for which every query of the tile satisfies `clause`; `None` where that is not known.
    fn full(&self, clause: &Clause) -> Option<Range> {
        let mut range = Range::ALL;
        for form in &clause.at_most_zero {
            self.limit(form, Queries::All, &[])?.narrow(&mut range);
        }
        for condition in &clause.others {
            if !condition.is_uniform() {
                return None;
            }
            Limit::When(condition.clone()).narrow(&mut range);
        }
        (!self.is_empty(&range)).then_some(range)
    }

    /// The form i - u or u - i, with the same u for the whole launch, that is at most zero where `form` is; `None` where the key is
    /// in it, or the query not in one term that grows with it.
    fn bound_of_query(&self, form: &Affine) -> Option<Affine> {
        if form.mentions(&Expr::Key) {
            return None;
        }
        let terms = form.terms.iter().map(|(atom, coefficient)| (transposed(atom), *coefficient)).collect();
        let (bound, sign) = match self.limit(&Affine { terms, ..form.clone() }, Queries::Any, &[])? {
            Limit::From(from) => (Affine::of(&from)?, 1),
            Limit::To(to) => (Affine::of(&to)?.shifted(-1)?, -1),
            Limit::When(_) => return None,
        };
        bound.plus(&Affine::of(&Expr::Query)?, -1)?.scaled(sign)
    }

    /// What must hold so that a query fits between each two of `forms` that bound it, or one and the same quotient or element of
    /// it, from below and from above.
    fn without_queries(&self, forms: &[Affine]) -> Vec<Affine> {
        let of_query = |form: &Affine| {
            let mut terms = form.terms.iter().filter(|(atom, _)| atom.mentions(&Expr::Query));
            match (terms.next(), terms.next()) {
                (Some((atom, coefficient)), None) => Some((atom.clone(), *coefficient)),
                _ => None,
            }
        };
        let mut between = Vec::new();
        for below in forms {
            let Some((atom, of_below @ ..0)) = of_query(below) else { continue };
            for above in forms {
                match of_query(above) {
                    Some((same, of_above @ 1..)) if same == atom => {
                        let sum = below.scaled(of_above).and_then(|form| form.plus(above, -of_below));
                        between.extend(sum.and_then(|form| form.reduced()));
                    }
                    _ => {}
                }
            }
        }
        between
    }

    /// What form <= 0 says of the keys, for some or all queries of the tile, or those of them for which the forms of `known` are at
    /// most zero; `None` where it says nothing that can be used.
    fn limit(&self, form: &Affine, queries: Queries, known: &[Affine]) -> Option<Limit> {
        let (mut key, mut rest) = (None, Affine::constant(form.constant));
        let mut of_queries = Affine::constant(0);
        for (atom, coefficient) in &form.terms {
            let term = Affine { terms: vec![(atom.clone(), *coefficient)], constant: 0 };
            match (atom.mentions(&Expr::Key), atom.mentions(&Expr::Query)) {
                (false, false) => rest = rest.plus(&term, 1)?,
                (false, true) => of_queries = of_queries.plus(&term, 1)?,
                (true, false) if key.is_none() => key = Some((atom, *coefficient)),
                (true, _) => return None,
            }
        }
        let (least, greatest) = tile::range(&of_queries, known, self.parameters)?;
        let rest = rest.plus(if queries == Queries::Any { &least } else { &greatest }, 1)?;
        match key {
            None => Some(Limit::When(rest.at_most_zero()?)),
            Some((atom, coefficient)) => self.solve(atom, coefficient, &rest),
        }
    }

    /// The keys for which coefficient · atom + rest <= 0, where only the atom depends on the key.
    fn solve(&self, atom: &Expr, coefficient: i64, rest: &Affine) -> Option<Limit> {
        let over = coefficient.checked_neg()?;
        // The largest value of the atom and one, or its least value.
        let end = || {
            if coefficient > 0 {
                rest.scaled(-1)?.shifted(coefficient)?.divided(coefficient)
            } else {
                rest.shifted(over - 1)?.divided(over)
            }
        };
        let inner = match atom {
            Expr::Key => return Some(if coefficient > 0 { Limit::To(end()?) } else { Limit::From(end()?) }),
            Expr::Binary(BinaryOp::Div, x, divisor) if never_negative(divisor, self.parameters) => {
                of_quotient(&Affine::of(x)?, divisor, coefficient, rest)?
            }
            // d * (x / d), of which the factor is not zero.
            Expr::Binary(BinaryOp::Mul, factor, quotient)
                if matches!(&**quotient, Expr::Binary(BinaryOp::Div, _, divisor) if divisor == factor)
                    && never_negative(factor, self.parameters) =>
            {
                let by = |bound: Affine| Affine::of(&Expr::binary(BinaryOp::Div, bound.to_expr()?, (**factor).clone()));
                let bound = Affine::of(&end()?)?;
                let quotient = Affine::of(quotient)?;
                if coefficient > 0 {
                    // q <= ⌊(bound - 1) / d⌋
                    quotient.plus(&by(bound.shifted(-1)?)?, -1)?
                } else {
                    // q >= ⌈bound / d⌉
                    by(bound.shifted(-1)?)?.shifted(1)?.plus(&quotient, -1)?
                }
            }
            Expr::Load { tensor, index } if self.parameters.tensors[*tensor].order.is_sorted() => {
                let (last, index) = index.split_last()?;
                if !index.iter().all(Expr::is_uniform) {
                    return None;
                }
                // Elements up to a bound are before as many as there are; those from one on, after as many as are below.
                let inclusive = coefficient > 0;
                let bound = if inclusive { rest.scaled(-1)?.divided(coefficient)? } else { end()? };
                let count = Expr::Count { tensor: *tensor, index: index.to_vec(), value: Box::new(bound), inclusive };
                let (last, count) = (Affine::of(last)?, Affine::of(&count)?);
                if inclusive { last.plus(&count, -1)?.shifted(1)? } else { count.plus(&last, -1)? }
            }
            _ => return None,
        };
        let mut keys = inner.terms.iter().filter(|(atom, _)| atom.mentions(&Expr::Key));
        let (Some((atom, coefficient)), None) = (keys.next(), keys.next()) else { return None };
        if inner.mentions(&Expr::Query) {
            return None;
        }
        self.solve(atom, *coefficient, &inner.without(atom))
    }

    /// The position of the first key from `j0` on whose element, which is `condition`, may be true for a query of the tile.
    fn next_element(&self, condition: &Expr) -> Option<Expr> {
        let Expr::Load { tensor, index } = condition else { return None };
        let (last, index) = index.split_last()?;
        if index.iter().any(|index| index.mentions(&Expr::Key)) || last.mentions(&Expr::Query) {
            return None;
        }
        let index = index.iter().map(|index| {
            let (first, last) = tile::range(&Affine::of(index)?, &[], self.parameters)?;
            Some((first.to_expr()?, last.to_expr()?))
        });
        let index = index.collect::<Option<Vec<_>>>()?;
        let varying = index.iter().filter(|(first, last)| first != last).count();
        let form = Affine::of(last)?;
        let (from, _) = tile::range(&form, &[], self.parameters)?;
        let next = Expr::Next { tensor: *tensor, index, from: Box::new(from.to_expr()?) };
        let mut keys = form.terms.iter().filter(|(atom, _)| atom.mentions(&Expr::Key));
        let (Some((atom, coefficient)), None, 0..2) = (keys.next(), keys.next(), varying) else { return None };
        // The last index is at least the next true one: next - last <= 0.
        let rest = Affine::of(&next)?.plus(&form.without(atom), -1)?;
        match self.solve(atom, coefficient.checked_neg()?, &rest)? {
            Limit::From(position) => Some(position),
            Limit::When(_) | Limit::To(_) => None,
        }
    }

    /// The ranges without those that are inside another for certain; two that have an end in common are one.
    fn united(&self, ranges: Vec<Range>) -> Vec<Range> {
        let mut united: Vec<Range> = Vec::new();
        for range in ranges {
            let mut range = range;
            while let Some((place, union)) =
                united.iter().enumerate().find_map(|(place, known)| Some((place, self.union(known, &range)?)))
            {
                united.remove(place);
                range = union;
            }
            united.push(range);
        }
        united
    }

    /// The union of two ranges, if it is one for certain.
    fn union(&self, a: &Range, b: &Range) -> Option<Range> {
        if self.is_inside(a, b) {
            return Some(b.clone());
        }
        if self.is_inside(b, a) {
            return Some(a.clone());
        }
        let farther =
            |op, a: &Option<Expr>, b: &Option<Expr>| Some(join(op, a.clone(), b.clone()?)).filter(|_| a.is_some());
        if a.when != b.when {
            None
        } else if a.from == b.from {
            Some(Range { to: farther(BinaryOp::Max, &a.to, &b.to), ..a.clone() })
        } else if a.to == b.to {
            Some(Range { from: farther(BinaryOp::Min, &a.from, &b.from), ..a.clone() })
        } else {
            None
        }
    }

    /// Whether all keys of `a` are in `b` for certain.
    fn is_inside(&self, a: &Range, b: &Range) -> bool {
        let order = |low: &Option<Expr>, high: &Option<Expr>| match (low, high) {
            (Some(low), Some(high)) => low == high || self.never_after(low, high),
            _ => false,
        };
        (b.when.is_none() || b.when == a.when)
            && (b.from.is_none() || order(&b.from, &a.from))
            && (b.to.is_none() || order(&a.to, &b.to))
    }

    /// Whether a range has no keys for certain.
    fn is_empty(&self, range: &Range) -> bool {
        matches!((&range.from, &range.to), (Some(from), Some(to)) if self.never_after(to, from))
    }

    /// Whether a <= b for certain.
    fn never_after(&self, a: &Expr, b: &Expr) -> bool {
        let form = Affine::of(a).zip(Affine::of(b)).and_then(|(a, b)| a.plus(&b, -1));
        form.is_some_and(|form| self.never_positive(&form))
    }

    /// Whether form <= 0 for certain, from i0 <= i1 and what is never negative.
    fn never_positive(&self, form: &Affine) -> bool {
        let span = form.coefficient(&Expr::QueryFirst);
        let mut terms = form.terms.iter().filter(|(atom, _)| !matches!(atom, Expr::QueryFirst | Expr::QueryLast));
        span >= 0
            && form.coefficient(&Expr::QueryLast) == -span
            && form.constant <= 0
            && terms.all(|(atom, coefficient)| *coefficient < 0 && never_negative(atom, self.parameters))
    }
}

/// A range that has the keys of both.
fn hull(a: Range, b: Range) -> Range {
    let both =
        |op, a: Option<Expr>, b: Option<Expr>| a.zip(b).map(|(a, b)| if a == b { a } else { Expr::binary(op, a, b) });
    Range {
        when: both(BinaryOp::Or, a.when, b.when),
        from: both(BinaryOp::Min, a.from, b.from),
        to: both(BinaryOp::Max, a.to, b.to),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::Program;
    use crate::ir::parse::{parse, parse_expr};

    fn program() -> Program {
        parse(
            "attention @a(w: u32, n: i32, c: u32, g: u32, flag: bool, len: Tensor<i32, 1>, \
             #[sorted] doc: Tensor<i32, 2>, limit: Tensor<i32, 1>) -> f32[B, H, S, 4]
             q: f32[B, H, S, 4] k: f32[B, G, T0, 4] v: f32[B, G, T0, 4]
             for i in tiles(S) o = sum q = load q[i] for j in tiles(T0) s = dot q, k[j] o = push s, v[j] store o",
        )
        .unwrap()
    }

    #[test]
    fn bounds_in_closed_form() {
        let program = program();
        let text = |ranges: Vec<Range>| ranges.iter().map(|range| program.range(range)).collect::<Vec<_>>().join(" | ");
        for (predicate, visited, full) in [
            ("j <= i", "to i1 + 1", "to i0 + 1"),
            ("j <= i && i - j < w", "from i0 - w + 1 to i1 + 1 if w >= 1", "from i1 - w + 1 to i0 + 1"),
            ("j <= i && i - j < 4", "from i0 - 3 to i1 + 1", "from i1 - 3 to i0 + 1"),
            ("abs(i - j) <= w", "from i0 - w to i1 + w + 1", "from i1 - w to i0 + w + 1"),
            ("abs(i - j) > w", "to i1 - w | from i0 + w + 1", "to i0 - w | from i1 + w + 1"),
            ("j < w || j <= i", "to max(w, i1 + 1)", "to max(w, i0 + 1)"),
            (
                "j <= i && (j < g || i - j < w)",
                { "to min(i1 + 1, g) | from i0 - w + 1 to i1 + 1 if w >= 1" },
                "to min(i0 + 1, g) | from i1 - w + 1 to i0 + 1",
            ),
            ("i / c == j / c", "from c * (i0 / c) to c * (i1 / c + 1)", "from c * (i1 / c) to c * (i0 / c + 1)"),
            ("j / 8 <= i / 8", "to 8 * (i1 / 8) + 8", "to 8 * (i0 / 8) + 8"),
            ("j >= i - i % c && j <= i", "from c * (i0 / c) to i1 + 1", "from c * (i1 / c) to i0 + 1"),
            ("j - j % c <= i", "to c * (i1 / c + 1)", "to c * (i0 / c + 1)"),
            ("abs(i / c - j / c) <= 2", "from c * (i0 / c - 2) to c * (i1 / c + 3)", {
                "from c * (i1 / c - 2) to c * (i0 / c + 3)"
            }),
            ("2 * j <= i && 3 * j > i", "from max(i0 / 3 + 1, 1) to i1 / 2 + 1", "from i1 / 3 + 1 to i0 / 2 + 1"),
            ("j < len[batch()]", "to len[batch()]", "to len[batch()]"),
            ("j < limit[i]", "to greatest(limit[i0 through i1])", "to least(limit[i0 through i1])"),
            ("flag && j <= i", "to i1 + 1 if flag", "to i0 + 1 if flag"),
            ("j <= i || !flag", "to i1 + 1 | all if !flag", "to i0 + 1 | all if !flag"),
            ("i < n && j <= i", "to min(i1 + 1, n) if i0 <= n - 1", "to i0 + 1 if i1 <= n - 1"),
            (
                "doc[0][i] == doc[0][j] && j <= i",
                { "from count(doc[0] < doc[0][i0]) to min(count(doc[0] <= doc[0][i1]), i1 + 1)" },
                "from count(doc[0] < doc[0][i1]) to min(count(doc[0] <= doc[0][i0]), i0 + 1)",
            ),
            ("i < n && j / 8 <= i / 8", "to 8 * (min(i1, n - 1) / 8) + 8 if i0 <= n - 1", {
                "to 8 * (i0 / 8) + 8 if i1 <= n - 1"
            }),
            (
                "i / 4 >= n && abs(i / c - j / c) <= 2",
                { "from c * (max(i0, 4 * n) / c - 2) to c * (i1 / c + 3) if 4 * n <= i1" },
                "from c * (i1 / c - 2) to c * (i0 / c + 3) if 4 * n <= i0",
            ),
            (
                "doc[0][i] < n && j / c <= i / c",
                { "to c * (min(i1, count(doc[0] <= n - 1) - 1) / c + 1) if doc[0][i0] <= n - 1" },
                "to c * (i0 / c + 1) if doc[0][i1] <= n - 1",
            ),
            ("3 * i < n && j <= 2 * i", "to min(2 * i1 + 1, 2 * ((n + 2) / 3) - 1) if 3 * i0 <= n - 1", {
                "to 2 * i0 + 1 if 3 * i1 <= n - 1"
            }),
            ("abs(i / c - j / c) < n", "from c * (i0 / c - n + 1) to c * (n + i1 / c) if n >= 1", {
                "from c * (i1 / c - n + 1) to c * (n + i0 / c)"
            }),
            ("i < n && j < limit[i]", "to greatest(limit[i0 through min(i1, n - 1)]) if i0 <= n - 1", {
                "to least(limit[i0 through i1]) if i1 <= n - 1"
            }),
            // An index that the bound makes 0 is clamped there anyway.
            ("i >= n && j < limit[i - n]", "to greatest(limit[i0 - n through i1 - n]) if n <= i1", {
                "to least(limit[i0 - n through i1 - n]) if n <= i0"
            }),
            (
                "(if i >= 9 { i - 9 } else { i }) / 4 >= j / 4",
                { "to 4 * ((i1 - 9) / 4) + 4 if i1 >= 9 | to 4 * (min(i1, 8) / 4) + 4 if i0 <= 8" },
                "to 4 * ((i0 - 9) / 4) + 4 if i0 >= 9 | to 4 * (i0 / 4) + 4 if i1 <= 8",
            ),
            ("max(i - w, 0) / 4 <= j", "from max((i0 - w) / 4, 0)", "from max((i1 - w) / 4, 0)"),
            ("j > i && j < i", "", ""),
            ("j == i", "from i0 to i1 + 1", "from i1 to i0 + 1"),
            ("j != i", "to i1 | from i0 + 1", "to i0 | from i1 + 1"),
            ("(i - j) % 2 == 0 && j <= i", "to i1 + 1", ""),
            ("(i - j) % 2 == 0 || j <= i", "all", "to i0 + 1"),
            ("i - j < w || (j <= i && (i - j) % c == 0)", "from i0 - w + 1 | to i1 + 1", "from i1 - w + 1"),
            ("j <= i && (i - j < w || (i - j) % c == 0)", "to i1 + 1", "from i1 - w + 1 to i0 + 1"),
        ] {
            let expr = parse_expr(predicate, program.parameters()).unwrap();
            assert_eq!(text(visited_keys(&expr, program.parameters())), visited, "visited, of {predicate}");
            assert_eq!(text(full_keys(&expr, program.parameters())), full, "full, of {predicate}");
        }
    }

    #[test]
    fn bounds_the_other_way() {
        let program = program();
        for (predicate, expected) in [
            ("j <= i && i - j < w", "from j0 to j1 + w if w >= 1"),
            ("i / c == j / c", "from c * (j0 / c) to c * (j1 / c + 1)"),
            ("j < n && i / c == j / c", "from c * (j0 / c) to c * (min(j1, n - 1) / c + 1) if j0 <= n - 1"),
            ("doc[0][i] == doc[0][j]", "from count(doc[0] < doc[0][j0]) to count(doc[0] <= doc[0][j1])"),
        ] {
            let expr = parse_expr(predicate, program.parameters()).unwrap();
            let found = visiting_queries(&expr, program.parameters());
            assert_eq!(
                found.iter().map(|range| program.range(range)).collect::<Vec<_>>(),
                [expected],
                "of {predicate}"
            );
        }
    }

    #[test]
    fn what_ranges_do_not_decide() {
        let program = program();
        let expr = parse_expr("j <= i && (i - j) % 2 == 0 && (j < w || i % 3 == j % 3)", program.parameters()).unwrap();
        let text: Vec<_> = undecided(&expr, program.parameters())
            .iter()
            .map(|condition| condition.display(program.parameters()).to_string())
            .collect();
        assert_eq!(text, ["(i - j) % 2 == 0", "j < w || i % 3 == j % 3"]);

        let holes = (0..5).map(|n| format!("j != {n} * i")).collect::<Vec<_>>().join(" && ");
        let holes = parse_expr(&holes, program.parameters()).unwrap();
        assert_eq!(undecided(&holes, program.parameters()), [holes]);
    }

    #[test]
    fn many_ranges_are_merged() {
        let program = program();
        let text = (0..12).map(|n| format!("j == {}", 5 * n)).collect::<Vec<_>>().join(" || ");
        let found = visited_keys(&parse_expr(&text, program.parameters()).unwrap(), program.parameters());
        assert_eq!(found.len(), MAX_RANGES);
        assert_eq!(program.range(&found[0]), "from 0 to 1");
    }
}
