//! The `mma` schedule: tensor cores fed from shared memory, as FlashAttention-2 does it (Dao, 2023, arXiv:2307.08691).
//!
//! A cube per query tile; each of its warps has some rows of the tile, 16 to a fragment, and all of their scores and outputs in the
//! registers of its lanes, as [`tensor_core`](crate::emit::nvidia::tensor_core) describes. What is exchanged of a row is its maximum and its sum, between
//! the four lanes that have it. Keys and values are copied to shared memory while the other product is computed:
//!
//! ```text
//! copy Q; copy K of the first tile
//! for each tile of keys:
//!     wait for K; copy V
//!     S = Q·Kᵀ
//!     wait for V; copy K of the next tile
//!     map, mask; m = maxima of rows; P = 2^(S − m); l = l·2^(m_old − m) + sums; O = O·2^(m_old − m)
//!     O += P·V
//! O = O / l, through shared memory
//! O once more, with care, where it is not finite
//! ```
//!
//! Tiles whose mask is evaluated and tiles whose mask is not have a loop each, inside the one over all: a run of full tiles is a loop
//! without mask code. `tile.rs` has what is done with a tile.

mod memory;
mod rows;
mod tile;

use self::memory::{Lane, Memory, ReadRows, key_columns, query_columns};
use self::rows::{CubeRows, first_column_of_warp, place_in_row, row_of};
use self::tile::{Factors, WarpTile, WarpTileCode};
use crate::emit::arguments::{Counters, Extent, KernelInputs, KeySet, OperandArgument, ParameterValues, Results};
use crate::emit::careful_row::{CarefulRow, Columns, careful_row};
use crate::emit::count_kernel;
use crate::emit::key_tiles::{KeyTile, KeyTiles, Span, count_tile, has_code};
use crate::emit::nvidia::registers::take_registers;
use crate::emit::nvidia::tensor_core::{commit_copies, wait_for_copies};
use crate::emit::place::{Ends, Place, TilePlace};
use crate::emit::softmax::{RowStart, inverse, is_finite, is_too_great, row_number};
use crate::expr::Expr;
use crate::ir::forward::Operands;
use crate::schedule::MmaSchedule;
use crate::scheduled::Compiled;
use cubecl::prelude::*;

/// Whether output and scores take up to half of the registers that a unit can have. Then `ptxas` tries for a third block on a
/// multiprocessor, and spills for it, unless it is [told not to](take_registers); with more it does not try, and told, it was seen to
/// spill.
fn takes_few(schedule: MmaSchedule, operands: Operands) -> bool {
    schedule.accumulators(&operands) <= 128
}

