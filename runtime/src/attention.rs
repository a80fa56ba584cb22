//! An attention with its arguments, ready to run.

use crate::cache;
use crate::device::Device;
use crate::emit;
use crate::error::Error;
use crate::launch::{self, Operation};
use crate::schedule::{self, Demand, VectorRegisters};
use crate::shape::Shape;
use crate::tensor::Tensor;
use crate::validate;
use purview_compiler::analysis::ranges::{check_launch, check_tiles};
use purview_compiler::device_model::DeviceModel;
use purview_compiler::eval::HostTensor;
use purview_compiler::interpret::{Inputs, Reference, interpret};
use purview_compiler::ir::Program;
use purview_compiler::ir::forward::Operands;
use purview_compiler::launch::{Keys, Launch, TensorFacts};
use purview_compiler::loop_iterations::loop_iterations;
use purview_compiler::lower::lower;
use purview_compiler::notes;
use purview_compiler::passes::{self, CompileError};
use purview_compiler::report::{Report, ReportError, report, verified_report};
use purview_compiler::schedule::{CubeSchedule, FewQueries, MmaSchedule, Schedule};
use purview_compiler::scheduled::{Compiled, Scheduled};
use purview_compiler::spec::{ScalarValue, Spec};
use purview_compiler::target::{KernelText, Target};
use std::sync::Arc;

/// An attention variant with the values of its scalars and captured tensors, over any number of pairs of keys and values: what
/// [`Attention`] is without the number in its type, for code that handles variants as data.
#[derive(Clone, Debug)]
pub struct AnyAttention {
    spec: Arc<Spec>,
    scalars: Vec<ScalarValue>,
    tensors: Vec<Tensor>,
    options: Options,
}

/// Tiles of queries and keys that a kernel counted, of all batches and heads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CountedTiles {
    /// Those that it visited.
    pub visited: u64,
    /// Those of them whose mask it did not evaluate.
    pub full: u64,
}

/// What a caller may set beyond the parameters.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    /// `scale()`; 1/√D if `None`.
    pub scale: Option<f32>,
    /// The first query's position; the last pair's `offset + T − S` if `None`.
    pub query_offset: Option<i64>,
    /// The first key's position of each pair; 0 where there is none.
    pub key_offsets: Vec<i64>,
    /// The schedule; chosen from the device if `None`.
    pub schedule: Option<Schedule>,
}

impl AnyAttention {
    /// What was asked, as data.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// The values of its scalars, in the order of the signature.
    pub fn scalars(&self) -> &[ScalarValue] {
        &self.scalars
    }

    /// Its captured tensors, in the order of the signature.
    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// With `scale()` equal to `scale` rather than 1/√D.
    pub fn with_scale(mut self, scale: f32) -> Self {
        self.options.scale = Some(scale);
        self
    }

    /// With the first query at position `offset`, which may be negative, rather than with the last query at the last key of
    /// the last pair.
    pub fn with_query_offset(mut self, offset: i64) -> Self {
        self.options.query_offset = Some(offset);
        self
    }

    /// With this schedule rather than the one chosen from the device.
    pub fn with_schedule(mut self, schedule: Schedule) -> Self {
        self.options.schedule = Some(schedule);
        self
    }

    /// The output for `query` and the pairs of keys and values, in the order of the signature.
    ///
    /// # Errors
    /// Everything that [`Error`] lists, before the attention is launched; [`Error::Execution`] only where captured tensors are
    /// looked at first (their range, whether they are sorted). What fails on the device later surfaces where the output is read.
    pub fn run(&self, device: &Device, query: &Tensor, pairs: &[(&Tensor, &Tensor)]) -> Result<Tensor, Error> {
        self.launch(device, query, pairs, None).map(|(out, _)| out)
    }

