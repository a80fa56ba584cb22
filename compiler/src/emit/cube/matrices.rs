//! The two products of a tile in the `cube` schedule by cooperative matrices: tensor cores, WMMA, SIMD-group matrices.
//!
//! The same products as in [`products`](super::products), with their results left where a unit finds its own: Sᵀ = K·Qᵀ and
//! Vᵀ·Pᵀ go through shared memory in f32, since only the hardware knows which unit has which element of a matrix. Planes take the
//! small matrices of a product in turns.
//!
//! ```text
//! stage K;  Sᵀ = K·Qᵀ in memory;  each unit reads its scores
//! … weights, as in the other way, to memory in the operands' type …
//! stage V;  Vᵀ·Pᵀ in memory;  each unit adds its part to its output
//! ```

use super::unit::Unit;
use super::vectors::{W, read};
use crate::emit::arguments::HeadRows;
use crate::emit::key_tiles::{KeyTile, Span};
use crate::ir::forward::Operands;
use crate::schedule::{CubeSchedule, MatrixMemory};
use cubecl::cmma::{self, Matrix, MatrixIdent, MatrixLayout};
use cubecl::prelude::*;

/// Shared memory.
#[derive(CubeType)]
pub struct MatrixStage<E: Float> {
    /// The queries, `[queries, query_pitch]`; this and the rest as [`MatrixMemory`] describes.
    query: Shared<[E]>,
    /// The keys, or the values, `[keys, key_pitch]`.
    key_value: Shared<[E]>,
    /// Sᵀ, `[keys, row]`, then Vᵀ·Pᵀ, `[v_dim, row]`.
    product: Shared<[f32]>,
    /// Pᵀ, `[keys, row]`.
    weights: Shared<[E]>,
    /// The sizes of all that.
    #[cube(comptime)]
    memory: MatrixMemory,
    /// The sizes of operands.
    #[cube(comptime)]
    operands: Operands,
    /// The sizes of tiles.
    #[cube(comptime)]
    schedule: CubeSchedule,
}

#[cube]
impl<E: Float> MatrixStage<E> {
    /// Room for one, with nothing in it.
    pub fn new(#[comptime] operands: Operands, #[comptime] schedule: CubeSchedule) -> MatrixStage<E> {
        let memory = comptime![schedule.matrix_memory(&operands).unwrap()];
        // What CUDA's wmma wants of the addresses of matrices.
        let alignment = comptime![32usize];
        MatrixStage::<E> {
            query: Shared::new_aligned_slice(memory.query, alignment),
            key_value: Shared::new_aligned_slice(memory.key_value, alignment),
            product: Shared::new_aligned_slice(memory.product, alignment),
            weights: Shared::new_aligned_slice(memory.weights, alignment),
            memory,
            operands,
            schedule,
        }
    }

    /// Copies the queries from row `row0` into shared memory. Rows past `last` repeat it.
    pub fn stage_queries<V: Size>(&mut self, query: HeadRows<'_, Vector<E, V>>, row0: usize, last: usize) {
        let (memory, schedule) = comptime![(self.memory, self.schedule)];
        let (dim, rows) = comptime![(self.operands.qk_dim, schedule.queries())];
        let staged = comptime![StagedRows { rows, dim, padded: memory.qk_dim, pitch: memory.query_pitch }];
        let within = Span { from: row0, to: last + 1 };
        stage_rows::<E, V>(&mut self.query, query, row0, within, staged, schedule);
        sync_cube();
    }

