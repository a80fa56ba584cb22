//! Shapes that fit no tile, strides that are not those of a dense tensor, positions that are not those of the rows, and
//! nothing at all: on both devices against the reference.

use half::f16;
use purview::ir::Element;
use purview::{AnyAttention, Device, Error, Tensor};
use purview_cli::golden::Errors;
use purview_tests::attentions;
use purview_tests::compare::{Failures, compare, tolerance};
use purview_tests::devices;
use purview_tests::numbers::Numbers;

/// How a tensor `[B, H, S, D]` lies in memory.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Layout {
    Dense,
    /// `[B, S, H, D]`, as a projection leaves it.
    HeadsInside,
    /// `[B, H, D, S]`: neighbours of the last dimension are not neighbours in memory.
    Transposed,
    /// The middle of a larger tensor: it does not begin at its memory's start.
    Narrow,
    /// One head's memory for all heads.
    OneHead,
}

#[derive(Clone, Copy, Debug)]
struct Sizes {
    batch: usize,
    heads: usize,
    kv_heads: usize,
    queries: usize,
    keys: usize,
    qk_dim: usize,
    v_dim: usize,
    element: Element,
    layouts: [Layout; 3],
}

const SIZES: Sizes = Sizes {
    batch: 1,
    heads: 2,
    kv_heads: 1,
    queries: 33,
    keys: 70,
    qk_dim: 16,
    v_dim: 16,
    element: Element::F32,
    layouts: [Layout::Dense; 3],
};

const LENGTHS: [usize; 7] = [1, 2, 31, 32, 33, 127, 129];

fn tensor(device: &Device, numbers: &mut Numbers, element: Element, shape: [usize; 4], layout: Layout) -> Tensor {
    let [b, h, s, d] = shape;
    let tensor = match layout {
        Layout::Dense => numbers.tensor(device, element, &shape),
        Layout::HeadsInside => {
            numbers.tensor(device, element, &[b, s, h, d]).and_then(|tensor| tensor.permuted([0, 2, 1, 3]))
        }
        Layout::Transposed => {
            numbers.tensor(device, element, &[b, h, d, s]).and_then(|tensor| tensor.permuted([0, 1, 3, 2]))
        }
        Layout::Narrow => numbers
            .tensor(device, element, &[b + 1, h + 2, s + 5, d + 3])
            .and_then(|tensor| tensor.narrow(0, 1, b)?.narrow(1, 1, h)?.narrow(2, 4, s)?.narrow(3, 2, d)),
        Layout::OneHead => {
            numbers.tensor(device, element, &[b, 1, s, d]).and_then(|tensor| tensor.view(0, shape, [s * d, 0, d, 1]))
        }
    };
    tensor.unwrap()
}

impl Sizes {
    fn tensors(&self, device: &Device, seed: u64) -> [Tensor; 3] {
        let Sizes { batch, heads, kv_heads, queries, keys, qk_dim, v_dim, element, layouts } = *self;
        let mut numbers = Numbers::new(seed);
        let shapes = [[batch, heads, queries, qk_dim], [batch, kv_heads, keys, qk_dim], [batch, kv_heads, keys, v_dim]];
        let mut place = 0;
        shapes.map(|shape| {
            place += 1;
            tensor(device, &mut numbers, element, shape, layouts[place - 1])
        })
    }
}

fn check(failures: &mut Failures, device: &Device, attention: impl Into<AnyAttention>, sizes: Sizes, note: &str) {
    let attention = attention.into();
    let [q, k, v] = sizes.tensors(device, 7);
    let Sizes { batch, heads, kv_heads, queries, keys, qk_dim, v_dim, element, layouts } = sizes;
    let what = format!(
        "{} {}: [{batch}, {heads}/{kv_heads}, {queries}×{keys}, {qk_dim}/{v_dim}] {element:?} {layouts:?} {note}",
        device.name(),
        attention.spec().name
    );
    failures.check(&what, compare(&attention, device, &q, &[(&k, &v)]), &tolerance(element));
}

fn each_device(test: &str, run: impl Fn(&Device, &mut Failures)) {
    let mut failures = Failures::default();
    run(&devices::cpu(), &mut failures);
    if let Some(device) = devices::wgpu(test) {
        run(&device, &mut failures);
    }
    failures.report();
}

fn sink(device: &Device) -> AnyAttention {
    attentions::sink(&Tensor::from_slice(device, [6], &[0.5f32, -1.5, 3.0, 0.0, -40.0, 40.0]).unwrap()).into()
}

/// One of each accumulator.
fn accumulators(device: &Device) -> Vec<AnyAttention> {
    vec![attentions::window(20).into(), sink(device), attentions::sum().into(), attentions::mean().into()]
}

