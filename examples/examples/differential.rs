//! Two attentions in one, of which one takes away what the other sees everywhere.

use std::error::Error;

use purview::prelude::*;
use purview_examples::demo;

/// The difference of two causal softmaxes over the same values, the second times `lambda[head]`.
///
/// Ye et al., "Differential Transformer" (2024), where λ is learned, and noise that both have in common cancels.
#[attention]
pub fn differential(q1: Query, q2: Query, k1: Key, k2: Key, v: Value, lambda: Tensor<f32, 1>) -> Output {
    for i in q1.tiles() {
        let (mut a, mut b) = (Softmax::new(), Softmax::new());
        for j in k1.tiles() {
            a.push(mask(dot(q1[i], k1[j]) * scale(), j <= i), v[j]);
            b.push(mask(dot(q2[i], k2[j]) * scale(), j <= i), v[j]);
        }
        a - lambda[head()] * b
    }
}

purview_examples::variant!(golden = ["differential"], |args| {
    let lambda = args.tensor("lambda", [args.shape.heads], |[h]| 0.8 - 0.6 * (-0.3 * h as f32).exp())?;
    differential(&lambda)
});

/// Runs it and compares it with the reference.
pub fn main() -> Result<(), Box<dyn Error>> {
    let device = Device::cpu()?;
    let lambda = Tensor::from_slice(&device, [2], &[0.2, 0.4])?;
    demo::check(&device, differential(&lambda), &Shape::new(1, 2, 256, 64).with_v_dim(128))
}
