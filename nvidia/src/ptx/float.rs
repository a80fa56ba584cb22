//! Floating-point instructions (PTX ISA, "Floating-Point Instructions", "Half Precision Floating-Point Instructions").
//!
//! The approximate functions are computed nearly to the last bit, which their specified errors allow.

use half::{bf16, f16};

use super::lanes::{LaneFunction, narrow, wide};
use super::opcode::Opcode;
use super::rounding::{self, Rounding, flush, saturate};
use super::types::PtxType;

/// A body in f32 with and without `.ftz`, with and without `.sat`.
macro_rules! single {
    ($opcode:expr, |$($name:ident),+| $result:expr) => {
        match ($opcode.take("ftz"), $opcode.take("sat")) {
            (false, false) => narrow!(|$($name: f32),+| $result),
            (true, false) => narrow!(|$($name: f32),+| { $(let $name = flush($name);)+ flush($result) }),
            (false, true) => narrow!(|$($name: f32),+| saturate($result)),
            (true, true) => narrow!(|$($name: f32),+| { $(let $name = flush($name);)+ saturate(flush($result)) }),
        }
    };
}

/// A body in f64, exact or nearly so, for the types of 16 bits, alone and in pairs.
macro_rules! half {
    ($each:expr, |$a:ident, $b:ident, $c:ident| $result:expr) => {
        match $each {
            PtxType::F16 => narrow!(|a: f16, b: f16, c: f16| {
                let ($a, $b, $c) = (a.to_f64(), b.to_f64(), c.to_f64());
                let _ = ($b, $c);
                rounding::to_half($result, Rounding::Nearest)
            }),
            PtxType::Bf16 => narrow!(|a: bf16, b: bf16, c: bf16| {
                let ($a, $b, $c) = (a.to_f64(), b.to_f64(), c.to_f64());
                let _ = ($b, $c);
                rounding::to_brain($result, Rounding::Nearest)
            }),
            PtxType::F16x2 => narrow!(|a: u32, b: u32, c: u32| pairwise(a, b, c, |a, b, c| {
                let [$a, $b, $c] = [a, b, c].map(|bits| f16::from_bits(bits).to_f64());
                let _ = ($b, $c);
                crate::ptx::lanes::LaneType::bits(rounding::to_half($result, Rounding::Nearest)) as u16
            })),
            PtxType::Bf16x2 => narrow!(|a: u32, b: u32, c: u32| pairwise(a, b, c, |a, b, c| {
                let [$a, $b, $c] = [a, b, c].map(|bits| bf16::from_bits(bits).to_f64());
                let _ = ($b, $c);
                crate::ptx::lanes::LaneType::bits(rounding::to_brain($result, Rounding::Nearest)) as u16
            })),
            _ => return None,
        }
    };
}

/// What a floating-point instruction computes; `None` where there is no such instruction.
pub(super) fn function(opcode: &mut Opcode, each: PtxType) -> Option<LaneFunction> {
    match each {
        PtxType::F32 => function_f32(opcode),
        PtxType::F64 => function_f64(opcode),
        PtxType::F16 | PtxType::Bf16 | PtxType::F16x2 | PtxType::Bf16x2 => function_half(opcode, each),
        _ => None,
    }
}

fn function_f32(opcode: &mut Opcode) -> Option<LaneFunction> {
    let name = opcode.name();
    let mode = opcode.take_map(Rounding::named);
    let approximate = opcode.take("approx") || opcode.take("full");
    // A rounding mode belongs to what can be rounded in any, `.approx` to what is not exact.
    let exact = matches!(name, "add" | "sub" | "mul" | "fma" | "mad" | "div" | "rcp" | "sqrt");
    let inexact = matches!(name, "div" | "rcp" | "sqrt" | "rsqrt" | "sin" | "cos" | "lg2" | "ex2" | "tanh");
    if mode.is_some() && !exact || approximate && (!inexact || mode.is_some()) {
        return None;
    }
    if let Some(mode @ (Rounding::Zero | Rounding::Down | Rounding::Up)) = mode {
        return directed(opcode, mode);
    }
    Some(match name {
        "add" => single!(opcode, |a, b| a + b),
        "sub" => single!(opcode, |a, b| a - b),
        "mul" => single!(opcode, |a, b| a * b),
        // Faster for all lanes than a call of the C library for each.
        "fma" | "mad" => single!(opcode, |a, b, c| rounding::fma(a, b, c, Rounding::Nearest)),
        "div" => single!(opcode, |a, b| a / b),
        "rcp" => single!(opcode, |a| 1.0 / a),
        "sqrt" => single!(opcode, |a| a.sqrt()),
        "rsqrt" => single!(opcode, |a| (1.0 / (a as f64).sqrt()) as f32),
        "sin" => single!(opcode, |a| a.sin()),
        "cos" => single!(opcode, |a| a.cos()),
        "lg2" => single!(opcode, |a| a.log2()),
        "ex2" => single!(opcode, |a| a.exp2()),
        "tanh" => single!(opcode, |a| a.tanh()),
        "min" if opcode.take("NaN") => single!(opcode, |a, b| if a.is_nan() {
            a
        } else if b.is_nan() {
            b
        } else {
            least(a, b)
        }),
        "max" if opcode.take("NaN") => single!(opcode, |a, b| if a.is_nan() {
            a
        } else if b.is_nan() {
            b
        } else {
            greatest(a, b)
        }),
        "min" => single!(opcode, |a, b| least(a, b)),
        "max" => single!(opcode, |a, b| greatest(a, b)),
        "abs" if opcode.take("ftz") => narrow!(|a: f32| flush(a).to_bits() & 0x7fff_ffff),
        "neg" if opcode.take("ftz") => narrow!(|a: f32| flush(a).to_bits() ^ 0x8000_0000),
        "abs" => narrow!(|a: u32| a & 0x7fff_ffff),
        "neg" => narrow!(|a: u32| a ^ 0x8000_0000),
        "copysign" => narrow!(|a: u32, b: u32| a & 0x8000_0000 | b & 0x7fff_ffff),
        _ => return None,
    })
}

