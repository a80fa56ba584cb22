use purview::prelude::*;

#[attention]
fn wrong(q: Query, k: Key, v: Value, window: u32) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            let s = dot(q[i], k[j]) * scale();
            let near = floor(i / window) == floor(j / 2) && ceil((i + 1) / window) < 3.0;
            let far = round(j / 4) > round(i) || ilog2(s) < 2;
            let level = ilog2(i - j, 2) + ilog2(0.5) + (i - j).ilog10();
            o.push(mask(s, near && far && level < 2), v[j]);
        }
        o
    }
}

fn main() {}
