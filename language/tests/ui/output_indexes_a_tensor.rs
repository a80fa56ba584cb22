use purview::prelude::*;

#[attention]
fn wrong(q: Query, k: Key, v: Value, table: Tensor<f32, 1>) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push(dot(q[i], k[j]) * scale(), v[j]);
        }
        o + table[o as i32]
    }
}

fn main() {}
