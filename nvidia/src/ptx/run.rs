//! A launch: blocks one after another, the warps of a block in turn from barrier to barrier.
//!
//! The order is fixed, so that a run always gives the same. It is one of those that a GPU may choose, and what depends on the choice
//! is a fault.

use super::block::{RunningBlock, Stop, Tally};
use super::clocks::Clocks;
use super::counts::{Counts, PlaceCounts, Traffic};
use super::fault::{Earlier, Fault, FaultPlace, Problem, Trouble};
use super::lanes::LANES;
use super::memory::DeviceMemory;
use super::module::Module;
use super::shared::Shared;
use super::warp::{BlockPosition, Warp};

/// What a kernel is launched with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GridLaunch {
    /// Blocks along x, y and z.
    pub grid: [u32; 3],
    /// Threads of a block along x, y and z.
    pub block: [u32; 3],
    /// Bytes of shared memory beside what the module declares.
    pub dynamic_shared: usize,
    /// The bytes of each parameter: an address as eight, least first, a struct as it lies in memory.
    pub parameters: Vec<Vec<u8>>,
}

/// Instructions that a warp may run unless said otherwise.
pub const STEP_LIMIT: u64 = 100_000_000;

/// Runs a kernel.
///
/// # Errors
/// The first thing that a GPU would leave undefined, by the order in which blocks and warps are run here.
pub fn run(module: &Module, launch: &GridLaunch, memory: &mut DeviceMemory) -> Result<Counts, Fault> {
    run_within(module, launch, memory, STEP_LIMIT)
}

/// Runs a kernel each warp of which may run `step_limit` instructions.
///
/// # Errors
/// As [`run`], and once a warp has run more.
pub fn run_within(
    module: &Module,
    launch: &GridLaunch,
    memory: &mut DeviceMemory,
    step_limit: u64,
) -> Result<Counts, Fault> {
    let parameters = parameters(module, launch)?;
    let blocks = launch.grid.iter().map(|&side| side as u64).product::<u64>();
    let threads = launch.block.iter().map(|&side| side as u64).product::<u64>();
    let refuse = |reason| Err(Fault::Launch { entry: module.entry.clone(), reason });
    if blocks == 0 || blocks > u32::MAX as u64 || threads == 0 || threads > 1024 {
        return refuse(format!("{blocks} blocks of {threads} threads; at least one of each and 1024 threads at most"));
    }
    if let Some(required) = module.threads.filter(|&required| required != launch.block) {
        return refuse(format!("blocks of {:?} threads; {required:?} are required", launch.block));
    }
    if let Some(most) = module.max_threads.filter(|most| threads > most.iter().map(|&side| side as u64).product()) {
        return refuse(format!("blocks of {threads} threads; {most:?} at most are allowed"));
    }
    memory.begin_launch();
    let before_dynamic = module.static_shared.next_multiple_of(128);
    let warps = (threads as usize).div_ceil(LANES);
    let mut shared = Shared::new(before_dynamic + launch.dynamic_shared, warps);
    let mut tally = Tally {
        executed: vec![0; module.instructions.len()],
        traffic: vec![Traffic::default(); module.instructions.len()],
    };
    for index in 0..blocks as u32 {
        let position = BlockPosition {
            grid: launch.grid,
            block: launch.block,
            index: unravel(index, launch.grid),
            dynamic_shared: launch.dynamic_shared,
            before_dynamic,
        };
        shared.clear();
        let mut block = RunningBlock {
            module,
            position,
            index,
            parameters: &parameters,
            shared: &mut shared,
            clocks: Clocks::new(warps),
            memory,
            tally: &mut tally,
        };
        block.run_all(warps, step_limit)?;
    }
    Ok(counts(module, &tally))
}

/// An index, x fastest, as its place.
fn unravel(index: u32, [x, y, _]: [u32; 3]) -> [u32; 3] {
    [index % x, index / x % y, index / x / y]
}

/// The parameters as they lie one after another.
fn parameters(module: &Module, launch: &GridLaunch) -> Result<Vec<u8>, Fault> {
    let refuse = |reason| Err(Fault::Launch { entry: module.entry.clone(), reason });
    if launch.parameters.len() != module.parameters.len() {
        return refuse(format!("{} parameters; it has {}", launch.parameters.len(), module.parameters.len()));
    }
    let mut bytes = Vec::new();
    for (parameter, given) in module.parameters.iter().zip(&launch.parameters) {
        if given.len() != parameter.bytes {
            return refuse(format!("{} bytes for `{}`, which has {}", given.len(), parameter.name, parameter.bytes));
        }
        bytes.resize(parameter.offset, 0);
        bytes.extend_from_slice(given);
    }
    Ok(bytes)
}

