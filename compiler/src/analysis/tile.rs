//! What an expression can be on a tile: queries `i0..=i1` by keys `j0..=j1`.
//!
//! Integers become symbolic intervals and predicates become two, by interval arithmetic on three truth values (none, some,
//! all): whether some pair of the tile may satisfy it, and whether every pair does for certain. What comes out is made of
//! expressions of `i0`, `i1`, `j0`, `j1`, scalars, heads, batch and captured tensors, a few operations for a kernel.
//!
//! Everything is sound, and exact for comparisons in which every position occurs once. A captured tensor is represented by the
//! extremes of its elements over the indices that the tile reads.

use crate::analysis::affine::Affine;
use crate::analysis::clauses::{never_negative, required};
use crate::analysis::simplify::simplify;
use crate::expr::{BinaryOp, Expr, Type, UnaryOp};
use crate::ir::TileKind;
use crate::spec::TensorType;
use crate::typing::Parameters;

/// The most nodes of an expression that decides of tiles. Where there would be more, nothing is claimed.
const MAX_SIZE: usize = 2000;

/// The most dimensions of a captured tensor that may vary over a tile: a kernel loops over the blocks of each.
const MAX_VARYING: usize = 2;

/// What `predicate` is on a tile.
pub fn kind(predicate: &Expr, parameters: Parameters) -> TileKind {
    kind_where(predicate, &[], parameters)
}

/// What `predicate` is on those pairs of a tile for which the forms of `known` are at most zero.
pub fn kind_where(predicate: &Expr, known: &[Affine], parameters: Parameters) -> TileKind {
    let Truth { some, all } = Tile { parameters, known }.truth(predicate);
    let simple = |expr: Expr, otherwise| {
        let expr = if expr.size() > MAX_SIZE { Expr::Bool(otherwise) } else { expr };
        simplify(&expr, parameters)
    };
    TileKind { some: simple(some, true), all: simple(all, false) }
}

/// The least and the greatest value of `form`, or bounds of them, on those pairs of a tile for which the forms of `known` are at
/// most zero; `None` where nothing is known. What they say of the form itself is not in it, only what they say of its operands.
pub fn range(form: &Affine, known: &[Affine], parameters: Parameters) -> Option<(Affine, Affine)> {
    let (low, high) = Tile { parameters, known }.form(form)?;
    (low.size().max(high.size()) <= MAX_SIZE).then_some((low, high))
}

/// Whether some pair may satisfy a predicate, and whether all do.
#[derive(Clone)]
struct Truth {
    some: Expr,
    all: Expr,
}

impl Truth {
    const UNKNOWN: Truth = Truth { some: Expr::Bool(true), all: Expr::Bool(false) };

    fn uniform(expr: Expr) -> Truth {
        Truth { some: expr.clone(), all: expr }
    }

    fn not(self) -> Truth {
        let not = |expr| Expr::unary(UnaryOp::Not, expr);
        Truth { some: not(self.all), all: not(self.some) }
    }

    fn join(self, op: BinaryOp, other: Truth) -> Truth {
        Truth { some: Expr::binary(op, self.some, other.some), all: Expr::binary(op, self.all, other.all) }
    }

    fn and(self, other: Truth) -> Truth {
        self.join(BinaryOp::And, other)
    }

    fn or(self, other: Truth) -> Truth {
        self.join(BinaryOp::Or, other)
    }
}

/// The integers from a least to a greatest.
type Ends = (Expr, Expr);

struct Tile<'a> {
    parameters: Parameters<'a>,
    /// Forms that are at most zero for the pairs that are looked at.
    known: &'a [Affine],
}

