//! Against cubek-attention, CubeCL's own attention kernels, on the same device and the same numbers.
//!
//! `./x bench --against cubek` builds it, in a process of its own (`benches/cubek/` says why), and runs this; `--help` lists the
//! arguments. For each case every kernel that it has for f32 is tried, and its fastest taken; both sides have to give the same
//! output. Then each turn measures ours and theirs one after the other. Times are medians over turns, and ratios medians of the
//! turns' own; both include the launch, the allocation of the output and waiting for the end. The result is a table, or with
//! `--json` an array of objects; what goes on is on stderr.

#![allow(missing_docs, reason = "clap derives items without")]

mod cubek_process;

use clap::Parser;
use cubek_process::Cubek;
use purview::Device;
use purview_bench::bench_main::bench_main;
use purview_bench::cases::{CASES, Case, Inputs, Variant, chosen, usual};
use purview_bench::difference::greatest_difference;
use purview_bench::turns::{calls, median, time};
use serde_json::{Value, json};
use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

/// How long nothing runs before a side's turn, so that the other's threads sleep.
const QUIET: Duration = Duration::from_millis(20);
/// The greatest difference of two outputs that counts as the same: both sum in f32, in another order.
const TOLERANCE: f32 = 2e-5;

/// Purview against cubek-attention, in turns.
#[derive(Parser)]
#[command(name = "against_cubek")]
struct Arguments {
    /// Cases by name, or by the part before the shape; if not given, those that it has a mask for, at 1024 to 4096 tokens, and on
    /// wgpu only at 1024
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    cases: Vec<String>,
    /// Turns per case
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    turns: u32,
    /// The device on both sides: cpu or wgpu
    #[arg(long, default_value = "cpu", value_parser = ["cpu", "wgpu"])]
    device: String,
    /// Prints an array of objects rather than a table
    #[arg(long)]
    json: bool,
    /// Lists the cases and measures nothing
    #[arg(long)]
    list: bool,
    /// What cargo passes to benches
    #[arg(long, hide = true)]
    bench: bool,
}

/// A case's results.
struct Row {
    case: &'static Case,
    ours: f64,
    cubek: f64,
    ratio: f64,
    gflops: Option<f64>,
    cubek_gflops: Option<f64>,
    difference: f32,
    kernel: String,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    bench_main("against_cubek", "./x bench --against cubek", "the CPU or wgpu", || compare(&arguments))
}

fn compare(arguments: &Arguments) -> Result<(), String> {
    if arguments.list {
        CASES.iter().filter(|case| is_masked_there(case)).for_each(|case| println!("{}", case.name));
        return Ok(());
    }
    let device = Device::named(&arguments.device).map_err(|error| error.to_string())?;
    if std::env::args().skip(1).eq(["--bench"]) && !Cubek::is_built() {
        println!("no cubek-attention to compare with: ./x bench --against cubek builds it");
        return Ok(());
    }
    let cases = cases(arguments, &device)?;
    let mut cubek = Cubek::open(&arguments.device)?;
    eprintln!("cubek-attention {} and purview on {}", cubek.version, device.name());
    let mut rows = Vec::new();
    for (place, case) in cases.iter().enumerate() {
        eprintln!("{}/{} {}", place + 1, cases.len(), case.name);
        rows.push(row(case, &device, &mut cubek, arguments.turns)?);
    }
    if arguments.json {
        let rows: Vec<Value> = rows.iter().map(Row::json).collect();
        println!("{}", serde_json::to_string_pretty(&rows).map_err(|error| error.to_string())?);
    } else {
        print_table(&rows);
    }
    Ok(())
}

/// Whether cubek-attention has the case's mask, and the same number of heads of keys as of queries.
fn is_masked_there(case: &Case) -> bool {
    let masked = matches!(case.variant, Variant::Full | Variant::Causal | Variant::SlidingWindow { .. });
    masked && case.heads == case.kv_heads && case.queries == case.keys
}

