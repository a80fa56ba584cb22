//! One way to write an expression, so that two that are written otherwise can be compared.
//!
//! Sums have their terms in one order and no constant but the last, what commutes is in order, and comparisons of integers are
//! of a sum with a sum. `pos[start + j]` and `pos[j - 0 + start]` are the same then.

use crate::analysis::affine::Affine;
use crate::analysis::simplify::simplify;
use crate::expr::{BinaryOp, Expr, Type, UnaryOp};
use crate::typing::Parameters;

/// `expr` in that form. It has the same value wherever that stays in 32 bits.
pub fn canonical(expr: &Expr, parameters: Parameters) -> Expr {
    if expr.children().is_empty() {
        return expr.clone();
    }
    // A constant of floats that is folded is rounded, and a proof knows nothing of that.
    let has_floats = |expr: &Expr| matches!(expr, Expr::Float(_) | Expr::Unary(UnaryOp::ToFloat, _));
    if expr.any(&mut |expr| has_floats(expr)) {
        return in_order(expr, parameters);
    }
    let ordered = in_order(&simplify(expr, parameters), parameters);
    // What was brought in order may be simple, as a minimum of two equal sums.
    let simpler = simplify(&ordered, parameters);
    if simpler == ordered { ordered } else { in_order(&simpler, parameters) }
}

/// A form whose atoms are in that form, in order; `None` where a number is too large.
pub fn canonical_form(form: &Affine, parameters: Parameters) -> Option<Affine> {
    let start = Affine::constant(form.constant);
    let mut sum = form
        .terms
        .iter()
        .try_fold(start, |sum, (atom, factor)| sum.plus(&Affine::of(&canonical(atom, parameters))?, *factor))?;
    sum.terms.sort();
    Some(sum)
}

fn in_order(expr: &Expr, parameters: Parameters) -> Expr {
    use BinaryOp::*;
    let expr = expr.map_children(|child| in_order(child, parameters));
    let is_integer = |expr: &Expr| parameters.assume_type(expr) == Type::Int;
    let sum_of = |expr: &Expr| {
        let mut form = Affine::of(expr)?;
        form.terms.sort();
        Some(form)
    };
    let written = match &expr {
        Expr::Binary(Add | Sub | Mul, a, _) | Expr::Unary(UnaryOp::Neg, a) if is_integer(a) => {
            sum_of(&commuted(&expr)).and_then(|form| form.to_expr())
        }
        Expr::Binary(Div, a, b) if is_integer(a) => match **b {
            Expr::Int(divisor) if divisor > 0 => sum_of(a).and_then(|form| form.divided(divisor.into())),
            _ => None,
        },
        Expr::Binary(op @ (Lt | Le | Gt | Ge), a, b) if is_integer(a) => {
            let (less, more) = if matches!(op, Lt | Le) { (a, b) } else { (b, a) };
            let strict = i64::from(matches!(op, Lt | Gt));
            let form = sum_of(less).zip(sum_of(more)).and_then(|(less, more)| less.plus(&more, -1)?.shifted(strict));
            form.and_then(|mut form| {
                form.terms.sort();
                form.at_most_zero()
            })
        }
        Expr::Binary(Gt, a, b) => Some(Expr::Binary(Lt, b.clone(), a.clone())),
        Expr::Binary(Ge, a, b) => Some(Expr::Binary(Le, b.clone(), a.clone())),
        _ => None,
    };
    written.unwrap_or_else(|| commuted(&expr))
}

/// The operands in order, where the order does not matter.
fn commuted(expr: &Expr) -> Expr {
    use BinaryOp::*;
    match expr {
        Expr::Binary(op @ (Add | Mul | Min | Max | Eq | Ne | And | Or), a, b) if a > b => {
            Expr::Binary(*op, b.clone(), a.clone())
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::parse::parse_expr;
    use crate::spec::{Order, ScalarParam, ScalarType, TensorParam, TensorType};

    #[test]
    fn what_is_written_otherwise_is_the_same() {
        let scalars = [ScalarParam { name: "w".into(), ty: ScalarType::I32, comptime: false }];
        let tensors = [TensorParam { name: "t".into(), ty: TensorType::I32, rank: 1, order: Order::Any }];
        let parameters =
            Parameters { scalars: &scalars, tensors: &tensors, values: crate::typing::SCORE, numbers: &[] };
        let of = |text: &str| canonical(&parse_expr(text, parameters).unwrap(), parameters);
        for (a, b) in [
            ("t[j - 0]", "t[j]"),
            ("t[w + j]", "t[j + w]"),
            ("t[j + 1 + w - 1]", "t[w - (-j)]"),
            ("max(t[i - j], 0)", "max(0, t[-j + i])"),
            ("(i + 8) / 4", "i / 4 + 2"),
            ("i * j + w", "w + j * i"),
            ("if j < i { t[j] } else { w }", "if i >= j + 1 { t[j] } else { w }"),
            ("min(t[j + i], t[i + j])", "t[i + j]"),
            ("(i * 2 - j - j) as f32 * 0.5", "0.5 * ((i - j) * 2) as f32"),
        ] {
            assert_eq!(of(a), of(b), "{a}: {}", of(a).display(parameters));
        }
        assert_ne!(of("t[j + w]"), of("t[j - w]"));
        assert_ne!(of("t[j] / w"), of("w / t[j]"));
    }
}
