//! The way of a launch, from top to bottom.

use crate::bind;
use crate::cache;
use crate::error::Error;
use crate::plan;
use crate::prove;
use crate::request::Call;
use crate::tensor::Tensor;
use crate::validate;
use purview_compiler::emit::launch as emit;

/// Launches `call`. Returns the output and the log-sum-exp, which only a softmax writes. Every error is found before the launch.
pub(crate) fn launch(call: &Call) -> Result<(Tensor, Tensor), Error> {
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
    if let Some(data) = bound.data {
        emit::launch(call.device.client(), &proved.program, data);
    }
    Ok((bound.output, bound.lse))
}
