//! Global memory: buffers far apart, and what a launch did with them.
//!
//! Races are found as in shared memory, with less kept of the reads: where several warps have read a granule, only the latest
//! barrier that must be between is known. Blocks are ordered by nothing.

use super::clocks::{Clocks, Stamp};
use super::fault::{Earlier, Problem, Trouble};
use super::lanes::LANES;
use super::shared::{Access, AccessKind, all};
use super::types::{GLOBAL_WINDOW, Space};

/// From one buffer's address to the next one's: more than a 32-bit index can stride over.
const SPACING: u64 = 1 << 40;

/// The global memory of a device: buffers so far apart that leaving one never reaches another.
#[derive(Clone, Debug, Default)]
pub struct DeviceMemory {
    buffers: Vec<DeviceBuffer>,
}

#[derive(Clone, Debug, Default)]
struct DeviceBuffer {
    bytes: Vec<u8>,
    known: Vec<bool>,
    /// Two to this is the size of a granule. They are as small as accesses ask for, like those of shared memory.
    granule: u32,
    /// Empty until the launch accesses the buffer.
    granules: Vec<GlobalGranule>,
}

/// Who accessed a granule in this launch.
#[derive(Clone, Copy, Debug)]
struct GlobalGranule {
    written: Option<Past>,
    /// The last write was atomic or the like.
    strong: bool,
    read: Option<Past>,
    /// More than one block has read it.
    many_blocks: bool,
    /// More than one warp of the block that last read it has.
    many_warps: bool,
}

#[derive(Clone, Copy, Debug)]
struct Past {
    block: u32,
    stamp: Stamp,
    by: u32,
}

impl Past {
    fn earlier(&self) -> Earlier {
        let thread = self.stamp.warp * LANES as u32 + self.stamp.lanes.trailing_zeros();
        Earlier { instruction: self.by, block: self.block, thread }
    }

    fn ordered(&self, access: Access, clocks: &Clocks) -> bool {
        self.block == access.block && clocks.ordered(self.stamp, access.stamp)
    }
}

const UNTOUCHED: GlobalGranule =
    GlobalGranule { written: None, strong: false, read: None, many_blocks: false, many_warps: false };

impl DeviceMemory {
    /// Without any buffer.
    pub fn new() -> Self {
        DeviceMemory::default()
    }

    /// Adds a buffer of initialised bytes; gives its address, a multiple of 256.
    pub fn add(&mut self, bytes: Vec<u8>) -> u64 {
        let known = vec![true; bytes.len()];
        self.push(DeviceBuffer { bytes, known, ..DeviceBuffer::default() })
    }

    /// Adds a buffer of so many bytes that may not be read before they are written; gives its address, a multiple of 256.
    pub fn add_uninitialised(&mut self, length: usize) -> u64 {
        self.push(DeviceBuffer { bytes: vec![0; length], known: vec![false; length], ..DeviceBuffer::default() })
    }

    fn push(&mut self, buffer: DeviceBuffer) -> u64 {
        self.buffers.push(buffer);
        GLOBAL_WINDOW + (self.buffers.len() - 1) as u64 * SPACING
    }

    /// The bytes of the buffer at an address that [`DeviceMemory::add`] gave.
    pub fn bytes(&self, address: u64) -> Option<&[u8]> {
        Some(&self.buffers.get(index_of(address)?)?.bytes)
    }

    /// For each byte of the buffer at an address: whether it was written, by the host or by a kernel.
    pub fn written(&self, address: u64) -> Option<&[bool]> {
        Some(&self.buffers.get(index_of(address)?)?.known)
    }

    /// Forgets who accessed what: a launch is over before the next one starts.
    pub(super) fn begin_launch(&mut self) {
        for buffer in &mut self.buffers {
            buffer.granules = Vec::new();
            buffer.granule = 4;
        }
    }

    pub(super) fn read(
        &mut self,
        address: u64,
        length: usize,
        alignment: usize,
        access: Access,
        clocks: &Clocks,
    ) -> Result<&[u8], Box<Trouble>> {
        let (buffer, start) = self.place(address, length, alignment, access.lane())?;
        buffer.check(address, start, length, access, clocks)?;
        buffer.check_known(address, start, length, access)?;
        Ok(&buffer.bytes[start..start + length])
    }

    pub(super) fn write(
        &mut self,
        address: u64,
        length: usize,
        access: Access,
        clocks: &Clocks,
    ) -> Result<&mut [u8], Box<Trouble>> {
        let (buffer, start) = self.place(address, length, length, access.lane())?;
        buffer.check(address, start, length, access, clocks)?;
        buffer.known[start..start + length].fill(true);
        Ok(&mut buffer.bytes[start..start + length])
    }

    /// What an atomic operation reads and writes.
    pub(super) fn update(
        &mut self,
        address: u64,
        length: usize,
        access: Access,
        clocks: &Clocks,
    ) -> Result<&mut [u8], Box<Trouble>> {
        let (buffer, start) = self.place(address, length, length, access.lane())?;
        buffer.check(address, start, length, access, clocks)?;
        buffer.check_known(address, start, length, access)?;
        Ok(&mut buffer.bytes[start..start + length])
    }

