use purview::prelude::*;

#[attention]
fn wrong(q: Query, k: Key, v: Value) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            let s = tanh(dot(q[i], k[j]), 1.0) * min(scale()) + pow();
            o.push(s, v[j]);
        }
        o
    }
}

fn main() {}
