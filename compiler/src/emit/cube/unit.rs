//! A unit of the `cube` schedule: its place in the cube, and what it keeps in registers.

use cubecl::prelude::*;

/// What a unit keeps, in registers, while the keys stream past. Vectors run over its queries.
#[derive(CubeType)]
pub struct UnitTile<R: Size> {
    /// The scores of its keys, then the weights.
    pub scores: Array<Vector<f32, R>>,
    /// Its part of the output, `[vectors of the head dim, lanes of a vector]`.
    pub output: Array<Vector<f32, R>>,
    /// The running maximum; the same in all units of a row.
    pub maximum: Vector<f32, R>,
    /// The running sum over its own keys.
    pub sum: Vector<f32, R>,
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
