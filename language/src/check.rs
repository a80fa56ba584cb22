//! Checks what a function says, and gives it with names resolved and types known.
//!
//! One mistake gives one error, because what was reported is `Reported` and nothing more is said of it. An expression can be
//! so ([`crate::ast::ExprKind`]), the type of a value ([`crate::types::ValueType`]), what a name stands for
//! ([`scopes::Binding`]), and something that a function must have ([`presence::Presence`]).

mod assignments;
mod bits;
mod calls;
mod checker;
mod conditionals;
mod expected_types;
mod key_loops;
mod misread;
mod presence;
mod query_loop;
mod scopes;
mod statements;
mod tiles;
mod unknown_names;
mod values;

use crate::ast;
use crate::check::checker::Checker;
use crate::diagnostic::Diagnostics;
use crate::parse::Parsed;
use crate::signature::Kind;
use crate::tree::Body;

/// What `function` says; meaningful only if `errors` stays empty.
pub fn function(function: &Parsed, errors: &Diagnostics) -> Body {
    let mut checker = Checker::new(function, errors);
    match function.signature.kind {
        Kind::Attention => Body::Attention(checker.attention(&function.body)),
        kind => {
            let value = checker.block(&function.body);
            let value = match ast::tail(&function.body) {
                Some(tail) => checker.expect(value, function.output, tail),
                None => value,
            };
            Body::Value(kind, value)
        }
    }
}
