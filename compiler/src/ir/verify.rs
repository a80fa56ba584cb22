//! What a tile program satisfies after every stage.
//!
//! 1. The attention, the tensors and the scalars have names, which are identifiers; those of parameters differ.
//! 2. Scalars are runtime values: none is comptime.
//! 3. Captured tensors have 1 to 4 dimensions.
//! 4. Head dims are 1 to [`MAX_HEAD_DIM`].
//! 5. There is a pair; each has a loop, and each loop has a pair.
//! 6. A loop's body is a dot, any number of maps, at most one mask, and a push.
//! 7. Expressions have types: a map, a sink and a query scale are floats, a mask is a bool, ends of ranges are integers.
//! 8. No expression has a `mask(…)` in it.
//! 9. `s` is only in maps.
//! 10. `i` is only in maps, masks and sinks, and `j` only in maps and masks.
//! 11. `i0`, `i1`, `least`, `greatest` and `count` are only in ranges and classes, `j0` and `j1` only in classes.
//!     A hop, in which alone `next` may be, has no `j1`.
//! 12. A loop has at most [`MAX_RANGES`] visited and as many full ranges.
//! 13. A mask is on partial tiles only where full ones can be known.
//! 14. What has a schedule is no softmax to base e, and the schedule's sizes are not zero.
//!
//! Expressions that could leave 32 bits, divide by zero or read outside of a tensor are not the program's fault, but a
//! launch's: [`check_launch`](crate::analysis::ranges::check_launch) refuses it.

use super::{Accumulator, Base, KeyLoop, MAX_HEAD_DIM, MAX_RANGES, MaskedTiles, Program, TileClass, TileOp};
use crate::expr::{Expr, Type};
use crate::schedule::{CpuSchedule, CubeSchedule, MmaSchedule, Planes, Products, Schedule};
use crate::typing::type_of;
use std::collections::HashSet;
use thiserror::Error;

/// An invariant that a program breaks.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct VerifyError(pub String);

/// Checks all of the module's invariants; gives the first that is broken.
pub fn verify(program: &Program) -> Result<(), VerifyError> {
    verify_names(program)?;
    verify_operands(program)?;
    if let Some(scale) = &program.query_scale {
        verify_expr(program, "the query scale", scale, Type::Float, &[])?;
    }
    if let Accumulator::Softmax { sink: Some(sink), .. } = &program.accumulator {
        verify_expr(program, "the sink", sink, Type::Float, &[Expr::Query])?;
    }
    for (place, key_loop) in program.loops.iter().enumerate() {
        verify_loop(program, key_loop).map_err(|error| VerifyError(format!("in key loop {place}: {error}")))?;
    }
    Ok(())
}

fn fail(message: impl Into<String>) -> Result<(), VerifyError> {
    Err(VerifyError(message.into()))
}

fn verify_names(program: &Program) -> Result<(), VerifyError> {
    let pairs = program.pairs.iter().flat_map(|pair| [&pair.key, &pair.value]);
    let scalars = program.scalars.iter().map(|scalar| &scalar.name);
    let tensors = program.tensors.iter().map(|tensor| &tensor.name);
    let mut known = HashSet::new();
    for name in std::iter::once(&program.query).chain(pairs).chain(scalars).chain(tensors) {
        if !known.insert(name) {
            return fail(format!("two parameters are named `{name}`"));
        }
    }
    known.insert(&program.name);
    let mut known: Vec<_> = known.into_iter().collect();
    known.sort();
    for name in known {
        let mut chars = name.chars();
        let starts = chars.next().is_some_and(|first| first == '_' || first.is_alphabetic());
        if !starts || !chars.all(|char| char == '_' || char.is_alphanumeric()) {
            return fail(format!("`{name}` is not a name"));
        }
    }
    Ok(())
}

