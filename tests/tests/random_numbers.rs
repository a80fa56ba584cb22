//! `random(seed)`: the same numbers on every device, by every schedule and in every cut of the queries and keys, and those that are
//! published.

use purview::ir::Element;
use purview::prelude::*;
use purview::{AnyAttention, DeviceModel};
use purview_cli::ptx;
use purview_compiler::philox;
use purview_examples::dropout::dropout;
use purview_tests::compare::{Failures, compare, compare_ptx, tolerance};
use purview_tests::devices;
use purview_tests::numbers::Numbers;

/// The numbers themselves, where the values are those of an identity.
#[attention]
fn numbers(q: Query, k: Key, v: Value, seed: i32) -> Output {
    for i in q.tiles() {
        let mut o = Sum::new();
        for j in k.tiles() {
            o.push(random(seed) + 0.0 * dot(q[i], k[j]), v[j]);
        }
        o
    }
}

/// Half of the pairs are hidden by chance.
#[attention]
fn half(q: Query, k: Key, v: Value, seed: i32) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push(mask(dot(q[i], k[j]) * scale(), random(seed) < 0.5 || j == 0), v[j]);
        }
        o
    }
}

const HEADS: usize = 2;
const KEYS: usize = 16;

/// Queries, keys and an identity of values.
fn operands(device: &Device, queries: usize) -> [Tensor; 3] {
    let zeros = |length: usize| {
        Tensor::from_slice(device, [2, HEADS, length, 8], &vec![0.0f32; 2 * HEADS * length * 8]).unwrap()
    };
    let identity: Vec<f32> =
        (0..2 * HEADS * KEYS * KEYS).map(|at| f32::from(u8::from(at / KEYS % KEYS == at % KEYS))).collect();
    let values = Tensor::from_slice(device, [2, HEADS, KEYS, KEYS], &identity).unwrap();
    [zeros(queries), zeros(KEYS), values]
}

/// What the host says of queries and keys from such positions on.
fn expected(seed: i32, queries: usize, (query, key): (i64, i64)) -> Vec<f32> {
    let rows = (0..2 * HEADS * queries).map(|row| (row / queries / HEADS, row / queries % HEADS, row % queries));
    let of_row = |(b, h, i): (usize, usize, usize)| {
        let number =
            move |j: usize| philox::random(seed.into(), b as i64, h as i64, query + i as i64, key + j as i64) as f32;
        (0..KEYS).map(number)
    };
    rows.flat_map(of_row).collect()
}

#[test]
fn every_device_and_schedule_has_the_same_numbers() {
    let wgpu = devices::wgpu_all("random numbers").into_iter().map(|found| (found.device, found.what));
    for (device, what) in [(devices::cpu(), "cpu".to_string())].into_iter().chain(wgpu) {
        let cases = [(0, (0, 0), 40), (i32::MAX, (-20, 70_000), 40), (7, (0, 0), 1), (-3, (1000, -5), 3)];
        for (seed, first, queries) in cases.into_iter().take(if device.name() == "cpu" { 4 } else { 2 }) {
            let [q, k, v] = operands(&device, queries);
            let attention = numbers(seed).with_query_offset(first.0).with_key_offsets([first.1]);
            let found = attention.run(&device, &q, &k, &v).unwrap().to_vec::<f32>().unwrap();
            assert_eq!(found, expected(seed, queries, first), "{what}, seed {seed}, {queries} queries from {first:?}");
        }
    }
    let [q, k, v] = operands(&devices::cpu(), 40);
    let model = DeviceModel::nvidia_sm(80).expect("a model");
    let launch = AnyAttention::from(numbers(7)).with_query_offset(3).ptx_launch(&model, &q, &[(&k, &v)]).unwrap();
    assert_eq!(ptx::run(&launch).unwrap().out, expected(7, 40, (3, 0)), "PTX");
}

/// The first word that Random123 publishes for a counter and a key of zeros, by which the first pair of seed 0 has its number.
#[test]
fn the_first_number_is_the_published_one() {
    let device = devices::cpu();
    let [q, k, v] = operands(&device, 1);
    let attention = numbers(0).with_query_offset(0);
    let found = attention.run(&device, &q, &k, &v).unwrap().to_vec::<f32>().unwrap();
    assert_eq!(found[0], (0x6627_e8d5u32 >> 8) as f32 / 16_777_216.0);
}

#[test]
fn numbers_are_uniform() {
    const COUNT: usize = 1 << 16;
    let mut of_parts = [0usize; 16];
    let mut sum = 0.0;
    for pair in 0..COUNT {
        let number = philox::random(5, 0, 1, (pair / 256) as i64, (pair % 256) as i64);
        assert!((0.0..1.0).contains(&number));
        of_parts[(number * 16.0) as usize] += 1;
        sum += number;
    }
    // Five standard deviations.
    assert!((sum / COUNT as f64 - 0.5).abs() < 5.0 / (12.0 * COUNT as f64).sqrt());
    let deviation = (COUNT as f64 / 16.0).sqrt();
    assert!(of_parts.iter().all(|count| (*count as f64 - COUNT as f64 / 16.0).abs() < 5.0 * deviation), "{of_parts:?}");
}

/// Dropped weights and keys hidden by chance are the reference's: whatever it drops, they drop.
#[test]
fn dropped_weights_are_those_of_the_reference() {
    let mut failures = Failures::default();
    let attentions = || [AnyAttention::from(dropout(0.3, 11)), AnyAttention::from(half(4))];
    let wgpu = devices::wgpu_all("dropped weights").into_iter().map(|found| (found.device, found.what));
    for (device, what) in [(devices::cpu(), "cpu".to_string())].into_iter().chain(wgpu) {
        // A software driver takes seconds to compile one of these.
        for (queries, keys) in [(70, 70), (1, 300)].into_iter().take(if device.name() == "cpu" { 2 } else { 1 }) {
            let mut numbers = Numbers::new(31);
            let q = numbers.tensor(&device, Element::F32, &[1, 4, queries, 16]).unwrap();
            let [k, v] = [0, 1].map(|_| numbers.tensor(&device, Element::F32, &[1, 2, keys, 16]).unwrap());
            for attention in attentions() {
                let what = format!("{what} {} {queries}×{keys}", attention.spec().name);
                failures.check(&what, compare(&attention, &device, &q, &[(&k, &v)]), &tolerance(Element::F32));
            }
        }
    }
    let device = devices::cpu();
    let model = DeviceModel::nvidia_sm(80).expect("a model");
    for element in [Element::F32, Element::F16, Element::Bf16] {
        let mut numbers = Numbers::new(32);
        let q = numbers.tensor(&device, element, &[1, 2, 70, 16]).unwrap();
        let [k, v] = [0, 1].map(|_| numbers.tensor(&device, element, &[1, 1, 70, 16]).unwrap());
        for attention in attentions() {
            let what = format!("ptx {} {element:?}", attention.spec().name);
            failures.check(&what, compare_ptx(&attention, &model, &q, &[(&k, &v)]), &tolerance(element));
        }
    }
    failures.report();
}
