use purview::prelude::*;

#[attention]
fn wrong(q: Query, k: Key, #[comptime] rank: u32) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push(dot(q[i], k[j]), k[j][..=rank]);
        }
        o
    }
}

fn main() {}
