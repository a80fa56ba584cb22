use purview::prelude::*;

#[attention]
fn wrong(q: Query, k: Key) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push(dot(q[i], k[j]), q[i][..64]);
        }
        o
    }
}

fn main() {}
