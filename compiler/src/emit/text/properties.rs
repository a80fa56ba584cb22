//! A [`DeviceModel`] as CubeCL describes devices, as its runtime for such a device would.

use crate::device_model::{DeviceModel, Family};
use crate::ir::Element;
use crate::target::Target;
use cubecl::cmma::MatrixLayout;
use cubecl::ir::features::{AtomicUsage, Features, MmaConfig, Plane, TypeUsage};
use cubecl::ir::nvidia::SmArch;
use cubecl::ir::{
    AddressType, ContiguousElements, DeviceIdentity, DeviceProperties, ElemType, FloatKind, HardwareProperties,
    IntKind, MemoryDeviceProperties, MmaProperties, TargetProperties, Type, UIntKind,
};
use cubecl::{WgpuCompilationOptions, ir::amd::GfxArch};
use cubecl_cpp::cuda::arch::CudaArchitecture;
use cubecl_cpp::shared::{CompilationOptions, CppSupportedFeatures};
use cubecl_cpp::{cuda, hip};
use cubecl_llvm::PlironOptions;
use cubecl_llvm::nvptx::ptx_version::PtxVersion;
use cubecl_llvm::shared::lowered_features::{GpuTarget, restrict_features};

/// The CUDA driver that text is for: 12.8, whose PTX every newer one loads.
const CUDA_DRIVER: i32 = 12080;

/// What a device of `model` says of itself to a kernel for `target`.
pub fn device_properties(model: &DeviceModel, target: Target) -> DeviceProperties {
    let [x, y, z] = model.max_cube_count;
    let [dim_x, dim_y, dim_z] = model.max_cube_dim;
    let hardware = HardwareProperties {
        load_width: model.load_bits,
        vector_register_count: model.vector_registers,
        plane_size_min: model.plane_min,
        plane_size_max: model.plane_max,
        max_bindings: model.max_bindings,
        max_shared_memory_size: model.shared_bytes,
        max_cube_count: (x, y, z),
        max_units_per_cube: model.max_units,
        max_cube_dim: (dim_x, dim_y, dim_z),
        num_streaming_multiprocessors: None,
        num_tensor_cores: None,
        min_tensor_cores_dim: model.matrices.iter().flat_map(|shape| [shape.m, shape.n, shape.k]).min(),
        num_cpu_cores: model.cores,
        last_level_cache_size: None,
        max_vector_size: model.vector_width,
        cube_mma_reserved_shared_memory: 0,
    };
    let mut properties = DeviceProperties::new(
        Features::default(),
        MemoryDeviceProperties::new(1 << 31, 256),
        hardware,
        cubecl::profile::TimingMethod::System,
        DeviceIdentity { name: model.name.into(), fingerprint: fingerprint(model, target), physical: None },
    );
    match target {
        Target::Cuda | Target::Ptx | Target::Hip => {
            cubecl_cpp::register_supported_types(&mut properties);
            properties.features.memory_reinterpret = true;
            properties.features.alignment = true;
        }
        Target::Wgsl | Target::Spirv | Target::Msl | Target::Cpu => register_types(model, target, &mut properties),
    }
    if model.has_planes() {
        properties.features.plane.insert(Plane::Ops);
        if target != Target::Wgsl {
            properties.features.plane.insert(Plane::NonUniformControlFlow);
        }
    }
    register_matrices(model, target, &mut properties);
    properties
}

/// As a runtime says what it compiles for, by which kernels tell CUDA with LLVM from the others ([`crate::emit::math`]).
fn fingerprint(model: &DeviceModel, target: Target) -> String {
    match (target, model.family) {
        (Target::Ptx, Family::Nvidia { sm }) => format!("{}{sm}", crate::emit::math::NVPTX),
        _ => format!("{}_{}", target.name(), model.name),
    }
}

/// The types of a device whose runtime has no table of them that is public.
fn register_types(model: &DeviceModel, target: Target, properties: &mut DeviceProperties) {
    properties.register_address_type(AddressType::U32);
    let mut types = vec![
        ElemType::Index,
        ElemType::UInt(UIntKind::U32),
        ElemType::Int(IntKind::I32),
        ElemType::Float(FloatKind::F32),
        ElemType::Bool,
    ];
    if model.has_f16 {
        types.push(ElemType::Float(FloatKind::F16));
    }
    if model.has_bf16 {
        types.push(ElemType::Float(FloatKind::BF16));
    }
    if model.has_bytes && target != Target::Wgsl {
        types.push(ElemType::UInt(UIntKind::U8));
    }
    if target != Target::Wgsl {
        properties.register_address_type(AddressType::U64);
        types.extend([ElemType::UInt(UIntKind::U64), ElemType::Int(IntKind::I64)]);
    }
    for ty in types {
        properties.register_type_usage(ty, TypeUsage::all());
    }
    for ty in [ElemType::Int(IntKind::I32), ElemType::UInt(UIntKind::U32)] {
        properties.register_atomic_type_usage(Type::atomic(ty), AtomicUsage::all());
    }
}

