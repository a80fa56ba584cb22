//! Sliding-window attention.

use purview::prelude::*;

/// Each query sees itself and the `window - 1` keys before it.
#[attention]
pub fn sliding_window(q: Query, k: Key, v: Value, window: u32) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            let s = dot(q[i], k[j]) * scale();
            o.push(mask(s, j <= i && i - j < window), v[j]);
        }
        o
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for name in ["cpu", "wgpu"] {
        let device = Device::named(name)?;
        let n = 2 * 200 * 40;
        let data =
            |seed: usize| (0..n).map(|x| ((x * 7919 + seed * 104729) % 1009) as f32 / 504.5 - 1.0).collect::<Vec<_>>();
        let q = Tensor::from_slice(&device, [1, 2, 200, 40], &data(1))?;
        let k = Tensor::from_slice(&device, [1, 2, 200, 40], &data(2))?;
        let v = Tensor::from_slice(&device, [1, 2, 200, 40], &data(3))?;
        let attention = sliding_window(50);
        let (out, lse) = attention.clone().with_lse().run(&device, &q, &k, &v)?;
        let want = attention.reference(&q, &k, &v)?;
        let (out, lse) = (out.to_vec::<f32>()?, lse.to_vec::<f32>()?);
        let error = |a: &[f32], b: &[f64]| a.iter().zip(b).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max);
        println!(
            "{name}: out {:.2e} lse {:.2e} kernels {}",
            error(&out, &want.out.data),
            error(&lse, &want.lse.data),
            purview::cache::kernels_compiled()
        );
    }
    println!("{}", sliding_window(50).program(&Shape::new(1, 2, 200, 40))?);
    println!("{}", sliding_window(50).report(&Shape::new(1, 2, 1024, 40))?);
    Ok(())
}
