//! Random attentions: predicates, scores and a sink of the whole language, on values where every operation is defined.
//!
//! Every attention has the same parameters, so that an expression is generated without knowing the rest: the scalars `n` and
//! `m` (u32, at least 1), `shift` (i32), `cap` (f32) and `causal` (bool), and captured tensors of each type. What would make a
//! comparison with the reference meaningless is left out: floats are compared, and made integers, only where they are exact in
//! f32 too, and the arguments of functions are kept where an error does not grow much.

use crate::numbers::Numbers;
use proptest::prelude::*;
use proptest::sample::select;
use purview::ir::Element;
use purview::lang::{self, Bool, Builder, Captured, Float, Int, Value};
use purview::schedule::{CpuSchedule, Schedule};
use purview::spec::{ScalarType, ScalarValue, Spec};
use purview::{AnyAttention, Attention, Device, Error, Shape, Tensor};
use std::fmt;
use std::sync::Arc;

/// The lengths of the captured tensors; indices are brought inside.
pub(crate) const HEADS: usize = 4;
pub(crate) const BATCHES: usize = 2;
pub(crate) const LENGTH: usize = 37;

/// What expressions are made of.
pub(crate) struct Parameters {
    pub(crate) n: Int,
    pub(crate) m: Int,
    pub(crate) shift: Int,
    pub(crate) cap: Float,
    pub(crate) causal: Bool,
    pub(crate) slope: Captured<Float, 1>,
    pub(crate) document: Captured<Int, 2>,
    pub(crate) keep: Captured<Bool, 3>,
    pub(crate) bias: Captured<Float, 4>,
}

pub(crate) fn declare(builder: &mut Builder) -> Parameters {
    Parameters {
        n: builder.scalar("n", ScalarType::U32, false),
        m: builder.scalar("m", ScalarType::U32, true),
        shift: builder.scalar("shift", ScalarType::I32, false),
        cap: builder.scalar("cap", ScalarType::F32, false),
        causal: builder.scalar("causal", ScalarType::Bool, false),
        slope: builder.tensor("slope"),
        document: builder.tensor("document"),
        keep: builder.tensor("keep"),
        bias: builder.tensor("bias"),
    }
}

pub(crate) fn parameters() -> Parameters {
    declare(&mut Builder::new("", "", "", 1, 1))
}

/// `low <= x <= high`.
pub(crate) fn clamped<T: lang::Number>(x: T, low: T, high: T) -> T {
    lang::max(lang::min(x, high), low)
}

/// The index `x`, brought inside `0..length`, by a remainder or by clamping.
pub(crate) fn inside(x: Int, length: usize, by_remainder: bool) -> Int {
    let length = length as i32;
    if by_remainder { lang::rem(x, lang::int(length)) } else { clamped(x, lang::int(0), lang::int(length - 1)) }
}

pub(crate) fn leaf<T: Value + fmt::Debug + 'static>(leaves: Vec<T>) -> BoxedStrategy<T> {
    select(leaves).boxed()
}

