//! Reads a function into the tree of [`crate::ast`], and reports every construct of Rust that the language has not.

mod accumulators;
mod assignments;
mod attributes;
mod indices;
mod items;
mod parameters;
mod parser;
mod signature;
mod statements;
mod values;

use crate::ast::Block;
use crate::diagnostic::Diagnostics;
use crate::parse::indices::join_indices;
use crate::parse::parser::BodyParser;
use crate::parse::signature::Declaration;
use crate::signature::{Kind, Signature};
use crate::source::Source;
use crate::types::ValueType;
use crate::uses::Uses;
use proc_macro2::{Ident, TokenStream};
use syn::ItemFn;

/// A function that was read, and not yet checked.
pub struct Parsed {
    pub signature: Signature,
    /// The type of its value, if it is a `#[mask]`, `#[score]` or `#[index]`.
    pub output: ValueType,
    /// Names that stand for something that was reported with the signature.
    pub reported: Vec<Ident>,
    pub body: Block,
    pub uses: Uses,
}

/// The function that `item` is; nothing if it is no function, which is reported.
pub fn function(kind: Kind, arguments: TokenStream, item: TokenStream, errors: &Diagnostics) -> Option<Parsed> {
    let attribute = kind.attribute();
    if !arguments.is_empty() {
        errors.push(
            Source::of(&arguments),
            format!("`{attribute}` takes no arguments"),
            format!("write `{attribute}`"),
        );
    }
    let item: ItemFn = match syn::parse2(join_indices(item.clone())) {
        Ok(item) => item,
        Err(error) => {
            match syn::parse2::<syn::Item>(item.clone()) {
                Ok(_) => errors.push(
                    Source::of(&item.into_iter().next()),
                    format!("`{attribute}` belongs on a function"),
                    "write it above a `fn`",
                ),
                Err(_) => errors.push_error(error),
            }
            return None;
        }
    };
    let body = BodyParser { errors, kind }.block(&item.block);
    let uses = Uses::of(&body);
    let Declaration { signature, output, reported } = signature::read(kind, &item, &uses, errors);
    Some(Parsed { signature, output, reported, body, uses })
}
