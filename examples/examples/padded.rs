//! Sequences of different lengths in one batch, padded to the longest.

use std::error::Error;

use purview::prelude::*;
use purview_examples::demo;

/// Each query sees the first `kv_len[batch]` keys; a query whose sequence is empty gets zeros.
///
/// Devlin et al., "BERT" (2018), and the attention from a decoder to a padded encoder since Vaswani et al. (2017).
#[attention]
pub fn padded(q: Query, k: Key, v: Value, kv_len: Tensor<i32, 1>) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push(mask(dot(q[i], k[j]) * scale(), j < kv_len[batch()]), v[j]);
        }
        o
    }
}

purview_examples::variant!(golden = ["empty_rows", "cross_padded", "minilm_layer0", "minilm_layer5"], |args| {
    let (batch, keys) = (args.shape.batch, args.keys());
    let kv_len = args.tensor("kv_len", [batch], |[b]| (keys * (batch - b) / batch) as i32)?;
    padded(&kv_len)
});

/// Runs it and compares it with the reference.
pub fn main() -> Result<(), Box<dyn Error>> {
    let device = Device::cpu()?;
    let kv_len = Tensor::from_slice(&device, [3], &[256, 100, 0])?;
    demo::check(&device, padded(&kv_len), &Shape::new(3, 2, 64, 64).with_keys([256]))
}
