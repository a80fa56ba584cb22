//! The `cpu` schedule: a unit per core takes query tiles from a counter, and vectors run over queries.
//!
//! Scores are kept transposed, Sᵀ[j, i..]: a vector holds one key's scores for as many queries as the machine has lanes. Both
//! products then multiply a broadcast element of K or V, read as they lie, with vectors that are contiguous; and maximum,
//! sum, rescale and mask are lane-wise, with nothing reduced across lanes. Only Q is packed, transposed, once per query tile.
//!
//! ```text
//! pack Qᵀ
//! for each tile of keys:
//!     Sᵀ = K·Qᵀ                    register blocks of rows × vectors
//!     map, mask, running maximum
//!     P = 2^(S − m), running sum
//!     Oᵀ = Oᵀ·2^(m_old − m) + Vᵀ·P  register blocks of rows × vectors
//! O = Oᵀ / l, transposed
//! ```
//!
//! CubeCL's CPU runtime runs the cubes of a launch one after another on every unit, so that parallelism is the number of
//! units: one cube, a unit per core, and an atomic counter of query tiles. The tiles that see most are taken first.

use super::arguments::{Compiled, Counters, Extent, KeyValue, Operand, Parameters};
use super::bounds::{FULL, KeyTiles, PARTIAL, count_tile, occurs};
use super::count_kernel;
use super::expression::Place;
use super::scores::apply;
use super::softmax::{EMPTY, exp2, log_sum_exp};
use crate::ir::{Accumulator, KeyLoop};
use crate::schedule::CpuSchedule;
use cubecl::prelude::*;

/// The queries' side of a tile: what stays while the keys stream past. Vectors are indexed `[row * vectors + vector]`.
#[derive(CubeType)]
struct QueryTile<N: Size> {
    /// Qᵀ, `[qk_dim, vectors]`.
    query: Array<Vector<f32, N>>,
    /// Oᵀ, `[v_dim, vectors]`.
    output: Array<Vector<f32, N>>,
    /// Sᵀ and then P of the current tile of keys, `[keys, vectors]`.
    scores: Array<Vector<f32, N>>,
    /// The positions of the queries.
    positions: Array<Vector<i32, N>>,
    /// The running maximum m.
    maximum: Array<Vector<f32, N>>,
    /// The maximum including the current tile.
    tile_maximum: Array<Vector<f32, N>>,
    /// The running sum l.
    sum: Array<Vector<f32, N>>,
    /// The factor by which the current tile's maximum shrinks what was accumulated.
    rescale: Array<Vector<f32, N>>,
}

