//! A unit of the `cube` schedule: its place in the cube, and what it keeps in registers.

use crate::schedule::CubeSchedule;
use crate::scheduled::Compiled;
use cubecl::prelude::*;

/// What the code of the schedule is made for.
#[derive(Clone)]
pub struct CubeCode {
    /// The program.
    pub program: Compiled,
    /// The sizes.
    pub schedule: CubeSchedule,
}

/// What a unit keeps, in registers, while the keys stream past. Vectors run over its queries.
#[derive(CubeType)]
pub struct UnitTile<R: Size> {
    /// What the current tile has for each of its keys: [`TileArrays`](crate::emit::scores::TileArrays) says what.
    pub tiles: Sequence<Array<Vector<f32, R>>>,
    /// Its parts of what is pushed into.
    pub accumulators: Sequence<UnitAccumulator<R>>,
}

/// A unit's part of an accumulator.
#[derive(CubeType)]
pub struct UnitAccumulator<R: Size> {
    /// Its part of the output, `[vectors of the head dim, lanes of a vector]`.
    pub output: Array<Vector<f32, R>>,
    /// The running maximum; the same in all units of a row.
    pub maximum: Vector<f32, R>,
    /// The running sum over its own keys.
    pub sum: Vector<f32, R>,
    /// The vectors of its part of the output.
    #[cube(comptime)]
    pub vectors: usize,
}

/// A unit's place in the cube.
#[derive(CubeType, Clone, Copy)]
#[expand(derive(Clone, Copy))]
pub struct Unit {
    /// Its row: which queries it has.
    pub row: usize,
    /// Its column: which keys, and which part of the head dim of the output.
    pub column: usize,
}
