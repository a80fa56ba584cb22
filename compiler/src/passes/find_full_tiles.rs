//! Finds the keys that every query of the tile sees: tiles of them need no mask. Where the rows are keys, likewise the queries that see all
//! of them.
//!
//! ```text
//! for j in tiles(T0) from i0 - window + 1 to i1 + 1 if window >= 1
//!   s = dot q, k[j]
//!   s = mask s where j <= i && i - j < window on all
//! ```
//! becomes
//! ```text
//! for j in tiles(T0) from i0 - window + 1 to i1 + 1 if window >= 1
//!     full from i1 - window + 1 to i0 + 1
//!   s = dot q, k[j]
//!   s = mask s where j <= i && i - j < window on partial
//! ```
//!
//! A loop without a mask is full everywhere.

use crate::analysis::bounds::{full_keys, full_queries};
use crate::ir::{Axis, MaskedTiles, Program, Range};

/// Sets [`full`](crate::ir::TileLoop::full) of every loop where ranges are known.
pub fn find_full_tiles(program: &mut Program) {
    let full = if program.rows == Axis::Queries { full_keys } else { full_queries };
    for place in 0..program.loops.len() {
        let full = match program.loops[place].visible(true) {
            Some(visible) => full(&visible, program.parameters()),
            None => vec![Range::ALL],
        };
        let one = &mut program.loops[place];
        one.mask_on(if full.is_empty() { MaskedTiles::All } else { MaskedTiles::Partial });
        one.full = full;
    }
}