/// Counts by opcode and by line.
fn counts(module: &Module, tally: &Tally) -> Counts {
    let mut counts = Counts::default();
    for ((instruction, &executed), &traffic) in module.instructions.iter().zip(&tally.executed).zip(&tally.traffic) {
        if executed == 0 {
            continue;
        }
        let opcode = &module.opcodes[instruction.opcode as usize];
        counts.warp_instructions += executed;
        *counts.by_opcode.entry(opcode.clone()).or_default() += executed;
        if traffic.requests > 0 {
            counts.places.push(PlaceCounts { line: instruction.line, opcode: opcode.clone(), traffic });
        }
    }
    counts
}

/// Where a warp is between its turns.
enum State {
    Ready,
    Waiting { id: u32, threads: Option<u32>, instruction: u32 },
    Returned,
}

impl RunningBlock<'_> {
    /// Runs all warps of the block to their ends.
    fn run_all(&mut self, warps: usize, limit: u64) -> Result<(), Fault> {
        let mut warps: Vec<(Warp, State)> =
            (0..warps).map(|index| (Warp::new(self.module, &self.position, index), State::Ready)).collect();
        loop {
            for (warp, state) in &mut warps {
                if !matches!(state, State::Ready) {
                    continue;
                }
                *state = match self.run(warp, limit) {
                    Ok(Stop::Returned) => State::Returned,
                    Ok(Stop::Barrier { id, threads, instruction }) => State::Waiting { id, threads, instruction },
                    Err((instruction, trouble)) => return Err(self.fault(instruction, warp.index, *trouble)),
                };
            }
            if warps.iter().all(|(_, state)| matches!(state, State::Returned)) {
                return Ok(());
            }
            self.release(&mut warps)?;
        }
    }

    /// Lets the warps go on that wait at a barrier which all have reached that it is for.
    fn release(&mut self, warps: &mut [(Warp, State)]) -> Result<(), Fault> {
        let mut released = false;
        let mut stuck = None;
        for first in 0..warps.len() {
            let State::Waiting { id, threads, instruction } = warps[first].1 else { continue };
            let waits = |state: &State| matches!(state, State::Waiting { id: other, .. } if *other == id);
            let waiting: Vec<usize> = (0..warps.len()).filter(|&warp| waits(&warps[warp].1)).collect();
            let enough = threads.map_or(warps.len(), |threads| (threads as usize).div_ceil(LANES));
            if waiting.len() < enough {
                stuck.get_or_insert((first, instruction, waiting));
                continue;
            }
            self.clocks.join_warps(&waiting);
            for warp in waiting {
                warps[warp].1 = State::Ready;
            }
            released = true;
        }
        match stuck {
            Some((warp, instruction, waiting)) if !released => {
                let missing = (0..warps.len()).filter(|other| !waiting.contains(other)).collect();
                let at = Box::new(self.place(instruction, self.index, (warp * LANES) as u32));
                Err(Fault::BarrierNotReached { at, missing })
            }
            _ => Ok(()),
        }
    }

    /// Where an instruction stands and who runs it.
    fn place(&self, instruction: u32, block: u32, thread: u32) -> FaultPlace {
        let line = self.module.instructions[instruction as usize].line;
        FaultPlace {
            line,
            text: self.module.line(line).to_owned(),
            block: unravel(block, self.position.grid),
            thread: self.position.thread(thread),
        }
    }

    /// A problem with all that is known of where it happened.
    fn fault(&self, instruction: u32, warp: usize, trouble: Trouble) -> Fault {
        let thread = (warp * LANES) as u32 + trouble.lane;
        let at = Box::new(self.place(instruction, self.index, thread));
        let other = |other: Earlier| Box::new(self.place(other.instruction, other.block, other.thread));
        match trouble.problem {
            Problem::OutOfBounds { space, address, length, bounds } => {
                Fault::OutOfBounds { at, space, address, length, bounds }
            }
            Problem::Misaligned { space, address, length } => Fault::Misaligned { at, space, address, length },
            Problem::UninitialisedMemory { space, address, length } => {
                Fault::UninitialisedMemory { at, space, address, length }
            }
            Problem::UninitialisedRegister { row } => {
                Fault::UninitialisedRegister { at, register: self.module.registers.names[row as usize].clone() }
            }
            Problem::UninitialisedPredicate { predicate } => Fault::UninitialisedRegister {
                at,
                register: self.module.registers.predicates[predicate as usize].clone(),
            },
            Problem::ReadOnly { space, address } => Fault::ReadOnly { at, space, address },
            Problem::Race { space, address, what, earlier } => {
                Fault::Race { at, earlier: other(earlier), space, address, what }
            }
            Problem::CopyUnderWay { space, address, length, copy } => {
                Fault::CopyUnderWay { at, copy: other(copy), space, address, length }
            }
            Problem::DivergentBarrier { missing } => Fault::DivergentBarrier { at, missing },
            Problem::Members { expected, active } => Fault::Members { at, expected, active },
            Problem::ShuffleFromOutside { lane } => Fault::ShuffleFromOutside { at, lane },
            Problem::Operand { reason } => Fault::Operand { at, reason },
            Problem::Trap => Fault::Trap { at },
            Problem::StepLimit { limit } => Fault::StepLimit { at, limit },
        }
    }
}
