//! Kernel text without a device: the same twice, and named after the attention.

use purview::{Arguments, Device, Shape, Target};
use purview_examples::GALLERY;

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
