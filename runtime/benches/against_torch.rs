//! Against PyTorch on the same device and the same numbers: `scaled_dot_product_attention` (SDPA) as a user would call it, and
//! compiled FlexAttention, whose block mask is timed apart.
//!
//! `./x bench --against torch` sets PyTorch up and runs it; `--help` lists the arguments. For each case both sides first have to
//! give the same output. Then each turn measures the machine's peak, ours, SDPA, FlexAttention and its mask, one after the other;
//! times are medians over turns, ratios medians of the turns' own ratios, and so are shares of the peak (and when decoding of the
//! read bandwidth). Times include the launch, the allocation of the output and waiting for the end: on a CPU for each call's, on a
//! GPU, on both sides, for that of all calls of a turn together. There SDPA is FlashAttention-2 wherever it can be. The result is a
//! table, or with `--json` an array of objects; what goes on is on stderr.

#![allow(missing_docs)] // clap and CubeCL derive items without.

mod cases;
mod device;
mod first_call;
mod json_process;
mod machine;
mod ratios_svg;
mod torch_process;
mod turns;

use cases::{CASES, Case, Inputs, chosen, element, usual};
use clap::Parser;
use device::{is_gpu, usual_element};
use machine::Machine;
use purview::Device;
use purview::ir::Element;
use ratios_svg::{Bar, ratios_svg};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;
use torch_process::{Answer, Torch};
use turns::{calls, median};

/// How long nothing runs before a side's turn, so that the other's threads sleep: CubeCL's do after 200 µs, and PyTorch's after 5 ms
/// at most (`torch_process.rs`).
const QUIET: Duration = Duration::from_millis(20);
/// The greatest difference of two outputs that counts as the same. Both sum in f32, in another order; with 16 bits PyTorch rounds
/// weights and biases too.
fn tolerance(element: Element) -> f32 {
    match element {
        Element::F32 => 2e-5,
        Element::F16 => 4e-3,
        Element::Bf16 => 3e-2,
    }
}

/// Purview against PyTorch, in turns.
#[derive(Parser)]
#[command(name = "against_torch")]
struct Arguments {
    /// Cases by name, or by the part before the shape; if not given those that the README shows, and on cuda larger ones too
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    cases: Vec<String>,
    /// Turns per case
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    turns: u32,
    /// The device on both sides: cpu or cuda; if not given cuda in a build with that feature, and cpu in others
    #[arg(long, value_parser = ["cpu", "cuda"])]
    device: Option<String>,
    /// The type of queries, keys and values on both sides: f32, f16 or bf16; if not given f16 on cuda, and f32 on cpu
    #[arg(long, value_parser = element, value_name = "TYPE")]
    dtype: Option<Element>,
    /// Prints an array of objects rather than a table
    #[arg(long)]
    json: bool,
    /// Also writes a picture of the ratios; a relative path is relative to the workspace
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
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
    element: Element,
    ours: f64,
    sdpa: Option<f64>,
    sdpa_kernel: String,
    flex: Option<f64>,
    flex_mask: Option<f64>,
    ratio_sdpa: Option<f64>,
    ratio_flex: Option<f64>,
    ratio_flex_with_mask: Option<f64>,
    gflops: Option<f64>,
    peak_share: Option<f64>,
    peak: Option<f64>,
    bandwidth: Option<f64>,
    bandwidth_share: Option<f64>,
    first: f64,
    flex_first: Option<f64>,
    flex_mask_first: Option<f64>,
    difference: f32,
}

