//! The shared memory of a block, and what it remembers of the accesses to it.
//!
//! For every granule of memory: the last write, and the reads since. Two accesses by different threads, at least one a write, that no
//! barrier orders are a race, whatever order they are run in here. Granules are 16 bytes until an access is smaller or not aligned to
//! that, and then as small as it asks for, so that accesses always are of whole granules.

use super::clocks::{Clocks, Stamp, lanes_of};
use super::fault::{Earlier, Problem, Trouble};
use super::lanes::LANES;
use super::types::{SHARED_WINDOW, Space};

/// How an access takes part in races.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AccessKind {
    Read,
    Write,
    /// A volatile or relaxed read, which does not race with strong writes.
    StrongRead,
    /// An atomic operation, or a volatile or relaxed write: such accesses do not race with each other.
    Strong,
}

/// An access of a thread, or of one of several.
#[derive(Clone, Copy)]
pub(super) struct Access {
    pub stamp: Stamp,
    /// Index of the instruction.
    pub instruction: u32,
    /// Index of the block in the grid.
    pub block: u32,
    pub kind: AccessKind,
}

impl Access {
    pub fn lane(&self) -> usize {
        self.stamp.lanes.trailing_zeros() as usize
    }

    pub fn earlier(&self) -> Earlier {
        earlier(self.stamp, self.instruction, self.block)
    }
}

fn earlier(stamp: Stamp, instruction: u32, block: u32) -> Earlier {
    Earlier { instruction, block, thread: stamp.warp * LANES as u32 + stamp.lanes.trailing_zeros() }
}

#[derive(Clone, Copy)]
struct SharedGranule {
    written: Stamp,
    by: u32,
    /// The last write was atomic or the like.
    strong: bool,
    /// The copy that is under way to here, as index of the thread and the instruction.
    copy: Option<(u32, u32)>,
    /// The warps that have read since the last write.
    readers: u32,
}

const NEVER: Stamp = Stamp { warp: 0, lanes: 0, epoch: 0 };
const UNTOUCHED: SharedGranule = SharedGranule { written: NEVER, by: 0, strong: false, copy: None, readers: 0 };

/// The reads of a granule by a warp since the last write: the lanes, and the latest epoch.
#[derive(Clone, Copy, Default)]
struct GranuleReader {
    lanes: u32,
    epoch: u32,
    by: u32,
}

impl GranuleReader {
    fn add(&mut self, access: Access, clocks: &Clocks) {
        let Stamp { warp, lanes, epoch } = access.stamp;
        // What is ordered before this read is ordered before all that this read is ordered before.
        if self.epoch != epoch && clocks.ordered(Stamp { warp, lanes: self.lanes, epoch: self.epoch }, access.stamp) {
            self.lanes = 0;
        }
        *self = GranuleReader { lanes: self.lanes | lanes, epoch: self.epoch.max(epoch), by: access.instruction };
    }
}

pub(super) struct Shared {
    bytes: Vec<u8>,
    known: Vec<bool>,
    warps: usize,
    /// The size of a granule is two to this.
    granule: u32,
    granules: Vec<SharedGranule>,
    /// `[granule * warps + warp]`.
    readers: Vec<GranuleReader>,
}

impl Shared {
    pub fn new(length: usize, warps: usize) -> Self {
        let granule = 4;
        let count = length.div_ceil(1 << granule);
        Shared {
            bytes: vec![0; length],
            known: vec![false; length],
            warps,
            granule,
            granules: vec![UNTOUCHED; count],
            readers: vec![GranuleReader::default(); count * warps],
        }
    }

    /// As it is for a new block.
    pub fn clear(&mut self) {
        self.known.fill(false);
        self.granules.fill(UNTOUCHED);
        self.readers.fill(GranuleReader::default());
    }

    /// Where an access starts, whose length is a power of two and what it is aligned to.
    fn place(&self, address: u64, length: usize, lane: usize) -> Result<usize, Box<Trouble>> {
        let start = address.wrapping_sub(SHARED_WINDOW);
        if start.checked_add(length as u64).is_none_or(|end| end > self.bytes.len() as u64) {
            let bounds = format!("{} bytes at {SHARED_WINDOW:#x}", self.bytes.len());
            return Err(Problem::OutOfBounds { space: Space::Shared, address, length, bounds }.of(lane));
        }
        if start & (length as u64 - 1) != 0 {
            return Err(Problem::Misaligned { space: Space::Shared, address, length }.of(lane));
        }
        Ok(start as usize)
    }

    /// The bytes of a read.
    pub fn read(
        &mut self,
        address: u64,
        length: usize,
        access: Access,
        clocks: &Clocks,
    ) -> Result<&[u8], Box<Trouble>> {
        let start = self.place(address, length, access.lane())?;
        self.check(start, length, access, clocks)?;
        if !all(&self.known[start..start + length]) {
            let space = Space::Shared;
            return Err(Problem::UninitialisedMemory { space, address, length }.of(access.lane()));
        }
        Ok(&self.bytes[start..start + length])
    }

