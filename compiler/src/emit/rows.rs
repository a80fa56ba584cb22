//! Programs over rows alone: what each row's outputs are of is loaded, summed over its elements, and stored, or added to sums like something
//! captured. They need no schedule: a unit takes a row, or the rows of a copy of the sums.

use super::arguments::{Extent, OperandArgument, OutputBuffer, OutputBufferLaunch, ParameterValues};
use super::binding::{LaunchData, ParametersData, operands_launch, sequence};
use super::count_kernel;
use super::launch::spread;
use super::place::{Ends, Place, TilePlace};
use crate::expr::Expr;
use crate::ir::forward::numbers_as_values;
use crate::ir::{Element, Program};
use crate::scheduled::Compiled;
use cubecl::client::Client;
use cubecl::prelude::*;
use half::{bf16, f16};

/// One lane.
type One = Const<1>;

/// Computes `program`, which has rows of queries and no loop, on the device of `client`: of operands of one type, which are not scaled, with outputs
/// of that type or in f32. Nothing is checked of `data`, of which the numbers of rows that are stored and the counters are not read.
pub fn launch(client: &Client, program: &Compiled, data: LaunchData) {
    match program.sizes().element {
        Element::F32 => launch_typed::<f32>(client, program, data),
        Element::F16 => launch_typed::<f16>(client, program, data),
        Element::Bf16 => launch_typed::<bf16>(client, program, data),
    }
}

fn launch_typed<E: Float>(client: &Client, program: &Compiled, data: LaunchData) {
    let total = data.batch * data.heads * data.rows_len;
    let extent = Extent::of(&data, [0; 3]).launch();
    let parameters = ParametersData::new(program, &data, false).launch();
    if program.captured.is_some() {
        let LaunchData { operands, outputs, copies, .. } = data;
        let (count, units) = spread(client, copies);
        let elements = outputs[0].length / copies;
        let sums = outputs[0].clone().launch(1);
        let operands = operands_launch(operands, 1);
        let program = program.clone();
        // SAFETY: the kernel stays inside the lengths that `data` states.
        unsafe {
            add_rows::launch_unchecked::<E>(
                client, count, units, operands, sums, extent, parameters, total, copies, elements, program,
            );
        }
        return;
    }
    let (count, units) = spread(client, total);
    let floats = outputs::<f32>(program, &data, true);
    let rounded = outputs::<E>(program, &data, false);
    // SAFETY: the kernel stays inside the lengths that `data` states.
    unsafe {
        over_rows::launch_unchecked::<E>(
            client,
            count,
            units,
            operands_launch(data.operands, 1),
            floats,
            rounded,
            extent,
            parameters,
            total,
            program.clone(),
        );
    }
}

/// The outputs in f32, or those that are not.
fn outputs<O: Float>(program: &Program, data: &LaunchData, in_f32: bool) -> SequenceArg<OutputBuffer<O>> {
    let outputs = program.outputs.iter().zip(&data.outputs);
    let outputs = outputs.filter(|(output, _)| (output.element == Element::F32) == in_f32);
    sequence(outputs.map(|(_, buffer)| OutputBufferLaunch::new(buffer.clone().launch(1))))
}

/// `program` for `total` rows of all batches and heads, with its outputs in f32 and those in `E`, each in the program's order.
#[cube(launch_unchecked)]
pub fn over_rows<E: Float>(
    operands: &Sequence<OperandArgument<E>>,
    floats: &mut Sequence<OutputBuffer<f32>>,
    rounded: &mut Sequence<OutputBuffer<E>>,
    extent: &Extent,
    parameters: &ParameterValues,
    total: usize,
    #[comptime] program: Compiled,
) {
    comptime!(count_kernel());
    let mut at = ABSOLUTE_POS;
    while at < total {
        let row = Row::new::<E>(operands, extent, parameters, at, comptime![program.clone()]);
        #[unroll]
        for output in 0..comptime![program.outputs.len()] {
            let (dim, value) = comptime![(program.outputs[output].dim, program.outputs[output].value.clone())];
            let (in_f32, nth) = comptime![buffer_of(&program, output)];
            for x in 0..dim {
                let element =
                    row.value::<E>(operands, parameters, x, comptime![program.clone()], comptime![value.clone()]);
                if in_f32 {
                    let stored = &mut floats[nth];
                    stored.data[at * dim + x] = element;
                } else {
                    let stored = &mut rounded[nth];
                    stored.data[at * dim + x] = E::cast_from(element);
                }
            }
        }
        at += CUBE_COUNT * CUBE_DIM as usize;
    }
}

