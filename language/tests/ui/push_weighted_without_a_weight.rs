use purview::prelude::*;

#[attention]
fn wrong(q: Query, k: Key, v: Value) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push_weighted(dot(q[i], k[j]), v[j]);
        }
        o
    }
}

fn main() {}
