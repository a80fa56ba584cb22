//! Kernels for CUDA, taken by NVIDIA's own compilers, which need no GPU: PTX by `ptxas`, CUDA C++ by NVRTC. `INSTA_UPDATE=always cargo test
//! --workspace --test cuda_compiles` writes the table of what kernels use anew; read its diff.
//!
//! What the compilers make of a text is kept in the target directory for the next run: see [`KeptOutputs`].

use purview::ir::Element;
use purview::{AnyAttention, Arguments, DeviceModel, Shape, Target, Variant};
use purview_examples::GALLERY;
use purview_nvidia::occupancy::{BlockResources, occupancy};
use purview_nvidia::toolchain::{ASSEMBLER_OPTIONS, Toolchain};
use purview_tests::compare::Failures;
use purview_tests::kept_outputs::KeptOutputs;
use purview_tests::nvrtc::Nvrtc;
use purview_tests::{devices, nvidia_tools};
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

const SNAPSHOTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/snapshots/cuda");
/// Where outputs of compilers are kept.
const KEPT: &str = env!("CARGO_TARGET_TMPDIR");
/// The compute capabilities, ten times them.
const SM: [u32; 2] = [80, 90];
const ELEMENTS: [Element; 3] = [Element::F32, Element::F16, Element::Bf16];

/// A kernel to compile.
struct Case {
    attention: AnyAttention,
    shape: Shape,
}

impl Case {
    fn new(variant: &Variant, shape: Shape) -> Case {
        let attention = (variant.make)(&Arguments::new(devices::cpu(), shape.clone())).unwrap();
        Case { attention, shape }
    }

    /// Whether queries are few and have heads to share a tile with.
    fn is_packed(&self) -> bool {
        self.shape.heads > self.shape.kv_heads
    }

    fn name(&self) -> String {
        let operands = self.shape.operands();
        let packed = if self.is_packed() { " gqa" } else { "" };
        format!("{:21}{:7}{:3}{packed}", self.attention.spec().name, operands.element.name(), operands.qk_dim)
    }
}

/// Every variant in every type with head dim 64, in f32 and f16 with 128 too (bf16 has the kernels of f16); and in f16 with four heads
/// to a key head.
fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for variant in GALLERY {
        for element in ELEMENTS {
            let dims: &[usize] = if element == Element::Bf16 { &[64] } else { &[64, 128] };
            for dim in dims {
                cases.push(Case::new(variant, Shape::new(1, 2, 64, *dim).with_element(element)));
            }
        }
        let shape = Shape::new(1, 4, 64, 128).with_element(Element::F16);
        cases.push(Case::new(variant, shape.with_kv_heads(1).with_queries(16)));
    }
    cases
}

/// What `check` gives for each case, in two threads.
fn for_each<T: Send>(cases: &[Case], check: impl Fn(&Case) -> T + Sync) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let found = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some((place, case)) =
                    Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|at| Some((at, cases.get(at)?)))
                {
                    let result = check(case);
                    found.lock().unwrap_or_else(PoisonError::into_inner).push((place, result));
                }
            });
        }
    });
    let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    found.sort_by_key(|(place, _)| *place);
    found.into_iter().map(|(_, result)| result).collect()
}

/// The outputs of a compiler that is made of `files`, in the directory `name`.
fn kept(name: &str, version: &str, files: &[PathBuf]) -> KeptOutputs {
    let files: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
    KeptOutputs::open(&Path::new(KEPT).join(name), version, &files).unwrap()
}

/// What a kernel uses on a device.
struct Used {
    schedule: &'static str,
    registers: u32,
    /// Bytes that are spilled, stored and loaded, and of the stack.
    spilled: u32,
    shared_bytes: u32,
    /// What a multiprocessor holds.
    blocks: u32,
}

fn used(tools: &Toolchain, kept: &KeptOutputs, case: &Case, sm: u32) -> Result<Used, String> {
    let text = |error: &dyn Display| error.to_string();
    let model = DeviceModel::nvidia_sm(sm).ok_or("no such device")?;
    let (attention, shape) = (&case.attention, &case.shape);
    let schedule = attention.schedule_for(Target::Ptx, &model, shape).map_err(|error| text(&error))?;
    let kernel = attention.kernel_text(Target::Ptx, &model, shape).map_err(|error| text(&error))?;
    let said = kept.output(&kernel.text, || {
        let assembled = tools.assemble(&kernel.text).map_err(|error| text(&error))?;
        let spilled = assembled.spill_stores + assembled.spill_loads + assembled.stack_frame;
        Ok::<_, String>(format!("{} {spilled} {}", assembled.registers, assembled.static_shared))
    })?;
    let numbers: Vec<u32> = said.split(' ').map_while(|number| number.parse().ok()).collect();
    let [registers, spilled, static_shared] = numbers[..] else { return Err(format!("`{said}` was kept")) };
    let block = BlockResources {
        threads: kernel.block.iter().product(),
        registers,
        shared_bytes: kernel.shared_bytes as u32 + static_shared,
    };
    Ok(Used {
        schedule: schedule.name(),
        registers,
        spilled,
        shared_bytes: block.shared_bytes,
        blocks: occupancy(sm, &block).map_err(|error| text(&error))?.blocks,
    })
}