/// The attention of `program` with the `mma` schedule: cube x is the query tile, the last first, y the head, or with `pack_gqa` the
/// key head, z the batch. Vectors have R lanes over the rows of a lane of a warp; operands are read in vectors of V elements,
/// [`MmaSchedule::WIDTH`] or 1. With `pack_gqa` the rows of all query heads that share a key head follow each other.
#[cube(launch_unchecked)]
pub fn attention_mma<E: Float, R: Size, V: Size>(
    operands: &Sequence<OperandArgument<Vector<E, V>>>,
    keys: &Sequence<KeySet>,
    results: &mut Results<Vector<E, V>>,
    extent: &Extent,
    parameters: &ParameterValues,
    counters: &Sequence<Counters>,
    #[comptime] program: Compiled,
    #[comptime] schedule: MmaSchedule,
    #[comptime] counting: bool,
) {
    comptime!(count_kernel());
    let sizes = comptime![program.memory_sizes()];
    if comptime![takes_few(schedule, program.sizes())] {
        take_registers();
    }
    let rows = CubeRows::new(extent, schedule, false);
    let place = place::<R>(extent, rows, schedule);

    let mut stage = Memory::<E>::new(sizes, schedule);
    let of_queries = comptime![query_columns(&program, schedule)];
    #[unroll]
    for load in 0..comptime![program.loads.len()] {
        if comptime![of_queries[load].is_some()] {
            let query = &operands[comptime![program.loads[load].operand]];
            let base = query.rows_of(rows.batch, rows.head);
            let columns = comptime![of_queries[load].unwrap()];
            stage.copy_queries::<V>(query, base, rows, extent.queries, columns, schedule);
        }
    }
    let mut factors_of_loads = Sequence::<f32>::new();
    #[unroll]
    for load in 0..comptime![program.loads.len()] {
        let mut factor = 1.0f32;
        let scale = comptime![program.loads[load].scale.clone().filter(|_| of_queries[load].is_some())];
        if comptime![scale.is_some()] {
            factor = parameters.float::<R>(&place, comptime![scale.clone().unwrap()]).extract(0usize);
        }
        // Maxima are found before the factor is applied, so it must not turn them around: its sign, which costs no accuracy, is the
        // queries'.
        if comptime![of_queries[load].is_some()] {
            if factor < 0.0f32 {
                commit_copies();
                wait_for_copies();
                stage.negate_queries(comptime![of_queries[load].unwrap()], schedule);
                factor = -factor;
            }
        }
        factors_of_loads.push(factor);
    }
    let mut warps = Sequence::<WarpTile<R>>::new();
    #[unroll]
    for at in 0..comptime![program.accumulators.len()] {
        let sink = comptime![program.accumulators[at].reduction.sink().cloned()];
        let warp = WarpTile::<R>::new(sizes, schedule);
        if comptime![sink.is_some()] {
            let start = RowStart::<R>::of_sink(&place, parameters, comptime![sink.clone().unwrap()]);
            warp.maximum.store(start.maximum());
            // The sums of a row's lanes are added at the end.
            if place_in_row() == 0 {
                warp.sum.store(start.sum());
            }
        }
        warps.push(warp);
    }

    #[unroll]
    for at in 0..comptime![program.loops.len()] {
        let key_loop = comptime![program.loops[at].clone()];
        let (terms, pushes) = comptime![(key_loop.dots().concat(), key_loop.pushes())];
        let of_keys = comptime![key_columns(&program, &key_loop, schedule)];
        let set = &keys[comptime![key_loop.column_set()]];
        let value = &operands[comptime![pushes[0].values]];
        let size = comptime![schedule.keys];
        let tiles = KeyTiles::new::<R>(parameters, &place, set.len, set.offset, size, comptime![key_loop.clone()]);
        let mut key_bases = Sequence::<usize>::new();
        #[unroll]
        for at in 0..comptime![terms.len()] {
            key_bases.push(operands[comptime![terms[at].column]].rows_of(rows.batch, rows.head));
        }
        let value_base = value.rows_of(rows.batch, rows.head);
        // Cells: what was read of one stays what it was when the next tile is found.
        let start = tiles.visited::<R>(parameters, &place, 0);
        if start.first < set.len {
            #[unroll]
            for at in 0..comptime![terms.len()] {
                let key = &operands[comptime![terms[at].column]];
                stage.copy_keys::<V>(key, key_bases[at], start.first, set.len, comptime![of_keys[at]], schedule);
            }
        }
        commit_copies();
        let next = RuntimeCell::<usize>::new(start.first);
        let next_kind = RuntimeCell::<i32>::new(start.kind);
        while next.read() < set.len {
            #[unroll]
            for full in 0..2 {
                let full = comptime![full == 1];
                if comptime![!full || key_loop.occurs(true)] {
                    let codes = comptime![WarpTileCode::of_pushes(&program, &key_loop, schedule, full)];
                    let mut factors = Sequence::<Factors>::new();
                    #[unroll]
                    for push in 0..comptime![pushes.len()] {
                        let factor = factors_of_loads[comptime![codes[push].load()]];
                        factors.push(Factors::new::<R>(parameters, &place, factor, comptime![codes[push].clone()]));
                    }
                    while next.read() < set.len && has_code(next.read(), next_kind.read(), set.len, size, full) {
                        let first = next.read();
                        let count = min(size, set.len - first);
                        let seen = if comptime![full] {
                            Span { from: first, to: first + count }
                        } else {
                            tiles.seen(first, count)
                        };
                        let key_tile = KeyTile { first, last: set.len - 1, seen };
                        if counting {
                            if UNIT_POS == 0 {
                                count_tile(&counters[0], next_kind.read(), at);
                            }
                        }
                        wait_for_copies();
                        sync_cube();
                        let read = ReadRows { first, within: seen, all: full };
                        stage.copy_values::<V>(value, value_base, read, sizes, schedule);
                        commit_copies();
                        #[unroll]
                        for push in 0..comptime![pushes.len()] {
                            let warp = &warps[comptime![pushes[push].accumulator]];
                            warp.dot_products::<E>(&stage, comptime![codes[push].clone()]);
                        }
                        wait_for_copies();
                        sync_cube();
                        let following = tiles.visited::<R>(parameters, &place, first + size);
                        next.store(following.first);
                        next_kind.store(following.kind);
                        if next.read() < set.len {
                            #[unroll]
                            for at in 0..comptime![terms.len()] {
                                let key = &operands[comptime![terms[at].column]];
                                let columns = comptime![of_keys[at]];
                                stage.copy_keys::<V>(key, key_bases[at], next.read(), set.len, columns, schedule);
                            }
                        }
                        commit_copies();
                        #[unroll]
                        for push in 0..comptime![pushes.len()] {
                            let warp = &warps[comptime![pushes[push].accumulator]];
                            let code = comptime![codes[push].clone()];
                            let factors = &factors[push];
                            warp.weigh(parameters, &place, key_tile, set.offset, factors, comptime![code.clone()]);
                            warp.accumulate::<E>(&stage, code);
                        }
                    }
                }
            }
        }
    }
    let rows = CubeRows::new(extent, schedule, true);
    let base = (rows.batch * extent.heads + rows.head) * extent.queries;
    let code = comptime![RowsCode { program: program.clone(), schedule }];
    let given = KernelInputs::<Vector<E, V>>::new(operands, keys, extent, parameters);
    store::<E, R, V>(&warps, &mut stage, &given, results, rows, base, comptime![code.clone()]);
    mend::<E, V>(&stage, &given, results, rows, code);
}

