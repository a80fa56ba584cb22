//! How near a loop can come to the peak of the tensor cores, by what it issues: an upper limit, in which nothing waits for anything.
//!
//! A multiprocessor has four quarters. Each issues one instruction of a warp per cycle and has its own tensor core, multipliers, integer unit
//! and special function unit; the four share one path to shared memory and the L1 cache. An instruction of a warp, 32 threads, keeps a unit of n lanes for 32 / n
//! cycles. The loop takes at least as long as the unit that is busy for longest, and its tensor cores are busy for their own share of that.
//!
//! | cycles of a quarter | 8.0 | 9.0 | source |
//! |---|---|---|---|
//! | any instruction, to issue | 1 | 1 | A |
//! | HMMA m×n×k of f16, bf16 | m·n·k / 256: 8 for 16816 | m·n·k / 512: 4 | B: 1024 and 2048 multiply-adds a cycle of a multiprocessor |
//! | the same of TF32 | twice that | twice that | B |
//! | MUFU | 8 | 8 | A: 16 results a cycle |
//! | FFMA, FMUL, FADD | 2 | 1 | A: 64 and 128 results a cycle |
//! | IMAD, on the same unit | 2 | 1 | A, C: 64 results a cycle; half of the multipliers of 9.0 |
//! | integers, FMNMX, FSEL, FSETP, conversions to f16 | 2 | 2 | A: 64 results a cycle; C: one unit |
//! | LDSM, LDS, STS, LDGSTS, LDG, STG | 4 for each 128 bytes of a warp | likewise | A: 32 banks of 4 bytes, for the four quarters; no conflicts |
//! | SHFL | 4 | 4 | A: 32 results a cycle |
//!
//! - A: NVIDIA, CUDA C++ Programming Guide, "Arithmetic Instructions", table of throughputs, and "Compute Capabilities", sections 8.x and 9.0,
//!   <https://docs.nvidia.com/cuda/archive/12.9.1/cuda-c-programming-guide/index.html#arithmetic-instructions>
//! - B: NVIDIA, "A100 Tensor Core GPU Architecture" (312 TFLOPS of f16 at 1.41 GHz on 108 multiprocessors), and "H100 Tensor Core GPU
//!   Architecture" (989 TFLOPS at 1.83 GHz on 132). On 9.0 that is with the instructions of warp groups, WGMMA. HMMA was measured well below
//!   it (Luo et al. 2024, "Benchmarking and Dissecting the Nvidia Hopper GPU Architecture", arXiv:2402.13499), which is not in the
//!   numbers here: on 9.0 the limit is farther from what can be had.
//! - C: NVIDIA, Nsight Compute, Kernel Profiling Guide, "Pipelines", <https://docs.nvidia.com/nsight-compute/ProfilingGuide/index.html>

use crate::instruction_counts::InstructionCounts;
use std::fmt::{self, Display, Formatter};

/// What instructions keep busy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FunctionalUnit {
    /// The tensor core.
    Tensor,
    /// The scheduler, which issues one instruction per cycle.
    Issue,
    /// The special function unit.
    Mufu,
    /// The multipliers.
    Fp32,
    /// The unit for integers, comparisons and selections.
    Integer,
    /// The path to shared memory and the L1 cache, of the whole multiprocessor.
    Memory,
}

impl FunctionalUnit {
    /// All of them.
    pub const ALL: [FunctionalUnit; 6] = [
        FunctionalUnit::Tensor,
        FunctionalUnit::Issue,
        FunctionalUnit::Mufu,
        FunctionalUnit::Fp32,
        FunctionalUnit::Integer,
        FunctionalUnit::Memory,
    ];

    /// Its name: `tensor`, `issue`, `mufu`, `fp32`, `integer`, `memory`.
    pub fn name(self) -> &'static str {
        match self {
            FunctionalUnit::Tensor => "tensor",
            FunctionalUnit::Issue => "issue",
            FunctionalUnit::Mufu => "mufu",
            FunctionalUnit::Fp32 => "fp32",
            FunctionalUnit::Integer => "integer",
            FunctionalUnit::Memory => "memory",
        }
    }
}

