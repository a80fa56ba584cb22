//! What a device can do, as data, found when the device is opened. Nothing else in this crate asks who a device or its driver is.

#[cfg(feature = "wgpu")]
use crate::adapter;
use cubecl::CubeElement;
#[cfg(feature = "wgpu")]
use cubecl::RuntimeId;
use cubecl::client::Client;
#[cfg(feature = "wgpu")]
use cubecl::device::WgpuDeviceKind;
use cubecl::ir::DeviceProperties;
use cubecl::ir::features::Plane;

/// What runs kernels in WGSL, also where CubeCL would choose another language.
#[cfg(feature = "wgpu")]
pub(crate) type WgslServer = cubecl::wgpu::WgpuServer<cubecl::wgpu::WgslCompiler>;

/// The language in which a wgpu device is given its kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ShaderLanguage {
    /// WebGPU's, which every driver takes.
    Wgsl,
    /// Vulkan's (feature `vulkan`).
    Spirv,
}

/// What a device's planes are good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DevicePlanes {
    /// There are none, or nothing is known of them.
    Unknown,
    /// Reductions, and matrices where all have one size.
    Sized {
        /// The fewest units of one.
        least: usize,
        /// The most.
        most: usize,
    },
    /// Sharing what is read from memory too: each has so many units, and a shuffle costs far less than a load. Drivers that run on
    /// the CPU load each unit's elements one by one, and shuffle a plane's in one instruction.
    Cheap(usize),
}

impl DevicePlanes {
    /// What CubeCL says.
    pub fn of(properties: &DeviceProperties) -> DevicePlanes {
        let (least, most) = (properties.hardware.plane_size_min, properties.hardware.plane_size_max);
        if properties.features.plane.contains(Plane::Ops) {
            DevicePlanes::Sized { least: least as usize, most: most as usize }
        } else {
            DevicePlanes::Unknown
        }
    }

    /// The units that every plane has, at least.
    pub(crate) fn least(self) -> usize {
        match self {
            DevicePlanes::Unknown => 1,
            DevicePlanes::Sized { least, .. } => least,
            DevicePlanes::Cheap(size) => size,
        }
    }
}

/// What a device can do that launches depend on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Capabilities {
    /// What wgpu gives the driver; `None` for other runtimes, and for Metal's own language.
    pub language: Option<ShaderLanguage>,
    /// Whether it has elements of f16.
    pub f16: bool,
    /// Whether it has elements of bf16.
    pub bf16: bool,
    /// Whether it stores bytes.
    pub bytes: bool,
    /// The most bytes that a buffer of a kernel may have.
    pub largest_buffer: u64,
    /// The most buffers that a kernel may take; `None` where it takes addresses.
    pub most_buffers: Option<usize>,
    /// The iterations after which the driver ends the loops of an invocation, all of them together, if it does.
    pub loop_iterations: Option<u64>,
    /// Whether there are planes that CubeCL says nothing of: those of drivers that run on the CPU.
    pub silent_planes: bool,
}

impl Capabilities {
    /// The capabilities of the device of `client`.
    pub fn of(client: &Client) -> Capabilities {
        let properties = client.properties();
        let language = language(client);
        let wgsl = language == Some(ShaderLanguage::Wgsl);
        // Where a build has both languages, CubeCL's properties of a Vulkan device are those of SPIR-V, also where it is given WGSL.
        let adapter = AdapterLimits::of(client);
        let allocated = properties.memory.max_page_size;
        let largest_binding = adapter.largest_binding.filter(|_| wgsl);
        // One of the buffers that CubeCL counts holds a launch's numbers.
        let most_buffers = properties.hardware.max_bindings as usize;
        Capabilities {
            language,
            f16: (!wgsl || adapter.f16) && properties.supports_type(half::f16::cube_type()),
            bf16: !wgsl && properties.supports_type(half::bf16::cube_type()),
            bytes: !wgsl && properties.supports_type(u8::cube_type()),
            largest_buffer: largest_binding.map_or(allocated, |bound| bound.min(allocated)),
            most_buffers: (language != Some(ShaderLanguage::Spirv)).then_some(most_buffers),
            loop_iterations: loop_iterations(client),
            silent_planes: adapter.silent_planes,
        }
    }
}

/// What Vulkan says of a device of wgpu's, and CubeCL does not.
struct AdapterLimits {
    /// Whether WGSL has f16.
    f16: bool,
    /// The most bytes that a kernel in WGSL may bind as one buffer.
    largest_binding: Option<u64>,
    silent_planes: bool,
}

impl AdapterLimits {
    #[cfg(feature = "wgpu")]
    fn of(client: &Client) -> AdapterLimits {
        let kind = wgpu_kind(client);
        let adapter = kind.as_ref().and_then(adapter::find);
        AdapterLimits {
            f16: adapter.is_none_or(|adapter| adapter.f16),
            largest_binding: adapter.map(|adapter| adapter.largest_binding),
            silent_planes: kind == Some(WgpuDeviceKind::Cpu) && adapter.is_some_and(|adapter| adapter.subgroups),
        }
    }

    #[cfg(not(feature = "wgpu"))]
    fn of(_: &Client) -> AdapterLimits {
        AdapterLimits { f16: true, largest_binding: None, silent_planes: false }
    }
}

/// Mesa's llvmpipe counts down from a number at the end of every iteration of whatever loop, and leaves all loops when there is
/// nothing left (`LP_MAX_TGSI_LOOP_ITERATIONS`, in version 26 as in 22). It tells nobody, so that its name must.
fn loop_iterations(client: &Client) -> Option<u64> {
    let driver = &client.properties().identity.name;
    (client.name().starts_with("wgpu") && driver.starts_with("llvmpipe")).then_some(65_535)
}

/// The language that `client` compiles to, if it is wgpu's.
fn language(client: &Client) -> Option<ShaderLanguage> {
    #[cfg(feature = "wgpu")]
    {
        // Its name is that of the language that wgpu would choose, also where WGSL was asked for.
        if client.service_id().service == std::any::TypeId::of::<WgslServer>() {
            return Some(ShaderLanguage::Wgsl);
        }
    }
    match client.name() {
        "wgpu<wgsl>" => Some(ShaderLanguage::Wgsl),
        "wgpu<spirv>" => Some(ShaderLanguage::Spirv),
        _ => None,
    }
}

/// Which of wgpu's devices `client`'s is, if it is one.
#[cfg(feature = "wgpu")]
fn wgpu_kind(client: &Client) -> Option<WgpuDeviceKind> {
    if !client.name().starts_with("wgpu") {
        return None;
    }
    match cubecl::Device::from_id(RuntimeId::Wgpu.stamp(client.service_id().device)) {
        cubecl::Device::Wgpu(device) => Some(device.kind),
        _ => None,
    }
}
