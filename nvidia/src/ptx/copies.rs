//! The asynchronous copies of a warp's lanes that nobody has waited for (PTX ISA, "Async groups").

use super::lanes::LANES;

/// A copy that is under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Copy {
    pub lane: usize,
    /// Where it goes, in shared memory.
    pub to: u64,
    pub length: usize,
    /// What it reads: the first byte, and how many.
    pub from: (u64, usize),
    /// Index of the instruction.
    pub instruction: u32,
    /// The group it is of, once there is one.
    group: Option<u32>,
}

#[derive(Default)]
pub(super) struct Copies {
    pending: Vec<Copy>,
    /// Groups committed by each lane.
    groups: [u32; LANES],
}

impl Copies {
    pub fn begin(&mut self, lane: usize, to: u64, length: usize, from: (u64, usize), instruction: u32) {
        self.pending.push(Copy { lane, to, length, from, instruction, group: None });
    }

    /// Makes a group of what each lane has begun since its last one.
    pub fn commit(&mut self, lanes: u32) {
        for copy in self.pending.iter_mut().filter(|copy| copy.group.is_none() && lanes >> copy.lane & 1 == 1) {
            copy.group = Some(self.groups[copy.lane]);
        }
        for lane in super::clocks::lanes_of(lanes) {
            self.groups[lane] += 1;
        }
    }

    /// Takes what is over once at most `newest` groups of each lane are under way.
    pub fn finish(&mut self, lanes: u32, newest: u32) -> Vec<Copy> {
        let groups = &self.groups;
        let over = |copy: &mut Copy| {
            lanes >> copy.lane & 1 == 1 && copy.group.is_some_and(|group| group + newest < groups[copy.lane])
        };
        self.pending.extract_if(.., over).collect()
    }

    /// A lane's copy that reads some of these bytes.
    pub fn reading(&self, lane: usize, address: u64, length: usize) -> Option<&Copy> {
        self.pending.iter().find(|copy| {
            let (start, count) = copy.from;
            copy.lane == lane && start < address + length as u64 && address < start + count as u64
        })
    }
}
