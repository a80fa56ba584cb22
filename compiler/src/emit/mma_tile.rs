//! What a warp does with a tile of keys in the `mma` schedule: both products, and the softmax between them, in registers.

use super::arguments::{Compiled, Parameters};
use super::cube_products::Keys;
use super::expression::Place;
use super::math::exp2_native;
use super::mma_memory::{Memory, swizzle};
use super::scores::apply;
use super::softmax::{EMPTY, hidden};
use super::tensor_core::{Four, Half, load_matrices, multiply, pack};
use crate::ir::{Accumulator, KeyLoop, Operands, TileOp};
use crate::schedule::{MmaSchedule, MmaTile};
use cubecl::prelude::*;

/// Rows, columns or what is summed over of a matrix of 16.
const MATRIX: usize = 16;

/// What the code of a tile is made for.
#[derive(Clone)]
pub struct TileCode {
    /// The program.
    pub program: Compiled,
    /// Its loop.
    pub key_loop: KeyLoop,
    /// The sizes.
    pub schedule: MmaSchedule,
    /// Whether every query sees every key, and all keys exist.
    pub full: bool,
}

impl TileCode {
    fn softmax(&self) -> bool {
        matches!(self.program.accumulator, Accumulator::Softmax { .. })
    }

    fn element(&self) -> Half {
        Half::of(self.program.operands.element)
    }

    fn operands(&self) -> Operands {
        self.program.operands
    }

    /// Whether scores are what the product gives, times a factor that is the same for all.
    fn plain(&self) -> bool {
        self.full && self.softmax() && !self.key_loop.body.iter().any(|op| matches!(op, TileOp::Map(_)))
    }
}