#[test]
fn every_variant_is_assembled() {
    let Some((tools, known_version)) = nvidia_tools::toolchain("every_variant_is_assembled") else { return };
    let cases = cases();
    let version = format!("{} {ASSEMBLER_OPTIONS:?}", tools.assembler_version().unwrap());
    let kept = kept("ptxas", &version, &[tools.assembler().unwrap()]);
    let found = for_each(&cases, |case| SM.map(|sm| used(&tools, &kept, case, sm)));

    let columns = "schedule  registers  shared  blocks";
    let mut table = format!("{:31}  sm_80: {columns}  sm_90: {columns}\n", "variant, type, head dim");
    let mut failures = Failures::default();
    for (case, found) in cases.iter().zip(found) {
        let name = case.name();
        table += &format!("{name:31}");
        for (sm, used) in SM.into_iter().zip(found) {
            match used {
                Ok(Used { schedule, registers, spilled, shared_bytes, blocks }) => {
                    let what = format!("{name} sm_{sm}: {spilled} bytes spilled or on the stack");
                    failures.expect(&what, spilled == 0);
                    table += &format!("  {schedule:>15}  {registers:9}  {shared_bytes:6}  {blocks:6}");
                }
                Err(error) => failures.expect(&format!("{name} sm_{sm}: {error}"), false),
            }
        }
        table.push('\n');
    }
    failures.report();
    if !known_version {
        return eprintln!("every_variant_is_assembled: SKIPPED the table, which is of ptxas {}", nvidia_tools::VERSION);
    }
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(SNAPSHOTS);
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!("resources", table));
}

#[test]
fn what_ptxas_rejects_is_an_error() {
    let Some((tools, _)) = nvidia_tools::toolchain("what_ptxas_rejects_is_an_error") else { return };
    let case = &cases()[0];
    let text = case.attention.emit(Target::Ptx, &case.shape).unwrap();
    assert!(tools.assemble(&text).is_ok());
    let error = tools.assemble(&text.replacen("bar.sync", "bar.sink", 1)).unwrap_err().to_string();
    assert!(error.contains("ptxas failed") && error.contains("Unknown modifier '.sink'"), "{error}");
}

#[test]
fn every_variant_is_compiled_by_nvrtc() {
    let Some(nvrtc) = Nvrtc::load("every_variant_is_compiled_by_nvrtc") else { return };
    // What 9.0 has of its own is in f16.
    let cases = cases().into_iter().filter(|case| case.shape.qk_dim == 64).collect::<Vec<_>>();
    let kept = kept("nvrtc", "", &nvrtc.files());
    let found = for_each(&cases, |case| {
        let on: &[u32] = if case.shape.operands().element == Element::F16 { &SM } else { &SM[..1] };
        on.iter().map(|sm| compiled(&nvrtc, &kept, case, *sm)).collect::<Result<Vec<String>, String>>()
    });
    let mut failures = Failures::default();
    for (case, found) in cases.iter().zip(found) {
        let kernel = format!(".entry {}", case.attention.spec().name);
        let message = found.as_ref().err().cloned().unwrap_or_default();
        let right = found.is_ok_and(|texts| texts.iter().all(|ptx| ptx.contains(&kernel)));
        failures.expect(&format!("{}: {message}", case.name()), right);
    }
    failures.report();
}

/// The PTX that NVRTC makes of a kernel.
fn compiled(nvrtc: &Nvrtc, kept: &KeptOutputs, case: &Case, sm: u32) -> Result<String, String> {
    let model = DeviceModel::nvidia_sm(sm).ok_or("no such device")?;
    let text = case.attention.emit_for(Target::Cuda, &model, &case.shape).map_err(|error| error.to_string())?;
    let architecture = format!("sm_{sm}");
    let asked = format!("{}\n{text}", nvrtc.options(&architecture).join(" "));
    let compiled = kept.output(&asked, || nvrtc.compile(&text, &architecture));
    compiled.map_err(|error| format!("{architecture}: {error}"))
}

#[test]
fn what_nvrtc_rejects_is_an_error() {
    let Some(nvrtc) = Nvrtc::load("what_nvrtc_rejects_is_an_error") else { return };
    let kernel = |body: &str| nvrtc.compile(&format!("extern \"C\" __global__ void k(float* x) {{ {body} }}"), "sm_80");
    assert!(kernel("x[threadIdx.x] = 1.0f;").unwrap().contains(".target sm_80"));
    let error = kernel("y[0] = 1.0f;").unwrap_err();
    assert!(error.contains("identifier \"y\" is undefined"), "{error}");
}
