//! What is found out about wgpu's devices: the language of their kernels and the size of their planes.

use purview::{Device, ShaderLanguage};
use purview_tests::devices;

#[test]
fn planes() {
    let Some(device) = devices::wgpu("planes") else { return };
    for language in [ShaderLanguage::Wgsl, ShaderLanguage::Spirv] {
        let device = Device::wgpu_with(language).unwrap();
        println!("{} {:?}", device.name(), device.plane_size());
    }
    println!("{device:?} {:?} {:?}", device.shader_language(), device.plane_size());
    assert_eq!(device.without_planes().plane_size(), None);
    assert_eq!(devices::cpu().plane_size(), None);
}
