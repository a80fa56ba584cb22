//! The languages that kernels are written out in.

use crate::device_model::{DeviceModel, Family};
use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

/// A language that kernels are written out in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Target {
    /// WebGPU's shading language.
    Wgsl,
    /// Vulkan's modules, disassembled.
    Spirv,
    /// CUDA C++.
    Cuda,
    /// NVIDIA's virtual instructions, from LLVM.
    Ptx,
    /// HIP C++, for AMD's GPUs.
    Hip,
    /// Metal's shading language.
    Msl,
    /// LLVM's IR for the CPU, before LLVM optimises it.
    Cpu,
}

impl Target {
    /// All of them.
    pub const ALL: [Target; 7] =
        [Target::Wgsl, Target::Spirv, Target::Cuda, Target::Ptx, Target::Hip, Target::Msl, Target::Cpu];

    /// Its name: `wgsl`, `spirv`, `cuda`, `ptx`, `hip`, `msl`, `cpu`.
    pub fn name(self) -> &'static str {
        match self {
            Target::Wgsl => "wgsl",
            Target::Spirv => "spirv",
            Target::Cuda => "cuda",
            Target::Ptx => "ptx",
            Target::Hip => "hip",
            Target::Msl => "msl",
            Target::Cpu => "cpu",
        }
    }

    /// The device that text is for where none is named.
    pub fn default_model(self) -> DeviceModel {
        match self {
            Target::Wgsl => DeviceModel::webgpu(),
            Target::Spirv => DeviceModel::vulkan(),
            Target::Cuda | Target::Ptx => DeviceModel::ampere(),
            Target::Hip => DeviceModel::rdna3(),
            Target::Msl => DeviceModel::apple(),
            Target::Cpu => DeviceModel::cpu_avx512(),
        }
    }

    /// Whether `model` runs this language. WebGPU runs on every GPU, Vulkan on all but Apple's.
    pub fn runs_on(self, model: &DeviceModel) -> bool {
        match (self, model.family) {
            (_, Family::Cpu) => self == Target::Cpu,
            (Target::Cpu, _) => false,
            (Target::Wgsl, _) => true,
            (Target::Spirv, family) => !matches!(family, Family::Apple | Family::WebGpu),
            (Target::Cuda | Target::Ptx, family) => matches!(family, Family::Nvidia { .. }),
            (Target::Hip, family) => family == Family::Rdna3,
            (Target::Msl, family) => family == Family::Apple,
        }
    }

    /// What a comment to the end of the line begins with.
    pub fn comment(self) -> &'static str {
        match self {
            Target::Spirv | Target::Cpu => ";",
            Target::Wgsl | Target::Cuda | Target::Ptx | Target::Hip | Target::Msl => "//",
        }
    }
}

impl Display for Target {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A kernel as its target reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelText {
    /// The text, below a comment that says what it is. Of SPIR-V the disassembly.
    pub text: String,
    /// Of SPIR-V the module.
    pub words: Option<Vec<u32>>,
    /// The units of a cube (the threads of a block) along each axis.
    pub block: [u32; 3],
    /// The shared memory of a cube, in bytes: as the target's compiler says, or else as the schedule does.
    pub shared_bytes: usize,
}

/// No target has this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no target, expected wgsl, spirv, cuda, ptx, hip, msl or cpu")]
pub struct UnknownTarget(String);

impl FromStr for Target {
    type Err = UnknownTarget;

    fn from_str(name: &str) -> Result<Target, UnknownTarget> {
        Target::ALL.into_iter().find(|target| target.name() == name).ok_or_else(|| UnknownTarget(name.into()))
    }
}
