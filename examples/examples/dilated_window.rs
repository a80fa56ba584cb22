//! A window with gaps: reach without work.

use std::error::Error;

use purview::prelude::*;
use purview_examples::demo;

/// Each query sees every `dilation`-th of the `window` keys that end with its own.
///
/// The dilated window of Beltagy et al., "Longformer: The Long-Document Transformer" (2020), for decoders.
#[attention]
pub fn dilated_window(q: Query, k: Key, v: Value, window: u32, dilation: u32) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            let s = dot(q[i], k[j]) * scale();
            o.push(mask(s, j <= i && i - j < window && (i - j) % dilation == 0), v[j]);
        }
        o
    }
}

purview_examples::variant!(golden = ["dilated_window"], |args| {
    let (window, dilation) = (args.u32("window", 60)?, args.u32("dilation", 3)?);
    dilated_window(window, dilation)
});

/// Runs it and compares it with the reference.
pub fn main() -> Result<(), Box<dyn Error>> {
    demo::check(&Device::cpu()?, dilated_window(64, 4), &Shape::new(1, 2, 256, 64))
}
