//! Attentions launched from several threads at once, on one device: each launch has a counter and buffers of its own.

use purview::AnyAttention;
use purview::ir::Element;
use purview_cli::golden::Errors;
use purview_tests::numbers::Numbers;
use purview_tests::{attentions, compare, devices};
use std::sync::Barrier;

#[test]
fn two_threads_on_one_device() {
    let limit = compare::tolerance(Element::F32);
    for device in [Some(devices::cpu()), devices::wgpu("two_threads_on_one_device")].into_iter().flatten() {
        let start = Barrier::new(2);
        let work = |attentions: [AnyAttention; 2], length: usize, seed: u64| -> Vec<Errors> {
            let mut numbers = Numbers::new(seed);
            let [q, k, v] = [0; 3].map(|_| numbers.tensor(&device, Element::F32, &[2, 4, length, 32]).unwrap());
            let references = attentions.each_ref().map(|attention| attention.reference(&q, &[(&k, &v)]).unwrap());
            let mut errors = Vec::new();
            start.wait();
            for _ in 0..10 {
                // Both are launched before either is read.
                let outs = attentions.each_ref().map(|attention| attention.run(&device, &q, &[(&k, &v)]).unwrap());
                for (out, want) in outs.iter().zip(&references) {
                    let out = purview_cli::golden::relative_error(&out.to_vec::<f32>().unwrap(), &want.out.data);
                    errors.push(Errors { out, lse: None });
                }
            }
            errors
        };
        let errors = std::thread::scope(|scope| {
            let one = scope.spawn(|| work([attentions::full().into(), attentions::window(30).into()], 150, 1));
            let other = scope.spawn(|| work([attentions::mean().into(), attentions::window(70).into()], 190, 2));
            [one.join().unwrap(), other.join().unwrap()].concat()
        });
        assert_eq!(errors.len(), 40);
        for errors in errors {
            assert!(errors.within(&limit), "{}: {errors}", device.name());
        }
    }
}
