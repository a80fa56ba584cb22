//! Instructions as they are run: registers are rows of the register file, immediates are rows that hold a constant.

use super::convert::Conversion;
use super::lanes::{LaneFunction, Test};
use super::types::{PtxType, Space};

/// A register that is not a predicate. One of 64 bits takes two rows, low words first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Register {
    pub row: u32,
    pub wide: bool,
}

/// A predicate, or its negation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Guard {
    pub predicate: u32,
    pub negated: bool,
}

/// The predicate that is always true.
pub(super) const ALWAYS: Guard = Guard { predicate: 0, negated: false };

/// An instruction and where it stands.
pub(super) struct PtxInstruction {
    /// Line of the source, from 1.
    pub line: usize,
    /// Its index in the module's list of distinct opcodes.
    pub opcode: u32,
    /// The lanes it is for; all without one.
    pub guard: Option<Guard>,
    pub operation: PtxOperation,
}

/// Logic on predicates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Logic {
    And,
    Or,
    Xor,
}

/// `[register + offset]`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Address {
    pub space: Space,
    pub base: Register,
    pub offset: i64,
}

/// `ld` and `st`: `registers.len()` values of type `each`, one after another.
pub(super) struct Transfer {
    pub address: Address,
    pub each: PtxType,
    /// `None` where `_` stands.
    pub registers: Vec<Option<Register>>,
    /// Ordered with other such accesses: volatile, relaxed, acquire, release.
    pub strong: bool,
}

/// `cp.async`.
pub(super) struct CopyAsync {
    pub to: Address,
    pub from: Address,
    /// Bytes written: 4, 8 or 16.
    pub length: u32,
    /// Bytes read, where fewer than are written; the rest is zero.
    pub source_length: Option<Register>,
    /// Lanes that read nothing.
    pub ignore_source: Option<Guard>,
}

/// What an atomic operation does with the old value and its operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Update {
    Add,
    Min,
    Max,
    And,
    Or,
    Xor,
    Exchange,
    CompareExchange,
    Increment,
    Decrement,
}

/// `atom` and `red`.
pub(super) struct Atomic {
    pub address: Address,
    pub update: Update,
    pub each: PtxType,
    pub operand: Register,
    /// What takes the operand's place in `cas`, whose operand is what is compared.
    pub replacement: Option<Register>,
    pub to: Option<Register>,
}

/// How `shfl` finds the lane to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shuffle {
    Up,
    Down,
    Butterfly,
    Index,
}

/// `vote`, over predicates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Vote {
    All,
    Any,
    Uniform,
    Ballot,
}

/// The element type of a matrix fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FragmentElement {
    F16,
    Bf16,
    F32,
}

/// `wmma.load` and `wmma.store`.
pub(super) struct Fragment {
    pub address: Address,
    pub element: FragmentElement,
    pub rows: u32,
    pub columns: u32,
    /// Elements of a column lie together.
    pub column_major: bool,
    /// Elements from a row (column) to the next; as many as there are columns (rows) without one.
    pub stride: Option<Register>,
    pub registers: Vec<Register>,
}

/// A product of matrices: `mma` and `wmma.mma`, accumulated in f32.
pub(super) struct MatrixProduct {
    pub element: FragmentElement,
    /// Rows of A, columns of B, columns of A.
    pub shape: (usize, usize, usize),
    /// The opaque layout of `wmma` rather than that of `mma`.
    pub opaque: bool,
    pub to: Vec<Register>,
    pub a: Vec<Register>,
    pub b: Vec<Register>,
    pub c: Vec<Register>,
}

/// What an instruction does.
pub(super) enum PtxOperation {
    Compute {
        function: LaneFunction,
        from: [Register; 4],
        to: Register,
    },
    Convert {
        conversion: Conversion,
        from: Register,
        to: Register,
    },
    Test {
        test: Test,
        from: [Register; 2],
        combine: Option<(Logic, Guard)>,
        to: Option<u32>,
        complement: Option<u32>,
    },
    SetValue {
        test: Test,
        from: [Register; 2],
        combine: Option<(Logic, Guard)>,
        one: u32,
        to: Register,
    },
    Select {
        from: [Register; 2],
        by: Guard,
        to: Register,
    },
    Combine {
        logic: Logic,
        from: [Guard; 2],
        negated: bool,
        to: u32,
    },
    Move {
        from: Register,
        to: Register,
    },
    /// `mov` of a vector into one register, the first part lowest.
    Pack {
        from: Vec<Register>,
        bits: u32,
        to: Register,
    },
    Unpack {
        from: Register,
        bits: u32,
        to: Vec<Option<Register>>,
    },
    Load(Transfer),
    Store(Transfer),
    CopyAsync(CopyAsync),
    CommitCopies,
    /// Waits until at most so many of the newest groups are under way.
    WaitCopies(u32),
    WaitAllCopies,
    Atomic(Atomic),
    LoadMatrices {
        address: Address,
        transposed: bool,
        registers: Vec<Register>,
    },
    StoreMatrices {
        address: Address,
        transposed: bool,
        registers: Vec<Register>,
    },
    LoadFragment(Fragment),
    StoreFragment(Fragment),
    Product(MatrixProduct),
    Shuffle {
        how: Shuffle,
        from: Register,
        lane: Register,
        clamp: Register,
        members: Register,
        to: Register,
        valid: Option<u32>,
    },
    Vote {
        how: Vote,
        from: Guard,
        members: Register,
        to: Result<Register, u32>,
    },
    Reduce {
        update: Update,
        signed: bool,
        from: Register,
        members: Register,
        to: Register,
    },
    ActiveMask {
        to: Register,
    },
    Barrier {
        id: Register,
        threads: Option<Register>,
    },
    WarpBarrier {
        members: Register,
    },
    /// Orders memory as seen by others, which here is always so.
    Fence,
    Branch {
        target: u32,
    },
    BranchIndexed {
        index: Register,
        targets: Vec<u32>,
    },
    Return,
    Trap,
}
