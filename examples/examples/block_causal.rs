//! Causal between blocks, bidirectional inside one.

use std::error::Error;

use purview::prelude::*;
use purview_examples::demo;

/// Each query sees the keys of its own block and of the blocks before; blocks are `block` positions long.
///
/// Arriola et al., "Block Diffusion: Interpolating Between Autoregressive and Diffusion Language Models" (2025), whose blocks
/// are denoised as a whole, one after the other.
#[attention]
pub fn block_causal(q: Query, k: Key, v: Value, block: u32) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push(mask(dot(q[i], k[j]) * scale(), j / block <= i / block), v[j]);
        }
        o
    }
}

purview_examples::variant!(|args| block_causal(args.u32("block", 32)?));

/// Runs it and compares it with the reference.
pub fn main() -> Result<(), Box<dyn Error>> {
    demo::check(&Device::cpu()?, block_causal(32), &Shape::new(1, 2, 256, 64))
}
