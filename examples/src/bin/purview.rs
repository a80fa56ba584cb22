//! `cargo purview`: the command line with the gallery's variants.

use purview_cli::Gallery;
use purview_examples::{GALLERY, golden};
use std::process::ExitCode;

fn main() -> ExitCode {
    purview_cli::main(&Gallery { variants: GALLERY, golden: &golden() })
}
