//! What a GPU would leave undefined is found, whatever the order, and told with its line.

mod kernel;

use kernel::{run_blocks, run_source, source};
use purview_nvidia::ptx::{DeviceMemory, Fault, GridLaunch, Module, Space, run};

/// The fault of a body in a block of so many threads, with 64 words of input and output.
fn fault(threads: u32, body: &str) -> Fault {
    match run_source(&source(body), threads, &[7; 64]) {
        Err(fault) => fault,
        Ok(_) => panic!("no fault in\n{body}"),
    }
}

/// That a body runs.
fn fine(threads: u32, body: &str) {
    if let Err(fault) = run_source(&source(body), threads, &[7; 64]) {
        panic!("{fault}\nin\n{body}");
    }
}

/// That a body has a race in a space, found at one instruction against an earlier one.
fn race(threads: u32, body: &str, space: Space, later: &str, before: &str) {
    match fault(threads, body) {
        Fault::Race { at, earlier, space: found, .. } => {
            assert_eq!((found, at.text.as_str(), earlier.text.as_str()), (space, later, before), "in\n{body}");
            assert_ne!((at.thread, at.block), (earlier.thread, earlier.block), "in\n{body}");
        }
        other => panic!("{other}\nin\n{body}"),
    }
}

#[test]
fn out_of_bounds() {
    for (body, expected, length) in [
        ("ld.global.u32 %r2, [%rd1+256];", Space::Global, 4),
        ("ld.global.u32 %r2, [%rd1+-4];", Space::Global, 4),
        ("st.global.v4.u32 [%rd2+252], {%r1, %r1, %r1, %r1};", Space::Global, 16),
        ("mov.u64 %rd6, 0; ld.global.u32 %r2, [%rd6];", Space::Global, 4),
        ("mov.u64 %rd6, tile; st.shared.u32 [%rd6+4096], %r1;", Space::Shared, 4),
        ("mov.u64 %rd6, tile; st.shared.u32 [%rd6+-4], %r1;", Space::Shared, 4),
        ("mov.u64 %rd6, tile; st.global.u32 [%rd6], %r1;", Space::Global, 4),
        ("ld.shared.u32 %r2, [%rd1];", Space::Shared, 4),
        (".local .align 4 .b8 frame[8]; mov.u64 %rd6, frame; st.local.u32 [%rd6+8], %r1;", Space::Local, 4),
        ("ld.param.u32 %r2, [output+8];", Space::Param, 4),
        ("mov.u32 %r2, tile; cp.async.cg.shared.global [%r2+4096], [%rd1], 16;", Space::Shared, 16),
        ("mov.u32 %r2, tile; cp.async.cg.shared.global [%r2], [%rd1+256], 16, 1;", Space::Global, 1),
    ] {
        match fault(1, body) {
            Fault::OutOfBounds { at, space, length: found, .. } => {
                assert_eq!((space, found), (expected, length), "{body}");
                assert!(body.contains(at.text.trim()) || at.text == body, "{}", at.text);
            }
            other => panic!("{other} of {body}"),
        }
    }
}

#[test]
fn misaligned() {
    for body in [
        "ld.global.u32 %r2, [%rd1+2];",
        "ld.global.v2.u32 {%r2, %r3}, [%rd1+4];",
        "mov.u64 %rd6, tile; st.shared.v4.u32 [%rd6+8], {%r1, %r1, %r1, %r1};",
        "mov.u32 %r2, tile; cp.async.cg.shared.global [%r2+8], [%rd1], 16;",
        "mov.u32 %r2, tile; cp.async.cg.shared.global [%r2], [%rd1+8], 16;",
    ] {
        assert!(matches!(fault(1, body), Fault::Misaligned { .. }), "{body}");
    }
}

