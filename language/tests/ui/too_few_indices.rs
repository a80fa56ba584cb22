use purview::prelude::*;

#[attention]
fn wrong(q: Query, k: Key, v: Value, document: Tensor<i32, 2>) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            let s = dot(q[i], k[j]) * scale();
            o.push(mask(s, document[i] == document[batch()][j]), v[j]);
        }
        o
    }
}

fn main() {}
