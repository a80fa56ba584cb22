//! Attentions of several products, accumulators and pushes, with outputs that are expressions: on every device against the reference, at
//! shapes that fit no tile, with few queries, and with NaN where no query sees.

use purview::ir::Element;
use purview::prelude::*;
use purview::{AnyAttention, DType, DeviceModel, GeneralAttention};
use purview_cli::golden::relative_error;
use purview_cli::ptx;
use purview_tests::compare::{Failures, compare_operands, compare_ptx_operands, tolerance};
use purview_tests::devices;
use purview_tests::numbers::Numbers;

/// A sum of two products, of heads of three numbers.
#[attention]
fn two_parts(q: Query, k: Key, v: Value, r: Query, l: Key) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push(mask((dot(q[i], k[j]) + dot(r[i], l[j])) * scale(), j <= i), v[j]);
        }
        o
    }
}

/// Products that are not only added, and values that are part of the keys.
#[attention]
fn tangled(q: Query, k: Key, r: Query, l: Key, cap: f32) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            let s = cap * tanh(dot(q[i], k[j]) * scale() / cap) - abs(dot(r[i], l[j])) * scale();
            o.push(mask(s, j <= i && i - j < 90), k[j][..12]);
        }
        o
    }
}

/// Values that are fewer elements than a vector has lanes, of keys that are whole vectors.
#[attention]
fn first_elements(q: Query, k: Key) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push(mask(dot(q[i], k[j]) * scale(), j <= i), k[j][..12]);
        }
        o
    }
}

/// A weight of the score itself.
#[attention]
fn own_weight(q: Query, k: Key, v: Value) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push_weighted(mask(dot(q[i], k[j]), j <= i), sigmoid(dot(q[i], k[j])), v[j]);
        }
        o
    }
}

/// A product and an accumulator that a comptime `if` takes away.
#[attention]
fn switched(q: Query, k: Key, v: Value, r: Query, l: Key, #[comptime] both: bool) -> Output {
    for i in q.tiles() {
        let (mut a, mut b) = (Softmax::new(), Softmax::new());
        for j in k.tiles() {
            let s = dot(q[i], k[j]) * scale();
            a.push(mask(if both { s + dot(r[i], l[j]) * scale() } else { s }, j <= i), v[j]);
            b.push(mask(dot(r[i], l[j]), j <= i), v[j]);
        }
        if both { a - 0.5 * b } else { a }
    }
}

/// An accumulator of positions alone, whose loop has no product.
#[attention]
fn running_mean(q: Query, k: Key, v: Value) -> Output {
    for i in q.tiles() {
        let mut o = Mean::new();
        for j in k.tiles() {
            o.push(mask(1.0 + (j % 3) as f32, j <= i), v[j]);
        }
        o
    }
}

/// Two pushes into one softmax: of a product as it is, and of another that is scaled.
#[attention]
fn raw_and_scaled(q: Query, k: Key, v: Value, l: Key, w: Value) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push(mask(dot(q[i], k[j]), j <= i), v[j]);
            o.push(mask(dot(q[i], l[j]) * scale(), j < i), w[j]);
        }
        o
    }
}

/// An accumulator with a loop of its own that a comptime `if` takes away, with an index that would leave its tensor.
#[attention]
fn memory_at_will(
    q: Query,
    k: Key,
    v: Value,
    mk: Key,
    mv: Value,
    bias: Tensor<f32, 1>,
    #[comptime] memory: bool,
) -> Output {
    for i in q.tiles() {
        let (mut a, mut b) = (Softmax::new(), Softmax::new());
        for j in mk.tiles() {
            b.push(dot(q[i], mk[j]) * scale() + bias[j], mv[j]);
        }
        for j in k.tiles() {
            a.push(mask(dot(q[i], k[j]) * scale(), j <= i), v[j]);
        }
        if memory { a + b } else { 2.0 * a }
    }
}

