use purview::prelude::*;

#[attention]
fn wrong(q: Tensor, k: &Tensor, v: Tensor<f32, 4>) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push(dot(q[i], k[j]) * scale(), v[j]);
        }
        o
    }
}

#[attention]
fn one(query: Query, key: Key, value: Tensor) -> Output {
    for i in query.tiles() {
        let mut o = Softmax::new();
        for j in key.tiles() {
            o.push(dot(query[i], key[j]) * scale(), value[j]);
        }
        o
    }
}

fn main() {}