    /// The output, and the tiles that the kernel itself counted as it visited them, for each key loop: to see that it does what
    /// [`AnyAttention::report`] says. It is another kernel than the one of [`AnyAttention::run`], with the counting in it.
    ///
    /// # Errors
    /// As [`AnyAttention::run`], and [`Error::Execution`] where the kernel failed.
    pub fn run_counting(
        &self,
        device: &Device,
        query: &Tensor,
        pairs: &[(&Tensor, &Tensor)],
    ) -> Result<(Tensor, Vec<CountedTiles>), Error> {
        let counters = Tensor::from_slice(device, [self.spec.loops.len(), 2], &vec![0i32; 2 * self.spec.loops.len()])?;
        let (out, _) = self.launch(device, query, pairs, Some(&counters))?;
        let counts = counters.to_vec::<i32>()?;
        let counted = counts.chunks(2).map(|counts| CountedTiles {
            visited: u64::from(counts[0].cast_unsigned()),
            full: u64::from(counts[1].cast_unsigned()),
        });
        Ok((out, counted.collect()))
    }

    /// The output and each row's log-sum-exp `[B, H, S]` in f32: the natural logarithm of its sum of exponentials, a sink's
    /// included, and −∞ where no key is visible.
    ///
    /// # Errors
    /// As [`AnyAttention::run`], and [`Error::NoLse`] unless the accumulator is `Softmax`.
    pub fn run_with_lse(
        &self,
        device: &Device,
        query: &Tensor,
        pairs: &[(&Tensor, &Tensor)],
    ) -> Result<(Tensor, Tensor), Error> {
        validate::has_lse(&self.spec)?;
        self.launch(device, query, pairs, None)
    }

    /// The output and log-sum-exp by the reference: in f64, straight from the specification, in time proportional to queries
    /// times keys, on the host. Integers are mathematical, so that it also gives a number where a launch is refused because one
    /// could leave 32 bits.
    ///
    /// # Errors
    /// As [`AnyAttention::run`], but that an index outside its tensor, or a division by zero, is [`Error::Interpret`] at the
    /// first pair of a query and a key where it matters.
    pub fn reference(&self, query: &Tensor, pairs: &[(&Tensor, &Tensor)]) -> Result<Reference, Error> {
        let operation = self.operation(query, pairs)?;
        // The specification is checked as for a kernel.
        lower(&self.spec, &self.scalars, operation.operands).map_err(CompileError::from)?;
        let host_pairs = pairs
            .iter()
            .map(|(key, value)| Ok((key.to_host()?, value.to_host()?)))
            .collect::<Result<Vec<_>, Error>>()?;
        let key_offsets: Vec<i64> = operation.keys.iter().map(|keys| keys.offset).collect();
        Ok(interpret(
            &self.spec,
            &Inputs {
                query: &query.to_host()?,
                pairs: &host_pairs,
                scalars: &self.scalars,
                tensors: &self.host_tensors()?,
                scale: f64::from(operation.scale),
                query_offset: operation.query_offset,
                key_offsets: &key_offsets,
            },
        )?)
    }

    /// The tile program for `shape`, after all stages. Print it.
    ///
    /// # Errors
    /// As [`AnyAttention::run`], as far as they concern the shape.
    pub fn program(&self, shape: &Shape) -> Result<Scheduled, Error> {
        validate::arguments(&self.spec, &self.scalars, &self.tensors, self.spec.pairs.len())?;
        let program = passes::compile(&self.spec, &self.scalars, shape.operands())?;
        Ok(passes::schedule(Compiled::new(program), self.text_schedule())?)
    }

    /// The text of the tile program for `shape` after each stage, with the stage's name.
    ///
    /// # Errors
    /// As [`AnyAttention::program`].
    pub fn stages(&self, shape: &Shape) -> Result<Vec<(&'static str, String)>, Error> {
        validate::arguments(&self.spec, &self.scalars, &self.tensors, self.spec.pairs.len())?;
        let stages = passes::stages(&self.spec, &self.scalars, shape.operands())?;
        let mut texts: Vec<_> = stages.iter().map(|(stage, program)| (*stage, program.to_string())).collect();
        if let Some((_, program)) = stages.into_iter().next_back() {
            let scheduled = passes::schedule(Compiled::new(program), self.text_schedule())?;
            texts.push((passes::SCHEDULE, scheduled.to_string()));
        }
        Ok(texts)
    }