/// Three kinds of accumulators, of which two are of one product, with masks of their own; and what lies along the queries.
#[attention]
fn three_accumulators(q: Query, k: Key, v: Value, r: Query, l: Key, gate: Query, sink: Tensor<f32, 1>) -> Output {
    for i in q.tiles() {
        let (mut a, mut b) = (Softmax::with_sink(sink[head()]), Mean::new());
        let mut c = Sum::new();
        for j in k.tiles() {
            let s = dot(q[i], k[j]) * scale();
            a.push(mask(s, j <= i), v[j]);
            b.push(mask(exp(s), i - j < 20 && j - i < 20), v[j]);
            c.push(mask(dot(r[i], l[j]) * 0.01, j % 3 != 0), v[j]);
        }
        (a - 0.5 * b + sink[head()] * c) * sigmoid(gate[i]) + (i % 7) as f32
    }
}

/// Weights in every accumulator.
#[attention]
fn weighted(q: Query, k: Key, v: Value, keep: Tensor<bool, 2>) -> Output {
    for i in q.tiles() {
        let (mut a, mut b, mut c) = (Softmax::new(), Mean::new(), Sum::new());
        for j in k.tiles() {
            let s = dot(q[i], k[j]) * scale();
            let w = if keep[i][j] { 2.0 } else { 0.0 };
            a.push_weighted(mask(s, j <= i), w, v[j]);
            b.push_weighted(mask(1.5 + s, j <= i), 1.0 / (1.0 + (i - j) as f32), v[j]);
            c.push_weighted(mask(s, j <= i), w * s, v[j]);
        }
        a + b + 0.01 * c
    }
}

/// Two sets of keys, and two accumulators that both are pushed into.
#[attention]
fn two_sets(q: Query, k: Key, v: Value, mk: Key, mv: Value) -> Output {
    for i in q.tiles() {
        let (mut a, mut b) = (Softmax::new(), Softmax::new());
        for j in mk.tiles() {
            a.push(dot(q[i], mk[j]) * scale(), mv[j]);
        }
        for j in k.tiles() {
            let s = dot(q[i], k[j]) * scale();
            a.push(mask(s, j <= i), v[j]);
            b.push(mask(-s, j <= i && i / 32 == j / 32), v[j]);
        }
        if i % 2 == 0 { a } else { b }
    }
}

/// Two sets of keys with queries and a mask each.
#[attention]
fn two_masked_sets(q: Query, k: Key, v: Value, mk: Key, mv: Value, mq: Query) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push(mask(dot(q[i], k[j]) * scale(), j <= i), v[j]);
        }
        for j in mk.tiles() {
            o.push(mask(dot(mq[i], mk[j]) * scale(), j <= i), mv[j]);
        }
        o
    }
}

/// An output of one accumulator that is more than the accumulator.
#[attention]
fn doubled(q: Query, k: Key, v: Value) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push(mask(dot(q[i], k[j]) * scale(), j <= i), v[j]);
        }
        let o = o * 2.0;
        o
    }
}

/// The same without the factor.
#[attention]
fn once(q: Query, k: Key, v: Value) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push(mask(dot(q[i], k[j]) * scale(), j <= i), v[j]);
        }
        o
    }
}

/// Three accumulators of two products that each hide other keys, and all of them those from `seen` on, where a weight is no number.
#[attention]
fn hidden_from_all(q: Query, k: Key, v: Value, r: Query, l: Key, seen: u32) -> Output {
    for i in q.tiles() {
        let (mut a, mut b, mut c) = (Softmax::new(), Mean::new(), Sum::new());
        for j in k.tiles() {
            let s = dot(q[i], k[j]) * scale();
            a.push(mask(s, j <= i && j < seen), v[j]);
            b.push_weighted(mask(exp(s), j < seen), 1.0 / sqrt((seen - j) as f32), v[j]);
            c.push_weighted(mask(dot(r[i], l[j]) * 0.1, i - j < 20 && j < seen), sigmoid(s), v[j]);
        }
        a - b + 0.5 * c
    }
}

/// Two outputs of head dims of their own, of accumulators of three kinds.
#[attention]
fn two_outputs(q: Query, k: Key, v: Value, w: Value, sink: Tensor<f32, 1>) -> (Output, Output) {
    for i in q.tiles() {
        let (mut a, mut b, mut c) = (Softmax::with_sink(sink[head()]), Mean::new(), Sum::new());
        for j in k.tiles() {
            let s = dot(q[i], k[j]) * scale();
            a.push(mask(s, j <= i), v[j]);
            b.push(mask(exp(s), i - j < 20), w[j]);
            c.push(mask(0.01 * s, j % 3 != 0), w[j]);
        }
        (a, b - sink[head()] * c)
    }
}

