//! Instruction by instruction: what one thread computes.

use purview_nvidia::ptx::{DeviceMemory, GridLaunch, Module, run};

/// A body that gives `%r` (32 bits), `%l` (64), `%h` (16) or `%p` from its inputs, which are there as `%a`, `%b`, `%c`, `%d` of 32
/// bits, `%la`, `%lb`, `%lc` of 64 and `%ha`, `%hb`, `%hc` of 16.
struct Case {
    name: &'static str,
    body: &'static str,
    inputs: &'static [u64],
    expected: u64,
}

const fn case(name: &'static str, body: &'static str, inputs: &'static [u64], expected: u64) -> Case {
    Case { name, body, inputs, expected }
}

/// The kernel of a case, which stores its result as 64 bits.
fn source(body: &str) -> String {
    let result = match () {
        () if body.contains(" %l,") => "mov.b64 %out, %l;",
        () if body.contains(" %h,") => "cvt.u64.u16 %out, %h;",
        () if body.contains(" %p,") => "selp.b64 %out, 1, 0, %p;",
        () => "cvt.u64.u32 %out, %r;",
    };
    format!(
        ".version 8.0
.target sm_80
.address_size 64
.visible .entry kernel(.param .u64 values)
{{
    .reg .pred %p, %q;
    .reg .b16 %h, %ha, %hb, %hc;
    .reg .b32 %r, %s, %a, %b, %c, %d;
    .reg .b64 %l, %la, %lb, %lc, %at, %out;
    ld.param.u64 %at, [values];
    ld.global.v2.u64 {{%la, %lb}}, [%at];
    ld.global.u64 %lc, [%at+16];
    ld.global.u32 %d, [%at+24];
    cvt.u32.u64 %a, %la;
    cvt.u32.u64 %b, %lb;
    cvt.u32.u64 %c, %lc;
    cvt.u16.u64 %ha, %la;
    cvt.u16.u64 %hb, %lb;
    cvt.u16.u64 %hc, %lc;
    {body}
    {result}
    st.global.u64 [%at+32], %out;
    ret;
}}
"
    )
}

fn result(case: &Case) -> u64 {
    let source = source(case.body);
    let module = Module::parse(&source).unwrap_or_else(|error| panic!("{}: {error}", case.name));
    let mut memory = DeviceMemory::new();
    let inputs = (0..5).map(|index| case.inputs.get(index).copied().unwrap_or_default());
    let at = memory.add(inputs.flat_map(u64::to_le_bytes).collect());
    let launch =
        GridLaunch { grid: [1; 3], block: [1; 3], dynamic_shared: 0, parameters: vec![at.to_le_bytes().to_vec()] };
    run(&module, &launch, &mut memory).unwrap_or_else(|fault| panic!("{}: {fault}", case.name));
    let bytes = memory.bytes(at).expect("the values are there");
    u64::from_le_bytes(bytes[32..40].try_into().expect("eight bytes"))
}

