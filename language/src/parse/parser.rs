//! What reads a body. Statements hold values and values hold blocks of statements, so its methods call each other:
//! [`crate::parse::statements`] has those of statements, and [`crate::parse::values`] those of expressions.

use crate::ast::ExprKind;
use crate::diagnostic::Diagnostics;
use crate::signature::Kind;
use crate::source::Source;
use std::fmt::Display;

/// Reads the body of one function.
pub struct BodyParser<'a> {
    pub errors: &'a Diagnostics,
    /// The macro of the function.
    pub kind: Kind,
}

impl BodyParser<'_> {
    /// Reports that `what` is of Rust alone.
    pub fn unsupported(&self, source: Source, what: &str, help: impl Display) -> ExprKind {
        let is_one = what.ends_with('`') || what.starts_with("this ");
        let verb = if is_one { "is" } else { "are" };
        self.report(source, format!("{what} {verb} not in the language"), help)
    }

    /// Reports a mistake; what stands for it in the tree.
    pub fn report(&self, source: impl Into<Source>, message: impl Display, help: impl Display) -> ExprKind {
        self.errors.push(source, message, help);
        ExprKind::Reported
    }
}
