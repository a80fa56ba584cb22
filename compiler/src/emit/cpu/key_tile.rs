//! A tile of keys in the `cpu` schedule: scores, their map and mask, and the push into the accumulator.
//!
//! Where every query sees every key and maps are a few operations, they are done on the scores in registers, with the maximum; else in
//! a pass of their own, a loop over the keys, which is less code than for all of a register block. [`careful_tile`](careful_tile()) does
//! it all a key at a time, for queries that are computed again, [with care](crate::emit::careful).

use super::query_tile::{QueryTile, number_place, of_rows};
use crate::emit::arguments::{KernelInputs, KeySet};
use crate::emit::careful::{CarefulRows, quarter_of_queries, quarter_scores};
use crate::emit::place::Place;
use crate::emit::scores::{TileArrays, added, apply, operations};
use crate::emit::softmax::{Exp2, raised, rescaling, weight};
use crate::expr::Expr;
use crate::ir::forward::{Added, Pushed};
use crate::ir::{DotTerm, Reduction, TileLoop};
use crate::schedule::CpuSchedule;
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
    /// Its dots.
    pub dots: Vec<Vec<DotTerm>>,
    /// What it pushes.
    pub pushes: Vec<Pushed>,
    /// What it adds to sums for elements of what is captured.
    pub adds: Vec<Added>,
    /// Where its dots, weights and factors are.
    pub arrays: TileArrays,
    /// The sizes of tiles.
    pub schedule: CpuSchedule,
    /// Whether every query sees every key: the block is then the wide one.
    pub full: bool,
}

/// Operations of a loop's maps on a score, at most, that are done in registers.
const OPERATIONS_IN_REGISTERS: usize = 6;

impl CpuTileCode {
    /// For tiles of `key_loop` whose masks are evaluated.
    pub fn new(program: Compiled, key_loop: TileLoop, schedule: CpuSchedule) -> CpuTileCode {
        let (dots, pushes, adds) = (key_loop.dots(), key_loop.pushes(), key_loop.adds());
        let arrays = TileArrays::new(dots.len(), &pushes, adds.len());
        CpuTileCode { program, key_loop, dots, pushes, adds, arrays, schedule, full: false }
    }

    /// The same, for tiles of which every query sees every key.
    pub fn with_all_visible(&self) -> CpuTileCode {
        CpuTileCode { full: true, ..self.clone() }
    }

    /// The block in which its products are made.
    pub fn block(&self) -> Block {
        if self.full { Block::wide(&self.schedule) } else { Block::narrow(&self.schedule) }
    }

    fn reduction(&self, push: usize) -> &Reduction {
        &self.program.accumulators[self.pushes[push].accumulator].reduction
    }

    fn softmax(&self, push: usize) -> bool {
        self.reduction(push).is_softmax()
    }

    /// Whether the pushed sum is that of what is pushed: of a softmax it is that of the weights, and a sum has none.
    fn mean(&self, push: usize) -> bool {
        *self.reduction(push) == Reduction::Mean
    }

    /// Whether vectors run along the head dim.
    fn along_head_dim(&self) -> bool {
        self.schedule.few.along_head_dim > 0
    }

    /// Whether maps are done where the scores are computed: of one dot, and few. A mean sums what is left of them, and there rows are repeated.
    fn in_registers(&self, push: usize) -> bool {
        let Pushed { own_dot, factor, .. } = &self.pushes[push];
        // Of numbers of rows and columns nothing is known there.
        let alone = own_dot.is_some_and(|own| {
            let is_other = |expr: &Expr| matches!(expr, Expr::Value(value) if *value != own);
            !self.pushes[push].score.any(&mut |expr| is_other(expr))
        });
        let few =
            operations(&self.pushes[push], self.full).is_some_and(|operations| operations <= OPERATIONS_IN_REGISTERS);
        few && alone && factor.is_none() && self.full && !self.mean(push) && !self.along_head_dim()
    }

