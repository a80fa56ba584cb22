//! `cargo purview`: the command line, with the gallery.

use purview::cli::{self, Gallery};
use purview_examples::GALLERY;
use purview_examples::cases::GOLDEN;
use std::process::ExitCode;

fn main() -> ExitCode {
    let golden: Vec<(&str, &str)> = GOLDEN.iter().map(|case| (case.name, case.variant)).collect();
    cli::main(&Gallery { variants: GALLERY, golden: &golden })
}
