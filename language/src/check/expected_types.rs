//! Checks that a value has the type that is expected of it, and says by which conversion it would.

use crate::ast::{Expr, ExprKind};
use crate::check::checker::Checker;
use crate::signature::{ParameterKind, Scalar};
use crate::tree::Value;
use crate::types::Type;
use proc_macro2::Ident;

impl Checker<'_> {
    /// `value`, which `expr` is, if its type can be `expected`; or an error on `expr`.
    pub fn expect(&self, value: Value, expected: Type, expr: &Expr) -> Value {
        self.expect_operand(value, expected, expr, false)
    }

    /// As [`Checker::expect`]; a cast that is suggested is `enclosed` in parentheses.
    fn expect_operand(&self, value: Value, expected: Type, expr: &Expr, enclosed: bool) -> Value {
        if value.ty == expected || !value.ty.is_known() || !expected.is_known() {
            return value;
        }
        let message = format!("expected {expected}, found {}", value.description());
        self.errors.push(expr.source, message, conversion(expr, value.ty, expected, enclosed));
        self.reported(value.source)
    }

    /// The scalar parameter that `expr` is, if it is an `f32`.
    fn float_parameter<'e>(&self, expr: &'e Expr) -> Option<&'e Ident> {
        match &expr.inner().kind {
            ExprKind::Name(name) if self.scopes.is_parameter(name) => {
                let mut floats = self.signature.of_kind(ParameterKind::Scalar(Scalar::F32));
                floats.any(|parameter| parameter.name == *name).then_some(name)
            }
            _ => None,
        }
    }

    /// `value`, which `expr` is, if it can be a number.
    pub fn expect_number(&self, value: Value, expr: &Expr) -> Value {
        if value.ty != Type::Bool {
            return value;
        }
        let help = format!("write `{} as i32`", expr.operand());
        self.errors.push(expr.source, "expected integer or float, found bool", help);
        self.reported(value.source)
    }

    /// `values` as numbers of one type, and the type. An integer beside a float is the one at fault. The first operand of
    /// `operator` gets a cast in parentheses if it needs one there.
    pub fn same_number(&self, values: Vec<(Value, &Expr)>, operator: &str) -> (Vec<Value>, Type) {
        let has_score = values.iter().find(|(value, _)| value.score && value.ty == Type::Float).map(|(_, expr)| *expr);
        let has = |ty| values.iter().any(|(value, _)| value.ty == ty);
        let ty = match () {
            _ if has(Type::Float) => Type::Float,
            _ if has(Type::Int) => Type::Int,
            _ if has(Type::Unknown) => Type::Unknown,
            _ => Type::Reported,
        };
        let exprs: Vec<&Expr> = values.iter().map(|(_, expr)| *expr).collect();
        let mut checked = Vec::new();
        for (place, (value, expr)) in values.into_iter().enumerate() {
            // `x as f32 < y` is not Rust.
            let enclosed = place == 0 && operator == "<";
            checked.push(match (value.ty, has_score) {
                (Type::Int, _) if ty == Type::Float && exprs.len() == 2 => {
                    let other = exprs[1 - place];
                    let mut help = conversion(expr, Type::Int, Type::Float, false);
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
                (Type::Bool, Some(score)) if operator.is_empty() => {
                    let message = "expected float, found bool";
                    let help = format!("to hide the keys where it is false, write `mask({score}, {})`", expr.inner());
                    self.errors.push(expr.source, message, help);
                    self.reported(value.source)
                }
                (Type::Bool, _) if ty.is_known() => self.expect_operand(value, ty, expr, enclosed),
                (Type::Bool, _) => self.expect_number(value, expr),
                _ => self.expect_operand(value, ty, expr, enclosed),
            });
        }
        (checked, ty)
    }
}

/// What to write for `expr`, of type `found`, where `expected` is.
fn conversion(expr: &Expr, found: Type, expected: Type, enclosed: bool) -> String {
    let cast = |ty: &str| {
        if enclosed {
            format!("write `({} as {ty})`", expr.operand())
        } else {
            format!("write `{} as {ty}`", expr.operand())
        }
    };
    match (&expr.inner().kind, found, expected) {
        (ExprKind::Int(value), _, Type::Float) => format!("write `{:?}`", *value as f32),
        (ExprKind::Float(value), _, Type::Int) => format!("write `{}`", *value as i32),
        (ExprKind::Int(value @ (0 | 1)), _, Type::Bool) => format!("write `{}`", *value == 1),
        (ExprKind::Bool(value), _, Type::Float) => format!("write `{}`", if *value { "1.0" } else { "0.0" }),
        (ExprKind::Bool(value), _, Type::Int) => format!("write `{}`", *value as i32),
        (_, _, Type::Float) => cast("f32"),
        (_, _, Type::Int) => cast("i32"),
        (_, Type::Float, Type::Bool) => format!("write a comparison, such as `{} > 0.0`", expr.operand()),
        _ => format!("write a comparison, such as `{} != 0`", expr.operand()),
    }
}
