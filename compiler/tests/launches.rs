//! Launches that are accepted, refused and reported on.

use proptest::prelude::*;
use purview_compiler::analysis::range_error::RangeError;
use purview_compiler::analysis::ranges::{check_launch, check_tiles};
use purview_compiler::eval::HostTensor;
use purview_compiler::expr::Expr;
use purview_compiler::interpret::{Inputs, interpret};
use purview_compiler::ir::forward::Operands;
use purview_compiler::ir::parse::parse_expr;
use purview_compiler::ir::{Element, Kept};
use purview_compiler::launch::{Keys, Launch, TensorFacts};
use purview_compiler::lower::dims_of;
use purview_compiler::passes::{compile, schedule};
use purview_compiler::report::{ReportError, report};
use purview_compiler::schedule::{CpuSchedule, Schedule};
use purview_compiler::scheduled::{Compiled, Scheduled};
use purview_compiler::spec::{
    Accumulator, AccumulatorParam, DotParam, KeyLoop, Location, OperandParam, Order, Origin, Push, Role, ScalarParam,
    ScalarType, ScalarValue, Spec, TensorParam, TensorType,
};

/// An attention of one push over a scalar `w: i32`, `bias: Tensor<f32, 2>`, `table: Tensor<f32, 1>` and
/// `lens: Tensor<i32, 1>`.
fn attention(push: &str) -> (Spec, Scheduled) {
    let tensor = |name: &str, ty, rank| TensorParam { name: name.into(), ty, rank, order: Order::Any };
    let mut spec = Spec {
        name: "attention".into(),
        doc: String::new(),
        source: Location { file: "a.rs".into(), line: 1, column: 1 },
        operands: vec![
            OperandParam { name: "q".into(), role: Role::Query },
            OperandParam { name: "k".into(), role: Role::Key(0) },
            OperandParam { name: "v".into(), role: Role::Value(0) },
        ],
        scalars: vec![ScalarParam { name: "w".into(), ty: ScalarType::I32, comptime: false }],
        tensors: vec![
            tensor("bias", TensorType::F32, 2),
            tensor("table", TensorType::F32, 1),
            tensor("lens", TensorType::I32, 1),
        ],
        accumulators: vec![AccumulatorParam { name: "o".into(), kind: Accumulator::Softmax { sink: None } }],
        loops: Vec::new(),
        outputs: vec![Expr::Value(0)],
        origins: Vec::new(),
    };
    let push = parse_expr(push, spec.parameters()).unwrap();
    let difference = parse_expr("i - j", spec.parameters()).unwrap();
    spec.origins.push(Origin { expr: difference, location: Location { file: "a.rs".into(), line: 7, column: 20 } });
    spec.loops.push(KeyLoop { set: 0, dots: vec![DotParam { query: 0, key: 1 }], pushes: vec![Push::new(0, push, 2)] });
    let operands = Operands { element: Element::F32, qk_dim: 8, v_dim: 8 };
    let by = Schedule::Cpu(CpuSchedule::new(16, 2, 32, 4));
    let program = schedule(
        Compiled::new(compile(&spec, &[ScalarValue::I32(0)], &dims_of(&spec, operands), Kept::default()).unwrap()),
        by,
    )
    .unwrap();
    (spec, program)
}

/// 2 batches, 4 heads, 193 queries at positions 0.. and as many keys; the bias is [4, 193], the table has 193 elements, and
/// there is a length of 1 to 193 for each batch.
fn check(push: &str, w: i32) -> Result<(), String> {
    check_with(check_launch, push, w)
}

