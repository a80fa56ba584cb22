//! Partial results of the same queries over different keys, made one.
//!
//! Of parts with the maxima mₙ, the sums lₙ and the outputs Oₙ, which are not divided, of each row:
//!
//! ```text
//! m = max mₙ    l = Σ lₙ·exp(mₙ − m)    O = Σ Oₙ·exp(mₙ − m)
//! ```
//!
//! A part in which a row saw nothing has the sum 0 and adds nothing. Runs of keys that the `cpu` schedule splits are merged by the same rule
//! ([`add_part()`]), but in that kernel itself: there they are vectors of what its tiles have, already divided and to base 2.

use super::arguments::{PartialArgument, PartialArgumentExpand, PartialArgumentLaunch};
use super::binding::{Buffer, OperandData, sequence};
use super::count_kernel;
use super::launch::spread;
use super::softmax::{Exp2, add_part, inverse, is_nan, log_sum_exp, power};
use cubecl::client::Client;
use cubecl::prelude::*;
use std::f32::consts::{LN_2, LOG2_E};

/// One number.
type One = Const<1>;

/// A partial result in buffers of f32.
#[derive(Clone)]
pub struct PartialData {
    /// The output, not divided: `[B, H, S, D]`.
    pub output: OperandData,
    /// Each row's maximum: `[B, H, S, 1]`.
    pub maximum: OperandData,
    /// Each row's sum: `[B, H, S, 1]`.
    pub sum: OperandData,
}

/// What a merge needs. Nothing is checked here: sizes, strides and buffers must fit each other, and no dimension may be 0.
#[derive(Clone)]
pub struct MergeData {
    /// The partial results, in the order in which they are added.
    pub partials: Vec<PartialData>,
    /// B, H, S and D.
    pub shape: [usize; 4],
    /// The output, contiguous `[B, H, S, D]` in f32.
    pub output: Buffer,
    /// In f32: the maximum of each row and then the sum of each; where it divides, the log-sum-exp of each.
    pub rows: Buffer,
    /// Whether the output is divided by the sums: then it is that of all keys, and else a partial result.
    pub divides: bool,
}

/// Merges `data` on the device of `client`.
pub fn launch(client: &Client, data: MergeData) {
    let MergeData { partials, shape: [batch, heads, queries, dim], output, rows, divides } = data;
    let on_cpu = client.properties().hardware.num_cpu_cores.is_some();
    // Columns that a unit computes at once: on a CPU a whole row, for which weights are found once.
    let run = if on_cpu { dim } else { 8 };
    let total = batch * heads * queries;
    let (count, units) = spread(client, total * dim.div_ceil(run));
    let partials = partials.into_iter().map(|PartialData { output, maximum, sum }| {
        PartialArgumentLaunch::new(output.launch::<f32>(1), maximum.launch::<f32>(1), sum.launch::<f32>(1))
    });
    let by = if on_cpu { Exp2::Polynomial } else { Exp2::Device };
    // SAFETY: the kernel stays inside the lengths that `data` states.
    unsafe {
        merge::launch_unchecked(
            client,
            count,
            units,
            sequence(partials),
            output.launch(1),
            rows.launch(1),
            heads,
            queries,
            dim,
            total,
            run,
            f32::NEG_INFINITY,
            by,
            divides,
        );
    }
}

/// Merges the `partials` of `total` rows, of which a unit computes `run` columns at once. `empty` is the maximum, or the log-sum-exp, of a row
/// that saw nothing.
#[cube(launch_unchecked)]
pub fn merge(
    partials: &Sequence<PartialArgument>,
    output: &mut [f32],
    rows: &mut [f32],
    heads: usize,
    queries: usize,
    dim: usize,
    total: usize,
    run: usize,
    empty: f32,
    #[comptime] by: Exp2,
    #[comptime] divides: bool,
) {
    comptime!(count_kernel());
    let runs = dim.div_ceil(run);
    let mut item = ABSOLUTE_POS;
    while item < total * runs {
        let row = item / runs;
        let first = item % runs * run;
        let query = row % queries;
        let head = row / queries % heads;
        let batch = row / queries / heads;

        let greatest = RuntimeCell::<Vector<f32, One>>::new(Vector::new(f32::MIN));
        #[unroll]
        for at in 0..comptime![partials.len()] {
            let partial = &partials[at];
            greatest.store(max(greatest.read(), partial.maximum_of(batch, head, query)));
        }
        let maximum = greatest.read();
        let total_sum = RuntimeCell::<Vector<f32, One>>::new(Vector::new(0.0));
        let mut weights = Sequence::<Vector<f32, One>>::new();
        #[unroll]
        for at in 0..comptime![partials.len()] {
            let partial = &partials[at];
            let weight = weight_at(partial.maximum_of(batch, head, query), maximum, by);
            total_sum.store(fma(weight, partial.sum_of(batch, head, query), total_sum.read()));
            weights.push(weight);
        }
        let sum = total_sum.read();
        let mut factor = Vector::<f32, One>::new(1.0);
        if divides {
            factor = inverse::<One>(sum);
        }
        for x in first..min(first + run, dim) {
            let merged = RuntimeCell::<Vector<f32, One>>::new(Vector::new(0.0));
            #[unroll]
            for at in 0..comptime![partials.len()] {
                let partial = &partials[at];
                let operand = &partial.output;
                let start = operand.row(operand.rows_of(batch, head), query);
                let element = Vector::<f32, One>::new(operand.data[operand.at(start, x)]);
                merged.store(add_part::<One>(merged.read(), element, weights[at] * factor));
            }
            output[row * dim + x] = merged.read().extract(0usize);
        }
        if first == 0 {
            if divides {
                // The maximum is in natural units: 1/ln 2 to base 2.
                rows[row] = log_sum_exp::<One>(maximum, sum, empty, LOG2_E).extract(0usize);
            } else {
                let seen = select_many(is_nan::<One>(sum), sum, maximum);
                let kept = select_many(sum.equal(&Vector::new(0.0)), Vector::new(empty), seen);
                rows[row] = kept.extract(0usize);
                rows[total + row] = sum.extract(0usize);
            }
        }
        item += CUBE_COUNT * CUBE_DIM as usize;
    }
}

#[cube]
impl PartialArgument {
    /// A row's sum.
    fn sum_of(&self, batch: usize, head: usize, query: usize) -> Vector<f32, One> {
        let sum = &self.sum;
        Vector::new(sum.data[sum.row(sum.rows_of(batch, head), query)])
    }

    /// A row's maximum; of one that saw nothing, the least number.
    fn maximum_of(&self, batch: usize, head: usize, query: usize) -> Vector<f32, One> {
        let maximum = &self.maximum;
        let found = Vector::<f32, One>::new(maximum.data[maximum.row(maximum.rows_of(batch, head), query)]);
        let is_empty = self.sum_of(batch, head, query).equal(&Vector::new(0.0));
        select_many(is_empty, Vector::new(f32::MIN), found)
    }
}

/// exp(part − maximum), where `maximum` is no less. By halves, whose difference does not overflow.
#[cube]
fn weight_at(part: Vector<f32, One>, maximum: Vector<f32, One>, #[comptime] by: Exp2) -> Vector<f32, One> {
    let half = Vector::<f32, One>::new(0.5);
    let difference = max(part * half - maximum * half, Vector::new(-100.0));
    power::<One>(difference * Vector::new(comptime![2.0 / LN_2]), by)
}
