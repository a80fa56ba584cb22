//! What K or V of a hidden key holds reaches no row that does not see it, and every finite score is a score.

use purview::ir::Element;
use purview::prelude::*;
use purview::{AnyAttention, Device, DeviceModel};
use purview_cli::ptx;
use purview_tests::devices;
use purview_tests::numbers::{Numbers, floats_of};
use std::fmt::{self, Display, Formatter};

#[attention]
fn lengths(q: Query, k: Key, v: Value, len: Tensor<i32, 1>) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push(mask(dot(q[i], k[j]) * scale(), j < len[batch()]), v[j]);
        }
        o
    }
}

#[attention]
fn padded_left(q: Query, k: Key, v: Value, pad: Tensor<i32, 1>) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push(mask(dot(q[i], k[j]) * scale(), j >= pad[batch()]), v[j]);
        }
        o
    }
}

#[attention]
fn tokens(q: Query, k: Key, v: Value, token: Tensor<bool, 2>) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push(mask(dot(q[i], k[j]) * scale(), token[batch()][j]), v[j]);
        }
        o
    }
}

#[attention]
fn causal(q: Query, k: Key, v: Value) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push(mask(dot(q[i], k[j]) * scale(), j <= i), v[j]);
        }
        o
    }
}

#[attention]
fn causal_sum(q: Query, k: Key, v: Value) -> Output {
    for i in q.tiles() {
        let mut o = Sum::new();
        for j in k.tiles() {
            o.push(mask(dot(q[i], k[j]) * scale(), j <= i), v[j]);
        }
        o
    }
}

#[attention]
fn causal_mean(q: Query, k: Key, v: Value) -> Output {
    for i in q.tiles() {
        let mut o = Mean::new();
        for j in k.tiles() {
            o.push(mask(exp(dot(q[i], k[j]) * scale()), j <= i), v[j]);
        }
        o
    }
}

/// Weights of both signs: an infinite value is multiplied by its own.
#[attention]
fn signed_weights(q: Query, k: Key, v: Value) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push_weighted(mask(dot(q[i], k[j]) * scale(), j <= i), if j % 2 == 0 { 2.0 } else { -0.5 }, v[j]);
        }
        o
    }
}

#[attention]
fn positive_scores(q: Query, k: Key, v: Value) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            let s = dot(q[i], k[j]);
            o.push(mask(s, s > 0.0), v[j]);
        }
        o
    }
}

#[attention]
fn biased(q: Query, k: Key, v: Value, bias: Tensor<f32, 1>) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push(dot(q[i], k[j]) + bias[j], v[j]);
        }
        o
    }
}

#[attention]
fn biased_causal(q: Query, k: Key, v: Value, bias: Tensor<f32, 1>) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push(mask(dot(q[i], k[j]) + bias[j], j <= i), v[j]);
        }
        o
    }
}

#[attention]
fn plain(q: Query, k: Key, v: Value) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push(dot(q[i], k[j]), v[j]);
        }
        o
    }
}

#[attention]
fn only_a_sink(q: Query, k: Key, v: Value, sink: f32) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::with_sink(sink);
        for j in k.tiles() {
            o.push(mask(dot(q[i], k[j]), j < 0), v[j]);
        }
        o
    }
}

#[attention]
fn with_sink(q: Query, k: Key, v: Value, sink: f32) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::with_sink(sink);
        for j in k.tiles() {
            o.push(dot(q[i], k[j]), v[j]);
        }
        o
    }
}

#[attention]
fn sum(q: Query, k: Key, v: Value) -> Output {
    for i in q.tiles() {
        let mut o = Sum::new();
        for j in k.tiles() {
            o.push(dot(q[i], k[j]), v[j]);
        }
        o
    }
}

fn all_devices(test: &str) -> Vec<(Device, String)> {
    let mut all = vec![(devices::cpu(), "cpu".to_string())];
    all.extend(devices::wgpu_all(test).into_iter().map(|described| (described.device, described.what)));
    all
}

/// Compares with the reference, NaN and infinities included.
fn as_the_reference(what: &str, case: &Case, attention: &AnyAttention, got: &[f32], tolerance: f64) {
    let want = attention.reference(&case.q, &[(&case.k, &case.v)]).unwrap().out.data;
    assert_eq!(got.len(), want.len());
    for (at, (got, want)) in got.iter().zip(&want).enumerate() {
        let close = if want.is_finite() {
            (f64::from(*got) - want).abs() <= tolerance * want.abs().max(1.0)
        } else {
            f64::from(*got) == *want || got.is_nan() && want.is_nan()
        };
        assert!(close, "{what} {case}, {}: element {at} is {got}, expected {want}", attention.spec().name);
    }
}

