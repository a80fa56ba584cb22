//! What measures Purview: the table of cases, the machine's limits, PyTorch on the other side, and the first run on a GPU.
//!
//! [`COMMANDS`] are those of the command line: `cargo purview bench` and `cargo purview gpu`. The programs of `benches/` are made of
//! the same parts.

mod against_torch;
pub mod bench_main;
pub mod beside;
pub mod cases;
mod commands;
pub mod device;
pub mod difference;
pub mod environment;
pub mod first_call;
mod gpu;
pub mod json_process;
pub mod machine;
mod machine_report;
mod nvidia_smi;
mod ratios_svg;
mod torch_process;
pub mod turns;
pub mod variants;

pub use commands::COMMANDS;
