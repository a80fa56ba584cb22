//! A kernel's definition in CubeCL IR without a launch: its arguments as types, with no buffers and no numbers.

use crate::emit::arguments::{
    CapturedCompilationArg, ElementsCompilationArg, ExtentCompilationArg, KeyValue, KeyValueCompilationArg,
    OperandCompilationArg, ParametersCompilationArg, ScalarArgumentCompilationArg, SummaryArgumentCompilationArg,
};
use crate::emit::cpu::attention_cpu::AttentionCpu;
use crate::emit::cube::attention_cube::AttentionCube;
use crate::emit::mma::attention_mma::AttentionMma;
use crate::ir::Element;
use crate::schedule::{CubeSchedule, FewQueries, MmaSchedule, Schedule};
use crate::scheduled::Compiled;
use crate::spec::{ScalarType, TensorType};
use cubecl::ir::{DeviceProperties, TargetProperties};
use cubecl::prelude::*;
use half::{bf16, f16};
use std::sync::Arc;

/// The kernel of `program` with `schedule`, for operands without gaps between the elements of the head dim.
pub fn define(
    program: &Compiled,
    schedule: Schedule,
    device: DeviceProperties,
    target: TargetProperties,
) -> KernelDefinition {
    match program.operands.element {
        Element::F32 => define_typed::<f32>(program, schedule, device, target),
        Element::F16 => define_typed::<f16>(program, schedule, device, target),
        Element::Bf16 => define_typed::<bf16>(program, schedule, device, target),
    }
}

fn define_typed<E: Float>(
    program: &Compiled,
    schedule: Schedule,
    device: DeviceProperties,
    target: TargetProperties,
) -> KernelDefinition {
    let bytes = device.supports_type(u8::cube_type());
    let settings = |dim: CubeDim| KernelSettings::new(*dim, ExecutionMode::Unchecked, AddressType::U32);
    let extent = ExtentCompilationArg {
        heads: (),
        group: (),
        queries: (),
        query_offset: (),
        first_tile: (),
        first_head: (),
        first_batch: (),
        careful: (),
    };
    let parameters = parameters(program, schedule, bytes);
    let counters = [].into_iter().collect();
    match schedule {
        Schedule::Cpu(cpu) => AttentionCpu::<E>::new(
            settings(CubeDim::new_1d(device.hardware.num_cpu_cores.unwrap_or(1))),
            Arc::new(device),
            Arc::new(target),
            operand(),
            pairs(program),
            buffer(),
            buffer(),
            buffer(),
            [].into_iter().collect(),
            extent,
            parameters,
            (),
            (),
            counters,
            cpu.lanes,
            program.clone(),
            cpu,
            FewQueries::default(),
            false,
        )
        .define(),
        Schedule::Cube(cube) => AttentionCube::<E>::new(
            settings(CubeDim::new_1d(cube.units() as u32)),
            Arc::new(device),
            Arc::new(target),
            operand(),
            pairs(program),
            buffer(),
            buffer(),
            extent,
            parameters,
            counters,
            cube.rows,
            CubeSchedule::width_of(&program.operands),
            program.clone(),
            cube,
            false,
        )
        .define(),
        Schedule::Mma(mma) => AttentionMma::<E>::new(
            settings(CubeDim::new_1d(mma.units() as u32)),
            Arc::new(device),
            Arc::new(target),
            operand(),
            pairs(program),
            buffer(),
            buffer(),
            extent,
            parameters,
            counters,
            mma.rows(),
            MmaSchedule::width_of(&program.operands),
            program.clone(),
            mma,
            false,
        )
        .define(),
    }
}

fn buffer() -> BufferCompilationArg {
    BufferCompilationArg { inplace: None }
}

fn pairs<E: CubePrimitive>(program: &Compiled) -> SequenceCompilationArg<KeyValue<E>> {
    let pair = |_| KeyValueCompilationArg { key: operand(), value: operand(), len: (), offset: () };
    program.pairs.iter().map(pair).collect()
}

fn operand<E: CubePrimitive>() -> OperandCompilationArg<E> {
    OperandCompilationArg { data: buffer(), start: (), batch: (), head: (), row: (), column: (), dense: true }
}

/// `bytes` says that truth values are stored in bytes.
fn parameters(program: &Compiled, schedule: Schedule, bytes: bool) -> ParametersCompilationArg {
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
            TensorType::Bool if bytes => ElementsCompilationArg::U8(buffer()),
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
        approximate: schedule.approximates(),
    }
}
