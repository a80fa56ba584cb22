//! cubek-attention in a process of its own: one request per line of standard input, one answer per line of standard output, both
//! JSON.
//!
//! ```text
//! cubek-attention-runner --device cpu
//! {"operation":"open"}
//!     → {"version":"0.4.0-pre.1"}
//! {"operation":"case","variant":{"kind":"sliding_window","window":256},"shape":[1,8,1024,64],
//!  "query":"q","key":"k","value":"v","output":"o"}
//!     → {"kernel":"…","tried":[{"kernel":"…","ms":1.5},{"kernel":"…","short_ms":9.5}],"declined":{"…":12}}
//! {"operation":"time","calls":3}
//!     → {"ms":1.4}
//! ```
//!
//! `query`, `key` and `value` are files of little-endian f32, `[batch, heads, length, dim]`; so is `output`, which is written. What
//! fails is answered with `{"error":"…"}`.
//!
//! It is not in the process of purview's bench because both CubeCLs collect their IR's operations by linkme's sections, whose
//! names have no version: the two would find each other's.

mod kernels;

use cubecl::Device;
use cubecl::device::WgpuDeviceKind;
use kernels::{Kernel, Operands, Visible, all};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

/// The length at which every kernel is tried first, so that the slow ones take no time at the case's own.
const SHORT: usize = 512;
/// How many times slower than the fastest a kernel may be at the short length to be tried at the case's own.
const SLOWER: f64 = 1.25;
/// A kernel that took so many milliseconds is not called again to find the fastest.
const LONG: f64 = 300.0;

/// What requests are served from.
struct Runner {
    device: Device,
    /// The operands of the case, and its fastest kernel.
    case: Option<(Operands, Kernel)>,
}

impl Runner {
    fn answer(&mut self, request: &Value) -> Result<Value, String> {
        match request["operation"].as_str() {
            Some("open") => Ok(json!({ "version": "0.4.0-pre.1" })),
            Some("case") => self.set_case(request),
            Some("time") => self.time(request),
            _ => Err(format!("the operation is {}, expected \"open\", \"case\" or \"time\"", request["operation"])),
        }
    }

    /// Finds the fastest kernel for a case, and writes its output.
    fn set_case(&mut self, request: &Value) -> Result<Value, String> {
        self.case = None;
        let shape = shape(&request["shape"])?;
        let visible = visible(&request["variant"])?;
        let file = |name: &str| request[name].as_str().ok_or(format!("`{name}` is {}, expected a file", request[name]));
        let [query, key, value] = [read(file("query")?)?, read(file("key")?)?, read(file("value")?)?];
        let client = self.device.client();
        let operands = Operands::new(&client, shape, visible, &query, &key, &value)?;
        let [batch, heads, length, dim] = shape;
        let few = SHORT.min(length);
        // Of a random sequence the first part is one too, but each head's has to be taken out.
        let start = |data: &[f32]| -> Vec<f32> {
            data.chunks(length * dim).flat_map(|head| &head[..few * dim]).copied().collect()
        };
        let short =
            Operands::new(&client, [batch, heads, few, dim], visible, &start(&query), &start(&key), &start(&value))?;

        // Why kernels don't run here, and how many.
        let mut declined: BTreeMap<String, usize> = BTreeMap::new();
        let at_short = measure(all(&client), &short, &mut declined);
        let least = at_short.iter().map(|(ms, _)| *ms).fold(f64::INFINITY, f64::min);
        let (near, far): (Vec<_>, Vec<_>) = at_short.into_iter().partition(|(ms, _)| *ms <= SLOWER * least);
        let mut tried: Vec<Value> =
            far.into_iter().map(|(ms, kernel)| json!({ "kernel": kernel.name, "short_ms": ms })).collect();
        let mut measured = measure(near.into_iter().map(|(_, kernel)| kernel).collect(), &operands, &mut declined);
        measured.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        tried.extend(measured.iter().map(|(ms, kernel)| json!({ "kernel": kernel.name, "ms": ms })));
        let Some((_, kernel)) = measured.into_iter().next() else {
            return Err(format!("none of its kernels runs here: {}", json!(declined)));
        };
        let output = guarded(|| kernel.output(&operands))?;
        write(file("output")?, &output)?;
        let name = kernel.name.clone();
        self.case = Some((operands, kernel));
        Ok(json!({ "kernel": name, "tried": tried, "declined": declined }))
    }

