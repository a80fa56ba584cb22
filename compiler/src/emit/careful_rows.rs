//! Rows of a schedule for GPUs computed again, [with care](super::careful): by one unit, straight from memory, without a barrier or a
//! shuffle, so that units need not agree on which do it.

use super::arguments::{Compiled, KeyValue, Operand, Parameters};
use super::bounds::KeyTiles;
use super::careful::{CarefulRows, Exp2, PARTS, quarter_of_queries, quarter_scores};
use super::expression::Place;
use super::softmax::log_sum_exp;
use super::tensor_core::keep_rolled;
use crate::ir::Accumulator;
use cubecl::prelude::*;

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

/// The rows that a unit computes, and from where on.
#[derive(CubeType)]
pub struct CarefulItem {
    /// Where each row's query begins.
    pub queries: Sequence<usize>,
    /// The batch.
    pub batch: usize,
    /// The key and value head.
    pub kv_head: usize,
    /// The first vector of the output.
    pub vector: usize,
}

/// Computes `item`, whose rows are at `place`: the output, divided by the sum where the accumulator does, to `output`, a vector over the
/// rows for each element of `columns`. Returns the log-sum-exp. `unrolled` says that the products are one block of code, without a loop.
#[cube]
#[allow(clippy::too_many_arguments, reason = "a kernel's state cannot be bundled with borrowed operands")]
pub fn careful_rows<E: Float, R: Size, V: Size>(
    item: &CarefulItem,
    query: &Operand<Vector<E, V>>,
    pairs: &Sequence<KeyValue<Vector<E, V>>>,
    parameters: &Parameters,
    place: &Place<R>,
    output: &mut Array<Vector<f32, R>>,
    #[comptime] columns: Columns,
    #[comptime] program: Compiled,
    #[comptime] unrolled: bool,
) -> Vector<f32, R> {
    let accumulator = comptime![program.accumulator.clone()];
    let elements = comptime![columns.count * columns.width];
    #[unroll]
    for at in 0..elements {
        output[at] = Vector::new(0.0);
    }
    let mut factor = comptime![quarter_of_queries(&program)].runtime();
    if comptime![program.query_scale.is_some()] {
        let one = Vector::<f32, R>::new(1.0);
        factor *= parameters.float::<R>(place, one, comptime![program.query_scale.clone().unwrap()]).extract(0usize);
    }
    let rows = CarefulRows::<R>::new(place, parameters, true, comptime![accumulator.clone()]);

    #[unroll]
    for at in 0..comptime![program.loops.len()] {
        let key_loop = comptime![program.loops[at].clone()];
        let pair = &pairs[comptime![key_loop.pair]];
        let tiles = KeyTiles::new::<R>(parameters, place, pair.len, pair.offset, comptime![key_loop.clone()]);
        let key_base = pair.key.start + item.batch * pair.key.batch + item.kv_head * pair.key.head;
        let value_base = pair.value.start + item.batch * pair.value.batch + item.kv_head * pair.value.head;
        let mut key = tiles.next::<R>(parameters, place, 0, pair.len, pair.offset, 1usize, comptime![key_loop.clone()]);
        while key < pair.len {
            let dots = dot_products::<E, R, V>(
                item,
                query,
                &pair.key,
                key_base + key * pair.key.row,
                factor,
                comptime![program.operands.qk_dim],
                unrolled,
            );
            let step = rows.see(
                dots,
                &place.of_key(pair.offset + key as i32),
                parameters,
                comptime![quarter_scores(&program, &key_loop)],
                comptime![accumulator.clone()],
                Exp2::Device,
            );
            let start = value_base + key * pair.value.row;
            #[unroll]
            for vector in 0..comptime![columns.count] {
                let x = item.vector + comptime![vector * columns.step];
                #[unroll]
                for element in 0..comptime![columns.width] {
                    let value = element_of::<E, V>(
                        &pair.value,
                        start,
                        x,
                        element,
                        comptime![columns.width],
                        comptime![program.operands.v_dim],
                    );
                    let at = comptime![vector * columns.width + element];
                    output[at] = step.add(output[at], Vector::new(value), comptime![accumulator.clone()]);
                }
            }
            key =
                tiles.next::<R>(parameters, place, key + 1, pair.len, pair.offset, 1usize, comptime![key_loop.clone()]);
        }
    }

    let sum = rows.sum.read();
    if comptime![accumulator == Accumulator::Mean] {
        let zero = Vector::<f32, R>::new(0.0);
        let one = Vector::<f32, R>::new(1.0);
        let empty = sum.equal(&zero);
        let factor = select_many(empty, zero, one / select_many(empty, one, sum));
        #[unroll]
        for at in 0..elements {
            output[at] *= factor;
        }
    }
    log_sum_exp::<R>(rows.maximum.read(), sum, parameters.empty_lse, PARTS)
}

/// The products of the rows' queries and the key that begins at `start`, times `factor`.
#[cube]
fn dot_products<E: Float, R: Size, V: Size>(
    item: &CarefulItem,
    query: &Operand<Vector<E, V>>,
    key: &Operand<Vector<E, V>>,
    start: usize,
    factor: f32,
    #[comptime] dim: usize,
    #[comptime] unrolled: bool,
) -> Vector<f32, R> {
    let lanes = V::value();
    let rows = R::value();
    let mut sums = Sequence::<RuntimeCell<f32>>::new();
    #[unroll]
    for _ in 0..rows {
        sums.push(RuntimeCell::new(0.0f32));
    }
    #[unroll(unrolled)]
    for x in 0..comptime![dim / lanes] {
        if comptime![!unrolled] {
            keep_rolled();
        }
        let elements = key.data[key.at(start, x)];
        #[unroll]
        for row in 0..rows {
            let queries = query.data[query.at(item.queries[row], x)];
            let mut sum = sums[row].read();
            #[unroll]
            for lane in 0..lanes {
                let element = f32::cast_from(elements.extract(lane)) * factor;
                sum = fma(f32::cast_from(queries.extract(lane)), element, sum);
            }
            sums[row].store(sum);
        }
    }
    let mut dots = Vector::<f32, R>::new(0.0);
    #[unroll]
    for row in 0..rows {
        dots.insert(row, sums[row].read());
    }
    dots
}

/// Element `element` of vector `x`, of `width` elements, of the row that begins at `start`; of the last that there is, past the last.
#[cube]
fn element_of<E: Float, V: Size>(
    operand: &Operand<Vector<E, V>>,
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
