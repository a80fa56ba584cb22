//! Reads what is not of the language although it stands in a body: items, and calls of macros.

use crate::ast::{Constant, Statement};
use crate::error::Source;
use crate::parse::Parser;
use quote::ToTokens;
use syn::Item;

impl Parser<'_> {
    /// Reports `item`, unless it is a constant: what is to be written for that depends on where it is used.
    pub fn item(&self, item: &Item) -> Option<Statement> {
        let (name, value) = match item {
            Item::Const(item) => (&item.ident, &item.expr),
            Item::Static(item) => (&item.ident, &item.expr),
            Item::Fn(item) => {
                let help = format!(
                    "write it outside of this one, with `#[mask]` above it if it gives a `bool`, or `#[score]` if it gives a `Score`: \
                     `{}` calls it by its name",
                    self.kind.attribute()
                );
                self.unsupported(first(item), "functions inside a function", help);
                return None;
            }
            item => {
                self.unsupported(first(item), "items inside a function", "move it out of the function");
                return None;
            }
        };
        let keyword = first(item).start;
        Some(Statement::Constant(Constant { keyword, name: name.clone(), value: self.expr(value) }))
    }

    /// Reports a call of a macro of Rust.
    pub fn macro_call(&self, call: &syn::Macro) {
        let name = call.path.segments.last().map_or(String::new(), |segment| segment.ident.to_string());
        let help = match name.as_str() {
            "println" | "print" | "eprintln" | "eprint" | "dbg" => {
                "remove it: nothing can be printed from a kernel; `.reference(…)` computes the same on the CPU"
            }
            "assert" | "assert_eq" | "assert_ne" | "debug_assert" | "panic" | "unreachable" | "todo"
            | "unimplemented" => "remove it, and check the arguments before the call",
            _ => "write what it expands to",
        };
        self.unsupported(Source::of(&call.path), "macros", help);
    }
}

/// The first token of `item`.
fn first(item: &impl ToTokens) -> Source {
    Source::from(Source::of(item).start)
}
