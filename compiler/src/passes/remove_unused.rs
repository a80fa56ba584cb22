//! Removes what is computed for nothing: accumulators that no output is of, with their pushes, and tiles that nothing is made of. That is how a
//! comptime `if` takes a product or an accumulator away. A loop stays, so that loops are those of the specification: an accumulator that is alone
//! in one stays with it.
//!
//! ```text
//! s = dot q, k[j]
//! s2 = dot r, l[j]
//! s = map s * scale()
//! o = push s, v[j]
//! ```
//! becomes
//! ```text
//! s = dot q, k[j]
//! s = map s * scale()
//! o = push s, v[j]
//! ```

use crate::expr::Expr;
use crate::ir::{Program, TileOp};

/// Removes unused accumulators and tiles.
pub fn remove_unused(program: &mut Program) {
    let is_stored = |place: usize| program.outputs.iter().any(|output| output.value.mentions(&Expr::Value(place)));
    let is_alone = |place: usize| {
        let is_other = |op: &TileOp| matches!(op, TileOp::Push { accumulator, .. } if is_stored(*accumulator));
        let pushes = |op: &TileOp| matches!(op, TileOp::Push { accumulator, .. } if *accumulator == place);
        program.loops.iter().any(|one| one.body.iter().any(pushes) && !one.body.iter().any(is_other))
    };
    let places = 0..program.accumulators.len();
    let unused: Vec<usize> = places.filter(|place| !is_stored(*place) && !is_alone(*place)).collect();
    // From the last on, so that the places of the others stay.
    for place in unused.into_iter().rev() {
        remove_accumulator(program, place);
    }
    for one in &mut program.loops {
        while let Some(tile) = (0..one.tiles.len()).find(|tile| !one.body.iter().any(|op| op.uses(*tile))) {
            one.body.retain(|op| !op.changes(tile));
            one.forget_tile(tile);
        }
    }
}

fn remove_accumulator(program: &mut Program, place: usize) {
    program.accumulators.remove(place);
    for output in &mut program.outputs {
        output.value = without(&output.value, place);
    }
    for one in &mut program.loops {
        one.body.retain(|op| !matches!(op, TileOp::Push { accumulator, .. } if *accumulator == place));
        for op in &mut one.body {
            if let TileOp::Push { accumulator, .. } = op {
                *accumulator -= usize::from(*accumulator > place);
            }
        }
    }
}

/// `expr`, from whose values the one at `removed` was taken.
fn without(expr: &Expr, removed: usize) -> Expr {
    match expr {
        Expr::Value(place) if *place > removed => Expr::Value(place - 1),
        other => other.map_children(|child| without(child, removed)),
    }
}

#[cfg(test)]
mod tests {
    use super::remove_unused;
    use crate::ir::parse::parse;
    use crate::ir::verify::verify;

    #[test]
    fn what_nothing_is_made_of_goes() {
        let text = "\
attention @some() -> f32[B, H, S, 4]
  q: f32[B, H, S, 4]  r: f32[B, H, S, 4]
  k: f32[B, G, T0, 4]  v: f32[B, G, T0, 4]
  for i in tiles(S)
    unused = mean
    o = sum
    q = load q[i]
    r = load r[i]
    for j in tiles(T0)
      s1 = dot r, k[j]
      s2 = dot q, k[j]
      t = map s1 * 2.0
      s3 = dot q, v[j]
      s2 = map s2 * 2.0
      o = push s2, v[j]
      unused = push s3, v[j]
    store o * r
";
        let mut program = parse(text).unwrap();
        remove_unused(&mut program);
        assert_eq!(verify(&program), Ok(()), "{program}");
        let wanted = "\
    o = sum
    q = load q[i]
    r = load r[i]
    for j in tiles(T0)
      s2 = dot q, k[j]
      s2 = map s2 * 2.0
      o = push s2, v[j]
    store o * r
";
        assert!(program.to_string().ends_with(wanted), "{program}");

        let in_a_loop = text.replace(
            "    store",
            "    for j in tiles(T0)\n      s = dot q, k[j]\n      unused = push s, v[j]\n    store",
        );
        let mut program = parse(&in_a_loop).unwrap();
        remove_unused(&mut program);
        assert_eq!(
            program.to_string(),
            in_a_loop.replace("      t = map s1 * 2.0\n", "").replace("      s1 = dot r, k[j]\n", "")
        );
    }
}
