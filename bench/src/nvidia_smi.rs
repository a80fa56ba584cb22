//! What `nvidia-smi` says of the GPU: who it is, and how fast and how warm it is at a moment.

use crate::device::is_gpu;
use purview::Device;
use serde_json::{Value, json};
use std::process::Command;

/// The GPU's clocks, temperature and power at a moment.
#[derive(Clone, Debug)]
pub struct GpuState {
    /// As [`query`] gives them.
    values: Vec<String>,
}

/// What is asked of a moment, and what it is called.
const STATE: [(&str, &str); 4] = [
    ("clocks.sm", "sm_mhz"),
    ("clocks.mem", "memory_mhz"),
    ("temperature.gpu", "temperature_c"),
    ("power.draw", "power_w"),
];

/// What is asked of the GPU itself, likewise.
const IDENTITY: [(&str, &str); 6] = [
    ("name", "name"),
    ("driver_version", "driver"),
    ("compute_cap", "compute_capability"),
    ("memory.total", "memory_mib"),
    ("clocks.max.sm", "max_sm_mhz"),
    ("clocks.max.mem", "max_memory_mhz"),
];

impl GpuState {
    /// That of now, where `device` is NVIDIA's and `nvidia-smi` is there.
    pub fn read(device: &Device) -> Option<GpuState> {
        if !is_gpu(device) {
            return None;
        }
        query(&STATE).ok().map(|values| GpuState { values })
    }

    /// It as an object.
    pub fn json(&self) -> Value {
        object(&STATE, &self.values)
    }
}

/// The GPU's name, driver, compute capability, memory and highest clocks, and its state now.
///
/// # Errors
/// A message where `nvidia-smi` is not there, or has no such GPU.
pub fn identity() -> Result<Value, String> {
    let mut identity = object(&IDENTITY, &query(&IDENTITY)?);
    identity["now"] = object(&STATE, &query(&STATE)?);
    Ok(identity)
}

/// The values of the first GPU.
fn query(fields: &[(&str, &str)]) -> Result<Vec<String>, String> {
    let names: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
    let query = format!("--query-gpu={}", names.join(","));
    let output = Command::new("nvidia-smi").args([&query, "--format=csv,noheader,nounits", "--id=0"]).output();
    let output = output.map_err(|error| format!("nvidia-smi: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let values: Vec<String> = text.trim().split(',').map(|value| value.trim().to_string()).collect();
    if output.status.success() && values.len() == fields.len() {
        return Ok(values);
    }
    Err(format!("nvidia-smi {query} gives {:?} ({})", text.trim(), output.status))
}

/// Numbers where they are such.
fn object(fields: &[(&str, &str)], values: &[String]) -> Value {
    let value = |(_, name): &(&str, &str), value: &String| match value.parse::<f64>() {
        // A version with one dot is not a number.
        Ok(number) if !["compute_capability", "driver", "name"].contains(name) => json!(number),
        _ => json!(value),
    };
    let fields = fields.iter().zip(values).map(|(field, text)| (field.1.to_string(), value(field, text)));
    Value::Object(fields.collect())
}
