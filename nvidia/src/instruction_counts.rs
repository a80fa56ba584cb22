//! What is in a stretch of machine code: how many instructions, by what they do.
//!
//! The names of operations are those of "Instruction Set Reference" in NVIDIA's CUDA Binary Utilities,
//! <https://docs.nvidia.com/cuda/cuda-binary-utilities/>. `NOP` is not counted.

use crate::control_flow::MachineLoop;
use crate::sass::{MachineFunction, MachineInstruction};
use std::collections::BTreeMap;

/// What an instruction does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// It multiplies small matrices: HMMA, IMMA, HGMMA.
    Matrix,
    /// A function of one number by tables: MUFU.EX2, MUFU.TANH.
    Mufu,
    /// It loads matrices from shared memory: LDSM.
    Ldsm,
    /// It copies from global to shared memory, asynchronously: LDGSTS.
    Ldgsts,
    /// It loads from shared memory.
    Lds,
    /// It stores to shared memory.
    Sts,
    /// It loads from global memory.
    Ldg,
    /// It stores to global memory.
    Stg,
    /// It loads or stores what did not fit the registers: LDL, STL.
    Spill,
    /// Arithmetic and comparison of f32.
    Fp32,
    /// Arithmetic and comparison of two f16 or bf16 at once.
    Half2,
    /// From one type to another.
    Convert,
    /// Integers, addresses and predicates.
    Integer,
    /// A copy, of registers, constants or special registers.
    Move,
    /// It exchanges registers in a warp: SHFL.
    Shuffle,
    /// It waits for other warps, or for copies: BAR, DEPBAR, SYNCS.
    Barrier,
    /// It goes elsewhere, or joins threads that did.
    Branch,
    /// Anything else.
    Other,
}

impl Class {
    /// All of them, in the order in which they are printed.
    pub const ALL: [Class; 18] = [
        Class::Matrix,
        Class::Mufu,
        Class::Ldsm,
        Class::Ldgsts,
        Class::Lds,
        Class::Sts,
        Class::Ldg,
        Class::Stg,
        Class::Spill,
        Class::Fp32,
        Class::Half2,
        Class::Convert,
        Class::Integer,
        Class::Move,
        Class::Shuffle,
        Class::Barrier,
        Class::Branch,
        Class::Other,
    ];

    /// A short name in lower case: `hmma`, `ldsm`, `fp32`.
    pub fn name(self) -> &'static str {
        match self {
            Class::Matrix => "hmma",
            Class::Mufu => "mufu",
            Class::Ldsm => "ldsm",
            Class::Ldgsts => "ldgsts",
            Class::Lds => "lds",
            Class::Sts => "sts",
            Class::Ldg => "ldg",
            Class::Stg => "stg",
            Class::Spill => "spill",
            Class::Fp32 => "fp32",
            Class::Half2 => "half2",
            Class::Convert => "convert",
            Class::Integer => "integer",
            Class::Move => "move",
            Class::Shuffle => "shfl",
            Class::Barrier => "barrier",
            Class::Branch => "branch",
            Class::Other => "other",
        }
    }

    /// The class of an instruction; `None` for NOP. One that is never executed, as the loads of nothing that `ptxas` writes before LDGSTS,
    /// takes a turn to issue and does nothing else.
    pub fn of(instruction: &MachineInstruction) -> Option<Class> {
        if never(instruction) && instruction.operation() != "NOP" {
            return Some(Class::Other);
        }
        // `IMAD.MOV` is a copy on the multipliers.
        if instruction.operation() == "IMAD" && instruction.has("MOV") {
            return Some(Class::Move);
        }
        Some(match instruction.operation() {
            "NOP" => return None,
            "HMMA" | "IMMA" | "BMMA" | "DMMA" | "QGMMA" | "HGMMA" | "IGMMA" => Class::Matrix,
            "MUFU" => Class::Mufu,
            "LDSM" => Class::Ldsm,
            "LDGSTS" => Class::Ldgsts,
            "LDS" => Class::Lds,
            "STS" | "STSM" => Class::Sts,
            "LDG" | "LD" => Class::Ldg,
            "STG" | "ST" => Class::Stg,
            "LDL" | "STL" => Class::Spill,
            "FADD" | "FMUL" | "FFMA" | "FMNMX" | "FSEL" | "FSET" | "FSETP" | "FCHK" | "FSWZADD" => Class::Fp32,
            "HADD2" | "HMUL2" | "HFMA2" | "HMNMX2" | "HSET2" | "HSETP2" => Class::Half2,
            "F2F" | "F2FP" | "F2I" | "F2IP" | "I2F" | "I2FP" | "I2I" | "I2IP" | "FRND" => Class::Convert,
            "MOV" | "UMOV" | "CS2R" | "S2R" | "S2UR" | "R2UR" | "LDC" | "ULDC" | "MOVM" | "P2R" | "R2P" | "UP2UR"
            | "UR2UP" | "B2R" | "R2B" => Class::Move,
            "SHFL" => Class::Shuffle,
            "BAR" | "DEPBAR" | "LDGDEPBAR" | "LDSDEPBAR" | "SYNCS" | "WARPSYNC" | "ARRIVES" | "MEMBAR" | "ERRBAR"
            | "FENCE" | "CCTL" | "UCGABAR_ARV" | "UCGABAR_WAIT" | "WARPGROUP" | "NANOSLEEP" => Class::Barrier,
            "BRA" | "BRX" | "BRXU" | "JMP" | "JMX" | "JMXU" | "CALL" | "RET" | "EXIT" | "KILL" | "BSSY" | "BSYNC"
            | "BREAK" | "BMOV" | "YIELD" | "BPT" => Class::Branch,
            "IMAD" | "IMUL" | "IADD" | "IADD3" | "VIADD" | "IABS" | "IMNMX" | "VIMNMX" | "VIADDMNMX" | "ISETP"
            | "ICMP" | "LEA" | "LOP3" | "LOP" | "SHF" | "SHL" | "SHR" | "SEL" | "PRMT" | "PLOP3" | "POPC" | "FLO"
            | "BREV" | "BMSK" | "SGXT" | "IDP" | "IDP4A" | "VOTE" | "VOTEU" | "MATCH" | "REDUX" => Class::Integer,
            // The uniform datapath, which works for a warp and not for its threads.
            operation if is_uniform(operation) => Class::Integer,
            _ => Class::Other,
        })
    }
}

