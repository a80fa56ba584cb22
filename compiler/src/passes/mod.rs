//! From a tile program as lowered to one that is ready to be emitted: the stages, in the order they run.

mod bound_key_loops;
mod classify_tiles;
mod find_full_tiles;
mod join_dots;
mod scale_queries;
mod simplify_expressions;
pub(crate) mod use_base_two;

pub use bound_key_loops::bound_key_loops;
pub use classify_tiles::classify_tiles;
pub use find_full_tiles::find_full_tiles;
pub use join_dots::join_dots;
pub use scale_queries::scale_queries;
pub use simplify_expressions::simplify_expressions;
pub use use_base_two::use_base_two;

use crate::backward::{Backward, BackwardError, Wanted, differentiate};
use crate::ir::forward::OperandDims;
use crate::ir::verify::{VerifyError, verify};
use crate::ir::{Kept, Program};
use crate::lower::{LowerError, lower};
use crate::schedule::Schedule;
use crate::scheduled::{Compiled, Scheduled};
use crate::spec::{ScalarValue, Spec};
use std::fmt::Display;
use std::time::Instant;
use thiserror::Error;

/// A pass over a tile program.
pub struct Pass {
    /// The name of the stage after it.
    pub name: &'static str,
    /// What it does.
    pub run: fn(&mut Program),
}

/// The passes, in the order they run, with what holds after each.
pub const PASSES: &[Pass] = &[
    // After this point: no expression has a constant part; a mask is neither always true nor said twice; a product that only a branch never
    // taken was of is gone.
    Pass { name: "simplify_expressions", run: simplify_expressions },
    // After this point: no two dots are only added to each other.
    Pass { name: "join_dots", run: join_dots },
    // After this point: loops visit only key ranges that can hold a visible pair.
    Pass { name: "bound_key_loops", run: bound_key_loops },
    // After this point: keys that need no mask are known, where ranges tell.
    Pass { name: "find_full_tiles", run: find_full_tiles },
    // After this point: tiles that ranges do not decide are decided one by one, where intervals tell.
    Pass { name: "classify_tiles", run: classify_tiles },
    // After this point: scores and sinks are logarithms to base 2.
    Pass { name: "use_base_two", run: use_base_two },
    // After this point: factors that all scores have are in the queries.
    Pass { name: "scale_queries", run: scale_queries },
];

/// The name of the stage before the passes.
pub const LOWER: &str = "lower";

/// The name of the stage after them.
pub const SCHEDULE: &str = "schedule";

/// Why there is no program.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum CompileError {
    /// The specification is at fault.
    #[error(transparent)]
    Lower(#[from] LowerError),
    /// It has no derivative.
    #[error(transparent)]
    Backward(#[from] BackwardError),
    /// The schedule, or a stage of the compiler, is at fault.
    #[error("the program after `{stage}` is not valid: {error}")]
    Verify {
        /// The stage.
        stage: &'static str,
        /// What it broke.
        error: VerifyError,
    },
}

/// The program of `spec` after all passes, which [keeps](Program::keeping) the numbers of each row that `kept` names. `scalars` holds a
/// value for each of the specification's scalars, of which only the comptime ones matter.
///
/// The environment variable `PURVIEW_DUMP=STAGE` prints the program after that stage (or after `all`) to stderr.
///
/// # Errors
/// [`CompileError`].
pub fn compile(spec: &Spec, scalars: &[ScalarValue], dims: &OperandDims, kept: Kept) -> Result<Program, CompileError> {
    run(spec, scalars, dims, kept, |_, _| {})
}

/// The last stage: `program` with `schedule`.
///
/// # Errors
/// [`CompileError::Verify`], as [`Scheduled::new`] says.
pub fn schedule(program: Compiled, schedule: Schedule) -> Result<Scheduled, CompileError> {
    let scheduled =
        Scheduled::new(program, schedule).map_err(|error| CompileError::Verify { stage: SCHEDULE, error })?;
    dump(SCHEDULE, &scheduled);
    Ok(scheduled)
}

/// The program of `spec` after each stage but the last, with the stage's name.
///
/// # Errors
/// As [`compile`].
pub fn stages(
    spec: &Spec,
    scalars: &[ScalarValue],
    dims: &OperandDims,
    kept: Kept,
) -> Result<Vec<(&'static str, Program)>, CompileError> {
    let mut stages = Vec::new();
    run(spec, scalars, dims, kept, |stage, program| stages.push((stage, program.clone())))?;
    Ok(stages)
}

/// Prints `program` where `PURVIEW_DUMP` asks for `stage`.
fn dump(stage: &str, program: &dyn Display) {
    if std::env::var("PURVIEW_DUMP").is_ok_and(|asked| asked == stage || asked == "all") {
        eprintln!("// after {stage}\n{program}");
    }
}

fn run(
    spec: &Spec,
    scalars: &[ScalarValue],
    dims: &OperandDims,
    kept: Kept,
    mut seen: impl FnMut(&'static str, &Program),
) -> Result<Program, CompileError> {
    let mut finish = |stage: &'static str, program: &Program, started: Instant| {
        log::trace!("{} of `{}` took {:?}", stage, spec.name, started.elapsed());
        dump(stage, program);
        verify(program).map_err(|error| CompileError::Verify { stage, error })?;
        seen(stage, program);
        Ok::<_, CompileError>(())
    };

    let started = Instant::now();
    let mut program = lower(spec, scalars, dims)?.keeping(kept);
    finish(LOWER, &program, started)?;
    for pass in PASSES {
        let started = Instant::now();
        (pass.run)(&mut program);
        finish(pass.name, &program, started)?;
    }
    Ok(program)
}

/// The programs that give the gradients of the operands of `spec` that are `wanted`, after all passes.
///
/// # Errors
/// [`CompileError`].
pub fn compile_backward(
    spec: &Spec,
    scalars: &[ScalarValue],
    dims: &OperandDims,
    wanted: &Wanted,
) -> Result<Backward, CompileError> {
    let mut program = lower(spec, scalars, dims)?;
    simplify_expressions(&mut program);
    join_dots(&mut program);
    let mut backward = differentiate(&program, wanted)?;
    for derived in backward.programs_mut() {
        for pass in PASSES {
            (pass.run)(&mut derived.program);
            dump(pass.name, &derived.program);
            let stage = pass.name;
            verify(&derived.program).map_err(|error| CompileError::Verify { stage, error })?;
        }
    }
    Ok(backward)
}
