//! The choice of a schedule from a device's properties.

use crate::device::Device;
use crate::error::Error;
use cubecl::ir::HardwareProperties;
use purview_compiler::ir::Operands;
pub use purview_compiler::schedule::{CpuSchedule, CubeSchedule, Schedule};

/// The `cube` schedule that fits WebGPU's default limits with room to spare.
pub const SMALL_CUBE: CubeSchedule = CubeSchedule { queries: 16, keys: 16, unit_rows: 4, unit_columns: 4, chunk: 16 };

/// The schedule for programs with `operands` on `device`.
///
/// # Errors
/// [`Error::Schedule`] where the device has too little shared memory for any.
pub fn choose(device: &Device, operands: Operands) -> Result<Schedule, Error> {
    let hardware = hardware(device);
    if hardware.num_cpu_cores.is_some() {
        return Ok(Schedule::Cpu(cpu(hardware.load_width as usize / 32, operands)));
    }
    // Tiles of 32 × 32 by 64 units, or of 16 × 16 by 16 where shared memory is short.
    let candidates = [CubeSchedule { queries: 32, keys: 32, unit_rows: 8, unit_columns: 8, chunk: 32 }, SMALL_CUBE];
    let schedule = candidates.into_iter().map(Schedule::Cube).find(|schedule| check(device, *schedule).is_ok());
    schedule.ok_or_else(|| Error::Schedule {
        schedule: "cube".into(),
        reason: format!("the device has {} bytes of shared memory", hardware.max_shared_memory_size),
    })
}

/// The `cpu` schedule for vectors of `lanes` floats: four of them in a tile of queries, two where the head dims are so large
/// that Qᵀ and Oᵀ would not stay in the first-level cache.
pub fn cpu(lanes: usize, operands: Operands) -> CpuSchedule {
    let vectors = if operands.qk_dim.max(operands.v_dim) > 128 { 2 } else { 4 };
    CpuSchedule { lanes: lanes.clamp(1, 16), vectors, keys: 64, rows: 4 }
}

/// Whether `device` can run `schedule`.
///
/// # Errors
/// [`Error::Schedule`] with the reason where it can't.
pub fn check(device: &Device, schedule: Schedule) -> Result<(), Error> {
    let hardware = hardware(device);
    let wrong = |reason: String| Err(Error::Schedule { schedule: format!("{schedule:?}"), reason });
    match schedule {
        Schedule::Cpu(_) if hardware.num_cpu_cores.is_none() => {
            wrong(format!("`{}` is not a CPU, and its cubes need the `cube` schedule", device.name()))
        }
        Schedule::Cpu(cpu) => {
            let blocks = cpu.vectors > 0 && cpu.rows > 0 && cpu.keys > 0 && cpu.keys.is_multiple_of(cpu.rows);
            if !blocks || !cpu.lanes.is_power_of_two() {
                return wrong("lanes must be a power of two, rows must divide the keys, and no size may be 0".into());
            }
            Ok(())
        }
        Schedule::Cube(_) if hardware.num_cpu_cores.is_some() => {
            wrong("a CPU needs the `cpu` schedule: its units do not share memory at one speed".into())
        }
        Schedule::Cube(cube) => {
            let divides = |a: usize, b: usize| a != 0 && b != 0 && a.is_multiple_of(b);
            let units = cube.unit_rows * cube.unit_columns;
            if !divides(cube.queries, cube.unit_rows)
                || !divides(cube.keys, cube.unit_columns)
                || !divides(cube.chunk, cube.unit_columns)
            {
                return wrong("unit rows must divide the queries, unit columns the keys and the chunk".into());
            }
            if cube.shared_bytes() > hardware.max_shared_memory_size {
                let (needed, there) = (cube.shared_bytes(), hardware.max_shared_memory_size);
                return wrong(format!("it needs {needed} bytes of shared memory, the device has {there}"));
            }
            if units > hardware.max_units_per_cube as usize {
                return wrong(format!("it needs {units} units, the device has {}", hardware.max_units_per_cube));
            }
            Ok(())
        }
    }
}

fn hardware(device: &Device) -> &HardwareProperties {
    &device.client().properties().hardware
}
