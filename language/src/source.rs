//! Where something stands in the source.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote_spanned};

/// The tokens of a source file from the one at `start` to the one at `end`.
#[derive(Clone, Copy, Debug)]
pub struct Source {
    /// The first token.
    pub start: Span,
    /// The last token, which may be the first.
    pub end: Span,
}

impl Source {
    /// From the first token of `tokens` to the last.
    pub fn of(tokens: &impl ToTokens) -> Self {
        let mut spans = tokens.to_token_stream().into_iter().map(|token| token.span());
        let start = spans.next().unwrap_or_else(Span::call_site);
        Source { start, end: spans.last().unwrap_or(start) }
    }

    /// The line and the column of the first token, both from 1.
    pub fn place(self) -> (u32, u32) {
        let start = self.start.start();
        (start.line as u32, start.column as u32 + 1)
    }
}

impl From<Span> for Source {
    fn from(span: Span) -> Self {
        Source { start: span, end: span }
    }
}

/// Two tokens with the spans of the first and the last, for whatever takes its place from tokens.
impl ToTokens for Source {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        let Source { start, end } = *self;
        tokens.extend(quote_spanned!(start=> _));
        tokens.extend(quote_spanned!(end=> _));
    }
}