/// The matrices: CUDA's and HIP's from CubeCL's tables, which say more than the model does, the others' from the model.
fn register_matrices(model: &DeviceModel, target: Target, properties: &mut DeviceProperties) {
    use cubecl_cpp::shared::{register_mma_features, register_wmma_features};
    match target {
        Target::Cuda | Target::Ptx => {
            let arch = cuda_architecture(model);
            register_wmma_features(cuda::mma::CudaCmmaCompiler::Cpp.supported_cmma_combinations(&arch), properties);
            register_mma_features(cuda::supported_mma_combinations(&arch), properties);
            for kind in [FloatKind::F16, FloatKind::BF16] {
                properties.features.matmul.ldmatrix.insert(ElemType::Float(kind));
            }
            properties.features.copy_async = true;
            if target == Target::Ptx {
                restrict_features(properties, GpuTarget::Nvptx);
            }
        }
        Target::Hip => {
            let arch = gfx().family();
            register_wmma_features(hip::mma::HipCmmaCompiler::RocWmma.supported_cmma_combinations(&arch), properties);
            register_mma_features(hip::supported_mma_combinations(&arch), properties);
        }
        Target::Spirv | Target::Msl => {
            for shape in &model.matrices {
                let element = match shape.element {
                    Element::F32 => ElemType::Float(FloatKind::F32),
                    Element::F16 => ElemType::Float(FloatKind::F16),
                    Element::Bf16 => ElemType::Float(FloatKind::BF16),
                };
                properties.features.matmul.cmma.insert(MmaConfig {
                    a_type: element,
                    b_type: element,
                    cd_type: ElemType::Float(FloatKind::F32),
                    m: shape.m,
                    n: shape.n,
                    k: shape.k,
                });
            }
        }
        // Their compilers have no matrices.
        Target::Wgsl | Target::Cpu => {}
    }
}

/// How `target` lays matrices out in registers.
pub fn target_properties(target: Target) -> TargetProperties {
    let (acc, duplication, contiguous) = match target {
        Target::Cuda | Target::Ptx => {
            (MatrixLayout::RowMajor, 1, ContiguousElements::new(cuda::mma::manual::contiguous_elements_cuda))
        }
        Target::Hip => {
            (MatrixLayout::ColMajor, 2, ContiguousElements::new(hip::mma::manual::contiguous_elements_rdna3))
        }
        Target::Wgsl | Target::Spirv | Target::Msl | Target::Cpu => return TargetProperties::default(),
    };
    TargetProperties {
        mma: MmaProperties {
            register_size_bits: 32,
            const_plane_size: 32,
            register_layout_a: MatrixLayout::RowMajor,
            register_layout_b: MatrixLayout::ColMajor,
            register_layout_acc: acc,
            register_duplication_a: duplication,
            register_duplication_b: duplication,
            register_duplication_acc: 1,
            contiguous_elements: contiguous,
        },
    }
}

/// Options of the compilers for WGSL and SPIR-V.
pub fn wgpu_options(model: &DeviceModel, target: Target) -> WgpuCompilationOptions {
    let mut options = WgpuCompilationOptions::default();
    if target == Target::Spirv {
        options.supports_u64 = true;
        options.supports_vulkan_compiler = true;
        options.vulkan.max_spirv_version = (1, 6); // of Vulkan 1.3
        options.vulkan.max_vector_size = model.vector_width;
        // VK_KHR_workgroup_memory_explicit_layout, which all drivers of desktop GPUs have: without it CubeCL 0.11.3 swaps two types.
        options.vulkan.supports_explicit_smem = true;
    }
    options
}

/// Options of the compilers for C++.
pub fn cpp_options(model: &DeviceModel, target: Target) -> CompilationOptions {
    let cuda = target == Target::Cuda;
    let hopper = matches!(model.family, Family::Nvidia { sm } if sm >= 90);
    CompilationOptions {
        warp_size: model.plane_max as usize,
        amd_wmma: if target == Target::Hip { gfx().wmma() } else { None },
        supports_features: CppSupportedFeatures {
            grid_constants: cuda,
            clusters: cuda && hopper,
            fast_math: cuda || target == Target::Hip,
            fast_tanh: cuda,
            elect_sync: cuda && hopper,
            dp4a: cuda,
        },
    }
}

/// Options of LLVM for PTX.
pub fn ptx_options(model: &DeviceModel) -> PlironOptions {
    let arch = cuda_architecture(model);
    PlironOptions {
        sm_arch: Some(SmArch::new(arch.version, arch.tensor_cores)),
        ptx_version: PtxVersion::for_driver(CUDA_DRIVER),
        grid_constants: true,
        ..Default::default()
    }
}

fn cuda_architecture(model: &DeviceModel) -> CudaArchitecture {
    let version = match model.family {
        Family::Nvidia { sm } => sm,
        _ => 80,
    };
    CudaArchitecture { version, tensor_cores: true }
}

/// The one GPU of RDNA 3 that there is a model of.
fn gfx() -> GfxArch {
    GfxArch::parse("gfx1100")
}
