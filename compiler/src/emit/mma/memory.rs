//! The shared memory of the `mma` schedule: queries, keys and values as they lie, swizzled, and the copies into it.
//!
//! A row is a whole number of chunks of 16 bytes. Which chunk of its row is where depends on the row: eight rows' chunks of the same
//! number, which one 8×8 matrix is, lie in eight different places of 16 bytes modulo 128, so that no two meet in a bank; and so do
//! eight chunks that follow each other, which is how they are written. Nothing is padded.

use super::rows::CubeRows;
use crate::emit::arguments::OperandArgument;
use crate::emit::key_tiles::Span;
use crate::emit::nvidia::tensor_core::{copy_async, shared_address};
use crate::emit::softmax::is_finite;
use crate::ir::forward::Operands;
use crate::ir::{Program, TileLoop};
use crate::schedule::{MmaColumns, MmaSchedule, MmaTile};
use cubecl::prelude::*;

/// The elements of a chunk.
const WIDTH: usize = MmaSchedule::WIDTH;
/// The bytes of a chunk.
pub const CHUNK: usize = 16;

/// Shared memory, in one piece.
#[derive(CubeType)]
pub struct Memory<E: Float> {
    /// The elements: queries, and at the end the output; keys; values.
    elements: Shared<[E]>,
    /// The address of the first.
    pub address: u32,
}

#[cube]
impl<E: Float> Memory<E> {
    /// With nothing in it.
    pub fn new(#[comptime] operands: Operands, #[comptime] schedule: MmaSchedule) -> Memory<E> {
        let elements = Shared::new_aligned_slice(comptime![schedule.memory(&operands).elements()], 128usize);
        let address = shared_address::<E>(&elements);
        Memory::<E> { elements, address }
    }

    /// Begins to copy the queries of `rows`, whose head begins at `base`, into `columns`. Rows past the last are zeros.
    pub fn copy_queries<V: Size>(
        &mut self,
        query: &OperandArgument<Vector<E, V>>,
        base: usize,
        rows: CubeRows,
        queries: usize,
        #[comptime] columns: MmaColumns,
        #[comptime] schedule: MmaSchedule,
    ) {
        let lane = Lane::new(columns);
        #[unroll]
        for pass in 0..comptime![columns.passes(schedule.units())] {
            let pass = comptime![Pass::new(pass, columns, schedule)];
            let row = rows.first + lane.row + comptime![pass.first_row()];
            let last = min(row, rows.total - 1);
            let mut start = query.row(base, last);
            if comptime![schedule.pack_gqa] {
                start = query.row(query.head(base, last / queries), last % queries);
            }
            self.copy_row::<V>(query, start, row < rows.total, lane, pass, columns);
        }
    }

    /// Begins to copy the keys from row `first` of the head that begins at `base` into `columns`. Rows from `count` on are zeros.
    pub fn copy_keys<V: Size>(
        &mut self,
        key: &OperandArgument<Vector<E, V>>,
        base: usize,
        first: usize,
        count: usize,
        #[comptime] columns: MmaColumns,
        #[comptime] schedule: MmaSchedule,
    ) {
        let rows = ReadRows { first, within: Span { from: 0usize.runtime(), to: count }, all: false };
        self.copy_tile::<V>(key, base, rows, columns, schedule);
    }

    /// Begins to copy the values of the head that begins at `base`. Those that are not read, as no query sees them, are zeros.
    pub fn copy_values<V: Size>(
        &mut self,
        value: &OperandArgument<Vector<E, V>>,
        base: usize,
        rows: ReadRows,
        #[comptime] operands: Operands,
        #[comptime] schedule: MmaSchedule,
    ) {
        let columns = comptime![schedule.memory(&operands).value.columns()];
        self.copy_tile::<V>(value, base, rows, columns, schedule);
    }

    fn copy_tile<V: Size>(
        &mut self,
        operand: &OperandArgument<Vector<E, V>>,
        base: usize,
        rows: ReadRows,
        #[comptime] columns: MmaColumns,
        #[comptime] schedule: MmaSchedule,
    ) {
        let lane = Lane::new(columns);
        #[unroll]
        for pass in 0..comptime![columns.passes(schedule.units())] {
            let pass = comptime![Pass::new(pass, columns, schedule)];
            let row = rows.first + lane.row + comptime![pass.first_row()];
            let mut from = row;
            let mut exists = true.runtime();
            if comptime![!rows.all] {
                from = min(row, rows.within.to - 1);
                exists = row >= rows.within.from && row < rows.within.to;
            }
            self.copy_row::<V>(operand, operand.row(base, from), exists, lane, pass, columns);
        }
    }