fn check_with(
    check: fn(&Spec, &Scheduled, &Launch) -> Result<(), RangeError>,
    push: &str,
    w: i32,
) -> Result<(), String> {
    let (spec, program) = attention(push);
    let scalars = [ScalarValue::I32(w)];
    let tensors = [
        TensorFacts { shape: vec![4, 193], values: None },
        TensorFacts { shape: vec![193], values: None },
        TensorFacts { shape: vec![2], values: Some((1, 193)) },
    ];
    let launch = Launch {
        batch: 2,
        heads: 4,
        kv_heads: 2,
        queries: 193,
        query_offset: 0,
        keys: &[Keys { length: 193, offset: 0 }],
        scalars: &scalars,
        tensors: &tensors,
    };
    check(&spec, &program, &launch).map_err(|error| error.to_string())
}

#[test]
fn an_index_inside_its_tensor_is_accepted() {
    for push in [
        "s + bias[head()][j]",
        "mask(s + bias[head()][i - j], j <= i)",
        "bias[head()][i - j] + mask(s, i >= j)",
        "s + bias[head()][if i > j { i - j } else { 0 }]",
        "s + bias[head()][max(i - j, 0)]",
        "s + bias[kv_head() * 2 + 1][abs(i - j)]",
        "mask(s + table[i - j + w - 1], j - i < w && i - j <= w)",
        "mask(s, j <= i && table[i - j] > 0.0)",
        "if j <= i { s + table[i - j] } else { s + table[j - i] }",
        "mask(s, j < lens[batch()]) + table[lens[batch()] - 1]",
        "mask(s + table[lens[batch()] - 1 - j], j < lens[batch()])",
        "s + table[j % 7 + (i / 8) * 2]",
        "mask(s, head() < 2 && j < lens[head()])",
        "if j < w { mask(s, j <= i) + table[i - j] } else { s }",
    ] {
        assert_eq!(check(push, 10), Ok(()), "{push}");
    }
}

#[test]
fn an_index_that_can_leave_its_tensor_is_refused() {
    for (push, message) in [
        (
            "s + bias[head()][i - j]",
            "a.rs:7:20: index `i - j` of `bias` ranges over -192..=192, its dimension 1 has length 193",
        ),
        (
            "mask(s + table[i - j], i - j < w)",
            "a.rs:7:20: index `i - j` of `table` ranges over -192..=9, its dimension 0 has length 193",
        ),
        (
            "mask(s, j < lens[head()])",
            "a.rs:1:1: index `head()` of `lens` ranges over 0..=3, its dimension 0 has length 2",
        ),
        (
            "s + table[lens[batch()]]",
            "a.rs:1:1: index `lens[batch()]` of `table` ranges over 1..=193, its dimension 0 has length 193",
        ),
        (
            "mask(s, table[i - j] > 0.0 && j <= i)",
            "a.rs:7:20: index `i - j` of `table` ranges over -192..=192, its dimension 0 has length 193",
        ),
        (
            "mask(s + table[i - j], j <= i || j < w)",
            "a.rs:7:20: index `i - j` of `table` ranges over -192..=192, its dimension 0 has length 193",
        ),
    ] {
        assert_eq!(check(push, 10), Err(message.to_string()), "{push}");
    }
}

#[test]
fn integers_stay_in_32_bits() {
    assert_eq!(check("mask(s, i - j < w)", i32::MAX), Ok(()));
    assert_eq!(check("mask(s, i - j < w)", i32::MIN), Ok(()));
    assert_eq!(
        check("mask(s, i * w > j)", i32::MAX),
        Err("a.rs:1:1: `i * w` ranges over 0..=412316860224, which leaves 32 bits".into())
    );
    assert_eq!(check_with(check_tiles, "mask(s, i - j < w)", i32::MAX), Ok(()));
    assert_eq!(
        check_with(check_tiles, "mask(s, i - j < w)", i32::MIN),
        Err("a.rs:1:1: `i0 - w` ranges over 2147483648..=2147483840, which leaves 32 bits".into())
    );
    assert_eq!(check("if w < 1000 { s * (i * w) as f32 } else { s }", i32::MAX), Ok(()));
}