    /// Which tiles a launch of `shape` visits, which of them need no mask, and what that costs. Print it, or read its fields.
    ///
    /// # Errors
    /// As [`AnyAttention::run`], as far as they concern the shape.
    pub fn report(&self, shape: &Shape) -> Result<Report, Error> {
        self.report_by(shape, report)
    }

    /// The same, checked against the specification's own masks on every pair of a query and a key, which also finds the tiles that
    /// [are needed](Report::needed_tiles), and the full tiles that
    /// [were missed](Report::missed_full_tiles). It takes time proportional to queries times keys.
    ///
    /// # Errors
    /// As [`AnyAttention::report`], and [`ReportError::Tile`] if a tile with a visible pair is skipped or a full one hides a pair.
    pub fn report_verified(&self, shape: &Shape) -> Result<Report, Error> {
        self.report_by(shape, verified_report)
    }

    fn report_by(
        &self,
        shape: &Shape,
        report: fn(&Spec, &Scheduled, &Launch, &[HostTensor]) -> Result<Report, ReportError>,
    ) -> Result<Report, Error> {
        let program = self.program(shape)?;
        let operation = validate::shape(&self.spec, &self.scalars, &self.tensors, &self.options, shape)?;
        let facts = self.tensor_facts(&program)?;
        let launch = self.compiler_launch(&operation, &facts);
        check_launch(&self.spec, &program, &launch)?;
        validate::sorted(&self.spec, &self.tensors)?;
        let fits = check_tiles(&self.spec, &program, &launch).is_ok();
        let program = if fits { program } else { program.without_skipping() };
        Ok(report(&self.spec, &program, &launch, &self.host_tensors()?)?)
    }

    /// The text of the kernel for `shape` on `target`, with no device, for [the device](Target::default_model) that stands for such
    /// ones (feature `emit`). Lengths are arguments of a kernel, so only the head dims and the element type of the shape matter. The
    /// same arguments give the same text.
    ///
    /// # Errors
    /// As [`AnyAttention::program`], and [`Error::Target`] where this build can't make the text, or the target can't express it.
    pub fn emit(&self, target: Target, shape: &Shape) -> Result<String, Error> {
        self.emit_for(target, &target.default_model(), shape)
    }

    /// The same, for the device `model`.
    ///
    /// # Errors
    /// As [`AnyAttention::emit`], and [`Error::Target`] where `model` does not run `target`.
    pub fn emit_for(&self, target: Target, model: &DeviceModel, shape: &Shape) -> Result<String, Error> {
        self.kernel_text(target, model, shape).map(|kernel| kernel.text)
    }

    /// The same, and of SPIR-V also the module, as a driver loads it.
    ///
    /// # Errors
    /// As [`AnyAttention::emit_for`].
    pub fn kernel_text(&self, target: Target, model: &DeviceModel, shape: &Shape) -> Result<KernelText, Error> {
        validate::arguments(&self.spec, &self.scalars, &self.tensors, self.spec.pairs.len())?;
        let schedule = self.schedule_for(target, model, shape)?;
        let program = cache::scheduled(&self.spec, &self.scalars, shape.operands(), schedule, true)?;
        emit::emit(target, model, &program, self.demand(shape.operands()))
    }

    /// The schedule that the kernel for `shape` on `target` has: the caller's, or else the one for the device `model`.
    ///
    /// # Errors
    /// [`Error::Target`] where `model` does not run `target`, [`Error::Schedule`] where no schedule fits it.
    pub fn schedule_for(&self, target: Target, model: &DeviceModel, shape: &Shape) -> Result<Schedule, Error> {
        let Shape { batch, heads, kv_heads, queries, .. } = *shape;
        let operation = Operation::sizes(batch, heads, kv_heads, queries, shape.operands());
        self.schedule_for_operation(target, model, &operation)
    }

    /// The same, for such a launch.
    pub(crate) fn schedule_for_operation(
        &self,
        target: Target,
        model: &DeviceModel,
        operation: &Operation,
    ) -> Result<Schedule, Error> {
        match self.options.schedule {
            Some(schedule) => self.with_heads_alike(schedule, operation.operands),
            None => {
                let schedule = emit::schedule_for(target, model, self.demand(operation.operands))?;
                self.for_few_queries(schedule, operation)
            }
        }
    }

