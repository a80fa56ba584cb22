//! A kernel's text, without a device.

use super::arguments::{
    CapturedCompilationArg, Compiled, ElementsCompilationArg, ExtentCompilationArg, KeyValueCompilationArg,
    OperandCompilationArg, ParametersCompilationArg, ScalarArgumentCompilationArg, SummaryArgumentCompilationArg,
};
use super::cube::attention_cube::AttentionCube;
use crate::ir::Element;
use crate::schedule::{CubeSchedule, Schedule};
use crate::spec::{ScalarType, TensorType};
use cubecl::ir::features::Features;
use cubecl::ir::{DeviceIdentity, DeviceProperties, HardwareProperties, MemoryDeviceProperties, TargetProperties};
use cubecl::prelude::*;
use cubecl::wgpu::WgslCompiler;
use cubecl::{Compiler, WgpuCompilationOptions};
use half::f16;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use thiserror::Error;

/// Why there is no text.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TextError {
    /// A schedule that the target has no kernel for.
    #[error("WGSL needs the `cube` schedule, the program has {0}")]
    Schedule(String),
    /// An element type that the target lacks.
    #[error("WGSL has no {0}")]
    Element(&'static str),
    /// The target's compiler gave up.
    #[error("the WGSL compiler failed: {0}")]
    Compiler(String),
}

/// The WGSL of `program`, which must have a `cube` schedule. The same program gives the same text.
pub fn wgsl(program: &Compiled) -> Result<String, TextError> {
    let schedule = match program.schedule {
        Some(Schedule::Cube(schedule)) => schedule,
        Some(schedule) => return Err(TextError::Schedule(format!("`{}`", schedule.name()))),
        None => return Err(TextError::Schedule("none".into())),
    };
    match program.operands.element {
        Element::F32 => shader::<f32>(program, schedule),
        Element::F16 => shader::<f16>(program, schedule),
        Element::Bf16 => Err(TextError::Element("bf16")),
    }
}

fn shader<E: Float>(program: &Compiled, schedule: CubeSchedule) -> Result<String, TextError> {
    let definition = || {
        let units = schedule.units() as u32;
        let settings = KernelSettings::new(*CubeDim::new_1d(units), ExecutionMode::Unchecked, AddressType::U32);
        let pairs = program.pairs.iter().map(|_| KeyValueCompilationArg {
            key: operand(),
            value: operand(),
            len: (),
            offset: (),
        });
        AttentionCube::<E>::new(
            settings,
            Arc::new(device()),
            Arc::new(TargetProperties::default()),
            operand(),
            pairs.collect(),
            buffer(),
            buffer(),
            ExtentCompilationArg { heads: (), group: (), queries: (), query_offset: () },
            parameters(program),
            [].into_iter().collect(),
            schedule.rows,
            CubeSchedule::WIDTH,
            program.clone(),
            schedule,
            false,
        )
        .define()
    };
    // A compiler of CubeCL's panics on what its target cannot express.
    let compiled = catch_unwind(AssertUnwindSafe(|| {
        WgslCompiler.compile(definition(), &WgpuCompilationOptions::default()).map(|shader| shader.to_string())
    }));
    match compiled {
        Ok(Ok(text)) => Ok(rename_entry(&text, &program.name)),
        Ok(Err(error)) => Err(TextError::Compiler(error.to_string())),
        Err(panic) => {
            let message = panic.downcast_ref::<String>().cloned();
            let message = message.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
            Err(TextError::Compiler(message.unwrap_or_else(|| "for no stated reason".into())))
        }
    }
}

/// `text` with the entry point named `name`: CubeCL's name ends in a hash that changes with its dependencies.
fn rename_entry(text: &str, name: &str) -> String {
    let entry =
        text.split("@compute").nth(1).and_then(|rest| rest.split("fn ").nth(1)).and_then(|rest| rest.split('(').next());
    match entry {
        Some(entry) => text.replace(&format!("fn {entry}("), &format!("fn {name}(")),
        None => text.to_string(),
    }
}

fn buffer() -> BufferCompilationArg {
    BufferCompilationArg { inplace: None }
}

fn operand<E: CubePrimitive>() -> OperandCompilationArg<E> {
    OperandCompilationArg { data: buffer(), start: (), batch: (), head: (), row: (), column: (), dense: true }
}

fn parameters(program: &Compiled) -> ParametersCompilationArg {
    let scalars = program.scalars.iter().map(|param| ScalarArgumentCompilationArg {
        value: InputScalarCompilationArg::new(match param.ty {
            ScalarType::F32 => f32::cube_type(),
            ScalarType::I32 | ScalarType::U32 | ScalarType::Bool => i32::cube_type(),
        }),
        truth: param.ty == ScalarType::Bool,
    });
    let tensors = program.tensors.iter().map(|param| CapturedCompilationArg {
        elements: match param.ty {
            TensorType::F32 => ElementsCompilationArg::F32(buffer()),
            TensorType::I32 => ElementsCompilationArg::I32(buffer()),
            // WGSL has no bytes.
            TensorType::Bool => ElementsCompilationArg::U32(buffer()),
        },
        start: (),
        last: (0..param.rank).map(|_| ()).collect(),
        strides: (0..param.rank).map(|_| ()).collect(),
    });
    let summaries = program.summaries().into_iter().map(|summary| SummaryArgumentCompilationArg {
        extremes: buffer(),
        blocks: (),
        strides: summary.blocked.iter().map(|_| ()).collect(),
        summary,
    });
    ParametersCompilationArg {
        scalars: scalars.collect(),
        tensors: tensors.collect(),
        summaries: summaries.collect(),
        scale: (),
        empty_lse: (),
    }
}

/// WebGPU's default limits (https://www.w3.org/TR/webgpu/#limits).
fn device() -> DeviceProperties {
    let hardware = HardwareProperties {
        load_width: 128,
        vector_register_count: None,
        plane_size_min: 1,
        plane_size_max: 1,
        max_bindings: 8,
        max_shared_memory_size: 16384,
        max_cube_count: (65535, 65535, 65535),
        max_units_per_cube: 256,
        max_cube_dim: (256, 256, 64),
        num_streaming_multiprocessors: None,
        num_tensor_cores: None,
        min_tensor_cores_dim: None,
        num_cpu_cores: None,
        last_level_cache_size: None,
        max_vector_size: 4,
        cube_mma_reserved_shared_memory: 0,
    };
    DeviceProperties::new(
        Features::default(),
        MemoryDeviceProperties::new(1 << 27, 256),
        hardware,
        cubecl::profile::TimingMethod::System,
        DeviceIdentity { name: "webgpu".into(), fingerprint: "webgpu".into(), physical: None },
    )
}
