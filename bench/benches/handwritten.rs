//! The generated kernels against kernels written by hand in CubeCL: causal, a sliding window of 256, and causal ALiBi.
//!
//! `cargo bench --workspace --profile dev --bench handwritten` reuses the build of the tests. Both sides have the schedule that
//! purview chooses, or both another one (`-- --rows 6 --keys 96`). After criterion's own lines, a table gives for each case the
//! medians of both and of the ratio of throughputs, measured in turns; `-- --table` prints nothing else. Outputs are compared
//! first.

#![allow(missing_docs, reason = "clap and CubeCL derive items without")]

mod handwritten_kernel;

use clap::Parser;
use criterion::{BenchmarkId, Criterion, Throughput};
use cubecl::prelude::{BufferArg, CubeCount, CubeDim};
use cubecl::server::Handle;
use handwritten_kernel::{Form, Mask, attention_by_hand};
use purview::schedule::{self, Constraints, CpuSchedule, Schedule};
use purview::{Device, Error, Shape, Tensor};
use purview_bench::bench_main::bench_main;
use purview_bench::difference::greatest_relative_difference;
use purview_bench::turns::{calls, median, time};
use purview_examples::alibi_causal::{alibi_causal, slope};
use purview_examples::causal::causal;
use purview_examples::sliding_window::sliding_window;
use std::process::ExitCode;
use std::time::Duration;

const HEADS: usize = 8;
const WINDOW: usize = 256;
/// Lengths and head dims.
const SHAPES: [(usize, usize); 3] = [(1024, 64), (4096, 64), (2048, 128)];
const MASKS: [Mask; 3] = [Mask::Causal, Mask::Window, Mask::CausalAlibi];
/// The greatest difference of outputs and log-sum-exps, relative to numbers above 1, that counts as the same: both sum in f32,
/// in another order.
const TOLERANCE: f32 = 4e-6;

/// Generated kernels against handwritten ones.
#[derive(Parser)]
#[command(name = "handwritten")]
struct Arguments {
    /// Only the cases whose name has this in it
    filter: Option<String>,
    /// Turns per case
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..))]
    turns: u32,
    /// Prints the table without criterion's lines
    #[arg(long)]
    table: bool,
    /// Vectors in a tile of queries, rather than what purview chooses
    #[arg(long)]
    vectors: Option<usize>,
    /// Keys in a tile, rather than what purview chooses
    #[arg(long)]
    keys: Option<usize>,
    /// Rows of a register block, rather than what purview chooses
    #[arg(long)]
    rows: Option<usize>,
    /// What cargo passes to benches
    #[arg(long, hide = true)]
    bench: bool,
}

/// A mask at a shape, with what both sides need.
struct Case {
    name: String,
    mask: Mask,
    length: usize,
    dim: usize,
    schedule: CpuSchedule,
    device: Device,
    operands: [Tensor; 3],
    slopes: Tensor,
    counters: Handle,
}

impl Case {
    fn new(device: &Device, mask: Mask, (length, dim): (usize, usize), arguments: &Arguments) -> Result<Case, String> {
        let mask_name = match mask {
            Mask::Causal => "causal",
            Mask::Window => "window256",
            Mask::CausalAlibi => "alibi",
        };
        let operand =
            |seed: u32| Tensor::from_slice(device, [1, HEADS, length, dim], &noise(HEADS * length * dim, seed));
        let slopes: Vec<f32> = (0..HEADS).map(|head| slope(head, HEADS)).collect();
        let tensors = || Ok(([operand(1)?, operand(2)?, operand(3)?], Tensor::from_slice(device, [HEADS], &slopes)?));
        let (operands, slopes) = tensors().map_err(|error: Error| error.to_string())?;
        Ok(Case {
            name: format!("{mask_name}-{length}x{dim}"),
            mask,
            length,
            dim,
            schedule: schedule(device, (length, dim), arguments)?,
            device: device.clone(),
            operands,
            slopes,
            counters: device.client().create_from_slice(&[0; 8]),
        })
    }

    /// Output and log-sum-exp of the generated kernel.
    fn generated(&self) -> Result<(Tensor, Tensor), Error> {
        let [q, k, v] = &self.operands;
        let schedule = Schedule::Cpu(self.schedule);
        match self.mask {
            Mask::Causal => causal().with_schedule(schedule).with_lse().run(&self.device, q, k, v),
            Mask::Window => sliding_window(WINDOW as u32).with_schedule(schedule).with_lse().run(&self.device, q, k, v),
            Mask::CausalAlibi => {
                alibi_causal(&self.slopes).with_schedule(schedule).with_lse().run(&self.device, q, k, v)
            }
        }
    }

