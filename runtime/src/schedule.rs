//! The choice of a schedule from a device's properties.

pub use crate::capabilities::DevicePlanes;
use crate::device::Device;
use crate::error::Error;
use cubecl::CubeElement;
use cubecl::ir::features::MmaConfig;
use cubecl::ir::{DeviceProperties, HardwareProperties};
use purview_compiler::ir::Element;
use purview_compiler::ir::forward::{Form, Operands};
pub use purview_compiler::schedule::{CpuSchedule, CubeSchedule, FewQueries, MmaSchedule, Planes, Products, Schedule};

/// The vector registers of a CPU's core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VectorRegisters {
    /// Lanes of f32 in one.
    pub lanes: usize,
    /// How many there are.
    pub count: usize,
}

impl VectorRegisters {
    /// Of x86-64 with AVX-512.
    pub const AVX512: VectorRegisters = VectorRegisters { lanes: 16, count: 32 };
    /// Of x86-64 with AVX2.
    pub const AVX2: VectorRegisters = VectorRegisters { lanes: 8, count: 16 };
    /// Of 64-bit ARM.
    pub const NEON: VectorRegisters = VectorRegisters { lanes: 4, count: 32 };

    fn of(hardware: &HardwareProperties) -> VectorRegisters {
        // 16 where nobody knows: the fewest of the machines that CubeCL's CPU runtime has a name for.
        let count = hardware.vector_register_count.unwrap_or(16) as usize;
        VectorRegisters { lanes: (hardware.load_width as usize / 32).clamp(1, 16), count }
    }
}

/// The `cube` schedule that fits WebGPU's default limits with room to spare.
pub const SMALL_CUBE: CubeSchedule = CubeSchedule {
    unit_rows: 4,
    unit_columns: 4,
    rows: 4,
    keys: 16,
    chunk: 16,
    planes: Planes::Unused,
    products: Products::Units,
};

/// The properties of an attention that choose its schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Constraints {
    /// The operands' type and head dims.
    pub operands: Operands,
    /// The head dim of the output: of each accumulator's values, of which [`operands`](Self::operands) have the sum.
    pub value_dim: usize,
    /// Whether no weight is greater than 1, as with a softmax: products may then be by matrices of the operands' type, to which
    /// weights are rounded.
    pub bounded: bool,
    /// Whether scores take much code, and so many registers: [`Spec::is_intricate`].
    ///
    /// [`Spec::is_intricate`]: purview_compiler::spec::Spec::is_intricate
    pub intricate: bool,
    /// How much its programs have: a schedule runs those that have no more than it can.
    pub form: Form,
}

/// The schedule for `device` and such an attention.
///
/// # Errors
/// [`Error::Schedule`] where the device has too little shared memory for any.
pub fn choose(device: &Device, constraints: Constraints) -> Result<Schedule, Error> {
    choose_for(device.client().properties(), device.planes(), constraints)
}

/// The schedule for a device with these properties and such an attention.
///
/// # Errors
/// As [`choose`].
pub fn choose_for(
    properties: &DeviceProperties,
    planes: DevicePlanes,
    constraints: Constraints,
) -> Result<Schedule, Error> {
    let hardware = &properties.hardware;
    let operands = &constraints.operands;
    if hardware.num_cpu_cores.is_some() {
        return Ok(Schedule::Cpu(cpu(VectorRegisters::of(hardware))));
    }
    if let Some(mma) =
        mma_schedules(constraints).find(|mma| misfit_of_mma(properties, planes, constraints, *mma).is_none())
    {
        return Ok(Schedule::Mma(mma));
    }
    let candidates: Vec<CubeSchedule> = matrices(properties, planes, operands)
        .into_iter()
        .chain([Products::Units])
        .flat_map(|products| cubes(planes).into_iter().map(move |cube| CubeSchedule { products, ..cube }))
        .filter(|cube| misfit(properties, planes, constraints, *cube).is_none())
        .collect();
    // The output stays in a unit's registers; where that takes too many in all schedules, the least will do.
    let outputs = |cube: &&CubeSchedule| operands.v_dim.div_ceil(cube.unit_columns) * cube.rows;
    let in_registers = candidates.iter().find(|cube| outputs(cube) <= most_outputs(planes));
    let chosen = in_registers.or_else(|| candidates.iter().min_by_key(outputs)).copied();
    chosen.map(Schedule::Cube).ok_or_else(|| Error::Schedule {
        schedule: "cube".into(),
        reason: format!(
            "the device has {} bytes of shared memory, and that is too few for head dims of {} and {}",
            hardware.max_shared_memory_size, operands.qk_dim, operands.v_dim
        ),
    })
}