    /// Begins to copy a lane's chunks of the row that begins at `start`; zeros, where it does not `exist`.
    fn copy_row<V: Size>(
        &mut self,
        operand: &OperandArgument<Vector<E, V>>,
        start: usize,
        exists: bool,
        lane: Lane,
        #[comptime] pass: Pass,
        #[comptime] columns: MmaColumns,
    ) {
        let mut inside = true;
        if comptime![pass.first_row() + pass.rows > columns.tile.rows] {
            inside = lane.row + comptime![pass.first_row()] < comptime![columns.tile.rows];
        }
        if inside {
            #[unroll]
            for part in 0..comptime![columns.chunks / columns.lanes_per_row()] {
                let chunk = lane.chunk + comptime![part * columns.lanes_per_row()];
                let part = comptime![RowPart { pass, number: part }];
                let (at, offset) = (lane.place(part, columns), comptime![part.offset(columns)]);
                let width = V::value();
                if comptime![width == WIDTH] {
                    let mut bytes = select(exists, 16u32, 0u32);
                    let mut from = start + chunk;
                    if comptime![columns.chunks * WIDTH != columns.dim] {
                        let last = comptime![columns.dim / WIDTH - 1];
                        bytes = select(chunk <= last, bytes, 0u32);
                        from = start + min(chunk, last);
                    }
                    copy_async::<Vector<E, V>>(&operand.data[from..from + 1], self.address + at, offset, bytes);
                } else {
                    let to = (at as usize + comptime![offset as usize]) / comptime![CHUNK / WIDTH];
                    #[unroll]
                    for element in 0..comptime![WIDTH] {
                        let x = chunk * WIDTH + element;
                        let mut copied = E::from_int(0);
                        if exists && x < comptime![columns.dim] {
                            copied = operand.data[operand.at(start, x)].extract(0usize);
                        }
                        self.elements[to + element] = copied;
                    }
                }
            }
        }
    }

    /// Changes the sign of the queries in `columns`, each by one unit.
    pub fn negate_queries(&mut self, #[comptime] columns: MmaColumns, #[comptime] schedule: MmaSchedule) {
        let lane = Lane::new(columns);
        #[unroll]
        for pass in 0..comptime![columns.passes(schedule.units())] {
            let pass = comptime![Pass::new(pass, columns, schedule)];
            if lane.row + comptime![pass.first_row()] < comptime![columns.tile.rows] {
                #[unroll]
                for part in 0..comptime![columns.chunks / columns.lanes_per_row()] {
                    let part = comptime![RowPart { pass, number: part }];
                    let (at, offset) = (lane.place(part, columns), comptime![part.offset(columns)]);
                    let to = (at as usize + comptime![offset as usize]) / comptime![CHUNK / WIDTH];
                    for element in 0..comptime![WIDTH] {
                        self.elements[to + element] = -self.elements[to + element];
                    }
                }
            }
        }
    }

    /// Puts two neighbouring elements of the output's row `row` where the queries were.
    pub fn put_output(
        &mut self,
        row: usize,
        #[comptime] chunk: usize,
        within: usize,
        first: f32,
        second: f32,
        #[comptime] tile: MmaTile,
    ) {
        let at = (row * comptime![tile.chunks] + swizzle(row, chunk, tile)) * WIDTH + within;
        self.elements[at] = E::cast_from(first);
        self.elements[at + 1] = E::cast_from(second);
    }

    /// Writes the output's rows from `rows.first` on, which `base` is the first of.
    pub fn store_output<V: Size>(
        &self,
        output: &mut [Vector<E, V>],
        base: usize,
        rows: CubeRows,
        #[comptime] tile: MmaTile,
        #[comptime] schedule: MmaSchedule,
    ) {
        let columns = comptime![tile.columns()];
        let lane = Lane::new(columns);
        let width = V::value();
        let vectors = self.elements.as_vectorized().with_vector_size::<V>();
        #[unroll]
        for pass in 0..comptime![columns.passes(schedule.units())] {
            let in_tile = lane.row + comptime![Pass::new(pass, columns, schedule).first_row()];
            let row = rows.first + in_tile;
            if row < rows.total && in_tile < comptime![tile.rows] {
                #[unroll]
                for part in 0..comptime![columns.chunks / columns.lanes_per_row()] {
                    let chunk = lane.chunk + comptime![part * columns.lanes_per_row()];
                    let from = in_tile * comptime![tile.chunks] + swizzle(in_tile, chunk, tile);
                    if comptime![width == WIDTH] {
                        if comptime![tile.chunks * WIDTH == tile.dim] || chunk < comptime![tile.dim / WIDTH] {
                            output[(base + row) * comptime![tile.dim / WIDTH] + chunk] = vectors[from];
                        }
                    } else {
                        #[unroll]
                        for element in 0..comptime![WIDTH] {
                            let x = chunk * WIDTH + element;
                            if x < comptime![tile.dim] {
                                output[(base + row) * comptime![tile.dim] + x] =
                                    Vector::new(self.elements[from * WIDTH + element]);
                            }
                        }
                    }
                }
            }
        }
    }
}

#[cube]
impl<E: Float> Memory<E> {
    /// Whether an element of chunk `chunk` of the output's row `row` is not finite.
    pub fn is_doubtful(&self, row: usize, chunk: usize, #[comptime] tile: MmaTile) -> bool {
        let vectors = self.elements.as_vectorized().with_vector_size::<Const<WIDTH>>();
        let elements = vectors[row * comptime![tile.chunks] + swizzle(row, chunk, tile)];
        let finite = is_finite::<Const<WIDTH>>(Vector::cast_from(elements));
        let ones = select_many(finite, Vector::<u32, Const<WIDTH>>::new(0u32), Vector::new(1u32));
        let mut found = 0u32;
        #[unroll]
        for element in 0..comptime![WIDTH] {
            found |= ones.extract(element);
        }
        found != 0
    }
}

