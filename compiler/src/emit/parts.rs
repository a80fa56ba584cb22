//! The sum of parts of a tensor, in their order: parts have as many elements a row or fewer, and as many heads or a multiple of them.

use super::arguments::OperandArgument;
use super::binding::{Buffer, OperandData, sequence};
use super::count_kernel;
use super::launch::spread;
use crate::ir::Element;
use cubecl::client::Client;
use cubecl::prelude::*;
use half::{bf16, f16};

/// A part of a tensor.
#[derive(Clone)]
pub struct PartData {
    /// Its elements: `[B, H·heads, S, dim]`.
    pub data: OperandData,
    /// How many of its heads, which follow each other, are summed for a head of the tensor.
    pub heads: usize,
    /// The elements of a row: it is of the first of the tensor's.
    pub dim: usize,
}

/// What is summed. Nothing is checked here: sizes, strides and buffers must fit each other, and no dimension may be 0.
#[derive(Clone)]
pub struct PartsData {
    /// The element type of the tensor.
    pub element: Element,
    /// Whether the parts are in f32 all the same.
    pub in_f32: bool,
    /// The parts.
    pub parts: Vec<PartData>,
    /// B, H, S and D of the tensor.
    pub shape: [usize; 4],
    /// The tensor, contiguous.
    pub output: Buffer,
}

/// Computes `data` on the device of `client`.
pub fn launch(client: &Client, data: PartsData) {
    match (data.element, data.in_f32) {
        (Element::F32, _) => launch_typed::<f32, f32>(client, data),
        (Element::F16, false) => launch_typed::<f16, f16>(client, data),
        (Element::F16, true) => launch_typed::<f32, f16>(client, data),
        (Element::Bf16, false) => launch_typed::<bf16, bf16>(client, data),
        (Element::Bf16, true) => launch_typed::<f32, bf16>(client, data),
    }
}

fn launch_typed<P: Float, E: Float>(client: &Client, data: PartsData) {
    let PartsData { parts, shape: [batch, heads, rows, dim], output, .. } = data;
    let total = batch * heads * rows * dim;
    let (count, units) = spread(client, total);
    let parts = parts.into_iter().map(|part| PartArgumentLaunch::new(part.data.launch(1), part.heads, part.dim));
    // SAFETY: the kernel stays inside the lengths that `data` states.
    unsafe {
        sum_parts::launch_unchecked::<P, E>(
            client,
            count,
            units,
            sequence(parts),
            output.launch(1),
            heads,
            rows,
            dim,
            total,
        );
    }
}

/// A part as a kernel takes it.
#[derive(CubeType, CubeLaunch)]
pub struct PartArgument<P: Float> {
    operand: OperandArgument<P>,
    heads: usize,
    dim: usize,
}

/// The `total` elements of `output`, of so many heads and rows, and elements of a row. They are summed in f32.
#[cube(launch_unchecked)]
pub fn sum_parts<P: Float, E: Float>(
    parts: &Sequence<PartArgument<P>>,
    output: &mut [E],
    heads: usize,
    rows: usize,
    dim: usize,
    total: usize,
) {
    comptime!(count_kernel());
    let mut at = ABSOLUTE_POS;
    while at < total {
        let x = at % dim;
        let row = at / dim % rows;
        let head = at / dim / rows % heads;
        let batch = at / dim / rows / heads;
        let sum = RuntimeCell::<f32>::new(0.0f32);
        #[unroll]
        for part in 0..parts.len() {
            let part = &parts[part];
            if x < part.dim {
                for nth in 0..part.heads {
                    let operand = &part.operand;
                    let start = operand.row(operand.head(operand.batch(batch), head * part.heads + nth), row);
                    sum.store(sum.read() + f32::cast_from(operand.data[operand.at(start, x)]));
                }
            }
        }
        output[at] = E::cast_from(sum.read());
        at += CUBE_COUNT * CUBE_DIM as usize;
    }
}

/// Makes the numbers of `output`, in f32, zeros.
pub fn clear(client: &Client, output: Buffer) {
    let total = output.length;
    let (count, units) = spread(client, total);
    // SAFETY: the kernel stays inside the length of its buffer.
    unsafe { zeros::launch_unchecked(client, count, units, output.launch(1), total) }
}

/// `total` zeros.
#[cube(launch_unchecked)]
pub fn zeros(output: &mut [f32], total: usize) {
    comptime!(count_kernel());
    let mut at = ABSOLUTE_POS;
    while at < total {
        output[at] = 0.0;
        at += CUBE_COUNT * CUBE_DIM as usize;
    }
}
