use purview::prelude::*;

#[attention]
fn wrong(q: Query, k: Key, v: Value, k2: Key, v2: Value) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::with_sink(kv_len() as f32);
        let half = kv_len() / 2;
        for j in k.tiles() {
            o.push(mask(dot(q[i], k[j]) * scale(), j < half && j < kv_len()), v[j]);
        }
        for j in k2.tiles() {
            o.push(mask(dot(q[i], k2[j]) * scale(), j < q_len - 2 && i < seq_len && i < kv_len(k)), v2[j]);
        }
        o
    }
}

fn main() {}
