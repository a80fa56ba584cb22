//! The two products of a tile in the `cube` schedule by cooperative matrices: tensor cores, WMMA, SIMD-group matrices.
//!
//! The same products as in [`cube_products`](super::cube_products), with their results left where a unit finds its own: Sᵀ = K·Qᵀ and
//! Vᵀ·Pᵀ go through shared memory in f32, since only the hardware knows which unit has which element of a matrix. Planes take the
//! small matrices of a product in turns.
//!
//! ```text
//! stage K;  Sᵀ = K·Qᵀ in memory;  each unit reads its scores
//! … weights, as in the other way, to memory in the operands' type …
//! stage V;  Vᵀ·Pᵀ in memory;  each unit adds its part to its output
//! ```

use super::arguments::Operand;
use super::cube::{Unit, UnitTile};
use super::cube_products::{Keys, W, read, vectors_of};
use crate::ir::Operands;
use crate::schedule::{CubeSchedule, Products};
use cubecl::cmma::{self, Matrix, MatrixIdent, MatrixLayout};
use cubecl::prelude::*;

/// The sizes of the matrices: their product is `m × n`, a sum over k.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Sizes {
    m: usize,
    n: usize,
    k: usize,
    /// The units of a plane, which are neighbours.
    plane: usize,
    /// The planes of a cube.
    planes: usize,
    /// From a query in memory to the next.
    query_pitch: usize,
    /// From a key, or its value, to the next.
    key_pitch: usize,
    /// From a row of products or weights, one for each query, to the next.
    row: usize,
}

impl Sizes {
    fn new(operands: Operands, schedule: CubeSchedule) -> Sizes {
        let Products::Matrices { m, n, k, plane } = schedule.products else { unreachable!("called for matrices") };
        let Operands { qk_dim, v_dim, .. } = operands;
        let query_pitch = CubeSchedule::matrix_pitch(qk_dim, k);
        let key_pitch = query_pitch.max(CubeSchedule::matrix_pitch(v_dim, m));
        let row = CubeSchedule::matrix_pitch(schedule.queries(), 1);
        Sizes { m, n, k, plane, planes: schedule.units() / plane, query_pitch, key_pitch, row }
    }
}

/// Shared memory.
#[derive(CubeType)]
pub struct MatrixStage<E: Float> {
    /// The queries, `[queries, query_pitch]`.
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
    pub fn new(#[comptime] operands: Operands, #[comptime] schedule: CubeSchedule) -> MatrixStage<E> {
        let sizes = comptime![Sizes::new(operands, schedule)];
        let products = comptime![Ord::max(schedule.keys, operands.v_dim.next_multiple_of(sizes.m)) * sizes.row];
        MatrixStage::<E> {
            query: Shared::new_aligned_slice(comptime![schedule.queries() * sizes.query_pitch], 32usize),
            key_value: Shared::new_aligned_slice(comptime![schedule.keys * sizes.key_pitch], 32usize),
            product: Shared::new_aligned_slice(products, 32usize),
            weights: Shared::new_aligned_slice(comptime![schedule.keys * sizes.row], 32usize),
        }
    }

    /// Copies the queries from row `row0` into shared memory. Rows past `last` repeat it.
    pub fn stage_queries<V: Size>(
        &mut self,
        query: &Operand<Vector<E, V>>,
        base: usize,
        row0: usize,
        last: usize,
        #[comptime] operands: Operands,
        #[comptime] schedule: CubeSchedule,
    ) {
        let sizes = comptime![Sizes::new(operands, schedule)];
        let dim = comptime![operands.qk_dim];
        let padded = comptime![dim.next_multiple_of(sizes.k)];
        stage_rows::<E, V>(
            &mut self.query,
            query,
            base,
            row0,
            last,
            dim,
            padded,
            sizes.query_pitch,
            comptime![schedule.queries()],
            schedule,
        );
        sync_cube();
    }

    /// The products of a unit's queries and keys, times `factor`.
    #[allow(clippy::too_many_arguments, reason = "a kernel's state cannot be bundled with borrowed operands")]
    pub fn dot_products<R: Size, V: Size>(
        &mut self,
        tile: &mut UnitTile<R>,
        key: &Operand<Vector<E, V>>,
        keys: Keys,
        factor: Vector<f32, R>,
        unit: Unit,
        #[comptime] operands: Operands,
        #[comptime] schedule: CubeSchedule,
    ) {
        let sizes = comptime![Sizes::new(operands, schedule)];
        let dim = comptime![operands.qk_dim];
        let padded = comptime![dim.next_multiple_of(sizes.k)];
        let rows = comptime![schedule.keys];
        let memory = &mut self.key_value;
        stage_rows::<E, V>(
            memory,
            key,
            keys.key_base,
            keys.first,
            keys.last,
            dim,
            padded,
            sizes.key_pitch,
            rows,
            schedule,
        );
        sync_cube();
        multiply::<E>(
            &self.key_value,
            comptime![Factor { pitch: sizes.key_pitch, along: true }],
            &self.query,
            comptime![Factor { pitch: sizes.query_pitch, along: true }],
            &mut self.product,
            rows,
            comptime![schedule.queries()],
            padded,
            sizes,
        );
        sync_cube();
        #[unroll]
        for column in 0..comptime![schedule.columns()] {
            let key = column * comptime![schedule.unit_columns] + unit.column;
            tile.scores[column] = self.of_unit::<R>(key, unit, comptime![sizes], schedule) * factor;
        }
    }