/// The sizes of the `cube` schedule that are tried, the best first. Blocks are as large as registers allow: a block of `rows × columns`
/// scores costs `rows + columns` reads for each element of the head dim.
fn cubes(planes: DevicePlanes) -> Vec<CubeSchedule> {
    let share = match planes {
        DevicePlanes::Cheap(size) => Planes::Share(size),
        DevicePlanes::Unknown | DevicePlanes::Sized { .. } => Planes::Unused,
    };
    let cube = |(unit_rows, unit_columns, rows, keys, chunk)| {
        let reduce = unit_columns > 1 && unit_columns <= planes.least();
        let planes = if reduce { Planes::Reduce } else { share };
        CubeSchedule { unit_rows, unit_columns, rows, keys, chunk, planes, products: Products::Units }
    };
    if let DevicePlanes::Cheap(size) = planes {
        // Each unit has queries of its own; what a plane loads serves all of them. Fewer where the output or the memory is large.
        return [(size, 1, 4, 32, 4), (size, 1, 2, 16, 4), (size, 1, 1, 16, 4)].into_iter().map(cube).collect();
    }
    let sizes = [
        (16, 8, 4, 64, 32), // 64 × 64 by 128 units: 32 scores and, for a head dim of 64, 32 sums to a unit
        (8, 16, 4, 64, 64), // 32 × 64, for large head dims
        (8, 8, 4, 32, 32),  // 32 × 32 by 64 units
        (8, 4, 4, 16, 16),  // 32 × 16 by 32 units: f32 of 64 elements in WebGPU's 16 KiB
        (4, 16, 4, 32, 64), // 16 × 32, for large head dims
        (4, 4, 4, 16, 16),
        (4, 8, 2, 16, 32),
        (4, 4, 1, 16, 16), // head dims of 256 in WebGPU's 16 KiB
    ];
    sizes.into_iter().map(cube).collect()
}

/// The matrices that a device multiplies, if it lists any for such operands: 16×16×16, or 8×8×8. Where planes are [`DevicePlanes::Cheap`]
/// a CPU multiplies them, which is not faster.
fn matrices(properties: &DeviceProperties, planes: DevicePlanes, operands: &Operands) -> Option<Products> {
    let DevicePlanes::Sized { least, most: plane } = planes else { return None };
    if least != plane {
        return None;
    }
    let mut sizes = [16, 8].into_iter().map(|size| Products::Matrices { m: size, n: size, k: size, plane });
    sizes.find(|products| lists(properties, operands, *products))
}

/// Whether a device lists the matrices of `products` for such operands.
fn lists(properties: &DeviceProperties, operands: &Operands, products: Products) -> bool {
    let Products::Matrices { m, n, k, .. } = products else { return true };
    let element = match operands.element {
        Element::F32 => return false,
        Element::F16 => half::f16::cube_type(),
        Element::Bf16 => half::bf16::cube_type(),
    };
    let (m, n, k) = (m as u32, n as u32, k as u32);
    let cd_type = f32::cube_type();
    properties.features.matmul.cmma.contains(&MmaConfig { a_type: element, b_type: element, cd_type, m, n, k })
}

