//! What the threads of a warp do together, and what memory instructions move and count.

mod kernel;

use half::{bf16, f16};
use kernel::{output, run_blocks, run_source, source};

/// A word for each lane.
fn lanes(value: impl Fn(u32) -> u32) -> Vec<u32> {
    (0..32).map(value).collect()
}

/// Shuffles `100 + lane`; a lane that read its own because the other was outside adds 1000.
fn shuffled(how: &str, by: &str, clamp: &str) -> Vec<u32> {
    let body = format!(
        "ld.global.u32 %r2, [%rd4];
        shfl.sync.{how}.b32 %r3|%p1, %r2, {by}, {clamp}, 0xffffffff;
        @!%p1 add.u32 %r3, %r3, 1000;
        st.global.u32 [%rd5], %r3;"
    );
    output(&body, 32, &lanes(|lane| 100 + lane))
}

#[test]
fn shuffles() {
    assert_eq!(shuffled("bfly", "1", "31"), lanes(|lane| 100 + (lane ^ 1)));
    assert_eq!(shuffled("idx", "5", "31"), lanes(|_| 105));
    assert_eq!(shuffled("idx", "%r1", "31"), lanes(|lane| 100 + lane));
    assert_eq!(shuffled("up", "1", "0"), lanes(|lane| if lane == 0 { 1100 } else { 99 + lane }));
    assert_eq!(shuffled("down", "2", "31"), lanes(|lane| if lane > 29 { 1100 + lane } else { 102 + lane }));
    // Segments of eight lanes: the mask 0x18 in bits 8 to 12.
    let segment = |clamp: u32| format!("{}", 0x1800 | clamp);
    assert_eq!(shuffled("down", "3", &segment(7)), lanes(|lane| if lane % 8 > 4 { 1100 + lane } else { 103 + lane }));
    assert_eq!(shuffled("up", "3", &segment(0)), lanes(|lane| if lane % 8 < 3 { 1100 + lane } else { 97 + lane }));
    assert_eq!(shuffled("idx", "2", &segment(7)), lanes(|lane| 102 + lane / 8 * 8));
    assert_eq!(shuffled("idx", "6", &segment(3)), lanes(|lane| 1100 + lane));
    assert_eq!(
        shuffled("bfly", "8", &segment(7)),
        lanes(|lane| if lane & 8 == 0 { 1100 + lane } else { 100 + (lane ^ 8) })
    );
}

#[test]
fn votes_and_reductions() {
    let vote = |body: &str| {
        let body = format!("setp.lt.u32 %p1, %r1, 4;\n{body}\nst.global.u32 [%rd5], %r2;");
        output(&body, 32, &[0; 32])[7]
    };
    assert_eq!(vote("vote.sync.ballot.b32 %r2, %p1, 0xffffffff;"), 0xf);
    assert_eq!(vote("vote.sync.ballot.b32 %r2, !%p1, 0xffffffff;"), 0xffff_fff0);
    assert_eq!(vote("vote.sync.any.pred %p2, %p1, 0xffffffff; selp.u32 %r2, 1, 0, %p2;"), 1);
    assert_eq!(vote("vote.sync.all.pred %p2, %p1, 0xffffffff; selp.u32 %r2, 1, 0, %p2;"), 0);
    assert_eq!(vote("vote.sync.uni.pred %p2, %p1, 0xffffffff; selp.u32 %r2, 1, 0, %p2;"), 0);
    assert_eq!(vote("redux.sync.add.u32 %r2, %r1, 0xffffffff;"), 496);
    assert_eq!(vote("sub.s32 %r3, %r1, 5; redux.sync.min.s32 %r2, %r3, 0xffffffff;"), (-5i32) as u32);
    assert_eq!(vote("redux.sync.or.b32 %r2, %r1, 0xffffffff;"), 31);
    assert_eq!(vote("mov.u32 %r2, %lanemask_lt;"), 0x7f);
    assert_eq!(vote("mov.u32 %r2, %lanemask_ge;"), 0xffff_ff80);
}

