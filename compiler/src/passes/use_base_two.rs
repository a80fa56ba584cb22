//! Computes a softmax with powers of two, which machines have, instead of powers of e.
//!
//! ```text
//! o = softmax base e sink sink[head()]
//! …
//!   s = map s * scale()
//! ```
//! becomes
//! ```text
//! o = softmax base 2 sink sink[head()] * 1.442695
//! …
//!   s = map s * (scale() * 1.442695)
//! ```
//!
//! since eˢ = 2^(s · log2 e). A product's factors that are the same for a whole query tile are collected, so that the new
//! factor costs nothing.

use crate::analysis::product::Product;
use crate::expr::{BinaryOp, Expr};
use crate::ir::{Base, Program, Reduction, TileOp};
use std::collections::BTreeSet;

/// Turns softmaxes of base e into ones of base two.
pub fn use_base_two(program: &mut Program) {
    for place in 0..program.accumulators.len() {
        let Reduction::Softmax { base: base @ Base::E, sink } = &mut program.accumulators[place].reduction else {
            continue;
        };
        *base = Base::Two;
        if let Some(sink) = sink {
            *sink = times_log2_e(sink);
        }
        for one in &mut program.loops {
            scale_pushed(&mut one.body, place);
        }
    }
}

/// Multiplies what `body` pushes into an accumulator, in the last map of each tile, or in a map of its own where something else is made of the
/// tile after that, or where it has none.
fn scale_pushed(body: &mut Vec<TileOp>, accumulator: usize) {
    let pushed: BTreeSet<usize> = body
        .iter()
        .filter_map(|op| match op {
            TileOp::Push { accumulator: into, weights, .. } if *into == accumulator => Some(*weights),
            _ => None,
        })
        .collect();
    for pushed in pushed {
        let is_made = |op: &TileOp| match op {
            TileOp::Dot { tile, .. } | TileOp::Map { tile, .. } => *tile == pushed,
            _ => false,
        };
        let Some(place) = body.iter().rposition(is_made) else { continue };
        let is_end = |op: &TileOp| match op {
            TileOp::Mask { tile, .. } => *tile == pushed,
            TileOp::Push { weights, .. } => *weights == pushed,
            TileOp::Add { tile, .. } => *tile == pushed,
            _ => false,
        };
        let end = place + body[place..].iter().position(is_end).unwrap_or(body.len() - place);
        let is_used = body[place + 1..end].iter().any(|op| op.uses(pushed));
        match &mut body[place] {
            TileOp::Map { value, .. } if !is_used => *value = times_log2_e(value),
            _ => {
                // Maps come after all dots.
                let last_dot = body.iter().rposition(|op| matches!(op, TileOp::Dot { .. })).unwrap_or(place);
                let at = if is_used { end } else { place.max(last_dot) + 1 };
                body.insert(at, TileOp::Map { tile: pushed, value: times_log2_e(&Expr::Value(pushed)) });
            }
        }
    }
}

/// `expr` times log2 e: of a logarithm to base e, that to base 2.
pub(crate) fn times_log2_e(expr: &Expr) -> Expr {
    let mut product = Product::of(expr);
    product.constant *= std::f64::consts::LOG2_E;
    product
        .to_expr()
        .unwrap_or_else(|_| Expr::binary(BinaryOp::Mul, expr.clone(), Expr::float(std::f32::consts::LOG2_E)))
}

#[cfg(test)]
mod tests {
    use super::use_base_two;
    use crate::ir::parse::parse;
    use crate::ir::verify::verify;

    #[test]
    fn all_that_is_pushed_is_scaled_once() {
        let text = "\
attention @two() -> f32[B, H, S, 4]
  q: f32[B, H, S, 4]
  k1: f32[B, G, T0, 4]  k2: f32[B, G, T0, 4]  v: f32[B, G, T0, 4]
  for i in tiles(S)
    o = softmax base e
    other = sum
    q = load q[i]
    for j in tiles(T0)
      s1 = dot q, k1[j]
      s2 = dot q, k2[j]
      weight = dot q, k1[j]
      s1 = map s1 * 2.0
      o = push s1, v[j]
      o = push s2, v[j]
      other = push weight, v[j]
    store o + other
";
        let mut program = parse(text).unwrap();
        use_base_two(&mut program);
        let wanted = text
            .replace("base e", "base 2")
            .replace("s1 * 2.0", "s1 * 2.88539")
            .replace("weight = dot q, k1[j]\n", "weight = dot q, k1[j]\n      s2 = map s2 * 1.442695\n");
        assert_eq!(program.to_string(), wanted);
    }

    #[test]
    fn what_is_made_of_a_score_before_stays() {
        let text = "\
attention @weighted() -> f32[B, H, S, 4]
  q: f32[B, H, S, 4]
  k: f32[B, G, T0, 4]  v: f32[B, G, T0, 4]
  for i in tiles(S)
    o = softmax base e
    q = load q[i]
    for j in tiles(T0)
      s = dot q, k[j]
      w = map sigmoid(s)
      s = mask s where j <= i on all
      o = push s * w, v[j]
    store o
";
        let mut program = parse(text).unwrap();
        use_base_two(&mut program);
        let wanted =
            text.replace("base e", "base 2").replace("      s = mask", "      s = map s * 1.442695\n      s = mask");
        assert_eq!(program.to_string(), wanted);
        assert_eq!(verify(&program), Ok(()));
    }
}
