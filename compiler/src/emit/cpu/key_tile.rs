//! A tile of keys in the `cpu` schedule: scores, their map and mask, and the push into the accumulator.
//!
//! Where every query sees every key and maps are a few operations, they are done on the scores in registers, with the maximum; else in
//! a pass of their own, a loop over the keys, which is less code than for all of a register block. [`careful_tile`](careful_tile()) does
//! it all a key at a time, for queries that are computed again, [with care](crate::emit::careful).

use super::query_tile::{QueryTile, of_rows};
use crate::emit::arguments::{KeyValue, OperandArgument, ParameterValues};
use crate::emit::careful::{CarefulRows, Exp2, quarter_of_queries, quarter_scores};
use crate::emit::place::Place;
use crate::emit::scores::{apply, operations};
use crate::emit::softmax::{exp2, raised};
use crate::ir::{Reduction, TileLoop};
use crate::schedule::{CpuSchedule, FewQueries};
use crate::scheduled::Compiled;
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

    /// Half of the vectors, and more rows, of a number that divides the keys: partial tiles are few, and a second block for what is
    /// left of the rows would be as much code as for full ones.
    pub fn narrow(schedule: &CpuSchedule) -> Block {
        let vectors = if schedule.vectors.is_multiple_of(2) { schedule.vectors / 2 } else { schedule.vectors };
        let most = schedule.rows * schedule.vectors / vectors;
        let rows = (1..=most).rev().find(|rows| schedule.keys.is_multiple_of(*rows));
        Block { rows: rows.unwrap_or(1), vectors }
    }

    /// The block of what `rows` leave over of `of`, if they leave something.
    fn rest(self, of: usize) -> Option<Block> {
        let rows = of % self.rows;
        (rows > 0).then_some(Block { rows, ..self })
    }
}

/// What the code of a tile is made for.
#[derive(Clone)]
pub struct CpuTileCode {
    /// The program.
    pub program: Compiled,
    /// Its loop.
    pub key_loop: TileLoop,
    /// The sizes of tiles.
    pub schedule: CpuSchedule,
    /// What is done about few queries.
    pub few: FewQueries,
    /// Whether every query sees every key: the block is then the wide one.
    pub full: bool,
}

/// Operations of a loop's maps on a score, at most, that are done in registers.
const OPERATIONS_IN_REGISTERS: usize = 6;

impl CpuTileCode {
    /// The same, for tiles of which every query sees every key.
    pub fn with_all_visible(&self) -> CpuTileCode {
        CpuTileCode { full: true, ..self.clone() }
    }

    fn block(&self) -> Block {
        if self.full { Block::wide(&self.schedule) } else { Block::narrow(&self.schedule) }
    }

    fn softmax(&self) -> bool {
        self.program.reduction().is_softmax()
    }

    fn mean(&self) -> bool {
        matches!(self.program.reduction(), Reduction::Mean)
    }

    /// Whether vectors run along the head dim.
    fn along_head_dim(&self) -> bool {
        self.few.along_head_dim > 0
    }

    /// Whether maps are done where the scores are computed. A mean sums what is left of them, and there rows are repeated.
    fn in_registers(&self) -> bool {
        let few = operations(&self.key_loop, self.full).is_some_and(|operations| operations <= OPERATIONS_IN_REGISTERS);
        few && self.full && !self.mean() && !self.along_head_dim()
    }
}

/// A tile of a pair's keys, of a head.
#[derive(CubeType, Clone, Copy)]
#[expand(derive(Clone, Copy))]
pub struct KeyRows {
    /// Where the head's keys begin.
    pub key_base: usize,
    /// Where its values do.
    pub value_base: usize,
    /// The row of the tile's first key.
    pub first: usize,
    /// How many keys it has.
    pub count: usize,
}

/// The part of a tile that is computed: a block's vectors from `vector`, and the keys `from..to` of the tile.
#[derive(CubeType, Clone, Copy)]
#[expand(derive(Clone, Copy))]
pub struct Part {
    /// The first vector.
    pub vector: usize,
    /// The first key.
    pub from: usize,
    /// The key after the last.
    pub to: usize,
}

