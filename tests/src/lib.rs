//! What the tests share: devices, deterministic inputs, attentions to try shapes with, the comparison with the reference, and
//! generators of random attentions; predicates, and a check of what the analyses claim of their tiles; and validators and compilers of kernels.

pub mod attentions;
pub mod compare;
pub mod devices;
pub mod generate;
pub mod generate_whole;
pub mod gradients;
pub mod kept_outputs;
pub mod naga_validation;
pub mod newer_mesa;
pub mod numbers;
pub mod nvidia_tools;
pub mod nvrtc;
pub mod predicates;
pub mod soundness;
pub mod spirv_val;
