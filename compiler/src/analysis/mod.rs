//! What can be known of expressions without running them.

pub mod affine;
pub mod bounds;
pub mod canonical;
pub mod clauses;
mod facts;
pub mod float_interval;
mod interval;
pub mod product;
pub mod range_error;
pub mod ranges;
pub mod separable;
pub mod simplify;
pub mod tile;
