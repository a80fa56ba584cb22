//! Reports: what they count is what looking at every pair gives, and their notes say what a user should know, where it is written.

use purview_compiler::analysis::ranges::check_launch;
use purview_compiler::eval::{Environment, HostTensor, Value, evaluate};
use purview_compiler::expr::{BinaryOp, Expr};
use purview_compiler::ir::forward::Operands;
use purview_compiler::ir::parse::parse_expr;
use purview_compiler::ir::{Element, Kept, Program, Range, TileLoop};
use purview_compiler::launch::{Keys, Launch, TensorFacts};
use purview_compiler::lower::dims_of;
use purview_compiler::needed_tiles::TileError;
use purview_compiler::notes;
use purview_compiler::passes::{compile, schedule};
use purview_compiler::report::{Report, ReportError, report, verified_report};
use purview_compiler::schedule::{CpuSchedule, Schedule};
use purview_compiler::scheduled::{Compiled, Scheduled};
use purview_compiler::spec::{
    Accumulator, AccumulatorParam, DotParam, KeyLoop, Location, OperandParam, Order, Origin, Push, Role, ScalarParam,
    ScalarType, ScalarValue, Spec, TensorParam, TensorType,
};
use purview_compiler::svg::svg;
use purview_compiler::typing::Parameters;
use purview_compiler::visible_pairs::exact_ranges;

const TILE: usize = 8;
/// `w` and `n`.
const SCALARS: [ScalarValue; 2] = [ScalarValue::U32(5), ScalarValue::I32(3)];
const LENGTH: usize = 61;

/// An attention of one loop for each push, over `w: u32`, `#[comptime] n: i32`, `#[sorted] doc`, `kind`, `limit: Tensor<i32, 1>` and
/// `layout: Tensor<bool, 2>`. Masks, comparisons, remainders and loads are at columns 1, 2, … of line 7.
fn attention(pushes: &[&str]) -> Spec {
    let tensor = |name: &str, ty, rank, order| TensorParam { name: name.into(), ty, rank, order };
    let scalar = |name: &str, ty, comptime| ScalarParam { name: name.into(), ty, comptime };
    let pair = |set| [(format!("k{set}"), Role::Key(set)), (format!("v{set}"), Role::Value(set))];
    let operands = std::iter::once(("q".to_string(), Role::Query)).chain((0..pushes.len()).flat_map(pair));
    let mut spec = Spec {
        name: "attention".into(),
        doc: String::new(),
        source: Location { file: "a.rs".into(), line: 1, column: 1 },
        operands: operands.map(|(name, role)| OperandParam { name, role }).collect(),
        scalars: vec![scalar("w", ScalarType::U32, false), scalar("n", ScalarType::I32, true)],
        tensors: vec![
            tensor("doc", TensorType::I32, 1, Order::Sorted),
            tensor("kind", TensorType::I32, 1, Order::Any),
            tensor("layout", TensorType::Bool, 2, Order::Any),
        ],
        accumulators: vec![AccumulatorParam { name: "o".into(), kind: Accumulator::Softmax { sink: None } }],
        loops: Vec::new(),
        outputs: vec![Expr::Value(0)],
        origins: Vec::new(),
    };
    for (set, push) in pushes.iter().enumerate() {
        let push = parse_expr(push, spec.parameters()).unwrap();
        locate(&push, &mut spec.origins);
        let (dot, values) = (DotParam { query: 0, key: 1 + 2 * set }, 2 + 2 * set);
        spec.loops.push(KeyLoop { set, dots: vec![dot], pushes: vec![Push::new(0, push, values)] });
    }
    spec
}

/// Gives a place to what has one in a specification that a macro makes, in the order of the text.
fn locate(expr: &Expr, origins: &mut Vec<Origin>) {
    let located = match expr {
        Expr::Binary(op, ..) => op.is_comparison() || matches!(op, BinaryOp::Rem | BinaryOp::Div),
        Expr::Load { .. } | Expr::Mask(..) => true,
        _ => false,
    };
    if located && !origins.iter().any(|origin| origin.expr == *expr) {
        let column = origins.len() as u32 + 1;
        origins.push(Origin { expr: expr.clone(), location: Location { file: "a.rs".into(), line: 7, column } });
    }
    expr.children().into_iter().for_each(|child| locate(child, origins));
}

