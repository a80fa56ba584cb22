//! How a launch is run: its schedule, and what is done about few queries.

use crate::cache::Programs;
use crate::emit;
use crate::error::Error;
use crate::operation::Operation;
use crate::request::{Call, Request};
use crate::schedule::{self, Constraints, CpuSchedule, FewQueries, MmaSchedule, Schedule, mma_schedules};
use purview_compiler::device_model::DeviceModel;
use purview_compiler::emit::launch::should_split;
use purview_compiler::spec::Role;
use purview_compiler::target::Target;

/// The schedule of `call`: the caller's, or else the one that its device and its number of queries choose.
pub(crate) fn on_device(call: &Call, operation: &Operation, programs: &Programs) -> Result<Schedule, Error> {
    let &Call { request, device, operands, counters } = call;
    let constraints = programs.constraints(request);
    let schedule = match request.schedule {
        Some(schedule) => with_heads_alike(schedule, programs)?,
        None => with_shared_tiles(schedule::choose(device, constraints)?, constraints, operation, programs),
    };
    schedule::check(device, schedule, constraints)?;
    let Schedule::Cpu(base) = schedule else { return Ok(schedule) };
    let along = request.spec.operands.iter().zip(operands);
    let mut along_keys = along.filter(|(param, _)| param.role != Role::Query);
    let in_vectors =
        along_keys.all(|(_, tensor)| tensor.is_in_vectors(base.lanes)) && programs.pushes_whole(base.lanes);
    let as_it_is = request.schedule.is_some() || counters.is_some();
    match schedule::cores(device) {
        Some(cores) if !as_it_is => {
            Ok(Schedule::Cpu(cpu_for_few_queries(base, cores, programs.heads_alike(), operation, in_vectors)))
        }
        _ => fits_launch(base, operation, in_vectors).map(|()| schedule),
    }
}

/// That a launch has no more rows in a tile than `cpu` has room for, and rows in vectors where it reads them so.
fn fits_launch(cpu: CpuSchedule, operation: &Operation, in_vectors: bool) -> Result<(), Error> {
    let along = cpu.few.along_head_dim;
    let together = if cpu.few.pack_gqa { operation.group } else { 1 };
    let refused = |reason: String| Err(Error::Schedule { schedule: Schedule::Cpu(cpu).to_string(), reason });
    if along == 0 {
        return Ok(());
    }
    if !in_vectors {
        return refused(format!(
            "vectors along the head dims take keys and values in whole vectors of {} elements",
            cpu.lanes
        ));
    }
    let rows = together * operation.queries;
    if rows > along {
        return refused(format!("a tile has at most {along} rows, and the launch {rows}"));
    }
    Ok(())
}

/// The schedule that `request` has in a text for `target` on the device `model`: the caller's, or else the one for that device.
pub(crate) fn on_model(
    request: &Request,
    target: Target,
    model: &DeviceModel,
    operation: &Operation,
    programs: &Programs,
) -> Result<Schedule, Error> {
    let constraints = programs.constraints(request);
    match request.schedule {
        Some(schedule) => {
            if let Schedule::Cpu(cpu) = schedule {
                // A text is of operands whose rows follow each other.
                let along = request.spec.operands.iter().zip(&operation.operands.dims);
                let mut along_keys = along.filter(|(param, _)| param.role != Role::Query);
                let in_vectors =
                    along_keys.all(|(_, dim)| dim.is_multiple_of(cpu.lanes)) && programs.pushes_whole(cpu.lanes);
                fits_launch(cpu, operation, in_vectors)?;
            }
            with_heads_alike(schedule, programs)
        }
        None => {
            Ok(with_shared_tiles(emit::schedule_for(target, model, constraints)?, constraints, operation, programs))
        }
    }
}

/// `schedule`, unless it has heads in one tile that visit different keys.
fn with_heads_alike(schedule: Schedule, programs: &Programs) -> Result<Schedule, Error> {
    match schedule {
        Schedule::Mma(MmaSchedule { pack_gqa: true, .. })
        | Schedule::Cpu(CpuSchedule { few: FewQueries { pack_gqa: true, .. }, .. })
            if !programs.heads_alike() =>
        {
            let reason = "which keys are visited depends on the head, as here, and heads in one tile visit the same";
            Err(Error::Schedule { schedule: schedule.to_string(), reason: reason.into() })
        }
        _ => Ok(schedule),
    }
}

