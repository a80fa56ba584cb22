use purview::prelude::*;

#[attention]
fn wrong<T: Copy>(q: Query, k: Key, v: Value, x: T) -> Output
where
    T: Clone,
 {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push(dot(q[i], k[j]), v[j]);
        }
        o
    }
}

fn main() {}
