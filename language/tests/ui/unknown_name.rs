use purview::prelude::*;

#[attention]
fn wrong(q: Query, k: Key, v: Value, window: u32) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            let s = dot(q[i], k[j]) * scale();
            o.push(mask(s, i - j < windw), v[j]);
        }
        o
    }
}

fn main() {}
