//! What is found out about wgpu's devices: the language of their kernels, which the log explains, and the size of their planes.
//! A process has one logger, so this file is a test of its own.

use log::{Level, LevelFilter, Log, Metadata, Record};
use purview::ir::Element;
use purview::schedule::DevicePlanes;
use purview::{Device, ShaderLanguage};
use purview_tests::devices;
use std::sync::Mutex;

struct Kept(Mutex<Vec<(Level, String)>>);

impl Log for Kept {
    fn enabled(&self, _: &Metadata) -> bool {
        true
    }

    fn log(&self, record: &Record) {
        if record.target() == "purview::device" {
            self.0.lock().unwrap().push((record.level(), record.args().to_string()));
        }
    }

    fn flush(&self) {}
}

static LOG: Kept = Kept(Mutex::new(Vec::new()));

#[test]
fn wgpu_devices() {
    log::set_logger(&LOG).unwrap();
    log::set_max_level(LevelFilter::Warn);
    let Some(default) = devices::wgpu("wgpu_devices") else { return };
    devices::wgpu("wgpu_devices");
    language_is_chosen_and_said_once(&default);
    languages_can_be_asked_for();
    wgsl_has_no_bf16();
    planes(&default);
    a_driver_on_the_cpu_is_not_the_best(&default);
}

fn language_is_chosen_and_said_once(default: &Device) {
    assert_eq!(default.name(), "wgpu");
    let logged = LOG.0.lock().unwrap();
    match (default.shader_language(), &logged[..]) {
        (Some(ShaderLanguage::Wgsl), [(Level::Warn, said)]) => {
            let (_, said) = said.split_once(" is given ").unwrap();
            assert_eq!(
                said,
                "WGSL, not SPIR-V: it lacks VK_KHR_workgroup_memory_explicit_layout, without which CubeCL's SPIR-V for shared \
                 memory is wrong"
            );
        }
        (Some(ShaderLanguage::Spirv) | None, []) => {}
        // A driver that is not Vulkan's.
        (Some(ShaderLanguage::Wgsl), []) => assert!(Device::wgpu_with(ShaderLanguage::Spirv).is_err()),
        other => panic!("{other:?}"),
    }
}

fn a_driver_on_the_cpu_is_not_the_best(default: &Device) {
    let on_the_cpu = matches!(default.planes(), DevicePlanes::Cheap(_));
    if on_the_cpu && Device::cuda(0).is_err() && Device::hip(0).is_err() {
        assert_eq!(Device::best().unwrap().name(), "cpu");
    }
}

fn languages_can_be_asked_for() {
    let wgsl = Device::named("wgpu-wgsl").unwrap();
    assert_eq!((wgsl.name(), wgsl.shader_language()), ("wgpu-wgsl", Some(ShaderLanguage::Wgsl)));
    match Device::named("wgpu-spirv") {
        Ok(spirv) => assert_eq!((spirv.name(), spirv.shader_language()), ("wgpu-spirv", Some(ShaderLanguage::Spirv))),
        Err(error) => println!("{error}"),
    }
    let again = Device::from_client(wgsl.client().clone());
    assert_eq!(again.shader_language(), Some(ShaderLanguage::Wgsl), "whatever CubeCL calls it: {}", again.name());
}

/// CubeCL's properties are those of SPIR-V also where WGSL is asked for.
fn wgsl_has_no_bf16() {
    let wgsl = Device::wgpu_with(ShaderLanguage::Wgsl).unwrap();
    assert!(wgsl.supports(Element::F32) && !wgsl.supports(Element::Bf16));
}

fn planes(default: &Device) {
    let planes = default.planes();
    println!("the planes of {default:?}: {planes:?}");
    assert_eq!(default.without_planes().planes(), DevicePlanes::Unknown);
    assert_eq!(default.planes(), planes, "only the other device is without");
    assert_eq!(devices::cpu().planes(), DevicePlanes::Unknown);
    // Where it is found through Vulkan, and not through OpenGL, where it has none.
    let vulkan = Device::wgpu_with(ShaderLanguage::Spirv).is_ok();
    if vulkan && default.client().properties().identity.name.contains("llvmpipe") {
        let sizes = [4, 8, 16].map(DevicePlanes::Cheap);
        assert!(sizes.contains(&planes), "lavapipe has planes, of which CubeCL says nothing: {planes:?}");
    }
}
