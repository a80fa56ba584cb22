//! Random expressions and programs: their text reads back to the same value, and simplification keeps their value.

use proptest::prelude::*;
use purview_compiler::analysis::simplify::simplify;
use purview_compiler::eval::{Environment, HostTensor, Value, evaluate};
use purview_compiler::expr::{BinaryOp, Expr, Real, Type, UnaryOp};
use purview_compiler::ir::forward::Form;
use purview_compiler::ir::parse::{parse, parse_expr};
use purview_compiler::ir::verify::verify;
use purview_compiler::ir::{
    Accumulator, Axis, Base, Captured, DotTerm, Element, Heads, Kept, Load, MaskedTiles, Number, Operand, Output,
    Program, Range, Reduction, RowAdd, RowSum, TileKind, TileLoop, TileOp,
};
use purview_compiler::launch::Keys;
use purview_compiler::schedule::{CpuSchedule, CubeSchedule, FewQueries, MmaSchedule, Planes, Products, Schedule};
use purview_compiler::scheduled::{Compiled, Scheduled};
use purview_compiler::spec::{Order, ScalarParam, ScalarType, TensorParam, TensorType};
use purview_compiler::typing::{Parameters, SCORE, type_of};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::LazyLock;

static SCALARS: LazyLock<Vec<ScalarParam>> = LazyLock::new(|| {
    let scalar = |name: &str, ty| ScalarParam { name: name.into(), ty, comptime: false };
    vec![
        scalar("window", ScalarType::U32),
        scalar("s", ScalarType::I32),
        scalar("cap", ScalarType::F32),
        scalar("causal", ScalarType::Bool),
    ]
});
static TENSORS: LazyLock<Vec<TensorParam>> = LazyLock::new(|| {
    let tensor = |name: &str, ty, rank, order| TensorParam { name: name.into(), ty, rank, order };
    vec![
        tensor("slope", TensorType::F32, 1, Order::Any),
        tensor("doc", TensorType::I32, 2, Order::Sorted),
        tensor("min", TensorType::Bool, 1, Order::Any),
    ]
});

fn parameters() -> Parameters<'static> {
    Parameters { scalars: &SCALARS, tensors: &TENSORS, values: SCORE, numbers: &[] }
}

/// Which leaves an expression may have, and which operations.
#[derive(Clone, Copy)]
struct Language {
    pair: bool,
    score: bool,
    /// The ends of the query tile, and of the key tile, with what is read of a captured tensor for a tile.
    queries: bool,
    keys: bool,
    /// Only what is exact in f32, and floats of few bits.
    exact: bool,
    /// What a program has not: the head dim, and a second set of keys.
    specification: bool,
}

const ALL: Language =
    Language { pair: true, score: true, queries: false, keys: false, exact: false, specification: false };

const SPECIFICATION: Language = Language { specification: true, ..ALL };

fn leaf(ty: Type, language: Language) -> BoxedStrategy<Expr> {
    let mut leaves = match ty {
        Type::Int => vec![
            Expr::Batch,
            Expr::Head,
            Expr::KvHead,
            Expr::QueryLen,
            Expr::KeyLen(0),
            Expr::Scalar(0),
            Expr::Scalar(1),
        ],
        Type::Float => vec![Expr::Scale, Expr::Scalar(2)],
        Type::Bool => vec![Expr::Scalar(3), Expr::Bool(true), Expr::Bool(false)],
    };
    if language.pair && ty == Type::Int {
        leaves.extend([Expr::Query, Expr::Key]);
    }
    if language.specification && ty == Type::Int {
        leaves.extend([Expr::KeyLen(1), Expr::HeadDim]);
    }
    if language.queries && ty == Type::Int {
        leaves.extend([Expr::QueryFirst, Expr::QueryLast]);
    }
    if language.keys && ty == Type::Int {
        leaves.extend([Expr::KeyFirst, Expr::KeyLast]);
    }
    if language.score && ty == Type::Float {
        leaves.push(Expr::SCORE);
    }
    let leaves = prop::sample::select(leaves);
    match ty {
        Type::Int if language.exact => prop_oneof![leaves, (-3..4i32).prop_map(Expr::Int)].boxed(),
        Type::Int => prop_oneof![leaves, any::<i32>().prop_map(Expr::Int), (-3..4i32).prop_map(Expr::Int)].boxed(),
        Type::Float if language.exact => {
            prop_oneof![leaves, (-4..5i32).prop_map(|quarters| Expr::float(quarters as f32 * 0.25))].boxed()
        }
        Type::Float => {
            prop_oneof![leaves, any::<u32>().prop_map(|bits| Expr::Float(Real::new(f32::from_bits(bits))))].boxed()
        }
        Type::Bool => leaves.boxed(),
    }
}

