//! Attentions that between them use every accumulator, both kinds of loop bound, captured tensors and two sets of keys.

use purview::prelude::*;

/// Every query sees every key.
#[attention]
pub fn full(q: Query, k: Key, v: Value) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push(dot(q[i], k[j]) * scale(), v[j]);
        }
        o
    }
}

/// Two outputs of one accumulator: it is given as it is, and doubled.
#[attention]
pub fn as_it_is_and_doubled(q: Query, k: Key, v: Value) -> (Output, Output) {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push(mask(dot(q[i], k[j]) * scale(), j <= i), v[j]);
        }
        (o, o * 2.0)
    }
}

/// Each query sees itself and the `window - 1` keys before it.
#[attention]
pub fn window(q: Query, k: Key, v: Value, window: u32) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push(mask(dot(q[i], k[j]) * scale(), j <= i && i - j < window), v[j]);
        }
        o
    }
}

/// As `window`, with a window known when the kernel is compiled.
#[attention]
pub fn fixed_window(q: Query, k: Key, v: Value, #[comptime] window: u32) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push(mask(dot(q[i], k[j]) * scale(), j <= i && i - j < window), v[j]);
        }
        o
    }
}

/// Each head sees another stretch of keys, so that heads cannot share a tile.
#[attention]
pub fn window_by_head(q: Query, k: Key, v: Value) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push(mask(dot(q[i], k[j]) * scale(), j <= i && i - j < 20 * (head() + 1)), v[j]);
        }
        o
    }
}

/// Causal, with one more logit a head in the denominator.
#[attention]
pub fn sink(q: Query, k: Key, v: Value, logit: Tensor<f32, 1>) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::with_sink(logit[head()]);
        for j in k.tiles() {
            o.push(mask(dot(q[i], k[j]) * scale(), j <= i), v[j]);
        }
        o
    }
}

/// Causal sigmoid attention: the weights are not normalized.
#[attention]
pub fn sum(q: Query, k: Key, v: Value) -> Output {
    for i in q.tiles() {
        let mut o = Sum::new();
        for j in k.tiles() {
            o.push(mask(sigmoid(dot(q[i], k[j]) * scale()), j <= i), v[j]);
        }
        o
    }
}

/// Causal, with weights that are divided by their sum.
#[attention]
pub fn mean(q: Query, k: Key, v: Value) -> Output {
    for i in q.tiles() {
        let mut o = Mean::new();
        for j in k.tiles() {
            let s = dot(q[i], k[j]) * scale();
            o.push(mask(s * s + 0.25, j <= i), v[j]);
        }
        o
    }
}

/// Captured tensors of every type and of ranks 1, 2 and 4.
#[attention]
pub fn captured(
    q: Query,
    k: Key,
    v: Value,
    slope: Tensor<f32, 1>,
    document: Tensor<i32, 2>,
    keep: Tensor<bool, 2>,
    bias: Tensor<f32, 4>,
) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            let s = dot(q[i], k[j]) * scale() + slope[head()] * (j - i) as f32 + bias[batch()][kv_head()][i][j];
            o.push(mask(s, document[batch()][i] == document[batch()][j] && keep[batch()][j]), v[j]);
        }
        o
    }
}

/// All of a memory, then the current segment causally.
#[attention]
pub fn memory(q: Query, mk: Key, mv: Value, k: Key, v: Value) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for m in mk.tiles() {
            o.push(dot(q[i], mk[m]) * scale(), mv[m]);
        }
        for j in k.tiles() {
            o.push(mask(dot(q[i], k[j]) * scale(), j <= i), v[j]);
        }
        o
    }
}

/// Tables by whole numbers of distances, up to 99: `levels` has 8 elements, one for each power of two, and `parts` 7. And all lengths.
#[attention]
pub fn levels(q: Query, k: Key, v: Value, levels: Tensor<f32, 1>, parts: Tensor<f32, 1>) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            let level = levels[ilog2(i - j) + 1];
            let part = parts[round((i - j) as f32 / 16.0) as i32];
            let s = dot(q[i], k[j]) * scale() + level * floor(part) - ceil(part * 0.5);
            let s = s + (kv_len() - q_len()) as f32 * 0.125 + head_dim() as f32 * 0.0625;
            o.push(mask(s, j <= i && ilog2(i - j) != 3 && j < kv_len() - 2), v[j]);
        }
        o
    }
}
