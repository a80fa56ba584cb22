use purview::prelude::*;

#[attention]
fn wrong(q: Query, k: Key, v: Value) -> Output {
    for i in q.tiles() {
        let mut highest = f32::NEG_INFINITY;
        let mut total = 0.0;
        let mut acc = Softmax::new();
        for j in k.tiles() {
            let s = dot(q[i], k[j]) * scale();
            let p = exp(s);
            highest = max(highest, s);
            total += p;
            acc += p * v[j];
        }
        acc / total
    }
}

fn main() {}