fn expr(ty: Type, language: Language, depth: u32) -> BoxedStrategy<Expr> {
    use BinaryOp::*;
    if depth == 0 {
        return leaf(ty, language);
    }
    let of = move |ty| expr(ty, language, depth - 1);
    let binary = move |ops: &[BinaryOp], operands: Type| {
        (prop::sample::select(ops.to_vec()), of(operands), of(operands)).prop_map(|(op, a, b)| Expr::binary(op, a, b))
    };
    let unary = move |ops: &[UnaryOp], operand: Type| {
        (prop::sample::select(ops.to_vec()), of(operand)).prop_map(|(op, a)| Expr::unary(op, a))
    };
    let index = move || of(Type::Int);
    let select = (of(Type::Bool), of(ty), of(ty)).prop_map(|(condition, a, b)| Expr::select(condition, a, b));
    let leaf = leaf(ty, language);
    match ty {
        Type::Int if language.queries => prop_oneof![
            leaf,
            binary(&[Add, Sub, Div, Min], Type::Int),
            (any::<bool>(), index(), index(), index()).prop_map(|(greatest, a, b, c)| {
                Expr::Extreme { tensor: 1, greatest, index: vec![(a.clone(), a), (b, c)] }
            }),
            (any::<bool>(), index())
                .prop_map(|(greatest, a)| { Expr::Extreme { tensor: 2, greatest, index: vec![(a.clone(), a)] } }),
            (any::<bool>(), index(), index()).prop_map(|(inclusive, a, value)| {
                Expr::Count { tensor: 1, index: vec![a], value: Box::new(value), inclusive }
            }),
        ]
        .boxed(),
        Type::Int => prop_oneof![
            leaf,
            select,
            binary(&[Add, Sub, Mul, Div, Rem, Min, Max], Type::Int),
            unary(&[UnaryOp::Neg, UnaryOp::Abs, UnaryOp::Ilog2], Type::Int),
            unary(&[UnaryOp::ToInt], Type::Bool),
            (index(), index()).prop_map(|(a, b)| Expr::Load { tensor: 1, index: vec![a, b] }),
        ]
        .boxed(),
        Type::Float if language.exact => prop_oneof![
            leaf,
            select,
            binary(&[Add, Sub, Mul, Min, Max], Type::Float),
            unary(
                &[UnaryOp::Neg, UnaryOp::Abs, UnaryOp::Relu, UnaryOp::Floor, UnaryOp::Ceil, UnaryOp::Round],
                Type::Float
            ),
            unary(&[UnaryOp::ToFloat], Type::Int),
            index().prop_map(Expr::random),
            index().prop_map(|a| Expr::Load { tensor: 0, index: vec![a] }),
        ]
        .boxed(),
        Type::Float => {
            use UnaryOp::*;
            prop_oneof![
                leaf,
                select,
                binary(&[BinaryOp::Add, Sub, Mul, Div, Min, Max, Pow], Type::Float),
                unary(
                    &[Neg, Abs, Exp, Exp2, Log, Log2, Sqrt, Tanh, Sigmoid, Relu, Sin, Cos, Floor, Ceil, Round],
                    Type::Float
                ),
                unary(&[ToFloat], Type::Int),
                unary(&[ToFloat], Type::Bool),
                [index(), index(), index(), index(), index()].prop_map(|of| Expr::Random(Box::new(of))),
                index().prop_map(|a| Expr::Load { tensor: 0, index: vec![a] }),
            ]
            .boxed()
        }
        Type::Bool => prop_oneof![
            leaf,
            select,
            binary(&[And, Or, Eq, Ne], Type::Bool),
            binary(&[Lt, Le, Gt, Ge, Eq, Ne], Type::Int),
            binary(&[Lt, Le, Gt, Ge, Eq, Ne], Type::Float),
            unary(&[UnaryOp::Not], Type::Bool),
            index().prop_map(|a| Expr::Load { tensor: 2, index: vec![a] }),
        ]
        .boxed(),
    }
}

