//! The `cube` schedule: a cube per query tile, tiles in shared memory, and a block of the scores in each unit's registers.
//!
//! The units of a cube form a grid of `unit_rows × unit_columns`. A unit owns the scores of `queries / unit_rows` queries and
//! `keys / unit_columns` keys, and the same queries' part of the output, `v_dim / unit_columns` columns. Queries, keys and
//! values pass through shared memory `chunk` elements of the head dim at a time, so that any head dim fits; rows of a chunk are
//! padded by one against bank conflicts.
//!
//! ```text
//! for each tile of keys:
//!     for each chunk of the head dim: stage Q and K, S += Q·Kᵀ
//!     map, mask; row maxima of the units' blocks through shared memory
//!     P = 2^(S − m) into shared memory, row sums likewise, O = O·2^(m_old − m)
//!     for each chunk of the values: stage V, O += P·V
//! O = O / l
//! ```

use super::arguments::{Compiled, Counters, Extent, KeyValue, Operand, Parameters};
use super::bounds::{FULL, KeyTiles, PARTIAL, SKIPPED, count_tile, occurs};
use super::count_kernel;
use super::expression::Place;
use super::math::exp2_native;
use super::scores::apply;
use super::softmax::{EMPTY, hidden, log_sum_exp};
use crate::ir::{Accumulator, KeyLoop};
use crate::schedule::CubeSchedule;
use cubecl::prelude::*;

/// One lane: this schedule's positions and scores are scalars.
type One = Const<1>;

/// What a unit keeps, in registers, while the keys stream past. Rows are its queries.
#[derive(CubeType)]
struct UnitTile {
    /// The scores of its queries and keys, then the weights.
    scores: Array<f32>,
    /// Its part of the output.
    output: Array<f32>,
    /// The running maximum of each row.
    maximum: Array<f32>,
    /// The running sum of each row; the same in all units of a row.
    sum: Array<f32>,
}

/// Shared memory.
#[derive(CubeType)]
struct Stage {
    /// A chunk of the queries, `[queries, chunk + 1]`.
    query: Shared<[f32]>,
    /// A chunk of the keys, `[keys, chunk + 1]`, or of the values.
    key_value: Shared<[f32]>,
    /// The weights of the tile, `[queries, keys + 1]`.
    weights: Shared<[f32]>,
    /// One number per query and unit column, for reductions along a row.
    partial: Shared<[f32]>,
}

