use purview::prelude::*;

#[attention]
fn wrong(q: Query, k: Key, v: Value, slope: Tensor<f32, 1>) -> Output {
    for b in 0..4 {
        for h in 0..8 {
            for i in q.tiles() {
                let mut o = Softmax::new();
                for j in k.tiles() {
                    o.push(dot(q[i], k[j]) + slope[h], v[j]);
                }
                o
            }
        }
    }
}

fn main() {}