const QUERY_TILE: Language =
    Language { pair: false, score: false, queries: true, keys: false, exact: false, specification: false };

fn range(depth: u32) -> impl Strategy<Value = Range> {
    let part = move |ty| prop::option::of(expr(ty, QUERY_TILE, depth));
    (part(Type::Bool), part(Type::Int), part(Type::Int)).prop_map(|(when, from, to)| Range { when, from, to })
}

fn kind() -> impl Strategy<Value = TileKind> {
    let condition = || expr(Type::Bool, Language { keys: true, ..QUERY_TILE }, 3);
    (condition(), condition()).prop_map(|(some, all)| TileKind { some, all })
}

fn hop() -> impl Strategy<Value = Expr> {
    let from = expr(Type::Int, QUERY_TILE, 2);
    from.prop_map(|from| {
        let from = Box::new(Expr::binary(BinaryOp::Add, from, Expr::KeyFirst));
        Expr::Next { tensor: 2, index: Vec::new(), from }
    })
}

fn schedule() -> impl Strategy<Value = Schedule> {
    let size = 1..300usize;
    let few = (any::<bool>(), any::<bool>(), 0..300usize).prop_map(|(pack_gqa, split_kv, along_head_dim)| FewQueries {
        pack_gqa,
        split_kv,
        along_head_dim,
    });
    prop_oneof![
        (size.clone(), size.clone(), size.clone(), size.clone(), few).prop_map(|(lanes, vectors, keys, rows, few)| {
            Schedule::Cpu(CpuSchedule { few, ..CpuSchedule::new(lanes, vectors, keys, rows) })
        }),
        (size.clone(), size.clone(), size.clone(), any::<bool>(), any::<bool>()).prop_map(
            |(warps, fragments, keys, pack_gqa, split_columns)| {
                Schedule::Mma(MmaSchedule { warps, fragments, keys, pack_gqa, split_columns })
            }
        ),
        (size.clone(), size.clone(), size.clone(), size.clone(), size.clone(), planes(size.clone()), products(size))
            .prop_map(|(unit_rows, unit_columns, rows, keys, chunk, planes, products)| {
                Schedule::Cube(CubeSchedule { unit_rows, unit_columns, rows, keys, chunk, planes, products })
            }),
    ]
}

fn planes(size: impl Strategy<Value = usize>) -> impl Strategy<Value = Planes> {
    prop_oneof![Just(Planes::Unused), Just(Planes::Reduce), size.prop_map(Planes::Share)]
}

fn products(size: impl Strategy<Value = usize> + Clone) -> impl Strategy<Value = Products> {
    let matrices = (size.clone(), size.clone(), size.clone(), size);
    let matrices = matrices.prop_map(|(m, n, k, plane)| Products::Matrices { m, n, k, plane });
    prop_oneof![Just(Products::Units), matrices]
}