/// The part `part` of a tile of `pair`'s keys.
#[cube]
pub fn visit_part<E: Float, N: Size>(
    tile: &mut QueryTile<N>,
    pair: &KeyValue<E>,
    place: &Place<N>,
    parameters: &ParameterValues,
    keys: KeyRows,
    part: Part,
    #[comptime] code: CpuTileCode,
) {
    if comptime![code.along_head_dim()] {
        dot_products::<E, N>(tile, &pair.key, keys, part, comptime![code.clone()]);
    } else {
        let block = comptime![code.block()];
        let size = comptime![code.schedule.keys];
        let whole = comptime![size / block.rows * block.rows];
        for at in 0..comptime![block.vectors] {
            tile.tile_maximum[part.vector + at] =
                raised::<N>(tile.maximum[part.vector + at], comptime![code.full && code.softmax()]);
        }
        let mut row = part.from / comptime![block.rows] * comptime![block.rows];
        while row < min(part.to, whole) {
            score_rows::<E, N>(tile, pair, place, parameters, keys, row, part.vector, block, comptime![code.clone()]);
            row += comptime![block.rows];
        }
        let rest = comptime![block.rest(size)];
        if comptime![rest.is_some()] {
            if row < part.to {
                let rest = comptime![rest.unwrap()];
                score_rows::<E, N>(
                    tile,
                    pair,
                    place,
                    parameters,
                    keys,
                    whole,
                    part.vector,
                    rest,
                    comptime![code.clone()],
                );
            }
        }
    }

    for at in 0..comptime![code.block().vectors] {
        let part = Part { vector: part.vector + at, from: part.from, to: part.to };
        if comptime![!code.in_registers()] {
            map_and_mask::<E, N>(tile, pair, place, parameters, keys, part, comptime![code.clone()]);
        }
        if comptime![code.softmax()] {
            weigh::<N>(tile, part, comptime![code.clone()]);
        }
    }

    if comptime![code.along_head_dim()] {
        accumulate_rows::<E, N>(tile, &pair.value, keys, part, comptime![code.clone()]);
    } else {
        let block = comptime![code.block()];
        let v_dim = comptime![code.program.sizes().v_dim];
        let whole = comptime![v_dim / block.rows * block.rows];
        let mut column = 0usize;
        while column < whole {
            let vectors = comptime![code.schedule.vectors];
            accumulate_columns::<E, N>(tile, &pair.value, keys, part, column, block, vectors);
            column += comptime![block.rows];
        }
        let rest = comptime![block.rest(v_dim)];
        if comptime![rest.is_some()] {
            let (rest, vectors) = comptime![(rest.unwrap(), code.schedule.vectors)];
            accumulate_columns::<E, N>(tile, &pair.value, keys, part, whole, rest, vectors);
        }
    }
}

