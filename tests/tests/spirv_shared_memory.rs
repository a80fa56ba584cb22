//! Whether cubecl-spirv still swaps two types. On a Vulkan driver without VK_KHR_workgroup_memory_explicit_layout it declares a
//! variable of shared memory with the type of its pointer, and its address with the type of the value: invalid SPIR-V, which
//! crashes Mesa's lavapipe 22 to 25 and computes something else on SwiftShader. [`purview::Device::wgpu`] avoids it.

use cubecl::Compiler;
use cubecl::WgpuCompilationOptions;
use cubecl::ir::TargetProperties;
use cubecl::prelude::*;
use cubecl::wgpu::SpirvCompiler;
use purview_tests::{devices, spirv_val};
use std::sync::Arc;

const UNITS: usize = 64;

/// Reverses as many numbers as there are units, through shared memory.
#[cube(launch_unchecked)]
fn reverse(numbers: &mut [f32]) {
    let mut shared = Shared::<[f32]>::new_slice(UNITS);
    let unit = UNIT_POS as usize;
    shared[unit] = numbers[unit];
    sync_cube();
    numbers[unit] = shared[UNITS - 1 - unit];
}

/// The module of [`reverse`] for a driver that has the extension, or has not.
fn module(explicit_layout: bool) -> Vec<u32> {
    let settings = KernelSettings::new(*CubeDim::new_1d(UNITS as u32), ExecutionMode::Unchecked, AddressType::U32);
    // Nothing in this kernel depends on the device.
    let properties = Arc::new(devices::cpu().client().properties().clone());
    let buffer = BufferCompilationArg { inplace: None };
    let kernel = reverse::Reverse::new(settings, properties, Arc::new(TargetProperties::default()), buffer);
    let mut options = WgpuCompilationOptions { supports_vulkan_compiler: true, ..Default::default() };
    options.vulkan.max_spirv_version = (1, 6);
    options.vulkan.max_vector_size = 4;
    options.vulkan.push_constant_size = 128;
    options.vulkan.supports_explicit_smem = explicit_layout;
    let compiled = SpirvCompiler.compile(kernel.define(), &options);
    compiled.unwrap_or_else(|error| panic!("{error}")).assembled_module
}

// https://registry.khronos.org/SPIR-V/specs/unified1/SPIRV.html
const HEADER: usize = 5;
const OP_TYPE_ARRAY: u32 = 28;
const OP_TYPE_STRUCT: u32 = 30;
const OP_TYPE_POINTER: u32 = 32;
const OP_VARIABLE: u32 = 59;
const WORKGROUP: u32 = 4;

/// The opcode of the type of the module's variable in shared memory.
fn type_of_shared_variable(words: &[u32]) -> u32 {
    let mut instructions = Vec::new();
    let mut rest = &words[HEADER..];
    while let Some(first) = rest.first() {
        let (instruction, after) = rest.split_at((first >> 16) as usize);
        instructions.push((first & 0xffff, instruction));
        rest = after;
    }
    let variable = instructions.iter().find(|(opcode, words)| *opcode == OP_VARIABLE && words[3] == WORKGROUP);
    let (_, variable) = variable.expect("a variable in shared memory");
    let pointer = instructions.iter().find(|(opcode, words)| *opcode == OP_TYPE_POINTER && words[1] == variable[1]);
    let (_, pointer) = pointer.expect("a variable's type is a pointer");
    let is_type = |opcode: u32| [OP_TYPE_ARRAY, OP_TYPE_STRUCT, OP_TYPE_POINTER].contains(&opcode);
    let pointee = instructions.iter().find(|(opcode, words)| is_type(*opcode) && words[1] == pointer[3]);
    pointee.expect("an array, a struct or a pointer").0
}

#[test]
fn types_are_right_with_an_explicit_layout() {
    let words = module(true);
    assert_eq!(type_of_shared_variable(&words), OP_TYPE_STRUCT);
    if let Some(said) = spirv_val::validate("types_are_right_with_an_explicit_layout", &words) {
        assert_eq!(said, Ok(()));
    }
}

/// Fails once the bug is mended, which is good news.
#[test]
fn types_are_swapped_without() {
    let words = module(false);
    let found = type_of_shared_variable(&words);
    assert!(
        found == OP_TYPE_POINTER,
        "the bug is gone: make SPIR-V the default in Device::wgpu, and remove this test (the variable's type has opcode {found})"
    );
    if let Some(said) = spirv_val::validate("types_are_swapped_without", &words) {
        let message = said.expect_err("the bug is gone: make SPIR-V the default in Device::wgpu, and remove this test");
        println!("{message}");
    }
}
