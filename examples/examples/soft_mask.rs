//! A mask between visible and hidden, which can be learned.

use std::error::Error;

use purview::prelude::*;
use purview_examples::demo;

/// Causal attention in which the weight of a key is multiplied by σ(`gate[head][key position]`), before weights are normalised.
///
/// The form in which Sukhbaatar et al., "Adaptive Attention Span in Transformers" (2019), mask softly; there the factor depends
/// on the distance.
#[attention]
pub fn soft_mask(q: Query, k: Key, v: Value, gate: Tensor<f32, 2>) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            let s = dot(q[i], k[j]) * scale() + log(sigmoid(gate[head()][j]));
            o.push(mask(s, j <= i), v[j]);
        }
        o
    }
}

purview_examples::variant!(golden = ["soft_mask"], |args| {
    let shape = [args.shape.heads, args.keys()];
    let gate = args.tensor("gate", shape, |[h, j]| ((3 * h + 5 * j) % 11) as f32 / 2.0 - 2.5)?;
    soft_mask(&gate)
});

/// Runs it and compares it with the reference.
pub fn main() -> Result<(), Box<dyn Error>> {
    let device = Device::cpu()?;
    let gate = Tensor::from_slice(&device, [2, 256], &demo::numbers(1, 2 * 256))?;
    demo::check(&device, soft_mask(&gate), &Shape::new(1, 2, 256, 64))
}
