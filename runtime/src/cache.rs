//! Programs that were compiled, by what they were compiled for.
//!
//! A key holds the specification, its comptime scalars, the operands' types and head dims, the schedule, and
//! whether tiles are skipped. Lengths, strides,
//! offsets and runtime scalars are not in it: they are arguments of the kernel. CubeCL caches the kernels themselves on the
//! device, by the program and the types of its arguments; [`kernels_compiled`] counts those.

use crate::error::Error;
use purview_compiler::emit::arguments::Compiled;
use purview_compiler::ir::Operands;
use purview_compiler::notes;
use purview_compiler::passes;
use purview_compiler::schedule::Schedule;
use purview_compiler::spec::{ScalarValue, Spec};
use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// How many kernels this process has compiled, for all devices.
pub fn kernels_compiled() -> usize {
    purview_compiler::emit::kernels_compiled()
}

/// What a program is compiled for.
struct Key {
    spec: Arc<Spec>,
    /// The bits of the comptime scalars.
    comptime: Vec<u32>,
    operands: Operands,
    schedule: Schedule,
    skipping: bool,
}

impl Key {
    /// Whether the program is the same but for its schedule.
    fn is_of_the_same_program(&self, other: &Key) -> bool {
        (Arc::ptr_eq(&self.spec, &other.spec) || self.spec == other.spec)
            && self.comptime == other.comptime
            && self.operands == other.operands
            && self.skipping == other.skipping
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Key) -> bool {
        self.schedule == other.schedule && self.is_of_the_same_program(other)
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // The name stands for the specification: equal ones have equal names, and hashing all of it would cost every launch.
        self.spec.name.hash(state);
        self.comptime.hash(state);
        self.operands.hash(state);
        self.schedule.hash(state);
        self.skipping.hash(state);
    }
}

/// The program of `spec`, compiled at the first call, which also logs what there is to know of it; if not `skipping`, it visits
/// every tile.
pub(crate) fn compile(
    spec: &Arc<Spec>,
    scalars: &[ScalarValue],
    operands: Operands,
    schedule: Schedule,
    skipping: bool,
) -> Result<Compiled, Error> {
    static PROGRAMS: OnceLock<Mutex<HashMap<Key, Compiled>>> = OnceLock::new();
    let comptime = spec.scalars.iter().zip(scalars).filter(|(param, _)| param.comptime);
    let comptime = comptime.map(|(_, value)| bits(*value)).collect();
    let key = Key { spec: spec.clone(), comptime, operands, schedule, skipping };

    // A panic elsewhere cannot have left the map half written.
    let lock = || PROGRAMS.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(program) = lock().get(&key) {
        return Ok(program.clone());
    }
    let mut program = passes::compile(spec, scalars, operands, schedule)?;
    let is_new = lock().keys().all(|known| !known.is_of_the_same_program(&key));
    if is_new && skipping {
        for note in notes::of_program(spec, scalars, &program) {
            log::log!(note.level, "{note}");
        }
    }
    if !skipping {
        if is_new {
            log::warn!(
                "`{}` has launches that visit every tile, because what decides of tiles does not fit",
                spec.name
            );
        }
        program = program.without_skipping();
    }
    let program = Compiled::new(program);
    lock().insert(key, program.clone());
    Ok(program)
}

fn bits(value: ScalarValue) -> u32 {
    match value {
        ScalarValue::I32(value) => value.cast_unsigned(),
        ScalarValue::U32(value) => value,
        ScalarValue::F32(value) => value.to_bits(),
        ScalarValue::Bool(value) => value.into(),
    }
}
