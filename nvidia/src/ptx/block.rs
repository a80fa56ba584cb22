//! A block of threads, and what one of its warps does with an instruction.

use super::clocks::Clocks;
use super::counts::Traffic;
use super::fault::{Problem, Trouble};
use super::instruction::{Guard, Logic, PtxOperation, Register};
use super::lanes::{LANES, LaneFunction, Test};
use super::memory::DeviceMemory;
use super::module::Module;
use super::shared::{Access, AccessKind, Shared};
use super::warp::{BlockPosition, Warp};

/// What is counted during a launch, for each instruction of the module.
pub(super) struct Tally {
    pub executed: Vec<u64>,
    pub traffic: Vec<Traffic>,
}

/// What a block's warps have in common.
pub(super) struct RunningBlock<'a> {
    pub module: &'a Module,
    pub position: BlockPosition,
    /// This block's index in the grid, x fastest.
    pub index: u32,
    pub parameters: &'a [u8],
    pub shared: &'a mut Shared,
    pub clocks: Clocks,
    pub memory: &'a mut DeviceMemory,
    pub tally: &'a mut Tally,
}

/// Why a warp stopped.
pub(super) enum Stop {
    Returned,
    /// At a barrier: which one, and how many threads it is for, all without a number.
    Barrier {
        id: u32,
        threads: Option<u32>,
        instruction: u32,
    },
}

/// What comes after an instruction.
enum Next {
    Advance,
    /// The groups of lanes are where they should be.
    Stay,
    Barrier {
        id: u32,
        threads: Option<u32>,
    },
}

