//! The devices that tests run on.

use purview::schedule::DevicePlanes;
use purview::{Device, ShaderLanguage};

/// The CPU.
pub fn cpu() -> Device {
    Device::cpu().expect("the CPU is always there")
}

/// The wgpu device. Where there is none it is said out loud, and is an error on a machine whose environment has `CI=1`, which
/// must have one.
pub fn wgpu(test: &str) -> Option<Device> {
    match Device::wgpu() {
        Ok(device) => Some(device),
        Err(error) if std::env::var("CI").as_deref() == Ok("1") => panic!("{test}: {error}"),
        Err(error) => {
            eprintln!("{test}: SKIPPED on wgpu: {error}");
            None
        }
    }
}

/// A device and what it is used for, to be named in messages.
#[derive(Clone, Debug)]
pub struct Described {
    /// The device.
    pub device: Device,
    /// Its name, the language of its kernels, and whether they may use plane operations.
    pub what: String,
}

/// The wgpu device in every way that kernels for it differ: WGSL with plane operations and without, and the language it has by
/// default, where that is another (SPIR-V on a driver for which it is right, Metal's own). What is missing is said as for [`wgpu`].
pub fn wgpu_all(test: &str) -> Vec<Described> {
    let Some(default) = wgpu(test) else { return Vec::new() };
    let wgsl = Device::wgpu_with(ShaderLanguage::Wgsl).expect("every wgpu device takes WGSL");
    let mut all = Vec::new();
    match wgsl.planes() {
        DevicePlanes::Unknown => eprintln!("{test}: SKIPPED with planes on wgpu: {default:?} has none"),
        planes => all.push(Described { device: wgsl.clone(), what: format!("wgpu in WGSL, planes {planes:?}") }),
    }
    all.push(Described { device: wgsl.without_planes(), what: "wgpu in WGSL, no planes".into() });
    if default.shader_language() != Some(ShaderLanguage::Wgsl) {
        let language = default.shader_language().map_or("its own language".into(), |language| format!("{language:?}"));
        all.push(Described { device: default, what: format!("wgpu in {language}") });
    }
    all
}
