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
//! tile, and for all heads where the loops run for each; and these to be the same for all such dots. What is in one dot is multiplied together or not at all.

use crate::analysis::product::{Factor, Product};
use crate::expr::Expr;
use crate::ir::{Load, Program, TileOp};

/// Moves the factors that the dots of a load have in all loops to its [`scale`](crate::ir::Load::scale).
pub fn scale_queries(program: &mut Program) {
    for operands in groups(program) {
        let is_free = |load: &Load, place: usize| {
            // What is stored of it is not scaled.
            let stored = Expr::Value(program.accumulators.len() + place);
            load.scale.is_none() && !program.outputs.iter().any(|output| output.value.mentions(&stored))
        };
        let of_group = |load: &Load| operands.contains(&load.operand);
        if !program.loads.iter().enumerate().all(|(place, load)| !of_group(load) || is_free(load, place)) {
            continue;
        }
        let found: Option<Vec<_>> = program.loops.iter().map(|one| scaled_dots(&one.body, &operands)).collect();
        let Some(found) = found else { continue };
        let mut scales = found.iter().flatten().map(|(_, product)| product.uniform_part().ok().flatten());
        let Some(Some(scale)) = scales.next() else { continue };
        if !scales.all(|other| other.as_ref() == Some(&scale)) || !program.is_outside_of_loops(&scale) {
            continue;
        }
        for load in program.loads.iter_mut().filter(|load| of_group(load)) {
            load.scale = Some(scale.clone());
        }
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

/// The operands along the rows that are in dots, in groups: those of one dot are in one.
fn groups(program: &Program) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = program.loads.iter().map(|load| vec![load.operand]).collect();
    for op in program.loops.iter().flat_map(|one| &one.body) {
        let TileOp::Dot { terms, .. } = op else { continue };
        let is_of = |group: &Vec<usize>| terms.iter().any(|term| group.contains(&term.row));
        let (together, apart): (Vec<_>, Vec<_>) = groups.into_iter().partition(is_of);
        groups = apart;
        groups.push(together.concat());
    }
    groups
}

/// The maps that follow the dots of some of `operands` in `body`, in their order, with the products that they are; `None` where a dot has none
/// that multiplies it once, or another tile is made of it.
fn scaled_dots(body: &[TileOp], operands: &[usize]) -> Option<Vec<(usize, Product)>> {
    let mut found = Vec::new();
    for (place, op) in body.iter().enumerate() {
        let TileOp::Dot { tile, terms } = op else { continue };
        if !terms.iter().any(|term| operands.contains(&term.row)) {
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
    found.sort_by_key(|(map, _)| *map);
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::scale_queries;
    use crate::ir::parse::parse;

    const PROGRAM: &str = "\
attention @two() -> f32[B, H, S, 4]
  q: f32[B, H, S, 4]
  k1: f32[B, G, T0, 4]  k2: f32[B, G, T0, 4]  v: f32[B, G, T0, 4]
  for i in tiles(S)
    a = sum
    b = sum
    q = load q[i]
    for j in tiles(T0)
      s1 = dot q, k1[j]
      s2 = dot q, k2[j]
      s2 = map s2 * scale()
      s1 = map s1 * scale() + 1.0
      a = push s1, v[j]
      b = push s2, v[j]
    store a * b
";

    fn scaled(text: &str) -> String {
        let mut program = parse(text).unwrap();
        scale_queries(&mut program);
        program.to_string()
    }

    #[test]
    fn maps_in_another_order_than_dots() {
        // A sum is no product: nothing is scaled.
        assert_eq!(scaled(PROGRAM), PROGRAM);
        let products = PROGRAM.replace(" + 1.0", "");
        let wanted = products
            .replace("q = load q[i]", "q = load q[i] * (scale())")
            .replace("      s2 = map s2 * scale()\n      s1 = map s1 * scale()\n", "");
        assert_eq!(scaled(&products), wanted);
        // Other factors, other scales.
        let other = products.replace("s1 * scale()", "s1 * 2.0");
        assert_eq!(scaled(&other), other);
    }

    #[test]
    fn what_is_stored_is_not_scaled() {
        let stored = PROGRAM.replace(" + 1.0", "").replace("store a * b", "store a * b + q");
        assert_eq!(scaled(&stored), stored);
    }
}
