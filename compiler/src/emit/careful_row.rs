//! A row of a schedule for GPUs computed again, [with care](super::careful): by one unit, straight from memory, without a barrier or a
//! shuffle, so that units need not agree on which do it. A row at a time, which is little code, since it is seldom run.

use super::arguments::{KernelInputs, OperandArgument, Results};
use super::careful::{CarefulRows, PARTS, quarter_of_queries, quarter_scores};
use super::key_tiles::KeyTiles;
use super::place::{Ends, Place, TilePlace};
use super::softmax::{Exp2, inverse, row_number};
use crate::emit::nvidia::tensor_core::keep_rolled;
use crate::expr::Expr;
use crate::ir::Reduction;
use crate::scheduled::Compiled;
use cubecl::prelude::*;

/// One row.
type One = Const<1>;

/// The columns of an output, or of an accumulator, that a unit computes: the `width` elements of each of some vectors, `step` vectors apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Columns {
    /// From a vector to the next; `None` where it computes one alone.
    pub step: Option<usize>,
    /// The elements of a vector: what operands are read in, where that is more than one.
    pub width: usize,
}

impl Columns {
    /// How many vectors, of an output or an accumulator of `dim` elements.
    fn count(&self, dim: usize) -> usize {
        self.step.map_or(1, |step| dim.div_ceil(self.width).div_ceil(step))
    }

    /// From the first vector to this one of them.
    fn offset_of(&self, vector: usize) -> usize {
        vector * self.step.unwrap_or(0)
    }
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
    /// The first vector of outputs and accumulators.
    pub vector: usize,
}

