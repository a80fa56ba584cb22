//! Visits only the keys that can be visible to a query of the tile.
//!
//! ```text
//! for j in tiles(T0)
//!   s = dot q, k[j]
//!   s = mask s where j <= i && i - j < window on all
//! ```
//! becomes
//! ```text
//! for j in tiles(T0) from i0 - window + 1 to i1 + 1
//!   s = dot q, k[j]
//!   s = mask s where j <= i && i - j < window on all
//! ```
//!
//! Each condition a·i + b·j + u <= 0 of the mask's conjunction, with constant a and b and a u that is the same for the whole
//! tile, gives an end of the range: some i of the tile must satisfy it, and does at `i0` or at `i1`. Other conditions are
//! not used.

use crate::analysis::affine::Affine;
use crate::analysis::conjunction::Conjunction;
use crate::expr::{BinaryOp, Expr};
use crate::ir::{KeyRange, Program, TileOp};

/// Sets [`visit`](crate::ir::KeyLoop::visit) of every loop with a mask.
pub fn bound_key_loops(program: &mut Program) {
    for place in 0..program.loops.len() {
        let masks = program.loops[place].body.iter();
        let Some(visible) =
            masks.filter_map(|op| if let TileOp::Mask { visible, .. } = op { Some(visible) } else { None }).next()
        else {
            continue;
        };
        let conjunction = Conjunction::of(visible, program.parameters());
        program.loops[place].visit = if conjunction.never {
            Vec::new()
        } else {
            let mut range = KeyRange::ALL;
            for form in &conjunction.at_most_zero {
                if let Some(end) = KeyEnd::of(form, Queries::Any) {
                    end.narrow(&mut range);
                }
            }
            vec![range]
        };
    }
}

/// Which queries of a tile must satisfy a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Queries {
    /// One of them.
    Any,
    /// Each of them.
    All,
}

/// An end of a range of keys.
pub(super) enum KeyEnd {
    From(Expr),
    To(Expr),
}

impl KeyEnd {
    /// The end of the range of keys for which `queries` of the tile satisfy form <= 0; `None` where the form is not affine in
    /// i and j with tile-uniform rest, or does not depend on j.
    pub(super) fn of(form: &Affine, queries: Queries) -> Option<KeyEnd> {
        let uniform = |atom: &Expr| matches!(atom, Expr::Query | Expr::Key) || atom.is_uniform();
        if !form.terms.iter().all(|(atom, _)| uniform(atom)) {
            return None;
        }
        // The form is smallest at i0 if it grows with i: that query satisfies it first, and the one at i1 last.
        let grows = form.coefficient(&Expr::Query) > 0;
        let at = if grows == (queries == Queries::Any) { Expr::QueryFirst } else { Expr::QueryLast };
        let rest = form.without(&Expr::Key).substituted(&Expr::Query, &Affine::of(&at)?)?;
        let key = form.coefficient(&Expr::Key);
        if key > 0 {
            // j <= floor(-rest / key), and `to` is the position after it.
            Some(KeyEnd::To(divided(&rest.scaled(-1)?.shifted(key)?, key)?))
        } else if key < 0 {
            // j >= ceil(rest / -key).
            let over = key.checked_neg()?;
            Some(KeyEnd::From(divided(&rest.shifted(over - 1)?, over)?))
        } else {
            None
        }
    }

    /// Makes `range` end here too.
    pub(super) fn narrow(self, range: &mut KeyRange) {
        let (end, op, by) = match self {
            KeyEnd::From(by) => (&mut range.from, BinaryOp::Max, by),
            KeyEnd::To(by) => (&mut range.to, BinaryOp::Min, by),
        };
        *end = Some(match end.take() {
            None => by,
            Some(known) if mentioned(&known, op, &by) => known,
            Some(Expr::Int(known)) if let Expr::Int(by) = by => {
                Expr::Int(if op == BinaryOp::Max { known.max(by) } else { known.min(by) })
            }
            Some(known) => Expr::binary(op, known, by),
        });
    }
}

/// Whether `end` is one of the operands of the nested minimum or maximum `ends`.
fn mentioned(ends: &Expr, op: BinaryOp, end: &Expr) -> bool {
    ends == end || matches!(ends, Expr::Binary(known, a, b) if *known == op && (**b == *end || mentioned(a, op, end)))
}

fn divided(form: &Affine, by: i64) -> Option<Expr> {
    let form_expr = form.to_expr()?;
    Some(match (by, &form_expr) {
        (1, _) => form_expr,
        (_, Expr::Int(value)) => Expr::Int(i32::try_from(crate::eval::floor_div((*value).into(), by)?).ok()?),
        _ => Expr::binary(BinaryOp::Div, form_expr, Expr::Int(i32::try_from(by).ok()?)),
    })
}
