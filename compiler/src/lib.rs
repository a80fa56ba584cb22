//! The compiler of Purview.

pub mod expr;
pub mod ir;
pub mod lang;
pub mod schedule;
pub mod spec;
