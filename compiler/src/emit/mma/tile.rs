//! What a warp does with a tile of keys in the `mma` schedule: both products, and the softmax between them, in registers.

use super::memory::{CHUNK, Memory, key_columns, query_columns, swizzle};
use super::rows::{first_column_of_warp, first_row_of_warp, place_in_row};
use crate::analysis::separable::Separable;
use crate::emit::arguments::ParameterValues;
use crate::emit::key_tiles::KeyTile;
use crate::emit::nvidia::instruction::Half;
use crate::emit::nvidia::tensor_core::{Four, computed_here, load_matrices, multiply, pack};
use crate::emit::place::Place;
use crate::emit::scores::apply;
use crate::emit::softmax::{Exp2, LEAST, RowStart, hidden, rescaling, weight, weight_of_product};
use crate::expr::Expr;
use crate::ir::forward::{Operands, Pushed};
use crate::ir::{Reduction, TileLoop};
use crate::schedule::{MmaColumns, MmaSchedule, MmaTile};
use crate::scheduled::Compiled;
use cubecl::prelude::*;

/// Rows, columns or what is summed over of a matrix.
const MATRIX: usize = MmaSchedule::MATRIX;

/// What the code of a tile is made for.
#[derive(Clone)]
pub struct WarpTileCode {
    /// The program.
    pub program: Compiled,
    /// What is pushed, as an expression of its dot alone.
    pub push: Pushed,
    /// The terms of its dot: the load, its columns among the queries in shared memory, and those of the keys.
    pub terms: Vec<(usize, MmaColumns, MmaColumns)>,
    /// The sizes.
    pub schedule: MmaSchedule,
    /// Whether every query sees every key, and all keys exist.
    pub full: bool,
}

impl WarpTileCode {
    /// Those of all pushes of a loop.
    pub fn of_pushes(program: &Compiled, key_loop: &TileLoop, schedule: MmaSchedule, full: bool) -> Vec<WarpTileCode> {
        let (of_queries, of_keys) = (query_columns(program, schedule), key_columns(program, key_loop, schedule));
        let mut of_keys = of_keys.into_iter();
        let terms = key_loop.dots().into_iter().map(|dot| {
            let with_columns = dot.iter().zip(of_keys.by_ref()).map(|(term, columns)| {
                let load = program.load_of(term.row);
                (load, of_queries[load].expect("what is in a dot has columns"), columns)
            });
            with_columns.collect()
        });
        let terms: Vec<Vec<_>> = terms.collect();
        let code = |push: &Pushed| WarpTileCode {
            program: program.clone(),
            push: push.of_own_dot(),
            terms: terms[push.own_dot.expect("a dot of its own")].clone(),
            schedule,
            full,
        };
        key_loop.pushes().iter().map(code).collect()
    }

    /// The first load of its dot: all have the same factor.
    pub fn load(&self) -> usize {
        self.terms[0].0
    }

    fn reduction(&self) -> &Reduction {
        &self.program.accumulators[self.push.accumulator].reduction
    }

    fn softmax(&self) -> bool {
        self.reduction().is_softmax()
    }

    fn element(&self) -> Half {
        Half::of(self.program.sizes().element)
    }

    fn operands(&self) -> Operands {
        self.program.memory_sizes()
    }

    /// Whether the output takes half of a thread's registers, so that there are none for a number of each column's.
    fn is_crowded(&self) -> bool {
        let outputs = 4 * self.schedule.fragments * self.schedule.output_chunks(&self.operands());
        outputs * self.program.accumulators.len() >= 128
    }

    /// What is done with the scores before the softmax.
    fn scores(&self) -> Scores {
        let one_head = |expr: &&Expr| !(self.schedule.pack_gqa && expr.mentions(&Expr::Head));
        match Separable::of(&self.push.score) {
            _ if !self.full || !self.softmax() => Scores::Evaluated,
            _ if self.push.score == Expr::SCORE => Scores::Plain,
            Some(separable) if separable.uniforms().iter().all(one_head) => Scores::Separable(separable),
            _ => Scores::Evaluated,
        }
    }
}

/// What the exponents of a tile's weights are, before a row's maximum is taken from them.
#[derive(Clone, PartialEq, Eq)]
enum Scores {
    /// The products, times a factor that is the same for all. It is applied with the maximum, and to no product before.
    Plain,
    /// The products, times such a factor, plus what depends on the column, and what depends on the row, which is in the row's maximum
    /// only.
    Separable(Separable),
    /// What maps and masks make of them, each by itself.
    Evaluated,
}