impl RunningBlock<'_> {
    /// Runs a warp until it waits for others or has returned.
    pub fn run(&mut self, warp: &mut Warp, limit: u64) -> Result<Stop, (u32, Box<Trouble>)> {
        let module = self.module;
        while let Some((at, lanes)) = warp.next() {
            let instruction = &module.instructions[at as usize];
            let failed = |trouble| (at, trouble);
            warp.steps += 1;
            if warp.steps > limit {
                return Err(failed(Problem::StepLimit { limit }.of(lanes.trailing_zeros() as usize)));
            }
            self.tally.executed[at as usize] += 1;
            let lanes = warp.guarded(instruction.guard, lanes).map_err(failed)?;
            if lanes == 0 {
                warp.advance();
                continue;
            }
            match self.execute(warp, at, &instruction.operation, lanes).map_err(failed)? {
                Next::Advance => warp.advance(),
                Next::Stay => {}
                Next::Barrier { id, threads } => {
                    warp.advance();
                    return Ok(Stop::Barrier { id, threads, instruction: at });
                }
            }
        }
        Ok(Stop::Returned)
    }

    fn execute(
        &mut self,
        warp: &mut Warp,
        at: u32,
        operation: &PtxOperation,
        lanes: u32,
    ) -> Result<Next, Box<Trouble>> {
        match operation {
            PtxOperation::Compute { function, from, to } => compute(warp, *function, from, *to, lanes)?,
            PtxOperation::Convert { conversion, from, to } => {
                warp.check(*from, lanes)?;
                let value = warp.wide(*from).map(|bits| conversion.apply(bits));
                warp.set_wide(*to, &value, lanes);
            }
            PtxOperation::Test { test, from, combine, to, complement } => {
                let holds = compare(warp, *test, from, lanes)?;
                let with = |holds: u32, warp: &Warp| combined(warp, holds, *combine, lanes);
                let (holds, fails) = (with(holds, warp)?, with(!holds, warp)?);
                to.iter().for_each(|&to| warp.set_predicate(to, holds, lanes));
                complement.iter().for_each(|&to| warp.set_predicate(to, fails, lanes));
            }
            PtxOperation::SetValue { test, from, combine, one, to } => {
                let holds = compare(warp, *test, from, lanes)?;
                let holds = combined(warp, holds, *combine, lanes)?;
                let value = std::array::from_fn(|lane| if holds >> lane & 1 == 1 { *one } else { 0 });
                warp.set_narrow(*to, &value, lanes);
            }
            PtxOperation::Select { from, by, to } => {
                let first = warp.predicate(*by, lanes)?;
                warp.check(from[0], lanes & first)?;
                warp.check(from[1], lanes & !first)?;
                let pick = |lane: usize| (first >> lane & 1) as usize ^ 1;
                if to.wide {
                    let values = [warp.wide(from[0]), warp.wide(from[1])];
                    warp.set_wide(*to, &std::array::from_fn(|lane| values[pick(lane)][lane]), lanes);
                } else {
                    let values = [warp.narrow(from[0]), warp.narrow(from[1])];
                    let value = std::array::from_fn(|lane| values[pick(lane)][lane]);
                    warp.set_narrow(*to, &value, lanes);
                }
            }
            PtxOperation::Combine { logic, from, negated, to } => {
                let [a, b] = [warp.predicate(from[0], lanes)?, warp.predicate(from[1], lanes)?];
                let value = apply(*logic, a, b);
                warp.set_predicate(*to, if *negated { !value } else { value }, lanes);
            }
            PtxOperation::Move { from, to } => warp.copy(*from, *to, lanes),
            PtxOperation::Pack { from, bits, to } => {
                let mut value = [0u64; LANES];
                let (mut whole, mut pieces) = (!0, [0; 4]);
                for (index, &part) in from.iter().enumerate() {
                    if *bits < 16 {
                        warp.check(part, lanes)?;
                    }
                    let written = warp.written[part.row as usize];
                    whole &= written;
                    pieces
                        .iter_mut()
                        .skip(index * *bits as usize / 16)
                        .take(*bits as usize / 16)
                        .for_each(|piece| *piece = written);
                    let part = warp.wide(part);
                    let mask = if *bits == 64 { !0 } else { (1u64 << bits) - 1 };
                    for lane in 0..LANES {
                        value[lane] |= (part[lane] & mask) << (*bits as usize * index);
                    }
                }
                warp.set_wide(*to, &value, lanes);
                warp.set_pieces(*to, whole, pieces, lanes);
            }
            PtxOperation::Unpack { from, bits, to } => {
                if *bits < 16 {
                    warp.check(*from, lanes)?;
                }
                let value = warp.wide(*from);
                let mask = if *bits == 64 { !0 } else { (1u64 << bits) - 1 };
                for (index, part) in to.iter().enumerate() {
                    if let Some(part) = part {
                        let pieces = index * *bits as usize / 16..((index + 1) * *bits as usize).div_ceil(16);
                        let written = pieces.fold(!0, |written, piece| written & warp.piece_written(*from, piece));
                        warp.set_wide(*part, &value.map(|value| value >> (*bits as usize * index) & mask), lanes);
                        warp.set_pieces(*part, written, [0; 4], lanes);
                    }
                }
            }
            PtxOperation::Load(transfer) => self.load(warp, at, transfer, lanes)?,
            PtxOperation::Store(transfer) => self.store(warp, at, transfer, lanes)?,
            PtxOperation::Atomic(atomic) => self.atomic(warp, at, atomic, lanes)?,
            PtxOperation::CopyAsync(copy) => self.begin_copies(warp, at, copy, lanes)?,
            PtxOperation::CommitCopies => warp.copies.commit(lanes),
            PtxOperation::WaitCopies(newest) => self.finish_copies(warp, lanes, *newest),
            PtxOperation::WaitAllCopies => {
                warp.copies.commit(lanes);
                self.finish_copies(warp, lanes, 0);
            }
            PtxOperation::LoadMatrices { address, transposed, registers } => {
                whole_warp(lanes)?;
                self.load_matrices(warp, at, *address, *transposed, registers)?;
            }
            PtxOperation::StoreMatrices { address, transposed, registers } => {
                whole_warp(lanes)?;
                self.store_matrices(warp, at, *address, *transposed, registers)?;
            }
            PtxOperation::LoadFragment(fragment) => {
                whole_warp(lanes)?;
                self.load_fragment(warp, at, fragment)?;
            }
            PtxOperation::StoreFragment(fragment) => {
                whole_warp(lanes)?;
                self.store_fragment(warp, at, fragment)?;
            }
            PtxOperation::Product(product) => {
                whole_warp(lanes)?;
                super::product::multiply(warp, product)?;
            }
            PtxOperation::Shuffle { how, from, lane, clamp, members, to, valid } => {
                super::exchange::shuffle(warp, *how, [*from, *lane, *clamp, *members], *to, *valid, lanes)?;
            }
            PtxOperation::Vote { how, from, members, to } => {
                super::exchange::vote(warp, *how, *from, *members, *to, lanes)?
            }
            PtxOperation::Reduce { update, signed, from, members, to } => {
                super::exchange::reduce(warp, *update, *signed, *from, *members, *to, lanes)?;
            }
            PtxOperation::ActiveMask { to } => warp.set_narrow(*to, &[lanes; LANES], lanes),
            PtxOperation::Barrier { id, threads } => {
                let missing = warp.threads & !lanes;
                if missing != 0 {
                    return Err(Problem::DivergentBarrier { missing }.of(lanes.trailing_zeros() as usize));
                }
                let id = super::exchange::uniform(warp, *id, lanes)? as u32;
                let threads = match threads {
                    Some(threads) => Some(super::exchange::uniform(warp, *threads, lanes)? as u32),
                    None => None,
                };
                return Ok(Next::Barrier { id, threads });
            }
            PtxOperation::WarpBarrier { members } => {
                super::exchange::members(warp, *members, lanes)?;
                self.clocks.join_lanes(warp.index, lanes);
            }
            PtxOperation::Fence => {}
            PtxOperation::Branch { target } => {
                warp.branch(lanes, *target, self.module.meets[at as usize]);
                return Ok(Next::Stay);
            }
            PtxOperation::BranchIndexed { index, targets } => {
                warp.check(*index, lanes)?;
                let index = super::exchange::uniform(warp, *index, lanes)? as usize;
                let Some(&target) = targets.get(index) else {
                    let reason = format!("branch {index} of {}", targets.len());
                    return Err(Problem::Operand { reason }.of(lanes.trailing_zeros() as usize));
                };
                warp.branch(lanes, target, self.module.meets[at as usize]);
                return Ok(Next::Stay);
            }
            PtxOperation::Return => {
                warp.end(lanes);
                return Ok(Next::Stay);
            }
            PtxOperation::Trap => return Err(Problem::Trap.of(lanes.trailing_zeros() as usize)),
        }
        Ok(Next::Advance)
    }

    /// An access by one lane now.
    pub(super) fn access(&self, warp: &Warp, lane: usize, instruction: u32, kind: AccessKind) -> Access {
        Access { stamp: self.clocks.now(warp.index, lane), instruction, block: self.index, kind }
    }
}

