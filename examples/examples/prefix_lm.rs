//! A prompt that is read as a whole, and an answer that is written from left to right. Composed of two masks.

use std::error::Error;

use purview::prelude::*;
use purview_examples::demo;

/// The key belongs to the first `prefix`.
#[mask]
pub fn in_prefix(j: Pos, prefix: u32) -> bool {
    j < prefix
}

/// The key is not after the query.
#[mask]
pub fn not_after(i: Pos, j: Pos) -> bool {
    j <= i
}

/// Each query sees the first `prefix` keys, and those that are not after it.
///
/// The prefix language model of Raffel et al., "Exploring the Limits of Transfer Learning with a Unified Text-to-Text
/// Transformer" (2019), and of Dong et al., "Unified Language Model Pre-training" (2019).
#[attention]
pub fn prefix_lm(q: Query, k: Key, v: Value, prefix: u32) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push(mask(dot(q[i], k[j]) * scale(), in_prefix(j, prefix) || not_after(i, j)), v[j]);
        }
        o
    }
}

purview_examples::variant!(golden = ["prefix_lm"], |args| prefix_lm(args.u32("prefix", 50)?));

/// Runs it and compares it with the reference.
pub fn main() -> Result<(), Box<dyn Error>> {
    demo::check(&Device::cpu()?, prefix_lm(50), &Shape::new(1, 2, 256, 64))
}
