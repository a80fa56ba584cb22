//! Devices as data: what a kernel's text depends on of a device that is not here.
//!
//! A model holds limits and what the hardware can do, each number with its source. The sources, by the letters used below:
//!
//! - A: NVIDIA, CUDA Programming Guide, "Compute Capabilities", the tables of technical specifications,
//!   <https://docs.nvidia.com/cuda/cuda-programming-guide/05-appendices/compute-capabilities.html>
//! - B: NVIDIA, PTX ISA, "Matrix multiply-accumulate", <https://docs.nvidia.com/cuda/parallel-thread-execution/>
//! - C: AMD, "RDNA3 Instruction Set Architecture", sections 2 (wave size, LDS) and 7.9 (WMMA),
//!   <https://www.amd.com/content/dam/amd/en/documents/radeon-tech-docs/instruction-set-architectures/rdna3-shader-instruction-set-architecture-feb-2023_0.pdf>
//! - D: AMD, "HIP hardware features" and the properties that `hipGetDeviceProperties` gives for gfx1100,
//!   <https://rocm.docs.amd.com/projects/HIP/en/latest/reference/hardware_features.html>
//! - E: Apple, "Metal Feature Set Tables", the family Apple7, <https://developer.apple.com/metal/Metal-Feature-Set-Tables.pdf>
//! - F: W3C, WebGPU, "Limits", the default values, <https://www.w3.org/TR/webgpu/#limits>
//! - G: Khronos, "Vulkan Roadmap Milestones", 2022 and 2024, and the specification's "Required Limits",
//!   <https://docs.vulkan.org/spec/latest/appendices/roadmap.html>
//! - H: Intel, "Intel 64 and IA-32 Architectures Software Developer's Manual", volume 1, sections 14.1 and 15.1
//! - I: Arm, "Arm Architecture Reference Manual for A-profile", section B1.2
//! - K: what CubeCL 0.11.3 says of every device of that runtime

use crate::ir::Element;

/// What a model is a model of: it decides which targets it goes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Family {
    /// NVIDIA's GPUs of a compute capability: 80 is 8.0.
    Nvidia {
        /// Ten times the compute capability.
        sm: u32,
    },
    /// AMD's GPUs with the instructions of RDNA 3.
    Rdna3,
    /// Apple's GPUs.
    Apple,
    /// What every implementation of WebGPU has.
    WebGpu,
    /// What Vulkan has.
    Vulkan,
    /// A CPU.
    Cpu,
}

/// A product of small matrices that the hardware multiplies: `[m, k] × [k, n]`, accumulated in f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MatrixShape {
    /// The type of both factors.
    pub element: Element,
    /// Rows of the product.
    pub m: u32,
    /// Columns of the product.
    pub n: u32,
    /// Columns of the first factor.
    pub k: u32,
}

/// A device that is not here.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct DeviceModel {
    /// Its name: `ampere`, `webgpu`, …
    pub name: &'static str,
    /// What it is a model of.
    pub family: Family,
    /// The memory that the units of a cube share, in bytes.
    pub shared_bytes: usize,
    /// The most units of a cube.
    pub max_units: u32,
    /// The most units of a cube along each axis.
    pub max_cube_dim: [u32; 3],
    /// The most cubes of a launch along each axis.
    pub max_cube_count: [u32; 3],
    /// The most buffers of a kernel.
    pub max_bindings: u32,
    /// The fewest units of a plane; 1 where kernels may not use planes.
    pub plane_min: u32,
    /// The most units of a plane.
    pub plane_max: u32,
    /// The most elements of a vector.
    pub vector_width: usize,
    /// Bits of the widest load.
    pub load_bits: u32,
    /// Vector registers of a core, where it is a CPU.
    pub vector_registers: Option<u32>,
    /// Cores, where it is a CPU.
    pub cores: Option<u32>,
    /// Whether it computes with f16.
    pub has_f16: bool,
    /// Whether it computes with bf16.
    pub has_bf16: bool,
    /// Whether buffers may hold bytes.
    pub has_bytes: bool,
    /// The shapes of matrices that it multiplies, as every unit of a plane holds a part.
    pub matrices: Vec<MatrixShape>,
}

