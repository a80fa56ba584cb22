//! Texts of kernels, read by somebody else: WGSL by naga, SPIR-V by `spirv-val`.

use purview::ir::Element;
use purview::{AnyAttention, Arguments, DeviceModel, Shape, Target};
use purview_examples::GALLERY;
use purview_tests::compare::Failures;
use purview_tests::{devices, naga_validation, spirv_val};

/// Every variant in f32 and f16.
fn for_each_variant(check: impl Fn(&AnyAttention, &Shape) -> Result<(), String>) {
    let mut failures = Failures::default();
    for element in [Element::F32, Element::F16] {
        let shape = Shape::new(1, 2, 64, 32).with_element(element);
        let arguments = Arguments::new(devices::cpu(), shape.clone());
        for variant in GALLERY {
            let found = check(&(variant.make)(&arguments).unwrap(), &shape);
            let message = found.as_ref().err().cloned().unwrap_or_default();
            failures.expect(&format!("{} {element:?}: {message}", variant.name), found.is_ok());
        }
    }
    failures.report();
}

#[test]
fn every_variant_is_valid_wgsl() {
    for_each_variant(|attention, shape| {
        let text = attention.emit(Target::Wgsl, shape).unwrap();
        assert_eq!(text.contains("enable f16;"), shape.operands().element == Element::F16);
        naga_validation::validate(&text)
    });
}

fn valid_spirv(test: &str, model: &DeviceModel) {
    for_each_variant(|attention, shape| {
        let kernel = attention.kernel_text(Target::Spirv, model, shape).unwrap();
        // `None` where it could not be checked, which has been said.
        spirv_val::validate(test, &kernel.words.unwrap()).unwrap_or(Ok(()))
    });
}

#[test]
fn every_variant_is_valid_spirv() {
    valid_spirv("every_variant_is_valid_spirv", &Target::Spirv.default_model());
}

/// Where planes have one size, f16 is by matrices.
#[test]
fn every_variant_is_valid_spirv_by_matrices() {
    let mut model = Target::Spirv.default_model();
    model.plane_max = model.plane_min;
    valid_spirv("every_variant_is_valid_spirv_by_matrices", &model);
    let causal = GALLERY.iter().find(|variant| variant.name == "causal").unwrap();
    let shape = Shape::new(1, 2, 64, 32).with_element(Element::F16);
    let causal = (causal.make)(&Arguments::new(devices::cpu(), shape.clone())).unwrap();
    let text = causal.emit_for(Target::Spirv, &model, &shape).unwrap();
    assert!(text.contains("products: matrices(16, 16, 16) by 32"), "{}", &text[..1000]);
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
