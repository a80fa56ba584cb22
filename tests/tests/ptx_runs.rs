//! Kernels for NVIDIA's GPUs, run as PTX on the CPU: every golden case, and shapes that fit no tile. What a GPU would leave undefined
//! (accesses out of bounds, reads of what nothing has written, races) is an error there.

use purview::ir::Element;
use purview::{AnyAttention, Device, DeviceModel, Error, Tensor};
use purview_cli::golden::{self, Errors};
use purview_compiler::emit::launch::LaunchError;
use purview_tests::attentions;
use purview_tests::compare::{Failures, GOLDEN, compare_ptx};
use purview_tests::devices;
use purview_tests::numbers::Numbers;
use std::path::Path;

fn model(sm: u32) -> DeviceModel {
    DeviceModel::nvidia_sm(sm).expect("a model")
}

/// The largest errors allowed, relative to the largest magnitude, on inputs that are what `element` can hold.
fn limits(element: Element) -> Errors {
    match element {
        Element::F32 => Errors { out: 2e-5, lse: Some(1e-4) },
        Element::F16 => Errors { out: 3e-3, lse: Some(1e-4) },
        // To round the exact output to eight bits of precision may take 2⁻⁸ of the largest magnitude already.
        Element::Bf16 => Errors { out: 2f64.powi(-8) + 1e-3, lse: Some(1e-4) },
    }
}

/// Golden cases number `first`, `first + step`, and so on, by the kernel for sm_`sm`. Returns how many are within 3e-3.
fn golden(sm: u32, element: Element, first: usize, step: usize) -> usize {
    let (model, variants) = (model(sm), purview_examples::golden());
    let mut failures = Failures::default();
    let mut close = 0;
    let all = golden::load(Path::new(GOLDEN)).unwrap();
    assert_eq!(all.len(), 36);
    for case in all.iter().skip(first).step_by(step) {
        let (_, variant) = variants.iter().find(|(name, _)| *name == case.name).expect("a variant for each case");
        let result = case.run_ptx(variant, &model, element).map(|(errors, counts)| {
            failures.expect(&format!("{} runs instructions", case.name), counts.warp_instructions > 0);
            close += usize::from(errors.out <= 3e-3);
            errors
        });
        // In f32 a case may itself have been computed in f32.
        let limits = if element == Element::F32 { case.tolerance(element) } else { limits(element) };
        failures.check(&format!("sm_{sm} {element:?} {}", case.name), result, &limits);
    }
    failures.report();
    close
}

#[test]
fn golden_f32() {
    golden(80, Element::F32, 0, 1);
}

#[test]
fn golden_f16() {
    assert_eq!(golden(80, Element::F16, 0, 1), 36);
}

#[test]
fn golden_bf16() {
    assert!(golden(80, Element::Bf16, 0, 1) >= 26);
}

/// The text differs from that for sm_80 in little but its first line.
#[test]
fn golden_on_sm_90() {
    golden(90, Element::F16, 0, 3);
    golden(90, Element::Bf16, 1, 6);
    golden(90, Element::F32, 2, 6);
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
}

const SIZES: Sizes = Sizes { batch: 1, heads: 2, kv_heads: 1, queries: 33, keys: 70, qk_dim: 16, v_dim: 16 };

const ELEMENTS: [Element; 3] = [Element::F32, Element::F16, Element::Bf16];

impl Sizes {
    fn tensors(&self, device: &Device, element: Element) -> [Tensor; 3] {
        let Sizes { batch, heads, kv_heads, queries, keys, qk_dim, v_dim } = *self;
        let mut numbers = Numbers::new(7);
        let shapes = [[batch, heads, queries, qk_dim], [batch, kv_heads, keys, qk_dim], [batch, kv_heads, keys, v_dim]];
        shapes.map(|shape| numbers.tensor(device, element, &shape).unwrap())
    }
}

fn check(failures: &mut Failures, attention: impl Into<AnyAttention>, sizes: Sizes, element: Element) {
    let attention = attention.into();
    let [q, k, v] = sizes.tensors(&devices::cpu(), element);
    let what = format!("{} {sizes:?} {element:?}", attention.spec().name);
    failures.check(&what, compare_ptx(&attention, &model(80), &q, &[(&k, &v)]), &limits(element));
}

fn sink() -> AnyAttention {
    let logits = Tensor::from_slice(&devices::cpu(), [6], &[0.5f32, -1.5, 3.0, 0.0, -40.0, 40.0]).unwrap();
    attentions::sink(&logits).into()
}

#[test]
fn lengths() {
    let mut failures = Failures::default();
    for element in ELEMENTS {
        for (queries, keys) in
            [(1, 1), (1, 129), (2, 31), (31, 127), (32, 33), (33, 2), (65, 64), (127, 32), (129, 129)]
        {
            check(&mut failures, attentions::window(20), Sizes { queries, keys, ..SIZES }, element);
        }
        for attention in [sink(), attentions::sum().into(), attentions::mean().into()] {
            check(&mut failures, attention, SIZES, element);
        }
    }
    failures.report();
}

