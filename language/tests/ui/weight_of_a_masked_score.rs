use purview::prelude::*;

#[attention]
fn wrong(q: Query, k: Key, v: Value) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            let s = mask(dot(q[i], k[j]) * scale(), j <= i);
            o.push_weighted(s, sigmoid(s), v[j]);
        }
        o
    }
}

fn main() {}