/// A tile of `pair`'s keys, for `rows` rows that are computed [with care](crate::emit::careful).
#[cube]
pub fn careful_tile<E: Float, N: Size>(
    tile: &mut QueryTile<N>,
    pair: &KeyValue<E>,
    place: &Place<N>,
    parameters: &ParameterValues,
    keys: KeyRows,
    rows: usize,
    #[comptime] code: CpuTileCode,
) {
    let accumulator = comptime![code.program.reduction().clone()];
    let quarter = comptime![quarter_of_queries(&code.program)];
    for vector in 0..rows.div_ceil(comptime![code.schedule.lanes]) {
        let here = place.of_rows(tile.positions[vector], tile.heads[vector]);
        let rows = CarefulRows::<N>::resume(tile.maximum[vector], tile.sum[vector]);
        for key in 0..keys.count {
            let start = pair.key.row(keys.key_base, keys.first + key);
            let dots = RuntimeCell::<Vector<f32, N>>::new(Vector::new(0.0));
            for x in 0..comptime![code.program.sizes().qk_dim] {
                let element = f32::cast_from(pair.key.data[pair.key.at(start, x)]) * quarter;
                let qk_dim = comptime![code.program.sizes().qk_dim];
                let query = of_rows::<N>(&tile.query, x, vector, qk_dim, code.schedule, code.few);
                dots.store(fma(query, Vector::new(element), dots.read()));
            }
            let step = rows.see(
                dots.read(),
                &here.of_column(pair.offset + (keys.first + key) as i32),
                parameters,
                comptime![quarter_scores(&code.program, &code.key_loop)],
                comptime![accumulator.clone()],
                Exp2::Polynomial,
            );
            let start = pair.value.row(keys.value_base, keys.first + key);
            let v_dim = comptime![code.program.sizes().v_dim];
            for column in 0..v_dim {
                let value = Vector::<f32, N>::new(f32::cast_from(pair.value.data[pair.value.at(start, column)]));
                let output = of_rows::<N>(&tile.output, column, vector, v_dim, code.schedule, code.few);
                let output = step.add(output, value, comptime![accumulator.clone()]);
                tile.put_output_element(output, column, vector, v_dim, code.schedule, code.few);
            }
        }
        tile.maximum[vector] = rows.maximum.read();
        tile.sum[vector] = rows.sum.read();
    }
}

/// The scores of the part's keys in its first vector after maps and mask, and the maximum, or for a mean the sum, with them.
#[cube]
fn map_and_mask<E: Float, N: Size>(
    tile: &mut QueryTile<N>,
    pair: &KeyValue<E>,
    place: &Place<N>,
    parameters: &ParameterValues,
    keys: KeyRows,
    part: Part,
    #[comptime] code: CpuTileCode,
) {
    let vectors = comptime![code.schedule.vectors];
    let vector = part.vector;
    let here = place.of_rows(tile.positions[vector], tile.heads[vector]);
    let mut maximum = raised::<N>(tile.maximum[vector], comptime![code.full && code.softmax()]);
    let mut sum = tile.sum[vector];
    for key in part.from..part.to {
        let here = here.of_column(pair.offset + (keys.first + key) as i32);
        let score = tile.scores[key * vectors + vector];
        let key_loop = comptime![code.key_loop.clone()];
        let score = apply::<N>(score, &here, parameters, key_loop, comptime![code.softmax()], comptime![code.full]);
        maximum = max(maximum, score);
        if comptime![code.mean()] {
            sum += score;
        }
        tile.scores[key * vectors + vector] = score;
    }
    tile.tile_maximum[vector] = maximum;
    tile.sum[vector] = sum;
}

/// The weights of the part's keys in its first vector, and their sum; what was accumulated is rescaled where the maximum moved.
#[cube]
fn weigh<N: Size>(tile: &mut QueryTile<N>, part: Part, #[comptime] code: CpuTileCode) {
    let vectors = comptime![code.schedule.vectors];
    let vector = part.vector;
    let before = tile.maximum[vector];
    let maximum = tile.tile_maximum[vector];
    let mut sum = tile.sum[vector];
    let moved = select_many(maximum.greater_than(&before), Vector::<u32, N>::new(1u32), Vector::new(0u32));
    if moved.vector_sum() != 0 {
        let rescale = exp2::<N>(before - maximum);
        sum *= rescale;
        let v_dim = comptime![code.program.sizes().v_dim];
        tile.rescale(vector, rescale, v_dim, comptime![code.schedule], comptime![code.few]);
        tile.maximum[vector] = maximum;
    }
    for key in part.from..part.to {
        let weight = exp2::<N>(tile.scores[key * vectors + vector] - maximum);
        tile.scores[key * vectors + vector] = weight;
        sum += weight;
    }
    tile.sum[vector] = sum;
}