/// Keys of which some are hidden, and hold what is not a number or infinite.
struct Case {
    q: Tensor,
    k: Tensor,
    v: Tensor,
    attentions: Vec<AnyAttention>,
}

impl Display for Case {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let [q, k] = [&self.q, &self.k].map(Tensor::shape);
        write!(f, "{:?} {}×{}×{}", self.q.dtype(), q[2], k[2], q[3])
    }
}

impl Case {
    fn new(device: &Device, element: Element, [queries, keys, dim]: [usize; 3]) -> Case {
        let (heads, kv_heads) = (4, 2);
        let mut numbers = Numbers::new(11);
        let q = numbers.tensor(device, element, &[1, heads, queries, dim]).unwrap();
        let mut key = numbers.eighths(kv_heads * keys * dim);
        let mut value = numbers.eighths(kv_heads * keys * dim);
        let hidden = [keys - 1, keys - 7, keys / 2];
        for head in 0..kv_heads {
            for (bad, at) in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY].into_iter().zip(hidden) {
                let row = (head * keys + at) * dim;
                value[row + 1] = bad;
                value[row + dim - 1] = bad;
                if head == 0 {
                    key[row] = bad;
                }
            }
        }
        let k = floats_of(device, element, &[1, kv_heads, keys, dim], &key).unwrap();
        let v = floats_of(device, element, &[1, kv_heads, keys, dim], &value).unwrap();
        let token: Vec<bool> = (0..keys).map(|at| !hidden.contains(&at)).collect();
        let token = Tensor::from_slice(device, [1, keys], &token).unwrap();
        let len = Tensor::from_slice(device, [1], &[keys as i32 / 2]).unwrap();
        let pad = Tensor::from_slice(device, [1], &[keys as i32 - 6]).unwrap();
        let mut attentions: Vec<AnyAttention> = vec![
            tokens(&token).into(),
            lengths(&len).into(),
            padded_left(&pad).into(),
            causal().into(),
            causal_sum().into(),
            causal_mean().into(),
            signed_weights().into(),
        ];
        // A score near 0 may have another sign in 16 bits.
        if element == Element::F32 {
            attentions.push(positive_scores().into());
        }
        Case { q, k, v, attentions }
    }
}

/// Head dim 1, one head.
fn small(device: &Device, attention: Attention<1>, queries: usize, k: &[f32], v: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let tensor = |values: &[f32]| Tensor::from_slice(device, [1, 1, values.len(), 1], values).unwrap();
    let q = tensor(&vec![1.0; queries]);
    let (out, lse) = attention.with_lse().run(device, &q, &tensor(k), &tensor(v)).unwrap();
    (out.to_vec().unwrap(), lse.to_vec().unwrap())
}

#[test]
fn what_a_hidden_key_holds() {
    const NAN: f32 = f32::NAN;
    const INF: f32 = f32::INFINITY;
    for (device, what) in all_devices("what_a_hidden_key_holds") {
        let one = Tensor::from_slice(&device, [1], &[1i32]).unwrap();
        for bad in [NAN, INF, -INF] {
            for bad_key in [0.0, bad] {
                let (out, _) = small(&device, lengths(&one), 1, &[0.0, bad_key], &[1.0, bad]);
                assert_eq!(out, [1.0], "{what}: padding on the right");
                let (out, _) = small(&device, padded_left(&one), 1, &[bad_key, 0.0], &[bad, 1.0]);
                assert_eq!(out, [1.0], "{what}: padding on the left");
                let token = Tensor::from_slice(&device, [1, 2], &[false, true]).unwrap();
                let (out, _) = small(&device, tokens(&token), 1, &[bad_key, 0.0], &[bad, 1.0]);
                assert_eq!(out, [1.0], "{what}: padding anywhere");
                let (out, lse) = small(&device, causal(), 2, &[0.0, bad_key], &[1.0, bad]);
                assert_eq!((out[0], lse[0]), (1.0, 0.0), "{what}: the first row");
                // A score of −∞ hides its key.
                let expected = bad_key == f32::NEG_INFINITY;
                assert_eq!(out[1].is_finite(), expected, "{what}: a row that sees {bad} is {}", out[1]);
            }
        }
        let (out, _) = small(&device, causal(), 2, &[0.0, 0.0], &[1.0, INF]);
        assert_eq!(out, [1.0, INF], "{what}");
    }
}

