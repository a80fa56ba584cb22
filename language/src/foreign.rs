//! Functions that other languages have and this one has not, and what to write instead.
//!
//! A function of the user's may have any name. One with a name of this table is called by a path, such as `self::sum(x)`,
//! since a bare `sum(x)` is nearly always meant for what the user knows from PyTorch, Triton or Rust.

use crate::ast::Expression;
use crate::names::{BUILTINS, place};

/// What to write for `name(arguments)`, if `name` is a function of another language. `is_predicate` tells which arguments are bools.
pub fn help(name: &str, arguments: &[Expression], is_predicate: impl Fn(&Expression) -> bool) -> Option<String> {
    let text = |place: usize| arguments.get(place).map_or("x".to_string(), |argument| argument.inner().to_string());
    let operand = |place: usize| arguments.get(place).map_or("x".to_string(), Expression::operand);
    let factor = |place: usize| match arguments.get(place) {
        Some(argument) => argument.operand(),
        None => ["a", "b"][place.min(1)].to_string(),
    };
    let cast = |ty: &str| format!("write `{} as {ty}`", operand(0));
    let help = match name {
        "softmax" | "log_softmax" | "_softmax" => format!(
            "the accumulator is the softmax: write `let mut o = Softmax::new();`, and push the score, `o.push({}, v[j]);`",
            arguments.first().map_or("s".to_string(), |argument| argument.inner().to_string())
        ),
        "sum" | "mean" | "logsumexp" => format!(
            "only an accumulator adds up over keys: `{}::new()`, which is pushed to",
            match name {
                "sum" => "Sum",
                "mean" => "Mean",
                _ => "Softmax",
            }
        ),
        "matmul" | "mm" | "bmm" | "einsum" => "a product of queries and keys is `dot(q[i], k[j])`".to_string(),
        "where" | "select" | "where_" | "ifelse" | "if_else" if arguments.len() == 3 => {
            let [condition, then, otherwise] = match arguments.iter().position(is_predicate) {
                // WGSL has the condition last, after the value for false and the one for true.
                Some(2) => [2, 1, 0],
                // PyTorch's method: `x.where(condition, y)`.
                Some(1) => [1, 0, 2],
                _ => [0, 1, 2],
            };
            let visible = |when: bool| match when {
                true => arguments[condition].inner().to_string(),
                false => arguments[condition].negated().to_string(),
            };
            match (arguments[then].is_infinite(), arguments[otherwise].is_infinite()) {
                (false, true) => format!("to hide keys, write `mask({}, {})`", text(then), visible(true)),
                (true, false) => format!("to hide keys, write `mask({}, {})`", text(otherwise), visible(false)),
                _ => format!("write `if {} {{ {} }} else {{ {} }}`", text(condition), text(then), text(otherwise)),
            }
        }
        "masked_fill" if arguments.len() >= 2 => format!("write `mask({}, {})`", text(0), arguments[1].negated()),
        "causal_mask" | "tril" => "write `j <= i`".to_string(),
        "triu" => "write `j >= i`".to_string(),
        "and" | "logical_and" | "and_masks" | "bitwise_and" => format!("write `{} && {}`", factor(0), factor(1)),
        "or" | "logical_or" | "or_masks" | "bitwise_or" => format!("write `{} || {}`", factor(0), factor(1)),
        "not" | "logical_not" | "bitwise_not" => format!("write `!{}`", factor(0)),
        "xor" | "logical_xor" => format!("of bools, write `{} != {}`", factor(0), factor(1)),
        "float" | "to_float" | "f32" | "to_f32" => cast("f32"),
        "int" | "to_int" | "trunc" | "i32" | "to_i32" => cast("i32"),
        "dropout" | "dropout_p" => {
            "drop weights where they are pushed: `let w = if random(seed) < p { 0.0 } else { 1.0 / (1.0 - p) };` and \
                                    `o.push_weighted(s, w, v[j]);`"
                .to_string()
        }
        "bit_length" => format!("write `ilog2({}) + 1`", text(0)),
        "leading_zeros" | "clz" => format!("write `31 - ilog2({})`", text(0)),
        "floor_div" | "floordiv" | "floor_divide" | "div_floor" | "div_euclid" => {
            format!("write `{} / {}`, which rounds down", factor(0), factor(1))
        }
        "cdiv" | "ceil_div" | "div_ceil" => format!("write `({0} + {1} - 1) / {1}`", factor(0), factor(1)),
        "mod" | "fmod" | "remainder" | "modulo" | "rem" | "rem_euclid" => {
            format!("write `{} % {}`, the remainder of floor division", factor(0), factor(1))
        }
        "abs_diff" => format!("write `abs({} - {})`", factor(0), factor(1)),
        "clip" if arguments.len() == 3 => format!("write `clamp({}, {}, {})`", text(0), text(1), text(2)),
        "maximum" | "fmax" if arguments.len() == 2 => format!("write `max({}, {})`", text(0), text(1)),
        "minimum" | "fmin" if arguments.len() == 2 => format!("write `min({}, {})`", text(0), text(1)),
        "ln" => format!("write `log({})`", text(0)),
        "log10" => format!("write `log({}) / log(10.0)`", text(0)),
        "rsqrt" => format!("write `1.0 / sqrt({})`", text(0)),
        "square" => format!("write `{0} * {0}`", operand(0)),
        "cube" => format!("write `{0} * {0} * {0}`", operand(0)),
        "recip" | "reciprocal" => format!("write `1.0 / {}`", operand(0)),
        "expm1" | "exp_m1" => format!("write `exp({}) - 1.0`", text(0)),
        "log1p" | "ln_1p" => format!("write `log(1.0 + {})`", operand(0)),
        "tan" => format!("write `sin({0}) / cos({0})`", text(0)),
        "sinh" | "cosh" => "write it by `exp`".to_string(),
        "sign" | "signum" => format!("write `if {0} > 0.0 {{ 1.0 }} else {{ -1.0 }}`", operand(0)),
        "len" | "size" | "shape" => {
            "lengths are `q_len()` and `kv_len()`, and `head_dim()` is how many elements a query has".to_string()
        }
        "num_heads" | "n_heads" | "heads" | "num_kv_heads" | "batch_size" | "batches" => format!(
            "numbers of heads and of batches are not known to the language: take it as a parameter, `{name}: u32`; {PLACES}"
        ),
        "seq_len" | "seqlen" | "k_len" | "query_len" | "key_len" | "num_queries" | "num_keys" | "dim" => {
            format!("write `{}`", place(name)?)
        }
        "program_id" | "thread_idx" | "block_idx" | "arange" | "position" | "pos" | "query_position"
        | "key_position" | "q_idx" | "kv_idx" => {
            format!("the variables of the loops, `i` and `j`, are the positions; {PLACES}")
        }
        "load" | "store" => {
            "a tensor is read by its indices, `bias[head()][i - j]`, and the output is what is pushed".into()
        }
        "tiles" => "write `for j in k.tiles() { … }`".to_string(),
        "push" => "write `o.push(score, v[j]);`".to_string(),
        "rand" | "uniform" | "bernoulli" | "randint" | "philox" => {
            "a random float in [0, 1) is `random(seed)`, with a scalar `seed: u32`".to_string()
        }
        "erf" | "erfc" | "asin" | "acos" | "atan" | "atan2" | "hypot" | "cbrt" | "isnan" | "is_nan" | "isinf"
        | "cumsum" | "argmax" | "topk" | "sort" | "gather" | "fma" | "mul_add" => functions(),
        _ => return None,
    };
    Some(help)
}

const PLACES: &str = "the places are `batch()`, `head()` and `kv_head()`";

/// Every function of the language.
pub fn functions() -> String {
    let names: Vec<String> = BUILTINS.iter().map(|builtin| format!("`{}`", builtin.name)).collect();
    format!("the functions are {}", names.join(", "))
}
