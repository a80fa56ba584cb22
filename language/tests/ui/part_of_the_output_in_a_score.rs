use purview::prelude::*;

#[attention]
fn wrong(q: Query, k: Key, v: Value, gate: Query) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        let open = sigmoid(gate[i]);
        for j in k.tiles() {
            o.push(dot(q[i], k[j]) * open, v[j]);
        }
        o * open
    }
}

fn main() {}