    /// The push whose maps are done where the scores of a dot are computed.
    fn push_in_registers(&self, dot: usize) -> Option<usize> {
        (0..self.pushes.len()).find(|push| self.pushes[*push].own_dot == Some(dot) && self.in_registers(*push))
    }

    /// The head dim of the rows' side of a term of a dot.
    fn row_dim(&self, term: DotTerm) -> usize {
        self.program.operands[term.row].dim
    }
}

/// A set of keys, as a tile of queries reads it.
#[derive(CubeType)]
pub struct KeyRows<'a, E: CubePrimitive> {
    /// What the kernel reads.
    pub given: KernelInputs<'a, E>,
    /// Where the rows begin in each of the program's operands; 0 for those that lie along something else.
    pub bases: Sequence<usize>,
    /// Where the numbers of columns begin; 0 for those of rows.
    pub numbers: Sequence<usize>,
    /// How many keys there are.
    pub len: usize,
    /// The position of the first.
    pub offset: i32,
}

#[cube]
impl<'a, E: Float> KeyRows<'a, E> {
    /// Those that query head `head` reads in loop number `place` of `program`.
    pub fn new(
        given: KernelInputs<'a, E>,
        set: &KeySet,
        batch: usize,
        head: usize,
        #[comptime] program: Compiled,
        #[comptime] place: usize,
    ) -> KeyRows<'a, E> {
        let mut bases = Sequence::<usize>::new();
        #[unroll]
        for at in 0..comptime![program.operands.len()] {
            let of_loop = comptime![program.operands[at].axis == program.loops[place].columns];
            bases.push(if of_loop { given.operands[at].rows_of(batch, head) } else { 0usize.runtime() });
        }
        let mut numbers = Sequence::<usize>::new();
        #[unroll]
        for at in 0..comptime![program.numbers.len()] {
            let of_loop = comptime![program.numbers[at].axis == program.loops[place].columns];
            numbers.push(if of_loop { given.parameters.numbers[at].rows_of(batch, head) } else { 0usize.runtime() });
        }
        KeyRows::<'a, E> { given, bases, numbers, len: set.len, offset: set.offset }
    }

    /// Adds to `values`, the products of column `column` and the rows of `vector`, the numbers of those.
    fn add_numbers<N: Size>(
        &self,
        values: &mut Sequence<Vector<f32, N>>,
        of_rows: &Sequence<Vector<f32, N>>,
        column: usize,
        #[comptime] code: CpuTileCode,
    ) {
        #[unroll]
        for at in 0..comptime![code.program.numbers.len()] {
            if comptime![code.program.numbers[at].axis == code.program.rows] {
                values.push(of_rows[comptime![number_place(&code.program, at)]]);
            } else if comptime![code.program.numbers[at].axis == code.key_loop.columns] {
                let numbers = &self.given.parameters.numbers[at];
                values.push(Vector::new(numbers.data[numbers.row(self.numbers[at], column)]));
            } else {
                // Of other columns, which no expression of the loop is of.
                values.push(Vector::new(0.0));
            }
        }
    }
}

/// The part of a tile that is computed: a block's vectors from `vector`, and the keys `from..to` of the tile.
#[derive(CubeType, Clone, Copy)]
#[expand(derive(Clone, Copy))]
pub struct Part {
    /// The row of the tile's first key.
    pub tile: usize,
    /// The first vector.
    pub vector: usize,
    /// The first key.
    pub from: usize,
    /// The key after the last.
    pub to: usize,
}

