//! Rotary position embeddings: queries and keys are turned by their positions before an ordinary causal attention.
//!
//! Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding" (2021). A score then depends on the distance of
//! query and key only, so this also checks that nothing changes when all positions move.

use std::error::Error;

use purview::prelude::*;
use purview::rope;
use purview_examples::causal::causal;
use purview_examples::demo;

const SHAPE: [usize; 4] = [1, 2, 256, 64];

/// Queries or keys, turned as if the first were at position `first`.
fn rotated(device: &Device, seed: u32, first: i64) -> Result<Tensor, purview::Error> {
    let mut x = demo::numbers(seed, SHAPE.iter().product());
    rope(&mut x, SHAPE[2], SHAPE[3], first, 10_000.0);
    Tensor::from_slice(device, SHAPE, &x)
}

/// Runs it and compares it with the reference, and with itself 1000 positions further.
pub fn main() -> Result<(), Box<dyn Error>> {
    let device = Device::cpu()?;
    let v = Tensor::from_slice(&device, SHAPE, &demo::numbers(3, SHAPE.iter().product()))?;
    let (q, k) = (rotated(&device, 1, 0)?, rotated(&device, 2, 0)?);
    demo::check_on(&device, causal(), &q, &[(&k, &v)])?;

    let here = causal().run(&device, &q, &k, &v)?.to_vec::<f32>()?;
    let further =
        causal().run(&device, &rotated(&device, 1, 1000)?, &rotated(&device, 2, 1000)?, &v)?.to_vec::<f32>()?;
    let difference = here.iter().zip(&further).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    println!("1000 positions further: largest difference {difference:.0e}");
    if difference < 1e-4 { Ok(()) } else { Err("scores depend on more than the distance".into()) }
}
