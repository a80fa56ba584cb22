//! The names of the language, and which of them a misspelt one is near to.

use crate::types::Type;

/// A function of the language.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Builtin {
    pub name: &'static str,
    pub operands: Operands,
    /// A call of it, for the `help:` of a message.
    pub usage: &'static str,
}

/// What a function takes, and with it what it gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operands {
    /// Nothing; it gives a value of this type.
    None(Type),
    /// Floats; it gives a float.
    Floats(usize),
    /// Numbers of one type; it gives one.
    Numbers(usize),
    /// A score and a bool; it gives a score.
    Mask,
    /// A tile of queries and one of keys; it gives a score.
    Tiles,
}

impl Operands {
    /// How many operands there are.
    pub fn count(self) -> usize {
        match self {
            Operands::None(_) => 0,
            Operands::Floats(count) | Operands::Numbers(count) => count,
            Operands::Mask | Operands::Tiles => 2,
        }
    }
}

const fn builtin(name: &'static str, operands: Operands, usage: &'static str) -> Builtin {
    Builtin { name, operands, usage }
}

/// Every function of the language. Each has the name of its function in `purview::lang`, but for `clamp`.
pub const BUILTINS: &[Builtin] = &[
    builtin("dot", Operands::Tiles, "dot(q[i], k[j])"),
    builtin("mask", Operands::Mask, "mask(score, visible)"),
    builtin("scale", Operands::None(Type::Float), "scale()"),
    builtin("batch", Operands::None(Type::Int), "batch()"),
    builtin("head", Operands::None(Type::Int), "head()"),
    builtin("kv_head", Operands::None(Type::Int), "kv_head()"),
    builtin("min", Operands::Numbers(2), "min(a, b)"),
    builtin("max", Operands::Numbers(2), "max(a, b)"),
    builtin("clamp", Operands::Numbers(3), "clamp(x, low, high)"),
    builtin("abs", Operands::Numbers(1), "abs(x)"),
    builtin("exp", Operands::Floats(1), "exp(x)"),
    builtin("exp2", Operands::Floats(1), "exp2(x)"),
    builtin("log", Operands::Floats(1), "log(x)"),
    builtin("log2", Operands::Floats(1), "log2(x)"),
    builtin("sqrt", Operands::Floats(1), "sqrt(x)"),
    builtin("tanh", Operands::Floats(1), "tanh(x)"),
    builtin("sigmoid", Operands::Floats(1), "sigmoid(x)"),
    builtin("relu", Operands::Floats(1), "relu(x)"),
    builtin("sin", Operands::Floats(1), "sin(x)"),
    builtin("cos", Operands::Floats(1), "cos(x)"),
    builtin("pow", Operands::Floats(2), "pow(x, y)"),
];

/// The accumulators.
pub const ACCUMULATORS: &[&str] = &["Softmax", "Sum", "Mean"];

/// What other languages, and Rust's `f32`, call a function of this one.
const SYNONYMS: &[(&str, &str)] =
    &[("ln", "log"), ("powf", "pow"), ("powi", "pow"), ("minimum", "min"), ("maximum", "max"), ("logistic", "sigmoid")];

/// The function of the language that is named `name`.
pub fn find(name: &str) -> Option<Builtin> {
    BUILTINS.iter().copied().find(|builtin| builtin.name == name)
}

/// The function of the language that `name` may be meant for.
pub fn nearest_builtin(name: &str) -> Option<Builtin> {
    let synonym = SYNONYMS.iter().find(|(other, _)| *other == name).map(|(_, name)| *name);
    synonym.or_else(|| nearest(name, BUILTINS.iter().map(|builtin| builtin.name))).and_then(find)
}

/// Whether a parameter or variable can't be named `name`.
pub fn is_reserved(name: &str) -> bool {
    find(name).is_some() || ACCUMULATORS.contains(&name)
}

/// The one of `known` that `name` is likely a misspelling of: at most a third of its letters differ.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let furthest = name.chars().count().max(3) / 3;
    let lower = name.to_lowercase();
    known
        .into_iter()
        .map(|other| (strsim::damerau_levenshtein(&lower, &other.to_lowercase()), other))
        .filter(|(distance, other)| *distance <= furthest && *other != name && *other != "_")
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, other)| other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names() {
        assert_eq!(nearest("windw", ["k", "window"]), Some("window"));
        assert_eq!(nearest("kl", ["k", "window"]), Some("k"));
        assert_eq!(nearest("softmax", ["Softmax"]), Some("Softmax"));
        assert_eq!(nearest("slope", ["window"]), None);
        assert_eq!(nearest_builtin("tahn").map(|builtin| builtin.name), Some("tanh"));
        assert_eq!(nearest_builtin("ln").map(|builtin| builtin.name), Some("log"));
        assert_eq!(nearest_builtin("causal"), None);
    }

    #[test]
    fn reserved_names() {
        assert!(is_reserved("scale") && is_reserved("Mean") && !is_reserved("window"));
    }
}