    /// Those of the handwritten one.
    fn handwritten(&self) -> Result<(Handle, Handle), Error> {
        let client = self.device.client();
        let rows = HEADS * self.length;
        let (output, lse) = (client.empty(4 * rows * self.dim), client.empty(4 * rows));
        let [q, k, v] = &self.operands;
        let buffer = |tensor: &Tensor| {
            let length = tensor.shape().iter().product();
            let handle = tensor.clone().into_handle()?.handle;
            // SAFETY: the memory of a contiguous tensor that begins at its start.
            Ok::<_, Error>(unsafe { BufferArg::from_raw_parts(handle, length) })
        };
        let units = client.properties().hardware.num_cpu_cores.unwrap_or(1);
        let factor = std::f32::consts::LOG2_E / (self.dim as f32).sqrt();
        // SAFETY: the buffers have the lengths that the kernel indexes, as `schedule` made sure that tiles divide the length.
        unsafe {
            attention_by_hand::launch_unchecked(
                client,
                CubeCount::new_single(),
                CubeDim::new_1d(units),
                self.schedule.lanes,
                buffer(q)?,
                buffer(k)?,
                buffer(v)?,
                buffer(&self.slopes)?,
                BufferArg::from_raw_parts(output.clone(), rows * self.dim),
                BufferArg::from_raw_parts(lse.clone(), rows),
                BufferArg::from_raw_parts(self.counters.clone(), 2),
                HEADS,
                self.length,
                WINDOW,
                factor,
                Form { mask: self.mask, dim: self.dim, schedule: self.schedule },
            );
        }
        Ok((output, lse))
    }

    /// The greatest difference of the two sides' outputs, and of their log-sum-exps.
    fn compare(&self) -> Result<(f32, f32), Error> {
        let (output, lse) = self.generated()?;
        let (output_by_hand, lse_by_hand) = self.handwritten()?;
        let read = |handle: Handle| -> Vec<f32> {
            bytemuck::pod_collect_to_vec(&self.device.client().read_one_unchecked(handle))
        };
        Ok((
            greatest_relative_difference(&output.to_vec::<f32>()?, &read(output_by_hand)),
            greatest_relative_difference(&lse.to_vec::<f32>()?, &read(lse_by_hand)),
        ))
    }

    /// The milliseconds of one of so many calls.
    fn time<T>(&self, calls: usize, run: impl Fn(&Case) -> Result<T, Error>) -> Result<f64, Error> {
        time(calls, || run(self).and_then(|_| self.device.sync()))
    }

    /// Multiplications and additions for the visible pairs.
    fn operations(&self) -> f64 {
        let length = self.length;
        let pairs = match self.mask {
            Mask::Window => length * WINDOW - WINDOW * (WINDOW - 1) / 2,
            Mask::Causal | Mask::CausalAlibi => length * (length + 1) / 2,
        };
        4.0 * (HEADS * self.dim * pairs) as f64
    }
}

/// The schedule for both sides.
fn schedule(device: &Device, (length, dim): (usize, usize), arguments: &Arguments) -> Result<CpuSchedule, String> {
    let constraints = Constraints {
        operands: Shape::new(1, HEADS, length, dim).operands(),
        value_dim: dim,
        bounded: true,
        intricate: false,
        form: purview::ir::forward::Form::Single,
    };
    let chosen = match schedule::choose(device, constraints).map_err(|error| error.to_string())? {
        Schedule::Cpu(chosen) => chosen,
        other => return Err(format!("purview chose the schedule `{}`, and by hand there is only `cpu`", other.name())),
    };
    let schedule = CpuSchedule {
        vectors: arguments.vectors.unwrap_or(chosen.vectors),
        keys: arguments.keys.unwrap_or(chosen.keys),
        rows: arguments.rows.unwrap_or(chosen.rows),
        ..chosen
    };
    schedule::check(device, Schedule::Cpu(schedule), constraints).map_err(|error| error.to_string())?;
    let queries = Schedule::Cpu(schedule).query_tile();
    if !length.is_multiple_of(queries) {
        return Err(format!(
            "{queries} queries in a tile do not divide the length {length}, which the handwritten kernel needs"
        ));
    }
    if !schedule.lanes.is_multiple_of(4) {
        return Err(format!("vectors have {} lanes, and the handwritten kernel needs a multiple of 4", schedule.lanes));
    }
    if queries + schedule.keys > WINDOW {
        return Err(format!(
            "tiles of {queries} queries and {} keys: the handwritten kernel needs both together to be at most the window of {WINDOW}",
            schedule.keys
        ));
    }
    Ok(schedule)
}

