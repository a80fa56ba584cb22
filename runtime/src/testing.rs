//! Snapshots of kernels and tile programs in the tests of whoever writes an attention (feature `testing`).
//!
//! A snapshot shows in a diff what a change of the attention, or of this crate, does to the kernel, on a machine without a GPU. They are
//! [insta](https://insta.rs)'s, in the directory `snapshots` beside the test: `cargo insta review`, or `INSTA_UPDATE=always cargo test`, accepts
//! new ones. In a crate of your own, `Cargo.toml` has
//!
//! ```toml
//! [dependencies]
//! purview = { path = "../purview/runtime" }
//!
//! [dev-dependencies]
//! purview = { path = "../purview/runtime", features = ["testing"] }
//! ```
//!
//! and `tests/kernels.rs`:
//!
//! ```no_run
//! use purview::prelude::*;
//! use purview::testing::{assert_kernel_snapshot, assert_program_snapshot};
//!
//! /// Each query sees itself and the `window - 1` keys before it.
//! #[attention]
//! pub fn sliding_window(q: Query, k: Key, v: Value, window: u32) -> Output {
//!     for i in q.tiles() {
//!         let mut o = Softmax::new();
//!         for j in k.tiles() {
//!             o.push(mask(dot(q[i], k[j]) * scale(), j <= i && i - j < window), v[j]);
//!         }
//!         o
//!     }
//! }
//!
//! #[test]
//! fn sliding_window_stays_as_it_is() {
//!     let shape = Shape::new(1, 8, 1024, 64);
//!     assert_program_snapshot!(sliding_window(256), shape); // which tiles are visited, and what is done with them
//!     assert_kernel_snapshot!(sliding_window(256), shape, Target::Wgsl);
//! }
//! # fn main() {}
//! ```
//!
//! Nothing in a snapshot depends on the machine, its devices or its drivers: kernels are for [a device](Target::default_model) that stands for
//! the target's, programs for a CPU with AVX-512, and names that the compilers make from hashes are taken out. What may change one is another
//! version of this crate or of CubeCL. Head dims, the element type and `with_schedule` choose the kernel; lengths do not.

use crate::attention::AnyAttention;
use crate::shape::Shape;
use purview_compiler::target::Target;

/// The insta that the macros here expand to.
pub use insta;

pub use crate::{assert_kernel_snapshot, assert_program_snapshot};

/// Asserts that the kernel of an attention for a shape on a [`Target`] is the one in the snapshot; see [`testing`](crate::testing).
///
/// # Panics
/// Where it is another, or has no text for the target.
#[macro_export]
macro_rules! assert_kernel_snapshot {
    ($attention:expr, $shape:expr, $target:expr $(,)?) => {{
        let (name, text) = $crate::testing::kernel($attention, &$shape, $target);
        $crate::testing::settings().bind(|| $crate::testing::insta::assert_snapshot!(name, text));
    }};
}

/// Asserts that the tile program of an attention for a shape is the one in the snapshot; see [`testing`](crate::testing).
///
/// # Panics
/// Where it is another, or there is none.
#[macro_export]
macro_rules! assert_program_snapshot {
    ($attention:expr, $shape:expr $(,)?) => {{
        let (name, text) = $crate::testing::program($attention, &$shape);
        $crate::testing::settings().bind(|| $crate::testing::insta::assert_snapshot!(name, text));
    }};
}

/// The name and the text of a kernel's snapshot.
#[doc(hidden)]
#[track_caller]
pub fn kernel(attention: impl Into<AnyAttention>, shape: &Shape, target: Target) -> (String, String) {
    let attention = attention.into();
    let name = format!("{}.{target}", name(&attention, shape));
    match attention.emit(target, shape) {
        Ok(text) => (name, text),
        Err(error) => panic!("{name}: {error}"),
    }
}

/// The name and the text of a program's snapshot.
#[doc(hidden)]
#[track_caller]
pub fn program(attention: impl Into<AnyAttention>, shape: &Shape) -> (String, String) {
    let attention = attention.into();
    let name = format!("{}.program", name(&attention, shape));
    match attention.program(shape) {
        Ok(program) => (name, program.to_string()),
        Err(error) => panic!("{name}: {error}"),
    }
}

/// `sliding_window.f32.64`: what of a shape chooses the kernel.
fn name(attention: &AnyAttention, shape: &Shape) -> String {
    let values = if shape.v_dim == shape.qk_dim { String::new() } else { format!("x{}", shape.v_dim) };
    format!("{}.{}.{}{values}", attention.spec().name, shape.element.name(), shape.qk_dim)
}

/// insta's settings without what differs from call to call and from machine to machine: the expression and a description.
#[doc(hidden)]
pub fn settings() -> insta::Settings {
    let mut settings = insta::Settings::clone_current();
    settings.set_omit_expression(true);
    settings.remove_description();
    settings.remove_input_file();
    settings
}