    /// Where to write.
    pub fn write(
        &mut self,
        address: u64,
        length: usize,
        access: Access,
        clocks: &Clocks,
    ) -> Result<&mut [u8], Box<Trouble>> {
        let start = self.place(address, length, access.lane())?;
        self.check(start, length, access, clocks)?;
        self.known[start..start + length].fill(true);
        Ok(&mut self.bytes[start..start + length])
    }

    /// What an atomic operation reads and writes.
    pub fn update(
        &mut self,
        address: u64,
        length: usize,
        access: Access,
        clocks: &Clocks,
    ) -> Result<&mut [u8], Box<Trouble>> {
        self.read(address, length, access, clocks)?;
        let start = (address - SHARED_WINDOW) as usize;
        Ok(&mut self.bytes[start..start + length])
    }

    /// Begins an asynchronous copy, a write that nothing may touch until [`Shared::finish_copy`].
    pub fn begin_copy(
        &mut self,
        address: u64,
        length: usize,
        access: Access,
        clocks: &Clocks,
    ) -> Result<&mut [u8], Box<Trouble>> {
        let start = self.place(address, length, access.lane())?;
        self.check(start, length, access, clocks)?;
        let thread = access.earlier().thread;
        for granule in &mut self.granules[start >> self.granule..(start + length) >> self.granule] {
            granule.copy = Some((thread, access.instruction));
        }
        self.known[start..start + length].fill(true);
        Ok(&mut self.bytes[start..start + length])
    }

    /// Makes a copy a write of the thread that waited for it.
    pub fn finish_copy(&mut self, address: u64, length: usize, access: Access) {
        let start = (address - SHARED_WINDOW) as usize;
        for granule in &mut self.granules[start >> self.granule..(start + length) >> self.granule] {
            granule.copy = None;
            granule.written = access.stamp;
            granule.by = access.instruction;
            granule.strong = false;
        }
    }

    /// Finds races with what came before, and remembers the access.
    fn check(&mut self, start: usize, length: usize, access: Access, clocks: &Clocks) -> Result<(), Box<Trouble>> {
        if length >> self.granule == 0 {
            self.refine(length.trailing_zeros());
        }
        let (first, last) = (start >> self.granule, (start + length) >> self.granule);
        for (index, granule) in (first..).zip(&mut self.granules[first..last]) {
            let race = |what, earlier| {
                let address = SHARED_WINDOW + start as u64;
                Problem::Race { space: Space::Shared, address, what, earlier }.of(access.lane())
            };
            if let Some((thread, instruction)) = granule.copy {
                let address = SHARED_WINDOW + start as u64;
                let copy = Earlier { instruction, block: access.block, thread };
                return Err(Problem::CopyUnderWay { space: Space::Shared, address, length, copy }.of(access.lane()));
            }
            let both_strong = granule.strong && matches!(access.kind, AccessKind::Strong | AccessKind::StrongRead);
            let reads = matches!(access.kind, AccessKind::Read | AccessKind::StrongRead);
            if granule.written.epoch != 0 && !both_strong && !clocks.ordered(granule.written, access.stamp) {
                let what = if reads { "a write and a read" } else { "two writes" };
                return Err(race(what, earlier(granule.written, granule.by, access.block)));
            }
            let readers = &mut self.readers[index * self.warps..][..self.warps];
            if reads {
                if access.kind == AccessKind::Read {
                    granule.readers |= 1 << access.stamp.warp;
                    readers[access.stamp.warp as usize].add(access, clocks);
                }
                continue;
            }
            for warp in lanes_of(granule.readers) {
                let reader = readers[warp];
                let stamp = Stamp { warp: warp as u32, lanes: reader.lanes, epoch: reader.epoch };
                if !clocks.ordered(stamp, access.stamp) {
                    // The lane that is named is not the one that writes.
                    let others = reader.lanes & !access.stamp.lanes;
                    let named = Stamp { lanes: if others == 0 { reader.lanes } else { others }, ..stamp };
                    return Err(race("a read and a write", earlier(named, reader.by, access.block)));
                }
                readers[warp] = GranuleReader::default();
            }
            granule.readers = 0;
            granule.written = access.stamp;
            granule.by = access.instruction;
            granule.strong = access.kind == AccessKind::Strong;
        }
        Ok(())
    }

    /// Splits granules, so that an access is of whole ones.
    fn refine(&mut self, granule: u32) {
        let parts = 1 << (self.granule - granule);
        self.granules = self.granules.iter().flat_map(|&one| std::iter::repeat_n(one, parts)).collect();
        self.readers = self.readers.chunks(self.warps).flat_map(|one| one.repeat(parts)).collect();
        self.granule = granule;
    }
}

/// Whether all are true. Looks at every one, which for a few is faster than to stop.
pub(super) fn all(known: &[bool]) -> bool {
    known.iter().fold(true, |all, &one| all & one)
}
