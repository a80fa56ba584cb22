//! A register of a warp is an array with one value per lane; an arithmetic instruction is a function from such arrays to one.

use half::{bf16, f16};

/// Lanes of a warp.
pub(super) const LANES: usize = 32;
/// A value of at most 32 bits in every lane.
pub(super) type Narrow = [u32; LANES];
/// A value of at most 64 bits in every lane.
pub(super) type Wide = [u64; LANES];

/// What an instruction computes, in all lanes at once. Sources it does not have are any register.
#[derive(Clone, Copy)]
pub(super) enum LaneFunction {
    /// All sources and the result have at most 32 bits.
    Narrow(fn([&Narrow; 4]) -> Narrow),
    /// Some have more. Sources are extended with zeros; a narrower destination takes the low bits.
    Wide(fn([&Wide; 4]) -> Wide),
}

/// What a comparison finds: the lanes where it holds.
#[derive(Clone, Copy)]
pub(super) enum Test {
    Narrow(fn([&Narrow; 2]) -> u32),
    Wide(fn([&Wide; 2]) -> u32),
}

/// A type that an instruction computes in, and how it lies in a register.
pub(super) trait LaneType: Copy {
    /// The value of the low bits.
    fn of(bits: u64) -> Self;
    /// The value's bits, zero above. A result that is not a number has PTX's canonical pattern.
    fn bits(self) -> u64;
}

macro_rules! integer_lane {
    ($($type:ty as $unsigned:ty),*) => {$(
        impl LaneType for $type {
            fn of(bits: u64) -> Self {
                bits as Self
            }
            fn bits(self) -> u64 {
                self as $unsigned as u64
            }
        }
    )*};
}
integer_lane!(u8 as u8, i8 as u8, u16 as u16, i16 as u16, u32 as u32, i32 as u32, u64 as u64, i64 as u64);

impl LaneType for f32 {
    fn of(bits: u64) -> Self {
        f32::from_bits(bits as u32)
    }
    fn bits(self) -> u64 {
        if self.is_nan() { 0x7fff_ffff } else { self.to_bits() as u64 }
    }
}

impl LaneType for f64 {
    fn of(bits: u64) -> Self {
        f64::from_bits(bits)
    }
    fn bits(self) -> u64 {
        if self.is_nan() { 0x7ff8_0000_0000_0000 } else { self.to_bits() }
    }
}

impl LaneType for f16 {
    fn of(bits: u64) -> Self {
        f16::from_bits(bits as u16)
    }
    fn bits(self) -> u64 {
        if self.is_nan() { 0x7fff } else { self.to_bits() as u64 }
    }
}

impl LaneType for bf16 {
    fn of(bits: u64) -> Self {
        bf16::from_bits(bits as u16)
    }
    fn bits(self) -> u64 {
        if self.is_nan() { 0x7fff } else { self.to_bits() as u64 }
    }
}

/// A closure over lanes' values as a [`LaneFunction`] of registers of at most 32 bits.
macro_rules! narrow {
    (|$($name:ident: $type:ty),+| $result:expr) => {
        $crate::ptx::lanes::LaneFunction::Narrow(|sources: [&$crate::ptx::lanes::Narrow; 4]| {
            let mut result = [0u32; $crate::ptx::lanes::LANES];
            for lane in 0..$crate::ptx::lanes::LANES {
                let [a, b, c, d] = [sources[0][lane], sources[1][lane], sources[2][lane], sources[3][lane]];
                $crate::ptx::lanes::bind_lanes!([a, b, c, d] $($name: $type),+);
                result[lane] = $crate::ptx::lanes::LaneType::bits($result) as u32;
            }
            result
        })
    };
}

/// The same with registers of up to 64 bits.
macro_rules! wide {
    (|$($name:ident: $type:ty),+| $result:expr) => {
        $crate::ptx::lanes::LaneFunction::Wide(|sources: [&$crate::ptx::lanes::Wide; 4]| {
            let mut result = [0u64; $crate::ptx::lanes::LANES];
            for lane in 0..$crate::ptx::lanes::LANES {
                let [a, b, c, d] = [sources[0][lane], sources[1][lane], sources[2][lane], sources[3][lane]];
                $crate::ptx::lanes::bind_lanes!([a, b, c, d] $($name: $type),+);
                result[lane] = $crate::ptx::lanes::LaneType::bits($result);
            }
            result
        })
    };
}

/// Gives the sources that a closure names their types.
macro_rules! bind_lanes {
    ([$a:ident, $b:ident, $c:ident, $d:ident] $n1:ident: $t1:ty) => {
        let $n1 = <$t1 as $crate::ptx::lanes::LaneType>::of($a as u64);
        let _ = ($b, $c, $d);
    };
    ([$a:ident, $b:ident, $c:ident, $d:ident] $n1:ident: $t1:ty, $n2:ident: $t2:ty) => {
        let $n1 = <$t1 as $crate::ptx::lanes::LaneType>::of($a as u64);
        let $n2 = <$t2 as $crate::ptx::lanes::LaneType>::of($b as u64);
        let _ = ($c, $d);
    };
    ([$a:ident, $b:ident, $c:ident, $d:ident] $n1:ident: $t1:ty, $n2:ident: $t2:ty, $n3:ident: $t3:ty) => {
        let $n1 = <$t1 as $crate::ptx::lanes::LaneType>::of($a as u64);
        let $n2 = <$t2 as $crate::ptx::lanes::LaneType>::of($b as u64);
        let $n3 = <$t3 as $crate::ptx::lanes::LaneType>::of($c as u64);
        let _ = $d;
    };
    ([$a:ident, $b:ident, $c:ident, $d:ident] $n1:ident: $t1:ty, $n2:ident: $t2:ty, $n3:ident: $t3:ty, $n4:ident: $t4:ty) => {
        let $n1 = <$t1 as $crate::ptx::lanes::LaneType>::of($a as u64);
        let $n2 = <$t2 as $crate::ptx::lanes::LaneType>::of($b as u64);
        let $n3 = <$t3 as $crate::ptx::lanes::LaneType>::of($c as u64);
        let $n4 = <$t4 as $crate::ptx::lanes::LaneType>::of($d as u64);
    };
}

pub(super) use {bind_lanes, narrow, wide};
