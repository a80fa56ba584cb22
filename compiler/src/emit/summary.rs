//! Kernels that look at a captured tensor once, so that attention kernels need not: the extremes of its blocks, which blocks are
//! not all zero, and whether its elements are sorted.

use super::arguments::CapturedArgument;
use super::count_kernel;
use crate::ir::SUMMARY_BLOCK;
use cubecl::prelude::*;

/// What is found of each block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Find {
    /// Its least element; and its greatest, after the least of all blocks.
    Extremes,
    /// 1 if an element is greater than its successor along the last dimension, in the block or the next; else 0.
    Descent,
}

/// Looks at every block of `tensor`, of integers or truth values: `blocks` of them, `shape` along each dimension. A block has
/// [`SUMMARY_BLOCK`] indices of the `blocked` dimensions and one of the others.
#[cube(launch_unchecked)]
pub fn summarise(
    tensor: &CapturedArgument,
    found: &mut [i32],
    shape: &Sequence<i32>,
    blocks: i32,
    #[comptime] blocked: Vec<bool>,
    #[comptime] find: Find,
) {
    comptime!(count_kernel());
    let rank = comptime![blocked.len()];
    let mut block = ABSOLUTE_POS as i32;
    while block < blocks {
        // The block's first index and its length, along each dimension.
        let mut firsts = Array::<i32>::new(rank);
        let mut lengths = Array::<i32>::new(rank);
        let mut rest = block;
        let mut elements = 1i32;
        #[unroll]
        for back in 0..rank {
            let dimension = comptime![rank - 1 - back];
            let at = rest % shape[dimension];
            rest /= shape[dimension];
            let size = comptime![if blocked[dimension] { SUMMARY_BLOCK as i32 } else { 1 }];
            firsts[dimension] = at * size;
            lengths[dimension] = min(size, tensor.last[dimension] + 1 - at * size);
            elements *= lengths[dimension];
        }

        let last = comptime![rank - 1];
        let mut least = i32::MAX.runtime();
        let mut greatest = i32::MIN.runtime();
        let mut descent = 0i32;
        let mut element = 0i32;
        while element < elements {
            let mut rest = element;
            let mut offset = tensor.start;
            let mut at_last = 0i32;
            #[unroll]
            for back in 0..rank {
                let dimension = comptime![rank - 1 - back];
                let at = firsts[dimension] + rest % lengths[dimension];
                rest /= lengths[dimension];
                offset += at * tensor.strides[dimension];
                if comptime![dimension == last] {
                    at_last = at;
                }
            }
            let value = tensor.integer(offset);
            if comptime![find == Find::Extremes] {
                least = min(least, value);
                greatest = max(greatest, value);
            } else if at_last < tensor.last[last] && value > tensor.integer(offset + tensor.strides[last]) {
                descent = 1;
            }
            element += 1;
        }

        if comptime![find == Find::Extremes] {
            found[block as usize] = least;
            found[(blocks + block) as usize] = greatest;
        } else {
            found[block as usize] = descent;
        }
        block += (CUBE_COUNT * CUBE_DIM as usize) as i32;
    }
}

/// For each block of a summary with `blocks` blocks, `row` of them along the last dimension: the place in its row of the first
/// block from it on whose greatest element is not zero, or `row`; after the greatest of all blocks.
#[cube(launch_unchecked)]
pub fn link(found: &mut [i32], blocks: i32, row: i32) {
    comptime!(count_kernel());
    let mut first = ABSOLUTE_POS as i32 * row;
    while first < blocks {
        let mut next = row;
        let mut left = row;
        while left > 0 {
            left -= 1;
            let block = first + left;
            if found[(blocks + block) as usize] != 0 {
                next = left;
            }
            found[(2 * blocks + block) as usize] = next;
        }
        first += (CUBE_COUNT * CUBE_DIM as usize) as i32 * row;
    }
}
