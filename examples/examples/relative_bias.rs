//! Positions as a learned number for each distance.

use std::error::Error;

use purview::prelude::*;
use purview_examples::demo;

/// Adds `table[head][distance + reach]` to each score; distances beyond `reach` count as `reach`. `table` is
/// `[heads, 2 · reach + 1]`.
///
/// Raffel et al., "Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer" (2019), where far
/// distances share buckets; to clip them is from Shaw et al., "Self-Attention with Relative Position Representations" (2018).
#[attention]
pub fn relative_bias(q: Query, k: Key, v: Value, table: Tensor<f32, 2>, reach: u32) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            let distance = clamp(i - j, -reach, reach);
            o.push(dot(q[i], k[j]) * scale() + table[head()][distance + reach], v[j]);
        }
        o
    }
}

purview_examples::variant!(golden = ["relative_bias"], |args| {
    // A table's own reach, where one is given: [heads, 2 · reach + 1].
    let reach = args.tensors.get("table").map_or(64, |table| table.shape().last().map_or(0, |length| length / 2));
    let reach = args.u32("reach", reach as u32)?;
    let shape = [args.shape.heads, 2 * reach as usize + 1];
    let table = args.tensor("table", shape, |[h, distance]| ((3 * h + 5 * distance) % 11) as f32 / 5.0 - 1.0)?;
    relative_bias(&table, reach)
});

/// Runs it and compares it with the reference.
pub fn main() -> Result<(), Box<dyn Error>> {
    let device = Device::cpu()?;
    let table = Tensor::from_slice(&device, [2, 129], &demo::numbers(1, 2 * 129))?;
    demo::check(&device, relative_bias(&table, 64), &Shape::new(1, 2, 256, 64))
}