#[test]
fn uninitialised() {
    for (body, expected) in [
        ("ld.global.u32 %r2, [%rd2];", Space::Global),
        ("mov.u64 %rd6, tile; ld.shared.u32 %r2, [%rd6];", Space::Shared),
        ("mov.u64 %rd6, tile; st.shared.u16 [%rd6], %r1; ld.shared.u32 %r2, [%rd6];", Space::Shared),
        (".local .align 4 .b8 frame[8]; mov.u64 %rd6, frame; ld.local.u32 %r2, [%rd6];", Space::Local),
    ] {
        match fault(1, body) {
            Fault::UninitialisedMemory { space, .. } => assert_eq!(space, expected, "{body}"),
            other => panic!("{other} of {body}"),
        }
    }
    for (body, expected) in [
        ("add.u32 %r2, %r3, 1;", "%r3"),
        ("@%p1 add.u32 %r2, %r1, 1;", "%p1"),
        ("selp.b32 %r2, %r1, %r1, %p2;", "%p2"),
        ("st.global.u64 [%rd2], %rd9;", "%rd9"),
        // A copy of what is not there is no use of it, but the copy is not there either.
        ("mov.b32 %r4, %r3; add.u32 %r2, %r4, 1;", "%r4"),
        // Nor is one that is packed of what is there and what is not, or the half that is not.
        ("mov.b16 %h1, 7; mov.b32 %r4, {%h1, %h2}; add.u32 %r2, %r4, 1;", "%r4"),
        ("mov.b16 %h1, 7; mov.b32 %r4, {%h1, %h2}; mov.b32 {%h3, %h4}, %r4; add.u16 %h5, %h3, %h4;", "%h4"),
        // Written by some lanes is not written by all.
        ("setp.lt.u32 %p1, %r1, 3; @%p1 mov.u32 %r2, 1; add.u32 %r3, %r2, 1;", "%r2"),
    ] {
        match fault(32, body) {
            Fault::UninitialisedRegister { register, .. } => assert_eq!(register, expected, "{body}"),
            other => panic!("{other} of {body}"),
        }
    }
    fine(32, "mov.b32 %r4, %r3; setp.eq.u32 %p1, %r1, %r1; selp.b32 %r2, %r1, %r3, %p1; add.u32 %r2, %r2, 1;");
}

#[test]
fn barriers_that_not_all_reach() {
    let divergent = "setp.lt.u32 %p1, %r1, 16; @%p1 bra SKIP; bar.sync 0;\nSKIP:";
    match fault(32, divergent) {
        Fault::DivergentBarrier { missing, .. } => assert_eq!(missing, 0xffff),
        other => panic!("{other}"),
    }
    let one_warp = "setp.lt.u32 %p1, %r1, 32;\n@%p1 bra SKIP;\nbar.sync 0;\nSKIP:";
    match fault(64, one_warp) {
        Fault::BarrierNotReached { at, missing } => {
            assert_eq!((at.text.as_str(), at.thread, missing), ("bar.sync 0;", [32, 0, 0], vec![0]));
        }
        other => panic!("{other}"),
    }
    let returned = "setp.lt.u32 %p1, %r1, 3; @%p1 ret; bar.sync 0;";
    assert!(matches!(fault(32, returned), Fault::DivergentBarrier { missing: 7, .. }));
    // Barriers with a number of threads are for some warps.
    fine(96, "setp.lt.u32 %p1, %r1, 32;\n@%p1 bra SKIP;\nbar.sync 1, 64;\nSKIP:\nbar.sync 0;");
    assert!(matches!(
        fault(96, "setp.lt.u32 %p1, %r1, 32;\n@%p1 bra SKIP;\nbar.sync 1, 96;\nSKIP:"),
        Fault::BarrierNotReached { .. }
    ));
}

