use purview::prelude::*;

#[attention]
fn wrong(q: Query, k: Key, v: Value) -> Output {
    for j in q.tiles() {
        let mut o = Softmax::new();
        for i in k.tiles() {
            o.push(mask(dot(q[i], k[j]) * scale(), j <= i), v[j]);
        }
        o
    }
}

fn main() {}