/// The attention of `program` with the `cpu` schedule. `lse` is written for softmax only.
#[cube(launch_unchecked)]
pub fn attention_cpu<E: Float, N: Size>(
    query: &Operand<E>,
    pairs: &Sequence<KeyValue<E>>,
    output: &mut [E],
    lse: &mut [f32],
    counter: &[Atomic<u32>],
    extent: &Extent,
    parameters: &Parameters,
    items: usize,
    counters: &Sequence<Counters>,
    #[comptime] program: Compiled,
    #[comptime] schedule: CpuSchedule,
    #[comptime] counting: bool,
) {
    comptime!(count_kernel());
    let vectors = comptime![schedule.vectors];
    let lanes = comptime![schedule.lanes];
    let v_dim = comptime![program.operands.v_dim];
    let qk_dim = comptime![program.operands.qk_dim];
    let mut tile = QueryTile::<N> {
        query: Array::new(comptime![qk_dim * vectors]),
        output: Array::new(comptime![v_dim * vectors]),
        scores: Array::new(comptime![schedule.keys * vectors]),
        positions: Array::new(vectors),
        maximum: Array::new(vectors),
        tile_maximum: Array::new(vectors),
        sum: Array::new(vectors),
        rescale: Array::new(vectors),
    };
    let query_tile = comptime![schedule.lanes * schedule.vectors];
    let query_tiles = extent.queries.div_ceil(query_tile);
    let last_row = extent.queries - 1;

    let mut item = counter[0].fetch_add(1u32) as usize;
    while item < items {
        let batch_head = item / query_tiles;
        let row0 = (query_tiles - 1 - item % query_tiles) * query_tile;
        let batch = batch_head / extent.heads;
        let head = batch_head % extent.heads;
        let kv_head = head / extent.group;
        let first = extent.query_offset + row0 as i32;
        let place = Place::<N> {
            query: Vector::new(first),
            key: 0i32,
            batch: batch as i32,
            head: head as i32,
            kv_head: kv_head as i32,
            query_first: first,
            query_last: extent.query_offset + min(row0 + comptime![query_tile - 1], last_row) as i32,
            key_first: 0i32,
            key_last: 0i32,
        };

        let base = query.start + batch * query.batch + head * query.head;
        // Where each query begins; past the last query, the last.
        let mut starts = Array::<usize>::new(query_tile);
        for vector in 0..vectors {
            let mut position = Vector::<i32, N>::new(0);
            #[unroll]
            for lane in 0..lanes {
                let row = min(row0 + vector * lanes + lane, last_row);
                position.insert(lane, extent.query_offset + row as i32);
                starts[vector * lanes + lane] = base + row * query.row;
            }
            tile.positions[vector] = position;
        }
        let mut factor = Vector::<f32, N>::new(1.0);
        if comptime![program.query_scale.is_some()] {
            factor = parameters.float::<N>(&place, Vector::new(0.0), comptime![program.query_scale.clone().unwrap()]);
        }
        for x in 0..qk_dim {
            for vector in 0..vectors {
                let mut column = Vector::<f32, N>::new(0.0);
                #[unroll]
                for lane in 0..lanes {
                    let start = starts[vector * lanes + lane];
                    column.insert(lane, f32::cast_from(query.data[query.at(start, x)]));
                }
                tile.query[x * vectors + vector] = column * factor;
            }
        }
        begin::<N>(&mut tile, &place, parameters, comptime![program.clone()], schedule);

        #[unroll]
        for at in 0..comptime![program.loops.len()] {
            let key_loop = comptime![program.loops[at].clone()];
            let pair = &pairs[comptime![key_loop.pair]];
            let key_base = pair.key.start + batch * pair.key.batch + kv_head * pair.key.head;
            let value_base = pair.value.start + batch * pair.value.batch + kv_head * pair.value.head;
            let tiles = KeyTiles::new::<N>(parameters, &place, pair.len, pair.offset, comptime![key_loop.clone()]);
            let keys = comptime![schedule.keys];
            let mut key0 =
                tiles.next::<N>(parameters, &place, 0, pair.len, pair.offset, keys, comptime![key_loop.clone()]);
            while key0 < pair.len {
                let count = min(keys, pair.len - key0);
                let class = tiles.class::<N>(parameters, &place, key0, count, pair.offset, comptime![key_loop.clone()]);
                if counting {
                    count_tile(&counters[0], class, at);
                }
                #[unroll]
                for full in 0..2 {
                    let full = comptime![full == 1];
                    if comptime![occurs(&key_loop, full)] {
                        if class == comptime![if full { FULL } else { PARTIAL }] {
                            key_tile::<E, N>(
                                &mut tile,
                                pair,
                                &place,
                                parameters,
                                key_base,
                                value_base,
                                key0,
                                count,
                                comptime![program.clone()],
                                comptime![key_loop.clone()],
                                schedule,
                                full,
                            );
                        }
                    }
                }
                key0 = tiles.next::<N>(
                    parameters,
                    &place,
                    key0 + keys,
                    pair.len,
                    pair.offset,
                    keys,
                    comptime![key_loop.clone()],
                );
            }
        }
        finish::<E, N>(
            &tile,
            output,
            lse,
            batch_head * extent.queries,
            row0,
            extent.queries,
            parameters.empty_lse,
            comptime![program.clone()],
            schedule,
        );
        item = counter[0].fetch_add(1u32) as usize;
    }
}

/// The accumulator before any key: zeros, and for softmax the sink's logit, where there is one.
#[cube]
fn begin<N: Size>(
    tile: &mut QueryTile<N>,
    place: &Place<N>,
    parameters: &Parameters,
    #[comptime] program: Compiled,
    #[comptime] schedule: CpuSchedule,
) {
    let vectors = comptime![schedule.vectors];
    for at in 0..comptime![program.operands.v_dim * schedule.vectors] {
        tile.output[at] = Vector::new(0.0);
    }
    let sink = comptime![match &program.accumulator {
        Accumulator::Softmax { sink, .. } => sink.clone(),
        _ => None,
    }];
    for vector in 0..vectors {
        tile.maximum[vector] = Vector::new(EMPTY);
        tile.sum[vector] = Vector::new(0.0);
        tile.rescale[vector] = Vector::new(1.0);
        if comptime![sink.is_some()] {
            let here = place.of_queries(tile.positions[vector]);
            let logit = parameters.float::<N>(&here, Vector::new(0.0), comptime![sink.clone().unwrap()]);
            let maximum = max(logit, Vector::new(EMPTY));
            tile.maximum[vector] = maximum;
            tile.sum[vector] = exp2::<N>(logit - maximum);
        }
    }
}

