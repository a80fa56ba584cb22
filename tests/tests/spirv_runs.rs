//! Kernels in SPIR-V, run, on a driver for which it is the default: Mesa's lavapipe 26, unpacked by `CI=1 ./x setup` beside the
//! system's. It needs a newer glibc than Debian 12's, so the ignored tests of this file are run by the other one, in a process
//! started by that glibc's loader (`~/.cache/purview/mesa/run PROGRAM` does it for any program).

use cubecl::prelude::*;
use half::f16;
use log::{LevelFilter, Log, Metadata, Record};
use purview::ir::Element;
use purview::{Device, ShaderLanguage, Shape};
use purview_tests::compare::{check_gallery, check_golden};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;

/// How many tests of this file are ignored.
const IGNORED: usize = 5;

/// Starts a program with the newer lavapipe. Where it is missing that is said, also with `CI=1`: it comes from a server that keeps
/// no old packages, and what Debian does to them should stop nobody's change. Where it is there, what runs on it must be right.
fn newer_lavapipe() -> Option<PathBuf> {
    let data = std::env::var_os("PURVIEW_DATA").map(PathBuf::from);
    let data = data.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache/purview")))?;
    let run = data.join("mesa/run");
    run.exists().then_some(run)
}

#[test]
fn spirv_runs() {
    let Some(run) = newer_lavapipe() else {
        eprintln!(
            "spirv_runs: SKIPPED: no lavapipe with VK_KHR_workgroup_memory_explicit_layout (`CI=1 ./x setup` brings one)"
        );
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

/// The side of the matrices that this lavapipe multiplies, and the size of its planes.
const SIDE: usize = 8;

/// Products of queries with keys as a kernel makes them: f16 in shared memory, one plane, and the sums in f32.
#[cube(launch_unchecked)]
fn products(queries: &[f16], keys: &[f16], scores: &mut [f32]) {
    let mut q = Shared::<[f16]>::new_slice(SIDE * SIDE);
    let mut k = Shared::<[f16]>::new_slice(SIDE * SIDE);
    let mut s = Shared::<[f32]>::new_slice(SIDE * SIDE);
    for i in 0..SIDE {
        let at = i * SIDE + UNIT_POS as usize;
        q[at] = queries[at];
        k[at] = keys[at];
    }
    sync_cube();
    let rows = cmma::MatrixLayout::RowMajor;
    let a = cmma::Matrix::<f16>::from_slice(cmma::MatrixIdent::A, SIDE, SIDE, SIDE, rows, &q, SIDE as u32);
    let transposed = cmma::MatrixLayout::ColMajor;
    let b = cmma::Matrix::<f16>::from_slice(cmma::MatrixIdent::B, SIDE, SIDE, SIDE, transposed, &k, SIDE as u32);
    let unknown = cmma::MatrixLayout::Undefined;
    let sums = cmma::Matrix::<f32>::from_value(cmma::MatrixIdent::Accumulator, SIDE, SIDE, SIDE, unknown, 0.0);
    cmma::execute(&a, &b, &sums, &sums);
    cmma::store(&mut s, &sums, SIDE as u32, cmma::MatrixLayout::RowMajor);
    sync_cube();
    for i in 0..SIDE {
        let at = i * SIDE + UNIT_POS as usize;
        scores[at] = s[at];
    }
}

#[test]
#[ignore = "run by `spirv_runs`"]
fn matrices() {
    let device = spirv();
    let client = device.client();
    let small =
        |seed: usize| -> Vec<f16> { (0..SIDE * SIDE).map(|i| f16::from_f32((i * seed % 13) as f32 - 6.0)).collect() };
    let (queries, keys) = (small(5), small(7));
    let upload = |numbers: &[f16]| {
        let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_ne_bytes()).collect();
        client.create_from_slice(&bytes)
    };
    let (q, k, scores) = (upload(&queries), upload(&keys), client.empty(SIDE * SIDE * size_of::<f32>()));
    let cube = CubeDim::new_1d(SIDE as u32);
    // SAFETY: every index is below SIDE², the length of each buffer; one plane runs the kernel, as matrices need.
    unsafe {
        let [q, k, scores] = [q, k, scores.clone()].map(|buffer| BufferArg::from_raw_parts(buffer, SIDE * SIDE));
        products::launch_unchecked(client, CubeCount::new_single(), cube, q, k, scores);
    }
    let bytes = client.read_one(scores).unwrap();
    let got: Vec<f32> = bytes.as_chunks().0.iter().map(|bytes| f32::from_ne_bytes(*bytes)).collect();
    let dot = |q: &[f16], k: &[f16]| -> f32 { q.iter().zip(k).map(|(q, k)| q.to_f32() * k.to_f32()).sum() };
    let want: Vec<f32> = queries.chunks(SIDE).flat_map(|q| keys.chunks(SIDE).map(move |k| dot(q, k))).collect();
    assert_eq!(got, want, "whole numbers are exact");
}
