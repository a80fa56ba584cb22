//! The macros of Purview.
//!
//! A function passes through these stages: `parse` reads it into the tree of `ast`, `check` resolves names and types
//! and gives the tree of `typed`, and `expand` writes calls of `purview::lang`. Every stage adds its errors to one
//! `error::Errors`; if there is any, the errors and a stub of the function are the expansion. If there is none, `notes` adds
//! warnings of what is right and likely not meant.

mod ast;
mod attributes;
mod check;
mod check_assignment;
mod check_bits;
mod check_if;
mod check_keys;
mod check_names;
mod check_tiles;
mod check_value;
mod constant;
mod error;
mod expand;
mod foreign;
mod indices;
mod names;
mod notes;
mod parameter;
mod parse;
mod parse_assignment;
mod parse_item;
mod parse_value;
mod scope;
mod signature;
#[cfg(test)]
mod tests;
mod typed;
mod types;
mod uses;

use ast::Kind;
use error::Errors;
use proc_macro::TokenStream;

/// Makes a function that gives a `purview::Attention`.
///
/// ```text
/// /// Each query sees itself and the `window - 1` keys before it.
/// #[attention]
/// pub fn sliding_window(q: Query, k: Key, v: Value, window: u32) -> Output {
///     for i in q.tiles() {
///         let mut o = Softmax::new();
///         for j in k.tiles() {
///             let s = dot(q[i], k[j]) * scale();
///             o.push(mask(s, j <= i && i - j < window), v[j]);
///         }
///         o
///     }
/// }
/// ```
///
/// The function above is called as `sliding_window(256)`: scalars are given by value, captured tensors by reference, and
/// queries, keys and values later, when the attention is run.
///
/// # Parameters
/// One `Query`; one or more `Key`, and as many `Value`; scalars `u32`, `i32`, `f32`, `bool`, which `#[comptime]` makes a part
/// of the kernel; captured tensors `Tensor<T, R>` of `f32`, `i32`, `bool` or `u8` (any value but zero is true), with 1 to 4
/// dimensions.
///
/// `#[sorted]` on a captured `Tensor<i32, R>`, such as `#[sorted] doc: Tensor<i32, 2>`, says that its elements never decrease
/// along the last dimension, so that keys are found by their element without a look at every key. It is checked on the device
/// before a launch. `#[sorted(unchecked)]` leaves out the check, and the caller answers for it: where elements do decrease,
/// visible keys may be skipped.
///
/// # Body
/// One loop over the queries' tiles. In it: an accumulator (`Softmax::new()`, `Softmax::with_sink(logit)`, `Sum::new()`,
/// `Mean::new()`), one or more loops over keys' tiles, and the accumulator as the last line. A loop over keys pushes once, a
/// score and the tile of values that goes with the keys. There may be a `let` anywhere.
///
/// # Values
/// Integers are signed, `/` is floor division and `%` its remainder. The variables of the loops are positions; `q[i]`,
/// `k[j]`, `v[j]` are tiles. A captured tensor takes an index in brackets for each dimension: `bias[head()][i - j]`.
/// There are `+ - * / %`, comparisons, `&& || !`, `if … else …`, `as f32`, `as i32`, and these functions: `dot`, `mask`,
/// `scale`, `batch`, `head`, `kv_head`, `min`, `max`, `clamp`, `abs`, `exp`, `exp2`, `log`, `log2`, `sqrt`, `tanh`,
/// `sigmoid`, `relu`, `sin`, `cos`, `pow`; those of numbers are methods too. Other functions are ones with
/// [`macro@mask`] or [`macro@score`].
///
/// # Warnings
/// A predicate, or a part of one, that is always true or always false whatever the positions, such as `j <= j`, is warned
/// of. The warning is the lint `deprecated`, as a macro has no other: `#[allow(deprecated)]` on the function silences it.
#[proc_macro_attribute]
pub fn attention(arguments: TokenStream, item: TokenStream) -> TokenStream {
    compile(Kind::Attention, arguments, item)
}

/// Makes a function that says which keys are visible, to be called in an attention.
///
/// ```text
/// /// A query sees the keys that are not after it.
/// #[mask]
/// pub fn causal(i: Pos, j: Pos) -> bool {
///     j <= i
/// }
/// ```
///
/// Parameters are `Pos`, `Score`, scalars and captured tensors. The body is a value of the language of
/// [`macro@attention`], with `let`s before it, and without loops, `dot` and `push`.
#[proc_macro_attribute]
pub fn mask(arguments: TokenStream, item: TokenStream) -> TokenStream {
    compile(Kind::Mask, arguments, item)
}

/// Makes a function that computes a score, to be called in an attention.
///
/// ```text
/// /// Scores go no further than `cap`.
/// #[score]
/// pub fn softcap(s: Score, cap: f32) -> Score {
///     tanh(s / cap) * cap
/// }
/// ```
///
/// As [`macro@mask`], but for the value, which is a `Score`.
#[proc_macro_attribute]
pub fn score(arguments: TokenStream, item: TokenStream) -> TokenStream {
    compile(Kind::Score, arguments, item)
}

fn compile(kind: Kind, arguments: TokenStream, item: TokenStream) -> TokenStream {
    expansion(kind, arguments.into(), item.into()).into()
}

fn expansion(
    kind: Kind,
    arguments: proc_macro2::TokenStream,
    item: proc_macro2::TokenStream,
) -> proc_macro2::TokenStream {
    let errors = Errors::new();
    let function = parse::function(kind, arguments, item, &errors);
    let body = function.as_ref().map(|function| check::function(function, &errors));
    let signature = function.as_ref().map(|function| &function.signature);
    match (errors.finish(), signature, body) {
        (Ok(()), Some(signature), Some(body)) => expand::function(signature, &body),
        (Ok(()), ..) => unreachable!("what is not a function was reported"),
        (Err(mut tokens), signature, _) => {
            tokens.extend(signature.map(expand::stub));
            tokens
        }
    }
}
