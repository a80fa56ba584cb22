//! Several guesses of the next tokens at once: speculative decoding with a tree of candidates.
//!
//! The queries are the tree's nodes, behind a cache of `past` keys.

use std::error::Error;

use purview::prelude::*;
use purview_examples::demo;

/// Each node sees the cache, itself and its ancestors; `ancestor[node][other]` is true for those, and `past` is the length of
/// the cache.
///
/// Miao et al., "SpecInfer" (2023); Cai et al., "Medusa" (2024).
#[attention]
pub fn tree(q: Query, k: Key, v: Value, ancestor: Tensor<bool, 2>, past: i32) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            let s = dot(q[i], k[j]) * scale();
            o.push(mask(s, j < past || ancestor[i - past][j - past]), v[j]);
        }
        o
    }
}

/// Whether `node` is `other` or above it in a binary tree whose node n has the children 2n + 1 and 2n + 2.
pub fn is_ancestor(node: usize, mut other: usize) -> bool {
    while other > node {
        other = (other - 1) / 2;
    }
    other == node
}

purview_examples::variant!(|args| {
    let nodes = args.shape.queries;
    let ancestor = args.tensor("ancestor", [nodes, nodes], |[node, other]| is_ancestor(other, node))?;
    tree(&ancestor, args.i32("past", args.keys() as i32 - nodes as i32)?)
});

/// Runs it and compares it with the reference.
pub fn main() -> Result<(), Box<dyn Error>> {
    let device = Device::cpu()?;
    let ancestor: Vec<bool> = (0..31 * 31).map(|place| is_ancestor(place % 31, place / 31)).collect();
    let ancestor = Tensor::from_slice(&device, [31, 31], &ancestor)?;
    demo::check(&device, tree(&ancestor, 200), &Shape::new(1, 2, 31, 64).with_keys([231]))
}
