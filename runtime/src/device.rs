//! Where kernels run.

use crate::error::Error;
use cubecl::client::Client;
use cubecl::device::{DeviceUnavailable, WgpuDeviceKind};
use purview_compiler::ir::Element;
use std::fmt;

/// A device: where tensors live and kernels run. Cheap to clone.
#[derive(Clone)]
pub struct Device {
    name: String,
    client: Client,
}

impl Device {
    /// The best device of this build: CUDA, ROCm, a GPU through wgpu, the CPU, then a wgpu driver that runs on the CPU, of
    /// those whose feature is on and which the machine has.
    ///
    /// # Errors
    /// [`Error::NoDevice`] where there is none.
    pub fn best() -> Result<Device, Error> {
        Device::cuda(0).or_else(|_| Device::hip(0)).or_else(|_| Device::wgpu()).or_else(|_| Device::cpu()).map_err(
            |_| Error::NoDevice { wanted: "any".into(), reason: "turn on one of purview's device features".into() },
        )
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
    /// # Errors
    /// [`Error::NoDevice`] where the feature is off or the machine has no such device.
    pub fn wgpu() -> Result<Device, Error> {
        let device = wgpu_gpu().or_else(|_| cubecl::Device::wgpu(WgpuDeviceKind::Cpu));
        Device::open("wgpu", device)
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
        Device { name: client.name().to_string(), client }
    }

    /// The device named `cpu`, `wgpu`, `cuda` or `hip`.
    ///
    /// # Errors
    /// [`Error::NoDevice`] for another name, and as above.
    pub fn named(name: &str) -> Result<Device, Error> {
        match name {
            "cpu" => Device::cpu(),
            "wgpu" => Device::wgpu(),
            "cuda" => Device::cuda(0),
            "hip" => Device::hip(0),
            _ => Err(Error::NoDevice { wanted: name.into(), reason: "expected cpu, wgpu, cuda or hip".into() }),
        }
    }

    fn open(name: &str, device: Result<cubecl::Device, DeviceUnavailable>) -> Result<Device, Error> {
        match device {
            Ok(device) => Ok(Device { name: name.to_string(), client: device.client() }),
            Err(unavailable) => Err(Error::NoDevice { wanted: name.into(), reason: unavailable.to_string() }),
        }
    }

    /// Its name: `cpu`, `wgpu`, …
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The client through which cubecl allocates and launches.
    pub fn client(&self) -> &Client {
        &self.client
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
        use cubecl::CubeElement;
        let ty = match element {
            Element::F32 => return true,
            Element::F16 => half::f16::cube_type(),
            Element::Bf16 => half::bf16::cube_type(),
        };
        self.client.properties().supports_type(ty)
    }

    /// Whether the device stores bytes.
    pub(crate) fn has_bytes(&self) -> bool {
        use cubecl::CubeElement;
        self.client.properties().supports_type(u8::cube_type())
    }
}

/// A GPU through wgpu.
fn wgpu_gpu() -> Result<cubecl::Device, DeviceUnavailable> {
    cubecl::Device::wgpu(WgpuDeviceKind::DiscreteGpu(0))
        .or_else(|_| cubecl::Device::wgpu(WgpuDeviceKind::IntegratedGpu(0)))
        .or_else(|_| cubecl::Device::wgpu(WgpuDeviceKind::VirtualGpu(0)))
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Device({})", self.name)
    }
}
