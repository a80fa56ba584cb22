//! Several documents in one sequence, so that a batch holds no padding. Composed of two masks, one of which another file's
//! attention uses too.

use std::error::Error;

use purview::Arguments;
use purview::prelude::*;
use purview_examples::demo;
use purview_examples::prefix_lm::not_after;

/// Query and key belong to one document.
#[mask]
pub fn same_document(i: Pos, j: Pos, doc: Tensor<i32, 2>) -> bool {
    doc[batch()][i] == doc[batch()][j]
}

/// Each query sees the keys of its own document that are not after it; `doc[batch][position]` is a document's number.
///
/// Sample packing with the leaks between documents closed: Krell et al., "Efficient Sequence Packing without
/// Cross-contamination" (2021).
#[attention]
pub fn document_causal(q: Query, k: Key, v: Value, #[sorted] doc: Tensor<i32, 2>) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push(mask(dot(q[i], k[j]) * scale(), not_after(i, j) && same_document(i, j, doc)), v[j]);
        }
        o
    }
}

/// The captured tensor `doc`, or `number(position, keys)` for each position.
pub fn documents(args: &Arguments, number: impl Fn(usize, usize) -> usize) -> Result<Tensor, purview::Error> {
    let keys = args.keys();
    args.tensor("doc", [args.shape.batch, keys], |[_, position]| number(position, keys) as i32)
}

purview_examples::variant!(golden = ["document_causal"], |args| {
    let doc = documents(args, |position, keys| position * 4 / keys)?;
    document_causal(&doc)
});

/// Runs it and compares it with the reference.
pub fn main() -> Result<(), Box<dyn Error>> {
    let device = Device::cpu()?;
    let doc: Vec<i32> = (0..512).map(|token| token % 256 / 60).collect(); // sixty tokens each, and a rest of sixteen
    let doc = Tensor::from_slice(&device, [2, 256], &doc)?;
    demo::check(&device, document_causal(&doc), &Shape::new(2, 2, 256, 64))
}
