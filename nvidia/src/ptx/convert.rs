//! Conversions between types (PTX ISA, "Data Movement and Conversion Instructions: cvt").

use half::{bf16, f16};

use super::lanes::{LaneFunction, LaneType, narrow, wide};
use super::rounding::{self, Rounding, flush, sticky};
use super::types::PtxType;

/// A conversion of one value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Conversion {
    pub from: PtxType,
    pub to: PtxType,
    pub rounding: Rounding,
    /// The result is a whole number: `.rni` and its like, or an integer.
    pub integral: bool,
    pub flush: bool,
    pub saturate: bool,
    pub relu: bool,
}

/// What is converted, exactly but for integers beyond 53 bits as floats.
#[derive(Clone, Copy)]
enum Converted {
    Integer(i128),
    Float(f64),
}

impl Conversion {
    /// The conversions that kernels do most, as functions of all lanes.
    pub fn function(&self) -> Option<LaneFunction> {
        if self.flush || self.saturate || self.relu || self.from.is_float() && self.integral {
            return None;
        }
        let nearest = self.rounding == Rounding::Nearest;
        Some(match (self.from, self.to) {
            (PtxType::F32, PtxType::F16) if nearest => narrow!(|a: f32| f16::from_f32(a)),
            (PtxType::F32, PtxType::Bf16) if nearest => narrow!(|a: f32| bf16::from_f32(a)),
            (PtxType::F16, PtxType::F32) => narrow!(|a: f16| a.to_f32()),
            (PtxType::Bf16, PtxType::F32) => narrow!(|a: bf16| a.to_f32()),
            (PtxType::S32, PtxType::F32) if nearest => narrow!(|a: i32| a as f32),
            (PtxType::U32, PtxType::F32) if nearest => narrow!(|a: u32| a as f32),
            (PtxType::U32, PtxType::U64 | PtxType::S64) => wide!(|a: u32| a as u64),
            (PtxType::S32, PtxType::U64 | PtxType::S64) => wide!(|a: i32| a as i64),
            (PtxType::U64 | PtxType::S64, PtxType::U32 | PtxType::S32) => wide!(|a: u32| a),
            _ => return None,
        })
    }

    /// The bits of a value converted; a narrow signed result is extended by its sign, as its register may be wider.
    pub fn apply(&self, bits: u64) -> u64 {
        match (self.read(bits), self.to.is_float()) {
            (Converted::Integer(value), false) => self.integer(value),
            (Converted::Integer(value), true) => {
                let near = value as f64;
                self.float(sticky_unless_double(self.to, near, (value - near as i128) as f64, self.rounding))
            }
            (Converted::Float(value), false) => {
                if value.is_nan() {
                    return 0;
                }
                let (least, most) = range(self.to);
                // A float is clamped whether or not it is said.
                self.integer((whole(value, self.rounding) as i128).clamp(least, most))
            }
            (Converted::Float(value), true) => {
                self.float(if self.integral { whole(value, self.rounding) } else { value })
            }
        }
    }

    fn read(&self, bits: u64) -> Converted {
        match self.from {
            PtxType::U8 | PtxType::B8 => Converted::Integer(bits as u8 as i128),
            PtxType::U16 | PtxType::B16 => Converted::Integer(bits as u16 as i128),
            PtxType::U32 | PtxType::B32 => Converted::Integer(bits as u32 as i128),
            PtxType::S8 => Converted::Integer(bits as i8 as i128),
            PtxType::S16 => Converted::Integer(bits as i16 as i128),
            PtxType::S32 => Converted::Integer(bits as i32 as i128),
            PtxType::S64 => Converted::Integer(bits as i64 as i128),
            PtxType::F16 => Converted::Float(f16::of(bits).to_f64()),
            PtxType::Bf16 => Converted::Float(bf16::of(bits).to_f64()),
            PtxType::F32 if self.flush => Converted::Float(flush(f32::of(bits)) as f64),
            PtxType::F32 => Converted::Float(f32::of(bits) as f64),
            PtxType::F64 => Converted::Float(f64::of(bits)),
            _ => Converted::Integer(bits as i128),
        }
    }

    fn integer(&self, value: i128) -> u64 {
        let (least, most) = range(self.to);
        let value = if self.saturate { value.clamp(least, most) } else { value };
        match self.to {
            PtxType::U8 | PtxType::B8 => value as u8 as u64,
            PtxType::S8 => value as i8 as u64,
            PtxType::U16 | PtxType::B16 => value as u16 as u64,
            PtxType::S16 => value as i16 as u64,
            PtxType::U32 | PtxType::B32 => value as u32 as u64,
            PtxType::S32 => value as i32 as u64,
            _ => value as u64,
        }
    }

    fn float(&self, value: f64) -> u64 {
        let value = match (self.saturate, self.relu) {
            (true, _) if value.is_nan() => 0.0,
            (true, _) => value.clamp(0.0, 1.0) + 0.0,
            // Not a number stays so.
            (_, true) if value <= 0.0 => 0.0,
            _ => value,
        };
        match self.to {
            PtxType::F16 => rounding::to_half(value, self.rounding_to()).bits(),
            PtxType::Bf16 => rounding::to_brain(value, self.rounding_to()).bits(),
            PtxType::F32 => {
                let value = rounding::to_single(value, self.rounding_to());
                (if self.flush { flush(value) } else { value }).bits()
            }
            _ => value.bits(),
        }
    }

    /// How the result is rounded to its type, once it is whole if it should be.
    fn rounding_to(&self) -> Rounding {
        if self.integral { Rounding::Nearest } else { self.rounding }
    }
}

/// `near + error` to be rounded once more, or, where the result is an f64, rounded at last.
fn sticky_unless_double(to: PtxType, near: f64, error: f64, mode: Rounding) -> f64 {
    if to != PtxType::F64 {
        return sticky(near, error);
    }
    match mode {
        Rounding::Down if error < 0.0 => near.next_down(),
        Rounding::Up if error > 0.0 => near.next_up(),
        Rounding::Zero if error < 0.0 && near > 0.0 => near.next_down(),
        Rounding::Zero if error > 0.0 && near < 0.0 => near.next_up(),
        _ => near,
    }
}

/// A float rounded to a whole number.
fn whole(value: f64, mode: Rounding) -> f64 {
    match mode {
        Rounding::Nearest => value.round_ties_even(),
        Rounding::Zero => value.trunc(),
        Rounding::Down => value.floor(),
        Rounding::Up => value.ceil(),
    }
}

/// The least and the greatest value of an integer type.
fn range(of: PtxType) -> (i128, i128) {
    let bits = of.bits();
    if of.is_signed() { (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) } else { (0, (1 << bits) - 1) }
}