#[test]
fn head_dims() {
    let mut failures = Failures::default();
    for element in ELEMENTS {
        for (qk_dim, v_dim) in [(8, 8), (40, 40), (80, 80), (256, 256), (40, 96), (192, 128), (1, 256), (33, 8)] {
            check(&mut failures, attentions::window(40), Sizes { qk_dim, v_dim, ..SIZES }, element);
        }
    }
    failures.report();
}

#[test]
fn groups_of_heads() {
    let mut failures = Failures::default();
    for element in ELEMENTS {
        for (batch, heads, kv_heads, queries) in [(3, 1, 1, 33), (2, 6, 3, 33), (2, 6, 1, 5), (1, 4, 1, 1)] {
            let sizes = Sizes { batch, heads, kv_heads, queries, ..SIZES };
            check(&mut failures, attentions::window(40), sizes, element);
            check(&mut failures, sink(), sizes, element);
        }
    }
    failures.report();
}

/// Far to the left of all keys every row is empty.
#[test]
fn positions_and_empty_rows() {
    let mut failures = Failures::default();
    for element in ELEMENTS {
        for (queries, keys) in [(-200, 0), (-7, 64), (0, -50), (5, 0), (1000, 64)] {
            let window = attentions::window(20).with_query_offset(queries).with_key_offsets([keys]);
            check(&mut failures, window, SIZES, element);
        }
        check(&mut failures, attentions::window(20), Sizes { keys: 0, ..SIZES }, element);
        check(&mut failures, attentions::window(20), Sizes { queries: 0, ..SIZES }, element);
    }
    failures.report();
}

#[test]
fn several_pairs_and_captured_tensors() {
    let device = devices::cpu();
    let mut failures = Failures::default();
    for element in ELEMENTS {
        for (queries, first, second) in [(33, 70, 33), (65, 2, 127), (33, 0, 33), (5, 0, 0)] {
            let [q, mk, mv] = Sizes { queries, keys: first, ..SIZES }.tensors(&device, element);
            let [_, k, v] = Sizes { keys: second, ..SIZES }.tensors(&device, element);
            let attention = attentions::memory().with_key_offsets([-9, 40]).with_query_offset(30).into();
            let errors = compare_ptx(&attention, &model(80), &q, &[(&mk, &mv), (&k, &v)]);
            failures.check(&format!("memory {queries}×({first} + {second}) {element:?}"), errors, &limits(element));
        }
        let (batch, heads, length) = (2, 4, 65);
        let mut numbers = Numbers::new(11);
        let slope = numbers.tensor(&device, Element::F32, &[9]).unwrap().narrow(0, 3, heads).unwrap();
        let documents: Vec<i32> = (0..batch * length * 2).map(|_| numbers.integer(-1, 2)).collect();
        let documents = Tensor::from_slice(&device, [length, 2, batch], &documents).unwrap();
        let documents = documents.view(1, [batch, length], [1, 2 * batch]).unwrap();
        let keep: Vec<bool> = (0..batch * (length + 3)).map(|_| numbers.integer(0, 3) > 0).collect();
        let keep = Tensor::from_slice(&device, [batch, length + 3], &keep).unwrap().narrow(1, 2, length).unwrap();
        let bias = numbers.tensor(&device, Element::F32, &[length, length, batch, 2]).unwrap();
        let bias = bias.permuted([2, 3, 1, 0]).unwrap();
        let sizes = Sizes { batch, heads, kv_heads: 2, queries: length, keys: length, ..SIZES };
        check(&mut failures, attentions::captured(&slope, &documents, &keep, &bias), sizes, element);
    }
    failures.report();
}

/// Heads inside of positions, as a projection leaves them, are what the text is for; columns that are not neighbours are not.
#[test]
fn strides() {
    let (device, attention) = (devices::cpu(), AnyAttention::from(attentions::window(40)));
    let [q, k, v] = SIZES.tensors(&device, Element::F32);
    let mut failures = Failures::default();
    let inside = Numbers::new(9).tensor(&device, Element::F32, &[1, 33, 2, 16]).unwrap();
    let inside = inside.permuted([0, 2, 1, 3]).unwrap();
    let errors = compare_ptx(&attention, &model(80), &inside, &[(&k, &v)]);
    failures.check("heads inside", errors, &limits(Element::F32));
    failures.report();

    let turned = Numbers::new(9).tensor(&device, Element::F32, &[1, 1, 16, 70]).unwrap();
    let turned = turned.permuted([0, 1, 3, 2]).unwrap();
    let error = attention.ptx_launch(&model(80), &q, &[(&turned, &v)]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the rows of `k` begin at element 0 and have strides [0, 0, 1, 70] (0 where a dimension has one index), and the kernel's \
         text is for rows without gaps, of vectors of 4 elements"
    );
    assert!(matches!(error, Error::Launch(LaunchError::Layout { .. })));
}