/// An expression of the accumulators, and before and after it what it is made of, as it is kept for a backward pass.
#[attention]
fn kept(q: Query, k: Key, v: Value, gate: Query) -> (Output, Output, Output, Output) {
    for i in q.tiles() {
        let (mut a, mut b) = (Softmax::new(), Softmax::new());
        for j in k.tiles() {
            let s = dot(q[i], k[j]) * scale();
            a.push(mask(s, j <= i), v[j]);
            b.push(mask(-0.5 * s, j <= i), v[j]);
        }
        let both = (a - 0.5 * b) * sigmoid(gate[i]);
        (a, both, tanh(a) + b, b)
    }
}

/// One softmax, which has a log-sum-exp beside its outputs, and an output that is of no accumulator.
#[attention]
fn as_it_is_and_gated(q: Query, k: Key, v: Value, gate: Query) -> (Output, Output, Output) {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push(mask(dot(q[i], k[j]) * scale(), j <= i), v[j]);
        }
        (o * sigmoid(gate[i]), o, gate[i] + (i % 5) as f32)
    }
}

/// Two outputs of one accumulator each, of which a comptime `if` takes away the second.
#[attention]
fn second_at_will(q: Query, k: Key, v: Value, w: Value, #[comptime] second: bool) -> (Output, Output) {
    for i in q.tiles() {
        let (mut a, mut b) = (Softmax::new(), Softmax::new());
        for j in k.tiles() {
            let s = dot(q[i], k[j]) * scale();
            a.push(mask(s, j <= i), v[j]);
            b.push(mask(-s, j <= i), w[j]);
        }
        (a, if second { b } else { 0.5 })
    }
}

/// An attention, with the heads and the head dim of each operand; those along queries have as many as there are.
struct Case {
    attention: AnyAttention,
    operands: Vec<(Along, usize)>,
}

#[derive(Clone, Copy)]
enum Along {
    Queries,
    /// The keys, with so many heads of four.
    Keys(usize),
    /// A second set of keys, of 45.
    Memory(usize),
}

const HEADS: usize = 4;

