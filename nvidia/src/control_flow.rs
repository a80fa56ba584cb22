//! The loops of machine code, as natural loops of its control flow graph: an edge from a block back to one through which every path to
//! it leads, and all that lies between. Ranges of addresses would not do, since `ptxas` moves blocks.
//!
//! What a reader of SASS must know of its branches:
//! - `BSSY B0, there` … `BSYNC B0`: threads that went different ways wait at the second and go on at `there`.
//! - `CALL` of a place from which no `RET` is reached is a jump, which `ptxas` writes at the end of loops.
//! - `BRA.DIV` goes to code for warps whose threads are apart, one thread after the other. It is in the loop, but no warp of a kernel
//!   without divergence executes it; such instructions are kept apart.

use crate::sass::{MachineFunction, MachineInstruction, SassError};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;

/// A loop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineLoop {
    /// The address of the block that it begins with, in bytes from the function's beginning.
    pub header: u64,
    /// How many loops it is in, itself included.
    pub depth: usize,
    /// Whether there is no loop in it.
    pub innermost: bool,
    /// The places of its instructions in [`MachineFunction::instructions`], those of loops in it included, ascending.
    pub instructions: Vec<usize>,
    /// Likewise, what is executed only where the threads of a warp are apart.
    pub divergent: Vec<usize>,
}

impl MachineLoop {
    /// Whether `other`, of the same function, is in it.
    pub fn contains(&self, other: &MachineLoop) -> bool {
        // Loops are apart, or one is in the other as a whole.
        let first = other.instructions.first();
        first.is_some_and(|first| *self != *other && self.instructions.binary_search(first).is_ok())
    }
}

