use purview::prelude::*;

const CAP: f32 = 30.0;

#[attention]
fn wrong(q: Query, k: Key, v: Value) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            let s = dot(q[i], k[j]) * scale();
            let s = tanh(s / CAP) * CAP;
            o.push(mask(s, enabled && min(WINDOW, i - j) < WINDOW), v[j]);
        }
        o
    }
}

fn main() {
    let _ = CAP;
}
