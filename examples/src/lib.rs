//! The gallery: one attention variant a file of `examples/`. Each file is a program of its own (`cargo run --example causal`) and a
//! module of this crate, through which the tests and the command line reach it.

// A file of the gallery finds the others by the same name as a program and as a module.
extern crate self as purview_examples;

pub mod demo;
#[cfg(feature = "minilm")]
#[path = "../examples/minilm.rs"]
pub mod minilm;

use purview::{AnyAttention, Arguments, Error, Variant};

/// What a file's [`variant!`] says.
#[derive(Clone, Copy)]
pub struct Entry {
    /// Makes the variant. Scalars and captured tensors that are not given have values for trying it.
    pub make: fn(&Arguments) -> Result<AnyAttention, Error>,
    /// The cases of `tests/golden` that it must give the results of.
    pub golden: &'static [&'static str],
}

/// A file's `main`.
pub type Main = fn() -> Result<(), Box<dyn std::error::Error>>;

/// Declares a file's variant for the gallery: the golden cases that it must give the results of, if there are any, and how it is made from
/// [`Arguments`].
#[macro_export]
macro_rules! variant {
    (golden = $golden:expr, |$arguments:pat_param| $attention:expr $(,)?) => {
        /// This file's entry of the gallery.
        pub const ENTRY: $crate::Entry = $crate::Entry { make: |$arguments| Ok($attention.into()), golden: &$golden };
        // As a program, the file reads it nowhere else.
        const _: $crate::Entry = ENTRY;
    };
    (|$arguments:pat_param| $attention:expr $(,)?) => {
        $crate::variant!(golden = [], |$arguments| $attention);
    };
}

/// Makes a module of each file, and the lists of all of them.
macro_rules! gallery {
    (variants { $($variant:ident)* } programs { $($program:ident)* }) => {
        #[path = "../examples"]
        mod files {
            $(pub mod $variant;)*
            $(pub mod $program;)*
        }
        $(pub use files::$variant;)*
        $(pub use files::$program;)*

        /// Every variant, by name.
        pub const GALLERY: &[Variant] = &[$(Variant { name: stringify!($variant), make: $variant::ENTRY.make }),*];

        /// The `main` of each file that needs nothing but this repository.
        pub const PROGRAMS: &[(&str, Main)] =
            &[$((stringify!($variant), $variant::main),)* $((stringify!($program), $program::main)),*];

        /// The golden cases of each variant.
        const GOLDEN: &[&[&str]] = &[$($variant::ENTRY.golden),*];
    };
}

gallery! {
    variants {
        additive_bias
        alibi_causal
        attention_sink
        block_causal
        block_sparse
        causal
        chunked
        differential
        dilated_window
        document_causal
        document_mask
        dropout
        dropped_weights
        forgetting
        full
        gated
        gemma2
        global_and_local
        latent
        latent_absorbed
        linear_attention
        local_window
        neighborhood_2d
        padded
        point_distance
        prefix_lm
        recurrent_memory
        relative_bias
        retention
        sigmoid_attention
        sliding_window
        soft_mask
        strided
        swin
        t5_buckets
        tanh_softcap
        taylor_attention
        tree
    }
    programs {
        rope
    }
}

/// The name of each case of `tests/golden` with its variant.
///
/// A case's file holds `q`, `k`, `v`, `out` and `lse`, gradients (`w`, `dq`, `dk`, `dv`, `d_*`), and captured tensors, which have
/// the names of the variant's. `scale` and `q_offset` of its `params` say how it is run; the others are the variant's scalars.
pub fn golden() -> Vec<(&'static str, Variant)> {
    let cases = GALLERY.iter().zip(GOLDEN).flat_map(|(variant, cases)| cases.iter().map(|case| (*case, *variant)));
    cases.collect()
}