fn compiled(spec: &Spec) -> Scheduled {
    let operands = Operands { element: Element::F32, qk_dim: 8, v_dim: 4 };
    let by = Schedule::Cpu(CpuSchedule::new(TILE, 1, TILE, 1));
    schedule(Compiled::new(compile(spec, &SCALARS, &dims_of(spec, operands), Kept::default()).unwrap()), by).unwrap()
}

/// 61 elements in documents of eleven, of three kinds; 8 by 8 blocks of which two thirds are seen.
fn tensors() -> Vec<HostTensor> {
    let numbers = |number: fn(usize) -> usize, shape: &[usize]| HostTensor {
        shape: shape.to_vec(),
        data: (0..shape.iter().product()).map(|place| number(place) as f64).collect(),
    };
    vec![
        numbers(|at| at / 11, &[LENGTH]),
        numbers(|at| at * 7 % 3, &[LENGTH]),
        numbers(|at| usize::from(at % 3 > 0), &[8, 8]),
    ]
}

/// What is done with the launch of 2 batches, 2 heads, and these queries and keys.
fn at_launch<T>(
    spec: &Spec,
    program: &Scheduled,
    (queries, query_offset): (usize, i64),
    keys: &[Keys],
    of: impl FnOnce(&Launch, &[HostTensor]) -> T,
) -> T {
    let tensors = tensors();
    let facts: Vec<_> =
        tensors.iter().map(|tensor| TensorFacts { shape: tensor.shape.clone(), values: Some((0, 60)) }).collect();
    let (batch, heads, kv_heads) = (2, 2, 1);
    let launch = Launch { batch, heads, kv_heads, queries, query_offset, keys, scalars: &SCALARS, tensors: &facts };
    check_launch(spec, program, &launch).unwrap();
    of(&launch, &tensors)
}

fn reported(pushes: &[&str], queries: (usize, i64), keys: &[Keys]) -> Report {
    let spec = attention(pushes);
    let program = compiled(&spec);
    at_launch(&spec, &program, queries, keys, |launch, tensors| {
        verified_report(&spec, &program, launch, tensors).unwrap()
    })
}

/// Predicates, and whether ranges decide them.
const PREDICATES: &[(&str, bool)] = &[
    ("j <= i", true),
    ("j <= i && i - j < w", true),
    ("abs(i - j) <= w", true),
    ("abs(i - j) > w || j == 0", true),
    ("j < w || i - j == 9 || j <= i && i - j < w", true),
    ("i / w == j / w && j <= i", true),
    ("j >= i - i % w && j <= i", true),
    ("2 * j <= i && 3 * j > i", true),
    ("i % 2 == 0 && j < 7", true),
    ("j < kind[i] * 9 + head()", true),
    ("doc[i] == doc[j] && j <= i", true),
    ("doc[i] == doc[j] || j < w", true),
    ("head() == batch() && j <= i", true),
    ("j != 0 && j != 3 && j != i", true),
    ("(i - j) % w == 0 && j <= i", false),
    ("kind[i] == kind[j]", false),
    ("layout[i / 8][j / 8] && j <= i", false),
    ("(i * j) % 7 < 3", false),
    ("(i - j) as f32 < 0.5", false),
    // Each condition is decided, and all of them have more alternatives than are taken apart.
    ("j != i && j != i - 7 && j != 2 * i && j != 3 * i && j != 30 - i", false),
    ("j != 0 && j != 7 && j != 13 && j != 21 && j != 32 && j != 47", true),
    ("i < 19 && j / w <= i / w", true),
    ("j >= kv_len() - w && j - i <= kv_len() - q_len()", true),
    ("i / (q_len() / 3 + 1) == j / (kv_len() / 3 + 1)", true),
    ("ilog2(i - j) < 4 && j < i", false),
    ("i < 19 && j < kind[i] * 9 + head()", true),
    ("(if i >= 29 { i - 29 } else { i }) / w == (if j >= 29 { j - 29 } else { j }) / w", true),
    // More ranges than a kernel compares with.
    ("j == 0 || j == 4 || j == 9 || j == 19 || j == 29 || j == 33 || j == 39 || j == 49 || j == 51", false),
];

