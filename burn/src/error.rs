//! What can be wrong with an attention on burn's tensors.

use burn::tensor::{DType, Device};

/// Why an attention was not run, or a tensor not shared. Nothing was launched.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// What Purview says of the attention, its tensors or the device.
    #[error(transparent)]
    Purview(#[from] purview::Error),
    /// A tensor of a backend that runs no kernels of CubeCL's.
    #[error(
        "{what} is on {device:?}, expected a device of CubeCL's: `Device::cpu()`, `Device::wgpu(…)`, `Device::cuda(0)`, …"
    )]
    Backend {
        /// What the tensor is.
        what: &'static str,
        /// Its device.
        device: Device,
    },
    /// A tensor that is quantized, or whose memory is in tiles.
    #[error("{what} is stored as {dtype:?} in a form of burn's own, expected plain numbers: dequantize it")]
    Stored {
        /// What the tensor is.
        what: &'static str,
        /// Its type.
        dtype: DType,
    },
    /// A captured tensor that requires a gradient, with queries, keys and values of a device without autodiff.
    #[error(
        "a captured tensor requires a gradient, and the query is on a device without autodiff\n\
         help: `captured(&tensor.inner())`, if it is not to be trained"
    )]
    CapturedGradient,
    /// More captured tensors that require a gradient than an attention may have.
    #[error("{found} captured tensors require a gradient, expected at most {most}")]
    CapturedGradients {
        /// How many do.
        found: usize,
        /// How many may.
        most: usize,
    },
}
