//! Random whole attentions: several queries, sets of keys, values, products, accumulators and pushes, with an output that is an
//! expression, on values where every operation is defined.
//!
//! What is drawn are numbers that fit each other only after they were brought inside of what there is, such as the place of a push's
//! values. So every draw is an attention, and one that fails shrinks part by part.

use crate::generate::{BATCHES, HEADS, Parameters, captured, clamped, declare, exact, float, float_of_a_query, inside};
use crate::generate::{LENGTH, leaf, parameters, predicate};
use crate::numbers::{Numbers, floats_of};
use proptest::prelude::*;
use proptest::sample::select;
use purview::expr::Expr;
use purview::ir::Element;
use purview::lang::{self, Bool, Builder, Float, PushedValues};
use purview::schedule::{CpuSchedule, FewQueries, SMALL_CUBE, Schedule};
use purview::spec::{Role, ScalarType, ScalarValue, Spec};
use purview::{AnyAttention, Device, Error, GeneralAttention, Shape, Tensor};
use purview_compiler::typing::Parameters as Names;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// The most queries, products of a loop, and accumulators.
const MOST: usize = 3;

/// The place of the comptime scalar `rank` among an attention's, which has those that every random expression may be of, `both`, and then it.
const RANK: usize = 6;

/// Which attentions are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Any.
    Any,
    /// Those that products of matrices compute: each accumulator has a product of its own, and all have the same values.
    Tiled,
}

/// `Softmax::new()`, `Softmax::with_sink(…)`, `Sum::new()` or `Mean::new()`.
#[derive(Clone, Debug)]
enum Accumulated {
    Softmax,
    WithSink(Float),
    Sum,
    Mean,
}

/// What is pushed, of up to [`MOST`] products.
#[derive(Clone, Debug)]
struct Pushed {
    accumulator: usize,
    score: Float,
    mask: Option<Bool>,
    /// Masks the score once more, under another function; or hides keys of which the first product is below a number.
    second: Second,
    weight: Option<Float>,
    values: usize,
    by_scalar: bool,
}

#[derive(Clone, Debug)]
enum Second {
    None,
    Inside(Bool),
    ByProduct(Float),
    /// A score of −∞, or a weight of 0, where it is false.
    InScore(Bool),
}

/// One key loop.
#[derive(Clone, Debug)]
struct Loop {
    set: usize,
    /// Pairs of a query and one of the keys.
    products: Vec<(usize, usize)>,
    pushes: Vec<Pushed>,
}

/// An operand along keys: its set, the place of its number of heads among the divisors, and its head dim: for keys the query that has the
/// same, for values how many elements more than the output's.
#[derive(Clone, Copy, Debug)]
struct AlongKeys {
    set: usize,
    heads: usize,
    dim: usize,
}

/// What becomes of one accumulator in the output, and how that is joined to those before it.
#[derive(Clone, Debug)]
struct Term {
    form: u32,
    query: usize,
    row: Float,
    condition: Bool,
    join: u32,
}

/// How there are two outputs, where there are as many accumulators.
#[derive(Clone, Copy, Debug)]
struct SecondOutput {
    /// The accumulators of the first: so many.
    first: usize,
    /// Whether the second is of all accumulators. Else it is of the others, which have as many elements fewer as there are.
    of_all: bool,
    /// Whether the second comes first.
    swapped: bool,
}

/// Everything that an attention is made of.
#[derive(Clone, Debug)]
struct Draw {
    /// Head dims.
    queries: Vec<usize>,
    keys: Vec<AlongKeys>,
    values: Vec<AlongKeys>,
    v_dim: usize,
    v_dim_of_query: bool,
    second: Option<SecondOutput>,
    accumulators: Vec<Accumulated>,
    loops: Vec<Loop>,
    two_sets: bool,
    terms: Vec<Term>,
    order: Vec<usize>,
}

/// A random attention with its arguments.
#[derive(Clone)]
pub struct WholeCase {
    /// What it computes.
    pub spec: Arc<Spec>,
    /// Its sizes.
    pub shape: Shape,
    query_offset: i64,
    key_offsets: Vec<i64>,
    schedule: Option<CpuSchedule>,
    scalars: Vec<ScalarValue>,
}

