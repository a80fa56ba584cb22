//! Positions as a penalty on distance: no position embeddings, and longer sequences than in training.

use std::error::Error;

use purview::prelude::*;
use purview_examples::demo;

/// Causal attention whose scores fall by `slope[head]` with each position of distance.
///
/// Press, Smith and Lewis, "Train Short, Test Long: Attention with Linear Biases Enables Input Length Extrapolation" (2021).
#[attention]
pub fn alibi_causal(q: Query, k: Key, v: Value, slope: Tensor<f32, 1>) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            let s = dot(q[i], k[j]) * scale() - slope[head()] * (i - j) as f32;
            o.push(mask(s, j <= i), v[j]);
        }
        o
    }
}

/// The paper's slope of a head, counted from 0: 2^(−8 (head + 1) / heads).
pub fn slope(head: usize, heads: usize) -> f32 {
    (-8.0 * (head + 1) as f32 / heads as f32).exp2()
}

purview_examples::variant!(golden = ["alibi_causal"], |args| {
    let heads = args.shape.heads;
    alibi_causal(&args.tensor("slope", [heads], |[h]| slope(h, heads))?)
});

/// Runs it and compares it with the reference.
pub fn main() -> Result<(), Box<dyn Error>> {
    let device = Device::cpu()?;
    let slopes: Vec<f32> = (0..8).map(|head| slope(head, 8)).collect();
    let slopes = Tensor::from_slice(&device, [8], &slopes)?;
    demo::check(&device, alibi_causal(&slopes), &Shape::new(1, 8, 256, 64))
}
