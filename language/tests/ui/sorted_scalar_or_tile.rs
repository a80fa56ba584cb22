use purview::prelude::*;

#[attention]
fn wrong(#[sorted] q: Query, k: Key, v: Value, #[sorted(unchecked)] window: u32) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push(dot(q[i], k[j]), v[j]);
        }
        o
    }
}

fn main() {}
