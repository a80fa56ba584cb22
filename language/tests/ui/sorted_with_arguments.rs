use purview::prelude::*;

#[attention]
fn wrong(
    q: Query,
    k: Key,
    v: Value,
    #[sorted(ascending)] a: Tensor<i32, 1>,
    #[sorted = 1] b: Tensor<i32, 1>,
    #[sorted()] c: Tensor<i32, 1>,
    #[sorted(unchecked, twice)] d: Tensor<i32, 1>,
) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push(dot(q[i], k[j]), v[j]);
        }
        o
    }
}

fn main() {}
