//! `cargo purview`: the command line with the gallery's variants, and with what measures them.

use purview_bench::bench_main::exit_code;
use purview_bench::{COMMANDS, first_call};
use purview_cli::Gallery;
use purview_examples::{GALLERY, golden};
use std::process::ExitCode;

fn main() -> ExitCode {
    match first_call::answer() {
        Ok(false) => purview_cli::main(&Gallery { variants: GALLERY, golden: &golden(), commands: COMMANDS }),
        answered => exit_code(answered.map(drop)),
    }
}
