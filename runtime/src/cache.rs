//! Programs that were compiled, by what they were compiled for.
//!
//! A key holds the specification, its comptime scalars, the operands' types and head dims, and whether tiles are skipped. Lengths,
//! strides, offsets and runtime scalars are not in it: they are arguments of the kernel. A program is compiled once for all its
//! schedules. CubeCL caches the kernels themselves on the device, by the program, the schedule and the types of its arguments;
//! [`kernels_compiled`] counts those.

use crate::error::Error;
use purview_compiler::ir::forward::Operands;
use purview_compiler::notes;
use purview_compiler::passes;
use purview_compiler::schedule::Schedule;
use purview_compiler::scheduled::{Compiled, Scheduled};
use purview_compiler::spec::{ScalarValue, Spec};
use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// How many kernels this process has compiled, for all devices.
pub fn kernels_compiled() -> usize {
    purview_compiler::emit::kernels_compiled()
}

/// How many programs this process has compiled to launch them or to write out their kernels, for all devices.
pub fn programs_compiled() -> usize {
    COMPILED.load(Ordering::Relaxed)
}

static COMPILED: AtomicUsize = AtomicUsize::new(0);

/// What a program is compiled for.
struct Key {
    spec: Arc<Spec>,
    /// The bits of the comptime scalars.
    comptime: Vec<u32>,
    operands: Operands,
    skipping: bool,
}

impl PartialEq for Key {
    fn eq(&self, other: &Key) -> bool {
        (Arc::ptr_eq(&self.spec, &other.spec) || self.spec == other.spec)
            && self.comptime == other.comptime
            && self.operands == other.operands
            && self.skipping == other.skipping
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // The name stands for the specification: equal ones have equal names, and hashing all of it would cost every launch.
        self.spec.name.hash(state);
        self.comptime.hash(state);
        self.operands.hash(state);
        self.skipping.hash(state);
    }
}

/// A program, and the schedules that it has been asked for with.
struct Entry {
    program: Compiled,
    scheduled: Vec<Scheduled>,
}

/// The programs that were compiled.
fn programs() -> MutexGuard<'static, HashMap<Key, Entry>> {
    static PROGRAMS: OnceLock<Mutex<HashMap<Key, Entry>>> = OnceLock::new();
    // A panic elsewhere cannot have left the map half written.
    PROGRAMS.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner)
}

impl Key {
    fn new(spec: &Arc<Spec>, scalars: &[ScalarValue], operands: Operands, skipping: bool) -> Key {
        let comptime = spec.scalars.iter().zip(scalars).filter(|(param, _)| param.comptime);
        let comptime = comptime.map(|(_, value)| bits(*value)).collect();
        Key { spec: spec.clone(), comptime, operands, skipping }
    }
}

/// The program of `spec`, compiled at the first call, which also logs what there is to know of it; if not `skipping`, it visits
/// every tile.
pub(crate) fn program(
    spec: &Arc<Spec>,
    scalars: &[ScalarValue],
    operands: Operands,
    skipping: bool,
) -> Result<Compiled, Error> {
    let key = Key::new(spec, scalars, operands, skipping);
    if let Some(entry) = programs().get(&key) {
        return Ok(entry.program.clone());
    }
    let program = if skipping {
        let program = passes::compile(spec, scalars, operands)?;
        COMPILED.fetch_add(1, Ordering::Relaxed);
        for note in notes::of_program(spec, scalars, &program) {
            log::log!(note.level, "{note}");
        }
        program
    } else {
        log::warn!("`{}` has launches that visit every tile, because what decides of tiles does not fit", spec.name);
        self::program(spec, scalars, operands, true)?.without_skipping()
    };
    let program = Compiled::new(program);
    programs().insert(key, Entry { program: program.clone(), scheduled: Vec::new() });
    Ok(program)
}

/// The same, with `schedule`.
pub(crate) fn scheduled(
    spec: &Arc<Spec>,
    scalars: &[ScalarValue],
    operands: Operands,
    schedule: Schedule,
    skipping: bool,
) -> Result<Scheduled, Error> {
    let key = Key::new(spec, scalars, operands, skipping);
    let known = |entry: &Entry| entry.scheduled.iter().find(|known| known.schedule() == schedule).cloned();
    if let Some(scheduled) = programs().get(&key).and_then(known) {
        return Ok(scheduled);
    }
    let scheduled = passes::schedule(program(spec, scalars, operands, skipping)?, schedule)?;
    if let Some(entry) = programs().get_mut(&key) {
        entry.scheduled.push(scheduled.clone());
    }
    Ok(scheduled)
}

fn bits(value: ScalarValue) -> u32 {
    match value {
        ScalarValue::I32(value) => value.cast_unsigned(),
        ScalarValue::U32(value) => value,
        ScalarValue::F32(value) => value.to_bits(),
        ScalarValue::Bool(value) => value.into(),
    }
}
