use purview::prelude::*;

#[mask]
fn wrong(i: Pos, j: Pos, k: Key) -> bool {
    let mut o = Softmax::new();
    for n in k.tiles() {
        o.push(dot(q[i], k[n]), v[n]);
    }
}

#[score]
fn product(i: Pos, j: Pos, #[comptime] cap: f32) -> Score {
    dot(i, j) * cap
}

#[mask]
fn empty(i: Pos) -> bool {}

fn main() {}
