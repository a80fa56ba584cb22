//! Gradients against PyTorch's in f64, which the golden cases hold.

use purview::{Device, Error, Variant};
use purview_cli::golden::{self, GoldenError};
use purview_tests::compare::GOLDEN;
use purview_tests::devices;
use std::path::Path;

/// Checks the gradients of every golden case that has some on `device`.
fn check(device: &Device, described: &str) {
    let variants: Vec<(&str, Variant)> = purview_examples::golden();
    let (mut checked, mut without, mut wrong) = (0, Vec::new(), Vec::new());
    for case in golden::load(Path::new(GOLDEN)).unwrap() {
        let (_, variant) = variants.iter().find(|(name, _)| *name == case.name).expect("a variant for each case");
        match case.run_backward(variant, device) {
            Ok(errors) => {
                checked += 1;
                let too_large = errors.iter().any(|(_, error)| !(*error <= 2e-5));
                let errors: Vec<String> = errors.iter().map(|(name, error)| format!("{name} {error:.1e}")).collect();
                let line = format!("{described} {}: {}", case.name, errors.join(", "));
                println!("{line}");
                if too_large {
                    wrong.push(line);
                }
            }
            Err(GoldenError::Run(Error::NoGradients { .. } | Error::Compile(_))) | Err(GoldenError::Operand { .. }) => {
                without.push(case.name.clone());
            }
            Err(error) => wrong.push(format!("{described} {}: {error}", case.name)),
        }
    }
    println!("{checked} checked, without gradients: {}", without.join(", "));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn golden_cases_on_the_cpu() {
    check(&devices::cpu(), "cpu");
}
