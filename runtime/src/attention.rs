//! An attention with its arguments, ready to run.

use crate::cache::{self, Programs};
use crate::device::Device;
use crate::emit;
use crate::error::Error;
use crate::gradients::{self, Saved, WithGradients};
use crate::launch::launch;
use crate::operation::Operation;
use crate::partial::{AsPartial, Partial};
use crate::plan;
use crate::prove;
use crate::request::{Call, Request};
use crate::results::{AnyOutputs, Outputs, Results, WithLse, WithLseAndMax, WithMax};
use crate::schedule::{self, VectorRegisters};
use crate::shape::Shape;
use crate::tensor::{Origin, Tensor};
use crate::validate;
use purview_compiler::analysis::ranges::{check_launch, check_tiles};
use purview_compiler::device_model::DeviceModel;
use purview_compiler::eval::HostTensor;
use purview_compiler::interpret::{Inputs, InterpretError, Reference, interpret};
use purview_compiler::interpret_backward::{ReferenceGradients, interpret_backward};
use purview_compiler::ir::Kept;
use purview_compiler::launch::Launch;
use purview_compiler::lower::check;
use purview_compiler::passes::{self, CompileError};
use purview_compiler::pruned::Constants;
use purview_compiler::report::{Report, ReportError, report, verified_report};
use purview_compiler::schedule::Schedule;
use purview_compiler::scheduled::{Compiled, Scheduled};
use purview_compiler::spec::{Role, ScalarValue, Spec};
use purview_compiler::target::{KernelText, Target};
use std::marker::PhantomData;
use std::sync::Arc;

/// An attention variant with the values of its scalars and captured tensors, over `PAIRS` pairs of keys and values.
///
/// A function with `#[attention]` returns it. Queries are `[B, H, S, D]`, keys `[B, G, T, D]`, values `[B, G, T, Dv]` and the
/// output `[B, H, S, Dv]`, where H is a multiple of G; any strides, any lengths, head dims 1 to 576; one element type of f32,
/// f16 and bf16, with f32 inside. A launch gives a tensor, or where there are several `OUTPUTS` a tuple of them.
pub type Attention<const PAIRS: usize, const OUTPUTS: usize = 1> = AttentionOver<Exactly<PAIRS>, Outputs<OUTPUTS>>;

/// An attention variant that takes other tensors than queries and pairs of keys and values, with the values of its scalars and captured
/// tensors: `OPERANDS` of them, in the order of the signature.
///
/// A function with `#[attention]` returns it where there are several `Query`s, or not one `Key` and one `Value` for each loop. What lies
/// along queries is `[B, H, S, D]`, and along keys `[B, G, T, D]`, where each has a D of its own, and a G that divides H; an output is
/// `[B, H, S, Dv]`, where each of several has a Dv of its own.
pub type GeneralAttention<const OPERANDS: usize, const OUTPUTS: usize = 1> =
    AttentionOver<ExactlyOperands<OPERANDS>, Outputs<OUTPUTS>>;

/// An attention variant with the values of its scalars and captured tensors, over any number of tensors, for code that handles variants
/// as data. Every [`Attention`] and [`GeneralAttention`] converts into it.
pub type AnyAttention = AttentionOver<AnyNumber>;

/// What [`Attention`], [`GeneralAttention`] and [`AnyAttention`] are: an attention variant with the values of its scalars and captured
/// tensors. `P` says whether the number of its pairs of keys and values, or of its tensors, is in the type, and `R` what a launch
/// [gives](Results).
#[derive(Clone, Debug)]
pub struct AttentionOver<P, R = Outputs<1>> {
    pub(crate) request: Request,
    form: PhantomData<(P, R)>,
}

/// A number of pairs that is in the type, for [`AttentionOver`].
#[derive(Clone, Copy, Debug)]
pub enum Exactly<const PAIRS: usize> {}

/// A number of tensors along queries and keys that is in the type, for [`AttentionOver`].
#[derive(Clone, Copy, Debug)]
pub enum ExactlyOperands<const OPERANDS: usize> {}

mod sealed {
    /// What a user has none of.
    pub trait Sealed {}
}

/// A number of pairs or tensors that is in the type, for [`AttentionOver`]. What gives numbers of rows by `with_lse` and its like has one; an
/// [`AnyAttention`] gives them by [`AnyAttention::run_operands_with_lse`] and its like.
pub trait InType: sealed::Sealed {}

impl<const PAIRS: usize> sealed::Sealed for Exactly<PAIRS> {}
impl<const PAIRS: usize> InType for Exactly<PAIRS> {}
impl<const OPERANDS: usize> sealed::Sealed for ExactlyOperands<OPERANDS> {}
impl<const OPERANDS: usize> InType for ExactlyOperands<OPERANDS> {}

