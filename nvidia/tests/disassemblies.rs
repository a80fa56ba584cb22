//! A kernel as NVIDIA's tools print it, read and counted. Its PTX, `two_loops.ptx`, was assembled by ptxas 12.9 and disassembled by
//! nvdisasm 13.5 and cuobjdump 13.4; the numbers here were counted in their output by hand.

use purview_nvidia::control_flow::MachineLoop;
use purview_nvidia::instruction_counts::{Class, InstructionCounts, hot_loop};
use purview_nvidia::roofline::{FunctionalUnit, Roofline};
use purview_nvidia::sass::{MachineFunction, parse};
use std::collections::BTreeMap;

const SM_80: &str = include_str!("disassemblies/two_loops.sm_80.nvdisasm.txt");
const SM_80_CUOBJDUMP: &str = include_str!("disassemblies/two_loops.sm_80.cuobjdump.txt");
const SM_90: &str = include_str!("disassemblies/two_loops.sm_90.nvdisasm.txt");

fn counted(text: &str) -> (MachineFunction, Vec<(MachineLoop, InstructionCounts)>) {
    let function = parse(text).unwrap().remove(0);
    assert_eq!(function.name, "two_loops");
    let loops = function.loops().unwrap().into_iter();
    let loops = loops.map(|one| (one.clone(), InstructionCounts::of_loop(&function, &one))).collect();
    (function, loops)
}

/// Where each loop begins, its depth, whether it is innermost, and its instructions.
fn outline(loops: &[(MachineLoop, InstructionCounts)]) -> Vec<(u64, usize, bool, u32)> {
    loops.iter().map(|(one, counts)| (one.header, one.depth, one.innermost, counts.total())).collect()
}

/// The classes that there are instructions of.
fn classes(counts: &InstructionCounts) -> Vec<(&'static str, u32)> {
    let all = Class::ALL.map(|class| (class.name(), counts.class(class)));
    all.into_iter().filter(|(_, count)| *count > 0).collect()
}

#[test]
fn the_loops_of_ampere() {
    let (function, loops) = counted(SM_80);
    assert_eq!(function.instructions.len(), 80);
    assert_eq!(outline(&loops), [(0xb0, 1, true, 21), (0x230, 1, false, 29), (0x2f0, 2, true, 7)]);
    let full = [
        ("hmma", 2),
        ("mufu", 2),
        ("ldsm", 1),
        ("ldgsts", 1),
        ("convert", 1),
        ("integer", 4),
        ("move", 3),
        ("barrier", 3),
        ("branch", 1),
        ("other", 3), // loads that never load, before LDGSTS
    ];
    assert_eq!(classes(&loops[0].1), full);
    assert_eq!(classes(&loops[2].1), [("lds", 1), ("sts", 1), ("fp32", 2), ("integer", 2), ("branch", 1)]);
    assert_eq!(loops[1].1.kinds("MUFU"), BTreeMap::from([("EX2", 2), ("TANH", 1)]));
    assert_eq!(loops[1].1.kinds("HMMA"), BTreeMap::from([("16816.F32", 2)]));
    // The hot loop is that over full tiles.
    let hot = hot_loop(&loops).unwrap();
    assert_eq!((hot, hot.1.per_matrix()), (&loops[0], Some(10.5)));
    let roofline = Roofline::of(&hot.1, 80).unwrap();
    let cycles = FunctionalUnit::ALL.map(|unit| roofline.cycles(unit));
    // Two products, 21 turns, two powers, one IMAD; IADD3, ISETP, IADD3 and a conversion; LDSM and LDGSTS of 512 bytes each.
    assert_eq!(cycles, [16.0, 21.0, 16.0, 8.0, 8.0, 32.0]);
    assert_eq!((roofline.bound(), roofline.tensor_fraction()), (FunctionalUnit::Memory, 0.5));
}

#[test]
fn the_loops_of_hopper() {
    let (_, loops) = counted(SM_90);
    assert_eq!(outline(&loops), [(0x120, 1, true, 21), (0x2b0, 1, false, 30), (0x370, 2, true, 7)]);
    assert_eq!(hot_loop(&loops).unwrap().1.per_matrix(), Some(10.5));
}

#[test]
fn cuobjdump_is_read_likewise() {
    let (nvdisasm, cuobjdump) = (counted(SM_80), counted(SM_80_CUOBJDUMP));
    assert_eq!(cuobjdump.1, nvdisasm.1);
    let targets = |function: &MachineFunction| -> Vec<(u64, Option<u64>)> {
        function.instructions.iter().map(|instruction| (instruction.address, instruction.target)).collect()
    };
    assert_eq!(targets(&cuobjdump.0), targets(&nvdisasm.0));
}
