//! Launches with fewer queries than fill a tile or the cores: heads of a group in one tile, vectors along the head dim, keys split over
//! units and merged; and the schedules of other machines than this one. All against the reference.

use purview::ir::Element;
use purview::prelude::*;
use purview::schedule::{self, Schedule, VectorRegisters};
use purview::{AnyAttention, Device};
use purview_tests::attentions;
use purview_tests::compare::{Failures, compare, tolerance};
use purview_tests::devices;
use purview_tests::numbers::Numbers;

/// Scores that depend on the query's head and on its position.
#[attention]
fn slopes_and_sinks(q: Query, k: Key, v: Value, slope: Tensor<f32, 1>, logit: Tensor<f32, 1>) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::with_sink(logit[head()]);
        for j in k.tiles() {
            let s = dot(q[i], k[j]) * scale() - slope[head()] * (i - j) as f32;
            o.push(mask(s, j <= i), v[j]);
        }
        o
    }
}

#[derive(Clone, Copy, Debug)]
struct Sizes {
    heads: (usize, usize),
    queries: usize,
    keys: usize,
    dims: (usize, usize),
    element: Element,
}

fn check(failures: &mut Failures, device: &Device, attention: impl Into<AnyAttention>, sizes: Sizes) {
    let attention = attention.into();
    let Sizes { heads: (heads, kv_heads), queries, keys, dims: (qk_dim, v_dim), element } = sizes;
    let mut numbers = Numbers::new(23);
    let mut tensor = |heads, length, dim| numbers.tensor(device, element, &[2, heads, length, dim]).unwrap();
    let (q, k, v) = (tensor(heads, queries, qk_dim), tensor(kv_heads, keys, qk_dim), tensor(kv_heads, keys, v_dim));
    let what = format!("{} {sizes:?}", attention.spec().name);
    failures.check(&what, compare(&attention, device, &q, &[(&k, &v)]), &tolerance(element));
}

fn variants(device: &Device, heads: usize) -> Vec<AnyAttention> {
    let slope: Vec<f32> = (0..heads).map(|head| 0.5 / (head + 1) as f32).collect();
    let logit: Vec<f32> = (0..heads).map(|head| head as f32 - 2.0).collect();
    let captured = |values: &[f32]| Tensor::from_slice(device, [heads], values).unwrap();
    vec![
        slopes_and_sinks(&captured(&slope), &captured(&logit)).into(),
        attentions::window_by_head().into(),
        attentions::window(100).into(),
        attentions::sum().into(),
        attentions::mean().into(),
    ]
}

#[test]
fn heads_rows_and_runs_of_keys() {
    let device = devices::cpu();
    let mut failures = Failures::default();
    for heads in [(1, 1), (4, 2), (8, 1), (6, 2)] {
        for attention in variants(&device, heads.0) {
            for (queries, keys) in [(1, 1), (1, 1100), (2, 70), (3, 600), (5, 1100), (17, 600), (40, 1100)] {
                let sizes = Sizes { heads, queries, keys, dims: (16, 32), element: Element::F32 };
                check(&mut failures, &device, attention.clone(), sizes);
            }
        }
    }
    failures.report();
}

/// Vectors run along whole head dims alone.
#[test]
fn head_dims_and_types() {
    let device = devices::cpu();
    let mut failures = Failures::default();
    // Values of 3, 5, 6 or 7 vectors are accumulated in blocks of rows that are no divisor of the registers.
    let dims = [(64, 64), (128, 16), (16, 256), (20, 16), (16, 24), (1, 1), (48, 48), (16, 80), (16, 96), (16, 112)];
    let dims = dims.map(|dims| (dims, Element::F32));
    let halves = [((64, 64), Element::F16), ((20, 16), Element::F16), ((64, 64), Element::Bf16)];
    for (dims, element) in dims.into_iter().chain(halves) {
        for (heads, queries) in [((2, 2), 1), ((3, 1), 1), ((4, 1), 1), ((8, 1), 1), ((4, 1), 5)] {
            let sizes = Sizes { heads, queries, keys: 700, dims, element };
            check(&mut failures, &device, attentions::window(650), sizes);
        }
    }
    failures.report();
}

/// Keys that are not dense, or whose rows do not begin at vectors.
#[test]
fn keys_that_do_not_lie_in_vectors() {
    let device = devices::cpu();
    let mut failures = Failures::default();
    let mut numbers = Numbers::new(5);
    let q = numbers.tensor(&device, Element::F32, &[1, 4, 1, 32]).unwrap();
    let wide = numbers.tensor(&device, Element::F32, &[1, 2, 300, 48]).unwrap();
    let transposed = numbers.tensor(&device, Element::F32, &[1, 2, 32, 300]).unwrap().permuted([0, 1, 3, 2]).unwrap();
    for first in [0, 1, 16] {
        let k = wide.narrow(3, first, 32).unwrap();
        for v in [&k, &transposed] {
            let errors = compare(&attentions::window(250).into(), &device, &q, &[(&k, v)]);
            failures.check(&format!("columns from {first}"), errors, &tolerance(Element::F32));
        }
    }
    failures.report();
}

/// What one head's values are is nothing to the other heads, of which a unit merges one after the other.
#[test]
fn infinite_values_stay_in_their_head() {
    let device = devices::cpu();
    let (heads, keys, dim) = (7, 600, 16);
    let mut numbers = Numbers::new(3);
    let q = numbers.tensor(&device, Element::F32, &[1, heads, 1, dim]).unwrap();
    let k = numbers.tensor(&device, Element::F32, &[1, heads, keys, dim]).unwrap();
    let finite = numbers.eighths(heads * keys * dim);
    let run = |values: &[f32]| {
        let v = Tensor::from_slice(&device, [1, heads, keys, dim], values).unwrap();
        attentions::full().run(&device, &q, &k, &v).unwrap().to_vec::<f32>().unwrap()
    };
    let expected = run(&finite);
    for head in 0..heads {
        let mut values = finite.clone();
        values[head * keys * dim..(head + 1) * keys * dim].fill(f32::INFINITY);
        let out = run(&values);
        for other in (0..heads).filter(|other| *other != head) {
            let rows = other * dim..(other + 1) * dim;
            assert_eq!(out[rows.clone()], expected[rows], "head {other}, where head {head} is infinite");
        }
    }
}

/// What another machine would run, as far as sizes go.
#[test]
fn schedules_of_other_machines() {
    let device = devices::cpu();
    let mut failures = Failures::default();
    for registers in [VectorRegisters::AVX512, VectorRegisters::AVX2, VectorRegisters::NEON] {
        let schedule = Schedule::Cpu(schedule::cpu(registers));
        for attention in variants(&device, 4) {
            for (queries, keys, dims) in [(100, 150, (40, 33)), (64, 64, (64, 64)), (1, 70, (16, 16))] {
                let sizes = Sizes { heads: (4, 2), queries, keys, dims, element: Element::F32 };
                check(&mut failures, &device, attention.clone().with_schedule(schedule), sizes);
            }
        }
    }
    failures.report();
}