/// Many keys and queries, on which tiles of all kinds occur, in every type.
#[test]
fn what_hidden_keys_of_tiles_hold() {
    for (device, what) in all_devices("what_hidden_keys_of_tiles_hold") {
        for element in [Element::F32, Element::F16].into_iter().filter(|element| device.supports(*element)) {
            for sizes in [[70, 70, 16], [1, 300, 16], [40, 100, 7]] {
                let case = Case::new(&device, element, sizes);
                for attention in &case.attentions {
                    let out = attention.run(&device, &case.q, &[(&case.k, &case.v)]).unwrap();
                    as_the_reference(&what, &case, attention, &out.to_vec().unwrap(), 2e-3);
                }
            }
        }
    }
}

/// The same with the kernels for NVIDIA's GPUs, run as PTX.
#[test]
fn what_hidden_keys_of_tiles_hold_in_ptx() {
    let model = DeviceModel::nvidia_sm(80).expect("a model");
    for element in [Element::F32, Element::F16, Element::Bf16] {
        let tolerance = if element == Element::Bf16 { 8e-3 } else { 3e-3 };
        for sizes in [[70, 70, 16], [1, 150, 16], [40, 100, 7]] {
            let case = Case::new(&devices::cpu(), element, sizes);
            for attention in &case.attentions {
                let out = ptx::run(&attention.ptx_launch(&model, &case.q, &[(&case.k, &case.v)]).unwrap()).unwrap().out;
                as_the_reference("ptx", &case, attention, &out, tolerance);
            }
        }
    }
}

#[test]
fn scores_that_are_very_low() {
    for (device, what) in all_devices("scores_that_are_very_low") {
        let tensor = |values: &[f32]| Tensor::from_slice(&device, [values.len()], values).unwrap();
        for low in [f32::MIN, -3e38, -2.5e38, -7e37, -1e38, -1e30] {
            for attention in [biased(&tensor(&[low; 2])), biased_causal(&tensor(&[low; 2])).with_query_offset(1)] {
                let (out, lse) = small(&device, attention, 1, &[0.0; 2], &[1.0, 3.0]);
                assert_eq!(out, [2.0], "{what}: two scores of {low}");
                assert!((lse[0] - low).abs() <= 1e-6 * low.abs(), "{what}: {} for {low}", lse[0]);
            }
            let (out, lse) = small(&device, plain(), 1, &[low; 2], &[1.0, 3.0]);
            assert_eq!(out, [2.0], "{what}: two products of {low}");
            assert!((lse[0] - low).abs() <= 1e-6 * low.abs(), "{what}: {} for {low}", lse[0]);
            let (out, lse) = small(&device, only_a_sink(low), 1, &[0.0], &[1.0]);
            assert_eq!(out, [0.0], "{what}: a sink of {low}");
            assert!((lse[0] - low).abs() <= 1e-6 * low.abs(), "{what}: {} for {low}", lse[0]);
        }
        // In full tiles too.
        for score in [f32::MIN, -1e38, -1e30, -1e10, 1e10, 1e30, f32::MAX] {
            let values: Vec<f32> = (0..200).map(|key| (key % 2) as f32).collect();
            for queries in [1, 100] {
                let (out, lse) = small(&device, biased(&tensor(&[score; 200])), queries, &[0.0; 200], &values);
                assert!(out.iter().all(|out| (out - 0.5).abs() < 1e-5), "{what}: 200 scores of {score}: {out:?}");
                assert!(lse.iter().all(|lse| (lse - score).abs() <= 1e-6 * score.abs()), "{what}: {lse:?} for {score}");
            }
        }
        for high in [2e38, 2.4e38, 3e38] {
            for queries in [1, 40] {
                let (out, lse) = small(&device, with_sink(high), queries, &[0.0], &[2.0]);
                assert!(out.iter().all(|out| *out == 0.0), "{what}: a sink of {high} takes all: {out:?}");
                assert!(lse.iter().all(|lse| (lse - high).abs() <= 1e-6 * high), "{what}: {lse:?} for {high}");
                let (_, lse) = small(&device, only_a_sink(high), queries, &[0.0], &[1.0]);
                assert!(lse.iter().all(|lse| (lse - high).abs() <= 1e-6 * high), "{what}: {lse:?} for {high} alone");
            }
        }
        let (out, _) = small(&device, biased(&tensor(&[-3e38, -2.5e38])), 1, &[0.0; 2], &[1.0, 3.0]);
        assert_eq!(out, [3.0], "{what}: the greater of two");
        let (out, lse) = small(&device, biased(&tensor(&[f32::MAX, f32::MAX])), 1, &[0.0; 2], &[1.0, 3.0]);
        assert_eq!(out, [2.0], "{what}: the greatest");
        assert!((lse[0] - f32::MAX).abs() <= 1e-6 * f32::MAX, "{what}: {}", lse[0]);
        let (out, lse) = small(&device, biased(&tensor(&[f32::NEG_INFINITY; 2])), 1, &[0.0; 2], &[1.0, 3.0]);
        assert_eq!((out[0], lse[0]), (0.0, f32::NEG_INFINITY), "{what}: scores of −∞ are hidden");
        let (out, _) = small(&device, biased(&tensor(&[0.0; 2])), 1, &[0.0; 2], &[3e38, 3e38]);
        assert_eq!(out, [3e38], "{what}: a mean of great values");
    }
}

