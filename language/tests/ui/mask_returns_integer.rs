use purview::prelude::*;

#[mask]
fn wrong(i: Pos, j: Pos) -> bool {
    i - j
}

#[mask]
fn also_wrong(i: Pos, j: Pos) -> i32 {
    i - j
}

#[score]
fn softcap(s: Score, cap: u32) -> Score {
    tanh(s / cap)
}

#[score]
fn near(s: Score, i: Pos, j: Pos) -> Score {
    s > 0.0 && j <= i
}

fn main() {}