/// A number that is not in the type, for [`AttentionOver`].
#[derive(Clone, Copy, Debug)]
pub enum AnyNumber {}

/// An [`Attention`] that also returns each row's log-sum-exp.
pub type AttentionWithLse<const PAIRS: usize> = AttentionOver<Exactly<PAIRS>, WithLse<Outputs<1>>>;

/// A [`GeneralAttention`] that also returns each row's log-sum-exp.
pub type GeneralAttentionWithLse<const OPERANDS: usize> = AttentionOver<ExactlyOperands<OPERANDS>, WithLse<Outputs<1>>>;

/// The keys and values of every pair.
pub type Pairs<'a, const PAIRS: usize> = [(&'a Tensor, &'a Tensor); PAIRS];

/// Tiles of queries and keys that a kernel counted, of all batches and heads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CountedTiles {
    /// Those that it visited.
    pub visited: u64,
    /// Those of them whose mask it did not evaluate.
    pub full: u64,
}

impl<const PAIRS: usize, const OUTPUTS: usize> From<Attention<PAIRS, OUTPUTS>> for AnyAttention {
    fn from(attention: Attention<PAIRS, OUTPUTS>) -> AnyAttention {
        AttentionOver { request: attention.request, form: PhantomData }
    }
}

impl<const OPERANDS: usize, const OUTPUTS: usize> From<GeneralAttention<OPERANDS, OUTPUTS>> for AnyAttention {
    fn from(attention: GeneralAttention<OPERANDS, OUTPUTS>) -> AnyAttention {
        AttentionOver { request: attention.request, form: PhantomData }
    }
}

/// Whatever the tensors.
impl<P, R> AttentionOver<P, R> {
    /// What was asked, as data.
    pub fn spec(&self) -> &Spec {
        &self.request.spec
    }

    /// The values of its scalars, in the order of the signature.
    pub fn scalars(&self) -> &[ScalarValue] {
        &self.request.scalars
    }

    /// Its captured tensors, in the order of the signature.
    pub fn tensors(&self) -> &[Tensor] {
        &self.request.tensors
    }

    /// Takes what its captured tensors were [made of](Tensor::with_origin), in the order of the signature, so that it and what it saves keep
    /// none of it.
    pub fn take_origins(&mut self) -> Vec<Option<Origin>> {
        self.request.tensors.iter_mut().map(Tensor::take_origin).collect()
    }

    /// With `scale()` equal to `scale` rather than 1/√D. D is the sum of the head dims of the products that the first push's score is
    /// made of; where it is made of none, the head dim of the first product's queries.
    pub fn with_scale(mut self, scale: f32) -> Self {
        self.request.scale = Some(scale);
        self
    }

    /// With the first query at position `offset`, which may be negative, rather than with the last query at the last key of
    /// the last set of keys.
    pub fn with_query_offset(mut self, offset: i64) -> Self {
        self.request.query_offset = Some(offset);
        self
    }

    /// With this schedule rather than the one chosen from the device.
    pub fn with_schedule(mut self, schedule: Schedule) -> Self {
        self.request.schedule = Some(schedule);
        self
    }

    /// The tile program for `shape`, after all stages. Print it.
    ///
    /// # Errors
    /// As [`Attention::run_pairs`], as far as they concern the arguments, and [`Shape::operand_dims`].
    pub fn program(&self, shape: &Shape) -> Result<Scheduled, Error> {
        validate::arguments(&self.request)?;
        cache::programs(&self.request, &shape.operand_dims(self.spec())?)?.scheduled(self.text_schedule(), true)
    }

    /// The text of the tile program for `shape` after each stage, with the stage's name.
    ///
    /// # Errors
    /// As [`AttentionOver::program`].
    pub fn stages(&self, shape: &Shape) -> Result<Vec<(&'static str, String)>, Error> {
        let Request { spec, scalars, kept, .. } = &self.request;
        validate::arguments(&self.request)?;
        let stages = passes::stages(spec, scalars, &shape.operand_dims(spec)?, *kept)?;
        let mut texts: Vec<_> = stages.iter().map(|(stage, program)| (*stage, program.to_string())).collect();
        if let Some((_, program)) = stages.into_iter().next_back() {
            let scheduled = passes::schedule(Compiled::new(program), self.text_schedule())?;
            texts.push((passes::SCHEDULE, scheduled.to_string()));
        }
        Ok(texts)
    }