#[test]
fn members_that_are_not_there() {
    let body = "setp.lt.u32 %p1, %r1, 16; @%p1 shfl.sync.idx.b32 %r2, %r1, 0, 31, 0xffffffff;";
    assert!(matches!(fault(32, body), Fault::Members { expected: 0xffff_ffff, active: 0xffff, .. }));
    let outside = "setp.lt.u32 %p1, %r1, 16; @%p1 shfl.sync.idx.b32 %r2, %r1, 20, 31, 0xffff;";
    assert!(matches!(fault(32, outside), Fault::ShuffleFromOutside { lane: 20, .. }));
    let matrix =
        "mov.u32 %r2, tile; setp.lt.u32 %p1, %r1, 16; @%p1 ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r3}, [%r2];";
    assert!(matches!(fault(32, matrix), Fault::Members { .. }));
}

const WRITE: &str = "st.shared.u32 [%rd6], %r1;";
const READ_NEXT: &str = "ld.shared.u32 %r2, [%rd7];";

/// Each thread writes its word of `tile`; then `between`; then it reads the word `distance` further, around 64.
fn exchange(distance: u32, between: &str) -> String {
    format!(
        "mov.u64 %rd6, tile; add.s64 %rd6, %rd6, %rd3;
        add.u32 %r3, %r1, {distance}; and.b32 %r3, %r3, 63;
        mul.wide.u32 %rd7, %r3, 4; mov.u64 %rd8, tile; add.s64 %rd7, %rd7, %rd8;
        {WRITE}
        {between}
        {READ_NEXT}"
    )
}

#[test]
fn reads_of_what_others_wrote() {
    // In another warp, where only a barrier of the block will do. Warp 0 would read too soon, which is told as such.
    fine(64, &exchange(32, "bar.sync 0;"));
    for between in ["", "bar.warp.sync 0xffffffff;"] {
        assert!(matches!(fault(64, &exchange(32, between)), Fault::UninitialisedMemory { .. }));
    }
    let first = exchange(32, "").replace(WRITE, "mov.u32 %r9, 5;\nst.shared.u32 [%rd6], %r9;\nst.shared.u32 [%rd7], %r9;\nbar.sync 0;\nst.shared.u32 [%rd6], %r1;");
    assert!(matches!(fault(64, &first), Fault::Race { .. }));
    // In the same warp, where one of the warp will do.
    fine(32, &exchange(0, ""));
    let wrap = |between: &str| exchange(1, between).replace("63;", "31;");
    fine(32, &wrap("bar.warp.sync 0xffffffff;"));
    fine(32, &wrap("bar.sync 0;"));
    race(32, &wrap(""), Space::Shared, READ_NEXT, WRITE);
    race(32, &wrap("membar.cta;"), Space::Shared, READ_NEXT, WRITE);
}

#[test]
fn warp_barriers_order_their_members_only() {
    let body = |members: &str| {
        exchange(1, "").replace("63;", "31;").replace(
            READ_NEXT,
            &format!("setp.lt.u32 %p1, %r1, 7;\n@%p1 bra FIRST;\nbra DONE;\nFIRST:\nbar.warp.sync 0x7f;\nsetp.lt.u32 %p2, %r1, {members};\n@%p2 ld.shared.u32 %r2, [%rd7];\nDONE:"),
        )
    };
    // Lane 5 reads lane 6's word, which took part; lane 6 would read lane 7's, which did not.
    fine(32, &body("6"));
    assert!(matches!(fault(32, &body("7")), Fault::Race { .. }));
}

