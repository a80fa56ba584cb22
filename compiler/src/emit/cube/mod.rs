//! The `cube` schedule: a cube per query tile, and a block of the scores in each unit's registers.
//!
//! The units of a cube form a grid of `unit_rows × unit_columns`. A unit owns the scores of `rows` queries and
//! `keys / unit_columns` keys, and the same queries' part of the output. As in the `cpu` schedule everything is transposed, with
//! vectors over the queries, here those of one unit: a map or a mask is evaluated for all of them at once, and the maximum is
//! found lane by lane. [`products`] has the two products, and where their operands come from;
//! [`matrices`] has them by cooperative matrices. All else is here, and the same.
//!
//! ```text
//! stage Qᵀ
//! for each tile of keys:
//!     Sᵀ = K·Qᵀ
//!     map, mask; m = maxima over the units of a row
//!     Pᵀ = 2^(Sᵀ − m), l = l·2^(m_old − m) + sums, Oᵀ = Oᵀ·2^(m_old − m)
//!     Oᵀ += Vᵀ·Pᵀ
//! l = sums over the units of a row
//! O = O / l
//! O once more, with care, in rows where it is not finite
//! ```

pub mod matrices;
pub mod products;
mod unit;
mod vectors;

use self::products::{RowShape, Stage};
use self::unit::{CubeCode, Unit, UnitAccumulator, UnitTile};
use self::vectors::{W, read, retag};
use crate::emit::arguments::{
    Counters, Extent, HeadRows, KernelInputs, KeySet, OperandArgument, ParameterValues, Results,
};
use crate::emit::careful_row::{CarefulRow, Columns, careful_row};
use crate::emit::count_kernel;
use crate::emit::key_tiles::{KeyTile, KeyTiles, SKIPPED, count_tile, has_code, skips};
use crate::emit::nvidia::registers::take_registers;
use crate::emit::nvidia::tensor_core::computed_here;
use crate::emit::place::{Ends, Place, TilePlace};
use crate::emit::scores::{TileArrays, apply};
use crate::emit::softmax::{
    EMPTY, Exp2, LEAST, RowStart, hidden, inverse, is_finite, is_too_great, rescaling, row_number, weight,
};
use crate::expr::Expr;
use crate::ir::Reduction;
use crate::ir::forward::Pushed;
use crate::schedule::{CubeSchedule, Planes, Products};
use crate::scheduled::Compiled;
use cubecl::prelude::*;

/// What a unit computes.
#[derive(CubeType, Clone, Copy)]
#[expand(derive(Clone, Copy))]
struct Item {
    /// The batch.
    batch: usize,
    /// The query head.
    head: usize,
    /// The first query of the cube.
    row0: usize,
    /// The unit's place in the cube.
    unit: Unit,
}

#[cube]
impl Item {
    /// That of this unit. Where `afresh`, it is computed from the unit's number anew: kept from the beginning to the end of a kernel, it
    /// takes registers that the loops between have no room for.
    fn new(extent: &Extent, #[comptime] schedule: CubeSchedule, #[comptime] afresh: bool) -> Item {
        let mut at = UNIT_POS;
        let (mut tile, mut head, mut batch) = (CUBE_POS_X, CUBE_POS_Y, CUBE_POS_Z);
        if comptime![afresh] {
            at = computed_here(at);
            tile = computed_here(tile);
            head = computed_here(head);
            batch = computed_here(batch);
        }
        let head = extent.first_head + head as usize;
        Item {
            batch: extent.first_batch + batch as usize,
            head,
            row0: (extent.first_tile + tile as usize) * comptime![schedule.queries()],
            unit: Unit {
                row: at as usize / comptime![schedule.unit_columns],
                column: at as usize % comptime![schedule.unit_columns],
            },
        }
    }

    /// The first of the unit's queries.
    fn row(&self, #[comptime] schedule: CubeSchedule) -> usize {
        self.row0 + self.unit.row * comptime![schedule.rows]
    }
}