    /// The texts of the programs that give its gradients, for `shape`, after each stage, with the stage's name: of all that it has gradients of,
    /// or of what `names` has, as [`Saved::only`](crate::Saved::only) takes them.
    ///
    /// # Errors
    /// As [`AttentionOver::program`], and [`Error::NoGradientOf`].
    pub fn backward_stages(
        &self,
        shape: &Shape,
        names: Option<&[&str]>,
    ) -> Result<Vec<(&'static str, Vec<String>)>, Error> {
        let Request { spec, scalars, .. } = &self.request;
        validate::arguments(&self.request)?;
        let wanted = gradients::wanted(spec, names)?;
        let stages = passes::backward_stages(spec, scalars, &shape.operand_dims(spec)?, &wanted)?;
        let mut texts: Vec<_> = stages
            .iter()
            .map(|(stage, backward)| {
                (*stage, backward.programs().map(|derived| derived.program.to_string()).collect::<Vec<_>>())
            })
            .collect();
        if let Some((_, backward)) = stages.into_iter().next_back() {
            let scheduled = backward.programs().map(|derived| match derived.program.loops[..] {
                // A program over rows alone needs no schedule.
                [] => Ok(derived.program.to_string()),
                _ => Ok(passes::schedule(Compiled::new(derived.program.clone()), self.text_schedule())?.to_string()),
            });
            texts.push((passes::SCHEDULE, scheduled.collect::<Result<_, Error>>()?));
        }
        Ok(texts)
    }

    /// Which tiles a launch of `shape` visits, which of them need no mask, and what that costs. Print it, or read its fields.
    ///
    /// # Errors
    /// As [`Attention::run_pairs`], as far as they concern the shape, and [`Shape::operand_shapes`].
    pub fn report(&self, shape: &Shape) -> Result<Report, Error> {
        self.report_by(shape, report)
    }

    /// The [report](AttentionOver::report), checked against the specification's own masks on every pair of a query and a key, which
    /// also finds the tiles that [are needed](Report::needed_tiles), and the full tiles that
    /// [were missed](Report::missed_full_tiles). It takes time proportional to queries times keys.
    ///
    /// # Errors
    /// As [`AttentionOver::report`], and [`ReportError::Tile`] if a tile with a visible pair is skipped or a full one hides a pair.
    pub fn report_verified(&self, shape: &Shape) -> Result<Report, Error> {
        self.report_by(shape, verified_report)
    }

    fn report_by(
        &self,
        shape: &Shape,
        report: fn(&Spec, &Scheduled, &Launch, &[HostTensor]) -> Result<Report, ReportError>,
    ) -> Result<Report, Error> {
        let spec = &self.request.spec;
        let program = self.program(shape)?;
        let operation = validate::shape(&self.request, shape)?;
        let facts = prove::tensor_facts(&self.request, &program)?;
        let launch = operation.described(&self.request.scalars, &facts);
        check_launch(spec, &program, &launch)?;
        prove::check_sorted(&self.request)?;
        let fits = check_tiles(spec, &program, &launch).is_ok();
        let program = if fits { program } else { program.without_skipping() };
        Ok(report(spec, &program, &launch, &self.request.host_tensors()?)?)
    }

    /// The text of the kernel for `shape` on `target`, with no device, for [the device](Target::default_model) that stands for such
    /// ones (feature `emit`). Lengths are arguments of a kernel, so only the head dims and the element type of the shape matter. The
    /// same arguments give the same text.
    ///
    /// # Errors
    /// As [`AttentionOver::program`], and [`Error::Target`] where this build can't make the text, or the target can't express it.
    pub fn emit(&self, target: Target, shape: &Shape) -> Result<String, Error> {
        self.emit_for(target, &target.default_model(), shape)
    }

    /// The text of the kernel for `shape` on `target`, for the device that `model` describes.
    ///
    /// # Errors
    /// As [`AttentionOver::emit`], and [`Error::Target`] where `model` does not run `target`.
    pub fn emit_for(&self, target: Target, model: &DeviceModel, shape: &Shape) -> Result<String, Error> {
        self.kernel_text(target, model, shape).map(|kernel| kernel.text)
    }

    /// The text of the kernel for `shape` with what a launch needs to know of it, and of SPIR-V also the module, as a driver loads it.
    ///
    /// # Errors
    /// As [`AttentionOver::emit_for`].
    pub fn kernel_text(&self, target: Target, model: &DeviceModel, shape: &Shape) -> Result<KernelText, Error> {
        let (programs, schedule) = self.planned(target, model, shape)?;
        let program = programs.scheduled(schedule, true)?;
        emit::emit(target, model, &program, programs.constraints(&self.request))
    }

    /// The schedule that the kernel for `shape` on `target` has: the caller's, or else the one for the device `model`.
    ///
    /// # Errors
    /// As [`AttentionOver::program`], [`Error::Target`] where `model` does not run `target`, and [`Error::Schedule`] where no schedule
    /// fits it.
    pub fn schedule_for(&self, target: Target, model: &DeviceModel, shape: &Shape) -> Result<Schedule, Error> {
        self.planned(target, model, shape).map(|(_, schedule)| schedule)
    }

