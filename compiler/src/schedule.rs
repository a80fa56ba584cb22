//! Schedules: how a tile program is run on a device, as data.
//!
//! A schedule is chosen from the properties of a device (by the runtime) or named by the user; the emitter of the same
//! name in [`crate::emit`] turns the program into a kernel of that shape.

/// How a tile program is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Schedule {
    /// A unit per core that takes query tiles from a counter; vectors run over queries.
    Cpu(CpuSchedule),
    /// A cube per query tile with tiles in shared memory; each unit owns a block of the scores.
    Cube(CubeSchedule),
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
}

/// How a launch of the `cpu` schedule with too few queries to fill tiles and cores makes up for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FewQueries {
    /// The rows of a tile are the queries of all query heads that share a key head, so that its keys and values are read once.
    pub pack_gqa: bool,
    /// The keys of a tile are split over units, whose accumulators are merged at the end.
    pub split_kv: bool,
}

/// The sizes of the `cube` schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CubeSchedule {
    /// Queries in a tile.
    pub queries: usize,
    /// Keys in a tile.
    pub keys: usize,
    /// Units along the queries of a tile.
    pub unit_rows: usize,
    /// Units along the keys, and along the head dim of the output.
    pub unit_columns: usize,
    /// Elements of the head dim that are in shared memory at once.
    pub chunk: usize,
}

impl CubeSchedule {
    /// The shared memory of a cube, in bytes: a chunk of queries and one of keys or values, the weights, and a number per
    /// query and unit column.
    pub fn shared_bytes(&self) -> usize {
        let chunks = (self.queries + self.keys) * (self.chunk + 1);
        let weights = self.queries * (self.keys + 1);
        4 * (chunks + weights + self.queries * self.unit_columns)
    }
}

impl Schedule {
    /// Its name: `cpu`, `cube`.
    pub fn name(&self) -> &'static str {
        match self {
            Schedule::Cpu(_) => "cpu",
            Schedule::Cube(_) => "cube",
        }
    }

    /// Queries in a tile.
    pub fn query_tile(&self) -> usize {
        match self {
            Schedule::Cpu(cpu) => cpu.lanes * cpu.vectors,
            Schedule::Cube(cube) => cube.queries,
        }
    }

    /// Keys in a tile.
    pub fn key_tile(&self) -> usize {
        match self {
            Schedule::Cpu(cpu) => cpu.keys,
            Schedule::Cube(cube) => cube.keys,
        }
    }
}
