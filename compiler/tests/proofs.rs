//! What is proved before a launch: facts that are found however they are written, and the ranges of floats that are cast to
//! integers.

use proptest::prelude::*;
use purview_compiler::analysis::ranges::check_launch;
use purview_compiler::eval::HostTensor;
use purview_compiler::expr::Expr;
use purview_compiler::interpret::{Inputs, interpret};
use purview_compiler::ir::forward::Operands;
use purview_compiler::ir::parse::parse_expr;
use purview_compiler::ir::{Element, Kept};
use purview_compiler::launch::{Keys, Launch, TensorFacts};
use purview_compiler::lower::dims_of;
use purview_compiler::passes::{compile, schedule};
use purview_compiler::schedule::{CpuSchedule, Schedule};
use purview_compiler::scheduled::{Compiled, Scheduled};
use purview_compiler::spec::{
    Accumulator, AccumulatorParam, DotParam, KeyLoop, Location, OperandParam, Order, Push, Role, ScalarParam,
    ScalarType, ScalarValue, Spec, TensorParam, TensorType,
};

/// Scalars: `w`, `start`, which is comptime and 0, and `f`, which is 2.75.
fn scalars(w: i32) -> [ScalarValue; 3] {
    [ScalarValue::I32(w), ScalarValue::I32(0), ScalarValue::F32(2.75)]
}

/// An attention of one push over those, `pos: Tensor<i32, 1>`, `rows: Tensor<i32, 2>`, `lens: Tensor<i32, 1>`,
/// `x: Tensor<f32, 1>` and `table: Tensor<f32, 1>`.
fn attention(push: &str) -> (Spec, Scheduled) {
    let tensor = |name: &str, ty, rank| TensorParam { name: name.into(), ty, rank, order: Order::Any };
    let scalar = |name: &str, ty, comptime| ScalarParam { name: name.into(), ty, comptime };
    let mut spec = Spec {
        name: "attention".into(),
        doc: String::new(),
        source: Location { file: "a.rs".into(), line: 1, column: 1 },
        operands: vec![
            OperandParam { name: "q".into(), role: Role::Query },
            OperandParam { name: "k".into(), role: Role::Key(0) },
            OperandParam { name: "v".into(), role: Role::Value(0) },
        ],
        scalars: vec![
            scalar("w", ScalarType::I32, false),
            scalar("start", ScalarType::I32, true),
            scalar("f", ScalarType::F32, false),
        ],
        tensors: vec![
            tensor("pos", TensorType::I32, 1),
            tensor("rows", TensorType::I32, 2),
            tensor("lens", TensorType::I32, 1),
            tensor("x", TensorType::F32, 1),
            tensor("table", TensorType::F32, 1),
        ],
        accumulators: vec![AccumulatorParam { name: "o".into(), kind: Accumulator::Softmax { sink: None } }],
        loops: Vec::new(),
        outputs: vec![Expr::Value(0)],
        origins: Vec::new(),
    };
    let push = parse_expr(push, spec.parameters()).unwrap_or_else(|error| panic!("{push}: {error}"));
    spec.loops.push(KeyLoop { set: 0, dots: vec![DotParam { query: 0, key: 1 }], pushes: vec![Push::new(0, push, 2)] });
    let operands = Operands { element: Element::F32, qk_dim: 8, v_dim: 8 };
    let by = Schedule::Cpu(CpuSchedule::new(16, 2, 32, 4));
    let program =
        schedule(Compiled::new(compile(&spec, &scalars(0), &dims_of(&spec, operands), Kept::default()).unwrap()), by)
            .unwrap();
    (spec, program)
}

/// 2 batches and heads, `queries` queries and 40 keys from 0 on. `pos` and `rows` have the elements from −2³¹ to 39, `lens` from 1
/// to 30; `table` has 16.
fn check_of(push: &str, w: i32, batch: usize, queries: usize) -> Result<(), String> {
    let (spec, program) = attention(push);
    let wide = Some((i32::MIN.into(), 39));
    let tensors =
        [(vec![40], wide), (vec![batch, 40], wide), (vec![2], Some((1, 30))), (vec![40], None), (vec![16], None)];
    let launch = Launch {
        batch,
        heads: 2,
        kv_heads: 2,
        queries,
        query_offset: 40 - queries as i64,
        keys: &[Keys { length: 40, offset: 0 }],
        scalars: &scalars(w),
        tensors: &tensors.map(|(shape, values)| TensorFacts { shape, values }),
    };
    check_launch(&spec, &program, &launch).map_err(|error| error.to_string())
}

