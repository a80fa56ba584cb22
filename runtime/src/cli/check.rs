//! `check`: golden cases.

use super::arguments::{CheckFlags, device};
use super::describe::extend;
use super::run::errors_json;
use super::{FAILURE, Failure, Gallery, SUCCESS, print_json, progress};
use crate::golden::{self, Errors, GoldenCase};
use serde_json::{Value, json};
use std::io::Write;

/// The beginning of the names of the cases that are a real model's.
const MINILM: &str = "minilm_";

pub(super) fn check(gallery: &Gallery, flags: &CheckFlags, json: bool, out: &mut dyn Write) -> Result<u8, Failure> {
    let cases = golden::load(&flags.golden)?;
    if cases.is_empty() {
        return Err(Failure::Usage(format!("there is no case in {}", flags.golden.display())));
    }
    let device = device(flags.device.as_deref())?;
    let width = cases.iter().map(|case| case.name.len()).max().unwrap_or(0);
    let mut values = Vec::new();
    let (mut golden, mut minilm) = (Total::default(), Total::default());
    let bar = progress(Some(cases.len()));
    for case in &cases {
        bar.set_message(case.name.clone());
        let limits = case.tolerance(flags.dtype);
        let variant = gallery.golden.iter().find(|(name, _)| *name == case.name).map(|(_, variant)| variant);
        let result = match variant {
            Some(variant) => case.run(variant, &device, flags.dtype).map_err(|error| error.to_string()),
            None => Err("no variant is known for it".to_string()),
        };
        let passed = result.as_ref().is_ok_and(|errors| errors.within(&limits));
        let total = if case.name.starts_with(MINILM) { &mut minilm } else { &mut golden };
        total.add(passed);
        if json {
            values.push(case_json(case, variant.map(|variant| variant.name), &result, &limits, passed));
        } else {
            let verdict = if passed { "pass" } else { "FAIL" };
            bar.suspend(|| match &result {
                Ok(errors) => writeln!(out, "{:width$}  {errors}  {verdict}", case.name),
                Err(error) => writeln!(out, "{:width$}  {verdict}: {error}", case.name),
            })?;
        }
        bar.inc(1);
    }
    drop(bar);
    let passed = golden.all() && minilm.all();
    if json {
        let value = json!({
            "device": device.name(),
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
        writeln!(out, " on {} in {}", device.name(), flags.dtype.name())?;
    }
    Ok(if passed { SUCCESS } else { FAILURE })
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

fn case_json(
    case: &GoldenCase,
    variant: Option<&str>,
    result: &Result<Errors, String>,
    limits: &Errors,
    passed: bool,
) -> Value {
    let mut value = json!({ "name": case.name, "variant": variant, "passed": passed });
    match result {
        Ok(errors) => extend(&mut value, errors_json(errors, limits)),
        Err(error) => extend(&mut value, json!({ "error": error })),
    }
    value
}
