//! Where kernels run.

#[cfg(feature = "wgpu")]
use crate::adapter::{self, Adapter};
#[cfg(feature = "wgpu")]
use crate::capabilities::WgslServer;
use crate::capabilities::{Capabilities, DevicePlanes, ShaderLanguage};
use crate::dtype::DType;
use crate::error::Error;
use cubecl::RuntimeId;
use cubecl::client::Client;
use cubecl::device::{DeviceUnavailable, WgpuDeviceKind};
use purview_compiler::emit::planes::measure_plane_size;
use purview_compiler::ir::Element;
use std::fmt;
use std::sync::{Arc, OnceLock};

/// A device: where tensors live and kernels run. Cheap to clone.
#[derive(Clone)]
pub struct Device {
    name: String,
    client: Client,
    capabilities: Capabilities,
    /// Found when first asked for.
    planes: Arc<OnceLock<DevicePlanes>>,
}

impl Device {
    /// What [`Device::named`] knows.
    pub const NAMES: [&str; 6] = ["cpu", "wgpu", "wgpu-wgsl", "wgpu-spirv", "cuda", "hip"];

    /// The best device of this build: CUDA, ROCm, a GPU through wgpu, the CPU, then a wgpu driver that runs on the CPU, of
    /// those whose feature is on and which the machine has.
    ///
    /// # Errors
    /// [`Error::NoDevice`] where there is none.
    pub fn best() -> Result<Device, Error> {
        let reason = "turn on one of purview's device features: `cpu`, `wgpu`, `cuda`, `hip`";
        Device::cuda(0)
            .or_else(|_| Device::hip(0))
            .or_else(|_| find_gpu().map_err(|why| unavailable("wgpu", why)).and_then(Device::of_wgpu))
            .or_else(|_| Device::cpu())
            .or_else(|_| Device::wgpu())
            .map_err(|_| Error::NoDevice { wanted: "any".into(), reason: reason.into() })
    }

    /// The CPU (feature `cpu`).
    ///
    /// # Errors
    /// [`Error::NoDevice`] where the feature is off.
    pub fn cpu() -> Result<Device, Error> {
        Device::open("cpu", cubecl::Device::cpu())
    }

    /// The default wgpu device (feature `wgpu`): a GPU on Vulkan, Metal, Direct3D 12 or WebGPU, or else a driver that runs on
    /// the CPU.
    ///
    /// With the feature `vulkan` a Vulkan driver is given SPIR-V, unless it lacks VK_KHR_workgroup_memory_explicit_layout: what
    /// CubeCL 0.11.3 makes of shared memory there crashes the driver or computes something else. Such a driver is given WGSL,
    /// which the log says once, as a warning.
    ///
    /// # Errors
    /// [`Error::NoDevice`] where the feature is off or the machine has no such device.
    pub fn wgpu() -> Result<Device, Error> {
        find_wgpu("wgpu").and_then(Device::of_wgpu)
    }

    /// `device` of wgpu's, given its kernels in the language that is best for it.
    fn of_wgpu(device: cubecl::Device) -> Result<Device, Error> {
        #[cfg(feature = "wgpu")]
        if let Some(adapter) = adapter_of(&device).filter(|adapter| adapter.explicit_workgroup_layout == Some(false)) {
            static SAID: std::sync::Once = std::sync::Once::new();
            SAID.call_once(|| {
                log::warn!(
                    "{} is given WGSL, not SPIR-V: it lacks VK_KHR_workgroup_memory_explicit_layout, without which \
                     CubeCL's SPIR-V for shared memory is wrong",
                    adapter.name
                );
            });
            return wgsl_device("wgpu", &device);
        }
        Device::open("wgpu", Ok(device))
    }

    /// The default wgpu device, given its kernels in `language` even where that is not the best.
    ///
    /// # Errors
    /// [`Error::NoDevice`] as for [`Device::wgpu`], and where the build or the driver has no SPIR-V.
    pub fn wgpu_with(language: ShaderLanguage) -> Result<Device, Error> {
        let name = match language {
            ShaderLanguage::Wgsl => "wgpu-wgsl",
            ShaderLanguage::Spirv => "wgpu-spirv",
        };
        let device = find_wgpu(name)?;
        if language == ShaderLanguage::Wgsl {
            return wgsl_device(name, &device);
        }
        let no_device = |reason: &str| Err(Error::NoDevice { wanted: name.into(), reason: reason.into() });
        if cfg!(not(feature = "vulkan")) {
            return no_device("this build has no SPIR-V: turn on purview's feature `vulkan`");
        }
        let device = Device::open(name, Ok(device))?;
        match device.capabilities.language {
            Some(ShaderLanguage::Spirv) => Ok(device),
            _ => no_device("the driver is not Vulkan's, or too old for CubeCL's SPIR-V"),
        }
    }

    /// CUDA's device number `index` (feature `cuda`).
    ///
    /// # Errors
    /// [`Error::NoDevice`] where the feature is off or the machine has no such device.
    pub fn cuda(index: usize) -> Result<Device, Error> {
        Device::open("cuda", cubecl::Device::cuda(index))
    }

    /// ROCm's device number `index` (feature `hip`).
    ///
    /// # Errors
    /// [`Error::NoDevice`] where the feature is off or the machine has no such device.
    pub fn hip(index: usize) -> Result<Device, Error> {
        Device::open("hip", cubecl::Device::rocm(index))
    }

    /// The device of a client of cubecl's, for whoever has one already (burn's tensors know theirs).
    pub fn from_client(client: Client) -> Device {
        let name = client.name().to_string();
        Device::of(name, client)
    }

