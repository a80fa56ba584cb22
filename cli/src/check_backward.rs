//! `check --backward`: the gradients of golden cases.

use crate::arguments::{CheckFlags, PTX, device};
use crate::golden::{self, GoldenCase};
use crate::{FAILURE, Failure, Gallery, SUCCESS, print_json, progress};
use purview::Variant;
use serde_json::{Value, json};
use std::io::Write;

pub(crate) fn check_backward(
    gallery: &Gallery,
    flags: &CheckFlags,
    json: bool,
    out: &mut dyn Write,
) -> Result<u8, Failure> {
    let cases = cases(gallery, flags)?;
    if flags.device.as_deref() == Some(PTX) {
        return Err(Failure::Usage(format!("gradients are computed on the CPU, and --device is {PTX}")));
    }
    let device = device(flags.device.as_deref())?;
    let width = cases.iter().map(|(case, _)| case.name.len()).max().unwrap_or(0);
    let (mut values, mut passed) = (Vec::new(), 0);
    let bar = progress(Some(cases.len()));
    for (case, variant) in &cases {
        let limit = case.gradient_tolerance(flags.dtype);
        let result = match variant {
            Some(variant) => case.run_backward(variant, &device, flags.dtype).map_err(|error| error.to_string()),
            None => Err("no variant is known for it".to_string()),
        };
        // What is NaN is not within the limit.
        let is_within = |(_, error): &(String, f64)| *error <= limit;
        let is_right = result.as_ref().is_ok_and(|errors| errors.iter().all(is_within));
        passed += usize::from(is_right);
        let mut value = json!({ "name": case.name, "variant": variant.map(|of| of.name), "passed": is_right });
        match &result {
            Ok(errors) => {
                let errors = errors.iter().map(|(of, error)| json!({ "of": of, "error": error }));
                value["gradients"] = errors.collect();
                value["limit"] = json!(limit);
            }
            Err(error) => value["error"] = json!(error),
        }
        if flags.lines {
            writeln!(out, "{value}")?;
            out.flush()?;
        } else if json {
            values.push(value);
        } else {
            let verdict = if is_right { "pass" } else { "FAIL" };
            bar.suspend(|| match &result {
                Ok(errors) => {
                    let errors = errors.iter().map(|(of, error)| format!("{of} {error:.1e}"));
                    writeln!(out, "{:width$}  {}  {verdict}", case.name, errors.collect::<Vec<_>>().join("  "))
                }
                Err(error) => writeln!(out, "{:width$}  {verdict}: {error}", case.name),
            })?;
        }
        bar.inc(1);
    }
    drop(bar);
    let all = passed == cases.len();
    let mut value: Value = json!({
        "device": device.name(),
        "dtype": flags.dtype.name(),
        "golden_passed": passed,
        "golden_total": cases.len(),
        "passed": all,
    });
    if json {
        value["cases"] = values.into();
        print_json(out, &value)?;
    } else if flags.lines {
        writeln!(out, "{value}")?;
    } else {
        let (total, dtype) = (cases.len(), flags.dtype.name());
        writeln!(out, "gradients of {passed} of {total} golden cases on {} in {dtype}", device.name())?;
    }
    Ok(if all { SUCCESS } else { FAILURE })
}

/// The cases that `flags` choose, of those that have gradients, with their variants.
fn cases<'a>(gallery: &'a Gallery, flags: &CheckFlags) -> Result<Vec<(GoldenCase, Option<&'a Variant>)>, Failure> {
    let Some(directory) = &flags.golden else { return Ok(Vec::new()) };
    let mut cases = golden::load(directory)?;
    cases.retain(GoldenCase::has_gradients);
    if cases.is_empty() {
        return Err(Failure::Usage(format!("there is no case with gradients in {}", directory.display())));
    }
    if let Some(name) = flags.cases.iter().find(|name| cases.iter().all(|case| case.name != **name)) {
        let names: Vec<&str> = cases.iter().map(|case| case.name.as_str()).collect();
        let names = names.join(", ");
        return Err(Failure::Usage(format!("--cases names `{name}`, expected some of {names}")));
    }
    cases.retain(|case| flags.cases.is_empty() || flags.cases.contains(&case.name));
    let variant = |case: &GoldenCase| gallery.golden.iter().find(|(name, _)| *name == case.name).map(|(_, of)| of);
    Ok(cases
        .into_iter()
        .map(|case| {
            let of = variant(&case);
            (case, of)
        })
        .collect())
}
