use purview::prelude::*;

#[attention]
fn wrong(q: Query, k: Key, v: Value, window: u32, window: f32) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push(dot(q[i], k[j]), v[j]);
        }
        o
    }
}

fn main() {
    wrong(1, 2.0);
}
