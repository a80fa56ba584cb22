//! Gradients against PyTorch's in f64, which the golden cases hold, and against the reference's.

use purview::ir::Element;
use purview::{AnyAttention, Device, Error, Shape, Tensor, Variant};
use purview_cli::golden::{self, relative_error};
use purview::prelude::*;
use purview_tests::attentions;
use purview_tests::compare::GOLDEN;
use purview_tests::devices;
use purview_tests::numbers::Numbers;
use std::path::Path;

/// The largest error of a gradient, relative to its largest magnitude. Scores of 10⁴ have 10⁻³ in f32, and so has a log-sum-exp.
fn limit(case: &str) -> f64 {
    if case == "large_logits" { 1e-3 } else { 2e-5 }
}

/// Checks the gradients of every golden case that has some on `device`.
fn check(device: &Device, described: &str) {
    let variants: Vec<(&str, Variant)> = purview_examples::golden();
    let (mut checked, mut wrong) = (0, Vec::new());
    for case in golden::load(Path::new(GOLDEN)).unwrap() {
        let (_, variant) = variants.iter().find(|(name, _)| *name == case.name).expect("a variant for each case");
        let found = case.run_backward(variant, device);
        match found {
            Ok(errors) => {
                checked += usize::from(!errors.is_empty());
                let is_wrong = errors.iter().any(|(_, error)| error.is_nan() || *error > limit(&case.name));
                let errors: Vec<String> = errors.iter().map(|(name, error)| format!("{name} {error:.1e}")).collect();
                let line = format!("{described} {}: {}", case.name, errors.join(", "));
                println!("{line}");
                wrong.extend(is_wrong.then_some(line));
            }
            Err(error) => wrong.push(format!("{described} {}: {error}", case.name)),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(checked, 34);
}

#[test]
fn golden_cases_on_the_cpu() {
    check(&devices::cpu(), "cpu");
}

/// The largest errors of the gradients of `attention` on the CPU, relative to their largest magnitudes, where `change` is done to the operands
/// and to the gradients of the outputs, and with a gradient of the log-sum-exp where `lse` says so.
fn errors(attention: &AnyAttention, shape: &Shape, lse: bool, change: impl Fn(&mut [Vec<f32>])) -> Vec<f64> {
    let device = devices::cpu();
    let mut numbers = Numbers::new(11);
    let mut tensors = numbers.all_operands(&device, attention, shape).unwrap();
    let operands = tensors.len();
    let of_outputs = {
        let references: Vec<&Tensor> = tensors.iter().collect();
        attention.run_outputs(&device, &references).unwrap()
    };
    for output in &of_outputs {
        tensors.push(numbers.tensor(&device, shape.element, output.shape()).unwrap());
    }
    let mut data: Vec<Vec<f32>> = tensors.iter().map(|tensor| tensor.to_vec::<f32>().unwrap()).collect();
    change(&mut data);
    let with = |(tensor, data): (&Tensor, &Vec<f32>)| {
        purview_tests::numbers::floats_of(&device, shape.element, tensor.shape(), data).unwrap()
    };
    let tensors: Vec<Tensor> = tensors.iter().zip(&data).map(with).collect();
    let tensors: Vec<&Tensor> = tensors.iter().collect();
    let (operands, d_outputs) = tensors.split_at(operands);
    let d_lse = lse.then(|| numbers.tensor(&device, Element::F32, &of_outputs[0].shape()[..3]).unwrap());
    let (_, saved) = attention.run_outputs_with_gradients(&device, operands).unwrap();
    let backward = || match &d_lse {
        Some(d_lse) => saved.backward_with_lse(d_outputs[0], d_lse).unwrap(),
        None => saved.backward_outputs(d_outputs).unwrap(),
    };
    let (found, again) = (backward(), backward());
    for (a, b) in found.operands().iter().zip(again.operands()) {
        let bits = |tensor: &Option<Tensor>| {
            tensor.as_ref().unwrap().to_vec::<f32>().unwrap().into_iter().map(f32::to_bits).collect::<Vec<_>>()
        };
        assert_eq!(bits(a), bits(b), "the same tensors give the same bits");
    }
    let want = attention.reference_gradients(operands, d_outputs, d_lse.as_ref()).unwrap();
    let compared = found.operands().iter().zip(&want.operands).zip(operands).map(|((found, want), operand)| {
        let found = found.as_ref().unwrap();
        assert_eq!(found.shape(), want.shape);
        assert_eq!(found.dtype(), operand.dtype());
        relative_error(&found.to_vec::<f32>().unwrap(), &want.data)
    });
    compared.collect()
}

fn zeros(device: &Device, shape: &[usize]) -> Tensor {
    Tensor::from_slice(device, shape, &vec![0.0f32; shape.iter().product()]).unwrap()
}

#[track_caller]
fn within(errors: Vec<f64>, limit: f64) {
    assert!(errors.iter().all(|error| *error <= limit), "{errors:?}");
}

#[test]
fn odd_sizes_and_shared_keys() {
    for (queries, keys, kv_heads, dim) in [(1, 1, 1, 3), (67, 131, 2, 24), (130, 70, 1, 80), (5, 300, 4, 64)] {
        let shape = Shape::new(2, 4, queries, dim).with_keys([keys]).with_kv_heads(kv_heads);
        within(errors(&attentions::window(9).into(), &shape, false, |_| {}), 2e-5);
        within(errors(&attentions::full().into(), &shape, true, |_| {}), 2e-5);
        within(errors(&attentions::sum().into(), &shape, false, |_| {}), 2e-5);
    }
}

#[test]
fn rounded_types() {
    for element in [Element::F16, Element::Bf16] {
        if devices::cpu().supports(element) {
            let shape = Shape::new(1, 4, 70, 32).with_kv_heads(2).with_element(element);
            within(errors(&attentions::window(30).into(), &shape, false, |_| {}), 1e-2);
        }
    }
}

/// A window of 9 ends before the first 40 of 100 keys for 51 queries, whose positions are 49 to 99.
#[test]
fn what_hidden_keys_hold_reaches_no_gradient() {
    let shape = Shape::new(1, 2, 51, 16).with_keys([100]);
    let spoil = |data: &mut [Vec<f32>]| {
        for of_keys in &mut data[1..3] {
            for head in of_keys.chunks_mut(100 * 16) {
                head[..40 * 16].iter_mut().enumerate().for_each(|(at, x)| {
                    *x = if at % 2 == 0 { f32::NAN } else { f32::INFINITY };
                });
            }
        }
    };
    within(errors(&attentions::window(9).into(), &shape, false, spoil), 2e-5);
}

#[test]
fn some_operands_and_mistakes() {
    let device = devices::cpu();
    let q = zeros(&device, &[1, 2, 3, 4]);
    let (out, saved) = attentions::full().with_gradients().run(&device, &q, &q, &q).unwrap();
    let only = saved.only(&["v"]).unwrap().backward(&out).unwrap();
    assert!(only.of("q").is_none() && only.of("k").is_none() && only.of("other").is_none());
    assert_eq!(only.of("v").unwrap().shape(), q.shape());
    let refused = |result: Result<purview::Gradients, Error>| result.unwrap_err().to_string();
    let unknown = saved.only(&["w"]).unwrap_err().to_string();
    assert_eq!(unknown, "`full` has no gradient of `w`, expected one of q, k, v, scale()");
    let other = zeros(&device, &[1, 2, 4, 3]);
    assert_eq!(refused(saved.backward(&other)), "shapes differ: `d_out` is [1, 2, 4, 3], `the output` is [1, 2, 3, 4]");
    let of_two = saved.backward_outputs(&[&out, &out]);
    assert_eq!(refused(of_two), "`full` has 1 outputs, and 2 gradients were given; `Saved::backward_outputs` takes the gradient of each");
    let of_sum = attentions::sum().with_gradients().run(&device, &q, &q, &q).unwrap().1;
    let lse = zeros(&device, &[1, 2, 3]);
    assert!(matches!(of_sum.backward_with_lse(&out, &lse), Err(Error::NoRowNumber { .. })));
}

/// Two softmaxes and a mean of scores of their own, of values of two dims, in two outputs that are expressions of them and of a gate, which
/// is in a score too; one key tensor has fewer heads than the others.
#[attention]
fn of_all_kinds(
    q: Query,
    gate: Query,
    k: Key,
    shared: Key,
    v: Value,
    w: Value,
    weight: Tensor<f32, 1>,
) -> (Output, Output, Output) {
    for i in q.tiles() {
        let (mut a, mut b, mut c) = (Softmax::new(), Mean::new(), Softmax::with_sink(0.3));
        for j in k.tiles() {
            let s = dot(q[i], k[j]) * scale();
            let t = dot(gate[i], shared[j]);
            a.push(mask(s + t, j <= i), v[j]);
            b.push(mask(exp(s) + 1.0, j <= i && i - j < 20), v[j]);
            c.push(mask(t - s, j % 3 != 1), w[j]);
        }
        let both = a * sigmoid(gate[i]) - weight[head()] * b;
        (both, b * b + a, c * 2.0)
    }
}

#[test]
fn several_accumulators_and_outputs() {
    let device = devices::cpu();
    let weight = Tensor::from_slice(&device, [4], &[0.3f32, -0.7, 1.1, 0.4]).unwrap();
    let attention: AnyAttention = of_all_kinds(&weight).into();
    for element in [Element::F32, Element::Bf16] {
        let shape = Shape::new(2, 4, 53, 16).with_keys([71]).with_element(element);
        let shape = shape.with_key_heads([("k", 2), ("shared", 1)]).with_dims([("w", 24)]);
        let limit = if element == Element::F32 { 2e-5 } else { 2e-2 };
        within(errors(&attention, &shape, false, |_| {}), limit);
    }
    for (queries, keys, kv_heads) in [(1, 2, 1), (40, 90, 2)] {
        let shape = Shape::new(1, 2, queries, 8).with_keys([keys]).with_kv_heads(kv_heads);
        within(errors(&attentions::mean().into(), &shape, false, |_| {}), 2e-5);
        within(errors(&attentions::as_it_is_and_doubled().into(), &shape, false, |_| {}), 2e-5);
        within(errors(&attentions::memory().into(), &shape.with_keys([5, keys]), false, |_| {}), 2e-5);
    }
}
