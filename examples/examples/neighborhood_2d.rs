//! Attention on images: a square around each pixel.

use std::error::Error;

use purview::prelude::*;
use purview_examples::demo;

/// Each pixel sees those at most `radius` rows and columns away; positions count the pixels of an image of `width` columns, row
/// after row.
///
/// Ramachandran et al., "Stand-Alone Self-Attention in Vision Models" (2019); Hassani et al., "Neighborhood Attention
/// Transformer" (2022), which at the border of the image moves the square inside, where here it is cut off.
#[attention]
pub fn neighborhood_2d(q: Query, k: Key, v: Value, width: u32, radius: u32) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            let s = dot(q[i], k[j]) * scale();
            let rows = abs(i / width - j / width);
            let columns = abs(i % width - j % width);
            o.push(mask(s, rows <= radius && columns <= radius), v[j]);
        }
        o
    }
}

purview_examples::variant!(golden = ["neighborhood_2d"], |args| {
    let (width, radius) = (args.u32("width", 16)?, args.u32("radius", 3)?);
    neighborhood_2d(width, radius)
});

/// Runs it and compares it with the reference.
pub fn main() -> Result<(), Box<dyn Error>> {
    demo::check(&Device::cpu()?, neighborhood_2d(16, 3), &Shape::new(1, 2, 256, 64)) // 16 × 16 pixels
}
