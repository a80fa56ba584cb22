//! Integer, logic and shift instructions (PTX ISA, "Integer Arithmetic Instructions", "Logic and Shift Instructions").
//!
//! What PTX leaves undefined has the value that GPUs give: a division by zero has all bits set.

use super::lanes::{LaneFunction, narrow, wide};
use super::opcode::Opcode;
use super::types::PtxType;

/// One body for every integer type; untyped bits count as unsigned.
macro_rules! for_integers {
    ($type:expr, |$($name:ident),+| $result:expr) => {
        match $type {
            PtxType::B16 | PtxType::U16 => Some(narrow!(|$($name: u16),+| $result)),
            PtxType::B32 | PtxType::U32 => Some(narrow!(|$($name: u32),+| $result)),
            PtxType::B64 | PtxType::U64 => Some(wide!(|$($name: u64),+| $result)),
            PtxType::S16 => Some(narrow!(|$($name: i16),+| $result)),
            PtxType::S32 => Some(narrow!(|$($name: i32),+| $result)),
            PtxType::S64 => Some(wide!(|$($name: i64),+| $result)),
            _ => None,
        }
    };
}

/// What an integer or logic instruction computes; `None` where there is no such instruction.
pub(super) fn function(opcode: &mut Opcode, each: PtxType) -> Option<LaneFunction> {
    match opcode.name() {
        "add" if opcode.take("sat") && each == PtxType::S32 => Some(narrow!(|a: i32, b: i32| a.saturating_add(b))),
        "sub" if opcode.take("sat") && each == PtxType::S32 => Some(narrow!(|a: i32, b: i32| a.saturating_sub(b))),
        "add" => for_integers!(each, |a, b| a.wrapping_add(b)),
        "sub" => for_integers!(each, |a, b| a.wrapping_sub(b)),
        "mul" | "mad" => product(opcode, each),
        "div" => for_integers!(each, |a, b| if b == 0 { !0 } else { a.wrapping_div(b) }),
        "rem" => for_integers!(each, |a, b| if b == 0 { !0 } else { a.wrapping_rem(b) }),
        // Only for this type, and `.s16x2`, which is not understood.
        "min" if each == PtxType::S32 && opcode.take("relu") => Some(narrow!(|a: i32, b: i32| a.min(b).max(0))),
        "max" if each == PtxType::S32 && opcode.take("relu") => Some(narrow!(|a: i32, b: i32| a.max(b).max(0))),
        "min" => for_integers!(each, |a, b| a.min(b)),
        "max" => for_integers!(each, |a, b| a.max(b)),
        "abs" => match each {
            PtxType::S16 => Some(narrow!(|a: i16| a.wrapping_abs())),
            PtxType::S32 => Some(narrow!(|a: i32| a.wrapping_abs())),
            PtxType::S64 => Some(wide!(|a: i64| a.wrapping_abs())),
            _ => None,
        },
        "neg" => for_integers!(each, |a| a.wrapping_neg()),
        "and" => for_integers!(each, |a, b| a & b),
        "or" => for_integers!(each, |a, b| a | b),
        "xor" => for_integers!(each, |a, b| a ^ b),
        "not" => for_integers!(each, |a| !a),
        "cnot" => for_integers!(each, |a| if a == 0 { 1 } else { 0 }),
        "shl" | "shr" | "shf" => shift(opcode, each),
        "bfe" | "bfi" | "bfind" | "brev" | "clz" | "popc" => bit_field(opcode, each),
        "prmt" if each == PtxType::B32 => Some(narrow!(|a: u32, b: u32, c: u32| permute(a, b, c))),
        "sad" => match each {
            PtxType::U32 => Some(narrow!(|a: u32, b: u32, c: u32| a.abs_diff(b).wrapping_add(c))),
            PtxType::S32 => Some(narrow!(|a: i32, b: i32, c: u32| a.abs_diff(b).wrapping_add(c))),
            _ => None,
        },
        _ => None,
    }
}

