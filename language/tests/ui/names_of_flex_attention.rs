use purview::prelude::*;

#[attention]
fn wrong(q: Query, k: Key, v: Value, bias: Tensor<f32, 2>) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            let s = dot(q[i], k[j]) * scale();
            let s = s + bias[b][h] * sm_scale;
            o.push(mask(s, q_idx >= kv_idx), v[j]);
        }
        o
    }
}

#[mask]
fn causal(b: u32, h: u32) -> bool {
    q_idx >= kv_idx
}

fn main() {}
