//! Products of matrices spread over a warp (PTX ISA, "Matrix Fragments for mma.m16n8k16 with floating point type").
//!
//! A product starts at the accumulator and adds the products of elements in f32, where those are exact, in the order of k, each sum
//! rounded to nearest. PTX defines no order; tensor cores add several products at once and truncate, so that results differ from a
//! GPU's in the last bits. The layout of `wmma` is not defined either: here lane l holds the elements 8l to 8l + 7 of a row-major
//! matrix; the fragments of f16, which have room for 16, hold them twice.

use super::fault::Trouble;
use super::instruction::{FragmentElement, MatrixProduct, Register};
use super::warp::Warp;

/// The most rows, columns or depth of a product.
pub(super) const SIDE: usize = 16;
/// Elements of a fragment that a lane of `wmma` holds.
pub(super) const EACH: usize = 8;

type Matrix = [[f32; SIDE]; SIDE];

/// `mma` and `wmma.mma`.
pub(super) fn multiply(warp: &mut Warp, product: &MatrixProduct) -> Result<(), Box<Trouble>> {
    for &register in [&product.a, &product.b, &product.c].into_iter().flatten() {
        warp.check(register, !0)?;
    }
    let half = match product.element {
        FragmentElement::F16 => single_of_half,
        _ => |bits: u32| f32::from_bits(bits << 16),
    };
    let (rows, columns, depth) = product.shape;
    let (mut a, mut b, mut d) = ([[0.0; SIDE]; SIDE], [[0.0; SIDE]; SIDE], [[0.0; SIDE]; SIDE]);
    let pairs = |matrix: &mut Matrix, registers: &[Register], place: fn(usize, usize, usize) -> (usize, usize)| {
        // What follows in fragments of f16 of `wmma` is the same again.
        for (index, &register) in registers.iter().take(EACH / 2).enumerate() {
            for (lane, &bits) in warp.narrow(register).iter().enumerate() {
                let (row, column) = place(lane, index, 0);
                matrix[row][column] = half(bits & 0xffff);
                let (row, column) = place(lane, index, 1);
                matrix[row][column] = half(bits >> 16);
            }
        }
    };
    pairs(&mut a, &product.a, if product.opaque { opaque_pair } else { pair_of_a });
    pairs(&mut b, &product.b, if product.opaque { opaque_pair } else { pair_of_b });
    for (index, &register) in product.c.iter().enumerate() {
        for (lane, &bits) in warp.narrow(register).iter().enumerate() {
            let (row, column) = of_accumulator(product.opaque, lane, index);
            d[row][column] = f32::from_bits(bits);
        }
    }
    match columns {
        8 => accumulate::<8>(&a[..rows], &b[..depth], &mut d),
        _ => accumulate::<16>(&a[..rows], &b[..depth], &mut d),
    }
    for (index, &register) in product.to.iter().enumerate() {
        let value = std::array::from_fn(|lane| {
            let (row, column) = of_accumulator(product.opaque, lane, index);
            let value = d[row][column];
            if value.is_nan() { 0x7fff_ffff } else { value.to_bits() }
        });
        warp.set_narrow(register, &value, !0);
    }
    Ok(())
}

/// Adds the product of A and B, of so many columns, to D.
fn accumulate<const COLUMNS: usize>(a: &[[f32; SIDE]], b: &[[f32; SIDE]], d: &mut Matrix) {
    for (d, a) in d.iter_mut().zip(a) {
        for (&factor, b) in a.iter().zip(b) {
            for column in 0..COLUMNS {
                d[column] += factor * b[column];
            }
        }
    }
}

/// An f16 of the low 16 bits as f32, without branches. Subnormals are what is above 2⁻¹⁴ of a number with that exponent, as processors
/// take long for subnormal operands.
fn single_of_half(bits: u32) -> f32 {
    const LEAST: u32 = (127 - 14) << 23;
    let magnitude = (bits & 0x7fff) << 13;
    let subnormal = (f32::from_bits(LEAST | magnitude) - f32::from_bits(LEAST)).to_bits();
    let magnitude = match bits & 0x7c00 {
        0 => subnormal,
        0x7c00 => magnitude | 0x7f80_0000,
        _ => magnitude + ((127 - 15) << 23),
    };
    f32::from_bits(magnitude | (bits & 0x8000) << 16)
}

/// Row and column of A: of a lane's register, and of the low or high half.
fn pair_of_a(lane: usize, register: usize, part: usize) -> (usize, usize) {
    (lane / 4 + 8 * (register & 1), lane % 4 * 2 + part + 8 * (register >> 1))
}

/// Row and column of B.
fn pair_of_b(lane: usize, register: usize, part: usize) -> (usize, usize) {
    (lane % 4 * 2 + part + 8 * register, lane / 4)
}

/// Row and column of either in `wmma`.
fn opaque_pair(lane: usize, register: usize, part: usize) -> (usize, usize) {
    let element = lane * EACH + 2 * register + part;
    (element / SIDE, element % SIDE)
}

/// Row and column of C and D.
fn of_accumulator(opaque: bool, lane: usize, register: usize) -> (usize, usize) {
    if opaque {
        let element = lane * EACH + register;
        return (element / SIDE, element % SIDE);
    }
    (lane / 4 + 8 * (register >> 1), lane % 4 * 2 + (register & 1))
}

#[cfg(test)]
mod tests {
    use super::single_of_half;

    #[test]
    fn every_half_is_the_single_that_it_is() {
        for bits in 0..=u16::MAX {
            let expected = half::f16::from_bits(bits).to_f32();
            let found = single_of_half(bits as u32);
            assert!(found.to_bits() == expected.to_bits() || expected.is_nan() && found.is_nan(), "{bits:#x}");
        }
    }
}
