//! The first call of a variant, compiling included, in a process of its own: kernels that were compiled before are kept for as
//! long as a process lives.

use crate::cases::{CASES, Inputs};
use crate::machine;
use purview::{Device, Error};
use std::process::Command;
use std::time::Instant;

/// Tells a process that it was started for the first call of the case of this name.
const CASE: &str = "PURVIEW_BENCH_FIRST_CALL";
/// The device, likewise.
const DEVICE: &str = "PURVIEW_BENCH_DEVICE";

/// The milliseconds of the first call of the case `name` on the device of this name. The process that measures it has already
/// run another kernel: starting the device is not counted.
///
/// # Errors
/// A message where the process did not give a number.
pub fn measure(name: &str, device: &str) -> Result<f64, String> {
    let failed = |reason: String| format!("the first call of {name} in a process of its own: {reason}");
    let program = std::env::current_exe().map_err(|error| failed(error.to_string()))?;
    let output = Command::new(program).env(CASE, name).env(DEVICE, device).output();
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
/// As [`Device::named`] and [`Inputs::run`].
pub fn answer() -> Result<bool, Error> {
    let (Ok(name), Ok(device)) = (std::env::var(CASE), std::env::var(DEVICE)) else { return Ok(false) };
    let Some(case) = CASES.iter().find(|case| case.name == name) else { return Ok(false) };
    let device = Device::named(&device)?;
    machine::warm_up(&device)?;
    let mut inputs = Inputs::new(case, &device)?;
    let start = Instant::now();
    inputs.run()?;
    println!("{}", start.elapsed().as_secs_f64() * 1e3);
    Ok(true)
}