/// Shapes for f16 and bf16.
fn half_matrices(shapes: &[(u32, u32, u32)]) -> Vec<MatrixShape> {
    let of = |element| shapes.iter().map(move |&(m, n, k)| MatrixShape { element, m, n, k });
    of(Element::F16).chain(of(Element::Bf16)).collect()
}

impl DeviceModel {
    /// NVIDIA's A100: compute capability 8.0.
    pub fn ampere() -> DeviceModel {
        DeviceModel {
            name: "ampere",
            family: Family::Nvidia { sm: 80 },
            shared_bytes: 163 << 10, // A: the most for a block, to which it opts in
            ..DeviceModel::nvidia()
        }
    }

    /// NVIDIA's H100: compute capability 9.0.
    pub fn hopper() -> DeviceModel {
        DeviceModel {
            name: "hopper",
            family: Family::Nvidia { sm: 90 },
            shared_bytes: 227 << 10, // A
            ..DeviceModel::nvidia()
        }
    }

    /// What both have.
    fn nvidia() -> DeviceModel {
        DeviceModel {
            name: "",
            family: Family::Nvidia { sm: 80 },
            shared_bytes: 0,
            max_units: 1024,                                 // A
            max_cube_dim: [1024, 1024, 64],                  // A
            max_cube_count: [i32::MAX as u32, 65535, 65535], // A
            max_bindings: 1024,                              // K
            plane_min: 32,                                   // A
            plane_max: 32,                                   // A
            vector_width: 4,                                 // A: loads of 16 bytes
            load_bits: 128,                                  // A
            vector_registers: None,
            cores: None,
            has_f16: true,  // A
            has_bf16: true, // A: from 8.0 on
            has_bytes: true,
            matrices: half_matrices(&[(16, 16, 16), (32, 8, 16), (8, 32, 16)]), // B: wmma
        }
    }

    /// AMD's Radeon RX 7900: gfx1100.
    pub fn rdna3() -> DeviceModel {
        DeviceModel {
            name: "rdna3",
            family: Family::Rdna3,
            shared_bytes: 64 << 10,                          // C: a workgroup's part of the LDS
            max_units: 1024,                                 // D
            max_cube_dim: [1024, 1024, 1024],                // D
            max_cube_count: [i32::MAX as u32, 65535, 65535], // D
            max_bindings: 1024,                              // K
            plane_min: 32,                                   // C, and HIP compiles for waves of 32
            plane_max: 32,
            vector_width: 4, // C: loads of 16 bytes
            load_bits: 128,  // C
            vector_registers: None,
            cores: None,
            has_f16: true,  // C
            has_bf16: true, // C
            has_bytes: true,
            matrices: half_matrices(&[(16, 16, 16)]), // C: WMMA
        }
    }

    /// Apple's M1 and later: the family Apple7.
    pub fn apple() -> DeviceModel {
        DeviceModel {
            name: "apple",
            family: Family::Apple,
            shared_bytes: 32 << 10,                         // E: total threadgroup memory
            max_units: 1024,                                // E: threads per threadgroup
            max_cube_dim: [1024, 1024, 1024],               // E
            max_cube_count: [u32::MAX, u32::MAX, u32::MAX], // E gives no limit
            max_bindings: 31,                               // E: entries of the buffer argument table
            plane_min: 32,                                  // K: on Apple silicon
            plane_max: 32,
            vector_width: 4, // E: vectors of the shading language
            load_bits: 128,  // K
            vector_registers: None,
            cores: None,
            has_f16: true,  // E
            has_bf16: true, // E: Metal 3.1
            has_bytes: true,
            matrices: half_matrices(&[(8, 8, 8)]), // E: SIMD-group matrices
        }
    }

