//! The first run on an NVIDIA GPU: one command that says whether Purview is right there, and how fast.
//!
//! It takes steps, each in processes of its own with a time limit, and writes every result at once. A step that fails, crashes or
//! takes too long does not stop the next one. `docs/gpu.md` says how to read what comes out; `--device cpu` does the same, smaller,
//! without a GPU, so that the way is known to work before there is one.

mod child;
mod markdown;
mod profile;
mod results;
mod resume;
mod steps;

use crate::cases::{CASES, element};
use crate::torch_process::{self, PYTHON};
use child::Log;
use clap::{Parser, ValueEnum};
use purview::ir::Element;
use purview_cli::golden::{self, GoldenCase};
use purview_cli::{FAILURE, SUCCESS, USAGE};
use purview_examples::GALLERY;
use results::{Outcome, Results};
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

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
    /// takes what is its own, and nothing where nothing is [default: all; on cpu few to measure]
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
    /// The minutes for all steps together, of which each has its share, and what earlier ones left [default: 8, on cpu 30]
    #[arg(long, value_parser = minutes)]
    minutes: Option<f64>,
}

fn minutes(text: &str) -> Result<f64, String> {
    let minutes = text.parse().ok().filter(|minutes: &f64| *minutes > 0.0 && *minutes <= 1e4);
    minutes.ok_or_else(|| "expected a number of minutes above 0".into())
}

/// A step.
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
    golden: PathBuf,
    /// The names of the golden cases there.
    golden_names: Vec<String>,
    /// What was chosen; empty for all.
    cases: Vec<String>,
    /// The Python that has PyTorch; why there is none; or neither, where nobody wants one.
    python: Result<PathBuf, Option<String>>,
    /// This program.
    program: PathBuf,
    folder: PathBuf,
    log: Log,
    results: Results,
}

impl Run {
    /// Whether `name` is chosen.
    fn wants(&self, name: &str) -> bool {
        self.cases.is_empty() || self.cases.iter().any(|case| case == name)
    }

    /// This program with `args`, and what it needs to know of PyTorch.
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(args);
        if let Ok(python) = &self.python {
            command.env(PYTHON, python);
        }
        command
    }
}

/// What a step came to: what was wrong, and what could not be done.
#[derive(Debug, Default)]
struct Report {
    wrong: Vec<String>,
    not_done: Vec<String>,
    /// A few words on what was done.
    summary: String,
}

/// Takes the steps that `flags` say. Returns the exit code.
pub fn run(flags: &Flags) -> u8 {
    let run = match prepare(flags) {
        Ok(run) => run,
        Err((code, error)) => {
            eprintln!("error: {error}");
            return code;
        }
    };
    match take_steps(flags, &run) {
        Ok(true) => SUCCESS,
        Ok(false) => FAILURE,
        Err(error) => {
            eprintln!("error: the results can't be written: {error}");
            FAILURE
        }
    }
}

/// Looks at all arguments before the first step. An error comes with its exit code.
fn prepare(flags: &Flags) -> Result<Run, (u8, String)> {
    let usage = |error: String| (USAGE, error);
    let failure = |error: String| (FAILURE, error);
    let golden_names: Vec<String> = match golden::load(&flags.golden) {
        Ok(cases) => cases.into_iter().map(|GoldenCase { name, .. }| name).collect(),
        Err(error) => return Err(usage(format!("--golden: {error}"))),
    };
    for name in &flags.cases {
        let is_known = golden_names.contains(name)
            || GALLERY.iter().any(|variant| variant.name == name)
            || CASES.iter().any(|case| case.name == name || case.family() == name);
        if !is_known {
            return Err(usage(format!(
                "--cases names `{name}`, which is no golden case of {}, no variant that `purview list` lists, and no case that \
                 `purview bench torch --list` lists",
                flags.golden.display()
            )));
        }
    }
    let python = python(flags, flags.device == "cuda").map_err(usage)?;
    // The device itself is opened by the processes of the steps alone, since a driver that fails may end them.
    let on_gpu = flags.device == "cuda";
    if on_gpu && cfg!(not(feature = "cuda")) {
        return Err(usage("this build has no CUDA: `./x gpu` makes one that has, or say --device cpu".into()));
    }
    let folder = flags.out.clone().or_else(|| std::env::var_os("OUT").map(PathBuf::from));
    let folder = folder.unwrap_or_else(|| Path::new("target").join("gpu"));
    if folder.exists() && !folder.is_dir() {
        return Err(usage(format!("{} is a file, expected a folder for the results", folder.display())));
    }
    fs::create_dir_all(&folder).map_err(|error| failure(format!("{}: {error}", folder.display())))?;
    let log = Log::create(&folder.join("log.txt")).map_err(failure)?;
    let element = flags.dtype.unwrap_or(if on_gpu { Element::Bf16 } else { Element::F32 });
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let described = json!({
        "device": flags.device,
        "command": format!("./x {}", arguments.join(" ")),
        "commit": std::env::var("PURVIEW_COMMIT").ok(),
        "date": date(),
        "version": env!("CARGO_PKG_VERSION"),
    });
    let results = Results::create(&folder, described).map_err(failure)?;
    Ok(Run {
        device: flags.device.clone(),
        on_gpu,
        element,
        turns: flags.turns.unwrap_or(if on_gpu { 7 } else { 3 }),
        golden: flags.golden.clone(),
        golden_names,
        cases: flags.cases.clone(),
        python,
        program: std::env::current_exe().map_err(|error| failure(format!("this program's own path: {error}")))?,
        folder,
        log,
        results,
    })
}

