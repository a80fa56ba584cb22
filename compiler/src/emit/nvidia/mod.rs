//! What NVIDIA's GPUs have that CubeCL has no operation for.

pub mod instruction;
#[cfg(any(feature = "emit", feature = "cuda"))]
pub mod nvptx;
pub mod registers;
pub mod tensor_core;
