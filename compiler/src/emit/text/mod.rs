//! A kernel's text for a target, without a device: CubeCL's compilers run on the kernel's definition.
//!
//! The same program gives the same text. Three things would differ otherwise: the name of the entry point, whose end CubeCL makes from a
//! hash that changes with its dependencies, is the program's; C++ is brought into one order; and LLVM's text for the CPU is what there is
//! before LLVM looks at the machine.

mod canonical;
mod cpu_text;
pub mod definition;
mod header;
pub mod properties;
pub mod ptx_launch;

use self::canonical::canonical;
use self::definition::define;
use self::header::header;
use self::properties::{cpp_options, device_properties, ptx_options, target_properties, wgpu_options};
use crate::device_model::DeviceModel;
use crate::ir::Element;
use crate::schedule::Schedule;
use crate::scheduled::{Compiled, Scheduled};
use crate::spec::TensorType;
use crate::target::{KernelText, Target};
use cubecl::Compiler;
use cubecl::wgpu::WgslCompiler;
use cubecl_cpp::shared::CppCompiler;
use cubecl_cpp::target::{CppTarget, Cuda, Hip, Metal};
use cubecl_llvm::{LlvmTarget, PlironArtifact, PlironCompiler};
use cubecl_spirv::SpirvCompiler;
use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;
use thiserror::Error;

