//! The fundamental types of PTX (PTX ISA, "Types" and "Packed Floating Point Data Types") and its state spaces.

use std::fmt;

/// What the bits of an operand mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum PtxType {
    Pred,
    B8,
    B16,
    B32,
    B64,
    U8,
    U16,
    U32,
    U64,
    S8,
    S16,
    S32,
    S64,
    F16,
    Bf16,
    F16x2,
    Bf16x2,
    F32,
    F64,
}

impl PtxType {
    /// The type that a word such as `u32` names.
    pub(super) fn named(word: &str) -> Option<PtxType> {
        Some(match word {
            "pred" => PtxType::Pred,
            "b8" => PtxType::B8,
            "b16" => PtxType::B16,
            "b32" => PtxType::B32,
            "b64" => PtxType::B64,
            "u8" => PtxType::U8,
            "u16" => PtxType::U16,
            "u32" => PtxType::U32,
            "u64" => PtxType::U64,
            "s8" => PtxType::S8,
            "s16" => PtxType::S16,
            "s32" => PtxType::S32,
            "s64" => PtxType::S64,
            "f16" => PtxType::F16,
            "bf16" => PtxType::Bf16,
            "f16x2" => PtxType::F16x2,
            "bf16x2" => PtxType::Bf16x2,
            "f32" => PtxType::F32,
            "f64" => PtxType::F64,
            _ => return None,
        })
    }

    /// The width of a value in bits; a predicate counts as one.
    pub(super) fn bits(self) -> u32 {
        match self {
            PtxType::Pred => 1,
            PtxType::B8 | PtxType::U8 | PtxType::S8 => 8,
            PtxType::B16 | PtxType::U16 | PtxType::S16 | PtxType::F16 | PtxType::Bf16 => 16,
            PtxType::B32 | PtxType::U32 | PtxType::S32 | PtxType::F32 | PtxType::F16x2 | PtxType::Bf16x2 => 32,
            PtxType::B64 | PtxType::U64 | PtxType::S64 | PtxType::F64 => 64,
        }
    }

    pub(super) fn is_signed(self) -> bool {
        matches!(self, PtxType::S8 | PtxType::S16 | PtxType::S32 | PtxType::S64)
    }

    pub(super) fn is_float(self) -> bool {
        matches!(self, PtxType::F16 | PtxType::Bf16 | PtxType::F16x2 | PtxType::Bf16x2 | PtxType::F32 | PtxType::F64)
    }
}

/// Where an address points (PTX ISA, "State Spaces").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Space {
    /// The parameters of the kernel.
    Param,
    /// Memory that all threads of a launch see.
    Global,
    /// Initialised arrays of the module, which nothing may write.
    Constant,
    /// Memory of one block.
    Shared,
    /// Memory of one thread.
    Local,
    /// Any of these, told apart by the address.
    Generic,
}

impl fmt::Display for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Space::Param => "parameter",
            Space::Global => "global",
            Space::Constant => "constant",
            Space::Shared => "shared",
            Space::Local => "local",
            Space::Generic => "generic",
        })
    }
}

/// Addresses of a space are the same in the space and as generic ones, so that `cvta` is a move. All but global ones fit 32 bits, as
/// kernels are free to compute shared addresses in 32 bits.
pub(super) const SHARED_WINDOW: u64 = 0x1000_0000;
pub(super) const LOCAL_WINDOW: u64 = 0x2000_0000;
pub(super) const PARAM_WINDOW: u64 = 0x3000_0000;
pub(super) const CONSTANT_WINDOW: u64 = 0x4000_0000;
/// Where windows end, and the least address of global memory.
pub(super) const GLOBAL_WINDOW: u64 = 1 << 40;

impl Space {
    /// The space a generic address lies in.
    pub(super) fn of(address: u64) -> Option<Space> {
        const END: u64 = CONSTANT_WINDOW + 0x1000_0000;
        Some(match address {
            SHARED_WINDOW..LOCAL_WINDOW => Space::Shared,
            LOCAL_WINDOW..PARAM_WINDOW => Space::Local,
            PARAM_WINDOW..CONSTANT_WINDOW => Space::Param,
            CONSTANT_WINDOW..END => Space::Constant,
            GLOBAL_WINDOW.. => Space::Global,
            _ => return None,
        })
    }
}
