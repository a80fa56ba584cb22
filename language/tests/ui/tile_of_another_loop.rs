use purview::prelude::*;

#[attention]
fn wrong(q: Query, k: Key, v: Value, mk: Key, mv: Value) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push(dot(q[i], mk[j]), v[j]);
        }
        for m in mk.tiles() {
            o.push(dot(q[i], mk[m]), mv[m]);
        }
        o
    }
}

fn main() {}
