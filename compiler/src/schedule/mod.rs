//! Schedules: how a tile program is run on a device, as data.
//!
//! A schedule is chosen from the properties of a device (by the runtime) or named by the user; the emitter of the same
//! name in [`crate::emit`] turns the program into a kernel of that shape.

mod text;

use crate::ir::Program;
use crate::ir::forward::{Form, Operands};

/// The largest head dim that schedules run.
pub const MAX_HEAD_DIM: usize = 576;

/// How a tile program is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Schedule {
    /// A unit per core that takes query tiles from a counter; vectors run over queries.
    Cpu(CpuSchedule),
    /// A cube per query tile with tiles in shared memory; each unit owns a block of the scores.
    Cube(CubeSchedule),
    /// A cube per query tile; each of its warps multiplies by tensor cores, and keeps what it computes in registers.
    Mma(MmaSchedule),
}

/// The sizes of the `cpu` schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CpuSchedule {
    /// Lanes of an f32 vector.
    pub lanes: usize,
    /// Vectors in a query tile: the tile has `lanes * vectors` queries.
    pub vectors: usize,
    /// Keys in a tile.
    pub keys: usize,
    /// Rows of a register block in both products, which is `rows * vectors` vectors.
    pub rows: usize,
    /// What is done where queries are few.
    pub few: FewQueries,
}

/// How the `cpu` schedule makes up for too few queries to fill tiles and cores. By default it does nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FewQueries {
    /// The rows of a tile are the queries of all query heads that share a key head, so that its keys and values are read once.
    pub pack_gqa: bool,
    /// The keys of a tile are split over units, whose accumulators are merged at the end.
    pub split_kv: bool,
    /// Where not 0: a tile, of one vector, has at most so many rows, a power of two, and vectors run over the head dims instead of the
    /// rows. That takes as many multiply-adds as there are rows and not as there are lanes.
    pub along_head_dim: usize,
}

/// The sizes of the `cube` schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CubeSchedule {
    /// Units along the queries of a tile.
    pub unit_rows: usize,
    /// Units along the keys, and along the head dim of the output.
    pub unit_columns: usize,
    /// Queries of a unit, the lanes of its vectors: the tile has `unit_rows * rows` queries.
    pub rows: usize,
    /// Keys in a tile.
    pub keys: usize,
    /// Elements of the head dim of keys and values that are in shared memory at once, where products are by units that do not share
    /// them through planes.
    pub chunk: usize,
    /// What the units of a plane do for each other.
    pub planes: Planes,
    /// What multiplies.
    pub products: Products,
}

/// What the two products of the `cube` schedule are computed by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Products {
    /// Each unit multiplies and adds its own.
    #[default]
    Units,
    /// Planes multiply small matrices of the operands' type, accumulated in f32: `[m, k] × [k, n]`. The weights are rounded to that
    /// type, so they must not be greater than 1, as those of a softmax.
    Matrices {
        /// Rows of the product: keys, or elements of the values.
        m: usize,
        /// Its columns: queries.
        n: usize,
        /// What is summed over.
        k: usize,
        /// The units of a plane.
        plane: usize,
    },
}

/// What the units of a plane do for each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Planes {
    /// Nothing: what units share goes through shared memory.
    #[default]
    Unused,
    /// They find the maxima and sums of rows. A row's units are neighbours, and their number divides that of a plane.
    Reduce,
    /// They hold keys and values between them, in registers, and shuffle them to each other. There are so many units in a plane,
    /// each with rows of its own.
    Share(usize),
}

impl CpuSchedule {
    /// The sizes of a schedule for many queries.
    pub const fn new(lanes: usize, vectors: usize, keys: usize, rows: usize) -> CpuSchedule {
        let few = FewQueries { pack_gqa: false, split_kv: false, along_head_dim: 0 };
        CpuSchedule { lanes, vectors, keys, rows, few }
    }

    /// Rows in a tile, at most.
    pub fn tile_rows(&self) -> usize {
        if self.few.along_head_dim > 0 { self.few.along_head_dim } else { self.lanes * self.vectors }
    }
}

impl CubeSchedule {
    /// Elements in a vector of keys, of values and of the output.
    pub const WIDTH: usize = 4;

    /// The vectors of [`CubeSchedule::WIDTH`] that hold `dim` elements.
    pub fn vectors_of(dim: usize) -> usize {
        dim.div_ceil(Self::WIDTH)
    }

