//! A segment of a long text after a memory of earlier ones: two pairs of keys and values in one attention.

use std::error::Error;

use purview::prelude::*;
use purview_examples::demo;

/// Each query sees the whole memory, and of its own segment itself and what is before it.
///
/// Dai et al., "Transformer-XL: Attentive Language Models Beyond a Fixed-Length Context" (2019), where the memory is the
/// segment before; Wu et al., "Memorizing Transformers" (2022), where it was looked up.
#[attention]
pub fn recurrent_memory(q: Query, memory_k: Key, memory_v: Value, k: Key, v: Value) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for m in memory_k.tiles() {
            o.push(dot(q[i], memory_k[m]) * scale(), memory_v[m]);
        }
        for j in k.tiles() {
            o.push(mask(dot(q[i], k[j]) * scale(), j <= i), v[j]);
        }
        o
    }
}

purview_examples::variant!(|_| recurrent_memory());

/// Runs it and compares it with the reference.
pub fn main() -> Result<(), Box<dyn Error>> {
    demo::check(&Device::cpu()?, recurrent_memory(), &Shape::new(1, 2, 128, 64).with_keys([200, 128]))
}
