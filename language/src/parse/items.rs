//! Reads items in a body, which the language has not.

use crate::ast::{ConstantItem, Statement};
use crate::parse::parser::BodyParser;
use crate::source::Source;
use quote::ToTokens;
use syn::Item;

impl BodyParser<'_> {
    /// Reports `item`, unless it is a constant: what is to be written for that depends on where it is used.
    pub fn item(&self, item: &Item) -> Option<Statement> {
        let (name, value) = match item {
            Item::Const(item) => (&item.ident, &item.expr),
            Item::Static(item) => (&item.ident, &item.expr),
            Item::Fn(item) => {
                let help = format!(
                    "write it outside of this one, with `#[mask]` above it if it gives a `bool`, `#[score]` if it gives a `Score`, \
                     or `#[index]` if it gives an `i32`: `{}` calls it by its name",
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
        Some(Statement::Constant(ConstantItem { keyword, name: name.clone(), value: self.expr(value) }))
    }
}

/// The first token of `item`.
fn first(item: &impl ToTokens) -> Source {
    Source::from(Source::of(item).start)
}
