//! The two kinds of products of a tile in the `cube` schedule: Sᵀ += K·Qᵀ and Oᵀ += Vᵀ·Pᵀ.
//!
//! Queries and weights are in shared memory with the queries of a unit side by side in a vector. Keys and values, in vectors
//! along the head dim, pass through shared memory a chunk at a time; or, with [`Planes::Share`], the units of a plane read
//! them between them, and each gets what it needs from the others' registers, which takes no shared memory and no barrier. That
//! pays where reading memory costs far more than a shuffle, as in drivers that run on a CPU.

use super::matrices::MatrixStage;
use super::unit::{CubeCode, Unit};
use super::vectors::{W, read};
use crate::emit::arguments::HeadRows;
use crate::emit::key_tiles::KeyTile;
use crate::ir::Program;
use crate::schedule::{CubeSchedule, Planes, Products};
use cubecl::prelude::*;

/// Shared memory.
#[derive(CubeType)]
pub struct Stage<E: Float, R: Size> {
    /// The queries of each load that is in a dot, as [`CubeSchedule::query_vectors`] describes. This, the next and the weights there are for
    /// products by units.
    query: Sequence<Shared<[Vector<f32, R>]>>,
    /// A chunk of the keys, or of the values, `[keys, chunk_pitch]`; where they are not staged, nothing.
    key_value: Sequence<Shared<[Vector<E, W>]>>,
    /// The weights of the tile, as [`CubeSchedule::weight_vectors`] describes.
    weights: Sequence<Shared<[Vector<f32, R>]>>,
    /// What there is for products by matrices.
    pub matrices: Sequence<MatrixStage<E>>,
    /// A vector for each unit, for reductions along a row; where they are not in memory, nothing.
    pub partial: Sequence<Shared<[Vector<f32, R>]>>,
    /// What the code is made for.
    #[cube(comptime)]
    pub code: CubeCode,
}

#[cube]
impl<E: Float, R: Size> Stage<E, R> {
    /// Room for one.
    pub fn new(#[comptime] code: CubeCode) -> Stage<E, R> {
        let (program, schedule) = comptime![(code.program.clone(), code.schedule)];
        let mut query = Sequence::new();
        let mut key_value = Sequence::new();
        let mut weights = Sequence::new();
        let mut matrices = Sequence::new();
        if comptime![schedule.products == Products::Units] {
            #[unroll]
            for load in 0..comptime![program.loads.len()] {
                if comptime![program.is_in_dots(load)] {
                    let dim = comptime![program.operands[program.loads[load].operand].dim];
                    query.push(Shared::new_slice(comptime![schedule.query_vectors(dim)]));
                }
            }
            if comptime![schedule.stages()] {
                key_value.push(Shared::new_slice(comptime![schedule.keys * schedule.chunk_pitch()]));
            }
            weights.push(Shared::new_slice(comptime![schedule.weight_vectors()]));
        } else {
            matrices.push(MatrixStage::<E>::new(comptime![program.sizes()], schedule));
        }
        let mut partial = Sequence::new();
        if comptime![schedule.reduces_in_memory()] {
            partial.push(Shared::new_slice(comptime![schedule.units()]));
        }
        Stage::<E, R> { query, key_value, weights, matrices, partial, code }
    }

    /// Copies the queries of `load` from row `row0` into shared memory, times `factor`. Rows past `last` repeat it. The units of a row copy their own
    /// queries, and see each other's after the barrier that follows the first chunk of the keys. Where keys are not staged a row is one unit, and
    /// the kernel has no barrier: Mesa's driver for CPUs would make a coroutine of it, whose variables are in memory.
    pub fn stage_queries<V: Size>(
        &mut self,
        query: HeadRows<'_, Vector<E, V>>,
        row0: usize,
        last: usize,
        unit: Unit,
        factor: Vector<f32, R>,
        #[comptime] load: usize,
    ) {
        let (program, schedule) = comptime![(self.code.program.clone(), self.code.schedule)];
        let width = comptime![CubeSchedule::WIDTH];
        let dim = comptime![program.operands[program.loads[load].operand].dim];
        let vectors = comptime![CubeSchedule::vectors_of(dim)];
        let memory = &mut self.query[comptime![slot(&program, load)]];
        let first = row0 + unit.row * comptime![schedule.rows];
        let mut x = unit.column;
        while x < vectors {
            let mut rows = Sequence::<Vector<f32, W>>::new();
            #[unroll]
            for lane in 0..comptime![schedule.rows] {
                let row = min(first + lane, last);
                rows.push(Vector::cast_from(read::<E, V>(query.operand, query.row(row), x, dim)));
            }
            #[unroll]
            for element in 0..width {
                let mut column = Vector::<f32, R>::empty();
                #[unroll]
                for lane in 0..comptime![schedule.rows] {
                    column.insert(lane, rows[lane].extract(element));
                }
                memory[(x * width + element) * comptime![schedule.pitch()] + unit.row] = column * factor;
            }
            x += comptime![schedule.unit_columns];
        }
    }