    /// The programs for `shape`, and the schedule of the kernel on `target`.
    fn planned(&self, target: Target, model: &DeviceModel, shape: &Shape) -> Result<(Arc<Programs>, Schedule), Error> {
        validate::arguments(&self.request)?;
        let operation = Operation::of(shape, self.spec())?;
        let programs = cache::programs(&self.request, &operation.operands)?;
        let schedule = plan::on_model(&self.request, target, model, &operation, &programs)?;
        Ok((programs, schedule))
    }

    /// The schedule for `shape` on `device`: the caller's, or else the one that the device chooses. Launches of few queries make its
    /// tiles smaller.
    ///
    /// # Errors
    /// As [`AttentionOver::program`], and [`Error::Schedule`] where no schedule fits.
    pub fn schedule_on(&self, device: &Device, shape: &Shape) -> Result<Schedule, Error> {
        validate::arguments(&self.request)?;
        let dims = shape.operand_dims(self.spec())?;
        match self.request.schedule {
            Some(schedule) => Ok(schedule),
            None => {
                let programs = cache::programs(&self.request, &dims)?;
                schedule::choose(device, programs.constraints(&self.request))
            }
        }
    }

    /// The schedule of texts and reports, which know no device: the caller's, or else that of a CPU with 16 lanes.
    fn text_schedule(&self) -> Schedule {
        self.request.schedule.unwrap_or_else(|| Schedule::Cpu(schedule::cpu(VectorRegisters::AVX512)))
    }

    /// The same, of which a launch gives other results.
    pub(crate) fn giving<S: Results>(self) -> AttentionOver<P, S> {
        AttentionOver { request: self.request.keeping(S::KEPT), form: PhantomData }
    }

    /// Launches it for the tensors that lie along queries and keys.
    fn launch_as<S: Results>(
        &self,
        device: &Device,
        operands: &[&Tensor],
        counters: Option<&Tensor>,
    ) -> Result<S::Tensors, Error> {
        S::check(&self.request.spec)?;
        if S::SAVES {
            gradients::check(&self.request.spec, device)?;
        }
        let kept = if S::SAVES { gradients::kept(&self.request.spec) } else { S::KEPT };
        let keeping;
        let request = if self.request.kept == kept {
            &self.request
        } else {
            keeping = self.request.keeping(kept);
            &keeping
        };
        let mut launched = launch(&Call { request, device, operands, counters })?;
        if S::SAVES {
            let operands = operands.iter().copied().cloned().collect();
            launched.asked = Some((request.clone(), operands));
        }
        Ok(S::of(launched))
    }

    /// Queries, and pairs of keys and values in the order of the keys in the signature, as the operands that an [`AnyAttention`] takes.
    ///
    /// # Errors
    /// [`Error::NoPairs`] where the attention takes other tensors, and [`Error::Count`] for another number of pairs than it has.
    pub fn in_order<'a>(
        &self,
        query: &'a Tensor,
        pairs: &[(&'a Tensor, &'a Tensor)],
    ) -> Result<Vec<&'a Tensor>, Error> {
        validate::in_order(&self.request.spec, query, pairs)
    }

    fn reference_of(&self, tensors: &[&Tensor]) -> Result<Reference, Error> {
        self.interpreted(tensors, interpret)
    }

    /// What `compute` makes of the specification and its inputs on the host.
    fn interpreted<T>(
        &self,
        tensors: &[&Tensor],
        compute: impl FnOnce(&Spec, &Inputs) -> Result<T, InterpretError>,
    ) -> Result<T, Error> {
        let Request { spec, scalars, .. } = &self.request;
        let operation = validate::operands(&self.request, tensors)?;
        // The specification is checked as for a kernel.
        check(spec, scalars, &operation.operands).map_err(CompileError::from)?;
        let operands = tensors.iter().map(|tensor| tensor.to_host()).collect::<Result<Vec<_>, Error>>()?;
        let key_offsets: Vec<i64> = operation.keys.iter().map(|keys| keys.offset).collect();
        Ok(compute(
            spec,
            &Inputs {
                operands: &operands,
                scalars,
                tensors: &self.request.host_tensors()?,
                scale: f64::from(operation.scale),
                query_offset: operation.query_offset,
                key_offsets: &key_offsets,
            },
        )?)
    }
}

/// Where no number of tensors is in the type.
impl AnyAttention {
    /// The output for `query` and the pairs of keys and values, in the order of the keys in the signature.
    ///
    /// # Errors
    /// As [`AnyAttention::run_operands`], and [`Error::NoPairs`] where the attention takes other tensors.
    pub fn run(&self, device: &Device, query: &Tensor, pairs: &[(&Tensor, &Tensor)]) -> Result<Tensor, Error> {
        self.run_operands(device, &self.in_order(query, pairs)?)
    }

