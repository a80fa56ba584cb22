//! What Vulkan says of a device of wgpu's, where CubeCL's client does not.

use cubecl::device::WgpuDeviceKind;
use cubecl::future::block_on;
use cubecl::wgpu::wgpu::{Backends, DeviceType, Features, Instance, InstanceDescriptor};
use std::sync::OnceLock;

/// A Vulkan driver's device.
pub struct Adapter {
    kind: DeviceType,
    /// The device and its driver, as they call themselves.
    pub name: String,
    /// Whether shaders may lay out shared memory themselves (VK_KHR_workgroup_memory_explicit_layout): without it what
    /// cubecl-spirv 0.11.3 makes of shared memory is not SPIR-V (`tests/tests/spirv_shared_memory.rs`). `None` where this build
    /// has no SPIR-V, and it does not matter.
    pub explicit_workgroup_layout: Option<bool>,
    /// Whether WGSL may use subgroup operations.
    pub subgroups: bool,
    /// Whether WGSL may use and store f16.
    pub f16: bool,
    /// The most bytes that a kernel in WGSL may bind as one buffer.
    pub largest_binding: u64,
}

/// The Vulkan device that CubeCL means by `kind`, if there is one.
pub fn find(kind: &WgpuDeviceKind) -> Option<&'static Adapter> {
    let (kind, index) = match *kind {
        WgpuDeviceKind::DiscreteGpu(index) => (DeviceType::DiscreteGpu, index),
        WgpuDeviceKind::IntegratedGpu(index) => (DeviceType::IntegratedGpu, index),
        WgpuDeviceKind::VirtualGpu(index) => (DeviceType::VirtualGpu, index),
        WgpuDeviceKind::Other(index) => (DeviceType::Other, index),
        WgpuDeviceKind::Cpu => (DeviceType::Cpu, 0),
        WgpuDeviceKind::DefaultDevice | WgpuDeviceKind::Existing(_) => return None,
    };
    adapters().iter().filter(|adapter| adapter.kind == kind).nth(index)
}

fn adapters() -> &'static [Adapter] {
    // Vulkan's loader crashes where instances come and go on several threads at once. This one is made first and never goes.
    static FOUND: OnceLock<(Instance, Vec<Adapter>)> = OnceLock::new();
    let (_, adapters) = FOUND.get_or_init(|| {
        silence_device_select();
        let instance = Instance::new(InstanceDescriptor {
            backends: Backends::VULKAN,
            ..InstanceDescriptor::new_without_display_handle()
        });
        let found = block_on(instance.enumerate_adapters(Backends::VULKAN));
        let adapters = found.iter().map(|adapter| {
            let (info, features, limits) = (adapter.get_info(), adapter.features(), adapter.limits());
            Adapter {
                kind: info.device_type,
                name: format!("{} ({})", info.name, info.driver_info),
                explicit_workgroup_layout: explicit_workgroup_layout(adapter),
                subgroups: features.contains(Features::SUBGROUP),
                f16: features.contains(Features::SHADER_F16),
                // CubeCL asks for a device with all that the adapter has.
                largest_binding: limits.max_storage_buffer_binding_size.min(limits.max_buffer_size),
            }
        });
        let adapters = adapters.collect();
        (instance, adapters)
    });
    adapters
}

/// Keeps Mesa's layer `VK_LAYER_MESA_device_select` quiet. Whenever a program lists Vulkan's devices, the layer looks for a Wayland
/// display, since wgpu asks every instance for Wayland's surfaces, also one that never draws. Where XDG_RUNTIME_DIR is not set,
/// libwayland then prints `error: XDG_RUNTIME_DIR is invalid or not set in the environment.`, which is no error of the program's.
///
/// Neither wgpu nor CubeCL has an option for it, so the variable is set, to a directory without a display. A process may change
/// its environment only while it has one thread. With more, the lines are explained in the log instead.
#[cfg(target_os = "linux")]
fn silence_device_select() {
    if std::env::var_os("XDG_RUNTIME_DIR").is_some() {
        return;
    }
    let threads = std::fs::read_dir("/proc/self/task").map(Iterator::count);
    if threads.is_ok_and(|threads| threads == 1) {
        // SAFETY: there is no other thread that could read or write the environment, and only this one could start one.
        unsafe { std::env::set_var("XDG_RUNTIME_DIR", "/tmp") };
    } else {
        log::info!(
            "lines that say `XDG_RUNTIME_DIR is invalid` come from a Vulkan layer of Mesa's, and are no failure: set that \
             variable to any directory to be rid of them"
        );
    }
}

#[cfg(not(target_os = "linux"))]
fn silence_device_select() {}

#[cfg(feature = "vulkan")]
fn explicit_workgroup_layout(adapter: &cubecl::wgpu::wgpu::Adapter) -> Option<bool> {
    // SAFETY: the adapter is only looked at.
    let vulkan = unsafe { adapter.as_hal::<cubecl::wgpu::wgpu::hal::api::Vulkan>() }?;
    // A driver that has the extension has the feature of its name: the others that it brings are optional.
    Some(vulkan.physical_device_capabilities().supports_extension(c"VK_KHR_workgroup_memory_explicit_layout"))
}

#[cfg(not(feature = "vulkan"))]
fn explicit_workgroup_layout(_: &cubecl::wgpu::wgpu::Adapter) -> Option<bool> {
    None
}
