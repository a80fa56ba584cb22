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
use crate::emit::arguments::OperandArgument;
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
}

#[cube]
impl<E: Float> MatrixStage<E> {
    /// Room for one, with nothing in it.
    pub fn new(#[comptime] memory: MatrixMemory) -> MatrixStage<E> {
        // What CUDA's wmma wants of the addresses of matrices.
        let alignment = comptime![32usize];
        MatrixStage::<E> {
            query: Shared::new_aligned_slice(memory.query, alignment),
            key_value: Shared::new_aligned_slice(memory.key_value, alignment),
            product: Shared::new_aligned_slice(memory.product, alignment),
            weights: Shared::new_aligned_slice(memory.weights, alignment),
        }
    }

    /// Copies the queries from row `row0` into shared memory. Rows past `last` repeat it.
    pub fn stage_queries<V: Size>(
        &mut self,
        query: &OperandArgument<Vector<E, V>>,
        base: usize,
        row0: usize,
        last: usize,
        #[comptime] operands: Operands,
        #[comptime] schedule: CubeSchedule,
    ) {
        let memory = comptime![schedule.matrix_memory(&operands).unwrap()];
        let dims = comptime![Dims { dim: operands.qk_dim, padded: memory.qk_dim, pitch: memory.query_pitch }];
        let rows = comptime![schedule.queries()];
        stage_rows::<E, V>(&mut self.query, query, base, row0, Span { from: row0, to: last + 1 }, rows, dims, schedule);
        sync_cube();
    }

    /// Makes `scores` the products of a unit's queries and keys, times `factor`.
    #[allow(clippy::too_many_arguments, reason = "a kernel's state cannot be bundled with borrowed operands")]
    pub fn product<R: Size, V: Size>(
        &mut self,
        scores: &mut Array<Vector<f32, R>>,
        key: &OperandArgument<Vector<E, V>>,
        base: usize,
        keys: KeyTile,
        factor: Vector<f32, R>,
        unit: Unit,
        #[comptime] operands: Operands,
        #[comptime] schedule: CubeSchedule,
    ) {
        let memory = comptime![schedule.matrix_memory(&operands).unwrap()];
        let rows = comptime![schedule.keys];
        let dims = comptime![Dims { dim: operands.qk_dim, padded: memory.qk_dim, pitch: memory.key_pitch }];
        let all = Span { from: keys.first, to: keys.last + 1 };
        stage_rows::<E, V>(&mut self.key_value, key, base, keys.first, all, rows, dims, schedule);
        sync_cube();
        multiply::<E>(
            &self.key_value,
            comptime![MatrixFactor { pitch: memory.key_pitch, along: true }],
            &self.query,
            comptime![MatrixFactor { pitch: memory.query_pitch, along: true }],
            &mut self.product,
            rows,
            memory.qk_dim,
            memory,
            schedule,
        );
        sync_cube();
        #[unroll]
        for column in 0..comptime![schedule.columns()] {
            let key = column * comptime![schedule.unit_columns] + unit.column;
            scores[column] = self.of_unit::<R>(key, unit, memory, schedule) * factor;
        }
    }

    /// Row `at` of the products for a unit's queries.
    fn of_unit<R: Size>(
        &self,
        at: usize,
        unit: Unit,
        #[comptime] memory: MatrixMemory,
        #[comptime] schedule: CubeSchedule,
    ) -> Vector<f32, R> {
        let mut found = Vector::<f32, R>::empty();
        let from = at * memory.row + unit.row * comptime![schedule.rows];
        #[unroll]
        for lane in 0..comptime![schedule.rows] {
            found.insert(lane, self.product[from + lane]);
        }
        found
    }

    /// Leaves the weights of a unit's queries for the key in row `key` of the tile.
    pub fn put_weights<R: Size>(
        &mut self,
        weights: Vector<f32, R>,
        key: usize,
        unit: Unit,
        #[comptime] operands: Operands,
        #[comptime] schedule: CubeSchedule,
    ) {
        let memory = comptime![schedule.matrix_memory(&operands).unwrap()];
        let to = key * memory.row + unit.row * comptime![schedule.rows];
        #[unroll]
        for lane in 0..comptime![schedule.rows] {
            self.weights[to + lane] = E::cast_from(weights.extract(lane));
        }
    }