    /// `schedule`, unless it has heads in one tile that visit different keys.
    fn with_heads_alike(&self, schedule: Schedule, operands: Operands) -> Result<Schedule, Error> {
        let Schedule::Mma(MmaSchedule { pack_gqa: true, .. }) = schedule else { return Ok(schedule) };
        if self.heads_alike(operands)? {
            return Ok(schedule);
        }
        let reason = "which keys are visited depends on the head, as here, and heads in one tile visit the same".into();
        Err(Error::Schedule { schedule: schedule.to_string(), reason })
    }

    /// What becomes of `schedule`, unless it is the `cpu` schedule, for a launch with few queries.
    fn for_few_queries(&self, schedule: Schedule, operation: &Operation) -> Result<Schedule, Error> {
        let Schedule::Mma(base) = schedule else { return Ok(schedule) };
        let alike = self.heads_alike(operation.operands)?;
        let demand = self.demand(operation.operands);
        Ok(Schedule::Mma(schedule::mma_for_few_queries(base, demand, alike, operation)))
    }

    /// Whether all query heads of a key head visit the same keys.
    fn heads_alike(&self, operands: Operands) -> Result<bool, Error> {
        Ok(cache::program(&self.spec, &self.scalars, operands, true)?.heads_alike())
    }

    /// What of it decides of its schedule, for operands of such a type and head dims.
    pub(crate) fn demand(&self, operands: Operands) -> Demand {
        Demand { operands, bounded: self.spec.accumulator.is_bounded(), intricate: self.spec.is_intricate() }
    }

    /// Validates, compiles where it must, and launches.
    fn launch(
        &self,
        device: &Device,
        query: &Tensor,
        pairs: &[(&Tensor, &Tensor)],
        counters: Option<&Tensor>,
    ) -> Result<(Tensor, Tensor), Error> {
        let operation = self.operation(query, pairs)?;
        validate::placement(&self.spec, device, query, pairs, &self.tensors)?;
        let demand = self.demand(operation.operands);
        let mut schedule = match self.options.schedule {
            Some(schedule) => self.with_heads_alike(schedule, operation.operands)?,
            None => self.for_few_queries(schedule::choose(device, demand)?, &operation)?,
        };
        schedule::check(device, schedule, demand)?;
        let mut few = FewQueries::default();
        if let (Schedule::Cpu(base), Some(cores), None, None) =
            (schedule, schedule::cores(device), self.options.schedule, counters)
        {
            let in_vectors =
                pairs.iter().all(|(key, value)| key.is_in_vectors(base.lanes) && value.is_in_vectors(base.lanes));
            let alike = self.heads_alike(operation.operands)?;
            let (for_few, how) = schedule::for_few_queries(base, cores, alike, &operation, in_vectors);
            (schedule, few) = (Schedule::Cpu(for_few), how);
        }
        let program = self.program_for(&operation, schedule)?;
        let careful = self.check_loops(device, &program, &operation, query, pairs)?;
        let (scalars, tensors) = (&self.scalars, &self.tensors);
        let mut prepared =
            launch::prepare(device, &self.spec, &program, few, &operation, query, pairs, scalars, tensors, counters)?;
        if let Some(data) = &mut prepared.data {
            data.careful = careful;
        }
        Ok(prepared.launch(device, &program))
    }

