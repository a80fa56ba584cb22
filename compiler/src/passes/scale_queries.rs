//! Multiplies the queries, once a tile, by what every score would be multiplied by.
//!
//! ```text
//! q = load q[i]
//! for j in tiles(T0)
//!   s = dot q, k[j]
//!   s = map s * (scale() * 1.442695)
//! ```
//! becomes
//! ```text
//! q = load q[i] * (scale() * 1.442695)
//! for j in tiles(T0)
//!   s = dot q, k[j]
//! ```
//!
//! It needs each dot of what is loaded to be followed by a map that is a product of it, once, and of factors that are the same for the whole
//! tile; and these to be the same for all such dots.

use crate::analysis::product::{Factor, Product};
use crate::expr::Expr;
use crate::ir::{Load, Program, TileOp};

/// Moves the factors that the dots of a load have in all loops to its [`scale`](crate::ir::Load::scale).
pub fn scale_queries(program: &mut Program) {
    for load in 0..program.loads.len() {
        let Load { operand, scale: None } = program.loads[load] else { continue };
        let found: Option<Vec<_>> = program.loops.iter().map(|one| scaled_dots(&one.body, operand)).collect();
        let Some(found) = found else { continue };
        let mut scales = found.iter().flatten().map(|(_, product)| product.uniform_part().ok().flatten());
        let Some(Some(scale)) = scales.next() else { continue };
        if !scales.all(|other| other.as_ref() == Some(&scale)) {
            continue;
        }
        program.loads[load].scale = Some(scale);
        for (one, found) in program.loops.iter_mut().zip(found) {
            // From the last on, so that the places of the others stay.
            for (place, product) in found.into_iter().rev() {
                let TileOp::Map { tile, value } = &mut one.body[place] else { continue };
                match product.varying_part() {
                    Some(rest) if rest != Expr::Value(*tile) => *value = rest,
                    _ => drop(one.body.remove(place)),
                }
            }
        }
    }
}

/// The maps that follow the dots of `operand` in `body`, with the products that they are; `None` where a dot has none that multiplies it
/// once, or another tile is made of it.
fn scaled_dots(body: &[TileOp], operand: usize) -> Option<Vec<(usize, Product)>> {
    let mut found = Vec::new();
    for (place, op) in body.iter().enumerate() {
        let TileOp::Dot { tile, row, .. } = op else { continue };
        if *row != operand {
            continue;
        }
        let score = Expr::Value(*tile);
        let map = place + 1 + body[place + 1..].iter().position(|op| op.uses(*tile) || op.changes(*tile))?;
        let TileOp::Map { tile: mapped, value } = &body[map] else { return None };
        let product = Product::of(value);
        let times = product.varying.iter().filter(|factor| match factor {
            Factor::Times(expr) | Factor::Over(expr) => expr.mentions(&score),
        });
        if mapped != tile || times.count() != 1 || !product.varying.contains(&Factor::Times(score)) {
            return None;
        }
        found.push((map, product));
    }
    Some(found)
}
