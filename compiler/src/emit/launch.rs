//! Launches: the arguments of a kernel as plain data, and the call into CubeCL.

use super::arguments::{CountersLaunch, Extent, OutputBufferLaunch, PartialsLaunch};
use super::binding::{
    Buffer, CapturedData, LaunchData, ParametersData, keys_launch, operands_launch, results_launch, sequence,
};
use super::summary::{self, Find};
use crate::emit::captured::{Apart, Split};
use crate::emit::cpu::attention_cpu;
use crate::emit::cpu::captured::{SplitArgumentLaunch, captured_cpu};
use crate::emit::cpu::query_tile::partial_vectors;
use crate::emit::cube::attention_cube;
use crate::emit::mma::attention_mma;
use crate::ir::{Element, Program, Summary};
use crate::schedule::{CpuSchedule, Schedule};
use crate::scheduled::{Compiled, Scheduled};
use cubecl::client::Client;
use cubecl::prelude::*;
use half::{bf16, f16};
use thiserror::Error;

/// Why a launch is not possible on a device.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LaunchError {
    /// Operands that do not lie in memory as a kernel's text has them.
    #[error(
        "the rows of `{operand}` begin at element {start} and have strides {strides:?} (0 where a dimension has one index), and the kernel's text \
         is for rows without gaps, of vectors of {width} elements"
    )]
    Layout {
        /// The operand.
        operand: String,
        /// The offset of its first element.
        start: usize,
        /// Its strides, in elements.
        strides: [usize; 4],
        /// The elements of a vector.
        width: usize,
    },
    /// A schedule whose kernels are not launched that way.
    #[error("a kernel with the schedule `{0}` has no PTX")]
    NoPtx(&'static str),
}

/// Launches `program` on the device of `client`. Errors of the device itself surface when the output is read.
pub fn launch(client: &Client, scheduled: &Scheduled, data: LaunchData) {
    let (program, schedule) = (scheduled.program(), scheduled.schedule());
    let mut grids = grids(cubes(schedule, &data), client.properties().hardware.max_cube_count);
    let Some(last) = grids.pop() else { return };
    for grid in grids {
        launch_grid(client, program, schedule, data.clone(), grid);
    }
    launch_grid(client, program, schedule, data, last);
}

/// How the sums of `program` like something captured, of so many `elements`, are split where it is run with `schedule` for so many batches, heads
/// and rows.
pub fn split(program: &Program, schedule: Schedule, [batch, heads, rows]: [usize; 3], elements: usize) -> Split {
    Split::of_tiles(Apart::of(program), [batch, heads, rows.div_ceil(schedule.query_tile())], elements)
}

fn launch_captured<E: Float>(client: &Client, program: &Compiled, cpu: CpuSchedule, data: LaunchData) {
    let shape = [data.batch, data.heads, data.rows_len];
    let elements = data.outputs[0].length / data.copies;
    let Split { tasks, steps, .. } = split(program, Schedule::Cpu(cpu), shape, elements);
    let units = client.properties().hardware.num_cpu_cores.unwrap_or(1);
    let counter = Buffer { memory: client.create_from_slice(&[0; 4]), length: 1 }.launch(1);
    let extent = Extent::of(&data, [0; 3]).launch();
    let parameters = ParametersData::new(program, &data, false).launch();
    let sums = data.outputs.into_iter().map(|buffer| OutputBufferLaunch::new(buffer.launch(1)));
    // SAFETY: the kernel stays inside the lengths that `data` states.
    unsafe {
        captured_cpu::launch_unchecked::<E>(
            client,
            CubeCount::new_single(),
            CubeDim::new_1d(units),
            cpu.lanes,
            operands_launch(data.operands, 1),
            keys_launch(data.columns),
            sequence(sums),
            counter,
            extent,
            parameters,
            SplitArgumentLaunch::new(tasks, steps, data.copies, elements),
            program.clone(),
            cpu,
        );
    }
}

fn launch_grid(client: &Client, program: &Compiled, schedule: Schedule, data: LaunchData, grid: Grid) {
    if let (Some(_), Schedule::Cpu(cpu)) = (program.captured, schedule) {
        return match program.sizes().element {
            Element::F32 => launch_captured::<f32>(client, program, cpu, data),
            Element::F16 => launch_captured::<f16>(client, program, cpu, data),
            Element::Bf16 => launch_captured::<bf16>(client, program, cpu, data),
        };
    }
    let elements = (program.sizes().element, program.outputs[0].element);
    match elements {
        (Element::F32, _) => launch_typed::<f32, f32>(client, program, schedule, data, grid),
        (Element::F16, Element::F32) => launch_typed::<f16, f32>(client, program, schedule, data, grid),
        (Element::F16, _) => launch_typed::<f16, f16>(client, program, schedule, data, grid),
        (Element::Bf16, Element::F32) => launch_typed::<bf16, f32>(client, program, schedule, data, grid),
        (Element::Bf16, _) => launch_typed::<bf16, bf16>(client, program, schedule, data, grid),
    }
}