impl MachineFunction {
    /// Its loops, by the addresses where they begin.
    ///
    /// # Errors
    /// [`SassError::Computed`], where a branch takes its address from a register.
    pub fn loops(&self) -> Result<Vec<MachineLoop>, SassError> {
        let graph = Graph::of(self)?;
        let bodies = graph.natural_loops();
        let found = bodies.iter().map(|(header, body)| {
            let executed = graph.reached(*header, |edge| !edge.divergent && body.contains(&edge.to));
            let instructions = |blocks: &mut dyn Iterator<Item = &usize>| -> Vec<usize> {
                blocks.flat_map(|block| graph.blocks[*block].clone()).collect()
            };
            MachineLoop {
                header: self.instructions[graph.blocks[*header].start].address,
                depth: bodies.values().filter(|other| other.contains(header)).count(),
                innermost: !bodies.keys().any(|other| other != header && body.contains(other)),
                instructions: instructions(&mut executed.iter()),
                divergent: instructions(&mut body.difference(&executed)),
            }
        });
        Ok(found.collect())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Edge {
    to: usize,
    /// It is taken where the threads of a warp are apart.
    divergent: bool,
}

/// Blocks of instructions that are executed one after the other.
struct Graph {
    /// The instructions of each block.
    blocks: Vec<Range<usize>>,
    /// Where each goes.
    edges: Vec<BTreeSet<Edge>>,
    /// Those that a function begins with.
    entries: BTreeSet<usize>,
}

impl Graph {
    fn of(function: &MachineFunction) -> Result<Graph, SassError> {
        let blocks = blocks(&function.instructions);
        let of_address: HashMap<u64, usize> = blocks
            .iter()
            .enumerate()
            .map(|(block, range)| (function.instructions[range.start].address, block))
            .collect();
        let count = blocks.len();
        let mut graph = Graph { blocks, edges: vec![BTreeSet::new(); count], entries: BTreeSet::from([0]) };
        let mut calls = Vec::new();
        let mut returns = BTreeSet::new();
        for block in 0..count {
            let last = &function.instructions[graph.blocks[block].end - 1];
            let target = last.target.and_then(|address| of_address.get(&address).copied());
            let mut falls_through = is_conditional(last);
            match (last.operation(), target) {
                ("BRA" | "JMP", Some(to)) => {
                    graph.edges[block].insert(Edge { to, divergent: last.has("DIV") });
                }
                ("BRA" | "JMP" | "BRX" | "JMX" | "BRXU" | "JMXU", _) => {
                    return Err(SassError::Computed {
                        function: function.name.clone(),
                        address: last.address,
                        text: last.text(),
                    });
                }
                ("EXIT" | "KILL", _) => {}
                ("RET", _) => {
                    returns.insert(block);
                }
                ("BSYNC", _) => {} // below
                (operation, target) => {
                    falls_through = true;
                    calls.extend(target.filter(|_| operation == "CALL").map(|to| (block, to, is_conditional(last))));
                }
            }
            if falls_through && block + 1 < count {
                graph.edges[block].insert(Edge { to: block + 1, divergent: false });
            }
        }
        for (block, to, conditional) in calls {
            if graph.reached(to, |_| true).is_disjoint(&returns) {
                if !conditional {
                    graph.edges[block].clear();
                }
                graph.edges[block].insert(Edge { to, divergent: false });
            } else {
                graph.entries.insert(to);
            }
        }
        graph.join_threads(function, &of_address);
        Ok(graph)
    }

    /// Adds the edges of BSYNC: to where the BSSYs that it may follow say, or else to what follows it.
    fn join_threads(&mut self, function: &MachineFunction, of_address: &HashMap<u64, usize>) {
        type Joins<'a> = BTreeMap<&'a str, BTreeSet<u64>>;
        let mut at_entry: Vec<Joins> = vec![Joins::new(); self.blocks.len()];
        let mut seen: BTreeSet<usize> = self.entries.clone();
        let mut work: Vec<usize> = seen.iter().copied().collect();
        while let Some(block) = work.pop() {
            let mut joins = at_entry[block].clone();
            for instruction in &function.instructions[self.blocks[block].clone()] {
                let barrier = instruction.operands.split(',').next().unwrap_or_default().trim();
                match (instruction.operation(), instruction.target) {
                    ("BSSY", Some(target)) => {
                        joins.insert(barrier, BTreeSet::from([target]));
                    }
                    ("BSYNC", _) => {
                        let targets = joins.remove(barrier).unwrap_or_default();
                        let mut to: Vec<usize> =
                            targets.iter().filter_map(|target| of_address.get(target).copied()).collect();
                        if to.is_empty() && block + 1 < self.blocks.len() {
                            to.push(block + 1);
                        }
                        self.edges[block].extend(to.iter().map(|to| Edge { to: *to, divergent: false }));
                    }
                    _ => {}
                }
            }
            for to in self.edges[block].iter().map(|edge| edge.to) {
                let known = &mut at_entry[to];
                let before = known.clone();
                for (barrier, targets) in &joins {
                    known.entry(barrier).or_default().extend(targets);
                }
                if seen.insert(to) | (*known != before) {
                    work.push(to);
                }
            }
        }
    }

    /// The blocks that paths of such edges from `start` lead to, and `start`.
    fn reached(&self, start: usize, follow: impl Fn(&Edge) -> bool) -> BTreeSet<usize> {
        let mut reached = BTreeSet::from([start]);
        let mut work = vec![start];
        while let Some(block) = work.pop() {
            for edge in self.edges[block].iter().filter(|edge| follow(edge)) {
                if reached.insert(edge.to) {
                    work.push(edge.to);
                }
            }
        }
        reached
    }

    /// The blocks of each loop, by the one that it begins with.
    fn natural_loops(&self) -> BTreeMap<usize, BTreeSet<usize>> {
        let dominators = self.dominators();
        let mut predecessors: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for block in dominators.keys() {
            for edge in &self.edges[*block] {
                predecessors.entry(edge.to).or_default().push(*block);
            }
        }
        let mut loops: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
        for (block, above) in &dominators {
            for header in self.edges[*block].iter().map(|edge| edge.to).filter(|to| above.contains(to)) {
                let body = loops.entry(header).or_insert_with(|| BTreeSet::from([header]));
                let mut work = vec![*block];
                while let Some(block) = work.pop() {
                    if body.insert(block) {
                        work.extend(predecessors.get(&block).into_iter().flatten());
                    }
                }
            }
        }
        loops
    }

    /// Of each block that is reached, those through which every path to it leads, and itself.
    fn dominators(&self) -> BTreeMap<usize, BTreeSet<usize>> {
        let mut dominators: BTreeMap<usize, BTreeSet<usize>> =
            self.entries.iter().map(|entry| (*entry, BTreeSet::from([*entry]))).collect();
        let mut work: Vec<usize> = self.entries.iter().copied().collect();
        while let Some(block) = work.pop() {
            let above = dominators[&block].clone();
            for to in self.edges[block].iter().map(|edge| edge.to) {
                let mut through: BTreeSet<usize> = match dominators.get(&to) {
                    // Every entry has paths of length 0.
                    _ if self.entries.contains(&to) => continue,
                    Some(known) => known.intersection(&above).copied().collect(),
                    None => above.clone(),
                };
                through.insert(to);
                if dominators.get(&to) != Some(&through) {
                    dominators.insert(to, through);
                    work.push(to);
                }
            }
        }
        dominators
    }
}

/// Whether it may not be executed, or not go where it says.
fn is_conditional(instruction: &MachineInstruction) -> bool {
    let branch = ["BRA", "JMP"].contains(&instruction.operation());
    instruction.guard.is_some() || (branch && instruction.operands.contains(','))
}

fn blocks(instructions: &[MachineInstruction]) -> Vec<Range<usize>> {
    const ENDS: [&str; 12] =
        ["BRA", "JMP", "BRX", "JMX", "BRXU", "JMXU", "EXIT", "KILL", "RET", "CALL", "BSYNC", "BPT"];
    let targets: BTreeSet<u64> = instructions.iter().filter_map(|instruction| instruction.target).collect();
    let mut starts = BTreeSet::new();
    for (at, instruction) in instructions.iter().enumerate() {
        let after_end = at == 0 || ENDS.contains(&instructions[at - 1].operation());
        if after_end || targets.contains(&instruction.address) {
            starts.insert(at);
        }
    }
    let ends = starts.iter().copied().skip(1).chain([instructions.len()]);
    starts.iter().copied().zip(ends).map(|(start, end)| start..end).collect()
}

#[cfg(test)]
mod tests {
    use crate::sass::parse;

    /// Where a loop begins, its depth, whether it is innermost, and the addresses of its instructions, and of those for divergent warps.
    /// Addresses are in units of 16 bytes.
    type Outline = (u64, usize, bool, Vec<u64>, Vec<u64>);

    /// Loops of a listing in which a line is an instruction 16 bytes after the last.
    fn loops(listing: &str) -> Vec<Outline> {
        let lines = listing.trim().lines().enumerate();
        let text: String = lines.map(|(at, line)| format!("/*{:04x}*/ {} ;\n", at * 16, line.trim())).collect();
        let function = parse(&format!("Function : k\n{text}")).unwrap().remove(0);
        let at = |places: &[usize]| places.iter().map(|place| function.instructions[*place].address / 16).collect();
        let found = function.loops().unwrap();
        found
            .iter()
            .map(|one| (one.header / 16, one.depth, one.innermost, at(&one.instructions), at(&one.divergent)))
            .collect()
    }

    #[test]
    fn a_loop_is_found_and_what_is_around_it_is_not_in_it() {
        assert_eq!(
            loops("MOV R1, R2\nFADD R1, R1, R2\n@P0 BRA 0x10\nEXIT\nBRA 0x40"),
            [(1, 1, true, vec![1, 2], vec![])]
        );
    }

    #[test]
    fn loops_in_loops() {
        let listing = "MOV\nFADD\nFMUL\n@P0 BRA 0x20\nFFMA\n@P1 BRA 0x10\nEXIT";
        assert_eq!(loops(listing), [(1, 1, false, vec![1, 2, 3, 4, 5], vec![]), (2, 2, true, vec![2, 3], vec![])]);
    }

    #[test]
    fn a_part_behind_the_exit_is_in_the_loop() {
        let listing = "MOV\n@P1 BRA 0x50\nFADD\n@P0 BRA 0x10\nEXIT\nFMUL\nBRA 0x20";
        assert_eq!(loops(listing), [(1, 1, true, vec![1, 2, 3, 5, 6], vec![])]);
    }

    #[test]
    fn code_for_divergent_warps_is_apart() {
        let listing = "MOV\nBRA.DIV UR4, 0x50\nSHFL.BFLY\n@P0 BRA 0x10\nEXIT\nWARPSYNC\nBRA 0x30";
        assert_eq!(loops(listing), [(1, 1, true, vec![1, 2, 3], vec![5, 6])]);
    }

    #[test]
    fn threads_meet_where_the_region_says() {
        // The region ends behind the exit, and its threads go on in the loop.
        let listing = "MOV\nBSSY B0, 0x40\n@P1 BRA 0x70\nBRA 0x80\nFADD\n@P0 BRA 0x10\nEXIT\nFMUL\nBSYNC B0\nNOP";
        assert_eq!(loops(listing), [(1, 1, true, vec![1, 2, 3, 4, 5, 7, 8], vec![])]);
        // Another region with that barrier, after the loop, is none of its business.
        let listing = "BSSY B0, 0x20\nBSYNC B0\nFADD\n@P0 BRA 0x20\nBSSY B0, 0x60\nBSYNC B0\nEXIT";
        assert_eq!(loops(listing), [(2, 1, true, vec![2, 3], vec![])]);
    }

    #[test]
    fn calls_come_back_if_there_is_a_return() {
        let jump = "MOV\n@P0 CALL.REL.NOINC 0x30\nBRA 0x10\nEXIT";
        assert_eq!(loops(jump), [(1, 1, true, vec![1, 2], vec![])]);
        // What is called is not in the loop, and has one of its own.
        let call = "MOV\nCALL.REL.NOINC 0x40\n@P0 BRA 0x10\nEXIT\nFADD\n@P1 BRA 0x40\nRET.REL.NODEC R2 0x0";
        assert_eq!(loops(call), [(1, 1, true, vec![1, 2], vec![]), (4, 1, true, vec![4, 5], vec![])]);
    }

    #[test]
    fn a_computed_branch_is_an_error() {
        let functions = parse("Function : k\n/*0000*/ BRX R2 -0x10 ;\n/*0010*/ EXIT ;").unwrap();
        let error = functions[0].loops().unwrap_err().to_string();
        let expected =
            "the instruction at 0x0 of `k`, `BRX R2 -0x10`, goes to a computed address, which is not followed";
        assert_eq!(error, expected);
    }
}