    fn place(
        &mut self,
        address: u64,
        length: usize,
        alignment: usize,
        lane: usize,
    ) -> Result<(&mut DeviceBuffer, usize), Box<Trouble>> {
        let space = Space::Global;
        let index = index_of(address).filter(|&index| index < self.buffers.len());
        let Some(index) = index else {
            let bounds = "no buffer is there".to_owned();
            return Err(Problem::OutOfBounds { space, address, length, bounds }.of(lane));
        };
        let buffer = &mut self.buffers[index];
        let start = (address - GLOBAL_WINDOW) % SPACING;
        if start + length as u64 > buffer.bytes.len() as u64 {
            // Before a buffer is far behind the one before it.
            let bounds = if start > SPACING / 2 {
                format!("{} bytes before buffer {}", SPACING - start, index + 1)
            } else {
                format!("byte {start} of buffer {index}, which has {}", buffer.bytes.len())
            };
            return Err(Problem::OutOfBounds { space, address, length, bounds }.of(lane));
        }
        if address & (alignment as u64 - 1) != 0 {
            return Err(Problem::Misaligned { space, address, length }.of(lane));
        }
        Ok((buffer, start as usize))
    }
}

/// Which buffer an address is of, if any.
fn index_of(address: u64) -> Option<usize> {
    Some((address.checked_sub(GLOBAL_WINDOW)? / SPACING) as usize)
}

impl DeviceBuffer {
    fn check_known(&self, address: u64, start: usize, length: usize, access: Access) -> Result<(), Box<Trouble>> {
        if !all(&self.known[start..start + length]) {
            return Err(Problem::UninitialisedMemory { space: Space::Global, address, length }.of(access.lane()));
        }
        Ok(())
    }

    /// Finds races with what came before, and remembers the access.
    fn check(
        &mut self,
        address: u64,
        start: usize,
        length: usize,
        access: Access,
        clocks: &Clocks,
    ) -> Result<(), Box<Trouble>> {
        if self.granules.is_empty() {
            self.granules = vec![UNTOUCHED; self.bytes.len().div_ceil(1 << self.granule)];
        }
        while (length | start) & ((1 << self.granule) - 1) != 0 {
            self.granules = self.granules.iter().flat_map(|&one| [one, one]).collect();
            self.granule -= 1;
        }
        for granule in &mut self.granules[start >> self.granule..(start + length) >> self.granule] {
            let found = granule.conflict(access, clocks);
            if let Some((what, earlier)) = found {
                return Err(Problem::Race { space: Space::Global, address, what, earlier }.of(access.lane()));
            }
            granule.remember(access, clocks);
        }
        Ok(())
    }
}

impl GlobalGranule {
    fn conflict(&self, access: Access, clocks: &Clocks) -> Option<(&'static str, Earlier)> {
        let reads = matches!(access.kind, AccessKind::Read | AccessKind::StrongRead);
        let both_strong = self.strong && access.kind != AccessKind::Read && access.kind != AccessKind::Write;
        if let Some(past) = self.written.filter(|past| !both_strong && !past.ordered(access, clocks)) {
            return Some((if reads { "a write and a read" } else { "two writes" }, past.earlier()));
        }
        let past = self.read.filter(|_| !reads)?;
        (!self.reads_ordered(past, access, clocks)).then(|| ("a read and a write", past.earlier()))
    }

    /// Whether all reads, of which `past` is the latest, are ordered before an access.
    fn reads_ordered(&self, past: Past, access: Access, clocks: &Clocks) -> bool {
        if self.many_blocks || past.block != access.block {
            return false;
        }
        if self.many_warps {
            clocks.knows_all_until(access.stamp.warp as usize, past.stamp.epoch)
        } else {
            clocks.ordered(past.stamp, access.stamp)
        }
    }

    fn remember(&mut self, access: Access, clocks: &Clocks) {
        let now = Past { block: access.block, stamp: access.stamp, by: access.instruction };
        match (access.kind, self.read) {
            (AccessKind::StrongRead, _) => {}
            // What is ordered before this read is ordered before all that this read is ordered before.
            (AccessKind::Read, Some(past)) if self.reads_ordered(past, access, clocks) => {
                *self = GlobalGranule { read: Some(now), many_warps: false, ..*self };
            }
            (AccessKind::Read, Some(past)) => {
                let same_block = past.block == now.block;
                let same_warp = same_block && past.stamp.warp == now.stamp.warp;
                self.many_blocks |= !same_block;
                self.many_warps |= !same_warp;
                let lanes = if same_warp { past.stamp.lanes } else { 0 } | now.stamp.lanes;
                let epoch = if same_block { past.stamp.epoch.max(now.stamp.epoch) } else { now.stamp.epoch };
                self.read = Some(Past { stamp: Stamp { lanes, epoch, ..now.stamp }, ..now });
            }
            (AccessKind::Read, None) => self.read = Some(now),
            _ => *self = GlobalGranule { written: Some(now), strong: access.kind == AccessKind::Strong, ..UNTOUCHED },
        }
    }
}
