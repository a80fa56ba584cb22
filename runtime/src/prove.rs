//! What must hold of a launch's numbers before it is bound: every index stays in its tensor, every integer in 32 bits, and the
//! device's driver runs all loops.

use crate::cache::Programs;
use crate::error::Error;
use crate::operation::Operation;
use crate::request::{Call, Request};
use purview_compiler::analysis::ranges::{check_launch, check_tiles};
use purview_compiler::expr::{Expr, Type, UnaryOp};
use purview_compiler::ir::Program;
use purview_compiler::launch::TensorFacts;
use purview_compiler::loop_iterations::loop_iterations;
use purview_compiler::notes;
use purview_compiler::schedule::Schedule;
use purview_compiler::scheduled::Scheduled;
use purview_compiler::spec::{Order, TensorType};
use std::collections::HashSet;

/// A program that a launch may run.
pub(crate) struct Proved {
    pub program: Scheduled,
    /// Whether rows are computed again whose output is not finite, for which the driver has loops enough.
    pub careful: bool,
}

/// The program with `schedule` that `call` may run on its device.
pub(crate) fn launch(
    call: &Call,
    operation: &Operation,
    programs: &Programs,
    schedule: Schedule,
) -> Result<Proved, Error> {
    let program = program(call.request, operation, programs, schedule)?;
    let careful = loops_end(call, operation, &program)?;
    Ok(Proved { program, careful })
}

/// The program with `schedule` for a launch of `request`, which is checked. It visits every tile where the numbers that decide of
/// tiles could leave 32 bits.
pub(crate) fn program(
    request: &Request,
    operation: &Operation,
    programs: &Programs,
    schedule: Schedule,
) -> Result<Scheduled, Error> {
    let spec = &request.spec;
    let program = programs.scheduled(schedule, true)?;
    let facts = tensor_facts(request, &program)?;
    let described = operation.described(&request.scalars, &facts);
    check_launch(spec, &program, &described)?;
    let program = if let Err(error) = check_tiles(spec, &program, &described) {
        log::debug!("`{}` visits every tile: {error}", spec.name);
        programs.scheduled(schedule, false)?
    } else if !summaries_fit(request, &program) {
        log::debug!("`{}` visits every tile: a summary of a captured tensor is too large for the device", spec.name);
        programs.scheduled(schedule, false)?
    } else {
        program
    };
    check_sorted(request)?;
    if log::log_enabled!(log::Level::Info) {
        for note in notes::of_launch(spec, &program, &described, None) {
            log::log!(note.level, "{note}");
        }
    }
    Ok(program)
}

/// Whether the captured tensors' devices can make the program's summaries of them.
pub(crate) fn summaries_fit(request: &Request, program: &Program) -> bool {
    program.summaries().iter().all(|summary| {
        let tensor = &request.tensors[summary.tensor];
        let row = summary.shape(tensor.shape()).last().copied().unwrap_or(0) as u64;
        // A unit walks along a row to link its blocks, with an iteration before it, one after it, and one that leaves.
        let walked =
            !summary.links_keys || tensor.device().capabilities().loop_iterations.is_none_or(|limit| row + 3 <= limit);
        walked && summary.bytes(tensor.shape()) as u64 <= tensor.device().capabilities().largest_buffer
    })
}

/// Checks that the device's driver runs as many iterations of loops as a launch may need. Returns whether it also runs those of rows
/// that are computed again because their output is not finite.
fn loops_end(call: &Call, operation: &Operation, program: &Scheduled) -> Result<bool, Error> {
    let &Call { request, device, operands, .. } = call;
    let Some(limit) = device.capabilities().loop_iterations else { return Ok(true) };
    let width = program.schedule().width_of(program);
    let width = if operands.iter().all(|tensor| tensor.is_in_vectors(width)) { width } else { 1 };
    let facts: Vec<TensorFacts> =
        request.tensors.iter().map(|tensor| TensorFacts { shape: tensor.shape().to_vec(), values: None }).collect();
    let launch = operation.described(&request.scalars, &facts);
    let Some(found) = loop_iterations(&request.spec, program, &launch, width, limit) else { return Ok(true) };
    if found.needed > limit && !launch.is_empty() {
        return Err(Error::LoopIterations {
            attention: request.spec.name.clone(),
            device: device.name().into(),
            driver: device.client().properties().identity.name.clone(),
            limit,
            needed: found.needed,
            fitting: found.fitting(limit),
            given: found.keys,
        });
    }
    let careful = found.needed.saturating_add(found.careful) <= limit;
    if !careful {
        log::debug!(
            "`{}`: rows whose output is not finite are not computed again, which takes more loops than the driver runs",
            request.spec.name
        );
    }
    Ok(careful)
}

/// The captured tensors' lengths, and the ranges of those whose values take part in integer arithmetic.
pub(crate) fn tensor_facts(request: &Request, program: &Program) -> Result<Vec<TensorFacts>, Error> {
    let needed = tensors_in_arithmetic(program);
    let facts = request.tensors.iter().enumerate().map(|(place, tensor)| {
        let values = if needed.contains(&place) { tensor.value_range()? } else { None };
        Ok(TensorFacts { shape: tensor.shape().to_vec(), values })
    });
    facts.collect()
}

/// Checks that captured tensors are sorted which are declared so, unless the declaration says `unchecked`.
pub(crate) fn check_sorted(request: &Request) -> Result<(), Error> {
    for (param, tensor) in request.spec.tensors.iter().zip(&request.tensors) {
        if param.order == Order::Sorted && !tensor.is_sorted()? {
            return Err(Error::NotSorted { name: param.name.clone(), shape: tensor.shape().to_vec() });
        }
    }
    Ok(())
}

/// The captured tensors of integers whose values take part in integer arithmetic, in an index or in a float that is cast to an
/// integer, so that their range matters. A comparison needs none.
fn tensors_in_arithmetic(program: &Program) -> HashSet<usize> {
    let mut needed = HashSet::new();
    let mut visit = |expr: &Expr| {
        expr.any(&mut |expr| {
            let parameters = program.parameters();
            let operands = match expr {
                // What is counted is compared with elements, and only indices matter.
                Expr::Count { index, .. } => index.iter().collect(),
                Expr::Load { .. } | Expr::Extreme { .. } | Expr::Next { .. } => expr.children(),
                Expr::Unary(..) | Expr::Binary(..) if parameters.assume_type(expr) == Type::Int => expr.children(),
                _ => Vec::new(),
            };
            let mut insert = |operand: &Expr| {
                if let Expr::Load { tensor, .. } | Expr::Extreme { tensor, .. } = operand
                    && program.tensors[*tensor].ty == TensorType::I32
                {
                    needed.insert(*tensor);
                }
                false
            };
            for mut operand in operands {
                // Whichever branch it is, its value is the operand.
                while let Expr::Select(_, a, b) = operand {
                    a.any(&mut insert);
                    operand = b;
                }
                insert(operand);
            }
            if let Expr::Unary(UnaryOp::ToInt, a) = expr
                && parameters.assume_type(a) == Type::Float
            {
                a.any(&mut insert);
            }
            false
        });
    };
    for one in &program.loops {
        one.tile_exprs().chain(one.maps()).chain(one.masks()).for_each(&mut visit);
    }
    program.accumulators.iter().filter_map(|one| one.reduction.sink()).for_each(&mut visit);
    program.loads.iter().filter_map(|load| load.scale.as_ref()).for_each(&mut visit);
    program.outputs.iter().map(|output| &output.value).for_each(visit);
    needed
}