/// Computes `row` and writes its `columns`, those that there are, and with the first column the numbers of it that the program keeps.
/// `unrolled` says that the products are one block of code, without a loop.
#[cube]
pub fn careful_row<E: Float, O: Float, V: Size>(
    row: CarefulRow,
    given: &KernelInputs<'_, Vector<E, V>>,
    results: &mut Results<Vector<O, V>>,
    #[comptime] columns: Columns,
    #[comptime] program: Compiled,
    #[comptime] unrolled: bool,
) {
    let (operands, extent, parameters) = (given.operands, given.extent, given.parameters);
    let position = extent.query_offset + row.query as i32;
    let rows = Vector::new(position);
    let (batch, head) = (row.batch as i32, row.head as i32);
    let heads = Vector::new(row.head as i32);
    let kv_head = (row.head / extent.kv_group) as i32;
    let tile = TilePlace::new(batch, head, kv_head, Ends { first: position, last: position });
    let place = Place::<One>::of_queries(tile, rows, heads, false);
    let quarter = comptime![quarter_of_queries(&program)];
    let mut starts = Sequence::<usize>::new();
    let mut scales = Sequence::<f32>::new();
    #[unroll]
    for at in 0..comptime![program.loads.len()] {
        let loaded = comptime![program.loads[at].clone()];
        let operand = &operands[comptime![loaded.operand]];
        starts.push(operand.row(operand.rows_of(row.batch, row.head), row.query));
        let mut scale = quarter.runtime();
        if comptime![loaded.scale.is_some()] {
            scale *= parameters.float::<One>(&place, comptime![loaded.scale.clone().unwrap()]).extract(0usize);
        }
        scales.push(scale);
    }
    let mut states = Sequence::<RowState>::new();
    #[unroll]
    for at in 0..comptime![program.accumulators.len()] {
        let count = comptime![columns.count(program.dim_of(at)) * columns.width];
        let mut elements = Array::<Vector<f32, One>>::new(count);
        #[unroll]
        for x in 0..count {
            elements[x] = Vector::new(0.0);
        }
        let reduction = comptime![program.accumulators[at].reduction.clone()];
        let seen = CarefulRows::<One>::new(&place, parameters, true, reduction);
        states.push(RowState { elements, seen });
    }

    #[unroll]
    for at in 0..comptime![program.loops.len()] {
        let key_loop = comptime![program.loops[at].clone()];
        let (terms, pushes) = comptime![(key_loop.dots(), key_loop.pushes())];
        let set = &given.keys[comptime![key_loop.column_set()]];
        let tiles = KeyTiles::new::<One>(parameters, &place, set.len, set.offset, 1usize, comptime![key_loop.clone()]);
        let mut bases = Sequence::<usize>::new();
        #[unroll]
        for operand in 0..comptime![program.operands.len()] {
            let of_loop = comptime![program.operands[operand].axis == key_loop.columns];
            bases.push(if of_loop { operands[operand].rows_of(row.batch, row.head) } else { 0usize.runtime() });
        }
        let mut key = tiles.next::<One>(parameters, &place, 0);
        while key < set.len {
            let mut dots = Sequence::<Vector<f32, One>>::new();
            #[unroll]
            for dot in 0..comptime![terms.len()] {
                let sum = RuntimeCell::<f32>::new(0.0f32);
                #[unroll]
                for term in 0..comptime![terms[dot].len()] {
                    let term = comptime![terms[dot][term]];
                    let (query, column) = (&operands[comptime![term.row]], &operands[comptime![term.column]]);
                    let load = comptime![program.load_of(term.row)];
                    let query = OperandRow::<E, V>::new(query, starts[load]);
                    let key = OperandRow::<E, V>::new(column, column.row(bases[comptime![term.column]], key));
                    let dim = comptime![program.operands[term.row].dim];
                    add_product::<E, V>(&sum, query, key, scales[load], dim, unrolled);
                }
                dots.push(Vector::new(sum.read()));
            }
            let here = place.of_column(set.offset + key as i32);
            #[unroll]
            for push in 0..comptime![pushes.len()] {
                let pushed = comptime![quarter_scores(&program, &pushes[push])];
                let reduction = comptime![program.accumulators[pushed.accumulator].reduction.clone()];
                let state = &mut states[comptime![pushed.accumulator]];
                let (asked, by) = comptime![(pushed.clone(), Exp2::Device)];
                let step = state.seen.see(&dots, &here, parameters, asked, comptime![reduction.clone()], by);
                let values = &operands[comptime![pushed.values]];
                let value = values.row(bases[comptime![pushed.values]], key);
                #[unroll]
                for vector in 0..comptime![columns.count(pushed.dim)] {
                    let x = row.vector + comptime![columns.offset_of(vector)];
                    #[unroll]
                    for element in 0..comptime![columns.width] {
                        let (width, dim) = comptime![(columns.width, pushed.dim)];
                        let value = element_of::<E, V>(values, value, x, element, width, dim);
                        let at = comptime![vector * columns.width + element];
                        let (has_factor, reduction) = comptime![(pushed.factor.is_some(), reduction.clone())];
                        state.elements[at] = step.add(state.elements[at], Vector::new(value), has_factor, reduction);
                    }
                }
            }
            key = tiles.next::<One>(parameters, &place, key + 1);
        }
    }

    #[unroll]
    for at in 0..comptime![program.accumulators.len()] {
        if comptime![program.accumulators[at].reduction == Reduction::Mean] {
            let state = &mut states[at];
            let factor = inverse::<One>(state.seen.sum.read());
            #[unroll]
            for x in 0..comptime![columns.count(program.dim_of(at)) * columns.width] {
                state.elements[x] *= factor;
            }
        }
    }
    if comptime![program.is_undivided()] {
        let state = &mut states[0];
        let sum = state.seen.sum.read();
        #[unroll]
        for x in 0..comptime![columns.count(program.dim_of(0)) * columns.width] {
            state.elements[x] *= sum;
        }
    }
    let row_of_output = (row.batch * extent.heads + row.head) * extent.queries + row.query;
    #[unroll]
    for output in 0..comptime![program.outputs.len()] {
        let stored = &mut results.outputs[output];
        let accumulator = comptime![program.stored_accumulator(output)];
        let dim = comptime![program.outputs[output].dim];
        if comptime![accumulator.is_some()] {
            let state = &states[comptime![accumulator.unwrap()]];
            store::<O, V>(&state.elements, &mut stored.data, row_of_output, row.vector, dim, columns);
        } else {
            let code = comptime![ExpressionCode { program: program.clone(), output, columns }];
            let made = expression::<E, V>(&states, given, &starts, &place, row, code);
            store::<O, V>(&made, &mut stored.data, row_of_output, row.vector, dim, columns);
        }
    }
    #[unroll]
    for at in 0..comptime![program.row_numbers().len()] {
        if row.vector == 0 {
            let (accumulator, number) = comptime![program.row_numbers()[at]];
            let state = &states[accumulator];
            let seen = &state.seen;
            let stored = &mut results.rows[at];
            stored.data[row_of_output] =
                row_number::<One>(seen.maximum.read(), seen.sum.read(), parameters.empty_lse, number, PARTS)
                    .extract(0usize);
        }
    }
}

/// An accumulator of a row, in the columns that the unit computes.
#[derive(CubeType)]
struct RowState {
    /// What was accumulated.
    elements: Array<Vector<f32, One>>,
    /// Its maximum and sum.
    seen: CarefulRows<One>,
}

/// What the code for an output that is an expression is made for.
#[derive(Clone)]
struct ExpressionCode {
    program: Compiled,
    /// The number of the output.
    output: usize,
    /// The columns that the unit computes.
    columns: Columns,
}

