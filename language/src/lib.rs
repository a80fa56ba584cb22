//! The language of Purview's attention kernels, from tokens to a checked tree.
//!
//! A function is written in Rust's syntax, with a meaning of its own. [`check`] reads it, resolves its names and finds the
//! types of its values, or says every mistake in it. It works on the tokens of a procedural macro, and as well on those of
//! any text:
//!
//! ```
//! use purview_language::{Kind, check};
//!
//! let mask = "fn window(i: Pos, j: Pos, size: u32) -> bool { j <= i && i - j < siz }";
//! let rejected = check(Kind::Mask, Default::default(), mask.parse()?).err().unwrap();
//! let [mistake] = &rejected.errors[..] else { panic!("one mistake") };
//! assert_eq!(mistake.to_string(), "cannot find `siz` in this function\nhelp: write `size`");
//! assert_eq!(mistake.source.place(), (1, 66));
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```
//!
//! Inside, data goes one way: `parse` reads the tokens into the tree of `ast`, `check` gives the [`tree`] of what is meant,
//! and `warn` looks at that. Each adds to one list of errors. `names` and `foreign` are tables: what there is, and what other
//! languages have that is not here.

mod ast;
mod check;
mod constant;
mod diagnostic;
mod foreign;
mod names;
mod parse;
mod signature;
mod source;
pub mod tree;
mod types;
mod uses;
mod warn;

pub use diagnostic::Diagnostic;
pub use signature::{DeclaredElement, DeclaredParameter, Kind, ParameterKind, Scalar, Signature, Sorted};
pub use source::Source;
pub use types::ValueType;

use diagnostic::Diagnostics;
use proc_macro2::TokenStream;

/// A function without a mistake.
pub struct Checked {
    /// What it takes and gives.
    pub signature: Signature,
    /// What it says.
    pub body: tree::Body,
    /// What is right and likely not meant: predicates that are always true, or always false.
    pub warnings: Vec<Diagnostic>,
}

/// A function with mistakes.
pub struct Rejected {
    /// Every mistake, in the order of the source; there is at least one.
    pub errors: Vec<Diagnostic>,
    /// What the function takes and gives, as far as that could be read: nothing if it is no function.
    pub signature: Option<Signature>,
}

/// Reads the function `item`, which has the attribute of `kind` with these `arguments`, and checks it.
///
/// # Errors
/// All mistakes, if there is any. One mistake gives one error: what depends on something wrong is not reported again.
pub fn check(kind: Kind, arguments: TokenStream, item: TokenStream) -> Result<Checked, Box<Rejected>> {
    let errors = Diagnostics::new();
    let function = parse::function(kind, arguments, item, &errors);
    let body = function.as_ref().map(|function| check::function(function, &errors));
    let errors = errors.finish();
    let signature = function.map(|function| function.signature);
    match (signature, body) {
        (Some(signature), Some(body)) if errors.is_empty() => {
            let warnings = warn::warnings(&body);
            Ok(Checked { signature, body, warnings })
        }
        (signature, _) => Err(Box::new(Rejected { errors, signature })),
    }
}