/// The attention of `program` with the `cube` schedule: cube x is the query tile, y the head, z the batch, each from the grid's first
/// on. Operands are in E and outputs in O. Vectors have R lanes over the queries of a unit; operands are read in vectors of V elements, [`CubeSchedule::WIDTH`] or 1.
#[cube(launch_unchecked)]
pub fn attention_cube<E: Float, O: Float, R: Size, V: Size>(
    operands: &Sequence<OperandArgument<Vector<E, V>>>,
    keys: &Sequence<KeySet>,
    results: &mut Results<Vector<O, V>>,
    extent: &Extent,
    parameters: &ParameterValues,
    counters: &Sequence<Counters>,
    #[comptime] program: Compiled,
    #[comptime] schedule: CubeSchedule,
    #[comptime] counting: bool,
) {
    comptime!(count_kernel());
    take_registers();
    let given = KernelInputs::<Vector<E, V>>::new(operands, keys, extent, parameters);
    let code = comptime![CubeCode { program: program.clone(), schedule }];
    let Item { batch, head, row0, unit } = Item::new(extent, schedule, false);
    let last_row = extent.queries - 1;
    let place = place_of::<R>(extent, Item { batch, head, row0, unit }, schedule);

    let mut stage = Stage::<E, R>::new(comptime![code.clone()]);
    // Of products by matrices, which are for programs with one product.
    let mut factor = Vector::<f32, R>::new(1.0);
    #[unroll]
    for load in 0..comptime![program.loads.len()] {
        if comptime![program.is_in_dots(load)] {
            let loaded = comptime![program.loads[load].clone()];
            factor = Vector::new(1.0);
            if comptime![loaded.scale.is_some()] {
                factor = parameters.float::<R>(&place, comptime![loaded.scale.clone().unwrap()]);
            }
            let query = HeadRows::<Vector<E, V>>::new(&operands[comptime![loaded.operand]], batch, head);
            if comptime![schedule.products == Products::Units] {
                stage.stage_queries::<V>(query, row0, last_row, unit, factor, load);
            } else {
                let matrices = &mut stage.matrices[0];
                matrices.stage_queries::<V>(query, row0, last_row);
            }
        }
    }
    let mut tile = begin::<R>(parameters, &place, unit, comptime![code.clone()]);

    #[unroll]
    for at in 0..comptime![program.loops.len()] {
        let key_loop = comptime![program.loops[at].clone()];
        let (dots, pushes) = comptime![(key_loop.dots(), key_loop.pushes())];
        let arrays = comptime![TileArrays::new(dots.len(), &pushes, 0)];
        let set = &keys[comptime![key_loop.column_set()]];
        let size = comptime![schedule.keys];
        let tiles = KeyTiles::new::<R>(parameters, &place, set.len, set.offset, size, comptime![key_loop.clone()]);
        let mut key0 = tiles.next::<R>(parameters, &place, 0);
        while key0 < set.len {
            let count = min(size, set.len - key0);
            let kind = tiles.kind::<R>(parameters, &place, key0, count);
            if counting {
                if UNIT_POS == 0 {
                    count_tile(&counters[0], kind, at);
                }
            }
            let visited = if comptime![skips(&key_loop)] { kind != SKIPPED } else { true.runtime() };
            if visited {
                let seen = tiles.seen(key0, count);
                let key_tile = KeyTile { first: key0, last: set.len - 1, seen };
                #[unroll]
                for dot in 0..comptime![dots.len()] {
                    let scores = &mut tile.tiles[dot];
                    if comptime![schedule.products == Products::Units] {
                        #[unroll]
                        for column in 0..comptime![schedule.columns()] {
                            scores[column] = Vector::new(0.0);
                        }
                        #[unroll]
                        for term in 0..comptime![dots[dot].len()] {
                            let term = comptime![dots[dot][term]];
                            let key = HeadRows::<Vector<E, V>>::new(&operands[comptime![term.column]], batch, head);
                            stage.product::<V>(scores, key, key_tile, unit, comptime![program.load_of(term.row)]);
                        }
                    } else {
                        let column = comptime![dots[dot][0].column];
                        let key = HeadRows::<Vector<E, V>>::new(&operands[column], batch, head);
                        let matrices = &mut stage.matrices[0];
                        matrices.product::<R, V>(scores, key, key_tile, factor, unit);
                    }
                }
                #[unroll]
                for full in 0..2 {
                    let full = comptime![full == 1];
                    if comptime![!full || key_loop.occurs(true)] {
                        if has_code(key0, kind, set.len, size, full) {
                            let code = comptime![code.clone()];
                            let maps = comptime![Maps { code, pushes: pushes.clone(), arrays: arrays.clone(), full }];
                            map_and_mask::<R>(&mut tile, parameters, &place, key_tile, set.offset, unit, maps);
                        }
                    }
                }
                #[unroll]
                for push in 0..comptime![pushes.len()] {
                    let pushed = comptime![pushes[push].clone()];
                    let reduction = comptime![program.accumulators[pushed.accumulator].reduction.clone()];
                    let accumulator = &mut tile.accumulators[comptime![pushed.accumulator]];
                    if comptime![key_loop.occurs(true) && reduction.is_softmax()] {
                        let least = select(has_code(key0, kind, set.len, size, true), LEAST, EMPTY);
                        accumulator.maximum = max(accumulator.maximum, Vector::new(least));
                    }
                    let scores = &mut tile.tiles[comptime![arrays.weights[push]]];
                    weigh::<E, R>(accumulator, scores, &mut stage, unit, comptime![reduction.clone()]);
                    // The factors are no part of the sum.
                    let factors = &tile.tiles[comptime![arrays.factors[push].unwrap_or(arrays.weights[push])]];
                    let has_factors = comptime![pushed.factor.is_some()];
                    let weights = &tile.tiles[comptime![arrays.weights[push]]];
                    leave_weights::<E, R>(weights, factors, &mut stage, unit, has_factors);
                    let value = HeadRows::<Vector<E, V>>::new(&operands[comptime![pushed.values]], batch, head);
                    let output = &mut accumulator.output;
                    if comptime![schedule.products == Products::Units] {
                        let row = comptime![RowShape { dim: program.operands[pushed.values].dim, read: pushed.dim }];
                        stage.accumulate::<V>(output, value, key_tile, unit, row);
                    } else {
                        let matrices = &mut stage.matrices[0];
                        matrices.accumulate::<R, V>(output, value, key_tile, unit);
                    }
                }
            }
            key0 = tiles.next::<R>(parameters, &place, key0 + size);
        }
    }

    let item = Item::new(extent, schedule, true);
    divide::<E, R>(&mut tile, &mut stage, item.unit, comptime![program.clone()]);
    let numbers = numbers_of_rows::<R>(&tile, parameters.empty_lse, comptime![program.clone()]);
    let doubtful = doubtful_rows::<R>(&tile, comptime![program.clone()], schedule);
    let base = (item.batch * extent.heads + item.head) * extent.queries;
    let rows = UnitRows { first: item.row(schedule), base, queries: extent.queries };
    #[unroll]
    for output in 0..comptime![program.outputs.len()] {
        let accumulator = comptime![program.stored_accumulator(output)];
        if comptime![accumulator.is_some()] {
            let accumulator = &tile.accumulators[comptime![accumulator.unwrap()]];
            let code = comptime![code.clone()];
            store::<O, R, V>(&accumulator.output, &numbers, results, rows, item.unit, output, code);
        } else {
            let made = expression::<E, R, V>(&tile, &given, &place, item, output, comptime![code.clone()]);
            store::<O, R, V>(&made, &numbers, results, rows, item.unit, output, comptime![code.clone()]);
        }
    }
    // Rows whose bit is set, the first in the lowest. By an integer, since a constant `false` that a loop carries is never defined in
    // CubeCL's SPIR-V.
    let rest = RuntimeCell::<u32>::new(select(extent.careful != 0, doubtful, 0u32));
    let at = RuntimeCell::<usize>::new(Item::new(extent, schedule, true).row(schedule));
    while rest.read() != 0u32 {
        if rest.read() % 2 == 1u32 && at.read() < extent.queries {
            let Item { batch, head, unit, .. } = Item::new(extent, schedule, true);
            careful_row::<E, O, V>(
                CarefulRow { batch, head, query: at.read(), vector: unit.column },
                &given,
                results,
                comptime![Columns { step: Some(schedule.unit_columns), width: CubeSchedule::WIDTH }],
                comptime![program.clone()],
                comptime![!schedule.stages()],
            );
        }
        rest.store(rest.read() / 2);
        at.store(at.read() + 1);
    }
}