/// The block of Sᵀ at row `row` of a tile of keys and at vector `vector`, and the maximum with it where maps are done here. Rows past the
/// last key repeat it; nobody reads them.
#[cube]
#[allow(clippy::too_many_arguments, reason = "a kernel's state cannot be bundled with borrowed operands")]
fn score_rows<E: Float, N: Size>(
    tile: &mut QueryTile<N>,
    pair: &KeyValue<E>,
    place: &Place<N>,
    parameters: &ParameterValues,
    keys: KeyRows,
    row: usize,
    vector: usize,
    #[comptime] block: Block,
    #[comptime] code: CpuTileCode,
) {
    let vectors = comptime![code.schedule.vectors];
    let mut sums = Sequence::<RuntimeCell<Vector<f32, N>>>::new();
    #[unroll]
    for _ in 0..comptime![block.rows * block.vectors] {
        sums.push(RuntimeCell::new(Vector::new(0.0)));
    }
    let mut rows = Sequence::<usize>::new();
    let mut starts = Sequence::<usize>::new();
    #[unroll]
    for r in 0..comptime![block.rows] {
        let key = min(keys.first + row + r, pair.len - 1);
        rows.push(key);
        starts.push(pair.key.row(keys.key_base, key));
    }
    for x in 0..comptime![code.program.sizes().qk_dim] {
        let mut queries = Sequence::<Vector<f32, N>>::new();
        #[unroll]
        for at in 0..comptime![block.vectors] {
            queries.push(tile.query[x * vectors + vector + at]);
        }
        #[unroll]
        for r in 0..comptime![block.rows] {
            let key = Vector::<f32, N>::new(f32::cast_from(pair.key.data[pair.key.at(starts[r], x)]));
            #[unroll]
            for at in 0..comptime![block.vectors] {
                let sum = &sums[r * comptime![block.vectors] + at];
                sum.store(fma(key, queries[at], sum.read()));
            }
        }
    }
    #[unroll]
    for at in 0..comptime![block.vectors] {
        let here = place.of_rows(tile.positions[vector + at], tile.heads[vector + at]);
        let mut maximum = tile.tile_maximum[vector + at];
        #[unroll]
        for r in 0..comptime![block.rows] {
            let mut score = sums[r * comptime![block.vectors] + at].read();
            if comptime![code.in_registers()] {
                let here = here.of_column(pair.offset + rows[r] as i32);
                let key_loop = comptime![code.key_loop.clone()];
                let softmax = comptime![code.softmax()];
                score = apply::<N>(score, &here, parameters, key_loop, softmax, comptime![code.full]);
                maximum = max(maximum, score);
            }
            tile.scores[(row + r) * vectors + vector + at] = score;
        }
        tile.tile_maximum[vector + at] = maximum;
    }
}

/// Adds to the block of Oᵀ at `column` the values of the part's keys times their weights.
#[cube]
fn accumulate_columns<E: Float, N: Size>(
    tile: &mut QueryTile<N>,
    value: &OperandArgument<E>,
    keys: KeyRows,
    part: Part,
    column: usize,
    #[comptime] block: Block,
    #[comptime] vectors: usize,
) {
    let mut sums = Sequence::<RuntimeCell<Vector<f32, N>>>::new();
    #[unroll]
    for r in 0..comptime![block.rows] {
        #[unroll]
        for at in 0..comptime![block.vectors] {
            sums.push(RuntimeCell::new(tile.output[(column + r) * vectors + part.vector + at]));
        }
    }
    for key in part.from..part.to {
        let mut weights = Sequence::<Vector<f32, N>>::new();
        #[unroll]
        for at in 0..comptime![block.vectors] {
            weights.push(tile.scores[key * vectors + part.vector + at]);
        }
        let start = value.row(keys.value_base, keys.first + key);
        #[unroll]
        for r in 0..comptime![block.rows] {
            let element = Vector::<f32, N>::new(f32::cast_from(value.data[value.at(start, column + r)]));
            #[unroll]
            for at in 0..comptime![block.vectors] {
                let sum = &sums[r * comptime![block.vectors] + at];
                sum.store(fma(element, weights[at], sum.read()));
            }
        }
    }
    #[unroll]
    for r in 0..comptime![block.rows] {
        #[unroll]
        for at in 0..comptime![block.vectors] {
            tile.output[(column + r) * vectors + part.vector + at] = sums[r * comptime![block.vectors] + at].read();
        }
    }
}