/// A number for each query: it may not look at keys.
fn row_number() -> BoxedStrategy<Float> {
    let constants = (-8..9i32).prop_map(|quarters| lang::float(quarters as f32 / 4.0));
    prop_oneof![constants, float_of_a_query()].boxed()
}

/// A choice for each query.
fn row_condition() -> BoxedStrategy<Bool> {
    let Parameters { n, causal, document, .. } = parameters();
    let i = lang::query_position;
    leaf(vec![
        causal,
        lang::eq(lang::rem(i(), lang::int(2)), lang::int(0)),
        lang::lt(i(), n),
        lang::eq(lang::head(), lang::int(1)),
        lang::gt(document.load([lang::batch(), inside(i(), LENGTH, true)]), lang::int(2)),
    ])
}

/// Products as scores begin with: one or a sum of some, scaled; as they are, but smaller; or otherwise put together.
fn products() -> BoxedStrategy<Float> {
    let scaled = |of: Float| lang::mul(of, lang::scale());
    let (one, two, three) = (lang::dot(0), lang::dot(1), lang::dot(2));
    let sum = lang::add(one.clone(), two.clone());
    let quarter = |of: &Float| lang::mul(of.clone(), lang::float(0.25));
    let capped = lang::mul(lang::float(3.0), lang::tanh(quarter(&two)));
    leaf(vec![
        scaled(one.clone()),
        scaled(two.clone()),
        scaled(sum.clone()),
        scaled(lang::add(sum.clone(), three.clone())),
        scaled(lang::sub(two.clone(), three.clone())),
        quarter(&one),
        quarter(&two),
        lang::add(quarter(&one), scaled(three.clone())),
        lang::sub(scaled(one.clone()), lang::abs(scaled(two.clone()))),
        lang::add(scaled(one.clone()), capped),
        lang::max(scaled(one.clone()), scaled(two.clone())),
        lang::select(both(), scaled(sum), scaled(one)),
    ])
}

/// The comptime scalar.
fn both() -> Bool {
    let mut builder = Builder::new("", "", "", 1, 1);
    declare(&mut builder);
    builder.scalar("both", ScalarType::Bool, true)
}

/// A score, in which products mostly stand as they are, and a weight: of products, of positions, of captured tensors.
fn score() -> BoxedStrategy<Float> {
    let shifted = (products(), exact(1)).prop_map(|(product, bias)| {
        lang::add(product, lang::mul(clamped(bias, lang::float(-8.0), lang::float(8.0)), lang::float(0.25)))
    });
    let by_position = exact(2).prop_map(|bias| clamped(bias, lang::float(-4.0), lang::float(4.0)));
    prop_oneof![5 => products(), 2 => shifted, 1 => by_position, 2 => float(2, products())].boxed()
}

fn weight(kind: Kind) -> BoxedStrategy<Option<Float>> {
    let of_positions = exact(2).prop_map(|weight| clamped(weight, lang::float(-4.0), lang::float(4.0)));
    let of_predicate = predicate(2).prop_map(|kept| lang::select(kept, lang::float(1.25), lang::float(0.0)));
    let of_products = products().prop_map(lang::sigmoid);
    let weights = match kind {
        Kind::Any => prop_oneof![of_positions, of_predicate, of_products, float(1, products())].boxed(),
        Kind::Tiled => prop_oneof![of_positions, of_predicate].boxed(),
    };
    prop::option::weighted(0.35, weights).boxed()
}

fn pushed(kind: Kind) -> BoxedStrategy<Pushed> {
    // A threshold that no product, a multiple of 1/64, is at.
    let threshold = (-64..64i32).prop_map(|odd| lang::float((2 * odd + 1) as f32 / 128.0));
    let second = prop_oneof![
        6 => Just(Second::None),
        1 => predicate(2).prop_map(Second::Inside),
        1 => threshold.prop_map(Second::ByProduct),
        1 => predicate(2).prop_map(Second::InScore),
    ];
    let score = match kind {
        Kind::Any => score(),
        Kind::Tiled => leaf(vec![
            lang::mul(lang::dot(0), lang::scale()),
            lang::mul(lang::add(lang::dot(0), lang::dot(1)), lang::scale()),
            lang::mul(lang::dot(0), lang::float(0.25)),
            lang::mul(lang::float(3.0), lang::tanh(lang::mul(lang::dot(0), lang::float(0.25)))),
        ]),
    };
    let mask = prop::option::weighted(0.8, predicate(2));
    (0..MOST, score, mask, second, weight(kind), 0..6usize, any::<bool>())
        .prop_map(|(accumulator, score, mask, second, weight, values, by_scalar)| Pushed {
            accumulator,
            score,
            mask,
            second,
            weight,
            values,
            by_scalar,
        })
        .boxed()
}

