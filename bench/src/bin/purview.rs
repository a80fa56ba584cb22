//! `cargo purview`: the command line with the gallery's variants, and with what measures them.

use purview_bench::{COMMANDS, first_call};
use purview_cli::Gallery;
use purview_examples::{GALLERY, golden};
use std::process::ExitCode;

fn main() -> ExitCode {
    match first_call::answer() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => purview_cli::main(&Gallery { variants: GALLERY, golden: &golden(), commands: COMMANDS }),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