#[test]
fn writes_over_what_others_read_or_wrote() {
    let read_first = |between: &str| {
        format!(
            "mov.u64 %rd6, tile; setp.eq.u32 %p1, %r1, 0;
            @%p1 st.shared.u32 [%rd6], %r1;
            bar.sync 0;
            setp.lt.u32 %p2, %r1, 40;
            @%p2 ld.shared.u32 %r2, [%rd6];
            {between}
            setp.eq.u32 %p3, %r1, 63;
            @%p3 st.shared.u32 [%rd6], %r1;"
        )
    };
    fine(64, &read_first("bar.sync 0;"));
    race(64, &read_first(""), Space::Shared, "@%p3 st.shared.u32 [%rd6], %r1;", "@%p2 ld.shared.u32 %r2, [%rd6];");
    // The warp that reads last need not be the one that the write races with.
    race(
        64,
        &read_first("setp.lt.u32 %p2, %r1, 32;").replace("%r1, 63", "%r1, 40"),
        Space::Shared,
        "@%p3 st.shared.u32 [%rd6], %r1;",
        "@%p2 ld.shared.u32 %r2, [%rd6];",
    );
    let both = "mov.u64 %rd6, tile; and.b32 %r2, %r1, 31; setp.eq.u32 %p1, %r2, 0;\n@%p1 st.shared.u8 [%rd6+3], %r1;";
    race(64, both, Space::Shared, "@%p1 st.shared.u8 [%rd6+3], %r1;", "@%p1 st.shared.u8 [%rd6+3], %r1;");
    // Bytes of one word are no race.
    fine(64, "mov.u64 %rd6, tile; cvt.u64.u32 %rd7, %r1; add.s64 %rd6, %rd6, %rd7; st.shared.u8 [%rd6], %r1;");
}

#[test]
fn named_barriers_order_their_warps_only() {
    let body = "mov.u64 %rd6, tile; add.s64 %rd7, %rd6, %rd3;
        st.shared.u32 [%rd7], %r1;
        setp.lt.u32 %p1, %r1, 64;
        @%p1 bra FIRST;
        bra LAST;
    FIRST:
        bar.sync 1, 64;
        xor.b32 %r3, %r1, 32; mul.wide.u32 %rd8, %r3, 4; add.s64 %rd8, %rd6, %rd8;
        ld.shared.u32 %r4, [%rd8];
    LAST:";
    fine(96, body);
    race(
        96,
        &body.replace("xor.b32 %r3, %r1, 32;", "and.b32 %r3, %r1, 31; add.u32 %r3, %r3, 64;"),
        Space::Shared,
        "ld.shared.u32 %r4, [%rd8];",
        "st.shared.u32 [%rd7], %r1;",
    );
}

#[test]
fn atomics_race_with_what_is_none() {
    let body = |then: &str| {
        format!(
            "mov.u64 %rd6, tile; setp.eq.u32 %p1, %r1, 0;
            @%p1 st.shared.u32 [%rd6], 0;
            bar.sync 0;
            red.shared.add.u32 [%rd6], 1;
            {then}"
        )
    };
    fine(64, &body("red.shared.add.u32 [%rd6], 1;"));
    fine(64, &body("ld.volatile.shared.u32 %r2, [%rd6];"));
    fine(64, &body("bar.sync 0; ld.shared.u32 %r2, [%rd6];"));
    race(
        64,
        &body("ld.shared.u32 %r2, [%rd6];"),
        Space::Shared,
        "ld.shared.u32 %r2, [%rd6];",
        "red.shared.add.u32 [%rd6], 1;",
    );
}

#[test]
fn races_in_global_memory() {
    let two = "st.global.u32 [%rd2], %r1;";
    race(32, two, Space::Global, two, two);
    let ran = run_blocks(&source("st.global.u32 [%rd5], %r1;"), 2, 32, &[0; 64]);
    assert!(matches!(ran, Err(Fault::Race { space: Space::Global, .. })), "blocks write the same");
    let read = |between: &str| {
        format!(
            "st.global.u32 [%rd5], %r1;
            {between}
            xor.b32 %r2, %r1, 32; mul.wide.u32 %rd6, %r2, 4; add.s64 %rd6, %rd2, %rd6;
            ld.global.u32 %r3, [%rd6];"
        )
    };
    fine(64, &read("bar.sync 0;"));
    assert!(fault(64, &read("")).to_string().contains("ld.global.u32 %r3, [%rd6];"));
    // One writes what all have read.
    let write = |between: &str| {
        format!(
            "setp.eq.u32 %p1, %r1, 5; ld.global.u32 %r3, [%rd1];
            {between}
            @%p1 st.global.u32 [%rd1], %r1;"
        )
    };
    fine(64, &write("bar.sync 0;"));
    race(
        64,
        &write(""),
        Space::Global,
        "@%p1 st.global.u32 [%rd1], %r1;",
        write("").lines().next().expect("a line").trim(),
    );
    // After a barrier one may read and then write what all have read before.
    fine(64, &write("bar.sync 0; @%p1 ld.global.u32 %r3, [%rd1];"));
    let atomic = "mov.u32 %r2, 1; red.global.add.u32 [%rd1], %r2;";
    assert!(run_blocks(&source(atomic), 2, 32, &[0; 64]).is_ok(), "atomics of two blocks");
}

