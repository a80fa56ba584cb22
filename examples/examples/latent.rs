//! Keys in two parts, of which one is shared by all heads.

use std::error::Error;

use purview::prelude::*;
use purview_examples::demo;

/// Multi-head latent attention with its rotary part apart: causal, with scores that are the sum of two products.
///
/// DeepSeek-AI, "DeepSeek-V2: A Strong, Economical, and Efficient Mixture-of-Experts Language Model" (2024), where the rotary keys have
/// one head, and 64 elements beside 128 without a position.
#[attention]
pub fn latent(q: Query, k: Key, v: Value, q_rope: Query, k_rope: Key) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            let s = (dot(q[i], k[j]) + dot(q_rope[i], k_rope[j])) * scale();
            o.push(mask(s, j <= i), v[j]);
        }
        o
    }
}

purview_examples::variant!(golden = ["two_dots"], |_| latent());

/// Runs it and compares it with the reference.
pub fn main() -> Result<(), Box<dyn Error>> {
    let shape = Shape::new(1, 4, 256, 64).with_dims([("q_rope", 32), ("k_rope", 32)]).with_key_heads([("k_rope", 1)]);
    demo::check(&Device::cpu()?, latent(), &shape)
}
