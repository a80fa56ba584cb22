//! Weights of which some are dropped, as in training.

use std::error::Error;

use purview::prelude::*;
use purview_examples::demo;

/// Causal attention in which `keep[batch][head][query][key]` says which weights stay, and those that do are divided by 1 − p, so that what
/// is expected stays the same. The sum that weights are divided by is of all of them.
///
/// Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from Overfitting" (2014), on weights as Vaswani et al., "Attention
/// Is All You Need" (2017).
#[attention]
pub fn dropped_weights(q: Query, k: Key, v: Value, keep: Tensor<bool, 4>, p: f32) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            let weight = if keep[batch()][head()][i][j] { 1.0 / (1.0 - p) } else { 0.0 };
            o.push_weighted(mask(dot(q[i], k[j]) * scale(), j <= i), weight, v[j]);
        }
        o
    }
}

purview_examples::variant!(golden = ["weights_dropped"], |args| {
    let (shape, keys) = (&args.shape, args.keys());
    let keep = args
        .tensor("keep", [shape.batch, shape.heads, keys, keys], |[b, h, i, j]| (b + 3 * h + 5 * i + 7 * j) % 10 > 0)?;
    dropped_weights(&keep, args.f32("p", 0.1))
});

/// Runs it and compares it with the reference.
pub fn main() -> Result<(), Box<dyn Error>> {
    let device = Device::cpu()?;
    let keep: Vec<bool> = (0..2 * 256 * 256).map(|place| place % 7 > 0).collect();
    let keep = Tensor::from_slice(&device, [1, 2, 256, 256], &keep)?;
    demo::check(&device, dropped_weights(&keep, 1.0 / 7.0), &Shape::new(1, 2, 256, 64))
}