/// The most elements of the output that a unit keeps: a quarter of a GPU's 255 registers, which leaves as many for the scores and what
/// they are made of; on a CPU they are in the first-level cache.
fn most_outputs(planes: DevicePlanes) -> usize {
    match planes {
        DevicePlanes::Cheap(_) => 512,
        DevicePlanes::Unknown | DevicePlanes::Sized { .. } => 64,
    }
}

/// Why a device can't run `cube` for such an attention; `None` where it can.
fn misfit(
    properties: &DeviceProperties,
    planes: DevicePlanes,
    constraints: Constraints,
    cube: CubeSchedule,
) -> Option<String> {
    let Constraints { operands, bounded, form, .. } = constraints;
    let hardware = &properties.hardware;
    if form > Schedule::Cube(cube).form() {
        return Some(format!("products by matrices are for programs of {}", Form::Single));
    }
    let divides = |a: usize, b: usize| a != 0 && b != 0 && a.is_multiple_of(b);
    let (units, most) = (cube.units(), hardware.max_units_per_cube as usize);
    let (needed, there) = (cube.shared_bytes(&operands), hardware.max_shared_memory_size);
    if !divides(cube.keys, cube.unit_columns) || !divides(cube.chunk, CubeSchedule::WIDTH * cube.unit_columns) {
        return Some("unit columns must divide the keys, and four times as many the chunk".into());
    }
    if ![1, 2, 4].contains(&cube.rows) || cube.unit_rows == 0 {
        return Some("a unit has 1, 2 or 4 rows, and there must be units".into());
    }
    let planes_fit = match cube.planes {
        Planes::Unused => true,
        Planes::Reduce => cube.unit_columns.is_power_of_two() && cube.unit_columns <= planes.least(),
        Planes::Share(size) => {
            planes == DevicePlanes::Cheap(size) && cube.unit_columns == 1 && divides(cube.unit_rows, size)
        }
    };
    if !planes_fit {
        return Some(format!("its use of planes, `{}`, does not fit the device's, {planes:?}", cube.planes));
    }
    if let Products::Matrices { m, n, k, plane } = cube.products {
        let one_size =
            planes == DevicePlanes::Cheap(plane) || planes == DevicePlanes::Sized { least: plane, most: plane };
        if !one_size || !divides(units, plane) {
            return Some(format!("its planes of {plane} must be the device's, {planes:?}, and divide the units"));
        }
        let whole = divides(cube.keys, m) && divides(cube.keys, k) && divides(cube.queries(), n);
        if !whole || !cube.stages() {
            return Some("its matrices must divide the keys and the queries, and planes not share keys".into());
        }
        if !bounded {
            return Some("weights that may be greater than 1, as these, are not multiplied by matrices".into());
        }
        if !lists(properties, &operands, cube.products) {
            return Some(format!("the device has no `{}` of {}", cube.products, operands.element.name()));
        }
    }
    if needed > there {
        return Some(format!("it needs {needed} bytes of shared memory, the device has {there}"));
    }
    (units > most).then(|| format!("it needs {units} units, the device has {most}"))
}