/// A launch of operands in `E`, with outputs in `O`.
fn launch_typed<E: Float, O: Float>(
    client: &Client,
    program: &Compiled,
    schedule: Schedule,
    data: LaunchData,
    grid: Grid,
) {
    let most_columns = data.columns.iter().map(|set| set.length).max().unwrap_or(0);
    let width = data.width(program, schedule);
    let group = data.group();
    let extent = Extent::of(&data, grid.first).launch();
    let parameters = ParametersData::new(program, &data, schedule.approximates()).launch();
    let cubes = CubeCount::new_3d(grid.cubes[0], grid.cubes[1], grid.cubes[2]);
    let counting = data.counters.is_some();
    let counters = sequence(data.counters.map(|tiles| CountersLaunch::new(tiles.launch(1))));

    match schedule {
        Schedule::Cpu(cpu) => {
            let units = client.properties().hardware.num_cpu_cores.unwrap_or(1);
            // Counters of its own for every launch: launches of other threads may run at the same time.
            let counter = client.create_from_slice(&[0; 8]);
            let counter = Buffer { memory: counter, length: 2 }.launch(1);
            let few = cpu.few;
            let together = if few.pack_gqa { group } else { 1 };
            let query_tiles = (together * data.rows_len).div_ceil(schedule.query_tile());
            let tiles = data.batch * data.heads / together * query_tiles;
            let splits = if few.split_kv { splits(tiles, units as usize, most_columns.div_ceil(cpu.keys)) } else { 1 };
            let mut partials = SequenceArg::new();
            if few.split_kv {
                let length = tiles * splits * partial_vectors(program, &cpu);
                let memory = client.empty(length * cpu.lanes * 4);
                partials.push(PartialsLaunch::new(Buffer { memory, length }.launch(1)));
            }
            // SAFETY: the kernel stays inside the lengths that `data` states.
            unsafe {
                attention_cpu::launch_unchecked::<E, O>(
                    client,
                    cubes,
                    CubeDim::new_1d(units),
                    cpu.lanes,
                    operands_launch(data.operands, width),
                    keys_launch(data.columns),
                    results_launch(data.outputs, data.rows, width),
                    counter,
                    partials,
                    extent,
                    parameters,
                    tiles,
                    splits,
                    counters,
                    program.clone(),
                    cpu,
                    counting,
                );
            }
        }
        Schedule::Cube(cube) => {
            // SAFETY: the kernel stays inside the lengths that `data` states.
            unsafe {
                attention_cube::launch_unchecked::<E, O>(
                    client,
                    cubes,
                    CubeDim::new_1d(cube.units() as u32),
                    cube.rows,
                    width,
                    operands_launch(data.operands, width),
                    keys_launch(data.columns),
                    results_launch(data.outputs, data.rows, width),
                    extent,
                    parameters,
                    counters,
                    program.clone(),
                    cube,
                    counting,
                );
            }
        }
        Schedule::Mma(mma) => {
            // SAFETY: the kernel stays inside the lengths that `data` states.
            unsafe {
                attention_mma::launch_unchecked::<E>(
                    client,
                    cubes,
                    CubeDim::new_1d(mma.units() as u32),
                    mma.rows(),
                    width,
                    operands_launch(data.operands, width),
                    keys_launch(data.columns),
                    results_launch(data.outputs, data.rows, width),
                    extent,
                    parameters,
                    counters,
                    program.clone(),
                    mma,
                    counting,
                );
            }
        }
    }
}

/// Items for a unit, where keys are split: more than one, so that a unit that is late holds the others up less.
const ITEMS_PER_UNIT: usize = 4;

/// Key tiles in a run of split keys, at least: merging a run costs about as much as computing one.
const TILES_PER_SPLIT: usize = 4;

/// Whether the keys of `tiles` query tiles, of `key_tiles` key tiles each, should be split over `units`.
pub fn should_split(tiles: usize, units: usize, key_tiles: usize) -> bool {
    splits(tiles, units, key_tiles) > 1
}

/// Into how many runs.
fn splits(tiles: usize, units: usize, key_tiles: usize) -> usize {
    (ITEMS_PER_UNIT * units).div_ceil(tiles.max(1)).min(key_tiles / TILES_PER_SPLIT).max(1)
}

/// The numbers of `summary`'s blocks, of the captured tensor `tensor`, which must have an element.
pub fn summarise(client: &Client, tensor: CapturedData, summary: &Summary) -> Buffer {
    let shape = summary.shape(&tensor.shape);
    let row = shape.last().copied().unwrap_or(1);
    let length = summary.bytes(&tensor.shape) / 4;
    let found = look_at_blocks(client, tensor, summary, Find::Extremes, length);
    if summary.links_keys {
        let blocks: usize = shape.iter().product();
        let (count, dim) = spread(client, blocks / row);
        // SAFETY: there is a third number for each block.
        unsafe {
            summary::link::launch_unchecked(client, count, dim, found.clone().launch(1), blocks as i32, row as i32);
        }
    }
    found
}

