//! Captured tensors that are unusual and right: one without elements, read only where nothing matters; a bias of −∞, which
//! hides a key; positions of which some mean nothing, behind a guard; and indices that are computed in floats.

use purview::ir::Element;
use purview::prelude::*;
use purview_tests::compare::{compare, tolerance};
use purview_tests::devices;
use purview_tests::numbers::Numbers;

#[attention]
fn optional_table(q: Query, k: Key, v: Value, used: bool, table: Tensor<bool, 2>) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push(mask(dot(q[i], k[j]) * scale(), !used || table[batch()][j]), v[j]);
        }
        o
    }
}

#[attention]
fn biased(q: Query, k: Key, v: Value, bias: Tensor<f32, 2>) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push(dot(q[i], k[j]) * scale() + bias[i][j], v[j]);
        }
        o
    }
}

fn as_the_reference(device: &Device, attention: Attention<1>) {
    let mut numbers = Numbers::new(7);
    let [q, k, v] = [(); 3].map(|()| numbers.tensor(device, Element::F32, &[1, 2, 40, 16]).unwrap());
    let errors = compare(&attention.into(), device, &q, &[(&k, &v)]).unwrap();
    assert!(errors.within(&tolerance(Element::F32)), "{}: {errors}", device.name());
}

/// Positions from `start` on; a negative one has none.
#[attention]
fn positioned(q: Query, k: Key, v: Value, pos: Tensor<i32, 1>, start: i32, window: i32) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push(mask(dot(q[i], k[j]), pos[j - start] >= 0 && i - pos[j - start] < window), v[j]);
        }
        o
    }
}

/// The same in other words: a comptime scalar, a `let`, an `if`, a sum in another order.
#[attention]
fn positioned_by_if(q: Query, k: Key, v: Value, pos: Tensor<i32, 2>, #[comptime] start: i32, window: i32) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            let at = pos[batch()][-start + j];
            let visible = if at < 0 { false } else { -pos[0][j - start + 0] + i < window };
            o.push(mask(dot(q[i], k[j]), visible), v[j]);
        }
        o
    }
}

/// T5's buckets: of one distance each, and then by logarithms.
#[attention]
fn t5(q: Query, k: Key, v: Value, table: Tensor<f32, 2>) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            let d = max(i - j, 0);
            let far = 8 + (log(d as f32 / 8.0) / log(128.0 / 8.0) * 8.0) as i32;
            let bucket = if d < 8 { d } else { min(far, 15) };
            o.push(mask(dot(q[i], k[j]) + table[head()][bucket], j <= i), v[j]);
        }
        o
    }
}

fn devices(test: &str) -> impl Iterator<Item = Device> {
    std::iter::once(devices::cpu()).chain(devices::wgpu(test))
}

#[test]
fn a_captured_tensor_without_elements() {
    for device in devices("a_captured_tensor_without_elements") {
        let empty = Tensor::from_slice::<bool>(&device, [1, 0], &[]).unwrap();
        as_the_reference(&device, optional_table(false, &empty));
        let one = Tensor::from_slice(&device, [1, 1, 1, 1], &[1.0f32]).unwrap();
        assert!(matches!(optional_table(true, &empty).run(&device, &one, &one, &one), Err(Error::Range(_))));
    }
}

#[test]
fn a_bias_of_minus_infinity_hides_a_key() {
    for device in devices("a_bias_of_minus_infinity_hides_a_key") {
        // The first query sees nothing, the others the keys before them.
        let bias: Vec<f32> = (0..1600).map(|at| if at % 40 < at / 40 { 0.5 } else { f32::NEG_INFINITY }).collect();
        as_the_reference(&device, biased(&Tensor::from_slice(&device, [40, 40], &bias).unwrap()));
    }
}

#[test]
fn positions_that_mean_nothing() {
    for device in devices("positions_that_mean_nothing") {
        let one = Tensor::from_slice(&device, [1, 1, 1, 1], &[1.0f32]).unwrap();
        let keys = Tensor::from_slice(&device, [1, 1, 2, 1], &[1.0f32, 1.0]).unwrap();
        let values = Tensor::from_slice(&device, [1, 1, 2, 1], &[5.0f32, 7.0]).unwrap();
        let pos = |shape: &[usize]| Tensor::from_slice(&device, shape, &[0, i32::MIN]).unwrap();
        for attention in [positioned(&pos(&[2]), 0, 2), positioned_by_if(&pos(&[1, 2]), 0, 2)] {
            let out = attention.run(&device, &one, &keys, &values).unwrap().to_vec::<f32>().unwrap();
            assert_eq!(out, [5.0], "{}", device.name());
        }
        // A key offset, so that the index begins at 0 too.
        let attention = positioned(&pos(&[2]), 3, 9).with_key_offsets([3]);
        assert_eq!(attention.run(&device, &one, &keys, &values).unwrap().to_vec::<f32>().unwrap(), [5.0]);
    }
}

#[test]
fn buckets_by_logarithms() {
    for device in devices("buckets_by_logarithms") {
        // Each bucket counts: its bias is far from its neighbours'.
        let table: Vec<f32> = (0..32).map(|at| (at * 7 % 5) as f32).collect();
        let table = Tensor::from_slice(&device, [2, 16], &table).unwrap();
        let mut numbers = Numbers::new(5);
        let [q, k, v] = [(); 3].map(|()| numbers.tensor(&device, Element::F32, &[1, 2, 300, 8]).unwrap());
        let errors = compare(&t5(&table).into(), &device, &q, &[(&k, &v)]).unwrap();
        assert!(errors.within(&tolerance(Element::F32)), "{}: {errors}", device.name());
        let short = Tensor::from_slice(&device, [2, 15], &[0.0f32; 30]).unwrap();
        let error = t5(&short).run(&device, &q, &k, &v).unwrap_err().to_string();
        assert!(error.contains("of `table` ranges over 0..=15, its dimension 1 has length 15"), "{error}");
    }
}
