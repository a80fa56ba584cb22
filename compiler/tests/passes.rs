//! Each pass alone: programs as text, before and after.

use purview_compiler::expr::Expr;
use purview_compiler::ir::forward::Operands;
use purview_compiler::ir::parse::{parse, parse_expr};
use purview_compiler::ir::verify::verify;
use purview_compiler::ir::{Element, Program};
use purview_compiler::lower::{dims_of, lower};
use purview_compiler::passes::{
    bound_key_loops, classify_tiles, find_full_tiles, scale_queries, simplify_expressions, use_base_two,
};
use purview_compiler::spec::{
    Accumulator, AccumulatorParam, DotParam, KeyLoop, Location, OperandParam, Order, Push, Role, ScalarParam,
    ScalarType, ScalarValue, Spec, TensorParam, TensorType,
};

const HEADER: &str = "\
attention @f(w: i32, cap: f32, flag: bool, lens: Tensor<i32, 1>, slope: Tensor<f32, 1>) -> f32[B, H, S, 8]
  q: f32[B, H, S, 4]
  k: f32[B, G, T0, 4]  v: f32[B, G, T0, 8]
  for i in tiles(S)
";

/// A program from its lines after the header; loops are written without the dot, the push and the store.
fn program(accumulator: &str, load: &str, loops: &[&str]) -> String {
    let mut text = format!("{HEADER}    o = {accumulator}\n    q = load q[i]{load}\n");
    for lines in loops {
        let mut lines = lines.lines().peekable();
        text += &format!("    for j in tiles(T0){}\n", lines.next().unwrap_or_default());
        while let Some(line) = lines.next_if(|line| line.starts_with("full") || line.starts_with("skip")) {
            text += &format!("        {line}\n");
        }
        text += "      s = dot q, k[j]\n";
        text.extend(lines.map(|line| format!("      s = {line}\n")));
        text += "      o = push s, v[j]\n";
    }
    text + "    store o\n"
}

fn check(pass: fn(&mut Program), before: &str, after: &str) {
    let mut program = parse(before).unwrap();
    assert_eq!(program.to_string(), before);
    pass(&mut program);
    assert_eq!(program.to_string(), after, "of\n{before}");
    assert_eq!(verify(&program), Ok(()));
}

fn check_loop(pass: fn(&mut Program), before: &str, after: &str) {
    check(pass, &program("softmax base 2", "", &[before]), &program("softmax base 2", "", &[after]));
}

#[test]
fn simplify() {
    for (before, after) in [
        ("\nmap s * (2.0 * 0.5)", ""),
        ("\nmap s * 2.0 / 1.0 + -0.0", "\nmap s * 2.0"),
        ("\nmap s + 0.0", "\nmap s + 0.0"),
        ("\nmap s * 0.0", "\nmap s * 0.0"),
        ("\nmap s * (1.0 / 0.0)", "\nmap s * (1.0 / 0.0)"),
        ("\nmap s * exp(200.0)", "\nmap s * exp(200.0)"),
        ("\nmap --s * -1.0", "\nmap -s"),
        ("\nmap if !flag { s } else { cap }", "\nmap if flag { cap } else { s }"),
        ("\nmask s where true && !(j > i) && (w - 0 > 0 || false) on all", "\nmask s where j <= i && w > 0 on all"),
        ("\nmask s where !(cap < 1.0) on all", "\nmask s where !(cap < 1.0) on all"),
        ("\nmask s where j <= i || !(flag && false) on all", ""),
        ("\nmask s where if j < w { true } else { j <= i } on all", "\nmask s where j < w || j <= i on all"),
        ("\nmask s where j + 1 + 2 - 5 < i * 1 + -4 on all", "\nmask s where j - 2 < i - 4 on all"),
        ("\nmask s where 2147483647 + 1 > j on all", "\nmask s where 2147483647 + 1 > j on all"),
        ("\nmask s where i / 0 == j on all", "\nmask s where i / 0 == j on all"),
        ("\nmask s where (0 - 7) / 2 == j on all", "\nmask s where -4 == j on all"),
    ] {
        check_loop(simplify_expressions, before, after);
    }
}

#[test]
fn bounds() {
    for (mask, bounds) in [
        ("j <= i", " to i1 + 1"),
        ("i - j < w && j <= i", " from i0 - w + 1 to i1 + 1 if w >= 1"),
        ("j < 4 || i - j < 8 && j <= i", " to 4, from i0 - 7 to i1 + 1"),
        ("abs(i - j) >= w", " to i1 - w + 1, from i0 + w"),
        ("j <= i && i < w", " to min(i1 + 1, w) if i0 <= w - 1"),
        ("lens[i] < j", " from least(lens[i0 through i1]) + 1"),
        ("lens[j] < i", ""),
        ("false && j <= i", " nowhere"),
        ("j * w < i", ""),
    ] {
        let mask = format!("\nmask s where {mask} on all");
        check_loop(bound_key_loops, &mask, &format!("{bounds}{mask}"));
    }
}