/// `mul` and `mad`: the low half, the high half or all of a product.
fn product(opcode: &mut Opcode, each: PtxType) -> Option<LaneFunction> {
    let plus = opcode.name() == "mad";
    if opcode.take("lo") {
        return if plus {
            for_integers!(each, |a, b, c| a.wrapping_mul(b).wrapping_add(c))
        } else {
            for_integers!(each, |a, b| a.wrapping_mul(b))
        };
    }
    if opcode.take("wide") {
        return Some(match (each, plus) {
            (PtxType::U16, false) => narrow!(|a: u16, b: u16| a as u32 * b as u32),
            (PtxType::S16, false) => narrow!(|a: i16, b: i16| a as i32 * b as i32),
            (PtxType::U32, false) => wide!(|a: u32, b: u32| a as u64 * b as u64),
            (PtxType::S32, false) => wide!(|a: i32, b: i32| a as i64 * b as i64),
            (PtxType::U16, true) => narrow!(|a: u16, b: u16, c: u32| (a as u32 * b as u32).wrapping_add(c)),
            (PtxType::S16, true) => narrow!(|a: i16, b: i16, c: i32| (a as i32 * b as i32).wrapping_add(c)),
            (PtxType::U32, true) => wide!(|a: u32, b: u32, c: u64| (a as u64 * b as u64).wrapping_add(c)),
            (PtxType::S32, true) => wide!(|a: i32, b: i32, c: i64| (a as i64 * b as i64).wrapping_add(c)),
            _ => return None,
        });
    }
    if opcode.take("hi") {
        return Some(match (each, plus) {
            (PtxType::U16, false) => narrow!(|a: u16, b: u16| (a as u32 * b as u32) >> 16),
            (PtxType::S16, false) => narrow!(|a: i16, b: i16| ((a as i32 * b as i32) >> 16) as i16),
            (PtxType::U32, false) => narrow!(|a: u32, b: u32| ((a as u64 * b as u64) >> 32) as u32),
            (PtxType::S32, false) => narrow!(|a: i32, b: i32| ((a as i64 * b as i64) >> 32) as i32),
            (PtxType::U64, false) => wide!(|a: u64, b: u64| ((a as u128 * b as u128) >> 64) as u64),
            (PtxType::S64, false) => wide!(|a: i64, b: i64| ((a as i128 * b as i128) >> 64) as i64),
            (PtxType::U32, true) => {
                narrow!(|a: u32, b: u32, c: u32| (((a as u64 * b as u64) >> 32) as u32).wrapping_add(c))
            }
            (PtxType::S32, true) => {
                narrow!(|a: i32, b: i32, c: i32| (((a as i64 * b as i64) >> 32) as i32).wrapping_add(c))
            }
            _ => return None,
        });
    }
    None
}

/// Shifts; amounts past the width shift everything out.
fn shift(opcode: &mut Opcode, each: PtxType) -> Option<LaneFunction> {
    Some(match (opcode.name(), each) {
        ("shl", PtxType::B16) => narrow!(|a: u16, b: u32| a.checked_shl(b).unwrap_or(0)),
        ("shl", PtxType::B32) => narrow!(|a: u32, b: u32| a.checked_shl(b).unwrap_or(0)),
        ("shl", PtxType::B64) => wide!(|a: u64, b: u32| a.checked_shl(b).unwrap_or(0)),
        ("shr", PtxType::B16 | PtxType::U16) => narrow!(|a: u16, b: u32| a.checked_shr(b).unwrap_or(0)),
        ("shr", PtxType::B32 | PtxType::U32) => narrow!(|a: u32, b: u32| a.checked_shr(b).unwrap_or(0)),
        ("shr", PtxType::B64 | PtxType::U64) => wide!(|a: u64, b: u32| a.checked_shr(b).unwrap_or(0)),
        ("shr", PtxType::S16) => narrow!(|a: i16, b: u32| a >> b.min(15)),
        ("shr", PtxType::S32) => narrow!(|a: i32, b: u32| a >> b.min(31)),
        ("shr", PtxType::S64) => wide!(|a: i64, b: u32| a >> b.min(63)),
        ("shf", PtxType::B32) => {
            match (opcode.take("l"), opcode.take("r"), opcode.take("clamp"), opcode.take("wrap")) {
                (true, false, true, false) => narrow!(|a: u32, b: u32, c: u32| funnel_left(a, b, c.min(32))),
                (true, false, false, true) => narrow!(|a: u32, b: u32, c: u32| funnel_left(a, b, c & 31)),
                (false, true, true, false) => narrow!(|a: u32, b: u32, c: u32| funnel_right(a, b, c.min(32))),
                (false, true, false, true) => narrow!(|a: u32, b: u32, c: u32| funnel_right(a, b, c & 31)),
                _ => return None,
            }
        }
        _ => return None,
    })
}