fn tile_loop(set: usize) -> impl Strategy<Value = TileLoop> {
    let positions = Language { score: false, ..ALL };
    let maps = prop::collection::vec(expr(Type::Float, ALL, 2), 0..3);
    let mask = prop::option::of(expr(Type::Bool, positions, 3));
    let ranges = || prop::collection::vec(range(2), 0..3);
    let tiles = (ranges(), ranges(), prop::option::of(kind()), prop::option::of(hop()));
    (tiles, maps, mask).prop_map(move |((visit, full, kind, key_hop), maps, mask)| {
        let mut body = vec![TileOp::Dot { tile: 0, terms: vec![DotTerm { row: 0, column: 1 + 2 * set, dim: 0 }] }];
        body.extend(maps.into_iter().map(|value| TileOp::Map { tile: 0, value }));
        body.extend(mask.map(|visible| {
            let partial = !full.is_empty() || kind.is_some();
            TileOp::Mask { tile: 0, visible, on: if partial { MaskedTiles::Partial } else { MaskedTiles::All } }
        }));
        body.push(TileOp::Push { accumulator: 0, weights: 0, factor: None, values: 2 + 2 * set, dim: 0 });
        TileLoop { columns: Axis::Keys(set), each_head: false, visit, full, kind, key_hop, tiles: SCORE.to_vec(), body }
    })
}

/// `one`, which multiplies `qk_dim` elements and pushes `v_dim`.
fn with_dims(mut one: TileLoop, qk_dim: usize, v_dim: usize) -> TileLoop {
    for op in &mut one.body {
        match op {
            TileOp::Push { dim, .. } => *dim = v_dim,
            TileOp::Dot { terms, .. } => terms.iter_mut().for_each(|term| term.dim = qk_dim),
            _ => {}
        }
    }
    one
}

/// Programs of the form that schedules run.
fn program() -> impl Strategy<Value = Program> {
    let uniform =
        Language { pair: false, score: false, queries: false, keys: false, exact: false, specification: false };
    let sink = prop::option::of(expr(Type::Float, uniform, 2));
    let reduction = prop_oneof![
        (any::<bool>(), sink)
            .prop_map(|(two, sink)| { Reduction::Softmax { base: if two { Base::Two } else { Base::E }, sink } }),
        Just(Reduction::Sum),
        Just(Reduction::Mean),
    ];
    let element = prop::sample::select(vec![Element::F32, Element::F16, Element::Bf16]);
    let sizes = (element, 1..=256usize, 1..=256usize);
    let scale = prop::option::of(expr(Type::Float, uniform, 2));
    let loops = (tile_loop(0), tile_loop(1), tile_loop(0)).prop_map(|(a, b, c)| vec![a, b, c]);
    let kept = prop::sample::select(vec![Kept::LogSumExp, Kept::LogSumExpAndMaximum, Kept::Partial, Kept::Each]);
    (reduction, sizes, scale, loops, kept).prop_map(|(reduction, (element, qk_dim, v_dim), scale, loops, kept)| {
        let operand = |name: &str, heads, axis, dim| Operand { name: name.into(), element, heads, axis, dim };
        let kept = if reduction.is_softmax() || kept == Kept::Each { kept } else { Kept::default() };
        let of_keys = |name, set, dim| operand(name, Heads::Key, Axis::Keys(set), dim);
        Program {
            name: "random".into(),
            scalars: SCALARS.clone(),
            tensors: TENSORS.clone(),
            operands: vec![
                operand("o", Heads::Query, Axis::Queries, qk_dim),
                of_keys("k", 0, qk_dim),
                of_keys("v", 0, v_dim),
                of_keys("memory", 1, qk_dim),
                of_keys("recalled", 1, v_dim),
            ],
            numbers: Vec::new(),
            rows: Axis::Queries,
            accumulators: vec![Accumulator { name: "o".into(), reduction }],
            loads: vec![Load { operand: 0, scale }],
            sums: Vec::new(),
            loops: loops.into_iter().map(|one| with_dims(one, qk_dim, v_dim)).collect(),
            outputs: vec![Output { element, heads: Heads::Query, dim: v_dim, value: Expr::Value(0) }],
            captured: None,
            adds: Vec::new(),
            kept: Kept::default(),
        }
        .keeping(kept)
    })
}

