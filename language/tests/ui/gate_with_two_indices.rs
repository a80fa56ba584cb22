use purview::prelude::*;

#[attention]
fn wrong(q: Query, k: Key, v: Value, gate: Query) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push(dot(q[i], k[j]) * scale(), v[j]);
        }
        o * gate[head()][i]
    }
}

fn main() {}
