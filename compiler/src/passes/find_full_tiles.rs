//! Finds the keys that every query of the tile sees: tiles of them need no mask.
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

use crate::analysis::bounds::full_keys;
use crate::ir::{KeyRange, MaskedTiles, Program, TileOp};
use crate::typing::Parameters;

/// Sets [`full`](crate::ir::KeyLoop::full) of every loop where ranges are known.
pub fn find_full_tiles(program: &mut Program) {
    let parameters = Parameters { scalars: &program.scalars, tensors: &program.tensors };
    for key_loop in &mut program.loops {
        key_loop.full = vec![KeyRange::ALL];
        for op in &mut key_loop.body {
            if let TileOp::Mask { visible, tiles } = op {
                key_loop.full = full_keys(visible, parameters);
                *tiles = if key_loop.full.is_empty() { MaskedTiles::All } else { MaskedTiles::Partial };
            }
        }
    }
}