#[test]
fn lanes_part_and_meet_again() {
    // Odd lanes go one way, of these some twice; all meet where the sums are stored.
    let body = "
        and.b32 %r2, %r1, 1;
        mov.u32 %r9, 0;
        setp.eq.u32 %p1, %r2, 0;
        @%p1 bra EVEN;
        activemask.b32 %r3;
        mov.u32 %r4, %r1;
    AGAIN:
        add.u32 %r9, %r9, 1;
        sub.u32 %r4, %r4, 1;
        setp.gt.s32 %p2, %r4, 0;
        @%p2 bra AGAIN;
        bra.uni MEET;
    EVEN:
        activemask.b32 %r3;
    MEET:
        activemask.b32 %r5;
        setp.eq.u32 %p3, %r5, 0xffffffff;
        selp.u32 %r6, %r3, 0, %p3;
        xor.b32 %r7, %r6, %r9;
        st.global.u32 [%rd5], %r7;";
    let expected = lanes(|lane| if lane % 2 == 1 { 0xaaaa_aaaa ^ lane } else { 0x5555_5555 });
    assert_eq!(output(body, 32, &[0; 32]), expected);
}

#[test]
fn indexed_branches() {
    let body = "
        mov.u32 %r2, 1;
        table: .branchtargets FIRST, SECOND;
        brx.idx %r2, table;
    FIRST:
        mov.u32 %r3, 10;
        bra.uni DONE;
    SECOND:
        mov.u32 %r3, 20;
    DONE:
        st.global.u32 [%rd5], %r3;";
    assert_eq!(output(body, 32, &[0; 32]), [20; 32]);
}

#[test]
fn loads_extend_and_vectors_keep_their_order() {
    let body = "
        ld.global.s8 %r2, [%rd1];
        ld.global.u8 %r3, [%rd1];
        ld.global.v2.u16 {%h1, %h2}, [%rd1+4];
        cvt.u32.u16 %r4, %h2;
        ld.global.nc.L1::no_allocate.v4.u32 {%r5, _, %r6, %r7}, [%rd1+16];
        st.global.v2.u32 [%rd2], {%r2, %r3};
        st.global.v2.u32 [%rd2+8], {%r4, %r6};";
    let input = [0xff, 0x1234_5678, 0, 0, 1, 2, 3, 4];
    assert_eq!(output(body, 1, &input)[..4], [0xffff_ffff, 0xff, 0x1234, 3]);
}

#[test]
fn local_memory_and_generic_addresses() {
    let body = "
        .local .align 8 .b8 frame[16];
        mov.b64 %rd6, frame;
        cvta.local.u64 %rd7, %rd6;
        st.local.u32 [%rd6+4], %r1;
        ld.u32 %r2, [%rd7+4];
        mov.u64 %rd8, tile;
        cvta.shared.u64 %rd9, %rd8;
        add.s64 %rd9, %rd9, %rd3;
        st.u32 [%rd9], %r2;
        ld.shared.u32 %r3, [%rd9];
        add.u32 %r3, %r3, 7;
        cvta.to.global.u64 %rd10, %rd5;
        st.global.u32 [%rd10], %r3;";
    assert_eq!(output(body, 32, &[0; 32]), lanes(|lane| lane + 7));
}

#[test]
fn atomics() {
    let body = "
        mov.u32 %r2, tile;
        setp.ne.u32 %p1, %r1, 0;
        @%p1 bra READY;
        st.shared.u32 [%r2], 0;
        st.shared.u32 [%r2+4], 0;
        st.shared.u32 [%r2+8], 0xffffffff;
        st.shared.u32 [%r2+12], 5;
    READY:
        bar.sync 0;
        atom.shared.add.u32 %r3, [%r2], 1;
        red.shared.add.f32 [%r2+4], 0f3F800000;
        red.shared.min.u32 [%r2+8], %r1;
        atom.shared.inc.u32 %r4, [%r2+12], 6;
        bar.sync 0;
        ld.shared.v4.u32 {%r5, %r6, %r7, %r8}, [%r2];
        @%p1 bra DONE;
        st.global.v4.u32 [%rd2], {%r5, %r6, %r7, %r8};
    DONE:";
    // The last counts 5, 6, 0, 1, … for 64 threads: 62 steps after it was 0, by sevens.
    assert_eq!(output(body, 64, &[0; 64])[..4], [64, 64f32.to_bits(), 0, 62 % 7]);
}

