//! Which rows a tile of the `mma` schedule has, and which of them a lane.

use crate::emit::arguments::Extent;
use crate::emit::nvidia::tensor_core::computed_here;
use crate::ir::forward::Operands;
use crate::schedule::MmaSchedule;
use cubecl::prelude::*;

/// The rows of a query tile.
#[derive(CubeType, Clone, Copy)]
#[expand(derive(Clone, Copy))]
pub struct CubeRows {
    /// The batch.
    pub batch: usize,
    /// The query head; with `pack_gqa`, the first of the group.
    pub head: usize,
    /// The tile's first row.
    pub first: usize,
    /// How many rows there are from `head` on, in this tile and others.
    pub total: usize,
}

#[cube]
impl CubeRows {
    /// Those of this cube. Where `afresh`, head and batch are computed from the cube's number anew: kept from the beginning to the end of
    /// a kernel, they take registers that the loops between have no room for. (With the first row computed anew too, `ptxas` spills more.)
    pub fn new(extent: &Extent, #[comptime] schedule: MmaSchedule, #[comptime] afresh: bool) -> CubeRows {
        let (tile, mut head, mut batch) = (CUBE_POS_X, CUBE_POS_Y, CUBE_POS_Z);
        if comptime![afresh] {
            head = computed_here(head);
            batch = computed_here(batch);
        }
        let mut together = 1usize;
        if comptime![schedule.pack_gqa] {
            together = extent.group;
        }
        let head = (extent.first_head + head as usize) * together;
        let total = together * extent.queries;
        // The last tiles first: under causal masks they see most. A CUDA device launches as many along x as there can be.
        let tile = total.div_ceil(comptime![schedule.queries()]) - 1 - tile as usize;
        CubeRows {
            batch: extent.first_batch + batch as usize,
            head,
            first: tile * comptime![schedule.queries()],
            total,
        }
    }
}

/// The row of the tile that number `at` of this lane's is.
#[cube]
pub fn row_of(#[comptime] at: usize, #[comptime] schedule: MmaSchedule) -> usize {
    let lane = UNIT_POS as usize % MmaSchedule::WARP;
    first_row_of_warp(schedule) + lane / 4 + comptime![8 * at]
}

/// The first row of the tile that this unit's warp has.
#[cube]
pub fn first_row_of_warp(#[comptime] schedule: MmaSchedule) -> usize {
    let warp = UNIT_POS as usize / comptime![MmaSchedule::WARP * schedule.warps_of_rows()];
    warp * comptime![schedule.fragments * MmaSchedule::MATRIX]
}

/// The first column of the output that this unit's warp has.
#[cube]
pub fn first_column_of_warp(#[comptime] operands: Operands, #[comptime] schedule: MmaSchedule) -> usize {
    if comptime![schedule.split_columns] {
        UNIT_POS as usize / MmaSchedule::WARP % comptime![schedule.warps_of_rows()]
            * comptime![schedule.output_chunks(&operands) * MmaSchedule::WIDTH]
    } else {
        0usize.runtime()
    }
}

/// This lane's place among the four that have its rows.
#[cube]
pub fn place_in_row() -> usize {
    UNIT_POS as usize % 4
}
