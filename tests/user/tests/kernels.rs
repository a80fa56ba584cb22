//! Snapshots of this crate's attention, in `snapshots/` beside this file.

use purview::prelude::*;
use purview::schedule::{SMALL_CUBE, Schedule};
use purview::testing::{assert_kernel_snapshot, assert_program_snapshot};
use purview_user::capped_window;

#[test]
fn capped_window_stays_as_it_is() {
    let shape = Shape::new(1, 2, 64, 16);
    assert_program_snapshot!(capped_window(32, 20.0), shape);
    // A small tile makes a short kernel.
    let small = capped_window(32, 20.0).with_schedule(Schedule::Cube(SMALL_CUBE));
    assert_kernel_snapshot!(small.clone(), shape, Target::Wgsl);
    assert_kernel_snapshot!(small, shape, Target::Ptx);
}

#[test]
#[should_panic(expected = "capped_window.f32.16.wgsl: no text for the target `wgsl`")]
fn what_has_no_text_says_so() {
    let cpu = purview::schedule::cpu(purview::schedule::VectorRegisters::AVX2);
    let attention = capped_window(32, 20.0).with_schedule(Schedule::Cpu(cpu));
    assert_kernel_snapshot!(attention, Shape::new(1, 2, 64, 16), Target::Wgsl);
}