    /// The output for the tensors that lie along queries and keys, in the order of the signature.
    ///
    /// # Errors
    /// Everything that [`Error`] lists, before the attention is launched, [`Error::OutputCount`] where it has several outputs among it; [`Error::Execution`] only where captured tensors are
    /// looked at first (their range, whether they are sorted). What fails on the device later surfaces where the output is read.
    pub fn run_operands(&self, device: &Device, operands: &[&Tensor]) -> Result<Tensor, Error> {
        self.launch_as::<Outputs<1>>(device, operands, None)
    }

    /// All outputs, in the order in which they are returned, for the tensors that lie along queries and keys, in the order of the signature.
    ///
    /// # Errors
    /// As [`AnyAttention::run_operands`].
    pub fn run_outputs(&self, device: &Device, operands: &[&Tensor]) -> Result<Vec<Tensor>, Error> {
        self.launch_as::<AnyOutputs>(device, operands, None)
    }

    /// The output, and the tiles that the kernel itself counted as it visited them, for each key loop: to see that it does what
    /// [`AttentionOver::report`] says. It is another kernel than the one of [`AnyAttention::run`], with the counting in it.
    ///
    /// # Errors
    /// As [`AnyAttention::run_operands`], and [`Error::Execution`] where the kernel failed.
    pub fn run_counting(
        &self,
        device: &Device,
        query: &Tensor,
        pairs: &[(&Tensor, &Tensor)],
    ) -> Result<(Tensor, Vec<CountedTiles>), Error> {
        self.run_operands_counting(device, &self.in_order(query, pairs)?)
    }

    /// As [`AnyAttention::run_counting`], for the tensors that lie along queries and keys, in the order of the signature.
    ///
    /// # Errors
    /// As [`AnyAttention::run_counting`].
    pub fn run_operands_counting(
        &self,
        device: &Device,
        operands: &[&Tensor],
    ) -> Result<(Tensor, Vec<CountedTiles>), Error> {
        validate::has_outputs(self.spec(), 1)?;
        let (mut outputs, counted) = self.run_outputs_counting(device, operands)?;
        Ok((outputs.remove(0), counted))
    }

    /// As [`AnyAttention::run_operands_counting`], with all outputs.
    ///
    /// # Errors
    /// As [`AnyAttention::run_counting`].
    pub fn run_outputs_counting(
        &self,
        device: &Device,
        operands: &[&Tensor],
    ) -> Result<(Vec<Tensor>, Vec<CountedTiles>), Error> {
        let Request { spec, scalars, .. } = &self.request;
        validate::arguments(&self.request)?;
        let first = spec.operands_of(Role::Query).next().and_then(|(first, _)| operands.get(first));
        let head_dim = first.and_then(|query| query.shape().last()).copied().unwrap_or(0);
        let loops = spec.pruned(&Constants::new(spec, scalars, head_dim)).loops.len();
        let counters = Tensor::from_slice(device, [loops, 2], &vec![0i32; 2 * loops])?;
        let outputs = self.launch_as::<AnyOutputs>(device, operands, Some(&counters))?;
        let counts = counters.to_vec::<i32>()?;
        let counted = counts.chunks(2).map(|counts| CountedTiles {
            visited: u64::from(counts[0].cast_unsigned()),
            full: u64::from(counts[1].cast_unsigned()),
        });
        Ok((outputs, counted.collect()))
    }

    /// With the [program](AttentionOver::program), its [stages](AttentionOver::stages), the [report](AttentionOver::report) and the
    /// [texts of kernels](AttentionOver::emit) being those of launches that give these numbers of each row, such as
    /// [`AnyAttention::run_with_max`]. Launches go by their own names.
    ///
    /// Where they are asked for, it is [`Error::NoRowNumber`] unless there is one accumulator, a `Softmax`, and [`Error::NoPartial`] where it
    /// has a sink or is not the output.
    pub fn with_kept(mut self, kept: Kept) -> AnyAttention {
        self.request.kept = kept;
        self
    }

    /// The output and each row's log-sum-exp `[B, H, S]` in f32: the natural logarithm of its sum of exponentials, a sink's
    /// included, and −∞ where no key is visible.
    ///
    /// # Errors
    /// As [`AnyAttention::run`], and [`Error::NoRowNumber`] unless there is one accumulator, a `Softmax`.
    pub fn run_with_lse(
        &self,
        device: &Device,
        query: &Tensor,
        pairs: &[(&Tensor, &Tensor)],
    ) -> Result<(Tensor, Tensor), Error> {
        self.run_operands_with_lse(device, &self.in_order(query, pairs)?)
    }

    /// As [`AnyAttention::run_with_lse`], for the tensors that lie along queries and keys, in the order of the signature.
    ///
    /// # Errors
    /// As [`AnyAttention::run_operands`], and [`Error::NoRowNumber`] unless there is one accumulator, a `Softmax`.
    pub fn run_operands_with_lse(&self, device: &Device, operands: &[&Tensor]) -> Result<(Tensor, Tensor), Error> {
        self.launch_as::<WithLse<Outputs<1>>>(device, operands, None)
    }

