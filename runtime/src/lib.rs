//! Purview: a Rust-embedded language and compiler for fused attention kernels.
//!
//! ```
//! use purview::prelude::*;
//!
//! /// Each query sees itself and the `window - 1` keys before it.
//! #[attention]
//! pub fn sliding_window(q: Query, k: Key, v: Value, window: u32) -> Output {
//!     for i in q.tiles() {
//!         let mut o = Softmax::new();
//!         for j in k.tiles() {
//!             let s = dot(q[i], k[j]) * scale();
//!             o.push(mask(s, j <= i && i - j < window), v[j]);
//!         }
//!         o
//!     }
//! }
//!
//! # fn main() -> Result<(), purview::Error> {
//! let device = Device::cpu()?;
//! let q = Tensor::from_slice(&device, [1, 2, 100, 16], &vec![0.5f32; 3200])?;
//! let out = sliding_window(8).run(&device, &q, &q, &q)?;
//! assert_eq!(out.shape(), [1, 2, 100, 16]);
//! # Ok(())
//! # }
//! ```
//!
//! The body is a small language of its own; [`attention`](macro@attention) describes it. The compiler derives the tiles to
//! visit from the predicate, and [`Attention`] validates, compiles once, launches, reports and checks.

/// The cubecl that this crate is built with, for handles and clients.
pub use cubecl;

#[cfg(feature = "wgpu")]
mod adapter;
mod attention;
mod bind;
pub mod cache;
mod capabilities;
mod device;
mod dtype;
mod emit;
mod error;
mod gradients;
mod launch;
mod operation;
mod partial;
mod plan;
mod prove;
#[cfg(feature = "emit")]
mod ptx_launch;
mod request;
mod results;
mod rope;
pub mod schedule;
mod shape;
mod tensor;
#[cfg(feature = "testing")]
pub mod testing;
mod validate;
mod variant;

pub use attention::{
    AnyAttention, AnyNumber, Attention, AttentionOver, AttentionWithLse, CountedTiles, Exactly, ExactlyOperands,
    GeneralAttention, GeneralAttentionWithLse, InType, Pairs,
};
pub use capabilities::ShaderLanguage;
pub use device::Device;
pub use dtype::{DType, MAX_ELEMENTS};
pub use error::Error;
pub use gradients::{Gradients, Saved, WithGradients};
pub use partial::{AsPartial, Partial, merge};
#[cfg(feature = "emit")]
pub use ptx_launch::{PtxBuffer, PtxGrid, PtxLaunch, PtxResult};
pub use purview_compiler::device_model::{DeviceModel, Family, MatrixShape};
pub use purview_compiler::scheduled::{Compiled, Scheduled};
pub use purview_compiler::target::{KernelText, Target, UnknownTarget};
pub use purview_compiler::{
    eval, expr, interpret, interpret_backward, ir, lang, notes, picture, report, spec, svg, visible_pairs,
};
pub use purview_macros::{attention, index, mask, score};
pub use results::{Outputs, Results, WithLse, WithLseAndMax, WithMax};
pub use rope::rope;
pub use shape::Shape;
pub use tensor::{Origin, Tensor, TensorElement};
pub use variant::{Arguments, Variant};

/// What a file with an attention in it needs.
pub mod prelude {
    pub use crate::{Attention, Device, Error, GeneralAttention, Shape, Target, Tensor, attention, index, mask, score};
}
