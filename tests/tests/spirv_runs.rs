//! Kernels in SPIR-V, run, on a driver for which it is the default: Mesa's lavapipe 26, unpacked by `CI=1 ./x setup` beside the
//! system's. It needs a newer glibc than Debian 12's, so the ignored tests of this file are run by the other one, in a process
//! started by that glibc's loader (`~/.cache/purview/mesa/run PROGRAM` does it for any program).

use log::{LevelFilter, Log, Metadata, Record};
use purview::ir::Element;
use purview::schedule::{CubeSchedule, Products, SMALL_CUBE, Schedule};
use purview::{Arguments, Device, ShaderLanguage, Shape};
use purview_examples::GALLERY;
use purview_tests::attentions::levels;
use purview_tests::compare::{Failures, check_gallery, check_golden, compare, tolerance};
use purview_tests::newer_mesa;
use purview_tests::numbers::{Numbers, floats_of};
use std::process::Command;
use std::sync::Mutex;

/// How many tests of this file are ignored.
const IGNORED: usize = 6;

#[test]
fn spirv_runs() {
    let Some(run) = newer_mesa::runner() else {
        let missing = "no lavapipe with VK_KHR_workgroup_memory_explicit_layout (`CI=1 ./x setup` brings one)";
        assert_ne!(std::env::var("CI").as_deref(), Ok("1"), "{missing}");
        eprintln!("spirv_runs: SKIPPED: {missing}");
        return;
    };
    let mut command = Command::new(&run);
    command.arg(std::env::current_exe().unwrap()).args(["--ignored", "--nocapture"]);
    let output = command.output().unwrap_or_else(|error| panic!("{}: {error}", run.display()));
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{said}");
    assert!(output.status.success(), "{}: {}", run.display(), output.status);
    assert!(said.contains(&format!("{IGNORED} passed")), "not every ignored test was run");
}

/// The default device, whose kernels are SPIR-V.
fn spirv() -> Device {
    let device = Device::wgpu().unwrap();
    assert_eq!(device.shader_language(), Some(ShaderLanguage::Spirv));
    device
}

struct Kept(Mutex<Vec<String>>);

impl Log for Kept {
    fn enabled(&self, _: &Metadata) -> bool {
        true
    }

    fn log(&self, record: &Record) {
        if record.target() == "purview::device" {
            self.0.lock().unwrap().push(record.args().to_string());
        }
    }

    fn flush(&self) {}
}

static LOG: Kept = Kept(Mutex::new(Vec::new()));

#[test]
#[ignore = "run by `spirv_runs`"]
fn is_the_default() {
    log::set_logger(&LOG).unwrap();
    log::set_max_level(LevelFilter::Warn);
    let device = spirv();
    assert_eq!(Device::named("wgpu-spirv").unwrap().shader_language(), Some(ShaderLanguage::Spirv));
    assert_eq!(LOG.0.lock().unwrap()[..], [""; 0], "WGSL would have been warned of");

    let properties = device.client().properties();
    println!("{}, {}", properties.identity.name, device.client().name());
    println!("planes: {:?}; as CubeCL says: {:?}", device.planes(), properties.features.plane);
    println!("hardware: {:?}", properties.hardware);
    println!("matrices: {:?}", properties.features.matmul);
    for element in [Element::F32, Element::F16, Element::Bf16] {
        println!("{element:?}: {}", device.supports(element));
    }
    assert!(device.supports(Element::F16));
}

#[test]
#[ignore = "run by `spirv_runs`"]
fn golden_f32() {
    check_golden(&spirv(), "SPIR-V", Element::F32);
}

#[test]
#[ignore = "run by `spirv_runs`"]
fn golden_f16() {
    check_golden(&spirv(), "SPIR-V", Element::F16);
}

#[test]
#[ignore = "run by `spirv_runs`"]
fn gallery() {
    check_gallery(&spirv(), "SPIR-V", &[Shape::new(2, 4, 70, 24).with_kv_heads(2).with_v_dim(20)]);
}

#[test]
#[ignore = "run by `spirv_runs`"]
fn whole_numbers_and_lengths() {
    let device = spirv();
    let mut failures = Failures::default();
    for element in [Element::F32, Element::F16] {
        let mut numbers = Numbers::new(8);
        let table = |length: usize| {
            let numbers: Vec<f32> = (0..length).map(|at| (at * 7 % 5) as f32 * 0.375 - 0.5).collect();
            floats_of(&device, element, &[length], &numbers).unwrap()
        };
        let [q, k, v] = [60, 100, 100].map(|length| numbers.tensor(&device, element, &[1, 2, length, 16]).unwrap());
        let errors = compare(&levels(&table(8), &table(7)).into(), &device, &q, &[(&k, &v)]);
        failures.check(&format!("{element:?}"), errors, &tolerance(element));
    }
    failures.report();
}

/// Attention by the matrices that this lavapipe multiplies, of head dims that are whole matrices and of others.
#[test]
#[ignore = "run by `spirv_runs`"]
fn matrices() {
    let device = spirv();
    let products = Products::Matrices { m: 8, n: 8, k: 8, plane: 8 };
    let schedule = Schedule::Cube(CubeSchedule { unit_rows: 8, products, ..SMALL_CUBE });
    let mut failures = Failures::default();
    for (dims, variants) in [
        ((64, 64), &["causal", "alibi_causal", "document_causal", "attention_sink", "recurrent_memory"][..]),
        ((20, 36), &["full", "global_and_local"][..]),
    ] {
        let shape = Shape::new(1, 2, 77, dims.0).with_v_dim(dims.1).with_element(Element::F16);
        for variant in GALLERY.iter().filter(|variant| variants.contains(&variant.name)) {
            let attention = (variant.make)(&Arguments::new(device.clone(), shape.clone())).unwrap();
            let attention = attention.with_schedule(schedule);
            let (q, pairs) = Numbers::new(5).operands(&device, &attention, &shape).unwrap();
            let pairs: Vec<_> = pairs.iter().map(|(key, value)| (key, value)).collect();
            let errors = compare(&attention, &device, &q, &pairs);
            failures.check(&format!("{} {dims:?} by matrices", variant.name), errors, &tolerance(Element::F16));
        }
    }
    failures.report();
}