fn compute(
    warp: &mut Warp,
    function: LaneFunction,
    from: &[Register; 4],
    to: Register,
    lanes: u32,
) -> Result<(), Box<Trouble>> {
    for &source in from {
        warp.check(source, lanes)?;
    }
    match function {
        LaneFunction::Narrow(function) => {
            let result = function(from.map(|source| warp.narrow(source)));
            warp.set_narrow(to, &result, lanes);
        }
        LaneFunction::Wide(function) => {
            let values = from.map(|source| warp.wide(source));
            let result = function([&values[0], &values[1], &values[2], &values[3]]);
            warp.set_wide(to, &result, lanes);
        }
    }
    Ok(())
}

/// The lanes where a comparison holds.
fn compare(warp: &Warp, test: Test, from: &[Register; 2], lanes: u32) -> Result<u32, Box<Trouble>> {
    warp.check(from[0], lanes)?;
    warp.check(from[1], lanes)?;
    Ok(match test {
        Test::Narrow(test) => test([warp.narrow(from[0]), warp.narrow(from[1])]),
        Test::Wide(test) => test([&warp.wide(from[0]), &warp.wide(from[1])]),
    })
}

/// A comparison's result, combined with a predicate if it asks for that.
fn combined(warp: &Warp, holds: u32, with: Option<(Logic, Guard)>, lanes: u32) -> Result<u32, Box<Trouble>> {
    match with {
        None => Ok(holds),
        Some((logic, guard)) => Ok(apply(logic, holds, warp.predicate(guard, lanes)?)),
    }
}

fn apply(logic: Logic, a: u32, b: u32) -> u32 {
    match logic {
        Logic::And => a & b,
        Logic::Or => a | b,
        Logic::Xor => a ^ b,
    }
}

/// That all lanes take part.
fn whole_warp(lanes: u32) -> Result<(), Box<Trouble>> {
    if lanes == !0 {
        return Ok(());
    }
    Err(Problem::Members { expected: !0, active: lanes }.of(lanes.trailing_zeros() as usize))
}
