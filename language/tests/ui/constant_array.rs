use purview::prelude::*;

const SLOPES: [f32; 4] = [0.5, 0.25, 0.125, 0.0625];

#[attention]
fn wrong(q: Query, k: Key, v: Value) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            let s = dot(q[i], k[j]) * scale() + SLOPES[head()] * (j - i) as f32;
            o.push(s, v[j]);
        }
        o
    }
}

#[score]
fn sloped(s: Score, i: Pos, j: Pos) -> Score {
    s - SLOPES[head()] * (i - j) as f32
}

fn main() {
    let _ = SLOPES;
}