    /// The program with `schedule` for such a launch, which is checked. It visits every tile where the numbers that decide of tiles
    /// could leave 32 bits.
    pub(crate) fn program_for(&self, operation: &Operation, schedule: Schedule) -> Result<Scheduled, Error> {
        let compile = |skipping| cache::scheduled(&self.spec, &self.scalars, operation.operands, schedule, skipping);
        let mut program = compile(true)?;
        let facts = self.tensor_facts(&program)?;
        let described = self.compiler_launch(operation, &facts);
        check_launch(&self.spec, &program, &described)?;
        if let Err(error) = check_tiles(&self.spec, &program, &described) {
            log::debug!("`{}` visits every tile: {error}", self.spec.name);
            program = compile(false)?;
        } else if !self.summaries_fit(&program) {
            log::debug!(
                "`{}` visits every tile: a summary of a captured tensor is too large for the device",
                self.spec.name
            );
            program = compile(false)?;
        }
        validate::sorted(&self.spec, &self.tensors)?;
        if log::log_enabled!(log::Level::Info) {
            for note in notes::of_launch(&self.spec, &program, &described, None) {
                log::log!(note.level, "{note}");
            }
        }
        Ok(program)
    }

    /// Whether the captured tensors' devices can make the program's summaries of them.
    fn summaries_fit(&self, program: &Program) -> bool {
        program.summaries().iter().all(|summary| {
            let tensor = &self.tensors[summary.tensor];
            let row = summary.shape(tensor.shape()).last().copied().unwrap_or(0) as u64;
            // A unit walks along a row to link its blocks, with an iteration before it, one after it, and one that leaves.
            let walked = !summary.links_keys || tensor.device().loop_iterations().is_none_or(|limit| row + 3 <= limit);
            walked && summary.bytes(tensor.shape()) as u64 <= tensor.device().largest_buffer()
        })
    }

    /// That the device's driver runs as many iterations of loops as a launch may need. Returns whether it also runs those of rows that are
    /// computed again because their output is not finite.
    fn check_loops(
        &self,
        device: &Device,
        program: &Scheduled,
        operation: &Operation,
        query: &Tensor,
        pairs: &[(&Tensor, &Tensor)],
    ) -> Result<bool, Error> {
        let Some(limit) = device.loop_iterations() else { return Ok(true) };
        let width = CubeSchedule::width_of(&operation.operands);
        let mut tensors = pairs.iter().flat_map(|(key, value)| [*key, *value]).chain([query]);
        let width = if tensors.all(|tensor| tensor.is_in_vectors(width)) { width } else { 1 };
        let facts: Vec<TensorFacts> =
            self.tensors.iter().map(|tensor| TensorFacts { shape: tensor.shape().to_vec(), values: None }).collect();
        let launch = self.compiler_launch(operation, &facts);
        let Some(found) = loop_iterations(&self.spec, program, &launch, width, limit) else { return Ok(true) };
        if found.needed > limit && !launch.is_empty() {
            return Err(Error::LoopIterations {
                attention: self.spec.name.clone(),
                device: device.name().into(),
                driver: device.client().properties().identity.name.clone(),
                limit,
                needed: found.needed,
                fitting: found.fitting(limit),
                given: found.keys,
            });
        }
        let careful = found.needed.saturating_add(found.careful) <= limit;
        if !careful {
            log::debug!(
                "`{}`: rows whose output is not finite are not computed again, which takes more loops than the driver runs",
                self.spec.name
            );
        }
        Ok(careful)
    }

    /// The sizes of a launch with such operands, which are checked.
    pub(crate) fn operation(&self, query: &Tensor, pairs: &[(&Tensor, &Tensor)]) -> Result<Operation, Error> {
        validate::arguments(&self.spec, &self.scalars, &self.tensors, pairs.len())?;
        validate::operands(&self.spec, &self.options, query, pairs)
    }

    fn compiler_launch<'a>(&'a self, operation: &'a Operation, tensors: &'a [TensorFacts]) -> Launch<'a> {
        Launch {
            batch: operation.batch,
            heads: operation.heads,
            kv_heads: operation.kv_heads,
            queries: operation.queries,
            query_offset: operation.query_offset,
            keys: &operation.keys,
            scalars: &self.scalars,
            tensors,
        }
    }

    /// The captured tensors' lengths, and the ranges of those whose values take part in integer arithmetic.
    fn tensor_facts(&self, program: &Program) -> Result<Vec<TensorFacts>, Error> {
        let needed = validate::tensors_in_arithmetic(program);
        let facts = self.tensors.iter().enumerate().map(|(place, tensor)| {
            let values = if needed.contains(&place) { tensor.value_range()? } else { None };
            Ok(TensorFacts { shape: tensor.shape().to_vec(), values })
        });
        facts.collect()
    }

    fn host_tensors(&self) -> Result<Vec<HostTensor>, Error> {
        self.tensors.iter().map(Tensor::to_host).collect()
    }

    /// The schedule of texts and reports, which know no device: the caller's, or else that of a CPU with 16 lanes.
    fn text_schedule(&self) -> Schedule {
        self.options.schedule.unwrap_or_else(|| Schedule::Cpu(schedule::cpu(VectorRegisters::AVX512)))
    }
}

