//! Random attentions against the reference. The same ones in every run; `PROPTEST_CASES=1000` tries more.

use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};
use purview::ir::Element;
use purview::{Device, Error};
use purview_tests::compare::{compare, tolerance};
use purview_tests::devices;
use purview_tests::generate::Case;
use std::cell::Cell;

fn check(device: &Device, cases: u32) {
    let cases = std::env::var("PROPTEST_CASES").map_or(cases, |cases| cases.parse().expect("a number of cases"));
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 400, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let (refused, zero, largest) = (Cell::new(0), Cell::new(0), Cell::new(0.0f64));
    let limit = tolerance(Element::F32);
    let result = runner.run(&Case::any(), |case| {
        let attention = case.attention(device).expect("the captured tensors");
        let [q, k, v] = case.operands(device).expect("the operands");
        match compare(&attention, device, &q, &[(&k, &v)]) {
            // Ranges are found by interval arithmetic, which may see an overflow where there is none.
            Err(Error::Range(_)) => {
                refused.set(refused.get() + 1);
                Ok(())
            }
            Err(error) => Err(TestCaseError::fail(error.to_string())),
            Ok(errors) => {
                largest.set(largest.get().max(errors.out));
                let reference = attention.reference(&q, &[(&k, &v)]).expect("a reference");
                zero.set(zero.get() + u32::from(reference.out.data.iter().all(|x| *x == 0.0)));
                if errors.within(&limit) { Ok(()) } else { Err(TestCaseError::fail(errors.to_string())) }
            }
        }
    });
    if let Err(error) = result {
        panic!("{}: {error}", device.name());
    }
    let (refused, zero, largest) = (refused.get(), zero.get(), largest.get());
    let name = device.name();
    println!("{cases} on {name}, {refused} refused, {zero} see no key at all, largest error {largest:.1e}");
    assert!(refused * 10 < cases, "{refused} of {cases} launches were refused");
    assert!(zero * 4 < cases, "{zero} of {cases} attentions see no key at all");
}

#[test]
fn random_programs_on_the_cpu() {
    check(&devices::cpu(), 120);
}

#[test]
fn random_programs_on_wgpu() {
    if let Some(device) = devices::wgpu("random_programs_on_wgpu") {
        check(&device, 40);
    }
}
