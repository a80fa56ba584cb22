//! Operands of the `cube` schedule in vectors along the head dim.

use crate::emit::arguments::OperandArgument;
use crate::schedule::CubeSchedule;
use cubecl::prelude::*;

/// The lanes of a vector along the head dim.
pub type W = Const<{ CubeSchedule::WIDTH }>;

/// `vector`, whose lanes are as many as M says.
#[cube]
pub fn retag<E: Float, N: Size, M: Size>(vector: Vector<E, N>) -> Vector<E, M> {
    intrinsic!(|_| vector.expand.into())
}

/// Vector `x` of the row that begins at `row`, of `dim` elements; 0 past them.
#[cube]
pub fn read<E: Float, V: Size>(
    operand: &OperandArgument<Vector<E, V>>,
    row: usize,
    x: usize,
    #[comptime] dim: usize,
) -> Vector<E, W> {
    let width = comptime![CubeSchedule::WIDTH];
    let lanes = V::value();
    if comptime![lanes == width] {
        retag::<E, V, W>(operand.data[row + x])
    } else {
        let mut elements = Vector::<E, W>::empty();
        #[unroll]
        for element in 0..width {
            let at = x * width + element;
            let mut value = E::from_int(0);
            if at < dim {
                value = operand.data[operand.at(row, at)].extract(0usize);
            }
            elements.insert(element, value);
        }
        elements
    }
}
