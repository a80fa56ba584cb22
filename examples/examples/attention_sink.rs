//! A place for the weight that a row does not need.

use std::error::Error;

use purview::prelude::*;
use purview_examples::demo;

/// A sliding window in which each row's softmax has one more logit, `sink[head]`, that brings no value.
///
/// OpenAI, "gpt-oss-120b & gpt-oss-20b Model Card" (2025). Xiao et al., "Efficient Streaming Language Models with Attention Sinks"
/// (2023) found why models want one, and Miller, "Attention Is Off By One" (2023) proposed it with a logit of 0.
#[attention]
pub fn attention_sink(q: Query, k: Key, v: Value, sink: Tensor<f32, 1>, window: u32) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::with_sink(sink[head()]);
        for j in k.tiles() {
            o.push(mask(dot(q[i], k[j]) * scale(), j <= i && i - j < window), v[j]);
        }
        o
    }
}

purview_examples::variant!(golden = ["attention_sink"], |args| {
    let sink = args.tensor("sink", [args.shape.heads], |[h]| h as f32 / 4.0 - 1.0)?;
    attention_sink(&sink, args.u32("window", 64)?)
});

/// Runs it and compares it with the reference.
pub fn main() -> Result<(), Box<dyn Error>> {
    let device = Device::cpu()?;
    let sink = Tensor::from_slice(&device, [2], &[0.5, -1.0])?;
    demo::check(&device, attention_sink(&sink, 64), &Shape::new(1, 2, 256, 64))
}