impl Scores {
    fn separable(&self) -> Option<&Separable> {
        match self {
            Scores::Separable(separable) => Some(separable),
            _ => None,
        }
    }
}

/// What scores are multiplied with, the same for all tiles of a loop.
#[derive(CubeType, Clone, Copy)]
#[expand(derive(Clone, Copy))]
pub struct Factors {
    /// The factor that the queries have in the program.
    pub scores: f32,
    /// The factor of a [`Separable`] as well.
    pub separable: f32,
    /// Its rate.
    pub rate: f32,
}

#[cube]
impl Factors {
    /// Those of a loop at the tile `place`, of queries whose factor is `scores`.
    pub fn new<R: Size>(
        parameters: &ParameterValues,
        place: &Place<R>,
        scores: f32,
        #[comptime] code: WarpTileCode,
    ) -> Factors {
        let mut separable = 1.0f32;
        let mut rate = 0.0f32;
        let found = comptime![code.scores().separable().cloned()];
        if comptime![found.is_some()] {
            let (factor, of_distance) = comptime![found.map(|found| (found.factor, found.rate)).unwrap()];
            separable = parameters.float::<R>(place, factor).extract(0usize) * scores;
            rate = parameters.float::<R>(place, of_distance).extract(0usize);
        }
        Factors { scores, separable, rate }
    }
}

/// What the lanes of a warp have of its rows: of each fragment, rows g and g + 8, as [`tensor_core`](crate::emit::nvidia::tensor_core) says.
#[derive(CubeType)]
pub struct WarpTile<R: Size> {
    /// The scores, then the weights, `[fragments, keys / 8]`.
    scores: Sequence<RuntimeCell<Vector<f32, Four>>>,
    /// The output's columns that the warp has, `[fragments, columns / 8]`.
    pub output: Sequence<RuntimeCell<Vector<f32, Four>>>,
    /// The running maximum of each row; the same in its four lanes.
    pub maximum: RuntimeCell<Vector<f32, R>>,
    /// The running sum of each row, over this lane's keys.
    pub sum: RuntimeCell<Vector<f32, R>>,
}

#[cube]
impl<R: Size> WarpTile<R> {
    /// Zeros, and rows that have seen no key.
    pub fn new(#[comptime] operands: Operands, #[comptime] schedule: MmaSchedule) -> WarpTile<R> {
        let mut scores = Sequence::new();
        #[unroll]
        for _ in 0..comptime![schedule.fragments * schedule.keys / 8] {
            scores.push(RuntimeCell::new(Vector::new(0.0)));
        }
        let mut output = Sequence::new();
        #[unroll]
        for _ in 0..comptime![schedule.fragments * schedule.output_chunks(&operands)] {
            output.push(RuntimeCell::new(Vector::new(0.0)));
        }
        let start = RowStart::<R>::unseen();
        let (maximum, sum) = (RuntimeCell::new(start.maximum()), RuntimeCell::new(start.sum()));
        WarpTile::<R> { scores, output, maximum, sum }
    }

    /// S = Q·Kᵀ.
    pub fn dot_products<E: Float>(&self, stage: &Memory<E>, #[comptime] code: WarpTileCode) {
        let schedule = comptime![code.schedule];
        let memory = comptime![schedule.memory(&code.operands())];
        let columns = comptime![schedule.keys / 8];
        let queries = address_of(stage.address, first_row_of_warp(schedule), true, comptime![memory.query]);
        let keys = address_of(stage.address, 0usize.runtime(), false, comptime![memory.key]);
        #[unroll]
        for at in 0..comptime![schedule.fragments * columns] {
            self.scores[at].store(Vector::new(0.0));
        }
        // In matrices, of the queries and of the keys.
        let steps = comptime![steps(&code.terms)];
        #[unroll]
        for at in 0..comptime![steps.len()] {
            let (of_queries, step) = comptime![steps[at]];
            let mut left = Sequence::<Vector<u32, Four>>::new();
            #[unroll]
            for fragment in 0..comptime![schedule.fragments] {
                let offset = comptime![offset(memory.query, fragment * MATRIX, of_queries)];
                left.push(load_matrices(of_step(queries, of_queries, memory.query), offset, false));
            }
            #[unroll]
            for pair in 0..comptime![columns / 2] {
                let offset = comptime![offset(memory.key, pair * MATRIX, step)];
                let right = load_matrices(of_step(keys, step, memory.key), offset, false);
                #[unroll]
                for upper in 0..2 {
                    #[unroll]
                    for fragment in 0..comptime![schedule.fragments] {
                        let score = &self.scores[comptime![fragment * columns + 2 * pair + upper]];
                        let (upper, element) = comptime![(upper == 1, code.element())];
                        score.store(multiply(left[fragment], right, score.read(), upper, element));
                    }
                }
            }
        }
    }