/// The same with the kernels for NVIDIA's GPUs, run as PTX.
#[test]
fn scores_that_are_very_low_in_ptx() {
    let device = devices::cpu();
    let model = DeviceModel::nvidia_sm(80).expect("a model");
    for element in [Element::F32, Element::F16, Element::Bf16] {
        let operand = |values: &[f32]| floats_of(&device, element, &[1, 1, values.len(), 1], values).unwrap();
        let run = |attention: AnyAttention, v: &[f32]| {
            let (q, k) = (operand(&[1.0; 2]), operand(&vec![0.0; v.len()]));
            let results = ptx::run(&attention.ptx_launch(&model, &q, &[(&k, &operand(v))]).unwrap()).unwrap();
            (results.out, results.lse)
        };
        let what = element.name();
        let bias = |values: &[f32]| Tensor::from_slice(&device, [values.len()], values).unwrap();
        let close = |lse: Option<Vec<f32>>, want: f32| {
            let lse = lse.unwrap();
            assert!(lse.iter().all(|lse| (lse - want).abs() <= 1e-6 * want.abs()), "{what}: {lse:?}, expected {want}");
        };
        for score in [f32::MIN, -3e38, -1e38, f32::MAX] {
            for attention in [biased(&bias(&[score; 2])), biased_causal(&bias(&[score; 2])).with_query_offset(1)] {
                let (out, lse) = run(attention.into(), &[1.0, 3.0]);
                assert_eq!(out, [2.0; 2], "{what}: two scores of {score}");
                close(lse, score);
            }
        }
        // In full tiles too.
        for score in [f32::MIN, -1e38, -1e30, -1e10, 1e10, 1e30, f32::MAX] {
            let values: Vec<f32> = (0..128).map(|key| (key % 2) as f32).collect();
            let (out, lse) = run(biased(&bias(&[score; 128])).into(), &values);
            assert!(out.iter().all(|out| (out - 0.5).abs() < 1e-3), "{what}: 128 scores of {score}: {out:?}");
            close(lse, score);
        }
        for sink in [-3e38, 2.4e38, 3e38] {
            let (out, lse) = run(only_a_sink(sink).into(), &[1.0]);
            assert_eq!(out, [0.0; 2], "{what}: a sink of {sink}");
            close(lse, sink);
        }
        let (out, _) = run(with_sink(3e38).into(), &[2.0]);
        assert_eq!(out, [0.0; 2], "{what}: a sink takes all");
        // Without a mask what is not finite is seen.
        let (out, _) = run(biased(&bias(&[0.0, 0.0])).into(), &[1.0, f32::INFINITY]);
        assert_eq!(out, [f32::INFINITY; 2], "{what}");
        let (out, _) = run(sum().into(), &[1.0, f32::INFINITY]);
        assert!(out.iter().all(|out| out.is_nan()), "{what}: 0·∞ is {out:?}");
    }
}
