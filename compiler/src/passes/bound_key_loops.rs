//! Visits only the keys that can be visible to a query of the tile; where the rows are keys, only the queries that may see one of them.
//!
//! ```text
//! for j in tiles(T0)
//!   s = dot q, k[j]
//!   s = mask s where j <= i && (j < globals || i - j < window) on all
//! ```
//! becomes
//! ```text
//! for j in tiles(T0) to min(i1 + 1, globals), from i0 - window + 1 to i1 + 1 if window >= 1
//!   s = dot q, k[j]
//!   s = mask s where j <= i && (j < globals || i - j < window) on all
//! ```
//!
//! [`bounds`](crate::analysis::bounds) says how the ranges are found.

use crate::analysis::bounds::{visited_keys, visiting_queries};
use crate::ir::{Axis, Program};

/// Sets [`visit`](crate::ir::TileLoop::visit) of every loop with a mask.
pub fn bound_key_loops(program: &mut Program) {
    let visited = if program.rows == Axis::Queries { visited_keys } else { visiting_queries };
    for place in 0..program.loops.len() {
        if let Some(visible) = program.loops[place].visible(false) {
            program.loops[place].visit = visited(&visible, program.parameters());
        }
    }
}
