//! A pattern of blocks, given as a tensor.

use std::error::Error;

use purview::prelude::*;
use purview_examples::demo;

/// The queries of one block see the keys of another where `layout[block of queries][block of keys]` is true, as far as they are not
/// after them; blocks are `block` positions long.
///
/// Gray, Radford and Kingma, "GPU Kernels for Block-Sparse Weights" (2017), with which Child et al. made "Generating Long
/// Sequences with Sparse Transformers" (2019).
#[attention]
pub fn block_sparse(q: Query, k: Key, v: Value, layout: Tensor<bool, 2>, block: u32) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            let s = dot(q[i], k[j]) * scale();
            o.push(mask(s, j <= i && layout[i / block][j / block]), v[j]);
        }
        o
    }
}

/// A layout for trying it: the block itself, the first one, and every third before.
pub fn in_layout(queries: usize, keys: usize) -> bool {
    keys == 0 || queries.abs_diff(keys).is_multiple_of(3)
}

purview_examples::variant!(|args| {
    let block = args.u32("block", 32)?;
    let blocks = args.keys().div_ceil(block.max(1) as usize);
    let layout = args.tensor("layout", [blocks, blocks], |[i, j]| in_layout(i, j))?;
    block_sparse(&layout, block)
});

/// Runs it and compares it with the reference.
pub fn main() -> Result<(), Box<dyn Error>> {
    let device = Device::cpu()?;
    let layout: Vec<bool> = (0..64).map(|place| in_layout(place / 8, place % 8)).collect();
    let layout = Tensor::from_slice(&device, [8, 8], &layout)?;
    demo::check(&device, block_sparse(&layout, 32), &Shape::new(1, 2, 256, 64))
}