/// One tile of `count` keys from `key0`: scores, their map and mask, and the push into the accumulator.
#[cube]
#[allow(clippy::too_many_arguments, reason = "a kernel's state cannot be bundled with borrowed operands")]
fn key_tile<E: Float, N: Size>(
    tile: &mut QueryTile<N>,
    pair: &KeyValue<E>,
    place: &Place<N>,
    parameters: &Parameters,
    key_base: usize,
    value_base: usize,
    key0: usize,
    count: usize,
    #[comptime] program: Compiled,
    #[comptime] key_loop: KeyLoop,
    #[comptime] schedule: CpuSchedule,
    #[comptime] full: bool,
) {
    let vectors = comptime![schedule.vectors];
    let rows = comptime![schedule.rows];
    let softmax = comptime![matches!(program.accumulator, Accumulator::Softmax { .. })];
    let mean = comptime![matches!(program.accumulator, Accumulator::Mean)];

    let mut row = 0usize;
    while row < count {
        score_rows::<E, N>(tile, pair, key_base, key0, row, comptime![program.operands.qk_dim], schedule);
        row += rows;
    }

    for vector in 0..vectors {
        tile.tile_maximum[vector] = tile.maximum[vector];
    }
    for key in 0..count {
        for vector in 0..vectors {
            let at = key * vectors + vector;
            let here = place.of_queries(tile.positions[vector]).of_key(pair.offset + (key0 + key) as i32);
            let score = apply::<N>(tile.scores[at], &here, parameters, comptime![key_loop.clone()], softmax, full);
            if softmax {
                tile.tile_maximum[vector] = max(tile.tile_maximum[vector], score);
            }
            if mean {
                tile.sum[vector] += score;
            }
            tile.scores[at] = score;
        }
    }

    if softmax {
        for vector in 0..vectors {
            let maximum = tile.tile_maximum[vector];
            let rescale = exp2::<N>(tile.maximum[vector] - maximum);
            tile.maximum[vector] = maximum;
            tile.rescale[vector] = rescale;
            let mut sum = tile.sum[vector] * rescale;
            for key in 0..count {
                let weight = exp2::<N>(tile.scores[key * vectors + vector] - maximum);
                tile.scores[key * vectors + vector] = weight;
                sum += weight;
            }
            tile.sum[vector] = sum;
        }
    }

    let v_dim = comptime![program.operands.v_dim];
    let whole = comptime![v_dim / rows * rows];
    let mut column = 0usize;
    while column < whole {
        accumulate_columns::<E, N>(tile, &pair.value, value_base, key0, count, column, rows, schedule);
        column += rows;
    }
    if comptime![whole < v_dim] {
        let rest = comptime![v_dim - whole];
        accumulate_columns::<E, N>(tile, &pair.value, value_base, key0, count, whole, rest, schedule);
    }
}

/// Sᵀ rows `row..row + rows` of the key tile at `key0`. Rows past the last key repeat it; nobody reads them.
#[cube]
#[allow(clippy::too_many_arguments, reason = "a kernel's state cannot be bundled with borrowed operands")]
fn score_rows<E: Float, N: Size>(
    tile: &mut QueryTile<N>,
    pair: &KeyValue<E>,
    base: usize,
    key0: usize,
    row: usize,
    #[comptime] qk_dim: usize,
    #[comptime] schedule: CpuSchedule,
) {
    let vectors = comptime![schedule.vectors];
    let rows = comptime![schedule.rows];
    let mut sums = Array::<Vector<f32, N>>::new(comptime![rows * vectors]);
    #[unroll]
    for at in 0..comptime![rows * vectors] {
        sums[at] = Vector::new(0.0);
    }
    let mut starts = Array::<usize>::new(rows);
    #[unroll]
    for r in 0..rows {
        starts[r] = base + min(key0 + row + r, pair.len - 1) * pair.key.row;
    }
    for x in 0..qk_dim {
        let mut queries = Array::<Vector<f32, N>>::new(vectors);
        #[unroll]
        for vector in 0..vectors {
            queries[vector] = tile.query[x * vectors + vector];
        }
        #[unroll]
        for r in 0..rows {
            let key = Vector::<f32, N>::new(f32::cast_from(pair.key.data[pair.key.at(starts[r], x)]));
            #[unroll]
            for vector in 0..vectors {
                sums[r * vectors + vector] = fma(key, queries[vector], sums[r * vectors + vector]);
            }
        }
    }
    #[unroll]
    for r in 0..rows {
        #[unroll]
        for vector in 0..vectors {
            tile.scores[(row + r) * vectors + vector] = sums[r * vectors + vector];
        }
    }
}

