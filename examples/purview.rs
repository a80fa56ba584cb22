//! `cargo purview`: the command line with the gallery's variants.

use purview::Variant;
use purview::cli::{self, Gallery};
use purview::prelude::*;
use std::process::ExitCode;

/// Each query sees itself and the `window - 1` keys before it.
#[attention]
pub fn sliding_window(q: Query, k: Key, v: Value, window: u32) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push(mask(dot(q[i], k[j]) * scale(), j <= i && i - j < window), v[j]);
        }
        o
    }
}

/// Each query sees itself and the keys before it.
#[attention]
pub fn causal(q: Query, k: Key, v: Value) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push(mask(dot(q[i], k[j]) * scale(), j <= i), v[j]);
        }
        o
    }
}

const VARIANTS: &[Variant] = &[
    Variant { name: "sliding_window", make: |arguments| Ok(sliding_window(arguments.u32("window", 256)?).into()) },
    Variant { name: "causal", make: |_| Ok(causal().into()) },
];

fn main() -> ExitCode {
    cli::main(&Gallery { variants: VARIANTS, golden: &[("sliding_window", VARIANTS[0]), ("causal", VARIANTS[1])] })
}