const COPY: &str = "cp.async.cg.shared.global [%r2], [%rd6], 16;";
const READ: &str = "ld.shared.u32 %r4, [%r3];";

/// Sixteen threads copy 16 bytes each to `tile`; then `between`; then each reads 4 bytes of the next thread's, or of its own.
fn copied(between: &str, distance: u32) -> String {
    format!(
        "shl.b32 %r5, %r1, 4; mov.u32 %r6, tile; add.u32 %r2, %r6, %r5;
        cvt.u64.u32 %rd7, %r5; add.s64 %rd6, %rd1, %rd7;
        add.u32 %r7, %r5, {}; and.b32 %r7, %r7, 255; add.u32 %r3, %r6, %r7;
        {COPY}
        {between}
        {READ}",
        16 * distance
    )
}

/// That a body touches what a copy has not finished, naming both.
fn under_way(body: &str, at_line: &str) {
    match fault(16, body) {
        Fault::CopyUnderWay { at, copy, .. } => {
            assert_eq!((at.text.as_str(), copy.text.as_str()), (at_line, COPY), "in\n{body}");
        }
        other => panic!("{other}\nin\n{body}"),
    }
}

#[test]
fn copies_that_nobody_waits_for() {
    const WAIT: &str = "cp.async.commit_group;\ncp.async.wait_group 0;";
    fine(16, &copied(WAIT, 0));
    fine(16, &copied("cp.async.wait_all;", 0));
    fine(16, &copied(&format!("{WAIT}\nbar.sync 0;"), 1));
    // No wait, a wait for nothing that is committed, a wait that lets the newest group go on.
    for between in [
        "",
        "bar.sync 0;",
        "cp.async.wait_group 0;",
        "cp.async.commit_group;",
        "cp.async.commit_group;\ncp.async.wait_group 1;\nbar.sync 0;",
    ] {
        under_way(&copied(between, 0), READ);
    }
    // A wait, but no barrier for the others; a barrier, but before the wait.
    race(16, &copied(WAIT, 1), Space::Shared, READ, COPY);
    race(16, &copied(&format!("bar.sync 0;\n{WAIT}"), 1), Space::Shared, READ, COPY);
    // Another thread's wait is not the copying thread's.
    under_way(
        &copied("setp.lt.u32 %p1, %r1, 8;\ncp.async.commit_group;\n@%p1 cp.async.wait_group 0;\nbar.sync 0;", 0),
        READ,
    );
    // Nor may anything be written there, or to where it is read from.
    under_way(&copied("st.shared.u32 [%r2+4], %r1;", 0), "st.shared.u32 [%r2+4], %r1;");
    under_way(&copied("st.global.u32 [%rd6+4], %r1;", 0), "st.global.u32 [%rd6+4], %r1;");
    fine(16, &copied(&format!("{WAIT}\nst.global.u32 [%rd6+4], %r1;"), 0));
    under_way(&copied(COPY, 0), COPY);
    // A copy that nobody looks at may be under way at the end.
    fine(16, &copied("", 0).replace(READ, ""));
}

