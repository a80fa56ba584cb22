//! What the gallery's programs share: numbers to run an attention on, and the comparison with its reference.

use std::error::Error;

use purview::spec::Role;
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
    let shapes = shape.operand_shapes(attention.spec())?.into_iter().zip(1u32..);
    let tensor = |(shape, seed): ([usize; 4], u32)| {
        Tensor::from_slice(device, shape, &numbers(seed << 16, shape.iter().product()))
    };
    let operands = shapes.map(tensor).collect::<Result<Vec<_>, _>>()?;
    check_operands(device, attention, &operands.iter().collect::<Vec<_>>())
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
    let operands = attention.in_order(q, pairs)?;
    check_operands(device, attention, &operands)
}

/// As [`check`], on these tensors along queries and keys, in the order of the signature.
///
/// # Errors
/// As [`check`].
pub fn check_operands(
    device: &Device,
    attention: impl Into<AnyAttention>,
    operands: &[&Tensor],
) -> Result<(), Box<dyn Error>> {
    let attention = attention.into();
    let got = attention.run_operands(device, operands)?.to_vec::<f32>()?;
    let want = attention.reference_operands(operands)?.out.data;
    assert_eq!(got.len(), want.len());

    let largest = want.iter().map(|x| x.abs()).fold(0.0, f64::max);
    let difference = got.iter().zip(&want).map(|(&got, &want)| (f64::from(got) - want).abs());
    // Not `f64::max`, which would pass over a NaN.
    let error =
        difference.fold(0.0, |a: f64, b| if a.is_nan() || a >= b { a } else { b }) / largest.max(f64::MIN_POSITIVE);

    let spec = attention.spec();
    let sizes = |tensor: &Tensor| tensor.shape().iter().map(usize::to_string).collect::<Vec<_>>().join("×");
    let of = |is_wanted: fn(Role) -> bool| {
        let wanted = spec.operands.iter().zip(operands).filter(move |(param, _)| is_wanted(param.role));
        wanted.map(|(_, tensor)| sizes(tensor)).collect::<Vec<_>>()
    };
    let (queries, keys) = (of(|role| role == Role::Query), of(|role| matches!(role, Role::Key(_))));
    let keys = if keys == queries { String::new() } else { format!(" (keys {})", keys.join(" and ")) };
    let (name, sizes, dtype, device) = (&spec.name, queries.join(" and "), operands[0].dtype(), device.name());
    println!("{name}: {sizes}{keys} {dtype} on {device}, largest error {error:.0e} of the reference");
    if error <= TOLERANCE { Ok(()) } else { Err(format!("{name} is off by more than {TOLERANCE:.0e}").into()) }
}
