use purview::prelude::*;

#[attention]
fn wrong(q: Query, k: Key, v: Value, #[sorted] a: Tensor<f32, 1>, #[sorted] b: Tensor<u8, 2>) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push(dot(q[i], k[j]), v[j]);
        }
        o
    }
}

fn main() {}