fn verify_operands(program: &Program) -> Result<(), VerifyError> {
    if let Some(scalar) = program.scalars.iter().find(|scalar| scalar.comptime) {
        return fail(format!("the scalar `{}` is comptime", scalar.name));
    }
    if let Some(tensor) = program.tensors.iter().find(|tensor| !(1..=4).contains(&tensor.rank)) {
        return fail(format!("the tensor `{}` has {} dimensions, expected 1 to 4", tensor.name, tensor.rank));
    }
    for dim in [program.operands.qk_dim, program.operands.v_dim] {
        if !(1..=MAX_HEAD_DIM).contains(&dim) {
            return fail(format!("a head dim of {dim}, expected 1 to {MAX_HEAD_DIM}"));
        }
    }
    if program.pairs.is_empty() {
        return fail("no keys");
    }
    for (place, pair) in program.pairs.iter().enumerate() {
        if !program.loops.iter().any(|key_loop| key_loop.pair == place) {
            return fail(format!("no loop over `{}`", pair.key));
        }
    }
    match program.loops.iter().find(|key_loop| key_loop.pair >= program.pairs.len()) {
        Some(outside) => fail(format!("a loop over pair {} of {}", outside.pair, program.pairs.len())),
        None => Ok(()),
    }
}

fn verify_loop(program: &Program, key_loop: &KeyLoop) -> Result<(), VerifyError> {
    let kinds: Vec<_> = key_loop.body.iter().map(kind).collect();
    let middle = match &kinds[..] {
        ["dot", middle @ .., "push"] => middle,
        _ => &["none"],
    };
    let maps = middle.iter().take_while(|kind| **kind == "map").count();
    if !matches!(middle[maps..], [] | ["mask"]) {
        return fail(format!("the body is `{}`, expected a dot, maps, a mask and a push", kinds.join(", ")));
    }
    for (what, ranges) in [("a visited range", &key_loop.visit), ("a full range", &key_loop.full)] {
        if ranges.len() > MAX_RANGES {
            return fail(format!("{} of {what}, expected at most {MAX_RANGES}", ranges.len()));
        }
        for range in ranges {
            let tile = [Expr::QueryFirst, Expr::QueryLast];
            range.when.iter().try_for_each(|when| verify_expr(program, what, when, Type::Bool, &tile))?;
            let mut ends = range.from.iter().chain(&range.to);
            ends.try_for_each(|end| verify_expr(program, what, end, Type::Int, &tile))?;
        }
    }
    if let Some(TileClass { some, all }) = &key_loop.class {
        for expr in [some, all] {
            let tile = [Expr::QueryFirst, Expr::QueryLast, Expr::KeyFirst, Expr::KeyLast];
            verify_expr(program, "a class", expr, Type::Bool, &tile)?;
        }
    }
    if let Some(hop) = &key_loop.hop {
        verify_expr(program, "a hop", hop, Type::Int, &[Expr::QueryFirst, Expr::QueryLast, Expr::KeyFirst])?;
    }
    for op in &key_loop.body {
        match op {
            TileOp::Dot | TileOp::Push => {}
            TileOp::Map(expr) => {
                verify_expr(program, "a map", expr, Type::Float, &[Expr::Query, Expr::Key, Expr::Score])?;
            }
            TileOp::Mask { visible, tiles } => {
                verify_expr(program, "a mask", visible, Type::Bool, &[Expr::Query, Expr::Key])?;
                if *tiles == MaskedTiles::Partial && key_loop.full.is_empty() && key_loop.class.is_none() {
                    return fail("a mask on partial tiles, but nothing says which are full");
                }
            }
        }
    }
    Ok(())
}

fn kind(op: &TileOp) -> &'static str {
    match op {
        TileOp::Dot => "dot",
        TileOp::Map(_) => "map",
        TileOp::Mask { .. } => "mask",
        TileOp::Push => "push",
    }
}

/// Checks the type of an expression and that of the leaves which have a place, only `allowed` occur.
fn verify_expr(program: &Program, what: &str, expr: &Expr, ty: Type, allowed: &[Expr]) -> Result<(), VerifyError> {
    let found = type_of(expr, program.parameters()).map_err(|error| VerifyError(format!("{what}: {error}")))?;
    let text = expr.display(program.parameters());
    if found != ty {
        return fail(format!("{what} is of type {found}, expected {ty}: `{text}`"));
    }
    if expr.any(&mut |expr| matches!(expr, Expr::Mask(..))) {
        return fail(format!("{what} has a mask in it: `{text}`"));
    }
    let is_misplaced = |expr: &Expr| match expr {
        Expr::Extreme { .. } | Expr::Count { .. } => !allowed.contains(&Expr::QueryFirst),
        Expr::Next { .. } => !allowed.contains(&Expr::KeyFirst) || allowed.contains(&Expr::KeyLast),
        _ => false,
    };
    if expr.any(&mut |expr| is_misplaced(expr)) {
        return fail(format!("{what} depends on a summary of a captured tensor: `{text}`"));
    }
    for leaf in [Expr::Query, Expr::Key, Expr::Score, Expr::QueryFirst, Expr::QueryLast, Expr::KeyFirst, Expr::KeyLast]
    {
        if !allowed.contains(&leaf) && expr.mentions(&leaf) {
            return fail(format!("{what} depends on `{}`: `{text}`", leaf.display(program.parameters())));
        }
    }
    Ok(())
}

