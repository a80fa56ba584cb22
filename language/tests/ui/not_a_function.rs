use purview::prelude::*;

#[attention]
struct Wrong;

#[mask]
const CAUSAL: bool = true;

fn main() {}
