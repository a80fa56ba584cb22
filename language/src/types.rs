//! The types of values.

use std::fmt;

/// The type of an expression, as far as the text of a function shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// A position, an `i32`, a `u32`.
    Int,
    /// A score, an `f32`.
    Float,
    /// A predicate, a `bool`.
    Bool,
    /// What a `#[mask]` or `#[score]` function gives, which only the function itself tells. It agrees with every type.
    Unknown,
    /// Of an expression that was reported. It agrees with every type, so that one mistake gives one error.
    Reported,
}

impl Type {
    /// Whether the type is known.
    pub fn is_known(self) -> bool {
        !matches!(self, Type::Unknown | Type::Reported)
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Type::Int => "integer",
            Type::Float => "float",
            Type::Bool => "bool",
            Type::Unknown | Type::Reported => "value",
        })
    }
}