/// Programs of other forms: any number of dots, maps, masks, pushes, accumulators and outputs, over queries or over keys.
fn general_program() -> impl Strategy<Value = Program> {
    let of_tile = |tiles: usize| (0..tiles, expr(Type::Float, Language { score: false, ..ALL }, 2), any::<bool>());
    let body = prop::collection::vec(of_tile(4), 1..5);
    let outputs = prop::collection::vec((any::<bool>(), 0..3usize), 1..3);
    (any::<bool>(), body, outputs, any::<bool>()).prop_map(|(over_keys, maps, outputs, each_head)| {
        let (rows, columns) = if over_keys { (Axis::Keys(0), Axis::Queries) } else { (Axis::Queries, Axis::Keys(0)) };
        let operand = |name: &str, axis, element| Operand {
            name: name.into(),
            element,
            heads: if axis == Axis::Queries { Heads::Query } else { Heads::Key },
            axis,
            dim: 8,
        };
        let tiles: Vec<Cow<str>> = (0..5).map(|tile| format!("t{tile}").into()).collect();
        let mut body = Vec::new();
        for tile in 0..4 {
            let terms =
                [tile % 2, (tile + 1) % 2].map(|side| DotTerm { row: side, column: 2 + side, dim: 8 - 3 * side });
            body.push(TileOp::Dot { tile, terms: terms[..1 + tile % 2].to_vec() });
        }
        let mut masked = BTreeSet::new();
        for (tile, value, is_masked) in maps {
            let value = Expr::binary(BinaryOp::Mul, Expr::Value((tile + 1) % 4), value);
            body.push(TileOp::Map { tile, value });
            masked.extend(is_masked.then_some(tile));
        }
        body.extend(masked.into_iter().map(|tile| {
            let visible = Expr::binary(BinaryOp::Le, Expr::Key, Expr::Query);
            TileOp::Mask { tile, visible, on: MaskedTiles::All }
        }));
        body.push(TileOp::Map { tile: 4, value: Expr::float(2.0) });
        body.extend((0..4).map(|weights| TileOp::Push {
            accumulator: weights % 2,
            weights,
            factor: (weights > 2).then_some(4),
            values: 2 + weights % 2,
            dim: 8 - 4 * (weights % 2),
        }));
        let sum = |name: &str| Accumulator { name: name.into(), reduction: Reduction::Sum };
        Program {
            name: "general".into(),
            scalars: SCALARS.clone(),
            tensors: TENSORS.clone(),
            operands: vec![
                operand("o", rows, Element::F32),
                operand("r2", rows, Element::F16),
                operand("c1", columns, Element::Bf16),
                operand("c2", columns, Element::F32),
            ],
            numbers: vec![Number { name: "lse".into(), heads: Heads::Query, axis: Axis::Queries }],
            rows,
            accumulators: vec![sum("o"), sum("other")],
            loads: vec![Load { operand: 0, scale: Some(Expr::Scale) }, Load { operand: 1, scale: None }],
            sums: Vec::new(),
            captured: None,
            adds: Vec::new(),
            loops: vec![TileLoop {
                columns,
                each_head: each_head && over_keys,
                visit: vec![Range::ALL],
                full: Vec::new(),
                kind: None,
                key_hop: None,
                tiles,
                body,
            }],
            outputs: outputs
                .into_iter()
                .map(|(negate, of)| {
                    let value = Expr::Value(of);
                    let value = if negate { Expr::unary(UnaryOp::Neg, value) } else { value };
                    Output { element: Element::F16, heads: Heads::Query, dim: if of == 1 { 4 } else { 8 }, value }
                })
                .collect(),
            kept: Kept::default(),
        }
    })
}

