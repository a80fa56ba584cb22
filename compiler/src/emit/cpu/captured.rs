//! Sums for elements of what is captured, by the `cpu` schedule: the tiles of a program that has no accumulators, and whose loops add to such
//! sums.

use super::key_tile::{CpuTileCode, KeyRows, Part};
use super::query_tile::{CpuCode, QueryRows, QueryTile};
use super::{Run, visit_columns};
use crate::emit::arguments::{Counters, Extent, KernelInputs, KeySet, OperandArgument, OutputBuffer, ParameterValues};
use crate::emit::captured::Apart;
use crate::emit::count_kernel;
use crate::emit::place::Place;
use crate::expr::Expr;
use crate::schedule::CpuSchedule;
use crate::scheduled::Compiled;
use cubecl::prelude::*;

/// How many [tasks](crate::emit::captured::Split) there are, how many tiles each has, and among how many copies of so many sums those are
/// distributed.
#[derive(CubeType, CubeLaunch)]
pub struct SplitArgument {
    /// Tasks.
    tasks: usize,
    /// The tiles of a task.
    steps: usize,
    /// Copies.
    copies: usize,
    /// The sums of a copy.
    elements: usize,
}

/// Adds what the loops of `program` have to the copies of sums in `sums`, which are zeros. `counter` holds the next task's next copy.
#[cube(launch_unchecked)]
pub fn captured_cpu<E: Float, N: Size>(
    operands: &Sequence<OperandArgument<E>>,
    keys: &Sequence<KeySet>,
    sums: &mut Sequence<OutputBuffer<f32>>,
    counter: &[Atomic<u32>],
    extent: &Extent,
    parameters: &ParameterValues,
    split: &SplitArgument,
    #[comptime] program: Compiled,
    #[comptime] schedule: CpuSchedule,
) {
    comptime!(count_kernel());
    let given = KernelInputs::<E>::new(operands, keys, extent, parameters);
    let code = comptime![CpuCode { program: program.clone(), schedule, counting: false }];
    let apart = comptime![Apart::of(&program)];
    let counters = Sequence::<Counters>::new();
    let mut tile = QueryTile::<N>::new(comptime![code.clone()]);
    let tiles = extent.queries.div_ceil(comptime![schedule.tile_rows()]);

    let mut item = counter[0].fetch_add(1u32) as usize;
    while item < split.tasks * split.copies {
        let copy = item % split.copies;
        for step in copy * split.steps / split.copies..(copy + 1) * split.steps / split.copies {
            let mut task = item / split.copies;
            let mut step = step;
            let at = coordinate(&mut task, &mut step, tiles, comptime![apart.queries]);
            let head = coordinate(&mut task, &mut step, extent.heads, comptime![apart.heads]);
            let mut batch = step;
            if comptime![apart.batches] {
                batch = task;
            }
            let rows = QueryRows::new(extent, (batch * extent.heads + head) * tiles + at, schedule);
            let place = rows.place::<N>(extent, false, schedule);
            tile.pack::<E>(&given, &rows, &place, comptime![code.clone()]);
            #[unroll]
            for at in 0..comptime![program.loops.len()] {
                let run = Run::<N> {
                    place,
                    head: rows.head,
                    careful: false.runtime(),
                    split: 0usize.runtime(),
                    splits: 1usize.runtime(),
                    sums: copy * split.elements,
                };
                visit_columns::<E, N>(&mut tile, given, &rows, run, &counters, sums, at, comptime![code.clone()]);
            }
        }
        item = counter[0].fetch_add(1u32) as usize;
    }
}

/// The next coordinate, of `length`, of a task or of a step of it.
#[cube]
fn coordinate(task: &mut usize, step: &mut usize, length: usize, #[comptime] apart: bool) -> usize {
    if apart {
        let found = *task % length;
        *task /= length;
        found
    } else {
        let found = *step % length;
        *step /= length;
        found
    }
}

/// Adds what the part's pairs have to the sums from number `first` on. `rows` says how many rows the tile has: what others have is of no pair.
#[cube]
pub fn add_part<E: Float, N: Size>(
    tile: &mut QueryTile<N>,
    keys: &KeyRows<'_, E>,
    place: &Place<N>,
    part: Part,
    rows: usize,
    sums: &mut OutputBuffer<f32>,
    first: usize,
    #[comptime] code: CpuTileCode,
) {
    let (vectors, lanes) = comptime![(code.schedule.vectors, code.schedule.lanes)];
    #[unroll]
    for add in 0..comptime![code.adds.len()] {
        let element = comptime![code.adds[add].element.clone()];
        let by_key = comptime![element.mentions(&Expr::Key)];
        let values = &tile.tiles[comptime![code.arrays.added[add]]];
        for vector in part.vector..part.vector + comptime![code.block().vectors] {
            if vector * lanes < rows {
                let seen = min(rows - vector * lanes, lanes);
                let here = place.of_rows(tile.positions[vector], tile.heads[vector]);
                if by_key {
                    for key in part.from..part.to {
                        let here = here.of_column(keys.offset + (part.tile + key) as i32);
                        let value = values[key * vectors + vector];
                        let parameters = keys.given.parameters;
                        add_vector::<N>(value, &here, parameters, seen, sums, first, comptime![element.clone()], lanes);
                    }
                } else {
                    let mut value = Vector::<f32, N>::new(0.0);
                    for key in part.from..part.to {
                        value += values[key * vectors + vector];
                    }
                    let parameters = keys.given.parameters;
                    add_vector::<N>(value, &here, parameters, seen, sums, first, comptime![element.clone()], lanes);
                }
            }
        }
    }
}

/// Adds what the first `seen` lanes of `value` have. What is zero is not added: where a pair is hidden, its element may be another task's.
#[cube]
fn add_vector<N: Size>(
    value: Vector<f32, N>,
    place: &Place<N>,
    parameters: &ParameterValues,
    seen: usize,
    sums: &mut OutputBuffer<f32>,
    first: usize,
    #[comptime] element: Expr,
    #[comptime] lanes: usize,
) {
    let number = parameters.element_number::<N>(place, comptime![element.clone()]);
    if comptime![element.mentions(&Expr::Query)] {
        #[unroll]
        for lane in 0..lanes {
            let one = value.extract(lane);
            if lane < seen && one != 0.0 {
                sums.data[first + number.extract(lane) as usize] += one;
            }
        }
    } else {
        let mut total = 0.0f32;
        #[unroll]
        for lane in 0..lanes {
            if lane < seen {
                total += value.extract(lane);
            }
        }
        if total != 0.0 {
            sums.data[first + number.extract(0usize) as usize] += total;
        }
    }
}