/// For each run of [`SUMMARY_BLOCK`](crate::ir::SUMMARY_BLOCK) elements along the last dimension of `tensor`, which must have an
/// element: 1 if one of them is greater than its successor, else 0.
pub fn find_descents(client: &Client, tensor: CapturedData) -> Buffer {
    let runs = descents_of(&tensor.shape);
    let length = runs.shape(&tensor.shape).iter().product();
    look_at_blocks(client, tensor, &runs, Find::Descent, length)
}

/// The runs that [`find_descents`] has a number for, of a tensor of `shape`, as the blocks of a summary.
pub fn descents_of(shape: &[usize]) -> Summary {
    let blocked = (1..=shape.len()).map(|dimension| dimension == shape.len()).collect();
    Summary { tensor: 0, blocked, links_keys: false }
}

fn look_at_blocks(client: &Client, tensor: CapturedData, summary: &Summary, find: Find, length: usize) -> Buffer {
    let shape = summary.shape(&tensor.shape);
    let blocks: usize = shape.iter().product();
    let found = Buffer { memory: client.empty(4 * length), length };
    let (count, dim) = spread(client, blocks);
    let lengths = sequence(shape.into_iter().map(|length| length as i32));
    // SAFETY: the kernel stays inside the tensor and the blocks, as computed from its shape.
    unsafe {
        summary::summarise::launch_unchecked(
            client,
            count,
            dim,
            tensor.launch(),
            found.clone().launch(1),
            lengths,
            blocks as i32,
            summary.blocked.clone(),
            find,
        );
    }
    found
}

/// Cubes for `items` things, of which a unit does several where there are more than units. On a CPU only the units of a cube run side by
/// side; elsewhere cubes have a size, and there are as many, as every device has.
pub(super) fn spread(client: &Client, items: usize) -> (CubeCount, CubeDim) {
    match client.properties().hardware.num_cpu_cores {
        Some(cores) => (CubeCount::new_single(), CubeDim::new_1d(cores)),
        None => (CubeCount::new_1d(items.div_ceil(64).clamp(1, 65_535) as u32), CubeDim::new_1d(64)),
    }
}

/// The cubes of a launch along each axis. On a GPU: query tiles, query heads (with `pack_gqa` the key heads) and batches.
pub(super) fn cubes(schedule: Schedule, data: &LaunchData) -> [usize; 3] {
    match schedule {
        Schedule::Cpu(_) => [1, 1, 1],
        Schedule::Cube(cube) => [data.rows_len.div_ceil(cube.queries()), data.heads, data.batch],
        Schedule::Mma(mma) => {
            let together = if mma.pack_gqa { data.group() } else { 1 };
            [(together * data.rows_len).div_ceil(mma.queries()), data.heads / together, data.batch]
        }
    }
}

/// Cubes that a device launches at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Grid {
    /// The place of the first, along each axis.
    pub first: [usize; 3],
    /// How many there are along each.
    pub cubes: [u32; 3],
}

/// `cubes` in grids of at most `limits` along each axis, in the order of the axes, the first changing fastest.
pub(super) fn grids(cubes: [usize; 3], limits: (u32, u32, u32)) -> Vec<Grid> {
    let along = |count: usize, limit: u32| {
        let limit = limit.max(1);
        let firsts = (0..count).step_by(limit as usize);
        firsts.map(|first| (first, (count - first).min(limit as usize) as u32)).collect::<Vec<_>>()
    };
    let mut grids = Vec::new();
    for (batch, batches) in along(cubes[2], limits.2) {
        for (head, heads) in along(cubes[1], limits.1) {
            for (tile, tiles) in along(cubes[0], limits.0) {
                grids.push(Grid { first: [tile, head, batch], cubes: [tiles, heads, batches] });
            }
        }
    }
    grids
}

#[cfg(test)]
mod tests {
    use super::{Grid, grids};

    #[test]
    fn grids_cover_each_cube_once() {
        let grid = |first, cubes| Grid { first, cubes };
        assert_eq!(grids([4, 2, 1], (4, 4, 4)), [grid([0, 0, 0], [4, 2, 1])]);
        assert_eq!(grids([4, 0, 1], (4, 4, 4)), []);
        let parts = grids([5, 2, 9], (4, 4, 4));
        assert_eq!(parts.len(), 2 * 3);
        assert_eq!(parts[..2], [grid([0, 0, 0], [4, 2, 4]), grid([4, 0, 0], [1, 2, 4])]);
        assert_eq!(parts[5], grid([4, 0, 8], [1, 2, 1]));
        assert_eq!(parts.iter().map(|grid| grid.cubes.iter().product::<u32>()).sum::<u32>(), 5 * 2 * 9);
    }
}
