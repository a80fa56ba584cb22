//! Reads assignments, which the language has not. What is to be written instead depends on what is assigned, and where:
//! [`crate::check::assignments`] says it.

use crate::ast::{Assignment, Binary};
use crate::parse::parser::BodyParser;
use crate::source::Source;
use syn::BinOp;

impl BodyParser<'_> {
    /// The assignment that `expr` is, if it is one.
    pub fn assignment(&self, expr: &syn::Expr) -> Option<Assignment> {
        let (target, operator, compound, value) = match expr {
            syn::Expr::Assign(assign) => (&assign.left, Source::of(&assign.eq_token), None, &assign.right),
            syn::Expr::Binary(binary) => {
                (&binary.left, Source::of(&binary.op), Some(assigned_operation(&binary.op)?), &binary.right)
            }
            _ => return None,
        };
        Some(Assignment { target: self.expr(target), operator, compound, value: self.expr(value) })
    }
}

/// The operation of an operator that assigns.
fn assigned_operation(op: &BinOp) -> Option<Binary> {
    Some(match op {
        BinOp::AddAssign(_) => Binary::Add,
        BinOp::SubAssign(_) => Binary::Sub,
        BinOp::MulAssign(_) => Binary::Mul,
        BinOp::DivAssign(_) => Binary::Div,
        BinOp::RemAssign(_) => Binary::Rem,
        BinOp::BitAndAssign(_) => Binary::BitAnd,
        BinOp::BitOrAssign(_) => Binary::BitOr,
        BinOp::BitXorAssign(_) => Binary::BitXor,
        BinOp::ShlAssign(_) => Binary::Shl,
        BinOp::ShrAssign(_) => Binary::Shr,
        _ => return None,
    })
}
