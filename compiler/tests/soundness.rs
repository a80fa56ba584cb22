//! Bounds and full ranges against the predicate itself: no visible pair outside the visited keys, no hidden pair among the
//! full ones, for random conjunctions of affine comparisons.

use proptest::prelude::*;
use purview_compiler::eval::{Environment, Value, evaluate};
use purview_compiler::expr::Expr;
use purview_compiler::ir::parse::parse_expr;
use purview_compiler::ir::{Element, KeyRange, Operands, TileOp};
use purview_compiler::launch::Keys;
use purview_compiler::passes::compile;
use purview_compiler::schedule::{CpuSchedule, Schedule};
use purview_compiler::spec::{Accumulator, Location, Pair, PushLoop, ScalarParam, ScalarType, ScalarValue, Spec};
use purview_compiler::typing::Parameters;

fn masked(visible: &str) -> Spec {
    let scalars = ["w", "n"].map(|name| ScalarParam { name: name.into(), ty: ScalarType::I32, comptime: false });
    let visible = parse_expr(visible, Parameters { scalars: &scalars, tensors: &[] }).unwrap();
    Spec {
        name: "masked".into(),
        doc: String::new(),
        source: Location { file: "masked.rs".into(), line: 1, column: 1 },
        query: "q".into(),
        pairs: vec![Pair { key: "k".into(), value: "v".into() }],
        scalars: scalars.to_vec(),
        tensors: Vec::new(),
        accumulator: Accumulator::Softmax { sink: None },
        loops: vec![PushLoop { pair: 0, push: Expr::Mask(Box::new(Expr::Score), Box::new(visible)) }],
        origins: Vec::new(),
    }
}

/// Checks one predicate for all given lengths and offsets, with tiles of `tile` by `tile`; gives the numbers of visited key
/// tiles, of those with a visible pair, of full ones and of those without a hidden pair.
fn check(text: &str, w: i32, n: i32, tile: usize, lengths: &[(usize, usize)], offsets: &[i64]) -> [usize; 4] {
    let spec = masked(text);
    let operands = Operands { element: Element::F32, qk_dim: 8, v_dim: 8 };
    let schedule = Schedule::Cpu(CpuSchedule { lanes: tile, vectors: 1, keys: tile, rows: 1 });
    let scalars = [ScalarValue::I32(w), ScalarValue::I32(n)];
    let program = compile(&spec, &scalars, operands, schedule).unwrap();
    let key_loop = &program.loops[0];
    let visible =
        key_loop.body.iter().find_map(|op| if let TileOp::Mask { visible, .. } = op { Some(visible) } else { None });
    let Expr::Mask(_, original) = &spec.loops[0].push else { unreachable!() };
    assert!(visible.is_some() || key_loop.full == Some(KeyRange::ALL));

    let values = [Value::Int(w.into()), Value::Int(n.into())];
    let at = Environment { scalars: &values, ..Environment::EMPTY };
    let end = |end: &Option<Expr>, at: &Environment, open: i64| {
        end.as_ref().map_or(open, |end| evaluate(end, at).unwrap().unwrap().int())
    };
    let mut counts = [0; 4];
    for &(queries, length) in lengths {
        for &offset in offsets {
            for first in (0..queries).step_by(tile) {
                let (i0, i1) = (offset + first as i64, offset + (first + tile).min(queries) as i64 - 1);
                let at = Environment { query_first: i0, query_last: i1, ..at };
                let keys = Keys { length, offset: 0 };
                let inside = |range: &KeyRange, j: i64| {
                    end(&range.from, &at, i64::MIN) <= j && j < end(&range.to, &at, i64::MAX)
                };
                let full = key_loop.full.as_ref().map_or((0, 0), |range| {
                    keys.tiles_inside(end(&range.from, &at, i64::MIN), end(&range.to, &at, i64::MAX), tile)
                });
                let visited: Vec<_> = key_loop
                    .visit
                    .iter()
                    .map(|range| keys.tiles(end(&range.from, &at, i64::MIN), end(&range.to, &at, i64::MAX), tile))
                    .collect();
                for key_tile in 0..length.div_ceil(tile) {
                    let (mut any, mut all) = (false, true);
                    for j in (key_tile * tile) as i64..((key_tile + 1) * tile).min(length) as i64 {
                        for i in i0..=i1 {
                            let seen = evaluate(original, &Environment { query: i, key: j, ..at }).unwrap();
                            let seen = seen == Some(Value::Bool(true));
                            any |= seen;
                            all &= seen;
                            let visits = key_loop.visit.iter().any(|range| inside(range, j));
                            assert!(!seen || visits, "{text}: {i} sees {j}, which is not visited\n{program}");
                            let full = key_loop.full.as_ref().is_some_and(|range| inside(range, j));
                            assert!(seen || !full, "{text}: {i} does not see {j}, which is full\n{program}");
                        }
                    }
                    let visits = visited.iter().any(|run| (run.0..run.1).contains(&key_tile));
                    let full = (full.0..full.1).contains(&key_tile);
                    assert!(!any || visits, "{text}: tile {key_tile} of {i0}..={i1} is not visited\n{program}");
                    assert!(all || !full, "{text}: tile {key_tile} of {i0}..={i1} is full\n{program}");
                    for (count, holds) in counts.iter_mut().zip([visits, any, full, all]) {
                        *count += usize::from(holds);
                    }
                }
            }
        }
    }
    counts
}

