//! Each row's maximum and log-sum-exp: on every device, by every schedule, against the reference.

use purview::ir::Element;
use purview::prelude::*;
use purview::schedule::{self, CpuSchedule, FewQueries, Schedule, VectorRegisters};
use purview::{AnyAttention, DeviceModel};
use purview_cli::golden::relative_error;
use purview_cli::ptx;
use purview_compiler::passes::{LOWER, PASSES, SCHEDULE};
use purview_tests::attentions;
use purview_tests::compare::Failures;
use purview_tests::devices::{self, Described};
use purview_tests::numbers::Numbers;
use std::process::Command;

/// Scores with a map of their own, of which the first rows see nothing.
#[attention]
fn capped(q: Query, k: Key, v: Value, cap: f32) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push(mask(cap * tanh(dot(q[i], k[j]) * scale() / cap), j + 20 <= i), v[j]);
        }
        o
    }
}

/// A score that a captured tensor says.
#[attention]
fn biased(q: Query, k: Key, v: Value, bias: Tensor<f32, 1>) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push(mask(dot(q[i], k[j]) + bias[j], j <= i), v[j]);
        }
        o
    }
}

/// An output that is not the accumulator itself.
#[attention]
fn doubled(q: Query, k: Key, v: Value) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push(mask(dot(q[i], k[j]) * scale(), j <= i), v[j]);
        }
        o * 2.0
    }
}

fn all_devices(test: &str) -> Vec<Described> {
    let mut all = vec![Described { device: devices::cpu(), what: "cpu".into() }];
    all.extend(devices::wgpu_all(test));
    all
}

fn attentions(device: &Device) -> Vec<AnyAttention> {
    let logits = Tensor::from_slice(device, [4], &[0.5f32, -1.5, 3.0, -40.0]).unwrap();
    vec![
        attentions::window(20).into(),
        attentions::full().into(),
        attentions::sink(&logits).into(),
        capped(2.0).into(),
        doubled().into(),
    ]
}

/// Queries, keys and values of 4 heads over 2.
fn operands(device: &Device, element: Element, queries: usize, keys: usize) -> [Tensor; 3] {
    let mut numbers = Numbers::new(31);
    [[2, 4, queries, 16], [2, 2, keys, 16], [2, 2, keys, 24]]
        .map(|shape| numbers.tensor(device, element, &shape).unwrap())
}

/// The same output as without, and a log-sum-exp and a maximum that are the reference's.
fn check(failures: &mut Failures, what: &str, attention: &AnyAttention, device: &Device, tensors: &[Tensor; 3]) {
    let what = format!("{what} {} {:?}", attention.spec().name, tensors[0].shape());
    let operands: Vec<&Tensor> = tensors.iter().collect();
    let floats = |tensor: &Tensor| tensor.to_vec::<f32>().unwrap();
    let (out, lse, max) = attention.run_operands_with_lse_and_max(device, &operands).unwrap();
    failures.expect(&format!("{what}: shapes"), max.shape() == lse.shape() && lse.shape() == &out.shape()[..3]);
    let alone = attention.run_operands(device, &operands).unwrap();
    let want = attention.reference_operands(&operands).unwrap();
    let alike: Vec<f64> = floats(&alone).into_iter().map(f64::from).collect();
    let errors = [
        ("out", relative_error(&floats(&out), &alike), 1e-6),
        ("lse", relative_error(&floats(&lse), &want.lse.data), 1e-4),
        ("max", relative_error(&floats(&max), &want.max.data), 1e-4),
    ];
    for (of, error, limit) in errors {
        failures.expect(&format!("{what}: {of} {error:e}"), error <= limit);
    }
}

#[test]
fn every_device() {
    let mut failures = Failures::default();
    for Described { device, what } in all_devices("every_device") {
        for attention in attentions(&device) {
            check(&mut failures, &what, &attention, &device, &operands(&device, Element::F32, 70, 50));
        }
    }
    failures.report();
}

/// Heads in one tile, vectors along the head dim, keys that are split and merged, and other sizes than this machine's.
#[test]
fn schedules_of_a_cpu() {
    let mut failures = Failures::default();
    let device = devices::cpu();
    let base = schedule::cpu(VectorRegisters::AVX2);
    let split = FewQueries { split_kv: true, ..FewQueries::default() };
    let packed = FewQueries { pack_gqa: true, ..split };
    for attention in attentions(&device) {
        for few in [FewQueries::default(), split, packed] {
            let attention = attention.clone().with_schedule(Schedule::Cpu(CpuSchedule { few, ..base }));
            check(&mut failures, &format!("{few:?}"), &attention, &device, &operands(&device, Element::F32, 40, 600));
        }
        check(&mut failures, "one query", &attention, &device, &operands(&device, Element::F16, 1, 1100));
    }
    failures.report();
}

