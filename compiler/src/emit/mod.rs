//! From a scheduled program to a kernel in CubeCL IR. Only this module names cubecl.
//!
//! Each schedule is a kernel template over compile-time data: [`cpu`] and `cube`. They share the arguments
//! ([`arguments`]), the evaluator of the user's expressions ([`expression`]), the bounds of key loops ([`bounds`]) and the
//! arithmetic of the softmax ([`softmax`]).

pub mod arguments;
pub mod bounds;
pub mod cpu;
pub mod expression;
pub mod softmax;
