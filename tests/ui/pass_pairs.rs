//! Several keys and values: in any order in the signature, looped over more than once.
#![deny(warnings)]

use purview::prelude::*;

#[attention]
fn memory_then_segment(v: Value, mv: Value, mk: Key, q: Query, k: Key, reach: u32) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for m in mk.tiles() {
            o.push(dot(q[i], mk[m]) * scale(), mv[m]);
        }
        let low = i - reach;
        for j in k.tiles() {
            o.push(mask(dot(q[i], k[j]) * scale(), j > low && j <= i), v[j]);
        }
        for j in k.tiles() {
            o.push(mask(dot(q[i], k[j]) * scale(), j == 0 && j <= low), v[j]);
        }
        o
    }
}

pub fn main() {
    let _: Attention<2> = memory_then_segment(4);
}
