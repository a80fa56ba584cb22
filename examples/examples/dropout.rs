//! Dropout, by random numbers that each pair of positions has of its own.

use std::error::Error;

use purview::prelude::*;
use purview_examples::demo;

/// Causal attention of which each weight is dropped with probability `p`, and those that stay are divided by 1 − p, so that what is
/// expected stays the same. Two calls with one seed drop the same weights, on whatever device, and nothing is stored to know which.
///
/// Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from Overfitting" (2014), on weights as Vaswani et al., "Attention
/// Is All You Need" (2017).
#[attention]
pub fn dropout(q: Query, k: Key, v: Value, p: f32, seed: u32) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            let weight = if random(seed) < p { 0.0 } else { 1.0 / (1.0 - p) };
            o.push_weighted(mask(dot(q[i], k[j]) * scale(), j <= i), weight, v[j]);
        }
        o
    }
}

purview_examples::variant!(|args| dropout(args.f32("p", 0.1), args.u32("seed", 0)?));

/// Runs it and compares it with the reference.
pub fn main() -> Result<(), Box<dyn Error>> {
    let device = Device::cpu()?;
    demo::check(&device, dropout(0.2, 17), &Shape::new(1, 2, 256, 64))
}