fn accumulated(kind: Kind) -> BoxedStrategy<Accumulated> {
    let softmax = prop_oneof![2 => Just(Accumulated::Softmax), 1 => float_of_a_query().prop_map(Accumulated::WithSink)];
    match kind {
        Kind::Any => prop_oneof![3 => softmax, 1 => Just(Accumulated::Sum), 1 => Just(Accumulated::Mean)].boxed(),
        Kind::Tiled => softmax.boxed(),
    }
}

fn term() -> BoxedStrategy<Term> {
    (0..9u32, 0..MOST, row_number(), row_condition(), 0..6u32)
        .prop_map(|(form, query, row, condition, join)| Term { form, query, row, condition, join })
        .boxed()
}

fn draw(kind: Kind) -> BoxedStrategy<Draw> {
    use prop::collection::vec;
    let dims = match kind {
        Kind::Any => vec![4usize, 1, 3, 5, 8, 12, 16, 20],
        Kind::Tiled => vec![16usize, 32, 48],
    };
    let along_keys =
        |dims: usize| (0..2usize, 0..3usize, 0..dims).prop_map(|(set, heads, dim)| AlongKeys { set, heads, dim });
    let one_loop = (0..2usize, vec((0..MOST, 0..MOST), 0..=MOST), vec(pushed(kind), 1..=MOST))
        .prop_map(|(set, products, pushes)| Loop { set, products, pushes });
    let loops = prop_oneof![3 => vec(one_loop.clone(), 1), 1 => vec(one_loop, 2..=MOST)];
    let operands = (vec(select(dims.clone()), 1..=MOST), vec(along_keys(MOST), 1..=MOST), vec(along_keys(4), 0..=2));
    let values = (select(dims), any::<bool>());
    let second = (1..MOST, any::<bool>(), any::<bool>()).prop_map(|(first, of_all, swapped)| SecondOutput {
        first,
        of_all,
        swapped,
    });
    let second = prop::option::weighted(0.35, second).prop_map(move |second| second.filter(|_| kind == Kind::Any));
    let rest = (vec(accumulated(kind), MOST), loops, any::<bool>(), vec(term(), MOST), second);
    let order = Just((0..2 * MOST + 4).collect::<Vec<usize>>()).prop_shuffle();
    (operands, values, rest, order)
        .prop_map(|((queries, keys, values), (v_dim, v_dim_of_query), rest, order)| {
            let (accumulators, loops, two_sets, terms, second) = rest;
            Draw { queries, keys, values, v_dim, v_dim_of_query, second, accumulators, loops, two_sets, terms, order }
        })
        .boxed()
}

/// Operands with their head dims and heads, before they have places.
struct Operands {
    all: Vec<(String, Role, usize, usize)>,
}

impl Operands {
    fn of(&self, role: Role) -> Vec<usize> {
        (0..self.all.len()).filter(|place| self.all[*place].1 == role).collect()
    }
}

impl Draw {
    /// The number of sets of keys: a second has a loop of its own.
    fn sets(&self) -> usize {
        if self.two_sets && self.loops.len() > 1 { 2 } else { 1 }
    }

    fn set_of(&self, nth: usize) -> usize {
        if nth < self.sets() { nth } else { self.loops[nth].set % self.sets() }
    }

    fn v_dim(&self) -> usize {
        if self.v_dim_of_query { self.queries[0] } else { self.v_dim }
    }

