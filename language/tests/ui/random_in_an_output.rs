use purview::prelude::*;

#[attention]
fn sink(q: Query, k: Key, v: Value, seed: u32) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::with_sink(random(seed));
        for j in k.tiles() {
            o.push(dot(q[i], k[j]), v[j]);
        }
        o
    }
}

#[attention]
fn output(q: Query, k: Key, v: Value, seed: u32) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push_weighted(dot(q[i], k[j]), random(seed), v[j]);
        }
        o * random(seed)
    }
}

fn main() {}
