//! The macros on whole functions, and on programs that were damaged at random.

use crate::expansion;
use proc_macro2::{Group, TokenStream as Tokens, TokenTree};
use purview_language::Kind;
use quote::quote;

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
    let attributes =
        [(Kind::Attention, "attention"), (Kind::Mask, "mask"), (Kind::Score, "score"), (Kind::Index, "index")];
    let mut programs: Vec<(Kind, Tokens)> = Vec::new();
    for file in ["pass_values.rs", "pass_indices.rs"] {
        let program = format!("{}/../tests/ui/{file}", env!("CARGO_MANIFEST_DIR"));
        let program = std::fs::read_to_string(program).expect("a program of the workspace's tests");
        for (kind, attribute) in attributes {
            programs.extend(functions(&program, attribute).into_iter().map(|tokens| (kind, tokens)));
        }
    }
    assert_eq!(programs.len(), 5 + 4);
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

/// The string literals among the arguments of `name(…)` and `name! { … }` in `tokens`.
fn texts(tokens: Tokens, name: &str) -> Vec<String> {
    let mut texts = Vec::new();
    let mut named = false;
    for token in tokens {
        match token {
            TokenTree::Group(group) if named => {
                let literals =
                    group.stream().into_iter().filter_map(|token| syn::parse2::<syn::LitStr>(token.into()).ok());
                texts.extend(literals.map(|literal| literal.value()));
                named = false;
            }
            TokenTree::Group(group) => texts.extend(self::texts(group.stream(), name)),
            TokenTree::Ident(ident) => named = ident == name,
            _ => {}
        }
    }
    texts
}

fn expanded(kind: Kind, function: &str) -> Tokens {
    expansion(kind, Tokens::new(), function.parse().expect("tokens"))
}

/// An attention with these captured parameters.
fn with_parameters(parameters: &str) -> Tokens {
    let body = "for i in q.tiles() { let mut o = Sum::new(); for j in k.tiles() { o.push(dot(q[i], k[j]), v[j]); } o }";
    expanded(Kind::Attention, &format!("fn f(q: Query, k: Key, v: Value, {parameters}) -> Output {{ {body} }}"))
}

#[test]
fn sorted_tensors_are_declared_as_such() {
    let declares = |parameters: &str, call: Tokens| {
        let expansion = with_parameters(parameters).to_string();
        assert!(expansion.contains(&call.to_string()), "{call} in {expansion}");
    };
    declares("#[sorted] doc: Tensor<i32, 2>", quote!(builder.sorted_tensor::<2usize>("doc", true)));
    declares("#[sorted(unchecked)] doc: Tensor<i32, 1>", quote!(builder.sorted_tensor::<1usize>("doc", false)));
    declares("doc: Tensor<i32, 2>", quote!(builder.tensor::<::purview::lang::Int, 2usize>("doc")));
}

#[test]
fn warnings_are_uses_of_something_deprecated() {
    let expansion = expanded(Kind::Mask, "fn f(j: Pos) -> bool { j <= j }");
    assert_eq!(texts(expansion, "deprecated"), ["this predicate is always true: it hides no key"]);
}

#[test]
fn a_mistake_is_reported_without_warnings() {
    let expansion = expanded(Kind::Mask, "fn f(i: Pos) -> bool { true && nothing }");
    assert_eq!(
        texts(expansion.clone(), "compile_error"),
        ["cannot find `nothing` in this function\nhelp: add a parameter, such as `nothing: bool`"]
    );
    assert_eq!(texts(expansion, "deprecated"), [""; 0]);
}

#[test]
fn the_documentation_of_an_attention_shows_how_it_is_run() {
    let docs = |visibility: &str| {
        let loops = "for j in k.tiles() { o.push(dot(q[i], k[j]), v[j]); }";
        let body = format!("for i in q.tiles() {{ let mut o = Sum::new(); {loops} o }}");
        let parameters = "q: Query, k: Key, v: Value, n: u32, w: Tensor<f32, 1>";
        expanded(Kind::Attention, &format!("{visibility} fn f({parameters}) -> Output {{ {body} }}")).to_string()
    };
    assert!(docs("/// Doc.\npub").contains("Run by `f(n, &w).run(&device, &q, &k, &v)?`"));
    assert!(docs("").contains("Run by `f(n, &w)"));
    assert!(!docs("pub").contains("Run by"), "`missing_docs` must find it");
}
