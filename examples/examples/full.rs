//! Attention without a mask: encoders, and a decoder that looks at an encoder.

use std::error::Error;

use purview::prelude::*;
use purview_examples::demo;

/// Each query sees every key.
///
/// Vaswani et al., "Attention Is All You Need" (2017): softmax(q·k / √D) times v.
#[attention]
pub fn full(q: Query, k: Key, v: Value) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push(dot(q[i], k[j]) * scale(), v[j]);
        }
        o
    }
}

purview_examples::variant!(golden = ["full", "temperature", "decode_1_of_333", "one_by_one"], |_| full());

/// Runs it and compares it with the reference.
pub fn main() -> Result<(), Box<dyn Error>> {
    let device = Device::cpu()?;
    demo::check(&device, full(), &Shape::new(1, 2, 256, 64))?;
    demo::check(&device, full(), &Shape::new(2, 4, 1, 64).with_kv_heads(2).with_keys([300])) // a token against a cache
}
