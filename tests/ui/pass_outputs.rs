//! Several outputs, of pairs and of other operands.
#![deny(warnings)]

use purview::prelude::*;
use purview::{AnyAttention, Error};

#[attention]
fn of_pairs(q: Query, k: Key, v: Value) -> (Output, Output) {
    for i in q.tiles() {
        let (mut a, mut b) = (Softmax::new(), Mean::new());
        for j in k.tiles() {
            let s = dot(q[i], k[j]) * scale();
            a.push(mask(s, j <= i), v[j]);
            b.push(mask(exp(s), j <= i), v[j]);
        }
        let both = a - b;
        (both, if i % 2 == 0 { a } else { b * 2.0 })
    }
}

#[attention]
fn of_operands(q: Query, gate: Query, k: Key, v: Value) -> (Output, Output, Output) {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push(mask(dot(q[i], k[j]) * scale(), j <= i), v[j]);
        }
        (o, o * sigmoid(gate[i]), gate[i])
    }
}

pub fn main() {
    let _: Attention<1, 2> = of_pairs();
    let _: GeneralAttention<4, 3> = of_operands();
    let _: AnyAttention = of_pairs().into();
    let _ = (two, three);
}

fn two(device: &Device, q: &Tensor) -> Result<(Tensor, Tensor), Error> {
    of_pairs().run(device, q, q, q)
}

fn three(device: &Device, q: &Tensor) -> Result<Tensor, Error> {
    let ((both, weighted, gate), lse) = of_operands().with_lse().run(device, [q, q, q, q])?;
    let _: [Tensor; 3] = [both, weighted, gate];
    Ok(lse)
}