    /// Row `at` of the products for a unit's queries.
    fn of_unit<R: Size>(
        &self,
        at: usize,
        unit: Unit,
        #[comptime] sizes: Sizes,
        #[comptime] schedule: CubeSchedule,
    ) -> Vector<f32, R> {
        let mut found = Vector::<f32, R>::empty();
        let from = at * sizes.row + unit.row * comptime![schedule.rows];
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
        let sizes = comptime![Sizes::new(operands, schedule)];
        let to = key * sizes.row + unit.row * comptime![schedule.rows];
        #[unroll]
        for lane in 0..comptime![schedule.rows] {
            self.weights[to + lane] = E::cast_from(weights.extract(lane));
        }
    }

    /// Adds to a unit's output the values times their weights.
    pub fn accumulate<R: Size, V: Size>(
        &mut self,
        tile: &mut UnitTile<R>,
        value: &Operand<Vector<E, V>>,
        keys: Keys,
        unit: Unit,
        #[comptime] operands: Operands,
        #[comptime] schedule: CubeSchedule,
    ) {
        let sizes = comptime![Sizes::new(operands, schedule)];
        let dim = comptime![operands.v_dim];
        let padded = comptime![dim.next_multiple_of(sizes.m)];
        let rows = comptime![schedule.keys];
        let memory = &mut self.key_value;
        stage_rows::<E, V>(
            memory,
            value,
            keys.value_base,
            keys.first,
            keys.last,
            dim,
            padded,
            sizes.key_pitch,
            rows,
            schedule,
        );
        // Also for the weights, and for the scores, in whose place the products go.
        sync_cube();
        multiply::<E>(
            &self.key_value,
            comptime![Factor { pitch: sizes.key_pitch, along: false }],
            &self.weights,
            comptime![Factor { pitch: sizes.row, along: false }],
            &mut self.product,
            padded,
            comptime![schedule.queries()],
            rows,
            sizes,
        );
        sync_cube();
        let width = comptime![CubeSchedule::WIDTH];
        #[unroll]
        for x in 0..comptime![vectors_of(dim).div_ceil(schedule.unit_columns)] {
            let vector = x * comptime![schedule.unit_columns] + unit.column;
            if vector < comptime![vectors_of(dim)] {
                #[unroll]
                for element in 0..width {
                    let at = comptime![x * width + element];
                    let added = self.of_unit::<R>(vector * width + element, unit, comptime![sizes], schedule);
                    tile.output[at] += added;
                }
            }
        }
    }
}

/// How a factor of a product lies in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Factor {
    /// From a row in memory to the next.
    pitch: usize,
    /// Whether what is summed over runs along rows.
    along: bool,
}

impl Factor {
    /// The steps, in elements, from a row or column of the product to the next, and from one of what is summed over.
    fn steps(self) -> (usize, usize) {
        if self.along { (self.pitch, 1) } else { (1, self.pitch) }
    }

    fn layout(self, rows: bool) -> MatrixLayout {
        if self.along == rows { MatrixLayout::RowMajor } else { MatrixLayout::ColMajor }
    }
}

/// Writes the product of `a`, of `rows`, and `b`, of `columns`, a sum over `depth`. Planes take its matrices in turns.
#[cube]
#[allow(clippy::too_many_arguments, reason = "two factors, a product, and their sizes")]
fn multiply<E: Float>(
    a: &Shared<[E]>,
    #[comptime] a_lies: Factor,
    b: &Shared<[E]>,
    #[comptime] b_lies: Factor,
    product: &mut Shared<[f32]>,
    #[comptime] rows: usize,
    #[comptime] columns: usize,
    #[comptime] depth: usize,
    #[comptime] sizes: Sizes,
) {
    let (m, n, k) = comptime![(sizes.m, sizes.n, sizes.k)];
    let (a_step, a_deeper) = comptime![a_lies.steps()];
    let (b_step, b_deeper) = comptime![b_lies.steps()];
    let across = comptime![columns / n];
    // Not by the device's word for a plane's place and size, of which CubeCL 0.11.3 makes SPIR-V that is not valid.
    let mut at = UNIT_POS as usize / sizes.plane;
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
        let to = row * sizes.row + column;
        cmma::store(&mut product[to..], &sum, comptime![sizes.row as u32], MatrixLayout::RowMajor);
        at += sizes.planes;
    }
}

/// Copies `rows` rows from `row0` into shared memory, `padded` elements of each; rows past `last` repeat it, elements past `dim` are 0.
#[cube]
#[allow(clippy::too_many_arguments, reason = "a kernel's state cannot be bundled with borrowed operands")]
fn stage_rows<E: Float, V: Size>(
    memory: &mut Shared<[E]>,
    operand: &Operand<Vector<E, V>>,
    base: usize,
    row0: usize,
    last: usize,
    #[comptime] dim: usize,
    #[comptime] padded: usize,
    #[comptime] pitch: usize,
    #[comptime] rows: usize,
    #[comptime] schedule: CubeSchedule,
) {
    let width = comptime![CubeSchedule::WIDTH];
    let vectors = comptime![padded / CubeSchedule::WIDTH];
    let mut at = UNIT_POS as usize;
    while at < comptime![rows * vectors] {
        let row = at / vectors;
        let x = at % vectors;
        let mut elements = Vector::<E, W>::new(E::from_int(0));
        if x < comptime![vectors_of(dim)] {
            elements = read::<E, V>(operand, base + min(row0 + row, last) * operand.row, x, dim);
        }
        #[unroll]
        for element in 0..width {
            memory[row * pitch + x * width + element] = elements.extract(element);
        }
        at += comptime![schedule.units()];
    }
}
