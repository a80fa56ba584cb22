//! Predicates to try the analyses with, beyond those of the gallery.

use crate::soundness::Case;
use purview_compiler::eval::HostTensor;
use purview_compiler::expr::Expr;
use purview_compiler::ir::parse::parse_expr;
use purview_compiler::spec::{
    Accumulator, AccumulatorParam, DotParam, KeyLoop, Location, OperandParam, Order, Push, Role, ScalarParam,
    ScalarType, ScalarValue, Spec, TensorParam, TensorType,
};

/// Of which the visited tiles are exactly those with a visible pair: affine comparisons, unions of them, blocks by floor
/// division.
pub const EXACT: &[(&str, &str)] = &[
    ("everything", "w == w"),
    ("nothing", "j < i && j > i"),
    ("causal", "j <= i"),
    ("strictly causal", "j < i"),
    ("anti-causal", "j >= i"),
    ("the diagonal", "i == j"),
    ("all but the diagonal", "i != j"),
    ("sliding window", "j <= i && i - j < w"),
    ("a window of nothing", "j <= i && i - j < zero"),
    ("window by a constant", "i - j < 3 && !(j > i)"),
    ("two-sided window", "abs(i - j) <= w"),
    ("all but a window", "abs(i - j) > w"),
    ("uneven window", "i - j <= w && j - i <= n"),
    ("a band away from the diagonal", "i - j >= n && i - j < n + w"),
    ("two bands", "i - j < 3 && j <= i || i - j >= 9 && i - j < 12"),
    ("three bands", "abs(i - j) < 2 || abs(i - j - 10) < 2 || abs(i - j - 20) < 2"),
    ("prefix", "j < n || j <= i"),
    ("prefix of the queries", "i < n || j <= i"),
    ("a prefix that is causal later", "if i < 12 { j < 12 } else { j <= i }"),
    ("global and local", "j <= i && (j < n || i - j < w)"),
    ("globals both ways", "j < n || i < n || abs(i - j) <= w"),
    ("sinks and window", "j <= i && !(i - j >= w && j >= n)"),
    ("nested unions", "j <= i && (j < 2 || i - j < 3 || (j >= 10 && (j < 12 || i > 30)))"),
    ("a hole", "j <= i && !(j >= 8 && j < 24)"),
    ("reversed", "i + j < 30"),
    ("half as fast", "2 * j <= i"),
    ("twice as fast", "j <= 2 * i"),
    ("between two slopes", "2 * j <= i + 10 && j >= i - 12"),
    ("the larger of two", "j <= max(i - 4, n)"),
    ("the smaller of two", "j < min(i, 17)"),
    ("neither the larger", "max(i, j) < 20"),
    ("one of them is early", "min(i, j) < 3"),
    ("blocks", "i / c == j / c"),
    ("causal blocks", "j <= i && i / c == j / c"),
    ("block causal", "j / c <= i / c"),
    ("earlier blocks", "j / 8 < i / 8"),
    ("neighbouring blocks", "abs(i / c - j / c) <= 1"),
    ("block diffusion", "i / c == j / c || j / c < i / c"),
    ("from the start of the block", "j >= i - i % c && j <= i"),
    ("to the end of the block", "j < i - i % 8 + 8"),
    ("blocks of a quotient", "(i - j) / 8 == 0"),
    ("a window in blocks", "j <= i && (i / 4 - j / 4) < 3"),
    ("window of the head", "j <= i && i - j < width[head()]"),
    ("slower heads", "j + 3 * head() <= i"),
    ("local and global heads", "j <= i && (head() < 2 || i - j < w)"),
    ("window of a key head", "abs(i - j) <= 2 * kv_head() + 1"),
    ("length of the batch", "j < len[batch()]"),
    ("length and causal", "j < len[batch()] && j <= i"),
    ("switched", "j <= i || !flag"),
    ("switched on", "flag && i - j < w && j <= i"),
    ("early queries only", "i < n && j <= i"),
    ("late keys only", "j >= n && j <= i"),
    ("sorted documents", "i >= 0 && doc[batch()][i] == doc[batch()][j] && j <= i"),
    ("limit of each query", "i >= 0 && j < rising[i]"),
    ("early queries in blocks", "i < 21 && j / 6 <= i / 6"),
    ("early queries of their block", "i < 11 && i / c == j / c"),
    ("late queries of their block", "i >= 9 && i / c == j / c && j < 20"),
    ("some queries, neighbouring blocks", "i >= 7 && i <= 19 && abs(i / c - j / c) <= 1"),
    ("early queries, larger blocks", "3 * i < 31 && j / 8 <= i / 8"),
    ("queries of one block", "i / c == 2 && j / 4 <= i / 4"),
    ("queries by a sorted tensor", "i >= 0 && rising[i] < 20 && j / c <= i / c"),
    ("early queries, from the start of the block", "i < 11 && j >= i - i % c"),
    ("late queries, from the start of the block", "i >= 7 && j >= i - i % c && j < 20"),
    ("early queries, to the end of the block", "i < 15 && j < i - i % 8 + 8 && j >= 3"),
    ("early queries, twice as fast", "3 * i < 31 && j <= 2 * i"),
    ("early queries, window and block", "i - j < w && i / c == j / c && i < 20"),
    ("late keys of earlier blocks", "j / c < i / c && i < 20 && j >= 5"),
    ("early keys, from the start of their block", "j < 20 && j - j % c <= i"),
    ("keys of one block", "j / c == 1 && j / 4 <= i / 4 && i <= 25"),
    ("no neighbouring block", "abs(i / c - j / c) < zero"),
    ("a window in blocks of nothing", "j / c <= i / c && i / c - j / c < zero"),
    ("a distance in blocks", "abs(i - j) / c <= 1"),
    ("a quotient that is not negative", "max(i - 5, 0) / c == j / c"),
    (
        "blocks that start in the middle",
        "(if i >= 17 { i - 17 } else { i }) / c == (if j >= 17 { j - 17 } else { j }) / c",
    ),
    ("block diffusion of a copy", {
        "(if i >= 17 { i - 17 } else { i }) / c == (if j >= 17 { j - 17 } else { j }) / c && (i >= 17) == (j >= 17) \
         || (if i >= 17 { i - 17 } else { i }) / c > (if j >= 17 { j - 17 } else { j }) / c && j >= 17 && i < 17 \
         || (if i >= 17 { i - 17 } else { i }) / c >= (if j >= 17 { j - 17 } else { j }) / c && j >= 17 && i >= 17"
    }),
    ("a diagonal that turns", "j == (if i < 12 { i } else { 24 - i })"),
    ("a stride in a window", "j <= i && i - j < w && (i - j) % c == 0"),
    ("an offset stride in a window", "j <= i && i - j < 2 * w && (i - j) % 4 == 1"),
    ("a stride of early keys", "j < 11 && (i - j) % c == 0"),
    ("a stride of some queries", "i >= 3 && i < 17 && (i - j) % c == 2"),
    ("the last keys", "j >= kv_len() - w"),
    ("aligned at the end", "j - i <= kv_len() - q_len() - n"),
    ("halves of the keys", "2 * j < kv_len() || 2 * i >= kv_len() && j <= i"),
    ("holes", "j != 3 && j != 9 && j != 15 && j != 21 && j != 27 && j != 33"),
];

