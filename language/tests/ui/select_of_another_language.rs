use purview::prelude::*;

#[attention]
fn wrong(q: Query, k: Key, v: Value) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            let s = dot(q[i], k[j]) * scale();
            let a = select(s, 0.0, j <= i);
            let b = select(j <= i, a, 0.0);
            let c = select(j <= i, b, -f32::INFINITY);
            let d = select(f32::NEG_INFINITY, c, j <= i);
            o.push(d.select(j <= i, 0.0), v[j]);
        }
        o
    }
}

fn main() {}