/// Programs of sums like something captured, of pairs or of rows alone.
fn program_of_sums() -> impl Strategy<Value = Program> {
    let positions = Language { score: false, ..ALL };
    let of_rows = Language { pair: false, ..positions };
    let index = |language| expr(Type::Int, language, 2);
    let elements = move |language| {
        let of_tensor = index(language).prop_map(|at| Expr::Load { tensor: 0, index: vec![at] });
        prop_oneof![of_tensor, Just(Expr::Scalar(2)), Just(Expr::Scale)]
    };
    let of_pairs = (program(), elements(positions)).prop_map(|(program, element)| {
        let captured = Captured::of(&element);
        let in_loop = |mut one: TileLoop| {
            if let Some(TileOp::Push { weights, .. }) = one.body.pop() {
                one.body.push(TileOp::Add { tile: weights, element: element.clone() });
            }
            one
        };
        let loops = program.loops.iter().cloned().map(in_loop).collect();
        let (accumulators, outputs, kept) = (Vec::new(), Vec::new(), Kept::default());
        Program { loops, accumulators, outputs, kept, captured, ..program }
    });
    let of_rows =
        (program(), elements(of_rows), expr(Type::Float, of_rows, 3)).prop_map(|(program, element, value)| {
            let sums = vec![RowSum { name: "total".into(), value: Expr::Value(0) }];
            let value = Expr::binary(BinaryOp::Mul, Expr::Value(1), value);
            let (accumulators, outputs, kept) = (Vec::new(), Vec::new(), Kept::default());
            let captured = Captured::of(&element);
            // Of sets of keys that no operand is of, an expression has no length.
            let adds = vec![RowAdd { value, element }];
            Program { loops: Vec::new(), sums, adds, accumulators, outputs, kept, captured, ..program }
        });
    prop_oneof![of_pairs, of_rows]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn expressions_read_back(
        expr in {
            let of = |ty| expr(ty, SPECIFICATION, 4);
            prop_oneof![of(Type::Int), of(Type::Float), of(Type::Bool)]
        },
    ) {
        let text = expr.display(parameters()).to_string();
        prop_assert_eq!(parse_expr(&text, parameters()), Ok(expr.clone()), "{}", text);
        prop_assert!(type_of(&expr, parameters()).is_ok());
    }

    #[test]
    fn programs_read_back(program in program()) {
        prop_assert_eq!(verify(&program), Ok(()), "{}", program);
        let text = program.to_string();
        prop_assert_eq!(parse(&text), Ok(program), "{}", text);
    }

    #[test]
    fn programs_of_sums_read_back(program in program_of_sums()) {
        prop_assert_eq!(verify(&program), Ok(()), "{}", program);
        let text = program.to_string();
        prop_assert_eq!(parse(&text), Ok(program), "{}", text);
    }

    #[test]
    fn programs_of_other_forms_read_back_and_have_no_schedule(program in general_program(), schedule in schedule()) {
        prop_assert_eq!(verify(&program), Ok(()), "{}", program);
        let text = program.to_string();
        prop_assert_eq!(parse(&text), Ok(program.clone()), "{}", text);
        let refused = Scheduled::new(Compiled::new(program), schedule).map(|scheduled| scheduled.to_string());
        prop_assert!(refused.unwrap_err().to_string().starts_with("the schedule `"));
    }

    #[test]
    fn scheduled_programs_read_back(program in program(), schedule in schedule()) {
        let base_two = !matches!(program.accumulators[0].reduction, Reduction::Softmax { base: Base::E, .. });
        let keeps_more = program.is_undivided() || program.kept == Kept::Each;
        let is_stored = !keeps_more || schedule.form() == Form::General;
        let scheduled = Scheduled::new(Compiled::new(program), schedule);
        prop_assert_eq!(scheduled.is_ok(), base_two && is_stored);
        if let Ok(scheduled) = scheduled {
            let text = scheduled.to_string();
            prop_assert_eq!(text.parse(), Ok(scheduled), "{}", text);
        }
    }

    #[test]
    fn simplification_keeps_values(
        expr in {
            let exact = Language { exact: true, ..SPECIFICATION };
            prop_oneof![expr(Type::Int, exact, 4), expr(Type::Float, exact, 4), expr(Type::Bool, exact, 4)]
        },
        query in -5..5i64,
        key in -5..5i64,
        window in 0..4i64,
        score in prop::sample::select(vec![-1.5, -0.0, 0.0, 2.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY]),
    ) {
        let simple = simplify(&expr, parameters());
        prop_assert_eq!(type_of(&simple, parameters()), type_of(&expr, parameters()));
        prop_assert_eq!(simplify(&simple, parameters()), simple.clone(), "is simple");
        let tensors = [
            HostTensor { shape: vec![9], data: (0..9).map(|n| n as f64 * 0.5 - 2.0).collect() },
            HostTensor { shape: vec![5, 5], data: (0..25).map(|n| (n % 7) as f64 - 2.0).collect() },
            HostTensor { shape: vec![6], data: vec![0.0, 1.0, 1.0, 0.0, 0.0, 1.0] },
        ];
        let at = Environment {
            query, key, values: &[score], scale: 0.25, batch: 1, head: 3, kv_head: 1, query_length: 6, head_dim: 4,
            keys: &[Keys { length: 7, offset: -2 }, Keys { length: 0, offset: 3 }],
            scalars: &[Value::Int(window), Value::Int(-2), Value::Float(1.5), Value::Bool(true)],
            tensors: &tensors,
            tensor_params: &TENSORS,
            ..Environment::EMPTY
        };
        // What has no value may get one.
        if let Ok(value) = evaluate(&expr, &at) {
            let found = evaluate(&simple, &at);
            let same = match (&value, &found) {
                (Some(Value::Float(a)), Ok(Some(Value::Float(b)))) => a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()),
                _ => found == Ok(value),
            };
            prop_assert!(same, "{} is {:?}, {} is {:?}", expr.display(parameters()), value, simple.display(parameters()), found);
        }
    }
}

