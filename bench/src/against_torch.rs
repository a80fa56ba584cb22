//! Against PyTorch on the same device and the same numbers: `scaled_dot_product_attention` (SDPA) as a user would call it, on a GPU
//! also by cuDNN, and compiled FlexAttention, whose block mask is timed apart.
//!
//! `./x bench --against torch` sets PyTorch up and runs it; `--help` lists the arguments. For each case all sides first have to
//! give the same output. Then each turn measures the machine's peak, ours, and PyTorch's ways, one after the other; times are medians
//! over turns, ratios medians of the turns' own ratios, and so are shares of the peak (and when decoding of the read bandwidth).
//! The peak is that of multiply-adds in registers; on a GPU in 16 bits it is PyTorch's product of two large matrices. Times include
//! the launch, the allocation of the output and waiting for the end: on a CPU for each call's, on a GPU, on both sides, for that of
//! all calls of a turn together. There SDPA is FlashAttention-2 wherever it can be. The result is a table, or with `--json` an array
//! of objects, or with `--lines` an object a line, as soon as there is one; what goes on is on stderr. Where PyTorch has no way to
//! compute a case that one would expect, the result says why.

use crate::cases::{CASES, Case, Inputs, chosen, element, usual};
use crate::device::{self, is_gpu, usual_element};
use crate::difference::greatest_difference;
use crate::first_call;
use crate::machine::{self, Machine};
use crate::nvidia_smi::GpuState;
use crate::ratios_svg::{Bar, ratios_svg};
use crate::torch_process::{Answer, Torch, Way};
use crate::turns::{calls, median};
use clap::Parser;
use purview::Device;
use purview::ir::Element;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

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
pub struct Flags {
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
    /// FlexAttention for at most so many cases, the first; each is compiled anew, which takes seconds [default: for all]
    #[arg(long, value_name = "N", default_value_t = usize::MAX, hide_default_value = true)]
    flex: usize,
    /// Prints an array of objects rather than a table
    #[arg(long)]
    json: bool,
    /// Prints an object a line, as soon as a case is measured; numbers that differ are in its `error`, and end nothing
    #[arg(long, conflicts_with = "json")]
    lines: bool,
    /// Also writes a picture of the ratios
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Lists the cases and measures nothing
    #[arg(long)]
    list: bool,
}

/// A case's results.
struct Row {
    case: &'static Case,
    element: Element,
    ours: f64,
    /// The median milliseconds of each way, and of FlexAttention's mask.
    times: [Option<f64>; 4],
    sdpa_kernel: String,
    /// The times of each way over ours, and of FlexAttention with its mask.
    ratios: [Option<f64>; 4],
    gflops: Option<f64>,
    peak_share: Option<f64>,
    peak: Option<f64>,
    bandwidth: Option<f64>,
    bandwidth_share: Option<f64>,
    /// Of the first case of a family alone, which stands for the others.
    first: Option<f64>,
    flex_first: Option<f64>,
    flex_mask_first: Option<f64>,
    /// Why there are no times of a way, where one would expect them.
    without: Vec<(Way, String)>,
    difference: f32,
    /// What is wrong with the numbers.
    wrong: Option<String>,
    /// The GPU before and after.
    gpu: Option<[GpuState; 2]>,
}

