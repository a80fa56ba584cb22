//! Comparisons (PTX ISA, "Comparison and Selection Instructions", "Comparisons").

use half::{bf16, f16};

use super::lanes::{LANES, LaneType, Narrow, Test, Wide};
use super::rounding::flush;
use super::types::PtxType;

/// The lanes where a comparison of values of a type holds.
macro_rules! lanes_where {
    ($variant:ident, $lanes:ty, $type:ty, |$a:ident, $b:ident| $holds:expr) => {
        Test::$variant(|sources: [&$lanes; 2]| {
            let mut result = 0;
            for lane in 0..LANES {
                let $a = <$type as LaneType>::of(sources[0][lane] as u64);
                let $b = <$type as LaneType>::of(sources[1][lane] as u64);
                result |= ($holds as u32) << lane;
            }
            result
        })
    };
}

macro_rules! ordered {
    ($operator:expr, $variant:ident, $lanes:ty, $type:ty) => {
        match $operator {
            "eq" => lanes_where!($variant, $lanes, $type, |a, b| a == b),
            "ne" => lanes_where!($variant, $lanes, $type, |a, b| a != b),
            "lt" | "lo" => lanes_where!($variant, $lanes, $type, |a, b| a < b),
            "le" | "ls" => lanes_where!($variant, $lanes, $type, |a, b| a <= b),
            "gt" | "hi" => lanes_where!($variant, $lanes, $type, |a, b| a > b),
            "ge" | "hs" => lanes_where!($variant, $lanes, $type, |a, b| a >= b),
            _ => return None,
        }
    };
}

/// Comparisons of floats: false where one is no number, but for those that end in `u`.
macro_rules! float {
    ($operator:expr, $variant:ident, $lanes:ty, $type:ty, $through:expr) => {
        match $operator {
            "eq" => lanes_where!($variant, $lanes, $type, |a, b| $through(a) == $through(b)),
            "ne" => {
                lanes_where!($variant, $lanes, $type, |a, b| $through(a) < $through(b) || $through(a) > $through(b))
            }
            "lt" => lanes_where!($variant, $lanes, $type, |a, b| $through(a) < $through(b)),
            "le" => lanes_where!($variant, $lanes, $type, |a, b| $through(a) <= $through(b)),
            "gt" => lanes_where!($variant, $lanes, $type, |a, b| $through(a) > $through(b)),
            "ge" => lanes_where!($variant, $lanes, $type, |a, b| $through(a) >= $through(b)),
            "equ" => {
                lanes_where!($variant, $lanes, $type, |a, b| !($through(a) < $through(b) || $through(a) > $through(b)))
            }
            "neu" => lanes_where!($variant, $lanes, $type, |a, b| $through(a) != $through(b)),
            "ltu" => lanes_where!($variant, $lanes, $type, |a, b| !($through(a) >= $through(b))),
            "leu" => lanes_where!($variant, $lanes, $type, |a, b| !($through(a) > $through(b))),
            "gtu" => lanes_where!($variant, $lanes, $type, |a, b| !($through(a) <= $through(b))),
            "geu" => lanes_where!($variant, $lanes, $type, |a, b| !($through(a) < $through(b))),
            "num" => lanes_where!($variant, $lanes, $type, |a, b| !a.is_nan() && !b.is_nan()),
            "nan" => lanes_where!($variant, $lanes, $type, |a, b| a.is_nan() || b.is_nan()),
            _ => return None,
        }
    };
}

/// A comparison of two values of a type; `None` where there is no such comparison.
#[allow(clippy::neg_cmp_op_on_partial_ord, reason = "the unordered comparisons are defined as negations")]
pub(super) fn test(operator: &str, each: PtxType, ftz: bool) -> Option<Test> {
    let unsigned_only = matches!(operator, "lo" | "ls" | "hi" | "hs");
    let bits_only = !matches!(operator, "eq" | "ne");
    match each {
        PtxType::S16 | PtxType::S32 | PtxType::S64 | PtxType::B16 | PtxType::B32 | PtxType::B64 if unsigned_only => {
            return None;
        }
        PtxType::B16 | PtxType::B32 | PtxType::B64 if bits_only => return None,
        _ => {}
    }
    if ftz && each != PtxType::F32 {
        return None;
    }
    Some(match each {
        PtxType::B16 | PtxType::U16 => ordered!(operator, Narrow, Narrow, u16),
        PtxType::S16 => ordered!(operator, Narrow, Narrow, i16),
        PtxType::B32 | PtxType::U32 => ordered!(operator, Narrow, Narrow, u32),
        PtxType::S32 => ordered!(operator, Narrow, Narrow, i32),
        PtxType::B64 | PtxType::U64 => ordered!(operator, Wide, Wide, u64),
        PtxType::S64 => ordered!(operator, Wide, Wide, i64),
        PtxType::F32 if ftz => float!(operator, Narrow, Narrow, f32, flush),
        PtxType::F32 => float!(operator, Narrow, Narrow, f32, core::convert::identity),
        PtxType::F64 => float!(operator, Wide, Wide, f64, core::convert::identity),
        PtxType::F16 => float!(operator, Narrow, Narrow, f16, core::convert::identity),
        PtxType::Bf16 => float!(operator, Narrow, Narrow, bf16, core::convert::identity),
        _ => return None,
    })
}

/// `testp`: what kind of number a float is.
pub(super) fn kind(property: &str, each: PtxType) -> Option<Test> {
    macro_rules! of {
        ($variant:ident, $lanes:ty, $type:ty) => {
            match property {
                "finite" => lanes_where!($variant, $lanes, $type, |a, _b| a.is_finite()),
                "infinite" => lanes_where!($variant, $lanes, $type, |a, _b| a.is_infinite()),
                "number" => lanes_where!($variant, $lanes, $type, |a, _b| !a.is_nan()),
                "notanumber" => lanes_where!($variant, $lanes, $type, |a, _b| a.is_nan()),
                "normal" => lanes_where!($variant, $lanes, $type, |a, _b| a.is_normal()),
                "subnormal" => lanes_where!($variant, $lanes, $type, |a, _b| a.is_subnormal()),
                _ => return None,
            }
        };
    }
    Some(match each {
        PtxType::F32 => of!(Narrow, Narrow, f32),
        PtxType::F64 => of!(Wide, Wide, f64),
        _ => return None,
    })
}
