use purview::prelude::*;

#[mask]
fn causal(i: Pos, j: Pos) -> bool {
    j <= i
}

#[attention]
fn wrong(q: Query, k: Key, v: Value) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            let s = dot(q[i], k[j]) * scale();
            o.push(mask(s, causal(i, s * 2.0)), v[j]);
        }
        o
    }
}

fn main() {}