/// The Python that has PyTorch. One that was named must have it.
fn python(flags: &Flags, on_gpu: bool) -> Result<Result<PathBuf, Option<String>>, String> {
    let named = flags.python.clone();
    if named.as_deref() == Some(Path::new("none")) {
        return Ok(Err(None));
    }
    let python = named.clone().unwrap_or_else(torch_process::python);
    let look = "import importlib.util as u, sys; sys.exit(any(u.find_spec(m) is None for m in ('torch', 'numpy')))";
    let found = Command::new(&python).args(["-c", look]).stdin(Stdio::null()).stderr(Stdio::null()).status();
    let why = match found {
        Ok(status) if status.success() => return Ok(Ok(python)),
        Ok(_) => format!("{} has no torch, or no numpy", python.display()),
        Err(error) => format!("{}: {error}", python.display()),
    };
    match named {
        Some(_) => Err(format!("--python: {why}")),
        None if on_gpu => Ok(Err(Some(format!("{why}: name one with --python, or say --python none")))),
        None => Ok(Err(Some(format!("{why}: tools/setup torch installs one (7 GB), or name one with --python")))),
    }
}

/// Takes the steps, and says in the end whether all was well.
fn take_steps(flags: &Flags, run: &Run) -> Result<bool, String> {
    let steps: Vec<Step> =
        Step::ALL.into_iter().filter(|step| flags.steps.is_empty() || flags.steps.contains(step)).collect();
    let all = 60.0 * flags.minutes.unwrap_or(if run.on_gpu { 8.0 } else { 30.0 });
    let shares: f64 = steps.iter().map(|step| step.share()).sum();
    let start = Instant::now();
    let mut deadline = start;
    let (mut wrong, mut not_done) = (Vec::new(), Vec::new());
    for (place, step) in steps.iter().enumerate() {
        // What earlier steps left is this one's too, but what they took too much is not its loss.
        let budget = Duration::from_secs_f64(all * step.share() / shares);
        deadline = (deadline + budget).max(Instant::now() + budget / 2);
        let begun = Instant::now();
        let seconds = deadline.saturating_duration_since(begun).as_secs_f64();
        eprintln!("{}/{} {}: at most {seconds:.0} s", place + 1, steps.len(), step.name());
        run.results.begin(step.name())?;
        let report = match step {
            Step::Device => steps::device(run, deadline),
            Step::Correct => steps::correct(run, deadline),
            Step::Sanitize => steps::sanitize(run, deadline),
            Step::Times => steps::times(run, deadline),
            Step::Profile => steps::profile(run, deadline),
        }?;
        let outcome = match () {
            () if !report.wrong.is_empty() => Outcome::Wrong,
            () if !report.not_done.is_empty() => Outcome::NotDone,
            () => Outcome::Ok,
        };
        let summary = (!report.summary.is_empty()).then(|| report.summary.clone());
        let said: Vec<String> = report.wrong.iter().chain(&report.not_done).cloned().chain(summary).collect();
        for line in &said {
            eprintln!("    {line}");
        }
        run.results.end(outcome, &said, begun.elapsed())?;
        wrong.extend(report.wrong.iter().map(|what| format!("{}: {what}", step.name())));
        not_done.extend(report.not_done.iter().map(|what| format!("{}: {what}", step.name())));
    }
    let mut line = if wrong.is_empty() {
        format!("gpu: nothing was wrong in {} steps on {}", steps.len(), run.device)
    } else {
        format!("gpu: WRONG on {}: {}", run.device, shortened(&wrong))
    };
    if !not_done.is_empty() {
        line += &format!("; not done: {}", shortened(&not_done));
    }
    println!("{}", run.results.page());
    run.results.conclude(wrong.is_empty(), &line)?;
    let folder = run.folder.display();
    println!("{} s; results.json, results.md and log.txt are in {folder}", start.elapsed().as_secs());
    println!("{line}");
    Ok(wrong.is_empty())
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
