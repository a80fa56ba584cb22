//! Scores that can not run away.

use std::error::Error;

use purview::prelude::*;
use purview_examples::demo;

/// A score that goes no further than `cap` to either side, and is itself around 0.
#[score]
pub fn softcap(s: Score, cap: f32) -> Score {
    cap * tanh(s / cap)
}

/// Causal attention with scores between −`cap` and `cap`.
///
/// Gemma Team, "Gemma 2: Improving Open Language Models at a Practical Size" (2024), with a cap of 50.
#[attention]
pub fn tanh_softcap(q: Query, k: Key, v: Value, cap: f32) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push(mask(softcap(dot(q[i], k[j]) * scale(), cap), j <= i), v[j]);
        }
        o
    }
}

purview_examples::variant!(golden = ["tanh_softcap"], |args| tanh_softcap(args.f32("cap", 3.0)));

/// Runs it and compares it with the reference.
pub fn main() -> Result<(), Box<dyn Error>> {
    demo::check(&Device::cpu()?, tanh_softcap(3.0), &Shape::new(1, 2, 256, 64))
}