fn cases(arguments: &Arguments, device: &Device) -> Result<Vec<&'static Case>, String> {
    if !arguments.cases.is_empty() {
        let cases = chosen(&arguments.cases, device)?;
        return match cases.iter().find(|case| !is_masked_there(case)) {
            Some(case) => Err(format!("cubek-attention can't run `{}`; --list says what it can", case.name)),
            None => Ok(cases),
        };
    }
    // wgpu may be a driver that runs on the CPU, which takes seconds a run at 4096 tokens.
    let longest = if arguments.device == "wgpu" { 1024 } else { 4096 };
    Ok(usual(device).filter(|case| is_masked_there(case) && (1024..=longest).contains(&case.queries)).collect())
}

/// Measures a case.
fn row(case: &'static Case, device: &Device, cubek: &mut Cubek, turns: u32) -> Result<Row, String> {
    let failed = |error: purview::Error| format!("{}: {error}", case.name);
    let mut inputs = Inputs::new(case, device).map_err(failed)?;
    let ours = inputs.run().and_then(|out| out.to_vec::<f32>()).map_err(failed)?;
    let answer = cubek.set_case(case).map_err(|error| format!("{}: {error}", case.name))?;
    for tried in &answer.tried {
        eprintln!("  {tried}");
    }
    for (reason, kernels) in &answer.declined {
        eprintln!("  {kernels} not: {reason}");
    }
    let difference = difference(case, &ours, &answer.output)?;

    let (mut ours_ms, mut cubek_ms, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    let mut counts = [1, 1];
    // The first turn finds out how many calls a turn takes, and is not counted.
    for turn in 0..=turns {
        sleep(QUIET);
        let ours = time(counts[0], || inputs.run()).map_err(failed)?;
        sleep(QUIET);
        let theirs = cubek.time(counts[1])?;
        if turn == 0 {
            counts = [calls(ours), calls(theirs)];
        } else {
            ours_ms.push(ours);
            cubek_ms.push(theirs);
            ratios.push(theirs / ours);
        }
    }
    let report = inputs.attention.report(&case.shape()).map_err(failed)?;
    let (ours, cubek) = (median(ours_ms), median(cubek_ms));
    let gflops = |ms: f64| report.useful_flops.map(|flops| flops as f64 / ms / 1e6);
    Ok(Row {
        case,
        ours,
        cubek,
        ratio: median(ratios),
        gflops: gflops(ours),
        cubek_gflops: gflops(cubek),
        difference,
        kernel: answer.kernel,
    })
}

/// The greatest difference of the outputs, which must be small.
fn difference(case: &Case, ours: &[f32], theirs: &[f32]) -> Result<f32, String> {
    if ours.len() != theirs.len() {
        return Err(format!("{}: cubek-attention gives {} numbers, ours {}", case.name, theirs.len(), ours.len()));
    }
    let greatest = greatest_difference(ours, theirs);
    if greatest > TOLERANCE {
        return Err(format!(
            "{}: the output differs from cubek-attention's by {greatest:e}, and at most {TOLERANCE:e} is rounding",
            case.name
        ));
    }
    Ok(greatest)
}

impl Row {
    fn json(&self) -> Value {
        json!({
            "case": self.case.name,
            "ours_ms": self.ours,
            "cubek_ms": self.cubek,
            "ratio": self.ratio,
            "gflops": self.gflops,
            "cubek_gflops": self.cubek_gflops,
            "max_difference": self.difference,
            "cubek_kernel": self.kernel,
        })
    }
}

fn print_table(rows: &[Row]) {
    let number = |value: Option<f64>| value.map_or("-".into(), |value| format!("{value:.1}"));
    println!(
        "{:<20}{:>10}{:>11}{:>8}{:>10}{:>8}{:>12}  cubek's kernel",
        "case", "ours ms", "cubek ms", "ratio", "GFLOP/s", "cubek", "difference"
    );
    for row in rows {
        println!(
            "{:<20}{:>10.3}{:>11.2}{:>8.2}{:>10}{:>8}{:>12.1e}  {}",
            row.case.name,
            row.ours,
            row.cubek,
            row.ratio,
            number(row.gflops),
            number(row.cubek_gflops),
            row.difference,
            row.kernel
        );
    }
}
