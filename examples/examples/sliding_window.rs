//! Sliding-window attention: the variant to copy when you write your own.

use std::error::Error;

use purview::prelude::*;
use purview_examples::demo;

/// Each query sees itself and the `window - 1` keys before it.
///
/// Beltagy et al., "Longformer: The Long-Document Transformer" (2020); Jiang et al., "Mistral 7B" (2023).
#[attention]
pub fn sliding_window(q: Query, k: Key, v: Value, window: u32) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            let s = dot(q[i], k[j]) * scale();
            o.push(mask(s, j <= i && i - j < window), v[j]);
        }
        o
    }
}

purview_examples::variant!(golden = ["sliding_window", "mqa_window"], |args| sliding_window(args.u32("window", 64)?));

/// Prints which tiles a launch visits, then runs the attention and compares it with the reference.
pub fn main() -> Result<(), Box<dyn Error>> {
    println!("{}", sliding_window(256).report(&Shape::new(1, 8, 4096, 64))?);
    demo::check(&Device::cpu()?, sliding_window(256), &Shape::new(1, 2, 1024, 64))
}
