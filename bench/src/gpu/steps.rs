//! What each step does.

use super::child::{self, End, Flow};
use super::profile::profile_of;
use super::resume::{Work, resume};
use super::{Report, Run};
use crate::cases::{CASES, Case};
use purview::ir::Element;
use purview_examples::GALLERY;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

/// The types that numbers are checked in.
const ELEMENTS: [Element; 3] = [Element::F32, Element::F16, Element::Bf16];
/// For how many cases FlexAttention is compiled: each takes seconds.
const MOST_FLEX: usize = 6;
/// Lines that `check --gallery` prints for a variant: one for each of its shapes.
const SHAPES: usize = 4;
/// How many golden cases or variants a process gets that runs beside others.
const PART: usize = 8;
/// How many programs compute-sanitizer looks at at a time.
const AT_A_TIME: usize = 4;

/// What is measured on a CPU: small enough for two cores.
const ON_CPU: [&str; 10] = [
    "causal-1024x64",
    "full-1024x64",
    "window256-1024x64",
    "documents-1024x64",
    "alibi-1024x64",
    "softcap-1024x64",
    "prefix-1024x64",
    "gqa-1024x64",
    "decode-4096x128",
    "full-64x64",
];

/// What runs under compute-sanitizer: the variant's name, and the arguments of `run`. Small, since it takes a hundred times as long.
const SANITIZED: [(&str, &str); 4] = [
    ("causal", "--dtype f16 --q 200 --kv 333 --heads 4 --kv-heads 2 --dim 64"),
    ("document_causal", "--dtype bf16 --q 257 --heads 2 --dim 128"),
    ("full", "--dtype f32 --q 150 --heads 2 --dim 40"),
    ("causal", "--dtype bf16 --q 1 --kv 1000 --heads 8 --kv-heads 2 --dim 128"),
];

/// What ncu looks at.
const PROFILED: [(&str, &str); 2] = [
    ("causal", "--dtype bf16 --q 8192 --heads 32 --dim 128"),
    ("document_causal", "--dtype bf16 --q 8192 --heads 32 --dim 128"),
];

/// The answer of a step that wants a GPU.
fn needs_a_gpu() -> Report {
    Report { not_done: vec!["it needs a GPU".into()], ..Report::default() }
}

/// What the device is and can do.
pub fn device(run: &Run, deadline: Instant) -> Result<Report, String> {
    let mut report = Report::default();
    let mut args = vec!["bench", "machine", "--json", "--device", &run.device];
    if run.python.is_err() {
        args.push("--without-torch");
    }
    let mut printed = String::new();
    let ended = child::run(&mut run.command(&args), "device", deadline, &run.log, |line| {
        printed += line;
        Flow::Continue
    });
    let value: Option<Value> = serde_json::from_str(&printed).ok();
    match (&ended, value) {
        (Ok(ended), Some(value)) if ended.succeeded() => {
            for part in ["gpu", "torch"] {
                if let Some(error) = value[part]["error"].as_str() {
                    report.wrong.push(format!("{part}: {error}"));
                }
            }
            run.results.row(value)?;
        }
        (Ok(ended), _) => report.wrong.push(ended.reason()),
        (Err(error), _) => report.wrong.push(error.clone()),
    }
    say_without_torch(run, &mut report);
    Ok(report)
}

/// On a GPU a run without PyTorch is no whole run, unless it was asked for.
fn say_without_torch(run: &Run, report: &mut Report) {
    if let Err(Some(why)) = &run.python {
        let to = if run.on_gpu { &mut report.wrong } else { &mut report.not_done };
        to.push(format!("no PyTorch: {why}"));
    }
}