/// What the code for rows is made for.
#[derive(Clone)]
struct RowsCode {
    program: Compiled,
    schedule: MmaSchedule,
}

/// Computes with [care](crate::emit::careful) the chunks of the output that this unit has stored and that are not finite.
#[cube]
fn mend<E: Float, V: Size>(
    stage: &Memory<E>,
    given: &KernelInputs<'_, Vector<E, V>>,
    results: &mut Results<Vector<E, V>>,
    rows: CubeRows,
    #[comptime] code: RowsCode,
) {
    let (program, schedule) = comptime![(code.program.clone(), code.schedule)];
    let extent = given.extent;
    let memory = comptime![schedule.memory(&program.memory_sizes()).output];
    let columns = comptime![memory.columns()];
    let lane = Lane::new(columns);
    let per_pass = comptime![columns.rows_per_pass(schedule.units())];
    for pass in 0..comptime![columns.passes(schedule.units())] {
        let in_tile = lane.row + pass * per_pass;
        let row = rows.first + in_tile;
        if row < rows.total && in_tile < comptime![memory.rows] {
            for part in 0..comptime![memory.chunks / columns.lanes_per_row()] {
                let chunk = lane.chunk + part * comptime![columns.lanes_per_row()];
                if chunk < comptime![program.outputs[0].dim.div_ceil(MmaSchedule::WIDTH)]
                    && stage.is_doubtful(in_tile, chunk, memory)
                {
                    let mut head = rows.head;
                    let mut at = row;
                    if comptime![schedule.pack_gqa] {
                        head += row / extent.queries;
                        at = row % extent.queries;
                    }
                    careful_row::<E, E, V>(
                        CarefulRow { batch: rows.batch, head, query: at, vector: chunk },
                        given,
                        results,
                        comptime![Columns { step: None, width: MmaSchedule::WIDTH }],
                        comptime![program.clone()],
                        false,
                    );
                }
            }
        }
    }
}