#[test]
fn copies_of_fewer_bytes_fill_with_zeros() {
    let body = "
        mov.u32 %r2, tile;
        cp.async.cg.shared.global [%r2], [%rd1], 16, 6;
        cp.async.ca.shared.global [%r2+16], [%rd1+4], 4;
        cp.async.ca.shared.global [%r2+20], [%rd1+99999], 4, 0;
        cp.async.commit_group;
        cp.async.wait_group 0;
        ld.shared.v4.u32 {%r3, %r4, %r5, %r6}, [%r2];
        st.global.v4.u32 [%rd2], {%r3, %r4, %r5, %r6};
        ld.shared.v2.u32 {%r3, %r4}, [%r2+16];
        st.global.v2.u32 [%rd2+16], {%r3, %r4};";
    let input = [0x1111_1111, 0x2222_2222, 0x3333_3333, 0x4444_4444, 0, 0];
    assert_eq!(output(body, 1, &input), [0x1111_1111, 0x2222, 0, 0, 0x2222_2222, 0]);
}

#[test]
fn wavefronts_and_sectors_are_counted() {
    let body = "
        mov.u32 %r2, tile;
        shl.b32 %r3, %r1, 2;  add.u32 %r3, %r2, %r3;
        shl.b32 %r4, %r1, 3;  add.u32 %r4, %r2, %r4;
        shl.b32 %r5, %r1, 4;  add.u32 %r5, %r2, %r5;
        shl.b32 %r6, %r1, 7;  add.u32 %r6, %r2, %r6;
        st.shared.u32 [%r3], %r1;
        st.shared.u32 [%r4+1024], %r1;
        bar.sync 0;
        st.shared.v2.u32 [%r4+1024], {%r1, %r1};
        bar.sync 0;
        st.shared.v4.u32 [%r5], {%r1, %r1, %r1, %r1};
        bar.sync 0;
        ld.shared.u32 %r7, [%r3];
        bar.sync 0;
        st.shared.u32 [%r6], %r1;
        bar.sync 0;
        ld.shared.u32 %r8, [%r2];
        ld.global.u32 %r9, [%rd4];
        ld.global.u32 %r9, [%rd1];
        shl.b64 %rd6, %rd3, 1; add.s64 %rd6, %rd1, %rd6;
        ld.global.u32 %r9, [%rd6];";
    let ran = run_source(&source(body), 32, &[0; 64]).expect("it runs");
    let found: Vec<_> = ran
        .counts
        .places
        .iter()
        .map(|place| {
            let traffic = place.traffic;
            assert_eq!(traffic.requests, 1, "line {}", place.line);
            let shared = (traffic.wavefronts, traffic.ideal_wavefronts);
            let global = (traffic.sectors, traffic.ideal_sectors);
            (place.opcode.as_str(), if global == (0, 0) { shared } else { global })
        })
        .collect();
    assert_eq!(
        found,
        [
            ("st.shared.u32", (1, 1)),
            // Every other word: two of a bank.
            ("st.shared.u32", (2, 1)),
            ("st.shared.v2.u32", (2, 2)),
            ("st.shared.v4.u32", (4, 4)),
            ("ld.shared.u32", (1, 1)),
            // All of one bank, and all of one word.
            ("st.shared.u32", (32, 1)),
            ("ld.shared.u32", (1, 1)),
            ("ld.global.u32", (4, 4)),
            ("ld.global.u32", (1, 1)),
            // Half of each sector.
            ("ld.global.u32", (8, 4)),
        ]
    );
    assert_eq!(ran.counts.executed("st.shared"), 5);
    assert_eq!(ran.counts.traffic("st.shared").wavefronts, 1 + 2 + 2 + 4 + 32);
}

