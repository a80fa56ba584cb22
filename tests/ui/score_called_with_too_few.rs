use purview::prelude::*;

#[score]
fn softcap(s: Score, cap: f32) -> Score {
    tanh(s / cap) * cap
}

#[mask]
fn window(i: Pos, j: Pos, size: u32) -> bool {
    i - j < size
}

#[attention]
fn wrong(q: Query, k: Key, v: Value) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            let s = softcap(dot(q[i], k[j]) * scale());
            let s = mask(s, window(i, j, 3, 4));
            o.push(mask(s, self::window(i, j)), v[j]);
        }
        o
    }
}

fn main() {}
