//! Reads an index of several integers in one bracket, which is no Rust.

use proc_macro2::{Delimiter, Group, Ident, TokenStream, TokenTree};

/// Makes `a[b, c]`, which is no Rust, into `a[(b, c)]`, so that the body is parsed and the comma gets a help of ours beside
/// rustc's error.
pub fn join_indices(tokens: TokenStream) -> TokenStream {
    joined_indices(tokens.clone()).unwrap_or(tokens)
}

/// `tokens` with joined indices, if there are any. The groups without keep the spans of their brackets.
fn joined_indices(tokens: TokenStream) -> Option<TokenStream> {
    let mut indexable = false;
    let mut changed = false;
    let join = |token: TokenTree| {
        let TokenTree::Group(group) = &token else {
            indexable =
                matches!(&token, TokenTree::Ident(ident) if syn::parse_str::<Ident>(&ident.to_string()).is_ok());
            return token;
        };
        let is_index = indexable && group.delimiter() == Delimiter::Bracket;
        indexable = matches!(group.delimiter(), Delimiter::Bracket | Delimiter::Parenthesis);
        let is_comma = |token: TokenTree| matches!(token, TokenTree::Punct(punct) if punct.as_char() == ',');
        let several = is_index && group.stream().into_iter().any(is_comma);
        let mut inner = match joined_indices(group.stream()) {
            Some(inner) => inner,
            None if several => group.stream(),
            None => return token,
        };
        changed = true;
        if several {
            let mut tuple = Group::new(Delimiter::Parenthesis, inner);
            tuple.set_span(group.span());
            inner = TokenTree::Group(tuple).into();
        }
        let mut joined = Group::new(group.delimiter(), inner);
        joined.set_span(group.span());
        TokenTree::Group(joined)
    };
    let joined = tokens.into_iter().map(join).collect();
    changed.then_some(joined)
}

#[cfg(test)]
mod tests {
    use super::*;
    use quote::quote;

    #[test]
    fn indices_are_joined_where_something_is_indexed() {
        let joined = |tokens| join_indices(tokens).to_string();
        assert_eq!(joined(quote!(doc[batch(), i])), quote!(doc[(batch(), i)]).to_string());
        assert_eq!(joined(quote!(f(a[b][c, d]))), quote!(f(a[b][(c, d)])).to_string());
        assert_eq!(joined(quote!(let x = [a, b];)), quote!(let x = [a, b];).to_string());
        assert_eq!(joined(quote!(for x in [a, b])), quote!(for x in [a, b]).to_string());
        assert_eq!(joined(quote!(vec![a, b])), quote!(vec![a, b]).to_string());
    }
}
