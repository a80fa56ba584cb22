use purview::prelude::*;

#[attention]
fn wrong(q: Query, k: Key, v: Value) -> Output {
    for i in q.tiles() {
        let mut a = Softmax::new();
        for j in k.tiles() {
            a.push(dot(q[i], k[j]), v[j]);
        }
        (a,)
    }
}

fn main() {}