fn comparison() -> impl Strategy<Value = String> {
    let coefficient = prop::sample::select(vec![-3, -2, -1, -1, 0, 1, 1, 2, 3]);
    let form =
        (coefficient.clone(), coefficient, prop::sample::select(vec!["", " + w", " - w", " + 2 * n"]), -12..12i32)
            .prop_map(|(a, b, rest, constant)| format!("{a} * i + {b} * j{rest} + {constant}"));
    let signs = prop::sample::select(vec!["<=", "<", ">=", ">", "=="]);
    prop_oneof![
        (form.clone(), signs).prop_map(|(form, sign)| format!("({form} {sign} 0)")),
        (form.clone(), 0..9).prop_map(|(form, width)| format!("(abs({form}) <= {width})")),
        (form.clone(), form.clone()).prop_map(|(a, b)| format!("(max({a}, {b}) < 3)")),
        (form.clone(), form.clone()).prop_map(|(a, b)| format!("!({a} > 0 || {b} > 4)")),
        (form.clone(), form).prop_map(|(a, b)| format!("({a} <= 0 || {b} != 0)")),
    ]
}

const LENGTHS: &[(usize, usize)] = &[(1, 1), (3, 7), (8, 8), (9, 17), (12, 5), (16, 20)];

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_conjunctions_are_sound(
        comparisons in prop::collection::vec(comparison(), 1..4),
        w in -3..12i32,
        n in -2..5i32,
        tile in prop::sample::select(vec![4usize, 8]),
    ) {
        check(&comparisons.join(" && "), w, n, tile, LENGTHS, &[-5, -1, 0, 3, 20]);
    }
}

#[test]
fn common_masks_are_exact_at_every_length() {
    let lengths: Vec<_> = (1..=20).flat_map(|queries| (1..=20).map(move |keys| (queries, keys))).collect();
    let offsets: Vec<_> = (-5..=20).step_by(5).collect();
    for text in
        ["j <= i", "j <= i && i - j < w", "abs(i - j) <= w", "j < w", "j >= w && j <= i", "j > i", "2 * j <= i + w"]
    {
        for (w, tile) in [(1, 4), (3, 4), (5, 8)] {
            let [visited, needed, full, without_mask] = check(text, w, 0, tile, &lengths, &offsets);
            assert_eq!(visited, needed, "visited, of {text} with w = {w}");
            assert_eq!(full, without_mask, "full, of {text} with w = {w}");
        }
    }
}

#[test]
fn masks_that_decide_nothing_or_everything() {
    assert_eq!(check("true", 0, 0, 4, &[(5, 9)], &[0]), [6, 6, 6, 6]);
    assert_eq!(check("false && j <= i", 0, 0, 4, &[(5, 9)], &[0]), [0, 0, 0, 0]);
    assert_eq!(check("j <= i || true", 0, 0, 4, &[(5, 9)], &[0]), [6, 6, 6, 6]);
    assert_eq!(check("j <= i || j < w", 2, 0, 4, &[(5, 9)], &[0])[..2], [6, 3]);
}