/// The part `part` of a tile of `keys`.
#[cube]
pub fn visit_part<E: Float, N: Size>(
    tile: &mut QueryTile<N>,
    keys: &KeyRows<'_, E>,
    place: &Place<N>,
    part: Part,
    #[comptime] code: CpuTileCode,
) {
    #[unroll]
    for push in 0..comptime![code.pushes.len()] {
        let accumulator = &mut tile.accumulators[comptime![code.pushes[push].accumulator]];
        for at in 0..comptime![code.block().vectors] {
            accumulator.tile_maximum[part.vector + at] =
                raised::<N>(accumulator.maximum[part.vector + at], comptime![code.full && code.softmax(push)]);
        }
    }
    if comptime![code.along_head_dim()] {
        #[unroll]
        for dot in 0..comptime![code.dots.len()] {
            dot_products::<E, N>(tile, keys, part, dot, comptime![code.clone()]);
        }
    } else {
        let block = comptime![code.block()];
        let size = comptime![code.schedule.keys];
        let whole = comptime![size / block.rows * block.rows];
        let mut row = part.from / comptime![block.rows] * comptime![block.rows];
        while row < min(part.to, whole) {
            score_rows::<E, N>(tile, keys, place, part, row, block, comptime![code.clone()]);
            row += comptime![block.rows];
        }
        let rest = comptime![block.rest(size)];
        if comptime![rest.is_some()] {
            if row < part.to {
                let rest = comptime![rest.unwrap()];
                score_rows::<E, N>(tile, keys, place, part, whole, rest, comptime![code.clone()]);
            }
        }
    }

    for at in 0..comptime![code.block().vectors] {
        let part = Part { tile: part.tile, vector: part.vector + at, from: part.from, to: part.to };
        if comptime![(0..code.pushes.len()).any(|push| !code.in_registers(push)) || !code.adds.is_empty()] {
            map_and_mask::<E, N>(tile, keys, place, part, comptime![code.clone()]);
        }
        #[unroll]
        for push in 0..comptime![code.pushes.len()] {
            if comptime![code.softmax(push)] {
                weigh::<N>(tile, part, push, comptime![code.clone()]);
            }
        }
    }

    #[unroll]
    for push in 0..comptime![code.pushes.len()] {
        if comptime![code.along_head_dim()] {
            accumulate_rows::<E, N>(tile, keys, part, push, comptime![code.clone()]);
        } else {
            let block = comptime![code.block()];
            let dim = comptime![code.pushes[push].dim];
            let whole = comptime![dim / block.rows * block.rows];
            let mut column = 0usize;
            while column < whole {
                accumulate_columns::<E, N>(tile, keys, part, column, push, block, comptime![code.clone()]);
                column += comptime![block.rows];
            }
            let rest = comptime![block.rest(dim)];
            if comptime![rest.is_some()] {
                let rest = comptime![rest.unwrap()];
                accumulate_columns::<E, N>(tile, keys, part, whole, push, rest, comptime![code.clone()]);
            }
        }
    }
}

/// The first `part.to` keys of a tile of `keys`, for `rows` rows that are computed [with care](crate::emit::careful).
#[cube]
pub fn careful_tile<E: Float, N: Size>(
    tile: &mut QueryTile<N>,
    keys: &KeyRows<'_, E>,
    place: &Place<N>,
    part: Part,
    rows: usize,
    #[comptime] code: CpuTileCode,
) {
    let quarter = comptime![quarter_of_queries(&code.program)];
    for vector in 0..rows.div_ceil(comptime![code.schedule.lanes]) {
        let here = place.of_rows(tile.positions[vector], tile.heads[vector]);
        let numbers = tile.numbers_of(vector);
        for at in 0..part.to {
            let key = part.tile + at;
            let here = here.of_column(keys.offset + key as i32);
            let mut dots = Sequence::<Vector<f32, N>>::new();
            #[unroll]
            for dot in 0..comptime![code.dots.len()] {
                let sum = RuntimeCell::<Vector<f32, N>>::new(Vector::new(0.0));
                #[unroll]
                for term in 0..comptime![code.dots[dot].len()] {
                    let term = comptime![code.dots[dot][term]];
                    let operand = &keys.given.operands[comptime![term.column]];
                    let start = operand.row(keys.bases[comptime![term.column]], key);
                    let row_dim = comptime![code.row_dim(term)];
                    let queries = &tile.queries[comptime![code.program.load_of(term.row)]];
                    for x in 0..comptime![term.dim] {
                        let element = f32::cast_from(operand.data[operand.at(start, x)]) * quarter;
                        let query = of_rows::<N>(queries, x, vector, row_dim, code.schedule);
                        sum.store(fma(query, Vector::new(element), sum.read()));
                    }
                }
                dots.push(sum.read());
            }
            keys.add_numbers::<N>(&mut dots, &numbers, key, comptime![code.clone()]);
            #[unroll]
            for at in 0..comptime![code.pushes.len()] {
                let push = comptime![quarter_scores(&code.program, &code.pushes[at])];
                let reduction = comptime![code.reduction(at).clone()];
                let accumulator = &mut tile.accumulators[comptime![push.accumulator]];
                let rows = CarefulRows::<N>::resume(accumulator.maximum[vector], accumulator.sum[vector]);
                let (pushed, by) = comptime![(push.clone(), Exp2::Polynomial)];
                let step = rows.see(&dots, &here, keys.given.parameters, pushed, comptime![reduction.clone()], by);
                accumulator.maximum[vector] = rows.maximum.read();
                accumulator.sum[vector] = rows.sum.read();
                let operand = &keys.given.operands[comptime![push.values]];
                let start = operand.row(keys.bases[comptime![push.values]], key);
                for column in 0..comptime![push.dim] {
                    let value = Vector::<f32, N>::new(f32::cast_from(operand.data[operand.at(start, column)]));
                    let (has_factor, reduction) = comptime![(push.factor.is_some(), reduction.clone())];
                    let output = step.add(accumulator.get(column, vector), value, has_factor, reduction);
                    accumulator.put(output, column, vector);
                }
            }
        }
    }
}