fn check(push: &str) -> Result<(), String> {
    check_of(push, 10, 2, 40)
}

#[test]
fn facts_are_found_however_they_are_written() {
    for push in [
        "mask(s, pos[j - start] >= 0 && i - pos[j - start] < w)",
        "mask(s, pos[j - start] >= 0 && i - pos[j] < w)",
        "mask(s, pos[j] >= 0 && i - pos[j - start] < w)",
        "mask(s, pos[start + j] >= 0 && i - pos[j + start] < w)",
        "mask(s, pos[j - 0] >= 0 && i - pos[j] < w)",
        "mask(s, pos[j + w - w] >= 0 && -pos[j] + i < w)",
        "mask(s, !(pos[j * 1] < 0) && i - pos[j - start] < w)",
        "mask(s, 0 <= pos[j] && i - pos[j - start * w] < w)",
        "mask(s, pos[j] / 2 >= 0 && i - pos[start + j] < w)",
        "mask(s, max(pos[j], 0) == pos[j - start] && i - pos[j] < w)",
        "mask(s, if pos[j] < 0 { false } else { i - pos[start + j] < w })",
        "mask(s, rows[batch()][j - start] >= 0 && i - rows[batch()][j] < w)",
        "mask(s, rows[batch() + start][max(0, j)] >= 0 && i - rows[batch()][max(j, start)] < w)",
        "mask(s, pos[lens[batch()]] >= 0 && i - pos[lens[batch() - start]] < w)",
        "mask(s, rows[head()][j] >= 0 && i - rows[kv_head()][j] < w)",
        "mask(s, pos[(j + 8) / 8] >= 0 && i - pos[j / 8 + 1] < w)",
        "mask(s, pos[if j < i { j } else { i }] >= 0 && i - pos[if i > j { j } else { i }] < w)",
        "if pos[j - start] >= 0 { s * (i - pos[j]) as f32 } else { s }",
        "if pos[j] >= 0 { if i < w { s } else { mask(s, i - pos[j - start] < w) } } else { mask(s, false) }",
        "mask(s, (pos[j] >= 0 && i < 3 || pos[j - start] > 4 && i >= 3) && i - pos[j] < w)",
        "mask(s, (pos[j] >= 0 || j < start) && i - pos[j - start] < w)",
        "mask(s + table[i - j + head()], j <= i && i - j < 15)",
        "mask(s + table[pos[j] - i - start], pos[j] >= i && pos[j - start] < i + 16)",
        "mask(s + table[i - j], 2 * i - 2 * j < 32 && j <= i)",
        "mask(s + table[3 * i - 3 * j], i - j <= 5 && j <= i)",
        "mask(s + table[pos[j]], pos[j] >= 0 && pos[j - start] <= i && i - j <= 8 && j <= 7)",
        "mask(s + table[pos[j] - pos[i]], pos[i] >= 0 && pos[j] >= pos[i] && pos[j - start] - pos[i] < 16)",
        "if abs(i - j) < w { s + table[abs(j - i)] } else { s }",
    ] {
        assert_eq!(check(push), Ok(()), "{push}");
    }
    // One batch, and one query: both are numbers.
    assert_eq!(check_of("mask(s, rows[batch()][j] >= 0 && i - rows[0][j] < w)", 10, 1, 40), Ok(()));
    assert_eq!(check_of("mask(s, pos[i] >= 0 && i - pos[39] < w)", 10, 2, 1), Ok(()));
}

#[test]
fn facts_of_something_else_are_none() {
    for (push, text) in [
        ("mask(s, pos[j] >= 0 && i - pos[max(j - w, 0)] < w)", "i - pos[max(j - w, 0)]"),
        ("mask(s, pos[j - start] >= 0 || i - pos[j - start] < w)", "i - pos[j - start]"),
        ("mask(s, rows[0][j] >= 0 && i - rows[batch()][j] < w)", "i - rows[batch()][j]"),
        ("if pos[j] >= 0 { s } else { s * (i - pos[j]) as f32 }", "i - pos[j]"),
    ] {
        let error = check(push).unwrap_err();
        assert!(error.starts_with(&format!("a.rs:1:1: `{text}` ranges over ")), "{push}: {error}");
    }
}

/// T5's buckets.
const T5: &str = "s + table[if max(i - j, 0) < 8 { max(i - j, 0) } else { \
     min(8 + (log(max(i - j, 0) as f32 / 8.0) / log(128.0 / 8.0) * 8.0) as i32, 15) }]";

