//! Every case of the table: its time, the useful work it does in that time, and the share of the machine's limits.
//!
//! `cargo purview bench variants` prints a table of medians of interleaved turns; so does `./x bench`, after criterion's own lines
//! where no argument is given. Useful work are the multiplications and additions of both products on visible pairs alone, so that
//! what a kernel does beyond them (hidden pairs of partial tiles, the exponential) makes the number smaller. When decoding, memory
//! is the limit, and bytes are those of queries, keys, values and output once. With `--lines` each case has turns of its own, and
//! is printed as soon as it is measured.

use crate::cases::{CASES, Case, Inputs, chosen, element, usual};
use crate::device::{self, usual_element};
use crate::first_call;
use crate::machine::{self, Machine};
use crate::nvidia_smi::GpuState;
use crate::turns::{calls, median, time};
use clap::Parser;
use purview::ir::Element;
use purview::{Device, Error};
use serde_json::{Value, json};

/// The case that is nothing but its launch.
const TINY: &str = "full-64x64";
/// Launches before a wait, for the time of one that nobody waits for.
const PIPELINED: usize = 200;

/// Every case against the machine's own limits.
#[derive(Parser)]
pub struct Flags {
    /// Cases by name, or by the part before the shape; if not given all, of which the largest only on cuda and hip
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    cases: Vec<String>,
    /// Turns, each of which runs every case; with --lines, of each case
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    turns: u32,
    /// The device: cpu, wgpu, cuda or hip; if not given cuda in a build with that feature, and cpu in others
    #[arg(long)]
    device: Option<String>,
    /// The type of queries, keys and values: f32, f16 or bf16; if not given f16 on cuda and hip, and f32 on others
    #[arg(long, value_parser = element, value_name = "TYPE")]
    dtype: Option<Element>,
    /// Prints an object rather than a table
    #[arg(long)]
    json: bool,
    /// Prints an object a line, as soon as a case is measured, each in turns of its own
    #[arg(long, conflicts_with = "json")]
    lines: bool,
    /// What cargo passes to benches
    #[arg(long, hide = true)]
    bench: bool,
}

/// Measures what `flags` say, and prints it.
///
/// # Errors
/// A message where there is no such device or case, or a kernel fails.
pub fn measure(flags: &Flags) -> Result<(), String> {
    match device::open(flags.device.as_deref())? {
        Some(device) => print(flags, &device),
        None => Ok(()),
    }
}

/// A case with what was measured of it.
struct Row {
    case: &'static Case,
    milliseconds: f64,
    gflops: Option<f64>,
    gb_per_second: Option<f64>,
    first: Option<f64>,
}

/// The machine's limits, as the same turns found them.
struct Limits {
    /// GFLOP/s, where that is the limit of this type.
    peak: Option<f64>,
    /// GB/s of reading memory.
    bandwidth: f64,
}

/// What was measured in the same turns.
struct Measured {
    rows: Vec<Row>,
    limits: Limits,
}

/// What was measured of everything.
struct Results {
    measured: Measured,
    /// Microseconds of a tiny launch that is waited for, and of one that is not.
    launch: (f64, f64),
}

fn print(flags: &Flags, device: &Device) -> Result<(), String> {
    let cases = if flags.cases.is_empty() { usual(device).collect() } else { chosen(&flags.cases, device)? };
    let element = flags.dtype.unwrap_or_else(|| usual_element(device));
    let machine = Machine::new(device).map_err(|error| error.to_string())?;
    let measurement = Measurement { device, machine: &machine, element, turns: flags.turns };
    if flags.lines {
        return measurement.print_lines(&cases);
    }
    let measured = measurement.run(&cases, |place| is_first_of_family(&cases, place))?;
    let launch = launch_overhead(device, flags.turns).map_err(|error| error.to_string())?;
    let results = Results { measured, launch };
    if flags.json {
        let text = serde_json::to_string_pretty(&results.json()).map_err(|error| error.to_string())?;
        println!("{text}");
    } else {
        results.print_table();
    }
    Ok(())
}

/// Whether no earlier case is of the same family. Shapes of a family compile the same kernel but for the head dim: one stands for all.
fn is_first_of_family(cases: &[&Case], place: usize) -> bool {
    cases[..place].iter().all(|earlier| earlier.family() != cases[place].family())
}

/// How cases are measured.
struct Measurement<'a> {
    device: &'a Device,
    machine: &'a Machine,
    element: Element,
    turns: u32,
}