/// What is pushed and added of the part's keys in its first vector, after maps and masks, where it was not computed with the dots. The maximum, or
/// for a mean the sum, comes with it.
#[cube]
fn map_and_mask<E: Float, N: Size>(
    tile: &mut QueryTile<N>,
    keys: &KeyRows<'_, E>,
    place: &Place<N>,
    part: Part,
    #[comptime] code: CpuTileCode,
) {
    let vectors = comptime![code.schedule.vectors];
    let vector = part.vector;
    let here = place.of_rows(tile.positions[vector], tile.heads[vector]);
    // Of each accumulator: several pushes may be into one.
    let mut maxima = Sequence::<RuntimeCell<Vector<f32, N>>>::new();
    let mut sums = Sequence::<RuntimeCell<Vector<f32, N>>>::new();
    #[unroll]
    for at in 0..comptime![code.program.accumulators.len()] {
        let accumulator = &tile.accumulators[at];
        maxima.push(RuntimeCell::new(accumulator.tile_maximum[vector]));
        sums.push(RuntimeCell::new(accumulator.sum[vector]));
    }
    let numbers = tile.numbers_of(vector);
    for key in part.from..part.to {
        let here = here.of_column(keys.offset + (part.tile + key) as i32);
        let mut dots = Sequence::<Vector<f32, N>>::new();
        #[unroll]
        for dot in 0..comptime![code.dots.len()] {
            let products = &tile.tiles[dot];
            dots.push(products[key * vectors + vector]);
        }
        keys.add_numbers::<N>(&mut dots, &numbers, part.tile + key, comptime![code.clone()]);
        #[unroll]
        for push in 0..comptime![code.pushes.len()] {
            if comptime![!code.in_registers(push)] {
                let pushed = comptime![code.pushes[push].clone()];
                let softmax = comptime![code.softmax(push)];
                let score = apply::<N>(
                    &dots,
                    &here,
                    keys.given.parameters,
                    comptime![pushed.clone()],
                    softmax,
                    comptime![code.full],
                );
                let mut weight = score;
                if comptime![pushed.factor.is_some()] {
                    let factor =
                        keys.given.parameters.float_of::<N>(&here, &dots, comptime![pushed.factor.clone().unwrap()]);
                    if softmax {
                        let factors = &mut tile.tiles[comptime![code.arrays.factors[push].unwrap()]];
                        factors[key * vectors + vector] = factor;
                    } else {
                        weight *= factor;
                    }
                }
                if softmax {
                    let maximum = &maxima[comptime![pushed.accumulator]];
                    maximum.store(max(maximum.read(), score));
                }
                if comptime![code.mean(push)] {
                    let sum = &sums[comptime![pushed.accumulator]];
                    sum.store(sum.read() + score);
                }
                let weights = &mut tile.tiles[comptime![code.arrays.weights[push]]];
                weights[key * vectors + vector] = weight;
            }
        }
        #[unroll]
        for add in 0..comptime![code.adds.len()] {
            let of = comptime![code.adds[add].clone()];
            let value = added::<N>(&dots, &here, keys.given.parameters, of, comptime![code.full]);
            let values = &mut tile.tiles[comptime![code.arrays.added[add]]];
            values[key * vectors + vector] = value;
        }
    }
    #[unroll]
    for push in 0..comptime![code.pushes.len()] {
        if comptime![!code.in_registers(push)] {
            let place = comptime![code.pushes[push].accumulator];
            let accumulator = &mut tile.accumulators[place];
            accumulator.tile_maximum[vector] = maxima[place].read();
            if comptime![code.mean(push)] {
                accumulator.sum[vector] = sums[place].read();
            }
        }
    }
}

