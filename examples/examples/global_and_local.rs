//! A window, and a few keys that everyone sees.

use std::error::Error;

use purview::prelude::*;
use purview_examples::demo;

/// Each query sees the first `globals` keys, and the `window` keys that end with its own.
///
/// Beltagy et al., "Longformer" (2020) and Zaheer et al., "Big Bird: Transformers for Longer Sequences" (2020), for decoders;
/// with four globals it is what Xiao et al. keep of the cache in "Efficient Streaming Language Models with Attention Sinks"
/// (2023).
#[attention]
pub fn global_and_local(q: Query, k: Key, v: Value, globals: u32, window: u32) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            let s = dot(q[i], k[j]) * scale();
            o.push(mask(s, j <= i && (j < globals || i - j < window)), v[j]);
        }
        o
    }
}

purview_examples::variant!(golden = ["global_and_local"], |args| {
    let (globals, window) = (args.u32("globals", 4)?, args.u32("window", 32)?);
    global_and_local(globals, window)
});

/// Runs it and compares it with the reference.
pub fn main() -> Result<(), Box<dyn Error>> {
    demo::check(&Device::cpu()?, global_and_local(4, 32), &Shape::new(1, 2, 256, 64))
}