impl Tile<'_> {
    fn truth(&self, predicate: &Expr) -> Truth {
        let truth = self.truth_of_any_size(predicate);
        if truth.some.size().max(truth.all.size()) > MAX_SIZE { Truth::UNKNOWN } else { truth }
    }

    fn truth_of_any_size(&self, predicate: &Expr) -> Truth {
        if predicate.is_uniform() {
            return Truth::uniform(predicate.clone());
        }
        match predicate {
            Expr::Unary(UnaryOp::Not, a) => self.truth(a).not(),
            Expr::Binary(BinaryOp::And, a, b) => {
                let Truth { all, .. } = self.truth(a).and(self.truth(b));
                let some = Expr::binary(BinaryOp::And, self.some_where(a, b), self.some_where(b, a));
                Truth { some, all }
            }
            Expr::Binary(BinaryOp::Or, a, b) => self.truth(a).or(self.truth(b)),
            Expr::Binary(op, a, b) if op.is_comparison() => match self.parameters.assume_type(a) {
                Type::Int => self.compare(*op, a, b).unwrap_or(Truth::UNKNOWN),
                Type::Bool => {
                    let (a, b) = (self.truth(a), self.truth(b));
                    let equal = a.clone().and(b.clone()).or(a.not().and(b.not()));
                    if *op == BinaryOp::Eq { equal } else { equal.not() }
                }
                Type::Float => Truth::UNKNOWN,
            },
            Expr::Select(condition, a, b) => {
                let (condition, a, b) = (self.truth(condition), self.truth(a), self.truth(b));
                condition.clone().and(a).or(condition.not().and(b))
            }
            Expr::Load { tensor, index } if self.parameters.tensors[*tensor].ty == TensorType::Bool => {
                match self.load(*tensor, index) {
                    None => Truth::UNKNOWN,
                    Some((least, greatest)) => {
                        let not_zero = |expr| Expr::binary(BinaryOp::Ne, expr, Expr::Int(0));
                        Truth { some: not_zero(greatest), all: not_zero(least) }
                    }
                }
            }
            _ => Truth::UNKNOWN,
        }
    }

    /// Whether some pair may satisfy a predicate, of those that satisfy `other`.
    fn some_where(&self, predicate: &Expr, other: &Expr) -> Expr {
        match required(other, self.parameters) {
            Some(forms) if !forms.is_empty() => {
                let known: Vec<Affine> = self.known.iter().cloned().chain(forms).collect();
                Tile { parameters: self.parameters, known: &known }.truth(predicate).some
            }
            _ => self.truth(predicate).some,
        }
    }

    fn compare(&self, op: BinaryOp, a: &Expr, b: &Expr) -> Option<Truth> {
        use BinaryOp::*;
        let difference = Affine::of(a)?.plus(&Affine::of(b)?, -1)?;
        if matches!(op, Eq | Ne) {
            let equal = match self.remainder_is(&difference) {
                Some(equal) => equal,
                None => self.at_most_zero(&difference)?.and(self.at_most_zero(&difference.scaled(-1)?)?),
            };
            return Some(if op == Eq { equal } else { equal.not() });
        }
        self.at_most_zero(&match op {
            Le => difference,
            Lt => difference.shifted(1)?,
            Ge => difference.scaled(-1)?,
            _ => difference.scaled(-1)?.shifted(1)?,
        })
    }

    fn at_most_zero(&self, form: &Affine) -> Option<Truth> {
        let (low, high) = self.form(form)?;
        Some(Truth { some: low.at_most_zero()?, all: high.at_most_zero()? })
    }

    /// Whether x % d == r, for a form x % d - r or r - x % d whose r and positive d are uniform: as many x of an interval have
    /// that remainder as there are multiples of d between x - r at its ends, if 0 <= r < d, and none otherwise.
    fn remainder_is(&self, form: &Affine) -> Option<Truth> {
        let (atom, coefficient) = form.terms.iter().find(|(atom, _)| !atom.is_uniform())?;
        let Expr::Binary(BinaryOp::Rem, x, divisor) = atom else { return None };
        let rest = form.without(atom);
        let uniform = rest.terms.iter().all(|(atom, _)| atom.is_uniform());
        if !uniform || coefficient.abs() != 1 || !never_negative(divisor, self.parameters) {
            return None;
        }
        let remainder = rest.scaled(-coefficient)?;
        let (low, high) = self.operand(x, Some(&remainder))?;
        let multiples_to = |form: Affine| Some(Expr::binary(BinaryOp::Div, form.to_expr()?, (**divisor).clone()));
        let below = multiples_to(low.plus(&remainder, -1)?.shifted(-1)?)?;
        let upto = multiples_to(high.plus(&remainder, -1)?)?;
        let some = Expr::binary(BinaryOp::Gt, upto.clone(), below.clone());
        let numbers = high.plus(&low, -1)?.shifted(1)?.to_expr()?;
        let all = Expr::binary(BinaryOp::Eq, Expr::binary(BinaryOp::Sub, upto, below), numbers);
        if remainder == Affine::constant(0) {
            return Some(Truth { some, all });
        }
        let negative = remainder.shifted(1)?.at_most_zero()?;
        let small = remainder.plus(&Affine::of(divisor)?, -1)?.shifted(1)?.at_most_zero()?;
        let is_remainder = Expr::binary(BinaryOp::And, Expr::unary(UnaryOp::Not, negative), small);
        Some(Truth { some, all: Expr::binary(BinaryOp::And, is_remainder, all) })
    }

    /// The least and the greatest value of a sum, each position's terms together.
    fn form(&self, form: &Affine) -> Option<(Affine, Affine)> {
        let constant = Affine::constant(form.constant);
        form.terms.iter().try_fold((constant.clone(), constant), |(low, high), (atom, coefficient)| {
            let (least, greatest) = self.atom(atom)?;
            let (least, greatest) = (Affine::of(&least)?, Affine::of(&greatest)?);
            let (least, greatest) = if *coefficient > 0 { (least, greatest) } else { (greatest, least) };
            Some((low.plus(&least, *coefficient)?, high.plus(&greatest, *coefficient)?))
        })
    }

    fn interval(&self, expr: &Expr) -> Option<Ends> {
        let (low, high) = self.operand(expr, None)?;
        Some((low.to_expr()?, high.to_expr()?))
    }

    /// The least and the greatest value of an operand of something, narrowed by what is known of it and of its terms; but not by
    /// the bound `idle`.
    fn operand(&self, expr: &Expr, idle: Option<&Affine>) -> Option<(Affine, Affine)> {
        let form = Affine::of(expr)?;
        let varying = form.terms.iter().filter(|(atom, _)| !atom.is_uniform()).count();
        let constant = Affine::constant(form.constant);
        let range = form.terms.iter().try_fold((constant.clone(), constant), |(low, high), (atom, coefficient)| {
            let (least, greatest) = self.atom(atom)?;
            let mut range = (Affine::of(&least)?, Affine::of(&greatest)?);
            if varying > 1 {
                range = self.narrowed(&Affine { terms: vec![(atom.clone(), 1)], constant: 0 }, range, None);
            }
            let (least, greatest) = if *coefficient > 0 { range } else { (range.1, range.0) };
            Some((low.plus(&least, *coefficient)?, high.plus(&greatest, *coefficient)?))
        })?;
        Some(self.narrowed(&form, range, idle))
    }

    /// `range`, which `form` has, narrowed by what is known of the form.
    fn narrowed(&self, form: &Affine, range: (Affine, Affine), idle: Option<&Affine>) -> (Affine, Affine) {
        let (mut low, mut high) = range;
        for known in self.known {
            let Some((below, bound)) = bound_of(form, known) else { continue };
            if idle == Some(&bound) {
                continue;
            }
            let (end, op) = if below { (&mut high, BinaryOp::Min) } else { (&mut low, BinaryOp::Max) };
            if let Some(narrower) = nearer(op, end, &bound) {
                *end = narrower;
            }
        }
        (low, high)
    }

    /// The interval of an integer that is no sum; `None` also where it would be too large an expression.
    fn atom(&self, expr: &Expr) -> Option<Ends> {
        self.atom_of_any_size(expr).filter(|(low, high)| low.size().max(high.size()) <= MAX_SIZE)
    }

    fn atom_of_any_size(&self, expr: &Expr) -> Option<Ends> {
        if expr.is_uniform() {
            return Some((expr.clone(), expr.clone()));
        }
        match expr {
            Expr::Query => Some((Expr::QueryFirst, Expr::QueryLast)),
            Expr::Key => Some((Expr::KeyFirst, Expr::KeyLast)),
            Expr::Load { tensor, index } => self.load(*tensor, index),
            Expr::Unary(UnaryOp::Abs, a) => {
                let (low, high) = self.interval(a)?;
                let negated = |expr: &Expr| Affine::of(expr)?.scaled(-1)?.to_expr();
                let (below, above) = (negated(&high)?, negated(&low)?);
                Some((max(max(low, below), Expr::Int(0)), max(high, above)))
            }
            // It never decreases.
            Expr::Unary(UnaryOp::Ilog2, a) => {
                let (low, high) = self.interval(a)?;
                Some((Expr::unary(UnaryOp::Ilog2, low), Expr::unary(UnaryOp::Ilog2, high)))
            }
            Expr::Unary(UnaryOp::ToInt, a) if self.parameters.assume_type(a) == Type::Bool => {
                let Truth { some, all } = self.truth(a);
                Some((Expr::unary(UnaryOp::ToInt, all), Expr::unary(UnaryOp::ToInt, some)))
            }
            Expr::Binary(op, a, b) => self.operation(*op, a, b),
            Expr::Select(condition, a, b) => {
                let Truth { some, all } = self.truth(condition);
                let (a, b) = (self.interval(a)?, self.interval(b)?);
                let chosen = |op, a: Expr, b: Expr| {
                    let either = Expr::binary(op, a.clone(), b.clone());
                    Expr::select(all.clone(), a, Expr::select(some.clone(), either, b))
                };
                Some((chosen(BinaryOp::Min, a.0, b.0), chosen(BinaryOp::Max, a.1, b.1)))
            }
            _ => None,
        }
    }

    fn operation(&self, op: BinaryOp, a: &Expr, b: &Expr) -> Option<Ends> {
        let (x, y) = (self.interval(a)?, self.interval(b)?);
        match op {
            BinaryOp::Min => Some((min(x.0, y.0), min(x.1, y.1))),
            BinaryOp::Max => Some((max(x.0, y.0), max(x.1, y.1))),
            BinaryOp::Mul if never_negative(a, self.parameters) => {
                Some((Expr::binary(op, a.clone(), y.0), Expr::binary(op, a.clone(), y.1)))
            }
            BinaryOp::Mul => {
                let corner = |x: &Expr, y: &Expr| Expr::binary(BinaryOp::Mul, x.clone(), y.clone());
                Some(corners(&x, &y, corner))
            }
            BinaryOp::Div if b.is_uniform() => {
                let quotient = |x: &Expr, y: &Expr| Expr::binary(BinaryOp::Div, x.clone(), y.clone());
                if never_negative(b, self.parameters) {
                    return Some((quotient(&x.0, b), quotient(&x.1, b)));
                }
                Some(corners(&x, &y, quotient))
            }
            BinaryOp::Rem if never_negative(b, self.parameters) => {
                let of = |op, x: &Expr| Expr::binary(op, x.clone(), b.clone());
                let same = Expr::binary(BinaryOp::Eq, of(BinaryOp::Div, &x.0), of(BinaryOp::Div, &x.1));
                let last = Affine::of(b)?.shifted(-1)?.to_expr()?;
                let low = Expr::select(same.clone(), of(BinaryOp::Rem, &x.0), Expr::Int(0));
                Some((low, Expr::select(same, of(BinaryOp::Rem, &x.1), last)))
            }
            _ => None,
        }
    }

    /// The value of a least index where the bounds in it are what decides.
    fn at_bound(&self, expr: &Expr) -> Expr {
        fn bounds(expr: &Expr) -> Expr {
            match expr {
                Expr::Binary(BinaryOp::Max, a, b) if !a.is_uniform() && b.is_uniform() => (**b).clone(),
                other => other.map_children(bounds),
            }
        }
        simplify(&bounds(expr), self.parameters)
    }

    /// The least and the greatest element that a tile reads; truth values are 0 and 1.
    fn load(&self, tensor: usize, index: &[Expr]) -> Option<Ends> {
        let param = &self.parameters.tensors[tensor];
        if param.ty.ty() == Type::Float {
            return None;
        }
        let ends = |index: &Expr| {
            let (first, last) = self.interval(index)?;
            // An index that is narrowed to the tensor's first is read there anyway.
            let idle = matches!(self.at_bound(&first), Expr::Int(..=0));
            let everywhere = Tile { parameters: self.parameters, known: &[] };
            Some((if idle { everywhere.interval(index)?.0 } else { first }, last))
        };
        let index = index.iter().map(ends).collect::<Option<Vec<_>>>()?;
        let varying: Vec<usize> = (0..index.len()).filter(|&at| index[at].0 != index[at].1).collect();
        if param.order.is_sorted() && varying == [index.len() - 1] {
            let element =
                |end: fn(&Ends) -> &Expr| Expr::Load { tensor, index: index.iter().map(end).cloned().collect() };
            return Some((element(|index| &index.0), element(|index| &index.1)));
        }
        if varying.len() > MAX_VARYING {
            return None;
        }
        let extreme = |greatest| Expr::Extreme { tensor, greatest, index: index.clone() };
        Some((extreme(false), extreme(true)))
    }
}

