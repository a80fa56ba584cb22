use purview::prelude::*;

#[attention]
fn carried(q: Query, k: Key, v: Value) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        let mut highest = 0.0;
        let mut total = 0.0;
        for j in k.tiles() {
            let s = dot(q[i], k[j]) * scale();
            if s > 1.0 {
                highest = s;
                total = 1.0;
            }
            o.push(s, v[j]);
        }
        o
    }
}

#[attention]
fn in_another_order(q: Query, k: Key, v: Value) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            let s = dot(q[i], k[j]) * scale();
            let mut a = 1.0;
            let mut b = 1.0;
            let mut c = 1.0;
            if j <= i {
                a = 2.0;
                b = 0.0;
            } else {
                c = a;
                a = 2.0;
            }
            o.push(s * a + b * c, v[j]);
        }
        o
    }
}

fn main() {}