/// The weights of the part's keys in its first vector, and their sum; what was accumulated is rescaled where the maximum moved.
#[cube]
fn weigh<N: Size>(tile: &mut QueryTile<N>, part: Part, #[comptime] push: usize, #[comptime] code: CpuTileCode) {
    let vectors = comptime![code.schedule.vectors];
    let vector = part.vector;
    let accumulator = &mut tile.accumulators[comptime![code.pushes[push].accumulator]];
    let before = accumulator.maximum[vector];
    let maximum = accumulator.tile_maximum[vector];
    let mut sum = accumulator.sum[vector];
    let moved = select_many(maximum.greater_than(&before), Vector::<u32, N>::new(1u32), Vector::new(0u32));
    if moved.vector_sum() != 0 {
        let rescale = rescaling::<N>(before, maximum, Exp2::Polynomial);
        sum *= rescale;
        accumulator.rescale(vector, rescale);
        accumulator.maximum[vector] = maximum;
    }
    let array = comptime![code.arrays.weights[push]];
    let factors = comptime![code.arrays.factors[push]];
    for key in part.from..part.to {
        let scores = &tile.tiles[array];
        let weight = weight::<N>(scores[key * vectors + vector], maximum, Exp2::Polynomial);
        let mut pushed = weight;
        if comptime![factors.is_some()] {
            let factors = &tile.tiles[comptime![factors.unwrap()]];
            pushed *= factors[key * vectors + vector];
        }
        let weights = &mut tile.tiles[array];
        weights[key * vectors + vector] = pushed;
        sum += weight;
    }
    accumulator.sum[vector] = sum;
}

/// The block of Sᵀ at row `row` of a tile of keys, and the maxima with it where maps are done here. Rows past the last key repeat it; nobody
/// reads them.
#[cube]
fn score_rows<E: Float, N: Size>(
    tile: &mut QueryTile<N>,
    keys: &KeyRows<'_, E>,
    place: &Place<N>,
    part: Part,
    row: usize,
    #[comptime] block: Block,
    #[comptime] code: CpuTileCode,
) {
    let vectors = comptime![code.schedule.vectors];
    let vector = part.vector;
    let mut rows = Sequence::<usize>::new();
    #[unroll]
    for r in 0..comptime![block.rows] {
        rows.push(min(part.tile + row + r, keys.len - 1));
    }
    #[unroll]
    for dot in 0..comptime![code.dots.len()] {
        let sums = product::<E, N>(
            tile,
            keys,
            &rows,
            vector,
            comptime![code.dots[dot].clone()],
            block,
            comptime![code.clone()],
        );
        let push = comptime![code.push_in_registers(dot)];
        #[unroll]
        for at in 0..comptime![block.vectors] {
            if comptime![push.is_some()] {
                let push = comptime![push.unwrap()];
                let here = place.of_rows(tile.positions[vector + at], tile.heads[vector + at]);
                let place = comptime![code.pushes[push].accumulator];
                let accumulator = &mut tile.accumulators[place];
                let mut maximum = accumulator.tile_maximum[vector + at];
                let scores = &mut tile.tiles[dot];
                #[unroll]
                for r in 0..comptime![block.rows] {
                    let here = here.of_column(keys.offset + rows[r] as i32);
                    let mut dots = Sequence::<Vector<f32, N>>::new();
                    dots.push(sums[r * comptime![block.vectors] + at].read());
                    let (pushed, softmax) = comptime![(code.pushes[push].of_own_dot(), code.softmax(push))];
                    let score = apply::<N>(&dots, &here, keys.given.parameters, pushed, softmax, comptime![code.full]);
                    maximum = max(maximum, score);
                    scores[(row + r) * vectors + vector + at] = score;
                }
                accumulator.tile_maximum[vector + at] = maximum;
            } else {
                let scores = &mut tile.tiles[dot];
                #[unroll]
                for r in 0..comptime![block.rows] {
                    scores[(row + r) * vectors + vector + at] = sums[r * comptime![block.vectors] + at].read();
                }
            }
        }
    }
}

