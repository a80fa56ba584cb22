//! Reads, writes and copies by the lanes of a warp.

use super::block::RunningBlock;
use super::clocks::lanes_of;
use super::fault::{Problem, Trouble};
use super::instruction::{Address, Atomic, CopyAsync, Transfer, Update};
use super::lanes::{LANES, Wide};
use super::shared::{Access, AccessKind};
use super::types::{CONSTANT_WINDOW, LOCAL_WINDOW, PARAM_WINDOW, PtxType, Space};
use super::warp::Warp;

/// The most bytes that a lane moves at once.
const LONGEST: usize = 16;

impl RunningBlock<'_> {
    /// Where each lane's address points; those of 32 bits wrap around.
    pub(super) fn addresses(&self, warp: &Warp, address: Address, lanes: u32) -> Result<Wide, Box<Trouble>> {
        warp.check(address.base, lanes)?;
        let mask = if address.base.wide { !0 } else { u32::MAX as u64 };
        Ok(warp.wide(address.base).map(|base| base.wrapping_add_signed(address.offset) & mask))
    }

    /// The space that an address is in, which has to be the one that the instruction names.
    pub(super) fn space_of(
        &self,
        named: Space,
        address: u64,
        length: usize,
        lane: usize,
    ) -> Result<Space, Box<Trouble>> {
        match Space::of(address) {
            Some(space) if named == space || named == Space::Generic => Ok(space),
            // Initialised variables of the module may be declared as global.
            Some(Space::Constant) if named == Space::Global => Ok(Space::Constant),
            Some(space) => {
                let bounds = format!("the address is one of {space} memory");
                Err(Problem::OutOfBounds { space: named, address, length, bounds }.of(lane))
            }
            None => {
                let bounds = "nothing is there".to_owned();
                Err(Problem::OutOfBounds { space: named, address, length, bounds }.of(lane))
            }
        }
    }

    /// Up to 16 bytes at an address of a space.
    pub(super) fn read(
        &mut self,
        warp: &Warp,
        space: Space,
        address: u64,
        length: usize,
        access: Access,
    ) -> Result<[u8; LONGEST], Box<Trouble>> {
        let mut data = [0; LONGEST];
        let lane = access.lane();
        let bytes = match space {
            Space::Shared => self.shared.read(address, length, access, &self.clocks)?,
            Space::Global | Space::Generic => self.memory.read(address, length, length, access, &self.clocks)?,
            Space::Param => within(self.parameters, space, PARAM_WINDOW, address, length, lane)?,
            Space::Constant => within(&self.module.constant, space, CONSTANT_WINDOW, address, length, lane)?,
            Space::Local => {
                let frame = self.module.local;
                let known = &warp.local_known[lane * frame..][..frame];
                let bytes = within(&warp.local[lane * frame..][..frame], space, LOCAL_WINDOW, address, length, lane)?;
                if known[(address - LOCAL_WINDOW) as usize..][..length].contains(&false) {
                    return Err(Problem::UninitialisedMemory { space, address, length }.of(lane));
                }
                bytes
            }
        };
        data[..length].copy_from_slice(bytes);
        Ok(data)
    }

    /// Writes to an address of a space.
    pub(super) fn write(
        &mut self,
        warp: &mut Warp,
        space: Space,
        address: u64,
        data: &[u8],
        access: Access,
    ) -> Result<(), Box<Trouble>> {
        let (lane, length) = (access.lane(), data.len());
        match space {
            Space::Shared => self.shared.write(address, length, access, &self.clocks)?.copy_from_slice(data),
            Space::Global | Space::Generic => {
                self.check_sources(warp, address, length, lane)?;
                self.memory.write(address, length, access, &self.clocks)?.copy_from_slice(data);
            }
            Space::Local => {
                let frame = self.module.local;
                within(&warp.local[lane * frame..][..frame], space, LOCAL_WINDOW, address, length, lane)?;
                let start = lane * frame + (address - LOCAL_WINDOW) as usize;
                warp.local[start..start + length].copy_from_slice(data);
                warp.local_known[start..start + length].fill(true);
            }
            Space::Param | Space::Constant => return Err(Problem::ReadOnly { space, address }.of(lane)),
        }
        Ok(())
    }

    /// That a lane does not write what a copy of its own still reads. Another lane's copy has read it as far as races go.
    fn check_sources(&self, warp: &Warp, address: u64, length: usize, lane: usize) -> Result<(), Box<Trouble>> {
        match warp.copies.reading(lane, address, length) {
            None => Ok(()),
            Some(copy) => {
                let copy = self.access(warp, lane, copy.instruction, AccessKind::Read).earlier();
                Err(Problem::CopyUnderWay { space: Space::Global, address, length, copy }.of(lane))
            }
        }
    }

    /// Counts a request whose lanes move the same number of bytes.
    fn count(&mut self, at: u32, space: Space, addresses: &Wide, lanes: u32, length: usize) {
        let traffic = &mut self.tally.traffic[at as usize];
        match space {
            Space::Shared => traffic.shared(addresses, lanes, length),
            Space::Global => traffic.global(lanes_of(lanes).map(|lane| (addresses[lane], length))),
            _ => return,
        }
        traffic.requests += 1;
    }

    pub(super) fn load(
        &mut self,
        warp: &mut Warp,
        at: u32,
        transfer: &Transfer,
        lanes: u32,
    ) -> Result<(), Box<Trouble>> {
        let addresses = self.addresses(warp, transfer.address, lanes)?;
        let each = transfer.each.bits() as usize / 8;
        let length = each * transfer.registers.len();
        let kind = if transfer.strong { AccessKind::StrongRead } else { AccessKind::Read };
        let mut counted = None;
        for lane in lanes_of(lanes) {
            let space = self.space_of(transfer.address.space, addresses[lane], length, lane)?;
            let access = self.access(warp, lane, at, kind);
            let data = self.read(warp, space, addresses[lane], length, access)?;
            counted.get_or_insert(space);
            for (register, bytes) in transfer.registers.iter().zip(data.chunks(each)) {
                if let Some(register) = register {
                    warp.set_lane(*register, lane, extended(bytes, transfer.each));
                }
            }
        }
        if let Some(space) = counted {
            self.count(at, space, &addresses, lanes, length);
        }
        Ok(())
    }

    pub(super) fn store(
        &mut self,
        warp: &mut Warp,
        at: u32,
        transfer: &Transfer,
        lanes: u32,
    ) -> Result<(), Box<Trouble>> {
        for &register in transfer.registers.iter().flatten() {
            warp.check(register, lanes)?;
        }
        let addresses = self.addresses(warp, transfer.address, lanes)?;
        let each = transfer.each.bits() as usize / 8;
        let length = each * transfer.registers.len();
        let kind = if transfer.strong { AccessKind::Strong } else { AccessKind::Write };
        let mut counted = None;
        for lane in lanes_of(lanes) {
            let space = self.space_of(transfer.address.space, addresses[lane], length, lane)?;
            let mut data = [0; LONGEST];
            for (register, bytes) in transfer.registers.iter().flatten().zip(data.chunks_mut(each)) {
                bytes.copy_from_slice(&warp.lane(*register, lane).to_le_bytes()[..each]);
            }
            let access = self.access(warp, lane, at, kind);
            self.write(warp, space, addresses[lane], &data[..length], access)?;
            counted.get_or_insert(space);
        }
        if let Some(space) = counted {
            self.count(at, space, &addresses, lanes, length);
        }
        Ok(())
    }

    /// `atom` and `red`, lane by lane.
    pub(super) fn atomic(&mut self, warp: &mut Warp, at: u32, atomic: &Atomic, lanes: u32) -> Result<(), Box<Trouble>> {
        for &register in [atomic.operand].iter().chain(&atomic.replacement) {
            warp.check(register, lanes)?;
        }
        let addresses = self.addresses(warp, atomic.address, lanes)?;
        let length = atomic.each.bits() as usize / 8;
        let mut counted = None;
        for lane in lanes_of(lanes) {
            let address = addresses[lane];
            let space = self.space_of(atomic.address.space, address, length, lane)?;
            let access = self.access(warp, lane, at, AccessKind::Strong);
            let bytes = match space {
                Space::Shared => self.shared.update(address, length, access, &self.clocks)?,
                Space::Global => {
                    self.check_sources(warp, address, length, lane)?;
                    self.memory.update(address, length, access, &self.clocks)?
                }
                _ => return Err(Problem::ReadOnly { space, address }.of(lane)),
            };
            let old = zero_extended(bytes);
            let operand = warp.lane(atomic.operand, lane);
            let replacement = atomic.replacement.map(|register| warp.lane(register, lane));
            let new = updated(atomic.update, atomic.each, old, operand, replacement.unwrap_or_default());
            bytes.copy_from_slice(&new.to_le_bytes()[..length]);
            if let Some(to) = atomic.to {
                warp.set_lane(to, lane, old);
            }
            counted.get_or_insert(space);
        }
        if let Some(space) = counted {
            self.count(at, space, &addresses, lanes, length);
        }
        Ok(())
    }

    /// `cp.async`. What is copied may not change until it is waited for, so that it may be copied now.
    pub(super) fn begin_copies(
        &mut self,
        warp: &mut Warp,
        at: u32,
        copy: &CopyAsync,
        lanes: u32,
    ) -> Result<(), Box<Trouble>> {
        let to = self.addresses(warp, copy.to, lanes)?;
        let from = self.addresses(warp, copy.from, lanes)?;
        let length = copy.length as usize;
        let ignored = match copy.ignore_source {
            Some(guard) => warp.predicate(guard, lanes)?,
            None => 0,
        };
        if let Some(register) = copy.source_length {
            warp.check(register, lanes)?;
        }
        let mut read = [0; LANES];
        for lane in lanes_of(lanes) {
            let count = match copy.source_length {
                _ if ignored >> lane & 1 == 1 => 0,
                Some(register) => warp.narrow(register)[lane] as usize,
                None => length,
            };
            if count > length {
                let reason = format!("a copy of {length} bytes cannot read {count}");
                return Err(Problem::Operand { reason }.of(lane));
            }
            read[lane] = count;
            let mut data = [0; LONGEST];
            if count > 0 {
                self.space_of(Space::Global, from[lane], count, lane)?;
                let access = self.access(warp, lane, at, AccessKind::Read);
                data[..count].copy_from_slice(self.memory.read(from[lane], count, length, access, &self.clocks)?);
            }
            self.space_of(Space::Shared, to[lane], length, lane)?;
            let access = self.access(warp, lane, at, AccessKind::Write);
            self.shared.begin_copy(to[lane], length, access, &self.clocks)?.copy_from_slice(&data[..length]);
            warp.copies.begin(lane, to[lane], length, (from[lane], count), at);
        }
        let traffic = &mut self.tally.traffic[at as usize];
        traffic.requests += 1;
        traffic.shared(&to, lanes, length);
        traffic.global(lanes_of(lanes).map(|lane| (from[lane], read[lane])));
        Ok(())
    }

    /// Makes the copies that are over writes of this moment.
    pub(super) fn finish_copies(&mut self, warp: &mut Warp, lanes: u32, newest: u32) {
        for copy in warp.copies.finish(lanes, newest) {
            let access = self.access(warp, copy.lane, copy.instruction, AccessKind::Write);
            self.shared.finish_copy(copy.to, copy.length, access);
        }
    }
}

