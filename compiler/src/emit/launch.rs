//! Launches: the arguments of a kernel as plain data, and the call into CubeCL.

use super::arguments::{
    CapturedLaunch, CountersLaunch, ElementsArgs, ExtentLaunch, KeyValue, KeyValueLaunch, OperandLaunch,
    ParametersLaunch, PartialsLaunch, ScalarArgumentLaunch, SummaryArgumentLaunch,
};
use super::summary::{self, Find};
use crate::emit::cpu::attention_cpu;
use crate::emit::cpu::query_tile::partial_vectors;
use crate::emit::cube::attention_cube;
use crate::emit::mma::attention_mma;
use crate::ir::{Element, Summary};
use crate::schedule::{CubeSchedule, FewQueries, MmaSchedule, Schedule};
use crate::scheduled::{Compiled, Scheduled};
use crate::spec::ScalarValue;
use cubecl::client::Client;
use cubecl::prelude::*;
use cubecl::server::Handle;
use half::{bf16, f16};
use thiserror::Error;

/// A buffer on the device.
#[derive(Clone)]
pub struct Buffer {
    /// Its memory.
    pub memory: Handle,
    /// Its length in elements.
    pub length: usize,
}

/// A tensor `[B, H, S, D]` in a buffer.
#[derive(Clone)]
pub struct OperandData {
    /// The buffer.
    pub buffer: Buffer,
    /// The offset of the first element.
    pub start: usize,
    /// The strides, in elements.
    pub strides: [usize; 4],
}

/// Keys and values that are visited together.
#[derive(Clone)]
pub struct KeyValueData {
    /// The keys.
    pub key: OperandData,
    /// The values.
    pub value: OperandData,
    /// How many keys there are.
    pub length: usize,
    /// The position of the first.
    pub offset: i32,
}

/// How a captured tensor's elements are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// Floats.
    F32,
    /// Integers.
    I32,
    /// Truth values in bytes.
    U8,
    /// Truth values in 32 bits.
    U32,
}

/// A captured tensor in a buffer.
#[derive(Clone)]
pub struct CapturedData {
    /// The buffer.
    pub buffer: Buffer,
    /// How its elements are stored.
    pub storage: Storage,
    /// The offset of the first element.
    pub start: usize,
    /// The length of each dimension.
    pub shape: Vec<usize>,
    /// The strides, in elements.
    pub strides: Vec<usize>,
}

/// Everything a launch needs. Nothing is checked here: sizes, strides and buffers must fit each other, and no dimension of
/// the output may be 0.
#[derive(Clone)]
pub struct LaunchData {
    /// The queries.
    pub query: OperandData,
    /// The keys and values, in the program's order.
    pub pairs: Vec<KeyValueData>,
    /// The output, contiguous `[B, H, S, Dv]`.
    pub output: Buffer,
    /// The log-sum-exp, contiguous `[B, H, S]`, for softmax; else any buffer of f32.
    pub lse: Buffer,
    /// The runtime scalars, in the program's order.
    pub scalars: Vec<ScalarValue>,
    /// The captured tensors, in the program's order.
    pub tensors: Vec<CapturedData>,
    /// The program's summaries of them, as [`summarise`] makes them, in its order.
    pub summaries: Vec<Buffer>,
    /// Where tiles are counted, if they are: zeros, two for each key loop.
    pub counters: Option<Buffer>,
    /// `scale()`.
    pub scale: f32,
    /// B.
    pub batch: usize,
    /// H.
    pub heads: usize,
    /// H/G.
    pub group: usize,
    /// S.
    pub queries: usize,
    /// The position of the first query.
    pub query_offset: i32,
    /// Whether the `cube` schedule computes rows again whose output is not finite. Where it does not, what a key that a row does not see
    /// holds can make the row's output a NaN.
    pub careful: bool,
    /// What the `cpu` schedule does about few queries. Heads may be packed only where [`Program::heads_alike`] is true.
    ///
    /// [`Program::heads_alike`]: crate::ir::Program::heads_alike
    pub few: FewQueries,
}

impl LaunchData {
    /// The elements in a vector of queries, keys, values and the output: what `schedule` reads at once where all their rows are whole
    /// vectors, else 1.
    fn width(&self, program: &Compiled, schedule: Schedule) -> usize {
        let width = match schedule {
            Schedule::Cpu(_) => 1,
            Schedule::Cube(_) => CubeSchedule::width_of(&program.operands),
            Schedule::Mma(_) => MmaSchedule::width_of(&program.operands),
        };
        let mut operands = self.pairs.iter().flat_map(|pair| [&pair.key, &pair.value]).chain([&self.query]);
        let whole = operands.all(|&OperandData { ref buffer, start, strides: [batch, head, row, column] }| {
            // A buffer without keys has no vector to bind.
            let some = buffer.length >= width;
            some && column == 1 && [start, batch, head, row].iter().all(|offset| offset.is_multiple_of(width))
        });
        if whole { width } else { 1 }
    }
}

/// Why a launch is not possible on a device.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LaunchError {
    /// Operands that do not lie in memory as a kernel's text has them.
    #[error(
        "{operand} begin at element {start} and have strides {strides:?} (0 where a dimension has one index), and the kernel's text \
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

