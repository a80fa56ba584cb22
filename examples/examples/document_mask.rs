//! Several documents in one sequence, in any order, for encoders.

use std::error::Error;

use purview::prelude::*;
use purview_examples::demo;
use purview_examples::document_causal::{documents, same_document};

/// Each query sees the keys of its own document, which need not be neighbours; `doc[batch][position]` is a document's number.
/// A query before the first key, where there are more queries than keys, is in none.
///
/// Krell et al., "Efficient Sequence Packing without Cross-contamination" (2021).
#[attention]
pub fn document_mask(q: Query, k: Key, v: Value, doc: Tensor<i32, 2>) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push(mask(dot(q[i], k[j]) * scale(), i >= 0 && same_document(i, j, doc)), v[j]);
        }
        o
    }
}

purview_examples::variant!(golden = ["document_unsorted"], |args| {
    let doc = documents(args, |position, _| position * 7 % 5)?;
    document_mask(&doc)
});

/// Runs it and compares it with the reference.
pub fn main() -> Result<(), Box<dyn Error>> {
    let device = Device::cpu()?;
    let doc: Vec<i32> = (0..512).map(|token| token * 7 % 5).collect();
    let doc = Tensor::from_slice(&device, [2, 256], &doc)?;
    demo::check(&device, document_mask(&doc), &Shape::new(2, 2, 256, 64))
}
