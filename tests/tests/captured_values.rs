//! Captured tensors that are unusual and right: one without elements, read only where nothing matters, and a bias of −∞, which
//! hides a key.

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