/// Whether an instruction is under a predicate that is never true.
fn never(instruction: &MachineInstruction) -> bool {
    instruction.guard.as_deref().is_some_and(|guard| ["!PT", "!UPT"].contains(&guard))
}

/// Whether an instruction is of the uniform datapath: its name is another's after a `U`.
fn is_uniform(operation: &str) -> bool {
    const UNIFORM: [&str; 21] = [
        "UIADD3", "UIMAD", "UISETP", "ULEA", "ULOP3", "ULOP", "USHF", "USHL", "USHR", "USEL", "UPRMT", "UPLOP3",
        "UPOPC", "UFLO", "UBREV", "UBMSK", "USGXT", "UP2UR", "UMOV", "ULDC", "UR2UP",
    ];
    UNIFORM.contains(&operation)
}

/// How many instructions of each kind there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InstructionCounts {
    /// By class.
    classes: BTreeMap<Class, u32>,
    /// By operation and modifiers: `HMMA.16816.F32`. Guards are left out, but for one that is never true: `@!PT LDS`.
    pub opcodes: BTreeMap<String, u32>,
}

impl InstructionCounts {
    /// Of `instructions`.
    pub fn of<'a>(instructions: impl IntoIterator<Item = &'a MachineInstruction>) -> InstructionCounts {
        let mut counts = InstructionCounts::default();
        for instruction in instructions {
            if let Some(class) = Class::of(instruction) {
                *counts.classes.entry(class).or_default() += 1;
                let guard = instruction.guard.iter().filter(|_| never(instruction));
                let opcode = guard.map(|guard| format!("@{guard} ")).chain([instruction.opcode.clone()]).collect();
                *counts.opcodes.entry(opcode).or_default() += 1;
            }
        }
        counts
    }

    /// Of a loop of `function`, without what only divergent warps execute.
    pub fn of_loop(function: &MachineFunction, one: &MachineLoop) -> InstructionCounts {
        InstructionCounts::of(one.instructions.iter().filter_map(|place| function.instructions.get(*place)))
    }

    /// All of them.
    pub fn total(&self) -> u32 {
        self.classes.values().sum()
    }

    /// Those of one class.
    pub fn class(&self, class: Class) -> u32 {
        self.classes.get(&class).copied().unwrap_or(0)
    }

    /// Those of one operation, by its modifiers: `EX2` and `TANH` of `MUFU`, `16816.F32` of `HMMA`.
    pub fn kinds(&self, operation: &str) -> BTreeMap<&str, u32> {
        let kinds = self.opcodes.iter().filter_map(|(opcode, count)| {
            let modifiers = opcode.strip_prefix(operation)?.strip_prefix('.')?;
            Some((modifiers, *count))
        });
        kinds.collect()
    }

    /// All instructions for each that multiplies matrices, that one included; `None` where none does.
    pub fn per_matrix(&self) -> Option<f64> {
        let matrices = self.class(Class::Matrix);
        (matrices > 0).then(|| f64::from(self.total()) / f64::from(matrices))
    }
}

