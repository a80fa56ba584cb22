use purview::prelude::*;

#[attention]
fn wrong(q: Query, k: Key, v: Value) -> Output {
    for i in q.tiles() {
        for j in k.tiles() {
            let mut o = Softmax::new();
            o.push(dot(q[i], k[j]) * scale(), v[j]);
        }
        o
    }
}

fn main() {}
