//! Matrices between memory and a warp's registers (PTX ISA, "Warp Level Matrix Instructions", "ldmatrix"). The layout of `wmma`'s
//! fragments is that of [`product`](super::product).

use super::block::RunningBlock;
use super::clocks::lanes_of;
use super::fault::{Problem, Trouble};
use super::instruction::{Address, Fragment, FragmentElement, Register};
use super::lanes::LANES;
use super::product::{EACH, SIDE};
use super::shared::{Access, AccessKind};
use super::types::Space;
use super::warp::Warp;

impl RunningBlock<'_> {
    /// `ldmatrix`: the rows' addresses are those of eight lanes for each matrix.
    pub(super) fn load_matrices(
        &mut self,
        warp: &mut Warp,
        at: u32,
        address: Address,
        transposed: bool,
        registers: &[Register],
    ) -> Result<(), Box<Trouble>> {
        let givers = !0u32 >> (32 - 8 * registers.len());
        let addresses = self.addresses(warp, address, givers)?;
        let mut results = [[0u32; LANES]; 4];
        for (matrix, result) in results[..registers.len()].iter_mut().enumerate() {
            let mut elements = [[0u16; 8]; 8];
            for (row, elements) in elements.iter_mut().enumerate() {
                let lane = 8 * matrix + row;
                let access = self.access(warp, lane, at, AccessKind::Read);
                self.only_shared(address.space, addresses[lane], lane)?;
                let bytes = self.shared.read(addresses[lane], 16, access, &self.clocks)?;
                for (element, bytes) in elements.iter_mut().zip(bytes.chunks(2)) {
                    *element = u16::from_le_bytes([bytes[0], bytes[1]]);
                }
            }
            *result = std::array::from_fn(|lane| {
                let (row, column) = (lane / 4, lane % 4 * 2);
                let [low, high] = if transposed {
                    [elements[column][row], elements[column + 1][row]]
                } else {
                    [elements[row][column], elements[row][column + 1]]
                };
                (high as u32) << 16 | low as u32
            });
            self.tally.traffic[at as usize].wave((0..8).map(|row| (addresses[8 * matrix + row], 16)));
        }
        self.tally.traffic[at as usize].requests += 1;
        for (&register, result) in registers.iter().zip(&results) {
            warp.set_narrow(register, result, !0);
        }
        Ok(())
    }

    /// `stmatrix`, the way back.
    pub(super) fn store_matrices(
        &mut self,
        warp: &mut Warp,
        at: u32,
        address: Address,
        transposed: bool,
        registers: &[Register],
    ) -> Result<(), Box<Trouble>> {
        let givers = !0u32 >> (32 - 8 * registers.len());
        let addresses = self.addresses(warp, address, givers)?;
        for (matrix, &register) in registers.iter().enumerate() {
            warp.check(register, !0)?;
            let values = warp.narrow(register);
            for row in 0..8 {
                let element = |column: usize| {
                    let (row, column) = if transposed { (column, row) } else { (row, column) };
                    (values[row * 4 + column / 2] >> (16 * (column % 2))) as u16
                };
                let lane = 8 * matrix + row;
                let access = self.access(warp, lane, at, AccessKind::Write);
                self.only_shared(address.space, addresses[lane], lane)?;
                let bytes = self.shared.write(addresses[lane], 16, access, &self.clocks)?;
                for (column, bytes) in bytes.chunks_mut(2).enumerate() {
                    bytes.copy_from_slice(&element(column).to_le_bytes());
                }
            }
            self.tally.traffic[at as usize].wave((0..8).map(|row| (addresses[8 * matrix + row], 16)));
        }
        self.tally.traffic[at as usize].requests += 1;
        Ok(())
    }

    fn only_shared(&self, space: Space, address: u64, lane: usize) -> Result<(), Box<Trouble>> {
        match self.space_of(space, address, 16, lane)? {
            Space::Shared => Ok(()),
            other => {
                Err(Problem::Operand { reason: format!("matrices are in shared memory, not in {other}") }.of(lane))
            }
        }
    }

    /// `wmma.load`.
    pub(super) fn load_fragment(&mut self, warp: &mut Warp, at: u32, fragment: &Fragment) -> Result<(), Box<Trouble>> {
        let pieces = self.pieces(warp, at, fragment)?;
        let mut elements = [[0u32; SIDE]; SIDE];
        let size = fragment.size();
        for piece in &pieces {
            let access = self.access_of_warp(warp, at, AccessKind::Read);
            let bytes = self.read(warp, piece.space, piece.address, 16, access)?;
            for (index, bytes) in bytes.chunks(size).enumerate() {
                let (row, column) = fragment.place(piece, index);
                let mut word = [0; 4];
                word[..size].copy_from_slice(bytes);
                elements[row][column] = u32::from_le_bytes(word);
            }
        }
        let element = |lane: usize, index: usize| elements[(lane * EACH + index) / SIDE][(lane * EACH + index) % SIDE];
        for (index, &register) in fragment.registers.iter().enumerate() {
            let value = std::array::from_fn(|lane| match fragment.element {
                FragmentElement::F32 => element(lane, index),
                _ => element(lane, 2 * (index % 4)) | element(lane, 2 * (index % 4) + 1) << 16,
            });
            warp.set_narrow(register, &value, !0);
        }
        Ok(())
    }

    /// `wmma.store`.
    pub(super) fn store_fragment(&mut self, warp: &mut Warp, at: u32, fragment: &Fragment) -> Result<(), Box<Trouble>> {
        for &register in &fragment.registers {
            warp.check(register, !0)?;
        }
        let pieces = self.pieces(warp, at, fragment)?;
        let size = fragment.size();
        for piece in &pieces {
            let access = self.access_of_warp(warp, at, AccessKind::Write);
            let mut data = [0; 16];
            for (index, bytes) in data.chunks_mut(size).enumerate() {
                let (row, column) = fragment.place(piece, index);
                let element = row * SIDE + column;
                let (lane, slot) = (element / EACH, element % EACH);
                let word = match fragment.element {
                    FragmentElement::F32 => warp.narrow(fragment.registers[slot])[lane],
                    _ => warp.narrow(fragment.registers[slot / 2])[lane] >> (16 * (slot % 2)),
                };
                bytes.copy_from_slice(&word.to_le_bytes()[..size]);
            }
            self.write(warp, piece.space, piece.address, &data, access)?;
        }
        Ok(())
    }

    fn access_of_warp(&self, warp: &Warp, instruction: u32, kind: AccessKind) -> Access {
        Access { stamp: self.clocks.now_of_warp(warp.index), instruction, block: self.index, kind }
    }

    /// The pieces of 16 bytes of a fragment, which are counted as if `ldmatrix` moved them, eight rows at once.
    fn pieces(&mut self, warp: &Warp, at: u32, fragment: &Fragment) -> Result<Vec<Piece>, Box<Trouble>> {
        let addresses = self.addresses(warp, fragment.address, !0)?;
        if let Some(lane) = lanes_of(!0).find(|&lane| addresses[lane] != addresses[0]) {
            return Err(Problem::Operand { reason: "a matrix has one address in all threads".to_owned() }.of(lane));
        }
        let size = fragment.size();
        let stride = match fragment.stride {
            Some(stride) => super::exchange::uniform(warp, stride, !0)? as u32 as u64,
            None => SIDE as u64,
        };
        let space = self.space_of(fragment.address.space, addresses[0], 16, 0)?;
        let lines = if fragment.column_major { fragment.columns } else { fragment.rows } as usize;
        let mut pieces = Vec::with_capacity(lines * SIDE * size / 16);
        for part in 0..SIDE * size / 16 {
            for line in 0..lines {
                let address = addresses[0] + line as u64 * stride * size as u64 + 16 * part as u64;
                pieces.push(Piece { space, address, line, first: part * 16 / size });
            }
        }
        if !addresses[0].is_multiple_of(32) {
            return Err(Problem::Misaligned { space, address: addresses[0], length: 32 }.of(0));
        }
        let traffic = &mut self.tally.traffic[at as usize];
        traffic.requests += 1;
        match space {
            Space::Shared => pieces.chunks(8).for_each(|rows| traffic.wave(rows.iter().map(|row| (row.address, 16)))),
            _ => pieces.chunks(32).for_each(|rows| traffic.global(rows.iter().map(|row| (row.address, 16)))),
        }
        Ok(pieces)
    }
}

/// 16 bytes of a line (row or column) of a fragment in memory.
struct Piece {
    space: Space,
    address: u64,
    line: usize,
    /// Its first element's place in the line.
    first: usize,
}

impl Fragment {
    /// Bytes of an element.
    fn size(&self) -> usize {
        if self.element == FragmentElement::F32 { 4 } else { 2 }
    }

    /// Row and column of an element of a piece.
    fn place(&self, piece: &Piece, index: usize) -> (usize, usize) {
        let along = piece.first + index;
        if self.column_major { (along, piece.line) } else { (piece.line, along) }
    }
}
