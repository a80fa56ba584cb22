//! The compiler of Purview.

pub mod emit;
pub mod expr;
pub mod ir;
pub mod lang;
pub mod schedule;
pub mod spec;