#[test]
fn all_pairs_of_lengths() {
    let mut failures = Failures::default();
    let device = devices::cpu();
    for attention in accumulators(&device) {
        for queries in LENGTHS {
            for keys in LENGTHS {
                check(&mut failures, &device, attention.clone(), Sizes { queries, keys, ..SIZES }, "");
            }
        }
    }
    if let Some(device) = devices::wgpu("all_pairs_of_lengths") {
        for attention in accumulators(&device) {
            for (queries, keys) in LENGTHS.into_iter().zip(LENGTHS.into_iter().rev()).chain([(31, 127), (129, 129)]) {
                check(&mut failures, &device, attention.clone(), Sizes { queries, keys, ..SIZES }, "");
            }
        }
    }
    failures.report();
}

#[test]
fn head_dims() {
    each_device("head_dims", |device, failures| {
        let alike = [1, 8, 40, 80, 96, 192, 256].map(|dim| (dim, dim));
        for (qk_dim, v_dim) in alike.into_iter().chain([(1, 256), (256, 1), (40, 96), (33, 8), (8, 33), (192, 128)]) {
            check(failures, device, attentions::window(40), Sizes { qk_dim, v_dim, ..SIZES }, "");
        }
    });
}

#[test]
fn strides() {
    use Layout::*;
    each_device("strides", |device, failures| {
        for layouts in [
            [HeadsInside; 3],
            [Transposed; 3],
            [Narrow; 3],
            [OneHead; 3],
            [Transposed, Dense, Narrow],
            [HeadsInside, Transposed, Dense],
            [Narrow, OneHead, Transposed],
        ] {
            let sizes = Sizes { batch: 2, heads: 4, kv_heads: 2, layouts, ..SIZES };
            check(failures, device, attentions::window(40), sizes, "");
        }
    });
}

#[test]
fn groups_of_heads() {
    each_device("groups_of_heads", |device, failures| {
        for (batch, heads, kv_heads) in [(3, 1, 1), (2, 6, 3), (2, 6, 1), (1, 5, 5)] {
            let sizes = Sizes { batch, heads, kv_heads, ..SIZES };
            check(failures, device, attentions::window(40), sizes, "");
            check(failures, device, sink(device), sizes, "");
        }
    });
}

#[test]
fn positions() {
    each_device("positions", |device, failures| {
        for queries in [-200, -7, 0, 5, 1000] {
            for keys in [-50, 0, 64] {
                let note = format!("queries at {queries}, keys at {keys}");
                let window = attentions::window(20).with_query_offset(queries).with_key_offsets([keys]);
                check(failures, device, window, SIZES, &note);
            }
            check(failures, device, attentions::sum().with_query_offset(queries), SIZES, "a query offset");
        }
    });
}

#[test]
fn half_precision() {
    each_device("half_precision", |device, failures| {
        for element in [Element::F16, Element::Bf16] {
            if !device.supports(element) {
                println!("{} has no {element:?}", device.name());
                continue;
            }
            for attention in accumulators(device) {
                for (qk_dim, v_dim) in [(64, 64), (40, 33)] {
                    let sizes = Sizes { qk_dim, v_dim, element, queries: 129, keys: 127, ..SIZES };
                    check(failures, device, attention.clone(), sizes, "");
                    let layouts = [Layout::HeadsInside, Layout::Narrow, Layout::Transposed];
                    check(failures, device, attention.clone(), Sizes { layouts, ..sizes }, "");
                }
            }
        }
        failures.expect("the CPU has f16", device.name() != "cpu" || device.supports(Element::F16));
    });
}

#[test]
fn captured_tensors_of_any_stride() {
    each_device("captured_tensors", |device, failures| {
        let (batch, heads, length) = (2, 4, 65);
        let mut numbers = Numbers::new(11);
        let slope = numbers.tensor(device, Element::F32, &[9]).unwrap().narrow(0, 3, heads).unwrap();
        let documents: Vec<i32> = (0..batch * length * 2).map(|_| numbers.integer(-1, 2)).collect();
        let documents = Tensor::from_slice(device, [length, 2, batch], &documents).unwrap();
        let documents = documents.view(1, [batch, length], [1, 2 * batch]).unwrap();
        let keep: Vec<bool> = (0..batch * (length + 3)).map(|_| numbers.integer(0, 3) > 0).collect();
        let keep = Tensor::from_slice(device, [batch, length + 3], &keep).unwrap().narrow(1, 2, length).unwrap();
        let bias = numbers.tensor(device, Element::F32, &[length, length, batch, 2]).unwrap();
        let bias = bias.permuted([2, 3, 1, 0]).unwrap();
        let sizes = Sizes { batch, heads, kv_heads: 2, queries: length, keys: length, ..SIZES };
        check(failures, device, attentions::captured(&slope, &documents, &keep, &bias), sizes, "");
    });
}

