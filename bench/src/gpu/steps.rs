//! What each step does.

use super::ncu::Ncu;
use super::resume::{Work, resume};
use super::{PyTorch, Report, Run};
use purview::ir::Element;
use purview_cli::GALLERY_SHAPES;
use serde_json::{Value, json};
use std::ops::ControlFlow;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

/// The types that numbers are checked in.
const ELEMENTS: [Element; 3] = [Element::F32, Element::F16, Element::Bf16];
/// For how many cases FlexAttention is compiled: each takes seconds.
const MOST_FLEX: usize = 6;
/// How many golden cases or variants a process gets that runs beside others.
const PART: usize = 8;
/// How many programs compute-sanitizer looks at at a time.
const AT_A_TIME: usize = 4;
/// What compute-sanitizer ends with where it found something: no exit code of this program.
const FOUND: &str = "86";

/// What the device is and can do.
pub fn device(run: &Run, deadline: Instant) -> Result<Report, String> {
    let mut args = vec!["bench", "machine", "--json", "--device", &run.device];
    if !matches!(run.pytorch, PyTorch::Python(_)) {
        args.push("--without-torch");
    }
    let mut printed = String::new();
    let ended = run.children.run(&mut run.command(&args), "device", deadline, |line| {
        printed += line;
        ControlFlow::Continue(())
    });
    let mut report = Report::default();
    match ended {
        Ok(ended) if ended.succeeded() => match serde_json::from_str::<Value>(&printed) {
            Ok(value) => {
                // These are not ours.
                for part in ["gpu", "torch"] {
                    report.not_done.extend(value[part]["error"].as_str().map(|error| format!("{part}: {error}")));
                }
                run.results.row(value)?;
            }
            Err(error) => report.wrong.push(format!("`bench machine --json` prints no JSON: {error}")),
        },
        Ok(ended) if ended.was_cut_short() => report.not_done.push(ended.reason()),
        Ok(ended) => report.wrong.push(ended.reason()),
        Err(error) => report.wrong.push(error),
    }
    Ok(report)
}

/// Golden cases and the gallery, in each type. For a GPU they are parted among as many processes as there are cores: most of the time
/// goes to compiling and to the reference, on the CPU.
pub fn correct(run: &Run, deadline: Instant) -> Result<Report, String> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let (part, at_a_time) = if run.on_gpu { (PART, cores) } else { (usize::MAX, 1) };
    let folder = run.golden.to_string_lossy();
    let mut jobs = Vec::new();
    for element in ELEMENTS {
        let gallery = run.selection.gallery.chunks(part);
        jobs.extend(gallery.map(|names| (element, "gallery", vec!["--gallery"], GALLERY_SHAPES, names)));
        let golden = run.selection.golden.chunks(part);
        jobs.extend(golden.map(|names| (element, "golden", vec!["--golden", &*folder], 1, names)));
    }
    let mut report = side_by_side(&jobs, at_a_time, |(element, kind, source, lines, names)| {
        let dtype = element.name();
        let tag = format!("{kind} {dtype}");
        let work = Work { tag: &tag, names: names.to_vec(), field: "name", lines: *lines, errors_spread: run.on_gpu };
        let command = |names: &[String]| {
            let names = names.join(",");
            let mut args = vec!["check", "--lines", "--device", &run.device, "--dtype", dtype, "--cases", &names];
            args.extend(source);
            run.command(&args)
        };
        resume(work, deadline, &run.children, command, |mut row| {
            let is_minilm = row["name"].as_str().is_some_and(|name| name.starts_with("minilm_"));
            row["kind"] = json!(if is_minilm { "MiniLM" } else { kind });
            row["dtype"] = json!(dtype);
            run.results.row(row)
        })
    })?;
    let rows = run.results.rows();
    let failed: Vec<&Value> = rows.iter().filter(|row| row["passed"] != true).collect();
    if let Some(first) = failed.first() {
        let [name, kind, dtype] = ["name", "kind", "dtype"].map(|field| first[field].as_str().unwrap_or("?"));
        let first = format!("{name} ({kind}) in {dtype}");
        report.wrong.insert(0, format!("{} of {} comparisons failed, the first {first}", failed.len(), rows.len()));
    }
    report.summary = format!("{} of {} comparisons passed", rows.len() - failed.len(), rows.len());
    Ok(report)
}

/// Calls `each` for all of `jobs`, some at a time. Returns what all of them say, in the order of the jobs.
///
/// # Errors
/// The first of `each`, after which it is called no more.
fn side_by_side<T: Sync>(
    jobs: &[T],
    at_a_time: usize,
    each: impl Fn(&T) -> Result<Report, String> + Sync,
) -> Result<Report, String> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut reports = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(job) = jobs.get(at) else { return Ok(reports) };
            match each(job) {
                Ok(report) => reports.push((at, report)),
                Err(error) => {
                    next.store(jobs.len(), Ordering::Relaxed);
                    return Err(error);
                }
            }
        }
    };
    let workers = thread::scope(|scope| {
        let workers: Vec<_> = (0..at_a_time.min(jobs.len())).map(|_| scope.spawn(work)).collect();
        let results = workers.into_iter().map(|worker| worker.join().unwrap_or_else(|panic| resume_unwind(panic)));
        results.collect::<Result<Vec<_>, String>>()
    })?;
    let mut reports: Vec<(usize, Report)> = workers.into_iter().flatten().collect();
    reports.sort_by_key(|(at, _)| *at);
    let mut all = Report::default();
    reports.into_iter().for_each(|(_, report)| all.add(report));
    Ok(all)
}

