use purview::prelude::*;

#[mask]
fn wrong(i: Pos, j: Pos) -> bool {
    (j <= i, i < j)
}

fn main() {}
