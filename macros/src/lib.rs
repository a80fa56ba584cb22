//! The macros of Purview.
//!
//! `purview-language` reads and checks a function, and `expand` writes calls of `purview::lang` for it. If there is a mistake,
//! the errors and a stub of the function are the expansion. If there is none, `warn` adds the warnings.

mod expand;
#[cfg(test)]
mod tests;
mod warn;

use proc_macro::TokenStream;
use purview_language::{Diagnostic, Kind, check};

/// Makes a function that gives a `purview::Attention`, or a `purview::GeneralAttention` where its tensors are not one `Query` and a `Key`
/// and a `Value` for each loop.
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
/// One or more `Query`, `Key` and `Value`, where what one loop over keys reads has one length; scalars `u32`, `i32`, `f32`, `bool`,
/// which `#[comptime]` makes a part of the kernel; captured tensors `Tensor<T, R>` of `f32` (given in f32, f16 or bf16), `i32`, `bool` or
/// `u8` (any value but zero is true), with 1 to 4 dimensions.
///
/// `#[sorted]` on a captured `Tensor<i32, R>`, such as `#[sorted] doc: Tensor<i32, 2>`, says that its elements never decrease
/// along the last dimension, so that keys are found by their element without a look at every key. It is checked on the device
/// before a launch. `#[sorted(unchecked)]` leaves out the check, and the caller answers for it: where elements do decrease,
/// visible keys may be skipped.
///
/// # Body
/// One loop over the queries' tiles. In it: accumulators (`Softmax::new()`, `Softmax::with_sink(logit)`, `Sum::new()`,
/// `Mean::new()`), one or more loops over keys' tiles, and as the last line an expression of the accumulators, in which a tile of queries
/// such as `gate[i]` stands for its elements: `o`, `a - lambda[head()] * b`, `o * sigmoid(gate[i])`. A loop over keys pushes scores, made
/// of any number of products, with tiles of values: `o.push(s, v[j])`; with the first elements of keys, `o.push(s, k[j][..512])`; and with
/// what the weight is multiplied by in the output, but not in the sum of weights, `o.push_weighted(s, w, v[j])`. There may be a `let`
/// anywhere. A function that returns `(Output, Output)` ends with a tuple of as many expressions, each of a head dim of its own:
/// `(a, a - b)`.
///
/// # Values
/// Integers are signed, `/` is floor division and `%` its remainder. The variables of the loops are positions; `q[i]`,
/// `k[j]`, `v[j]` are tiles. A captured tensor takes an index in brackets for each dimension: `bias[head()][i - j]`.
/// There are `+ - * / %`, comparisons, `&& || !`, `if … else …`, `as f32`, `as i32` (towards zero), and these functions: `dot`,
/// `mask`, `scale`, `batch`, `head`, `kv_head`, `q_len`, `kv_len` (of the loop's keys), `head_dim` (of the first `Query`), `min`, `max`,
/// `clamp`, `abs`, `exp`, `exp2`, `log` (the natural one), `log2`, `sqrt`, `tanh`, `sigmoid`, `relu`, `sin`, `cos`, `floor`, `ceil`,
/// `round` (halves away from zero), `ilog2` (of an integer; -1 where it is not positive), `pow`; those of numbers are methods too. In a loop
/// over keys `random(seed)` gives each pair of positions a number of its own in [0, 1), the same on every device. What is
/// computed from a masked score is masked: `tanh(mask(s, m))` hides what `mask(s, m)` does. Other functions are ones with
/// [`macro@mask`], [`macro@score`] or [`macro@index`]. A name in capitals
/// that is no parameter is a constant of Rust, of an integer type, `f32` or `bool`: `i - j < WINDOW`.
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

/// Makes a function that computes an integer, such as an index of a captured tensor, to be called in an attention.
///
/// ```text
/// /// Distances to 8 have a bucket each, and beyond that powers of two.
/// #[index]
/// pub fn bucket(distance: Pos) -> i32 {
///     let near = min(abs(distance), 8);
///     if near < 8 { near } else { min(5 + ilog2(abs(distance)), 15) }
/// }
/// ```
///
/// As [`macro@mask`], but for the value, which is an `i32`. It is called where an integer is: `bias[head()][bucket(i - j)]`, in predicates,
/// and in other such functions.
#[proc_macro_attribute]
pub fn index(arguments: TokenStream, item: TokenStream) -> TokenStream {
    compile(Kind::Index, arguments, item)
}

fn compile(kind: Kind, arguments: TokenStream, item: TokenStream) -> TokenStream {
    expansion(kind, arguments.into(), item.into()).into()
}

fn expansion(
    kind: Kind,
    arguments: proc_macro2::TokenStream,
    item: proc_macro2::TokenStream,
) -> proc_macro2::TokenStream {
    match check(kind, arguments, item) {
        Ok(function) => expand::function(&function),
        Err(rejected) => {
            let mut tokens: proc_macro2::TokenStream = rejected.errors.iter().map(compile_error).collect();
            tokens.extend(rejected.signature.as_ref().map(expand::stub));
            tokens
        }
    }
}

/// Tokens that make rustc report `error`.
fn compile_error(error: &Diagnostic) -> proc_macro2::TokenStream {
    syn::Error::new_spanned(error.source, error).to_compile_error()
}