/// The loop that decides of an attention kernel's speed, of a function's `loops` and what is in each: it goes over the keys.
///
/// It multiplies matrices, and has functions of MUFU too, since scores become weights between the two products; a loop over a part of the
/// head dim has none. Where no loop has both, the products are enough. Of such loops it has none in it; and of those the fewest instructions
/// for each product, because a kernel has one loop over tiles that are whole and others over those with a mask or a tail, which do the same
/// and more besides. `None` where no loop multiplies matrices.
pub fn hot_loop(loops: &[(MachineLoop, InstructionCounts)]) -> Option<&(MachineLoop, InstructionCounts)> {
    let multiplies = |counts: &InstructionCounts| counts.class(Class::Matrix) > 0;
    let weighs = |counts: &InstructionCounts| multiplies(counts) && counts.class(Class::Mufu) > 0;
    let any_weighs = loops.iter().any(|(_, counts)| weighs(counts));
    let candidates: Vec<&(MachineLoop, InstructionCounts)> =
        loops.iter().filter(|(_, counts)| if any_weighs { weighs(counts) } else { multiplies(counts) }).collect();
    let holds_another = |one: &MachineLoop| candidates.iter().any(|(other, _)| one.contains(other));
    let cost = |counts: &InstructionCounts| counts.per_matrix().unwrap_or(f64::INFINITY);
    let least = candidates.iter().filter(|(one, _)| !holds_another(one));
    least.min_by(|a, b| cost(&a.1).total_cmp(&cost(&b.1))).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sass::parse;

    fn counts(operations: &str) -> InstructionCounts {
        let text: String =
            operations.split(' ').enumerate().map(|(at, one)| format!("/*{:04x}*/ {one} R1 ;\n", at * 16)).collect();
        InstructionCounts::of(&parse(&format!("Function : k\n{text}")).unwrap()[0].instructions)
    }

    #[test]
    fn instructions_are_counted_by_what_they_do() {
        let counts = counts(
            "HMMA.16816.F32 HMMA.16816.F32 HMMA.1688.F32 MUFU.EX2 MUFU.TANH MUFU.EX2 LDSM.16.M88.4 NOP IMAD.MOV.U32 \
             IMAD.WIDE FMNMX STL LDGSTS.E.BYPASS.LTC128B.128 UIADD3 SOMETHING",
        );
        assert_eq!(counts.total(), 14);
        assert_eq!(counts.kinds("HMMA"), BTreeMap::from([("16816.F32", 2), ("1688.F32", 1)]));
        assert_eq!(counts.kinds("MUFU"), BTreeMap::from([("EX2", 2), ("TANH", 1)]));
        let of = |class| counts.class(class);
        assert_eq!((of(Class::Matrix), of(Class::Mufu), of(Class::Ldsm), of(Class::Ldgsts)), (3, 3, 1, 1));
        assert_eq!((of(Class::Move), of(Class::Integer), of(Class::Fp32), of(Class::Spill)), (1, 2, 1, 1));
        assert_eq!((of(Class::Other), of(Class::Lds)), (1, 0));
        assert_eq!(Class::ALL.iter().map(|class| counts.class(*class)).sum::<u32>(), 14);
        assert_eq!(counts.per_matrix(), Some(14.0 / 3.0));
    }

    #[test]
    fn the_hot_loop_weighs_and_multiplies_with_the_least_besides() {
        let one = |instructions: std::ops::Range<usize>, operations: &str| {
            let (header, instructions) = (instructions.start as u64 * 16, instructions.collect());
            (MachineLoop { header, depth: 1, innermost: true, instructions, divergent: vec![] }, counts(operations))
        };
        let loops = [
            one(0..9, "HMMA.16816.F32 MUFU.EX2"),
            one(1..3, "HMMA.16816.F32"),
            one(3..6, "HMMA.16816.F32 MUFU.EX2 FADD FADD"),
            one(6..9, "HMMA.16816.F32 MUFU.EX2 FADD"),
            one(10..12, "MUFU.EX2"),
        ];
        assert_eq!(hot_loop(&loops), Some(&loops[3]));
        assert_eq!(hot_loop(&loops[..3]), Some(&loops[2]));
        assert_eq!(hot_loop(&loops[..2]), Some(&loops[0]));
        assert_eq!(hot_loop(&loops[1..2]), Some(&loops[1]));
        assert_eq!(hot_loop(&loops[4..]), None);
    }
}
