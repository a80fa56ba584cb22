use purview::prelude::*;

#[attention]
fn weighted(q: Query, k: Key, v: Value) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            let s = dot(q[i], k[j]) * scale();
            o += softmax(s) * v[j];
        }
        o /= 2.0;
        o
    }
}

#[attention]
fn no_accumulator(q: Query, k: Key, v: Value) -> Output {
    for i in q.tiles() {
        let mut acc = 0.0;
        for j in k.tiles() {
            acc = acc + exp(dot(q[i], k[j])) * v[j];
        }
        acc
    }
}

fn main() {}
