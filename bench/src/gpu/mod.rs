//! The first run on an NVIDIA GPU: one command that says whether Purview is right there, and how fast.
//!
//! It takes steps, each in processes of its own with a time limit, and writes every result at once. A step that fails, crashes or
//! takes too long does not stop the next one. `docs/gpu.md` says how to read what comes out; `--device cpu` does the same, smaller,
//! without a GPU, so that the way is known to work before there is one.

mod children;
mod log;
mod markdown;
mod ncu;
mod results;
mod resume;
mod selection;
mod steps;

use crate::cases::element;
use crate::environment;
use crate::torch_process::{self, PYTHON};
use children::{Children, End};
use clap::{Parser, ValueEnum};
use log::Log;
use purview::ir::Element;
use purview_cli::golden::{self, GoldenCase};
use purview_cli::{FAILURE, SUCCESS, USAGE};
use results::{Outcome, Results};
use selection::Selection;
use serde_json::json;
use std::fmt::Display;
use std::fs;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The minutes for all steps on a GPU: with what ends the last of them, less than eight.
const MINUTES: f64 = 7.75;
/// Those on a CPU.
const MINUTES_ON_CPU: f64 = 30.0;
/// How long it may take to find out whether there is PyTorch; importing it for the first time reads gigabytes.
const LOOK_FOR_TORCH: Duration = Duration::from_secs(60);

/// Proves and measures Purview on an NVIDIA GPU, step by step.
#[derive(Parser)]
#[command(bin_name = "purview gpu")]
pub struct Flags {
    /// The device: cuda, or cpu for a small run of the same without a GPU
    #[arg(long, default_value = "cuda", value_parser = ["cuda", "cpu"])]
    device: String,
    /// The steps to take, of those listed below [default: all]
    #[arg(long, value_delimiter = ',', value_enum, value_name = "STEPS")]
    steps: Vec<Step>,
    /// Golden cases, variants of the gallery, and cases of `bench torch --list` or the part of their names before the shape: each step
    /// takes what is its own, and a step that has none of it is left out [default: all; on cpu few to measure]
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    cases: Vec<String>,
    /// The folder that results are written to [default: $OUT, or target/gpu]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// The Python that has PyTorch, or `none` to leave PyTorch out [default: what `./x bench --against torch` sets up, or python3]
    #[arg(long, value_name = "PROGRAM")]
    python: Option<PathBuf>,
    /// The folder of the golden cases
    #[arg(long, value_name = "DIR", default_value = "tests/golden")]
    golden: PathBuf,
    /// The type of queries, keys and values to measure [default: bf16, on cpu f32]
    #[arg(long, value_parser = element, value_name = "TYPE")]
    dtype: Option<Element>,
    /// Turns for each case to measure [default: 7, on cpu 3]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    turns: Option<u32>,
    /// The minutes for all steps together, of which each has its share, and what earlier ones left [default: 7.75, on cpu 30]
    #[arg(long, value_parser = minutes)]
    minutes: Option<f64>,
}

fn minutes(text: &str) -> Result<f64, String> {
    let minutes = text.parse().ok().filter(|minutes: &f64| *minutes > 0.0 && *minutes <= 1e4);
    minutes.ok_or_else(|| "expected a number of minutes above 0".into())
}

/// A step of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Step {
    /// What the device is, and what it can do at best
    Device,
    /// Golden cases, and every variant at odd shapes, in f32, f16 and bf16
    Correct,
    /// compute-sanitizer: accesses out of bounds, and races
    Sanitize,
    /// Times, against PyTorch
    Times,
    /// ncu: what the kernels keep busy
    Profile,
}

impl Step {
    const ALL: [Step; 5] = [Step::Device, Step::Correct, Step::Sanitize, Step::Times, Step::Profile];

    fn name(self) -> &'static str {
        match self {
            Step::Device => "device",
            Step::Correct => "correct",
            Step::Sanitize => "sanitize",
            Step::Times => "times",
            Step::Profile => "profile",
        }
    }

    /// Its part of the time of all.
    fn share(self) -> f64 {
        match self {
            Step::Device => 0.08,
            Step::Correct => 0.27,
            Step::Sanitize => 0.16,
            Step::Times => 0.40,
            Step::Profile => 0.09,
        }
    }
}

/// Everything that a step needs to know.
struct Run {
    /// `cuda` or `cpu`.
    device: String,
    on_gpu: bool,
    element: Element,
    turns: u32,
    /// The folder of the golden cases.
    golden: PathBuf,
    selection: Selection,
    pytorch: PyTorch,
    /// This program.
    program: PathBuf,
    /// Where the results are.
    folder: PathBuf,
    /// When it began, and the time for all steps.
    begun: Instant,
    time: Duration,
    children: Children,
    results: Results,
}

/// The other side of the times.
enum PyTorch {
    /// By this Python.
    Python(PathBuf),
    /// Nobody wants it.
    Unwanted,
    /// Why there is none.
    Missing(String),
}

impl Run {
    /// This program with `args`, and what it needs to know of PyTorch.
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(args);
        if let PyTorch::Python(python) = &self.pytorch {
            command.env(PYTHON, python);
        }
        command
    }
}