    /// Makes `scores` the products of a unit's queries and keys, times `factor`.
    pub fn product<R: Size, V: Size>(
        &mut self,
        scores: &mut Array<Vector<f32, R>>,
        key: HeadRows<'_, Vector<E, V>>,
        keys: KeyTile,
        factor: Vector<f32, R>,
        unit: Unit,
    ) {
        let (memory, schedule) = comptime![(self.memory, self.schedule)];
        let (dim, rows) = comptime![(self.operands.qk_dim, schedule.keys)];
        let staged = comptime![StagedRows { rows, dim, padded: memory.qk_dim, pitch: memory.key_pitch }];
        let all = Span { from: keys.first, to: keys.last + 1 };
        stage_rows::<E, V>(&mut self.key_value, key, keys.first, all, staged, schedule);
        sync_cube();
        multiply::<E>(
            &self.key_value,
            &self.query,
            &mut self.product,
            comptime![ProductShape {
                left: MatrixFactor { pitch: memory.key_pitch, along: true },
                right: MatrixFactor { pitch: memory.query_pitch, along: true },
                rows,
                depth: memory.qk_dim,
            }],
            memory,
            schedule,
        );
        sync_cube();
        #[unroll]
        for column in 0..comptime![schedule.columns()] {
            let key = column * comptime![schedule.unit_columns] + unit.column;
            scores[column] = self.of_unit::<R>(key, unit) * factor;
        }
    }

    /// Row `at` of the products for a unit's queries.
    fn of_unit<R: Size>(&self, at: usize, unit: Unit) -> Vector<f32, R> {
        let (memory, schedule) = comptime![(self.memory, self.schedule)];
        let mut found = Vector::<f32, R>::empty();
        let from = at * memory.row + unit.row * comptime![schedule.rows];
        #[unroll]
        for lane in 0..comptime![schedule.rows] {
            found.insert(lane, self.product[from + lane]);
        }
        found
    }

    /// Leaves the weights of a unit's queries for the key in row `key` of the tile.
    pub fn put_weights<R: Size>(&mut self, weights: Vector<f32, R>, key: usize, unit: Unit) {
        let (memory, schedule) = comptime![(self.memory, self.schedule)];
        let to = key * memory.row + unit.row * comptime![schedule.rows];
        #[unroll]
        for lane in 0..comptime![schedule.rows] {
            self.weights[to + lane] = E::cast_from(weights.extract(lane));
        }
    }

    /// Adds to a unit's output the values times their weights.
    pub fn accumulate<R: Size, V: Size>(
        &mut self,
        output: &mut Array<Vector<f32, R>>,
        value: HeadRows<'_, Vector<E, V>>,
        keys: KeyTile,
        unit: Unit,
    ) {
        let (memory, schedule) = comptime![(self.memory, self.schedule)];
        let (dim, rows) = comptime![(self.operands.v_dim, schedule.keys)];
        let staged = comptime![StagedRows { rows, dim, padded: memory.v_dim, pitch: memory.key_pitch }];
        stage_rows::<E, V>(&mut self.key_value, value, keys.first, keys.seen, staged, schedule);
        // Also for the weights, and for the scores, in whose place the products go.
        sync_cube();
        multiply::<E>(
            &self.key_value,
            &self.weights,
            &mut self.product,
            comptime![ProductShape {
                left: MatrixFactor { pitch: memory.key_pitch, along: false },
                right: MatrixFactor { pitch: memory.row, along: false },
                rows: memory.v_dim,
                depth: rows,
            }],
            memory,
            schedule,
        );
        sync_cube();
        let width = comptime![CubeSchedule::WIDTH];
        #[unroll]
        for x in 0..comptime![CubeSchedule::vectors_of(dim).div_ceil(schedule.unit_columns)] {
            let vector = x * comptime![schedule.unit_columns] + unit.column;
            if vector < comptime![CubeSchedule::vectors_of(dim)] {
                #[unroll]
                for element in 0..width {
                    let at = comptime![x * width + element];
                    let added = self.of_unit::<R>(vector * width + element, unit);
                    output[at] += added;
                }
            }
        }
    }
}

/// How a factor of a product lies in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct MatrixFactor {
    /// From a row in memory to the next.
    pitch: usize,
    /// Whether what is summed over runs along rows.
    along: bool,
}

impl MatrixFactor {
    /// The steps, in elements, from a row or column of the product to the next, and from one of what is summed over.
    fn steps(self) -> (usize, usize) {
        if self.along { (self.pitch, 1) } else { (1, self.pitch) }
    }

