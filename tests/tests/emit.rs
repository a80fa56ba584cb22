//! Kernels as text, without a device: for every target there is a text for every variant, the same twice, and an error that names the
//! target where there can be none. `INSTA_UPDATE=always cargo test --workspace --test emit` writes the snapshots anew; read their diff.

use purview::ir::Element;
use purview::schedule::{CpuSchedule, CubeSchedule, FewQueries, Planes, Products, SMALL_CUBE, Schedule};
use purview::{AnyAttention, Arguments, DeviceModel, Error, Shape, Target};
use purview_examples::{GALLERY, causal::causal, linear_attention::linear_attention};
use purview_tests::devices;

const SNAPSHOTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/snapshots/kernels");

fn shape(element: Element) -> Shape {
    Shape::new(1, 2, 64, 16).with_element(element)
}

fn attentions(shape: &Shape) -> Vec<AnyAttention> {
    let arguments = Arguments::new(devices::cpu(), shape.clone());
    GALLERY.iter().map(|variant| (variant.make)(&arguments).unwrap()).collect()
}

/// Every variant on `target`, in f32 twice, and in each of `more` types.
fn every_variant(target: Target, more: &[Element]) {
    for attention in attentions(&shape(Element::F32)) {
        let name = &attention.spec().name;
        let text = |element| match attention.emit(target, &shape(element)) {
            Ok(text) => text,
            Err(error) => panic!("{name} in {}: {error}", element.name()),
        };
        let first = text(Element::F32);
        assert!(first.starts_with(target.comment()), "{name} for {target} begins with {:?}", first.lines().next());
        let body: String = first.lines().filter(|line| !line.starts_with(target.comment())).collect();
        assert!(
            body.contains(name) && !body.contains("attention_c"),
            "the kernel of {name} for {target} has another name"
        );
        assert!(first.is_ascii(), "{name} for {target} is not ASCII, which PTX must be");
        assert!(first == text(Element::F32), "{name} for {target} is not the same twice");
        for element in more {
            assert!(first != text(*element), "{name} for {target} is the same in {}", element.name());
        }
    }
}

#[test]
fn every_variant_as_wgsl() {
    every_variant(Target::Wgsl, &[Element::F16]);
}

#[test]
fn every_variant_as_spirv() {
    every_variant(Target::Spirv, &[Element::F16]);
}

#[test]
fn every_variant_as_cuda() {
    every_variant(Target::Cuda, &[Element::F16, Element::Bf16]);
}