/// The place of a tile: the positions of a unit's queries, the tile's first and last, and no key. Past the last query, the last.
#[cube]
fn place_of<R: Size>(extent: &Extent, item: Item, #[comptime] schedule: CubeSchedule) -> Place<R> {
    let last = extent.queries - 1;
    let rows = positions::<R>(extent, item.row(schedule), comptime![schedule.rows]);
    let (batch, head) = (item.batch as i32, item.head as i32);
    let heads = Vector::new(item.head as i32);
    let kv_head = (item.head / extent.kv_group) as i32;
    let ends = Ends {
        first: extent.query_offset + item.row0 as i32,
        last: extent.query_offset + min(item.row0 + comptime![schedule.queries() - 1], last) as i32,
    };
    Place::<R>::of_queries(TilePlace::new(batch, head, kv_head, ends), rows, heads, false)
}

/// The positions of a unit's queries, the first of which is in row `row`; past the last query, the last.
#[cube]
fn positions<R: Size>(extent: &Extent, row: usize, #[comptime] rows: usize) -> Vector<i32, R> {
    let mut positions = Vector::<i32, R>::empty();
    #[unroll]
    for lane in 0..rows {
        positions.insert(lane, extent.query_offset + min(row + lane, extent.queries - 1) as i32);
    }
    positions
}

