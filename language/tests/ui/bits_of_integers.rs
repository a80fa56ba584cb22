use purview::prelude::*;

#[attention]
fn wrong(q: Query, k: Key, v: Value, bits: u32) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            let s = dot(q[i], k[j]) * scale();
            let same = i & 7 == 0 && i >> 3 == j >> bits;
            o.push(mask(s, same && (i ^ j) < 1 << 4), v[j]);
        }
        o
    }
}

fn main() {}
