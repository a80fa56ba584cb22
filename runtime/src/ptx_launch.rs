//! A kernel for NVIDIA's GPUs with all that a launch gives it, as plain data.

use crate::attention::AnyAttention;
use crate::bind::{self, Bound};
use crate::cache;
use crate::emit;
use crate::error::Error;
use crate::partial::AsPartial;
use crate::plan;
use crate::prove::{self, Proved};
use crate::request::Call;
use crate::results::sealed::Sealed;
use crate::tensor::{Tensor, elements_of};
use crate::validate;
use purview_compiler::device_model::DeviceModel;
pub use purview_compiler::emit::text::ptx_launch::PtxGrid;
use purview_compiler::emit::text::ptx_launch::{self, ptx_launch};
use purview_compiler::ir::{Element, Kept, RowNumber};
use purview_compiler::target::{KernelText, Target};

/// A launch of a kernel's PTX as plain data, for an interpreter or a driver: [`AnyAttention::ptx_launch`] makes it.
///
/// Each grid of [`grids`](Self::grids) is launched with the threads and the shared memory that [`kernel`](Self::kernel) says. Its
/// parameters are the address of each of the [`buffers`](Self::buffers), in their order, and the grid's own numbers.
#[derive(Clone, Debug)]
pub struct PtxLaunch {
    /// The kernel.
    pub kernel: KernelText,
    /// What each buffer holds before the launch.
    pub buffers: Vec<PtxBuffer>,
    /// The grids, to be launched one after the other; none where there is nothing to compute.
    pub grids: Vec<PtxGrid>,
    /// The output, or the first of them: `[B, H, S, Dv]`.
    pub output: PtxResult,
    /// The outputs after the first, likewise.
    pub further: Vec<PtxResult>,
    /// The log-sum-exp `[B, H, S]`, of an attention whose one accumulator is a softmax.
    pub lse: Option<PtxResult>,
    /// Each row's maximum `[B, H, S]`, where it was [asked for](AnyAttention::ptx_launch_operands_with_max).
    pub max: Option<PtxResult>,
    /// Each row's sum `[B, H, S]`, of a [partial result](AnyAttention::ptx_launch_operands_partial).
    pub sum: Option<PtxResult>,
}

/// What a buffer of a [`PtxLaunch`] holds before it.
#[derive(Clone, Debug)]
pub enum PtxBuffer {
    /// These bytes.
    Bytes(Vec<u8>),
    /// As many bytes, which the kernel writes.
    Unwritten(usize),
}

/// Where a [`PtxLaunch`] leaves a result, in row-major order.
#[derive(Clone, Copy, Debug)]
pub struct PtxResult {
    /// The place of its buffer among the launch's.
    pub buffer: usize,
    /// How many elements it has, from the buffer's first on.
    pub elements: usize,
    /// Their type.
    pub element: Element,
}

impl AnyAttention {
    /// The launch of the kernel in PTX for the device `model`, as data (feature `emit`). Operands and captured tensors are on a device
    /// that is there, such as [`Device::cpu`](crate::Device::cpu), where captured tensors are looked at before the launch; all else is as
    /// in [`AnyAttention::run`] on a device like `model`.
    ///
    /// # Errors
    /// As [`AnyAttention::run`] and [`AnyAttention::kernel_text`], and [`Error::Launch`] for operands with gaps between the elements of
    /// the head dim, or whose rows are not whole vectors where those of dense ones would be.
    pub fn ptx_launch(
        &self,
        model: &DeviceModel,
        query: &Tensor,
        pairs: &[(&Tensor, &Tensor)],
    ) -> Result<PtxLaunch, Error> {
        self.ptx_launch_operands(model, &validate::in_order(&self.request.spec, query, pairs)?)
    }

    /// As [`AnyAttention::ptx_launch`], for the tensors that lie along queries and keys, in the order of the signature.
    ///
    /// # Errors
    /// As [`AnyAttention::ptx_launch`].
    pub fn ptx_launch_operands(&self, model: &DeviceModel, tensors: &[&Tensor]) -> Result<PtxLaunch, Error> {
        self.ptx_launch_keeping(model, tensors, Kept::LogSumExp)
    }

