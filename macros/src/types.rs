//! The types of values.

use std::fmt;

/// The type of an expression, as far as the macro knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// A position, an `i32`, a `u32`.
    Int,
    /// A score, an `f32`.
    Float,
    Bool,
    /// What a `#[mask]` or `#[score]` function gives, which only rustc knows. It agrees with every type.
    Unknown,
    /// Of an expression that was reported. It agrees with every type, so that one mistake gives one error.
    Wrong,
}

impl Type {
    /// Whether the macro knows the type.
    pub fn is_known(self) -> bool {
        !matches!(self, Type::Unknown | Type::Wrong)
    }

    /// Its type in `purview::lang`; none where the macro does not know it.
    pub fn lang(self) -> Option<&'static str> {
        match self {
            Type::Int => Some("Int"),
            Type::Float => Some("Float"),
            Type::Bool => Some("Bool"),
            Type::Unknown | Type::Wrong => None,
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Type::Int => "integer",
            Type::Float => "float",
            Type::Bool => "bool",
            Type::Unknown | Type::Wrong => "value",
        })
    }
}
