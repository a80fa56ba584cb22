use purview::prelude::*;

#[attention]
fn wrong(q: Query, k: Key, v: Value) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            let s = dot(q[i], k[j]) * scale();
            let t = s ^ 2;
            let u = 0.5 * s ^ 3 + t;
            o.push(u - ((i - j) ^ 2) as f32, v[j]);
        }
        o
    }
}

fn main() {}