impl Display for FunctionalUnit {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How long a pass of a loop keeps each unit busy, in cycles of a quarter multiprocessor for a warp.
#[derive(Clone, Debug, PartialEq)]
pub struct Roofline {
    cycles: [f64; FunctionalUnit::ALL.len()],
}

impl Roofline {
    /// Of a loop on compute capability `sm` / 10; `None` for one that is not in the table of this module, which has 80 and 90.
    pub fn of(counts: &InstructionCounts, sm: u32) -> Option<Roofline> {
        let hopper = match sm {
            80 => false,
            90 => true,
            _ => return None,
        };
        let mut roofline = Roofline { cycles: [0.0; FunctionalUnit::ALL.len()] };
        for (opcode, count) in &counts.opcodes {
            roofline.add(FunctionalUnit::Issue, f64::from(*count));
            if let Some((unit, cycles)) = unit(opcode, hopper) {
                roofline.add(unit, cycles * f64::from(*count));
            }
        }
        Some(roofline)
    }

    fn add(&mut self, unit: FunctionalUnit, cycles: f64) {
        self.cycles[unit as usize] += cycles;
    }

    /// How long `unit` is busy, in cycles of a quarter multiprocessor.
    pub fn cycles(&self, unit: FunctionalUnit) -> f64 {
        self.cycles[unit as usize]
    }

    /// The unit that is busy for longest; the tensor core where others are busy as long.
    pub fn bound(&self) -> FunctionalUnit {
        let longest = |a: FunctionalUnit, b: FunctionalUnit| if self.cycles(b) > self.cycles(a) { b } else { a };
        FunctionalUnit::ALL.into_iter().fold(FunctionalUnit::Tensor, longest)
    }