/// Why there is no text.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TextError {
    /// A device that does not run the language.
    #[error("`{0}` does not run it")]
    Model(&'static str),
    /// A program with a schedule that the target, or the element type, has no kernel for.
    #[error("it has no kernel with the schedule `{0}`")]
    Schedule(&'static str),
    /// An element type that the target lacks.
    #[error("`{model}` has no {element} there")]
    Element {
        /// The device.
        model: &'static str,
        /// The type.
        element: &'static str,
    },
    /// The target's compiler gave up.
    #[error("its compiler failed: {0}")]
    Compiler(String),
}

/// Refuses `program` where there can be no kernel of it for `target` on `model`, as far as is known without compiling it.
///
/// # Errors
/// [`TextError`], but for [`TextError::Compiler`].
pub fn check(target: Target, model: &DeviceModel, program: &Scheduled) -> Result<(), TextError> {
    if !target.runs_on(model) {
        return Err(TextError::Model(model.name));
    }
    let captured = program.tensors.iter().filter_map(|tensor| match tensor.ty {
        TensorType::F16 => Some(Element::F16),
        TensorType::Bf16 => Some(Element::Bf16),
        TensorType::F32 | TensorType::I32 | TensorType::Bool => None,
    });
    for element in captured.chain([program.sizes().element]) {
        if !model.supports(element) || (target == Target::Wgsl && element == Element::Bf16) {
            return Err(TextError::Element { model: model.name, element: element.name() });
        }
    }
    match program.schedule() {
        Schedule::Cpu(_) if target == Target::Cpu => Ok(()),
        Schedule::Cube(_) if target != Target::Cpu => Ok(()),
        Schedule::Mma(_) if matches!(target, Target::Cuda | Target::Ptx) => Ok(()),
        schedule => Err(TextError::Schedule(schedule.name())),
    }
}

/// The kernel of `scheduled` for `target` as it is on `model`.
///
/// # Errors
/// [`TextError`], where the target or the device cannot express it.
pub fn emit(target: Target, model: &DeviceModel, scheduled: &Scheduled) -> Result<KernelText, TextError> {
    check(target, model, scheduled)?;
    let (program, schedule) = (scheduled.program(), scheduled.schedule());
    if matches!((schedule, program.sizes().element), (Schedule::Mma(_), Element::F32)) {
        return Err(TextError::Schedule(schedule.name()));
    }
    let kernel = catch(|| compile(target, model, program, schedule)).map_err(TextError::Compiler)?;
    // Names of Rust may have any letter, and PTX only ASCII.
    let name: String = program.name.chars().map(|c| if c.is_ascii() { c } else { '_' }).collect();
    let words = kernel.words.map(|words| rename_in_words(&words, &kernel.entry, &name));
    let header = header(target, model, program, schedule, kernel.shared_bytes);
    let body = kernel.text.replace(&kernel.entry, &name);
    let text = format!("{header}\n{}\n", body.trim());
    Ok(KernelText { text, words, block: kernel.block, shared_bytes: kernel.shared_bytes })
}

/// What a compiler made.
struct CompiledKernel {
    /// The entry point, as CubeCL names it.
    entry: String,
    text: String,
    words: Option<Vec<u32>>,
    /// The units of a cube along each axis.
    block: [u32; 3],
    /// The shared memory of a cube.
    shared_bytes: usize,
}

fn compile(
    target: Target,
    model: &DeviceModel,
    program: &Compiled,
    schedule: Schedule,
) -> Result<CompiledKernel, String> {
    let definition = define(program, schedule, device_properties(model, target), target_properties(target));
    let entry = definition.settings.kernel_name.clone();
    let dim = definition.settings.cube_dim;
    let (text, words, shared_bytes) = match target {
        Target::Wgsl => {
            let options = wgpu_options(model, target);
            let kernel = WgslCompiler.compile(definition, &options).map_err(first_line)?;
            (say_what_is_only_read(&kernel.to_string(), program.operands.len()), None, None)
        }
        Target::Spirv => {
            let kernel = SpirvCompiler.compile(definition, &wgpu_options(model, target)).map_err(first_line)?;
            (kernel.to_string(), Some(kernel.assembled_module), None)
        }
        Target::Cuda => cpp::<Cuda>(definition, model, target)?,
        Target::Hip => cpp::<Hip>(definition, model, target)?,
        Target::Msl => cpp::<Metal>(definition, model, target)?,
        Target::Ptx => {
            let mut compiler = PlironCompiler { target: LlvmTarget::Nvptx };
            match compiler.compile(definition, &ptx_options(model)).map_err(first_line)? {
                PlironArtifact::NvptxCode(module) => {
                    let bytes: Vec<u8> = module.ptx.iter().map(|c| c.cast_unsigned()).take_while(|c| *c != 0).collect();
                    (String::from_utf8_lossy(&bytes).into_owned(), None, Some(module.shared_memory_size))
                }
                _ => return Err("LLVM gave no PTX".into()),
            }
        }
        Target::Cpu => (cpu_text::llvm_ir(definition)?, None, None),
    };
    let shared_bytes = shared_bytes.unwrap_or(match schedule {
        Schedule::Cpu(_) => 0,
        Schedule::Cube(cube) => cube.shared_bytes(&program.sizes()),
        Schedule::Mma(mma) => mma.shared_bytes(&program.sizes()),
    });
    Ok(CompiledKernel { entry, text, words, block: [dim.x, dim.y, dim.z], shared_bytes })
}

/// `shader` with all buffers but the output and the log-sum-exp declared as only read; CubeCL declares all as written too. Browsers
/// take a barrier only where all units are seen to reach it, and of a number read from a buffer that may be written they see nothing:
/// a kernel whose tiles depend on a captured tensor would be refused.
fn say_what_is_only_read(shader: &str, operands: usize) -> String {
    // The buffers come in the order of the kernel's arguments: operands, output, log-sum-exp.
    let output = operands;
    let written = [output, output + 1].map(|binding| format!("@binding({binding}) "));
    let line = |line: &str| {
        let read = !written.iter().any(|binding| line.contains(binding));
        if read { line.replace("var<storage, read_write>", "var<storage, read>") } else { line.to_string() }
    };
    shader.lines().map(line).collect::<Vec<_>>().join("\n")
}

type Made = (String, Option<Vec<u32>>, Option<usize>);

fn cpp<T: CppTarget>(
    definition: cubecl::prelude::KernelDefinition,
    model: &DeviceModel,
    target: Target,
) -> Result<Made, String>
where
    CppCompiler<T>: Compiler<
            Representation = cubecl_cpp::ComputeKernel,
            CompilationOptions = cubecl_cpp::shared::CompilationOptions,
        >,
{
    let kernel = CppCompiler::<T>::default().compile(definition, &cpp_options(model, target)).map_err(first_line)?;
    Ok((canonical(&kernel.to_string()), None, Some(kernel.shared_memory_size)))
}

/// The error without the backtrace below it.
fn first_line(error: impl std::fmt::Display) -> String {
    let text = error.to_string();
    text.split("BackTrace:").next().unwrap_or(&text).trim().to_string()
}

/// The result of `compile`; its panic's message where it panics, as CubeCL's compilers do on what their target cannot express. Such
/// a panic prints nothing.
fn catch<T>(compile: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    thread_local! {
        static QUIET: Cell<bool> = const { Cell::new(false) };
    }
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let hook = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !QUIET.get() {
                hook(info);
            }
        }));
    });
    QUIET.set(true);
    let result = panic::catch_unwind(AssertUnwindSafe(compile));
    QUIET.set(false);
    result.unwrap_or_else(|panic| {
        let message = panic.downcast_ref::<String>().cloned();
        let message = message.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
        Err(message.map_or_else(|| "for no stated reason".into(), first_line))
    })
}

