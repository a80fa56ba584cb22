//! Which variant of the gallery each case of `tests/golden` is.
//!
//! A case's file holds `q`, `k`, `v`, `out` and `lse`, gradients (`w`, `dq`, `dk`, `dv`, `d_*`), and captured tensors, which have
//! the names of the variant's. `scale` and `q_offset` of its `params` say how it is run; the others are the variant's scalars.

use crate::GALLERY;
use purview::Variant;

/// A case of `tests/golden/manifest.json` or `minilm.json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Case {
    /// The case's name: of its entry, and of its file.
    pub name: &'static str,
    /// The name of its variant in [`GALLERY`].
    pub variant: &'static str,
}

const fn case(name: &'static str, variant: &'static str) -> Case {
    Case { name, variant }
}

/// The 28 cases of `manifest.json`, in its order, then the two of `minilm.json`.
pub const GOLDEN: &[Case] = &[
    case("full", "full"),
    case("causal", "causal"),
    case("sliding_window", "sliding_window"),
    case("local_window", "local_window"),
    case("prefix_lm", "prefix_lm"),
    case("chunked", "chunked"),
    case("dilated_window", "dilated_window"),
    case("global_and_local", "global_and_local"),
    case("document_causal", "document_causal"),
    case("document_unsorted", "document_mask"),
    case("alibi_causal", "alibi_causal"),
    case("tanh_softcap", "tanh_softcap"),
    case("relative_bias", "relative_bias"),
    case("additive_bias", "additive_bias"),
    case("soft_mask", "soft_mask"),
    case("attention_sink", "attention_sink"),
    case("temperature", "full"),
    case("empty_rows", "padded"),
    case("gqa_causal", "causal"),
    case("mqa_window", "sliding_window"),
    case("qk48_v32", "causal"),
    case("decode_3_of_37", "causal"),
    case("decode_1_of_333", "full"),
    case("cross_padded", "padded"),
    case("neighborhood_2d", "neighborhood_2d"),
    case("one_by_one", "full"),
    case("causal_d256", "causal"),
    case("large_logits", "causal"),
    case("minilm_layer0", "padded"),
    case("minilm_layer5", "padded"),
];

/// The name of each case of [`GOLDEN`] with its variant.
pub fn golden() -> Vec<(&'static str, Variant)> {
    let variant = |name: &str| GALLERY.iter().copied().find(|variant| variant.name == name);
    GOLDEN.iter().filter_map(|case| Some((case.name, variant(case.variant)?))).collect()
}
