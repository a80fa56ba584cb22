//! Any bias at all, as a tensor of the scores' shape.

use std::error::Error;

use purview::prelude::*;
use purview_examples::demo;

/// Adds `bias[batch][head][query][key]` to each score; `bias` is `[B, H, S, T]`, and its first row is for the query at position
/// `first`.
///
/// Jumper et al., "Highly accurate protein structure prediction with AlphaFold" (2021) bias attention by a pair representation;
/// Ying et al., "Do Transformers Really Perform Bad for Graph Representation?" (2021) by distances in a graph.
#[attention]
pub fn additive_bias(q: Query, k: Key, v: Value, bias: Tensor<f32, 4>, first: i32) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push(dot(q[i], k[j]) * scale() + bias[batch()][head()][i - first][j], v[j]);
        }
        o
    }
}

purview_examples::variant!(golden = ["additive_bias"], |args| {
    let (batch, heads, queries, keys) = (args.shape.batch, args.shape.heads, args.shape.queries, args.keys());
    let bias = args.tensor("bias", [batch, heads, queries, keys], |[b, h, i, j]| {
        ((b + 3 * h + 5 * i + 7 * j) % 11) as f32 / 5.0 - 1.0
    })?;
    additive_bias(&bias, args.i32("first", keys as i32 - queries as i32)?)
});

/// Runs it and compares it with the reference.
pub fn main() -> Result<(), Box<dyn Error>> {
    let device = Device::cpu()?;
    let bias = Tensor::from_slice(&device, [2, 2, 60, 100], &demo::numbers(1, 4 * 60 * 100))?;
    demo::check(&device, additive_bias(&bias, 40), &Shape::new(2, 2, 60, 64).with_keys([100]))
}
