use purview::prelude::*;

#[attention]
fn wrong(q1: Query, q2: Query, q3: Query, q4: Query, q5: Query, k: Key, k1: Key, k2: Key, k3: Key, k4: Key, v: Value) -> Output {
    for i in q1.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push(dot(q1[i], k1[j]) + dot(q1[i], k2[j]) + dot(q1[i], k3[j]) + dot(q1[i], k4[j]) + dot(q2[i], k1[j]) + dot(q2[i], k2[j]) + dot(q2[i], k3[j]) + dot(q2[i], k4[j]) + dot(q3[i], k1[j]) + dot(q3[i], k2[j]) + dot(q3[i], k3[j]) + dot(q3[i], k4[j]) + dot(q4[i], k1[j]) + dot(q4[i], k2[j]) + dot(q4[i], k3[j]) + dot(q4[i], k4[j]) + dot(q5[i], k1[j]) + dot(q5[i], k2[j]) + dot(q5[i], k3[j]) + dot(q5[i], k4[j]), v[j]);
        }
        o
    }
}

fn main() {}