/// An integer of at most a few thousand.
fn integer(depth: u32) -> BoxedStrategy<Int> {
    let Parameters { n, m, shift, document, .. } = parameters();
    let positions = leaf(vec![lang::query_position(), lang::key_position()]);
    let scalars = leaf(vec![n.clone(), m.clone(), shift, lang::head(), lang::kv_head(), lang::batch()]);
    let lengths = leaf(vec![lang::q_len(), lang::kv_len(), lang::head_dim()]);
    let leaves = prop_oneof![8 => positions, 4 => scalars, 1 => lengths, 2 => (-9..9i32).prop_map(lang::int)];
    if depth == 0 {
        return leaves.boxed();
    }
    let of = || integer(depth - 1);
    let divisor =
        prop_oneof![leaf(vec![n, m, lang::q_len()]), (1..9i32).prop_map(lang::int), (-5..-1i32).prop_map(lang::int)];
    prop_oneof![
        2 => leaves,
        2 => (of(), of()).prop_map(|(a, b)| lang::add(a, b)),
        3 => (of(), of()).prop_map(|(a, b)| lang::sub(a, b)),
        1 => (of(), -3..4i32).prop_map(|(a, factor)| lang::mul(a, lang::int(factor))),
        // Affine in every leaf, and not affine in any.
        1 => (clamp_small(depth - 1), clamp_small(depth - 1)).prop_map(|(a, b)| lang::mul(a, b)),
        2 => (of(), divisor.clone()).prop_map(|(a, b)| lang::div(a, b)),
        2 => (of(), divisor).prop_map(|(a, b)| lang::rem(a, b)),
        1 => (of(), of()).prop_map(|(a, b)| lang::min(a, b)),
        1 => (of(), of()).prop_map(|(a, b)| lang::max(a, b)),
        1 => of().prop_map(lang::abs),
        1 => of().prop_map(lang::neg),
        1 => of().prop_map(lang::ilog2),
        1 => predicate(depth - 1).prop_map(lang::to_int),
        1 => (predicate(depth - 1), of(), of()).prop_map(|(c, a, b)| lang::select(c, a, b)),
        1 => exact(depth - 1).prop_map(|a| lang::to_int(lang::mul(a, lang::float(2.0)))),
        2 => (of(), any::<bool>()).prop_map(move |(at, rest)| document.load([lang::batch(), inside(at, LENGTH, rest)])),
    ]
    .boxed()
}

fn clamp_small(depth: u32) -> BoxedStrategy<Int> {
    integer(depth).prop_map(|a| clamped(a, lang::int(-12), lang::int(12))).boxed()
}

/// What a query may see.
pub(crate) fn predicate(depth: u32) -> BoxedStrategy<Bool> {
    let Parameters { n, causal, keep, .. } = parameters();
    let (i, j) = (lang::query_position, lang::key_position);
    let leaves = leaf(vec![
        lang::le(j(), i()),
        lang::lt(lang::sub(i(), j()), n),
        lang::boolean(true),
        lang::boolean(false),
        causal,
    ]);
    if depth == 0 {
        return leaves;
    }
    let of = || predicate(depth - 1);
    let number = || integer(depth - 1);
    let index = || (integer(depth - 1), any::<bool>());
    prop_oneof![
        2 => leaves,
        6 => (select(vec![0, 1, 2, 3, 4, 5]), number(), number()).prop_map(|(op, a, b)| compare(op, a, b)),
        1 => (select(vec![0, 1, 2, 3]), exact(depth - 1), exact(depth - 1)).prop_map(|(op, a, b)| compare(op, a, b)),
        3 => (of(), of()).prop_map(|(a, b)| lang::and(a, b)),
        3 => (of(), of()).prop_map(|(a, b)| lang::or(a, b)),
        2 => of().prop_map(lang::not),
        1 => (of(), of()).prop_map(|(a, b)| lang::eq(a, b)),
        1 => (of(), of()).prop_map(|(a, b)| lang::ne(a, b)),
        1 => (of(), of(), of()).prop_map(|(c, a, b)| lang::select(c, a, b)),
        1 => (index(), index()).prop_map(move |((a, rest_a), (b, rest_b))| {
            keep.load([lang::head(), inside(a, LENGTH, rest_a), inside(b, LENGTH, rest_b)])
        }),
    ]
    .boxed()
}

fn compare<T: lang::Number>(op: u32, a: T, b: T) -> Bool {
    match op {
        0 => lang::lt(a, b),
        1 => lang::le(a, b),
        2 => lang::gt(a, b),
        3 => lang::ge(a, b),
        4 => lang::eq(a, b),
        _ => lang::ne(a, b),
    }
}

