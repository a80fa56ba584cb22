//! A local layer of Gemma 2, composed of pieces: a mask of its own, and the score of `tanh_softcap.rs`.

use std::error::Error;

use purview::prelude::*;
use purview_examples::demo;
use purview_examples::tanh_softcap::softcap;

/// The key is the query's own or one of the `window - 1` before it.
#[mask]
pub fn in_window(i: Pos, j: Pos, window: u32) -> bool {
    j <= i && i - j < window
}

/// Each query sees the `window` keys that end with its own, with scores between −`cap` and `cap`.
///
/// Gemma Team, "Gemma 2: Improving Open Language Models at a Practical Size" (2024): a window of 4096 and a cap of 50, in every
/// other layer.
#[attention]
pub fn gemma2(q: Query, k: Key, v: Value, window: u32, cap: f32) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push(mask(softcap(dot(q[i], k[j]) * scale(), cap), in_window(i, j, window)), v[j]);
        }
        o
    }
}

purview_examples::variant!(|args| gemma2(args.u32("window", 64)?, args.f32("cap", 50.0)));

/// Runs it and compares it with the reference.
pub fn main() -> Result<(), Box<dyn Error>> {
    demo::check(&Device::cpu()?, gemma2(64, 50.0), &Shape::new(1, 8, 256, 64).with_kv_heads(4))
}