#[test]
fn visible_pairs_and_masked_rows_are_those_of_the_mask() {
    let tensors = tensors();
    for (predicate, by_ranges) in PREDICATES {
        let push = format!("mask(s, {predicate})");
        let spec = attention(&[&push]);
        let program = compiled(&spec);
        let exact = exact_ranges(&program.loops[0], program.parameters()).is_some();
        assert_eq!(exact, *by_ranges, "{predicate}");
        for (queries, offset, length) in [(LENGTH, 0, LENGTH), (19, 42, LENGTH), (13, 0, 45), (30, 11, 20), (0, 0, 9)] {
            let keys = [Keys { length, offset: 0 }];
            let got = reported(&[&push], (queries, offset), &keys);
            let (mut visible, mut masked) = (0, 0);
            for (batch, head) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                for query in offset..offset + queries as i64 {
                    let scalars = SCALARS.map(Value::from);
                    let at = |key| Environment {
                        query,
                        key,
                        batch,
                        head,
                        query_length: queries as i64,
                        keys: &keys,
                        scalars: &scalars[..1],
                        tensors: &tensors,
                        tensor_params: &program.tensors,
                        ..Environment::EMPTY
                    };
                    let mask = parse_expr(predicate, program.parameters()).unwrap();
                    let sees = |key: &i64| evaluate(&mask, &at(*key)).unwrap() == Some(Value::Bool(true));
                    let seen = (0..length as i64).filter(sees).count() as u64;
                    visible += seen;
                    masked += u64::from(seen == 0);
                }
            }
            let case = format!("{predicate}, {queries} from {offset} on {length}");
            assert_eq!(got.visible_pairs, Some(visible), "{case}");
            assert_eq!(got.masked_rows.unwrap().count, masked, "{case}");
            assert!(got.needed_tiles.unwrap() <= got.tiles.visited, "{case}");
            if *by_ranges && !predicate.contains("kind") {
                assert_eq!(got.needed_tiles, Some(got.tiles.visited), "{case}");
            }
        }
    }
}

#[test]
fn a_program_that_is_wrong_is_found_out() {
    let spec = attention(&["mask(s, j <= i)"]);
    let right = compiled(&spec);
    let verified = |program: &Scheduled| {
        at_launch(&spec, &right, (20, 0), &[Keys { length: 20, offset: 0 }], |launch, tensors| {
            verified_report(&spec, program, launch, tensors)
        })
    };
    assert_eq!(verified(&right).unwrap().needed_tiles, Some(4 * 6));

    let wrong = |change: &dyn Fn(&mut TileLoop)| {
        let mut program = Program::clone(&right);
        change(&mut program.loops[0]);
        schedule(Compiled::new(program), right.schedule()).unwrap()
    };
    let skips = wrong(&|key_loop| key_loop.visit = vec![Range { to: Some(Expr::QueryFirst), ..Range::ALL }]);
    let Err(ReportError::Tile(error @ TileError::NeededIsSkipped { .. })) = verified(&skips) else { panic!() };
    assert_eq!(
        error.to_string(),
        "the tile of queries 0 and `k0` 0, batch 0, head 0 is skipped, although the query at 0 sees the key at 0: this is a bug \
         of Purview"
    );
    let claims = wrong(&|key_loop| key_loop.full = vec![Range { to: Some(Expr::Int(8)), ..Range::ALL }]);
    let Err(ReportError::Tile(error @ TileError::FullHasHidden { .. })) = verified(&claims) else { panic!() };
    assert_eq!(
        error.to_string(),
        "the tile of queries 0 and `k0` 0, batch 0, head 0 is called full, although the query at 0 does not see the key at 1: \
         this is a bug of Purview"
    );
}

