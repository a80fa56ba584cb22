//! A tile of keys in the `cpu` schedule: scores, their map and mask, and the push into the accumulator.

use super::arguments::{Compiled, KeyValue, Operand, Parameters};
use super::expression::Place;
use super::query_tile::QueryTile;
use super::scores::apply;
use super::softmax::exp2;
use crate::ir::{Accumulator, KeyLoop};
use crate::schedule::CpuSchedule;
use cubecl::prelude::*;

/// A register block of both products: rows of Sᵀ or Oᵀ, by vectors of queries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Block {
    /// Its rows.
    pub rows: usize,
    /// Its vectors.
    pub vectors: usize,
}

impl Block {
    /// All vectors of a query tile.
    pub fn wide(schedule: &CpuSchedule) -> Block {
        Block { rows: schedule.rows, vectors: schedule.vectors }
    }

    /// One vector, and as many rows as take the same registers, where they divide the keys.
    pub fn narrow(schedule: &CpuSchedule) -> Block {
        let rows = schedule.rows * schedule.vectors;
        Block { rows: if schedule.keys.is_multiple_of(rows) { rows } else { schedule.rows }, vectors: 1 }
    }
}

/// The part of a tile that is computed: a block's vectors from `vector`, and the keys `from..to` of the tile.
#[derive(CubeType, Clone, Copy)]
#[expand(derive(Clone, Copy))]
pub struct Part {
    /// The first vector.
    pub vector: usize,
    /// The first key, a multiple of the block's rows.
    pub from: usize,
    /// The key after the last.
    pub to: usize,
}

/// The part `part` of the tile of keys from row `key0` of `pair`, which begins at `key_base` and `value_base`; `full` says that every
/// query sees every key.
#[cube]
#[allow(clippy::too_many_arguments, reason = "a kernel's state cannot be bundled with borrowed operands")]
pub fn key_tile<E: Float, N: Size>(
    tile: &mut QueryTile<N>,
    pair: &KeyValue<E>,
    place: &Place<N>,
    parameters: &Parameters,
    key_base: usize,
    value_base: usize,
    key0: usize,
    part: Part,
    #[comptime] program: Compiled,
    #[comptime] key_loop: KeyLoop,
    #[comptime] schedule: CpuSchedule,
    #[comptime] block: Block,
    #[comptime] full: bool,
) {
    let vectors = comptime![schedule.vectors];
    let softmax = comptime![matches!(program.accumulator, Accumulator::Softmax { .. })];
    let mean = comptime![matches!(program.accumulator, Accumulator::Mean)];
    let v_dim = comptime![program.operands.v_dim];

    let mut row = part.from;
    while row < part.to {
        let qk_dim = comptime![program.operands.qk_dim];
        score_rows::<E, N>(tile, pair, key_base, key0, row, part.vector, qk_dim, schedule, block);
        row += comptime![block.rows];
    }

    for at in 0..comptime![block.vectors] {
        let vector = part.vector + at;
        let here = place.of_rows(tile.positions[vector], tile.heads[vector]);
        let before = tile.maximum[vector];
        let mut maximum = before;
        let mut sum = tile.sum[vector];
        for key in part.from..part.to {
            let score = tile.scores[key * vectors + vector];
            let here = here.of_key(pair.offset + (key0 + key) as i32);
            let score = apply::<N>(score, &here, parameters, comptime![key_loop.clone()], softmax, full);
            if softmax {
                maximum = max(maximum, score);
            }
            if mean {
                sum += score;
            }
            tile.scores[key * vectors + vector] = score;
        }
        if softmax {
            let moved = select_many(maximum.greater_than(&before), Vector::<u32, N>::new(1u32), Vector::new(0u32));
            if moved.vector_sum() != 0 {
                let rescale = exp2::<N>(before - maximum);
                sum *= rescale;
                for column in 0..v_dim {
                    tile.output[column * vectors + vector] *= rescale;
                }
                tile.maximum[vector] = maximum;
            }
            for key in part.from..part.to {
                let weight = exp2::<N>(tile.scores[key * vectors + vector] - maximum);
                tile.scores[key * vectors + vector] = weight;
                sum += weight;
            }
        }
        tile.sum[vector] = sum;
    }

    let rows = comptime![block.rows];
    let whole = comptime![v_dim / rows * rows];
    let mut column = 0usize;
    while column < whole {
        accumulate_columns::<E, N>(tile, &pair.value, value_base, key0, part, column, schedule, block);
        column += rows;
    }
    if comptime![whole < v_dim] {
        let rest = comptime![Block { rows: v_dim - whole, ..block }];
        accumulate_columns::<E, N>(tile, &pair.value, value_base, key0, part, whole, schedule, rest);
    }
}

