//! Attention without a softmax that decays with distance: the parallel form of a recurrence.

use std::error::Error;

use purview::prelude::*;
use purview_examples::demo;

/// Weights are q·k / √D · γ^(i − j), used as they are; `log2_decay[head]` is log₂ γ.
///
/// Sun et al., "Retentive Network: A Successor to Transformer for Large Language Models" (2023), which normalises the output
/// afterwards.
#[attention]
pub fn retention(q: Query, k: Key, v: Value, log2_decay: Tensor<f32, 1>) -> Output {
    for i in q.tiles() {
        let mut o = Sum::new();
        for j in k.tiles() {
            let decay = exp2(log2_decay[head()] * (i - j) as f32);
            o.push(mask(dot(q[i], k[j]) * scale() * decay, j <= i), v[j]);
        }
        o
    }
}

/// The paper's decay of a head, counted from 0: log₂(1 − 2^(−5 − head)).
pub fn log2_decay(head: usize) -> f32 {
    (-(-5.0 - head as f32).exp2()).ln_1p() / std::f32::consts::LN_2
}

purview_examples::variant!(|args| {
    let log2_decay = args.tensor("log2_decay", [args.shape.heads], |[h]| log2_decay(h))?;
    retention(&log2_decay)
});

/// Runs it and compares it with the reference.
pub fn main() -> Result<(), Box<dyn Error>> {
    let device = Device::cpu()?;
    let decays: Vec<f32> = (0..4).map(log2_decay).collect();
    let decays = Tensor::from_slice(&device, [4], &decays)?;
    demo::check(&device, retention(&decays), &Shape::new(1, 4, 256, 64))
}