    /// The share of the time, at most 1, for which the tensor core can be busy: of its peak, the most that the loop can reach.
    pub fn tensor_fraction(&self) -> f64 {
        let longest = self.cycles(self.bound());
        if longest > 0.0 { self.cycles(FunctionalUnit::Tensor) / longest } else { 0.0 }
    }
}

/// What an instruction keeps busy besides the scheduler, and for how long.
fn unit(opcode: &str, hopper: bool) -> Option<(FunctionalUnit, f64)> {
    let mut parts = opcode.split('.');
    let operation = parts.next().unwrap_or_default();
    let modifiers: Vec<&str> = parts.collect();
    let fp32 = if hopper { 1.0 } else { 2.0 };
    let memory = |bytes: f64| Some((FunctionalUnit::Memory, 4.0 * (bytes * 32.0 / 128.0).max(1.0)));
    match operation {
        "HMMA" => {
            let rate = if hopper { 512.0 } else { 256.0 };
            let slower = if modifiers.contains(&"TF32") { 2.0 } else { 1.0 };
            let products = modifiers.iter().find_map(|modifier| products(modifier))?;
            Some((FunctionalUnit::Tensor, slower * products / rate))
        }
        "MUFU" => Some((FunctionalUnit::Mufu, 8.0)),
        "FFMA" | "FMUL" | "FADD" | "IMAD" => Some((FunctionalUnit::Fp32, fp32)),
        "FMNMX" | "FSEL" | "FSET" | "FSETP" | "F2FP" | "I2FP" | "IADD3" | "VIADD" | "IABS" | "IMNMX" | "VIMNMX"
        | "VIADDMNMX" | "ISETP" | "LEA" | "LOP3" | "SHF" | "SEL" | "PRMT" | "PLOP3" | "BMSK" | "SGXT" | "MOV"
        | "P2R" | "R2P" | "VOTE" => Some((FunctionalUnit::Integer, 2.0)),
        // Four matrices of 8 × 8 numbers of 16 bits: 4 bytes of a thread each.
        "LDSM" => memory(4.0 * modifiers.last().and_then(|count| count.parse::<f64>().ok()).unwrap_or(1.0)),
        "LDS" | "STS" | "LDG" | "STG" | "LDGSTS" => memory(bytes(&modifiers)),
        "SHFL" => Some((FunctionalUnit::Memory, 4.0)),
        _ => None,
    }
}

/// The multiply-adds of a shape: 16 · 8 · 16 of `16816`.
fn products(shape: &str) -> Option<f64> {
    match shape {
        "16816" => Some(2048.0),
        "1688" => Some(1024.0),
        "1684" => Some(512.0),
        "884" => Some(256.0),
        _ => None,
    }
}

/// What a thread loads or stores: 4 bytes where nothing is said.
fn bytes(modifiers: &[&str]) -> f64 {
    let of = |modifier: &&str| match *modifier {
        "128" => Some(16.0),
        "64" => Some(8.0),
        "U16" | "S16" => Some(2.0),
        "U8" | "S8" => Some(1.0),
        _ => None,
    };
    modifiers.iter().find_map(of).unwrap_or(4.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sass::parse;

    fn roofline(sm: u32, instructions: &[(&str, usize)]) -> Roofline {
        let all = instructions.iter().flat_map(|(opcode, count)| std::iter::repeat_n(*opcode, *count));
        let text: String = all.enumerate().map(|(at, one)| format!("/*{:04x}*/ {one} R1 ;\n", at * 16)).collect();
        let functions = parse(&format!("Function : k\n{text}")).unwrap();
        Roofline::of(&InstructionCounts::of(&functions[0].instructions), sm).unwrap()
    }

    #[test]
    fn the_longest_unit_is_the_bound() {
        // 128 products keep a tensor core of 8.0 busy for 1024 cycles, in which 659 instructions can be issued.
        let flash = [("HMMA.16816.F32", 128), ("FADD", 531)];
        assert_eq!(roofline(80, &flash[..1]).cycles(FunctionalUnit::Tensor), 1024.0);
        let bound = roofline(80, &flash);
        assert_eq!((bound.cycles(FunctionalUnit::Issue), bound.cycles(FunctionalUnit::Fp32)), (659.0, 1062.0));
        assert_eq!((bound.bound(), bound.tensor_fraction()), (FunctionalUnit::Fp32, 1024.0 / 1062.0));
        // On 9.0 products and additions take half as long, and issuing is what takes longest.
        let bound = roofline(90, &flash);
        assert_eq!((bound.cycles(FunctionalUnit::Tensor), bound.cycles(FunctionalUnit::Fp32)), (512.0, 531.0));
        assert_eq!((bound.bound(), bound.tensor_fraction()), (FunctionalUnit::Issue, 512.0 / 659.0));
    }

    #[test]
    fn each_unit_has_its_own_instructions() {
        let cycles = |opcode, unit| roofline(80, &[(opcode, 1)]).cycles(unit);
        assert_eq!(cycles("MUFU.EX2", FunctionalUnit::Mufu), 8.0);
        assert_eq!(cycles("HMMA.1688.F32.BF16", FunctionalUnit::Tensor), 4.0);
        assert_eq!(cycles("HMMA.1688.F32.TF32", FunctionalUnit::Tensor), 8.0);
        assert_eq!((cycles("FSEL", FunctionalUnit::Integer), cycles("FSEL", FunctionalUnit::Fp32)), (2.0, 0.0));
        assert_eq!(cycles("UIADD3", FunctionalUnit::Integer), 0.0);
        // A warp's four matrices are 512 bytes.
        assert_eq!(cycles("LDSM.16.MT88.4", FunctionalUnit::Memory), 16.0);
        assert_eq!(cycles("LDGSTS.E.BYPASS.LTC128B.128", FunctionalUnit::Memory), 16.0);
        assert_eq!(cycles("STS.U16", FunctionalUnit::Memory), 4.0);
        assert_eq!(cycles("SHFL.BFLY", FunctionalUnit::Memory), 4.0);
    }

    #[test]
    fn nothing_is_no_share_of_the_peak() {
        let bound = roofline(80, &[("FADD", 1)]);
        assert_eq!((bound.bound(), bound.tensor_fraction()), (FunctionalUnit::Fp32, 0.0));
        assert_eq!(Roofline::of(&InstructionCounts::default(), 75), None);
        assert_eq!(Roofline::of(&InstructionCounts::default(), 80).unwrap().tensor_fraction(), 0.0);
    }
}
