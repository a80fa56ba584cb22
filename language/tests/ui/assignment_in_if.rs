use purview::prelude::*;

#[attention]
fn wrong(q: Query, k: Key, v: Value) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            let mut s = dot(q[i], k[j]) * scale();
            if j > i {
                s = -1e9;
            }
            o.push(s, v[j]);
        }
        o
    }
}

#[score]
fn far(s: Score, i: Pos, j: Pos) -> Score {
    let mut s = s;
    if i - j > 512 {
        s = f32::NEG_INFINITY;
    } else {
        s += 1.0;
    }
    s
}

fn main() {}