/// Measures what `flags` say, and prints it.
///
/// # Errors
/// A message where there is no such device or case, no PyTorch, or the numbers differ.
pub fn compare(flags: &Flags) -> Result<(), String> {
    if flags.list {
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
    let Some(device) = device::open(flags.device.as_deref())? else { return Ok(()) };
    let cases = match &flags.cases[..] {
        [] => usual(&device).filter(|case| case.in_comparison).collect(),
        names => chosen(names, &device)?,
    };
    let element = flags.dtype.unwrap_or_else(|| usual_element(&device));
    let cores = device.client().properties().hardware.num_cpu_cores.unwrap_or(1) as usize;
    let mut torch = Torch::open(device.name(), cores)?;
    let machine = Machine::new(&device).map_err(|error| error.to_string())?;
    eprintln!("PyTorch {} on {}, purview on {}, {}", torch.version, torch.hardware, device.name(), element.name());

    let mut rows: Vec<Row> = Vec::new();
    let mut before = GpuState::read(&device);
    let mut wrong = 0;
    for (place, case) in cases.iter().enumerate() {
        eprintln!("{}/{} {}", place + 1, cases.len(), case.name);
        let measured = Measurement {
            case,
            element,
            device: &device,
            machine: &machine,
            turns: flags.turns,
            with_first: rows.iter().all(|row| row.case.family() != case.family()),
            with_flex: place < flags.flex,
        };
        let mut row = match measured.run(&mut torch) {
            Ok(row) => row,
            Err(error) => {
                if flags.lines {
                    println!("{}", json!({ "case": case.name, "dtype": element.name(), "error": error }));
                }
                return Err(error);
            }
        };
        let after = GpuState::read(&device);
        row.gpu = before.clone().zip(after.clone()).map(|(before, after)| [before, after]);
        before = after;
        if flags.lines {
            println!("{}", row.json());
            wrong += usize::from(row.wrong.is_some());
        } else if let Some(wrong) = row.wrong {
            return Err(wrong);
        }
        rows.push(row);
        // What PyTorch needs for the next case may be what is kept here.
        let _ = device.client().memory_cleanup();
    }
    if flags.json {
        let rows: Vec<Value> = rows.iter().map(Row::json).collect();
        println!("{}", serde_json::to_string_pretty(&rows).map_err(|error| error.to_string())?);
    } else if !flags.lines {
        print_table(&rows);
        print_kernels_of_sdpa(&rows);
        let rows: Vec<Value> = rows.iter().map(Row::json).collect();
        missing_sides(&rows).iter().for_each(|line| println!("{line}"));
    }
    if let Some(file) = &flags.svg {
        write_svg(file, &rows, &torch, element)?;
    }
    if wrong > 0 { Err(format!("the numbers of {wrong} cases differ from PyTorch's")) } else { Ok(()) }
}

/// What is measured of a case, and by what.
struct Measurement<'a> {
    case: &'static Case,
    element: Element,
    device: &'a Device,
    machine: &'a Machine,
    turns: u32,
    with_first: bool,
    with_flex: bool,
}

impl Measurement<'_> {
    fn run(&self, torch: &mut Torch) -> Result<Row, String> {
        let &Measurement { case, element, device, machine, .. } = self;
        let failed = |error: purview::Error| format!("{}: {error}", case.name);
        let failed_there = |error: String| format!("{}: {error}", case.name);
        let first = if self.with_first { Some(first_call::measure(case.name, device.name(), element)?) } else { None };
        let mut inputs = Inputs::with_element(case, device, element).map_err(failed)?;
        let ours = inputs.run().and_then(|out| out.to_vec::<f32>()).map_err(failed)?;
        let answer = torch.set_case(case, device, element, self.with_flex).map_err(failed_there)?;
        let (difference, wrong) = check(case, element, &ours, &answer);
        let report = inputs.attention.report(&case.shape()).map_err(failed)?;

        // A GPU runs what one process after the other launches, and only a CPU's threads are in each other's way.
        let quiet = if is_gpu(device) { Duration::ZERO } else { QUIET };
        let has_peak = machine::has_peak_of(device, element);
        let mut measured: Vec<Times> = Vec::new();
        let (mut peaks, mut bandwidths) = (Vec::new(), Vec::new());
        // The first turn finds out how many calls a turn takes, and is not counted.
        let mut counts = [1; 5];
        for turn in 0..=self.turns {
            let peak = if has_peak { machine.fma_peak().map_err(failed)? } else { torch.matmul_peak(element)? };
            let bandwidth = if case.is_decoding() { Some(machine.read_bandwidth().map_err(failed)?) } else { None };
            let mut sides = Sides { inputs: &mut inputs, torch, answer: &answer, quiet };
            let times = sides.measure(&counts).map_err(failed_there)?;
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
            let shares =
                measured.iter().zip(limits).filter_map(|(times, limit)| Some(amount / times[OURS]? / 1e6 / limit));
            (limits.len() == measured.len()).then(|| median(shares))
        };
        let flops = report.useful_flops.map(|flops| flops as f64);
        let ratio = |side: usize| over_turns(&|times| Some(times[side]? / times[OURS]?));
        Ok(Row {
            case,
            element,
            ours: over_turns(&|times| times[OURS]).unwrap_or(f64::NAN),
            times: [SDPA, CUDNN, FLEX, FLEX_MASK].map(|side| over_turns(&|times| times[side])),
            sdpa_kernel: answer.sdpa_kernel.clone(),
            ratios: [
                ratio(SDPA),
                ratio(CUDNN),
                ratio(FLEX),
                over_turns(&|times| Some((times[FLEX]? + times[FLEX_MASK]?) / times[OURS]?)),
            ],
            gflops: over_turns(&|times| Some(flops? / times[OURS]? / 1e6)),
            peak_share: flops.and_then(|flops| share(flops, &peaks)),
            bandwidth_share: share(case.bytes(element) as f64, &bandwidths),
            bandwidth: (!bandwidths.is_empty()).then(|| median(bandwidths)),
            peak: Some(median(peaks)),
            first,
            flex_first: answer.flex_first,
            flex_mask_first: answer.flex_mask_first,
            without: answer.without(),
            difference,
            wrong,
            gpu: None,
        })
    }
}

