//! Scores that fall with the distance of points in space.

use std::error::Error;

use purview::prelude::*;
use purview_examples::demo;

/// Scores less the squared distance of points, times the softplus of a number for each head: |x|² + |y|² − 2 x·y, of which the product is
/// one more for each pair, and the squared norms come from a tensor.
///
/// The term of invariant point attention in Jumper et al., "Highly Accurate Protein Structure Prediction with AlphaFold" (2021), where a
/// query has several points, whose coordinates follow each other in `x`.
#[attention]
pub fn point_distance(
    q: Query,
    k: Key,
    v: Value,
    x: Query,
    y: Key,
    x_norms: Tensor<f32, 3>,
    y_norms: Tensor<f32, 3>,
    c: Tensor<f32, 1>,
) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            let norms = x_norms[batch()][head()][i] + y_norms[batch()][kv_head()][j];
            let distance = norms - 2.0 * dot(x[i], y[j]);
            o.push(dot(q[i], k[j]) * scale() - log(1.0 + exp(c[head()])) * distance, v[j]);
        }
        o
    }
}

purview_examples::variant!(golden = ["point_distance"], |args| {
    let shape = &args.shape;
    let norms = |name: &str, heads: usize, length: usize| {
        args.tensor(name, [shape.batch, heads, length], |[b, h, at]| ((b + h + at) % 5) as f32 / 4.0)
    };
    let c = args.tensor("c", [shape.heads], |[h]| h as f32 / 4.0 - 1.0)?;
    let queries = shape.queries.max(args.keys());
    point_distance(&norms("x_norms", shape.heads, queries)?, &norms("y_norms", shape.kv_heads, args.keys())?, &c)
});

/// Runs it and compares it with the reference.
pub fn main() -> Result<(), Box<dyn Error>> {
    let device = Device::cpu()?;
    let (heads, length, points) = (2, 96, 12);
    let shape = [1, heads, length, points];
    let coordinates = [1, 2].map(|seed| demo::numbers(seed, heads * length * points));
    let norms = coordinates.each_ref().map(|of| of.chunks(points).map(|row| row.iter().map(|x| x * x).sum()).collect());
    let [x, y] = coordinates.map(|of| Tensor::from_slice(&device, shape, &of));
    let [x_norms, y_norms] = norms.map(|of: Vec<f32>| Tensor::from_slice(&device, [1, heads, length], &of));
    let [q, k, v] = [3, 4, 5]
        .map(|seed| Tensor::from_slice(&device, [1, heads, length, 32], &demo::numbers(seed, heads * length * 32)));
    let c = Tensor::from_slice(&device, [heads], &[0.5, -0.5])?;
    let attention = point_distance(&x_norms?, &y_norms?, &c);
    demo::check_operands(&device, attention, &[&q?, &k?, &v?, &x?, &y?])
}
