//! What the tests share: devices, deterministic inputs, attentions to try shapes with, the comparison with the reference, and a
//! generator of random attentions.

pub mod attentions;
pub mod compare;
pub mod devices;
pub mod generate;
pub mod numbers;
