//! The macros on whole functions: attributes of parameters, notes, and programs that were damaged at random.

use crate::expansion;
use proc_macro2::{Group, TokenStream as Tokens, TokenTree};
use purview_language::Kind;
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

/// The messages on an attention with these captured parameters, without their help.
fn parameter_errors(parameters: &str) -> Vec<String> {
    let errors = texts(with_parameters(parameters), "compile_error");
    errors.iter().map(|error| error.split_once("\nhelp: ").expect("a help").0.to_string()).collect()
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
fn sorted_is_for_captured_tensors_of_integers() {
    let not_captured = ["only a captured tensor can be `#[sorted]`, and `x` is not one"];
    for ty in ["u32", "i32", "f32", "bool"] {
        assert_eq!(parameter_errors(&format!("#[sorted] x: {ty}")), not_captured);
    }
    for ty in ["Tensor<f32, 1>", "Tensor<bool, 3>", "Tensor<u8, 4>"] {
        let message = format!("only a `Tensor<i32, R>` can be `#[sorted]`, and `x` is a `{ty}`");
        assert_eq!(parameter_errors(&format!("#[sorted] x: {ty}")), [message]);
    }
    assert_eq!(parameter_errors("#[sorted] x: Key, y: Value")[0], not_captured[0]);
    assert_eq!(parameter_errors("#[sorted] x: Tensor<i64, 1>").len(), 1, "the type alone is reported");
    let mask = "fn f(i: Pos, #[sorted] doc: Tensor<i32, 1>) -> bool { doc[i] == 0 }";
    assert_eq!(
        texts(expanded(Kind::Mask, mask), "compile_error"),
        ["`#[sorted]` belongs to the parameters of an attention\n\
          help: remove it here, and write `#[sorted] doc: Tensor<i32, 1>` in the attention that calls this function"]
    );
}

#[test]
fn attributes_of_parameters_that_are_wrong() {
    for attribute in ["sorted()", "sorted(foo)", "sorted(unchecked, foo)", "sorted(unchecked unchecked)", "sorted = 1"]
    {
        let errors = parameter_errors(&format!("#[{attribute}] doc: Tensor<i32, 2>"));
        assert_eq!(errors, ["`#[sorted]` takes nothing but `unchecked`"], "{attribute}");
    }
    let twice = parameter_errors("#[sorted] #[sorted(unchecked)] doc: Tensor<i32, 2>, #[comptime] #[comptime] n: u32");
    assert_eq!(twice, ["`#[sorted]` is given twice", "`#[comptime]` is given twice"]);
    assert_eq!(
        parameter_errors("#[comptime] #[sorted] doc: Tensor<i32, 2>, #[comptime] #[sorted] n: u32"),
        [
            "only a scalar can be `#[comptime]`, and `doc` is not one",
            "only a captured tensor can be `#[sorted]`, and `n` is not one"
        ]
    );
    let unknown = texts(with_parameters("#[sortd] a: Tensor<i32, 2>, #[ascending] b: Tensor<i32, 2>"), "compile_error");
    assert_eq!(
        unknown,
        [
            "unknown attribute of a parameter: `sortd`\nhelp: write `#[sorted]`",
            "unknown attribute of a parameter: `ascending`\n\
             help: a parameter has `#[comptime]`, if it is a scalar, or `#[sorted]`, if it is a `Tensor<i32, R>`"
        ]
    );
}

/// The notes on a `#[mask]` function of this body.
fn mask_notes(body: &str) -> Vec<String> {
    let parameters = "i: Pos, j: Pos, x: f32, on: bool, doc: Tensor<i32, 1>";
    let expansion = expanded(Kind::Mask, &format!("fn f({parameters}) -> bool {{ {body} }}"));
    assert_eq!(texts(expansion.clone(), "compile_error"), [""; 0], "{body}");
    texts(expansion, "deprecated")
}

/// The notes on an attention with these lines in its only loop over keys.
fn attention_notes(lines: &str) -> Vec<String> {
    let parameters = "q: Query, k: Key, v: Value, on: bool";
    let body = format!("for i in q.tiles() {{ let mut o = Sum::new(); for j in k.tiles() {{ {lines} }} o }}");
    let expansion = expanded(Kind::Attention, &format!("fn f({parameters}) -> Output {{ {body} }}"));
    assert_eq!(texts(expansion.clone(), "compile_error"), [""; 0], "{lines}");
    texts(expansion, "deprecated")
}

#[test]
fn notes_on_constant_predicates() {
    let always_true = [
        "true",
        "!false",
        "j <= j",
        "i - j >= i - j",
        "doc[i] == doc[i]",
        "on == on",
        "j <= i || true",
        "1 < 2",
        "(i == i) && !(j != j)",
        "-7 / 2 == -4 && -7 % 2 == 1 && max(2, 3) * 2 - 1 == 5",
        "if on { true } else { i <= i }",
        "if i < i { on } else { 2 > 1 }",
        "{ let n = i; j == j }",
    ];
    for body in always_true {
        assert_eq!(mask_notes(body), ["this predicate is always true: it hides no key"], "{body}");
    }
    for body in ["false", "i != i", "j < i && j > j", "!(j <= j)", "3 / 2 == 2", "true == false"] {
        assert_eq!(mask_notes(body), ["this predicate is always false: it hides every key"], "{body}");
    }
}

#[test]
fn no_notes_on_what_is_not_constant() {
    let bodies = [
        "j <= i",
        "on",
        "x == x",
        "x <= x",
        "doc[i] == doc[j]",
        "i + j == j + i + 1",
        "1 / 0 == 1 / 0 + 1",
        "2147483647 + 1 > 0",
        "other(i) == other(i)",
        "other(j, true)",
        "i == { let i = 0; i }",
        "if on { true } else { j <= i }",
        "let flag = true; flag && j <= i",
        "on != true",
    ];
    for body in bodies {
        assert_eq!(mask_notes(body), [""; 0], "{body}");
    }
}

#[test]
fn notes_on_parts_of_predicates() {
    let left_out = "this condition is always true: it can be left out";
    assert_eq!(mask_notes("j <= i && (i == i && 1 < 2)"), [left_out], "the outermost, once");
    assert_eq!(mask_notes("!(on && j <= j) && true"), [left_out, left_out]);
    assert_eq!(mask_notes("j <= i || i < i"), ["this condition is always false: it can be left out"]);
    let branch = "if i < i { on } else { j <= i }";
    assert_eq!(mask_notes(branch), ["this condition is always false: the `else` is always taken"]);
    let index = "doc[if j <= j { i } else { j }] == 0";
    assert_eq!(mask_notes(index), ["this condition is always true: the `else` is never taken"]);
    assert_eq!(mask_notes("let near = j != j; near || on"), ["this condition is always false"]);
    assert_eq!(mask_notes("let near = on && j == j; near"), [left_out]);
}

#[test]
fn notes_on_masks_of_attentions() {
    let hides_none = "this predicate is always true: it hides no key";
    let notes = |score: &str| attention_notes(&format!("let s = dot(q[i], k[j]); o.push({score}, v[j]);"));
    assert_eq!(notes("mask(s, true)"), [hides_none]);
    assert_eq!(
        notes("mask(s, j < j) * 2.0"),
        ["this predicate is always false: no key is visible, and the output is zero"]
    );
    assert_eq!(notes("mask(s, on && j == j)"), ["this condition is always true: it can be left out"]);
    assert_eq!(notes("if on { mask(s, false) } else { mask(s, true) }"), [""; 0], "one of the two is taken");
    assert_eq!(notes("if on { mask(s, on && true) } else { s }").len(), 1);
    assert_eq!(notes("mask(mask(s, true), j <= i)"), [hides_none]);
    assert_eq!(
        attention_notes("let s = mask(dot(q[i], k[j]), false); o.push(s, v[j]);"),
        ["this predicate is always false: it hides every key"]
    );
    let two_loops = "o.push(mask(dot(q[i], k[j]), false), v[j]); } for j in k.tiles() { o.push(dot(q[i], k[j]), v[j]);";
    assert_eq!(attention_notes(two_loops), ["this predicate is always false: no key of this loop is visible"]);
}

#[test]
fn a_mistake_is_reported_without_notes() {
    let expansion = expanded(Kind::Mask, "fn f(i: Pos) -> bool { true && nothing }");
    assert_eq!(texts(expansion.clone(), "compile_error").len(), 1);
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
