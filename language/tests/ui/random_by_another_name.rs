use purview::prelude::*;

#[attention]
fn hidden(q: Query, k: Key, v: Value, seed: u32) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push(mask(dot(q[i], k[j]), bernoulli(0.1) || rand(seed) < 0.5), v[j]);
        }
        o
    }
}

#[attention]
fn dropped(q: Query, k: Key, v: Value) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push_weighted(dot(q[i], k[j]), dropout(0.1), v[j]);
        }
        o
    }
}

fn main() {}