    /// Adds to a unit's output the values times their weights.
    #[allow(clippy::too_many_arguments, reason = "a kernel's state cannot be bundled with borrowed operands")]
    pub fn accumulate<R: Size, V: Size>(
        &mut self,
        output: &mut Array<Vector<f32, R>>,
        value: &OperandArgument<Vector<E, V>>,
        base: usize,
        keys: KeyTile,
        unit: Unit,
        #[comptime] operands: Operands,
        #[comptime] schedule: CubeSchedule,
    ) {
        let memory = comptime![schedule.matrix_memory(&operands).unwrap()];
        let dim = comptime![operands.v_dim];
        let rows = comptime![schedule.keys];
        let dims = comptime![Dims { dim, padded: memory.v_dim, pitch: memory.key_pitch }];
        let (memory_rows, first, seen) = (&mut self.key_value, keys.first, keys.seen);
        stage_rows::<E, V>(memory_rows, value, base, first, seen, rows, dims, schedule);
        // Also for the weights, and for the scores, in whose place the products go.
        sync_cube();
        multiply::<E>(
            &self.key_value,
            comptime![MatrixFactor { pitch: memory.key_pitch, along: false }],
            &self.weights,
            comptime![MatrixFactor { pitch: memory.row, along: false }],
            &mut self.product,
            memory.v_dim,
            rows,
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
                    let added = self.of_unit::<R>(vector * width + element, unit, memory, schedule);
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

/// Writes the product of `a`, of `rows`, and `b`, of a column for each query: a sum over `depth`. Planes take its matrices in turns.
#[cube]
#[allow(clippy::too_many_arguments, reason = "two factors, a product, and their sizes")]
fn multiply<E: Float>(
    a: &Shared<[E]>,
    #[comptime] a_lies: MatrixFactor,
    b: &Shared<[E]>,
    #[comptime] b_lies: MatrixFactor,
    product: &mut Shared<[f32]>,
    #[comptime] rows: usize,
    #[comptime] depth: usize,
    #[comptime] memory: MatrixMemory,
    #[comptime] schedule: CubeSchedule,
) {
    let (m, n, k) = comptime![(memory.m, memory.n, memory.k)];
    let (a_step, a_deeper) = comptime![a_lies.steps()];
    let (b_step, b_deeper) = comptime![b_lies.steps()];
    let across = comptime![schedule.queries() / n];
    // Not by the device's words for a plane's place and size, of which CubeCL 0.11.3 makes SPIR-V that is not valid.
    let mut at = UNIT_POS as usize / memory.plane;
    while at < comptime![rows / m * across] {
        let (row, column) = (at / across * m, at % across * n);
        let none = MatrixLayout::Undefined;
        let sum = Matrix::<f32>::from_value(MatrixIdent::Accumulator, m, n, k, none, 0.0f32);
        for step in 0..comptime![depth / k] {
            let from = row * a_step + step * comptime![k * a_deeper];
            let (layout, pitch) = comptime![(a_lies.layout(true), a_lies.pitch as u32)];
            let left = Matrix::<E>::from_slice(MatrixIdent::A, m, n, k, layout, &a[from..], pitch);
            let from = column * b_step + step * comptime![k * b_deeper];
            let (layout, pitch) = comptime![(b_lies.layout(false), b_lies.pitch as u32)];
            let right = Matrix::<E>::from_slice(MatrixIdent::B, m, n, k, layout, &b[from..], pitch);
            cmma::execute(&left, &right, &sum, &sum);
        }
        let to = row * memory.row + column;
        cmma::store(&mut product[to..], &sum, comptime![memory.row as u32], MatrixLayout::RowMajor);
        at += comptime![schedule.units() / memory.plane];
    }
}

/// The rows of an operand in shared memory, in elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Dims {
    /// What a row has.
    dim: usize,
    /// What it is made up to, with zeros.
    padded: usize,
    /// From a row to the next.
    pitch: usize,
}

/// Copies `rows` rows from `row0` into shared memory; for rows outside `within`, the nearest inside.
#[cube]
#[allow(clippy::too_many_arguments, reason = "a kernel's state cannot be bundled with borrowed operands")]
fn stage_rows<E: Float, V: Size>(
    memory: &mut Shared<[E]>,
    operand: &OperandArgument<Vector<E, V>>,
    base: usize,
    row0: usize,
    within: Span,
    #[comptime] rows: usize,
    #[comptime] dims: Dims,
    #[comptime] schedule: CubeSchedule,
) {
    let width = comptime![CubeSchedule::WIDTH];
    let vectors = comptime![dims.padded / CubeSchedule::WIDTH];
    let mut at = UNIT_POS as usize;
    while at < comptime![rows * vectors] {
        let row = at / vectors;
        let x = at % vectors;
        let mut elements = Vector::<E, W>::new(E::from_int(0));
        if x < comptime![CubeSchedule::vectors_of(dims.dim)] {
            let from = clamp(row0 + row, within.from, within.to - 1);
            elements = read::<E, V>(operand, operand.row(base, from), x, dims.dim);
        }
        #[unroll]
        for element in 0..width {
            memory[row * dims.pitch + x * width + element] = elements.extract(element);
        }
        at += comptime![schedule.units()];
    }
}
