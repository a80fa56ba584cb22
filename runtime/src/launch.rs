//! The way of a launch, from top to bottom.

use crate::bind;
use crate::cache;
use crate::error::Error;
use crate::plan;
use crate::prove;
use crate::request::{Call, Request};
use crate::tensor::Tensor;
use crate::validate;
use purview_compiler::emit::launch as emit;
use purview_compiler::ir::RowNumber;

/// What a launch gives.
pub struct Launched {
    /// The outputs, in the order of the specification.
    pub(crate) outputs: Vec<Tensor>,
    /// The numbers of each row that the program keeps, in its order.
    pub(crate) rows: Vec<KeptNumber>,
    /// What was asked, and the operands, where a backward pass may follow.
    pub(crate) asked: Option<(Request, Vec<Tensor>)>,
}

/// A number of each row of an accumulator.
#[derive(Clone, Debug)]
pub(crate) struct KeptNumber {
    /// The accumulator, by its place in the program.
    pub accumulator: usize,
    /// Which number.
    pub number: RowNumber,
    /// `[B, H, S]` in f32.
    pub tensor: Tensor,
}

impl Launched {
    /// A number of each row that was asked for, of the one accumulator.
    pub(crate) fn number(&self, number: RowNumber) -> Tensor {
        let found = self.rows.iter().find(|kept| kept.number == number);
        found.map(|kept| kept.tensor.clone()).expect("a number that a launch gives was asked for")
    }
}

/// Launches `call`. Every error is found before the launch.
pub(crate) fn launch(call: &Call) -> Result<Launched, Error> {
    // Types, shapes and places fit each other.
    let operation = validate::call(call)?;
    // Compiled at the first call for such operands, whatever their lengths.
    let programs = cache::programs(call.request, &operation.operands)?;
    // The schedule for the device, and what is done about few queries.
    let schedule = plan::on_device(call, &operation, &programs)?;
    // No index leaves its tensor, no integer 32 bits, and the driver runs all loops.
    let proved = prove::launch(call, &operation, &programs, schedule)?;
    // Memory for the results, and the summaries of captured tensors.
    let bound = bind::bind(call, &operation, &proved)?;
    let numbers = proved.program.row_numbers();
    if let Some(data) = bound.data {
        emit::launch(call.device.client(), &proved.program, data);
    }
    let rows = numbers.into_iter().zip(bound.rows);
    let rows = rows.map(|((accumulator, number), tensor)| KeptNumber { accumulator, number, tensor });
    Ok(Launched { outputs: bound.outputs, rows: rows.collect(), asked: None })
}
