//! From a scheduled program to a kernel in CubeCL IR. Only this module names cubecl.
//!
//! Each schedule is a kernel template over compile-time data: [`cpu`], with its [`query_tile`] and [`key_tile`], and
//! [`cube`], with its [`cube_products`]. They share the arguments
//! ([`arguments`]), the evaluator of the user's expressions ([`expression`]), the tiles of key loops ([`bounds`]), what maps
//! and masks do to scores ([`scores`]) and the arithmetic of the softmax ([`softmax`]). [`summary`] looks at captured tensors
//! beforehand, [`planes`] at the device. [`launch`](mod@launch) runs them.
//! With the feature `wgpu`, `text` gives a kernel's WGSL without a device.

pub mod arguments;
pub mod bounds;
pub mod cpu;
pub mod cube;
pub mod cube_products;
pub mod expression;
pub mod key_tile;
pub mod launch;
pub mod planes;
pub mod query_tile;
pub mod scores;
pub mod softmax;
pub mod summary;
#[cfg(feature = "wgpu")]
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