#[test]
fn copies_onto_what_others_still_read() {
    let again = |between: &str| {
        copied("cp.async.wait_all;\nbar.sync 0;", 1)
            + &format!("\n{between}\ncp.async.ca.shared.global [%r2], [%rd6], 16;")
    };
    fine(16, &again("bar.sync 0;"));
    race(16, &again(""), Space::Shared, "cp.async.ca.shared.global [%r2], [%rd6], 16;", READ);
}

#[test]
fn loops_without_end() {
    match fault(1, "AGAIN:\nbra.uni AGAIN;") {
        Fault::StepLimit { at, limit } => assert_eq!((at.text.as_str(), limit), ("bra.uni AGAIN;", 100_000)),
        other => panic!("{other}"),
    }
}

#[test]
fn what_is_not_known_is_refused_before_anything_runs() {
    for (body, reason) in [
        ("frob.u32 %r2, %r1;", "`frob` is not known"),
        ("add.f31 %r2, %r1, %r1;", "`add` is not known"),
        ("add.cc.u32 %r2, %r1, %r1;", "`.cc` is not known on `add`"),
        ("add.u32 %r2, %r1;", "`add` takes a register to write and 2 operands"),
        ("add.u32 %r2, %r1, %nope;", "`%nope` is not known"),
        ("add.u32 %r99, %r1, %r1;", "`%r99` is not a register that can be written here"),
        ("add.u64 %rd3, %rd1, %r1;", "`%r1` has 32 bits at most where 64 are expected"),
        ("bra NOWHERE;", "no label `NOWHERE` here"),
        ("wgmma.fence.sync.aligned;", "`wgmma` is not known"),
        ("mma.sync.aligned.m8n8k4.row.col.f32.f16.f16.f32 %r1, %r1, %r1, %r1;", "this shape is not known"),
        ("cp.async.bulk.wait_group 0;", "`.bulk` is not known on `cp`"),
        ("ld.global.v4.u64 {%rd6, %rd7, %rd8, %rd9}, [%rd1];", "an access is of 16 bytes at most"),
        ("mov.b32 {}, %r1;", "a vector of this many parts does not fill a register"),
        ("setp.lo.s32 %p1, %r1, %r1;", "no comparison that this type knows"),
        ("mul.rn.ftz.bogus.f32 %f1, %f1, %f1;", "`.bogus` is not known on `mul`"),
    ] {
        let error = Module::parse(&source(body)).map(|_| ()).expect_err(body);
        assert_eq!((error.line, error.text.as_str()), (18, body), "{error}");
        assert!(error.reason.contains(reason), "{}: {}", body, error.reason);
    }
}

#[test]
fn launches_that_do_not_suit() {
    let module = Module::parse(&source("").replace("output)\n", "output)\n.reqntid 64, 1, 1\n")).expect("it is PTX");
    assert_eq!((module.entry(), module.target(), module.threads()), ("kernel", "sm_80", Some([64, 1, 1])));
    assert_eq!(module.parameters().len(), 2);
    let launch = |block: [u32; 3], parameters: Vec<Vec<u8>>| {
        let launch = GridLaunch { grid: [1; 3], block, dynamic_shared: 0, parameters };
        run(&module, &launch, &mut DeviceMemory::new()).map(|_| ()).map_err(|fault| fault.to_string())
    };
    let address = vec![0; 8];
    assert_eq!(launch([64, 1, 1], vec![address.clone(), address.clone()]), Ok(()));
    for (result, expected) in [
        (
            launch([32, 1, 1], vec![address.clone(), address.clone()]),
            "blocks of [32, 1, 1] threads; [64, 1, 1] are required",
        ),
        (launch([64, 1, 1], vec![address.clone()]), "1 parameters; it has 2"),
        (launch([64, 1, 1], vec![address.clone(), vec![0; 4]]), "4 bytes for `output`, which has 8"),
        (
            launch([2048, 1, 1], vec![address.clone(), address.clone()]),
            "1 blocks of 2048 threads; at least one of each and 1024 threads at most",
        ),
    ] {
        assert_eq!(result, Err(format!("cannot launch `kernel`: {expected}")));
    }
}
