#![deny(deprecated)]

use purview::prelude::*;

#[mask]
fn different(i: Pos, j: Pos, doc: Tensor<i32, 2>) -> bool {
    j <= i && doc[batch()][i] != doc[batch()][i]
}

#[attention]
fn nothing(q: Query, k: Key, v: Value) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push(mask(dot(q[i], k[j]), i - j < i - j), v[j]);
        }
        o
    }
}

#[attention]
fn memory_hidden(q: Query, memory: Key, memory_values: Value, k: Key, v: Value, doc: Tensor<i32, 2>) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in memory.tiles() {
            o.push(mask(dot(q[i], memory[j]), !(j == j)), memory_values[j]);
        }
        for j in k.tiles() {
            o.push(mask(dot(q[i], k[j]), different(i, j, doc)), v[j]);
        }
        o
    }
}

fn main() {
    let _ = (nothing, memory_hidden);
}