    fn time(&self, request: &Value) -> Result<Value, String> {
        let calls = request["calls"].as_u64().filter(|calls| *calls > 0);
        let calls = calls.ok_or(format!("`calls` is {}, expected a number above 0", request["calls"]))?;
        let (operands, kernel) = self.case.as_ref().ok_or("there is no case to time; set one first")?;
        let start = Instant::now();
        for _ in 0..calls {
            guarded(|| kernel.run(operands))?;
        }
        Ok(json!({ "ms": start.elapsed().as_secs_f64() * 1e3 / calls as f64 }))
    }
}

/// The milliseconds of each kernel that runs: the fastest of three calls, in turns, after one that compiles.
fn measure(kernels: Vec<Kernel>, operands: &Operands, declined: &mut BTreeMap<String, usize>) -> Vec<(f64, Kernel)> {
    let mut measured: Vec<(f64, Kernel)> = Vec::new();
    for kernel in kernels {
        match guarded(|| kernel.run(operands)) {
            Ok(()) => measured.push((f64::INFINITY, kernel)),
            Err(error) => *declined.entry(error).or_default() += 1,
        }
    }
    for _ in 0..3 {
        for (least, kernel) in measured.iter_mut().filter(|(least, _)| !(LONG..f64::INFINITY).contains(least)) {
            let start = Instant::now();
            if guarded(|| kernel.run(operands)).is_ok() {
                *least = least.min(start.elapsed().as_secs_f64() * 1e3);
            }
        }
    }
    measured
}

/// What `run` gives; a panic of a kernel that a device can't compile is an error.
fn guarded<T>(run: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let message = panic.downcast_ref::<String>().cloned();
        Err(message.or_else(|| panic.downcast_ref::<&str>().map(|text| text.to_string())).unwrap_or("a panic".into()))
    })
}

fn shape(value: &Value) -> Result<[usize; 4], String> {
    let sizes: Option<Vec<usize>> =
        value.as_array().and_then(|sizes| sizes.iter().map(|size| size.as_u64().map(|size| size as usize)).collect());
    sizes
        .and_then(|sizes| <[usize; 4]>::try_from(sizes).ok())
        .filter(|sizes| !sizes.contains(&0))
        .ok_or(format!("`shape` is {value}, expected [batch, heads, length, dim], each above 0"))
}

fn visible(variant: &Value) -> Result<Visible, String> {
    match variant["kind"].as_str() {
        Some("full") => Ok(Visible::All),
        Some("causal") => Ok(Visible::Causal),
        Some("sliding_window") => match variant["window"].as_u64().filter(|window| *window > 0) {
            Some(window) => Ok(Visible::Window(window as usize)),
            None => Err(format!("`window` is {}, expected a number above 0", variant["window"])),
        },
        _ => Err(format!("cubek-attention has no mask for {variant}, only full, causal and sliding_window")),
    }
}

fn read(file: &str) -> Result<Vec<f32>, String> {
    let bytes = fs::read(file).map_err(|error| format!("{file}: {error}"))?;
    let (numbers, _) = bytes.as_chunks::<4>();
    Ok(numbers.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
}

fn write(file: &str, numbers: &[f32]) -> Result<(), String> {
    let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    fs::write(file, bytes).map_err(|error| format!("{file}: {error}"))
}

/// The device of the arguments.
fn device() -> Result<Device, String> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let opened = match arguments.as_slice() {
        ["--device", "cpu"] => Device::cpu(),
        // A GPU, or else a driver that runs on the CPU, as purview takes them.
        ["--device", "wgpu"] => Device::wgpu(WgpuDeviceKind::DiscreteGpu(0))
            .or_else(|_| Device::wgpu(WgpuDeviceKind::IntegratedGpu(0)))
            .or_else(|_| Device::wgpu(WgpuDeviceKind::VirtualGpu(0)))
            .or_else(|_| Device::wgpu(WgpuDeviceKind::Cpu)),
        _ => return Err(format!("the arguments are {arguments:?}, expected --device cpu or --device wgpu")),
    };
    opened.map_err(|error| error.to_string())
}

fn serve() -> Result<(), String> {
    let mut runner = Runner { device: device()?, case: None };
    // Kernels that do not run here are answers, not news.
    std::panic::set_hook(Box::new(|_| {}));
    let mut answers = std::io::stdout();
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(|error| error.to_string())?;
        let answer = serde_json::from_str(&line)
            .map_err(|error| format!("`{line}` is not JSON: {error}"))
            .and_then(|request| runner.answer(&request))
            .unwrap_or_else(|error| json!({ "error": error }));
        writeln!(answers, "{answer}").and_then(|()| answers.flush()).map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn main() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cubek-attention-runner: {error}");
            ExitCode::FAILURE
        }
    }
}