/// Why a device can't run `mma` for such an attention; `None` where it can.
fn misfit_of_mma(
    properties: &DeviceProperties,
    planes: DevicePlanes,
    constraints: Constraints,
    mma: MmaSchedule,
) -> Option<String> {
    let Constraints { operands, bounded, form, .. } = constraints;
    let hardware = &properties.hardware;
    if form > Schedule::Mma(mma).form() {
        return Some(format!("it runs programs of {}", Form::Tiled));
    }
    let element = match operands.element {
        Element::F32 => return Some("tensor cores multiply f16 and bf16, not f32".into()),
        Element::F16 => half::f16::cube_type(),
        Element::Bf16 => half::bf16::cube_type(),
    };
    let product = MmaConfig { a_type: element, b_type: element, cd_type: f32::cube_type(), m: 16, n: 8, k: 16 };
    let warp = MmaSchedule::WARP;
    if planes != (DevicePlanes::Sized { least: warp, most: warp })
        || !properties.features.matmul.mma.contains(&product)
        || properties.features.matmul.ldmatrix.is_empty()
    {
        let element = operands.element.name();
        return Some(format!("the device has no `mma` of 16×8×16 {element} by warps of {warp}, with `ldmatrix`"));
    }
    if mma.warps == 0 || mma.fragments == 0 || mma.keys == 0 || !mma.keys.is_multiple_of(MmaSchedule::MATRIX) {
        return Some("its keys must be whole matrices of 16, and no size 0".into());
    }
    if !mma.warps.is_multiple_of(mma.warps_of_rows()) {
        return Some(format!("{} warps share rows, and it has {}", mma.warps_of_rows(), mma.warps));
    }
    if !bounded && operands.element == Element::F16 {
        return Some("weights that may be greater than 1, as these, are not rounded to f16".into());
    }
    let (needed, there) = (mma.shared_bytes(&operands), hardware.max_shared_memory_size);
    if needed > there {
        return Some(format!("it needs {needed} bytes of shared memory, the device has {there}"));
    }
    let (units, most) = (mma.units(), hardware.max_units_per_cube as usize);
    (units > most).then(|| format!("it needs {units} units, the device has {most}"))
}

/// Sizes of the `mma` schedule, for head dims up to some.
struct MmaSizes {
    /// The largest head dim, of keys or of values, that they are for.
    dim: usize,
    /// Whether they are for scores that take much code.
    intricate: bool,
    warps: usize,
    fragments: usize,
    keys: usize,
}

/// The sizes of the `mma` schedule, the first that fit being taken. What they are held against is that nothing spills: a thread has 255
/// registers, of which `fragments * v_dim / 2` are the output and `fragments * keys / 2` scores. The same sizes do for compute
/// capability 8.0 and 9.0, which differ in shared memory only (163 and 227 KiB a block), and fit what 8.6 and 8.9 have (99 KiB) where the last
/// row is taken for large head dims.
///
/// Two fragments of 16 rows a warp let what is read of keys and values serve twice: with one, reading them takes as long as multiplying
/// them (a quarter of a multiprocessor multiplies 16×8×16 in 8 cycles, and reads the two B of two products, 512 bytes, in 4 that all
/// quarters share).
const MMA_SIZES: [MmaSizes; 10] = {
    const fn sizes(dim: usize, intricate: bool, (warps, fragments, keys): (usize, usize, usize)) -> MmaSizes {
        MmaSizes { dim, intricate, warps, fragments, keys }
    }
    [
        // At most 64 outputs, and 64 scores. 96 keys spill in some variants, 128 in all.
        sizes(64, false, (4, 2, 64)),
        sizes(64, true, (4, 2, 48)),
        // 128 outputs and 32 scores, FlashAttention-2's 128 × 32. 48 keys spill in most variants.
        sizes(128, false, (4, 2, 32)),
        sizes(128, true, (4, 2, 16)),
        // Up to 128 outputs again, of one fragment: two would be 256. Twice the warps keep the tile at 128 rows.
        sizes(192, false, (8, 1, 64)),
        sizes(256, false, (8, 1, 48)), // 64 keys spill in some variants on 9.0
        sizes(256, true, (8, 1, 32)),
        // Of values beyond 256, up to 128 outputs, in each of two warps. What counts is shared memory: 143 KiB for 576 and 512, which 8.0 and
        // 9.0 have, 106, and 71.
        sizes(576, false, (8, 1, 32)),
        sizes(576, true, (8, 1, 16)),
        sizes(576, true, (4, 1, 16)),
    ]
};

