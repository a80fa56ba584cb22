//! What a kernel's PTX is launched with, as CubeCL's CUDA runtime would pass it.
//!
//! The parameters are a pointer for each buffer, in the order of the kernel's arguments, and then a block of numbers by value. CubeCL's
//! own builder lays the block out: the scalars of each type, one type after the other, and then the buffers' lengths. CubeCL
//! registers a launch's arguments field by field, but gives what it has registered to a device only; here the same fields are
//! registered in the same order, that of [`arguments`](crate::emit::arguments). Where one is forgotten, the block has not the length that
//! the text's last parameter has.

use super::properties::device_properties;
use crate::device_model::DeviceModel;
use crate::emit::arguments::Extent;
use crate::emit::binding::{ADDRESSES, Buffer, LaunchData, OperandData, ParametersData, Registered};
use crate::emit::launch::{LaunchError, cubes, grids};
use crate::schedule::Schedule;
use crate::scheduled::{Compiled, Scheduled};
use crate::target::Target;

/// What a kernel's PTX is launched with. The threads of a block and its shared memory are the [text's].
///
/// [text's]: crate::target::KernelText
#[derive(Clone)]
pub struct PtxArguments {
    /// The buffers whose addresses are the first parameters, in their order.
    pub buffers: Vec<Buffer>,
    /// Which of them are the outputs, in the program's order.
    pub outputs: Vec<usize>,
    /// Which of them are the [numbers of each row](crate::ir::Program::row_numbers), in that order.
    pub rows: Vec<usize>,
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
pub fn ptx_launch(scheduled: &Scheduled, model: &DeviceModel, data: &LaunchData) -> Result<PtxArguments, LaunchError> {
    let (program, schedule) = (scheduled.program(), scheduled.schedule());
    if let Schedule::Cpu(_) = schedule {
        return Err(LaunchError::NoPtx(schedule.name()));
    }
    let width = schedule.width_of(program);
    let limits = device_properties(model, Target::Ptx).hardware.max_cube_count;
    let vector = width * program.sizes().element.size();
    let mut launch = PtxArguments { buffers: Vec::new(), outputs: Vec::new(), rows: Vec::new(), grids: Vec::new() };
    for grid in grids(cubes(schedule, data), limits) {
        let (arguments, outputs, rows) = arguments(program, data, width, vector, grid.first)?;
        let Registered { buffers, mut info } = arguments;
        let numbers = info.finish(ADDRESSES).data.into_iter().flat_map(u64::to_le_bytes).collect();
        launch.grids.push(PtxGrid { blocks: grid.cubes, numbers });
        launch = PtxArguments { buffers, outputs, rows, ..launch };
    }
    Ok(launch)
}

/// The arguments of the grid whose first block is at `first`, and which buffers are the outputs and the numbers of each row.
fn arguments(
    program: &Compiled,
    data: &LaunchData,
    width: usize,
    vector: usize,
    first: [usize; 3],
) -> Result<(Registered, Vec<usize>, Vec<usize>), LaunchError> {
    let mut arguments = Registered::default();
    for (operand, data) in program.operands.iter().zip(&data.operands) {
        check_layout(&operand.name, data, width)?;
        data.register(&mut arguments, width, vector);
    }
    data.columns.iter().for_each(|set| set.register(&mut arguments));
    let outputs = program.outputs.iter().zip(&data.outputs);
    let outputs = outputs.map(|(output, data)| arguments.buffer(data, width * output.element.size())).collect();
    let rows = data.rows.iter().map(|numbers| arguments.buffer(numbers, 4)).collect();
    Extent::of(data, first).register(&mut arguments);
    ParametersData::new(program, data, false).register(&mut arguments);
    Ok((arguments, outputs, rows))
}

fn check_layout(operand: &str, data: &OperandData, width: usize) -> Result<(), LaunchError> {
    if data.is_whole(width) {
        return Ok(());
    }
    let &OperandData { start, strides, .. } = data;
    Err(LaunchError::Layout { operand: operand.to_string(), start, strides, width })
}
