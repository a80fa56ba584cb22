//! The commands that this crate adds to the command line.

use crate::{against_torch, beside, gpu, machine_report, variants};
use clap::{Parser, Subcommand};
use purview_cli::{FAILURE, OwnCommand, SUCCESS, USAGE};
use std::ffi::OsString;

/// `bench` and `gpu`.
pub const COMMANDS: &[OwnCommand] = &[
    OwnCommand { name: "bench", about: "Measures cases, alone or against PyTorch", run: bench },
    OwnCommand { name: "gpu", about: "Proves and measures Purview on an NVIDIA GPU, step by step", run: gpu },
];

/// Measures cases, alone or against PyTorch.
#[derive(Parser)]
#[command(bin_name = "purview bench")]
struct Bench {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Every case against the machine's own limits
    Variants(variants::Flags),
    /// Whole attentions beside what would do their work otherwise
    Beside(beside::Flags),
    /// The same tensors through PyTorch's attention, in turns
    Torch(against_torch::Flags),
    /// What the machine can do at best
    Machine(machine_report::Flags),
}

fn bench(args: &[OsString]) -> u8 {
    let bench = match Bench::try_parse_from(args) {
        Ok(bench) => bench,
        Err(error) => return said(&error),
    };
    let result = match bench.what {
        What::Variants(flags) => variants::measure(&flags),
        What::Beside(flags) => beside::measure(&flags),
        What::Torch(flags) => against_torch::compare(&flags),
        What::Machine(flags) => machine_report::report(&flags),
    };
    match result {
        Ok(()) => SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            FAILURE
        }
    }
}

fn gpu(args: &[OsString]) -> u8 {
    match gpu::Flags::try_parse_from(args) {
        Ok(flags) => gpu::run(&flags),
        Err(error) => said(&error),
    }
}

/// Prints what clap says: the help, which was asked for, or an error.
fn said(error: &clap::Error) -> u8 {
    // Where it cannot be written, the exit code is all that is left.
    let _ = error.print();
    if error.use_stderr() { USAGE } else { SUCCESS }
}
