use purview::prelude::*;

#[index]
fn bucket(distance: Pos) -> u32 {
    min(distance, 8)
}

#[index]
fn without_type(distance: Pos) {
    min(distance, 8)
}

#[index]
fn of_float(distance: Pos) -> i32 {
    let near = distance as f32 * 0.5;
    floor(near)
}

#[index]
fn of_bool(distance: Pos, #[comptime] buckets: u32) -> i32 {
    distance < buckets
}

#[index(cached)]
fn with_arguments(distance: Pos) -> i32 {
    with_arguments(distance - 1)
}

fn main() {}
