//! What a backward pass needs of each row beside the operands: the log-sum-exp to base 2, and delta.
//!
//! ```text
//! lse₂ = lse · log2 e, and +∞ where lse is −∞       delta = Σ dO·O − d lse
//! ```
//!
//! A row that sees nothing thus weighs nothing: 2 to the power of its scores less +∞.

use super::arguments::OperandArgument;
use super::binding::{Buffer, OperandData, sequence};
use super::count_kernel;
use super::launch::spread;
use crate::ir::Element;
use cubecl::client::Client;
use cubecl::prelude::*;
use half::{bf16, f16};
use std::f32::consts::LOG2_E;

/// What is computed. Nothing is checked here: sizes, strides and buffers must fit each other, and no dimension may be 0.
#[derive(Clone)]
pub struct DeltaData {
    /// The element type of the output and its gradient.
    pub element: Element,
    /// The output: `[B, H, S, D]`.
    pub output: OperandData,
    /// Its gradient, likewise.
    pub gradient: OperandData,
    /// Each row's log-sum-exp, `[B, H, S, 1]` in f32, of a softmax.
    pub lse: Option<OperandData>,
    /// The gradient of that, likewise, if it has one.
    pub lse_gradient: Option<OperandData>,
    /// B, H, S and D.
    pub shape: [usize; 4],
    /// In f32: delta of each row, and then, where there is a log-sum-exp, that to base 2.
    pub rows: Buffer,
}

/// Computes `data` on the device of `client`.
pub fn launch(client: &Client, data: DeltaData) {
    match data.element {
        Element::F32 => launch_typed::<f32>(client, data),
        Element::F16 => launch_typed::<f16>(client, data),
        Element::Bf16 => launch_typed::<bf16>(client, data),
    }
}

fn launch_typed<E: Float>(client: &Client, data: DeltaData) {
    let DeltaData { output, gradient, lse, lse_gradient, shape: [batch, heads, queries, dim], rows, .. } = data;
    let total = batch * heads * queries;
    let (count, units) = spread(client, total);
    // SAFETY: the kernel stays inside the lengths that `data` states.
    unsafe {
        delta::launch_unchecked::<E>(
            client,
            count,
            units,
            output.launch(1),
            gradient.launch(1),
            sequence(lse.map(|lse| lse.launch(1))),
            sequence(lse_gradient.map(|gradient| gradient.launch(1))),
            rows.launch(1),
            heads,
            queries,
            dim,
            total,
            f32::NEG_INFINITY,
        );
    }
}

/// The numbers of `total` rows. `empty` is the log-sum-exp of a row that sees nothing.
#[cube(launch_unchecked)]
pub fn delta<E: Float>(
    output: &OperandArgument<E>,
    gradient: &OperandArgument<E>,
    lse: &Sequence<OperandArgument<f32>>,
    lse_gradient: &Sequence<OperandArgument<f32>>,
    rows: &mut [f32],
    heads: usize,
    queries: usize,
    dim: usize,
    total: usize,
    empty: f32,
) {
    comptime!(count_kernel());
    let mut row = ABSOLUTE_POS;
    while row < total {
        let query = row % queries;
        let head = row / queries % heads;
        let batch = row / queries / heads;
        let of_output = output.row(output.rows_of(batch, head), query);
        let of_gradient = gradient.row(gradient.rows_of(batch, head), query);
        let mut sum = 0.0f32;
        for x in 0..dim {
            let element = f32::cast_from(output.data[output.at(of_output, x)]);
            sum = fma(element, f32::cast_from(gradient.data[gradient.at(of_gradient, x)]), sum);
        }
        if comptime![lse_gradient.len() == 1] {
            let wanted = &lse_gradient[0];
            sum -= wanted.data[wanted.row(wanted.rows_of(batch, head), query)];
        }
        rows[row] = sum;
        if comptime![lse.len() == 1] {
            let lse = &lse[0];
            let found = lse.data[lse.row(lse.rows_of(batch, head), query)];
            rows[total + row] = select(found == empty, -empty, found * comptime![LOG2_E]);
        }
        row += CUBE_COUNT * CUBE_DIM as usize;
    }
}
