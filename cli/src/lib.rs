//! The command line, for the variants of any crate.
//!
//! ```no_run
//! use purview::Variant;
//! use purview::prelude::*;
//! use purview_cli::Gallery;
//! use std::process::ExitCode;
//!
//! /// Each query sees itself and the `window - 1` keys before it.
//! #[attention]
//! pub fn sliding_window(q: Query, k: Key, v: Value, window: u32) -> Output {
//!     for i in q.tiles() {
//!         let mut o = Softmax::new();
//!         for j in k.tiles() {
//!             o.push(mask(dot(q[i], k[j]) * scale(), j <= i && i - j < window), v[j]);
//!         }
//!         o
//!     }
//! }
//!
//! const VARIANTS: &[Variant] = &[Variant {
//!     name: "sliding_window",
//!     make: |arguments| Ok(sliding_window(arguments.u32("window", 256)?).into()),
//! }];
//!
//! fn main() -> ExitCode {
//!     purview_cli::main(&Gallery { variants: VARIANTS, golden: &[], commands: &[] })
//! }
//! ```
//!
//! A binary of this prints its variants with `list`, their tile programs with `program`, what they visit with `report`, their
//! kernels with `emit`, and what NVIDIA's compiler makes of them with `sass`; runs them with `run`, and compares them with results
//! from elsewhere with `check`. `--help` describes each command and the JSON that it prints with `--json`.

mod arguments;
mod check;
mod check_backward;
mod check_gallery;
mod describe;
mod emit;
pub mod golden;
#[cfg(feature = "emit")]
pub mod ptx;
mod run;
mod sass;
mod traffic;

use crate::golden::GoldenError;
#[cfg(feature = "emit")]
use crate::ptx::PtxError;
use arguments::{Command, CommandLine};
pub use check_gallery::GALLERY_SHAPES;
use clap::FromArgMatches;
use indicatif::{ProgressBar, ProgressFinish, ProgressStyle};
use purview::{Error, Variant};
use purview_compiler::report::PICTURE_COLUMNS;
use purview_nvidia::occupancy::OccupancyError;
use purview_nvidia::sass::SassError;
use purview_nvidia::toolchain::ToolError;
use serde_json::Value;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use thiserror::Error as ThisError;

/// What the command line knows.
#[derive(Clone, Copy)]
pub struct Gallery<'a> {
    /// The variants, in the order they are listed.
    pub variants: &'a [Variant],
    /// The names of golden cases, each with the variant that must give its results.
    pub golden: &'a [(&'a str, Variant)],
    /// Commands of the crate's own, listed after those that are here.
    pub commands: &'a [OwnCommand],
}

/// A command of a crate's own.
#[derive(Clone, Copy)]
pub struct OwnCommand {
    /// Its name, the first argument.
    pub name: &'static str,
    /// What it does, in a line of the help.
    pub about: &'static str,
    /// Runs it, given its name and what follows; it prints to the process's own outputs and returns the exit code.
    pub run: fn(&[OsString]) -> u8,
}

/// The exit code when everything was as it should be.
pub const SUCCESS: u8 = 0;
/// The exit code of a check that failed, and of any other error.
pub const FAILURE: u8 = 1;
/// The exit code for arguments that make no sense.
pub const USAGE: u8 = 2;

/// Runs the command that this process was started with: the whole `main` of a binary.
pub fn main(gallery: &Gallery) -> ExitCode {
    // `None` where there is no terminal.
    let columns = console::Term::stdout().size_checked().map(|(_, columns)| usize::from(columns));
    let columns = columns.unwrap_or(PICTURE_COLUMNS + describe::INDENT);
    run_in(columns, std::env::args_os(), gallery, &mut io::stdout().lock(), &mut io::stderr()).into()
}