/// The `mma` schedules for such an attention, the best first.
pub(crate) fn mma_schedules(constraints: Constraints) -> impl Iterator<Item = MmaSchedule> {
    let Operands { qk_dim, v_dim, .. } = constraints.operands;
    // What the output of several accumulators takes in registers, warps that share its columns do not halve: each value would be padded.
    let (dim, split_columns) = (qk_dim.max(v_dim), constraints.value_dim > 256);
    let has_registers = v_dim <= if split_columns && v_dim == constraints.value_dim { 512 } else { 256 };
    // Sizes for much code are smaller, and serve as well where shared memory is short.
    let fits =
        move |sizes: &&MmaSizes| has_registers && dim <= sizes.dim && (sizes.intricate || !constraints.intricate);
    let sizes = MMA_SIZES.iter().filter(fits);
    sizes.map(move |&MmaSizes { warps, fragments, keys, .. }| MmaSchedule {
        warps,
        fragments,
        keys,
        pack_gqa: false,
        split_columns,
    })
}

/// The `cpu` schedule for a core with `registers`.
///
/// A tile has 64 queries where vectors are of 16 lanes and 32 where they are shorter. A register block has as many rows as leave
/// registers for a row of the other factor and a broadcast element: enough independent sums to hide the latency of multiply-adds, and
/// more of those than loads.
pub fn cpu(registers: VectorRegisters) -> CpuSchedule {
    let VectorRegisters { lanes, count } = registers;
    let queries = if lanes < 16 { 32 } else { 64 };
    let vectors = (queries / lanes).min(8);
    let rows = [8, 6, 4, 2].into_iter().find(|rows| rows * vectors + vectors < count);
    CpuSchedule::new(lanes, vectors, 64, rows.unwrap_or(1))
}

/// Whether `device` can run `schedule` for such an attention.
///
/// # Errors
/// [`Error::Schedule`] with the reason where it can't.
pub fn check(device: &Device, schedule: Schedule, constraints: Constraints) -> Result<(), Error> {
    check_for(device.client().properties(), device.planes(), device.name(), schedule, constraints)
}

/// Whether a device with these properties, named `name`, can run `schedule` for such an attention.
///
/// # Errors
/// As [`check`].
pub fn check_for(
    properties: &DeviceProperties,
    planes: DevicePlanes,
    name: &str,
    schedule: Schedule,
    constraints: Constraints,
) -> Result<(), Error> {
    let hardware = &properties.hardware;
    let is_cpu = hardware.num_cpu_cores.is_some();
    let reason = match schedule {
        Schedule::Cpu(_) if !is_cpu => Some(format!("`{name}` is not a CPU, and its cubes need the `cube` schedule")),
        Schedule::Cpu(cpu) => {
            let blocks = cpu.vectors > 0 && (1..=cpu.keys).contains(&cpu.rows);
            let along = cpu.few.along_head_dim;
            if !blocks || !cpu.lanes.is_power_of_two() {
                Some("lanes must be a power of two, rows no more than the keys, and no size 0".into())
            } else if along > 0 && (cpu.vectors != 1 || along > cpu.lanes || !along.is_power_of_two()) {
                Some("with vectors along the head dims a tile has one vector, and as its rows a power of two, at most the lanes".into())
            } else {
                None
            }
        }
        Schedule::Cube(_) if is_cpu => {
            Some("a CPU needs the `cpu` schedule: its units do not share memory at one speed".into())
        }
        Schedule::Cube(cube) => misfit(properties, planes, constraints, cube),
        Schedule::Mma(mma) => misfit_of_mma(properties, planes, constraints, mma),
    };
    reason.map_or(Ok(()), |reason| Err(Error::Schedule { schedule: schedule.to_string(), reason }))
}

/// The cores of `device`, if it is a CPU.
pub(crate) fn cores(device: &Device) -> Option<usize> {
    device.client().properties().hardware.num_cpu_cores.map(|cores| cores as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn register_blocks_fit() {
        use VectorRegisters as Registers;
        for (registers, vectors, rows) in [(Registers::AVX512, 4, 6), (Registers::AVX2, 4, 2), (Registers::NEON, 8, 2)]
        {
            let schedule = cpu(registers);
            assert_eq!((schedule.vectors, schedule.rows), (vectors, rows), "{registers:?}");
            assert!(rows * vectors + vectors < registers.count, "{registers:?} has none left for a broadcast element");
        }
    }
}
