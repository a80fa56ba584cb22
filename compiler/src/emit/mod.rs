//! From a scheduled program to a kernel in CubeCL IR. Only this module names cubecl.
//!
//! Each schedule is a kernel template over compile-time data: [`cpu`], with its [`query_tile`] and [`key_tile`];
//! [`cube`], with its [`cube_products`] and [`cube_matrices`]; and [`mma`], with its [`mma_memory`] and [`mma_tile`], of instructions that
//! [`tensor_core`] has. They share the arguments
//! ([`arguments`]), the evaluator of the user's expressions ([`expression`]), the tiles of key loops ([`bounds`]), what maps
//! and masks do to scores ([`scores`]), the arithmetic of the softmax ([`softmax`]), and what is done where the quick way was not enough
//! ([`careful`], for GPUs [`careful_row`]). [`summary`] looks at captured tensors
//! beforehand, [`planes`] at the device. [`launch`](mod@launch) runs them. [`math`] has the functions that a target lacks.
//!
//! With the feature `emit`, `text` writes a kernel out for a target without a device: `properties` describes the device in CubeCL's terms,
//! `definition` expands the kernel without a launch. `ptx_launch` says what its PTX is launched with.

pub mod arguments;
pub mod bounds;
#[cfg(feature = "emit")]
mod canonical;
pub mod careful;
pub mod careful_row;
pub mod cpu;
#[cfg(feature = "emit")]
mod cpu_text;
pub mod cube;
pub mod cube_matrices;
pub mod cube_products;
#[cfg(feature = "emit")]
pub mod definition;
pub mod expression;
#[cfg(feature = "emit")]
mod header;
pub mod key_tile;
pub mod launch;
pub mod math;
pub mod mma;
pub mod mma_memory;
pub mod mma_tile;
#[cfg(any(feature = "emit", feature = "cuda"))]
mod nvptx;
pub mod planes;
#[cfg(feature = "emit")]
pub mod properties;
#[cfg(feature = "emit")]
pub mod ptx_launch;
pub mod query_tile;
pub mod registers;
pub mod scores;
pub mod softmax;
pub mod summary;
pub mod tensor_core;
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
