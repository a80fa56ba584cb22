#![deny(deprecated)]

use purview::prelude::*;

#[mask]
fn parts(i: Pos, j: Pos, on: bool) -> bool {
    let near = i / 2 == i / 2;
    let far = (j < i || 3 < 2) && (near && on);
    far && (1 + 1 == 2 && j >= j) && if i <= i { on } else { j <= i }
}

#[attention]
fn in_a_branch(q: Query, k: Key, v: Value, on: bool) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            let s = dot(q[i], k[j]) * scale();
            // A constant is the way to say this one.
            let s = if on { s } else { mask(s, false) };
            o.push(mask(s, if i != i { on } else { parts(i, j, on) }), v[j]);
        }
        o
    }
}

fn main() {
    let _ = in_a_branch;
}