/// The place of a tile: the positions of a lane's rows, its queries' first and last, and no key. Rows past the last have positions past
/// the last, so that all are known from one: nothing is stored for them, and captured tensors are not read outside.
#[cube]
fn place<R: Size>(extent: &Extent, rows: CubeRows, #[comptime] schedule: MmaSchedule) -> Place<R> {
    let mut query = Vector::<i32, R>::empty();
    let mut heads = Vector::<i32, R>::new(rows.head as i32);
    #[unroll]
    for at in 0..comptime![schedule.rows()] {
        let row = rows.first + row_of(at, schedule);
        if comptime![schedule.pack_gqa] {
            query.insert(at, extent.query_offset + (row % extent.queries) as i32);
            heads.insert(at, (rows.head + row / extent.queries) as i32);
        } else {
            query.insert(at, extent.query_offset + row as i32);
        }
    }
    let mut first = rows.first;
    let mut last = min(rows.first + comptime![schedule.queries() - 1], rows.total - 1);
    if comptime![schedule.pack_gqa] {
        first = 0;
        last = extent.queries - 1;
    }
    let (batch, head) = (rows.batch as i32, rows.head as i32);
    let kv_head = (rows.head / extent.kv_group) as i32;
    let ends = Ends { first: extent.query_offset + first as i32, last: extent.query_offset + last as i32 };
    Place::<R>::of_queries(TilePlace::new(batch, head, kv_head, ends), query, heads, comptime![schedule.pack_gqa])
}

/// Writes the rows' output, and the numbers of them that the program keeps. `base` is the output's row at which the tile's head begins.
#[cube]
fn store<E: Float, R: Size, V: Size>(
    warps: &Sequence<WarpTile<R>>,
    stage: &mut Memory<E>,
    given: &KernelInputs<'_, Vector<E, V>>,
    results: &mut Results<Vector<E, V>>,
    rows: CubeRows,
    base: usize,
    #[comptime] code: RowsCode,
) {
    let (program, schedule) = comptime![(code.program.clone(), code.schedule)];
    let parameters = given.parameters;
    let sizes = comptime![program.memory_sizes()];
    let memory = comptime![schedule.memory(&sizes).output];
    let columns = comptime![schedule.output_chunks(&sizes)];
    let mut sums = Sequence::<Vector<f32, R>>::new();
    #[unroll]
    for at in 0..comptime![program.accumulators.len()] {
        let tile = &warps[at];
        let reduction = comptime![program.accumulators[at].reduction.clone()];
        let mut sum = tile.sum.read();
        if comptime![reduction.is_divided()] {
            sum += plane_shuffle_xor(sum, 1u32);
            sum += plane_shuffle_xor(sum, 2u32);
            let mut factor = inverse::<R>(sum);
            if comptime![reduction.is_softmax()] {
                // A row of scores that are too great is to be seen in what is stored.
                let infinity = Vector::new(parameters.empty_lse);
                let is_too_great = is_too_great::<R>(tile.maximum.read(), sum).not_equal(&Vector::new(0u32));
                factor = select_many(is_too_great, infinity, factor);
            }
            tile.rescale(factor, sizes, schedule);
        }
        sums.push(sum);
    }
    // The output takes the queries' place: all warps have read them, and copies that no tile has waited for are there.
    wait_for_copies();
    sync_cube();
    if comptime![!program.stores_accumulator()] {
        let place = place::<R>(given.extent, rows, schedule);
        combine::<E, R, V>(warps, given, &place, rows, comptime![code.clone()]);
    }
    let first = &warps[0];
    // Chunks of a warp's part lie as those of the first part.
    let mut within = place_in_row() * 2;
    if comptime![schedule.split_columns] {
        within += first_column_of_warp(sizes, schedule);
    }
    #[unroll]
    for at in 0..comptime![schedule.rows()] {
        let row = row_of(at, schedule);
        #[unroll]
        for column in 0..columns {
            let four = first.output[comptime![at / 2 * columns + column]].read();
            let (first, second) = (four.extract(comptime![at % 2 * 2]), four.extract(comptime![at % 2 * 2 + 1]));
            stage.put_output(row, column, within, first, second, memory);
        }
    }
    #[unroll]
    for number in 0..comptime![program.row_numbers().len()] {
        // Of one accumulator.
        let kept = comptime![program.row_numbers()[number].1];
        let all = row_number::<R>(first.maximum.read(), sums[0], parameters.empty_lse, kept, 1.0);
        let numbers = &mut results.rows[number];
        #[unroll]
        for at in 0..comptime![schedule.rows()] {
            let row = rows.first + row_of(at, schedule);
            let mut is_first = place_in_row() == 0;
            if comptime![schedule.split_columns] {
                is_first = is_first && first_column_of_warp(sizes, schedule) == 0;
            }
            if is_first && row < rows.total {
                numbers.data[base + row] = all.extract(at);
            }
        }
    }
    sync_cube();
    let output = &mut results.outputs[0];
    stage.store_output::<V>(&mut output.data, base, rows, memory, schedule);
}

