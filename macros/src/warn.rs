//! Makes rustc warn.
//!
//! A macro on stable Rust can report errors but no warnings. rustc itself warns where something deprecated is used, at the
//! tokens of the use and with a text of our choice, so a warning is expanded to such a use:
//!
//! ```text
//! {
//!     struct Predicate(#[deprecated(note = "this predicate is always true: it hides no key")] ());
//!     let _ = Predicate(()).0;
//! }
//! ```
//!
//! It is a field, because rustc marks all of `Predicate(()).0` for a field, and only the last name for a path: with the span
//! of the predicate's first token on `Predicate` and of the last on `0`, that is the predicate. The field has no name, so
//! that making the struct is no second use. The lint is `deprecated`, which a user silences or denies as any other.

use proc_macro2::{Ident, Literal, TokenStream};
use purview_language::{Diagnostic, Source};
use quote::quote;

/// A statement that makes rustc warn as `warning` says.
pub fn warn(warning: &Diagnostic) -> TokenStream {
    let Diagnostic { source: Source { start, end }, message, .. } = warning;
    let name = Ident::new("Predicate", *start);
    let mut field = Literal::usize_unsuffixed(0);
    field.set_span(*end);
    quote! {{
        struct Predicate(#[deprecated(note = #message)] ());
        let _ = #name(()).#field;
    }}
}
