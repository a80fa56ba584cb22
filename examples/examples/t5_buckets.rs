//! T5's relative positions: a learned number for each bucket of distances.

use std::error::Error;

use purview::prelude::*;
use purview_examples::demo;

/// How many buckets there are.
const BUCKETS: i32 = 32;

/// The distance from which on all share the last bucket.
const MAX_DISTANCE: f32 = 128.0;

/// The bucket of a key that is `distance` positions after the query: half of the buckets are for one distance each, the others grow as
/// powers do. Without `bidirectional` there are none for keys after the query.
#[index]
pub fn bucket(distance: Pos, bidirectional: bool) -> i32 {
    let buckets = if bidirectional { BUCKETS / 2 } else { BUCKETS };
    let exact = buckets / 2;
    let d = if bidirectional { abs(distance) } else { max(-distance, 0) };
    // A hundredth more, since buckets begin at 16, 32 and 64, and a device's logarithm may be a little low there.
    let share = log((d as f32 + 0.01) / exact as f32) / log(MAX_DISTANCE / exact as f32);
    let far = min(exact + (share * (buckets - exact) as f32) as i32, buckets - 1);
    let side = if bidirectional && distance > 0 { buckets } else { 0 };
    side + if d < exact { d } else { far }
}

/// Adds `table[head][bucket]` to each score, `bucket` being that of the distance; `table` is `[heads, 32]`. Scores are not scaled. An
/// encoder is `bidirectional`; in a decoder no query sees what is after it.
///
/// Raffel et al., "Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer" (2019). The buckets are those of
/// `_relative_position_bucket` in Hugging Face's transformers, with 32 buckets and a distance of at most 128.
#[attention]
pub fn t5_buckets(q: Query, k: Key, v: Value, table: Tensor<f32, 2>, #[comptime] bidirectional: bool) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            let s = dot(q[i], k[j]) + table[head()][bucket(j - i, bidirectional)];
            o.push(mask(s, bidirectional || j <= i), v[j]);
        }
        o
    }
}

purview_examples::variant!(|args| {
    let bidirectional = args.bool("bidirectional", true)?;
    let shape = [args.shape.heads, BUCKETS as usize];
    let table = args.tensor("table", shape, |[h, bucket]| ((3 * h + 5 * bucket) % 11) as f32 / 5.0 - 1.0)?;
    t5_buckets(&table, bidirectional)
});

/// Runs it as an encoder has it and as a decoder does, and compares both with the reference.
pub fn main() -> Result<(), Box<dyn Error>> {
    let device = Device::cpu()?;
    let table = Tensor::from_slice(&device, [4, BUCKETS as usize], &demo::numbers(1, 4 * BUCKETS as usize))?;
    demo::check(&device, t5_buckets(&table, true), &Shape::new(1, 4, 300, 64))?;
    demo::check(&device, t5_buckets(&table, false), &Shape::new(1, 4, 300, 64))
}