/// The program of this name: on the path, or where NVIDIA's packages put it.
fn tool(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    folders.push("/usr/local/cuda/bin".into());
    for parent in ["/opt/nvidia/nsight-compute", "/usr/local/cuda/compute-sanitizer"] {
        folders.push(parent.into());
        let versions = Path::new(parent).read_dir().into_iter().flatten().flatten();
        folders.extend(versions.map(|version| version.path()));
    }
    folders.into_iter().map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// What is looked for under compute-sanitizer.
pub fn sanitize(run: &Run, deadline: Instant) -> Result<Report, String> {
    if !run.on_gpu {
        return Ok(Report::not_done("it needs a GPU"));
    }
    let Some(sanitizer) = tool("compute-sanitizer") else {
        return Ok(Report::not_done("there is no compute-sanitizer"));
    };
    let tools = ["memcheck", "racecheck"];
    let jobs: Vec<_> =
        run.selection.sanitized.iter().flat_map(|launch| tools.map(|tool| (tool, launch.0, launch.1))).collect();
    side_by_side(&jobs, AT_A_TIME, |(tool, variant, args)| {
        let mut command = Command::new(&sanitizer);
        command.args(["--tool", tool, "--error-exitcode", FOUND]).arg(&run.program);
        command.args(["run", variant, "--device", &run.device, "--check", "--repeat", "0"]);
        command.args(args.split(' '));
        let tag = format!("{tool} {variant}");
        // Its last words: the errors that it counted.
        let mut summary = String::new();
        let mut failed_check = false;
        let ended = run.children.run(&mut command, &tag, deadline, |line| {
            if line.contains("SUMMARY:") {
                summary = line.trim_start_matches(['=', ' ']).to_string();
            }
            failed_check |= line.trim() == "FAIL";
            ControlFlow::Continue(())
        });
        let (outcome, said) = match &ended {
            Ok(ended) if ended.succeeded() && !summary.is_empty() => ("ok", summary),
            Ok(ended) if ended.was_cut_short() => ("not done", ended.reason()),
            // Without a summary the tool has not looked: it does not work on every machine.
            Ok(ended) if summary.is_empty() => ("not done", format!("compute-sanitizer: {}", ended.reason())),
            Ok(_) if failed_check => ("wrong", "the numbers are wrong".into()),
            Ok(ended) => ("wrong", format!("{summary} ({})", ended.reason())),
            Err(error) => ("not done", error.clone()),
        };
        let mut report = Report::default();
        let message = format!("{tool} of {variant}: {said}");
        match outcome {
            "ok" => {}
            "wrong" => report.wrong.push(message),
            _ => report.not_done.push(message),
        }
        let case = format!("{variant} {args}");
        run.results.row(json!({ "tool": tool, "case": case, "outcome": outcome, "summary": said }))?;
        Ok(report)
    })
}

/// Times against PyTorch, or alone where there is none.
pub fn times(run: &Run, deadline: Instant) -> Result<Report, String> {
    let names: Vec<String> = run.selection.measured.iter().map(|case| case.name.to_string()).collect();
    let count = names.len();
    let against_torch = matches!(run.pytorch, PyTorch::Python(_));
    let first_of_flex: Vec<String> = names.iter().take(MOST_FLEX).cloned().collect();
    let turns = run.turns.to_string();
    let command = |names: &[String]| {
        let flex = names.iter().filter(|name| first_of_flex.contains(name)).count().to_string();
        let names = names.join(",");
        let what = if against_torch { "torch" } else { "variants" };
        let mut args = vec!["bench", what, "--lines", "--device", &run.device, "--dtype", run.element.name()];
        args.extend(["--turns", &turns, "--cases", &names]);
        if against_torch {
            args.extend(["--flex", &flex]);
        }
        run.command(&args)
    };
    let tag = if against_torch { "bench torch" } else { "bench variants" };
    let work = Work { tag, names, field: "case", lines: 1, errors_spread: run.on_gpu };
    let mut errors = Vec::new();
    let mut report = resume(work, deadline, &run.children, command, |row| {
        errors.extend(row["error"].as_str().map(String::from));
        run.results.row(row)
    })?;
    let measured = run.results.rows().len() - errors.len();
    report.summary = format!("{measured} of {count} cases measured{}", if against_torch { "" } else { ", ours alone" });
    report.wrong.splice(0..0, errors);
    Ok(report)
}

/// What ncu says of two kernels.
pub fn profile(run: &Run, deadline: Instant) -> Result<Report, String> {
    if !run.on_gpu {
        return Ok(Report::not_done("it needs a GPU"));
    }
    let Some(ncu) = tool("ncu") else {
        return Ok(Report::not_done("there is no ncu"));
    };
    let ncu = match Ncu::open(ncu, &run.children, deadline) {
        Ok(ncu) => ncu,
        Err(error) => return Ok(Report::not_done(error)),
    };
    let mut report = Report::default();
    for (variant, args) in &run.selection.profiled {
        let mut command = vec!["run", variant, "--device", &run.device, "--repeat", "0"];
        command.extend(args.split(' '));
        match ncu.profile(&run.command(&command), variant) {
            Ok(mut row) => {
                row["case"] = json!(command.join(" "));
                run.results.row(row)?;
            }
            Err(error) => report.not_done.push(format!("{variant}: {error}")),
        }
    }
    Ok(report)
}