/// An attention variant with the values of its scalars and captured tensors, over `PAIRS` pairs of keys and values.
///
/// A function with `#[attention]` returns it. Queries are `[B, H, S, D]`, keys `[B, G, T, D]`, values `[B, G, T, Dv]` and the
/// output `[B, H, S, Dv]`, where H is a multiple of G; any strides, any lengths, head dims 1 to 256; one element type of f32,
/// f16 and bf16, with f32 inside.
#[derive(Clone, Debug)]
pub struct Attention<const PAIRS: usize>(AnyAttention);

/// An [`Attention`] that also returns each row's log-sum-exp.
#[derive(Clone, Debug)]
pub struct AttentionWithLse<const PAIRS: usize>(AnyAttention);

/// The keys and values of every pair.
pub type Pairs<'a, const PAIRS: usize> = [(&'a Tensor, &'a Tensor); PAIRS];

impl<const PAIRS: usize> From<Attention<PAIRS>> for AnyAttention {
    fn from(attention: Attention<PAIRS>) -> AnyAttention {
        attention.0
    }
}

impl<const PAIRS: usize> Attention<PAIRS> {
    /// What `#[attention]` expands to: `spec` with a value for each of its scalars and captured tensors, in order. Numbers and
    /// types are checked when it is used.
    pub fn new(spec: Arc<Spec>, scalars: Vec<ScalarValue>, tensors: Vec<Tensor>) -> Self {
        Attention(AnyAttention { spec, scalars, tensors, options: Options::default() })
    }

    /// With `scale()` equal to `scale` rather than 1/√D.
    pub fn with_scale(self, scale: f32) -> Self {
        Attention(self.0.with_scale(scale))
    }

    /// With the first query at position `offset`, which may be negative, rather than with the last query at the last key of
    /// the last pair.
    pub fn with_query_offset(self, offset: i64) -> Self {
        Attention(self.0.with_query_offset(offset))
    }

    /// With the first key of each pair at these positions rather than at 0.
    pub fn with_key_offsets(mut self, offsets: [i64; PAIRS]) -> Self {
        self.0.options.key_offsets = offsets.to_vec();
        self
    }

    /// With this schedule rather than the one chosen from the device.
    pub fn with_schedule(self, schedule: Schedule) -> Self {
        Attention(self.0.with_schedule(schedule))
    }

    /// Returning the log-sum-exp with the output; see [`AnyAttention::run_with_lse`].
    pub fn with_lse(self) -> AttentionWithLse<PAIRS> {
        AttentionWithLse(self.0)
    }

    /// What was asked, as data.
    pub fn spec(&self) -> &Spec {
        self.0.spec()
    }

    /// The output for `query` and the pairs of keys and values, in the order of the signature; see [`Attention`] for their shapes.
    ///
    /// # Errors
    /// As [`AnyAttention::run`].
    pub fn run_pairs(&self, device: &Device, query: &Tensor, pairs: Pairs<PAIRS>) -> Result<Tensor, Error> {
        self.0.run(device, query, &pairs)
    }

    /// The output and log-sum-exp by the reference; see [`AnyAttention::reference`].
    ///
    /// # Errors
    /// As [`AnyAttention::run`].
    pub fn reference_pairs(&self, query: &Tensor, pairs: Pairs<PAIRS>) -> Result<Reference, Error> {
        self.0.reference(query, &pairs)
    }

