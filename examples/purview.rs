//! `cargo purview`: the command line with the gallery's variants.

use purview::cli::{self, Gallery};
use purview_examples::{GALLERY, cases};
use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main(&Gallery { variants: GALLERY, golden: &cases::golden() })
}