#[test]
fn blocks_know_their_places() {
    let body = "
        mov.u32 %r2, %ctaid.x;
        mov.u32 %r3, %ntid.x;
        mad.lo.u32 %r4, %r2, %r3, %r1;
        mul.wide.u32 %rd6, %r4, 4;
        add.s64 %rd6, %rd2, %rd6;
        st.global.u32 [%rd6], %r4;";
    let ran = run_blocks(&source(body), 3, 40, &[0; 120]).expect("it runs");
    assert_eq!(ran.output, (0..120).collect::<Vec<u32>>());
}

/// Two numbers of 16 bits in each word.
fn pairs(values: &[f32], bits: fn(f32) -> u16) -> Vec<u32> {
    values.chunks(2).map(|pair| (bits(pair[1]) as u32) << 16 | bits(pair[0]) as u32).collect()
}

/// Small whole numbers that tell every place of a matrix from its neighbours, and whose products and sums are exact.
fn numbers(count: usize, step: usize) -> Vec<f32> {
    (0..count).map(|index| (index * step % 23) as f32 - 11.0).collect()
}

/// The product of `a`, rows of 16, and `b`, 16 rows, on top of 1, 2, 3, …
fn product(a: &[f32], b: &[f32], columns: usize) -> Vec<u32> {
    let element = |row: usize, column: usize| {
        let sum: f32 = (0..16).map(|k| a[row * 16 + k] * b[k * columns + column]).sum();
        (sum + (row * columns + column) as f32).to_bits()
    };
    (0..16 * columns).map(|index| element(index / columns, index % columns)).collect()
}

/// Copies the input's words to `tile`, 32 at a time, then waits.
fn to_shared(words: usize) -> String {
    let mut body = "mov.u32 %r2, tile; cvt.u64.u32 %rd6, %r2; add.s64 %rd6, %rd6, %rd3;\n".to_owned();
    for start in (0..words).step_by(32) {
        body += &format!("ld.global.u32 %r3, [%rd4+{0}]; st.shared.u32 [%rd6+{0}], %r3;\n", start * 4);
    }
    body + "bar.sync 0;\n"
}

#[test]
fn matrices_are_loaded_as_their_fragments_lie_and_multiplied() {
    for (name, bits) in
        [("f16", (|x| f16::from_f32(x).to_bits()) as fn(f32) -> u16), ("bf16", |x| bf16::from_f32(x).to_bits())]
    {
        let (a, b) = (numbers(16 * 16, 7), numbers(16 * 8, 5));
        let mut input = [pairs(&a, bits), pairs(&b, bits)].concat();
        let words = input.len();
        input.resize(256, 0);
        // A is 16 rows of 32 bytes: its four matrices are the upper and lower half of the first eight columns, then of the others.
        // B has its rows in memory, so that its two matrices are transposed. Lane l holds rows l / 4 and 8 below of C.
        let body = to_shared(words)
            + &format!(
                "
        and.b32 %r4, %r1, 15; shl.b32 %r4, %r4, 5;
        shr.u32 %r5, %r1, 4; shl.b32 %r5, %r5, 4;
        add.u32 %r4, %r4, %r5; add.u32 %r4, %r4, %r2;
        ldmatrix.sync.aligned.m8n8.x4.shared.b16 {{%r10, %r11, %r12, %r13}}, [%r4];
        and.b32 %r6, %r1, 15; shl.b32 %r6, %r6, 4; add.u32 %r6, %r6, %r2;
        ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {{%r14, %r15}}, [%r6+512];
        shr.u32 %r7, %r1, 2; shl.b32 %r7, %r7, 3;
        and.b32 %r8, %r1, 3; shl.b32 %r8, %r8, 1;
        add.u32 %r7, %r7, %r8;
        cvt.rn.f32.u32 %f1, %r7;
        add.f32 %f2, %f1, 0f3F800000;
        add.f32 %f3, %f1, 0f42800000;
        add.f32 %f4, %f2, 0f42800000;
        mma.sync.aligned.m16n8k16.row.col.f32.{name}.{name}.f32
            {{%f5, %f6, %f7, %f8}}, {{%r10, %r11, %r12, %r13}}, {{%r14, %r15}}, {{%f1, %f2, %f3, %f4}};
        mul.wide.u32 %rd7, %r7, 4; add.s64 %rd7, %rd7, %rd2;
        st.global.v2.f32 [%rd7], {{%f5, %f6}};
        st.global.v2.f32 [%rd7+256], {{%f7, %f8}};"
            );
        let ran = run_source(&source(&body), 32, &input).unwrap_or_else(|fault| panic!("{fault}"));
        assert_eq!(ran.output[..128], product(&a, &b, 8), "{name}");
        // Rows of 32 bytes use half the banks' width: two rows of a matrix are in the same banks as two others.
        let loads = ran.counts.traffic("ldmatrix");
        assert_eq!((loads.requests, loads.wavefronts, loads.ideal_wavefronts), (2, 4 * 2 + 2, 6), "{name}");
    }
}