#[test]
fn floats_have_ranges() {
    for push in [
        T5,
        "s + table[clamp(8 + (log((i + 1) as f32) * 8.0) as i32, 8, 15)]"
            .replace("clamp(", "min(max(")
            .replace(", 8, 15", ", 8), 15")
            .as_str(),
        "s + table[(tanh(x[j]) * 7.0 + 8.0) as i32]",
        "s + table[(sigmoid(x[j]) * 15.0) as i32]",
        "s + table[min(max(x[j], 0.0), 15.0) as i32]",
        "s + table[min(abs(x[j]), 15.0) as i32]",
        "s + table[relu(min(x[j], 15.0)) as i32]",
        "s + table[(sin(x[j]) * 7.0 + 8.0) as i32]",
        "s + table[(cos(i as f32) + 1.5) as i32]",
        "s + table[sqrt((i * 5) as f32) as i32]",
        "s + table[log2((i + 1) as f32) as i32]",
        "s + table[(exp(-(j as f32) * 0.1) * 15.5) as i32]",
        "s + table[exp2(min(i as f32, 3.5)) as i32]",
        "s + table[(pow(i as f32 / 39.0, 0.5) * 15.5) as i32]",
        "s + table[(i as f32 / f) as i32]",
        "s + table[(i as f32 * 0.25 + j as f32 * 0.125) as i32]",
        "s + table[(lens[batch()] as f32 * 0.5) as i32]",
        "s + table[(i < j) as i32 + ((i < j) as f32 * 14.0) as i32]",
        "s + table[(if i < j { 15.5 } else { 0.0 }) as i32]",
        "s + table[min(max(s * scale() * x[j], 0.0), 15.0) as i32]",
        "if x[j] >= 0.0 && x[j] < 16.0 { s + table[x[j - start] as i32] } else { s }",
        "if !(x[j] < 16.0) || x[j] < 0.0 { s } else { s + table[x[j] as i32] }",
        "if x[j] * f > 1.0 && x[j] * f < 15.5 { s + table[(f * x[j]) as i32] } else { s }",
        "mask(s + table[x[j] as i32 + 3], x[j] as i32 >= -3 && x[j + start] as i32 <= 12)",
        "mask(s + table[j], (j as f32) < 16.0)",
        "mask(s + table[i - j], (i - j) as f32 * 2.0 < 30.0 && j <= i)",
        "if f > 5.0 { s + table[99] } else { s }",
        "s + table[floor(i as f32 / 2.7) as i32]",
        "s + table[ceil(i as f32 * 0.375) as i32]",
        "s + table[round(i as f32 * 0.38) as i32]",
        "s + table[round(-(i as f32 * 0.38)) as i32 + 15]",
        "if floor(x[j]) >= 0.0 && floor(x[j]) < 16.0 { s + table[floor(x[j]) as i32] } else { s }",
    ] {
        assert_eq!(check(push), Ok(()), "{push}");
    }
    // A logarithm that is computed once more may be another whole number.
    let push = "floor(log(x[j])) >= 0.0 && floor(log(x[j])) < 16.0";
    let error = check(&format!("if {push} {{ s + table[floor(log(x[j])) as i32] }} else {{ s }}")).unwrap_err();
    assert!(error.starts_with("a.rs:1:1: index `floor(log(x[j])) as i32` of `table` ranges over "), "{error}");
}

#[test]
fn lengths_logarithms_and_quotients_have_ranges() {
    for push in [
        "s + table[ilog2(abs(i - j)) + 1]",
        "mask(s + table[3 * ilog2(i - j)], j < i)",
        "if ilog2(i - j) < 4 && j <= i { s + table[ilog2(i - j) + 1] } else { s }",
        "s + table[(kv_len() - 1 - j) * 15 / kv_len()]",
        "s + table[q_len() - 25] * table[head_dim() + 7]",
        "mask(s + table[i - j], j <= i && i - j < kv_len() - q_len() + 16)",
        "mask(s + table[i - j + 7], i / 8 == j / 8)",
        "mask(s + table[i / 3 - j / 3 + 3], (i / 3 - 1) / 4 == (j / 3 - 1) / 4)",
        "mask(s + table[i - j + 7], abs(i / 4 - j / 4) <= 1)",
        "s + table[if abs(j - i) < 8 { abs(j - i) } else { \
         min(8 + (log(abs(j - i) as f32 / 8.0) / log(128.0 / 8.0) * 8.0) as i32, 15) }]",
    ] {
        assert_eq!(check(push), Ok(()), "{push}");
    }
    for (push, text) in [
        ("s + table[ilog2(i - j)]", "ilog2(i - j)` of `table` ranges over -1..=5"),
        ("mask(s + table[i - j + 6], i / 8 == j / 8)", "i - j + 6` of `table` ranges over -1..=13"),
        ("mask(s + table[j - i + 7], j / 8 <= i / 8)", "j - i + 7` of `table` ranges over -32..=14"),
        ("s + table[q_len() - 24]", "q_len() - 24` of `table` ranges over 16..=16"),
    ] {
        let error = check(push).unwrap_err();
        assert!(error.starts_with(&format!("a.rs:1:1: index `{text}")), "{push}: {error}");
    }
}