/// The attention of `program` with the `cube` schedule: cube x is the query tile, y the head, z the batch.
#[cube(launch_unchecked)]
pub fn attention_cube<E: Float>(
    query: &Operand<E>,
    pairs: &Sequence<KeyValue<E>>,
    output: &mut [E],
    lse: &mut [f32],
    extent: &Extent,
    parameters: &Parameters,
    counters: &Sequence<Counters>,
    #[comptime] program: Compiled,
    #[comptime] schedule: CubeSchedule,
    #[comptime] counting: bool,
) {
    comptime!(count_kernel());
    let rows = comptime![schedule.queries / schedule.unit_rows];
    let columns = comptime![schedule.keys / schedule.unit_columns];
    let v_dim = comptime![program.operands.v_dim];
    let v_columns = comptime![v_dim.div_ceil(schedule.unit_columns)];
    let mut unit = UnitTile {
        scores: Array::new(comptime![rows * columns]),
        output: Array::new(comptime![rows * v_columns]),
        maximum: Array::new(rows),
        sum: Array::new(rows),
    };
    let pitch = comptime![schedule.chunk + 1];
    let mut stage = Stage {
        query: Shared::new_slice(comptime![schedule.queries * pitch]),
        key_value: Shared::new_slice(comptime![schedule.keys * pitch]),
        weights: Shared::new_slice(comptime![schedule.queries * (schedule.keys + 1)]),
        partial: Shared::new_slice(comptime![schedule.queries * schedule.unit_columns]),
    };

    let row0 = CUBE_POS_X as usize * schedule.queries;
    let head = CUBE_POS_Y as usize;
    let batch = CUBE_POS_Z as usize;
    let kv_head = head / extent.group;
    let last_row = extent.queries - 1;
    let unit_row = UNIT_POS as usize / comptime![schedule.unit_columns];
    let unit_column = UNIT_POS as usize % comptime![schedule.unit_columns];
    let first = extent.query_offset + row0 as i32;
    let place = Place::<One> {
        query: Vector::new(first),
        key: 0i32,
        batch: batch as i32,
        head: head as i32,
        heads: Vector::new(head as i32),
        kv_head: kv_head as i32,
        query_first: first,
        query_last: extent.query_offset + min(row0 + comptime![schedule.queries - 1], last_row) as i32,
        key_first: 0i32,
        key_last: 0i32,
        heads_differ: false,
    };
    let mut factor = 1.0f32;
    if comptime![program.query_scale.is_some()] {
        factor = parameters
            .float::<One>(&place, Vector::new(0.0), comptime![program.query_scale.clone().unwrap()])
            .extract(0usize);
    }

    // The accumulator before any key.
    let sink = comptime![match &program.accumulator {
        Accumulator::Softmax { sink, .. } => sink.clone(),
        _ => None,
    }];
    for at in 0..comptime![rows * v_columns] {
        unit.output[at] = 0.0;
    }
    for row in 0..rows {
        unit.maximum[row] = EMPTY;
        unit.sum[row] = 0.0;
        if comptime![sink.is_some()] {
            let here = place.of_rows(Vector::new(query_position(extent, row0, unit_row, row, schedule)), place.heads);
            let logit =
                parameters.float::<One>(&here, Vector::new(0.0), comptime![sink.clone().unwrap()]).extract(0usize);
            let maximum = max(logit, EMPTY);
            unit.maximum[row] = maximum;
            unit.sum[row] = exp2_native(logit - maximum);
        }
    }

    let query_base = query.start + batch * query.batch + head * query.head;
    #[unroll]
    for at in 0..comptime![program.loops.len()] {
        let key_loop = comptime![program.loops[at].clone()];
        let pair = &pairs[comptime![key_loop.pair]];
        let tiles = KeyTiles::new::<One>(parameters, &place, pair.len, pair.offset, comptime![key_loop.clone()]);
        let keys = comptime![schedule.keys];
        let mut key0 =
            tiles.next::<One>(parameters, &place, 0, pair.len, pair.offset, keys, comptime![key_loop.clone()]);
        while key0 < pair.len {
            let count = min(keys, pair.len - key0);
            let class = tiles.class::<One>(parameters, &place, key0, count, pair.offset, comptime![key_loop.clone()]);
            if counting {
                if UNIT_POS == 0 {
                    count_tile(&counters[0], class, at);
                }
            }
            if class != SKIPPED {
                scores::<E>(
                    &mut unit,
                    &mut stage,
                    query,
                    pair,
                    query_base,
                    batch,
                    kv_head,
                    row0,
                    last_row,
                    key0,
                    unit_row,
                    unit_column,
                    factor,
                    comptime![program.operands.qk_dim],
                    schedule,
                );
                #[unroll]
                for full in 0..2 {
                    let full = comptime![full == 1];
                    if comptime![occurs(&key_loop, full)] {
                        if class == comptime![if full { FULL } else { PARTIAL }] {
                            map_scores(
                                &mut unit,
                                parameters,
                                &place,
                                extent,
                                row0,
                                key0,
                                pair.len,
                                pair.offset,
                                unit_row,
                                unit_column,
                                comptime![program.clone()],
                                comptime![key_loop.clone()],
                                schedule,
                                full,
                            );
                        }
                    }
                }
                push::<E>(
                    &mut unit,
                    &mut stage,
                    pair,
                    batch,
                    kv_head,
                    key0,
                    unit_row,
                    unit_column,
                    comptime![program.clone()],
                    schedule,
                );
            }
            key0 = tiles.next::<One>(
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

    let row_base = (batch * extent.heads + head) * extent.queries;
    for row in 0..rows {
        let at = row0 + unit_row * rows + row;
        let sum = unit.sum[row];
        let mut factor = 1.0f32;
        if comptime![!matches!(program.accumulator, Accumulator::Sum)] {
            factor = if sum == 0.0 { 0.0f32 } else { 1.0f32 / sum };
        }
        if at < extent.queries {
            for column in 0..v_columns {
                let x = column * schedule.unit_columns + unit_column;
                if x < v_dim {
                    output[(row_base + at) * v_dim + x] = E::cast_from(unit.output[row * v_columns + column] * factor);
                }
            }
            if comptime![matches!(program.accumulator, Accumulator::Softmax { .. })] && unit_column == 0 {
                let maximum = Vector::<f32, One>::new(unit.maximum[row]);
                lse[row_base + at] =
                    log_sum_exp::<One>(maximum, Vector::new(sum), parameters.empty_lse).extract(0usize);
            }
        }
    }
}

/// The position of a unit's query number `row`; past the last query, the last.
#[cube]
fn query_position(
    extent: &Extent,
    row0: usize,
    unit_row: usize,
    row: usize,
    #[comptime] schedule: CubeSchedule,
) -> i32 {
    let rows = comptime![schedule.queries / schedule.unit_rows];
    extent.query_offset + min(row0 + unit_row * rows + row, extent.queries - 1) as i32
}

/// Copies columns `x0..x0 + chunk` of the rows from `row0` into shared memory, as f32; rows past `last` repeat it, columns
/// past `dim` are 0.
#[cube]
#[allow(clippy::too_many_arguments, reason = "a kernel's state cannot be bundled with borrowed operands")]
fn stage_rows<E: Float>(
    stage: &mut Shared<[f32]>,
    operand: &Operand<E>,
    base: usize,
    row0: usize,
    last: usize,
    x0: usize,
    factor: f32,
    #[comptime] dim: usize,
    #[comptime] rows: usize,
    #[comptime] schedule: CubeSchedule,
) {
    let units = comptime![schedule.unit_rows * schedule.unit_columns];
    let chunk = comptime![schedule.chunk];
    let mut at = UNIT_POS as usize;
    while at < comptime![rows * chunk] {
        let row = at / chunk;
        let x = at % chunk;
        let mut value = 0.0f32;
        if x0 + x < dim {
            let start = base + min(row0 + row, last) * operand.row;
            value = f32::cast_from(operand.data[operand.at(start, x0 + x)]) * factor;
        }
        stage[row * comptime![chunk + 1] + x] = value;
        at += units;
    }
}

/// The products of a unit's queries and keys.
#[cube]
#[allow(clippy::too_many_arguments, reason = "a kernel's state cannot be bundled with borrowed operands")]
fn scores<E: Float>(
    unit: &mut UnitTile,
    stage: &mut Stage,
    query: &Operand<E>,
    pair: &KeyValue<E>,
    query_base: usize,
    batch: usize,
    kv_head: usize,
    row0: usize,
    last_row: usize,
    key0: usize,
    unit_row: usize,
    unit_column: usize,
    factor: f32,
    #[comptime] qk_dim: usize,
    #[comptime] schedule: CubeSchedule,
) {
    let rows = comptime![schedule.queries / schedule.unit_rows];
    let columns = comptime![schedule.keys / schedule.unit_columns];
    let pitch = comptime![schedule.chunk + 1];
    for at in 0..comptime![rows * columns] {
        unit.scores[at] = 0.0;
    }
    let key_base = pair.key.start + batch * pair.key.batch + kv_head * pair.key.head;
    let mut x0 = 0usize;
    while x0 < qk_dim {
        // The previous readers of these stages are past a barrier: the one after the weights were written, or after the
        // products below.
        stage_rows::<E>(
            &mut stage.query,
            query,
            query_base,
            row0,
            last_row,
            x0,
            factor,
            qk_dim,
            schedule.queries,
            schedule,
        );
        stage_rows::<E>(
            &mut stage.key_value,
            &pair.key,
            key_base,
            key0,
            pair.len - 1,
            x0,
            1.0f32,
            qk_dim,
            schedule.keys,
            schedule,
        );
        sync_cube();
        for x in 0..comptime![schedule.chunk] {
            let mut keys = Array::<f32>::new(columns);
            #[unroll]
            for column in 0..columns {
                keys[column] = stage.key_value[(column * schedule.unit_columns + unit_column) * pitch + x];
            }
            #[unroll]
            for row in 0..rows {
                let query = stage.query[(unit_row * rows + row) * pitch + x];
                #[unroll]
                for column in 0..columns {
                    let at = comptime![row * columns + column];
                    unit.scores[at] = fma(query, keys[column], unit.scores[at]);
                }
            }
        }
        sync_cube();
        x0 += comptime![schedule.chunk];
    }
}

/// Maps and masks a unit's scores; keys past the last are hidden.
#[cube]
#[allow(clippy::too_many_arguments, reason = "a kernel's state cannot be bundled with borrowed operands")]
fn map_scores(
    unit: &mut UnitTile,
    parameters: &Parameters,
    place: &Place<One>,
    extent: &Extent,
    row0: usize,
    key0: usize,
    len: usize,
    offset: i32,
    unit_row: usize,
    unit_column: usize,
    #[comptime] program: Compiled,
    #[comptime] key_loop: KeyLoop,
    #[comptime] schedule: CubeSchedule,
    #[comptime] full: bool,
) {
    let rows = comptime![schedule.queries / schedule.unit_rows];
    let columns = comptime![schedule.keys / schedule.unit_columns];
    let softmax = comptime![matches!(program.accumulator, Accumulator::Softmax { .. })];
    for row in 0..rows {
        let here = place.of_rows(Vector::new(query_position(extent, row0, unit_row, row, schedule)), place.heads);
        for column in 0..columns {
            let at = row * columns + column;
            let key = key0 + column * schedule.unit_columns + unit_column;
            let here = here.of_key(offset + min(key, len - 1) as i32);
            let score = apply::<One>(
                Vector::new(unit.scores[at]),
                &here,
                parameters,
                comptime![key_loop.clone()],
                softmax,
                full,
            );
            let past = comptime![hidden(softmax)];
            unit.scores[at] = if key < len { score.extract(0usize) } else { past };
        }
    }
}

/// The weights and the values of a tile enter the accumulator.
#[cube]
#[allow(clippy::too_many_arguments, reason = "a kernel's state cannot be bundled with borrowed operands")]
fn push<E: Float>(
    unit: &mut UnitTile,
    stage: &mut Stage,
    pair: &KeyValue<E>,
    batch: usize,
    kv_head: usize,
    key0: usize,
    unit_row: usize,
    unit_column: usize,
    #[comptime] program: Compiled,
    #[comptime] schedule: CubeSchedule,
) {
    let rows = comptime![schedule.queries / schedule.unit_rows];
    let columns = comptime![schedule.keys / schedule.unit_columns];
    let unit_columns = comptime![schedule.unit_columns];
    let v_dim = comptime![program.operands.v_dim];
    let v_columns = comptime![v_dim.div_ceil(schedule.unit_columns)];
    let weight_pitch = comptime![schedule.keys + 1];
    let softmax = comptime![matches!(program.accumulator, Accumulator::Softmax { .. })];

    if softmax {
        for row in 0..rows {
            let mut maximum = unit.scores[row * columns];
            for column in 1..columns {
                maximum = max(maximum, unit.scores[row * columns + column]);
            }
            stage.partial[(unit_row * rows + row) * unit_columns + unit_column] = maximum;
        }
        sync_cube();
        for row in 0..rows {
            let mut maximum = unit.maximum[row];
            for other in 0..unit_columns {
                maximum = max(maximum, stage.partial[(unit_row * rows + row) * unit_columns + other]);
            }
            let rescale = exp2_native(unit.maximum[row] - maximum);
            unit.maximum[row] = maximum;
            unit.sum[row] *= rescale;
            for column in 0..v_columns {
                unit.output[row * v_columns + column] *= rescale;
            }
            for column in 0..columns {
                let score = unit.scores[row * columns + column];
                unit.scores[row * columns + column] = exp2_native(score - maximum);
            }
        }
        sync_cube();
    }

    for row in 0..rows {
        let mut sum = 0.0f32;
        for column in 0..columns {
            let weight = unit.scores[row * columns + column];
            sum += weight;
            stage.weights[(unit_row * rows + row) * weight_pitch + column * unit_columns + unit_column] = weight;
        }
        stage.partial[(unit_row * rows + row) * unit_columns + unit_column] = sum;
    }
    sync_cube();
    if comptime![!matches!(program.accumulator, Accumulator::Sum)] {
        for row in 0..rows {
            for other in 0..unit_columns {
                unit.sum[row] += stage.partial[(unit_row * rows + row) * unit_columns + other];
            }
        }
    }

    // The columns of the output are spread over the unit columns: a chunk of the values has `chunk / unit_columns` for each.
    let value_base = pair.value.start + batch * pair.value.batch + kv_head * pair.value.head;
    let pitch = comptime![schedule.chunk + 1];
    let chunk_columns = comptime![schedule.chunk / schedule.unit_columns];
    #[unroll]
    for chunk in 0..comptime![v_dim.div_ceil(schedule.chunk)] {
        stage_rows::<E>(
            &mut stage.key_value,
            &pair.value,
            value_base,
            key0,
            pair.len - 1,
            comptime![chunk * schedule.chunk],
            1.0f32,
            v_dim,
            schedule.keys,
            schedule,
        );
        sync_cube();
        let live = comptime![min_usize(chunk_columns, v_columns - chunk * chunk_columns)];
        for key in 0..schedule.keys {
            let mut values = Array::<f32>::new(live);
            #[unroll]
            for column in 0..live {
                values[column] = stage.key_value[key * pitch + column * unit_columns + unit_column];
            }
            #[unroll]
            for row in 0..rows {
                let weight = stage.weights[(unit_row * rows + row) * weight_pitch + key];
                #[unroll]
                for column in 0..live {
                    let at = comptime![row * v_columns + chunk * chunk_columns + column];
                    unit.output[at] = fma(weight, values[column], unit.output[at]);
                }
            }
        }
        sync_cube();
    }
}

/// The smaller, of compile-time numbers (`min` is the kernel's).
fn min_usize(a: usize, b: usize) -> usize {
    Ord::min(a, b)
}