#[test]
fn several_pairs() {
    each_device("several_pairs", |device, failures| {
        for (queries, first, second) in [(33, 70, 33), (1, 1, 1), (129, 2, 127), (33, 0, 33), (33, 70, 0), (5, 0, 0)] {
            let [q, mk, mv] = Sizes { queries, keys: first, ..SIZES }.tensors(device, 1);
            let [_, k, v] = Sizes { keys: second, layouts: [Layout::Narrow; 3], ..SIZES }.tensors(device, 2);
            let what = format!("{} memory: {queries}×({first} + {second})", device.name());
            let limit = tolerance(Element::F32);
            let attention = attentions::memory().into();
            failures.check(&what, compare(&attention, device, &q, &[(&mk, &mv), (&k, &v)]), &limit);
            let attention = attentions::memory().with_key_offsets([-9, 40]).with_query_offset(30).into();
            failures.check(&what, compare(&attention, device, &q, &[(&mk, &mv), (&k, &v)]), &limit);
        }
    });
}

#[test]
fn nothing_to_compute() {
    each_device("nothing_to_compute", |device, failures| {
        for attention in accumulators(device) {
            for sizes in [
                Sizes { batch: 0, ..SIZES },
                Sizes { queries: 0, ..SIZES },
                Sizes { heads: 0, kv_heads: 0, ..SIZES },
                Sizes { queries: 0, keys: 0, ..SIZES },
            ] {
                check(failures, device, attention.clone(), sizes, "nothing");
            }
        }
    });
}

/// No keys, or none that is visible: rows of zeros, and a log-sum-exp of −∞ or of the sink.
#[test]
fn rows_that_see_no_key() {
    each_device("rows_that_see_no_key", |device, failures| {
        let offset = attentions::window(20).with_query_offset(-100);
        for (attention, keys) in [(attentions::full(), 0), (attentions::window(20), 0), (offset, 70)] {
            let [q, k, v] = Sizes { keys, ..SIZES }.tensors(device, 3);
            let (out, lse) = attention.with_lse().run(device, &q, &k, &v).unwrap();
            let out = out.to_vec::<f32>().unwrap();
            failures.expect("rows are zero", out.len() == 2 * 33 * 16 && out.iter().all(|x| *x == 0.0));
            let lse = lse.to_vec::<f32>().unwrap();
            failures.expect("lse is −∞", lse.len() == 2 * 33 && lse.iter().all(|x| *x == f32::NEG_INFINITY));
        }
        for attention in accumulators(device) {
            check(failures, device, attention, Sizes { keys: 0, ..SIZES }, "no keys");
        }
        let Sizes { queries, .. } = SIZES;
        let [q, k, v] = Sizes { keys: 0, ..SIZES }.tensors(device, 3);
        let (_, lse) = sink(device).run_with_lse(device, &q, &[(&k, &v)]).unwrap();
        let lse = lse.to_vec::<f32>().unwrap();
        failures.expect("the first head's sink", lse[..queries].iter().all(|x| (x - 0.5).abs() < 1e-6));
        failures.expect("the second head's sink", lse[queries..].iter().all(|x| (x + 1.5).abs() < 1e-6));
    });
}

/// Keys and values of tiles that are masked as a whole may hold anything.
#[test]
fn masked_tiles_are_not_read() {
    each_device("masked_tiles_are_not_read", |device, failures| {
        let run = |fill: f32| -> Result<Vec<f32>, Error> {
            let mut data = Numbers::new(5).eighths(512 * 16);
            // The queries, at 0 to 31, see no key from 32 on; no tile has more than 64 keys.
            data[64 * 16..].fill(fill);
            let keys = Tensor::from_slice(device, [1, 1, 512, 16], &data)?;
            let queries = keys.narrow(2, 0, 32)?;
            attentions::window(512).with_query_offset(0).run(device, &queries, &keys, &keys)?.to_vec()
        };
        let clean = run(0.0).unwrap();
        failures.expect("there are numbers", clean.iter().all(|x| x.is_finite()));
        failures.expect("NaN is not read", run(f32::NAN).unwrap() == clean);
    });
}

/// Scores beyond what exp can take, in both directions.
#[test]
fn large_scores() {
    each_device("large_scores", |device, failures| {
        for scale in [1e4, -1e4, 300.0] {
            let [q, k, v] = SIZES.tensors(device, 7);
            let attention = attentions::window(40).with_scale(scale).into();
            // f32 leaves scores of this size a hundredth or so, which is the error of a weight.
            let limit = Errors { out: 1e-2, lse: Some(1e-6) };
            let errors = compare(&attention, device, &q, &[(&k, &v)]);
            failures.check(&format!("{} scale {scale}", device.name()), errors, &limit);
        }
    });
}

/// The greatest f16 as a value: sums are in f32, so that nothing overflows on the way to an average.
#[test]
fn the_greatest_values_of_f16() {
    each_device("the_greatest_values_of_f16", |device, failures| {
        if !device.supports(Element::F16) {
            return failures.expect("only wgpu lacks f16", device.name() == "wgpu");
        }
        let keys = Tensor::from_slice(device, [1, 1, 100, 8], &[f16::ZERO; 800]).unwrap();
        let values = Tensor::from_slice(device, [1, 1, 100, 8], &[f16::MAX; 800]).unwrap();
        let out = attentions::full().run(device, &keys, &keys, &values).unwrap().to_vec::<f32>().unwrap();
        failures.expect("65504 is kept", out.iter().all(|x| *x == 65504.0));
    });
}