/// What `known`, a form that is at most zero, says of `form`: that it is at most the same for a whole tile, or at least that.
fn bound_of(form: &Affine, known: &Affine) -> Option<(bool, Affine)> {
    let varying = |form: &Affine| {
        let (varying, uniform) = form.terms.iter().cloned().partition(|(atom, _)| !atom.is_uniform());
        (Affine { terms: varying, constant: 0 }, Affine { terms: uniform, constant: form.constant })
    };
    let ((of_form, rest), (of_known, bound)) = (varying(form), varying(known));
    let (atom, coefficient) = of_known.terms.first()?;
    let factor = of_form.coefficient(atom).checked_div(*coefficient)?;
    // known = v + u <= 0 and form = f·v + r, so f·v <= -f·u or >= -f·u.
    (factor != 0 && of_known.same_terms(&of_form, factor)).then_some(())?;
    Some((factor > 0, rest.plus(&bound, factor.checked_neg()?)?))
}

/// The least or the greatest of two forms; `None` where that is `a`.
fn nearer(op: BinaryOp, a: &Affine, b: &Affine) -> Option<Affine> {
    let difference = a.plus(b, -1)?;
    if difference.terms.is_empty() {
        let nearer = if op == BinaryOp::Min { difference.constant > 0 } else { difference.constant < 0 };
        return nearer.then(|| b.clone());
    }
    Affine::of(&Expr::binary(op, a.to_expr()?, b.to_expr()?))
}

