use purview::prelude::*;

#[attention]
fn other_accumulators(q: Query, k: Key, v: Value) -> Output {
    for i in q.tiles() {
        let (mut a, mut b) = (Softmax::new(), Softmax::new());
        for j in k.tiles() {
            let s = dot(q[i], k[j]) * scale();
            if j <= i {
                a.push(s, v[j]);
            } else {
                b.push(2.0 * s, v[j]);
            }
        }
        a - b
    }
}

#[attention]
fn other_weights(q: Query, k: Key, v: Value) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            let s = dot(q[i], k[j]) * scale();
            if j == i {
                o.push_weighted(s, 0.5, v[j]);
            } else {
                o.push_weighted(s, 2.0, v[j]);
            }
        }
        o
    }
}

#[attention]
fn two_in_one(q: Query, k: Key, v: Value) -> Output {
    for i in q.tiles() {
        let (mut a, mut b) = (Softmax::new(), Softmax::new());
        for j in k.tiles() {
            let s = dot(q[i], k[j]) * scale();
            if j <= i {
                a.push(s, v[j]);
                b.push(2.0 * s, v[j]);
            }
        }
        a - b
    }
}

fn main() {}
