use purview::prelude::*;

#[attention]
fn wrong(q: Query, k: Key, v: Value) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            let s = dot(q[i], k[j]) * scale();
            let both = (j <= i) * (i - j < 8);
            o.push(mask(s, both - (i == j)), v[j]);
        }
        o
    }
}

fn main() {}
