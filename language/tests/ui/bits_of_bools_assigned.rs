use purview::prelude::*;

#[attention]
fn wrong(q: Query, k: Key, v: Value) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            let s = dot(q[i], k[j]) * scale();
            let mut m = j <= i;
            m &= i - j < 8;
            m |= j < 4;
            m ^= j == 0 || i == 0;
            o.push(mask(s, m), v[j]);
        }
        o
    }
}

fn main() {}
