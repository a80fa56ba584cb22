//! Running PTX on the CPU.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use purview_nvidia::ptx::{GridLaunch, DeviceMemory, Module, run};
//!
//! let module = Module::parse(
//!     ".version 8.0 .target sm_80 .address_size 64
//!      .visible .entry double(.param .u64 values) {
//!          .reg .b32 %r<4>; .reg .b64 %rd<4>;
//!          ld.param.u64 %rd1, [values];
//!          mov.u32 %r1, %tid.x;
//!          mul.wide.u32 %rd2, %r1, 4;
//!          add.s64 %rd3, %rd1, %rd2;
//!          ld.global.u32 %r2, [%rd3];
//!          shl.b32 %r3, %r2, 1;
//!          st.global.u32 [%rd3], %r3;
//!          ret;
//!      }",
//! )?;
//! let mut memory = DeviceMemory::new();
//! let values = memory.add((0..64u32).flat_map(u32::to_le_bytes).collect());
//! let launch = GridLaunch {
//!     grid: [1, 1, 1],
//!     block: [64, 1, 1],
//!     dynamic_shared: 0,
//!     parameters: vec![values.to_le_bytes().to_vec()],
//! };
//! let counts = run(&module, &launch, &mut memory)?;
//! assert_eq!(memory.bytes(values).unwrap()[4 * 63..], 126u32.to_le_bytes());
//! assert_eq!(counts.traffic("ld.global").sectors, 8);
//! # Ok(())
//! # }
//! ```
//!
//! A module is read whole before anything of it is run, and what is not understood is an error then: [`Module::parse`] (`lexer`,
//! `parse`, `decode` and its parts). Registers become rows of a table, constants rows that hold them, and arithmetic functions from
//! rows to a row (`lanes`, `integer`, `float`, `compare`, `convert`). A block's warps run in turn from barrier to barrier (`run`,
//! `block`, `warp`); what they may not do is found where memory is (`memory`, `shared`, `copies`), by what happened before what
//! (`clocks`), never by trying orders.
//!
//! The numbers are those of IEEE where PTX asks for them; where it leaves room, as for `ex2.approx` and sums in tensor cores, they are
//! near to exact, and a GPU's are not the same to the last bit.

mod access;
mod block;
mod clocks;
mod compare;
mod convert;
mod copies;
mod counts;
mod decode;
mod decode_compute;
mod decode_memory;
mod decode_warp;
mod exchange;
mod fault;
mod float;
mod instruction;
mod integer;
mod lanes;
mod lexer;
mod matrix;
mod meet;
mod memory;
mod module;
mod mutant;
mod opcode;
mod operand;
mod parse;
mod product;
mod registers;
mod rounding;
mod run;
mod shared;
mod types;
mod warp;

pub use counts::{Counts, PlaceCounts, Traffic};
pub use fault::{Fault, FaultPlace, PtxParseError};
pub use memory::DeviceMemory;
pub use module::{KernelParameter, Module};
pub use mutant::without_line;
pub use run::{GridLaunch, STEP_LIMIT, run, run_within};
pub use types::Space;