/// What a step came to.
#[derive(Debug, Default)]
struct Report {
    /// What was wrong.
    wrong: Vec<String>,
    /// What could not be done, which says nothing of what is wrong.
    not_done: Vec<String>,
    /// A few words on what was done.
    summary: String,
}

impl Report {
    /// Of something that could not be done, and why.
    fn not_done(why: impl Into<String>) -> Report {
        Report { not_done: vec![why.into()], ..Report::default() }
    }

    /// Adds what another one says; its summary is lost.
    fn add(&mut self, other: Report) {
        self.wrong.extend(other.wrong);
        self.not_done.extend(other.not_done);
    }

    fn outcome(&self) -> Outcome {
        match () {
            () if !self.wrong.is_empty() => Outcome::Wrong,
            () if !self.not_done.is_empty() => Outcome::NotDone,
            () => Outcome::Ok,
        }
    }
}

/// Takes the steps that `flags` say. Returns the exit code.
pub fn run(flags: &Flags) -> u8 {
    let run = match prepare(flags) {
        Ok(run) => run,
        Err((code, error)) => {
            say(format_args!("error: {error}"));
            return code;
        }
    };
    match take_steps(&run) {
        Ok(true) => SUCCESS,
        Ok(false) => FAILURE,
        Err(error) => {
            // What the files lack is here.
            let _ = writeln!(io::stdout(), "{}", run.results.page());
            say(format_args!("error: the results can't be written: {error}"));
            FAILURE
        }
    }
}

/// Looks at all arguments before the first step. An error comes with its exit code.
fn prepare(flags: &Flags) -> Result<Run, (u8, String)> {
    let usage = |error: String| (USAGE, error);
    let failure = |error: String| (FAILURE, error);
    let begun = Instant::now();
    // The device itself is opened by the processes of the steps alone, since a driver that fails may end them.
    let on_gpu = flags.device == "cuda";
    if on_gpu && cfg!(not(feature = "cuda")) {
        return Err(usage("this build has no CUDA: `./x gpu` makes one that has, or say --device cpu".into()));
    }
    let golden: Vec<String> = match golden::load(&flags.golden) {
        Ok(cases) => cases.into_iter().map(|GoldenCase { name, .. }| name).collect(),
        Err(error) => return Err(usage(format!("--golden: {error}"))),
    };
    if golden.is_empty() {
        return Err(usage(format!("--golden: there is no case in {}", flags.golden.display())));
    }
    let selection = Selection::new(&flags.steps, &flags.cases, &golden, on_gpu).map_err(usage)?;
    let folder = flags.out.clone().or_else(|| environment::path("OUT"));
    let folder = folder.unwrap_or_else(|| Path::new("target").join("gpu"));
    if folder.exists() && !folder.is_dir() {
        return Err(usage(format!("{} is a file, expected a folder for the results", folder.display())));
    }
    fs::create_dir_all(&folder).map_err(|error| failure(format!("{}: {error}", folder.display())))?;
    let children = Log::create(&folder.join("log.txt")).and_then(Children::new).map_err(failure)?;
    children.end_at_signals().map_err(failure)?;
    let minutes = flags.minutes.unwrap_or(if on_gpu { MINUTES } else { MINUTES_ON_CPU });
    let time = Duration::from_secs_f64(60.0 * minutes);
    let wants_torch = selection.steps.iter().any(|step| matches!(step, Step::Device | Step::Times));
    let pytorch = match wants_torch {
        true => look_for_torch(flags, &children, begun + LOOK_FOR_TORCH.min(time / 4)).map_err(usage)?,
        false => PyTorch::Unwanted,
    };
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let missing = if let PyTorch::Missing(why) = &pytorch { Some(why) } else { None };
    let described = json!({
        "device": flags.device,
        "command": format!("./x {}", arguments.join(" ")),
        "commit": std::env::var("PURVIEW_COMMIT").ok().filter(|commit| !commit.is_empty()),
        "date": date(),
        "version": env!("CARGO_PKG_VERSION"),
        "without_torch": missing,
    });
    let results = Results::create(&folder, described).map_err(failure)?;
    Ok(Run {
        device: flags.device.clone(),
        on_gpu,
        element: flags.dtype.unwrap_or(if on_gpu { Element::Bf16 } else { Element::F32 }),
        turns: flags.turns.unwrap_or(if on_gpu { 7 } else { 3 }),
        golden: flags.golden.clone(),
        selection,
        pytorch,
        program: std::env::current_exe().map_err(|error| failure(format!("this program's own path: {error}")))?,
        folder,
        begun,
        time,
        children,
        results,
    })
}

