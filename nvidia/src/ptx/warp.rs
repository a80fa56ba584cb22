//! A warp: its registers, and which of its lanes are where.
//!
//! Lanes that a branch sends two ways go one after the other, each until where all ways lead to ([`meets`](super::meet::meets)), and on
//! from there together.

use super::clocks::lanes_of;
use super::copies::Copies;
use super::fault::{Problem, Trouble};
use super::instruction::{Guard, Register};
use super::lanes::{LANES, Narrow, Wide};
use super::module::{Module, Special};

/// Lanes that are at one instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Group {
    at: u32,
    lanes: u32,
    /// Where others, or nobody, go on for them.
    until: u32,
}

/// What a block has to know to fill in its warps' special registers.
#[derive(Clone, Copy)]
pub(super) struct BlockPosition {
    pub grid: [u32; 3],
    pub block: [u32; 3],
    /// This block in the grid.
    pub index: [u32; 3],
    pub dynamic_shared: usize,
    /// Bytes before dynamic shared memory.
    pub before_dynamic: usize,
}

impl BlockPosition {
    pub fn threads(&self) -> u32 {
        self.block.iter().product()
    }

    /// The place in its block of the thread with an index.
    pub fn thread(&self, index: u32) -> [u32; 3] {
        let [x, y, _] = self.block;
        [index % x, index / x % y, index / (x * y)]
    }
}

pub(super) struct Warp {
    pub index: usize,
    pub rows: Vec<Narrow>,
    /// The lanes of each row that have been written.
    pub written: Vec<u32>,
    /// Of lanes of a row that are not written as a whole: which of its pieces of 16 bits are. Compilers pack a half that matters with
    /// one that does not.
    pieces: Vec<[u32; 4]>,
    pub predicates: Vec<u32>,
    pub predicates_written: Vec<u32>,
    /// The running one last. Below it are those that wait: lanes that go another way, and all together where ways meet.
    groups: Vec<Group>,
    /// Lanes that have a thread.
    pub threads: u32,
    pub copies: Copies,
    /// The frames of the lanes, one after another, and which bytes of them are written.
    pub local: Vec<u8>,
    pub local_known: Vec<bool>,
    /// Instructions run.
    pub steps: u64,
}

impl Warp {
    pub fn new(module: &Module, position: &BlockPosition, index: usize) -> Self {
        let first = (index * LANES) as u32;
        let threads = (0..LANES)
            .filter(|&lane| first + (lane as u32) < position.threads())
            .fold(0, |threads, lane| threads | 1 << lane);
        let file = &module.registers;
        let mut warp = Warp {
            index,
            rows: vec![[0; LANES]; file.names.len()],
            written: vec![0; file.names.len()],
            pieces: vec![[0; 4]; file.names.len()],
            predicates: vec![0; file.predicates.len()],
            predicates_written: vec![0; file.predicates.len()],
            groups: vec![Group { at: 0, lanes: threads, until: u32::MAX }],
            threads,
            copies: Copies::default(),
            local: vec![0; module.local * LANES],
            local_known: vec![false; module.local * LANES],
            steps: 0,
        };
        warp.predicates[0] = !0;
        warp.predicates_written[0] = !0;
        for &(row, value) in &file.constants {
            warp.rows[row as usize] = [value; LANES];
            warp.written[row as usize] = !0;
        }
        for &(row, special) in &file.special {
            warp.rows[row as usize] = std::array::from_fn(|lane| {
                let thread = position.thread(first + lane as u32);
                special.value(position, thread, index as u32, lane as u32)
            });
            warp.written[row as usize] = !0;
        }
        warp
    }

    /// The instruction to run next, and the lanes that are there; none when all have returned.
    pub fn next(&self) -> Option<(u32, u32)> {
        self.groups.last().map(|group| (group.at, group.lanes))
    }

    /// Moves the group that has just run to the next instruction.
    pub fn advance(&mut self) {
        let Some(group) = self.groups.last_mut() else { return };
        group.at += 1;
        self.settle();
    }

    /// Sends some lanes of the group that has just run elsewhere, and the others on, until they meet.
    pub fn branch(&mut self, lanes: u32, target: u32, meet: u32) {
        let Some(group) = self.groups.last_mut() else { return };
        let (next, others, until) = (group.at + 1, group.lanes & !lanes, group.until);
        if others == 0 {
            group.at = target;
        } else {
            group.at = meet;
            // What waits below goes on for these too, as at each turn of a loop that lanes leave one by one.
            if meet == until {
                self.groups.pop();
            }
            let ways = [Group { at: next, lanes: others, until: meet }, Group { at: target, lanes, until: meet }];
            self.groups.extend(ways.into_iter().filter(|way| way.at != meet));
        }
        self.settle();
    }

    /// Ends some lanes of the group that has just run.
    pub fn end(&mut self, lanes: u32) {
        let rest = self.groups.last().map_or(0, |group| group.lanes & !lanes);
        self.groups.iter_mut().for_each(|group| group.lanes &= !lanes);
        if rest != 0 {
            return self.advance();
        }
        self.settle();
    }

    /// Ends groups that are where others go on for them, or have no lanes.
    fn settle(&mut self) {
        while self.groups.last().is_some_and(|group| group.at == group.until || group.lanes == 0) {
            self.groups.pop();
        }
    }

    /// The lanes of a group that an instruction is for.
    pub fn guarded(&self, guard: Option<Guard>, lanes: u32) -> Result<u32, Box<Trouble>> {
        match guard {
            None => Ok(lanes),
            Some(guard) => Ok(lanes & self.predicate(guard, lanes)?),
        }
    }