/// Checks what a program that is run by `schedule` must satisfy besides.
pub fn verify_scheduled(program: &Program, schedule: Schedule) -> Result<(), VerifyError> {
    if matches!(program.accumulator, Accumulator::Softmax { base: Base::E, .. }) {
        return fail("a softmax to base e has a schedule, and kernels compute it to base 2");
    }
    let sizes = match schedule {
        Schedule::Cpu(CpuSchedule { lanes, vectors, keys, rows }) => vec![lanes, vectors, keys, rows],
        Schedule::Cube(CubeSchedule { unit_rows, unit_columns, rows, keys, chunk, planes, products }) => {
            let plane = if let Planes::Share(size) = planes { size } else { 1 };
            let matrix = if let Products::Matrices { m, n, k, plane } = products { m * n * k * plane } else { 1 };
            vec![unit_rows, unit_columns, rows, keys, chunk, plane, matrix]
        }
        Schedule::Mma(MmaSchedule { warps, fragments, keys, pack_gqa: _ }) => vec![warps, fragments, keys],
    };
    if sizes.contains(&0) { fail(format!("the schedule `{}` has a size of zero", schedule.name())) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::parse::parse;

    const PROGRAM: &str = "\
attention @window(w: u32, doc: Tensor<i32, 1>) -> f32[B, H, S, 8]
  q: f32[B, H, S, 4]
  k: f32[B, G, T0, 4]  v: f32[B, G, T0, 8]
  for i in tiles(S)
    o = softmax base 2 sink i as f32
    q = load q[i] * (scale())
    for j in tiles(T0) from i0 - w + 1 to i1 + 1
        full from i1 - w + 1 to i0 + 1
      s = dot q, k[j]
      s = map s * 2.0
      s = mask s where j <= i on partial
      o = push s, v[j]
    store o
";

    /// Checks that the program with `from` replaced by `to` is refused with `message`.
    fn refused(from: &str, to: &str, message: &str) {
        assert_eq!(PROGRAM.matches(from).count(), 1, "`{from}` once");
        let program = parse(&PROGRAM.replace(from, to)).unwrap();
        assert_eq!(verify(&program).map_err(|error| error.to_string()), Err(message.to_string()));
    }

    #[test]
    fn a_program_that_breaks_nothing_is_accepted() {
        assert_eq!(verify(&parse(PROGRAM).unwrap()), Ok(()));
    }

    #[test]
    fn names() {
        refused("(w: u32", "(q: u32, w: u32", "two parameters are named `q`");
        let mut program = parse(PROGRAM).unwrap();
        program.name = "a b".into();
        assert_eq!(verify(&program).unwrap_err().to_string(), "`a b` is not a name");
    }

    #[test]
    fn parameters() {
        refused("(w: u32", "(#[comptime] w: u32", "the scalar `w` is comptime");
        refused("<i32, 1>", "<i32, 5>", "the tensor `doc` has 5 dimensions, expected 1 to 4");
    }

    #[test]
    fn head_dims() {
        let program = parse(&PROGRAM.replace("S, 4]", "S, 257]").replace("T0, 4]", "T0, 257]")).unwrap();
        assert_eq!(verify(&program).unwrap_err().to_string(), "a head dim of 257, expected 1 to 256");
    }

    #[test]
    fn pairs_and_loops() {
        refused(
            "  for i in tiles(S)",
            "  m: f32[B, G, T1, 4]  n: f32[B, G, T1, 8]\n  for i in tiles(S)",
            "no loop over `m`",
        );
        let mut program = parse(PROGRAM).unwrap();
        let mut other = program.loops[0].clone();
        other.pair = 3;
        program.loops.push(other);
        assert_eq!(verify(&program).unwrap_err().to_string(), "a loop over pair 3 of 1");
        program.pairs.clear();
        assert_eq!(verify(&program).unwrap_err().to_string(), "no keys");
    }

    #[test]
    fn the_order_of_a_body() {
        refused(
            "s = map s * 2.0\n      s = mask s where j <= i on partial",
            "s = mask s where j <= i on partial\n      s = map s * 2.0",
            "in key loop 0: the body is `dot, mask, map, push`, expected a dot, maps, a mask and a push",
        );
        refused(
            "      o = push s, v[j]\n",
            "",
            "in key loop 0: the body is `dot, map, mask`, expected a dot, maps, a mask and a push",
        );
    }

    #[test]
    fn types() {
        refused("map s * 2.0", "map j", "in key loop 0: a map is of type integer, expected float: `j`");
        refused("map s * 2.0", "map s * i", "in key loop 0: a map: operands of types float and integer in `s * i`");
        refused("where j <= i", "where s", "in key loop 0: a mask is of type float, expected bool: `s`");
        refused("map s * 2.0", "map doc[i][j] as f32", {
            "in key loop 0: a map: 2 indices into `doc` of rank 1 in `doc[i][j]`"
        });
    }

    #[test]
    fn places_of_leaves() {
        refused("map s * 2.0", "map mask(s, j <= i)", "in key loop 0: a map has a mask in it: `mask(s, j <= i)`");
        refused("where j <= i", "where s > 0.0", "in key loop 0: a mask depends on `s`: `s > 0.0`");
        refused("sink i as f32", "sink j as f32", "the sink depends on `j`: `j as f32`");
        refused("(scale())", "(i as f32)", "the query scale depends on `i`: `i as f32`");
        refused("map s * 2.0", "map i0 as f32", "in key loop 0: a map depends on `i0`: `i0 as f32`");
        refused("to i1 + 1", "to i + 1", "in key loop 0: a visited range depends on `i`: `i + 1`");
        refused("to i0 + 1", "to j", "in key loop 0: a full range depends on `j`: `j`");
        refused("to i0 + 1", "to j0", "in key loop 0: a full range depends on `j0`: `j0`");
        refused("map s * 2.0", "map least(doc[i through i]) as f32", {
            "in key loop 0: a map depends on a summary of a captured tensor: `least(doc[i]) as f32`"
        });
        refused("to i1 + 1", "to count(doc < i1)", {
            "in key loop 0: a visited range: a count in `doc`, which is not a sorted tensor of integers, in `count(doc < i1)`"
        });
    }

    #[test]
    fn ranges() {
        let ranges = |count: i32| (0..count).map(|end| format!("to {end}")).collect::<Vec<_>>().join(", ");
        refused("to i1 + 1", &ranges(9), "in key loop 0: 9 of a visited range, expected at most 8");
        assert_eq!(verify(&parse(&PROGRAM.replace("to i1 + 1", &ranges(8))).unwrap()), Ok(()));
        refused("to i1 + 1", "to i1 + 1 if w", "in key loop 0: a visited range is of type integer, expected bool: `w`");
    }

    #[test]
    fn masks_on_partial_tiles() {
        refused(
            "        full from i1 - w + 1 to i0 + 1\n",
            "",
            "in key loop 0: a mask on partial tiles, but nothing says which are full",
        );
    }

    #[test]
    fn schedules() {
        let schedule = |rows| Schedule::Cpu(CpuSchedule { lanes: 4, vectors: 1, keys: 8, rows });
        let refused = |text: &str, schedule| {
            verify_scheduled(&parse(text).unwrap(), schedule).map_err(|error| error.to_string()).unwrap_err()
        };
        assert_eq!(verify_scheduled(&parse(PROGRAM).unwrap(), schedule(2)), Ok(()));
        assert_eq!(refused(PROGRAM, schedule(0)), "the schedule `cpu` has a size of zero");
        assert_eq!(
            refused(&PROGRAM.replace("base 2", "base e"), schedule(2)),
            "a softmax to base e has a schedule, and kernels compute it to base 2"
        );
    }
}