    /// Makes weights of the scores: map and mask, maxima, 2^(S − m), and the sums; what was accumulated is rescaled.
    pub fn weigh(
        &self,
        parameters: &ParameterValues,
        place: &Place<R>,
        keys: KeyTile,
        offset: i32,
        factors: &Factors,
        #[comptime] code: WarpTileCode,
    ) {
        let schedule = comptime![code.schedule];
        let columns = comptime![schedule.keys / 8];
        let factor = factors.scores;
        let scores = comptime![code.scores()];
        let plain = comptime![scores == Scores::Plain];
        let mut of_row = Vector::<f32, R>::new(0.0);
        if comptime![scores == Scores::Evaluated] {
            self.map_and_mask(parameters, place, keys, offset, factor, comptime![code.clone()]);
        } else if comptime![scores.separable().is_some()] {
            // Of the tile's first key, for all lanes that have the row: they compare what they have without it.
            let here = place.of_column(offset + keys.first as i32);
            let separable = comptime![scores.separable().unwrap().clone()];
            self.add_column(factors, comptime![separable.clone()], comptime![code.clone()]);
            let of_rows = parameters.float::<R>(&here, comptime![separable.at_a_key()]);
            #[unroll]
            for row in 0..comptime![schedule.rows()] {
                if comptime![schedule.pack_gqa] {
                    of_row.insert(row, of_rows.extract(row));
                } else {
                    // A lane's rows are eight apart.
                    let further = comptime![(8 * row as i32 * separable.query_step) as f32];
                    let mut of_this = of_rows.extract(0usize);
                    if comptime![row > 0] {
                        of_this = fma(factors.rate, further, of_this);
                    }
                    of_row.insert(row, of_this);
                }
            }
        }
        if comptime![code.softmax()] {
            let before = self.maximum.read();
            let mut maximum = before;
            #[unroll]
            for row in 0..comptime![schedule.rows()] {
                let (fragment, half) = comptime![(row / 2, row % 2)];
                let mut greatest = self.scores[comptime![fragment * columns]].read().extract(2 * half);
                #[unroll]
                for column in 0..columns {
                    let scores = self.scores[comptime![fragment * columns + column]].read();
                    greatest = max(greatest, max(scores.extract(2 * half), scores.extract(2 * half + 1)));
                }
                greatest = max(greatest, plane_shuffle_xor(greatest, 1u32));
                greatest = max(greatest, plane_shuffle_xor(greatest, 2u32));
                if plain {
                    greatest *= factor;
                }
                greatest += of_row.extract(row);
                if comptime![code.full] {
                    greatest = max(greatest, LEAST);
                }
                maximum.insert(row, max(before.extract(row), greatest));
            }
            let rescale = rescaling::<R>(before, maximum, Exp2::Nvidia);
            self.maximum.store(maximum);
            self.sum.store(self.sum.read() * rescale);
            self.rescale(rescale, comptime![code.operands()], schedule);
            #[unroll]
            for fragment in 0..comptime![schedule.fragments] {
                let maximum = rows_of::<R>(maximum - of_row, fragment);
                #[unroll]
                for column in 0..columns {
                    let cell = &self.scores[comptime![fragment * columns + column]];
                    if plain {
                        cell.store(weight_of_product::<Four>(cell.read(), factor, maximum, Exp2::Nvidia));
                    } else {
                        cell.store(weight::<Four>(cell.read(), maximum, Exp2::Nvidia));
                    }
                }
            }
        }
        let mut sum = self.sum.read();
        #[unroll]
        for row in 0..comptime![schedule.rows()] {
            let (fragment, half) = comptime![(row / 2, row % 2)];
            let mut total = sum.extract(row);
            #[unroll]
            for column in 0..columns {
                let weights = self.scores[comptime![fragment * columns + column]].read();
                total += weights.extract(2 * half) + weights.extract(2 * half + 1);
            }
            sum.insert(row, total);
        }
        self.sum.store(sum);
        if comptime![code.push.factor.is_some()] {
            self.multiply_weights(parameters, place, keys, offset, comptime![code.clone()]);
        }
    }

