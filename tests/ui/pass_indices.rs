//! Integers by functions of their own, and constants of Rust.
#![deny(warnings)]

use purview::prelude::*;
use std::f32::consts::LOG2_E;

/// How far a query sees.
pub const WINDOW: i32 = 128;
const CAP: f32 = 30.0;
const IS_CAUSAL: bool = true;

/// Sizes.
pub mod sizes {
    /// Buckets.
    pub const BUCKETS: usize = 16;
    /// Elements of a key that are the value.
    pub const RANK: u32 = 8;
}

/// Distances below 8 have a bucket each, and beyond that each power of two has.
#[index]
pub fn bucket(distance: Pos) -> i32 {
    let near = abs(distance);
    let far = 5 + ilog2(near);
    if near < 8 { near } else { min(far, sizes::BUCKETS - 1) }
}

/// The bucket of a pair, counted from the last query.
#[index]
fn from_the_end(i: Pos, j: Pos, shift: i32, order: Tensor<i32, 1>) -> i32 {
    order[bucket(i - j + shift * (kv_len() - q_len()))]
}

#[mask]
fn near(i: Pos, j: Pos) -> bool {
    bucket(i - j) < sizes::BUCKETS / 2 && i - j < self::WINDOW
}

/// All of it.
#[attention]
pub fn bucketed(q: Query, k: Key, v: Value, bias: Tensor<f32, 2>, order: Tensor<i32, 1>) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            let s = dot(q[i], k[j]) / sqrt(head_dim() as f32);
            let s = tanh(s / CAP) * CAP + floor(s) * ceil(s) - round(s).floor() * LOG2_E + f32::EPSILON;
            let s = s + bias[head()][bucket(i - j)] * (WINDOW as f32 / std::f32::consts::PI);
            let visible = (near(i, j) || !IS_CAUSAL) && from_the_end(i, j, 1, order) < i32::MAX && (i - j).ilog2() < 7;
            o.push(mask(s, visible && WINDOW - 1 > BITS), v[j][..sizes::RANK]);
        }
        o
    }
}

const BITS: u8 = 3;

pub fn main() {
    let _: fn(&Tensor, &Tensor) -> Attention<1> = bucketed;
    const BITS: i64 = 4;
    let _ = BITS;
}