#[test]
fn floats_without_ranges_are_refused_where_they_are_added() {
    let low = i64::from(i32::MIN);
    let high = i64::from(i32::MAX);
    for (push, message) in [
        (
            "s + table[min(max(x[j] as i32 + 3, 0), 6)]",
            format!(
                "`x[j] as i32 + 3` ranges over {}..={}, which leaves 32 bits\nhelp: clamp before you add: write \
                     `clamp(x[j], -1000000.0, 1000000.0) as i32`",
                low + 3,
                high + 3
            ),
        ),
        (
            "s + table[min(8 + (log(x[j]) * 8.0) as i32, 15)]",
            format!(
                "`8 + (log(x[j]) * 8.0) as i32` ranges over {}..={}, which leaves 32 bits\nhelp: clamp before you add: \
                     write `clamp(log(x[j]) * 8.0, -1000000.0, 1000000.0) as i32`",
                low + 8,
                high + 8
            ),
        ),
        (
            "s * (i - pos[j]) as f32",
            format!(
                "`i - pos[j]` ranges over -39..={}, which leaves 32 bits\nhelp: clamp before you subtract: write \
                     `clamp(pos[j], -1000000, 1000000)`",
                39 - low
            ),
        ),
        (
            "s * (x[j] as i32 * (s as i32)) as f32",
            format!(
                "`x[j] as i32 * s as i32` ranges over {}..={}, which leaves 32 bits\nhelp: clamp before you multiply: write \
                     `clamp(x[j], -1000.0, 1000.0) as i32` and `clamp(s, -1000.0, 1000.0) as i32`",
                low * high,
                low * low
            ),
        ),
        (
            "s + table[(x[j] * 2.0) as i32]",
            format!(
                "index `(x[j] * 2.0) as i32` of `table` ranges over {low}..={high}, its dimension 0 has length 16\n\
                     help: clamp it: write `clamp((x[j] * 2.0) as i32, 0, 15)`"
            ),
        ),
        // A logarithm of what may be zero is −∞.
        (
            "s + table[log2(i as f32) as i32]",
            format!(
                "index `log2(i as f32) as i32` of `table` ranges over {low}..=5, its dimension 0 has length 16\n\
                     help: clamp it: write `clamp(log2(i as f32) as i32, 0, 15)`"
            ),
        ),
        ("s * (i * w * 1000000) as f32", "`i * w * 1000000` ranges over 0..=390000000, which leaves 32 bits".into()),
    ] {
        if push.contains("w *") {
            assert_eq!(check(push), Ok(()), "{push}");
        } else {
            assert_eq!(check(push), Err(format!("a.rs:1:1: {message}")), "{push}");
        }
    }
}

#[test]
fn a_quotient_that_has_no_32_bits_is_refused_where_nothing_matters() {
    let push = "mask(s, pos[j] >= 0 && pos[j] / w > 2)";
    assert_eq!(check(push), Ok(()));
    let message = "a.rs:1:1: `pos[j] / w` ranges over -39..=2147483648, which leaves 32 bits";
    assert_eq!(check_of(push, -1, 2, 40), Err(message.into()));
    // It wraps around to 0 where the guard does not hold.
    let push = "if pos[j] > 0 && pos[j] < 9 { s * (i / (pos[j] * 4)) as f32 } else { s }";
    assert!(check(push).unwrap_err().contains("the divisor of `i / (pos[j] * 4)`"));
}

