use purview::prelude::*;

#[attention]
fn wrong(q: Query, k: Key, v: Value) -> Output {
    for i in q.tiles() {
        let (mut left, mut right) = (Softmax::new(), Softmax::new());
        for j in k.tiles() {
            left.push(dot(q[i], k[j]), v[j]);
            rigth.push(dot(q[i], k[j]), v[j]);
        }
        left - right
    }
}

fn main() {}