/// A float that is the same in f32 as in f64: a multiple of 1/8, of a magnitude of a few hundred at most.
pub(crate) fn exact(depth: u32) -> BoxedStrategy<Float> {
    let Parameters { cap, slope, bias, .. } = parameters();
    let constants = (-16..17i32).prop_map(|eighths| lang::float(eighths as f32 / 8.0));
    if depth == 0 {
        return prop_oneof![leaf(vec![cap, slope.load([lang::head()])]), constants].boxed();
    }
    let of = || exact(depth - 1);
    let index = || (integer(depth - 1), any::<bool>());
    prop_oneof![
        2 => constants,
        2 => leaf(vec![cap, slope.load([lang::head()])]),
        2 => integer(depth - 1).prop_map(|a| lang::to_float(clamped(a, lang::int(-60), lang::int(60)))),
        1 => predicate(depth - 1).prop_map(lang::to_float),
        1 => (of(), of()).prop_map(|(a, b)| lang::add(a, b)),
        1 => (of(), of()).prop_map(|(a, b)| lang::max(a, b)),
        1 => of().prop_map(lang::neg),
        1 => (select(vec![0, 1, 2]), of(), -3..4i32).prop_map(|(function, a, eighths)| {
            let a = lang::add(a, lang::float(eighths as f32 / 8.0));
            match function {
                0 => lang::floor(a),
                1 => lang::ceil(a),
                _ => lang::round(a),
            }
        }),
        2 => (index(), index()).prop_map(move |((a, rest_a), (b, rest_b))| {
            let (a, b) = (inside(a, LENGTH, rest_a), inside(b, LENGTH, rest_b));
            bias.load([lang::batch(), lang::head(), a, b])
        }),
    ]
    .boxed()
}

/// A float of the whole language, at most 8 in magnitude, of the `products` and of what else there is.
pub(crate) fn float(depth: u32, products: BoxedStrategy<Float>) -> BoxedStrategy<Float> {
    let bounded = |x: Float| clamped(x, lang::float(-8.0), lang::float(8.0));
    let leaves = prop_oneof![3 => products.clone(), 1 => exact(1).prop_map(bounded)];
    if depth == 0 {
        return leaves.boxed();
    }
    let of = || float(depth - 1, products.clone());
    let positive = || of().prop_map(|x| lang::add(lang::abs(x), lang::float(0.5)));
    let exponent = || of().prop_map(|x| clamped(x, lang::float(-2.0), lang::float(2.0)));
    let functions = select(vec![0, 1, 2, 3, 4, 5]);
    let all = prop_oneof![
        2 => leaves,
        3 => (of(), of()).prop_map(|(a, b)| lang::add(a, b)),
        2 => (of(), of()).prop_map(|(a, b)| lang::sub(a, b)),
        2 => (of(), of()).prop_map(|(a, b)| lang::mul(a, b)),
        1 => (of(), positive()).prop_map(|(a, b)| lang::div(a, b)),
        1 => (of(), of()).prop_map(|(a, b)| lang::min(a, b)),
        1 => (of(), of()).prop_map(|(a, b)| lang::max(a, b)),
        1 => (positive(), exponent()).prop_map(|(a, b)| lang::pow(a, b)),
        1 => exponent().prop_map(lang::exp),
        1 => exponent().prop_map(lang::exp2),
        1 => positive().prop_map(lang::log),
        1 => positive().prop_map(lang::log2),
        1 => positive().prop_map(lang::sqrt),
        3 => (functions, of()).prop_map(|(function, a)| match function {
            0 => lang::tanh(a),
            1 => lang::sigmoid(a),
            2 => lang::relu(a),
            3 => lang::sin(a),
            4 => lang::cos(a),
            _ => lang::abs(a),
        }),
        2 => (predicate(2), of(), of()).prop_map(|(c, a, b)| lang::select(c, a, b)),
    ];
    all.prop_map(bounded).boxed()
}

/// `dot(q[i], k[j]) * scale()`, which is what most scores begin with, or the bare product.
fn score() -> BoxedStrategy<Float> {
    let scaled = lang::mul(lang::dot(0), lang::scale());
    let bare = lang::mul(lang::dot(0), lang::float(0.25));
    prop_oneof![4 => float(2, Just(scaled).boxed()), 1 => float(2, Just(bare).boxed())].boxed()
}