/// The accumulators before any key. A sink is in the sum of the first unit of a row.
#[cube]
fn begin<R: Size>(
    parameters: &ParameterValues,
    place: &Place<R>,
    unit: Unit,
    #[comptime] code: CubeCode,
) -> UnitTile<R> {
    let (program, schedule) = comptime![(code.program.clone(), code.schedule)];
    let mut accumulators = Sequence::<UnitAccumulator<R>>::new();
    #[unroll]
    for at in 0..comptime![program.accumulators.len()] {
        let outputs = comptime![outputs(program.dim_of(at), schedule)];
        let mut output = Array::new(outputs);
        #[unroll]
        for x in 0..outputs {
            output[x] = Vector::new(0.0);
        }
        let sink = comptime![program.accumulators[at].reduction.sink().cloned()];
        let start = RowStart::<R>::unseen();
        let (mut maximum, mut sum) = (start.maximum(), start.sum());
        if comptime![sink.is_some()] {
            let start = RowStart::<R>::of_sink(place, parameters, comptime![sink.clone().unwrap()]);
            maximum = start.maximum();
            if unit.column == 0 {
                sum = start.sum();
            }
        }
        accumulators.push(UnitAccumulator::<R> { output, maximum, sum, vectors: outputs });
    }
    let mut tiles = Sequence::new();
    #[unroll]
    for _ in 0..comptime![TileArrays::most(&program)] {
        tiles.push(Array::new(comptime![schedule.columns()]));
    }
    UnitTile::<R> { tiles, accumulators }
}

/// The vectors of a unit's part of an accumulator.
fn outputs(dim: usize, schedule: CubeSchedule) -> usize {
    CubeSchedule::vectors_of(dim).div_ceil(schedule.unit_columns) * CubeSchedule::WIDTH
}

/// What the code of a loop's maps and masks is made for.
#[derive(Clone)]
struct Maps {
    code: CubeCode,
    pushes: Vec<Pushed>,
    /// Where dots, weights and factors are.
    arrays: TileArrays,
    /// Whether every query sees every key.
    full: bool,
}

