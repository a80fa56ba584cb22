//! What a launch cost, counted: instructions, and what went through shared and global memory.
//!
//! Shared memory has 32 banks of 4 bytes; a request takes a wavefront for each different word that it asks of the same bank. A request
//! of 8 bytes a thread is one of each half of the warp, of 16 bytes one of each quarter; `ldmatrix` makes one for each matrix of eight
//! rows. (CUDA C++ Programming Guide, "Shared Memory" of compute capability 5.x and later; NVIDIA has not told how wide requests are
//! split.) Global memory is read and written in sectors of 32 bytes.

use std::collections::BTreeMap;
use std::ops::AddAssign;

use super::clocks::lanes_of;
use super::lanes::{LANES, Wide};

/// What a launch ran.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Instructions by warps, whatever number of their lanes took part.
    pub warp_instructions: u64,
    /// The same for each opcode, modifiers and all.
    pub by_opcode: BTreeMap<String, u64>,
    /// Each memory instruction of the kernel that was run, in the order of the source.
    pub places: Vec<PlaceCounts>,
}

impl Counts {
    /// What all instructions together moved whose opcodes have a beginning, such as `ld.shared` or `cp.async`.
    pub fn traffic(&self, opcode: &str) -> Traffic {
        let mut total = Traffic::default();
        for place in self.places.iter().filter(|place| starts_with(&place.opcode, opcode)) {
            total += place.traffic;
        }
        total
    }

    /// How often instructions were run whose opcodes have a beginning, such as `mma` or `ex2.approx`.
    pub fn executed(&self, opcode: &str) -> u64 {
        self.by_opcode.iter().filter(|(name, _)| starts_with(name, opcode)).map(|(_, count)| count).sum()
    }
}

/// Another run of the same kernel.
impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.warp_instructions += other.warp_instructions;
        for (opcode, count) in other.by_opcode {
            *self.by_opcode.entry(opcode).or_default() += count;
        }
        for place in other.places {
            match self.places.iter_mut().find(|known| known.line == place.line) {
                Some(known) => known.traffic += place.traffic,
                None => self.places.push(place),
            }
        }
    }
}

/// Whether an opcode has a beginning of whole parts.
fn starts_with(opcode: &str, beginning: &str) -> bool {
    opcode.strip_prefix(beginning).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// What one memory instruction of the source did over a launch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlaceCounts {
    /// Line of the source, from 1.
    pub line: usize,
    /// The opcode, modifiers and all.
    pub opcode: String,
    /// What it moved.
    pub traffic: Traffic,
}

/// Requests to memory and what they took. Divide by the ideal for the factor that is lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Instructions by warps with a lane that took part.
    pub requests: u64,
    /// Passes through shared memory.
    pub wavefronts: u64,
    /// The passes if no two words were in the same bank without need: 32 different words each, at least one for each part of a
    /// request.
    pub ideal_wavefronts: u64,
    /// Sectors of global memory touched, of 32 bytes.
    pub sectors: u64,
    /// The sectors that would hold the different bytes asked for, packed.
    pub ideal_sectors: u64,
}

impl AddAssign for Traffic {
    fn add_assign(&mut self, other: Self) {
        self.requests += other.requests;
        self.wavefronts += other.wavefronts;
        self.ideal_wavefronts += other.ideal_wavefronts;
        self.sectors += other.sectors;
        self.ideal_sectors += other.ideal_sectors;
    }
}

impl Traffic {
    /// Adds a request to shared memory for `length` bytes at each lane's address.
    pub(super) fn shared(&mut self, addresses: &Wide, lanes: u32, length: usize) {
        let together = match length {
            0..=4 => 32,
            8 => 16,
            _ => 8,
        };
        for part in 0..LANES / together {
            let of_part = lanes & ((!0u32 >> (32 - together)) << (part * together));
            self.wave(lanes_of(of_part).map(|lane| (addresses[lane], length)));
        }
    }

    /// Adds what is served together, of at most 32 words: the most different words that a bank holds.
    pub(super) fn wave(&mut self, pieces: impl Iterator<Item = (u64, usize)>) {
        let mut words = [0u64; LANES];
        // The different words of each bank, as bits of their places in `words`.
        let mut banks = [0u32; 32];
        let mut count = 0;
        for (address, length) in pieces {
            for word in address / 4..(address + length as u64).div_ceil(4) {
                let bank = &mut banks[(word % 32) as usize];
                if lanes_of(*bank).all(|place| words[place] != word) && count < LANES {
                    words[count] = word;
                    *bank |= 1 << count;
                    count += 1;
                }
            }
        }
        self.wavefronts += banks.iter().map(|bank| bank.count_ones()).max().unwrap_or_default() as u64;
        self.ideal_wavefronts += count.div_ceil(32) as u64;
    }

    /// Adds a request to global memory for pieces of bytes.
    pub(super) fn global(&mut self, pieces: impl Iterator<Item = (u64, usize)>) {
        let mut all = [(0u64, 0u64); LANES];
        let mut count = 0;
        for (address, length) in pieces.filter(|piece| piece.1 > 0).take(LANES) {
            all[count] = (address, address + length as u64);
            count += 1;
        }
        let all = &mut all[..count];
        if !all.is_sorted() {
            all.sort_unstable();
        }
        let (mut bytes, mut sectors, mut until, mut next_sector) = (0, 0, 0, 0);
        for &(start, end) in all.iter() {
            bytes += end.saturating_sub(start.max(until));
            until = until.max(end);
            let (first, last) = ((start / 32).max(next_sector), end.div_ceil(32));
            sectors += last.saturating_sub(first);
            next_sector = next_sector.max(last);
        }
        self.sectors += sectors;
        self.ideal_sectors += bytes.div_ceil(32);
    }
}
