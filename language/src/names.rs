//! The names of the language, and which of them a misspelt one is near to.

use crate::types::ValueType;

/// A function of the language.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Builtin {
    pub name: &'static str,
    pub operands: BuiltinOperands,
    /// A call of it, for the `help:` of a message.
    pub usage: &'static str,
}

/// What a function takes, and with it what it gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BuiltinOperands {
    /// Nothing; it gives a value of this type.
    None(ValueType),
    /// Floats; it gives a float.
    Floats(usize),
    /// Integers; it gives an integer.
    Ints(usize),
    /// An integer; it gives a float that is random, and the pair's own.
    Seed,
    /// Numbers of one type; it gives one.
    Numbers(usize),
    /// A score and a bool; it gives a score.
    Mask,
    /// A tile of queries and one of keys; it gives a score.
    Tiles,
}

impl BuiltinOperands {
    /// How many operands there are.
    pub fn count(self) -> usize {
        match self {
            BuiltinOperands::None(_) => 0,
            BuiltinOperands::Floats(count) | BuiltinOperands::Ints(count) | BuiltinOperands::Numbers(count) => count,
            BuiltinOperands::Seed => 1,
            BuiltinOperands::Mask | BuiltinOperands::Tiles => 2,
        }
    }

    /// Whether the function can be called as a method, `a.f(b)`: it is one of numbers.
    pub fn is_method(self) -> bool {
        matches!(self, BuiltinOperands::Floats(_) | BuiltinOperands::Ints(_) | BuiltinOperands::Numbers(_))
    }
}

const fn builtin(name: &'static str, operands: BuiltinOperands, usage: &'static str) -> Builtin {
    Builtin { name, operands, usage }
}

/// Every function of the language. Each has the name of its function in `purview::lang`, but for `clamp`.
pub const BUILTINS: &[Builtin] = &[
    builtin("dot", BuiltinOperands::Tiles, "dot(q[i], k[j])"),
    builtin("mask", BuiltinOperands::Mask, "mask(score, visible)"),
    builtin("scale", BuiltinOperands::None(ValueType::Float), "scale()"),
    builtin("batch", BuiltinOperands::None(ValueType::Int), "batch()"),
    builtin("head", BuiltinOperands::None(ValueType::Int), "head()"),
    builtin("kv_head", BuiltinOperands::None(ValueType::Int), "kv_head()"),
    builtin("q_len", BuiltinOperands::None(ValueType::Int), "q_len()"),
    builtin("kv_len", BuiltinOperands::None(ValueType::Int), "kv_len()"),
    builtin("head_dim", BuiltinOperands::None(ValueType::Int), "head_dim()"),
    builtin("min", BuiltinOperands::Numbers(2), "min(a, b)"),
    builtin("max", BuiltinOperands::Numbers(2), "max(a, b)"),
    builtin("clamp", BuiltinOperands::Numbers(3), "clamp(x, low, high)"),
    builtin("abs", BuiltinOperands::Numbers(1), "abs(x)"),
    builtin("exp", BuiltinOperands::Floats(1), "exp(x)"),
    builtin("exp2", BuiltinOperands::Floats(1), "exp2(x)"),
    builtin("log", BuiltinOperands::Floats(1), "log(x)"),
    builtin("log2", BuiltinOperands::Floats(1), "log2(x)"),
    builtin("sqrt", BuiltinOperands::Floats(1), "sqrt(x)"),
    builtin("tanh", BuiltinOperands::Floats(1), "tanh(x)"),
    builtin("sigmoid", BuiltinOperands::Floats(1), "sigmoid(x)"),
    builtin("relu", BuiltinOperands::Floats(1), "relu(x)"),
    builtin("sin", BuiltinOperands::Floats(1), "sin(x)"),
    builtin("cos", BuiltinOperands::Floats(1), "cos(x)"),
    builtin("floor", BuiltinOperands::Floats(1), "floor(x)"),
    builtin("ceil", BuiltinOperands::Floats(1), "ceil(x)"),
    builtin("round", BuiltinOperands::Floats(1), "round(x)"),
    builtin("ilog2", BuiltinOperands::Ints(1), "ilog2(n)"),
    builtin("random", BuiltinOperands::Seed, "random(seed)"),
    builtin("pow", BuiltinOperands::Floats(2), "pow(x, y)"),
];

/// The accumulators.
pub const ACCUMULATORS: &[&str] = &["Softmax", "Sum", "Mean"];

/// What other languages, and Rust's `f32`, call a function of this one.
const SYNONYMS: &[(&str, &str)] = &[
    ("ln", "log"),
    ("powf", "pow"),
    ("powi", "pow"),
    ("minimum", "min"),
    ("maximum", "max"),
    ("logistic", "sigmoid"),
    ("ilog", "ilog2"),
];

/// The function of the language that is named `name`.
pub fn find(name: &str) -> Option<Builtin> {
    BUILTINS.iter().copied().find(|builtin| builtin.name == name)
}