fn cases(device: &Device, length: usize) -> Vec<Case> {
    use Along::{Keys, Memory, Queries};
    let sink = Tensor::from_slice(device, [HEADS], &[0.5, -1.0, 2.0, 0.0]).unwrap();
    let per_key: Vec<f32> = (0..45).map(|key| (key % 5) as f32 * 0.25).collect();
    let per_key = Tensor::from_slice(device, [45], &per_key).unwrap();
    let keep: Vec<u8> = (0..length * length).map(|at| u8::from(at % 7 != 3)).collect();
    let keep = Tensor::from_slice(device, [length, length], &keep).unwrap();
    vec![
        Case {
            attention: two_parts().into(),
            operands: vec![(Queries, 24), (Keys(2), 24), (Keys(4), 20), (Queries, 8), (Keys(1), 8)],
        },
        Case {
            attention: tangled(3.0).into(),
            operands: vec![(Queries, 20), (Keys(2), 20), (Queries, 16), (Keys(1), 16)],
        },
        Case {
            attention: three_accumulators(&sink).into(),
            operands: vec![(Queries, 16), (Keys(2), 16), (Keys(2), 32), (Queries, 8), (Keys(4), 8), (Queries, 32)],
        },
        Case { attention: first_elements().into(), operands: vec![(Queries, 32), (Keys(2), 32)] },
        Case { attention: own_weight().into(), operands: vec![(Queries, 16), (Keys(2), 16), (Keys(2), 16)] },
        Case {
            attention: switched(true).into(),
            operands: vec![(Queries, 16), (Keys(2), 16), (Keys(2), 16), (Queries, 8), (Keys(1), 8)],
        },
        Case {
            attention: switched(false).into(),
            operands: vec![(Queries, 16), (Keys(2), 16), (Keys(2), 16), (Queries, 8), (Keys(1), 8)],
        },
        Case { attention: running_mean().into(), operands: vec![(Queries, 8), (Keys(2), 8), (Keys(2), 16)] },
        Case {
            attention: raw_and_scaled().into(),
            operands: vec![(Queries, 16), (Keys(2), 16), (Keys(2), 16), (Keys(1), 16), (Keys(4), 16)],
        },
        Case {
            attention: memory_at_will(&sink, false).into(),
            operands: vec![(Queries, 16), (Keys(2), 16), (Keys(2), 24), (Memory(2), 16), (Memory(2), 24)],
        },
        Case {
            attention: memory_at_will(&per_key, true).into(),
            operands: vec![(Queries, 16), (Keys(2), 16), (Keys(2), 24), (Memory(2), 16), (Memory(2), 24)],
        },
        Case { attention: weighted(&keep).into(), operands: vec![(Queries, 16), (Keys(1), 16), (Keys(1), 16)] },
        Case { attention: doubled().into(), operands: vec![(Queries, 16), (Keys(2), 16), (Keys(2), 12)] },
        Case {
            attention: hidden_from_all(u32::try_from(length.div_ceil(2)).unwrap()).into(),
            operands: vec![(Queries, 16), (Keys(2), 16), (Keys(1), 24), (Queries, 8), (Keys(4), 8)],
        },
        Case {
            attention: two_outputs(&sink).into(),
            operands: vec![(Queries, 16), (Keys(2), 16), (Keys(2), 24), (Keys(1), 12)],
        },
        // No whole vectors.
        Case {
            attention: two_outputs(&sink).into(),
            operands: vec![(Queries, 16), (Keys(2), 16), (Keys(4), 9), (Keys(1), 21)],
        },
        // More vectors than a unit has, and fewer.
        Case {
            attention: two_outputs(&sink).into(),
            operands: vec![(Queries, 16), (Keys(2), 16), (Keys(2), 4), (Keys(2), 80)],
        },
        Case { attention: kept().into(), operands: vec![(Queries, 16), (Keys(2), 16), (Keys(2), 32), (Queries, 32)] },
        Case {
            attention: as_it_is_and_gated().into(),
            operands: vec![(Queries, 16), (Keys(2), 16), (Keys(2), 20), (Queries, 20)],
        },
        Case {
            attention: second_at_will(true).into(),
            operands: vec![(Queries, 16), (Keys(2), 16), (Keys(2), 16), (Keys(2), 8)],
        },
        Case {
            attention: second_at_will(false).into(),
            operands: vec![(Queries, 16), (Keys(2), 16), (Keys(2), 16), (Keys(2), 8)],
        },
        Case {
            attention: two_sets().into(),
            operands: vec![(Queries, 16), (Keys(2), 16), (Keys(2), 24), (Memory(2), 16), (Memory(2), 24)],
        },
    ]
}

fn check(failures: &mut Failures, device: &Device, what: &str, element: Element, lengths: &[(usize, usize)]) {
    for &(queries, keys) in lengths {
        for Case { attention, operands } in cases(device, queries.max(keys)) {
            let mut numbers = Numbers::new(5);
            let tensors = operands.iter().map(|(along, dim)| {
                let shape = match along {
                    Along::Queries => [2, HEADS, queries, *dim],
                    Along::Keys(heads) => [2, *heads, keys, *dim],
                    Along::Memory(heads) => [2, *heads, 45, *dim],
                };
                numbers.tensor(device, element, &shape).unwrap()
            });
            let tensors: Vec<Tensor> = tensors.collect();
            let name = &attention.spec().name;
            let what = format!("{what} {name} {element:?} {queries}×{keys}");
            let tensors: Vec<&Tensor> = tensors.iter().collect();
            failures.check(&what, compare_operands(&attention, device, &tensors), &tolerance(element));
        }
    }
}

#[test]
fn on_the_cpu() {
    let device = devices::cpu();
    let mut failures = Failures::default();
    let lengths = [(1, 1), (1, 70), (1, 1100), (3, 600), (33, 129), (70, 70), (200, 200)];
    check(&mut failures, &device, "cpu", Element::F32, &lengths);
    check(&mut failures, &device, "cpu", Element::F16, &[(3, 600), (70, 70)]);
    failures.report();
}

#[test]
fn on_wgpu() {
    for devices::Described { device, what } in devices::wgpu_all("whole attentions on_wgpu") {
        let mut failures = Failures::default();
        check(&mut failures, &device, &what, Element::F32, &[(1, 70), (70, 70)]);
        failures.report();
    }
}