#[test]
fn full_tiles() {
    check_loop(find_full_tiles, "\nmap s * 2.0", "\nfull all\nmap s * 2.0");
    for (mask, full) in [
        ("j <= i", "to i0 + 1"),
        ("i - j < w && j <= i", "from i1 - w + 1 to i0 + 1"),
        ("j <= i && flag", "to i0 + 1 if flag"),
        ("j <= i && j != 3", "to min(i0 + 1, 3), from 4 to i0 + 1"),
        ("j <= i || lens[j] < i", "to i0 + 1"),
    ] {
        let before = format!("\nmask s where {mask} on all");
        check_loop(find_full_tiles, &before, &format!("\nfull {full}\nmask s where {mask} on partial"));
    }
    for mask in ["false", "j <= i && lens[j] < i"] {
        let before = format!("\nmask s where {mask} on all");
        check_loop(find_full_tiles, &before, &before);
    }
}

#[test]
fn kinds_of_tiles() {
    for (mask, kind) in [
        ("j <= i && lens[j] < i", {
            ("least(lens[j0 through j1]) <= i1 - 1", "j1 <= i0 && greatest(lens[j0 through j1]) <= i0 - 1")
        }),
        ("j * w < i", ("min(j0 * w, j1 * w) <= i1 - 1", "max(j0 * w, j1 * w) <= i0 - 1")),
        // What other conditions say narrows what is read.
        ("j >= 5 && i - j < w && (i - j) % 4 == 1", {
            (
                "(min(i1 - max(j0, 5), w - 1) - 1) / 4 > (i0 - j1 - 2) / 4",
                "j0 >= 5 && i1 <= j0 + w - 1 && (i1 - j0 - 1) / 4 - (i0 - j1 - 2) / 4 == i1 - i0 - j0 + j1 + 1",
            )
        }),
    ] {
        let (some, all) = kind;
        let before = format!("\nmask s where {mask} on all");
        let after = format!("\nskip unless {some}\nfull where {all}\nmask s where {mask} on partial");
        check_loop(classify_tiles, &before, &after);
    }
    check_loop(classify_tiles, "\nmask s where j <= i on all", "\nmask s where j <= i on all");
    check_loop(classify_tiles, "\nmask s where exp(cap * i as f32) < cap on all", {
        "\nmask s where exp(cap * i as f32) < cap on all"
    });
}

#[test]
fn base_two() {
    for (before, after) in [
        ("", "\nmap s * 1.442695"),
        ("\nmap s * scale()", "\nmap s * (scale() * 1.442695)"),
        ("\nmap scale() * s * 2.0", "\nmap s * (scale() * 2.88539)"),
        ("\nmap s / cap", "\nmap s * (1.442695 / cap)"),
        ("\nmap tanh(s * scale() / cap) * cap", "\nmap tanh(s * scale() / cap) * (cap * 1.442695)"),
        (
            "\nmap s * scale() + slope[head()] * (j - i) as f32",
            "\nmap (s * scale() + slope[head()] * (j - i) as f32) * 1.442695",
        ),
        ("\nmap s * i as f32", "\nmap s * i as f32 * 1.442695"),
    ] {
        check(use_base_two, &program("softmax base e", "", &[before]), &program("softmax base 2", "", &[after]));
    }
    check(
        use_base_two,
        &program("softmax base e sink slope[head()]", "", &["\nmap s\nmap s * 3.0"]),
        &program("softmax base 2 sink slope[head()] * 1.442695", "", &["\nmap s\nmap s * 4.328085"]),
    );
    check_loop(use_base_two, "\nmap s * 2.0", "\nmap s * 2.0");
    check(use_base_two, &program("sum", "", &["\nmap s * 2.0"]), &program("sum", "", &["\nmap s * 2.0"]));
}

#[test]
fn scaled_queries() {
    let same = |loops: &[&str]| {
        let text = program("sum", "", loops);
        check(scale_queries, &text, &text);
    };
    let moved = |before: &[&str], scale: &str, after: &[&str]| {
        let load = format!(" * ({scale})");
        check(scale_queries, &program("sum", "", before), &program("sum", &load, after));
    };
    moved(&["\nmap s * scale()"], "scale()", &[""]);
    moved(&["\nmap s / cap * slope[head()]"], "slope[head()] / cap", &[""]);
    moved(&["\nmap s * scale() * i as f32\nmap tanh(s)"], "scale()", &["\nmap s * i as f32\nmap tanh(s)"]);
    moved(
        &["\nmap s * scale()\nmask s where j <= i on all", "\nmap scale() * s"],
        "scale()",
        &["\nmask s where j <= i on all", ""],
    );
    same(&[""]);
    same(&["\nmap s * scale()", ""]);
    same(&["\nmap s * scale()", "\nmap s * (scale() * 2.0)"]);
    same(&["\nmap s * s * scale()"]);
    same(&["\nmap scale() / s"]);
    same(&["\nmap tanh(s * scale()) * cap"]);
    same(&["\nmap tanh(s) * s * cap"]);
}