    /// The lanes where a predicate holds, of which some matter.
    pub fn predicate(&self, guard: Guard, lanes: u32) -> Result<u32, Box<Trouble>> {
        let unwritten = lanes & !self.predicates_written[guard.predicate as usize];
        if unwritten != 0 {
            let predicate = guard.predicate;
            return Err(Problem::UninitialisedPredicate { predicate }.of(unwritten.trailing_zeros() as usize));
        }
        let value = self.predicates[guard.predicate as usize];
        Ok(if guard.negated { !value } else { value })
    }

    pub fn set_predicate(&mut self, predicate: u32, value: u32, lanes: u32) {
        let to = &mut self.predicates[predicate as usize];
        *to = *to & !lanes | value & lanes;
        self.predicates_written[predicate as usize] |= lanes;
    }

    /// That a register may be read by some lanes.
    pub fn check(&self, register: Register, lanes: u32) -> Result<(), Box<Trouble>> {
        let unwritten = lanes & !self.written[register.row as usize];
        if unwritten == 0 {
            return Ok(());
        }
        Err(Problem::UninitialisedRegister { row: register.row }.of(unwritten.trailing_zeros() as usize))
    }

    pub fn narrow(&self, register: Register) -> &Narrow {
        &self.rows[register.row as usize]
    }

    pub fn wide(&self, register: Register) -> Wide {
        let low = &self.rows[register.row as usize];
        if !register.wide {
            return low.map(u64::from);
        }
        let high = &self.rows[register.row as usize + 1];
        std::array::from_fn(|lane| low[lane] as u64 | (high[lane] as u64) << 32)
    }

    /// One lane's value.
    pub fn lane(&self, register: Register, lane: usize) -> u64 {
        let low = self.rows[register.row as usize][lane] as u64;
        if register.wide { low | (self.rows[register.row as usize + 1][lane] as u64) << 32 } else { low }
    }

    pub fn set_lane(&mut self, register: Register, lane: usize, value: u64) {
        let row = register.row as usize;
        self.rows[row][lane] = value as u32;
        if register.wide {
            self.rows[row + 1][lane] = (value >> 32) as u32;
        }
        self.written[row] |= 1 << lane;
    }

    pub fn set_narrow(&mut self, register: Register, value: &Narrow, lanes: u32) {
        let row = register.row as usize;
        store(&mut self.rows[row], value, lanes);
        if register.wide {
            store(&mut self.rows[row + 1], &[0; LANES], lanes);
        }
        self.written[row] |= lanes;
    }

    pub fn set_wide(&mut self, register: Register, value: &Wide, lanes: u32) {
        let row = register.row as usize;
        store(&mut self.rows[row], &value.map(|value| value as u32), lanes);
        if register.wide {
            store(&mut self.rows[row + 1], &value.map(|value| (value >> 32) as u32), lanes);
        }
        self.written[row] |= lanes;
    }

    /// Copies a register, and whether it has been written.
    pub fn copy(&mut self, from: Register, to: Register, lanes: u32) {
        let written = self.written[from.row as usize];
        if to.wide {
            let value = self.wide(from);
            self.set_wide(to, &value, lanes);
        } else {
            let value = *self.narrow(from);
            self.set_narrow(to, &value, lanes);
        }
        self.set_pieces(to, written, self.pieces[from.row as usize], lanes);
    }

    /// The lanes in which a piece of 16 bits of a register is written.
    pub fn piece_written(&self, register: Register, piece: usize) -> u32 {
        self.written[register.row as usize] | self.pieces[register.row as usize].get(piece).copied().unwrap_or_default()
    }

    /// Says of a register that has just been written in which lanes its value is, and in which only pieces of it.
    pub fn set_pieces(&mut self, register: Register, whole: u32, pieces: [u32; 4], lanes: u32) {
        let row = register.row as usize;
        self.written[row] &= !lanes | whole;
        for (piece, written) in self.pieces[row].iter_mut().zip(pieces) {
            *piece = *piece & !lanes | written & lanes;
        }
    }
}

/// Writes some lanes of a row.
fn store(row: &mut Narrow, value: &Narrow, lanes: u32) {
    if lanes == !0 {
        *row = *value;
        return;
    }
    for lane in lanes_of(lanes) {
        row[lane] = value[lane];
    }
}

impl Special {
    /// The value in one lane.
    fn value(self, position: &BlockPosition, thread: [u32; 3], warp: u32, lane: u32) -> u32 {
        match self {
            Special::Thread(side) => thread[side],
            Special::Threads(side) => position.block[side],
            Special::Block(side) => position.index[side],
            Special::Blocks(side) => position.grid[side],
            Special::Lane => lane,
            Special::Warp => warp,
            Special::Warps => position.threads().div_ceil(LANES as u32),
            Special::LanesBelow => (1 << lane) - 1,
            Special::LanesUpTo => ((1 << lane) - 1) | 1 << lane,
            Special::LaneBit => 1 << lane,
            Special::LanesFrom => !((1 << lane) - 1),
            Special::LanesAbove => !((1 << lane) - 1) & !(1 << lane),
            Special::DynamicSharedStart => (super::types::SHARED_WINDOW as usize + position.before_dynamic) as u32,
            Special::DynamicShared => position.dynamic_shared as u32,
            Special::TotalShared => (position.before_dynamic + position.dynamic_shared) as u32,
        }
    }
}
