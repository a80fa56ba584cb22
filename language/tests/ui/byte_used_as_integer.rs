use purview::prelude::*;

#[attention]
fn wrong(q: Query, k: Key, v: Value, m: Tensor<u8, 2>, closed: bool) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            let s = dot(q[i], k[j]) * scale();
            let s = mask(s, m[i][j] != 0);
            let s = mask(s, 0 == m[i][j]);
            o.push(mask(s, closed == 0), v[j]);
        }
        o
    }
}

fn main() {}
