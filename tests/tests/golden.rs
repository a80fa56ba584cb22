//! Every golden case, by its variant of the gallery, on every device in every type that it has. In f32 results are compared with
//! PyTorch's; in f16 and bf16 with the f64 reference on the rounded inputs (see `GoldenCase::run`).

use purview::ir::Element;
use purview::{Device, Error, Variant};
use purview_cli::golden::{self, Errors, GoldenCase};
use purview_tests::attentions;
use purview_tests::compare::{Failures, GOLDEN, check_golden};
use purview_tests::devices;
use std::collections::BTreeSet;
use std::path::Path;

fn directory() -> &'static Path {
    Path::new(GOLDEN)
}

fn check_if_supported(device: &Device, described: &str, element: Element) {
    if device.supports(element) {
        check_golden(device, described, element);
    } else {
        eprintln!("SKIPPED: {described} has no {element:?}");
    }
}

fn case(name: &str) -> GoldenCase {
    golden::load(directory()).unwrap().into_iter().find(|case| case.name == name).expect(name)
}

#[test]
fn every_case_has_a_variant() {
    let named: BTreeSet<String> = purview_examples::golden().iter().map(|(name, _)| name.to_string()).collect();
    let listed: BTreeSet<String> = golden::load(directory()).unwrap().into_iter().map(|case| case.name).collect();
    assert_eq!(named, listed);
    assert_eq!(purview_examples::golden().len(), listed.len(), "no case has two variants");
}

#[test]
fn cpu_f32() {
    check_golden(&devices::cpu(), "cpu", Element::F32);
}

#[test]
fn cpu_f16() {
    check_golden(&devices::cpu(), "cpu", Element::F16);
}

#[test]
fn cpu_bf16() {
    check_if_supported(&devices::cpu(), "cpu", Element::Bf16);
}

#[test]
fn wgpu_f32() {
    for devices::Described { device, what } in devices::wgpu_all("wgpu_f32") {
        check_if_supported(&device, &what, Element::F32);
    }
}

#[test]
fn wgpu_f16() {
    // Without planes the kernels differ as much in f32.
    if let Some(devices::Described { device, what }) = devices::wgpu_all("wgpu_f16").first() {
        check_if_supported(device, what, Element::F16);
    }
}

#[test]
fn a_missing_directory_and_a_broken_manifest_are_errors() {
    let error = golden::load(Path::new("/nowhere")).unwrap_err();
    assert_eq!(error.to_string(), "/nowhere: it has neither a manifest.json nor a minilm.json");

    let broken = Path::new(env!("CARGO_TARGET_TMPDIR")).join("broken_golden");
    std::fs::create_dir_all(&broken).unwrap();
    let load = |manifest: &str| {
        std::fs::write(broken.join("manifest.json"), manifest).unwrap();
        let error = golden::load(&broken).unwrap_err().to_string();
        error.replace(&broken.display().to_string(), "DIR")
    };
    assert_eq!(load("{}"), "DIR/manifest.json: there is no list of cases");
    assert_eq!(load("[{}]"), "DIR/manifest.json: a case has no name");
    let text = r#"[{"name": "a", "params": {"scale": "large"}}]"#;
    assert_eq!(load(text), "DIR/manifest.json: `scale` of `a` is not a number");
    let text = r#"[{"name": "a", "params": {}}]"#;
    assert_eq!(load(text), "DIR/a.safetensors: No such file or directory (os error 2)");
}

/// Operands with names of their own are no captured tensors: `make` is first called without any, to ask what the attention takes.
#[test]
fn only_captured_tensors_are_arguments() {
    let variant = Variant {
        name: "point_distance",
        make: |arguments| {
            let given: Vec<&str> = arguments.tensors.keys().map(String::as_str).collect();
            match given[..] {
                [] | ["c", "x_norms", "y_norms"] => (purview_examples::point_distance::ENTRY.make)(arguments),
                _ => Err(Error::Execution { reason: format!("{given:?} were given") }),
            }
        },
    };
    let attention = case("point_distance").attention(&variant, &devices::cpu(), Element::F32).unwrap();
    assert_eq!(attention.tensors().len(), 3);
}

#[test]
fn a_log_sum_exp_is_not_passed_over() {
    let sum = Variant { name: "sum", make: |_| Ok(attentions::sum().into()) };
    let message = "the case `causal` has a log-sum-exp, and `sum` has none";
    let case = case("causal");
    assert_eq!(case.run(&sum, &devices::cpu(), Element::F32).unwrap_err().to_string(), message);
    assert_eq!(case.run_reference(&sum).unwrap_err().to_string(), message);
}

#[test]
fn a_case_is_of_one_output() {
    let both = Variant { name: "as_it_is_and_doubled", make: |_| Ok(attentions::as_it_is_and_doubled().into()) };
    let error = case("causal").run(&both, &devices::cpu(), Element::F32).unwrap_err().to_string();
    assert_eq!(error, "the case `causal` has one output, and `as_it_is_and_doubled` has 2");
}

/// The reference itself, in f64, against every case: what remains is that cases are stored in f32.
#[test]
fn the_reference_meets_every_case() {
    let variants = purview_examples::golden();
    let mut failures = Failures::default();
    for case in golden::load(directory()).unwrap() {
        let (_, variant) = variants.iter().find(|(name, _)| *name == case.name).expect("a variant for each case");
        // That of the model was computed in f32.
        let limit = if case.name.starts_with("minilm") { 1e-5 } else { 1e-6 };
        failures.check(&case.name, case.run_reference(variant), &Errors { out: limit, lse: Some(limit) });
    }
    failures.report();
}
