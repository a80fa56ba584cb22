//! How many blocks of a kernel a multiprocessor holds at once.
//!
//! The sizes are those of NVIDIA's CUDA C++ Programming Guide, "Compute Capabilities", table "Technical Specifications per Compute
//! Capability", <https://docs.nvidia.com/cuda/archive/12.9.1/cuda-c-programming-guide/index.html#features-and-technical-specifications>;
//! the granularities, and that a warp has its registers in a quarter of the multiprocessor, those of `cuda_occupancy.h` in the toolkit:
//!
//! | | 8.0 | 9.0 |
//! |---|---|---|
//! | warps | 64 | 64 |
//! | blocks | 32 | 32 |
//! | registers, of 32 bits | 65536 | 65536 |
//! | shared memory for blocks, KiB | 164 | 228 |
//! | of a block, at most, KiB | 163 | 227 |
//! | of a block, for the driver, KiB | 1 | 1 |
//! | registers of a warp are a multiple of | 256 | 256 |
//! | shared bytes of a block are a multiple of | 128 | 128 |

use std::fmt::{self, Display, Formatter};
use thiserror::Error;

/// Threads of a warp.
const WARP: u32 = 32;
/// Parts of a multiprocessor, each with a quarter of the registers.
const QUARTERS: u32 = 4;
/// The most warps of a multiprocessor.
const WARPS: u32 = 64;
/// The most blocks of a multiprocessor.
const BLOCKS: u32 = 32;
/// Registers of a multiprocessor.
const REGISTERS: u32 = 1 << 16;
/// The most registers of a thread.
const THREAD_REGISTERS: u32 = 255;
/// The most threads of a block.
const BLOCK_THREADS: u32 = 1024;
/// What a warp's registers are a multiple of.
const REGISTER_UNIT: u32 = 256;
/// What a block's shared memory is a multiple of, in bytes.
const SHARED_UNIT: u32 = 128;
/// What the driver takes of a block's shared memory, in bytes.
const DRIVER_SHARED: u32 = 1 << 10;

/// What a block uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BlockResources {
    /// Its threads.
    pub threads: u32,
    /// The registers of each, of 32 bits.
    pub registers: u32,
    /// Its shared memory, in bytes, without what the driver takes.
    pub shared_bytes: u32,
}

/// What keeps a multiprocessor from holding more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OccupancyLimit {
    /// The number of warps.
    Warps,
    /// The number of blocks.
    Blocks,
    /// The registers.
    Registers,
    /// The shared memory.
    SharedMemory,
}

impl Display for OccupancyLimit {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        f.write_str(match self {
            OccupancyLimit::Warps => "warps",
            OccupancyLimit::Blocks => "blocks",
            OccupancyLimit::Registers => "registers",
            OccupancyLimit::SharedMemory => "shared memory",
        })
    }
}

/// What a multiprocessor holds at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Occupancy {
    /// Blocks.
    pub blocks: u32,
    /// Their warps.
    pub warps: u32,
    /// The most warps that it could hold.
    pub max_warps: u32,
    /// Why not more.
    pub limit: OccupancyLimit,
}

/// Why a multiprocessor holds none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum OccupancyError {
    /// No numbers are known.
    #[error("sm_{0} is not known, expected 80 or 90")]
    Unknown(u32),
    /// It is more than a block may have.
    #[error("a block on sm_{sm} has {given} {what}, and may have {least} to {most}")]
    TooMuch {
        /// Ten times the compute capability.
        sm: u32,
        /// What: threads, registers, bytes of shared memory.
        what: &'static str,
        /// How much the block has.
        given: u32,
        /// The least.
        least: u32,
        /// The most.
        most: u32,
    },
    /// Its warps have more registers than there are.
    #[error(
        "a block of {threads} threads with {registers} registers each does not fit: there are {REGISTERS} registers"
    )]
    Registers {
        /// Its threads.
        threads: u32,
        /// The registers of each.
        registers: u32,
    },
}

