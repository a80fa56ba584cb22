//! The user's names are not confused with the expansion's.
#![no_implicit_prelude]
#![deny(warnings)]

use ::purview::{attention, mask};

#[allow(non_camel_case_types, dead_code)]
struct u32;
#[allow(dead_code)]
struct Option;

#[mask]
fn builder(r#type: Pos, spec: Pos) -> bool {
    r#type == spec
}

mod purview {}

#[attention]
fn names(r#in: Query, core: Key, std: Value, file: u32, line: i32, spec: f32) -> Output {
    for i in r#in.tiles() {
        let mut lang = Sum::new();
        for at in core.tiles() {
            let clone = spec + file as f32;
            lang.push(mask(dot(r#in[i], core[at]) * clone, builder(i, at + line)), std[at]);
        }
        lang
    }
}

pub fn main() {
    let _: ::purview::Attention<1> = names(1, 2, 3.0);
}
