use purview::prelude::*;

#[score]
fn softcap(s: Score, cap: f32) -> Score {
    tanh(s / cap) * cap
}

#[attention]
fn wrong(q: Query, k: Key, v: Value) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            let s = dot(q[i], k[j]) * scale();
            o.push(softcap(s, cap), v[j]);
        }
        o
    }
}

fn main() {}
