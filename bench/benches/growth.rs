//! Time and memory against length: a window of 512 at up to 131,072 tokens, which grow in proportion, and causal attention at up
//! to 16,384, whose time grows with the square and whose memory does not. 2 heads of 64, f32, on the CPU.
//!
//! `cargo bench --workspace --profile dev --bench growth`; an argument chooses the variants with that in their name. Each length
//! is a process of its own, since memory that a launch frees stays with the process. It first runs the same kernel at a small
//! length, so that compiling is in neither number; then it forgets the peak of its memory (Linux: 5 into
//! `/proc/self/clear_refs`), runs once, and takes the new peak. From that it subtracts what it had before, with Q, K and V, and
//! the output: the rest is what the kernel itself needs. A matrix of scores would be in it.

use purview::AnyAttention;
use purview::prelude::*;
use purview_bench::bench_main::{bench_main, exit_code};
use purview_bench::turns::{calls, median, time};
use purview_examples::causal::causal;
use purview_examples::sliding_window::sliding_window;
use std::process::{Command, ExitCode};

/// Tells a process that it was started for one length: the variant's name, a space, and the length.
const LENGTH: &str = "PURVIEW_BENCH_GROWTH";
const HEADS: usize = 2;
const DIM: usize = 64;
/// The length of the run that compiles. Its tensors are too small to matter.
const SMALL: usize = 256;
const TURNS: usize = 5;

/// A variant and the lengths it is run at.
struct Growth {
    name: &'static str,
    make: fn() -> AnyAttention,
    lengths: &'static [usize],
}

const GROWTHS: [Growth; 2] = [
    Growth {
        name: "window512",
        make: || sliding_window(512).into(),
        lengths: &[1024, 2048, 4096, 8192, 16384, 32768, 65536, 131_072],
    },
    Growth { name: "causal", make: || causal().into(), lengths: &[1024, 2048, 4096, 8192, 16384] },
];

fn main() -> ExitCode {
    let how = "cargo bench --workspace --profile dev --bench growth";
    match std::env::var(LENGTH) {
        Ok(request) => exit_code(measure(&request)),
        Err(_) => bench_main("growth", how, "the CPU", print_tables),
    }
}

/// The tables of the variants that the arguments choose.
fn print_tables() -> Result<(), String> {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    for name in &wanted {
        if !GROWTHS.iter().any(|growth| growth.name.contains(name.as_str())) {
            let names = GROWTHS.map(|growth| growth.name).join(" and ");
            return Err(format!("no variant has `{name}` in its name; there are {names}"));
        }
    }
    for growth in &GROWTHS {
        if wanted.is_empty() || wanted.iter().any(|name| growth.name.contains(name.as_str())) {
            print_table(growth)?;
        }
    }
    Ok(())
}

fn print_table(growth: &Growth) -> Result<(), String> {
    println!(
        "\n{:<10}{:>9}{:>12}{:>13}{:>13}{:>12}{:>13}{:>17}",
        growth.name, "tokens", "median ms", "µs per token", "µs per tile", "tensors MB", "further MB", "S² would be MB"
    );
    for &length in growth.lengths {
        let Measured { milliseconds, further_bytes } = measure_apart(growth, length)?;
        let report = (growth.make)().report(&shape(length)).map_err(|error| error.to_string())?;
        let megabytes = |bytes: f64| bytes / 1e6;
        println!(
            "{:<10}{length:>9}{milliseconds:>12.2}{:>13.2}{:>13.2}{:>12.1}{:>13}{:>17.0}",
            "",
            milliseconds * 1e3 / length as f64,
            milliseconds * 1e3 / report.tiles.visited as f64,
            megabytes(4.0 * tensor_bytes(length) as f64),
            further_bytes.map_or("not known".into(), |bytes| format!("{:.1}", megabytes(bytes as f64))),
            megabytes((4 * HEADS * length * length) as f64),
        );
    }
    if cfg!(not(target_os = "linux")) {
        println!("the peak of a process's memory is only known on Linux");
    }
    Ok(())
}

fn shape(length: usize) -> Shape {
    Shape::new(1, HEADS, length, DIM)
}

/// The bytes of one of Q, K, V and the output.
fn tensor_bytes(length: usize) -> usize {
    HEADS * length * DIM * size_of::<f32>()
}

/// What a process finds out about a length.
struct Measured {
    milliseconds: f64,
    /// The peak of its memory above what it had and the output, if the system says.
    further_bytes: Option<i64>,
}

/// Measures a length in a process of its own.
fn measure_apart(growth: &Growth, length: usize) -> Result<Measured, String> {
    let failed = |reason: String| format!("{} at {length} tokens in a process of its own: {reason}", growth.name);
    let program = std::env::current_exe().map_err(|error| failed(error.to_string()))?;
    let output = Command::new(program).env(LENGTH, format!("{} {length}", growth.name)).output();
    let output = output.map_err(|error| failed(error.to_string()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut words = text.split_whitespace();
    match (output.status.success(), words.next().and_then(|word| word.parse().ok()), words.next()) {
        (true, Some(milliseconds), further) => {
            Ok(Measured { milliseconds, further_bytes: further.and_then(|word| word.parse().ok()) })
        }
        _ => Err(failed(format!("{}{text}{}", output.status, String::from_utf8_lossy(&output.stderr)))),
    }
}

/// What that process does: prints the milliseconds, and the further bytes where they are known.
fn measure(request: &str) -> Result<(), String> {
    let (name, length) = request.split_once(' ').ok_or("expected a variant and a length")?;
    let growth = GROWTHS.iter().find(|growth| growth.name == name).ok_or("expected a variant that there is")?;
    let length = length.parse().map_err(|error| format!("`{length}` is no length: {error}"))?;
    run((growth.make)(), length).map_err(|error| error.to_string())
}

fn run(attention: AnyAttention, length: usize) -> Result<(), Error> {
    let device = Device::cpu()?;
    let run = |tensors: &[Tensor; 3]| {
        let [q, k, v] = tensors;
        let out = attention.run(&device, q, &[(k, v)])?;
        device.sync()?;
        Ok::<_, Error>(out)
    };
    run(&tensors(&device, SMALL)?)?;
    let tensors = tensors(&device, length)?;

    let before = reset_peak().and_then(|()| status("VmRSS:"));
    let out = run(&tensors)?;
    let further = before.zip(status("VmHWM:")).map(|(before, peak)| peak - before - tensor_bytes(length) as i64);
    drop(out);

    let calls = calls(time(1, || run(&tensors))?);
    let times = (0..TURNS).map(|_| time(calls, || run(&tensors))).collect::<Result<Vec<_>, Error>>()?;
    print!("{}", median(times));
    further.inspect(|bytes| print!(" {bytes}"));
    println!();
    Ok(())
}

fn tensors(device: &Device, length: usize) -> Result<[Tensor; 3], Error> {
    let data: Vec<f32> =
        (0..(HEADS * length * DIM) as u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 8) as f32 / 1e7 - 0.8).collect();
    let tensor = || Tensor::from_slice(device, [1, HEADS, length, DIM], &data);
    let tensors = [tensor()?, tensor()?, tensor()?];
    device.sync()?;
    Ok(tensors)
}

/// Makes the peak of this process's memory what it has now. `None` where the system can't.
fn reset_peak() -> Option<()> {
    std::fs::write("/proc/self/clear_refs", "5").ok()
}

/// A field of this process's memory in bytes.
fn status(field: &str) -> Option<i64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    let kilobytes: i64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(1024 * kilobytes)
}
