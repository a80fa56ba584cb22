use purview::prelude::*;

#[attention]
fn keys_outside(q: Query, k: Key, v: Value) -> Output {
    for j in k.tiles() {
        let mut o = Softmax::new();
        for i in q.tiles() {
            let s = dot(q[i], k[j]) * scale();
            o.push(mask(s, j <= i), v[j]);
        }
        o
    }
}

// Here the variables are right, and what the loops go over is not.
#[attention]
fn tiles_exchanged(q: Query, k: Key, v: Value) -> Output {
    for i in k.tiles() {
        let mut o = Softmax::new();
        for j in q.tiles() {
            let s = dot(q[i], k[j]) * scale();
            o.push(mask(s, j <= i), v[j]);
        }
        o
    }
}

fn main() {}