/// The module `words` with its entry point, and what is named like it, named `name` instead of `entry`.
fn rename_in_words(words: &[u32], entry: &str, name: &str) -> Vec<u32> {
    /// The instructions with a name, and the word it begins at: OpName and OpEntryPoint (SPIR-V specification, 3.49.2 and 3.49.5).
    const NAMED: [(u32, usize); 2] = [(5, 2), (15, 3)];
    const HEADER: usize = 5;
    let literal = |text: &str| -> Vec<u32> {
        // Bytes from the low end of each word, and at least one of zeros.
        let mut bytes = text.as_bytes().to_vec();
        bytes.resize((text.len() / 4 + 1) * 4, 0);
        bytes.chunks(4).map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]])).collect()
    };
    let (old, new) = (literal(entry), literal(name));
    let mut renamed = words[..HEADER.min(words.len())].to_vec();
    let mut rest = &words[renamed.len()..];
    while let Some(first) = rest.first() {
        let (instruction, following) = rest.split_at(((first >> 16) as usize).clamp(1, rest.len()));
        rest = following;
        let place = NAMED.iter().find(|(opcode, _)| first & 0xffff == *opcode).map(|(_, place)| *place);
        match place {
            Some(place) if instruction.get(place..).is_some_and(|words| words.starts_with(&old)) => {
                let start = renamed.len();
                renamed.extend(&instruction[..place]);
                renamed.extend(&new);
                renamed.extend(&instruction[place + old.len()..]);
                renamed[start] = (((renamed.len() - start) as u32) << 16) | (first & 0xffff);
            }
            _ => renamed.extend(instruction),
        }
    }
    renamed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_point_is_renamed_in_a_module() {
        let name =
            |text: &[u8; 8]| [0, 4].map(|at| u32::from_le_bytes([text[at], text[at + 1], text[at + 2], text[at + 3]]));
        let [long0, long1] = name(b"kernel_\0");
        let short = u32::from_le_bytes(*b"abc\0");
        let header = [0x0723_0203, 0x0001_0600, 0, 9, 0];
        let module = |entry: &[u32]| {
            let mut words = header.to_vec();
            words.push((((4 + entry.len()) as u32) << 16) | 15);
            words.extend([5, 1]);
            words.extend(entry);
            words.push(7); // an interface
            words.push((((2 + entry.len()) as u32) << 16) | 5);
            words.push(1);
            words.extend(entry);
            words
        };
        assert_eq!(rename_in_words(&module(&[long0, long1]), "kernel_", "abc"), module(&[short]));
    }

    #[test]
    fn a_panic_is_a_message() {
        assert_eq!(catch::<()>(|| panic!("no {}", "matrices")), Err("no matrices".into()));
        assert_eq!(catch(|| Ok(1)), Ok(1));
    }
}