/// The sums of the products `terms` of the block's rows of keys, `rows`, and its vectors of queries.
#[cube]
fn product<E: Float, N: Size>(
    tile: &mut QueryTile<N>,
    keys: &KeyRows<'_, E>,
    rows: &Sequence<usize>,
    vector: usize,
    #[comptime] terms: Vec<DotTerm>,
    #[comptime] block: Block,
    #[comptime] code: CpuTileCode,
) -> Sequence<RuntimeCell<Vector<f32, N>>> {
    let vectors = comptime![code.schedule.vectors];
    let mut sums = Sequence::<RuntimeCell<Vector<f32, N>>>::new();
    #[unroll]
    for _ in 0..comptime![block.rows * block.vectors] {
        sums.push(RuntimeCell::new(Vector::new(0.0)));
    }
    #[unroll]
    for term in 0..comptime![terms.len()] {
        let term = comptime![terms[term]];
        let operand = &keys.given.operands[comptime![term.column]];
        let mut starts = Sequence::<usize>::new();
        #[unroll]
        for r in 0..comptime![block.rows] {
            starts.push(operand.row(keys.bases[comptime![term.column]], rows[r]));
        }
        let along_rows = &tile.queries[comptime![code.program.load_of(term.row)]];
        for x in 0..comptime![term.dim] {
            let mut queries = Sequence::<Vector<f32, N>>::new();
            #[unroll]
            for at in 0..comptime![block.vectors] {
                queries.push(along_rows[x * vectors + vector + at]);
            }
            #[unroll]
            for r in 0..comptime![block.rows] {
                let key = Vector::<f32, N>::new(f32::cast_from(operand.data[operand.at(starts[r], x)]));
                #[unroll]
                for at in 0..comptime![block.vectors] {
                    let sum = &sums[r * comptime![block.vectors] + at];
                    sum.store(fma(key, queries[at], sum.read()));
                }
            }
        }
    }
    sums
}

/// Adds to the block of Oᵀ at `column` what a push has: the values of the part's keys times their weights.
#[cube]
fn accumulate_columns<E: Float, N: Size>(
    tile: &mut QueryTile<N>,
    keys: &KeyRows<'_, E>,
    part: Part,
    column: usize,
    #[comptime] push: usize,
    #[comptime] block: Block,
    #[comptime] code: CpuTileCode,
) {
    let vectors = comptime![code.schedule.vectors];
    let (place, values) = comptime![(code.pushes[push].accumulator, code.pushes[push].values)];
    let operand = &keys.given.operands[values];
    let weights_of = &tile.tiles[comptime![code.arrays.weights[push]]];
    let accumulator = &mut tile.accumulators[place];
    let output = &mut accumulator.output;
    let mut sums = Sequence::<RuntimeCell<Vector<f32, N>>>::new();
    #[unroll]
    for r in 0..comptime![block.rows] {
        #[unroll]
        for at in 0..comptime![block.vectors] {
            sums.push(RuntimeCell::new(output[(column + r) * vectors + part.vector + at]));
        }
    }
    for key in part.from..part.to {
        let mut weights = Sequence::<Vector<f32, N>>::new();
        #[unroll]
        for at in 0..comptime![block.vectors] {
            weights.push(weights_of[key * vectors + part.vector + at]);
        }
        let start = operand.row(keys.bases[values], part.tile + key);
        #[unroll]
        for r in 0..comptime![block.rows] {
            let element = Vector::<f32, N>::new(f32::cast_from(operand.data[operand.at(start, column + r)]));
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
            output[(column + r) * vectors + part.vector + at] = sums[r * comptime![block.vectors] + at].read();
        }
    }
}

