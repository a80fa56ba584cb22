//! Keys that hold the values, so that a cache holds both once.

use std::error::Error;

use purview::prelude::*;
use purview_examples::demo;

/// Latent attention as it decodes, with the projections of keys and values absorbed into queries and output: one head of keys, of whose
/// elements the first `rank` are the values.
///
/// DeepSeek-AI, "DeepSeek-V2: A Strong, Economical, and Efficient Mixture-of-Experts Language Model" (2024), where the cache has 576 elements
/// for each token, and 512 of them are the latent vector.
#[attention]
pub fn latent_absorbed(q: Query, latent: Key, #[comptime] rank: u32) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in latent.tiles() {
            o.push(mask(dot(q[i], latent[j]) * scale(), j <= i), latent[j][..rank]);
        }
        o
    }
}

purview_examples::variant!(golden = ["latent_values"], |args| {
    latent_absorbed(args.u32("rank", u32::try_from(args.shape.v_dim).unwrap_or(u32::MAX))?)
});

/// Runs it and compares it with the reference.
pub fn main() -> Result<(), Box<dyn Error>> {
    demo::check(&Device::cpu()?, latent_absorbed(96), &Shape::new(1, 4, 3, 128).with_kv_heads(1).with_keys([200]))
}
