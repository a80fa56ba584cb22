//! The types of elements.

use cubecl::ir::{ElemType, FloatKind, IntKind, UIntKind};
use purview_compiler::ir::Element;
use std::fmt;

/// The most elements a tensor's memory may have: offsets are signed 32-bit numbers in kernels.
pub const MAX_ELEMENTS: usize = i32::MAX as usize;

/// The type of a tensor's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DType {
    /// 32-bit float.
    F32,
    /// 16-bit IEEE float.
    F16,
    /// bfloat16.
    Bf16,
    /// Signed 32-bit integer.
    I32,
    /// Truth values in bytes.
    U8,
    /// Truth values in 32 bits, for devices without bytes.
    U32,
}

impl DType {
    /// The size of an element in bytes.
    pub fn size(self) -> usize {
        match self {
            DType::F32 | DType::I32 | DType::U32 => 4,
            DType::F16 | DType::Bf16 => 2,
            DType::U8 => 1,
        }
    }

    /// As the element of queries, keys and values, if it can be one.
    pub fn element(self) -> Option<Element> {
        match self {
            DType::F32 => Some(Element::F32),
            DType::F16 => Some(Element::F16),
            DType::Bf16 => Some(Element::Bf16),
            DType::I32 | DType::U8 | DType::U32 => None,
        }
    }

    pub(crate) fn of(elem: ElemType) -> Option<DType> {
        match elem {
            ElemType::Float(FloatKind::F32) => Some(DType::F32),
            ElemType::Float(FloatKind::F16) => Some(DType::F16),
            ElemType::Float(FloatKind::BF16) => Some(DType::Bf16),
            ElemType::Int(IntKind::I32) => Some(DType::I32),
            ElemType::UInt(UIntKind::U8) => Some(DType::U8),
            ElemType::UInt(UIntKind::U32) => Some(DType::U32),
            _ => None,
        }
    }

    pub(crate) fn elem(self) -> ElemType {
        match self {
            DType::F32 => ElemType::Float(FloatKind::F32),
            DType::F16 => ElemType::Float(FloatKind::F16),
            DType::Bf16 => ElemType::Float(FloatKind::BF16),
            DType::I32 => ElemType::Int(IntKind::I32),
            DType::U8 => ElemType::UInt(UIntKind::U8),
            DType::U32 => ElemType::UInt(UIntKind::U32),
        }
    }
}

impl From<Element> for DType {
    fn from(element: Element) -> DType {
        match element {
            Element::F32 => DType::F32,
            Element::F16 => DType::F16,
            Element::Bf16 => DType::Bf16,
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DType::F32 => "f32",
            DType::F16 => "f16",
            DType::Bf16 => "bf16",
            DType::I32 => "i32",
            DType::U8 => "u8",
            DType::U32 => "u32",
        })
    }
}
