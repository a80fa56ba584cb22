//! `check`: golden cases.

use crate::arguments::{CheckFlags, PTX, device};
use crate::describe::extend;
use crate::golden::{self, Errors, GoldenCase};
use crate::run::errors_json;
use crate::traffic::counts_json;
use crate::{FAILURE, Failure, Gallery, SUCCESS, print_json, progress};
use purview::{Device, Variant};
use purview_compiler::device_model::DeviceModel;
use purview_compiler::ir::Element;
use purview_nvidia::ptx::Counts;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

/// The beginning of the names of the cases that are a real model's.
const MINILM: &str = "minilm_";

pub(crate) fn check(gallery: &Gallery, flags: &CheckFlags, json: bool, out: &mut dyn Write) -> Result<u8, Failure> {
    let cases = golden::load(&flags.golden)?;
    if cases.is_empty() {
        return Err(Failure::Usage(format!("there is no case in {}", flags.golden.display())));
    }
    let place = CheckedOn::of(flags)?;
    let width = cases.iter().map(|case| case.name.len()).max().unwrap_or(0);
    let mut values = Vec::new();
    let (mut golden, mut minilm) = (Total::default(), Total::default());
    let bar = progress(Some(cases.len()));
    let variant_of = |case: &GoldenCase| {
        let named = gallery.golden.iter().find(|(name, _)| *name == case.name);
        named.map(|(_, variant)| variant)
    };
    let run = |at: usize| match variant_of(&cases[at]) {
        Some(variant) => place.run(&cases[at], variant, flags.dtype),
        None => Err("no variant is known for it".to_string()),
    };
    in_order(cases.len(), place.workers(), run, |at, result| {
        let case = &cases[at];
        let limits = case.tolerance(flags.dtype);
        let passed = result.as_ref().is_ok_and(|(errors, _)| errors.within(&limits));
        let total = if case.name.starts_with(MINILM) { &mut minilm } else { &mut golden };
        total.add(passed);
        if json {
            values.push(case_json(case, variant_of(case).map(|variant| variant.name), &result, &limits, passed));
        } else {
            let verdict = if passed { "pass" } else { "FAIL" };
            bar.suspend(|| match &result {
                Ok((errors, _)) => writeln!(out, "{:width$}  {errors}  {verdict}", case.name),
                Err(error) => writeln!(out, "{:width$}  {verdict}: {error}", case.name),
            })?;
        }
        bar.inc(1);
        Ok(())
    })?;
    drop(bar);
    let passed = golden.all() && minilm.all();
    if json {
        let value = json!({
            "device": place.name(),
            "dtype": flags.dtype.name(),
            "cases": values,
            "golden_passed": golden.passed,
            "golden_total": golden.total,
            "minilm_passed": minilm.passed,
            "minilm_total": minilm.total,
            "passed": passed,
        });
        print_json(out, &value)?;
    } else {
        write!(out, "{} of {} golden cases", golden.passed, golden.total)?;
        if minilm.total > 0 {
            write!(out, ", {} of {} MiniLM cases", minilm.passed, minilm.total)?;
        }
        writeln!(out, " on {} in {}", place.name(), flags.dtype.name())?;
    }
    Ok(if passed { SUCCESS } else { FAILURE })
}

/// Errors, and what the launch cost where that is counted; or why there are none.
type Outcome = Result<(Errors, Option<Counts>), String>;

/// Where cases are run.
enum CheckedOn {
    Device(Device),
    /// As PTX for such a device, on the CPU.
    Ptx(DeviceModel),
}

impl CheckedOn {
    fn of(flags: &CheckFlags) -> Result<CheckedOn, Failure> {
        if flags.device.as_deref() == Some(PTX) {
            let sm = flags.sm.unwrap_or(80);
            let model = DeviceModel::nvidia_sm(sm);
            return model.map(CheckedOn::Ptx).ok_or_else(|| Failure::Usage(format!("there is no model of sm_{sm}")));
        }
        if flags.sm.is_some() {
            return Err(Failure::Usage(format!("--sm is for the device {PTX}")));
        }
        Ok(CheckedOn::Device(device(flags.device.as_deref())?))
    }

    fn name(&self) -> String {
        match self {
            CheckedOn::Device(device) => device.name().to_string(),
            CheckedOn::Ptx(model) => format!("{PTX} for {}", model.name),
        }
    }

    /// How many cases are run at the same time. A device has its own ways to use the machine.
    fn workers(&self) -> usize {
        match self {
            CheckedOn::Device(_) => 1,
            CheckedOn::Ptx(_) => thread::available_parallelism().map_or(1, usize::from),
        }
    }

    fn run(&self, case: &GoldenCase, variant: &Variant, element: Element) -> Outcome {
        match self {
            CheckedOn::Device(device) => {
                let errors = case.run(variant, device, element).map_err(|error| error.to_string())?;
                Ok((errors, None))
            }
            #[cfg(feature = "emit")]
            CheckedOn::Ptx(model) => {
                let (errors, counts) = case.run_ptx(variant, model, element).map_err(|error| error.to_string())?;
                Ok((errors, Some(counts)))
            }
            #[cfg(not(feature = "emit"))]
            CheckedOn::Ptx(_) => Err("turn on purview-cli's feature `emit`".into()),
        }
    }
}

/// Calls `each` with the results of `run` of `0..count`, in order, which are computed by so many `workers`. Ends at `each`'s first
/// error.
fn in_order<T: Send>(
    count: usize,
    workers: usize,
    run: impl Fn(usize) -> T + Sync,
    mut each: impl FnMut(usize, T) -> io::Result<()>,
) -> io::Result<()> {
    if workers < 2 {
        return (0..count).try_for_each(|at| each(at, run(at)));
    }
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        let (sender, receiver) = mpsc::channel();
        for _ in 0..workers {
            let (sender, next, run) = (sender.clone(), &next, &run);
            scope.spawn(move || {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    // Nobody listens any more where `each` failed.
                    if at >= count || sender.send((at, run(at))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        let mut early = BTreeMap::new();
        let mut due = 0;
        for (at, result) in receiver {
            early.insert(at, result);
            while let Some(result) = early.remove(&due) {
                each(due, result)?;
                due += 1;
            }
        }
        Ok(())
    })
}

#[derive(Default)]
struct Total {
    passed: usize,
    total: usize,
}

impl Total {
    fn add(&mut self, passed: bool) {
        self.total += 1;
        self.passed += usize::from(passed);
    }

    fn all(&self) -> bool {
        self.passed == self.total
    }
}

fn case_json(case: &GoldenCase, variant: Option<&str>, result: &Outcome, limits: &Errors, passed: bool) -> Value {
    let mut value = json!({ "name": case.name, "variant": variant, "passed": passed });
    match result {
        Ok((errors, counts)) => {
            extend(&mut value, errors_json(errors, limits));
            if let Some(counts) = counts {
                extend(&mut value, counts_json(counts));
            }
        }
        Err(error) => extend(&mut value, json!({ "error": error })),
    }
    value
}
