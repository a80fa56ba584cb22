//! A fixed sparse pattern in which any key is two layers away.

use std::error::Error;

use purview::prelude::*;
use purview_examples::demo;

/// Each query sees the `stride` keys that end with its own, and before them every `stride`-th.
///
/// The strided pattern of Child et al., "Generating Long Sequences with Sparse Transformers" (2019).
#[attention]
pub fn strided(q: Query, k: Key, v: Value, stride: u32) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            let s = dot(q[i], k[j]) * scale();
            o.push(mask(s, j <= i && (i - j < stride || (i - j) % stride == 0)), v[j]);
        }
        o
    }
}

purview_examples::variant!(|args| strided(args.u32("stride", 32)?));

/// Runs it and compares it with the reference.
pub fn main() -> Result<(), Box<dyn Error>> {
    demo::check(&Device::cpu()?, strided(32), &Shape::new(1, 2, 256, 64))
}