fn float() -> impl Strategy<Value = String> {
    let leaves = vec!["x[j]", "x[abs(i) % 8]", "i as f32", "(i - j) as f32", "f", "lens[batch()] as f32"];
    let leaf = prop_oneof![
        prop::sample::select(leaves).prop_map(String::from),
        (-6..9i32).prop_map(|value| format!("({:?})", value as f32 / 2.0)),
    ];
    leaf.prop_recursive(3, 12, 2, |part| {
        let names = vec!["exp", "exp2", "log", "log2", "sqrt", "tanh", "sigmoid", "relu", "sin", "cos", "abs", "-"];
        prop_oneof![
            (part.clone(), prop::sample::select(vec!["+", "-", "*", "/"]), part.clone())
                .prop_map(|(a, op, b)| format!("({a} {op} {b})")),
            (prop::sample::select(vec!["min", "max", "pow"]), part.clone(), part.clone())
                .prop_map(|(name, a, b)| format!("{name}({a}, {b})")),
            (prop::sample::select(names), part.clone()).prop_map(|(name, a)| format!("{name}({a})")),
            (part.clone(), part.clone()).prop_map(|(a, b)| format!("(if {a} < {b} {{ {a} }} else {{ {b} }})")),
            part.prop_map(|a| format!("min(max({a}, 0.0), 7.0)")),
        ]
    })
}

fn condition() -> impl Strategy<Value = String> {
    let signs = prop::sample::select(vec!["<", "<=", ">", ">=", "==", "!="]);
    let floats = (float(), signs.clone(), float()).prop_map(|(a, sign, b)| format!("{a} {sign} {b}"));
    let casts = (float(), signs, -3..9i32).prop_map(|(a, sign, b)| format!("({a} as i32) {sign} {b}"));
    let common = prop::sample::select(vec!["x[j] >= 0.0", "x[j] < f", "j <= i", "!(x[j] < 0.0)", "pos[j] >= start"]);
    let one = prop_oneof![floats, casts, common.prop_map(String::from)];
    let words = prop::sample::select(vec!["&&", "&&", "||"]);
    prop_oneof![one.clone(), (one.clone(), words, one).prop_map(|(a, word, b)| format!("({a} {word} {b})"))]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    /// An accepted launch has no error for any pair, whatever the captured numbers are.
    #[test]
    fn accepted_floats_have_values(
        float in float(),
        visible in condition(),
        shape in 0..5usize,
        shift in -3..4i32,
        length in 1..16usize,
        offset in -3..6i64,
        unusual in prop::collection::vec(
            prop::sample::select(vec![0.0, -0.5, 1.0, 3.25, 15.75, 1e10, -1e10, f64::NAN, f64::INFINITY, f64::NEG_INFINITY]), 8),
    ) {
        let index = format!("({float} as i32) + {shift}");
        let push = match shape {
            0 => format!("s + table[{index}]"),
            1 => format!("mask(s + table[{index}], {visible})"),
            2 => format!("s + (if {visible} {{ table[{index}] }} else {{ 0.0 }})"),
            3 => format!("s + table[min(max({index}, 0), {length} - 1)]"),
            _ => format!("mask(s, {visible} && table[{index}] > 0.0)"),
        };
        let (spec, program) = attention(&push);
        let facts = [
            (vec![8], Some((-1, 6))), (vec![2, 8], Some((0, 0))), (vec![2], Some((2, 5))), (vec![8], None), (vec![length], None),
        ];
        let launch = Launch {
            batch: 2,
            heads: 2,
            kv_heads: 1,
            queries: 5,
            query_offset: offset,
            keys: &[Keys { length: 6, offset: 0 }],
            scalars: &scalars(3),
            tensors: &facts.map(|(shape, values)| TensorFacts { shape, values }),
        };
        if check_launch(&spec, &program, &launch).is_ok() {
            let zeros = |shape: &[usize]| HostTensor { shape: shape.to_vec(), data: vec![0.0; shape.iter().product()] };
            let of = |data: Vec<f64>| HostTensor { shape: vec![data.len()], data };
            let inputs = Inputs {
                operands: &[zeros(&[2, 2, 5, 1]), zeros(&[2, 1, 6, 1]), zeros(&[2, 1, 6, 1])],
                scalars: &scalars(3),
                tensors: &[
                    of(vec![-1.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), zeros(&[2, 8]), of(vec![2.0, 5.0]), of(unusual),
                    zeros(&[length]),
                ],
                scale: 1.0,
                query_offset: offset,
                key_offsets: &[0],
            };
            prop_assert_eq!(interpret(&spec, &inputs).err(), None, "{}", push);
        }
    }
}
