//! Time against density: sliding windows of 64 to 4096 keys at 4096 tokens, 8 heads of 64, f32, on the CPU.
//!
//! `cargo bench --workspace --profile dev --bench skipping` reuses the build of the tests. After criterion's own lines, a table
//! gives for each window the median time and its ratio to that of the visited tiles: on a line through the origin the last column
//! is constant. The windows are measured in turns, so that what else the machine does is spread over all of them.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group};
use purview::prelude::*;
use purview_bench::bench_main::bench_main;
use purview_bench::turns::{median, time};
use std::process::ExitCode;
use std::time::Duration;

#[attention]
fn sliding_window(q: Query, k: Key, v: Value, window: u32) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push(mask(dot(q[i], k[j]) * scale(), j <= i && i - j < window), v[j]);
        }
        o
    }
}

const WINDOWS: [u32; 7] = [64, 128, 256, 512, 1024, 2048, 4096];
const TURNS: usize = 15;

struct Inputs {
    device: Device,
    shape: Shape,
    operands: [Tensor; 3],
}

impl Inputs {
    fn new() -> Result<Inputs, Error> {
        let (device, shape) = (Device::cpu()?, Shape::new(1, 8, 4096, 64));
        let data: Vec<f32> =
            (0..8 * 4096 * 64u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 8) as f32 / 1e7 - 0.8).collect();
        let tensor = || Tensor::from_slice(&device, [1, 8, 4096, 64], &data);
        let operands = [tensor()?, tensor()?, tensor()?];
        Ok(Inputs { device, shape, operands })
    }

    /// Runs one window to its end.
    fn run(&self, window: u32) -> Result<(), Error> {
        let [q, k, v] = &self.operands;
        let (_, lse) = sliding_window(window).with_lse().run(&self.device, q, k, v)?;
        // The log-sum-exp is written with the output, and sooner read.
        lse.to_vec::<f32>().map(drop)
    }
}

fn bench(criterion: &mut Criterion) {
    let inputs = Inputs::new().expect("a CPU");
    let mut group = criterion.benchmark_group("sliding window at 4096 tokens");
    for window in WINDOWS {
        let report = sliding_window(window).report(&inputs.shape).expect("a report");
        group.throughput(Throughput::Elements(report.tiles.visited));
        group.bench_function(BenchmarkId::from_parameter(window), |bencher| bencher.iter(|| inputs.run(window)));
    }
}

/// The table of time against density.
fn print_table() -> Result<(), Error> {
    let inputs = Inputs::new()?;
    let mut times = vec![Vec::new(); WINDOWS.len()];
    for _ in 0..TURNS {
        for (times, window) in times.iter_mut().zip(WINDOWS) {
            times.push(time(1, || inputs.run(window))?);
        }
    }
    println!("\n{:>8}{:>12}{:>12}{:>16}", "window", "tiles", "median ms", "µs per tile");
    for (times, window) in times.into_iter().zip(WINDOWS) {
        let milliseconds = median(times);
        let tiles = sliding_window(window).report(&inputs.shape)?.tiles;
        let per_tile = milliseconds * 1e3 / tiles.visited as f64;
        println!("{window:>8}{:>11.1}%{milliseconds:>12.2}{per_tile:>16.2}", 100.0 * tiles.share());
    }
    Ok(())
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(2));
    targets = bench
}

fn main() -> ExitCode {
    let how = "cargo bench --workspace --profile dev --bench skipping";
    bench_main("skipping", how, "the CPU", || {
        benches();
        print_table().map_err(|error| error.to_string())?;
        Criterion::default().configure_from_args().final_summary();
        Ok(())
    })
}
