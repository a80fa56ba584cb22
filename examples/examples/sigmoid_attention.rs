//! Attention without a softmax: each weight stands for itself.

use std::error::Error;

use purview::prelude::*;
use purview_examples::demo;

/// Causal attention with the weights σ(q·k / √D + `bias`), used as they are.
///
/// Ramapuram et al., "Theory, Analysis, and Best Practices for Sigmoid Self-Attention" (2024), where the bias is −log n for
/// sequences of n.
#[attention]
pub fn sigmoid_attention(q: Query, k: Key, v: Value, bias: f32) -> Output {
    for i in q.tiles() {
        let mut o = Sum::new();
        for j in k.tiles() {
            o.push(mask(sigmoid(dot(q[i], k[j]) * scale() + bias), j <= i), v[j]);
        }
        o
    }
}

purview_examples::variant!(|args| sigmoid_attention(args.f32("bias", -(args.keys().max(1) as f32).ln())));

/// Runs it and compares it with the reference.
pub fn main() -> Result<(), Box<dyn Error>> {
    demo::check(&Device::cpu()?, sigmoid_attention(-256f32.ln()), &Shape::new(1, 2, 256, 64))
}