    /// As [`AnyAttention::ptx_launch_operands`], of the kernel that also gives each row's maximum, as
    /// [`AnyAttention::run_operands_with_max`].
    ///
    /// # Errors
    /// As [`AnyAttention::ptx_launch`], and [`Error::NoRowNumber`] unless there is one accumulator, a `Softmax`.
    pub fn ptx_launch_operands_with_max(&self, model: &DeviceModel, tensors: &[&Tensor]) -> Result<PtxLaunch, Error> {
        validate::has_row_number(&self.request.spec, RowNumber::Maximum)?;
        self.ptx_launch_keeping(model, tensors, Kept::LogSumExpAndMaximum)
    }

    /// As [`AnyAttention::ptx_launch_operands`], of the kernel that gives a [`Partial`](crate::Partial): the output is not divided, in f32.
    ///
    /// # Errors
    /// As [`AnyAttention::ptx_launch`] and [`AnyAttention::run_operands_partial`].
    pub fn ptx_launch_operands_partial(&self, model: &DeviceModel, tensors: &[&Tensor]) -> Result<PtxLaunch, Error> {
        AsPartial::check(&self.request.spec)?;
        self.ptx_launch_keeping(model, tensors, Kept::Partial)
    }

    fn ptx_launch_keeping(&self, model: &DeviceModel, tensors: &[&Tensor], kept: Kept) -> Result<PtxLaunch, Error> {
        let request = &self.request.keeping(kept);
        let Some(first) = tensors.first() else {
            let (attention, expected) = (request.spec.name.clone(), request.spec.operands.len());
            return Err(Error::Count { attention, what: "tensors along queries and keys", expected, given: 0 });
        };
        let device = first.device();
        let call = Call { request, device, operands: tensors, counters: None };
        let operation = validate::call(&call)?;
        let programs = cache::programs(call.request, &operation.operands)?;
        let schedule = plan::on_model(call.request, Target::Ptx, model, &operation, &programs)?;
        let program = prove::program(call.request, &operation, &programs, schedule)?;
        let compile = || emit::emit(Target::Ptx, model, &program, programs.constraints(call.request));
        let kernel = programs.ptx(model, &program, compile)?;
        // A GPU's driver ends no loops.
        let proved = Proved { program, careful: true };
        let Bound { outputs, data, .. } = bind::bind(&call, &operation, &proved)?;
        let program = &proved.program;
        // A kernel has one also where a comptime scalar leaves one of several accumulators, and the attention has none.
        let has_lse = self.request.spec.has_lse();
        let rows = operation.batch * operation.heads * operation.queries;
        let result = |elements, element| PtxResult { buffer: 0, elements, element };
        let of_rows = |number| program.row_numbers().iter().any(|(_, kept)| *kept == number).then_some(result(rows, Element::F32));
        let stored = outputs.iter().zip(&program.outputs);
        let stored = stored.map(|(tensor, output)| Ok(result(elements_of(tensor.shape())?, output.element)));
        let mut further = stored.collect::<Result<Vec<_>, Error>>()?;
        let mut launch = PtxLaunch {
            kernel,
            buffers: Vec::new(),
            grids: Vec::new(),
            output: further.remove(0),
            further,
            lse: of_rows(RowNumber::LogSumExp).filter(|_| has_lse),
            max: of_rows(RowNumber::Maximum),
            sum: of_rows(RowNumber::Sum),
        };
        let Some(data) = data else { return Ok(launch) };
        let ptx_launch::PtxArguments { buffers, outputs, rows, grids } = ptx_launch(program, model, &data)?;
        let contents = buffers.into_iter().enumerate().map(|(place, buffer)| {
            if outputs.contains(&place) || rows.contains(&place) {
                return Ok(PtxBuffer::Unwritten(buffer.memory.size_in_used() as usize));
            }
            let bytes = device.client().read_one(buffer.memory).map_err(Error::execution)?;
            Ok(PtxBuffer::Bytes(bytes.to_vec()))
        });
        (launch.buffers, launch.grids) = (contents.collect::<Result<_, Error>>()?, grids);
        let results = std::iter::once(&mut launch.output).chain(&mut launch.further);
        results.zip(outputs).for_each(|(result, place)| result.buffer = place);
        for ((_, number), place) in program.row_numbers().into_iter().zip(rows) {
            let result = match number {
                RowNumber::LogSumExp => &mut launch.lse,
                RowNumber::Maximum => &mut launch.max,
                RowNumber::Sum => &mut launch.sum,
            };
            *result = result.map(|result| PtxResult { buffer: place, ..result });
        }
        Ok(launch)
    }
}
