//! Programs that were compiled, by what they were compiled for.
//!
//! A key holds the specification, its comptime scalars, the operands' types and head dims, and which numbers of each row are kept. Lengths,
//! strides, offsets and runtime scalars are not in it: they are arguments of the kernel. A program is compiled once for all its schedules.
//! CubeCL caches the kernels themselves on the device, by the program, the schedule and the types of its arguments; [`kernels_compiled`]
//! counts those.

use crate::error::Error;
use crate::request::Request;
use crate::schedule::Constraints;
use purview_compiler::backward::{Backward, Wanted};
#[cfg(feature = "emit")]
use purview_compiler::device_model::DeviceModel;
use purview_compiler::ir::{Kept, Program};
use purview_compiler::ir::forward::{Form, OperandDims};
use purview_compiler::notes;
use purview_compiler::passes;
use purview_compiler::pruned::Constants;
use purview_compiler::schedule::Schedule;
use purview_compiler::scheduled::{Compiled, Scheduled};
use purview_compiler::spec::{ScalarValue, Spec};
#[cfg(feature = "emit")]
use purview_compiler::target::KernelText;
use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// How many kernels this process has compiled, for all devices.
pub fn kernels_compiled() -> usize {
    purview_compiler::emit::kernels_compiled()
}

/// How many programs this process has compiled, for all devices, each but once: to launch it, to report on it, to print it or to write
/// out its kernels. Texts of stages are not counted.
pub fn programs_compiled() -> usize {
    COMPILED.load(Ordering::Relaxed)
}

static COMPILED: AtomicUsize = AtomicUsize::new(0);

/// What programs are compiled for.
struct Key {
    spec: Arc<Spec>,
    /// The bits of the comptime scalars.
    comptime: Vec<u32>,
    operands: OperandDims,
    kept: Kept,
}

impl PartialEq for Key {
    fn eq(&self, other: &Key) -> bool {
        (Arc::ptr_eq(&self.spec, &other.spec) || self.spec == other.spec)
            && self.comptime == other.comptime
            && self.operands == other.operands
            && self.kept == other.kept
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // The name stands for the specification: equal ones have equal names, and hashing all of it would cost every launch.
        self.spec.name.hash(state);
        self.comptime.hash(state);
        self.operands.hash(state);
        self.kept.hash(state);
    }
}

impl Key {
    fn new(request: &Request, operands: &OperandDims) -> Key {
        let spec = request.spec.clone();
        let comptime = spec.scalars.iter().zip(&request.scalars).filter(|(param, _)| param.comptime);
        let comptime = comptime.map(|(_, value)| bits(*value)).collect();
        Key { spec, comptime, operands: operands.clone(), kept: request.kept }
    }
}

fn bits(value: ScalarValue) -> u32 {
    match value {
        ScalarValue::I32(value) => value.cast_unsigned(),
        ScalarValue::U32(value) => value,
        ScalarValue::F32(value) => value.to_bits(),
        ScalarValue::Bool(value) => value.into(),
    }
}

/// A program in the forms that launches have asked for it in.
pub(crate) struct Programs {
    /// It visits the tiles that its mask asks for.
    skipping: Compiled,
    /// It visits every tile, and is made for the first launch in which the numbers that decide of tiles do not fit.
    whole: OnceLock<Compiled>,
    /// Either of them with a schedule, and whether it skips tiles.
    scheduled: Mutex<Vec<(bool, Scheduled)>>,
    /// The programs of gradients, of those that were wanted.
    backward: Mutex<Vec<(Wanted, Arc<Backward>)>>,
    /// The PTX of launches as data, for each device and schedule: like kernels on a device, it is compiled once.
    #[cfg(feature = "emit")]
    ptx: Mutex<Vec<(DeviceModel, Scheduled, KernelText)>>,
}

impl Programs {
    /// What chooses a schedule for them.
    pub fn constraints(&self, request: &Request) -> Constraints {
        let program = &self.skipping;
        let Request { spec, scalars, .. } = request;
        let spec = &spec.pruned(&Constants::new(spec, scalars, program.head_dim()));
        Constraints {
            operands: program.sizes(),
            value_dim: program.memory_sizes().v_dim,
            bounded: spec.is_bounded(),
            // Scores and an output of each take registers, as much code does.
            intricate: spec.is_intricate() || program.accumulators.len() > 1,
            form: Form::of(program),
        }
    }

