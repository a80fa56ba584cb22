use purview::prelude::*;

#[attention]
fn wrong(q: Query, k: Key, v: Value) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for v in k.tiles() {
            o.push(dot(q[i], k[v]), v[v]);
        }
        o
    }
}

fn main() {}
