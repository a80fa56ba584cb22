use purview::prelude::*;

#[attention]
fn wrong(window: u32) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        o
    }
}

fn main() {}