    /// A browser: WebGPU's default limits, with the optional feature `shader-f16`.
    pub fn webgpu() -> DeviceModel {
        DeviceModel {
            name: "webgpu",
            family: Family::WebGpu,
            shared_bytes: 16384,                   // F: maxComputeWorkgroupStorageSize
            max_units: 256,                        // F: maxComputeInvocationsPerWorkgroup
            max_cube_dim: [256, 256, 64],          // F: maxComputeWorkgroupSizeX, Y, Z
            max_cube_count: [65535, 65535, 65535], // F: maxComputeWorkgroupsPerDimension
            max_bindings: 8,                       // F: maxStorageBuffersPerShaderStage
            plane_min: 1,                          // F: subgroups are an optional feature
            plane_max: 1,
            vector_width: 4, // vec4
            load_bits: 128,  // K
            vector_registers: None,
            cores: None,
            has_f16: true, // F: an optional feature, which text in f16 asks for
            has_bf16: false,
            has_bytes: false,
            matrices: Vec::new(),
        }
    }

    /// A GPU with Vulkan 1.3 and what the roadmap of 2024 asks for.
    pub fn vulkan() -> DeviceModel {
        DeviceModel {
            name: "vulkan",
            family: Family::Vulkan,
            shared_bytes: 32 << 10,       // G leaves it at 16 KiB; all desktop GPUs have 32 KiB
            max_units: 256,               // G: maxComputeWorkGroupInvocations, 2022
            max_cube_dim: [256, 256, 64], // G: maxComputeWorkGroupSize, 2022
            max_cube_count: [65535, 65535, 65535], // G: maxComputeWorkGroupCount
            max_bindings: 30,             // G: maxPerStageDescriptorStorageBuffers, 2022
            plane_min: 32,                // of NVIDIA's and AMD's; Intel's have 8 to 32
            plane_max: 64,
            vector_width: 4, // vectors of SPIR-V have at most 4
            load_bits: 128,  // K
            vector_registers: None,
            cores: None,
            has_f16: true,   // G: shaderFloat16, 2024
            has_bf16: false, // an extension, and only to convert
            has_bytes: true, // G: storageBuffer8BitAccess and shaderInt8, 2024
            matrices: half_matrices(&[(16, 16, 16)])
                .into_iter()
                .filter(|shape| shape.element == Element::F16)
                .collect(),
        }
    }

    /// A core of x86-64 with AVX-512.
    pub fn cpu_avx512() -> DeviceModel {
        DeviceModel { name: "cpu_avx512", ..DeviceModel::cpu(512, 32) } // H
    }

    /// A core of x86-64 with AVX2.
    pub fn cpu_avx2() -> DeviceModel {
        DeviceModel { name: "cpu_avx2", ..DeviceModel::cpu(256, 16) } // H
    }

    /// A core of 64-bit ARM.
    pub fn cpu_neon() -> DeviceModel {
        DeviceModel { name: "cpu_neon", ..DeviceModel::cpu(128, 32) } // I
    }

    /// A CPU whose cores have so many registers of so many bits. There are 8 cores: their number is only the size of a launch.
    fn cpu(bits: u32, registers: u32) -> DeviceModel {
        DeviceModel {
            name: "",
            family: Family::Cpu,
            shared_bytes: 32 << 10, // K: the first-level cache
            max_units: 8,
            max_cube_dim: [8, 8, 8],
            max_cube_count: [u32::MAX, u32::MAX, u32::MAX], // K
            max_bindings: u32::MAX,                         // K
            plane_min: 1,                                   // K
            plane_max: 1,
            vector_width: 64,
            load_bits: bits,
            vector_registers: Some(registers),
            cores: Some(8),
            has_f16: true,  // K: computed in f32 where the core has no f16
            has_bf16: true, // K
            has_bytes: true,
            matrices: Vec::new(),
        }
    }

    /// The model for NVIDIA's compute capability `sm`, ten times it: 80 or 90.
    pub fn nvidia_sm(sm: u32) -> Option<DeviceModel> {
        [DeviceModel::ampere(), DeviceModel::hopper()].into_iter().find(|model| model.family == Family::Nvidia { sm })
    }

    /// Whether kernels may use planes.
    pub fn has_planes(&self) -> bool {
        self.plane_min > 1
    }

    /// Whether queries, keys and values may be of `element`.
    pub fn supports(&self, element: Element) -> bool {
        match element {
            Element::F32 => true,
            Element::F16 => self.has_f16,
            Element::Bf16 => self.has_bf16,
        }
    }
}
