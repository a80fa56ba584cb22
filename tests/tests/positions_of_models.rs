//! T5's buckets and Swin's windows as those models compute them, by other formulas than the gallery's.

use purview::ir::Element;
use purview::prelude::*;
use purview_examples::{swin::swin, t5_buckets::t5_buckets};
use purview_tests::compare::Failures;
use purview_tests::devices;
use purview_tests::numbers::Numbers;

fn devices(test: &str) -> impl Iterator<Item = Device> {
    std::iter::once(devices::cpu()).chain(devices::wgpu(test))
}

/// Where a bucket begins, and the one before ends, by distance: what `_relative_position_bucket` of transformers gives on PyTorch 2.9.1
/// for 32 buckets and a distance of at most 128.
const BIDIRECTIONAL: [usize; 15] = [1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 23, 32, 46, 64, 91];
const CAUSAL: [usize; 31] = [
    1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 19, 21, 24, 27, 31, 35, 40, 46, 52, 59, 67, 77, 87, 99, 113,
];

fn t5_bucket(query: usize, key: usize, bidirectional: bool) -> usize {
    let distance = query.abs_diff(key);
    let within = |starts: &[usize]| starts.iter().filter(|start| **start <= distance).count();
    match bidirectional {
        true => within(&BIDIRECTIONAL) + if key > query { 16 } else { 0 },
        false if key > query => 0,
        false => within(&CAUSAL),
    }
}

/// Attention over one head of `[length, dim]` operands in f64, with what is added to each score, −∞ where a key is hidden.
fn attend(operands: [&[f64]; 3], dim: usize, scale: f64, added: impl Fn(usize, usize) -> f64) -> Vec<f64> {
    let [q, k, v] = operands.map(|operand| operand.chunks(dim).collect::<Vec<_>>());
    let mut out = Vec::new();
    for (i, query) in q.iter().enumerate() {
        let score =
            |(j, key): (usize, &&[f64])| query.iter().zip(*key).map(|(a, b)| a * b).sum::<f64>() * scale + added(i, j);
        let weights: Vec<f64> = k.iter().enumerate().map(score).map(f64::exp).collect();
        let sum: f64 = weights.iter().sum();
        for column in 0..dim {
            out.push(weights.iter().zip(&v).map(|(weight, value)| weight * value[column]).sum::<f64>() / sum);
        }
    }
    out
}

/// The largest difference of what `attention` gives on `device` from `want`, of each head's operands.
fn difference(
    device: &Device,
    attention: Attention<1>,
    [heads, length, dim]: [usize; 3],
    want: impl Fn(usize, [&[f64]; 3]) -> Vec<f64>,
) -> f64 {
    let mut numbers = Numbers::new(5);
    let [q, k, v] = [(); 3].map(|()| numbers.tensor(device, Element::F32, &[1, heads, length, dim]).unwrap());
    let got = attention.run(device, &q, &k, &v).unwrap().to_vec::<f32>().unwrap();
    let host = |tensor: &Tensor| -> Vec<f64> { tensor.to_vec::<f32>().unwrap().into_iter().map(f64::from).collect() };
    let host = [&q, &k, &v].map(host);
    let size = length * dim;
    let heads = (0..heads).map(|head| {
        let want = want(head, host.each_ref().map(|operand| &operand[head * size..][..size]));
        let got = &got[head * size..][..size];
        assert_eq!(want.len(), got.len());
        let each = got.iter().zip(&want).map(|(got, want)| (f64::from(*got) - want).abs());
        each.fold(0.0, |most: f64, next| if next.is_nan() { f64::NAN } else { most.max(next) })
    });
    heads.fold(0.0, |most: f64, next| if next.is_nan() { f64::NAN } else { most.max(next) })
}

#[test]
fn t5() {
    let (sizes, mut failures) = ([2, 300, 8], Failures::default());
    // Buckets that follow each other differ by much.
    let table: Vec<f32> = (0..64).map(|at| (at * 7 % 5) as f32).collect();
    for device in devices("t5") {
        let on_device = Tensor::from_slice(&device, [2, 32], &table).unwrap();
        for bidirectional in [true, false] {
            let added = |head: usize, i: usize, j: usize| match bidirectional || j <= i {
                true => f64::from(table[32 * head + t5_bucket(i, j, bidirectional)]),
                false => f64::NEG_INFINITY,
            };
            let attention = t5_buckets(&on_device, bidirectional);
            let found = difference(&device, attention, sizes, |head, operands| {
                attend(operands, 8, 1.0, |i, j| added(head, i, j))
            });
            let what = format!("{}, bidirectional {bidirectional}: off by {found}", device.name());
            failures.expect(&what, found < 2e-5);
        }
    }
    failures.report();
}

/// Swin as it is published: pixels are rolled by the shift, and cut into windows; of a window that has pixels from opposite borders, each
/// side is a region, and sees itself.
struct Swin {
    height: usize,
    width: usize,
    window: usize,
    shift: usize,
}

impl Swin {
    /// The window of a pixel in the rolled image, its region, and its place in the window.
    fn place(&self, pixel: usize) -> ((usize, usize), (usize, usize), (usize, usize)) {
        let Swin { height, width, window, shift } = *self;
        let rolled = |at: usize, length: usize| (at + length - shift) % length;
        // The slices of `img_mask`: up to the last window, then up to what was rolled, and the rest.
        let region = |at: usize, length: usize| usize::from(at >= length - window) + usize::from(at >= length - shift);
        let (y, x) = (rolled(pixel / width, height), rolled(pixel % width, width));
        ((y / window, x / window), (region(y, height), region(x, width)), (y % window, x % window))
    }

    /// What is added to a score: by `relative_position_index`, or −∞.
    fn added(&self, table: &[f32], i: usize, j: usize) -> f64 {
        let (query, key) = (self.place(i), self.place(j));
        if (query.0, query.1) != (key.0, key.1) {
            return f64::NEG_INFINITY;
        }
        let along = |query: usize, key: usize| query + self.window - 1 - key;
        let index = along(query.2.0, key.2.0) * (2 * self.window - 1) + along(query.2.1, key.2.1);
        f64::from(table[index])
    }
}

#[test]
fn shifted_windows() {
    let mut failures = Failures::default();
    for (height, width, window, shift) in [(16, 16, 4, 2), (16, 16, 4, 0), (14, 21, 7, 3), (6, 9, 3, 1)] {
        let model = Swin { height, width, window, shift };
        let side = 2 * window - 1;
        let table = Numbers::new(1).eighths(2 * side * side);
        let scale = 1.0 / 8f64.sqrt();
        for device in devices("shifted_windows") {
            let on_device = Tensor::from_slice(&device, [2, side, side], &table).unwrap();
            let attention = swin(&on_device, width as u32, window as u32, shift as u32);
            let found = difference(&device, attention, [2, height * width, 8], |head, operands| {
                attend(operands, 8, scale, |i, j| model.added(&table[head * side * side..][..side * side], i, j))
            });
            let what = format!("{}, {height}×{width} by {window}, shifted by {shift}: off by {found}", device.name());
            failures.expect(&what, found < 2e-5);
        }
    }
    failures.report();
}
