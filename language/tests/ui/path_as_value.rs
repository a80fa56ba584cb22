use purview::prelude::*;

#[attention]
fn wrong(q: Query, k: Key, v: Value) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            let s = dot(q[i], k[j]) * scale();
            let s = s * config::scale + u32::MAX + std::f64::consts::PI + f64::MIN;
            o.push(s, v[j]);
        }
        o
    }
}

fn main() {}
