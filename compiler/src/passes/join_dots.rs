//! Joins dots of which only the sum is used.
//!
//! ```text
//! s = dot q, k[j]
//! s2 = dot q_rope, k_rope[j]
//! s = map (s + s2) * scale()
//! ```
//! becomes
//! ```text
//! s = dot q, k[j] + q_rope, k_rope[j]
//! s = map s * scale()
//! ```
//!
//! so that one sum is accumulated, as for a dot of as many elements as the two have together.

use crate::expr::{BinaryOp, Expr};
use crate::ir::{Program, TileLoop, TileOp};

/// Joins the dots of each loop.
pub fn join_dots(program: &mut Program) {
    for one in &mut program.loops {
        while join_two(one) {}
    }
}

/// Joins two dots, if there are two that can be.
fn join_two(one: &mut TileLoop) -> bool {
    let Some((map, kept, joined)) = (0..one.body.len()).find_map(|map| summands(one, map)) else { return false };
    let TileOp::Map { value, .. } = &mut one.body[map] else { return false };
    *value = without(value, kept, joined);
    let Some(place) = one.body.iter().position(|op| is_dot_of(op, joined)) else { return false };
    let TileOp::Dot { terms: more, .. } = one.body.remove(place) else { return false };
    for op in &mut one.body {
        if let TileOp::Dot { tile, terms } = op
            && *tile == kept
        {
            terms.extend(more.iter().copied());
        }
    }
    one.forget_tile(joined);
    true
}

fn is_dot_of(op: &TileOp, of: usize) -> bool {
    matches!(op, TileOp::Dot { tile, .. } if *tile == of)
}

/// Two tiles of dots that the map at `map` adds, and that nothing else is made of: the one that the sum stays in, and the other.
fn summands(one: &TileLoop, map: usize) -> Option<(usize, usize, usize)> {
    let TileOp::Map { tile: to, value } = &one.body[map] else { return None };
    let mut found = None;
    value.any(&mut |expr| {
        if let Expr::Binary(BinaryOp::Add, a, b) = expr
            && let (Some(a), Expr::Value(b)) = (last_summand(a), &**b)
            && a != *b
            && [a, *b].iter().all(|tile| is_only_in(one, *tile, map, value))
        {
            // The sum takes the place of the tile that the map makes, or else of the first.
            found = Some(if *to == *b { (map, *b, a) } else { (map, a, *b) });
        }
        found.is_some()
    });
    found
}

/// The tile that stands last in a sum of tiles.
fn last_summand(expr: &Expr) -> Option<usize> {
    match expr {
        Expr::Value(tile) => Some(*tile),
        Expr::Binary(BinaryOp::Add, _, b) => last_summand(b),
        _ => None,
    }
}

/// Whether `tile` is a dot's, occurs once in the map at `map`, which is `value`, and in nothing before it is made anew.
fn is_only_in(one: &TileLoop, tile: usize, map: usize, value: &Expr) -> bool {
    let mut times = 0;
    value.any(&mut |expr| {
        times += usize::from(*expr == Expr::Value(tile));
        false
    });
    let is_made_anew = matches!(&one.body[map], TileOp::Map { tile: to, .. } if *to == tile);
    let is_other = |(place, op): (usize, &TileOp)| {
        place != map && (op.uses(tile) || op.changes(tile) && !is_dot_of(op, tile)) && !(place > map && is_made_anew)
    };
    let dots = one.body.iter().filter(|op| is_dot_of(op, tile)).count();
    times == 1 && dots == 1 && !one.body.iter().enumerate().any(is_other)
}

/// `expr`, in which a sum has lost the tile `joined`.
fn without(expr: &Expr, kept: usize, joined: usize) -> Expr {
    if let Expr::Binary(BinaryOp::Add, a, b) = expr
        && let Expr::Value(last) = **b
        && let Some(first) = last_summand(a)
    {
        if last == joined && first == kept {
            return (**a).clone();
        }
        if last == kept && first == joined {
            return replace_last(a, kept);
        }
    }
    expr.map_children(|child| without(child, kept, joined))
}

/// A sum with another last summand.
fn replace_last(expr: &Expr, tile: usize) -> Expr {
    match expr {
        Expr::Binary(BinaryOp::Add, a, b) => Expr::binary(BinaryOp::Add, (**a).clone(), replace_last(b, tile)),
        _ => Expr::Value(tile),
    }
}

#[cfg(test)]
mod tests {
    use super::join_dots;
    use crate::ir::parse::parse;
    use crate::ir::verify::verify;

    const PROGRAM: &str = "\
attention @three() -> f32[B, H, S, 4]
  q: f32[B, H, S, 4]  r: f32[B, H, S, 2]
  k: f32[B, G, T0, 4]  l: f32[B, G, T0, 2]  v: f32[B, G, T0, 4]
  for i in tiles(S)
    o = sum
    q = load q[i]
    r = load r[i]
    for j in tiles(T0)
      s = dot q, k[j]
      s2 = dot r, l[j]
      s3 = dot q, v[j]
      s = map (s + s2 + s3) * scale()
      s = mask s where j <= i on all
      o = push s, v[j]
    store o
";

    fn joined(text: &str) -> String {
        let mut program = parse(text).unwrap();
        assert_eq!(verify(&program), Ok(()));
        join_dots(&mut program);
        assert_eq!(verify(&program), Ok(()), "{program}");
        program.to_string()
    }

    #[test]
    fn sums_of_dots_are_joined() {
        let wanted = PROGRAM
            .replace("dot q, k[j]\n      s2 = dot r, l[j]\n      s3 = dot q, v[j]", "dot q, k[j] + r, l[j] + q, v[j]")
            .replace("(s + s2 + s3)", "s");
        assert_eq!(joined(PROGRAM), wanted);
        let into_the_last =
            PROGRAM.replace("s = map (s + s2 + s3)", "s3 = map (s + s2 + s3)").replace("s = mask s", "s3 = mask s3");
        let into_the_last = into_the_last.replace("push s,", "push s3,");
        let wanted = into_the_last
            .replace(
                "s = dot q, k[j]\n      s2 = dot r, l[j]\n      s3 = dot q, v[j]",
                "s3 = dot q, v[j] + r, l[j] + q, k[j]",
            )
            .replace("(s + s2 + s3)", "s3");
        assert_eq!(joined(&into_the_last), wanted);
    }

    #[test]
    fn what_is_used_otherwise_stays() {
        let twice = PROGRAM.replace("s + s2 + s3", "s + s2 * s2 + s3");
        assert_eq!(joined(&twice), twice);
        let scaled = PROGRAM.replace("s + s2 + s3", "s + 2.0 * s2 - s3");
        assert_eq!(joined(&scaled), scaled);
    }
}
