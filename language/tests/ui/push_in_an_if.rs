use purview::prelude::*;

#[attention]
fn wrong(q: Query, k: Key, v: Value) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            let s = dot(q[i], k[j]) * scale();
            if j <= i {
                o.push(s, v[j]);
            }
        }
        o
    }
}

#[attention]
fn nested(q: Query, k: Key, v: Value) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            let s = dot(q[i], k[j]) * scale();
            if j <= i && i - j < 8 {
                if j > 4 {
                    let far = s * 2.0;
                    o.push(far, v[j]);
                }
            }
        }
        o
    }
}

#[attention]
fn both(q: Query, k: Key, v: Value) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            let s = dot(q[i], k[j]) * scale();
            if j == i {
                o.push(s + 1.0, v[j]);
            } else {
                o.push(s, v[j]);
            }
        }
        o
    }
}

fn main() {}