    /// How many keys' values, of `v_dim` elements each, a plane that shares them holds at once: enough that the sums of a step stay in
    /// registers between them, few enough that the step's code stays small.
    pub fn keys_per_step(&self, v_dim: usize) -> usize {
        let vectors = Self::vectors_of(v_dim);
        [4, 2].into_iter().find(|step| step * vectors <= 64 && self.keys.is_multiple_of(*step)).unwrap_or(1)
    }

    /// Queries in a tile.
    pub fn queries(&self) -> usize {
        self.unit_rows * self.rows
    }

    /// Units in a cube.
    pub fn units(&self) -> usize {
        self.unit_rows * self.unit_columns
    }

    /// Keys of a unit.
    pub fn columns(&self) -> usize {
        self.keys / self.unit_columns
    }

    /// The queries in shared memory, in vectors of `rows`: `[qk_dim, unit_rows]`, the dim made up to whole vectors, and rows padded
    /// by one against bank conflicts.
    pub fn query_vectors(&self, qk_dim: usize) -> usize {
        qk_dim.next_multiple_of(Self::WIDTH) * self.pitch()
    }

    /// The weights in shared memory, in vectors of `rows`: `[keys, unit_rows]`, likewise.
    pub fn weight_vectors(&self) -> usize {
        self.keys * self.pitch()
    }

    /// From a row of queries or weights in shared memory to the next.
    pub fn pitch(&self) -> usize {
        self.unit_rows + 1
    }

    /// From a key, or its value, in shared memory to the next, in vectors of [`CubeSchedule::WIDTH`]: an odd number, so that
    /// neighbours are in different banks.
    pub fn chunk_pitch(&self) -> usize {
        (self.chunk / Self::WIDTH) | 1
    }

    /// Whether keys and values pass through shared memory a chunk at a time.
    pub fn stages(&self) -> bool {
        !matches!(self.planes, Planes::Share(_))
    }

    /// Shared memory for products by matrices, if they are.
    pub fn matrix_memory(&self, operands: &Operands) -> Option<MatrixMemory> {
        let Products::Matrices { m, n, k, plane } = self.products else { return None };
        let (qk_dim, v_dim) = (operands.qk_dim.next_multiple_of(k), operands.v_dim.next_multiple_of(m));
        let pitch = |elements: usize| elements + MatrixMemory::PADDING;
        let row = pitch(self.queries());
        Some(MatrixMemory {
            m,
            n,
            k,
            plane,
            qk_dim,
            v_dim,
            query_pitch: pitch(qk_dim),
            key_pitch: pitch(qk_dim.max(v_dim)),
            row,
            query: self.queries() * pitch(qk_dim),
            key_value: self.keys * pitch(qk_dim.max(v_dim)),
            product: self.keys.max(v_dim) * row,
            weights: self.keys * row,
        })
    }

    /// Whether reductions along a row pass through shared memory.
    pub fn reduces_in_memory(&self) -> bool {
        self.unit_columns > 1 && self.planes == Planes::Unused
    }

    /// The shared memory of a cube, in bytes: the queries, a chunk of keys or values, the weights, and a number per query and unit
    /// column for reductions. With matrices the products are there too.
    pub fn shared_bytes(&self, operands: &Operands) -> usize {
        let partial = if self.reduces_in_memory() { self.queries() * self.unit_columns } else { 0 };
        if let Some(MatrixMemory { query, key_value, product, weights, .. }) = self.matrix_memory(operands) {
            return operands.element.size() * (query + key_value + weights) + 4 * (product + partial);
        }
        let vectors = self.query_vectors(operands.qk_dim) + self.weight_vectors();
        let staged = if self.stages() { self.keys * self.chunk_pitch() * Self::WIDTH } else { 0 };
        4 * (self.rows * vectors + partial) + operands.element.size() * staged
    }
}