    /// The output and each row's maximum `[B, H, S]` in f32: the greatest of its scores in natural units, as they are pushed, a sink
    /// included; −∞ where no key is visible, and NaN where a score that is seen is.
    ///
    /// # Errors
    /// As [`AnyAttention::run`], and [`Error::NoRowNumber`] unless there is one accumulator, a `Softmax`.
    pub fn run_with_max(
        &self,
        device: &Device,
        query: &Tensor,
        pairs: &[(&Tensor, &Tensor)],
    ) -> Result<(Tensor, Tensor), Error> {
        self.run_operands_with_max(device, &self.in_order(query, pairs)?)
    }

    /// As [`AnyAttention::run_with_max`], for the tensors that lie along queries and keys, in the order of the signature.
    ///
    /// # Errors
    /// As [`AnyAttention::run_operands`], and [`Error::NoRowNumber`] unless there is one accumulator, a `Softmax`.
    pub fn run_operands_with_max(&self, device: &Device, operands: &[&Tensor]) -> Result<(Tensor, Tensor), Error> {
        self.launch_as::<WithMax<Outputs<1>>>(device, operands, None)
    }

    /// The output, and what a backward pass needs; see [`AttentionOver::with_gradients`].
    ///
    /// # Errors
    /// As [`AnyAttention::run_operands`].
    pub fn run_operands_with_gradients(&self, device: &Device, operands: &[&Tensor]) -> Result<(Tensor, Saved), Error> {
        self.launch_as::<WithGradients<Outputs<1>>>(device, operands, None)
    }

    /// All outputs, and what a backward pass needs; see [`AttentionOver::with_gradients`].
    ///
    /// # Errors
    /// As [`AnyAttention::run_outputs`].
    pub fn run_outputs_with_gradients(
        &self,
        device: &Device,
        operands: &[&Tensor],
    ) -> Result<(Vec<Tensor>, Saved), Error> {
        self.launch_as::<WithGradients<AnyOutputs>>(device, operands, None)
    }

    /// The output, each row's log-sum-exp and its maximum, as [`AnyAttention::run_operands_with_lse`] and
    /// [`AnyAttention::run_operands_with_max`] give them, by one kernel.
    ///
    /// # Errors
    /// As [`AnyAttention::run_operands`], and [`Error::NoRowNumber`] unless there is one accumulator, a `Softmax`.
    pub fn run_operands_with_lse_and_max(
        &self,
        device: &Device,
        operands: &[&Tensor],
    ) -> Result<(Tensor, Tensor, Tensor), Error> {
        self.launch_as::<WithLseAndMax<Outputs<1>>>(device, operands, None)
    }

    /// The [`Partial`] of these keys, to be merged with those of others; see [`AttentionOver::with_partial`].
    ///
    /// # Errors
    /// As [`AnyAttention::run`], [`Error::NoRowNumber`] unless there is one accumulator, a `Softmax`, and [`Error::NoPartial`] where it has
    /// a sink or is not the output.
    pub fn run_partial(&self, device: &Device, query: &Tensor, pairs: &[(&Tensor, &Tensor)]) -> Result<Partial, Error> {
        self.run_operands_partial(device, &self.in_order(query, pairs)?)
    }

    /// As [`AnyAttention::run_partial`], for the tensors that lie along queries and keys, in the order of the signature.
    ///
    /// # Errors
    /// As [`AnyAttention::run_partial`].
    pub fn run_operands_partial(&self, device: &Device, operands: &[&Tensor]) -> Result<Partial, Error> {
        self.launch_as::<AsPartial>(device, operands, None)
    }

    /// The output, and each row's log-sum-exp where there is one, for the tensors that lie along queries and keys, in the order of the
    /// signature.
    ///
    /// # Errors
    /// As [`AnyAttention::run_operands`].
    pub fn run_operands_with_lse_if_any(
        &self,
        device: &Device,
        operands: &[&Tensor],
    ) -> Result<(Tensor, Option<Tensor>), Error> {
        if self.request.spec.has_lse() {
            self.run_operands_with_lse(device, operands).map(|(out, lse)| (out, Some(lse)))
        } else {
            self.run_operands(device, operands).map(|out| (out, None))
        }
    }

    /// All outputs, and each row's log-sum-exp where there is one, for the tensors that lie along queries and keys, in the order of the
    /// signature.
    ///
    /// # Errors
    /// As [`AnyAttention::run_operands`].
    pub fn run_outputs_with_lse_if_any(
        &self,
        device: &Device,
        operands: &[&Tensor],
    ) -> Result<(Vec<Tensor>, Option<Tensor>), Error> {
        if self.request.spec.has_lse() {
            let (outputs, lse) = self.launch_as::<WithLse<AnyOutputs>>(device, operands, None)?;
            Ok((outputs, Some(lse)))
        } else {
            self.run_outputs(device, operands).map(|outputs| (outputs, None))
        }
    }

