//! Purview's attention kernels in [burn](https://burn.dev): an operation on burn's tensors, and a module.
//!
//! ```
//! use burn::tensor::{Device, Distribution, Tensor};
//! use purview::prelude::*;
//!
//! /// Each position sees itself and the `window - 1` before it.
//! #[attention]
//! pub fn sliding_window(q: Query, k: Key, v: Value, window: u32) -> Output {
//!     for i in q.tiles() {
//!         let mut o = Softmax::new();
//!         for j in k.tiles() {
//!             o.push(mask(dot(q[i], k[j]) * scale(), j <= i && i - j < window), v[j]);
//!         }
//!         o
//!     }
//! }
//!
//! # fn main() -> Result<(), purview_burn::Error> {
//! let device = Device::cpu().autodiff();
//! let random = |heads| Tensor::<4>::random([1, heads, 100, 16], Distribution::Default, &device).require_grad();
//! let (q, k, v) = (random(4), random(2), random(2));
//! let out = purview_burn::attention(&sliding_window(32), q, k.clone(), v)?; // [1, 4, 100, 16]
//! let gradients = out.sum().backward();
//! assert_eq!(k.grad(&gradients).unwrap().dims(), [1, 2, 100, 16]);
//! # Ok(())
//! # }
//! ```
//!
//! - [`attention`] runs a variant on burn's tensors: plain ones, those of a device with autodiff, and with burn's fusion or without. Queries,
//!   keys, values, the output and the gradients stay where they are; nothing is copied, and no mask is ever in memory.
//! - [`captured`] gives a tensor of burn's to a variant that captures one, such as the documents of packed sequences.
//! - [`PurviewAttention`] is a module with the projections of a multi-head attention.
//!
//! # Errors
//! burn panics on tensors that do not fit each other. What is wrong with an attention may also be the contents of a captured tensor, so here it
//! is an [`Error`], with Purview's own text, and known when the call returns. For that, burn's fusion runs what it has queued before an
//! attention; it ends there in any case, as at every operation that is not burn's own.
//!
//! # Gradients
//! Of queries, keys and values, and of [`captured`] tensors of floats, up to 16 of them in an attention, where they are wanted: a frozen tensor
//! costs nothing. They are what [`with_gradients`](purview::AttentionOver::with_gradients) has, on the CPU so far: elsewhere it is
//! [`purview::Error::NoGradients`] in the forward pass, if one of the tensors is tracked. The same tensors give the same bits. A gradient of a
//! gradient is not to be had, as of any operation of burn's.

mod captured;
mod error;
mod module;
mod operation;

pub use captured::{CapturedKind, captured};
pub use error::Error;
pub use module::{PurviewAttention, PurviewAttentionConfig};

use burn::backend::{Dispatch, DispatchDevice};
use burn::tensor::kind::Basic;
use burn::tensor::{DType, Tensor};
use operation::{Call, Outcome, PurviewOps};
use purview::AnyAttention;

/// The output of `variant` for queries `[B, H, S, D]`, keys `[B, G, T, D]` and values `[B, G, T, Dv]`, where H is a multiple of G: `[B, H, S, Dv]`.
///
/// `variant` is what a function with `#[attention]` returns, or an [`AnyAttention`]. Tensors are of f32, f16 or bf16, of any strides, on one
/// device of CubeCL's.
///
/// # Errors
/// [`Error::Purview`] with what [`AnyAttention::run`](purview::AnyAttention::run) says, and of tensors that a gradient may be wanted of what
/// [`with_gradients`](purview::AttentionOver::with_gradients) says; [`Error::Backend`] and [`Error::Stored`] for tensors that have no memory
/// of CubeCL's, or are quantized; [`Error::CapturedGradient`] and [`Error::CapturedGradients`] where gradients of captured tensors are not to
/// be had.
pub fn attention<A>(variant: &A, query: Tensor<4>, key: Tensor<4>, value: Tensor<4>) -> Result<Tensor<4>, Error>
where
    A: Clone + Into<AnyAttention>,
{
    for (what, tensor) in [("the query", &query), ("the key", &key), ("the value", &value)] {
        check_storage(what, tensor)?;
    }
    let call = Call { attention: variant.clone().into(), saves: false, outcome: Outcome::new() };
    let outcome = call.outcome.clone();
    let output = Dispatch::purview_attention(query.into_dispatch(), key.into_dispatch(), value.into_dispatch(), call);
    outcome.get()?;
    Ok(Tensor::from_dispatch(output))
}

/// That a tensor has memory of CubeCL's, in plain numbers. burn's choice of a backend panics where it has not.
fn check_storage<const D: usize, K: Basic>(what: &'static str, tensor: &Tensor<D, K>) -> Result<(), Error> {
    let device = tensor.device();
    if !matches!(device.as_dispatch().clone().inner(), DispatchDevice::Cube(_)) {
        return Err(Error::Backend { what, device });
    }
    match tensor.dtype() {
        dtype @ DType::QFloat(_) => Err(Error::Stored { what, dtype }),
        _ => Ok(()),
    }
}
