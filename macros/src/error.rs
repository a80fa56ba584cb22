//! The errors of one macro call: every mistake is collected, and none can be forgotten.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote_spanned};
use std::cell::RefCell;
use std::fmt::Display;

/// The tokens of a source file from the one at `start` to the one at `end`.
#[derive(Clone, Copy, Debug)]
pub struct Source {
    pub start: Span,
    pub end: Span,
}

impl Source {
    /// From the first token of `tokens` to the last.
    pub fn of(tokens: &impl ToTokens) -> Self {
        let mut spans = tokens.to_token_stream().into_iter().map(|token| token.span());
        let start = spans.next().unwrap_or_else(Span::call_site);
        Source { start, end: spans.last().unwrap_or(start) }
    }
}

impl From<Span> for Source {
    fn from(span: Span) -> Self {
        Source { start: span, end: span }
    }
}

/// The line and the column of a token, both from 1.
pub fn place(token: Span) -> (u32, u32) {
    // Outside of a compilation, in the tests of this crate, tokens have no place.
    if !proc_macro::is_available() {
        return (1, 1);
    }
    let span = token.unwrap();
    (span.line() as u32, span.column() as u32)
}

/// Collects errors, so that several mistakes are reported in one build.
///
/// # Panics
/// When it is dropped before [`Errors::finish`] was asked.
pub struct Errors {
    /// `None` once `finish` was asked.
    errors: RefCell<Option<Vec<syn::Error>>>,
}

impl Errors {
    pub fn new() -> Self {
        Errors { errors: RefCell::new(Some(Vec::new())) }
    }

    /// Adds an error on the tokens of `source`. `help` says what to write instead.
    pub fn push(&self, source: impl Into<Source>, message: impl Display, help: impl Display) {
        let Source { start, end } = source.into();
        let mut tokens = quote_spanned!(start=> _);
        tokens.extend(quote_spanned!(end=> _));
        self.push_error(syn::Error::new_spanned(tokens, format!("{message}\nhelp: {help}")));
    }

    /// Adds an error that syn found.
    pub fn push_error(&self, error: syn::Error) {
        self.errors.borrow_mut().as_mut().expect("errors come before `finish`").push(error);
    }

    /// Nothing, or the errors in the order of the source, as tokens that make rustc report each.
    pub fn finish(self) -> Result<(), TokenStream> {
        let mut errors = self.errors.take().expect("`finish` takes the errors");
        errors.sort_by_key(|error| place(error.span()));
        let errors: TokenStream = errors.iter().map(syn::Error::to_compile_error).collect();
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }
}

impl Drop for Errors {
    fn drop(&mut self) {
        if self.errors.borrow().is_some() && !std::thread::panicking() {
            panic!("errors were collected and never looked at");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "never looked at")]
    fn unchecked_errors_panic() {
        drop(Errors::new());
    }

    #[test]
    fn errors_are_all_kept() {
        let errors = Errors::new();
        errors.push(Span::call_site(), "first", "this");
        errors.push(Span::call_site(), "second", "that");
        let tokens = errors.finish().unwrap_err().to_string();
        assert_eq!(tokens.matches("compile_error").count(), 2);
    }
}