#[test]
fn a_mistake_is_found_where_it_is() {
    for (text, message) in [
        ("i +", "1:4: expected an expression, found the end"),
        ("i < j < 3", "1:7: expected the end, found `<`"),
        ("i + windo", "1:5: expected a scalar, a captured tensor or an expression, found `windo`"),
        ("slope[i", "1:8: expected `]`, found the end"),
        ("min(i j)", "1:7: expected `,`, found `j`"),
        ("3000000000", "1:1: expected a number in the range of i32 or f32, found `3000000000`"),
        ("i ? 1", "1:3: expected the end, found `?`"),
    ] {
        assert_eq!(parse_expr(text, parameters()).unwrap_err().to_string(), message, "of {text}");
    }
    let head = "attention @f() -> f32[B, H, S, 8]\n  q: f32[B, H, S, 4]\n  k: f32[B, G, T0, 4]\n";
    for (rest, message) in [
        ("  v: f32[B, G, X, 4]", "4:16: expected `S`, `T0`, `T1` or another number of keys, found `X`"),
        ("  for i in tiles(T0)", "4:18: expected `S`, found `T0`"),
        ("  for i in tiles(S)\n    k = load k[i]", "5:5: expected an operand along S, found `k`"),
        (
            "  for i in tiles(S)\n    q = load q[i]\n    for j in tiles(T0)\n      s = dot q, q[j]",
            "7:18: expected an operand along T0, found `q`",
        ),
        (
            "  for i in tiles(S)\n    o = sum\n    for j in tiles(T0)\n      s = push s, k[j]",
            "7:7: expected an accumulator, found `s`",
        ),
        (
            "  for i in tiles(S)\n    o = sum\n    for j in tiles(T0)\n      o = push s, k[j]",
            "7:16: expected a tile, found `s`",
        ),
        ("  for i in tiles(S)\n    store p", "5:11: expected a scalar, a captured tensor or an expression, found `p`"),
    ] {
        assert_eq!(parse(&format!("{head}{rest}")).unwrap_err().to_string(), message, "of {rest}");
    }
}
