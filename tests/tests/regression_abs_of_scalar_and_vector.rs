//! The absolute values of a query's position, which is a vector on the CPU, and of a key's, which is a scalar, in one kernel:
//! LLVM crashed on CubeCL's declaration of one function for both.

use purview::ir::Element;
use purview::prelude::*;
use purview_tests::compare::{Failures, compare, tolerance};
use purview_tests::devices;
use purview_tests::numbers::Numbers;

#[attention]
fn farther_from_zero(q: Query, k: Key, v: Value) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push(mask(dot(q[i], k[j]) * scale(), abs(i) >= abs(j)), v[j]);
        }
        o
    }
}

#[test]
fn absolute_values_of_both_positions() {
    let mut failures = Failures::default();
    for device in [Some(devices::cpu()), devices::wgpu("absolute_values_of_both_positions")].into_iter().flatten() {
        let mut numbers = Numbers::new(1);
        let [q, k, v] = [0; 3].map(|_| numbers.tensor(&device, Element::F32, &[1, 2, 70, 16]).unwrap());
        let attention = farther_from_zero().with_query_offset(-30).with_key_offsets([-40]).into();
        let errors = compare(&attention, &device, &q, &[(&k, &v)]);
        failures.check(device.name(), errors, &tolerance(Element::F32));
    }
    failures.report();
}