    /// The device of a name: one of [`Device::NAMES`].
    ///
    /// # Errors
    /// [`Error::NoDevice`] for another name, and as above.
    pub fn named(name: &str) -> Result<Device, Error> {
        match name {
            "cpu" => Device::cpu(),
            "wgpu" => Device::wgpu(),
            "wgpu-wgsl" => Device::wgpu_with(ShaderLanguage::Wgsl),
            "wgpu-spirv" => Device::wgpu_with(ShaderLanguage::Spirv),
            "cuda" => Device::cuda(0),
            "hip" => Device::hip(0),
            _ => {
                let [first @ .., last] = Device::NAMES;
                let reason = format!("expected {} or {last}", first.join(", "));
                Err(Error::NoDevice { wanted: name.into(), reason })
            }
        }
    }

    fn open(name: &str, device: Result<cubecl::Device, DeviceUnavailable>) -> Result<Device, Error> {
        device.map(|device| Device::of(name.to_string(), device.client())).map_err(|why| unavailable(name, why))
    }

    fn of(name: String, client: Client) -> Device {
        Device { name, capabilities: Capabilities::of(&client), client, planes: Arc::default() }
    }

    /// This device without plane operations, whatever it has. Its tensors are this device's.
    pub fn without_planes(&self) -> Device {
        Device { planes: Arc::new(OnceLock::from(DevicePlanes::Unknown)), ..self.clone() }
    }

    /// Its name: `cpu`, `wgpu`, …
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The client through which cubecl allocates and launches.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The language in which wgpu gives the driver kernels; `None` for devices of other runtimes, and for Metal's own language.
    pub fn shader_language(&self) -> Option<ShaderLanguage> {
        self.capabilities.language
    }

    /// What its planes (subgroups, warps) are good for.
    ///
    /// A driver that runs on the CPU is measured: CubeCL says nothing of its planes. This is done once, when first asked.
    pub fn planes(&self) -> DevicePlanes {
        *self.planes.get_or_init(|| {
            let size = if self.capabilities.silent_planes { measure_plane_size(&self.client) } else { None };
            size.map_or_else(|| DevicePlanes::of(self.client.properties()), DevicePlanes::Cheap)
        })
    }

    /// Waits until everything launched so far is done.
    ///
    /// # Errors
    /// [`Error::Execution`] where something launched failed.
    pub fn sync(&self) -> Result<(), Error> {
        cubecl::future::block_on(self.client.sync()).map_err(Error::execution)
    }

    /// Whether queries, keys and values may be of `element`.
    pub fn supports(&self, element: Element) -> bool {
        match element {
            Element::F32 => true,
            Element::F16 => self.capabilities.f16,
            Element::Bf16 => self.capabilities.bf16,
        }
    }

    /// Whether the device has elements of `dtype`.
    pub(crate) fn stores(&self, dtype: DType) -> bool {
        match dtype.element() {
            Some(element) => self.supports(element),
            None => dtype != DType::U8 || self.capabilities.bytes,
        }
    }

    /// What it can do.
    pub(crate) fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }
}

/// The default wgpu device, for a device to be called `name`.
fn find_wgpu(name: &str) -> Result<cubecl::Device, Error> {
    find_gpu().or_else(|_| cubecl::Device::wgpu(WgpuDeviceKind::Cpu)).map_err(|why| unavailable(name, why))
}

/// The first GPU that wgpu has.
fn find_gpu() -> Result<cubecl::Device, DeviceUnavailable> {
    // Before CubeCL makes and drops instances of its own, on whatever thread: see there.
    #[cfg(feature = "wgpu")]
    adapter::find(&WgpuDeviceKind::Cpu);
    cubecl::Device::wgpu(WgpuDeviceKind::DiscreteGpu(0))
        .or_else(|_| cubecl::Device::wgpu(WgpuDeviceKind::IntegratedGpu(0)))
        .or_else(|_| cubecl::Device::wgpu(WgpuDeviceKind::VirtualGpu(0)))
}

/// The error that there is no device of that name, and `why`.
fn unavailable(name: &str, why: DeviceUnavailable) -> Error {
    let reason = match why {
        DeviceUnavailable::NotLinked(runtime) => {
            let feature = match runtime {
                RuntimeId::Cpu => "cpu",
                RuntimeId::Wgpu => "wgpu",
                RuntimeId::Cuda => "cuda",
                RuntimeId::Hip => "hip",
                RuntimeId::Metal => "metal",
            };
            format!("turn on purview's feature `{feature}`")
        }
        DeviceUnavailable::NoSuchDevice { .. } => why.to_string(),
    };
    Error::NoDevice { wanted: name.into(), reason }
}

/// What Vulkan says of `device`.
#[cfg(feature = "wgpu")]
fn adapter_of(device: &cubecl::Device) -> Option<&'static Adapter> {
    match device {
        cubecl::Device::Wgpu(device) => adapter::find(&device.kind),
        _ => None,
    }
}

/// `device` of wgpu's, which is given WGSL.
#[cfg(feature = "wgpu")]
fn wgsl_device(name: &str, device: &cubecl::Device) -> Result<Device, Error> {
    let client = Client::load::<WgslServer>(RuntimeId::strip(device.to_id()));
    Ok(Device::of(name.to_string(), client))
}

#[cfg(not(feature = "wgpu"))]
fn wgsl_device(_: &str, _: &cubecl::Device) -> Result<Device, Error> {
    unreachable!("no device of wgpu's is found without its feature")
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Device({})", self.name)
    }
}
