//! A window to both sides, for encoders.

use std::error::Error;

use purview::prelude::*;
use purview_examples::demo;

/// Each query sees the keys at most `radius` positions away, before and after.
///
/// Beltagy et al., "Longformer: The Long-Document Transformer" (2020).
#[attention]
pub fn local_window(q: Query, k: Key, v: Value, radius: u32) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push(mask(dot(q[i], k[j]) * scale(), abs(i - j) <= radius), v[j]);
        }
        o
    }
}

purview_examples::variant!(golden = ["local_window"], |args| local_window(args.u32("radius", 32)?));

/// Runs it and compares it with the reference.
pub fn main() -> Result<(), Box<dyn Error>> {
    demo::check(&Device::cpu()?, local_window(32), &Shape::new(1, 2, 256, 64))
}