    /// The outputs, log-sum-exp and maximum by the reference: in f64, straight from the specification, in time proportional to queries
    /// times keys, on the host. Integers are mathematical, so that it also gives a number where a launch is refused because one
    /// could leave 32 bits. Log-sum-exp and maximum are NaN where the attention has none.
    ///
    /// # Errors
    /// As [`AnyAttention::run`], but that an index outside its tensor, or a division by zero, is [`Error::Interpret`] at the
    /// first pair of a query and a key where it matters.
    pub fn reference(&self, query: &Tensor, pairs: &[(&Tensor, &Tensor)]) -> Result<Reference, Error> {
        self.reference_of(&self.in_order(query, pairs)?)
    }

    /// As [`AnyAttention::reference`], for the tensors that lie along queries and keys, in the order of the signature.
    ///
    /// # Errors
    /// As [`AnyAttention::reference`].
    pub fn reference_operands(&self, operands: &[&Tensor]) -> Result<Reference, Error> {
        self.reference_of(operands)
    }

    /// The gradients by the reference, in f64 on the host: by each operand, captured tensor of floats, float scalar and `scale()`, of the
    /// sum of all outputs' elements, each times its own in `d_outputs`, and of those of the log-sum-exp times `d_lse`, if it is given. What
    /// they are where a function has no derivative, [`interpret_backward`] says.
    ///
    /// # Errors
    /// As [`AnyAttention::reference_operands`], and [`Error::Interpret`] where one of `d_outputs` or `d_lse` has another shape than what it is the
    /// gradient of, or there is no log-sum-exp.
    pub fn reference_gradients(
        &self,
        operands: &[&Tensor],
        d_outputs: &[&Tensor],
        d_lse: Option<&Tensor>,
    ) -> Result<ReferenceGradients, Error> {
        let d_outputs = d_outputs.iter().map(|d_out| d_out.to_host()).collect::<Result<Vec<_>, Error>>()?;
        let d_lse = d_lse.map(Tensor::to_host).transpose()?;
        self.interpreted(operands, |spec, inputs| interpret_backward(spec, inputs, &d_outputs, d_lse.as_ref()))
    }
}

/// Where the number of tensors is in the type.
impl<const OPERANDS: usize, R: Results> AttentionOver<ExactlyOperands<OPERANDS>, R> {
    /// What `#[attention]` expands to: `spec` with a value for each of its scalars and captured tensors, in order. Numbers and
    /// types are checked when it is used.
    pub fn new(spec: Arc<Spec>, scalars: Vec<ScalarValue>, tensors: Vec<Tensor>) -> Self {
        AttentionOver { request: Request::new(spec, scalars, tensors), form: PhantomData }
    }

    /// With the first key of each set at these positions rather than at 0. A set is what one key loop reads; sets are in the order of
    /// their first keys in the signature, and those without a number here begin at 0. More numbers than there are sets are
    /// [`Error::Count`] where the attention is used.
    pub fn with_key_offsets(mut self, offsets: &[i64]) -> Self {
        self.request.key_offsets = offsets.to_vec();
        self
    }

    /// The output for the tensors that lie along queries and keys, in the order of the signature.
    ///
    /// # Errors
    /// As [`AnyAttention::run_operands`].
    pub fn run(&self, device: &Device, operands: [&Tensor; OPERANDS]) -> Result<R::Tensors, Error> {
        self.launch_as::<R>(device, &operands, None)
    }

    /// The output and log-sum-exp by the reference; see [`AnyAttention::reference`].
    ///
    /// # Errors
    /// As [`AnyAttention::reference`].
    pub fn reference(&self, operands: [&Tensor; OPERANDS]) -> Result<Reference, Error> {
        self.reference_of(&operands)
    }
}

/// Where the number of pairs is in the type.
impl<const PAIRS: usize, R: Results> AttentionOver<Exactly<PAIRS>, R> {
    /// What `#[attention]` expands to: `spec` with a value for each of its scalars and captured tensors, in order. Numbers and
    /// types are checked when it is used.
    pub fn new(spec: Arc<Spec>, scalars: Vec<ScalarValue>, tensors: Vec<Tensor>) -> Self {
        AttentionOver { request: Request::new(spec, scalars, tensors), form: PhantomData }
    }

    /// With the first key of each set at these positions rather than at 0: a pair of keys and values is a set.
    pub fn with_key_offsets(mut self, offsets: [i64; PAIRS]) -> Self {
        self.request.key_offsets = offsets.to_vec();
        self
    }

