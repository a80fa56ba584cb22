use purview::prelude::*;

#[attention]
fn wrong(q: Query, k: Key, v: Value) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            let mut s = dot(q[i], k[j]) * scale();
            let mut t = 1.0;
            if i - j > 64 {
                s = s * 0.5;
                t = 2.0;
            }
            if s > 4.0 {
                s -= 4.0;
                t = s;
            } else {
                t = 0.0;
            }
            if j > i {
                let far = (j - i) as f32;
                s = s - far;
            }
            if j == i {
                s = 0.0;
            }
            o.push(s + t, v[j]);
        }
        o
    }
}

fn main() {}