/// What may be pushed: a score or weight, masked, and maybe once more, or by its own value.
fn push(accumulator: u32) -> impl Strategy<Value = Float> {
    let mean = accumulator == 2;
    // A threshold that no product, a multiple of 1/64, is at.
    let threshold = (-64..64i32).prop_map(|odd| lang::float((2 * odd + 1) as f32 / 128.0));
    (score(), predicate(3), predicate(2), threshold, 0..8u32).prop_map(
        move |(score, first, second, threshold, form)| {
            // A mean is divided by the sum of its weights, which should not vanish.
            let score = if mean { lang::add(lang::abs(score), lang::float(0.25)) } else { score };
            match form {
                0 => score,
                1 => lang::mask(lang::mul(lang::mask(score, first), lang::float(0.5)), second),
                2 => lang::mask(lang::mask(score, lang::gt(lang::dot(0), threshold)), first),
                3 => lang::select(second, lang::mask(score.clone(), first), score),
                _ => lang::mask(score, first),
            }
        },
    )
}

/// A random attention with its arguments.
#[derive(Clone)]
pub struct Case {
    /// What it computes.
    pub spec: Arc<Spec>,
    /// Its sizes.
    pub shape: Shape,
    /// The position of the first query.
    pub query_offset: i64,
    /// The position of the first key.
    pub key_offset: i64,
    schedule: Option<CpuSchedule>,
    scalars: Vec<ScalarValue>,
}

/// Schedules with small tiles, which have more edges and kernels that are compiled sooner than the one chosen from the device.
pub(crate) fn schedule() -> impl Strategy<Value = Option<CpuSchedule>> {
    let small = |lanes, vectors, keys, rows| Some(CpuSchedule::new(lanes, vectors, keys, rows));
    select(vec![small(4, 1, 16, 2), small(8, 1, 8, 4), small(4, 2, 32, 4), small(1, 3, 12, 3), small(2, 1, 5, 1)])
}

/// The captured tensors of every attention, on `device`, in the order that they are declared.
///
/// # Errors
/// As [`Tensor::from_slice`].
pub(crate) fn captured(device: &Device) -> Result<[Tensor; 4], Error> {
    let mut numbers = Numbers::new(42);
    let slope = Tensor::from_slice(device, [HEADS], &numbers.eighths(HEADS))?;
    let documents: Vec<i32> = (0..BATCHES * LENGTH).map(|_| numbers.integer(-3, 9)).collect();
    let documents = Tensor::from_slice(device, [BATCHES, LENGTH], &documents)?;
    let keep: Vec<bool> = (0..HEADS * LENGTH * LENGTH).map(|_| numbers.integer(0, 4) > 0).collect();
    let keep = Tensor::from_slice(device, [HEADS, LENGTH, LENGTH], &keep)?;
    let shape = [BATCHES, HEADS, LENGTH, LENGTH];
    let bias = Tensor::from_slice(device, shape, &numbers.eighths(shape.iter().product()))?;
    Ok([slope, documents, keep, bias])
}

impl Case {
    /// Any case.
    pub fn any() -> impl Strategy<Value = Case> {
        let pushes = [push(0).boxed(), push(1).boxed(), push(2).boxed(), push(3).boxed()];
        let of_accumulator = pushes.into_iter().enumerate().map(|(accumulator, push)| {
            (Just(accumulator as u32), push.clone(), prop::option::of(push), float_of_a_query()).boxed()
        });
        let spec = prop::strategy::Union::new(of_accumulator);
        let sizes = (1..=BATCHES, select(vec![(1, 1), (2, 1), (4, 2), (3, 3)]), 1..70usize, 0..80usize, 1..10usize);
        let offsets = (prop::option::of(-40..60i64), select(vec![0i64, 0, 0, -20, 33]));
        let scalars = (1..20u32, 1..7u32, -9..30i32, -8..17i32, any::<bool>());
        let arguments = (offsets, scalars, prop_oneof![15 => schedule(), 1 => Just(None)]);
        (spec, sizes, arguments).prop_map(|((accumulator, first, second, sink), sizes, arguments)| {
            let (offsets, scalars, schedule) = arguments;
            let (batch, (heads, kv_heads), queries, keys, dim) = sizes;
            let (n, m, shift, eighths, causal) = scalars;
            let shape = Shape::new(batch, heads, keys, dim).with_queries(queries).with_kv_heads(kv_heads);
            Case {
                spec: Arc::new(spec_of(accumulator, first, second, sink)),
                query_offset: offsets.0.unwrap_or(offsets.1 + keys as i64 - queries as i64),
                key_offset: offsets.1,
                shape: shape.with_v_dim(dim + 3),
                schedule,
                scalars: vec![
                    ScalarValue::U32(n),
                    ScalarValue::U32(m),
                    ScalarValue::I32(shift),
                    ScalarValue::F32(eighths as f32 / 8.0),
                    ScalarValue::Bool(causal),
                ],
            }
        })
    }

