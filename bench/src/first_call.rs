//! The first call of a variant, compiling included, in a process of its own: kernels that were compiled before are kept for as
//! long as a process lives.

use crate::cases::{CASES, Inputs, element};
use crate::machine;
use purview::Device;
use purview::ir::Element;
use std::process::Command;
use std::time::Instant;

/// Tells a process that it was started for the first call of the case of this name.
const CASE: &str = "PURVIEW_BENCH_FIRST_CALL";
/// The device, likewise.
const DEVICE: &str = "PURVIEW_BENCH_DEVICE";
/// The element type, likewise.
const ELEMENT: &str = "PURVIEW_BENCH_ELEMENT";

/// The milliseconds of the first call of the case `name` with operands of `element` on the device of this name. The process that
/// measures it has already run another kernel: starting the device is not counted.
///
/// # Errors
/// A message where the process did not give a number.
pub fn measure(name: &str, device: &str, element: Element) -> Result<f64, String> {
    let failed = |reason: String| format!("the first call of {name} in a process of its own: {reason}");
    let program = std::env::current_exe().map_err(|error| failed(error.to_string()))?;
    let output = Command::new(program).env(CASE, name).env(DEVICE, device).env(ELEMENT, element.name()).output();
    let output = output.map_err(|error| failed(error.to_string()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    match text.trim().parse() {
        Ok(milliseconds) if output.status.success() => Ok(milliseconds),
        _ => Err(failed(format!("{}{text}{}", output.status, String::from_utf8_lossy(&output.stderr)))),
    }
}

/// Does the measurement, if that is what this process was started for. Returns whether it was.
///
/// # Errors
/// A message where the case does not run.
pub fn answer() -> Result<bool, String> {
    let Ok(name) = std::env::var(CASE) else { return Ok(false) };
    let said = |what: &str| std::env::var(what).map_err(|error| format!("{what}: {error}"));
    let failed = |error: purview::Error| error.to_string();
    let case = CASES.iter().find(|case| case.name == name).ok_or_else(|| format!("no case `{name}`"))?;
    let (device, element) = (Device::named(&said(DEVICE)?).map_err(failed)?, element(&said(ELEMENT)?)?);
    machine::warm_up(&device).map_err(failed)?;
    let mut inputs = Inputs::with_element(case, &device, element).map_err(failed)?;
    let start = Instant::now();
    inputs.run().map_err(failed)?;
    println!("{}", start.elapsed().as_secs_f64() * 1e3);
    Ok(true)
}
