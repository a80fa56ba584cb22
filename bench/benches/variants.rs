//! Every case of the table: criterion's own lines, then the table of `purview_bench::variants`.
//!
//! `./x bench` or `cargo bench --workspace --profile dev --bench variants`. Arguments of criterion's (a filter, `--save-baseline`)
//! give only its part, and `--cases`, `--turns`, `--device`, `--dtype`, `--json` and `--lines` only the table; `--help` describes these.
//! With `--beside`, it is the table of `purview_bench::beside`, with that one's flags.

use clap::Parser;
use criterion::{BenchmarkId, Criterion, Throughput};
use purview::{Device, Error};
use purview_bench::bench_main::exit_code;
use purview_bench::beside;
use purview_bench::cases::{Inputs, usual};
use purview_bench::device::{self, usual_element};
use purview_bench::first_call;
use purview_bench::variants::{Flags, measure};
use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    exit_code(first_call::answer().and_then(|answered| if answered { Ok(()) } else { run() }))
}

fn run() -> Result<(), String> {
    if std::env::args().any(|argument| argument == "--beside") {
        return beside::measure(&beside::Flags::parse());
    }
    let is_own = |argument: String| {
        let flag = argument.split('=').next().unwrap_or_default();
        ["--cases", "--turns", "--device", "--dtype", "--json", "--lines", "--help", "-h"].contains(&flag)
    };
    if std::env::args().any(is_own) {
        return measure(&Flags::parse());
    }
    let Some(device) = device::open(None)? else { return Ok(()) };
    // Criterion takes what else there is, and says what it does not know.
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    run_criterion(&mut criterion, &device).map_err(|error| error.to_string())?;
    criterion.final_summary();
    // Who asks criterion for something (a filter, a baseline) wants nothing else.
    if std::env::args().skip(1).eq(["--bench"]) {
        measure(&Flags::parse_from(["variants", "--bench"]))?;
        beside::measure(&beside::Flags::parse_from(["beside"]))?;
    }
    Ok(())
}

fn run_criterion(criterion: &mut Criterion, device: &Device) -> Result<(), Error> {
    let mut group = criterion.benchmark_group("variants");
    for case in usual(device) {
        let mut inputs = Inputs::with_element(case, device, usual_element(device))?;
        // Elements per second are then useful FLOP/s.
        group.throughput(Throughput::Elements(inputs.attention.report(&case.shape())?.useful_flops.unwrap_or(0)));
        group.bench_function(BenchmarkId::from_parameter(case.name), |bencher| {
            bencher.iter(|| inputs.run().expect("it ran before"));
        });
    }
    group.finish();
    Ok(())
}
