//! Finds the keys that every query of the tile sees: tiles of them need no mask.
//!
//! ```text
//! for j in tiles(T0) from i0 - window + 1 to i1 + 1
//!   s = dot q, k[j]
//!   s = mask s where j <= i && i - j < window on all
//! ```
//! becomes
//! ```text
//! for j in tiles(T0) from i0 - window + 1 to i1 + 1
//!     full from i1 - window + 1 to i0 + 1
//!   s = dot q, k[j]
//!   s = mask s where j <= i && i - j < window on partial
//! ```
//!
//! It needs every condition of the mask's conjunction to be an affine comparison in which j occurs. A loop without a mask is
//! full everywhere.

use super::bound_key_loops::{KeyEnd, Queries};
use crate::analysis::conjunction::Conjunction;
use crate::expr::Expr;
use crate::ir::{KeyRange, MaskedTiles, Program, TileOp};
use crate::typing::Parameters;

/// Sets [`full`](crate::ir::KeyLoop::full) of every loop where it is known.
pub fn find_full_tiles(program: &mut Program) {
    let parameters = Parameters { scalars: &program.scalars, tensors: &program.tensors };
    for key_loop in &mut program.loops {
        let mask = key_loop.body.iter_mut().find_map(|op| match op {
            TileOp::Mask { visible, tiles } => Some((visible, tiles)),
            _ => None,
        });
        key_loop.full = match mask {
            None => Some(KeyRange::ALL),
            Some((visible, tiles)) => {
                let full = full_range(visible, parameters);
                if full.is_some() {
                    *tiles = MaskedTiles::Partial;
                }
                full
            }
        };
    }
}

fn full_range(visible: &Expr, parameters: Parameters) -> Option<KeyRange> {
    let conjunction = Conjunction::of(visible, parameters);
    if conjunction.never || !conjunction.others.is_empty() {
        return None;
    }
    let mut range = KeyRange::ALL;
    for form in &conjunction.at_most_zero {
        KeyEnd::of(form, Queries::All)?.narrow(&mut range);
    }
    Some(range)
}