    /// Multiplies the weights by what they have in the output and not in their sum.
    fn multiply_weights(
        &self,
        parameters: &ParameterValues,
        place: &Place<R>,
        keys: KeyTile,
        offset: i32,
        #[comptime] code: WarpTileCode,
    ) {
        let schedule = comptime![code.schedule];
        let columns = comptime![schedule.keys / 8];
        let first = keys.first + place_in_row() * 2;
        #[unroll]
        for column in 0..columns {
            #[unroll]
            for next in 0..2 {
                let here = place.of_column(offset + (first + comptime![column * 8 + next]) as i32);
                let factor = parameters.float::<R>(&here, comptime![code.push.factor.clone().unwrap()]);
                #[unroll]
                for row in 0..comptime![schedule.rows()] {
                    let cell = &self.scores[comptime![row / 2 * columns + column]];
                    let mut four = cell.read();
                    let at = comptime![row % 2 * 2 + next];
                    four.insert(at, four.extract(at) * factor.extract(row));
                    cell.store(four);
                }
            }
        }
    }

    /// The scores times the factors, plus what depends on the column.
    fn add_column(&self, factors: &Factors, #[comptime] separable: Separable, #[comptime] code: WarpTileCode) {
        let schedule = comptime![code.schedule];
        let columns = comptime![schedule.keys / 8];
        let mut rate = factors.rate;
        if comptime![code.is_crowded()] {
            rate = f32::reinterpret(computed_here(u32::reinterpret(rate)));
        }
        let of_lane = rate * f32::cast_from(place_in_row() * 2) * comptime![separable.key_step as f32];
        #[unroll]
        for column in 0..columns {
            let of_column = fma(rate, comptime![(8 * column as i32 * separable.key_step) as f32], of_lane);
            let of_next = fma(rate, comptime![((8 * column as i32 + 1) * separable.key_step) as f32], of_lane);
            let mut added = Vector::<f32, Four>::new(of_column);
            added.insert(1usize, of_next);
            added.insert(3usize, of_next);
            #[unroll]
            for fragment in 0..comptime![schedule.fragments] {
                let cell = &self.scores[comptime![fragment * columns + column]];
                cell.store(fma(cell.read(), Vector::new(factors.separable), added));
            }
        }
    }

    /// The scores times the factor, after maps and mask; keys past the last are hidden.
    fn map_and_mask(
        &self,
        parameters: &ParameterValues,
        place: &Place<R>,
        keys: KeyTile,
        offset: i32,
        factor: f32,
        #[comptime] code: WarpTileCode,
    ) {
        let schedule = comptime![code.schedule];
        let columns = comptime![schedule.keys / 8];
        let first = keys.first + place_in_row() * 2;
        #[unroll]
        for column in 0..columns {
            #[unroll]
            for next in 0..2 {
                let key = first + comptime![column * 8 + next];
                let mut products = Vector::<f32, R>::new(0.0);
                #[unroll]
                for row in 0..comptime![schedule.rows()] {
                    let four = self.scores[comptime![row / 2 * columns + column]].read();
                    products.insert(row, four.extract(comptime![row % 2 * 2 + next]) * factor);
                }
                let here = place.of_column(offset + key as i32);
                let mut dots = Sequence::<Vector<f32, R>>::new();
                dots.push(products);
                let (push, softmax) = comptime![(code.push.clone(), code.softmax())];
                let mut mapped = apply::<R>(&dots, &here, parameters, push, softmax, comptime![code.full]);
                if comptime![!code.full] {
                    let past = comptime![hidden(code.softmax())];
                    mapped = select(key <= keys.last, mapped, Vector::new(past));
                }
                #[unroll]
                for row in 0..comptime![schedule.rows()] {
                    let cell = &self.scores[comptime![row / 2 * columns + column]];
                    let mut four = cell.read();
                    four.insert(comptime![row % 2 * 2 + next], mapped.extract(row));
                    cell.store(four);
                }
            }
        }
    }

    /// Multiplies each row of the output.
    pub fn rescale(&self, factor: Vector<f32, R>, #[comptime] operands: Operands, #[comptime] schedule: MmaSchedule) {
        let columns = comptime![schedule.output_chunks(&operands)];
        #[unroll]
        for fragment in 0..comptime![schedule.fragments] {
            let factor = rows_of::<R>(factor, fragment);
            #[unroll]
            for column in 0..columns {
                let cell = &self.output[comptime![fragment * columns + column]];
                cell.store(cell.read() * factor);
            }
        }
    }