/// Of which some visited tiles may have no visible pair.
pub const SOUND: &[(&str, &str)] = &[
    ("sorted documents both ways", "i >= 0 && doc[batch()][i] == doc[batch()][j]"),
    ("next document", "i >= 0 && doc[batch()][j] == doc[batch()][i] + 1"),
    ("unsorted tags", "i >= 0 && tag[batch()][i] == tag[batch()][j]"),
    ("unsorted tags, causal", "i >= 0 && j <= i && tag[batch()][i] == tag[batch()][j]"),
    ("other tags", "i >= 0 && tag[batch()][i] != tag[batch()][j]"),
    ("interval of each query", "i >= 0 && j >= tag[0][i] && j < rising[i]"),
    ("interval of each key", "i >= tag[0][j] && i < rising[j]"),
    ("stride", "(i - j) % 4 == 0"),
    ("dilated window", "j <= i && i - j < w && (i - j) % n == 0"),
    ("dilated by a scalar", "j <= i && (i - j) % c == 0"),
    ("offset stride", "(i + j) % 7 == 3"),
    ("window or stride", "j <= i && (i - j < c || (i - j) % c == 0)"),
    ("not a stride", "(i - j) % 3 != 1"),
    ("checkerboard", "(i + j) % 2 == 0"),
    ("checkerboard of blocks", "(i / 8 + j / 8) % 2 == 0"),
    ("equal parity", "i % 2 == j % 2"),
    ("column of the grid", "i % c == j % c"),
    ("neighbourhood", "abs(i / c - j / c) <= 1 && abs(i % c - j % c) <= 1"),
    ("neighbourhood in 3 dimensions", {
        "abs(i / 12 - j / 12) <= 1 && abs(i / 4 % 3 - j / 4 % 3) <= 1 && abs(i % 4 - j % 4) <= 1"
    }),
    ("axial", "i / c == j / c || i % c == j % c"),
    ("rows up to here", "j / c < i / c || (j / c == i / c && j % c <= i % c)"),
    ("chessboard distance", "max(abs(i / c - j / c), abs(i % c - j % c)) <= 2"),
    ("knight", "abs(i / 8 - j / 8) * abs(i % 8 - j % 8) == 2"),
    ("product", "i * j < 100"),
    ("distances by powers of two", "j <= i && ilog2(i - j) % 2 == 0"),
    ("near by powers of two", "ilog2(abs(i - j)) <= 2"),
    ("levels of a tree", "ilog2(i + 1) == ilog2(j + 1) || ilog2(j) < 2"),
    ("not near by powers of two", "!(ilog2(i - j) < 3) && ilog2(j - 5) >= ilog2(n)"),
    ("rounded by a float", "round((i - j) as f32 * 0.25) == 1.0 || floor(i as f32 / 8.0) > ceil(j as f32 / 8.0)"),
    ("parts of the keys", "i / (kv_len() / 3 + 1) == j / (kv_len() / 3 + 1)"),
    ("parts by remainder", "i % (q_len() + 1) < j % (kv_len() + 1)"),
    ("square", "i * i >= j * n"),
    ("divisor of unknown sign", "i / turn == j / turn"),
    ("remainder of unknown sign", "(i - j) % turn == 0"),
    ("layout of blocks", "i >= 0 && layout[i / 8][j / 8]"),
    ("layout of blocks, causal", "i >= 0 && j <= i && layout[i / 8][j / 8]"),
    ("tree", "j < n || (i >= n && ancestor[i - n][j - n])"),
    ("not in the layout", "i >= 0 && !layout[i / 8][j / 8] || i == j"),
    (
        "chosen by the head",
        "if head() == 0 { j <= i } else { if head() == 1 { i / c == j / c } else { (i - j) % 4 == 0 } }",
    ),
    ("equal truths", "(j <= i) == (i - j < w)"),
    ("different truths", "(j < n) != (i < n)"),
    ("as integers", "(j <= i) as i32 + (i - j < w) as i32 == 1"),
    ("choice inside a comparison", "j < (if i % 2 == 0 { i } else { n })"),
    ("by a float", "(i - j) as f32 * 0.5 < 3.0 && j <= i"),
    ("by a table of floats", "slope[head()] > 0.5 && j <= i"),
    ("far apart or in a block", "abs(i - j) > 3 * w || (j - j % 4 == i - i % 4)"),
    ("an index of an index", "i >= 0 && tag[0][min(max(tag[1][i], 0), 59)] <= tag[0][j]"),
    ("keys before the query of later blocks", "j / c < i / c && i - j < w"),
    ("keys after the query in its block", "j > i && i / c == j / c"),
    ("queries by a remainder", "i % c < 2 && j <= i"),
    ("some queries, column of the grid", "i < 14 && i % c == j % c && j >= 9"),
    ("a stride of early queries in their block", "i < 11 && i / c == j / c && (i - j) % 4 == 1"),
    ("remainder of a choice", "(if i >= 17 { i - 17 } else { i }) % c == j % c"),
    ("many choices", {
        "(if i > 3 { i } else { 2 }) / 2 + (if j > 5 { j } else { 1 }) / 3 + (if i > 9 { i } else { 5 }) / 4 \
         + (if j > 12 { j } else { 4 }) / 5 + (if i > 15 { i } else { 8 }) / 6 < 17"
    }),
    (
        "many points",
        "j == 1 || j == 5 || j == 9 || j == 13 || j == 17 || j == 21 || j == 25 || j == 29 || j == 33 || j == 37",
    ),
];