    /// The operands, in the order of the signature. Each set has keys, and what can be its values.
    fn operands(&self, kind: Kind, heads: usize) -> Operands {
        let divisors: Vec<usize> = (1..=heads).filter(|of| heads.is_multiple_of(*of)).collect();
        let heads_of = |nth: usize| divisors[nth % divisors.len()];
        let mut all: Vec<_> = self.queries.iter().map(|dim| (Role::Query, *dim, heads)).collect();
        for key in &self.keys {
            let dim = self.queries[key.dim % self.queries.len()];
            all.push((Role::Key(key.set % self.sets()), dim, heads_of(key.heads)));
        }
        for value in &self.values {
            let more = if kind == Kind::Tiled { 0 } else { [0, 0, 1, 4][value.dim] };
            all.push((Role::Value(value.set % self.sets()), self.v_dim() + more, heads_of(value.heads)));
        }
        for set in 0..self.sets() {
            if !all.iter().any(|(role, ..)| *role == Role::Key(set)) {
                all.push((Role::Key(set), self.queries[0], heads));
            }
            if !all.iter().any(|(role, dim, _)| role.set() == Some(set) && *dim >= self.v_dim()) {
                all.push((Role::Value(set), self.v_dim(), heads));
            }
        }
        let is_one = |role: Role| all.iter().filter(|(other, ..)| *other == role).count() == 1;
        let roles = (0..self.sets()).flat_map(|set| [Role::Key(set), Role::Value(set)]);
        if roles.chain([Role::Query]).all(is_one) {
            // An attention of pairs takes pairs of the same heads.
            let of_keys = all.iter().find(|(role, ..)| *role == Role::Key(0)).map_or(heads, |(_, _, heads)| *heads);
            all.iter_mut().filter(|(role, ..)| *role != Role::Query).for_each(|(_, _, heads)| *heads = of_keys);
        }
        let mut ordered: Vec<_> = all.into_iter().zip(&self.order).collect();
        ordered.sort_by_key(|(_, place)| **place);
        let mut counts = [0; 3];
        let named = ordered.into_iter().map(|((role, dim, heads), _)| {
            let (letter, count) = match role {
                Role::Query => ("q", 0),
                Role::Key(_) => ("k", 1),
                Role::Value(_) => ("v", 2),
            };
            counts[count] += 1;
            (format!("{letter}{}", counts[count]), role, dim, heads)
        });
        Operands { all: named.collect() }
    }

    fn spec(&self, kind: Kind, operands: &Operands) -> Spec {
        let mut builder = Builder::new("random", "", "generate_whole.rs", 1, 1);
        for (name, role, ..) in &operands.all {
            match *role {
                Role::Query => builder.query(name),
                Role::Key(set) => builder.key(name, set),
                Role::Value(set) => builder.value(name, set),
            };
        }
        declare(&mut builder);
        builder.scalar::<Bool>("both", ScalarType::Bool, true);
        builder.scalar::<lang::Int>("rank", ScalarType::U32, true);

        let used = self.used_accumulators(kind);
        for (nth, place) in used.iter().enumerate() {
            let name = ["a", "b", "c"][nth];
            match self.accumulators[*place].clone() {
                Accumulated::Softmax => builder.softmax(name, None),
                Accumulated::WithSink(sink) => builder.softmax(name, Some(sink)),
                Accumulated::Sum => builder.sum(name),
                Accumulated::Mean => builder.mean(name),
            }
        }
        let queries = operands.of(Role::Query);
        for (nth, one) in self.loops.iter().enumerate() {
            self.add_loop(&mut builder, kind, operands, nth, one, &used);
        }
        let all = 0..used.len();
        match self.second(&used) {
            None => builder.output(self.output(&used, all, &queries, operands)),
            Some(SecondOutput { first, of_all, swapped }) => {
                let second = if of_all { all } else { first..used.len() };
                let mut outputs = [0..first, second];
                if swapped {
                    outputs.reverse();
                }
                for of in outputs {
                    builder.output(self.output(&used, of, &queries, operands));
                }
            }
        }
        let mut spec = builder.finish();
        for one in &mut spec.loops {
            let products = one.dots.len();
            for (nth, push) in one.pushes.iter_mut().enumerate() {
                // A score is drawn of as many products as there may be: here of those that there are, or of a number where there are none.
                let at = |place: usize| match kind {
                    Kind::Any => place.checked_rem(products).map_or(Expr::float(0.5), Expr::Value),
                    Kind::Tiled => Expr::Value(nth),
                };
                push.score = push.score.map_values(&at);
                push.weight = push.weight.as_ref().map(|weight| weight.map_values(&at));
            }
        }
        spec
    }

    /// How there are two outputs of the accumulators `used`, if so.
    fn second(&self, used: &[usize]) -> Option<SecondOutput> {
        self.second.filter(|second| second.first < used.len())
    }

