//! A tile of keys in the `cpu` schedule: scores, their map and mask, and the push into the accumulator.

use super::arguments::{Compiled, KeyValue, Operand, Parameters};
use super::expression::Place;
use super::query_tile::QueryTile;
use super::scores::apply;
use super::softmax::exp2;
use crate::ir::{Accumulator, KeyLoop};
use crate::schedule::{CpuSchedule, FewQueries};
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

    /// Half of the vectors, and as many more rows.
    pub fn narrow(schedule: &CpuSchedule) -> Block {
        let vectors = if schedule.vectors.is_multiple_of(2) { schedule.vectors / 2 } else { schedule.vectors };
        Block { rows: (schedule.rows * schedule.vectors / vectors).min(schedule.keys), vectors }
    }
}

/// The part of a tile that is computed: a block's vectors from `vector`, and the keys `from..to` of the tile.
#[derive(CubeType, Clone, Copy)]
#[expand(derive(Clone, Copy))]
pub struct Part {
    /// The first vector.
    pub vector: usize,
    /// The first key, of which a block begins there: a multiple of its rows.
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
    #[comptime] few: FewQueries,
    #[comptime] block: Block,
    #[comptime] full: bool,
) {
    let vectors = comptime![schedule.vectors];
    let softmax = comptime![matches!(program.accumulator, Accumulator::Softmax { .. })];
    let mean = comptime![matches!(program.accumulator, Accumulator::Mean)];
    let v_dim = comptime![program.operands.v_dim];

    let qk_dim = comptime![program.operands.qk_dim];
    if comptime![few.along_head_dim > 0] {
        dot_products::<E, N>(tile, &pair.key, key_base, key0, part, qk_dim, schedule, few);
    } else {
        let whole = comptime![schedule.keys / block.rows * block.rows];
        let mut row = part.from;
        while row < min(part.to, whole) {
            score_rows::<E, N>(tile, pair, key_base, key0, row, part.vector, qk_dim, schedule, block);
            row += comptime![block.rows];
        }
        if comptime![whole < schedule.keys] {
            if row < part.to {
                let rest = comptime![Block { rows: schedule.keys - whole, ..block }];
                score_rows::<E, N>(tile, pair, key_base, key0, whole, part.vector, qk_dim, schedule, rest);
            }
        }
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
                tile.rescale(vector, rescale, v_dim, schedule, few);
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

    if comptime![few.along_head_dim > 0] {
        accumulate_rows::<E, N>(tile, &pair.value, value_base, key0, part, v_dim, schedule, few);
    } else {
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

/// The scores of the part's keys as dot products, with vectors along the head dim.
#[cube]
#[allow(clippy::too_many_arguments, reason = "a kernel's state cannot be bundled with borrowed operands")]
fn dot_products<E: Float, N: Size>(
    tile: &mut QueryTile<N>,
    key: &Operand<E>,
    base: usize,
    key0: usize,
    part: Part,
    #[comptime] qk_dim: usize,
    #[comptime] schedule: CpuSchedule,
    #[comptime] few: FewQueries,
) {
    let rows = comptime![few.along_head_dim];
    let lanes = comptime![schedule.lanes];
    let row_vectors = comptime![qk_dim / lanes];
    let vectors = key.data.as_vectorized().with_vector_size::<N>();
    for at in part.from..part.to {
        let start = (base + (key0 + at) * key.row) / lanes;
        let mut sums = Array::<Vector<f32, N>>::new(rows);
        #[unroll]
        for row in 0..rows {
            sums[row] = Vector::new(0.0);
        }
        for x in 0..row_vectors {
            let elements = Vector::<f32, N>::cast_from(vectors[start + x]);
            #[unroll]
            for row in 0..rows {
                sums[row] = fma(elements, tile.query[row * row_vectors + x], sums[row]);
            }
        }
        let scores = tile.scores.with_vector_size_mut::<Const<1>>();
        #[unroll]
        for row in 0..rows {
            let mut values = Array::<f32>::new(lanes);
            #[unroll]
            for lane in 0..lanes {
                values[lane] = sums[row].extract(lane);
            }
            sum_halves(&mut values, comptime![lanes / 2]);
            scores[at * lanes + row] = Vector::new(values[0]);
        }
    }
}

/// Leaves the sum of the first `2 * half` values in the first, `2 * half` being a power of two.
#[cube]
fn sum_halves(values: &mut Array<f32>, #[comptime] half: usize) {
    if comptime![half > 0] {
        #[unroll]
        for at in 0..half {
            values[at] += values[at + half];
        }
        sum_halves(values, comptime![half / 2]);
    }
}

/// Adds to O the values of the part's keys times their weights, with vectors along the head dim: as many rows at once as the
/// registers hold whole.
#[cube]
#[allow(clippy::too_many_arguments, reason = "a kernel's state cannot be bundled with borrowed operands")]
fn accumulate_rows<E: Float, N: Size>(
    tile: &mut QueryTile<N>,
    value: &Operand<E>,
    base: usize,
    key0: usize,
    part: Part,
    #[comptime] v_dim: usize,
    #[comptime] schedule: CpuSchedule,
    #[comptime] few: FewQueries,
) {
    let lanes = comptime![schedule.lanes];
    let row_vectors = comptime![v_dim / lanes];
    let rows = comptime![(2 * schedule.rows / row_vectors).clamp(1, few.along_head_dim)];
    let vectors = value.data.as_vectorized().with_vector_size::<N>();
    let mut row = 0usize;
    while row < comptime![few.along_head_dim] {
        let mut sums = Array::<Vector<f32, N>>::new(comptime![rows * row_vectors]);
        #[unroll]
        for at in 0..comptime![rows * row_vectors] {
            sums[at] = tile.output[row * row_vectors + at];
        }
        for key in part.from..part.to {
            let start = (base + (key0 + key) * value.row) / lanes;
            let mut weights = Array::<Vector<f32, N>>::new(rows);
            let scores = tile.scores.with_vector_size::<Const<1>>();
            #[unroll]
            for r in 0..rows {
                weights[r] = Vector::new(scores[key * lanes + row + r].extract(0usize));
            }
            #[unroll]
            for x in 0..row_vectors {
                let elements = Vector::<f32, N>::cast_from(vectors[start + x]);
                #[unroll]
                for r in 0..rows {
                    let at = r * row_vectors + x;
                    sums[at] = fma(elements, weights[r], sums[at]);
                }
            }
        }
        #[unroll]
        for at in 0..comptime![rows * row_vectors] {
            tile.output[row * row_vectors + at] = sums[at];
        }
        row += rows;
    }
}
