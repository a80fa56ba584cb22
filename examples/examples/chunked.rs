//! Attention inside chunks of the sequence.

use std::error::Error;

use purview::prelude::*;
use purview_examples::demo;

/// Each query sees the keys of its own chunk that are not after it; chunks are `chunk` positions long.
///
/// The local layers of Llama 4 (Meta, 2025), which alternate with layers that see everything.
#[attention]
pub fn chunked(q: Query, k: Key, v: Value, chunk: u32) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push(mask(dot(q[i], k[j]) * scale(), j <= i && i / chunk == j / chunk), v[j]);
        }
        o
    }
}

purview_examples::variant!(golden = ["chunked"], |args| chunked(args.u32("chunk", 48)?));

/// Runs it and compares it with the reference.
pub fn main() -> Result<(), Box<dyn Error>> {
    demo::check(&Device::cpu()?, chunked(48), &Shape::new(1, 2, 256, 64))
}
