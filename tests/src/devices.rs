//! The devices that tests run on.

use purview::Device;

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
