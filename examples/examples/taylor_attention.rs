//! Linear attention by its kernel: the feature map is never written down.

use std::error::Error;

use purview::prelude::*;
use purview_examples::demo;

/// Causal attention with the weights 1 + s + s²/2 where softmax has eˢ: the product of the second-order Taylor features of query
/// and key, and never less than ½.
///
/// Arora et al., "Simple linear attention language models balance the recall-throughput tradeoff" (2024), after Keles et al.,
/// "On the Computational Complexity of Self-Attention" (2022).
#[attention]
pub fn taylor_attention(q: Query, k: Key, v: Value) -> Output {
    for i in q.tiles() {
        let mut o = Mean::new();
        for j in k.tiles() {
            let s = dot(q[i], k[j]) * scale();
            o.push(mask(1.0 + s + s * s / 2.0, j <= i), v[j]);
        }
        o
    }
}

purview_examples::variant!(|_| taylor_attention());

/// Runs it and compares it with the reference.
pub fn main() -> Result<(), Box<dyn Error>> {
    demo::check(&Device::cpu()?, taylor_attention(), &Shape::new(1, 2, 256, 64))
}