/// Golden cases and the gallery, in each type. For a GPU they are parted among as many processes as there are cores: most of the time
/// goes to compiling and to the reference, on the CPU.
pub fn correct(run: &Run, deadline: Instant) -> Result<Report, String> {
    let golden: Vec<String> = run.golden_names.iter().filter(|name| run.wants(name)).cloned().collect();
    let gallery: Vec<String> =
        GALLERY.iter().map(|variant| variant.name.to_string()).filter(|name| run.wants(name)).collect();
    let folder = run.golden.to_string_lossy();
    let part = if run.on_gpu { PART } else { usize::MAX };
    let mut jobs = Vec::new();
    for element in ELEMENTS {
        jobs.extend(gallery.chunks(part).map(|names| (element, "gallery", vec!["--gallery"], SHAPES, names.to_vec())));
        jobs.extend(
            golden.chunks(part).map(|names| (element, "golden", vec!["--golden", &*folder], 1, names.to_vec())),
        );
    }
    let report = Mutex::new(Report::default());
    let cores = thread::available_parallelism().map_or(1, usize::from);
    side_by_side(&jobs, if run.on_gpu { cores } else { 1 }, |(element, kind, source, lines, names)| {
        let dtype = element.name();
        let tag = format!("{kind} {dtype}");
        let work = Work { tag: &tag, names: names.clone(), field: "name", lines: *lines, errors_spread: run.on_gpu };
        let command = |names: &[String]| {
            let mut args = vec!["check", "--lines", "--device", &run.device, "--dtype", dtype];
            args.extend(source);
            let names = names.join(",");
            args.extend(["--cases", &names]);
            run.command(&args)
        };
        let wrong = resume(work, deadline, &run.log, command, |mut row| {
            let is_minilm = row["name"].as_str().is_some_and(|name| name.starts_with("minilm_"));
            row["kind"] = json!(if is_minilm { "MiniLM" } else { kind });
            row["dtype"] = json!(dtype);
            run.results.row(row)
        })?;
        if let (Some(wrong), Ok(mut report)) = (wrong, report.lock()) {
            report.wrong.push(wrong);
        }
        Ok(())
    })?;
    let mut report = report.into_inner().unwrap_or_default();
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

/// Calls `each` for all of `jobs`, some at a time. Returns the first error.
fn side_by_side<T: Sync>(
    jobs: &[T],
    at_a_time: usize,
    each: impl Fn(&T) -> Result<(), String> + Sync,
) -> Result<(), String> {
    let next = Mutex::new(jobs.iter());
    let error = Mutex::new(None);
    thread::scope(|scope| {
        for _ in 0..at_a_time {
            scope.spawn(|| {
                loop {
                    let job = next.lock().ok().and_then(|mut next| next.next());
                    let Some(job) = job else { return };
                    if let (Err(new), Ok(mut error)) = (each(job), error.lock()) {
                        error.get_or_insert(new);
                        return;
                    }
                }
            });
        }
    });
    error.into_inner().ok().flatten().map_or(Ok(()), Err)
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
        return Ok(needs_a_gpu());
    }
    let Some(sanitizer) = tool("compute-sanitizer") else {
        return Ok(Report { not_done: vec!["there is no compute-sanitizer".into()], ..Report::default() });
    };
    let chosen = SANITIZED.iter().filter(|(variant, _)| run.wants(variant));
    let jobs: Vec<(&str, &str, &str)> =
        chosen.flat_map(|(variant, args)| ["memcheck", "racecheck"].map(|tool| (tool, *variant, *args))).collect();
    let report = Mutex::new(Report::default());
    side_by_side(&jobs, AT_A_TIME, |(tool, variant, args)| {
        let mut command = Command::new(&sanitizer);
        command.args(["--tool", tool, "--error-exitcode", "86"]).arg(&run.program);
        command.args(["run", variant, "--device", &run.device, "--check", "--repeat", "0"]);
        command.args(args.split(' '));
        let case = format!("{variant} {args}");
        let tag = format!("{tool} {variant}");
        // Its last words: the errors that it counted.
        let mut summary = String::new();
        let mut failed_check = false;
        let ended = child::run(&mut command, &tag, deadline, &run.log, |line| {
            if line.contains("SUMMARY:") {
                summary = line.trim_start_matches(['=', ' ']).to_string();
            }
            failed_check |= line.trim() == "FAIL";
            Flow::Continue
        });
        let (outcome, said) = match &ended {
            Ok(ended) if ended.succeeded() && !summary.is_empty() => ("ok", summary),
            Ok(ended) if matches!(ended.end, End::OutOfTime) => ("not done", ended.reason()),
            // Without a summary the tool has not looked: it does not work on every machine.
            Ok(ended) if summary.is_empty() => ("not done", format!("compute-sanitizer: {}", ended.reason())),
            Ok(_) if failed_check => ("wrong", "the numbers are wrong".into()),
            Ok(ended) => ("wrong", format!("{summary} ({})", ended.reason())),
            Err(error) => ("not done", error.clone()),
        };
        if let Ok(mut report) = report.lock() {
            let to = match outcome {
                "ok" => None,
                "wrong" => Some(&mut report.wrong),
                _ => Some(&mut report.not_done),
            };
            if let Some(to) = to {
                to.push(format!("{tool} of {variant}: {said}"));
            }
        }
        run.results.row(json!({ "tool": tool, "case": case, "outcome": outcome, "summary": said }))
    })?;
    Ok(report.into_inner().unwrap_or_default())
}

