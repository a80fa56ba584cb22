use purview::prelude::*;

#[attention]
fn wrong(q: Query, k: Key, v: Value) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        let mut rest = 16;
        let mut positive = 0;
        for j in k.tiles() {
            let s = dot(q[i], k[j]) * scale();
            rest -= 1;
            if s > 0.0 {
                positive = positive + 1;
            }
            o.push(mask(s, rest > 0 && positive < 8), v[j]);
        }
        o
    }
}

fn main() {}
