//! The attributes of parameters, right and wrong.

use purview_language::{Kind, check};

/// What is said of a function.
fn errors(kind: Kind, function: &str) -> Vec<String> {
    let checked = check(kind, Default::default(), function.parse().expect("tokens"));
    checked.err().map_or(Vec::new(), |rejected| rejected.errors.iter().map(ToString::to_string).collect())
}

/// What is said of an attention with these captured parameters.
fn with_parameters(parameters: &str) -> Vec<String> {
    let body = "for i in q.tiles() { let mut o = Sum::new(); for j in k.tiles() { o.push(dot(q[i], k[j]), v[j]); } o }";
    errors(Kind::Attention, &format!("fn f(q: Query, k: Key, v: Value, {parameters}) -> Output {{ {body} }}"))
}

/// The messages on an attention with these captured parameters, without their help.
fn parameter_errors(parameters: &str) -> Vec<String> {
    with_parameters(parameters)
        .iter()
        .map(|error| error.split_once("\nhelp: ").expect("a help").0.to_string())
        .collect()
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
        errors(Kind::Mask, mask),
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
    let unknown = with_parameters("#[sortd] a: Tensor<i32, 2>, #[ascending] b: Tensor<i32, 2>");
    assert_eq!(
        unknown,
        [
            "unknown attribute of a parameter: `sortd`\nhelp: write `#[sorted]`",
            "unknown attribute of a parameter: `ascending`\n\
             help: a parameter has `#[comptime]`, if it is a scalar, or `#[sorted]`, if it is a `Tensor<i32, R>`"
        ]
    );
}