/// Makes of a unit's products what is pushed; where tiles are not `full`, keys past the last are hidden.
#[cube]
fn map_and_mask<R: Size>(
    tile: &mut UnitTile<R>,
    parameters: &ParameterValues,
    place: &Place<R>,
    keys: KeyTile,
    offset: i32,
    unit: Unit,
    #[comptime] maps: Maps,
) {
    let (program, schedule) = comptime![(maps.code.program.clone(), maps.code.schedule)];
    let (pushes, arrays, full) = comptime![(maps.pushes.clone(), maps.arrays.clone(), maps.full)];
    #[unroll]
    for column in 0..comptime![schedule.columns()] {
        let key = keys.first + column * comptime![schedule.unit_columns] + unit.column;
        let mut within = key;
        if comptime![!full] {
            within = min(key, keys.last);
        }
        let here = place.of_column(offset + within as i32);
        let mut dots = Sequence::<Vector<f32, R>>::new();
        #[unroll]
        for dot in 0..comptime![arrays.dots] {
            let products = &tile.tiles[dot];
            dots.push(products[column]);
        }
        #[unroll]
        for push in 0..comptime![pushes.len()] {
            let pushed = comptime![pushes[push].clone()];
            let softmax = comptime![program.accumulators[pushed.accumulator].reduction.is_softmax()];
            let mut score = apply::<R>(&dots, &here, parameters, comptime![pushed.clone()], softmax, full);
            if comptime![!full] {
                let past = comptime![hidden(softmax)];
                score = select(key <= keys.last, score, Vector::new(past));
            }
            if comptime![pushed.factor.is_some()] {
                let factor = parameters.float_of::<R>(&here, &dots, comptime![pushed.factor.clone().unwrap()]);
                let factors = &mut tile.tiles[comptime![arrays.factors[push].unwrap()]];
                factors[column] = factor;
            }
            let scores = &mut tile.tiles[comptime![arrays.weights[push]]];
            scores[column] = score;
        }
    }
}

/// Makes weights of what is pushed into `accumulator`.
#[cube]
fn weigh<E: Float, R: Size>(
    accumulator: &mut UnitAccumulator<R>,
    scores: &mut Array<Vector<f32, R>>,
    stage: &mut Stage<E, R>,
    unit: Unit,
    #[comptime] reduction: Reduction,
) {
    let columns = comptime![stage.code.schedule.columns()];
    if comptime![reduction.is_softmax()] {
        let mut maximum = accumulator.maximum;
        #[unroll]
        for column in 0..columns {
            maximum = max(maximum, scores[column]);
        }
        let maximum = over_row::<E, R>(maximum, stage, unit, true);
        let rescale = rescaling::<R>(accumulator.maximum, maximum, Exp2::Device);
        accumulator.maximum = maximum;
        accumulator.sum *= rescale;
        #[unroll]
        for at in 0..comptime![accumulator.vectors] {
            accumulator.output[at] *= rescale;
        }
        #[unroll]
        for column in 0..columns {
            scores[column] = weight::<R>(scores[column], maximum, Exp2::Device);
        }
    }
    let mut sum = accumulator.sum;
    #[unroll]
    for column in 0..columns {
        sum += scores[column];
    }
    accumulator.sum = sum;
}

/// Leaves weights, times their factors, where the product with the values finds them.
#[cube]
fn leave_weights<E: Float, R: Size>(
    weights: &Array<Vector<f32, R>>,
    factors: &Array<Vector<f32, R>>,
    stage: &mut Stage<E, R>,
    unit: Unit,
    #[comptime] has_factors: bool,
) {
    let schedule = comptime![stage.code.schedule];
    #[unroll]
    for column in 0..comptime![schedule.columns()] {
        let weight = if has_factors { weights[column] * factors[column] } else { weights[column] };
        let key = column * comptime![schedule.unit_columns] + unit.column;
        if comptime![schedule.products == Products::Units] {
            stage.put_weights(weight, key, unit);
        } else {
            let matrices = &mut stage.matrices[0];
            matrices.put_weights::<R>(weight, key, unit);
        }
    }
}

/// The greatest, or the sum, of `value` over the units of a row, in all of them.
#[cube]
fn over_row<E: Float, R: Size>(
    value: Vector<f32, R>,
    stage: &mut Stage<E, R>,
    unit: Unit,
    #[comptime] greatest: bool,
) -> Vector<f32, R> {
    let schedule = comptime![stage.code.schedule];
    let columns = comptime![schedule.unit_columns];
    let mut found = value;
    if comptime![schedule.planes == Planes::Reduce] {
        #[unroll]
        for step in 0..comptime![columns.ilog2()] {
            let other = plane_shuffle_xor(found, comptime![1u32 << step]);
            found = if greatest { max(found, other) } else { found + other };
        }
    } else if comptime![columns > 1] {
        let row = unit.row * columns;
        let partial = &mut stage.partial[0];
        partial[row + unit.column] = value;
        sync_cube();
        #[unroll]
        for step in 1..columns {
            let other = partial[row + (unit.column + step) % columns];
            found = if greatest { max(found, other) } else { found + other };
        }
        // The next reduction writes where this one reads.
        sync_cube();
    }
    found
}