/// The columns that each load fills of the queries in shared memory, if it is in a dot.
pub fn query_columns(program: &Program, schedule: MmaSchedule) -> Vec<Option<MmaColumns>> {
    let in_dots: Vec<usize> = (0..program.loads.len()).filter(|load| program.is_in_dots(*load)).collect();
    let dims: Vec<usize> = in_dots.iter().map(|load| program.operands[program.loads[*load].operand].dim).collect();
    let columns = schedule.memory(&program.memory_sizes()).query.columns_of(&dims);
    let of_load = |load: usize| in_dots.iter().position(|other| *other == load).map(|place| columns[place]);
    (0..program.loads.len()).map(of_load).collect()
}

/// The columns that each term of a loop's dots fills of the keys in shared memory, one dot's after the other's.
pub fn key_columns(program: &Program, key_loop: &TileLoop, schedule: MmaSchedule) -> Vec<MmaColumns> {
    let dims: Vec<usize> = key_loop.dots().concat().iter().map(|term| program.operands[term.column].dim).collect();
    schedule.memory(&program.memory_sizes()).key.columns_of(&dims)
}

/// Where in its row, in chunks, chunk `chunk` of row `row` lies.
///
/// With 2ᵗ the greatest power of two that divides a row's chunks, at most 8, rows r, r + 1, … begin at 2ᵗ·odd·r modulo 8: 8/2ᵗ different
/// places. The next 3 − t bits of r decide nothing more, and the t bits above them are added, without carry, to the chunk.
#[cube]
pub fn swizzle(row: usize, chunk: usize, #[comptime] tile: MmaTile) -> usize {
    let t = comptime![tile.chunks.trailing_zeros().min(3)];
    let bits = (row >> comptime![3 - t as usize]) & comptime![(1usize << t) - 1];
    chunk ^ bits
}

/// What a unit copies: some chunks of some rows.
#[derive(CubeType, Clone, Copy)]
#[expand(derive(Clone, Copy))]
pub struct Lane {
    /// The first row.
    pub row: usize,
    /// The first chunk.
    pub chunk: usize,
}

#[cube]
impl Lane {
    /// What this unit copies of `columns`, whose first chunk is number 0.
    pub fn new(#[comptime] columns: MmaColumns) -> Lane {
        let lanes = comptime![columns.lanes_per_row()];
        Lane { row: UNIT_POS as usize / lanes, chunk: UNIT_POS as usize % lanes }
    }

    /// Where the first chunk of the row of pass number `pass` lies, less [`RowPart::offset`].
    fn place(&self, #[comptime] part: RowPart, #[comptime] columns: MmaColumns) -> u32 {
        let tile = comptime![columns.tile];
        let mut row = self.row;
        if comptime![!part.alike()] {
            row = self.row + comptime![part.pass.first_row()];
        }
        // The first chunk of the columns is a multiple of what the swizzle exchanges.
        ((row * comptime![tile.chunks] + swizzle(row, self.chunk, tile)) * CHUNK) as u32
    }
}

/// Rows that are copied from, of a head.
#[derive(CubeType, Clone, Copy)]
#[expand(derive(Clone, Copy))]
pub struct ReadRows {
    /// The first of the tile.
    pub first: usize,
    /// Those that are read, if not all. Of the others copies are zeros.
    pub within: Span,
    /// Whether all of the tile's are read.
    #[cube(comptime)]
    pub all: bool,
}

/// A pass of all units over the rows of some columns, with which a copy fills them.
#[derive(Clone, Copy)]
struct Pass {
    /// Its number.
    number: usize,
    /// The rows of a pass.
    rows: usize,
}

impl Pass {
    /// Number `number` over `columns`, by the units of `schedule`.
    fn new(number: usize, columns: MmaColumns, schedule: MmaSchedule) -> Pass {
        Pass { number, rows: columns.rows_per_pass(schedule.units()) }
    }

    /// The first row.
    fn first_row(self) -> usize {
        self.number * self.rows
    }
}

/// Which of the chunks that a unit copies.
#[derive(Clone, Copy)]
struct RowPart {
    /// The pass.
    pass: Pass,
    /// The number of the chunk among those of the row.
    number: usize,
}

impl RowPart {
    /// Whether the rows of all passes are swizzled alike.
    fn alike(self) -> bool {
        self.pass.rows.is_multiple_of(8)
    }

    /// The bytes from [`Lane::place`] to it.
    fn offset(self, columns: MmaColumns) -> u32 {
        let tile = columns.tile;
        let passes = if self.alike() { self.pass.first_row() * tile.chunks } else { 0 };
        let chunk = columns.first + self.number * columns.lanes_per_row();
        (tile.start * 2 + (passes + chunk) * CHUNK) as u32
    }
}
