use purview::prelude::*;

#[mask]
fn same_document(i: Pos, j: Pos, #[sorted] doc: Tensor<i32, 2>) -> bool {
    doc[batch()][i] == doc[batch()][j]
}

#[score]
fn penalty(s: Score, j: Pos, #[sorted(unchecked)] segment: Tensor<i32, 1>) -> Score {
    s - segment[j] as f32
}

fn main() {}