    /// The output for `query` and the pairs of keys and values, in the order of the signature; see [`Attention`] for their shapes.
    ///
    /// # Errors
    /// As [`AnyAttention::run`].
    pub fn run_pairs(&self, device: &Device, query: &Tensor, pairs: Pairs<PAIRS>) -> Result<R::Tensors, Error> {
        self.launch_as::<R>(device, &self.in_order(query, &pairs)?, None)
    }

    /// The output and log-sum-exp by the reference; see [`AnyAttention::reference`].
    ///
    /// # Errors
    /// As [`AnyAttention::reference`].
    pub fn reference_pairs(&self, query: &Tensor, pairs: Pairs<PAIRS>) -> Result<Reference, Error> {
        self.reference_of(&self.in_order(query, &pairs)?)
    }
}

/// Over one pair.
impl<R: Results> AttentionOver<Exactly<1>, R> {
    /// The output `[B, H, S, Dv]` for queries `[B, H, S, D]`, keys `[B, G, T, D]` and values `[B, G, T, Dv]`, and what else was asked for.
    ///
    /// # Errors
    /// As [`Attention::run_pairs`].
    pub fn run(&self, device: &Device, query: &Tensor, key: &Tensor, value: &Tensor) -> Result<R::Tensors, Error> {
        self.run_pairs(device, query, [(key, value)])
    }

    /// The output and the numbers of each row by the reference; see [`AnyAttention::reference`].
    ///
    /// # Errors
    /// As [`AnyAttention::reference`].
    pub fn reference(&self, query: &Tensor, key: &Tensor, value: &Tensor) -> Result<Reference, Error> {
        self.reference_pairs(query, [(key, value)])
    }
}

impl<P: InType> AttentionOver<P, Outputs<1>> {
    /// Returning a [`Partial`] in place of the output, to be [merged](crate::merge()) with those of other keys. Give keys and queries their
    /// positions, by `with_key_offsets` and [`with_query_offset`](AttentionOver::with_query_offset): without them the first key is at 0
    /// and the last query at the last key that is given.
    ///
    /// By `cpu` and `cube` kernels: those by tensor cores have outputs of 16 bits. Where it is run, it is [`Error::NoRowNumber`] unless
    /// there is one accumulator, a `Softmax`, and [`Error::NoPartial`] where it has a sink or is not the output.
    pub fn with_partial(self) -> AttentionOver<P, AsPartial> {
        self.giving()
    }
}

/// What is given beside the outputs, where the number of tensors or pairs is in the type.
impl<P: InType, const OUTPUTS: usize> AttentionOver<P, Outputs<OUTPUTS>>
where
    Outputs<OUTPUTS>: Results,
{
    /// Returning the outputs and what a backward pass needs. Of that [`Saved::backward`](crate::Saved::backward) gives the gradients of what lies
    /// along queries and keys, and [`Saved::only`](crate::Saved::only) those of what is captured. On the CPU; elsewhere, and of more than 8 outputs and accumulators together, it is
    /// [`Error::NoGradients`] when it is run.
    ///
    /// ```
    /// use purview::prelude::*;
    ///
    /// /// Each position sees itself and those before it.
    /// #[attention]
    /// pub fn causal(q: Query, k: Key, v: Value) -> Output {
    ///     for i in q.tiles() {
    ///         let mut o = Softmax::new();
    ///         for j in k.tiles() {
    ///             o.push(mask(dot(q[i], k[j]) * scale(), j <= i), v[j]);
    ///         }
    ///         o
    ///     }
    /// }
    ///
    /// # fn main() -> Result<(), Error> {
    /// let device = Device::cpu()?;
    /// let q = Tensor::from_slice(&device, [1, 4, 100, 64], &vec![0.1f32; 25600])?;
    /// let (out, saved) = causal().with_gradients().run(&device, &q, &q, &q)?;
    /// let gradients = saved.backward(&out)?;
    /// assert_eq!(gradients.of("k").unwrap().shape(), q.shape());
    /// # Ok(())
    /// # }
    /// ```
    pub fn with_gradients(self) -> AttentionOver<P, WithGradients<Outputs<OUTPUTS>>> {
        self.giving()
    }

    /// Returning each row's log-sum-exp `[B, H, S]` with the output; see [`AnyAttention::run_with_lse`].
    pub fn with_lse(self) -> AttentionOver<P, WithLse<Outputs<OUTPUTS>>> {
        self.giving()
    }

    /// Returning each row's maximum `[B, H, S]` with the output; see [`AnyAttention::run_with_max`].
    pub fn with_max(self) -> AttentionOver<P, WithMax<Outputs<OUTPUTS>>> {
        self.giving()
    }
}

impl<P, O: Results> AttentionOver<P, WithLse<O>> {
    /// Returning output, log-sum-exp and maximum; see [`AnyAttention::run_with_max`].
    pub fn with_max(self) -> AttentionOver<P, WithLseAndMax<O>> {
        self.giving()
    }
}