/// Adds what the `total` rows have to the `copies` copies of so many `elements` in `sums`, which are zeros: each of rows that follow each other.
#[cube(launch_unchecked)]
pub fn add_rows<E: Float>(
    operands: &Sequence<OperandArgument<E>>,
    sums: &mut [f32],
    extent: &Extent,
    parameters: &ParameterValues,
    total: usize,
    copies: usize,
    elements: usize,
    #[comptime] program: Compiled,
) {
    comptime!(count_kernel());
    let mut copy = ABSOLUTE_POS;
    while copy < copies {
        for at in copy * total / copies..(copy + 1) * total / copies {
            let row = Row::new::<E>(operands, extent, parameters, at, comptime![program.clone()]);
            #[unroll]
            for add in 0..comptime![program.adds.len()] {
                let (value, element) = comptime![(program.adds[add].value.clone(), program.adds[add].element.clone())];
                let value = row.value::<E>(operands, parameters, 0usize, comptime![program.clone()], value);
                let number = parameters.element_number::<One>(&row.place, element).extract(0usize);
                sums[copy * elements + number as usize] += value;
            }
        }
        copy += CUBE_COUNT * CUBE_DIM as usize;
    }
}

/// What is known of a row.
#[derive(CubeType)]
struct Row {
    /// Its place.
    place: Place<One>,
    /// Where it begins in what is loaded.
    starts: Sequence<usize>,
    /// Its sums.
    sums: Sequence<f32>,
    /// Its numbers.
    numbers: Sequence<f32>,
}

#[cube]
impl Row {
    /// Row number `at` of all batches and heads.
    fn new<E: Float>(
        operands: &Sequence<OperandArgument<E>>,
        extent: &Extent,
        parameters: &ParameterValues,
        at: usize,
        #[comptime] program: Compiled,
    ) -> Row {
        let row = at % extent.queries;
        let head = at / extent.queries % extent.heads;
        let batch = at / extent.queries / extent.heads;
        let position = extent.query_offset + row as i32;
        let ends = Ends { first: position, last: position };
        let tile = TilePlace::new(batch as i32, head as i32, (head / extent.kv_group) as i32, ends);
        let place = Place::<One>::of_queries(tile, Vector::new(position), Vector::new(head as i32), false);

        let mut starts = Sequence::<usize>::new();
        #[unroll]
        for load in 0..comptime![program.loads.len()] {
            let operand = &operands[comptime![program.loads[load].operand]];
            starts.push(operand.row(operand.rows_of(batch, head), row));
        }
        let mut numbers = Sequence::<f32>::new();
        #[unroll]
        for number in 0..comptime![program.numbers.len()] {
            let stored = &parameters.numbers[number];
            numbers.push(stored.data[stored.row(stored.rows_of(batch, head), row)]);
        }
        let mut found = Row { place, starts, sums: Sequence::<f32>::new(), numbers };
        #[unroll]
        for sum in 0..comptime![program.sums.len()] {
            let value = comptime![program.sums[sum].value.clone()];
            let dim = comptime![dim_of(&program, &value)];
            let total = RuntimeCell::<f32>::new(0.0f32);
            for x in 0..dim {
                let element =
                    found.value::<E>(operands, parameters, x, comptime![program.clone()], comptime![value.clone()]);
                total.store(total.read() + element);
            }
            found.sums.push(total.read());
        }
        found
    }

    /// What `expr` is at element `x`, of what is loaded, of the sums that are made, and of the numbers.
    fn value<E: Float>(
        &self,
        operands: &Sequence<OperandArgument<E>>,
        parameters: &ParameterValues,
        x: usize,
        #[comptime] program: Compiled,
        #[comptime] expr: Expr,
    ) -> f32 {
        let mut values = Sequence::<Vector<f32, One>>::new();
        #[unroll]
        for load in 0..comptime![program.loads.len()] {
            // Elsewhere it may have fewer elements.
            if comptime![expr.mentions(&Expr::Value(load))] {
                let operand = &operands[comptime![program.loads[load].operand]];
                values.push(Vector::new(f32::cast_from(operand.data[operand.at(self.starts[load], x)])));
            } else {
                values.push(Vector::new(0.0));
            }
        }
        #[unroll]
        for sum in 0..comptime![program.sums.len()] {
            if comptime![expr.mentions(&Expr::Value(program.loads.len() + sum))] {
                values.push(Vector::new(self.sums[sum]));
            } else {
                values.push(Vector::new(0.0));
            }
        }
        #[unroll]
        for number in 0..comptime![program.numbers.len()] {
            values.push(Vector::new(self.numbers[number]));
        }
        let element = parameters.float_of::<One>(&self.place, &values, comptime![of_values(&program, &expr)]);
        element.extract(0usize)
    }
}

/// `expr` of the [`values`] alone.
fn of_values(program: &Program, expr: &Expr) -> Expr {
    numbers_as_values(expr, program.loads.len() + program.sums.len())
}

/// The elements of the rows that a sum is over.
fn dim_of(program: &Program, value: &Expr) -> usize {
    let loaded = program.loads.iter().enumerate().find(|(load, _)| value.mentions(&Expr::Value(*load)));
    loaded.map_or(0, |(_, load)| program.operands[load.operand].dim)
}

/// Whether an output is in f32, and which of those, or of the others, it is.
fn buffer_of(program: &Program, output: usize) -> (bool, usize) {
    let in_f32 = |output: usize| program.outputs[output].element == Element::F32;
    (in_f32(output), (0..output).filter(|before| in_f32(*before) == in_f32(output)).count())
}
