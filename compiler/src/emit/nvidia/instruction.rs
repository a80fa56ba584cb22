//! The instructions of NVIDIA's GPUs that there is an operation for, and the 16-bit types that they take.

use crate::ir::Element;

/// What there is an operation for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::emit) enum Instruction {
    /// The address in shared memory of what a pointer points to.
    SharedAddress,
    /// Four 8×8 matrices of 16-bit elements from shared memory, `ldmatrix`: an address and bytes to be added to it. The rows of a
    /// matrix are where eight neighbouring lanes say.
    LoadMatrices {
        /// Whether the matrices are transposed.
        transposed: bool,
    },
    /// `[16, 16] × [16, 8]`, `mma.m16n8k16`: an A, two B side by side, a C.
    Multiply {
        /// The type of A and B.
        element: Half,
        /// Whether B is the second.
        upper: bool,
    },
    /// Two C, rounded to an A.
    Pack {
        /// The type of A.
        element: Half,
    },
    /// A copy of 16 bytes from global to shared memory that goes on by itself, `cp.async`: an address and bytes to be added to it, a
    /// pointer, and how many bytes are read; the rest are zeros.
    Copy,
    /// What this unit has begun to copy becomes a group, `cp.async.commit_group`.
    Commit,
    /// Until all groups of this unit are there, `cp.async.wait_group`.
    Wait,
    /// A number as it is, of which the compiler is to believe that it is another each time.
    Opaque,
    /// At the beginning of a loop's body: `ptxas` is not to compute several rounds of it at once, `.pragma "nounroll"`.
    KeepRolled,
}

/// A type of 16 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Half {
    /// IEEE's.
    F16,
    /// The upper half of an f32.
    Bf16,
}

impl Half {
    /// That of `element`, which must have 16 bits.
    pub fn of(element: Element) -> Half {
        match element {
            Element::F16 => Half::F16,
            Element::Bf16 => Half::Bf16,
            Element::F32 => panic!("tensor cores multiply f16 and bf16, not f32"),
        }
    }

    /// Its name in PTX.
    pub(in crate::emit) fn ptx(self) -> &'static str {
        match self {
            Half::F16 => "f16",
            Half::Bf16 => "bf16",
        }
    }
}

impl Instruction {
    /// Its name in CubeCL IR.
    #[cfg(any(feature = "emit", feature = "cuda"))]
    pub(in crate::emit) fn name(self) -> String {
        format!("{self:?}")
    }

    /// The instruction of that name.
    #[cfg(any(feature = "emit", feature = "cuda"))]
    pub(in crate::emit) fn named(name: &str) -> Option<Instruction> {
        let halves = [Half::F16, Half::Bf16];
        let products =
            halves.iter().flat_map(|&element| [false, true].map(|upper| Instruction::Multiply { element, upper }));
        let others = [
            Instruction::SharedAddress,
            Instruction::LoadMatrices { transposed: false },
            Instruction::LoadMatrices { transposed: true },
            Instruction::Copy,
            Instruction::Commit,
            Instruction::Wait,
            Instruction::Opaque,
            Instruction::KeepRolled,
        ];
        let packs = halves.map(|element| Instruction::Pack { element });
        products.chain(others).chain(packs).find(|instruction| instruction.name() == name)
    }

    /// Whether it computes something of its operands alone.
    #[cfg(any(feature = "emit", feature = "cuda"))]
    pub(in crate::emit) fn is_pure(self) -> bool {
        matches!(self, Instruction::SharedAddress | Instruction::Multiply { .. } | Instruction::Pack { .. })
    }
}