/// The predicate `text` as an attention's mask, with a value for each parameter.
pub fn case(text: &str) -> Case {
    let scalar = |name: &str, ty| ScalarParam { name: name.into(), ty, comptime: false };
    let tensor = |name: &str, ty, rank, order| TensorParam { name: name.into(), ty, rank, order };
    let scalars = vec![
        (scalar("w", ScalarType::U32), ScalarValue::U32(5)),
        (scalar("n", ScalarType::I32), ScalarValue::I32(4)),
        (scalar("c", ScalarType::U32), ScalarValue::U32(6)),
        (scalar("zero", ScalarType::U32), ScalarValue::U32(0)),
        (scalar("turn", ScalarType::I32), ScalarValue::I32(-5)),
        (scalar("flag", ScalarType::Bool), ScalarValue::Bool(true)),
    ];
    let fill = |shape: &[usize], element: &dyn Fn(usize) -> i64| HostTensor {
        shape: shape.to_vec(),
        data: (0..shape.iter().product()).map(|place| element(place) as f64).collect(),
    };
    let tensors = vec![
        (tensor("width", TensorType::I32, 1, Order::Any), fill(&[4], &|head| [1, 4, 9, 0][head])),
        (tensor("len", TensorType::I32, 1, Order::Any), fill(&[2], &|batch| [23, 0][batch])),
        (
            tensor("doc", TensorType::I32, 2, Order::Sorted),
            fill(&[2, 60], &|at| [at as i64 / 7, (at as i64 - 60) / 13 * 2][at / 60]),
        ),
        (tensor("tag", TensorType::I32, 2, Order::Any), fill(&[2, 60], &|at| (at as i64 % 60 / 5 * 7) % 11)),
        (tensor("rising", TensorType::I32, 1, Order::Sorted), fill(&[60], &|at| (at as i64 * 2) / 3 + 1)),
        (tensor("layout", TensorType::Bool, 2, Order::Any), fill(&[8, 8], &|at| i64::from(at % 3 == 0))),
        (
            tensor("ancestor", TensorType::Bool, 2, Order::Any),
            fill(&[60, 60], &|at| i64::from((at / 60) >> 1 >= at % 60 && at % 60 % 2 == 1)),
        ),
        (tensor("slope", TensorType::F32, 1, Order::Any), fill(&[4], &|head| head as i64)),
    ];
    let (scalar_params, scalars): (Vec<_>, Vec<_>) = scalars.into_iter().unzip();
    let (tensor_params, tensors): (Vec<_>, Vec<_>) = tensors.into_iter().unzip();
    let mut spec = Spec {
        name: "masked".into(),
        doc: String::new(),
        source: Location { file: "masked.rs".into(), line: 1, column: 1 },
        operands: vec![
            OperandParam { name: "q".into(), role: Role::Query },
            OperandParam { name: "k".into(), role: Role::Key(0) },
            OperandParam { name: "v".into(), role: Role::Value(0) },
        ],
        scalars: scalar_params,
        tensors: tensor_params,
        accumulators: vec![AccumulatorParam { name: "o".into(), kind: Accumulator::Softmax { sink: None } }],
        loops: Vec::new(),
        outputs: vec![Expr::Value(0)],
        origins: Vec::new(),
    };
    let visible = parse_expr(text, spec.parameters()).unwrap_or_else(|error| panic!("{text}: {error}"));
    let push = Expr::Mask(Box::new(Expr::SCORE), Box::new(visible));
    spec.loops.push(KeyLoop { set: 0, dots: vec![DotParam { query: 0, key: 1 }], pushes: vec![Push::new(0, push, 2)] });
    Case { spec, scalars, tensors }
}
