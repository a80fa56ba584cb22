//! Warnings of predicates that are always true or always false.

use purview_language::{Kind, check};

/// The warnings of a function without a mistake.
fn warnings(kind: Kind, function: &str) -> Vec<String> {
    let checked = check(kind, Default::default(), function.parse().expect("tokens"));
    let checked = checked.unwrap_or_else(|rejected| panic!("{}: {function}", rejected.errors[0]));
    checked.warnings.iter().map(ToString::to_string).collect()
}

/// The warnings of a `#[mask]` function of this body.
fn mask_warnings(body: &str) -> Vec<String> {
    let parameters = "i: Pos, j: Pos, x: f32, on: bool, doc: Tensor<i32, 1>";
    warnings(Kind::Mask, &format!("fn f({parameters}) -> bool {{ {body} }}"))
}

/// The warnings of an attention with these lines in its only loop over keys.
fn attention_warnings(lines: &str) -> Vec<String> {
    let parameters = "q: Query, k: Key, v: Value, on: bool";
    let body = format!("for i in q.tiles() {{ let mut o = Sum::new(); for j in k.tiles() {{ {lines} }} o }}");
    warnings(Kind::Attention, &format!("fn f({parameters}) -> Output {{ {body} }}"))
}

#[test]
fn warnings_of_constant_predicates() {
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
        assert_eq!(mask_warnings(body), ["this predicate is always true: it hides no key"], "{body}");
    }
    for body in ["false", "i != i", "j < i && j > j", "!(j <= j)", "3 / 2 == 2", "true == false"] {
        assert_eq!(mask_warnings(body), ["this predicate is always false: it hides every key"], "{body}");
    }
}

#[test]
fn no_warnings_of_what_is_not_constant() {
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
        assert_eq!(mask_warnings(body), [""; 0], "{body}");
    }
}

#[test]
fn warnings_of_parts_of_predicates() {
    let left_out = "this condition is always true: it can be left out";
    assert_eq!(mask_warnings("j <= i && (i == i && 1 < 2)"), [left_out], "the outermost, once");
    assert_eq!(mask_warnings("!(on && j <= j) && true"), [left_out, left_out]);
    assert_eq!(mask_warnings("j <= i || i < i"), ["this condition is always false: it can be left out"]);
    let branch = "if i < i { on } else { j <= i }";
    assert_eq!(mask_warnings(branch), ["this condition is always false: the `else` is always taken"]);
    let index = "doc[if j <= j { i } else { j }] == 0";
    assert_eq!(mask_warnings(index), ["this condition is always true: the `else` is never taken"]);
    assert_eq!(mask_warnings("let near = j != j; near || on"), ["this condition is always false"]);
    assert_eq!(mask_warnings("let near = on && j == j; near"), [left_out]);
}

#[test]
fn warnings_of_masks_of_attentions() {
    let hides_none = "this predicate is always true: it hides no key";
    let found = |score: &str| attention_warnings(&format!("let s = dot(q[i], k[j]); o.push({score}, v[j]);"));
    assert_eq!(found("mask(s, true)"), [hides_none]);
    assert_eq!(
        found("mask(s, j < j) * 2.0"),
        ["this predicate is always false: no key is visible, and the output is zero"]
    );
    assert_eq!(found("mask(s, on && j == j)"), ["this condition is always true: it can be left out"]);
    assert_eq!(found("if on { mask(s, false) } else { mask(s, true) }"), [""; 0], "one of the two is taken");
    assert_eq!(found("if on { mask(s, on && true) } else { s }").len(), 1);
    assert_eq!(found("mask(mask(s, true), j <= i)"), [hides_none]);
    assert_eq!(
        attention_warnings("let s = mask(dot(q[i], k[j]), false); o.push(s, v[j]);"),
        ["this predicate is always false: it hides every key"]
    );
    let two_loops = "o.push(mask(dot(q[i], k[j]), false), v[j]); } for j in k.tiles() { o.push(dot(q[i], k[j]), v[j]);";
    assert_eq!(attention_warnings(two_loops), ["this predicate is always false: this push adds no key"]);
}
