use purview::prelude::*;

#[attention]
fn wrong(q: Query, k: Key, v: Value, radius: f32) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            let s = dot(q[i], k[j]) * scale();
            let s = mask(s, i - j <= 2.0 * radius);
            o.push(mask(s, i - j < radius), v[j]);
        }
        o
    }
}

fn main() {}
