//! The attention of somebody who depends on `purview`.

use purview::prelude::*;

/// Each query sees itself and the `window - 1` keys before it, with scores that stay below `cap`.
#[attention]
pub fn capped_window(q: Query, k: Key, v: Value, window: u32, cap: f32) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            let s = dot(q[i], k[j]) * scale();
            o.push(mask(tanh(s / cap) * cap, j <= i && i - j < window), v[j]);
        }
        o
    }
}
