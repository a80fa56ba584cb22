//! `#[mask]` and `#[score]` functions of other modules, which take scalars, scores and captured tensors.
#![deny(warnings, missing_docs)]

use purview::attention;

/// Pieces.
pub mod pieces {
    use purview::{mask, score};

    /// A query sees no later key.
    #[mask]
    pub fn causal(i: Pos, j: Pos) -> bool {
        j <= i
    }

    /// Both are in one document.
    #[mask]
    pub fn same_document(document: Tensor<i32, 2>, i: Pos, j: Pos) -> bool {
        document[batch()][i] == document[batch()][j]
    }

    /// Both of the above.
    #[mask]
    pub fn within(document: Tensor<i32, 2>, i: Pos, j: Pos, on: bool) -> bool {
        let same = same_document(document, i, j);
        self::causal(i, j) && (same || !on)
    }

    /// Scores go no further than `cap`.
    #[score]
    pub fn softcap(s: Score, cap: f32) -> Score {
        tanh(s / cap) * cap
    }

    /// A bias.
    #[score]
    pub fn alibi(s: Score, slope: f32, i: Pos, j: Pos) -> f32 {
        if j <= i { s - slope * (i - j) as f32 } else { s }
    }
}

/// An attention made of pieces.
#[attention]
pub fn composed(
    q: Query,
    k: Key,
    v: Value,
    document: Tensor<i32, 2>,
    slope: Tensor<f32, 1>,
    cap: f32,
    window: i32,
) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            let s = pieces::softcap(dot(q[i], k[j]) * scale(), cap);
            let s: f32 = pieces::alibi(s, slope[head()], i, j);
            let visible = pieces::within(document, i, j, true) || !pieces::causal(i, j + window);
            o.push(mask(s, visible), v[j]);
        }
        o
    }
}

pub fn main() {
    let _: fn(&purview::Tensor, &purview::Tensor, f32, i32) -> purview::Attention<1> = composed;
}