fn bit_field(opcode: &mut Opcode, each: PtxType) -> Option<LaneFunction> {
    Some(match (opcode.name(), each) {
        ("bfe", PtxType::U32) => narrow!(|a: u32, b: u32, c: u32| extract(a as u64, b, c, 32, false) as u32),
        ("bfe", PtxType::S32) => narrow!(|a: u32, b: u32, c: u32| extract(a as u64, b, c, 32, true) as u32),
        ("bfe", PtxType::U64) => wide!(|a: u64, b: u32, c: u32| extract(a, b, c, 64, false)),
        ("bfe", PtxType::S64) => wide!(|a: u64, b: u32, c: u32| extract(a, b, c, 64, true)),
        ("bfi", PtxType::B32) => narrow!(|a: u32, b: u32, c: u32, d: u32| insert(a as u64, b as u64, c, d, 32) as u32),
        ("bfi", PtxType::B64) => wide!(|a: u64, b: u64, c: u32, d: u32| insert(a, b, c, d, 64)),
        ("bfind", _) if opcode.take("shiftamt") => match each {
            PtxType::U32 => narrow!(|a: u32| if a == 0 { !0 } else { a.leading_zeros() }),
            PtxType::U64 => wide!(|a: u64| if a == 0 { !0 } else { a.leading_zeros() }),
            _ => return None,
        },
        ("bfind", PtxType::U32) => narrow!(|a: u32| 31u32.wrapping_sub(a.leading_zeros())),
        ("bfind", PtxType::U64) => wide!(|a: u64| 63u32.wrapping_sub(a.leading_zeros())),
        ("bfind", PtxType::S32) => narrow!(|a: i32| 31u32.wrapping_sub((if a < 0 { !a } else { a }).leading_zeros())),
        ("brev", PtxType::B32) => narrow!(|a: u32| a.reverse_bits()),
        ("brev", PtxType::B64) => wide!(|a: u64| a.reverse_bits()),
        ("clz", PtxType::B32) => narrow!(|a: u32| a.leading_zeros()),
        ("clz", PtxType::B64) => wide!(|a: u64| a.leading_zeros()),
        ("popc", PtxType::B32) => narrow!(|a: u32| a.count_ones()),
        ("popc", PtxType::B64) => wide!(|a: u64| a.count_ones()),
        _ => return None,
    })
}

/// The high word of `high:low` shifted left.
fn funnel_left(low: u32, high: u32, amount: u32) -> u32 {
    ((((high as u64) << 32 | low as u64) << amount) >> 32) as u32
}

/// The low word of `high:low` shifted right.
fn funnel_right(low: u32, high: u32, amount: u32) -> u32 {
    ((high as u64) << 32 | low as u64).checked_shr(amount).unwrap_or(0) as u32
}

/// `length` bits of `a` from bit `start`, both taken modulo 256, extended by its top bit where signed.
fn extract(a: u64, start: u32, length: u32, width: u32, signed: bool) -> u64 {
    let (start, length) = (start & 255, length & 255);
    let a = if signed && width == 32 { a as u32 as i32 as u64 } else { a };
    let sign = signed && length > 0 && a >> (start + length - 1).min(width - 1) & 1 == 1;
    let inside = width.saturating_sub(start).min(length);
    let mask = if inside >= 64 { !0 } else { (1u64 << inside) - 1 };
    (a.checked_shr(start).unwrap_or(0) & mask) | if sign { !mask } else { 0 }
}

/// `b` with `length` bits from bit `start` replaced by the low bits of `a`.
fn insert(a: u64, b: u64, start: u32, length: u32, width: u32) -> u64 {
    let (start, length) = (start & 255, length & 255);
    if start >= width {
        return b;
    }
    let length = length.min(width - start);
    let mask = (if length >= 64 { !0 } else { (1u64 << length) - 1 }) << start;
    (b & !mask) | ((a << start) & mask)
}

/// Four bytes of the eight in `b:a`, each chosen by a nibble of `c`, whose top bit asks for copies of the byte's sign.
fn permute(a: u32, b: u32, c: u32) -> u32 {
    let bytes = (b as u64) << 32 | a as u64;
    (0..4).fold(0, |result, to| {
        let selector = (c >> (4 * to)) & 15;
        let byte = (bytes >> (8 * (selector & 7))) as u8;
        let byte = if selector & 8 == 0 { byte } else { ((byte as i8) >> 7) as u8 };
        result | (byte as u32) << (8 * to)
    })
}

/// Any logic of three inputs: bit `4a + 2b + c` of the table.
pub(super) fn look_up(a: u32, b: u32, c: u32, table: u32) -> u32 {
    (0..8).filter(|entry| table >> entry & 1 == 1).fold(0, |result, entry| {
        let side = |value: u32, bit: u32| if entry >> bit & 1 == 1 { value } else { !value };
        result | (side(a, 2) & side(b, 1) & side(c, 0))
    })
}

/// `lop3`, whose table is its fourth source.
pub(super) fn any_logic() -> LaneFunction {
    narrow!(|a: u32, b: u32, c: u32, table: u32| look_up(a, b, c, table))
}