/// The milliseconds of a call of each side in a turn.
type Times = [Option<f64>; 5];

/// The places of the sides in a turn's times.
const OURS: usize = 0;
const SDPA: usize = 1;
const CUDNN: usize = 2;
const FLEX: usize = 3;
const FLEX_MASK: usize = 4;

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
    fn measure(&mut self, calls: &[usize; 5]) -> Result<Times, String> {
        let mut times = [None; 5];
        sleep(self.quiet);
        times[OURS] = Some(self.inputs.time(calls[OURS]).map_err(|error| error.to_string())?);
        let can_mask = self.answer.can(Way::Flex) && self.answer.has_mask;
        let ways = Way::ALL.map(|way| (way.name(), self.answer.can(way)));
        for (place, (what, can)) in (SDPA..).zip(ways.into_iter().chain([("flex_mask", can_mask)])) {
            if can {
                sleep(self.quiet);
                times[place] = Some(self.torch.time(what, calls[place])?);
            }
        }
        sleep(self.quiet); // for the machine's peak
        Ok(times)
    }
}

/// The greatest difference from what PyTorch gives, and a message where it is more than rounding.
fn check(case: &Case, element: Element, ours: &[f32], answer: &Answer) -> (f32, Option<String>) {
    let mut greatest = 0f32;
    let mut wrong = None;
    for (way, theirs) in Way::ALL.into_iter().zip(&answer.outputs) {
        let side = way.title();
        let theirs = match theirs {
            Ok(theirs) => theirs,
            Err(reason) => {
                if !reason.is_empty() {
                    eprintln!("  no {side}: {reason}");
                }
                continue;
            }
        };
        if ours.len() != theirs.len() {
            wrong = Some(format!("{}: {side} gives {} numbers, ours {}", case.name, theirs.len(), ours.len()));
            continue;
        }
        let difference = greatest_difference(ours, theirs);
        eprintln!("  greatest difference from {side}: {difference:.1e}");
        let tolerance = tolerance(element);
        if difference > tolerance {
            wrong = Some(format!(
                "{}: the output differs from {side}'s by {difference:e}, and at most {tolerance:e} is rounding",
                case.name
            ));
        }
        greatest = greatest.max(difference);
    }
    (greatest, wrong)
}

impl Row {
    fn json(&self) -> Value {
        let [sdpa, cudnn, flex, flex_mask] = self.times;
        let [ratio_sdpa, ratio_cudnn, ratio_flex, ratio_flex_with_mask] = self.ratios;
        let mut value = json!({
            "case": self.case.name,
            "dtype": self.element.name(),
            "ours_ms": self.ours,
            "sdpa_ms": sdpa,
            "sdpa_kernel": sdpa.map(|_| &self.sdpa_kernel),
            "cudnn_ms": cudnn,
            "flex_ms": flex,
            "flex_mask_ms": flex_mask,
            "ratio_sdpa": ratio_sdpa,
            "ratio_cudnn": ratio_cudnn,
            "ratio_flex": ratio_flex,
            "ratio_flex_with_mask": ratio_flex_with_mask,
            "gflops": self.gflops,
            "peak_share": self.peak_share,
            "peak_gflops": self.peak,
            "bandwidth_share": self.bandwidth_share,
            "bandwidth_gb_s": self.bandwidth,
            "first_ms": self.first,
            "flex_first_ms": self.flex_first,
            "flex_mask_first_ms": self.flex_mask_first,
            "max_difference": self.difference,
        });
        for (way, reason) in &self.without {
            value["without"][way.name()] = json!(reason);
        }
        if let Some(wrong) = &self.wrong {
            value["error"] = json!(wrong);
        }
        if let Some(states) = &self.gpu {
            value["gpu"] = json!({ "before": states[0].json(), "after": states[1].json() });
        }
        value
    }
}