/// The columns that a unit computes of an output that is an expression of the accumulators and of what lies along the queries.
#[cube]
fn expression<E: Float, V: Size>(
    states: &Sequence<RowState>,
    given: &KernelInputs<'_, Vector<E, V>>,
    starts: &Sequence<usize>,
    place: &Place<One>,
    row: CarefulRow,
    #[comptime] code: ExpressionCode,
) -> Array<Vector<f32, One>> {
    let (program, output, columns) = comptime![(code.program.clone(), code.output, code.columns)];
    let (dim, stored) = comptime![(program.outputs[output].dim, program.outputs[output].value.clone())];
    let mut made = Array::<Vector<f32, One>>::new(comptime![columns.count(dim) * columns.width]);
    #[unroll]
    for vector in 0..comptime![columns.count(dim)] {
        let x = row.vector + comptime![columns.offset_of(vector)];
        #[unroll]
        for element in 0..comptime![columns.width] {
            let at = comptime![vector * columns.width + element];
            let mut values = Sequence::<Vector<f32, One>>::new();
            #[unroll]
            for accumulator in 0..comptime![program.accumulators.len()] {
                let mut accumulated = Vector::<f32, One>::new(0.0);
                if comptime![stored.mentions(&Expr::Value(accumulator))] {
                    let state = &states[accumulator];
                    accumulated = state.elements[at];
                }
                values.push(accumulated);
            }
            #[unroll]
            for load in 0..comptime![program.loads.len()] {
                let mut loaded = 0.0f32;
                if comptime![stored.mentions(&Expr::Value(program.accumulators.len() + load))] {
                    let operand = &given.operands[comptime![program.loads[load].operand]];
                    loaded = element_of::<E, V>(operand, starts[load], x, element, comptime![columns.width], dim);
                }
                values.push(Vector::new(loaded));
            }
            made[at] = given.parameters.float_of::<One>(place, &values, comptime![stored.clone()]);
        }
    }
    made
}

/// Writes the `columns` from vector `first` on of a row of an output, of `dim` elements.
#[cube]
fn store<O: Float, V: Size>(
    elements: &Array<Vector<f32, One>>,
    output: &mut [Vector<O, V>],
    row: usize,
    first: usize,
    #[comptime] dim: usize,
    #[comptime] columns: Columns,
) {
    #[unroll]
    for vector in 0..comptime![columns.count(dim)] {
        let x = first + comptime![columns.offset_of(vector)];
        let lanes = V::value();
        if comptime![lanes == columns.width] {
            if x < comptime![dim / columns.width] {
                let mut stored = Vector::<O, V>::empty();
                #[unroll]
                for element in 0..comptime![columns.width] {
                    let at = vector * columns.width + element;
                    stored.insert(element, O::cast_from(elements[at].extract(0usize)));
                }
                output[row * comptime![dim / columns.width] + x] = stored;
            }
        } else {
            #[unroll]
            for element in 0..comptime![columns.width] {
                let at = x * columns.width + element;
                if at < dim {
                    let element = elements[vector * columns.width + element].extract(0usize);
                    output[row * dim + at] = Vector::new(O::cast_from(element));
                }
            }
        }
    }
}

/// A row of an operand.
#[derive(CubeType, Clone, Copy)]
#[expand(derive(Clone, Copy))]
struct OperandRow<'a, E: Float, V: Size> {
    operand: &'a OperandArgument<Vector<E, V>>,
    /// Where it begins.
    start: usize,
}

#[cube]
impl<'a, E: Float, V: Size> OperandRow<'a, E, V> {
    fn new(operand: &'a OperandArgument<Vector<E, V>>, start: usize) -> OperandRow<'a, E, V> {
        OperandRow::<'a, E, V> { operand, start }
    }

    fn vector(&self, x: usize) -> Vector<E, V> {
        self.operand.data[self.operand.at(self.start, x)]
    }
}

/// Adds to `sum` the product of a query and a key, times `factor`.
#[cube]
fn add_product<E: Float, V: Size>(
    sum: &RuntimeCell<f32>,
    query: OperandRow<'_, E, V>,
    key: OperandRow<'_, E, V>,
    factor: f32,
    #[comptime] dim: usize,
    #[comptime] unrolled: bool,
) {
    let lanes = V::value();
    #[unroll(unrolled)]
    for x in 0..comptime![dim / lanes] {
        if comptime![!unrolled] {
            keep_rolled();
        }
        let (queries, keys) = (query.vector(x), key.vector(x));
        #[unroll]
        for lane in 0..lanes {
            let element = f32::cast_from(keys.extract(lane)) * factor;
            sum.store(fma(f32::cast_from(queries.extract(lane)), element, sum.read()));
        }
    }
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