#[test]
fn matrices_not_transposed_are_what_a_lane_would_load() {
    let input: Vec<u32> = (0..64).map(|word| ((2 * word + 1) << 16) | (2 * word)).collect();
    let body = to_shared(64)
        + "
        and.b32 %r4, %r1, 7; shl.b32 %r4, %r4, 4; add.u32 %r4, %r4, %r2;
        ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r5}, [%r4];
        ldmatrix.sync.aligned.m8n8.x1.trans.shared.b16 {%r6}, [%r4];
        st.global.u32 [%rd5], %r5;
        st.global.u32 [%rd5+128], %r6;";
    let ran = output(&body, 32, &input);
    assert_eq!(ran[..32], input[..32]);
    // Lane l has, of column l / 4, the rows 2 (l % 4) and the one below.
    let transposed = lanes(|lane| {
        let at = |row: u32| row * 8 + lane / 4;
        at(lane % 4 * 2 + 1) << 16 | at(lane % 4 * 2)
    });
    assert_eq!(ran[32..], transposed);
}

#[test]
fn matrices_of_wmma() {
    for (name, types, bits) in [
        ("f16", "f32.f32", (|x| f16::from_f32(x).to_bits()) as fn(f32) -> u16),
        ("bf16", "f32.bf16.bf16.f32", |x| bf16::from_f32(x).to_bits()),
    ] {
        let (a, b) = (numbers(16 * 16, 7), numbers(16 * 16, 5));
        let transposed: Vec<f32> = (0..256).map(|index| a[index % 16 * 16 + index / 16]).collect();
        let c: Vec<u32> = (0..256).map(|index| (index as f32).to_bits()).collect();
        let input = [pairs(&transposed, bits), pairs(&b, bits), c].concat();
        let registers = |first: u32| {
            let count = if name == "f16" { 8 } else { 4 };
            (first..first + count).map(|index| format!("%r{index}")).collect::<Vec<_>>().join(", ")
        };
        let (of_a, of_b) = (registers(10), registers(20));
        let body = to_shared(512)
            + &format!(
                "
        wmma.load.a.sync.aligned.col.m16n16k16.shared.{name} {{{of_a}}}, [%r2], 16;
        wmma.load.b.sync.aligned.row.m16n16k16.shared.{name} {{{of_b}}}, [%r2+512], 16;
        wmma.load.c.sync.aligned.row.m16n16k16.shared.f32 {{%f1, %f2, %f3, %f4, %f5, %f6, %f7, %f8}}, [%r2+1024], 16;
        wmma.mma.sync.aligned.col.row.m16n16k16.{types}
            {{%f11, %f12, %f13, %f14, %f15, %f16, %f17, %f18}}, {{{of_a}}}, {{{of_b}}},
            {{%f1, %f2, %f3, %f4, %f5, %f6, %f7, %f8}};
        wmma.store.d.sync.aligned.row.m16n16k16.global.f32 [%rd2], {{%f11, %f12, %f13, %f14, %f15, %f16, %f17, %f18}}, 16;"
            );
        let ran = output(&body, 32, &input);
        assert_eq!(ran[..256], product(&a, &b, 16), "{name}");
    }
}
