use purview::prelude::*;

#[attention]
fn wrong(q: Query, k: Key, v: Value) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            let s = dot(q[i], k[j]) * scale();
            let s = where_(j <= i, s, rsqrt(s));
            let s = s * float(floor(i / 4)) * torch::sigmoid(s);
            let s = s.masked_fill(j > i, -1e9);
            let s = ln(s) + maximum(clip(s, 0.0, 1.0), log10(s));
            o.push(mask(softmax(s), logical_and(j < num_heads(), (0..4).contains(&j))), v[j]);
        }
        o
    }
}

fn main() {}