/// Oᵀ rows `column..column + rows`: rescaled, plus the values of the tile's keys times their weights.
#[cube]
#[allow(clippy::too_many_arguments, reason = "a kernel's state cannot be bundled with borrowed operands")]
fn accumulate_columns<E: Float, N: Size>(
    tile: &mut QueryTile<N>,
    value: &Operand<E>,
    base: usize,
    key0: usize,
    count: usize,
    column: usize,
    #[comptime] rows: usize,
    #[comptime] schedule: CpuSchedule,
) {
    let vectors = comptime![schedule.vectors];
    let mut sums = Array::<Vector<f32, N>>::new(comptime![rows * vectors]);
    #[unroll]
    for r in 0..rows {
        #[unroll]
        for vector in 0..vectors {
            sums[r * vectors + vector] = tile.output[(column + r) * vectors + vector] * tile.rescale[vector];
        }
    }
    for key in 0..count {
        let mut weights = Array::<Vector<f32, N>>::new(vectors);
        #[unroll]
        for vector in 0..vectors {
            weights[vector] = tile.scores[key * vectors + vector];
        }
        let start = base + (key0 + key) * value.row;
        #[unroll]
        for r in 0..rows {
            let element = Vector::<f32, N>::new(f32::cast_from(value.data[value.at(start, column + r)]));
            #[unroll]
            for vector in 0..vectors {
                sums[r * vectors + vector] = fma(element, weights[vector], sums[r * vectors + vector]);
            }
        }
    }
    #[unroll]
    for r in 0..rows {
        #[unroll]
        for vector in 0..vectors {
            tile.output[(column + r) * vectors + vector] = sums[r * vectors + vector];
        }
    }
}

/// Divides by the sum where the accumulator does, transposes, and stores the rows that exist.
#[cube]
#[allow(clippy::too_many_arguments, reason = "a kernel's state cannot be bundled with borrowed operands")]
fn finish<E: Float, N: Size>(
    tile: &QueryTile<N>,
    output: &mut [E],
    lse: &mut [f32],
    row_base: usize,
    row0: usize,
    queries: usize,
    empty_lse: f32,
    #[comptime] program: Compiled,
    #[comptime] schedule: CpuSchedule,
) {
    let vectors = comptime![schedule.vectors];
    let lanes = comptime![schedule.lanes];
    let v_dim = comptime![program.operands.v_dim];
    for vector in 0..vectors {
        let sum = tile.sum[vector];
        let mut factor = Vector::<f32, N>::new(1.0);
        if comptime![!matches!(program.accumulator, Accumulator::Sum)] {
            let zero = Vector::<f32, N>::new(0.0);
            let one = Vector::<f32, N>::new(1.0);
            let empty = sum.equal(&zero);
            factor = select_many(empty, zero, one / select_many(empty, one, sum));
        }
        // A row at a time would be stored faster, but LLVM takes minutes for such a loop where `v_dim` is odd.
        for column in 0..v_dim {
            let value = tile.output[column * vectors + vector] * factor;
            #[unroll]
            for lane in 0..lanes {
                let row = row0 + vector * lanes + lane;
                if row < queries {
                    output[(row_base + row) * v_dim + column] = E::cast_from(value.extract(lane));
                }
            }
        }
        if comptime![matches!(program.accumulator, Accumulator::Softmax { .. })] {
            let logs = log_sum_exp::<N>(tile.maximum[vector], sum, empty_lse);
            #[unroll]
            for lane in 0..lanes {
                let row = row0 + vector * lanes + lane;
                if row < queries {
                    lse[row_base + row] = logs.extract(lane);
                }
            }
        }
    }
}
