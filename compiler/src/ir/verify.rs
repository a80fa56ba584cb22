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
//! 11. `i0` and `i1` are only in the ends of ranges, and not in an index there.
//! 12. Of a loop's ranges, only the first may have no first position and only the last no last one.
//! 13. A mask is on partial tiles only where full ones are known.
//! 14. A schedule's sizes are not zero.
//!
//! Expressions that could leave 32 bits, divide by zero or read outside of a tensor are not the program's fault, but a
//! launch's: [`check_launch`](crate::analysis::ranges::check_launch) refuses it.

use super::{Accumulator, KeyLoop, KeyRange, MAX_HEAD_DIM, MaskedTiles, Program, TileOp};
use crate::expr::{Expr, Type};
use crate::schedule::{CpuSchedule, CubeSchedule, Schedule};
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
    program.schedule.map_or(Ok(()), verify_schedule)
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
    for (place, range) in key_loop.visit.iter().enumerate() {
        verify_range(program, "a visited range", range)?;
        let open_inside =
            (place > 0 && range.from.is_none()) || (place + 1 < key_loop.visit.len() && range.to.is_none());
        if open_inside {
            return fail(format!("visited range {place} of {} has an open end inside", key_loop.visit.len()));
        }
    }
    if let Some(full) = &key_loop.full {
        verify_range(program, "the full range", full)?;
    }
    for op in &key_loop.body {
        match op {
            TileOp::Dot | TileOp::Push => {}
            TileOp::Map(expr) => {
                verify_expr(program, "a map", expr, Type::Float, &[Expr::Query, Expr::Key, Expr::Score])?;
            }
            TileOp::Mask { visible, tiles } => {
                verify_expr(program, "a mask", visible, Type::Bool, &[Expr::Query, Expr::Key])?;
                if *tiles == MaskedTiles::Partial && key_loop.full.is_none() {
                    return fail("a mask on partial tiles, but no range of full ones");
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

fn verify_range(program: &Program, what: &str, range: &KeyRange) -> Result<(), VerifyError> {
    for end in range.from.iter().chain(&range.to) {
        verify_expr(program, what, end, Type::Int, &[Expr::QueryFirst, Expr::QueryLast])?;
        let indexed = end.any(&mut |expr| match expr {
            Expr::Load { index, .. } => index.iter().any(|index| !index.is_uniform()),
            _ => false,
        });
        if indexed {
            let text = end.display(program.parameters());
            return fail(format!("{what} reads a captured tensor at `i0` or `i1`: `{text}`"));
        }
    }
    Ok(())
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
    for leaf in [Expr::Query, Expr::Key, Expr::Score, Expr::QueryFirst, Expr::QueryLast] {
        if !allowed.contains(&leaf) && expr.mentions(&leaf) {
            return fail(format!("{what} depends on `{}`: `{text}`", leaf.display(program.parameters())));
        }
    }
    Ok(())
}

fn verify_schedule(schedule: Schedule) -> Result<(), VerifyError> {
    let sizes = match schedule {
        Schedule::Cpu(CpuSchedule { lanes, vectors, keys, rows }) => vec![lanes, vectors, keys, rows],
        Schedule::Cube(CubeSchedule { queries, keys, unit_rows, unit_columns, chunk }) => {
            vec![queries, keys, unit_rows, unit_columns, chunk]
        }
    };
    if sizes.contains(&0) { fail(format!("the schedule `{}` has a size of zero", schedule.name())) } else { Ok(()) }
}