/// Makes the program's output of the accumulators and of what lies along the queries; it takes the place of the first. Where an accumulator is
/// not finite, the output is not either, so that it is seen in what is stored.
#[cube]
fn combine<E: Float, R: Size, V: Size>(
    warps: &Sequence<WarpTile<R>>,
    given: &KernelInputs<'_, Vector<E, V>>,
    place: &Place<R>,
    rows: CubeRows,
    #[comptime] code: RowsCode,
) {
    let (program, schedule) = comptime![(code.program.clone(), code.schedule)];
    let (extent, parameters) = (given.extent, given.parameters);
    let columns = comptime![schedule.output_chunks(&program.memory_sizes())];
    let value = comptime![program.outputs[0].value.clone()];
    #[unroll]
    for column in 0..columns {
        #[unroll]
        for next in 0..2 {
            let mut x = place_in_row() * 2 + comptime![column * 8 + next];
            if comptime![schedule.split_columns] {
                x += first_column_of_warp(comptime![program.memory_sizes()], schedule);
            }
            let x = min(x, comptime![program.outputs[0].dim - 1]);
            let mut values = Sequence::<Vector<f32, R>>::new();
            let mut infinite = Vector::<u32, R>::new(0u32);
            #[unroll]
            for at in 0..comptime![program.accumulators.len()] {
                let tile = &warps[at];
                let mut of_rows = Vector::<f32, R>::empty();
                #[unroll]
                for row in 0..comptime![schedule.rows()] {
                    let four = tile.output[comptime![row / 2 * columns + column]].read();
                    of_rows.insert(row, four.extract(comptime![row % 2 * 2 + next]));
                }
                infinite = select_many(is_finite::<R>(of_rows), infinite, Vector::new(1u32));
                values.push(of_rows);
            }
            #[unroll]
            for load in 0..comptime![program.loads.len()] {
                let mut of_rows = Vector::<f32, R>::new(0.0);
                if comptime![value.mentions(&Expr::Value(program.accumulators.len() + load))] {
                    let operand = &given.operands[comptime![program.loads[load].operand]];
                    #[unroll]
                    for row in 0..comptime![schedule.rows()] {
                        // Past the last row, the last: nothing is stored for it.
                        let at = min(rows.first + row_of(row, schedule), rows.total - 1);
                        let mut head = rows.head;
                        let mut query = at;
                        if comptime![schedule.pack_gqa] {
                            head += at / extent.queries;
                            query = at % extent.queries;
                        }
                        let start = operand.row(operand.rows_of(rows.batch, head), query);
                        of_rows.insert(row, element_of::<E, V>(operand, start, x));
                    }
                }
                values.push(of_rows);
            }
            let stored = parameters.float_of::<R>(place, &values, comptime![value.clone()]);
            let is_infinite = infinite.not_equal(&Vector::new(0u32));
            let stored = select_many(is_infinite, Vector::new(parameters.empty_lse), stored);
            let first = &warps[0];
            #[unroll]
            for row in 0..comptime![schedule.rows()] {
                let cell = &first.output[comptime![row / 2 * columns + column]];
                let mut four = cell.read();
                four.insert(comptime![row % 2 * 2 + next], stored.extract(row));
                cell.store(four);
            }
        }
    }
}

/// Element `x` of the row that begins at `start`.
#[cube]
fn element_of<E: Float, V: Size>(operand: &OperandArgument<Vector<E, V>>, start: usize, x: usize) -> f32 {
    let lanes = V::value();
    let elements = operand.data.as_vectorized().with_vector_size::<Const<1>>();
    if comptime![lanes == 1] {
        f32::cast_from(elements[operand.at(start, x)].extract(0usize))
    } else {
        f32::cast_from(elements[start * lanes + x].extract(0usize))
    }
}