/// How many such blocks a multiprocessor of compute capability `sm` / 10 holds, with as much of its memory shared as may be.
///
/// # Errors
/// [`OccupancyError`], where it is not 8.0 or 9.0, or the block could not be launched.
pub fn occupancy(sm: u32, block: &BlockResources) -> Result<Occupancy, OccupancyError> {
    let shared = match sm {
        80 => 164 << 10,
        90 => 228 << 10,
        _ => return Err(OccupancyError::Unknown(sm)),
    };
    let within = |what, given, least, most| match given {
        _ if (least..=most).contains(&given) => Ok(()),
        _ => Err(OccupancyError::TooMuch { sm, what, given, least, most }),
    };
    within("threads", block.threads, 1, BLOCK_THREADS)?;
    within("registers a thread", block.registers, 1, THREAD_REGISTERS)?;
    within("bytes of shared memory", block.shared_bytes, 0, shared - DRIVER_SHARED)?;

    let warps = block.threads.div_ceil(WARP);
    let warp_registers = (block.registers * WARP).next_multiple_of(REGISTER_UNIT);
    let by_registers = REGISTERS / QUARTERS / warp_registers * QUARTERS / warps;
    // A block's warps are spread over all quarters.
    if warps.next_multiple_of(QUARTERS) * warp_registers > REGISTERS {
        return Err(OccupancyError::Registers { threads: block.threads, registers: block.registers });
    }
    let by_shared = shared / (block.shared_bytes.next_multiple_of(SHARED_UNIT) + DRIVER_SHARED);
    let limits = [
        (WARPS / warps, OccupancyLimit::Warps),
        (by_registers, OccupancyLimit::Registers),
        (by_shared, OccupancyLimit::SharedMemory),
        (BLOCKS, OccupancyLimit::Blocks),
    ];
    let least = |a: (u32, OccupancyLimit), b: (u32, OccupancyLimit)| if b.0 < a.0 { b } else { a };
    let (blocks, limit) = limits.into_iter().fold(limits[0], least);
    Ok(Occupancy { blocks, warps: blocks * warps, max_warps: WARPS, limit })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The blocks that a multiprocessor holds, and why not more.
    fn holds(sm: u32, threads: u32, registers: u32, shared_bytes: u32) -> (u32, OccupancyLimit) {
        let occupancy = occupancy(sm, &BlockResources { threads, registers, shared_bytes }).unwrap();
        assert_eq!(occupancy.warps, occupancy.blocks * threads.div_ceil(32));
        (occupancy.blocks, occupancy.limit)
    }

    #[test]
    fn registers() {
        // 128 × 32 = 4096 of 16384 registers in a quarter: 4 warps, 16 in all, 4 blocks of 4.
        assert_eq!(holds(80, 128, 128, 0), (4, OccupancyLimit::Registers));
        // One more is 129 × 32 = 4128, rounded up to 4352: 3 warps in a quarter.
        assert_eq!(holds(80, 128, 129, 0), (3, OccupancyLimit::Registers));
        assert_eq!(holds(90, 128, 136, 0), (3, OccupancyLimit::Registers));
        // 255 × 32 rounded up to 8192: 2 warps in a quarter.
        assert_eq!(holds(80, 128, 255, 0), (2, OccupancyLimit::Registers));
        // 12 warps for blocks of 8.
        assert_eq!(holds(80, 256, 168, 0), (1, OccupancyLimit::Registers));
    }

    #[test]
    fn shared_memory() {
        // 48 + 1 KiB: three in 164, four in 228.
        assert_eq!(holds(80, 128, 32, 48 << 10), (3, OccupancyLimit::SharedMemory));
        assert_eq!(holds(90, 128, 32, 48 << 10), (4, OccupancyLimit::SharedMemory));
        // 2 × (81 + 1) KiB fill 8.0, a byte more and its 128 do not fit.
        assert_eq!(holds(80, 128, 32, 81 << 10), (2, OccupancyLimit::SharedMemory));
        assert_eq!(holds(80, 128, 32, (81 << 10) + 1), (1, OccupancyLimit::SharedMemory));
        assert_eq!(holds(80, 128, 32, 163 << 10), (1, OccupancyLimit::SharedMemory));
        assert_eq!(holds(90, 128, 32, 227 << 10), (1, OccupancyLimit::SharedMemory));
    }

    #[test]
    fn warps_and_blocks() {
        assert_eq!(holds(80, 128, 32, 0), (16, OccupancyLimit::Warps));
        assert_eq!(holds(80, 1024, 64, 0), (1, OccupancyLimit::Registers));
        assert_eq!(holds(80, 32, 32, 0), (32, OccupancyLimit::Blocks));
        assert_eq!(holds(80, 33, 32, 0), (32, OccupancyLimit::Warps));
    }

    #[track_caller]
    fn fails(sm: u32, threads: u32, registers: u32, shared_bytes: u32, message: &str) {
        let error = occupancy(sm, &BlockResources { threads, registers, shared_bytes }).unwrap_err();
        assert_eq!(error.to_string(), message);
    }

    #[test]
    fn what_cannot_be_launched_is_an_error() {
        fails(86, 128, 32, 0, "sm_86 is not known, expected 80 or 90");
        fails(80, 1025, 32, 0, "a block on sm_80 has 1025 threads, and may have 1 to 1024");
        fails(80, 0, 32, 0, "a block on sm_80 has 0 threads, and may have 1 to 1024");
        fails(80, 128, 256, 0, "a block on sm_80 has 256 registers a thread, and may have 1 to 255");
        let message = "a block on sm_80 has 166913 bytes of shared memory, and may have 0 to 166912";
        fails(80, 128, 32, (163 << 10) + 1, message);
        let message = "a block of 1024 threads with 65 registers each does not fit: there are 65536 registers";
        fails(90, 1024, 65, 0, message);
    }
}