    /// The elements of the result of the accumulator at this place among those `used`.
    fn dim_of(&self, used: &[usize], accumulator: usize) -> usize {
        match self.second(used) {
            Some(SecondOutput { first, of_all: false, .. }) if accumulator >= first => {
                self.v_dim().saturating_sub(used.len()).max(1)
            }
            _ => self.v_dim(),
        }
    }

    /// The accumulators that something is pushed into.
    fn used_accumulators(&self, kind: Kind) -> Vec<usize> {
        let pushed = |place: &usize| {
            self.loops.iter().any(|one| {
                let pushes = one.pushes.iter().enumerate();
                pushes.map(|(nth, push)| accumulator_of(kind, nth, push)).any(|of| of == *place)
            })
        };
        (0..self.accumulators.len()).filter(pushed).collect()
    }

    fn add_loop(&self, builder: &mut Builder, kind: Kind, operands: &Operands, nth: usize, one: &Loop, used: &[usize]) {
        let (set, v_dim) = (self.set_of(nth), self.v_dim());
        let (queries, keys) = (operands.of(Role::Query), operands.of(Role::Key(set)));
        let dim = |place: usize| operands.all[place].2;
        let least = if kind == Kind::Tiled { one.pushes.len() } else { 0 };
        let mut products = one.products.clone();
        products.resize(products.len().max(least), (0, 0));
        let products: Vec<(usize, usize)> = products
            .iter()
            .map(|(query, key)| {
                // Queries of the same head dim as the key.
                let key = keys[key % keys.len()];
                let alike: Vec<usize> = queries.iter().copied().filter(|query| dim(*query) == dim(key)).collect();
                (alike[query % alike.len()], key)
            })
            .collect();
        builder.key_loop(set, &products);

        let own_values = operands.of(Role::Value(set));
        let candidates: Vec<usize> = own_values.into_iter().chain(keys).filter(|place| dim(*place) >= v_dim).collect();
        for (nth, push) in one.pushes.iter().enumerate() {
            let place = accumulator_of(kind, nth, push);
            let accumulator = used.iter().position(|of| *of == place).expect("it is pushed into");
            let kept = &self.accumulators[place];
            let mut score = push.score.clone();
            if matches!(kept, Accumulated::Mean) {
                // A mean is divided by the sum of its weights, which should not vanish.
                score = lang::add(lang::abs(score), lang::float(0.25));
            }
            // A literal must be finite. What a formula gives need not be.
            let hides = matches!(kept, Accumulated::Softmax | Accumulated::WithSink(_));
            let hidden = if hides { lang::log(lang::float(0.0)) } else { lang::float(0.0) };
            score = match push.second.clone() {
                Second::None => score,
                Second::Inside(visible) => lang::mul(lang::mask(score, visible), lang::float(0.5)),
                Second::ByProduct(threshold) if !products.is_empty() => {
                    lang::mask(score, lang::gt(lang::dot(0), threshold))
                }
                Second::ByProduct(_) => score,
                Second::InScore(visible) => lang::select(visible, score, hidden),
            };
            if let Some(visible) = &push.mask {
                score = lang::mask(score, visible.clone());
            }
            let of = if kind == Kind::Tiled { &one.pushes[0] } else { push };
            let values = candidates[of.values % candidates.len()];
            let leading = self.dim_of(used, accumulator);
            let values = match () {
                () if dim(values) == leading => PushedValues::from(values),
                () if of.by_scalar && leading == v_dim => PushedValues::leading_by_scalar(values, RANK),
                () => PushedValues::leading(values, leading),
            };
            builder.push_weighted(accumulator, score, push.weight.clone(), values);
        }
    }