fn launch_grid(client: &Client, program: &Compiled, schedule: Schedule, data: LaunchData, grid: Grid) {
    match program.operands.element {
        Element::F32 => launch_typed::<f32>(client, program, schedule, data, grid),
        Element::F16 => launch_typed::<f16>(client, program, schedule, data, grid),
        Element::Bf16 => launch_typed::<bf16>(client, program, schedule, data, grid),
    }
}

fn launch_typed<E: Float>(client: &Client, program: &Compiled, schedule: Schedule, data: LaunchData, grid: Grid) {
    let most_keys = data.pairs.iter().map(|pair| pair.length).max().unwrap_or(0);
    let width = data.width(program, schedule);
    let Grid { first, cubes } = grid;
    let cubes = CubeCount::new_3d(cubes[0], cubes[1], cubes[2]);
    let mut scalars = SequenceArg::new();
    for scalar in data.scalars {
        let (value, truth) = match scalar {
            ScalarValue::I32(value) => (InputScalar::new(value, i32::cube_type()), false),
            ScalarValue::U32(value) => (InputScalar::new(value, i32::cube_type()), false),
            ScalarValue::F32(value) => (InputScalar::new(value, f32::cube_type()), false),
            ScalarValue::Bool(value) => (InputScalar::new(i32::from(value), i32::cube_type()), true),
        };
        scalars.push(ScalarArgumentLaunch::new(value, truth));
    }
    let mut summaries = SequenceArg::new();
    for (summary, extremes) in program.summaries().into_iter().zip(data.summaries) {
        summaries.push(summary_argument(summary, extremes, &data.tensors));
    }
    let mut tensors = SequenceArg::new();
    for tensor in data.tensors {
        tensors.push(captured(tensor));
    }
    let extent = ExtentLaunch::new(
        data.heads,
        data.group,
        data.queries,
        data.query_offset,
        first[0],
        first[1],
        first[2],
        data.careful.into(),
    );
    let parameters =
        ParametersLaunch::new(scalars, tensors, summaries, data.scale, f32::NEG_INFINITY, schedule.approximates());
    let mut counters = SequenceArg::new();
    let counting = data.counters.is_some();
    if let Some(tiles) = data.counters {
        counters.push(CountersLaunch::new(buffer(tiles)));
    }
    let lse = buffer(data.lse);
    let output = buffer(Buffer { length: data.output.length / width, ..data.output });

    match schedule {
        Schedule::Cpu(cpu) => {
            let units = client.properties().hardware.num_cpu_cores.unwrap_or(1);
            // Counters of its own for every launch: launches of other threads may run at the same time.
            let counter = client.create_from_slice(&[0; 8]);
            let counter = buffer(Buffer { memory: counter, length: 2 });
            let few = data.few;
            let together = if few.pack_gqa { data.group } else { 1 };
            let query_tiles = (together * data.queries).div_ceil(schedule.query_tile());
            let tiles = data.batch * data.heads / together * query_tiles;
            let splits = if few.split_kv { splits(tiles, units as usize, most_keys.div_ceil(cpu.keys)) } else { 1 };
            let mut partials = SequenceArg::new();
            if few.split_kv {
                let length = tiles * splits * partial_vectors(&program.operands, &cpu);
                let memory = client.empty(length * cpu.lanes * 4);
                partials.push(PartialsLaunch::new(buffer(Buffer { memory, length })));
            }
            // SAFETY: the kernel stays inside the lengths that `data` states.
            unsafe {
                attention_cpu::launch_unchecked::<E>(
                    client,
                    cubes,
                    CubeDim::new_1d(units),
                    cpu.lanes,
                    operand(data.query, width),
                    key_values(data.pairs, width),
                    output,
                    lse,
                    counter,
                    partials,
                    extent,
                    parameters,
                    tiles,
                    splits,
                    counters,
                    program.clone(),
                    cpu,
                    few,
                    counting,
                );
            }
        }
        Schedule::Cube(cube) => {
            // SAFETY: the kernel stays inside the lengths that `data` states.
            unsafe {
                attention_cube::launch_unchecked::<E>(
                    client,
                    cubes,
                    CubeDim::new_1d(cube.units() as u32),
                    cube.rows,
                    width,
                    operand(data.query, width),
                    key_values(data.pairs, width),
                    output,
                    lse,
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
                    operand(data.query, width),
                    key_values(data.pairs, width),
                    output,
                    lse,
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
    if summary.linked {
        let blocks: usize = shape.iter().product();
        let (count, dim) = spread(client, blocks / row);
        // SAFETY: there is a third number for each block.
        unsafe {
            summary::link::launch_unchecked(client, count, dim, buffer(found.clone()), blocks as i32, row as i32);
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
    Summary { tensor: 0, blocked, linked: false }
}

fn look_at_blocks(client: &Client, tensor: CapturedData, summary: &Summary, find: Find, length: usize) -> Buffer {
    let shape = summary.shape(&tensor.shape);
    let blocks: usize = shape.iter().product();
    let found = Buffer { memory: client.empty(4 * length), length };
    let (count, dim) = spread(client, blocks);
    let mut lengths = SequenceArg::new();
    for length in shape {
        lengths.push(length as i32);
    }
    // SAFETY: the kernel stays inside the tensor and the blocks, as computed from its shape.
    unsafe {
        summary::summarise::launch_unchecked(
            client,
            count,
            dim,
            captured(tensor),
            buffer(found.clone()),
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
fn spread(client: &Client, items: usize) -> (CubeCount, CubeDim) {
    match client.properties().hardware.num_cpu_cores {
        Some(cores) => (CubeCount::new_single(), CubeDim::new_1d(cores)),
        None => (CubeCount::new_1d(items.div_ceil(64).clamp(1, 65_535) as u32), CubeDim::new_1d(64)),
    }
}

fn summary_argument(summary: Summary, extremes: Buffer, tensors: &[CapturedData]) -> SummaryArgumentLaunch {
    let (blocks, steps) = blocks_of(&summary, &tensors[summary.tensor].shape);
    let mut strides = SequenceArg::new();
    for step in steps {
        strides.push(step);
    }
    SummaryArgumentLaunch::new(buffer(extremes), blocks, strides, summary)
}

/// How many blocks `summary` has of a tensor of `shape`, and the steps from a block to the next along each dimension.
pub(super) fn blocks_of(summary: &Summary, shape: &[usize]) -> (i32, Vec<i32>) {
    let shape = summary.shape(shape);
    let step = |dimension| shape[dimension + 1..].iter().product::<usize>() as i32;
    (shape.iter().product::<usize>() as i32, (0..shape.len()).map(step).collect())
}

/// The cubes of a launch along each axis. On a GPU: query tiles, query heads (with `pack_gqa` the key heads) and batches.
pub(super) fn cubes(schedule: Schedule, data: &LaunchData) -> [usize; 3] {
    match schedule {
        Schedule::Cpu(_) => [1, 1, 1],
        Schedule::Cube(cube) => [data.queries.div_ceil(cube.queries()), data.heads, data.batch],
        Schedule::Mma(mma) => {
            let together = if mma.pack_gqa { data.group } else { 1 };
            [(together * data.queries).div_ceil(mma.queries()), data.heads / together, data.batch]
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

fn buffer(buffer: Buffer) -> BufferArg {
    // SAFETY: the length is the buffer's.
    unsafe { BufferArg::from_raw_parts(buffer.memory, buffer.length) }
}

/// `data` in vectors of `width` elements.
fn operand<E: CubePrimitive>(data: OperandData, width: usize) -> OperandLaunch<E> {
    let [batch, head, row, column] = data.strides;
    let vectors = buffer(Buffer { length: data.buffer.length / width, ..data.buffer });
    OperandLaunch::new(vectors, data.start / width, batch / width, head / width, row / width, column, column == 1)
}

/// `pairs` in vectors of `width` elements.
fn key_values<E: CubePrimitive>(pairs: Vec<KeyValueData>, width: usize) -> SequenceArg<KeyValue<E>> {
    let mut arguments = SequenceArg::new();
    for pair in pairs {
        let (key, value) = (operand(pair.key, width), operand(pair.value, width));
        arguments.push(KeyValueLaunch::new(key, value, pair.length, pair.offset));
    }
    arguments
}

fn captured(data: CapturedData) -> CapturedLaunch {
    let elements = buffer(data.buffer);
    let elements = match data.storage {
        Storage::F32 => ElementsArgs::F32(elements),
        Storage::I32 => ElementsArgs::I32(elements),
        Storage::U8 => ElementsArgs::U8(elements),
        Storage::U32 => ElementsArgs::U32(elements),
    };
    let (start, dimensions) = reach(data.start, &data.shape, &data.strides);
    let (mut last, mut strides) = (SequenceArg::new(), SequenceArg::new());
    for (last_index, stride) in dimensions {
        last.push(last_index);
        strides.push(stride);
    }
    CapturedLaunch::new(elements, start, last, strides)
}

/// Where a kernel may read: the first offset, and each dimension's last index and stride.
///
/// A tensor without elements may be captured where nothing that matters reads it. Lanes that do not matter then read the first
/// element of its buffer, which always exists.
pub(super) fn reach(start: usize, shape: &[usize], strides: &[usize]) -> (i32, Vec<(i32, i32)>) {
    if shape.contains(&0) {
        return (0, vec![(0, 0); shape.len()]);
    }
    let dimensions = shape.iter().zip(strides).map(|(&length, &stride)| (length as i32 - 1, stride as i32));
    (start as i32, dimensions.collect())
}

#[cfg(test)]
mod tests {
    use super::{Grid, grids, reach};

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

    #[test]
    fn a_tensor_without_elements_is_read_at_its_buffers_start() {
        assert_eq!(reach(5, &[2, 3], &[4, 1]), (5, vec![(1, 4), (2, 1)]));
        assert_eq!(reach(5, &[2, 0], &[4, 1]), (0, vec![(0, 0), (0, 0)]));
    }
}