    /// Copies vectors `x0..x0 + chunk` of the tile's keys, or of their `values`, into shared memory; vectors past the dim are 0.
    fn stage_chunk<V: Size>(
        &mut self,
        rows: HeadRows<'_, Vector<E, V>>,
        keys: KeyTile,
        x0: usize,
        #[comptime] values: bool,
        #[comptime] row: RowShape,
    ) {
        let (shape, schedule) = comptime![(row, self.code.schedule)];
        let chunk = comptime![schedule.chunk / CubeSchedule::WIDTH];
        let memory = &mut self.key_value[0];
        let mut at = UNIT_POS as usize;
        while at < comptime![schedule.keys * chunk] {
            let row = at / chunk;
            let x = at % chunk;
            let mut elements = Vector::<E, W>::new(E::from_int(0));
            if x0 + x < comptime![CubeSchedule::vectors_of(shape.read)] {
                let from = if values { keys.value(row) } else { keys.key(row) };
                elements = read::<E, V>(rows.operand, rows.row(from), x0 + x, comptime![shape.dim]);
            }
            memory[row * comptime![schedule.chunk_pitch()] + x] = elements;
            at += comptime![schedule.units()];
        }
    }

    /// Adds to `scores` the products of a unit's queries of `load` and of the keys in `key`.
    pub fn product<V: Size>(
        &mut self,
        scores: &mut Array<Vector<f32, R>>,
        key: HeadRows<'_, Vector<E, V>>,
        keys: KeyTile,
        unit: Unit,
        #[comptime] load: usize,
    ) {
        let (program, schedule) = comptime![(self.code.program.clone(), self.code.schedule)];
        let columns = comptime![schedule.columns()];
        let dim = comptime![program.operands[program.loads[load].operand].dim];
        let vectors = comptime![CubeSchedule::vectors_of(dim)];
        let slot = comptime![slot(&program, load)];
        if comptime![schedule.stages()] {
            let chunk = comptime![schedule.chunk / CubeSchedule::WIDTH];
            let mut x0 = 0usize;
            while x0 < vectors {
                // What was in the stage before has been read: a barrier ends every use of it.
                self.stage_chunk::<V>(key, keys, x0, false, comptime![RowShape { dim, read: dim }]);
                sync_cube();
                for x in 0..min(chunk, vectors - x0) {
                    let queries = self.queries_at(unit, x0 + x, slot);
                    #[unroll]
                    for column in 0..columns {
                        let row = column * comptime![schedule.unit_columns] + unit.column;
                        let elements =
                            Vector::cast_from(self.key_value[0][row * comptime![schedule.chunk_pitch()] + x]);
                        multiply::<R>(scores, &queries, elements, column);
                    }
                }
                sync_cube();
                x0 += chunk;
            }
        } else {
            let size = comptime![plane_size(schedule)];
            for x in 0..vectors {
                let queries = self.queries_at(unit, x, slot);
                let mut held = Sequence::<Vector<f32, W>>::new();
                #[unroll]
                for part in 0..comptime![columns.div_ceil(size)] {
                    let row = keys.key(part * size + UNIT_POS_PLANE as usize);
                    held.push(Vector::cast_from(read::<E, V>(key.operand, key.row(row), x, dim)));
                }
                #[unroll]
                for column in 0..columns {
                    let elements = plane_shuffle(held[comptime![column / size]], comptime![(column % size) as u32]);
                    multiply::<R>(scores, &queries, elements, column);
                }
            }
        }
    }

    /// Elements `x * WIDTH..` of a unit's queries.
    fn queries_at(&mut self, unit: Unit, x: usize, #[comptime] slot: usize) -> Sequence<Vector<f32, R>> {
        let schedule = comptime![self.code.schedule];
        let width = comptime![CubeSchedule::WIDTH];
        let mut queries = Sequence::new();
        #[unroll]
        for element in 0..width {
            queries.push(self.query[slot][(x * width + element) * comptime![schedule.pitch()] + unit.row]);
        }
        queries
    }

    /// Leaves the weights of a unit's queries for the key in row `key` of the tile.
    pub fn put_weights(&mut self, weights: Vector<f32, R>, key: usize, unit: Unit) {
        let schedule = comptime![self.code.schedule];
        let memory = &mut self.weights[0];
        memory[key * comptime![schedule.pitch()] + unit.row] = weights;
    }