fn spec(push: Expr, sink: Option<Expr>) -> Spec {
    let scalar = |name: &str, ty, comptime| ScalarParam { name: name.into(), ty, comptime };
    Spec {
        name: "f".into(),
        doc: String::new(),
        source: Location { file: "f.rs".into(), line: 1, column: 1 },
        operands: vec![
            OperandParam { name: "q".into(), role: Role::Query },
            OperandParam { name: "k".into(), role: Role::Key(0) },
            OperandParam { name: "v".into(), role: Role::Value(0) },
        ],
        scalars: vec![scalar("n", ScalarType::U32, true), scalar("w", ScalarType::I32, false)],
        tensors: vec![TensorParam { name: "t".into(), ty: TensorType::F32, rank: 1, order: Order::Any }],
        accumulators: vec![AccumulatorParam { name: "o".into(), kind: Accumulator::Softmax { sink } }],
        loops: vec![KeyLoop { set: 0, dots: vec![DotParam { query: 0, key: 1 }], pushes: vec![Push::new(0, push, 2)] }],
        outputs: vec![Expr::Value(0)],
        origins: Vec::new(),
    }
}

fn lowered(push: &str, sink: Option<&str>) -> Result<String, String> {
    let empty = spec(Expr::SCORE, None);
    let read = |text| parse_expr(text, empty.parameters()).unwrap();
    let operands = Operands { element: Element::F32, qk_dim: 4, v_dim: 8 };
    let scalars = [ScalarValue::U32(3), ScalarValue::I32(0)];
    let program = lower(&spec(read(push), sink.map(read)), &scalars, &dims_of(&empty, operands))
        .map_err(|error| error.to_string())?;
    let text = program.to_string();
    let lines = text.lines().filter_map(|line| line.strip_prefix("      s = ")).filter(|line| !line.starts_with("dot"));
    Ok(lines.collect::<Vec<_>>().join("; "))
}

#[test]
fn lowering() {
    for (push, body) in [
        ("s", ""),
        ("mask(s, j <= i)", "mask s where j <= i on all"),
        ("mask(s * scale(), i - j < w + n)", "map s * scale(); mask s where i - j < w + 3 on all"),
        ("mask(mask(s, j <= i), w > 0) * 2.0", "map s * 2.0; mask s where j <= i && w > 0 on all"),
        ("max(mask(s, j <= i), mask(2.0, j <= i))", "map max(s, 2.0); mask s where j <= i on all"),
        (
            "if j < w { mask(s, j <= i) } else { s * 2.0 }",
            "map if j < w { s } else { s * 2.0 }; mask s where if j < w { j <= i } else { true } on all",
        ),
        ("mask(s, s > 0.0 && j <= i)", "map if s > 0.0 { s } else { -inf }; mask s where j <= i on all"),
    ] {
        assert_eq!(lowered(push, None), Ok(body.to_string()), "{push}");
    }
}

#[test]
fn what_is_not_lowered() {
    for (push, sink, message) in [
        ("s + j", None, "f.rs:1:1: operands of types float and integer in `s + j`"),
        ("j", None, "f.rs:1:1: a push is of type integer, expected float"),
        ("s", Some("t[j]"), "f.rs:1:1: a sink is one logit for each query, but `t[j]` depends on the key's position"),
        ("s", Some("s"), "f.rs:1:1: a sink is one logit for each query, but `s` depends on the score"),
        ("s", Some("n"), "f.rs:1:1: the sink is of type integer, expected float"),
        (
            "i0 as f32",
            None,
            "f.rs:1:1: `i0`, `i1`, `j0`, `j1`, `least`, `greatest` and `count` have no meaning in a specification",
        ),
    ] {
        assert_eq!(lowered(push, sink), Err(message.to_string()), "{push}");
    }
    let large =
        (0..12).fold(Expr::SCORE, |sum, _| Expr::binary(purview_compiler::expr::BinaryOp::Add, sum.clone(), sum));
    let operands = Operands { element: Element::F32, qk_dim: 4, v_dim: 8 };
    let scalars = [ScalarValue::U32(3), ScalarValue::I32(0)];
    assert_eq!(
        lower(&spec(large, None), &scalars, &dims_of(&spec(Expr::SCORE, None), operands)).unwrap_err().to_string(),
        "f.rs:1:1: a push has 8191 operations after its `let`s are expanded, expected at most 4096"
    );
    let spec = spec(Expr::SCORE, None);
    let refused =
        |scalars: &[ScalarValue], operands| lower(&spec, scalars, &dims_of(&spec, operands)).unwrap_err().to_string();
    assert_eq!(refused(&scalars[1..], operands), "`f` takes 2 scalars, 1 were given");
    assert_eq!(
        refused(&[ScalarValue::U32(u32::MAX), scalars[1]], operands),
        "the scalar `n` is U32(4294967295), expected at most 2147483647, since integers are signed"
    );
    assert_eq!(
        refused(&scalars, Operands { v_dim: 0, ..operands }),
        "`f`: the head dim of `v` is 0, expected 1 to 576"
    );
}
