//! Softmax attention with a forget gate: a decay that depends on what was read.

use std::error::Error;

use purview::prelude::*;
use purview_examples::demo;

/// Causal attention whose scores gain Σ log f over the positions after the key, up to the query; `log_forget` holds, for
/// `[batch][head][position]`, the running sum of the logarithms of the gates f.
///
/// Lin et al., "Forgetting Transformer: Softmax Attention with a Forget Gate" (2025).
#[attention]
pub fn forgetting(q: Query, k: Key, v: Value, log_forget: Tensor<f32, 3>) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            let decay = log_forget[batch()][head()][i] - log_forget[batch()][head()][j];
            o.push(mask(dot(q[i], k[j]) * scale() + decay, j <= i), v[j]);
        }
        o
    }
}

purview_examples::variant!(|args| {
    let shape = [args.shape.batch, args.shape.heads, args.keys()];
    let log_forget = args.tensor("log_forget", shape, |[_, h, t]| -0.05 * t as f32 / (h + 1) as f32)?;
    forgetting(&log_forget)
});

/// Runs it and compares it with the reference.
pub fn main() -> Result<(), Box<dyn Error>> {
    let device = Device::cpu()?;
    let sums: Vec<f32> = (0..2 * 256).map(|place| -0.05 * (place % 256) as f32).collect();
    let log_forget = Tensor::from_slice(&device, [1, 2, 256], &sums)?;
    demo::check(&device, forgetting(&log_forget), &Shape::new(1, 2, 256, 64))
}
