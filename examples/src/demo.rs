//! What the gallery's programs share: numbers to run an attention on, and the comparison with its reference.

use std::error::Error;

use purview::{AnyAttention, Device, Shape, Tensor};

/// The largest error a program lets pass, relative to the largest magnitude of the reference's output.
const TOLERANCE: f64 = 2e-5;

/// `count` numbers between −1 and 1 that look random, other ones for each `seed`.
pub fn numbers(seed: u32, count: usize) -> Vec<f32> {
    // The SplitMix64 of Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators" (2014).
    let mut state = u64::from(seed);
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// Runs `attention` on queries, keys and values of `shape` in f32, and prints how far it is from the reference.
///
/// # Errors
/// As [`AnyAttention::run`], and where it is further than a kernel in f32 should be.
pub fn check(device: &Device, attention: impl Into<AnyAttention>, shape: &Shape) -> Result<(), Box<dyn Error>> {
    let attention = attention.into();
    let tensor =
        |seed: u32, shape: [usize; 4]| Tensor::from_slice(device, shape, &numbers(seed << 16, shape.iter().product()));
    let q = tensor(1, [shape.batch, shape.heads, shape.queries, shape.qk_dim])?;
    let pairs = (0..attention.spec().sets()).map(|pair| {
        let keys = *shape.keys.get(pair).or(shape.keys.last()).ok_or("a shape without keys")?;
        let seed = 2 * pair as u32;
        let k = tensor(seed + 2, [shape.batch, shape.kv_heads, keys, shape.qk_dim])?;
        let v = tensor(seed + 3, [shape.batch, shape.kv_heads, keys, shape.v_dim])?;
        Ok((k, v))
    });
    let pairs = pairs.collect::<Result<Vec<_>, Box<dyn Error>>>()?;
    let pairs: Vec<(&Tensor, &Tensor)> = pairs.iter().map(|(k, v)| (k, v)).collect();
    check_on(device, attention, &q, &pairs)
}

/// As [`check`], on these queries, keys and values.
///
/// # Errors
/// As [`check`].
pub fn check_on(
    device: &Device,
    attention: impl Into<AnyAttention>,
    q: &Tensor,
    pairs: &[(&Tensor, &Tensor)],
) -> Result<(), Box<dyn Error>> {
    let attention = attention.into();
    let got = attention.run(device, q, pairs)?.to_vec::<f32>()?;
    let want = attention.reference(q, pairs)?.out.data;
    assert_eq!(got.len(), want.len());

    let largest = want.iter().map(|x| x.abs()).fold(0.0, f64::max);
    let difference = got.iter().zip(&want).map(|(&got, &want)| (f64::from(got) - want).abs());
    // Not `f64::max`, which would pass over a NaN.
    let error =
        difference.fold(0.0, |a: f64, b| if a.is_nan() || a >= b { a } else { b }) / largest.max(f64::MIN_POSITIVE);

    let name = &attention.spec().name;
    let sizes = |tensor: &Tensor| tensor.shape().iter().map(usize::to_string).collect::<Vec<_>>().join("×");
    let keys = match pairs {
        [(k, _)] if k.shape() == q.shape() => String::new(),
        pairs => format!(" (keys {})", pairs.iter().map(|(k, _)| sizes(k)).collect::<Vec<_>>().join(" and ")),
    };
    let (sizes, dtype, device) = (sizes(q), q.dtype(), device.name());
    println!("{name}: {sizes}{keys} {dtype} on {device}, largest error {error:.0e} of the reference");
    if error <= TOLERANCE { Ok(()) } else { Err(format!("{name} is off by more than {TOLERANCE:.0e}").into()) }
}
