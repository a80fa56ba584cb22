use purview::prelude::*;

fn far(i: i32, j: i32) -> bool {
    i - j > 8
}

fn soft(s: f32) -> f32 {
    s.tanh()
}

fn bucket(distance: i32) -> i32 {
    distance / 2
}

#[attention]
fn wrong(q: Query, k: Key, v: Value, bias: Tensor<f32, 1>) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            let s = dot(q[i], k[j]) * scale();
            let s = soft(s) + bias[bucket(i - j)];
            o.push(mask(s, far(i, j)), v[j]);
        }
        o
    }
}

fn main() {}