/// Shared memory for products by matrices, in elements. Rows are whole matrices, and padded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MatrixMemory {
    /// Rows of a matrix of the product.
    pub m: usize,
    /// Its columns.
    pub n: usize,
    /// What is summed over.
    pub k: usize,
    /// The units of a plane.
    pub plane: usize,
    /// The head dim of queries and keys, made up to whole matrices.
    pub qk_dim: usize,
    /// That of values, likewise.
    pub v_dim: usize,
    /// From a query to the next.
    pub query_pitch: usize,
    /// From a key, or its value, to the next.
    pub key_pitch: usize,
    /// From a row of products or weights, one for each query, to the next.
    pub row: usize,
    /// The queries.
    pub query: usize,
    /// The keys, or the values.
    pub key_value: usize,
    /// The products, in f32: a row for each key, or for each element of the values.
    pub product: usize,
    /// The weights: a row for each key.
    pub weights: usize,
}

impl MatrixMemory {
    /// What a row is longer by, against bank conflicts; it keeps rows of 16-bit elements at multiples of 16 bytes.
    const PADDING: usize = 8;
}

/// The sizes of the `mma` schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MmaSchedule {
    /// Warps in a cube.
    pub warps: usize,
    /// Rows of a warp, in fragments of 16: the tile has `warps * fragments * 16` rows. What is read of keys and values serves all
    /// fragments of a warp.
    pub fragments: usize,
    /// Keys in a tile.
    pub keys: usize,
    /// Whether the rows of a tile are the queries of all query heads that share a key head, so that their keys and values are read once.
    pub pack_gqa: bool,
    /// Whether two warps have the same rows: each computes all of their scores, and half of the output's columns. A thread has registers
    /// for the output of values up to 512 then, and not up to 256.
    pub split_columns: bool,
}

impl MmaSchedule {
    /// Elements in a vector of queries, keys, values and the output: 16 bytes, what is copied at once.
    pub const WIDTH: usize = 8;
    /// Rows, or columns, of a matrix.
    pub const MATRIX: usize = 16;
    /// The units of a warp.
    pub const WARP: usize = 32;

    /// Rows in a tile.
    pub fn queries(&self) -> usize {
        self.warps / self.warps_of_rows() * self.fragments * Self::MATRIX
    }

    /// Warps that have the same rows.
    pub fn warps_of_rows(&self) -> usize {
        if self.split_columns { 2 } else { 1 }
    }

    /// Columns to which the values, and the output, are made up: whole matrices, and where warps share them, a part for each in which the
    /// [chunks](MmaTile::chunks) lie as in the first.
    fn whole_columns(&self) -> usize {
        if self.split_columns { 8 * Self::WIDTH * self.warps_of_rows() } else { Self::MATRIX }
    }

    /// The [chunks](MmaTile::chunks) of a row of the output that a warp has.
    pub fn output_chunks(&self, operands: &Operands) -> usize {
        operands.v_dim.next_multiple_of(self.whole_columns()) / Self::WIDTH / self.warps_of_rows()
    }

    /// Units in a cube.
    pub fn units(&self) -> usize {
        self.warps * Self::WARP
    }

    /// Rows that a unit has a part of.
    pub fn rows(&self) -> usize {
        2 * self.fragments
    }

    /// The elements of the output and of a tile's scores that a unit has in registers.
    pub fn accumulators(&self, operands: &Operands) -> usize {
        let columns = operands.v_dim.next_multiple_of(self.whole_columns()) / self.warps_of_rows();
        self.fragments * Self::MATRIX * (columns + self.keys) / Self::WARP
    }

    /// Shared memory.
    pub fn memory(&self, operands: &Operands) -> MmaMemory {
        let tile = |start, rows, dim: usize, whole: usize| {
            let chunks = dim.next_multiple_of(whole) / Self::WIDTH;
            MmaTile { start, rows, dim, chunks }
        };
        let whole = self.whole_columns();
        let query = tile(0, self.queries(), operands.qk_dim, Self::MATRIX);
        let output = tile(0, self.queries(), operands.v_dim, whole);
        let key = tile(query.end().max(output.end()), self.keys, operands.qk_dim, Self::MATRIX);
        let value = tile(key.end(), self.keys, operands.v_dim, whole);
        MmaMemory { query, output, key, value }
    }

    /// The shared memory of a cube, in bytes.
    pub fn shared_bytes(&self, operands: &Operands) -> usize {
        2 * self.memory(operands).elements()
    }
}

/// The shared memory of the `mma` schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MmaMemory {
    /// The queries.
    pub query: MmaTile,
    /// The output, which takes the queries' place at the end.
    pub output: MmaTile,
    /// A tile's keys.
    pub key: MmaTile,
    /// Its values.
    pub value: MmaTile,
}