/// A dot of the part's keys as dot products, with vectors along the head dims.
#[cube]
fn dot_products<E: Float, N: Size>(
    tile: &mut QueryTile<N>,
    keys: &KeyRows<'_, E>,
    part: Part,
    #[comptime] dot: usize,
    #[comptime] code: CpuTileCode,
) {
    let rows = comptime![code.schedule.few.along_head_dim];
    let lanes = comptime![code.schedule.lanes];
    for at in part.from..part.to {
        let mut sums = Sequence::<RuntimeCell<Vector<f32, N>>>::new();
        #[unroll]
        for _ in 0..rows {
            sums.push(RuntimeCell::new(Vector::new(0.0)));
        }
        #[unroll]
        for term in 0..comptime![code.dots[dot].len()] {
            let term = comptime![code.dots[dot][term]];
            let operand = &keys.given.operands[comptime![term.column]];
            let row_vectors = comptime![code.row_dim(term) / lanes];
            let vectors = operand.data.as_vectorized().with_vector_size::<N>();
            let start = operand.row(keys.bases[comptime![term.column]], part.tile + at) / lanes;
            let queries = &tile.queries[comptime![code.program.load_of(term.row)]];
            for x in 0..comptime![term.dim / lanes] {
                let elements = Vector::<f32, N>::cast_from(vectors[start + x]);
                #[unroll]
                for row in 0..rows {
                    let sum = &sums[row];
                    sum.store(fma(elements, queries[row * row_vectors + x], sum.read()));
                }
            }
        }
        let products = &mut tile.tiles[dot];
        let scores = products.with_vector_size_mut::<Const<1>>();
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

/// Adds to O what a push has: the values of the part's keys times their weights, with vectors along the head dim, and as many rows at once as
/// the registers hold whole.
#[cube]
fn accumulate_rows<E: Float, N: Size>(
    tile: &mut QueryTile<N>,
    keys: &KeyRows<'_, E>,
    part: Part,
    #[comptime] push: usize,
    #[comptime] code: CpuTileCode,
) {
    let lanes = comptime![code.schedule.lanes];
    let (place, values) = comptime![(code.pushes[push].accumulator, code.pushes[push].values)];
    let operand = &keys.given.operands[values];
    let row_vectors = comptime![code.pushes[push].dim / lanes];
    let along = comptime![code.schedule.few.along_head_dim];
    // A power of two, as `along` is: the rows are whole numbers of these.
    let rows = comptime![1usize << (2 * code.schedule.rows / row_vectors).clamp(1, along).ilog2()];
    let vectors = operand.data.as_vectorized().with_vector_size::<N>();
    let weights_of = &tile.tiles[comptime![code.arrays.weights[push]]];
    let accumulator = &mut tile.accumulators[place];
    let output = &mut accumulator.output;
    let mut row = 0usize;
    while row < along {
        let mut sums = Sequence::<RuntimeCell<Vector<f32, N>>>::new();
        #[unroll]
        for at in 0..comptime![rows * row_vectors] {
            sums.push(RuntimeCell::new(output[row * row_vectors + at]));
        }
        for key in part.from..part.to {
            let start = operand.row(keys.bases[values], part.tile + key) / lanes;
            let mut weights = Sequence::<Vector<f32, N>>::new();
            let scores = weights_of.with_vector_size::<Const<1>>();
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
            output[row * row_vectors + at] = sums[at].read();
        }
        row += rows;
    }
}