/// Instructions that round towards one side.
fn directed(opcode: &mut Opcode, mode: Rounding) -> Option<LaneFunction> {
    macro_rules! in_mode {
        (|$($name:ident),+| $function:path, $($argument:expr),+) => {
            match mode {
                Rounding::Zero => single!(opcode, |$($name),+| $function($($argument),+, Rounding::Zero)),
                Rounding::Down => single!(opcode, |$($name),+| $function($($argument),+, Rounding::Down)),
                _ => single!(opcode, |$($name),+| $function($($argument),+, Rounding::Up)),
            }
        };
    }
    Some(match opcode.name() {
        "add" => in_mode!(|a, b| rounding::add, a, b),
        "sub" => in_mode!(|a, b| rounding::add, a, -b),
        "mul" => in_mode!(|a, b| rounding::to_single, a as f64 * b as f64),
        "fma" | "mad" => in_mode!(|a, b, c| rounding::fma, a, b, c),
        "div" => in_mode!(|a, b| rounding::divide, a, b),
        "rcp" => in_mode!(|a| rounding::divide, 1.0, a),
        "sqrt" => in_mode!(|a| rounding::root, a),
        _ => return None,
    })
}

fn function_f64(opcode: &mut Opcode) -> Option<LaneFunction> {
    if !matches!(opcode.name(), "min" | "max" | "abs" | "neg" | "copysign") {
        opcode.take("rn");
    }
    Some(match opcode.name() {
        "add" => wide!(|a: f64, b: f64| a + b),
        "sub" => wide!(|a: f64, b: f64| a - b),
        "mul" => wide!(|a: f64, b: f64| a * b),
        "fma" | "mad" => wide!(|a: f64, b: f64, c: f64| a.mul_add(b, c)),
        "div" => wide!(|a: f64, b: f64| a / b),
        "rcp" => wide!(|a: f64| 1.0 / a),
        "sqrt" => wide!(|a: f64| a.sqrt()),
        "min" => wide!(|a: f64, b: f64| if a.is_nan() || b < a { b } else { a }),
        "max" => wide!(|a: f64, b: f64| if a.is_nan() || b > a { b } else { a }),
        "abs" => wide!(|a: u64| a & !(1 << 63)),
        "neg" => wide!(|a: u64| a ^ 1 << 63),
        "copysign" => wide!(|a: u64, b: u64| a & 1 << 63 | b & !(1 << 63)),
        _ => return None,
    })
}

fn function_half(opcode: &mut Opcode, each: PtxType) -> Option<LaneFunction> {
    let name = opcode.name();
    if matches!(name, "add" | "sub" | "mul" | "fma") {
        opcode.take("rn");
    }
    if matches!(name, "ex2" | "tanh") && !opcode.take("approx") {
        return None;
    }
    // The results of bf16's instructions are flushed by `ex2` alone, whose modifier says nothing else.
    if name == "ex2" && matches!(each, PtxType::Bf16 | PtxType::Bf16x2) {
        opcode.take("ftz");
    }
    Some(match name {
        "add" => half!(each, |a, b, c| a + b),
        "sub" => half!(each, |a, b, c| a - b),
        "mul" => half!(each, |a, b, c| a * b),
        "fma" if opcode.take("relu") => half!(each, |a, b, c| a.mul_add(b, c).max(0.0)),
        "fma" => half!(each, |a, b, c| a.mul_add(b, c)),
        "min" if opcode.take("NaN") => half!(each, |a, b, c| if a.is_nan() {
            a
        } else if b.is_nan() {
            b
        } else {
            least64(a, b)
        }),
        "max" if opcode.take("NaN") => half!(each, |a, b, c| if a.is_nan() {
            a
        } else if b.is_nan() {
            b
        } else {
            -least64(-a, -b)
        }),
        "min" => half!(each, |a, b, c| least64(a, b)),
        "max" => half!(each, |a, b, c| -least64(-a, -b)),
        "ex2" => half!(each, |a, b, c| a.exp2()),
        "tanh" => half!(each, |a, b, c| a.tanh()),
        "abs" => match each {
            PtxType::F16 | PtxType::Bf16 => narrow!(|a: u16| a & 0x7fff),
            _ => narrow!(|a: u32| a & 0x7fff_7fff),
        },
        "neg" => match each {
            PtxType::F16 | PtxType::Bf16 => narrow!(|a: u16| a ^ 0x8000),
            _ => narrow!(|a: u32| a ^ 0x8000_8000),
        },
        _ => return None,
    })
}

/// The lesser, −0 before +0; the number where one is none.
fn least(a: f32, b: f32) -> f32 {
    if b.is_nan() || a < b || (a == b && a.is_sign_negative()) { a } else { b }
}

/// The greater, +0 after −0; the number where one is none.
fn greatest(a: f32, b: f32) -> f32 {
    if b.is_nan() || a > b || (a == b && a.is_sign_positive()) { a } else { b }
}

fn least64(a: f64, b: f64) -> f64 {
    if b.is_nan() || a < b || (a == b && a.is_sign_negative()) { a } else { b }
}

/// A function of 16 bits on both halves.
fn pairwise(a: u32, b: u32, c: u32, function: impl Fn(u16, u16, u16) -> u16) -> u32 {
    let low = function(a as u16, b as u16, c as u16) as u32;
    let high = function((a >> 16) as u16, (b >> 16) as u16, (c >> 16) as u16) as u32;
    high << 16 | low
}
