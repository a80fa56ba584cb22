//! An output that a gate lets through element by element.

use std::error::Error;

use purview::prelude::*;
use purview_examples::demo;

/// Causal attention whose output is multiplied by the sigmoid of a gate, which has the output's shape.
///
/// Qiu et al., "Gated Attention for Large Language Models: Non-linearity, Sparsity, and Attention-Sink-Free" (2025); Qwen3-Next has it.
#[attention]
pub fn gated(q: Query, k: Key, v: Value, gate: Query) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push(mask(dot(q[i], k[j]) * scale(), j <= i), v[j]);
        }
        o * sigmoid(gate[i])
    }
}

purview_examples::variant!(golden = ["gated_output"], |_| gated());

/// Runs it and compares it with the reference.
pub fn main() -> Result<(), Box<dyn Error>> {
    demo::check(&Device::cpu()?, gated(), &Shape::new(1, 4, 256, 64).with_kv_heads(2))
}
