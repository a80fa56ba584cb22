//! todo
mod cases;
mod first_call;
mod machine;
mod turns;
fn main() {}