/// Runs the command of `args`, the first of which is the program's name, with results on `out` and errors on `err`. Returns the
/// exit code: [`SUCCESS`], [`FAILURE`] or [`USAGE`]. Pictures have at most 64 columns.
pub fn run(
    args: impl IntoIterator<Item = impl Into<OsString> + Clone>,
    gallery: &Gallery,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> u8 {
    run_in(PICTURE_COLUMNS + describe::INDENT, args, gallery, out, err)
}

/// The same, for an output of `columns` columns.
fn run_in(
    columns: usize,
    args: impl IntoIterator<Item = impl Into<OsString> + Clone>,
    gallery: &Gallery,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> u8 {
    let args: Vec<OsString> = args.into_iter().map(Into::into).collect();
    if let [_, name, ..] = &args[..]
        && let Some(own) = gallery.commands.iter().find(|own| own.name == name)
    {
        return (own.run)(&args[1..]);
    }
    let matches = arguments::command(gallery).try_get_matches_from(args);
    let result = match matches.and_then(|matches| CommandLine::from_arg_matches(&matches)) {
        Ok(CommandLine { command, json }) => dispatch(&command, json, columns, gallery, out),
        // `--help` is not an error, but comes as one.
        Err(help) if !help.use_stderr() => write!(out, "{help}").map(|()| SUCCESS).map_err(Failure::from),
        Err(error) => {
            // Where errors cannot be written, the exit code is all that is left.
            let _ = write!(err, "{error}");
            return USAGE;
        }
    };
    let result = result.and_then(|code| out.flush().map(|()| code).map_err(Failure::from));
    match result {
        Ok(code) => code,
        // Whoever reads has read enough: `purview list | head -1`.
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => SUCCESS,
        Err(failure) => {
            let _ = writeln!(err, "error: {failure}");
            if matches!(failure, Failure::Usage(_)) { USAGE } else { FAILURE }
        }
    }
}

fn dispatch(
    command: &Command,
    json: bool,
    columns: usize,
    gallery: &Gallery,
    out: &mut dyn Write,
) -> Result<u8, Failure> {
    match command {
        Command::List => describe::list(gallery, json, out),
        Command::Program(flags) => describe::program(gallery, flags, json, out),
        Command::Report(flags) => describe::report(gallery, flags, json, columns, out),
        Command::Emit(flags) => emit::emit(gallery, flags, json, out),
        Command::Sass(flags) => sass::sass(gallery, flags, json, out),
        Command::Run(flags) => run::run(gallery, flags, json, out),
        Command::Check(flags) if flags.backward => check_backward::check_backward(gallery, flags, json, out),
        Command::Check(flags) => check::check(gallery, flags, json, out),
    }
}

/// Why a command ended early.
#[derive(Debug, ThisError)]
enum Failure {
    /// Arguments that make no sense.
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Purview(#[from] Error),
    #[error(transparent)]
    Golden(#[from] GoldenError),
    #[cfg(feature = "emit")]
    #[error(transparent)]
    Ptx(#[from] PtxError),
    #[error(transparent)]
    Tool(#[from] ToolError),
    #[error(transparent)]
    Sass(#[from] SassError),
    #[error(transparent)]
    Occupancy(#[from] OccupancyError),
    /// A file that could not be written.
    #[error("{}: {error}", path.display())]
    File { path: PathBuf, error: io::Error },
    /// Results that could not be written.
    #[error("the output: {0}")]
    Output(#[from] io::Error),
}

fn print_json(out: &mut dyn Write, value: &Value) -> io::Result<()> {
    writeln!(out, "{value:#}")
}

/// A number as JSON: `null` where it is not finite, which JSON cannot say.
fn finite(number: f64) -> Value {
    serde_json::Number::from_f64(number).map_or(Value::Null, Value::Number)
}

/// Progress on stderr, if that is a terminal, by steps where they can be counted. It is gone when it is dropped.
fn progress(steps: Option<usize>) -> ProgressBar {
    let (bar, template) = match steps {
        Some(steps) => (ProgressBar::new(steps as u64), "{spinner} {pos} of {len}  {msg}  {elapsed}"),
        None => (ProgressBar::new_spinner(), "{spinner} {msg}  {elapsed}"),
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    if !bar.is_hidden() {
        bar.enable_steady_tick(Duration::from_millis(100));
    }
    bar.with_finish(ProgressFinish::AndClear)
}
