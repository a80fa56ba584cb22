//! The types of values.

use std::fmt;

/// The type of an expression, as far as the text of a function shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueType {
    /// A position, an `i32`, a `u32`.
    Int,
    /// A score, an `f32`.
    Float,
    /// A predicate, a `bool`.
    Bool,
    /// What a `#[mask]`, `#[score]` or `#[index]` function gives, which only the function itself tells. It agrees with every type.
    Unknown,
    /// Of an expression that was reported. It agrees with every type, so that one mistake gives one error.
    Reported,
}

impl ValueType {
    /// Whether the type is known.
    pub fn is_known(self) -> bool {
        !matches!(self, ValueType::Unknown | ValueType::Reported)
    }
}

impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ValueType::Int => "integer",
            ValueType::Float => "float",
            ValueType::Bool => "bool",
            ValueType::Unknown | ValueType::Reported => "value",
        })
    }
}
