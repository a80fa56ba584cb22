//! The gallery: its programs run, and its variants give right numbers on every device with their default arguments.

use purview::{Arguments, Shape};
use purview_examples::{GALLERY, PROGRAMS};
use purview_tests::compare::{Failures, check_gallery};
use purview_tests::devices;
use std::collections::BTreeSet;

#[test]
fn every_file_is_listed_and_every_program_runs() {
    let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/examples")).unwrap();
    let names = files.filter_map(|file| Some(file.unwrap().file_name().to_str()?.strip_suffix(".rs")?.to_string()));
    // `minilm` needs weights, and has a test of its own.
    let names: BTreeSet<String> = names.filter(|name| name != "minilm").collect();
    let listed: BTreeSet<String> = PROGRAMS.iter().map(|(name, _)| name.to_string()).collect();
    assert_eq!(names, listed, "the files of examples/examples/ and the list in examples/src/lib.rs");

    let mut failures = Failures::default();
    for (name, main) in PROGRAMS {
        let result = main();
        let what = result.err().map_or(name.to_string(), |error| format!("{name}: {error}"));
        failures.expect(&what, what == *name);
    }
    failures.report();
}

#[test]
fn variants_have_one_name_each_and_a_program() {
    let programs: BTreeSet<&str> = PROGRAMS.iter().map(|(name, _)| *name).collect();
    let names: Vec<&str> = GALLERY.iter().map(|variant| variant.name).collect();
    let sorted: BTreeSet<&str> = names.iter().copied().collect();
    assert_eq!(names, sorted.iter().copied().collect::<Vec<_>>(), "sorted, and none twice");
    // RoPE is not an attention but what comes before one.
    assert_eq!(programs.difference(&sorted).copied().collect::<Vec<_>>(), ["rope"]);
    assert!(sorted.is_subset(&programs));
    let arguments = Arguments::new(devices::cpu(), Shape::new(1, 2, 64, 16));
    for variant in GALLERY {
        assert_eq!((variant.make)(&arguments).unwrap().spec().name, variant.name, "a file and its attention");
    }
}

#[test]
fn every_variant_on_the_cpu() {
    let shape = Shape::new(2, 4, 150, 24).with_kv_heads(2).with_v_dim(20);
    check_gallery(&devices::cpu(), "cpu", &[shape.clone(), shape.with_queries(3)]);
}

#[test]
fn every_variant_on_wgpu() {
    for devices::Described { device, what } in devices::wgpu_all("every_variant_on_wgpu") {
        check_gallery(&device, &what, &[Shape::new(2, 4, 70, 24).with_kv_heads(2).with_v_dim(20)]);
    }
}
