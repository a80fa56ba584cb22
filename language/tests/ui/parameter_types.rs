use purview::prelude::*;

#[attention]
fn wrong(q: Query, k: Key, v: Value, a: usize, b: f64, c: Vec<f32>, d: &Tensor<f32, 1>, e: Quary, f: Pos, g: Score) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push(dot(q[i], k[j]), v[j]);
        }
        o
    }
}

fn main() {}