    /// The tile program for `shape`, after all stages. Print it.
    ///
    /// # Errors
    /// As [`AnyAttention::run`], as far as they concern the shape.
    pub fn program(&self, shape: &Shape) -> Result<Scheduled, Error> {
        self.0.program(shape)
    }

    /// The text of the tile program for `shape` after each stage, with the stage's name.
    ///
    /// # Errors
    /// As [`Attention::program`].
    pub fn stages(&self, shape: &Shape) -> Result<Vec<(&'static str, String)>, Error> {
        self.0.stages(shape)
    }

    /// Which tiles a launch of `shape` visits, which of them need no mask, and what that costs. Print it, or read its fields.
    ///
    /// # Errors
    /// As [`AnyAttention::run`], as far as they concern the shape.
    pub fn report(&self, shape: &Shape) -> Result<Report, Error> {
        self.0.report(shape)
    }

    /// The same, checked on every pair of a query and a key; see [`AnyAttention::report_verified`].
    ///
    /// # Errors
    /// As [`AnyAttention::report_verified`].
    pub fn report_verified(&self, shape: &Shape) -> Result<Report, Error> {
        self.0.report_verified(shape)
    }

    /// The text of the kernel for `shape` on `target`, with no device; see [`AnyAttention::emit`].
    ///
    /// # Errors
    /// As [`AnyAttention::emit`].
    pub fn emit(&self, target: Target, shape: &Shape) -> Result<String, Error> {
        self.0.emit(target, shape)
    }

    /// The same, for the device `model`.
    ///
    /// # Errors
    /// As [`AnyAttention::emit_for`].
    pub fn emit_for(&self, target: Target, model: &DeviceModel, shape: &Shape) -> Result<String, Error> {
        self.0.emit_for(target, model, shape)
    }

    /// The same, and of SPIR-V also the module, as a driver loads it.
    ///
    /// # Errors
    /// As [`AnyAttention::emit_for`].
    pub fn kernel_text(&self, target: Target, model: &DeviceModel, shape: &Shape) -> Result<KernelText, Error> {
        self.0.kernel_text(target, model, shape)
    }
}

impl Attention<1> {
    /// The output `[B, H, S, Dv]` for queries `[B, H, S, D]`, keys `[B, G, T, D]` and values `[B, G, T, Dv]`.
    ///
    /// # Errors
    /// As [`Attention::run_pairs`].
    pub fn run(&self, device: &Device, query: &Tensor, key: &Tensor, value: &Tensor) -> Result<Tensor, Error> {
        self.run_pairs(device, query, [(key, value)])
    }

    /// The output and log-sum-exp by the reference; see [`Attention::reference_pairs`].
    ///
    /// # Errors
    /// As [`Attention::run_pairs`].
    pub fn reference(&self, query: &Tensor, key: &Tensor, value: &Tensor) -> Result<Reference, Error> {
        self.reference_pairs(query, [(key, value)])
    }
}

impl<const PAIRS: usize> AttentionWithLse<PAIRS> {
    /// The output, as [`Attention::run_pairs`] gives it, and the log-sum-exp `[B, H, S]`.
    ///
    /// # Errors
    /// As [`AnyAttention::run_with_lse`].
    pub fn run_pairs(&self, device: &Device, query: &Tensor, pairs: Pairs<PAIRS>) -> Result<(Tensor, Tensor), Error> {
        self.0.run_with_lse(device, query, &pairs)
    }
}

impl AttentionWithLse<1> {
    /// The output, as [`Attention::run`] gives it, and the log-sum-exp `[B, H, S]`.
    ///
    /// # Errors
    /// As [`AttentionWithLse::run_pairs`].
    pub fn run(
        &self,
        device: &Device,
        query: &Tensor,
        key: &Tensor,
        value: &Tensor,
    ) -> Result<(Tensor, Tensor), Error> {
        self.run_pairs(device, query, [(key, value)])
    }
}

impl Operation {
    /// The default position of the first query: so that the last query is at the last key of the last pair.
    pub(crate) fn default_query_offset(keys: &[Keys], queries: usize) -> i64 {
        keys.last().map_or(0, |keys| keys.offset + keys.length as i64 - queries as i64)
    }
}
