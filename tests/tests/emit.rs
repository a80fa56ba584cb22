//! Kernel text without a device: the same twice, named after the attention, and valid.

use purview::ir::Element;
use purview::{Arguments, Device, Shape, Target};
use purview_examples::GALLERY;
use purview_tests::compare::Failures;
use purview_tests::naga_validation;

#[test]
fn every_variant_has_the_same_wgsl_twice() {
    let shape = Shape::new(1, 2, 64, 32);
    let arguments = Arguments::new(Device::cpu().unwrap(), shape.clone());
    for variant in GALLERY {
        let text = || (variant.make)(&arguments).unwrap().emit(Target::Wgsl, &shape).unwrap();
        let first = text();
        assert!(first.contains(&format!("fn {}(", variant.name)), "{}", variant.name);
        assert!(first == text(), "{} is not the same twice", variant.name);
    }
}

#[test]
fn every_variant_is_valid_wgsl() {
    let mut failures = Failures::default();
    for element in [Element::F32, Element::F16] {
        let shape = Shape::new(1, 2, 64, 32).with_element(element);
        let arguments = Arguments::new(Device::cpu().unwrap(), shape.clone());
        for variant in GALLERY {
            let text = (variant.make)(&arguments).unwrap().emit(Target::Wgsl, &shape).unwrap();
            assert_eq!(text.contains("f16"), element == Element::F16, "{}", variant.name);
            let found = naga_validation::validate(&text);
            let message = found.as_ref().err().cloned().unwrap_or_default();
            failures.expect(&format!("{} {element:?}: {message}", variant.name), found.is_ok());
        }
    }
    failures.report();
}

#[test]
fn what_the_text_does_not_enable_is_invalid() {
    let shader = |enable: &str, expression: &str| {
        format!("{enable}\n@compute @workgroup_size(1) fn main() {{ _ = {expression}; }}")
    };
    assert_eq!(naga_validation::validate(&shader("", "1.0f")), Ok(()));
    assert_eq!(naga_validation::validate(&shader("enable f16;", "1.0h")), Ok(()));
    assert!(naga_validation::validate(&shader("", "1.0h")).is_err());
    assert_eq!(naga_validation::validate(&shader("", "subgroupAdd(1u)")), Ok(()));
    assert!(naga_validation::validate(&shader("", "f32(-Inf)")).is_err(), "CubeCL's minus infinity");
}