    /// Adds to the output the values times their weights.
    pub fn accumulate<V: Size>(
        &mut self,
        output: &mut Array<Vector<f32, R>>,
        value: HeadRows<'_, Vector<E, V>>,
        keys: KeyTile,
        unit: Unit,
        #[comptime] row: RowShape,
    ) {
        let (shape, schedule) = comptime![(row, self.code.schedule)];
        let vectors = comptime![CubeSchedule::vectors_of(shape.read)];
        let columns = comptime![schedule.unit_columns];
        let pitch = comptime![schedule.pitch()];
        if comptime![schedule.stages()] {
            let chunk = comptime![schedule.chunk / CubeSchedule::WIDTH];
            // A unit has some vectors of each chunk, and their sums are in registers, whose numbers are known here.
            #[unroll]
            for at in 0..comptime![vectors.div_ceil(chunk)] {
                self.stage_chunk::<V>(value, keys, comptime![at * chunk], true, shape);
                // Also for the weights.
                sync_cube();
                let live = comptime![Ord::min(chunk, vectors - at * chunk).div_ceil(columns)];
                for row in 0..comptime![schedule.keys] {
                    let weights = self.weights[0][row * pitch + unit.row];
                    #[unroll]
                    for x in 0..live {
                        let elements = Vector::cast_from(
                            self.key_value[0][row * comptime![schedule.chunk_pitch()] + x * columns + unit.column],
                        );
                        add::<R>(output, weights, elements, comptime![at * chunk / columns + x]);
                    }
                }
                sync_cube();
            }
        } else {
            let size = comptime![plane_size(schedule)];
            let step = comptime![schedule.keys_per_step(shape.read)];
            let mut row = 0usize;
            while row < comptime![schedule.keys] {
                let mut held = Sequence::<Vector<f32, W>>::new();
                #[unroll]
                for part in 0..comptime![(step * vectors).div_ceil(size)] {
                    let at = part * size + UNIT_POS_PLANE as usize;
                    let from = keys.value(row + at / vectors);
                    held.push(Vector::cast_from(read::<E, V>(
                        value.operand,
                        value.row(from),
                        at % vectors,
                        comptime![shape.dim],
                    )));
                }
                let mut weights = Sequence::<Vector<f32, R>>::new();
                #[unroll]
                for key in 0..step {
                    weights.push(self.weights[0][(row + key) * pitch + unit.row]);
                }
                // A sum takes all keys of the step before the next does: there are more of them than registers.
                #[unroll]
                for x in 0..vectors {
                    #[unroll]
                    for key in 0..step {
                        let at = comptime![key * vectors + x];
                        let elements = plane_shuffle(held[comptime![at / size]], comptime![(at % size) as u32]);
                        add::<R>(output, weights[key], elements, x);
                    }
                }
                row += step;
            }
        }
    }
}

/// The place of a load's queries among those in shared memory.
fn slot(program: &Program, load: usize) -> usize {
    (0..load).filter(|before| program.is_in_dots(*before)).count()
}

/// A row of an operand, as products read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RowShape {
    /// Its elements.
    pub dim: usize,
    /// How many of them are read, from the first on.
    pub read: usize,
}

/// The units of a plane that shares keys and values.
fn plane_size(schedule: CubeSchedule) -> usize {
    match schedule.planes {
        Planes::Share(size) => size,
        Planes::Unused | Planes::Reduce => 1,
    }
}

/// Adds to the scores of a unit's key number `column` the products of some elements.
#[cube]
fn multiply<R: Size>(
    scores: &mut Array<Vector<f32, R>>,
    queries: &Sequence<Vector<f32, R>>,
    key: Vector<f32, W>,
    #[comptime] column: usize,
) {
    let mut score = scores[column];
    #[unroll]
    for element in 0..comptime![CubeSchedule::WIDTH] {
        score = fma(queries[element], Vector::new(key.extract(element)), score);
    }
    scores[column] = score;
}

/// Adds to vector number `x` of a unit's output `value` times its weights.
#[cube]
fn add<R: Size>(
    output: &mut Array<Vector<f32, R>>,
    weights: Vector<f32, R>,
    value: Vector<f32, W>,
    #[comptime] x: usize,
) {
    let width = comptime![CubeSchedule::WIDTH];
    #[unroll]
    for element in 0..width {
        let at = comptime![x * width + element];
        output[at] = fma(weights, Vector::new(value.extract(element)), output[at]);
    }
}
