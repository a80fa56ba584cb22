//! Every operation, function and kind of parameter.
#![deny(warnings)]

use purview::prelude::*;

/// All of the language.
///
/// A second paragraph.
#[attention]
#[inline]
#[allow(dead_code)]
pub(crate) fn everything(
    q: Query,
    k: Key,
    v: Value,
    window: u32,
    #[comptime] chunk: i32,
    cap: f32,
    causal: bool,
    slope: Tensor<f32, 1>,
    document: Tensor<i32, 2>,
    keep: Tensor<bool, 3>,
    bytes: Tensor<u8, 4>,
) -> Output {
    for i in q.tiles() {
        let first = i - 1;
        let sink = slope[kv_head()] * 0.5;
        let mut o = Softmax::with_sink(if causal { sink } else { slope[0] });
        for j in k.tiles() {
            let s: Score = dot(q[i], k[j]) * scale();
            let s = dot(k[j], q[i]) * scale() + s;
            let distance: i32 = abs(i - j);
            let s = s - slope[head()] * distance as f32;
            let s = tanh(s / cap) * cap + exp(s) - exp2(s) + log(s) * log2(s) / sqrt(s);
            let s = sigmoid(s) + relu(s) + sin(s) + cos(s) + pow(s, 2.0) + 1f32 + 1e-3;
            let s = s.tanh().abs().min(3.0).max(-3.0).clamp(-1.0, 1.0).pow(0.5);
            let s = if s > 0.0 {
                let half = s / 2.0;
                half
            } else if s == -1.0 {
                -s
            } else {
                { s * (j <= i) as f32 }
            };
            let near = j <= i && i - j < window || !causal && (first % chunk == j / chunk) != true;
            let same = document[batch()][i] == document[batch()][min(j, max(i, 2))] && i != j && i >= j && j > -5i32;
            let kept = keep[batch()][head()][i - j + -2147483648] || bytes[0][1][2][(i + j) % 4];
            o.push(mask(s, near && same && kept), v[j]);
        }
        o
    }
}

#[mask]
fn is_even(i: Pos) -> bool {
    i % 2 == 0
}

#[score]
fn unused_here(s: Score, i: Pos, slope: Tensor<f32, 1>) -> Score {
    let bias = slope[head()] * i as f32;
    s * scale() + bias
}

/// A score used as it is, and masks of masks.
#[attention]
fn weights(q: Query, k: Key, v: Value, slope: Tensor<f32, 1>) -> Output {
    for row in q.tiles() {
        let mut total = Sum::new();
        for column in k.tiles() {
            let s = unused_here(dot(q[row], k[column]), row, slope).max(0.0);
            let odd = !is_even(row) || is_even(column);
            total.push(mask(s, odd && column <= row) * 2.0, v[column]);
        }
        total
    }
}

/// Weights divided by their sum.
#[attention]
fn average(q: Query, k: Key, v: Value) -> Output {
    for i in q.tiles() {
        let mut o = Mean::new();
        for j in k.tiles() {
            o.push(relu(dot(q[i], k[j])) + 0.5, v[j]);
        }
        o
    }
}

pub fn main() {
    let attention: fn(u32, i32, f32, bool, &Tensor, &Tensor, &Tensor, &Tensor) -> Attention<1> = everything;
    let _ = attention;
    let _: fn(&Tensor) -> Attention<1> = weights;
    let _: Attention<1> = average();
}
