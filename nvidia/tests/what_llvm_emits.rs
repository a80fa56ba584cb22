//! What LLVM makes of kernels that a reader of PTX would not write.

mod kernel;

use kernel::output;

/// A loop whose last part stands before its body, and is branched to by some lanes earlier than by others: at the barrier in its body
/// all are together, and each instruction has been run once for all.
#[test]
fn lanes_meet_before_the_place_where_they_parted() {
    let body = "
    mov.u32 %r2, 0;
    mov.u32 %r3, 0;
    setp.lt.u32 %p1, %r1, 5;
    bra.uni BODY;
LAST:
    add.u32 %r2, %r2, 1;
    setp.ge.u32 %p2, %r2, 3;
    @%p2 bra DONE;
BODY:
    bar.sync 0;
    @%p1 bra LAST;
    add.u32 %r3, %r3, 10;
    bra.uni LAST;
DONE:
    st.global.u32 [%rd5], %r3;";
    let expected: Vec<u32> = (0..32).map(|lane| if lane < 5 { 0 } else { 30 }).collect();
    assert_eq!(output(body, 32, &[0; 32]), expected);
    let ran = kernel::run_source(&kernel::source(body), 32, &[0; 32]).unwrap();
    assert_eq!(ran.counts.executed("bar.sync"), 3);
    assert_eq!(ran.counts.executed("setp.ge"), 3);
}

/// Lanes that leave a loop one by one meet after it.
#[test]
fn lanes_leave_a_loop_one_by_one() {
    let body = "
    mov.u32 %r2, 0;
LOOP:
    add.u32 %r2, %r2, 1;
    setp.lt.u32 %p1, %r2, %r1;
    @%p1 bra LOOP;
    bar.sync 0;
    st.global.u32 [%rd5], %r2;";
    let expected: Vec<u32> = (0..32).map(|lane: u32| lane.max(1)).collect();
    assert_eq!(output(body, 32, &[0; 32]), expected);
}

/// A half that nothing has written may be packed with one that matters, if only that one is used.
#[test]
fn half_of_a_register_may_be_undefined() {
    let body = "
    mov.b16 %h1, 7;
    mov.b32 %r2, {%h1, %h2};
    mov.b32 %r3, %r2;
    mov.b32 {%h3, _}, %r3;
    mov.b32 %r4, {%h3, %h3};
    st.global.u32 [%rd5], %r4;";
    assert_eq!(output(body, 1, &[0]), [0x0007_0007]);
}

#[test]
fn the_greater_of_two_and_zero() {
    let body = "
    ld.global.u32 %r2, [%rd4];
    max.relu.s32 %r3, %r2, -5;
    min.relu.s32 %r4, %r2, 9;
    shl.b32 %r4, %r4, 8;
    add.u32 %r3, %r3, %r4;
    st.global.u32 [%rd5], %r3;";
    let input = [3, -7, 20].map(i32::cast_unsigned);
    assert_eq!(output(body, 3, &input), [3 + (3 << 8), 0, 20 + (9 << 8)]);
}