#[test]
fn a_million_tokens_take_a_number_for_each_row() {
    let million = 1 << 20;
    for (predicate, visible) in [("j <= i", 549_756_338_176u64), ("j <= i && i - j < w", 5 * million - 10)] {
        let spec = attention(&[&format!("mask(s, {predicate})")]);
        let program = compiled(&spec);
        let keys = [Keys { length: million as usize, offset: 0 }];
        let found = at_launch(&spec, &program, (million as usize, 0), &keys, |launch, tensors| {
            report(&spec, &program, launch, tensors).unwrap()
        });
        assert_eq!(found.visible_pairs, Some(4 * visible), "{predicate}");
        assert_eq!(found.density(), Some(visible as f64 / (million * million) as f64));
    }
}

#[test]
fn costs_are_counted() {
    let twenty = [Keys { length: 20, offset: 0 }];
    let found = reported(&["mask(s, j <= i)"], (20, 0), &twenty);
    assert_eq!((found.tiles.total, found.tiles.visited, found.tiles.full), (36, 24, 12));
    assert_eq!(found.useful_flops, Some(4 * 210 * 2 * (8 + 4)));
    assert_eq!(found.executed_flops, 24 * 64 * 2 * (8 + 4));
    // 20 rows of 8 + 4 elements and a log-sum-exp; 8, 16 and 20 keys of 8 + 4 elements.
    assert_eq!(found.bytes, 4 * (20 * (4 * 12 + 4) + (8 + 16 + 20) * 4 * 12));
    assert_eq!(found.mask_bytes, 0);
    // Two numbers for the block of 61 elements, and three for each element of 8 by 8, which are read at quotients.
    assert_eq!(reported(&["mask(s, kind[i] == kind[j])"], (20, 0), &twenty).mask_bytes, 8);
    assert_eq!(reported(&["mask(s, layout[i / 8][j / 8])"], (20, 0), &twenty).mask_bytes, 3 * 4 * 64);
    assert_eq!(reported(&["mask(s, doc[i] == doc[j])"], (20, 0), &twenty).mask_bytes, 0);
}

/// Loops of one and of two pushes: what a comptime scalar takes away is not counted, and is not looked for in the program.
#[test]
fn costs_are_counted_of_each_loop() {
    let mut spec = attention(&["mask(s, j <= i)", "mask(s, i - j < w)"]);
    spec.accumulators.push(AccumulatorParam { name: "p".into(), kind: Accumulator::Sum });
    let mut second = spec.loops[0].pushes[0].clone();
    (second.accumulator, second.score) = (1, parse_expr("mask(s * 2.0, j == i)", spec.parameters()).unwrap());
    spec.loops[0].pushes.insert(0, second);
    let keys = [Keys { length: 20, offset: 0 }; 2];
    let pairs = [210, 400 - 120];
    for (output, of_first) in [("value#0 + value#1", 8 + 4 + 4), ("if n == 4 { value#1 } else { value#0 }", 8 + 4)] {
        let both = Parameters { values: &spec.output_values(), ..spec.parameters() };
        let output = output.replace("value#0", "o").replace("value#1", "p");
        let spec = Spec { outputs: vec![parse_expr(&output, both).unwrap()], ..spec.clone() };
        let program = compiled(&spec);
        let found = at_launch(&spec, &program, (20, 0), &keys, |launch, tensors| {
            verified_report(&spec, &program, launch, tensors).unwrap()
        });
        let useful = 4 * 2 * (pairs[0] * of_first + pairs[1] * (8 + 4));
        assert_eq!(
            (found.visible_pairs, found.useful_flops),
            (Some(4 * (pairs[0] + pairs[1])), Some(useful)),
            "{output}"
        );
        let visited: Vec<u64> = found.loops.iter().map(|key_loop| key_loop.tiles.visited).collect();
        assert_eq!(found.executed_flops, 64 * 2 * (visited[0] * of_first + visited[1] * (8 + 4)), "{output}");
        assert_eq!(found.notes, [], "{output}");
    }
}

