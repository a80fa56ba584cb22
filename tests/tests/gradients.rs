//! Gradients against PyTorch's in f64, which the golden cases hold.

use purview::{Device, Error, Variant};
use purview_cli::golden::{self, GoldenError};
use purview_tests::compare::GOLDEN;
use purview_tests::devices;
use std::path::Path;

/// Cases whose attention has several accumulators, or an output that is an expression, or keys and values of different numbers of heads.
const WITHOUT: [&str; 4] = ["two_dots", "latent_values", "differential", "gated_output"];

/// The largest error of a gradient, relative to its largest magnitude. Scores of 10⁴ have 10⁻³ in f32, and so has a log-sum-exp.
fn limit(case: &str) -> f64 {
    if case == "large_logits" { 1e-3 } else { 2e-5 }
}

/// Checks the gradients of every golden case that has some on `device`.
fn check(device: &Device, described: &str) {
    let variants: Vec<(&str, Variant)> = purview_examples::golden();
    let (mut checked, mut wrong) = (0, Vec::new());
    for case in golden::load(Path::new(GOLDEN)).unwrap() {
        let (_, variant) = variants.iter().find(|(name, _)| *name == case.name).expect("a variant for each case");
        let found = case.run_backward(variant, device);
        if WITHOUT.contains(&case.name.as_str()) {
            assert!(matches!(found, Err(GoldenError::Run(Error::NoGradients { .. }))), "{}: {found:?}", case.name);
            continue;
        }
        match found {
            Ok(errors) => {
                checked += usize::from(!errors.is_empty());
                let is_wrong = errors.iter().any(|(_, error)| error.is_nan() || *error > limit(&case.name));
                let errors: Vec<String> = errors.iter().map(|(name, error)| format!("{name} {error:.1e}")).collect();
                let line = format!("{described} {}: {}", case.name, errors.join(", "));
                println!("{line}");
                wrong.extend(is_wrong.then_some(line));
            }
            Err(error) => wrong.push(format!("{described} {}: {error}", case.name)),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(checked, 30);
}

#[test]
fn golden_cases_on_the_cpu() {
    check(&devices::cpu(), "cpu");
}
