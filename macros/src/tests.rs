//! The macros on programs that were damaged at random.

use crate::ast::Kind;
use crate::expansion;
use proc_macro2::{Group, TokenStream as Tokens, TokenTree};
use quote::quote;

const ATTENTION: &str = include_str!("../../tests/ui/pass_values.rs");

/// The functions of a program that have `attribute`.
fn functions(program: &str, attribute: &str) -> Vec<Tokens> {
    let file = syn::parse_file(program).expect("a program");
    let mut functions = Vec::new();
    for item in file.items {
        if let syn::Item::Fn(mut function) = item
            && let Some(place) = function.attrs.iter().position(|found| found.path().is_ident(attribute))
        {
            function.attrs.remove(place);
            functions.push(quote!(#function));
        }
    }
    functions
}

/// A generator of numbers (Knuth's MMIX).
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % end
    }
}

fn count(tokens: &Tokens) -> usize {
    let size = |token| match token {
        TokenTree::Group(group) => 1 + count(&group.stream()),
        _ => 1,
    };
    tokens.clone().into_iter().map(size).sum()
}

/// `tokens` with the token at `place` made into `change` of it.
fn changed(tokens: Tokens, place: &mut usize, change: &mut impl FnMut(TokenTree) -> Tokens) -> Tokens {
    let each = |token: TokenTree| {
        *place = place.wrapping_sub(1);
        match token {
            token if *place == usize::MAX => change(token),
            TokenTree::Group(group) => {
                TokenTree::Group(Group::new(group.delimiter(), changed(group.stream(), place, change))).into()
            }
            token => token.into(),
        }
    };
    tokens.into_iter().flat_map(each).collect()
}

#[test]
fn no_input_makes_the_macros_panic() {
    let programs: Vec<(Kind, Tokens)> = [(Kind::Attention, "attention"), (Kind::Mask, "mask"), (Kind::Score, "score")]
        .into_iter()
        .flat_map(|(kind, attribute)| functions(ATTENTION, attribute).into_iter().map(move |tokens| (kind, tokens)))
        .collect();
    assert_eq!(programs.len(), 5);
    let mut random = Random(1);
    let mut right = 0;
    for round in 0..1500 {
        let (kind, mut tokens) = programs[round % programs.len()].clone();
        for _ in 0..=random.below(3) {
            let (mut place, what) = (random.below(count(&tokens)), random.below(4));
            let other = random.below(count(&tokens));
            let mut taken = Tokens::new();
            changed(tokens.clone(), &mut other.clone(), &mut |token| {
                taken = token.clone().into();
                token.into()
            });
            tokens = changed(tokens, &mut place, &mut |token| match what {
                0 => Tokens::new(),
                1 => [token.clone(), token].into_iter().collect(),
                2 => taken.clone(),
                _ => [Tokens::from(token), taken.clone()].into_iter().collect(),
            });
        }
        let expansion = expansion(kind, Tokens::new(), tokens).to_string();
        right += usize::from(!expansion.contains("compile_error"));
    }
    assert!(right > 10, "{right} of the changed programs are right");
}