/// The notes on these masks at a launch, with line 7's columns as places.
#[track_caller]
fn notes(pushes: &[&str], queries: (usize, i64), keys: &[Keys], expected: &[&str]) {
    let found: Vec<String> = reported(pushes, queries, keys).notes.iter().map(ToString::to_string).collect();
    assert_eq!(found, expected, "{pushes:?}");
}

#[test]
fn notes_on_masks_that_say_nothing() {
    let square = [Keys { length: 20, offset: 0 }];
    let note = |push: &str, expected: &[&str]| notes(&[push], (20, 0), &square, expected);
    note("s", &[]);
    note("mask(s, j <= i)", &[]);
    note("mask(s, s > 0.0)", &[]);
    let never = "a.rs:7:1: warning: this mask is always false: no query sees a key of `k0`";
    note("mask(s, j < i && j > i)", &[never]);
    note("mask(s, n == 4)", &[never]);
    let always = "a.rs:7:1: warning: this mask is always true: it hides nothing";
    note("mask(s, i - i == 0)", &[always]);
    note("mask(s, j <= i || j > i - 3)", &[]);
    note("mask(s, n < 5 || j > i)", &[always]);
}

#[test]
fn notes_on_scores_that_are_to_hide() {
    let square = [Keys { length: 20, offset: 0 }];
    let note = |push: &str, expected: &[&str]| notes(&[push], (20, 0), &square, expected);
    let said = "warning: a score that this makes so small gives its key no weight, but does not hide it, and every tile is visited: write \
                `mask(score, condition)`";
    note("if j <= i { s } else { -1e9 }", &[&format!("a.rs:7:1: {said}")]);
    note("s + if j > i { -10000.0 } else { 0.0 }", &[&format!("a.rs:7:1: {said}")]);
    note("if j <= i { s } else { s - 1.0 }", &[]);
    note("if s > 0.0 { s } else { -1e9 }", &[]);
}

#[test]
fn notes_on_conditions_without_ranges() {
    let square = [Keys { length: 20, offset: 0 }];
    let note =
        |predicate: &str, expected: &[&str]| notes(&[&format!("mask(s, {predicate})")], (20, 0), &square, expected);
    let one_by_one = "tiles are decided one by one";
    note(
        "j <= i && (i - j) % w == 0",
        &[&format!("a.rs:7:4: note: `(i - j) % w == 0` gives no ranges, because of its remainder: {one_by_one}")],
    );
    // `n` is 3 at compile time.
    note("i / n == j / n", &[]);
    note(
        "(j < w || kind[i] == kind[j]) && !(i % 3 == j % 3)",
        &[
            "a.rs:7:4: note: `kind[i] == kind[j]` gives no ranges, because `kind` is not declared `#[sorted]`: tiles are decided one by \
         one, by the extremes of what they read",
            &format!("a.rs:7:7: note: `i % 3 == j % 3` gives no ranges, because of its remainder: {one_by_one}"),
        ],
    );
    note(
        "layout[i / 8][j / 8]",
        &[
            "a.rs:7:2: note: `layout[i / 8][j / 8]` gives no ranges, because `layout` is read at an index that depends on both \
         positions: tiles are decided one by one, by the extremes of what they read",
        ],
    );
    note(
        "(i - j) as f32 < 0.5",
        &[
            "a.rs:7:2: note: `(i - j) as f32 < 0.5` gives no ranges, because it compares floats: no tile is skipped for it, and it is \
         tested element by element",
        ],
    );
    note(
        "i * j < 30",
        &[&format!(
            "a.rs:7:2: note: `i * j < 30` gives no ranges, because it is not linear in the positions: {one_by_one}"
        )],
    );
    note(
        "i / (doc[0] + 1) == j / (doc[0] + 1)",
        &[&format!(
            "a.rs:7:3: note: `i / (doc[0] + 1) == j / (doc[0] + 1)` gives no ranges, because it divides by what may be negative (take a `u32`): \
             {one_by_one}"
        )],
    );
    let many = "j != i && j != i - 7 && j != 2 * i && j != 3 * i && j != 30 - i";
    note(
        &format!("{many} && j != 2 * i - 3"),
        &[&format!("a.rs:1:1: note: `{many}` gives no ranges, because it has more than 16 alternatives: {one_by_one}")],
    );
}

