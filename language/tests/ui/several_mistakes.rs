use purview::prelude::*;

#[attention]
pub fn wrong(q: Query, k: Key, v: Value, window: u32, slope: Tensor<f32, 2>) -> Output {
    for i in q.tiles() {
        let o = Softmax::new();
        for j in k.tiles() {
            let s = dot(q[i], k[j]) * scal();
            let s = s + slope[head()] * (j - i);
            o.push(mask(s, j <= i && i - j < windw), v[i]);
        }
        return o;
    }
}

fn main() {
    // The call is right, and gets no error.
    let _: Attention<1> = wrong(256, &tensor());
}

fn tensor() -> Tensor {
    unimplemented!()
}
