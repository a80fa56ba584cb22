//! Kernels as text, for devices that are not here.

use crate::error::Error;
use crate::schedule::Schedule;
#[cfg(feature = "emit")]
use crate::schedule::{self, DevicePlanes};
use purview_compiler::device_model::DeviceModel;
use purview_compiler::emit::arguments::Compiled;
use purview_compiler::ir::Operands;
use purview_compiler::target::Target;

/// A kernel as its target reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelText {
    /// The text, below a comment that says what it is. Of SPIR-V the disassembly.
    pub text: String,
    /// Of SPIR-V the module.
    pub words: Option<Vec<u32>>,
}

/// The schedule for `model`, as it would be chosen on such a device; `bounded` as for [`schedule::choose`].
#[cfg(feature = "emit")]
pub(crate) fn schedule_for(
    target: Target,
    model: &DeviceModel,
    operands: &Operands,
    bounded: bool,
) -> Result<Schedule, Error> {
    if !target.runs_on(model) {
        return Err(error(target, format!("`{}` does not run it", model.name)));
    }
    let properties = purview_compiler::emit::properties::device_properties(model, target);
    schedule::choose_for(&properties, DevicePlanes::of(&properties), operands, bounded)
}

/// The text of `program`'s kernel.
#[cfg(feature = "emit")]
pub(crate) fn emit(target: Target, model: &DeviceModel, program: &Compiled) -> Result<KernelText, Error> {
    use purview_compiler::emit::{properties::device_properties, text};
    let failed = |failure: text::TextError| error(target, failure.to_string());
    let schedule = text::check(target, model, program).map_err(failed)?;
    let properties = device_properties(model, target);
    let planes = DevicePlanes::of(&properties);
    schedule::check_for(&properties, planes, model.name, schedule, &program.operands)?;
    let kernel = text::emit(target, model, program).map_err(failed)?;
    Ok(KernelText { text: kernel.text, words: kernel.words })
}

#[cfg(not(feature = "emit"))]
pub(crate) fn schedule_for(target: Target, _: &DeviceModel, _: &Operands, _: bool) -> Result<Schedule, Error> {
    Err(error(target, "turn on purview's feature `emit`"))
}

#[cfg(not(feature = "emit"))]
pub(crate) fn emit(target: Target, _: &DeviceModel, _: &Compiled) -> Result<KernelText, Error> {
    Err(error(target, "turn on purview's feature `emit`"))
}

fn error(target: Target, reason: impl Into<String>) -> Error {
    Error::Target { target: target.name(), reason: reason.into() }
}