    /// The program.
    pub fn program(&self) -> &Program {
        &self.skipping
    }

    /// Whether what is pushed has a multiple of `lanes` elements.
    pub fn pushes_whole(&self, lanes: usize) -> bool {
        (0..self.skipping.accumulators.len()).all(|place| self.skipping.dim_of(place).is_multiple_of(lanes))
    }

    /// Whether all query heads of a key head visit the same keys.
    pub fn heads_alike(&self) -> bool {
        self.skipping.heads_alike()
    }

    /// The program with `schedule`; if not `skipping`, it visits every tile.
    pub fn scheduled(&self, schedule: Schedule, skipping: bool) -> Result<Scheduled, Error> {
        let mut known = lock(&self.scheduled);
        let same = |(skips, known): &&(bool, Scheduled)| *skips == skipping && known.schedule() == schedule;
        if let Some((_, scheduled)) = known.iter().find(same) {
            return Ok(scheduled.clone());
        }
        let program = if skipping { &self.skipping } else { self.whole.get_or_init(|| self.without_skipping()) };
        let scheduled = passes::schedule(program.clone(), schedule)?;
        known.push((skipping, scheduled.clone()));
        Ok(scheduled)
    }

    /// The programs of the gradients of those operands of `request` that are `wanted`, compiled when they are first asked for.
    pub fn backward(&self, request: &Request, operands: &OperandDims, wanted: &Wanted) -> Result<Arc<Backward>, Error> {
        let mut known = lock(&self.backward);
        if let Some((_, backward)) = known.iter().find(|(of, _)| of == wanted) {
            return Ok(backward.clone());
        }
        let backward = passes::compile_backward(&request.spec, &request.scalars, operands, wanted)?;
        COMPILED.fetch_add(backward.programs().count(), Ordering::Relaxed);
        let backward = Arc::new(backward);
        known.push((wanted.clone(), backward.clone()));
        Ok(backward)
    }

    /// The PTX of `scheduled`, one of these programs, for `model`, which `compile` makes where no launch has asked for it yet.
    #[cfg(feature = "emit")]
    pub fn ptx(
        &self,
        model: &DeviceModel,
        scheduled: &Scheduled,
        compile: impl FnOnce() -> Result<KernelText, Error>,
    ) -> Result<KernelText, Error> {
        let known =
            |(device, program, _): &&(DeviceModel, Scheduled, KernelText)| device == model && program == scheduled;
        if let Some((_, _, text)) = lock(&self.ptx).iter().find(known) {
            return Ok(text.clone());
        }
        // Without the lock: launches of other schedules need not wait for this one.
        let text = compile()?;
        lock(&self.ptx).push((model.clone(), scheduled.clone(), text.clone()));
        Ok(text)
    }

    fn without_skipping(&self) -> Compiled {
        let name = &self.skipping.name;
        log::warn!("`{name}` has launches that visit every tile, because what decides of tiles does not fit");
        Compiled::new(self.skipping.without_skipping())
    }
}

/// The programs of `request` for `operands`, compiled at the first call, which also logs the notes of its mask.
pub(crate) fn programs(request: &Request, operands: &OperandDims) -> Result<Arc<Programs>, Error> {
    static KNOWN: OnceLock<Mutex<HashMap<Key, Arc<Programs>>>> = OnceLock::new();
    let known = KNOWN.get_or_init(Mutex::default);
    let key = Key::new(request, operands);
    if let Some(programs) = lock(known).get(&key) {
        return Ok(programs.clone());
    }
    // Without the lock: other programs need not wait for this one.
    let (spec, scalars) = (&request.spec, &request.scalars);
    let program = passes::compile(spec, scalars, operands, request.kept)?;
    COMPILED.fetch_add(1, Ordering::Relaxed);
    for note in notes::of_program(spec, scalars, &program) {
        log::log!(note.level, "{note}");
    }
    let programs = Programs {
        skipping: Compiled::new(program),
        whole: OnceLock::new(),
        scheduled: Mutex::default(),
        backward: Mutex::default(),
        #[cfg(feature = "emit")]
        ptx: Mutex::default(),
    };
    Ok(lock(known).entry(key).or_insert_with(|| Arc::new(programs)).clone())
}

/// What `mutex` holds. A panic elsewhere cannot have left it half written.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