/// `(if i > 3 { i } else { 2 }) / 2 + … < 17`, with so many terms.
fn choices(terms: usize) -> String {
    let term = |n: usize| format!("(if {0} > {1} {{ {0} }} else {{ 2 }}) / {n}", ["i", "j"][n % 2], 5 * n);
    format!("{} < 17", (2..terms + 2).map(term).collect::<Vec<_>>().join(" + "))
}

#[test]
fn notes_on_choices() {
    let square = [Keys { length: 20, offset: 0 }];
    let of = |predicate: &str| {
        let found = reported(&[&format!("mask(s, {predicate})")], (20, 0), &square).notes;
        found.into_iter().map(|note| note.message).collect::<Vec<_>>()
    };
    assert_eq!(of("(if i >= 9 { i - 9 } else { i }) / w == j / w"), [""; 0]);
    let found = of(&choices(10));
    assert_eq!(found.len(), 1, "{found:?}");
    let why = "because of the choices in it, which have more than 16 cases (write those that occur as conditions of their own, with \
               `||` between them): tiles are decided one by one";
    assert!(found[0].ends_with(why), "{found:?}");
}

#[test]
fn long_conditions_are_shown_in_part() {
    let square = [Keys { length: 20, offset: 0 }];
    let condition = choices(20);
    let found = reported(&[&format!("mask(s, {condition})")], (20, 0), &square);
    assert!(condition.len() > 600);
    assert_eq!(found.loops[0].undecided[0].len(), condition.len());
    let text = found.to_string();
    assert!(text.lines().all(|line| line.chars().count() < 500), "{text}");
    assert!(text.contains("\n    no range the whole mask\n"), "{text}");
    assert!(text.contains(&format!(" … ({} characters)\n", condition.len())), "{text}");
    assert!(text.ends_with("`cargo purview program` and `report --json` print it whole.\n"), "{text}");
    let short = reported(&["mask(s, j <= i)"], (20, 0), &square).to_string();
    assert!(!short.contains('…'), "{short}");
}

#[test]
fn full_tiles_that_are_missed_are_counted() {
    let square = [Keys { length: 24, offset: 0 }];
    // Of a tile of 8, the queries before 4 see by one alternative and the others by the other.
    for (predicate, full, missed) in
        [("j <= i", 3, 0), ("i < 4 && j < 8 || i >= 4 && j < 16", 4, 1), ("kind[i] != kind[j] || i + j < 50", 9, 0)]
    {
        let found = reported(&[&format!("mask(s, {predicate})")], (24, 0), &square);
        assert_eq!((found.tiles.full, found.missed_full_tiles), (4 * full, Some(4 * missed)), "{predicate}");
        assert_eq!(found.loops[0].missed_full_tiles, found.missed_full_tiles);
        let line = format!(
            "    missed   {} partial tiles that hide no pair: their mask is evaluated for nothing\n",
            4 * missed
        );
        assert_eq!(found.to_string().contains(&line), missed > 0, "{found}");
    }
}

/// Block diffusion as one writes it, over a sequence and its copy: no tile is visited for nothing.
#[test]
fn block_diffusion_visits_the_tiles_that_it_needs() {
    let block = |position: &str| format!("(if {position} >= 250 {{ {position} - 250 }} else {{ {position} }}) / 12");
    let (i, j) = (block("i"), block("j"));
    let predicate = format!(
        "{i} == {j} && (i >= 250) == (j >= 250) || {i} > {j} && j >= 250 && i < 250 || {i} >= {j} && j >= 250 && i >= 250"
    );
    let spec = attention(&[&format!("mask(s, {predicate})")]);
    let operands = Operands { element: Element::F32, qk_dim: 8, v_dim: 4 };
    let by = Schedule::Cpu(CpuSchedule::new(16, 1, 16, 1));
    let program =
        schedule(Compiled::new(compile(&spec, &SCALARS, &dims_of(&spec, operands), Kept::default()).unwrap()), by)
            .unwrap();
    let found = at_launch(&spec, &program, (512, 0), &[Keys { length: 512, offset: 0 }], |launch, tensors| {
        verified_report(&spec, &program, launch, tensors).unwrap()
    });
    assert_eq!((found.tiles.visited, found.needed_tiles), (4 * 348, Some(4 * 348)));
    assert_eq!(found.notes, []);
}