impl MmaMemory {
    /// The elements of all.
    pub fn elements(&self) -> usize {
        self.value.end()
    }
}

/// A tile of an operand in shared memory, in rows of whole matrices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MmaTile {
    /// The element at which it begins.
    pub start: usize,
    /// Its rows.
    pub rows: usize,
    /// The head dim.
    pub dim: usize,
    /// The chunks of [`MmaSchedule::WIDTH`] elements of a row, an even number.
    pub chunks: usize,
}

impl MmaTile {
    /// The element after its last.
    pub fn end(&self) -> usize {
        self.start + self.rows * self.chunks * MmaSchedule::WIDTH
    }

    /// All of its columns.
    pub fn columns(&self) -> MmaColumns {
        MmaColumns { tile: *self, first: 0, chunks: self.chunks, dim: self.dim }
    }

    /// The columns of operands of such head dims, side by side: all of them, if that is one.
    pub fn columns_of(&self, dims: &[usize]) -> Vec<MmaColumns> {
        if dims == [self.dim] {
            return vec![self.columns()];
        }
        let mut first = 0;
        let each = dims.iter().map(|&dim| {
            let chunks = dim / MmaSchedule::WIDTH;
            first += chunks;
            MmaColumns { tile: *self, first: first - chunks, chunks, dim }
        });
        each.collect()
    }
}

/// Some columns of a [tile](MmaTile), which an operand fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MmaColumns {
    /// The tile.
    pub tile: MmaTile,
    /// Their first chunk.
    pub first: usize,
    /// Their chunks.
    pub chunks: usize,
    /// The operand's head dim.
    pub dim: usize,
}

impl MmaColumns {
    /// Neighbouring units that copy chunks of one row: a power of two that divides the chunks, at most a warp.
    pub fn lanes_per_row(&self) -> usize {
        (1 << self.chunks.trailing_zeros()).min(MmaSchedule::WARP)
    }

    /// The rows that `units` copy a part of at once.
    pub fn rows_per_pass(&self, units: usize) -> usize {
        units / self.lanes_per_row()
    }

    /// How often they do until they have copied all.
    pub fn passes(&self, units: usize) -> usize {
        self.tile.rows.div_ceil(self.rows_per_pass(units))
    }
}

impl Schedule {
    /// Its name: `cpu`, `cube`, `mma`.
    pub fn name(&self) -> &'static str {
        match self {
            Schedule::Cpu(_) => "cpu",
            Schedule::Cube(_) => "cube",
            Schedule::Mma(_) => "mma",
        }
    }

    /// The most that a program it runs may have.
    pub fn form(&self) -> Form {
        match self {
            Schedule::Cpu(_) => Form::General,
            Schedule::Cube(CubeSchedule { products: Products::Units, .. }) => Form::General,
            Schedule::Cube(_) => Form::Single,
            Schedule::Mma(_) => Form::Tiled,
        }
    }

    /// Whether it rounds weights to 16 bits, so that scores need no more accuracy.
    pub fn approximates(&self) -> bool {
        matches!(self, Schedule::Mma(_))
    }

    /// The elements in a vector of the operands and the output of `program`, where their rows follow each other: what is read at once where
    /// all rows are whole vectors, else 1.
    pub fn width_of(&self, program: &Program) -> usize {
        let width = match self {
            Schedule::Cpu(_) => 1,
            Schedule::Cube(_) => CubeSchedule::WIDTH,
            Schedule::Mma(_) => MmaSchedule::WIDTH,
        };
        let operands = program.operands.iter().map(|operand| operand.dim);
        let mut dims = operands.chain(program.outputs.iter().map(|output| output.dim));
        if dims.all(|dim| dim.is_multiple_of(width)) { width } else { 1 }
    }

    /// Queries in a tile.
    pub fn query_tile(&self) -> usize {
        match self {
            Schedule::Cpu(cpu) => cpu.lanes * cpu.vectors,
            Schedule::Cube(cube) => cube.queries(),
            Schedule::Mma(mma) => mma.queries(),
        }
    }

    /// Keys in a tile.
    pub fn key_tile(&self) -> usize {
        match self {
            Schedule::Cpu(cpu) => cpu.keys,
            Schedule::Cube(cube) => cube.keys,
            Schedule::Mma(mma) => mma.keys,
        }
    }
}
