use purview::prelude::*;

#[attention]
fn wrong(q: Query, k: Key, v: Value) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        while i > 0 {
            let s = 1.0;
        }
        o
    }
}

fn main() {}