    /// An expression of the accumulators at the places `of` among those `used`.
    fn output(&self, used: &[usize], of: Range<usize>, queries: &[usize], operands: &Operands) -> Float {
        // What is of another head dim than the output can't be in it.
        let dim = self.dim_of(used, of.start);
        let fits: Vec<usize> = (0..queries.len()).filter(|nth| operands.all[queries[*nth]].2 == dim).collect();
        let query = |term: &Term| match fits[..] {
            [] => lang::float(0.75),
            _ => lang::result(used.len() + fits[term.query % fits.len()]),
        };
        let mut output = None;
        for (nth, place) in used.iter().enumerate().take(of.end).skip(of.start) {
            let (term, result) = (&self.terms[nth], lang::result(nth));
            let bounded = !matches!(self.accumulators[*place], Accumulated::Sum);
            let one = match term.form {
                1 => lang::mul(result, lang::sigmoid(query(term))),
                2 => lang::mul(result, term.row.clone()),
                3 => lang::select(term.condition.clone(), result, term.row.clone()),
                4 if bounded => lang::tanh(result),
                5 => lang::div(result, lang::add(lang::abs(query(term)), lang::float(0.5))),
                6 => lang::max(result, query(term)),
                // Where the scalar is false, this takes the accumulator away, of which one has to stay.
                7 if nth > 0 => lang::select(both(), result, term.row.clone()),
                8 => lang::add(lang::mul(result, lang::float(0.5)), query(term)),
                _ => result,
            };
            output = Some(match (output, term.join) {
                (None, _) => one,
                (Some(before), 0) => lang::sub(before, lang::mul(one, lang::float(0.375))),
                (Some(before), 1) => lang::max(before, one),
                (Some(before), 2) => lang::select(term.condition.clone(), before, one),
                (Some(before), 3) => lang::select(both(), one, before),
                (Some(before), _) => lang::add(before, one),
            });
        }
        output.expect("something is pushed")
    }
}

/// The place among the drawn accumulators of what the `nth` push of a loop is pushed into.
fn accumulator_of(kind: Kind, nth: usize, push: &Pushed) -> usize {
    match kind {
        Kind::Any => push.accumulator,
        Kind::Tiled => nth,
    }
}

impl WholeCase {
    /// Any case of this kind.
    pub fn any(kind: Kind) -> impl Strategy<Value = WholeCase> {
        let queries = prop_oneof![1 => 1..4usize, 3 => 4..60usize];
        let sizes = (1..=BATCHES, 1..=HEADS, queries, [0..70usize, 0..40usize]);
        let offsets = (prop::option::of(-40..60i64), [select(vec![0i64, 0, 0, -20, 33]), select(vec![0i64, 0, 17])]);
        let scalars = (1..20u32, 1..7u32, -9..30i32, -8..17i32, any::<bool>(), any::<bool>());
        (draw(kind), sizes, offsets, scalars, schedule()).prop_map(
            move |(draw, (batch, heads, queries, keys), offsets, scalars, schedule)| {
                let operands = draw.operands(kind, heads);
                let sets = draw.sets();
                let shape = Shape {
                    keys: keys[..sets].to_vec(),
                    queries,
                    dims: operands.all.iter().map(|(name, _, dim, _)| (name.clone(), *dim)).collect(),
                    key_heads: operands
                        .all
                        .iter()
                        .filter(|(_, role, ..)| *role != Role::Query)
                        .map(|(name, _, _, heads)| (name.clone(), *heads))
                        .collect(),
                    ..Shape::new(batch, heads, queries, draw.v_dim())
                };
                let (n, m, shift, eighths, causal, both) = scalars;
                WholeCase {
                    spec: Arc::new(draw.spec(kind, &operands)),
                    query_offset: offsets.0.unwrap_or(offsets.1[0] + keys[0] as i64 - queries as i64),
                    key_offsets: offsets.1[..sets].to_vec(),
                    schedule: schedule.filter(|_| kind == Kind::Any),
                    shape,
                    scalars: vec![
                        ScalarValue::U32(n),
                        ScalarValue::U32(m),
                        ScalarValue::I32(shift),
                        ScalarValue::F32(eighths as f32 / 8.0),
                        ScalarValue::Bool(causal),
                        ScalarValue::Bool(both),
                        ScalarValue::U32(draw.v_dim() as u32),
                    ],
                }
            },
        )
    }

    /// The attention, with captured tensors on `device`; with the case's schedule, if it has one, where that is the CPU, and else small cubes.
    ///
    /// # Errors
    /// As [`Tensor::from_slice`].
    pub fn attention(&self, device: &Device) -> Result<AnyAttention, Error> {
        let attention: AnyAttention =
            GeneralAttention::<0>::new(self.spec.clone(), self.scalars.clone(), captured(device)?.to_vec())
                .with_query_offset(self.query_offset)
                .with_key_offsets(&self.key_offsets)
                .into();
        Ok(match self.schedule {
            Some(schedule) if device.name() == "cpu" => attention.with_schedule(Schedule::Cpu(schedule)),
            Some(_) => attention.with_schedule(Schedule::Cube(SMALL_CUBE)),
            None => attention,
        })
    }

