use purview::prelude::*;

#[attention]
fn wrong(q: Query, k: Key, v: Value) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            let s = scale() * k[j] * q[i];
            let t = q * k;
            o.push(s + t + (q[i] * (1.0 + 2.0)) * k[j], v[j]);
        }
        o
    }
}

fn main() {}
