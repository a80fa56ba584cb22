//! A kernel's results against the reference's.

use crate::numbers::Numbers;
use purview::ir::Element;
use purview::{AnyAttention, Arguments, Device, DeviceModel, Error, Shape, Tensor, Variant};
use purview_cli::golden::{self, Errors, GoldenError, outputs_error, relative_error};
use purview_cli::ptx;
use purview_examples::GALLERY;
use std::path::Path;

/// Runs `attention` on `device` and gives its largest errors relative to the reference's largest magnitudes.
///
/// # Errors
/// As [`AnyAttention::run`] and [`AnyAttention::reference`].
pub fn compare(
    attention: &AnyAttention,
    device: &Device,
    query: &Tensor,
    pairs: &[(&Tensor, &Tensor)],
) -> Result<Errors, Error> {
    compare_operands(attention, device, &attention.in_order(query, pairs)?)
}

/// The same for the tensors that lie along queries and keys, in the order of the signature.
///
/// # Errors
/// As [`AnyAttention::run_operands`] and [`AnyAttention::reference_operands`].
pub fn compare_operands(attention: &AnyAttention, device: &Device, operands: &[&Tensor]) -> Result<Errors, Error> {
    let (outputs, lse) = attention.run_outputs_with_lse_if_any(device, operands)?;
    let want = attention.reference_operands(operands)?;
    let mut found = Vec::new();
    for (out, want) in outputs.iter().zip(want.outputs()) {
        assert_eq!(out.shape(), want.shape);
        assert_eq!(out.dtype(), operands[0].dtype());
        found.push(out.to_vec::<f32>()?);
    }
    let lse = lse.map(|lse| {
        assert_eq!(lse.shape(), want.lse.shape);
        lse.to_vec::<f32>().map(|lse| relative_error(&lse, &want.lse.data))
    });
    Ok(Errors { out: outputs_error(&found, &want), lse: lse.transpose()? })
}

/// The same of the PTX of the kernel for `model`, run on the CPU.
///
/// # Errors
/// As [`AnyAttention::ptx_launch`], [`ptx::run`] and [`AnyAttention::reference`].
pub fn compare_ptx(
    attention: &AnyAttention,
    model: &DeviceModel,
    query: &Tensor,
    pairs: &[(&Tensor, &Tensor)],
) -> Result<Errors, GoldenError> {
    compare_ptx_operands(attention, model, &attention.in_order(query, pairs)?)
}

/// The same for the tensors that lie along queries and keys, in the order of the signature.
///
/// # Errors
/// As [`compare_ptx`].
pub fn compare_ptx_operands(
    attention: &AnyAttention,
    model: &DeviceModel,
    operands: &[&Tensor],
) -> Result<Errors, GoldenError> {
    let results = ptx::run(&attention.ptx_launch_operands(model, operands)?)?;
    let want = attention.reference_operands(operands)?;
    let lse = results.lse.as_ref().map(|lse| relative_error(lse, &want.lse.data));
    let outputs: Vec<&[f32]> = results.outputs().collect();
    Ok(Errors { out: outputs_error(&outputs, &want), lse })
}

/// The largest errors allowed of results in `element`, on inputs that are what `element` can hold.
pub fn tolerance(element: Element) -> Errors {
    let out = match element {
        Element::F32 => 2e-5,
        Element::F16 => 2e-3,
        // Eight bits of precision against eleven.
        Element::Bf16 => 1.6e-2,
    };
    Errors { out, lse: Some(1e-4) }
}

/// The directory of the golden cases.
pub const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/golden");

/// Checks every golden case on `device`, by its variant of the gallery, and panics where one is wrong.
pub fn check_golden(device: &Device, described: &str, element: Element) {
    let variants: Vec<(&str, Variant)> = purview_examples::golden();
    let mut failures = Failures::default();
    let all = golden::load(Path::new(GOLDEN)).unwrap();
    assert_eq!(all.len(), 36);
    for case in all {
        let (_, variant) = variants.iter().find(|(name, _)| *name == case.name).expect("a variant for each case");
        let what = format!("{described} {element:?} {} ({})", case.name, variant.name);
        failures.check(&what, case.run(variant, device, element), &case.tolerance(element));
    }
    failures.report();
}

/// Checks every variant of the gallery on `device`, with its default arguments and `shapes`, and panics where one is wrong.
pub fn check_gallery(device: &Device, described: &str, shapes: &[Shape]) {
    let mut failures = Failures::default();
    for variant in GALLERY {
        for shape in shapes {
            let attention = (variant.make)(&Arguments::new(device.clone(), shape.clone())).unwrap();
            assert_eq!(attention.spec().name, variant.name);
            let operands = Numbers::new(3).all_operands(device, &attention, shape).unwrap();
            let operands: Vec<&Tensor> = operands.iter().collect();
            let what = format!("{described} {} {}×{}", variant.name, shape.queries, shape.keys[0]);
            failures.check(&what, compare_operands(&attention, device, &operands), &tolerance(Element::F32));
        }
    }
    failures.report();
}

/// Collects failures, so that one does not hide the next.
#[derive(Debug, Default)]
pub struct Failures {
    checked: usize,
    failed: Vec<String>,
}

impl Failures {
    /// Checks the result of one comparison.
    pub fn check<E: std::fmt::Display>(&mut self, what: &str, result: Result<Errors, E>, limit: &Errors) {
        self.checked += 1;
        let line = match result {
            Ok(errors) if errors.within(limit) => {
                println!("{what:60} {errors}");
                return;
            }
            Ok(errors) => format!("{what:60} {errors}  FAIL"),
            Err(error) => format!("{what:60} {error}  FAIL"),
        };
        println!("{line}");
        self.failed.push(line);
    }

    /// Checks anything else.
    pub fn expect(&mut self, what: &str, holds: bool) {
        self.checked += 1;
        if !holds {
            println!("{what}  FAIL");
            self.failed.push(what.to_string());
        }
    }

    /// Panics if anything failed, or if nothing was checked.
    pub fn report(self) {
        assert!(self.checked > 0, "nothing was checked");
        assert!(
            self.failed.is_empty(),
            "{} of {} failed:\n{}",
            self.failed.len(),
            self.checked,
            self.failed.join("\n")
        );
    }
}