impl Measurement<'_> {
    /// Measures and prints one case after the other. The first that fails is the last, since it may leave nothing that works behind.
    fn print_lines(&self, cases: &[&'static Case]) -> Result<(), String> {
        for (place, case) in cases.iter().enumerate() {
            eprintln!("{}/{} {}", place + 1, cases.len(), case.name);
            let before = GpuState::read(self.device);
            let mut line = json!({ "case": case.name, "dtype": self.element.name() });
            match self.run(&[case], |_| is_first_of_family(cases, place)) {
                Ok(measured) => {
                    line = measured.rows[0].json(&measured.limits);
                    line["dtype"] = json!(self.element.name());
                    line["peak_gflops"] = json!(measured.limits.peak);
                    line["bandwidth_gb_s"] = json!(measured.limits.bandwidth);
                    if let (Some(before), Some(after)) = (before, GpuState::read(self.device)) {
                        line["gpu"] = json!({ "before": before.json(), "after": after.json() });
                    }
                    println!("{line}");
                }
                Err(error) => {
                    line["error"] = json!(error);
                    println!("{line}");
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Runs every case in each turn. Those at the places that `with_first` says have a first call of their own too.
    fn run(&self, cases: &[&'static Case], with_first: impl Fn(usize) -> bool) -> Result<Measured, String> {
        let &Measurement { device, machine, element, turns } = self;
        let failed = |error: Error| error.to_string();
        let mut inputs = Vec::new();
        let mut counts = Vec::new();
        for case in cases {
            let failed = |error: Error| format!("{}: {error}", case.name);
            let mut of_case = Inputs::with_element(case, device, element).map_err(failed)?;
            of_case.run().map_err(failed)?; // compiles it
            counts.push(calls(of_case.time(1).map_err(failed)?));
            inputs.push(of_case);
        }
        let mut times = vec![Vec::new(); cases.len()];
        let (mut peak, mut bandwidth) = (0f64, 0f64);
        for _ in 0..turns {
            peak = peak.max(machine.fma_peak().map_err(failed)?);
            bandwidth = bandwidth.max(machine.read_bandwidth().map_err(failed)?);
            for ((times, inputs), calls) in times.iter_mut().zip(&mut inputs).zip(&counts) {
                times.push(inputs.time(*calls).map_err(failed)?);
            }
        }

        let mut rows = Vec::new();
        for (place, case) in cases.iter().enumerate() {
            let milliseconds = median(times[place].iter().copied());
            let report = inputs[place].attention.report(&case.shape()).map_err(failed)?;
            let first = with_first(place).then(|| first_call::measure(case.name, device.name(), element));
            rows.push(Row {
                case,
                milliseconds,
                gflops: report.useful_flops.map(|flops| flops as f64 / milliseconds / 1e6),
                gb_per_second: case.is_decoding().then(|| case.bytes(element) as f64 / milliseconds / 1e6),
                first: first.transpose()?,
            });
        }
        let peak = machine::has_peak_of(device, element).then_some(peak);
        Ok(Measured { rows, limits: Limits { peak, bandwidth } })
    }
}

/// The microseconds of a tiny launch: waited for, and one of many before a wait.
fn launch_overhead(device: &Device, turns: u32) -> Result<(f64, f64), Error> {
    let tiny = CASES.iter().find(|case| case.name == TINY).expect("a tiny case");
    let mut inputs = Inputs::new(tiny, device)?;
    inputs.run()?;
    let (mut waited, mut pipelined) = (Vec::new(), Vec::new());
    for _ in 0..turns {
        waited.push(1e3 * time(PIPELINED, || inputs.run())?);
        let together = time(1, || {
            (0..PIPELINED).try_for_each(|_| inputs.launch().map(drop))?;
            device.sync()
        })?;
        pipelined.push(1e3 * together / PIPELINED as f64);
    }
    Ok((median(waited), median(pipelined)))
}

impl Row {
    /// The share of the machine's peak, 0 to 1.
    fn peak_share(&self, limits: &Limits) -> Option<f64> {
        Some(self.gflops? / limits.peak?)
    }

    /// The share of the read bandwidth, 0 to 1, when decoding.
    fn bandwidth_share(&self, limits: &Limits) -> Option<f64> {
        self.gb_per_second.map(|rate| rate / limits.bandwidth)
    }

    fn json(&self, limits: &Limits) -> Value {
        json!({
            "case": self.case.name,
            "ms": self.milliseconds,
            "gflops": self.gflops,
            "peak_share": self.peak_share(limits),
            "gb_s": self.gb_per_second,
            "bandwidth_share": self.bandwidth_share(limits),
            "first_ms": self.first,
        })
    }
}

impl Results {
    fn json(&self) -> Value {
        let Measured { rows, limits } = &self.measured;
        json!({
            "cases": rows.iter().map(|row| row.json(limits)).collect::<Vec<_>>(),
            "peak_gflops": limits.peak,
            "bandwidth_gb_s": limits.bandwidth,
            "launch_us": self.launch.0,
            "pipelined_launch_us": self.launch.1,
        })
    }

    fn print_table(&self) {
        let Measured { rows, limits } = &self.measured;
        let number = |value: Option<f64>| value.map_or("-".into(), |value| format!("{value:.1}"));
        let percent = |share: Option<f64>| number(share.map(|share| 100.0 * share));
        println!(
            "\n{:<20}{:>11}{:>10}{:>8}{:>8}{:>13}{:>15}",
            "case", "median ms", "GFLOP/s", "% peak", "GB/s", "% bandwidth", "first call ms"
        );
        for row in rows {
            println!(
                "{:<20}{:>11.3}{:>10}{:>8}{:>8}{:>13}{:>15}",
                row.case.name,
                row.milliseconds,
                number(row.gflops),
                percent(row.peak_share(limits)),
                number(row.gb_per_second),
                percent(row.bandwidth_share(limits)),
                number(row.first),
            );
        }
        println!(
            "peak {} GFLOP/s, memory read at {:.1} GB/s; a launch of 2 heads × 64 × 64 takes {:.0} µs with the wait for its end, \
             {:.0} µs in a row of {PIPELINED}",
            number(limits.peak),
            limits.bandwidth,
            self.launch.0,
            self.launch.1
        );
    }
}
