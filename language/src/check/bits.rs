//! Checks operations on bits, which the language has not: of bools, `&` and the rest mean `&&` and the like. As `&` binds
//! tighter than a comparison, `m & i - j < 8` is `(m & (i - j)) < 8` to Rust; what was meant is put together anew.

use crate::ast::{self, Binary, ExprKind, Expression, Unary};
use crate::check::checker::Checker;
use crate::check::scopes::Binding;
use crate::names::BuiltinOperands;
use crate::source::Source;
use crate::tree::TypedValue;
use crate::types::ValueType;
use proc_macro2::Span;

impl Checker<'_> {
    /// The value of `expr` as it was likely meant, if there are operations on bits in it; they are reported.
    pub fn bits(&mut self, expr: &Expression) -> Option<TypedValue> {
        let ExprKind::Binary(op, token, a, b) = &expr.kind else { return None };
        let mut operators = Vec::new();
        let meant = self.logical(expr, &mut operators);
        if let Some((first, token)) = operators.first() {
            let help = format!("write `{meant}`");
            self.errors.push(*token, format!("`{}` is not in the language", first.symbol()), help);
            return Some(self.value(&meant));
        }
        if op.function().is_some() {
            return None;
        }
        let literal = match &b.inner().kind {
            ExprKind::Int(value) => Some(*value),
            _ => None,
        };
        let power = literal.filter(|bits| (0..31).contains(bits)).map(|bits| 1 << bits);
        let shifted = match (op, &a.inner().kind, power) {
            (Binary::Shl, ExprKind::Int(value), Some(power)) => value.checked_mul(power),
            _ => None,
        };
        let help = match (op, literal) {
            _ if shifted.is_some() => format!("write `{}`", shifted.unwrap_or_default()),
            (Binary::BitAnd, Some(mask @ 1..)) if (mask & mask.wrapping_add(1)) == 0 && mask < i32::MAX => {
                format!("write `{} % {}`", a.operand(), mask + 1)
            }
            (Binary::Shl, _) => match power {
                Some(power) => format!("write `{} * {power}`", a.operand()),
                None => "multiply by a power of two, which may be a parameter: `a * n`".to_string(),
            },
            (Binary::Shr, _) => match power {
                Some(power) => format!("write `{} / {power}`, which rounds down", a.operand()),
                None => "divide by a power of two, which may be a parameter: `a / n` rounds down".to_string(),
            },
            _ => "integers have no operations on bits: take what is computed by them as a captured tensor".to_string(),
        };
        let left = self.value(a);
        // A power in other languages, where it takes what is next to it.
        let is_power = *op == Binary::BitXor && left.ty == ValueType::Float;
        let base = nearest_operand(a, false);
        let help = match nearest_operand(b, true) {
            exponent if is_power => format!("write `pow({}, {})`", base.inner(), exponent.as_float()),
            Expression { kind: ExprKind::Int(2), .. } if *op == Binary::BitXor => {
                format!("if it is a square, write `{0} * {0}`; {help}", base.operand())
            }
            _ => help,
        };
        self.errors.push(*token, format!("`{}` is not in the language", op.symbol()), help);
        if is_power {
            return Some(left);
        }
        self.value(b);
        Some(self.reported(expr.source))
    }

    /// `expr` with operations on bools instead of those on bits, which are added to `operators`.
    fn logical(&self, expr: &Expression, operators: &mut Vec<(Binary, Span)>) -> Expression {
        let made = |kind, source: Source| Expression { kind, source };
        match &expr.kind {
            ExprKind::Paren(inner) => made(ExprKind::Paren(Box::new(self.logical(inner, operators))), expr.source),
            ExprKind::Unary(Unary::Not, a) => {
                made(ExprKind::Unary(Unary::Not, Box::new(self.logical(a, operators))), expr.source)
            }
            ExprKind::Binary(op @ (Binary::BitAnd | Binary::BitOr | Binary::BitXor), token, a, b)
                if self.is_predicate(a) || self.is_predicate(b) =>
            {
                let meant = match op {
                    Binary::BitAnd => Binary::And,
                    Binary::BitOr => Binary::Or,
                    _ => Binary::Ne,
                };
                operators.push((*op, *token));
                let (a, b) = (self.logical(a, operators), self.logical(b, operators));
                made(ExprKind::Binary(meant, *token, Box::new(a), Box::new(b)), expr.source)
            }
            ExprKind::Binary(op, token, a, b) if op.is_comparison() => {
                let comparison = |a: &Expression, b: &Expression| {
                    let source = Source { start: a.source.start, end: b.source.end };
                    made(ExprKind::Binary(*op, *token, Box::new(a.clone()), Box::new(b.clone())), source)
                };
                let is_bits = |op: Binary| matches!(op, Binary::BitAnd | Binary::BitOr | Binary::BitXor);
                let regrouped = match (&a.kind, &b.kind) {
                    (ExprKind::Binary(bits, token, x, y), _) if is_bits(*bits) && self.is_predicate(x) => {
                        Some((*bits, *token, (**x).clone(), comparison(y, b)))
                    }
                    (_, ExprKind::Binary(bits, token, x, y)) if is_bits(*bits) && self.is_predicate(y) => {
                        Some((*bits, *token, comparison(a, x), (**y).clone()))
                    }
                    _ => None,
                };
                match regrouped {
                    Some((bits, token, a, b)) => {
                        let kind = ExprKind::Binary(bits, token, Box::new(a), Box::new(b));
                        self.logical(&made(kind, expr.source), operators)
                    }
                    None => expr.clone(),
                }
            }
            ExprKind::Binary(op @ (Binary::And | Binary::Or), token, a, b) => {
                let (a, b) = (self.logical(a, operators), self.logical(b, operators));
                made(ExprKind::Binary(*op, *token, Box::new(a), Box::new(b)), expr.source)
            }
            _ => expr.clone(),
        }
    }

    /// Whether `expr` gives a bool, as far as its form shows it.
    pub fn is_predicate(&self, expr: &Expression) -> bool {
        match &expr.inner().kind {
            ExprKind::Bool(_) | ExprKind::Unary(Unary::Not, _) => true,
            ExprKind::Binary(op @ (Binary::BitAnd | Binary::BitOr | Binary::BitXor), _, a, b) => {
                debug_assert!(op.function().is_none());
                self.is_predicate(a) || self.is_predicate(b)
            }
            ExprKind::Binary(op, ..) => op.is_comparison() || matches!(op, Binary::And | Binary::Or),
            ExprKind::Name(name) => matches!(self.scopes.find(name), Some(Binding::Local(ValueType::Bool, _))),
            ExprKind::Index(name, _) => {
                matches!(self.scopes.find(name), Some(Binding::Tensor(element, _)) if element.ty() == ValueType::Bool)
            }
            ExprKind::Call(..) => true,
            ExprKind::If(_, then, _) => ast::tail(then).is_some_and(|tail| self.is_predicate(tail)),
            ExprKind::Builtin(builtin, ..) => builtin.operands == BuiltinOperands::None(ValueType::Bool),
            _ => false,
        }
    }
}

/// The first or the last operand of the arithmetic that `expr` is.
fn nearest_operand(expr: &Expression, first: bool) -> &Expression {
    match &expr.kind {
        ExprKind::Binary(op, _, a, b) if op.is_arithmetic() => nearest_operand(if first { a } else { b }, first),
        ExprKind::Unary(Unary::Neg, operand) if !first => nearest_operand(operand, first),
        _ => expr,
    }
}
