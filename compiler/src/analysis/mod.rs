//! What can be known of expressions without running them.

pub mod affine;
pub mod conjunction;
pub mod product;
pub mod ranges;
