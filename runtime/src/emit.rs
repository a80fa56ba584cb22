//! Kernels as text, for devices that are not here.

use crate::error::Error;
#[cfg(feature = "emit")]
use crate::schedule;
use crate::schedule::Schedule;
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

/// The schedule for `model`, as it would be chosen on such a device.
#[cfg(feature = "emit")]
pub(crate) fn schedule_for(target: Target, model: &DeviceModel, operands: &Operands) -> Result<Schedule, Error> {
    if !target.runs_on(model) {
        return Err(error(target, format!("`{}` does not run it", model.name)));
    }
    schedule::choose_for(&purview_compiler::emit::properties::device_properties(model, target), operands)
}

/// The text of `program`'s kernel.
#[cfg(feature = "emit")]
pub(crate) fn emit(target: Target, model: &DeviceModel, program: &Compiled) -> Result<KernelText, Error> {
    use purview_compiler::emit::{properties::device_properties, text};
    let failed = |failure: text::TextError| error(target, failure.to_string());
    let schedule = text::check(target, model, program).map_err(failed)?;
    schedule::check_for(&device_properties(model, target), model.name, schedule)?;
    let kernel = text::emit(target, model, program).map_err(failed)?;
    Ok(KernelText { text: kernel.text, words: kernel.words })
}

#[cfg(not(feature = "emit"))]
pub(crate) fn schedule_for(target: Target, _: &DeviceModel, _: &Operands) -> Result<Schedule, Error> {
    Err(error(target, "turn on purview's feature `emit`"))
}

#[cfg(not(feature = "emit"))]
pub(crate) fn emit(target: Target, _: &DeviceModel, _: &Compiled) -> Result<KernelText, Error> {
    Err(error(target, "turn on purview's feature `emit`"))
}

fn error(target: Target, reason: impl Into<String>) -> Error {
    Error::Target { target: target.name(), reason: reason.into() }
}
