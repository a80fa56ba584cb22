//! A kernel that has been read.

use super::instruction::PtxInstruction;

/// A PTX module with one kernel, every instruction of which is understood.
pub struct Module {
    pub(super) source: String,
    pub(super) target: String,
    pub(super) entry: String,
    pub(super) parameters: Vec<KernelParameter>,
    pub(super) threads: Option<[u32; 3]>,
    pub(super) max_threads: Option<[u32; 3]>,
    /// Bytes of shared memory that the module declares; dynamic shared memory starts there.
    pub(super) static_shared: usize,
    /// Bytes of a thread's frame.
    pub(super) local: usize,
    /// The initialised arrays of the module.
    pub(super) constant: Vec<u8>,
    pub(super) instructions: Vec<PtxInstruction>,
    /// For each instruction, where lanes that it sends two ways meet again.
    pub(super) meets: Vec<u32>,
    pub(super) opcodes: Vec<String>,
    pub(super) registers: RegisterFile,
}

/// The rows of a warp's registers.
#[derive(Default)]
pub(super) struct RegisterFile {
    /// The name of the register that a row belongs to; empty for constants.
    pub names: Vec<String>,
    /// The rows that hold the same in all lanes from the start.
    pub constants: Vec<(u32, u32)>,
    /// The rows of what differs between threads or blocks.
    pub special: Vec<(u32, Special)>,
    /// The names of predicates. The first is always true.
    pub predicates: Vec<String>,
}

/// A special register (PTX ISA, "Special Registers").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Special {
    Thread(usize),
    Threads(usize),
    Block(usize),
    Blocks(usize),
    Lane,
    Warp,
    Warps,
    /// Lanes below, at or below, equal, at or above, above this one.
    LanesBelow,
    LanesUpTo,
    LaneBit,
    LanesFrom,
    LanesAbove,
    /// Where dynamic shared memory starts, and how long it and all shared memory are.
    DynamicSharedStart,
    DynamicShared,
    TotalShared,
}

/// A parameter of a kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelParameter {
    /// Its name in the source.
    pub name: String,
    /// Its size.
    pub bytes: usize,
    /// What its offset is a multiple of, in bytes.
    pub alignment: usize,
    /// Its offset among all parameters, in bytes.
    pub offset: usize,
}

impl Module {
    /// The kernel's name.
    pub fn entry(&self) -> &str {
        &self.entry
    }

    /// The kernel's parameters.
    pub fn parameters(&self) -> &[KernelParameter] {
        &self.parameters
    }

    /// What the module is for, such as `sm_80`.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// The threads of a block, where the kernel requires a number (`.reqntid`).
    pub fn threads(&self) -> Option<[u32; 3]> {
        self.threads
    }

    /// Bytes of shared memory that the module declares, to which a launch adds.
    pub fn static_shared(&self) -> usize {
        self.static_shared
    }

    /// Instructions of the kernel.
    pub fn instructions(&self) -> usize {
        self.instructions.len()
    }

    /// A line of the source, from 1, without space around it.
    pub fn line(&self, line: usize) -> &str {
        self.source.lines().nth(line.saturating_sub(1)).unwrap_or_default().trim()
    }
}