/// The Python that has a PyTorch which finds the device. One that was named must have it.
fn look_for_torch(flags: &Flags, children: &Children, deadline: Instant) -> Result<PyTorch, String> {
    let named = flags.python.as_deref();
    if named == Some(Path::new("none")) {
        return Ok(PyTorch::Unwanted);
    }
    let python = named.map_or_else(torch_process::python, Path::to_path_buf);
    let look = "import sys, numpy, torch\n\
                if sys.argv[1] == 'cuda' and not torch.cuda.is_available(): sys.exit('its torch finds no CUDA device')";
    let mut command = Command::new(&python);
    command.args(["-c", look, &flags.device]);
    let ended = children.run(&mut command, "torch", deadline, |_| ControlFlow::Continue(()));
    let why = match ended {
        Ok(ended) if ended.succeeded() => return Ok(PyTorch::Python(python)),
        Ok(ended) if ended.end == End::RunEnded => return Ok(PyTorch::Unwanted),
        Ok(ended) => format!("{}: {}", python.display(), ended.reason()),
        Err(error) => error,
    };
    match named {
        Some(_) => Err(format!("--python: {why}")),
        None if flags.device == "cuda" => {
            Ok(PyTorch::Missing(format!("{why} (--python names one that has it, and `--python none` does without)")))
        }
        None => Ok(PyTorch::Missing(format!("{why} (`tools/setup torch` installs it, 7 GB; --python names one)"))),
    }
}

/// Takes the steps. Returns whether nothing was wrong in what was done, and something was done.
///
/// # Errors
/// A message where the results can't be written.
fn take_steps(run: &Run) -> Result<bool, String> {
    let steps = &run.selection.steps;
    let shares: f64 = steps.iter().map(|step| step.share()).sum();
    let mut share = 0.0;
    let (mut wrong, mut not_done) = (Vec::new(), Vec::new());
    let (mut whole, mut is_something_done) = (0, false);
    if let PyTorch::Missing(why) = &run.pytorch {
        say(format_args!("no PyTorch: {why}"));
        not_done.push(format!("no PyTorch: {why}"));
    }
    for (place, step) in steps.iter().enumerate() {
        if run.children.run_has_ended() {
            break;
        }
        // What earlier steps left of their time is this one's too.
        share += step.share();
        let deadline = run.begun + run.time.mul_f64(share / shares);
        let begun = Instant::now();
        let seconds = deadline.saturating_duration_since(begun).as_secs_f64();
        say(format_args!("{}/{} {}: at most {seconds:.0} s", place + 1, steps.len(), step.name()));
        run.results.begin(step.name())?;
        let report = match step {
            Step::Device => steps::device(run, deadline),
            Step::Correct => steps::correct(run, deadline),
            Step::Sanitize => steps::sanitize(run, deadline),
            Step::Times => steps::times(run, deadline),
            Step::Profile => steps::profile(run, deadline),
        }?;
        let outcome = if run.children.run_has_ended() { Outcome::CutShort } else { report.outcome() };
        whole += usize::from(outcome == Outcome::Ok);
        is_something_done |= outcome == Outcome::Ok || !run.results.rows().is_empty();
        let summary = (!report.summary.is_empty()).then(|| report.summary.clone());
        let said: Vec<String> = report.wrong.iter().chain(&report.not_done).cloned().chain(summary).collect();
        for line in &said {
            say(format_args!("    {line}"));
        }
        run.results.end(outcome, &said, begun.elapsed())?;
        wrong.extend(report.wrong.iter().map(|what| format!("{}: {what}", step.name())));
        not_done.extend(report.not_done.iter().map(|what| format!("{}: {what}", step.name())));
    }
    let was_ended = run.children.run_has_ended();
    let device = &run.device;
    let mut line = match () {
        () if !wrong.is_empty() => format!("gpu: WRONG on {device}: {}", shortened(&wrong)),
        () if was_ended => format!("gpu: CUT SHORT by a signal on {device}"),
        () if !is_something_done => format!("gpu: NOTHING WAS DONE on {device}"),
        () => format!("gpu: nothing was wrong on {device}, where {whole} of {} steps were done whole", steps.len()),
    };
    if !not_done.is_empty() {
        line += &format!("; not done: {}", shortened(&not_done));
    }
    let passed = wrong.is_empty() && !was_ended && is_something_done;
    run.results.conclude(passed, &line)?;
    // What was printed is in the files too, if nobody reads it.
    let _ = writeln!(
        io::stdout(),
        "{}\n{} s; results.json, results.md and log.txt are in {}\n{line}",
        run.results.page(),
        run.begun.elapsed().as_secs(),
        run.folder.display()
    );
    Ok(passed)
}

/// Says what goes on, on standard error. The terminal may be gone, which ends no run.
fn say(what: impl Display) {
    let _ = writeln!(io::stderr(), "{what}");
}

/// The first few, in a line.
fn shortened(messages: &[String]) -> String {
    const FEW: usize = 4;
    let few: Vec<&str> = messages.iter().take(FEW).map(String::as_str).collect();
    let more = if messages.len() > FEW { format!(" and {} more", messages.len() - FEW) } else { String::new() };
    few.join("; ") + &more
}

/// The date and time in UTC, where there is a program that says it.
fn date() -> Option<String> {
    let output = Command::new("date").args(["-u", "+%Y-%m-%d %H:%M UTC"]).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_string())
}

/// What `mutex` holds. A thread that panicked while it had it ends the run elsewhere.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