/// What no query sees reaches nothing, NaN included: keys past the last query of attentions that see none after it, and keys that all of
/// several accumulators hide, with the weights that they would have.
#[test]
fn hidden_keys_reach_nothing() {
    for device in [devices::cpu()].into_iter().chain(devices::wgpu("hidden_keys_reach_nothing")) {
        let mut failures = Failures::default();
        let (queries, keys) = (40, 64);
        for Case { attention, operands } in cases(&device, keys) {
            let hidden = match attention.spec().name.as_str() {
                "two_parts" | "tangled" | "first_elements" | "own_weight" | "switched" | "doubled" | "kept"
                | "as_it_is_and_gated" | "second_at_will" => keys - queries,
                "hidden_from_all" => keys / 2,
                // Each of the others sees every key with some query.
                _ => continue,
            };
            let attention = attention.with_query_offset(0);
            let tensors = |poison: f32| -> Vec<Tensor> {
                let mut numbers = Numbers::new(9);
                let tensor = |(along, dim): &(Along, usize)| {
                    let (heads, length) = match along {
                        Along::Queries => (HEADS, queries),
                        Along::Keys(heads) | Along::Memory(heads) => (*heads, keys),
                    };
                    let tensor = numbers.tensor(&device, Element::F32, &[2, heads, length, *dim]).unwrap();
                    let mut values = tensor.to_vec::<f32>().unwrap();
                    if !matches!(along, Along::Queries) {
                        for row in values.chunks_mut(length * dim) {
                            row[(length - hidden) * dim..].fill(poison);
                        }
                    }
                    Tensor::from_slice(&device, [2, heads, length, *dim], &values).unwrap()
                };
                operands.iter().map(tensor).collect()
            };
            let name = &attention.spec().name;
            for poison in [0.25, f32::NAN] {
                let tensors = tensors(poison);
                let tensors: Vec<&Tensor> = tensors.iter().collect();
                let reference = attention.reference_operands(&tensors).unwrap();
                let is_finite = reference.outputs().flat_map(|out| &out.data).all(|value| value.is_finite());
                failures.expect(&format!("{name} is finite"), is_finite);
                let what = format!("{name} with {poison} where it hides, on {}", device.name());
                failures.check(&what, compare_operands(&attention, &device, &tensors), &tolerance(Element::F32));
            }
        }
        failures.report();
    }
}

/// Queries, keys and values for [`doubled`] and [`once`].
fn operands_of_one(device: &Device) -> [Tensor; 3] {
    let mut numbers = Numbers::new(11);
    let shapes = [[2, HEADS, 70, 16], [2, 2, 70, 16], [2, 2, 70, 12]];
    shapes.map(|shape| numbers.tensor(device, Element::F32, &shape).unwrap())
}

#[test]
fn an_output_of_one_accumulator_is_multiplied() {
    for device in [devices::cpu()].into_iter().chain(devices::wgpu("an_output_of_one_accumulator_is_multiplied")) {
        let [q, k, v] = operands_of_one(&device);
        let errors = compare_operands(&doubled().into(), &device, &[&q, &k, &v]).unwrap();
        assert!(errors.within(&tolerance(Element::F32)), "{device:?}: {errors}");
        let twice = once().run(&device, &q, &k, &v).unwrap().to_vec::<f32>().unwrap();
        let twice: Vec<f64> = twice.iter().map(|value| 2.0 * f64::from(*value)).collect();
        let out = doubled().run(&device, &q, &k, &v).unwrap().to_vec::<f32>().unwrap();
        let error = relative_error(&out, &twice);
        assert!(error < 1e-6, "{device:?}: {error}");
    }
}

