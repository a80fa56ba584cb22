//! What the machine can do at best, by kernels of ours and by PyTorch's.

use crate::device::{self, is_gpu};
use crate::machine::Machine;
use crate::nvidia_smi;
use crate::torch_process::Torch;
use clap::Parser;
use serde_json::{Value, json};

/// What the machine can do at best.
#[derive(Parser)]
pub struct Flags {
    /// The device: cpu, wgpu, cuda or hip; if not given cuda in a build with that feature, and cpu in others
    #[arg(long)]
    device: Option<String>,
    /// Leaves PyTorch out
    #[arg(long)]
    without_torch: bool,
    /// Prints an object rather than lines
    #[arg(long)]
    json: bool,
}

/// Measures and prints it.
///
/// # Errors
/// A message where there is no such device, or its kernels fail. What PyTorch or `nvidia-smi` can't say is an `error` of theirs.
pub fn report(flags: &Flags) -> Result<(), String> {
    let Some(device) = device::open(flags.device.as_deref())? else { return Ok(()) };
    let failed = |error: purview::Error| error.to_string();
    let machine = Machine::new(&device).map_err(failed)?;
    let hardware = &device.client().properties().hardware;
    let cores = hardware.num_cpu_cores;
    let mut value = json!({
        "device": device.name(),
        "cores": cores,
        "multiprocessors": hardware.num_streaming_multiprocessors,
        "shared_memory_bytes": hardware.max_shared_memory_size,
        "fma_f32_gflops": machine.fma_peak().map_err(failed)?,
        "read_gb_s": machine.read_bandwidth().map_err(failed)?,
    });
    // PyTorch gets the memory.
    drop(machine);
    let _ = device.client().memory_cleanup();
    let or_error = |result: Result<Value, String>| result.unwrap_or_else(|error| json!({ "error": error }));
    if is_gpu(&device) {
        value["gpu"] = or_error(nvidia_smi::identity());
    } else if let Ok(text) = std::fs::read_to_string("/proc/cpuinfo") {
        let model = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        value["cpu"] = json!(model.map(|(_, model)| model));
    }
    if !flags.without_torch {
        let torch = Torch::open(device.name(), cores.unwrap_or(1) as usize);
        value["torch"] = or_error(torch.and_then(|mut torch| torch.machine()));
    }
    if flags.json {
        println!("{value:#}");
    } else {
        print_lines("", &value);
    }
    Ok(())
}

/// A line for each number and each text.
fn print_lines(path: &str, value: &Value) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                print_lines(&if path.is_empty() { name.clone() } else { format!("{path}.{name}") }, value);
            }
        }
        Value::Null => {}
        Value::String(text) => println!("{path:28} {text}"),
        value => println!("{path:28} {value}"),
    }
}