fn print_table(rows: &[Row]) {
    let number = |value: Option<f64>, digits: usize| match value {
        Some(value) => format!("{value:.digits$}"),
        None => "-".into(),
    };
    println!(
        "{:<20}{:>10}{:>10}{:>10}{:>10}{:>10}{:>9}{:>9}{:>9}{:>9}{:>10}{:>8}{:>9}{:>10}{:>10}",
        "case",
        "ours ms",
        "SDPA ms",
        "cuDNN ms",
        "Flex ms",
        "mask ms",
        "/SDPA",
        "/cuDNN",
        "/Flex",
        "/F+mask",
        "GFLOP/s",
        "% peak",
        "% bandw.",
        "first ms",
        "Flex 1st"
    );
    for row in rows {
        let ([sdpa, cudnn, flex, mask], ratios) = (row.times, row.ratios.map(|ratio| number(ratio, 2)));
        println!(
            "{:<20}{:>10}{:>10}{:>10}{:>10}{:>10}{:>9}{:>9}{:>9}{:>9}{:>10}{:>8}{:>9}{:>10}{:>10}",
            row.case.name,
            number(Some(row.ours), 3),
            number(sdpa, 3),
            number(cudnn, 3),
            number(flex, 3),
            number(mask, 1),
            ratios[0],
            ratios[1],
            ratios[2],
            ratios[3],
            number(row.gflops, 1),
            number(row.peak_share.map(|share| 100.0 * share), 1),
            number(row.bandwidth_share.map(|share| 100.0 * share), 1),
            number(row.first, 0),
            number(row.flex_first, 0),
        );
    }
    println!(
        "/SDPA, /cuDNN, /Flex, /F+mask: PyTorch's time over ours, the median of the turns' ratios; F+mask makes the block mask too"
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

/// Which of PyTorch's ways are missing in which cases, and why, in lines of words. `rows` are such as `--lines` prints.
pub(crate) fn missing_sides(rows: &[Value]) -> Vec<String> {
    let mut lines = Vec::new();
    for way in Way::ALL {
        let mut cases: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for row in rows {
            if let (Some(reason), Some(case)) = (row["without"][way.name()].as_str(), row["case"].as_str()) {
                cases.entry(reason).or_default().push(case);
            }
        }
        let of_way =
            cases.into_iter().map(|(reason, cases)| format!("no {} in {}: {reason}", way.title(), cases.join(", ")));
        lines.extend(of_way);
    }
    lines
}

fn write_svg(file: &Path, rows: &[Row], torch: &Torch, element: Element) -> Result<(), String> {
    let bars: Vec<Bar> = rows
        .iter()
        .map(|row| Bar { case: row.case.name, sdpa: row.ratios[0], flex: row.ratios[2], flex_with_mask: row.ratios[3] })
        .collect();
    let title = format!("Times PyTorch {} takes, over ours ({}, {})", torch.version, element.name(), torch.hardware);
    std::fs::write(file, ratios_svg(&title, &bars)).map_err(|error| format!("{}: {error}", file.display()))?;
    eprintln!("wrote {}", file.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_side_is_said_with_its_cases() {
        let rows = [
            json!({ "case": "a", "without": { "flex": "no compiler", "cudnn": "too old" } }),
            json!({ "case": "b", "error": "the process ended" }),
            json!({ "case": "c", "without": { "flex": "no compiler" } }),
            json!({ "case": "d", "without": { "flex": "the first only" } }),
        ];
        let expected = [
            "no cuDNN in a: too old",
            "no FlexAttention in a, c: no compiler",
            "no FlexAttention in d: the first only",
        ];
        assert_eq!(missing_sides(&rows), expected);
    }
}