/// Divides a unit's part of the accumulators by their sums, where they are, and makes its sums those of the row.
#[cube]
fn divide<E: Float, R: Size>(
    tile: &mut UnitTile<R>,
    stage: &mut Stage<E, R>,
    unit: Unit,
    #[comptime] program: Compiled,
) {
    #[unroll]
    for at in 0..comptime![program.accumulators.len()] {
        if comptime![program.accumulators[at].reduction.is_divided()] {
            let accumulator = &mut tile.accumulators[at];
            let sum = over_row::<E, R>(accumulator.sum, stage, unit, false);
            accumulator.sum = sum;
            if comptime![!program.is_undivided()] {
                let factor = inverse::<R>(sum);
                #[unroll]
                for x in 0..comptime![accumulator.vectors] {
                    accumulator.output[x] *= factor;
                }
            }
        }
    }
}

/// The numbers of a unit's queries that the program keeps.
#[cube]
fn numbers_of_rows<R: Size>(tile: &UnitTile<R>, empty: f32, #[comptime] program: Compiled) -> Sequence<Vector<f32, R>> {
    let mut numbers = Sequence::new();
    #[unroll]
    for at in 0..comptime![program.row_numbers().len()] {
        let (accumulator, number) = comptime![program.row_numbers()[at]];
        let accumulator = &tile.accumulators[accumulator];
        numbers.push(row_number::<R>(accumulator.maximum, accumulator.sum, empty, number, 1.0));
    }
    numbers
}

/// Which of a unit's rows must be computed with [care](crate::emit::careful): a bit each, the first row's the lowest.
#[cube]
fn doubtful_rows<R: Size>(
    tile: &UnitTile<R>,
    #[comptime] program: Compiled,
    #[comptime] schedule: CubeSchedule,
) -> u32 {
    let mut doubtful = Vector::<u32, R>::new(0u32);
    #[unroll]
    for at in 0..comptime![program.accumulators.len()] {
        let accumulator = &tile.accumulators[at];
        #[unroll]
        for x in 0..comptime![accumulator.vectors] {
            doubtful = select_many(is_finite::<R>(accumulator.output[x]), doubtful, Vector::new(1u32));
        }
        if comptime![program.accumulators[at].reduction.is_softmax()] {
            doubtful |= is_too_great::<R>(accumulator.maximum, accumulator.sum);
        }
    }
    let mut rows = 0u32;
    #[unroll]
    for lane in 0..comptime![schedule.rows] {
        rows += doubtful.extract(lane) * comptime![1u32 << lane];
    }
    rows
}

/// A unit's queries.
#[derive(CubeType, Clone, Copy)]
#[expand(derive(Clone, Copy))]
struct UnitRows {
    /// The first.
    first: usize,
    /// The row of the outputs at which their head begins.
    base: usize,
    /// How many queries the head has.
    queries: usize,
}

