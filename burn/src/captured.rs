//! burn's tensors as what a variant captures.

use crate::check_storage;
use crate::error::Error;
use crate::operation::{Outcome, PurviewOps};
use burn::backend::{Dispatch, DispatchTensor};
use burn::tensor::kind::Basic;
use burn::tensor::{Bool, Float, Int, Tensor};

/// The kinds of tensors that a variant captures: `Float`, `Int` and `Bool`.
pub trait CapturedKind: Basic {
    /// Leaves `tensor` as one of Purview's, and returns it.
    #[doc(hidden)]
    fn share(tensor: DispatchTensor, outcome: Outcome<purview::Tensor>) -> DispatchTensor;
}

impl CapturedKind for Float {
    fn share(tensor: DispatchTensor, outcome: Outcome<purview::Tensor>) -> DispatchTensor {
        Dispatch::purview_share_float(tensor, outcome)
    }
}

impl CapturedKind for Int {
    fn share(tensor: DispatchTensor, outcome: Outcome<purview::Tensor>) -> DispatchTensor {
        Dispatch::purview_share_int(tensor, outcome)
    }
}

impl CapturedKind for Bool {
    fn share(tensor: DispatchTensor, outcome: Outcome<purview::Tensor>) -> DispatchTensor {
        Dispatch::purview_share_bool(tensor, outcome)
    }
}

/// `tensor` for a variant that captures one, as in `document_causal(&captured(&documents)?)`: the same memory. Integers of 64 bits are copied to
/// 32, which kernels have.
///
/// A tensor of floats that requires a gradient gets one, of every [`attention`](crate::attention) that captures what this returns. Weights are
/// other tensors after each step of an optimizer, so that is one call for each forward pass.
///
/// What kernels find of its elements, as whether they are sorted, is kept with what this returns: one call for a batch, rather than one for
/// each layer, finds it once.
///
/// # Errors
/// [`Error::Backend`] and [`Error::Stored`] for a tensor without memory of CubeCL's, or quantized; and [`Error::Purview`] with what
/// [`purview::Tensor::from_handle`] says, as of types that kernels do not have.
pub fn captured<const D: usize, K: CapturedKind>(tensor: &Tensor<D, K>) -> Result<purview::Tensor, Error> {
    check_storage("a captured tensor", tensor)?;
    let outcome = Outcome::new();
    K::share(tensor.clone().into_dispatch(), outcome.clone());
    outcome.get()
}
