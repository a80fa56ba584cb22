//! What a kernel's PTX is launched with, as CubeCL's CUDA runtime would pass it.
//!
//! The parameters are a pointer for each buffer, in the order of the kernel's arguments, and then a block of numbers by value. CubeCL's
//! own builder lays the block out: the scalars of each type, one type after the other, and then the buffers' lengths. CubeCL
//! registers a launch's arguments field by field, but gives what it has registered to a device only; here the same fields are
//! registered in the same order, that of [`arguments`](crate::emit::arguments). Where one is forgotten, the block has not the length that
//! the text's last parameter has.

use super::properties::device_properties;
use crate::device_model::DeviceModel;
use crate::emit::launch::{
    Buffer, Grid, LaunchData, LaunchError, OperandData, Storage, blocks_of, cubes, grids, reach,
};
use crate::schedule::{CubeSchedule, MmaSchedule, Schedule};
use crate::scheduled::{Compiled, Scheduled};
use crate::spec::ScalarValue;
use crate::target::Target;
use cubecl::InfoBuilder;
use cubecl::ir::{AddressType, ElemType};

/// What a kernel's PTX is launched with. The threads of a block and its shared memory are the [text's].
///
/// [text's]: crate::target::KernelText
#[derive(Clone)]
pub struct PtxLaunch {
    /// The buffers whose addresses are the first parameters, in their order.
    pub buffers: Vec<Buffer>,
    /// Which of them is the output.
    pub output: usize,
    /// Which of them is the log-sum-exp.
    pub lse: usize,
    /// The grids that it takes.
    pub grids: Vec<PtxGrid>,
}

/// A grid of blocks. There is more than one where a launch has more blocks along an axis than a device launches.
#[derive(Clone, Debug)]
pub struct PtxGrid {
    /// The blocks along each axis.
    pub blocks: [u32; 3],
    /// The last parameter: scalars and lengths.
    pub numbers: Vec<u8>,
}

/// What `program`'s PTX for `model` is launched with to compute `data`, on whatever device its buffers are. Tiles are not counted.
///
/// # Errors
/// [`LaunchError::NoPtx`] where there is no such text, [`LaunchError::Layout`] where it is not for
/// operands that lie so.
pub fn ptx_launch(scheduled: &Scheduled, model: &DeviceModel, data: &LaunchData) -> Result<PtxLaunch, LaunchError> {
    let (program, schedule) = (scheduled.program(), scheduled.schedule());
    let width = match schedule {
        Schedule::Cpu(_) => return Err(LaunchError::NoPtx(schedule.name())),
        Schedule::Cube(_) => CubeSchedule::width_of(&program.operands),
        Schedule::Mma(_) => MmaSchedule::width_of(&program.operands),
    };
    let limits = device_properties(model, Target::Ptx).hardware.max_cube_count;
    let vector = width * program.operands.element.size();
    let mut launch = PtxLaunch { buffers: Vec::new(), output: 0, lse: 0, grids: Vec::new() };
    for Grid { first, cubes: blocks } in grids(cubes(schedule, data), limits) {
        let (arguments, output, lse) = arguments(program, data, width, vector, first)?;
        let Arguments { buffers, mut info } = arguments;
        let numbers = info.finish(ADDRESSES).data.into_iter().flat_map(u64::to_le_bytes).collect();
        launch.grids.push(PtxGrid { blocks, numbers });
        launch = PtxLaunch { buffers, output, lse, ..launch };
    }
    Ok(launch)
}

/// The arguments of a grid whose first block is at `first`, and which buffers are the output and the log-sum-exp.
fn arguments(
    program: &Compiled,
    data: &LaunchData,
    width: usize,
    vector: usize,
    first: [usize; 3],
) -> Result<(Arguments, usize, usize), LaunchError> {
    let mut arguments = Arguments::default();
    arguments.operand("the queries".into(), &data.query, width, vector)?;
    for (place, pair) in data.pairs.iter().enumerate() {
        arguments.operand(format!("the keys of pair {place}"), &pair.key, width, vector)?;
        arguments.operand(format!("the values of pair {place}"), &pair.value, width, vector)?;
        arguments.size(pair.length);
        arguments.number(pair.offset);
    }
    let output = arguments.buffer(&data.output, vector);
    let lse = arguments.buffer(&data.lse, 4);
    for size in [data.heads, data.group, data.queries] {
        arguments.size(size);
    }
    arguments.number(data.query_offset);
    first.into_iter().for_each(|first| arguments.size(first));
    arguments.number(data.careful.into());
    for value in &data.scalars {
        match *value {
            ScalarValue::I32(value) => arguments.number(value),
            // At most i32::MAX, as are all scalars of a launch.
            ScalarValue::U32(value) => arguments.number(value.cast_signed()),
            ScalarValue::Bool(value) => arguments.number(value.into()),
            ScalarValue::F32(value) => arguments.info.scalars.push(value),
        }
    }
    for tensor in &data.tensors {
        arguments.buffer(&tensor.buffer, if tensor.storage == Storage::U8 { 1 } else { 4 });
        let (start, dimensions) = reach(tensor.start, &tensor.shape, &tensor.strides);
        arguments.number(start);
        dimensions.iter().for_each(|(last, _)| arguments.number(*last));
        dimensions.iter().for_each(|(_, stride)| arguments.number(*stride));
    }
    for (summary, extremes) in program.summaries().iter().zip(&data.summaries) {
        arguments.buffer(extremes, 4);
        let (blocks, strides) = blocks_of(summary, &data.tensors[summary.tensor].shape);
        arguments.number(blocks);
        strides.into_iter().for_each(|stride| arguments.number(stride));
    }
    arguments.info.scalars.push(data.scale);
    arguments.info.scalars.push(f32::NEG_INFINITY);
    Ok((arguments, output, lse))
}

/// Kernels count elements in 32 bits.
const ADDRESSES: AddressType = AddressType::U32;

/// The arguments that have been registered.
#[derive(Default)]
struct Arguments {
    buffers: Vec<Buffer>,
    info: InfoBuilder,
}

impl Arguments {
    /// A buffer of elements, or vectors of them, of `size` bytes. Returns its place.
    fn buffer(&mut self, buffer: &Buffer, size: usize) -> usize {
        self.info.metadata.register_buffer(buffer.memory.size_in_used() / size as u64, ADDRESSES);
        self.buffers.push(buffer.clone());
        self.buffers.len() - 1
    }

    /// An operand in vectors of `width` elements, of `vector` bytes.
    fn operand(&mut self, name: String, data: &OperandData, width: usize, vector: usize) -> Result<(), LaunchError> {
        let &OperandData { ref buffer, start, strides } = data;
        let [batch, head, row, column] = strides;
        let whole = [start, batch, head, row].iter().all(|offset| offset.is_multiple_of(width));
        if column != 1 || !whole {
            return Err(LaunchError::Layout { operand: name, start, strides, width });
        }
        self.buffer(buffer, vector);
        for offset in [start, batch, head, row] {
            self.size(offset / width);
        }
        self.size(column);
        Ok(())
    }

    /// A `usize` of the kernel's.
    fn size(&mut self, size: usize) {
        self.info.scalars.push_raw(&(size as u32).to_le_bytes(), ElemType::Index);
    }

    fn number(&mut self, number: i32) {
        self.info.scalars.push(number);
    }
}
