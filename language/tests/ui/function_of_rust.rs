use purview::prelude::*;

#[attention]
fn wrong(q: Query, k: Key, v: Value) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            let s = f32::max(dot(q[i], k[j]), 0.0);
            o.push(s, v[j]);
        }
        o
    }
}

fn main() {}