/// In a process of its own that finds no CUDA toolkit, also where there is one.
#[test]
fn every_variant_as_ptx() {
    const NOWHERE: &str = "/no/cuda/toolkit";
    if std::env::var_os("CUDA_PATH").is_some_and(|path| path == NOWHERE) {
        return every_variant(Target::Ptx, &[Element::F16, Element::Bf16]);
    }
    let mut process = std::process::Command::new(std::env::current_exe().unwrap());
    let process = process.args(["--exact", "every_variant_as_ptx", "--nocapture"]).env("CUDA_PATH", NOWHERE);
    let output = process.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn every_variant_as_hip() {
    every_variant(Target::Hip, &[Element::F16, Element::Bf16]);
}

#[test]
fn every_variant_as_msl() {
    every_variant(Target::Msl, &[Element::F16, Element::Bf16]);
}

#[test]
fn every_variant_as_cpu() {
    every_variant(Target::Cpu, &[Element::F16, Element::Bf16]);
}

/// The bytes of a name in a module.
fn has_name(words: &[u32], name: &str) -> bool {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    bytes.windows(name.len() + 1).any(|window| window.strip_suffix(&[0]) == Some(name.as_bytes()))
}

#[test]
fn spirv_comes_as_a_module_too() {
    let kernel = |target: Target| causal().kernel_text(target, &target.default_model(), &shape(Element::F32)).unwrap();
    let words = kernel(Target::Spirv).words.unwrap();
    assert_eq!(words[0], 0x0723_0203, "SPIR-V's magic number");
    assert!(has_name(&words, "causal"), "the entry point is named after the attention");
    assert_eq!(kernel(Target::Wgsl).words, None);
}

#[test]
fn ptx_is_for_the_compute_capability() {
    for (model, sm) in [(DeviceModel::ampere(), "sm_80"), (DeviceModel::hopper(), "sm_90")] {
        let text = causal().emit_for(Target::Ptx, &model, &shape(Element::F32)).unwrap();
        assert!(text.contains(&format!(".target {sm}")), "{sm}");
        assert!(text.contains("ex2.approx.ftz.f32"), "{sm} has another exponential");
    }
}

#[track_caller]
fn fails(result: Result<String, Error>, message: &str) {
    assert_eq!(result.unwrap_err().to_string(), message);
}

#[test]
fn what_a_target_cannot_express_is_an_error_that_names_it() {
    let shape = shape(Element::F32);
    fails(
        causal().emit_for(Target::Ptx, &DeviceModel::apple(), &shape),
        "no text for the target `ptx`: `apple` does not run it",
    );
    fails(
        causal().emit_for(Target::Cpu, &DeviceModel::hopper(), &shape),
        "no text for the target `cpu`: `hopper` does not run it",
    );
    let bf16 = shape.clone().with_element(Element::Bf16);
    fails(causal().emit(Target::Wgsl, &bf16), "no text for the target `wgsl`: `webgpu` has no bf16 there");
    fails(causal().emit(Target::Spirv, &bf16), "no text for the target `spirv`: `vulkan` has no bf16 there");
    let on_ampere = causal().emit_for(Target::Wgsl, &DeviceModel::ampere(), &bf16);
    fails(on_ampere, "no text for the target `wgsl`: `ampere` has no bf16 there");
    let cpu = causal().with_schedule(Schedule::Cpu(TINY_CPU));
    fails(cpu.emit(Target::Wgsl, &shape), "no text for the target `wgsl`: it has no kernel with the schedule `cpu`");
    let cube = causal().with_schedule(Schedule::Cube(TINY_CUBE));
    fails(cube.emit(Target::Cpu, &shape), "no text for the target `cpu`: it has no kernel with the schedule `cube`");
}

#[test]
fn every_head_dim_has_a_schedule() {
    let models = [
        (Target::Wgsl, DeviceModel::webgpu()),
        (Target::Spirv, DeviceModel::vulkan()),
        (Target::Ptx, DeviceModel::ampere()),
        (Target::Cuda, DeviceModel::hopper()),
        (Target::Hip, DeviceModel::rdna3()),
        (Target::Msl, DeviceModel::apple()),
        (Target::Cpu, DeviceModel::cpu_neon()),
    ];
    for (target, model) in models {
        for (qk_dim, v_dim) in [(1, 1), (16, 16), (64, 64), (96, 33), (128, 128), (256, 16), (16, 256), (256, 256)] {
            for element in [Element::F32, Element::F16] {
                let shape = Shape::new(1, 2, 64, qk_dim).with_v_dim(v_dim).with_element(element);
                let schedule = AnyAttention::from(causal()).schedule_for(target, &model, &shape);
                let what = format!("{target} {qk_dim}/{v_dim} {}", element.name());
                let schedule = schedule.unwrap_or_else(|error| panic!("{what}: {error}"));
                let Schedule::Cube(cube) = schedule else { continue };
                assert!(cube.shared_bytes(&shape.operands()) <= model.shared_bytes, "{what}: {schedule}");
                let matrices = element == Element::F16 && ![Target::Wgsl, Target::Spirv].contains(&target);
                if qk_dim == 64 {
                    assert_eq!(matches!(cube.products, Products::Matrices { .. }), matrices, "{what}: {schedule}");
                }
            }
        }
    }
}

#[test]
fn vectors_along_the_head_dims_fit_them() {
    let few = FewQueries { along_head_dim: 4, ..FewQueries::default() };
    let schedule = Schedule::Cpu(CpuSchedule { few, ..CpuSchedule::new(8, 1, 32, 4) });
    let text = |head_dim| causal().with_schedule(schedule).emit(Target::Cpu, &Shape::new(1, 1, 4, head_dim));
    assert!(text(16).is_ok());
    let reason = "vectors along the head dims take keys and values in whole vectors of 8 elements";
    fails(text(12), &format!("the schedule {schedule} does not fit: {reason}"));
}

#[test]
fn only_bounded_weights_are_multiplied_by_matrices() {
    let products = Products::Matrices { m: 8, n: 8, k: 8, plane: 32 };
    let schedule = Schedule::Cube(CubeSchedule { unit_rows: 8, products, ..SMALL_CUBE });
    let shape = shape(Element::F16);
    causal().with_schedule(schedule).emit(Target::Msl, &shape).unwrap();
    let message = format!(
        "the schedule {schedule} does not fit: weights that may be greater than 1, as these, are not multiplied by matrices"
    );
    fails(linear_attention().with_schedule(schedule).emit(Target::Msl, &shape), &message);
}

/// The shared memory that a compiler finds is what schedules are chosen by.
#[test]
fn shared_memory_is_what_the_schedule_says() {
    for element in [Element::F32, Element::F16] {
        for (qk_dim, v_dim) in [(64, 64), (20, 36)] {
            let shape = shape(element).with_v_dim(v_dim);
            let shape = Shape { qk_dim, ..shape };
            let attention = AnyAttention::from(causal());
            for target in [Target::Cuda, Target::Hip, Target::Msl, Target::Ptx] {
                let schedule = attention.schedule_for(target, &target.default_model(), &shape).unwrap();
                let text = attention.emit(target, &shape).unwrap();
                let launch = text.lines().find(|line| line.contains(" launch grid ")).unwrap();
                let bytes = match schedule {
                    Schedule::Cube(cube) => cube.shared_bytes(&shape.operands()),
                    Schedule::Mma(mma) => mma.shared_bytes(&shape.operands()),
                    Schedule::Cpu(_) => panic!("{target} has {schedule}"),
                };
                assert!(launch.ends_with(&format!(" shared {bytes} bytes")), "{target} {element:?}: {bytes}, {launch}");
            }
        }
    }
}

/// The smallest that show everything.
const TINY_CUBE: CubeSchedule = CubeSchedule {
    unit_rows: 2,
    unit_columns: 2,
    rows: 4,
    keys: 4,
    chunk: 8,
    planes: Planes::Unused,
    products: Products::Units,
};
const TINY_CPU: CpuSchedule = CpuSchedule::new(4, 2, 8, 2);

#[test]
fn kernels_to_read() {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(SNAPSHOTS);
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    let shape = shape(Element::F32);
    settings.bind(|| {
        for attention in attentions(&shape) {
            let name = attention.spec().name.clone();
            if !["causal", "sliding_window", "alibi_causal", "document_causal", "global_and_local"].contains(&&*name) {
                continue;
            }
            let cube = attention.clone().with_schedule(Schedule::Cube(TINY_CUBE));
            insta::assert_snapshot!(format!("{name}.program"), cube.program(&shape).unwrap().to_string());
            // HIP's text is CUDA's but for some names.
            for target in Target::ALL.into_iter().filter(|target| *target != Target::Hip) {
                let attention = match target {
                    Target::Cpu => attention.clone().with_schedule(Schedule::Cpu(TINY_CPU)),
                    _ => cube.clone(),
                };
                insta::assert_snapshot!(format!("{name}.{target}"), attention.emit(target, &shape).unwrap());
            }
        }
    });
}