fn main() -> ExitCode {
    let result = first_call::answer().and_then(|answered| {
        if answered {
            return Ok(());
        }
        let arguments = Arguments::parse();
        if !arguments.bench {
            println!("against_torch measures only as a benchmark: ./x bench --against torch");
            return Ok(());
        }
        compare(&arguments)
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn compare(arguments: &Arguments) -> Result<(), String> {
    if arguments.list {
        for case in CASES {
            let when = match (case.in_comparison, case.for_gpus) {
                (false, _) => "  (only with --cases)",
                (true, true) => "  (on cuda, or with --cases)",
                (true, false) => "",
            };
            println!("{}{when}", case.name);
        }
        return Ok(());
    }
    let Some(device) = device::open(arguments.device.as_deref())? else { return Ok(()) };
    if std::env::args().skip(1).eq(["--bench"]) && !Torch::is_set_up() {
        println!("no PyTorch to compare with: ./x bench --against torch sets it up");
        return Ok(());
    }
    let cases = match &arguments.cases[..] {
        [] => usual(&device).filter(|case| case.in_comparison).collect(),
        names => chosen(names, &device)?,
    };
    let element = arguments.dtype.unwrap_or_else(|| usual_element(&device));
    let cores = device.client().properties().hardware.num_cpu_cores.unwrap_or(1) as usize;
    let mut torch = Torch::open(device.name(), cores)?;
    let machine = Machine::new(&device).map_err(|error| error.to_string())?;
    eprintln!("PyTorch {} on {}, purview on {}, {}", torch.version, torch.hardware, device.name(), element.name());

    let mut rows = Vec::new();
    for (place, case) in cases.iter().enumerate() {
        eprintln!("{}/{} {}", place + 1, cases.len(), case.name);
        rows.push(row(case, element, &device, &machine, &mut torch, arguments.turns)?);
    }
    if arguments.json {
        let rows: Vec<Value> = rows.iter().map(Row::json).collect();
        println!("{}", serde_json::to_string_pretty(&rows).map_err(|error| error.to_string())?);
    } else {
        print_table(&rows);
        print_kernels_of_sdpa(&rows);
    }
    match &arguments.svg {
        Some(file) => write_svg(file, &rows, &torch, element),
        None => Ok(()),
    }
}

/// Measures a case.
fn row(
    case: &'static Case,
    element: Element,
    device: &Device,
    machine: &Machine,
    torch: &mut Torch,
    turns: u32,
) -> Result<Row, String> {
    let failed = |error: purview::Error| format!("{}: {error}", case.name);
    let first = first_call::measure(case.name, device.name(), element)?;
    let mut inputs = Inputs::with_element(case, device, element).map_err(failed)?;
    let ours = inputs.run().and_then(|out| out.to_vec::<f32>()).map_err(failed)?;
    let answer = torch.set_case(case, device, element)?;
    let difference = check(case, element, &ours, &answer)?;
    let report = inputs.attention.report(&case.shape()).map_err(failed)?;

    // A GPU runs what one process after the other launches, and only a CPU's threads are in each other's way.
    let quiet = if is_gpu(device) { Duration::ZERO } else { QUIET };
    let mut sides = Sides { inputs: &mut inputs, torch, answer: &answer, quiet };
    let mut measured: Vec<Times> = Vec::new();
    let (mut peaks, mut bandwidths) = (Vec::new(), Vec::new());
    // The first turn finds out how many calls a turn takes, and is not counted.
    let mut counts = [1; 4];
    for turn in 0..=turns {
        let peak = machine.fma_peak().map_err(failed)?;
        let bandwidth = if case.is_decoding() { Some(machine.read_bandwidth().map_err(failed)?) } else { None };
        let times = sides.measure(&counts).map_err(|error| format!("{}: {error}", case.name))?;
        if turn == 0 {
            counts = times.map(|time| time.map_or(1, calls));
        } else {
            measured.push(times);
            peaks.push(peak);
            bandwidths.extend(bandwidth);
        }
    }
    let over_turns = |value: &dyn Fn(&Times) -> Option<f64>| {
        let values: Option<Vec<f64>> = measured.iter().map(value).collect();
        values.map(median)
    };
    // In the share of a limit that the same turn measured.
    let share = |amount: f64, limits: &[f64]| {
        let shares = measured.iter().zip(limits).filter_map(|(times, limit)| Some(amount / times[OURS]? / 1e6 / limit));
        (limits.len() == measured.len()).then(|| median(shares))
    };
    let flops = report.useful_flops.map(|flops| flops as f64);
    let has_peak = machine::has_peak_of(device, element);
    Ok(Row {
        case,
        element,
        ours: over_turns(&|times| times[OURS]).unwrap_or(f64::NAN),
        sdpa: over_turns(&|times| times[SDPA]),
        sdpa_kernel: answer.sdpa_kernel.clone(),
        flex: over_turns(&|times| times[FLEX]),
        flex_mask: over_turns(&|times| times[FLEX_MASK]),
        ratio_sdpa: over_turns(&|times| Some(times[SDPA]? / times[OURS]?)),
        ratio_flex: over_turns(&|times| Some(times[FLEX]? / times[OURS]?)),
        ratio_flex_with_mask: over_turns(&|times| Some((times[FLEX]? + times[FLEX_MASK]?) / times[OURS]?)),
        gflops: over_turns(&|times| Some(flops? / times[OURS]? / 1e6)),
        peak_share: flops.filter(|_| has_peak).and_then(|flops| share(flops, &peaks)),
        bandwidth_share: share(case.bytes(element) as f64, &bandwidths),
        bandwidth: (!bandwidths.is_empty()).then(|| median(bandwidths)),
        peak: has_peak.then(|| median(peaks)),
        first,
        flex_first: answer.flex_first,
        flex_mask_first: answer.flex_mask_first,
        difference,
    })
}

/// The milliseconds of a call of each side in a turn.
type Times = [Option<f64>; 4];

/// The places of the sides in a turn's times.
const OURS: usize = 0;
const SDPA: usize = 1;
const FLEX: usize = 2;
const FLEX_MASK: usize = 3;

/// Everything that runs a case.
struct Sides<'a> {
    inputs: &'a mut Inputs,
    torch: &'a mut Torch,
    answer: &'a Answer,
    /// How long nothing runs before a side's turn.
    quiet: Duration,
}

impl Sides<'_> {
    /// The milliseconds of a call of each side that can run the case, over so many calls.
    fn measure(&mut self, calls: &[usize; 4]) -> Result<Times, String> {
        let (sdpa, flex) = (self.answer.sdpa.is_ok(), self.answer.flex.is_ok());
        let mut times = [None; 4];
        sleep(self.quiet);
        times[OURS] = Some(self.inputs.time(calls[OURS]).map_err(|error| error.to_string())?);
        for (place, what, can) in
            [(SDPA, "sdpa", sdpa), (FLEX, "flex", flex), (FLEX_MASK, "flex_mask", flex && self.answer.has_mask)]
        {
            if can {
                sleep(self.quiet);
                times[place] = Some(self.torch.time(what, calls[place])?);
            }
        }
        sleep(self.quiet); // for the machine's peak
        Ok(times)
    }
}

/// The greatest difference from what PyTorch gives, which must be small.
fn check(case: &Case, element: Element, ours: &[f32], answer: &Answer) -> Result<f32, String> {
    let mut greatest = 0f32;
    for (side, theirs) in [("SDPA", &answer.sdpa), ("FlexAttention", &answer.flex)] {
        let theirs = match theirs {
            Ok(theirs) => theirs,
            Err(reason) => {
                eprintln!("  no {side}: {reason}");
                continue;
            }
        };
        if ours.len() != theirs.len() {
            return Err(format!("{}: {side} gives {} numbers, ours {}", case.name, theirs.len(), ours.len()));
        }
        // NaN on either side is the greatest difference there is.
        let difference = ours.iter().zip(theirs).map(|(ours, theirs)| (ours - theirs).abs());
        let difference = difference.fold(0f32, |most, next| if next.is_nan() { f32::INFINITY } else { most.max(next) });
        eprintln!("  greatest difference from {side}: {difference:.1e}");
        let tolerance = tolerance(element);
        if difference > tolerance {
            return Err(format!(
                "{}: the output differs from {side}'s by {difference:e}, and at most {tolerance:e} is rounding",
                case.name
            ));
        }
        greatest = greatest.max(difference);
    }
    Ok(greatest)
}

impl Row {
    fn json(&self) -> Value {
        json!({
            "case": self.case.name,
            "dtype": self.element.name(),
            "ours_ms": self.ours,
            "sdpa_ms": self.sdpa,
            "sdpa_kernel": self.sdpa.map(|_| &self.sdpa_kernel),
            "flex_ms": self.flex,
            "flex_mask_ms": self.flex_mask,
            "ratio_sdpa": self.ratio_sdpa,
            "ratio_flex": self.ratio_flex,
            "ratio_flex_with_mask": self.ratio_flex_with_mask,
            "gflops": self.gflops,
            "peak_share": self.peak_share,
            "peak_gflops": self.peak,
            "bandwidth_share": self.bandwidth_share,
            "bandwidth_gb_s": self.bandwidth,
            "first_ms": self.first,
            "flex_first_ms": self.flex_first,
            "flex_mask_first_ms": self.flex_mask_first,
            "max_difference": self.difference,
        })
    }
}

fn print_table(rows: &[Row]) {
    let number = |value: Option<f64>, digits: usize| match value {
        Some(value) => format!("{value:.digits$}"),
        None => "-".into(),
    };
    println!(
        "{:<20}{:>10}{:>10}{:>10}{:>10}{:>9}{:>9}{:>9}{:>10}{:>8}{:>9}{:>10}{:>10}",
        "case",
        "ours ms",
        "SDPA ms",
        "Flex ms",
        "mask ms",
        "/SDPA",
        "/Flex",
        "/F+mask",
        "GFLOP/s",
        "% peak",
        "% bandw.",
        "first ms",
        "Flex 1st"
    );
    for row in rows {
        println!(
            "{:<20}{:>10}{:>10}{:>10}{:>10}{:>9}{:>9}{:>9}{:>10}{:>8}{:>9}{:>10}{:>10}",
            row.case.name,
            number(Some(row.ours), 3),
            number(row.sdpa, 3),
            number(row.flex, 3),
            number(row.flex_mask, 1),
            number(row.ratio_sdpa, 2),
            number(row.ratio_flex, 2),
            number(row.ratio_flex_with_mask, 2),
            number(row.gflops, 1),
            number(row.peak_share.map(|share| 100.0 * share), 1),
            number(row.bandwidth_share.map(|share| 100.0 * share), 1),
            number(Some(row.first), 0),
            number(row.flex_first, 0),
        );
    }
    println!(
        "/SDPA, /Flex, /F+mask: PyTorch's time over ours, the median of the turns' ratios; F+mask makes the block mask too"
    );
}

/// Where SDPA was FlashAttention-2, if anywhere: it has no mask but the causal one.
fn print_kernels_of_sdpa(rows: &[Row]) {
    let flash: Vec<&str> = rows.iter().filter(|row| row.sdpa_kernel == "flash").map(|row| row.case.name).collect();
    if flash.is_empty() {
        return;
    }
    println!("SDPA is FlashAttention-2 in {}; elsewhere what PyTorch chooses for a dense mask", flash.join(", "));
}

fn write_svg(file: &Path, rows: &[Row], torch: &Torch, element: Element) -> Result<(), String> {
    let bars: Vec<Bar> = rows
        .iter()
        .map(|row| Bar {
            case: row.case.name,
            sdpa: row.ratio_sdpa,
            flex: row.ratio_flex,
            flex_with_mask: row.ratio_flex_with_mask,
        })
        .collect();
    let title = format!("Times PyTorch {} takes, over ours ({}, {})", torch.version, element.name(), torch.hardware);
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file);
    std::fs::write(&file, ratios_svg(&title, &bars)).map_err(|error| format!("{}: {error}", file.display()))?;
    eprintln!("wrote {}", file.display());
    Ok(())
}