#[test]
fn notes_on_positions() {
    let before = "a.rs:7:1: note: the queries at -10..=-1 see no key, and their output is zero: there are more queries (30) than keys \
                  (20), and the first ones are before the first key";
    notes(&["mask(s, j <= i)"], (30, -10), &[Keys { length: 20, offset: 0 }], &[before]);
    let some =
        "a.rs:7:1: note: the queries at 0..=9 see no key, and their output is zero; in some heads or batches only";
    notes(&["mask(s, j + 10 * head() <= i)"], (20, 0), &[Keys { length: 20, offset: 0 }], &[some]);
    let apart = "a.rs:7:1: note: the queries at 1, 4, 7, 10 and 3 more see no key, and their output is zero";
    notes(&["mask(s, i % 3 != 1 && j <= i)"], (20, 0), &[Keys { length: 20, offset: 0 }], &[apart]);

    let aligned = "a.rs:7:2: note: the queries are aligned to the first keys: the first is at position 0, and the last 10 keys are \
                   after all of them; with_query_offset(kv_len - q_len), which is the default, aligns them to the last";
    let longer = [Keys { length: 30, offset: 0 }];
    notes(&["mask(s, j <= i)"], (20, 0), &longer, &[aligned]);
    notes(&["mask(s, j < 5 || i - j >= 0)"], (20, 0), &longer, &[&aligned.replace("7:2", "7:3")]);
    notes(&["mask(s, abs(i - j) < 5)"], (20, 0), &longer, &[]);
    notes(&["mask(s, j <= i)"], (20, 10), &longer, &[]);
    // The memory's keys may be more than the queries.
    notes(&["mask(s, j <= i)", "mask(s, j <= i)"], (20, 0), &[longer[0], Keys { length: 20, offset: 0 }], &[]);
}

#[test]
fn notes_need_no_launch() {
    let spec = attention(&["mask(s, (i - j) % 2 == 0)"]);
    let found = notes::of_program(&spec, &SCALARS, &compiled(&spec));
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].level, log::Level::Debug);
}

#[test]
fn an_svg_has_tiles_mask_positions_and_legend() {
    let found = reported(&["mask(s, j <= i)", "s"], (30, -10), &[Keys { length: 20, offset: 0 }; 2]);
    let drawn = svg(&found, "30 queries & 20 keys");
    for part in [
        "<text x=\"72\" y=\"36\" font-size=\"16\">attention</text>",
        ">30 queries &amp; 20 keys</text>",
        ">keys `k0`, visible where j &lt;= i</text>",
        ">keys `k1`, all visible</text>",
        ">-10</text>",
        ">19</text>",
        ">full tiles</text>",
        ">partial tiles</text>",
        ">skipped tiles</text>",
    ] {
        assert!(drawn.contains(part), "{part}\n{drawn}");
    }
    assert!(drawn.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\"") && drawn.ends_with("</svg>\n"));
    assert_eq!(drawn.matches("<svg").count(), drawn.matches("</svg>").count());

    // However many tiles there are.
    let keys = [Keys { length: 1 << 12, offset: 0 }];
    let spec = attention(&["mask(s, (i / 8 + j / 8) % 2 == 0)"]);
    let program = compiled(&spec);
    let checkered = at_launch(&spec, &program, (1 << 12, 0), &keys, |launch, tensors| {
        report(&spec, &program, launch, tensors).unwrap()
    });
    let rectangles = svg(&checkered, "").matches("<rect").count();
    assert!(rectangles < 8000, "{rectangles}");
}
