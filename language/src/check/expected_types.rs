//! Checks that a value has the type that is expected of it, and says by which conversion it would.

use crate::ast::{ExprKind, Expression};
use crate::check::checker::Checker;
use crate::signature::{ParameterKind, Scalar};
use crate::tree::TypedValue;
use crate::types::ValueType;
use proc_macro2::Ident;

impl Checker<'_> {
    /// `value`, which `expr` is, if its type can be `expected`; or an error on `expr`.
    pub fn expect(&self, value: TypedValue, expected: ValueType, expr: &Expression) -> TypedValue {
        self.expect_operand(value, expected, expr, false)
    }

    /// As [`Checker::expect`]; a cast that is suggested is `enclosed` in parentheses.
    fn expect_operand(&self, value: TypedValue, expected: ValueType, expr: &Expression, enclosed: bool) -> TypedValue {
        if value.ty == expected || !value.ty.is_known() || !expected.is_known() {
            return value;
        }
        let message = format!("expected {expected}, found {}", value.description());
        self.errors.push(expr.source, message, conversion(expr, value.ty, expected, enclosed));
        self.reported(value.source)
    }

    /// The scalar parameter that `expr` is, if it is an `f32`.
    fn float_parameter<'e>(&self, expr: &'e Expression) -> Option<&'e Ident> {
        match &expr.inner().kind {
            ExprKind::Name(name) if self.scopes.is_parameter(name) => {
                let mut floats = self.signature.of_kind(ParameterKind::Scalar(Scalar::F32));
                floats.any(|parameter| parameter.name == *name).then_some(name)
            }
            _ => None,
        }
    }

    /// `value`, which `expr` is, if it can be a number.
    pub fn expect_number(&self, value: TypedValue, expr: &Expression) -> TypedValue {
        if value.ty != ValueType::Bool {
            return value;
        }
        let help = format!("write `{} as i32`", expr.operand());
        self.errors.push(expr.source, "expected integer or float, found bool", help);
        self.reported(value.source)
    }

    /// `values` as numbers of one type, and the type. An integer beside a float is the one at fault. The first operand of
    /// `operator` gets a cast in parentheses if it needs one there.
    pub fn same_number(&self, values: Vec<(TypedValue, &Expression)>, operator: &str) -> (Vec<TypedValue>, ValueType) {
        let has_score =
            values.iter().find(|(value, _)| value.score && value.ty == ValueType::Float).map(|(_, expr)| *expr);
        let has = |ty| values.iter().any(|(value, _)| value.ty == ty);
        let ty = match () {
            _ if has(ValueType::Float) => ValueType::Float,
            _ if has(ValueType::Int) => ValueType::Int,
            _ if has(ValueType::Unknown) => ValueType::Unknown,
            _ => ValueType::Reported,
        };
        let exprs: Vec<&Expression> = values.iter().map(|(_, expr)| *expr).collect();
        let mut checked = Vec::new();
        for (place, (value, expr)) in values.into_iter().enumerate() {
            // `x as f32 < y` is not Rust.
            let enclosed = place == 0 && operator == "<";
            checked.push(match (value.ty, has_score) {
                (ValueType::Int, _) if ty == ValueType::Float && exprs.len() == 2 => {
                    let other = exprs[1 - place];
                    let mut help = conversion(expr, ValueType::Int, ValueType::Float, false);
                    if !matches!(expr.inner().kind, ExprKind::Int(_)) {
                        if enclosed {
                            help = format!("write `({} as f32) < {other}`", expr.operand());
                        }
                        if let Some(name) = self.float_parameter(other).filter(|_| !operator.is_empty()) {
                            help = format!("declare `{name}: u32`, or {help}");
                        }
                    }
                    self.errors.push(expr.source, "expected float, found integer", help);
                    self.reported(value.source)
                }
                (ValueType::Bool, Some(score)) if operator.is_empty() => {
                    let message = "expected float, found bool";
                    let help = format!("to hide the keys where it is false, write `mask({score}, {})`", expr.inner());
                    self.errors.push(expr.source, message, help);
                    self.reported(value.source)
                }
                (ValueType::Bool, _) if ty.is_known() => self.expect_operand(value, ty, expr, enclosed),
                (ValueType::Bool, _) => self.expect_number(value, expr),
                _ => self.expect_operand(value, ty, expr, enclosed),
            });
        }
        (checked, ty)
    }
}

/// What to write for `expr`, of type `found`, where `expected` is.
fn conversion(expr: &Expression, found: ValueType, expected: ValueType, enclosed: bool) -> String {
    let cast = |ty: &str| {
        if enclosed {
            format!("write `({} as {ty})`", expr.operand())
        } else {
            format!("write `{} as {ty}`", expr.operand())
        }
    };
    match (&expr.inner().kind, found, expected) {
        (ExprKind::Int(value), _, ValueType::Float) => format!("write `{:?}`", *value as f32),
        (ExprKind::Float(value), _, ValueType::Int) => format!("write `{}`", *value as i32),
        (ExprKind::Int(value @ (0 | 1)), _, ValueType::Bool) => format!("write `{}`", *value == 1),
        (ExprKind::Bool(value), _, ValueType::Float) => format!("write `{}`", if *value { "1.0" } else { "0.0" }),
        (ExprKind::Bool(value), _, ValueType::Int) => format!("write `{}`", *value as i32),
        (_, _, ValueType::Float) => cast("f32"),
        (_, _, ValueType::Int) => cast("i32"),
        (_, ValueType::Float, ValueType::Bool) => format!("write a comparison, such as `{} > 0.0`", expr.operand()),
        _ => format!("write a comparison, such as `{} != 0`", expr.operand()),
    }
}
