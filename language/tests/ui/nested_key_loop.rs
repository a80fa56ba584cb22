use purview::prelude::*;

#[attention]
fn wrong(q: Query, k: Key, v: Value) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            for n in k.tiles() {
                o.push(dot(q[i], k[n]), v[n]);
            }
        }
        o
    }
}

fn main() {}
