//! What can be known of a CUDA kernel on a machine without a GPU.
//!
//! - [`ptx`] runs PTX on the CPU, block by block, and finds what a GPU would leave undefined: accesses out of bounds, misaligned or
//!   uninitialised, and races for want of a barrier or a wait. It counts what goes through shared and global memory.
//! - [`toolchain`] runs NVIDIA's own compilers and disassemblers, which need no GPU.
//! - [`sass`] reads what they print, [`control_flow`] finds the loops of the machine code, [`instruction_counts`] says what is in them, and
//!   [`roofline`] what that allows at most.
//! - [`occupancy`] says how many blocks a multiprocessor holds.
//!
//! Nothing here knows of attention or of CubeCL.

pub mod control_flow;
pub mod instruction_counts;
pub mod occupancy;
pub mod ptx;
pub mod roofline;
pub mod sass;
pub mod toolchain;
