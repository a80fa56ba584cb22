//! A kernel's definition in CubeCL IR without a launch: its arguments as types, with no buffers and no numbers.

use crate::emit::arguments::{Extent, PartialsCompilationArg};
use crate::emit::binding::{Buffer, ParametersData, keys_definition, operands_definition, results_definition};
use crate::emit::cpu::attention_cpu::AttentionCpu;
use crate::emit::cube::attention_cube::AttentionCube;
use crate::emit::mma::attention_mma::AttentionMma;
use crate::ir::Element;
use crate::schedule::Schedule;
use crate::scheduled::Compiled;
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
    let elements = (program.sizes().element, program.outputs[0].element);
    match elements {
        (Element::F32, _) => define_typed::<f32, f32>(program, schedule, device, target),
        (Element::F16, Element::F32) => define_typed::<f16, f32>(program, schedule, device, target),
        (Element::F16, _) => define_typed::<f16, f16>(program, schedule, device, target),
        (Element::Bf16, Element::F32) => define_typed::<bf16, f32>(program, schedule, device, target),
        (Element::Bf16, _) => define_typed::<bf16, bf16>(program, schedule, device, target),
    }
}

fn define_typed<E: Float, O: Float>(
    program: &Compiled,
    schedule: Schedule,
    device: DeviceProperties,
    target: TargetProperties,
) -> KernelDefinition {
    let settings = |dim: CubeDim| KernelSettings::new(*dim, ExecutionMode::Unchecked, AddressType::U32);
    let parameters =
        ParametersData::definition(program, schedule.approximates(), device.supports_type(u8::cube_type()));
    let extent = Extent::definition();
    let counters = [].into_iter().collect();
    match schedule {
        Schedule::Cpu(cpu) => AttentionCpu::<E, O>::new(
            settings(CubeDim::new_1d(device.hardware.num_cpu_cores.unwrap_or(1))),
            Arc::new(device),
            Arc::new(target),
            operands_definition(program),
            keys_definition(program),
            results_definition(program),
            Buffer::definition(),
            (0..usize::from(cpu.few.split_kv))
                .map(|_| PartialsCompilationArg { vectors: Buffer::definition() })
                .collect(),
            extent,
            parameters,
            (),
            (),
            counters,
            cpu.lanes,
            program.clone(),
            cpu,
            false,
        )
        .define(),
        Schedule::Cube(cube) => AttentionCube::<E, O>::new(
            settings(CubeDim::new_1d(cube.units() as u32)),
            Arc::new(device),
            Arc::new(target),
            operands_definition(program),
            keys_definition(program),
            results_definition(program),
            extent,
            parameters,
            counters,
            cube.rows,
            schedule.width_of(program),
            program.clone(),
            cube,
            false,
        )
        .define(),
        Schedule::Mma(mma) => AttentionMma::<E>::new(
            settings(CubeDim::new_1d(mma.units() as u32)),
            Arc::new(device),
            Arc::new(target),
            operands_definition(program),
            keys_definition(program),
            results_definition(program),
            extent,
            parameters,
            counters,
            mma.rows(),
            schedule.width_of(program),
            program.clone(),
            mma,
            false,
        )
        .define(),
    }
}
