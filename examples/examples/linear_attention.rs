//! Linear attention in its quadratic form: a feature map of queries and keys in the softmax's place.

use std::error::Error;

use purview::prelude::*;
use purview_examples::demo;

/// Causal attention with the weights φ(q)·φ(k), divided by their sum. Queries and keys come with [`feature`] applied.
///
/// Features are positive, and then `relu` changes nothing; without it, the weights of others could cancel.
///
/// Katharopoulos et al., "Transformers are RNNs: Fast Autoregressive Transformers with Linear Attention" (2020).
#[attention]
pub fn linear_attention(q: Query, k: Key, v: Value) -> Output {
    for i in q.tiles() {
        let mut o = Mean::new();
        for j in k.tiles() {
            o.push(mask(relu(dot(q[i], k[j])), j <= i), v[j]);
        }
        o
    }
}

/// The paper's feature map φ, elementwise: elu(x) + 1.
pub fn feature(x: f32) -> f32 {
    if x > 0.0 { x + 1.0 } else { x.exp() }
}

purview_examples::variant!(|_| linear_attention());

/// Runs it and compares it with the reference.
pub fn main() -> Result<(), Box<dyn Error>> {
    let device = Device::cpu()?;
    let shape = [1, 2, 256, 64];
    let numbers = |seed| demo::numbers(seed, shape.iter().product());
    let features = |seed| numbers(seed).into_iter().map(feature).collect::<Vec<_>>();
    let q = Tensor::from_slice(&device, shape, &features(1))?;
    let k = Tensor::from_slice(&device, shape, &features(2))?;
    let v = Tensor::from_slice(&device, shape, &numbers(3))?;
    demo::check_on(&device, linear_attention(), &q, &[(&k, &v)])
}