/// `schedule`, unless it is `mma` and its tiles are larger than the queries of a head: then the heads of a group share a tile, where
/// they visit the same keys. Rows have heads and positions of their own then, which takes registers, as
/// [intricate](Constraints::intricate) scores do.
fn with_shared_tiles(
    schedule: Schedule,
    constraints: Constraints,
    operation: &Operation,
    programs: &Programs,
) -> Schedule {
    let Schedule::Mma(base) = schedule else { return schedule };
    let group = operation.group;
    if group < 2 || operation.queries >= base.queries() || !programs.heads_alike() {
        return schedule;
    }
    // What takes no more of a device than what it was seen to have.
    let fits = |smaller: &MmaSchedule| {
        let operands = &constraints.operands;
        smaller.shared_bytes(operands) <= base.shared_bytes(operands) && smaller.units() <= base.units()
    };
    let smaller = mma_schedules(Constraints { intricate: true, ..constraints }).find(fits);
    Schedule::Mma(MmaSchedule { pack_gqa: true, ..smaller.unwrap_or(base) })
}

/// The `cpu` schedule `base` for a launch that may have few queries. A tile has no more vectors than they fill, and the heads of a group
/// share it where they visit the same keys. Keys are split where there are fewer tiles than keep all `units` at work. A few rows need
/// no vectors of their own: vectors run along the head dim where the rows of keys and values are whole vectors, as `in_vectors` says.
fn cpu_for_few_queries(
    base: CpuSchedule,
    units: usize,
    heads_alike: bool,
    operation: &Operation,
    in_vectors: bool,
) -> CpuSchedule {
    let group = operation.group;
    let pack_gqa = group > 1 && operation.queries < base.lanes * base.vectors && heads_alike;
    let together = if pack_gqa { group } else { 1 };
    let rows = together * operation.queries;
    let vectors = rows.div_ceil(base.lanes).next_power_of_two().min(base.vectors);
    let schedule = CpuSchedule { vectors, rows: (base.rows * base.vectors / vectors).min(8), ..base };
    let tiles = operation.batch * operation.heads / together * rows.div_ceil(schedule.lanes * vectors);
    let keys = operation.keys.iter().map(|keys| keys.length).max().unwrap_or(0);
    // A cache of keys grows from launch to launch, and its length should not decide of the kernel for the next query.
    let keys = if vectors < base.vectors { usize::MAX } else { keys };
    let along = in_vectors && 2 * rows <= base.lanes;
    let few = FewQueries {
        pack_gqa,
        split_kv: should_split(tiles, units, keys.div_ceil(schedule.keys)),
        along_head_dim: if along { rows.next_power_of_two() } else { 0 },
    };
    CpuSchedule { few, ..schedule }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::VectorRegisters;
    use purview_compiler::ir::Element;
    use purview_compiler::ir::forward::OperandDims;
    use purview_compiler::launch::Keys;

    /// The vectors of a tile on two units, and what is done about few queries.
    fn few(
        (heads, kv_heads): (usize, usize),
        queries: usize,
        keys: usize,
        heads_alike: bool,
        in_vectors: bool,
    ) -> (usize, FewQueries) {
        let operands = OperandDims { element: Element::F32, dims: vec![64; 3] };
        let mut operation = Operation::sizes(1, heads, kv_heads, queries, operands);
        operation.keys = vec![Keys { length: keys, offset: 0 }];
        let base = schedule::cpu(VectorRegisters::AVX512);
        let schedule = cpu_for_few_queries(base, 2, heads_alike, &operation, in_vectors);
        (schedule.vectors, schedule.few)
    }

    #[test]
    fn few_queries() {
        let made = |pack_gqa, split_kv, along_head_dim| FewQueries { pack_gqa, split_kv, along_head_dim };
        assert_eq!(few((8, 8), 1024, 1024, true, true), (4, FewQueries::default()), "enough queries");
        assert_eq!(few((32, 8), 1, 4096, true, true), (1, made(true, false, 4)), "a group is a tile");
        assert_eq!(few((32, 8), 1, 4096, false, true), (1, made(false, false, 1)), "tiles depend on the head");
        assert_eq!(few((32, 8), 1, 4096, true, false), (1, made(true, false, 0)), "keys that are not in vectors");
        assert_eq!(few((8, 1), 2, 4096, true, true), (1, made(true, true, 0)), "more rows than half of the lanes");
        assert_eq!(few((1, 1), 3, 4096, true, true), (1, made(false, true, 4)), "one head");
        assert_eq!(few((1, 1), 3, 1, true, true), (1, made(false, true, 4)), "the length of the cache does not matter");
        assert_eq!(few((1, 1), 64, 64, true, true), (4, FewQueries::default()), "too few keys to split");
        assert_eq!(few((1, 1), 64, 4096, true, true), (4, made(false, true, 0)), "a whole tile, alone");
        assert_eq!(few((4, 2), 17, 4096, true, true), (4, made(true, true, 0)), "three vectors of rows make four");
    }
}