    /// The attention, with captured tensors on `device`, and the case's schedule where that is the CPU.
    ///
    /// # Errors
    /// As [`Tensor::from_slice`].
    pub fn attention(&self, device: &Device) -> Result<AnyAttention, Error> {
        let attention = Attention::<1>::new(self.spec.clone(), self.scalars.clone(), captured(device)?.to_vec());
        let attention = attention.with_query_offset(self.query_offset).with_key_offsets([self.key_offset]);
        Ok(match self.schedule {
            Some(schedule) if device.name() == "cpu" => attention.with_schedule(Schedule::Cpu(schedule)).into(),
            _ => attention.into(),
        })
    }

    /// Queries, keys and values: multiples of 1/8.
    ///
    /// # Errors
    /// As [`Tensor::from_slice`].
    pub fn operands(&self, device: &Device) -> Result<[Tensor; 3], Error> {
        let Shape { batch, heads, kv_heads, queries, ref keys, qk_dim, v_dim, .. } = self.shape;
        let mut numbers = Numbers::new(1);
        let mut tensor = |shape: [usize; 4]| {
            let data = numbers.eighths(shape.iter().product());
            crate::numbers::floats_of(device, Element::F32, &shape, &data)
        };
        Ok([
            tensor([batch, heads, queries, qk_dim])?,
            tensor([batch, kv_heads, keys[0], qk_dim])?,
            tensor([batch, kv_heads, keys[0], v_dim])?,
        ])
    }
}

/// A sink: it may not look at keys, so it is small.
pub(crate) fn float_of_a_query() -> BoxedStrategy<Float> {
    let Parameters { slope, cap, shift, .. } = parameters();
    let position = lang::to_float(clamped(lang::sub(lang::query_position(), shift), lang::int(-20), lang::int(20)));
    leaf(vec![
        slope.load([lang::head()]),
        lang::mul(slope.load([lang::kv_head()]), cap.clone()),
        lang::tanh(lang::mul(position, lang::float(0.25))),
        cap,
    ])
}

fn spec_of(accumulator: u32, first: Float, second: Option<Float>, sink: Float) -> Spec {
    let mut builder = Builder::new("random", "", "generate.rs", 1, 1);
    let query = builder.query("q");
    let (key, value) = (builder.key("k", 0), builder.value("v", 0));
    declare(&mut builder);
    match accumulator {
        0 => builder.softmax("o", None),
        1 => builder.sum("o"),
        2 => builder.mean("o"),
        _ => builder.softmax("o", Some(sink)),
    }
    for score in std::iter::once(first).chain(second) {
        builder.key_loop(0, &[(query, key)]);
        builder.push(0, score, value);
    }
    builder.finish()
}

/// The program as lowered, and everything it is launched with: what a counterexample has to say.
impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Case { shape, query_offset, key_offset, .. } = self;
        writeln!(f, "\n{shape:?}\nqueries at {query_offset}, keys at {key_offset}, {:?}", self.schedule)?;
        for (param, value) in self.spec.scalars.iter().zip(&self.scalars) {
            writeln!(f, "{} = {value:?}", param.name)?;
        }
        let stages = Device::cpu().and_then(|device| self.attention(&device)?.stages(shape));
        match stages {
            Ok(stages) => stages.first().map_or(Ok(()), |(_, program)| writeln!(f, "{program}")),
            Err(error) => writeln!(f, "{error}\n{:?}", self.spec),
        }
    }
}
