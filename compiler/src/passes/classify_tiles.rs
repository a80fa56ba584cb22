//! Lets the kernel decide, tile by tile, what ranges do not.
//!
//! ```text
//! for j in tiles(T0) to i1 + 1
//!   s = dot q, k[j]
//!   s = mask s where j <= i && doc[i] == doc[j] on all
//! ```
//! becomes
//! ```text
//! for j in tiles(T0) to i1 + 1
//!     skip unless least(doc[i0 through i1]) <= greatest(doc[j0 through j1]) && …
//!     full where j1 <= i0 && greatest(doc[i0 through i1]) <= least(doc[j0 through j1]) && …
//!   s = dot q, k[j]
//!   s = mask s where j <= i && doc[i] == doc[j] on partial
//! ```
//!
//! Where the mask requires an element of a captured tensor of truth values (`allowed[i][j]`), the loop also hops over the keys
//! that no query of the tile sees:
//!
//! ```text
//!     hop to next(allowed[i0 through i1], j0)
//! ```
//!
//! Where every condition of the mask gives ranges there is nothing to decide, and no such line. [`tile`](crate::analysis::tile)
//! says how the conditions are found.

use crate::analysis::affine::Affine;
use crate::analysis::bounds::{decided, next_visible_key, undecided};
use crate::analysis::clauses::required;
use crate::analysis::tile::{class, class_where};
use crate::expr::{BinaryOp, Expr};
use crate::ir::{MaskedTiles, Program, TileClass, TileOp};
use crate::typing::Parameters;

/// Sets [`class`](crate::ir::KeyLoop::class) and [`hop`](crate::ir::KeyLoop::hop) of every loop whose ranges leave something to decide.
pub fn classify_tiles(program: &mut Program) {
    let parameters = Parameters { scalars: &program.scalars, tensors: &program.tensors };
    for key_loop in &mut program.loops {
        for op in &mut key_loop.body {
            let TileOp::Mask { visible, tiles } = op else { continue };
            let open = undecided(visible, parameters).into_iter().reduce(|a, b| Expr::binary(BinaryOp::And, a, b));
            let Some(open) = open else { continue };
            // What gives ranges is looked at again only where it narrows what is read for the rest.
            let known: Vec<Affine> = decided(visible, parameters)
                .iter()
                .flat_map(|condition| required(condition, parameters).unwrap_or_default())
                .collect();
            let some = class_where(&open, &known, parameters).some;
            let decides = TileClass { some, all: class(visible, parameters).all };
            let nothing = TileClass { some: Expr::Bool(true), all: Expr::Bool(false) };
            if decides != nothing {
                key_loop.class = Some(decides);
                key_loop.hop = next_visible_key(visible, parameters);
                *tiles = MaskedTiles::Partial;
            }
        }
    }
}