/// Numbers between -1.7 and 1.7, the same in every run.
fn noise(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 8) as f32 / (1 << 24) as f32 * 3.4 - 1.7
    };
    (0..count).map(|_| next()).collect()
}

fn cases(arguments: &Arguments) -> Result<Vec<Case>, String> {
    let device = Device::cpu().map_err(|error| error.to_string())?;
    let all = MASKS.iter().flat_map(|mask| SHAPES.iter().map(|shape| Case::new(&device, *mask, *shape, arguments)));
    let all = all.collect::<Result<Vec<Case>, String>>()?;
    let names: Vec<String> = all.iter().map(|case| case.name.clone()).collect();
    let filter = arguments.filter.as_deref().unwrap_or("");
    let chosen: Vec<Case> = all.into_iter().filter(|case| case.name.contains(filter)).collect();
    if chosen.is_empty() {
        return Err(format!("no case has `{filter}` in its name; there are {}", names.join(", ")));
    }
    Ok(chosen)
}

fn bench(criterion: &mut Criterion, cases: &[Case]) {
    for case in cases {
        let mut group = criterion.benchmark_group(&case.name);
        group.throughput(Throughput::Elements(case.operations() as u64));
        group.bench_function(BenchmarkId::from_parameter("generated"), |bencher| {
            bencher.iter(|| case.time(1, Case::generated).expect("it ran before"));
        });
        group.bench_function(BenchmarkId::from_parameter("handwritten"), |bencher| {
            bencher.iter(|| case.time(1, Case::handwritten).expect("it ran before"));
        });
    }
}

/// The table of both sides in turns.
fn print_table(cases: &[Case], turns: u32) -> Result<(), Error> {
    println!(
        "\n{:<20}{:>14}{:>16}{:>9}{:>11}{:>11}{:>14}",
        "case", "generated ms", "handwritten ms", "ratio", "GFLOP/s", "by hand", "difference"
    );
    for case in cases {
        let (difference, _) = case.compare()?;
        let (mut generated, mut handwritten, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        let calls = calls(case.time(1, Case::generated)?);
        for turn in 0..turns {
            // Who is first takes turns too.
            let ours_first = turn % 2 == 0;
            let before = if ours_first { case.time(calls, Case::generated)? } else { 0.0 };
            let by_hand = case.time(calls, Case::handwritten)?;
            let ours = if ours_first { before } else { case.time(calls, Case::generated)? };
            generated.push(ours);
            handwritten.push(by_hand);
            ratios.push(by_hand / ours);
        }
        let (generated, handwritten) = (median(generated), median(handwritten));
        let speed = |ms: f64| case.operations() / ms / 1e6;
        println!(
            "{:<20}{generated:>14.2}{handwritten:>16.2}{:>9.3}{:>11.1}{:>11.1}{difference:>14.1e}",
            case.name,
            median(ratios),
            speed(generated),
            speed(handwritten),
        );
    }
    println!("\nratio: throughput of the generated kernel in that of the handwritten one");
    Ok(())
}

fn run(arguments: &Arguments) -> Result<(), String> {
    let cases = cases(arguments)?;
    let schedule = cases[0].schedule;
    eprintln!("{} lanes, {} vectors, {} keys, {} rows", schedule.lanes, schedule.vectors, schedule.keys, schedule.rows);
    for case in &cases {
        let (output, lse) = case.compare().map_err(|error| error.to_string())?;
        if !(output <= TOLERANCE && lse <= TOLERANCE) {
            return Err(format!(
                "{}: outputs differ by {output:e}, log-sum-exps by {lse:e}; at most {TOLERANCE:e} was expected",
                case.name
            ));
        }
    }
    if !arguments.table {
        let mut criterion = Criterion::default()
            .sample_size(10)
            .warm_up_time(Duration::from_millis(300))
            .measurement_time(Duration::from_secs(1));
        bench(&mut criterion, &cases);
        criterion.final_summary();
    }
    print_table(&cases, arguments.turns).map_err(|error| error.to_string())
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let how = "cargo bench --workspace --profile dev --bench handwritten";
    bench_main("handwritten", how, "the CPU", || run(&arguments))
}
