use purview::prelude::*;

#[attention]
fn wrong(mut q: Query, k: Key, v: Value, (a, b): (u32, u32)) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push(dot(q[i], k[j]), v[j]);
        }
        o
    }
}

fn main() {}
