//! A row of a schedule for GPUs computed again, [with care](super::careful): by one unit, straight from memory, without a barrier or a
//! shuffle, so that units need not agree on which do it. A row at a time, which is little code, since it is seldom run.

use super::arguments::{Extent, KeySet, OperandArgument, ParameterValues};
use super::careful::{CarefulRows, Exp2, PARTS, quarter_of_queries, quarter_scores};
use super::key_tiles::KeyTiles;
use super::place::{Ends, Place, TilePlace};
use super::softmax::{inverse, log_sum_exp};
use crate::emit::nvidia::tensor_core::keep_rolled;
use crate::ir::Reduction;
use crate::scheduled::Compiled;
use cubecl::prelude::*;

/// One row.
type One = Const<1>;

/// The columns of the output that a unit computes: the `width` elements of each of `count` vectors, `step` vectors apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Columns {
    /// How many vectors.
    pub count: usize,
    /// From a vector to the next.
    pub step: usize,
    /// The elements of a vector: what operands are read in, where that is more than one.
    pub width: usize,
}

/// The row that a unit computes, and from which column on.
#[derive(CubeType, Clone, Copy)]
#[expand(derive(Clone, Copy))]
pub struct CarefulRow {
    /// The batch.
    pub batch: usize,
    /// The query head.
    pub head: usize,
    /// The query.
    pub query: usize,
    /// The first vector of the output.
    pub vector: usize,
}

/// Computes `row` and writes its `columns`, those that there are, to `output`, and its log-sum-exp to `lse` with the first column.
/// `unrolled` says that the products are one block of code, without a loop.
#[cube]
#[allow(clippy::too_many_arguments, reason = "a kernel's state cannot be bundled with borrowed operands")]
pub fn careful_row<E: Float, V: Size>(
    row: CarefulRow,
    operands: &Sequence<OperandArgument<Vector<E, V>>>,
    keys: &Sequence<KeySet>,
    output: &mut [Vector<E, V>],
    lse: &mut [f32],
    extent: &Extent,
    parameters: &ParameterValues,
    #[comptime] columns: Columns,
    #[comptime] program: Compiled,
    #[comptime] unrolled: bool,
) {
    let position = extent.query_offset + row.query as i32;
    let rows = Vector::new(position);
    let (batch, head) = (row.batch as i32, row.head as i32);
    let heads = Vector::new(row.head as i32);
    let kv_head = (row.head / extent.kv_group) as i32;
    let tile = TilePlace::new(batch, head, kv_head, Ends { first: position, last: position });
    let place = Place::<One>::of_queries(tile, rows, heads, false);
    let query = &operands[comptime![program.loads[0].operand]];
    let start = query.row(query.rows_of(row.batch, row.head), row.query);
    let accumulator = comptime![program.reduction().clone()];
    let mut elements = Array::<Vector<f32, One>>::new(comptime![columns.count * columns.width]);
    #[unroll]
    for at in 0..comptime![columns.count * columns.width] {
        elements[at] = Vector::new(0.0);
    }
    let mut factor = comptime![quarter_of_queries(&program)].runtime();
    if comptime![program.query_scale().is_some()] {
        factor *= parameters.float::<One>(&place, comptime![program.query_scale().cloned().unwrap()]).extract(0usize);
    }
    let state = CarefulRows::<One>::new(&place, parameters, true, comptime![accumulator.clone()]);

    #[unroll]
    for at in 0..comptime![program.loops.len()] {
        let key_loop = comptime![program.loops[at].clone()];
        let (term, push) = comptime![key_loop.single()];
        let set = &keys[comptime![key_loop.key_set()]];
        let (keys_of_loop, values) = (&operands[comptime![term.column]], &operands[comptime![push.values]]);
        let tiles = KeyTiles::new::<One>(parameters, &place, set.len, set.offset, 1usize, comptime![key_loop.clone()]);
        let key_base = keys_of_loop.rows_of(row.batch, row.head);
        let value_base = values.rows_of(row.batch, row.head);
        let mut key = tiles.next::<One>(parameters, &place, 0);
        while key < set.len {
            let mut dots = Sequence::<Vector<f32, One>>::new();
            dots.push(dot_product::<E, V>(
                query,
                start,
                keys_of_loop,
                keys_of_loop.row(key_base, key),
                factor,
                comptime![program.sizes().qk_dim],
                unrolled,
            ));
            let step = state.see(
                &dots,
                &place.of_column(set.offset + key as i32),
                parameters,
                comptime![quarter_scores(&program, &push)],
                comptime![accumulator.clone()],
                Exp2::Device,
            );
            let value = values.row(value_base, key);
            #[unroll]
            for vector in 0..comptime![columns.count] {
                let x = row.vector + comptime![vector * columns.step];
                #[unroll]
                for element in 0..comptime![columns.width] {
                    let value = element_of::<E, V>(
                        values,
                        value,
                        x,
                        element,
                        comptime![columns.width],
                        comptime![program.sizes().v_dim],
                    );
                    let at = comptime![vector * columns.width + element];
                    elements[at] = step.add(elements[at], Vector::new(value), comptime![accumulator.clone()]);
                }
            }
            key = tiles.next::<One>(parameters, &place, key + 1);
        }
    }

    let sum = state.sum.read();
    if comptime![accumulator == Reduction::Mean] {
        let factor = inverse::<One>(sum);
        #[unroll]
        for at in 0..comptime![columns.count * columns.width] {
            elements[at] *= factor;
        }
    }
    let row_of_output = (row.batch * extent.heads + row.head) * extent.queries + row.query;
    let v_dim = comptime![program.sizes().v_dim];
    #[unroll]
    for vector in 0..comptime![columns.count] {
        let x = row.vector + comptime![vector * columns.step];
        let lanes = V::value();
        if comptime![lanes == columns.width] {
            if x < comptime![v_dim / columns.width] {
                let mut stored = Vector::<E, V>::empty();
                #[unroll]
                for element in 0..comptime![columns.width] {
                    stored.insert(element, E::cast_from(elements[vector * columns.width + element].extract(0usize)));
                }
                output[row_of_output * comptime![v_dim / columns.width] + x] = stored;
            }
        } else {
            #[unroll]
            for element in 0..comptime![columns.width] {
                let at = x * columns.width + element;
                if at < v_dim {
                    let element = elements[vector * columns.width + element].extract(0usize);
                    output[row_of_output * v_dim + at] = Vector::new(E::cast_from(element));
                }
            }
        }
    }
    if comptime![accumulator.is_softmax()] {
        if row.vector == 0 {
            lse[row_of_output] =
                log_sum_exp::<One>(state.maximum.read(), sum, parameters.empty_lse, PARTS).extract(0usize);
        }
    }
}