fn min(a: Expr, b: Expr) -> Expr {
    if a == b { a } else { Expr::binary(BinaryOp::Min, a, b) }
}

fn max(a: Expr, b: Expr) -> Expr {
    if a == b { a } else { Expr::binary(BinaryOp::Max, a, b) }
}

/// The least and the greatest of an operation that is monotone in each operand, in a direction that is not known.
fn corners(x: &Ends, y: &Ends, op: impl Fn(&Expr, &Expr) -> Expr) -> Ends {
    let mut corners: Vec<Expr> = Vec::new();
    for (x, y) in [(&x.0, &y.0), (&x.0, &y.1), (&x.1, &y.0), (&x.1, &y.1)] {
        let corner = op(x, y);
        if !corners.contains(&corner) {
            corners.push(corner);
        }
    }
    let fold = |op: fn(Expr, Expr) -> Expr| corners.iter().cloned().reduce(op).unwrap_or(Expr::Int(0));
    (fold(min), fold(max))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::parse::parse_expr;
    use crate::spec::{Order, ScalarParam, ScalarType, TensorParam};

    #[test]
    fn kinds() {
        let scalars = [("w", ScalarType::I32), ("c", ScalarType::U32), ("flag", ScalarType::Bool)]
            .map(|(name, ty)| ScalarParam { name: name.into(), ty, comptime: false });
        let tensors = [
            ("doc", TensorType::I32, 2, Order::Any),
            ("place", TensorType::I32, 2, Order::Sorted),
            ("layout", TensorType::Bool, 2, Order::Any),
        ]
        .map(|(name, ty, rank, order)| TensorParam { name: name.into(), ty, rank, order });
        let parameters =
            Parameters { scalars: &scalars, tensors: &tensors, values: crate::typing::SCORE, numbers: &[] };
        for (text, some, all) in [
            ("j <= i", "j0 <= i1", "j1 <= i0"),
            ("j <= i && flag", "j0 <= i1 && flag", "j1 <= i0 && flag"),
            ("!(i - j >= w)", "j1 + w > i0", "j0 + w > i1"),
            ("i / c == j / c", "i0 / c <= j1 / c && j0 / c <= i1 / c", "i1 / c <= j0 / c && j1 / c <= i0 / c"),
            ("(i - j) % c == 0", "(i1 - j0) / c > (i0 - j1 - 1) / c", {
                "(i1 - j0) / c - (i0 - j1 - 1) / c == i1 - i0 - j0 + j1 + 1"
            }),
            ("(i - j) % 4 == 1", "(i1 - j0 - 1) / 4 > (i0 - j1 - 2) / 4", {
                "(i1 - j0 - 1) / 4 - (i0 - j1 - 2) / 4 == i1 - i0 - j0 + j1 + 1"
            }),
            ("i % 3 == 5", "(i1 - 5) / 3 > (i0 - 6) / 3", "false"),
            (
                "doc[batch()][i] == doc[batch()][j]",
                {
                    "least(doc[batch()][i0 through i1]) <= greatest(doc[batch()][j0 through j1]) && \
                 least(doc[batch()][j0 through j1]) <= greatest(doc[batch()][i0 through i1])"
                },
                {
                    "greatest(doc[batch()][i0 through i1]) <= least(doc[batch()][j0 through j1]) && \
                 greatest(doc[batch()][j0 through j1]) <= least(doc[batch()][i0 through i1])"
                },
            ),
            ("place[0][j] < 5", "place[0][j0] <= 4", "place[0][j1] <= 4"),
            ("layout[i / 8][j / 8]", "greatest(layout[i0 / 8 through i1 / 8][j0 / 8 through j1 / 8]) != 0", {
                "least(layout[i0 / 8 through i1 / 8][j0 / 8 through j1 / 8]) != 0"
            }),
            ("i * i < j as f32 as i32", "true", "false"),
        ] {
            let TileKind { some: found, all: found_all } = kind(&parse_expr(text, parameters).unwrap(), parameters);
            assert_eq!(found.display(parameters).to_string(), some, "some, of {text}");
            assert_eq!(found_all.display(parameters).to_string(), all, "all, of {text}");
        }
    }
}
