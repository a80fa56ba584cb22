//! What a kernel can do wrong, and where it did.

use std::fmt;

use super::types::Space;

/// Text that could not be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}\n    {text}")]
pub struct PtxParseError {
    /// Line of the source, from 1.
    pub line: usize,
    /// The line itself.
    pub text: String,
    /// What is wrong with it, and what was expected.
    pub reason: String,
}

/// An instruction as one thread ran it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultPlace {
    /// Line of the source, from 1.
    pub line: usize,
    /// The line itself.
    pub text: String,
    /// The thread's block.
    pub block: [u32; 3],
    /// The thread in its block.
    pub thread: [u32; 3],
}

impl fmt::Display for FaultPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ([x, y, z], [a, b, c]) = (self.thread, self.block);
        write!(f, "line {} by thread ({x}, {y}, {z}) of block ({a}, {b}, {c}): {}", self.line, self.text)
    }
}

/// What a GPU would leave undefined, or refuse. A run stops at the first.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The launch does not suit the kernel.
    #[error("cannot launch `{entry}`: {reason}")]
    Launch {
        /// The kernel.
        entry: String,
        /// What was given, and what was expected.
        reason: String,
    },
    /// No array, or the end of one, is where an access goes.
    #[error("{space} access of {length} bytes at {address:#x} is out of bounds ({bounds})\n    {at}")]
    OutOfBounds {
        /// Who did it.
        at: Box<FaultPlace>,
        /// Where the address points.
        space: Space,
        /// First byte.
        address: u64,
        /// Bytes.
        length: usize,
        /// What would have been in bounds.
        bounds: String,
    },
    /// An address that is no multiple of the access's size.
    #[error("{space} access of {length} bytes at {address:#x} is misaligned\n    {at}")]
    Misaligned {
        /// Who did it.
        at: Box<FaultPlace>,
        /// Where the address points.
        space: Space,
        /// First byte.
        address: u64,
        /// Bytes, of which the address must be a multiple.
        length: usize,
    },
    /// A read of memory that nothing has written.
    #[error("{space} read of {length} bytes at {address:#x} is of memory that nothing has written\n    {at}")]
    UninitialisedMemory {
        /// Who did it.
        at: Box<FaultPlace>,
        /// Where the address points.
        space: Space,
        /// First byte.
        address: u64,
        /// Bytes.
        length: usize,
    },
    /// The use of a register, other than to copy it, that nothing has written.
    #[error("register `{register}` is used before it is written\n    {at}")]
    UninitialisedRegister {
        /// Who did it.
        at: Box<FaultPlace>,
        /// The register's name.
        register: String,
    },
    /// A write to what only may be read.
    #[error("write to {space} memory at {address:#x}, which only may be read\n    {at}")]
    ReadOnly {
        /// Who did it.
        at: Box<FaultPlace>,
        /// Where the address points.
        space: Space,
        /// First byte.
        address: u64,
    },
    /// Two threads access the same bytes, one of them writes, and no barrier is between.
    #[error(
        "race in {space} memory at {address:#x}: {what} with nothing between that orders them\n    {at}\n    {earlier}"
    )]
    Race {
        /// Who came second here; on a GPU either may.
        at: Box<FaultPlace>,
        /// Who came first.
        earlier: Box<FaultPlace>,
        /// Where the address points.
        space: Space,
        /// First byte of the later access.
        address: u64,
        /// Which of the two read, and which wrote.
        what: &'static str,
    },
    /// An access to the destination of an asynchronous copy that its thread has not waited for.
    #[error(
        "{space} access of {length} bytes at {address:#x} where an asynchronous copy is still under way\n    {at}\n    {copy}"
    )]
    CopyUnderWay {
        /// Who did it.
        at: Box<FaultPlace>,
        /// The copy.
        copy: Box<FaultPlace>,
        /// Where the address points.
        space: Space,
        /// First byte of the access.
        address: u64,
        /// Bytes of the access.
        length: usize,
    },
    /// A barrier that some of a warp's threads run without the others.
    #[error("threads {missing:#010x} of the warp are elsewhere, or have returned, at a barrier\n    {at}")]
    DivergentBarrier {
        /// Who did it.
        at: Box<FaultPlace>,
        /// A bit for each lane that is missing.
        missing: u32,
    },
    /// A barrier that some warps wait at and others never reach.
    #[error("warps {missing:?} never reach the barrier\n    {at}")]
    BarrierNotReached {
        /// Who waits.
        at: Box<FaultPlace>,
        /// The warps that have returned or wait at another barrier.
        missing: Vec<usize>,
    },
    /// A `.sync` instruction whose mask is not the set of threads that run it.
    #[error("the instruction is for threads {expected:#010x} and run by threads {active:#010x} of the warp\n    {at}")]
    Members {
        /// Who did it.
        at: Box<FaultPlace>,
        /// The mask that the instruction gives, or all lanes.
        expected: u32,
        /// The lanes that run it.
        active: u32,
    },
    /// A `shfl` that reads a lane that does not take part.
    #[error("lane {lane} is read, which does not take part\n    {at}")]
    ShuffleFromOutside {
        /// Who did it.
        at: Box<FaultPlace>,
        /// The lane that is read.
        lane: u32,
    },
    /// An operand outside of what the instruction allows.
    #[error("{reason}\n    {at}")]
    Operand {
        /// Who did it.
        at: Box<FaultPlace>,
        /// What was given, and what is allowed.
        reason: String,
    },
    /// A `trap`.
    #[error("the kernel traps\n    {at}")]
    Trap {
        /// Who did it.
        at: Box<FaultPlace>,
    },
    /// A warp ran more instructions than allowed.
    #[error("a warp has run {limit} instructions: a loop without end?\n    {at}")]
    StepLimit {
        /// Who did it.
        at: Box<FaultPlace>,
        /// Instructions that a warp may run.
        limit: u64,
    },
}

/// A fault as the part that finds it knows it: not yet where it happened.
#[derive(Debug)]
pub(super) struct Trouble {
    /// The lane, or the first of several.
    pub lane: u32,
    pub problem: Problem,
}

/// An access that came before, as memory remembers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Earlier {
    /// Index of the instruction.
    pub instruction: u32,
    /// The block's index in the grid, x fastest.
    pub block: u32,
    /// The thread's index in its block, x fastest.
    pub thread: u32,
}

#[derive(Debug)]
pub(super) enum Problem {
    OutOfBounds { space: Space, address: u64, length: usize, bounds: String },
    Misaligned { space: Space, address: u64, length: usize },
    UninitialisedMemory { space: Space, address: u64, length: usize },
    UninitialisedRegister { row: u32 },
    UninitialisedPredicate { predicate: u32 },
    ReadOnly { space: Space, address: u64 },
    Race { space: Space, address: u64, what: &'static str, earlier: Earlier },
    CopyUnderWay { space: Space, address: u64, length: usize, copy: Earlier },
    DivergentBarrier { missing: u32 },
    Members { expected: u32, active: u32 },
    ShuffleFromOutside { lane: u32 },
    Operand { reason: String },
    Trap,
    StepLimit { limit: u64 },
}

impl Problem {
    /// The problem as a lane's.
    pub fn of(self, lane: usize) -> Box<Trouble> {
        Box::new(Trouble { lane: lane as u32, problem: self })
    }
}
