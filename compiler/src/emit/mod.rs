//! From a scheduled program to a kernel in CubeCL IR. Only this module names cubecl.
//!
//! Each schedule is a kernel template over compile-time data, in a folder of its own: [`cpu`], [`cube`] and [`mma`]. What they
//! share is here: the arguments ([`arguments`], and as plain data [`binding`]), the evaluator of the user's expressions
//! ([`expression`]), the tiles of key loops ([`key_tiles`]), what maps and masks do to scores ([`scores`]), the arithmetic of the
//! softmax ([`softmax`]), and what is done where the quick way was not enough ([`careful`], for GPUs [`careful_row`]). [`summary`]
//! looks at captured tensors beforehand, [`planes`] at the device, and [`merge`] makes one of partial results. Programs over rows alone need no
//! schedule ([`rows`]); [`parts`] sums what several programs give of a gradient, and [`captured`] says how sums like what is captured are split. [`math`] has the functions that a target lacks, [`nvidia`] the
//! instructions that CubeCL has no operation for. [`launch`](mod@launch) runs kernels; with the feature `emit`, `text` writes them
//! out for a target without a device.

pub mod arguments;
pub mod binding;
pub mod captured;
pub mod careful;
pub mod careful_row;
pub mod cpu;
pub mod cube;
pub mod expression;
pub mod key_tiles;
pub mod launch;
pub mod math;
pub mod merge;
pub mod mma;
pub mod nvidia;
pub mod parts;
pub mod place;
pub mod planes;
pub mod rows;
pub mod scores;
pub mod softmax;
pub mod summary;
#[cfg(feature = "emit")]
pub mod text;

use std::sync::atomic::{AtomicUsize, Ordering};

static KERNELS: AtomicUsize = AtomicUsize::new(0);

/// How many kernels this process has expanded into CubeCL IR, which is done once for each that is compiled.
pub fn kernels_compiled() -> usize {
    KERNELS.load(Ordering::Relaxed)
}

/// Called by each kernel template as it is expanded.
fn count_kernel() {
    KERNELS.fetch_add(1, Ordering::Relaxed);
}