/// By tensor cores in 16 bits, and without them, as PTX.
#[test]
fn kernels_for_nvidia() {
    let mut failures = Failures::default();
    let (device, model) = (devices::cpu(), DeviceModel::nvidia_sm(80).expect("a model"));
    for element in [Element::F32, Element::F16, Element::Bf16] {
        for attention in attentions(&device) {
            let tensors = operands(&device, element, 40, 70);
            let operands: Vec<&Tensor> = tensors.iter().collect();
            let launch = attention.ptx_launch_operands_with_max(&model, &operands).unwrap();
            let results = ptx::run(&launch).unwrap();
            let want = attention.reference_operands(&operands).unwrap();
            // By tensor cores `tanh` is the hardware's, within 2⁻¹¹.
            let limit = if element == Element::F32 { 1e-4 } else { 1e-3 };
            for (what, got, want) in [("lse", results.lse, want.lse), ("max", results.max, want.max)] {
                let error = relative_error(&got.unwrap(), &want.data);
                failures.expect(&format!("{element:?} {} {what}: {error:e}", attention.spec().name), error <= limit);
            }
        }
    }
    failures.report();
}

/// Rows that see nothing, hidden scores, and scores that the quick way has no room for.
#[test]
fn scores_at_the_ends() {
    for Described { device, what } in all_devices("scores_at_the_ends") {
        let of_scores = |scores: &[f32]| {
            let tensor = |values: &[f32]| Tensor::from_slice(&device, [1, 1, values.len(), 1], values).unwrap();
            let (bias, zeros) = (Tensor::from_slice(&device, [scores.len()], scores).unwrap(), vec![0.0; scores.len()]);
            let (q, k) = (tensor(&zeros), tensor(&zeros));
            let (out, max) = biased(&bias).with_max().run(&device, &q, &k, &k).unwrap();
            assert_eq!(out.shape(), q.shape());
            max.to_vec::<f32>().unwrap()
        };
        const NONE: f32 = f32::NEG_INFINITY;
        assert_eq!(of_scores(&[NONE, NONE, 0.0]), [NONE, NONE, 0.0], "{what}");
        for score in [f32::MIN, -3e38, -1e30, -2.5, 1e10, 3e38] {
            let max = of_scores(&[score; 3]);
            assert!(max.iter().all(|max| (max - score).abs() <= 1e-6 * score.abs()), "{what}: {max:?} for {score}");
        }
        let max = of_scores(&[-1e38, 2.0, f32::NAN, 5.0]);
        assert!((max[0] + 1e38).abs() <= 1e32 && (max[1] - 2.0).abs() < 1e-6, "{what}: {max:?}");
        assert!(max[2].is_nan() && max[3].is_nan(), "{what}: {max:?}");
    }
}

/// The four ways to ask, of an attention with a number of operands in its type.
#[test]
fn what_a_call_returns() {
    let device = devices::cpu();
    let [q, k, v] = operands(&device, Element::F32, 5, 7);
    let floats = |tensor: &Tensor| tensor.to_vec::<f32>().unwrap();
    let out = attentions::full().run(&device, &q, &k, &v).unwrap();
    let (with_lse, lse) = attentions::full().with_lse().run(&device, &q, &k, &v).unwrap();
    let (with_max, max) = attentions::full().with_max().run_pairs(&device, &q, [(&k, &v)]).unwrap();
    let both = attentions::full().with_scale(0.5).with_lse().with_max();
    let (_, other_lse, other_max) = both.run(&device, &q, &k, &v).unwrap();
    assert_eq!((floats(&out), floats(&out)), (floats(&with_lse), floats(&with_max)));
    let want = both.reference(&q, &k, &v).unwrap();
    assert!(relative_error(&floats(&other_lse), &want.lse.data) < 1e-5);
    assert!(relative_error(&floats(&other_max), &want.max.data) < 1e-5);
    assert!(lse.to_vec::<f32>().unwrap() > floats(&max), "a sum of exponentials is more than the greatest");
}

#[test]
fn a_program_says_what_is_kept() {
    let attention = attentions::full().with_max();
    let program = attention.program(&Shape::new(1, 1, 8, 8)).unwrap().to_string();
    assert!(program.contains("    store o\n    keep maximum\n"), "{program}");
    for (stage, text) in attention.stages(&Shape::new(1, 1, 8, 8)).unwrap() {
        assert!(text.contains("    store o\n    keep maximum\n"), "{stage}\n{text}");
    }
}

#[test]
fn dumps_say_what_is_kept() {
    // A process of its own, as the environment is one for all tests.
    let mut test = Command::new(std::env::current_exe().unwrap());
    test.args(["--exact", "a_program_says_what_is_kept", "--nocapture"]).env("PURVIEW_DUMP", "all");
    let printed = String::from_utf8(test.output().unwrap().stderr).unwrap();
    let stages: Vec<&str> = printed.split("// after ").skip(1).collect();
    let names = std::iter::once(LOWER).chain(PASSES.iter().map(|pass| pass.name)).chain([SCHEDULE]);
    for name in names {
        let of_stage = |text: &&&str| text.starts_with(&format!("{name}\n"));
        let text = stages.iter().find(of_stage).unwrap_or_else(|| panic!("no dump after {name}: {printed}"));
        assert!(text.contains("    store o\n    keep maximum\n"), "{text}");
    }
}