/// The function of the language that `name` may be meant for.
pub fn nearest_builtin(name: &str) -> Option<Builtin> {
    let synonym = SYNONYMS.iter().find(|(other, _)| *other == name).map(|(_, name)| *name);
    synonym.or_else(|| nearest(name, BUILTINS.iter().map(|builtin| builtin.name))).and_then(find)
}

/// What programs of other frameworks, FlexAttention and Triton among them, call a place of this language.
const PLACES: &[(&str, &str)] = &[
    ("b", "batch()"),
    ("b_idx", "batch()"),
    ("batch_idx", "batch()"),
    ("batch_index", "batch()"),
    ("h", "head()"),
    ("h_idx", "head()"),
    ("head_idx", "head()"),
    ("head_index", "head()"),
    ("kv_h", "kv_head()"),
    ("kv_head_idx", "kv_head()"),
    ("query_len", "q_len()"),
    ("seq_len_q", "q_len()"),
    ("seqlen_q", "q_len()"),
    ("num_queries", "q_len()"),
    ("seq_len", "kv_len()"),
    ("seqlen", "kv_len()"),
    ("key_len", "kv_len()"),
    ("k_len", "kv_len()"),
    ("seq_len_k", "kv_len()"),
    ("seq_len_kv", "kv_len()"),
    ("seqlen_k", "kv_len()"),
    ("num_keys", "kv_len()"),
    ("dim", "head_dim()"),
    ("d_head", "head_dim()"),
    ("d_k", "head_dim()"),
    ("sm_scale", "scale()"),
    ("softmax_scale", "scale()"),
    ("qk_scale", "scale()"),
    ("scaling", "scale()"),
];

/// What programs of other frameworks call the positions of the query and of the key.
const POSITIONS: [&[&str]; 2] = [
    &["i", "q_idx", "q_index", "query_idx", "q_pos", "query_pos", "row", "offs_m"],
    &["j", "kv_idx", "k_idx", "kv_index", "key_idx", "k_pos", "key_pos", "col", "offs_n"],
];

/// The place of the language that `name` may be meant for, as it is called.
pub fn place(name: &str) -> Option<&'static str> {
    PLACES.iter().find(|(other, _)| *other == name).map(|(_, place)| *place)
}

/// Whose position `name` may be meant for: the query's, or the key's.
pub fn position(name: &str) -> Option<Position> {
    let [queries, keys] = POSITIONS;
    if queries.contains(&name) {
        return Some(Position::Query);
    }
    keys.contains(&name).then_some(Position::Key)
}

/// Whose position a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    Query,
    Key,
}

/// Whether `name` is written as constants of Rust are, and is not what other languages call infinity.
pub fn is_constant(name: &str) -> bool {
    let is_infinite = matches!(name, "INFINITY" | "NEG_INFINITY" | "NEG_INF");
    !is_infinite && name.chars().any(char::is_uppercase) && !name.chars().any(char::is_lowercase)
}

/// The name of a parameter that takes the constant `name` of Rust: a parameter can't have the constant's own.
pub fn parameter_name(name: &str) -> String {
    let lower = name.to_lowercase();
    if is_reserved(&lower) { format!("{lower}_value") } else { lower }
}

/// Whether a parameter or variable can't be named `name`. Lengths can: many a caller has one of padded keys, say, that it calls so, and
/// what is called, `kv_len()`, is no variable.
pub fn is_reserved(name: &str) -> bool {
    let is_length = matches!(name, "q_len" | "kv_len" | "head_dim");
    find(name).is_some() && !is_length || ACCUMULATORS.contains(&name)
}

/// The one of `known` that `name` is likely a misspelling of: at most a third of its letters differ, so that names of one or
/// two letters are like none but themselves.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = name.to_lowercase();
    let length = |name: &str| name.chars().count();
    known
        .into_iter()
        .map(|other| (strsim::damerau_levenshtein(&lower, &other.to_lowercase()), other))
        .filter(|(distance, other)| *distance <= length(name).min(length(other)) / 3 && *other != name)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, other)| other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names() {
        assert_eq!(nearest("windw", ["k", "window"]), Some("window"));
        assert_eq!(nearest("D", ["s", "d"]), Some("d"));
        assert_eq!(nearest("kl", ["k", "window"]), None);
        assert_eq!(nearest("W", ["j", "k"]), None);
        assert_eq!(nearest("softmax", ["Softmax"]), Some("Softmax"));
        assert_eq!(nearest("slope", ["window"]), None);
        assert_eq!(nearest_builtin("tahn").map(|builtin| builtin.name), Some("tanh"));
        assert_eq!(nearest_builtin("ln").map(|builtin| builtin.name), Some("log"));
        assert_eq!(nearest_builtin("causal"), None);
    }

    #[test]
    fn reserved_names() {
        assert!(is_reserved("scale") && is_reserved("Mean") && !is_reserved("window") && !is_reserved("kv_len"));
    }
}