/// The cases to measure.
fn measured(run: &Run) -> Vec<&'static Case> {
    let usual = |case: &Case| if run.on_gpu { case.for_gpus } else { ON_CPU.contains(&case.name) };
    let is_chosen =
        |case: &Case| usual(case) && run.wants(case.family()) || !run.cases.is_empty() && run.wants(case.name);
    let mut cases: Vec<&Case> = CASES.iter().filter(|case| is_chosen(case)).collect();
    if !run.on_gpu && run.cases.is_empty() {
        cases.sort_by_key(|case| ON_CPU.iter().position(|name| *name == case.name));
    }
    cases
}

/// Times against PyTorch, or alone where there is none.
pub fn times(run: &Run, deadline: Instant) -> Result<Report, String> {
    let mut report = Report::default();
    let names: Vec<String> = measured(run).iter().map(|case| case.name.to_string()).collect();
    if names.is_empty() {
        report.summary = "no case of its own was named".into();
        return Ok(report);
    }
    let (dtype, turns) = (run.element.name(), run.turns.to_string());
    if run.python.is_err() {
        let names = names.join(",");
        let mut printed = String::new();
        let mut command = run.command(&[
            "bench",
            "variants",
            "--json",
            "--device",
            &run.device,
            "--dtype",
            dtype,
            "--turns",
            &turns,
            "--cases",
            &names,
        ]);
        let ended = child::run(&mut command, "times", deadline, &run.log, |line| {
            printed += line;
            Flow::Continue
        })?;
        let rows = serde_json::from_str::<Value>(&printed).ok().and_then(|value| value["cases"].as_array().cloned());
        match rows {
            Some(rows) if ended.succeeded() => {
                for mut row in rows {
                    row["dtype"] = json!(dtype);
                    run.results.row(row)?;
                }
            }
            _ => report.wrong.push(ended.reason()),
        }
        report.summary = "ours alone".into();
        return Ok(report);
    }
    let count = names.len();
    let first_of_flex: Vec<String> = names.iter().take(MOST_FLEX).cloned().collect();
    let work = Work { tag: "times", names, field: "case", lines: 1, errors_spread: run.on_gpu };
    let command = |names: &[String]| {
        let flex = names.iter().filter(|name| first_of_flex.contains(name)).count().to_string();
        let names = names.join(",");
        run.command(&[
            "bench",
            "torch",
            "--lines",
            "--device",
            &run.device,
            "--dtype",
            dtype,
            "--turns",
            &turns,
            "--flex",
            &flex,
            "--cases",
            &names,
        ])
    };
    let mut errors = Vec::new();
    let wrong = resume(work, deadline, &run.log, command, |row| {
        if let Some(error) = row["error"].as_str() {
            errors.push(error.to_string());
        }
        run.results.row(row)
    })?;
    report.wrong = errors.into_iter().chain(wrong).collect();
    report.summary = format!("{} of {count} cases measured", run.results.rows().len());
    Ok(report)
}

/// What ncu says of two kernels.
pub fn profile(run: &Run, deadline: Instant) -> Result<Report, String> {
    if !run.on_gpu {
        return Ok(needs_a_gpu());
    }
    let Some(ncu) = tool("ncu") else {
        return Ok(Report { not_done: vec!["there is no ncu".into()], ..Report::default() });
    };
    let mut report = Report::default();
    for (variant, args) in PROFILED.iter().filter(|(variant, _)| run.wants(variant)) {
        let mut args: Vec<&str> = args.split(' ').collect();
        args.splice(0..0, ["run", variant, "--device", &run.device, "--repeat", "0"]);
        match profile_of(&ncu, run.command(&args), variant, deadline, &run.log) {
            Ok(mut row) => {
                row["case"] = json!(args.join(" "));
                run.results.row(row)?;
            }
            Err(error) => report.not_done.push(format!("{variant}: {error}")),
        }
    }
    Ok(report)
}