    /// The same by what the device chooses.
    pub fn without_schedule(&self) -> WholeCase {
        WholeCase { schedule: None, ..self.clone() }
    }

    /// Whether its schedule is not the one that the device chooses.
    pub fn has_schedule(&self) -> bool {
        self.schedule.is_some()
    }

    /// What lies along queries and keys, in the order of the signature: multiples of 1/8, of this type.
    ///
    /// # Errors
    /// As [`Shape::operand_shapes`] and [`Tensor::from_slice`].
    pub fn operands(&self, device: &Device, element: Element) -> Result<Vec<Tensor>, Error> {
        let mut numbers = Numbers::new(1);
        let shapes = self.shape.operand_shapes(&self.spec)?.into_iter();
        let tensor = |shape: [usize; 4]| floats_of(device, element, &shape, &numbers.eighths(shape.iter().product()));
        shapes.map(tensor).collect()
    }
}

/// Small tiles, as for [`crate::generate::Case`]; and what launches of few queries do. Sometimes what the device chooses.
fn schedule() -> BoxedStrategy<Option<CpuSchedule>> {
    let few = |split_kv| FewQueries { pack_gqa: false, split_kv, along_head_dim: 0 };
    let split = CpuSchedule { few: few(true), ..CpuSchedule::new(4, 1, 8, 2) };
    let one_row = CpuSchedule { few: few(false), ..CpuSchedule::new(8, 1, 4, 1) };
    prop_oneof![6 => crate::generate::schedule(), 2 => select(vec![Some(split), Some(one_row)]), 2 => Just(None)]
        .boxed()
}

/// As it would be written, the operands' shapes, what it is launched with, and the program as lowered: what a counterexample has to say.
impl fmt::Debug for WholeCase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let WholeCase { spec, shape, query_offset, key_offsets, schedule, scalars } = self;
        writeln!(f)?;
        match shape.operand_shapes(spec) {
            Ok(shapes) => {
                for (operand, shape) in spec.operands.iter().zip(shapes) {
                    writeln!(f, "{}: {:?} {shape:?}", operand.name, operand.role)?;
                }
            }
            Err(error) => writeln!(f, "{error}: {shape:?}")?,
        }
        writeln!(f, "queries at {query_offset}, keys at {key_offsets:?}, {schedule:?}")?;
        for (param, value) in spec.scalars.iter().zip(scalars) {
            writeln!(f, "{} = {value:?}{}", param.name, if param.comptime { ", comptime" } else { "" })?;
        }
        for accumulator in &spec.accumulators {
            writeln!(f, "{}: {:?}", accumulator.name, accumulator.kind)?;
        }
        let names = spec.parameters();
        for one in &spec.loops {
            writeln!(f, "for j in tiles of set {}", one.set)?;
            for (dot, name) in one.dots.iter().zip(names.values) {
                let (query, key) = (&spec.operands[dot.query].name, &spec.operands[dot.key].name);
                writeln!(f, "  {name} = dot({query}[i], {key}[j])")?;
            }
            for push in &one.pushes {
                let score = push.score.display(names);
                let weight = push.weight.iter().map(|weight| format!(", weight {}", weight.display(names)));
                let (accumulator, values) =
                    (&spec.accumulators[push.accumulator].name, &spec.operands[push.values].name);
                let (weight, dim) = (weight.collect::<String>(), push.dim.map(|dim| format!("[..{dim:?}]")));
                writeln!(f, "  {accumulator}.push({score}{weight}, {values}[j]{})", dim.unwrap_or_default())?;
            }
        }
        let values = spec.output_values();
        let outputs = spec.outputs.iter().map(|output| output.display(Names { values: &values, ..names }).to_string());
        writeln!(f, "{}", outputs.collect::<Vec<_>>().join(", "))?;
        let stages = Device::cpu().and_then(|device| self.attention(&device)?.stages(shape));
        match stages {
            Ok(stages) => stages.first().map_or(Ok(()), |(_, program)| writeln!(f, "{program}")),
            Err(error) => writeln!(f, "{error}"),
        }
    }
}
