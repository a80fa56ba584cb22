//! A warning, which a crate may deny and a function allow.
#![deny(warnings, missing_docs)]

use purview::prelude::*;

/// The second `j` is meant to be `i`.
#[mask]
pub fn causal(_i: Pos, j: Pos) -> bool {
    j <= j
}

/// Nothing is hidden.
#[attention]
pub fn full(q: Query, k: Key, v: Value) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push(mask(dot(q[i], k[j]), true), v[j]);
        }
        o
    }
}

/// Nothing is hidden, and that is meant.
#[attention]
#[allow(deprecated)]
pub fn all_visible(q: Query, k: Key, v: Value) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push(mask(dot(q[i], k[j]), true), v[j]);
        }
        o
    }
}

fn main() {
    let _ = (causal, full, all_visible);
}