#[test]
fn divisors_are_not_zero_even_where_nothing_is_visible() {
    assert_eq!(check("mask(s, j / w == i / w)", 3), Ok(()));
    assert_eq!(
        check("mask(s, j / w == i / w)", 0),
        Err("a.rs:1:1: the divisor of `j / w` ranges over 0..=0, which includes zero".into())
    );
    assert_eq!(
        check("mask(s, i / (200 - j) > 3 && j < 193)", 0),
        Err("a.rs:1:1: the divisor of `i / (200 - j)` ranges over -24..=232, which includes zero".into())
    );
}

fn report_text(push: &str, w: i32, lens: &[f64]) -> Result<String, ReportError> {
    let (spec, program) = attention(push);
    let scalars = [ScalarValue::I32(w)];
    let facts = [1, 1, 2].map(|length| TensorFacts { shape: vec![length], values: None });
    let launch = Launch {
        batch: 2,
        heads: 4,
        kv_heads: 2,
        queries: 200,
        query_offset: 56,
        keys: &[Keys { length: 256, offset: 0 }],
        scalars: &scalars,
        tensors: &facts,
    };
    let tensor = |data: &[f64]| HostTensor { shape: vec![data.len()], data: data.to_vec() };
    let tensors = if lens.is_empty() { vec![] } else { vec![tensor(&[]), tensor(&[]), tensor(lens)] };
    report(&spec, &program, &launch, &tensors).map(|report| report.to_string())
}

#[test]
fn a_report_counts_and_draws_tiles() {
    let expected = "\
attention: cpu schedule, tiles of 32 queries by 32 keys
  shape      batch 2, 4 heads on 2, 200 queries, 256 keys, head dim 8, f32
  scalars    w 100
  keys `k`
    visible  j <= i && i - j < w
    visited  from i0 - w + 1 to i1 + 1 if w >= 1
    full     from i1 - w + 1 to i0 + 1
    tiles    248 of 448 visited (55.4 %): 64 full, 184 partial; 200 skipped
      █▒▒·····
      ▒█▒▒····
      ▒▒█▒▒···
      ·▒▒█▒▒··
      ··▒▒█▒▒·
      ···▒▒█▒▒
      ····▒██▒
      █ full  ▒ partial  · skipped; batch 0, head 0; a cell is a tile
  pairs      152432 of 409600 visible (37.2 %)
  FLOPs      8.126e6 executed, 4.878e6 useful
  bytes      617 kB moved; memory for the mask: 0 bytes
";
    let text = report_text("mask(s, j <= i && i - j < w)", 100, &[]).unwrap();
    assert_eq!(text, expected, "{text}");
}

#[test]
fn a_report_reads_captured_lengths() {
    let push = "mask(s, j < lens[batch()])";
    assert_eq!(report_text(push, 0, &[]), Err(ReportError::NeedsTensors("lens[batch()]".into())));
    let text = report_text(push, 0, &[40.0, 256.0]).unwrap();
    let tiles = text.lines().find(|line| line.contains("tiles    ")).unwrap();
    assert_eq!(tiles, "    tiles    280 of 448 visited (62.5 %): 252 full, 28 partial; 168 skipped");
}

#[test]
fn a_long_report_is_quick() {
    let (spec, program) = attention("mask(s, j <= i && i - j < w)");
    let launch = Launch {
        batch: 1,
        heads: 8,
        kv_heads: 8,
        queries: 1 << 20,
        query_offset: 0,
        keys: &[Keys { length: 1 << 20, offset: 0 }],
        scalars: &[ScalarValue::I32(4096)],
        tensors: &[1, 1, 2].map(|length| TensorFacts { shape: vec![length], values: None }),
    };
    let started = std::time::Instant::now();
    let report = report(&spec, &program, &launch, &[]).unwrap();
    assert!(started.elapsed().as_secs_f64() < 2.0, "{:?}", started.elapsed());
    assert_eq!(report.visible_pairs, Some(8 * ((1 << 20) * 4096 - 4096 * 4095 / 2)));
    assert_eq!(report.loops[0].picture.lines(64).len(), 32);
    // 129 tiles for each query tile but the first 128, which have one more than the tiles before them.
    assert_eq!(report.tiles.visited, 8 * (32768 * 129 - 128 * 129 / 2));
}

