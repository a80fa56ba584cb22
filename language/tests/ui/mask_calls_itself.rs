use purview::prelude::*;

#[mask]
fn wrong(i: Pos, j: Pos) -> bool {
    if i == j { true } else { wrong(i, j + 1) }
}

fn main() {}
