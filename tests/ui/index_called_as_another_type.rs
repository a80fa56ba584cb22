use purview::prelude::*;

/// Distances from 8 on share a bucket.
#[index]
fn bucket(distance: Pos) -> i32 {
    clamp(distance, 0, 8)
}

#[attention]
fn wrong(q: Query, k: Key, v: Value, bias: Tensor<f32, 1>) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            let s = dot(q[i], k[j]) * scale() + bias[bucket((i - j) as f32)];
            let s = s + bucket(i - j);
            o.push(mask(s, bucket(i - j)), v[j]);
        }
        o
    }
}

fn main() {}