    /// The layout in CubeCL's terms of a left factor, or of a right one.
    fn layout(self, left: bool) -> MatrixLayout {
        if self.along == left { MatrixLayout::RowMajor } else { MatrixLayout::ColMajor }
    }
}

/// A product of two factors in memory, with a column for each query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct ProductShape {
    /// The left factor.
    left: MatrixFactor,
    /// The right factor.
    right: MatrixFactor,
    /// Its rows.
    rows: usize,
    /// What it is a sum over.
    depth: usize,
}

/// Writes the product of `a` and `b`. Planes take its matrices in turns.
#[cube]
fn multiply<E: Float>(
    a: &Shared<[E]>,
    b: &Shared<[E]>,
    product: &mut Shared<[f32]>,
    #[comptime] of: ProductShape,
    #[comptime] memory: MatrixMemory,
    #[comptime] schedule: CubeSchedule,
) {
    let (m, n, k) = comptime![(memory.m, memory.n, memory.k)];
    let (a_step, a_deeper) = comptime![of.left.steps()];
    let (b_step, b_deeper) = comptime![of.right.steps()];
    let across = comptime![schedule.queries() / n];
    // Not by the device's words for a plane's place and size, of which CubeCL 0.11.3 makes SPIR-V that is not valid.
    let mut at = UNIT_POS as usize / memory.plane;
    while at < comptime![of.rows / m * across] {
        let (row, column) = (at / across * m, at % across * n);
        let none = MatrixLayout::Undefined;
        let sum = Matrix::<f32>::from_value(MatrixIdent::Accumulator, m, n, k, none, 0.0f32);
        for step in 0..comptime![of.depth / k] {
            let from = row * a_step + step * comptime![k * a_deeper];
            let (layout, pitch) = comptime![(of.left.layout(true), of.left.pitch as u32)];
            let left = Matrix::<E>::from_slice(MatrixIdent::A, m, n, k, layout, &a[from..], pitch);
            let from = column * b_step + step * comptime![k * b_deeper];
            let (layout, pitch) = comptime![(of.right.layout(false), of.right.pitch as u32)];
            let right = Matrix::<E>::from_slice(MatrixIdent::B, m, n, k, layout, &b[from..], pitch);
            cmma::execute(&left, &right, &sum, &sum);
        }
        let to = row * memory.row + column;
        cmma::store(&mut product[to..], &sum, comptime![memory.row as u32], MatrixLayout::RowMajor);
        at += comptime![schedule.units() / memory.plane];
    }
}

/// Rows of an operand in shared memory, and their sizes in elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct StagedRows {
    /// How many there are.
    rows: usize,
    /// What a row has.
    dim: usize,
    /// What it is made up to, with zeros.
    padded: usize,
    /// From a row to the next.
    pitch: usize,
}

/// Copies the rows from `row0` into shared memory; for rows outside `within`, the nearest inside.
#[cube]
fn stage_rows<E: Float, V: Size>(
    memory: &mut Shared<[E]>,
    rows: HeadRows<'_, Vector<E, V>>,
    row0: usize,
    within: Span,
    #[comptime] staged: StagedRows,
    #[comptime] schedule: CubeSchedule,
) {
    let width = comptime![CubeSchedule::WIDTH];
    let vectors = comptime![staged.padded / CubeSchedule::WIDTH];
    let mut at = UNIT_POS as usize;
    while at < comptime![staged.rows * vectors] {
        let row = at / vectors;
        let x = at % vectors;
        let mut elements = Vector::<E, W>::new(E::from_int(0));
        if x < comptime![CubeSchedule::vectors_of(staged.dim)] {
            let from = clamp(row0 + row, within.from, within.to - 1);
            elements = read::<E, V>(rows.operand, rows.row(from), x, staged.dim);
        }
        #[unroll]
        for element in 0..width {
            memory[row * staged.pitch + x * width + element] = elements.extract(element);
        }
        at += comptime![schedule.units()];
    }
}
