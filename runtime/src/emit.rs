//! Kernels as text, for devices that are not here.

use crate::error::Error;
#[cfg(feature = "emit")]
use crate::schedule::{self, DevicePlanes};
use crate::schedule::{Constraints, Schedule};
use purview_compiler::device_model::DeviceModel;
use purview_compiler::scheduled::Scheduled;
use purview_compiler::target::{KernelText, Target};

/// The schedule for `model`, as it would be chosen on such a device.
#[cfg(feature = "emit")]
pub(crate) fn schedule_for(target: Target, model: &DeviceModel, constraints: Constraints) -> Result<Schedule, Error> {
    if !target.runs_on(model) {
        return Err(error(target, format!("`{}` does not run it", model.name)));
    }
    let properties = purview_compiler::emit::text::properties::device_properties(model, target);
    schedule::choose_for(&properties, DevicePlanes::of(&properties), constraints)
}

/// The text of `program`'s kernel.
#[cfg(feature = "emit")]
pub(crate) fn emit(
    target: Target,
    model: &DeviceModel,
    program: &Scheduled,
    constraints: Constraints,
) -> Result<KernelText, Error> {
    use purview_compiler::emit::text::{self, properties::device_properties};
    let failed = |failure: text::TextError| error(target, failure.to_string());
    text::check(target, model, program).map_err(failed)?;
    let properties = device_properties(model, target);
    let planes = DevicePlanes::of(&properties);
    schedule::check_for(&properties, planes, model.name, program.schedule(), constraints)?;
    text::emit(target, model, program).map_err(failed)
}

#[cfg(not(feature = "emit"))]
pub(crate) fn schedule_for(target: Target, _: &DeviceModel, _: Constraints) -> Result<Schedule, Error> {
    Err(error(target, "turn on purview's feature `emit`"))
}

#[cfg(not(feature = "emit"))]
pub(crate) fn emit(target: Target, _: &DeviceModel, _: &Scheduled, _: Constraints) -> Result<KernelText, Error> {
    Err(error(target, "turn on purview's feature `emit`"))
}

fn error(target: Target, reason: impl Into<String>) -> Error {
    Error::Target { target: target.name(), reason: reason.into() }
}