fn index() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        prop::sample::select(vec!["i", "j", "i - j", "head()", "w", "lens[batch()]", "batch()"]).prop_map(String::from),
        (-4..8i32).prop_map(|value| value.to_string()),
    ];
    leaf.prop_recursive(3, 12, 2, |part| {
        let ops = prop::sample::select(vec!["+", "-", "*", "/", "%"]);
        prop_oneof![
            (part.clone(), ops, part.clone()).prop_map(|(a, op, b)| format!("({a} {op} {b})")),
            (part.clone(), part.clone()).prop_map(|(a, b)| format!("min({a}, {b})")),
            (part.clone(), part.clone()).prop_map(|(a, b)| format!("max({a}, {b})")),
            (part.clone(), part.clone()).prop_map(|(a, b)| format!("(if {a} < {b} {{ {b} - {a} }} else {{ {a} }})")),
            part.prop_map(|a| format!("abs({a})")),
        ]
    })
}

fn condition() -> impl Strategy<Value = String> {
    let signs = prop::sample::select(vec!["<", "<=", ">=", "==", "!="]);
    let comparison = (index(), signs, index()).prop_map(|(a, sign, b)| format!("{a} {sign} {b}"));
    let common = prop::sample::select(vec!["j <= i", "i - j < w", "abs(i - j) <= 3", "j < lens[batch()]"]);
    let one = prop_oneof![comparison, common.prop_map(String::from)];
    let words = prop::sample::select(vec!["&&", "&&", "||"]);
    prop_oneof![one.clone(), (one.clone(), words, one).prop_map(|(a, word, b)| format!("({a} {word} {b})"))]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// An accepted launch has no error for any pair.
    #[test]
    fn accepted_launches_have_values(
        index in index(),
        visible in condition(),
        inner in condition(),
        shape in 0..4usize,
        w in -3..9i32,
        length in 1..16usize,
        offset in -3..6i64,
    ) {
        let push = match shape {
            0 => format!("s + table[{index}]"),
            1 => format!("mask(s + table[{index}], {visible})"),
            2 => format!("mask(s, {visible}) + (if {inner} {{ table[{index}] }} else {{ 0.0 }})"),
            _ => format!("mask(s, {visible} && table[{index}] > 0.0)"),
        };
        let (spec, program) = attention(&push);
        let scalars = [ScalarValue::I32(w)];
        let facts = [vec![1, 1], vec![length], vec![2]].map(|shape| TensorFacts { shape, values: Some((2, 5)) });
        let launch = Launch {
            batch: 2,
            heads: 2,
            kv_heads: 1,
            queries: 5,
            query_offset: offset,
            keys: &[Keys { length: 6, offset: 0 }],
            scalars: &scalars,
            tensors: &facts,
        };
        if check_launch(&spec, &program, &launch).is_ok() {
            let zeros = |shape: &[usize]| HostTensor { shape: shape.to_vec(), data: vec![0.0; shape.iter().product()] };
            let inputs = Inputs {
                operands: &[zeros(&[2, 2, 5, 1]), zeros(&[2, 1, 6, 1]), zeros(&[2, 1, 6, 1])],
                scalars: &scalars,
                tensors: &[zeros(&[1, 1]), zeros(&[length]), HostTensor { shape: vec![2], data: vec![2.0, 5.0] }],
                scale: 1.0,
                query_offset: offset,
                key_offsets: &[0],
            };
            prop_assert_eq!(interpret(&spec, &inputs).err(), None, "{}", push);
        }
    }
}

#[test]
fn expressions_are_located() {
    let (spec, _) = attention("s");
    assert_eq!(spec.locate(&Expr::Key).to_string(), "a.rs:1:1");
}