/// Offsets of the queries and of all keys that are the same move nothing, and an offset of one set of two moves that alone.
#[test]
fn key_offsets_are_of_sets() {
    let device = devices::cpu();
    let mut numbers = Numbers::new(13);
    let shapes = [[1, HEADS, 40, 16], [1, 2, 50, 16], [1, 2, 50, 8], [1, 2, 30, 16], [1, 2, 30, 8]];
    let tensors = shapes.map(|shape| numbers.tensor(&device, Element::F32, &shape).unwrap());
    let [q, k, v, mk, mv] = tensors.each_ref();
    let run = |attention: GeneralAttention<6>| {
        let operands = [q, k, v, mk, mv, q];
        let errors = compare_operands(&attention.clone().into(), &device, &operands).unwrap();
        assert!(errors.within(&tolerance(Element::F32)), "{errors}");
        attention.run(&device, operands).unwrap().to_vec::<f32>().unwrap()
    };
    let at_zero = run(two_masked_sets().with_query_offset(10));
    assert_eq!(run(two_masked_sets().with_query_offset(10).with_key_offsets(&[0])), at_zero);
    let moved = run(two_masked_sets().with_query_offset(1010).with_key_offsets(&[1000, 1000]));
    assert!(relative_error(&moved, &at_zero.iter().map(|x| f64::from(*x)).collect::<Vec<_>>()) < 1e-5);
    // The second set is after all queries, so that only the first is left.
    let alone = run(two_masked_sets().with_query_offset(10).with_key_offsets(&[0, 1000]));
    let first = once().with_query_offset(10).reference(q, k, v).unwrap().out.data;
    assert!(relative_error(&alone, &first) < 1e-5);
}

#[test]
fn a_general_attention_has_a_log_sum_exp() {
    let device = devices::cpu();
    let mut numbers = Numbers::new(17);
    let shapes = [[1, HEADS, 33, 16], [1, 2, 50, 16], [1, 2, 50, 8], [1, HEADS, 33, 24], [1, 1, 50, 24]];
    let tensors = shapes.map(|shape| numbers.tensor(&device, Element::F32, &shape).unwrap());
    let operands = tensors.each_ref();
    let (out, lse) = two_parts().with_lse().run(&device, operands).unwrap();
    assert_eq!((out.shape(), lse.shape()), (&[1, HEADS, 33, 8][..], &[1, HEADS, 33][..]));
    assert_eq!(out.to_vec::<f32>().unwrap(), two_parts().run(&device, operands).unwrap().to_vec::<f32>().unwrap());
    let want = two_parts().reference(operands).unwrap();
    let error = relative_error(&lse.to_vec::<f32>().unwrap(), &want.lse.data);
    assert!(error < 1e-4, "{error}");
}

/// What a comptime scalar leaves is one softmax, whose kernel has a log-sum-exp; the attention, of two accumulators, has none.
#[test]
fn regression_ptx_gave_a_log_sum_exp_of_an_accumulator_that_was_left() {
    let device = devices::cpu();
    let mut numbers = Numbers::new(19);
    let shapes = [[1, HEADS, 5, 16], [1, 2, 9, 16], [1, 2, 9, 16], [1, HEADS, 5, 8], [1, 1, 9, 8]];
    let tensors = shapes.map(|shape| numbers.tensor(&device, Element::F32, &shape).unwrap());
    let operands: Vec<&Tensor> = tensors.iter().collect();
    let attention = AnyAttention::from(switched(false));
    let launch = attention.ptx_launch_operands(&DeviceModel::ampere(), &operands).unwrap();
    assert!(launch.lse.is_none());
    let out = ptx::run(&launch).unwrap().out;
    let want = attention.reference_operands(&operands).unwrap().out.data;
    assert!(relative_error(&out, &want) < 2e-5);
}

/// The outputs of an attention are a tuple, in the order in which they are returned, with the log-sum-exp beside it.
#[test]
fn several_outputs_are_a_tuple() {
    for device in [devices::cpu()].into_iter().chain(devices::wgpu("several_outputs_are_a_tuple")) {
        let mut numbers = Numbers::new(23);
        let shapes = [[1, HEADS, 33, 16], [1, 2, 50, 16], [1, 2, 50, 8], [1, HEADS, 33, 8]];
        let tensors = shapes.map(|shape| numbers.tensor(&device, Element::F32, &shape).unwrap());
        let [q, k, v, gate] = tensors.each_ref();
        let floats = |tensor: &Tensor| tensor.to_vec::<f32>().unwrap();
        let ((gated, out, third), lse) = as_it_is_and_gated().with_lse().run(&device, [q, k, v, gate]).unwrap();
        let (want, want_lse) = once().with_lse().run(&device, q, k, v).unwrap();
        assert_eq!((floats(&out), floats(&lse)), (floats(&want), floats(&want_lse)));
        let sigmoid = |x: &f32| 1.0 / (1.0 + (-f64::from(*x)).exp());
        let expected: Vec<f64> =
            floats(&out).iter().zip(&floats(gate)).map(|(out, gate)| f64::from(*out) * sigmoid(gate)).collect();
        assert!(relative_error(&floats(&gated), &expected) < 1e-6);
        // The last of 33 queries is at the last of 50 keys.
        let row = |at: usize| (at / 8 % 33 + 17) % 5;
        let expected: Vec<f64> =
            floats(gate).iter().enumerate().map(|(at, gate)| f64::from(gate + row(at) as f32)).collect();
        assert!(relative_error(&floats(&third), &expected) < 1e-6);

        let attention = AnyAttention::from(as_it_is_and_gated());
        let all = attention.run_outputs(&device, &[q, k, v, gate]).unwrap();
        let [first, second, last] = &all[..] else { panic!("{} outputs", all.len()) };
        assert_eq!([first, second, last].map(floats), [&gated, &out, &third].map(floats));
        let error = attention.run_operands(&device, &[q, k, v, gate]).unwrap_err().to_string();
        let expected =
            "`as_it_is_and_gated` has 3 outputs, and one was asked for; `AnyAttention::run_outputs` gives them all";
        assert_eq!(error, expected);
        let error = attention.run_operands_partial(&device, &[q, k, v, gate]).unwrap_err().to_string();
        assert_eq!(error, "`as_it_is_and_gated` has no partial result: it has several outputs");
    }
}

