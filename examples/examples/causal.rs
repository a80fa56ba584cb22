//! Causal attention: what decoders are made of.
//!
//! The last query is at the last key's position, so the same attention serves training, and decoding with a cache of earlier
//! keys. Several query heads may share a key head: that is decided by the tensors, not by the attention. One key head for
//! all is multi-query attention (Shazeer, "Fast Transformer Decoding: One Write-Head is All You Need", 2019), some are
//! grouped-query attention (Ainslie et al., "GQA", 2023).

use std::error::Error;

use purview::prelude::*;
use purview_examples::demo;

/// Each query sees itself and the keys before it.
///
/// Vaswani et al., "Attention Is All You Need" (2017).
#[attention]
pub fn causal(q: Query, k: Key, v: Value) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push(mask(dot(q[i], k[j]) * scale(), j <= i), v[j]);
        }
        o
    }
}

purview_examples::variant!(
    golden = ["causal", "gqa_causal", "qk48_v32", "decode_3_of_37", "causal_d256", "large_logits"],
    |_| causal()
);

/// Runs it and compares it with the reference.
pub fn main() -> Result<(), Box<dyn Error>> {
    let device = Device::cpu()?;
    demo::check(&device, causal(), &Shape::new(1, 2, 256, 64))?;
    demo::check(&device, causal(), &Shape::new(1, 8, 256, 64).with_kv_heads(2))?; // grouped queries
    demo::check(&device, causal(), &Shape::new(2, 4, 3, 64).with_keys([300])) // three tokens against a cache
}