/// The block of Sᵀ at row `row` of the key tile at `key0` and at vector `vector`. Rows past the last key repeat it; nobody reads them.
#[cube]
#[allow(clippy::too_many_arguments, reason = "a kernel's state cannot be bundled with borrowed operands")]
fn score_rows<E: Float, N: Size>(
    tile: &mut QueryTile<N>,
    pair: &KeyValue<E>,
    base: usize,
    key0: usize,
    row: usize,
    vector: usize,
    #[comptime] qk_dim: usize,
    #[comptime] schedule: CpuSchedule,
    #[comptime] block: Block,
) {
    let vectors = comptime![schedule.vectors];
    let mut sums = Array::<Vector<f32, N>>::new(comptime![block.rows * block.vectors]);
    #[unroll]
    for at in 0..comptime![block.rows * block.vectors] {
        sums[at] = Vector::new(0.0);
    }
    let mut starts = Array::<usize>::new(comptime![block.rows]);
    #[unroll]
    for r in 0..comptime![block.rows] {
        starts[r] = base + min(key0 + row + r, pair.len - 1) * pair.key.row;
    }
    for x in 0..qk_dim {
        let mut queries = Array::<Vector<f32, N>>::new(comptime![block.vectors]);
        #[unroll]
        for at in 0..comptime![block.vectors] {
            queries[at] = tile.query[x * vectors + vector + at];
        }
        #[unroll]
        for r in 0..comptime![block.rows] {
            let key = Vector::<f32, N>::new(f32::cast_from(pair.key.data[pair.key.at(starts[r], x)]));
            #[unroll]
            for at in 0..comptime![block.vectors] {
                let sum = r * comptime![block.vectors] + at;
                sums[sum] = fma(key, queries[at], sums[sum]);
            }
        }
    }
    #[unroll]
    for r in 0..comptime![block.rows] {
        #[unroll]
        for at in 0..comptime![block.vectors] {
            tile.scores[(row + r) * vectors + vector + at] = sums[r * comptime![block.vectors] + at];
        }
    }
}

/// Adds to the block of Oᵀ at `column` the values of the part's keys times their weights.
#[cube]
#[allow(clippy::too_many_arguments, reason = "a kernel's state cannot be bundled with borrowed operands")]
fn accumulate_columns<E: Float, N: Size>(
    tile: &mut QueryTile<N>,
    value: &Operand<E>,
    base: usize,
    key0: usize,
    part: Part,
    column: usize,
    #[comptime] schedule: CpuSchedule,
    #[comptime] block: Block,
) {
    let vectors = comptime![schedule.vectors];
    let mut sums = Array::<Vector<f32, N>>::new(comptime![block.rows * block.vectors]);
    #[unroll]
    for r in 0..comptime![block.rows] {
        #[unroll]
        for at in 0..comptime![block.vectors] {
            sums[r * comptime![block.vectors] + at] = tile.output[(column + r) * vectors + part.vector + at];
        }
    }
    for key in part.from..part.to {
        let mut weights = Array::<Vector<f32, N>>::new(comptime![block.vectors]);
        #[unroll]
        for at in 0..comptime![block.vectors] {
            weights[at] = tile.scores[key * vectors + part.vector + at];
        }
        let start = base + (key0 + key) * value.row;
        #[unroll]
        for r in 0..comptime![block.rows] {
            let element = Vector::<f32, N>::new(f32::cast_from(value.data[value.at(start, column + r)]));
            #[unroll]
            for at in 0..comptime![block.vectors] {
                let sum = r * comptime![block.vectors] + at;
                sums[sum] = fma(element, weights[at], sums[sum]);
            }
        }
    }
    #[unroll]
    for r in 0..comptime![block.rows] {
        #[unroll]
        for at in 0..comptime![block.vectors] {
            tile.output[(column + r) * vectors + part.vector + at] = sums[r * comptime![block.vectors] + at];
        }
    }
}
