//! The compiler of Purview: from a specification of an attention to kernels.
//!
//! ```text
//! #[attention] fn ──lang──▶ Spec ──lower──▶ Program ──passes──▶ Program ──schedule──▶ Scheduled ──emit──▶ kernel
//!                            │                 │ ir: verified after every stage, printed and parsed
//!                            │                 └──report──▶ tiles visited, full, partial and skipped
//!                            └──interpret──▶ f64 reference
//! ```
//!
//! - [`expr`]: the expressions that everything is written in; [`typing`] and [`eval`] say what they are and what they mean.
//! - [`philox`](mod@philox): the random numbers that an expression may ask for.
//! - [`spec`]: what was asked, as data, built by [`lang`]; [`interpret`](mod@interpret) computes it as it stands, and
//!   [`interpret_backward`](mod@interpret_backward) its gradients, with the derivatives of expressions by [`dual`] numbers.
//! - [`ir`]: the tile program, with its text form and its invariants.
//! - [`pruned`](mod@pruned): what is left of a specification where what is known when it is compiled takes parts away.
//! - [`lower`](mod@lower) and [`passes`]: from the one to the other, and to the program that is scheduled;
//!   [`passes::compile`] is the whole way.
//! - [`analysis`]: what passes and the runtime know of expressions; [`analysis::ranges::check_launch`] is asked before
//!   every launch.
//! - [`schedule`]: how a program can be run. [`scheduled`]: a program with one of them; the program itself knows none.
//! - [`target`] and [`device_model`]: the languages that kernels are written out in, and devices that are not here, as data.
//! - [`tiles`]: the tiles that a program visits, found as a kernel finds them.
//! - [`report`](mod@report): what a program will do at a shape, with [`visible_pairs`] counted and, where asked, the
//!   [`needed_tiles`](mod@needed_tiles) found by looking; [`picture`] and [`svg`](mod@svg) show it, and [`notes`] say what a user
//!   should know.
//! - [`emit`]: from the program to a kernel in CubeCL IR. Nothing else knows a device, a pointer or a stride.

pub mod analysis;
pub mod backward;
pub mod device_model;
pub mod dual;
#[allow(missing_docs, reason = "CubeCL's macros generate launchers and arguments without documentation")]
#[allow(
    clippy::collapsible_if,
    reason = "an `if` on what is known when a kernel is compiled leaves out what is inside"
)]
#[allow(clippy::needless_range_loop, reason = "loops of kernels have numbers")]
pub mod emit;
pub mod eval;
pub mod expr;
pub mod interpret;
pub mod interpret_backward;
pub mod ir;
pub mod lang;
pub mod launch;
pub mod loop_iterations;
pub mod lower;
pub mod needed_tiles;
pub mod notes;
pub mod passes;
pub mod philox;
pub mod picture;
pub mod pruned;
pub mod report;
pub mod schedule;
pub mod scheduled;
mod shortened;
pub mod spec;
pub mod svg;
pub mod target;
pub mod tiles;
pub mod typing;
pub mod visible_pairs;