/// A unit's part of an output that is an expression of the accumulators and of what lies along its queries.
#[cube]
fn expression<E: Float, R: Size, V: Size>(
    tile: &UnitTile<R>,
    given: &KernelInputs<'_, Vector<E, V>>,
    place: &Place<R>,
    item: Item,
    #[comptime] output: usize,
    #[comptime] code: CubeCode,
) -> Array<Vector<f32, R>> {
    let (program, schedule) = comptime![(code.program.clone(), code.schedule)];
    let (dim, value) = comptime![(program.outputs[output].dim, program.outputs[output].value.clone())];
    let mut made = Array::new(comptime![outputs(dim, schedule)]);
    let width = comptime![CubeSchedule::WIDTH];
    #[unroll]
    for x in 0..comptime![CubeSchedule::vectors_of(dim).div_ceil(schedule.unit_columns)] {
        // Past the last vector, the last: nobody reads it.
        let vector =
            min(x * comptime![schedule.unit_columns] + item.unit.column, comptime![CubeSchedule::vectors_of(dim) - 1]);
        let mut loaded = Sequence::<Sequence<Vector<f32, W>>>::new();
        #[unroll]
        for load in 0..comptime![program.loads.len()] {
            let mut of_rows = Sequence::<Vector<f32, W>>::new();
            if comptime![value.mentions(&Expr::Value(program.accumulators.len() + load))] {
                let operand = &given.operands[comptime![program.loads[load].operand]];
                let base = operand.rows_of(item.batch, item.head);
                #[unroll]
                for lane in 0..comptime![schedule.rows] {
                    let row = min(item.row(schedule) + lane, given.extent.queries - 1);
                    of_rows.push(Vector::cast_from(read::<E, V>(operand, operand.row(base, row), vector, dim)));
                }
            }
            loaded.push(of_rows);
        }
        #[unroll]
        for element in 0..width {
            let at = comptime![x * width + element];
            let mut values = Sequence::<Vector<f32, R>>::new();
            #[unroll]
            for accumulator in 0..comptime![program.accumulators.len()] {
                let mut of_rows = Vector::<f32, R>::new(0.0);
                if comptime![value.mentions(&Expr::Value(accumulator))] {
                    let accumulator = &tile.accumulators[accumulator];
                    of_rows = accumulator.output[at];
                }
                values.push(of_rows);
            }
            #[unroll]
            for load in 0..comptime![program.loads.len()] {
                let mut of_rows = Vector::<f32, R>::new(0.0);
                if comptime![value.mentions(&Expr::Value(program.accumulators.len() + load))] {
                    let lanes = &loaded[load];
                    #[unroll]
                    for lane in 0..comptime![schedule.rows] {
                        of_rows.insert(lane, lanes[lane].extract(element));
                    }
                }
                values.push(of_rows);
            }
            made[at] = given.parameters.float_of::<R>(place, &values, comptime![value.clone()]);
        }
    }
    made
}

/// Writes a unit's part of an output, and with the first the numbers of its queries.
#[cube]
fn store<O: Float, R: Size, V: Size>(
    stored: &Array<Vector<f32, R>>,
    numbers: &Sequence<Vector<f32, R>>,
    results: &mut Results<Vector<O, V>>,
    rows: UnitRows,
    unit: Unit,
    #[comptime] output: usize,
    #[comptime] code: CubeCode,
) {
    let (program, schedule) = comptime![(code.program.clone(), code.schedule)];
    let width = comptime![CubeSchedule::WIDTH];
    let dim = comptime![program.outputs[output].dim];
    let vectors = comptime![CubeSchedule::vectors_of(dim)];
    let columns = comptime![schedule.unit_columns];
    let of_rows = comptime![if output == 0 { program.row_numbers().len() } else { 0 }];
    let output = &mut results.outputs[output];
    let UnitRows { first: row, base, queries } = rows;
    let lanes = V::value();
    #[unroll]
    for lane in 0..comptime![schedule.rows] {
        if row + lane < queries {
            #[unroll]
            for at in 0..comptime![vectors.div_ceil(columns)] {
                let x = at * columns + unit.column;
                if x < vectors {
                    let mut elements = Vector::<f32, W>::empty();
                    #[unroll]
                    for element in 0..width {
                        elements.insert(element, stored[at * width + element].extract(lane));
                    }
                    let elements = Vector::<O, W>::cast_from(elements);
                    if comptime![lanes == width] {
                        output.data[(base + row + lane) * vectors + x] = retag::<O, W, V>(elements);
                    } else {
                        #[unroll]
                        for element in 0..width {
                            if x * width + element < dim {
                                output.data[(base + row + lane) * dim + x * width + element] =
                                    Vector::new(elements.extract(element));
                            }
                        }
                    }
                }
            }
            #[unroll]
            for at in 0..of_rows {
                if unit.column == 0 {
                    let stored = &mut results.rows[at];
                    stored.data[base + row + lane] = numbers[at].extract(lane);
                }
            }
        }
    }
}