/// The scores of the part's keys as dot products, with vectors along the head dim.
#[cube]
fn dot_products<E: Float, N: Size>(
    tile: &mut QueryTile<N>,
    key: &OperandArgument<E>,
    keys: KeyRows,
    part: Part,
    #[comptime] code: CpuTileCode,
) {
    let rows = comptime![code.few.along_head_dim];
    let lanes = comptime![code.schedule.lanes];
    let row_vectors = comptime![code.program.sizes().qk_dim / lanes];
    let vectors = key.data.as_vectorized().with_vector_size::<N>();
    for at in part.from..part.to {
        let start = key.row(keys.key_base, keys.first + at) / lanes;
        let mut sums = Sequence::<RuntimeCell<Vector<f32, N>>>::new();
        #[unroll]
        for _ in 0..rows {
            sums.push(RuntimeCell::new(Vector::new(0.0)));
        }
        for x in 0..row_vectors {
            let elements = Vector::<f32, N>::cast_from(vectors[start + x]);
            #[unroll]
            for row in 0..rows {
                let sum = &sums[row];
                sum.store(fma(elements, tile.query[row * row_vectors + x], sum.read()));
            }
        }
        let scores = tile.scores.with_vector_size_mut::<Const<1>>();
        #[unroll]
        for row in 0..rows {
            scores[at * lanes + row] = Vector::new(sum_of_lanes::<N>(sums[row].read(), 0usize, 1usize, lanes));
        }
    }
}

/// The sum of every `step`th of the `lanes` from `first`: a tree whose leaves add lanes that are half a vector apart, of which LLVM
/// makes additions of vectors, as it may not of a sum in order.
#[cube]
fn sum_of_lanes<N: Size>(
    vector: Vector<f32, N>,
    #[comptime] first: usize,
    #[comptime] step: usize,
    #[comptime] lanes: usize,
) -> f32 {
    if comptime![step == lanes] {
        vector.extract(first)
    } else {
        sum_of_lanes::<N>(vector, first, comptime![2 * step], lanes)
            + sum_of_lanes::<N>(vector, comptime![first + step], comptime![2 * step], lanes)
    }
}

/// Adds to O the values of the part's keys times their weights, with vectors along the head dim: as many rows at once as the
/// registers hold whole.
#[cube]
fn accumulate_rows<E: Float, N: Size>(
    tile: &mut QueryTile<N>,
    value: &OperandArgument<E>,
    keys: KeyRows,
    part: Part,
    #[comptime] code: CpuTileCode,
) {
    let lanes = comptime![code.schedule.lanes];
    let row_vectors = comptime![code.program.sizes().v_dim / lanes];
    let rows = comptime![(2 * code.schedule.rows / row_vectors).clamp(1, code.few.along_head_dim)];
    let vectors = value.data.as_vectorized().with_vector_size::<N>();
    let mut row = 0usize;
    while row < comptime![code.few.along_head_dim] {
        let mut sums = Sequence::<RuntimeCell<Vector<f32, N>>>::new();
        #[unroll]
        for at in 0..comptime![rows * row_vectors] {
            sums.push(RuntimeCell::new(tile.output[row * row_vectors + at]));
        }
        for key in part.from..part.to {
            let start = value.row(keys.value_base, keys.first + key) / lanes;
            let mut weights = Sequence::<Vector<f32, N>>::new();
            let scores = tile.scores.with_vector_size::<Const<1>>();
            #[unroll]
            for r in 0..rows {
                weights.push(Vector::new(scores[key * lanes + row + r].extract(0usize)));
            }
            #[unroll]
            for x in 0..row_vectors {
                let elements = Vector::<f32, N>::cast_from(vectors[start + x]);
                #[unroll]
                for r in 0..rows {
                    let sum = &sums[r * row_vectors + x];
                    sum.store(fma(elements, weights[r], sum.read()));
                }
            }
        }
        #[unroll]
        for at in 0..comptime![rows * row_vectors] {
            tile.output[row * row_vectors + at] = sums[at].read();
        }
        row += rows;
    }
}