/// The product of the query that begins at `query_start` and the key that begins at `key_start`, times `factor`.
#[cube]
fn dot_product<E: Float, V: Size>(
    query: &OperandArgument<Vector<E, V>>,
    query_start: usize,
    key: &OperandArgument<Vector<E, V>>,
    key_start: usize,
    factor: f32,
    #[comptime] dim: usize,
    #[comptime] unrolled: bool,
) -> Vector<f32, One> {
    let lanes = V::value();
    let sum = RuntimeCell::<f32>::new(0.0f32);
    #[unroll(unrolled)]
    for x in 0..comptime![dim / lanes] {
        if comptime![!unrolled] {
            keep_rolled();
        }
        let queries = query.data[query.at(query_start, x)];
        let keys = key.data[key.at(key_start, x)];
        #[unroll]
        for lane in 0..lanes {
            let element = f32::cast_from(keys.extract(lane)) * factor;
            sum.store(fma(f32::cast_from(queries.extract(lane)), element, sum.read()));
        }
    }
    Vector::new(sum.read())
}

/// Element `element` of vector `x`, of `width` elements, of the row that begins at `start`; of the last that there is, past the last.
#[cube]
fn element_of<E: Float, V: Size>(
    operand: &OperandArgument<Vector<E, V>>,
    start: usize,
    x: usize,
    #[comptime] element: usize,
    #[comptime] width: usize,
    #[comptime] dim: usize,
) -> f32 {
    let lanes = V::value();
    if comptime![lanes == width] {
        f32::cast_from(operand.data[start + min(x, comptime![dim / width - 1])].extract(element))
    } else {
        f32::cast_from(operand.data[operand.at(start, min(x * width + element, comptime![dim - 1]))].extract(0usize))
    }
}