fn check(cases: &[Case]) {
    let wrong: Vec<String> = cases
        .iter()
        .map(|case| (case, result(case)))
        .filter(|(case, found)| *found != case.expected)
        .map(|(case, found)| format!("{}: expected {:#x}, found {found:#x}", case.name, case.expected))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn integers() {
    check(&[
        case("add wraps", "add.s32 %r, %a, %b;", &[0xffff_ffff, 2], 1),
        case("add of 64 bits", "add.s64 %l, %la, %lb;", &[0xffff_ffff, 1], 0x1_0000_0000),
        case("add of 16 bits wraps", "add.u16 %h, %ha, %hb;", &[0xffff, 2], 1),
        case("add saturates", "add.sat.s32 %r, %a, %b;", &[0x7fff_ffff, 1], 0x7fff_ffff),
        case("sub saturates", "sub.sat.s32 %r, %a, %b;", &[0x8000_0000, 1], 0x8000_0000),
        case("mul.lo", "mul.lo.s32 %r, %a, %b;", &[0x1_0001, 0x1_0001], 0x2_0001),
        case("mul.hi.u32", "mul.hi.u32 %r, %a, %b;", &[0xffff_ffff, 0xffff_ffff], 0xffff_fffe),
        case("mul.hi.s32", "mul.hi.s32 %r, %a, %b;", &[0xffff_ffff, 0xffff_ffff], 0),
        case("mul.hi.u64", "mul.hi.u64 %l, %la, %lb;", &[u64::MAX, u64::MAX], u64::MAX - 1),
        case("mul.wide.u32", "mul.wide.u32 %l, %a, %b;", &[0xffff_ffff, 0xffff_ffff], 0xffff_fffe_0000_0001),
        case("mul.wide.s32", "mul.wide.s32 %l, %a, %b;", &[0xffff_ffff, 3], (-3i64) as u64),
        case("mul.wide.u16", "mul.wide.u16 %r, %ha, %hb;", &[0xffff, 0xffff], 0xfffe_0001),
        case("mul.wide.s16", "mul.wide.s16 %r, %ha, %hb;", &[0xffff, 2], 0xffff_fffe),
        case("mad.lo", "mad.lo.s32 %r, %a, %b, %c;", &[5, 7, 0xffff_ffff], 34),
        case("mad.hi", "mad.hi.u32 %r, %a, %b, %c;", &[0x8000_0000, 4, 5], 7),
        case("mad.wide.u32", "mad.wide.u32 %l, %a, %b, %lc;", &[0xffff_ffff, 2, 0x1_0000_0000], 0x2_ffff_fffe),
        case("mad.wide.s32", "mad.wide.s32 %l, %a, %b, %lc;", &[0xffff_ffff, 2, 1], u64::MAX),
        case("div.s32 truncates", "div.s32 %r, %a, %b;", &[0xffff_fff9, 2], 0xffff_fffd),
        case("div.u32", "div.u32 %r, %a, %b;", &[0xffff_fff9, 2], 0x7fff_fffc),
        case("div.s64", "div.s64 %l, %la, %lb;", &[(-7i64) as u64, 2], (-3i64) as u64),
        case("rem.s32 has the dividend's sign", "rem.s32 %r, %a, %b;", &[0xffff_fff9, 4], 0xffff_fffd),
        case("rem.u32", "rem.u32 %r, %a, %b;", &[7, 4], 3),
        case("min.s32", "min.s32 %r, %a, %b;", &[0xffff_ffff, 1], 0xffff_ffff),
        case("min.u32", "min.u32 %r, %a, %b;", &[0xffff_ffff, 1], 1),
        case("max.s16", "max.s16 %h, %ha, %hb;", &[0xffff, 1], 1),
        case("max.u64", "max.u64 %l, %la, %lb;", &[u64::MAX, 1], u64::MAX),
        case("abs", "abs.s32 %r, %a;", &[0xffff_ffff], 1),
        case("neg", "neg.s32 %r, %a;", &[1], 0xffff_ffff),
        case("sad", "sad.u32 %r, %a, %b, %c;", &[3, 10, 100], 107),
        case("immediate below zero", "add.s32 %r, %a, -128;", &[128], 0),
        case("immediate in hexadecimal", "and.b32 %r, %a, 0xff;", &[0x1234], 0x34),
        case("large immediate", "or.b64 %l, %la, 0x100000000;", &[1], 0x1_0000_0001),
    ]);
}

#[test]
fn bits() {
    check(&[
        case(
            "and, or, xor",
            "and.b32 %s, %a, %b; or.b32 %s, %s, %c; xor.b32 %r, %s, %a;",
            &[0b1100, 0b1010, 1],
            0b0101,
        ),
        case("not of 64 bits", "not.b64 %l, %la;", &[1], !1),
        case("cnot", "cnot.b32 %r, %a;", &[0], 1),
        case("shl", "shl.b32 %r, %a, %b;", &[3, 31], 0x8000_0000),
        case("shl by 32", "shl.b32 %r, %a, %b;", &[3, 32], 0),
        case("shl by far more", "shl.b32 %r, %a, %b;", &[3, 0xffff_ffff], 0),
        case("shl of 64 bits by 64", "shl.b64 %l, %la, %b;", &[3, 64], 0),
        case("shl of 64 bits by 40", "shl.b64 %l, %la, 40;", &[3], 3 << 40),
        case("shl of 16 bits by 16", "shl.b16 %h, %ha, %b;", &[3, 16], 0),
        case("shr.u32 by 32", "shr.u32 %r, %a, %b;", &[0xffff_ffff, 32], 0),
        case("shr.s32 by 40 leaves the sign", "shr.s32 %r, %a, %b;", &[0x8000_0000, 40], 0xffff_ffff),
        case("shr.s32", "shr.s32 %r, %a, 4;", &[0x8000_0000], 0xf800_0000),
        case("shr.s64 by 70 leaves the sign", "shr.s64 %l, %la, %b;", &[1 << 63, 70], u64::MAX),
        case("shr.s16", "shr.s16 %h, %ha, %b;", &[0x8000, 15], 0xffff),
        case("shf.l.wrap", "shf.l.wrap.b32 %r, %a, %b, %c;", &[0x8000_0000, 1, 33], 3),
        case("shf.l.clamp by more than 32", "shf.l.clamp.b32 %r, %a, %b, %c;", &[0x1234, 1, 40], 0x1234),
        case("shf.r.wrap", "shf.r.wrap.b32 %r, %a, %b, %c;", &[2, 1, 1], 0x8000_0001),
        case("shf.r.clamp by more than 32", "shf.r.clamp.b32 %r, %a, %b, %c;", &[2, 7, 40], 7),
        case("bfe.u32", "bfe.u32 %r, %a, 4, 8;", &[0xabcd], 0xbc),
        case("bfe.s32 extends", "bfe.s32 %r, %a, 4, 8;", &[0xabcd], 0xffff_ffbc),
        case("bfe.s32 past the top", "bfe.s32 %r, %a, 28, 8;", &[0x8000_0000], 0xffff_fff8),
        case("bfe.s32 from past the top", "bfe.s32 %r, %a, 32, 8;", &[0x8000_0000], 0xffff_ffff),
        case("bfe of no bits", "bfe.s32 %r, %a, 31, 0;", &[0x8000_0000], 0),
        case("bfe.u64", "bfe.u64 %l, %la, 32, 40;", &[0xabcd_0000_0000], 0xabcd),
        case("bfi", "bfi.b32 %r, %a, %b, 8, 4;", &[0xff, 0], 0xf00),
        case("bfi past the top", "bfi.b32 %r, %a, %b, 28, 8;", &[0xff, 0x0fff_ffff], 0xffff_ffff),
        case("bfi from past the top", "bfi.b32 %r, %a, %b, 32, 8;", &[0xff, 7], 7),
        case("bfi of no bits", "bfi.b32 %r, %a, %b, 0, 0;", &[0xff, 7], 7),
        case("bfi of 64 bits", "bfi.b64 %l, %la, %lb, 32, 32;", &[0xffff_ffff, 5], 0xffff_ffff_0000_0005),
        case("bfind.u32", "bfind.u32 %r, %a;", &[0x10], 4),
        case("bfind of nothing", "bfind.u32 %r, %a;", &[0], 0xffff_ffff),
        case("bfind.s32 looks for what is not the sign", "bfind.s32 %r, %a;", &[0xffff_fff0], 3),
        case("bfind.shiftamt", "bfind.shiftamt.u32 %r, %a;", &[0x10], 27),
        case("brev", "brev.b32 %r, %a;", &[1], 0x8000_0000),
        case("clz", "clz.b32 %r, %a;", &[0], 32),
        case("clz of 64 bits", "clz.b64 %r, %la;", &[1], 63),
        case("popc", "popc.b32 %r, %a;", &[0xf0f0], 8),
        case("popc of 64 bits", "popc.b64 %r, %la;", &[u64::MAX], 64),
        case("prmt", "prmt.b32 %r, %a, %b, 0x7610;", &[0x3322_1100, 0x7766_5544], 0x7766_1100),
        case("prmt of signs", "prmt.b32 %r, %a, %b, 0x89ab;", &[0x80_7f_80_7f, 0], 0x00ff_00ff),
        case("lop3: (a & b) ^ c", "lop3.b32 %r, %a, %b, %c, 0x6a;", &[0b1100, 0b1010, 0b0110], 0b1110),
        case("lop3: a picks b or c", "lop3.b32 %r, %a, %b, %c, 0xca;", &[0xff00, 0x1234, 0xabcd], 0x12cd),
        case("mov packs", "mov.b32 %r, {%ha, %hb};", &[0x1111, 0x2222], 0x2222_1111),
        case("mov packs 64 bits", "mov.b64 %l, {%a, %b};", &[1, 2], 0x2_0000_0001),
        case("mov unpacks", "mov.b64 {%s, %r}, %la;", &[0x5_0000_0003], 5),
        case("mov unpacks to nothing", "mov.b64 {_, %s}, %la; mov.b32 %r, %s;", &[0x5_0000_0003], 5),
        case("mov unpacks 16 bits", "mov.b32 {%ha, %hb}, %a; mov.b16 %h, %hb;", &[0x1234_5678], 0x1234),
    ]);
}

#[test]
fn comparisons() {
    check(&[
        case("lt.s32", "setp.lt.s32 %p, %a, %b;", &[0xffff_ffff, 1], 1),
        case("lt.u32", "setp.lt.u32 %p, %a, %b;", &[0xffff_ffff, 1], 0),
        case("lo.u32", "setp.lo.u32 %p, %a, %b;", &[1, 0xffff_ffff], 1),
        case("hs.u32", "setp.hs.u32 %p, %a, %b;", &[1, 1], 1),
        case("ge.s64", "setp.ge.s64 %p, %la, %lb;", &[u64::MAX, 0], 0),
        case("gt.u64", "setp.gt.u64 %p, %la, %lb;", &[u64::MAX, 0], 1),
        case("le.s16", "setp.le.s16 %p, %ha, %hb;", &[0xffff, 0], 1),
        case("ne.b16", "setp.ne.b16 %p, %ha, 0;", &[0x1_0000], 0),
        case("eq of NaN", "setp.eq.f32 %p, %a, %a;", &[0x7fc0_0000], 0),
        case("ne of NaN is false", "setp.ne.f32 %p, %a, %b;", &[0x7fc0_0000, 0], 0),
        case("neu of NaN is true", "setp.neu.f32 %p, %a, %b;", &[0x7fc0_0000, 0], 1),
        case("equ of NaN is true", "setp.equ.f32 %p, %a, %b;", &[0x7fc0_0000, 0], 1),
        case("ltu of NaN is true", "setp.ltu.f32 %p, %a, %b;", &[0x7fc0_0000, 0], 1),
        case("ltu of numbers", "setp.ltu.f32 %p, %a, %b;", &[0x3f80_0000, 0], 0),
        case("num", "setp.num.f32 %p, %a, %b;", &[0x7fc0_0000, 0], 0),
        case("nan", "setp.nan.f32 %p, %a, %b;", &[0x7fc0_0000, 0], 1),
        case("zeros are equal", "setp.eq.f32 %p, %a, %b;", &[0x8000_0000, 0], 1),
        case("subnormals flushed are zero", "setp.eq.ftz.f32 %p, %a, %b;", &[1, 0], 1),
        case("subnormals are not zero", "setp.eq.f32 %p, %a, %b;", &[1, 0], 0),
        case("lt.f16", "setp.lt.f16 %p, %ha, %hb;", &[0xbc00, 0x3c00], 1),
        case("gt.f64", "setp.gt.f64 %p, %la, %lb;", &[0x3ff0_0000_0000_0000, 0], 1),
        case("and", "setp.ne.s32 %q, 0, 0; setp.eq.and.s32 %p, %a, %a, %q;", &[1], 0),
        case("or of a negation", "setp.ne.s32 %q, 0, 0; setp.ne.or.s32 %p, %a, %a, !%q;", &[1], 1),
        case("the complement", "setp.eq.s32 %q|%p, %a, %b; and.pred %p, %p, %p;", &[1, 2], 1),
        case(
            "the complement is combined too",
            "setp.ne.s32 %p, 0, 0; setp.eq.and.s32 %q|%p, %a, %b, %p; and.pred %p, %p, %p;",
            &[1, 2],
            0,
        ),
        case("logic", "setp.eq.s32 %p, 0, 0; not.pred %q, %p; xor.pred %p, %p, %q; mov.pred %p, %p;", &[], 1),
        case("constant predicate", "mov.pred %p, -1;", &[], 1),
        case("selp", "setp.eq.s32 %q, %a, 1; selp.b32 %r, %b, %c, %q;", &[2, 10, 20], 20),
        case("selp of 64 bits", "setp.eq.s32 %q, %a, 1; selp.b64 %l, %lb, 7, %q;", &[1, 1 << 40], 1 << 40),
        case("set.u32", "set.lt.u32.s32 %r, %a, %b;", &[0xffff_ffff, 0], 0xffff_ffff),
        case("set.f32", "set.lt.f32.s32 %r, %a, %b;", &[0xffff_ffff, 0], 0x3f80_0000),
        case("testp", "testp.notanumber.f32 %p, %a;", &[0x7fc0_0000], 1),
        case("a predicated instruction", "mov.b32 %r, 5; setp.eq.s32 %q, %a, 1; @%q mov.b32 %r, 6;", &[2], 5),
        case("one that is for the others", "mov.b32 %r, 5; setp.eq.s32 %q, %a, 1; @!%q mov.b32 %r, 6;", &[2], 6),
    ]);
}

#[test]
fn floats() {
    check(&[
        case("add", "add.f32 %r, %a, %b;", &[0x3f80_0000, 0x4000_0000], 0x4040_0000),
        case("add of infinities", "add.f32 %r, %a, %b;", &[0x7f80_0000, 0xff80_0000], 0x7fff_ffff),
        case("add to nearest even", "add.rn.f32 %r, %a, %b;", &[0x3f80_0000, 0x3380_0000], 0x3f80_0000),
        case("add upwards", "add.rp.f32 %r, %a, %b;", &[0x3f80_0000, 0x0000_0001], 0x3f80_0001),
        case("add downwards", "add.rm.f32 %r, %a, %b;", &[0x3f80_0000, 0x8000_0001], 0x3f7f_ffff),
        case("add towards zero", "add.rz.f32 %r, %a, %b;", &[0xbf80_0000, 0x0000_0001], 0xbf7f_ffff),
        case("sub upwards", "sub.rp.f32 %r, %a, %b;", &[0x3f80_0000, 0x8000_0001], 0x3f80_0001),
        case("mul flushes", "mul.ftz.f32 %r, %a, %b;", &[0x0080_0000, 0x3f00_0000], 0),
        case("mul flushes to zero of its sign", "mul.ftz.f32 %r, %a, %b;", &[0x8080_0000, 0x3f00_0000], 0x8000_0000),
        case("mul keeps subnormals", "mul.f32 %r, %a, %b;", &[0x0080_0000, 0x3f00_0000], 0x0040_0000),
        case("mul flushes what it takes", "mul.ftz.f32 %r, %a, %b;", &[0x0040_0000, 0x7f00_0000], 0),
        case("mul saturates", "mul.sat.f32 %r, %a, %b;", &[0x4000_0000, 0x4000_0000], 0x3f80_0000),
        case("what is no number saturates to zero", "add.sat.f32 %r, %a, %b;", &[0x7fc0_0000, 0], 0),
        case("mul downwards", "mul.rm.f32 %r, %a, %b;", &[0x3f80_0001, 0x3f80_0001], 0x3f80_0002),
        case("mul upwards", "mul.rp.f32 %r, %a, %b;", &[0x3f80_0001, 0x3f80_0001], 0x3f80_0003),
        // (1 + 2⁻²³)² - 1 - 2⁻²² is 2⁻⁴⁶, which a product rounded on its own would lose.
        case("fma rounds once", "fma.rn.f32 %r, %a, %b, %c;", &[0x3f80_0001, 0x3f80_0001, 0xbf80_0002], 0x2880_0000),
        case("fma downwards", "fma.rm.f32 %r, %a, %b, %c;", &[0x3f80_0000, 0x3f80_0000, 0xa000_0000], 0x3f7f_ffff),
        case(
            "fma towards zero, below zero",
            "fma.rz.f32 %r, %a, %b, %c;",
            &[0xbf80_0000, 0x3f80_0000, 0x2000_0000],
            0xbf7f_ffff,
        ),
        case("div.rn", "div.rn.f32 %r, %a, %b;", &[0x3f80_0000, 0x4040_0000], 0x3eaa_aaab),
        case("div.rz", "div.rz.f32 %r, %a, %b;", &[0x3f80_0000, 0x4040_0000], 0x3eaa_aaaa),
        case("div.full", "div.full.f32 %r, %a, %b;", &[0x40c0_0000, 0x4040_0000], 0x4000_0000),
        case("div by zero", "div.rn.f32 %r, %a, %b;", &[0xbf80_0000, 0], 0xff80_0000),
        case("rcp", "rcp.rn.f32 %r, %a;", &[0x4080_0000], 0x3e80_0000),
        case("rcp of a flushed subnormal", "rcp.approx.ftz.f32 %r, %a;", &[0x8000_0001], 0xff80_0000),
        case("sqrt", "sqrt.rn.f32 %r, %a;", &[0x4110_0000], 0x4040_0000),
        case("sqrt upwards", "sqrt.rp.f32 %r, %a;", &[0x4000_0000], 0x3fb5_04f4),
        case("sqrt below zero", "sqrt.rn.f32 %r, %a;", &[0xbf80_0000], 0x7fff_ffff),
        case("rsqrt", "rsqrt.approx.f32 %r, %a;", &[0x4080_0000], 0x3f00_0000),
        case("ex2", "ex2.approx.ftz.f32 %r, %a;", &[0xc000_0000], 0x3e80_0000),
        case("ex2 flushes", "ex2.approx.ftz.f32 %r, %a;", &[0xc300_0000], 0),
        case("ex2 keeps subnormals", "ex2.approx.f32 %r, %a;", &[0xc300_0000], 0x0020_0000),
        case("ex2 of −∞", "ex2.approx.ftz.f32 %r, %a;", &[0xff80_0000], 0),
        case("lg2", "lg2.approx.f32 %r, %a;", &[0x4100_0000], 0x4040_0000),
        case("lg2 of zero", "lg2.approx.ftz.f32 %r, %a;", &[0], 0xff80_0000),
        case("tanh", "tanh.approx.f32 %r, %a;", &[0x7f80_0000], 0x3f80_0000),
        case("sin", "sin.approx.f32 %r, %a;", &[0], 0),
        case("cos", "cos.approx.ftz.f32 %r, %a;", &[0], 0x3f80_0000),
        case("min with what is no number", "min.f32 %r, %a, %b;", &[0x7fc0_0000, 0x3f80_0000], 0x3f80_0000),
        case("max with what is no number", "max.f32 %r, %a, %b;", &[0x3f80_0000, 0x7fc0_0000], 0x3f80_0000),
        case("max of none", "max.f32 %r, %a, %b;", &[0x7fc0_1234, 0xffc0_0000], 0x7fff_ffff),
        case("max.NaN", "max.NaN.f32 %r, %a, %b;", &[0x3f80_0000, 0x7fc0_0000], 0x7fff_ffff),
        case("min of zeros", "min.f32 %r, %a, %b;", &[0, 0x8000_0000], 0x8000_0000),
        case("max of zeros", "max.f32 %r, %a, %b;", &[0x8000_0000, 0], 0),
        case("abs", "abs.f32 %r, %a;", &[0xbf80_0000], 0x3f80_0000),
        case("neg", "neg.f32 %r, %a;", &[0], 0x8000_0000),
        case("neg flushes", "neg.ftz.f32 %r, %a;", &[1], 0x8000_0000),
        case("copysign takes the first's sign", "copysign.f32 %r, %a, %b;", &[0x8000_0000, 0x3f80_0000], 0xbf80_0000),
        case("immediate of a float", "mul.f32 %r, %a, 0f3F000000;", &[0x4000_0000], 0x3f80_0000),
        case(
            "add.f64",
            "add.f64 %l, %la, %lb;",
            &[0x3ff0_0000_0000_0000, 0x3ff0_0000_0000_0000],
            0x4000_0000_0000_0000,
        ),
        case(
            "fma.f64",
            "fma.rn.f64 %l, %la, %lb, %lc;",
            &[0x4000_0000_0000_0000, 0x4000_0000_0000_0000, 0xbff0_0000_0000_0000],
            0x4008_0000_0000_0000,
        ),
        case(
            "div.f64",
            "div.rn.f64 %l, %la, %lb;",
            &[0x3ff0_0000_0000_0000, 0x4000_0000_0000_0000],
            0x3fe0_0000_0000_0000,
        ),
        case(
            "immediate of a double",
            "mul.f64 %l, %la, 0d3FE0000000000000;",
            &[0x4000_0000_0000_0000],
            0x3ff0_0000_0000_0000,
        ),
    ]);
}

#[test]
fn halves() {
    check(&[
        case("add.f16", "add.f16 %h, %ha, %hb;", &[0x3c00, 0x3c00], 0x4000),
        // 2048 + 1 lies between 2048 and 2050, and 2048 is even.
        case("add.f16 at a tie", "add.rn.f16 %h, %ha, %hb;", &[0x6800, 0x3c00], 0x6800),
        case("add.f16 at the other tie", "add.rn.f16 %h, %ha, %hb;", &[0x6801, 0x3c00], 0x6802),
        case("add.f16 overflows", "add.f16 %h, %ha, %hb;", &[0x7bff, 0x7bff], 0x7c00),
        case("sub.f16x2", "sub.f16x2 %r, %a, %b;", &[0x4000_4200, 0x3c00_3c00], 0x3c00_4000),
        case("mul.f16", "mul.f16 %h, %ha, %hb;", &[0x4200, 0x4200], 0x4880),
        // (1 + 2⁻¹⁰)² - 1 - 2⁻⁹ is 2⁻²⁰, a subnormal.
        case("fma.f16 rounds once", "fma.rn.f16 %h, %ha, %hb, %hc;", &[0x3c01, 0x3c01, 0xbc02], 0x0010),
        case("fma.f16x2", "fma.rn.f16x2 %r, %a, %b, %c;", &[0x4000_3c00, 0x4000_3c00, 0x3c00_3c00], 0x4500_4000),
        case("fma.relu.f16", "fma.rn.relu.f16 %h, %ha, %hb, %hc;", &[0x3c00, 0xbc00, 0], 0),
        case("add.bf16x2", "add.bf16x2 %r, %a, %b;", &[0x3f80_4000, 0x3f80_4000], 0x4000_4080),
        case("fma.bf16", "fma.rn.bf16 %h, %ha, %hb, %hc;", &[0x4000, 0x4000, 0x3f80], 0x40a0),
        case("mul.bf16x2", "mul.bf16x2 %r, %a, %b;", &[0x4000_4040, 0x4000_4040], 0x4080_4110),
        case("max.f16x2 with what is no number", "max.f16x2 %r, %a, %b;", &[0x7e00_3c00, 0x3c00_4000], 0x3c00_4000),
        case("max.NaN.f16x2", "max.NaN.f16x2 %r, %a, %b;", &[0x7e00_3c00, 0x3c00_4000], 0x7fff_4000),
        case("min.bf16x2", "min.bf16x2 %r, %a, %b;", &[0xbf80_3f80, 0x3f80_4000], 0xbf80_3f80),
        case("max.f16 of zeros", "max.f16 %h, %ha, %hb;", &[0x8000, 0], 0),
        case("neg.f16x2", "neg.f16x2 %r, %a;", &[0x3c00_bc00], 0xbc00_3c00),
        case("abs.bf16", "abs.bf16 %h, %ha;", &[0xbf80], 0x3f80),
        case("ex2.f16x2", "ex2.approx.f16x2 %r, %a;", &[0x3c00_c000], 0x4000_3400),
        case("tanh.bf16x2", "tanh.approx.bf16x2 %r, %a;", &[0x0000_7f80], 0x0000_3f80),
    ]);
}

#[test]
fn conversions() {
    check(&[
        case("u32 to u64", "cvt.u64.u32 %l, %a;", &[0xffff_ffff], 0xffff_ffff),
        case("s32 to s64", "cvt.s64.s32 %l, %a;", &[0xffff_ffff], u64::MAX),
        case("u64 to u32", "cvt.u32.u64 %r, %la;", &[0x1_0000_0002], 2),
        case("s8 to s32", "cvt.s32.s8 %r, %a;", &[0x180], 0xffff_ff80),
        case("s32 to s8, extended in its register", "cvt.s8.s32 %r, %a;", &[0x180], 0xffff_ff80),
        case("s32 to s8 saturates", "cvt.sat.s8.s32 %r, %a;", &[0x180], 0x7f),
        case("s32 to u8 saturates", "cvt.sat.u8.s32 %r, %a;", &[0xffff_ff00], 0),
        case("u32 to s32 saturates", "cvt.sat.s32.u32 %r, %a;", &[0xffff_ffff], 0x7fff_ffff),
        case("u16 to u32", "cvt.u32.u16 %r, %ha;", &[0x1_ffff], 0xffff),
        case("s32 to f32", "cvt.rn.f32.s32 %r, %a;", &[0xffff_ffff], 0xbf80_0000),
        case("s32 to f32 at a tie", "cvt.rn.f32.s32 %r, %a;", &[0x0100_0001], 0x4b80_0000),
        case("u32 to f32 towards zero", "cvt.rz.f32.u32 %r, %a;", &[0xffff_ffff], 0x4f7f_ffff),
        case("u32 to f32 to nearest", "cvt.rn.f32.u32 %r, %a;", &[0xffff_ffff], 0x4f80_0000),
        case("u64 to f32 rounds once", "cvt.rn.f32.u64 %r, %la;", &[0x8000_0080_0000_0001], 0x5f00_0001),
        case("s64 to f64 downwards", "cvt.rm.f64.s64 %l, %la;", &[0x20_0000_0000_0001], 0x4340_0000_0000_0000),
        case("f32 to s32 truncates", "cvt.rzi.s32.f32 %r, %a;", &[0xbff3_3333], 0xffff_ffff),
        case("f32 to s32, floor", "cvt.rmi.s32.f32 %r, %a;", &[0xbf8c_cccd], 0xffff_fffe),
        case("f32 to s32, ceiling", "cvt.rpi.s32.f32 %r, %a;", &[0x3f8c_cccd], 2),
        case("f32 to s32, nearest even", "cvt.rni.s32.f32 %r, %a;", &[0x4020_0000], 2),
        case("f32 to s32 saturates", "cvt.rzi.s32.f32 %r, %a;", &[0x7f80_0000], 0x7fff_ffff),
        case("f32 to u32 saturates below", "cvt.rzi.u32.f32 %r, %a;", &[0xbf80_0000], 0),
        case("what is no number is 0", "cvt.rzi.s32.f32 %r, %a;", &[0x7fc0_0000], 0),
        case("f32 to s64", "cvt.rzi.s64.f32 %l, %a;", &[0xff80_0000], 1 << 63),
        case("f64 to s32, floor", "cvt.rmi.s32.f64 %r, %la;", &[0xbff8_0000_0000_0000], 0xffff_fffe),
        case("f32 floor", "cvt.rmi.f32.f32 %r, %a;", &[0xbfc0_0000], 0xc000_0000),
        case("f32 to nearest even", "cvt.rni.f32.f32 %r, %a;", &[0x4020_0000], 0x4000_0000),
        case("f64 ceiling", "cvt.rpi.f64.f64 %l, %la;", &[0x3ff8_0000_0000_0000], 0x4000_0000_0000_0000),
        case("f32 saturates", "cvt.sat.f32.f32 %r, %a;", &[0x4000_0000], 0x3f80_0000),
        case("f32 flushes", "cvt.ftz.f32.f32 %r, %a;", &[0x8000_0001], 0x8000_0000),
        case("f32 to f64", "cvt.f64.f32 %l, %a;", &[0x3fc0_0000], 0x3ff8_0000_0000_0000),
        case("f64 to f32 at a tie", "cvt.rn.f32.f64 %r, %la;", &[0x3ff0_0000_1000_0000], 0x3f80_0000),
        case("f64 to f32 upwards", "cvt.rp.f32.f64 %r, %la;", &[0x3ff0_0000_0000_0001], 0x3f80_0001),
        case("f32 to f16 at a tie", "cvt.rn.f16.f32 %h, %a;", &[0x3f80_1000], 0x3c00),
        case("f32 to f16 at the other tie", "cvt.rn.f16.f32 %h, %a;", &[0x3f80_3000], 0x3c02),
        case("f32 to f16 above a tie", "cvt.rn.f16.f32 %h, %a;", &[0x3f80_1001], 0x3c01),
        case("f32 to f16 overflows", "cvt.rn.f16.f32 %h, %a;", &[0x477f_f000], 0x7c00),
        case("f32 to f16 towards zero", "cvt.rz.f16.f32 %h, %a;", &[0x477f_f000], 0x7bff),
        case("f32 to a subnormal f16", "cvt.rn.f16.f32 %h, %a;", &[0x3380_0000], 1),
        case("f32 to f16, no number", "cvt.rn.f16.f32 %h, %a;", &[0x7f80_0001], 0x7fff),
        case("f64 to f16 rounds once", "cvt.rn.f16.f64 %h, %la;", &[0x3ff0_0200_0000_0001], 0x3c01),
        case("f32 to bf16 at a tie", "cvt.rn.bf16.f32 %h, %a;", &[0x3f80_8000], 0x3f80),
        case("f32 to bf16 at the other tie", "cvt.rn.bf16.f32 %h, %a;", &[0x3f81_8000], 0x3f82),
        case("f32 to bf16 towards zero", "cvt.rz.bf16.f32 %h, %a;", &[0x3f81_ffff], 0x3f81),
        case("f32 to bf16, relu", "cvt.rn.relu.bf16.f32 %h, %a;", &[0xbf80_0000], 0),
        case("f16 to f32", "cvt.f32.f16 %r, %ha;", &[0x0001], 0x3380_0000),
        case("bf16 to f32", "cvt.f32.bf16 %r, %ha;", &[0x3f81], 0x3f81_0000),
        case(
            "a pair of f16: the first is above",
            "cvt.rn.f16x2.f32 %r, %a, %b;",
            &[0x4000_0000, 0x3f80_0000],
            0x4000_3c00,
        ),
        case("a pair of bf16", "cvt.rn.bf16x2.f32 %r, %a, %b;", &[0x4000_0000, 0x3f80_0000], 0x4000_3f80),
        case("a pair of f16, relu", "cvt.rn.relu.f16x2.f32 %r, %a, %b;", &[0xc000_0000, 0x3f80_0000], 0x0000_3c00),
        case("s16 to f16", "cvt.rn.f16.s16 %h, %ha;", &[0xffff], 0xbc00),
        case("f16 to s32", "cvt.rzi.s32.f16 %r, %ha;", &[0xc100], 0xffff_fffe),
    ]);
}
