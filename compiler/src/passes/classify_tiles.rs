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
//! Where the rows are keys, the same is decided of tiles of queries, without hops. Where every condition of the mask gives ranges there is nothing to decide, and no such line. [`tile`](crate::analysis::tile)
//! says how the conditions are found.

use crate::analysis::affine::Affine;
use crate::analysis::bounds::{decided, next_visible_key, transposed, undecided};
use crate::analysis::clauses::required;
use crate::analysis::tile::{kind, kind_where};
use crate::expr::{BinaryOp, Expr};
use crate::ir::{Axis, MaskedTiles, Program, TileKind};

/// Sets [`kind`](crate::ir::TileLoop::kind) and [`key_hop`](crate::ir::TileLoop::key_hop) of every loop whose ranges leave something to
/// decide.
pub fn classify_tiles(program: &mut Program) {
    // Conditions are taken apart as if the rows were queries, whose place keys then take.
    let of_queries = program.rows == Axis::Queries;
    let turned = |expr: Expr| if of_queries { expr } else { transposed(&expr) };
    for place in 0..program.loops.len() {
        let one = &program.loops[place];
        let (some, every) = (one.visible(false).map(turned), one.visible(true).map(turned));
        let parameters = program.parameters();
        let open = |visible: &Expr| {
            undecided(visible, parameters).into_iter().reduce(|a, b| Expr::binary(BinaryOp::And, a, b))
        };
        if some.as_ref().or(every.as_ref()).and_then(open).is_none() {
            continue;
        }
        let some_visible = match &some {
            Some(visible) => {
                // What gives ranges is looked at again only where it narrows what is read for the rest.
                let known: Vec<Affine> = decided(visible, parameters)
                    .iter()
                    .flat_map(|condition| required(condition, parameters).unwrap_or_default())
                    .collect();
                open(visible).map_or(Expr::Bool(true), |open| kind_where(&open, &known, parameters).some)
            }
            None => Expr::Bool(true),
        };
        let all = every.map_or(Expr::Bool(true), |visible| kind(&visible, parameters).all);
        let decides = TileKind { some: turned(some_visible), all: turned(all) };
        let nothing = TileKind { some: Expr::Bool(true), all: Expr::Bool(false) };
        if decides != nothing {
            let key_hop = some.filter(|_| of_queries).and_then(|visible| next_visible_key(&visible, parameters));
            let one = &mut program.loops[place];
            one.kind = Some(decides);
            one.key_hop = key_hop;
            one.mask_on(MaskedTiles::Partial);
        }
    }
}