/// The bytes of an access that has to lie within an array.
fn within(
    bytes: &[u8],
    space: Space,
    window: u64,
    address: u64,
    length: usize,
    lane: usize,
) -> Result<&[u8], Box<Trouble>> {
    let start = address.wrapping_sub(window) as usize;
    let Some(found) = start.checked_add(length).and_then(|end| bytes.get(start..end)) else {
        let bounds = format!("{} bytes at {window:#x}", bytes.len());
        return Err(Problem::OutOfBounds { space, address, length, bounds }.of(lane));
    };
    if !start.is_multiple_of(length) {
        return Err(Problem::Misaligned { space, address, length }.of(lane));
    }
    Ok(found)
}

fn zero_extended(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, &byte| value << 8 | byte as u64)
}

/// What a load puts in a register that may be wider.
fn extended(bytes: &[u8], each: PtxType) -> u64 {
    let value = zero_extended(bytes);
    if !each.is_signed() {
        return value;
    }
    let unused = 64 - each.bits();
    ((value << unused) as i64 >> unused) as u64
}

/// What an atomic operation leaves in memory.
fn updated(update: Update, each: PtxType, old: u64, operand: u64, replacement: u64) -> u64 {
    let single = |bits: u64| f32::from_bits(bits as u32);
    let signed = |bits: u64| if each.bits() == 32 { bits as i32 as i64 } else { bits as i64 };
    match (update, each) {
        (Update::Add, PtxType::F32) => (single(old) + single(operand)).to_bits() as u64,
        (Update::Add, PtxType::F64) => (f64::from_bits(old) + f64::from_bits(operand)).to_bits(),
        (Update::Add, _) => old.wrapping_add(operand),
        (Update::Min, PtxType::S32 | PtxType::S64) => signed(old).min(signed(operand)) as u64,
        (Update::Max, PtxType::S32 | PtxType::S64) => signed(old).max(signed(operand)) as u64,
        (Update::Min, _) => old.min(operand),
        (Update::Max, _) => old.max(operand),
        (Update::And, _) => old & operand,
        (Update::Or, _) => old | operand,
        (Update::Xor, _) => old ^ operand,
        (Update::Exchange, _) => operand,
        (Update::CompareExchange, _) => {
            if old == operand {
                replacement
            } else {
                old
            }
        }
        (Update::Increment, _) => {
            if old >= operand {
                0
            } else {
                old + 1
            }
        }
        (Update::Decrement, _) => {
            if old == 0 || old > operand {
                operand
            } else {
                old - 1
            }
        }
    }
}