/// The kernels of the `cube` schedule for NVIDIA's GPUs, also where there are matrix units: those are for one output.
#[test]
fn several_outputs_as_ptx() {
    use Along::{Keys, Queries};
    let device = devices::cpu();
    let sink = Tensor::from_slice(&device, [HEADS], &[0.5, -1.0, 2.0, 0.0]).unwrap();
    let of_two = |v_dim, w_dim| vec![(Queries, 16), (Keys(2), 16), (Keys(2), v_dim), (Keys(1), w_dim)];
    let cases = [
        Case { attention: two_outputs(&sink).into(), operands: of_two(24, 12) },
        Case { attention: two_outputs(&sink).into(), operands: of_two(9, 21) },
        Case { attention: kept().into(), operands: vec![(Queries, 16), (Keys(2), 16), (Keys(2), 32), (Queries, 32)] },
        Case {
            attention: as_it_is_and_gated().into(),
            operands: vec![(Queries, 16), (Keys(2), 16), (Keys(2), 20), (Queries, 20)],
        },
        Case { attention: second_at_will(false).into(), operands: of_two(16, 8) },
    ];
    let mut failures = Failures::default();
    for Case { attention, operands } in &cases {
        for element in [Element::F32, Element::F16] {
            let mut numbers = Numbers::new(29);
            let tensors = operands.iter().map(|(along, dim)| {
                let (heads, length) = match along {
                    Along::Queries => (HEADS, 19),
                    Along::Keys(heads) | Along::Memory(heads) => (*heads, 40),
                };
                numbers.tensor(&device, element, &[1, heads, length, *dim]).unwrap()
            });
            let tensors: Vec<Tensor> = tensors.collect();
            let tensors: Vec<&Tensor> = tensors.iter().collect();
            let what = format!("PTX {} {element:?}", attention.spec().name);
            let errors = compare_ptx_operands(attention, &DeviceModel::ampere(), &tensors);
            failures.check(&what, errors, &tolerance(element));
        }
    }
    failures.report();
}

/// Scores so great that to base 2 they overflow, in one of the two products: the row is computed again, with care.
#[test]
fn great_scores() {
    let device = devices::cpu();
    let queries = Tensor::from_slice(&device, [1, 4, 3, 8], &[1e30f32; 96]).unwrap();
    let keys: Vec<f32> = (0..5 * 8).map(|at| if at / 8 == 2 { 1.8e7 } else { -1e7 }).collect();
    let keys = Tensor::from_slice(&device, [1, 1, 5, 8], &keys).unwrap();
    let values: Vec<f32> = (0..5 * 4).map(|at| at as f32).collect();
    let values = Tensor::from_slice(&device, [1, 1, 5, 4], &values).unwrap();
    assert_eq!(values.dtype(), DType::F32);
    let attention = AnyAttention::from(two_parts()).with_scale(1.0);
    let operands = [&queries, &keys, &values, &queries, &keys];
    let errors = compare_operands(&attention, &device, &operands).unwrap();
    assert!(errors.within(&tolerance(Element::F32)), "{errors}");
}
