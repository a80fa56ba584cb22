use purview::prelude::*;

#[attention]
fn wrong(q: Query, k: Key, v: Value, k2: Key) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push(dot(q[i], k2[j]) + dot(k[j], k2[j]), v[j]);
        }
        o
    }
}

fn main() {}