/// What the lanes of a warp have of its rows: of each fragment, rows g and g + 8, as [`tensor_core`](super::tensor_core) says.
#[derive(CubeType)]
pub struct WarpTile<R: Size> {
    /// The scores, then the weights, `[fragments, keys / 8]`.
    scores: Sequence<RuntimeCell<Vector<f32, Four>>>,
    /// The output, `[fragments, elements of the values / 8]`.
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
        for _ in 0..comptime![schedule.fragments * schedule.memory(&operands).value.chunks] {
            output.push(RuntimeCell::new(Vector::new(0.0)));
        }
        let maximum = RuntimeCell::new(Vector::new(EMPTY));
        let sum = RuntimeCell::new(Vector::new(0.0));
        WarpTile::<R> { scores, output, maximum, sum }
    }

    /// S = Q·Kᵀ.
    pub fn dot_products<E: Float>(&self, stage: &Memory<E>, #[comptime] code: TileCode) {
        let schedule = comptime![code.schedule];
        let memory = comptime![schedule.memory(&code.operands())];
        let columns = comptime![schedule.keys / 8];
        // Queries are an A: the second of the four matrices has the lower rows. Keys are two B: the second has more of the head dim.
        let first_row = UNIT_POS as usize / MmaSchedule::WARP * comptime![schedule.fragments * MATRIX];
        let queries = addresses(stage.address, first_row, true, comptime![memory.query]);
        let keys = addresses(stage.address, 0usize.runtime(), false, comptime![memory.key]);
        #[unroll]
        for at in 0..comptime![schedule.fragments * columns] {
            self.scores[at].store(Vector::new(0.0));
        }
        #[unroll]
        for step in 0..comptime![memory.key.chunks / 2] {
            let mut left = Sequence::<Vector<u32, Four>>::new();
            #[unroll]
            for fragment in 0..comptime![schedule.fragments] {
                let (address, offset) = (
                    queries[comptime![step % patterns(memory.query)]],
                    comptime![offset(memory.query, fragment * MATRIX, step)],
                );
                left.push(load_matrices(address, offset, false));
            }
            #[unroll]
            for pair in 0..comptime![columns / 2] {
                let offset = comptime![offset(memory.key, pair * MATRIX, step)];
                let right = load_matrices(keys[comptime![step % patterns(memory.key)]], offset, false);
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
        parameters: &Parameters,
        place: &Place<R>,
        keys: Keys,
        offset: i32,
        factor: f32,
        #[comptime] code: TileCode,
    ) {
        let schedule = comptime![code.schedule];
        let columns = comptime![schedule.keys / 8];
        if comptime![!code.plain()] {
            self.map_and_mask(parameters, place, keys, offset, factor, comptime![code.clone()]);
        }
        if comptime![code.softmax()] {
            // What the exponent is of: factor · S, or S where the factor is in it.
            let factor = if comptime![code.plain()] { factor } else { 1.0f32.runtime() };
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
                if comptime![code.plain()] {
                    greatest *= factor;
                }
                maximum.insert(row, max(before.extract(row), greatest));
            }
            let rescale = exp2_native::<R>(before - maximum);
            self.maximum.store(maximum);
            self.sum.store(self.sum.read() * rescale);
            self.rescale(rescale, comptime![code.operands()], schedule);
            #[unroll]
            for fragment in 0..comptime![schedule.fragments] {
                let maximum = rows_of::<R>(maximum, fragment);
                #[unroll]
                for column in 0..columns {
                    let cell = &self.scores[comptime![fragment * columns + column]];
                    let mut exponent = cell.read() - maximum;
                    if comptime![code.plain()] {
                        exponent = fma(cell.read(), Vector::new(factor), -maximum);
                    }
                    cell.store(exp2_native::<Four>(exponent));
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
    }

    /// The scores times the factor, after maps and mask; keys past the last are hidden.
    fn map_and_mask(
        &self,
        parameters: &Parameters,
        place: &Place<R>,
        keys: Keys,
        offset: i32,
        factor: f32,
        #[comptime] code: TileCode,
    ) {
        let schedule = comptime![code.schedule];
        let columns = comptime![schedule.keys / 8];
        let first = keys.first + UNIT_POS as usize % 4 * 2;
        #[unroll]
        for column in 0..columns {
            #[unroll]
            for next in 0..2 {
                let key = first + comptime![column * 8 + next];
                let mut scores = Vector::<f32, R>::new(0.0);
                #[unroll]
                for row in 0..comptime![schedule.rows()] {
                    let four = self.scores[comptime![row / 2 * columns + column]].read();
                    scores.insert(row, four.extract(comptime![row % 2 * 2 + next]) * factor);
                }
                let mut known = key;
                if comptime![!code.full] {
                    known = min(key, keys.last);
                }
                let here = place.of_key(offset + known as i32);
                let key_loop = comptime![code.key_loop.clone()];
                let softmax = comptime![code.softmax()];
                let mut mapped = apply::<R>(scores, &here, parameters, key_loop, softmax, comptime![code.full]);
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
        let columns = comptime![schedule.memory(&operands).value.chunks];
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
    pub fn accumulate<E: Float>(&self, stage: &Memory<E>, #[comptime] code: TileCode) {
        let schedule = comptime![code.schedule];
        let memory = comptime![schedule.memory(&code.operands())];
        let keys = comptime![schedule.keys / 8];
        let columns = comptime![memory.value.chunks];
        // Values are two B that are stored by rows: the second of the four matrices has the lower rows.
        let values = addresses(stage.address, 0usize.runtime(), true, comptime![memory.value]);
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
                let right = load_matrices(values[comptime![pair % patterns(memory.value)]], offset, true);
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

/// What the four numbers of fragment `fragment` are to be computed with, of what there is for each row.
#[cube]
fn rows_of<R: Size>(rows: Vector<f32, R>, #[comptime] fragment: usize) -> Vector<f32, Four> {
    let mut four = Vector::<f32, Four>::new(rows.extract(comptime![2 * fragment]));
    four.insert(2usize, rows.extract(comptime![2 * fragment + 1]));
    four.insert(3usize, rows.extract(comptime![2 * fragment + 1]));
    four
}

/// Where a lane's rows of four 8×8 matrices are: for each pair of chunks that the [swizzle](swizzle()) tells apart, the address of its
/// chunk of a 16×16 matrix in row `first_row`. With `lower_second`, matrix 1 has the rows from 8 on and matrix 2 the columns, else the
/// other way round.
#[cube]
fn addresses(
    address: u32,
    first_row: usize,
    #[comptime] lower_second: bool,
    #[comptime] tile: MmaTile,
) -> Sequence<u32> {
    let lane = UNIT_POS as usize % MmaSchedule::WARP;
    let second = lane / 8 % 2;
    let third = lane / 16;
    let mut lower = third;
    let mut right = second;
    if lower_second {
        lower = second;
        right = third;
    }
    let row = first_row + lane % 8 + lower * 8;
    let mut found = Sequence::new();
    #[unroll]
    for pattern in 0..comptime![patterns(tile)] {
        let chunk = swizzle(row, right + comptime![2 * pattern], tile);
        let at = comptime![tile.start / MmaSchedule::WIDTH] + row * comptime![tile.chunks] + chunk;
        found.push(address + (at * 16) as u32);
    }
    found
}

/// The pairs of chunks that the swizzle tells apart.
fn patterns(tile: MmaTile) -> usize {
    (1 << tile.chunks.trailing_zeros().min(3)) / 2
}

/// The bytes from [an address](addresses()) to the 16×16 matrix in row `row`, number `matrix` of its row.
fn offset(tile: MmaTile, row: usize, matrix: usize) -> u32 {
    let chunk = 2 * (matrix - matrix % patterns(tile));
    ((row * tile.chunks + chunk) * 16) as u32
}