    /// O += P·V.
    pub fn accumulate<E: Float>(&self, stage: &Memory<E>, #[comptime] code: WarpTileCode) {
        let schedule = comptime![code.schedule];
        let memory = comptime![schedule.memory(&code.operands())];
        let keys = comptime![schedule.keys / 8];
        let columns = comptime![schedule.output_chunks(&code.operands())];
        let mut values = address_of(stage.address, 0usize.runtime(), true, comptime![memory.value]);
        if comptime![schedule.split_columns] {
            // As many whole patterns of the swizzle further.
            let first = first_column_of_warp(comptime![code.operands()], schedule) / MmaSchedule::WIDTH;
            values = computed_here(values + (first * CHUNK) as u32);
        }
        #[unroll]
        for step in 0..comptime![keys / 2] {
            let mut left = Sequence::<Vector<u32, Four>>::new();
            #[unroll]
            for fragment in 0..comptime![schedule.fragments] {
                let at = comptime![fragment * keys + 2 * step];
                let element = comptime![code.element()];
                left.push(pack(self.scores[at].read(), self.scores[comptime![at + 1]].read(), element));
            }
            #[unroll]
            for pair in 0..comptime![columns / 2] {
                let offset = comptime![offset(memory.value, step * MATRIX, pair)];
                let right = load_matrices(of_step(values, pair, memory.value), offset, true);
                #[unroll]
                for upper in 0..2 {
                    #[unroll]
                    for fragment in 0..comptime![schedule.fragments] {
                        let sum = &self.output[comptime![fragment * columns + 2 * pair + upper]];
                        let (upper, element) = comptime![(upper == 1, code.element())];
                        sum.store(multiply(left[fragment], right, sum.read(), upper, element));
                    }
                }
            }
        }
    }
}

/// The pairs of matrices that a dot multiplies, by their numbers in rows of queries and of keys.
fn steps(terms: &[(usize, MmaColumns, MmaColumns)]) -> Vec<(usize, usize)> {
    let of_term = |(_, queries, keys): &(usize, MmaColumns, MmaColumns)| {
        let (queries, keys, count) = (queries.first / 2, keys.first / 2, keys.chunks / 2);
        (0..count).map(move |step| (queries + step, keys + step))
    };
    terms.iter().flat_map(of_term).collect()
}

/// What the four numbers of fragment `fragment` are to be computed with, of what there is for each row.
#[cube]
fn rows_of<R: Size>(rows: Vector<f32, R>, #[comptime] fragment: usize) -> Vector<f32, Four> {
    let mut four = Vector::<f32, Four>::new(rows.extract(comptime![2 * fragment]));
    four.insert(2usize, rows.extract(comptime![2 * fragment + 1]));
    four.insert(3usize, rows.extract(comptime![2 * fragment + 1]));
    four
}

/// Where a lane's row of the four 8×8 matrices that make a 16×16 one is: the address of its chunk of the first matrix in row `first_row`, if the
/// tile were the first.
///
/// The second matrix has the lower rows of the left half if `down`, the upper rows of the right half if not. An A, as queries are, and two B
/// that are stored by rows, as values are, go down; two B that are stored by columns, as keys are, do not: the instruction wants the two
/// matrices of a B in neighbouring registers.
#[cube]
fn address_of(address: u32, first_row: usize, #[comptime] down: bool, #[comptime] tile: MmaTile) -> u32 {
    let lane = UNIT_POS as usize % MmaSchedule::WARP;
    let mut row = first_row + lane % MATRIX;
    let mut right = lane / MATRIX;
    if comptime![!down] {
        row = first_row + lane % 8 + lane / 16 * 8;
        right = lane / 8 % 2;
    }
    // Computed once, and not for each step: registers are scarcer than the operation that makes one of the other.
    computed_here(address + ((row * comptime![tile.chunks] + swizzle(row, right, tile)) * CHUNK) as u32)
}

/// From [an address](address_of()) that of the matrix number `step` of its row, less [`offset`]. The [swizzle](swizzle()) changes only bits of
/// the chunk's number, and [shared memory](super::memory) begins where they are 0: what it does to a later chunk is the same.
#[cube]
fn of_step(address: u32, #[comptime] step: usize, #[comptime] tile: MmaTile) -> u32 {
    let pattern = comptime![step % patterns(tile)];
    if comptime![pattern == 0] { address } else { address ^ comptime![(2 * CHUNK * pattern) as u32] }
}

/// The pairs of chunks that the swizzle tells apart.
fn patterns(tile: MmaTile) -> usize {
    (1 << tile.chunks.trailing_zeros().min(3)) / 2
}

/// The bytes from [an address](of_step()) to the 16×16 matrix in row `row`, number `matrix` of its row.
fn offset(tile: MmaTile, row: usize, matrix: usize) -> u32 {
    let chunk = 2 * (matrix - matrix % patterns(tile));
    (2 * tile.start + (row * tile.chunks + chunk) * CHUNK) as u32
}
