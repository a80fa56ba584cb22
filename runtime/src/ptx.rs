//! Kernels for NVIDIA's GPUs, run on the CPU: the PTX that [`AnyAttention::emit`] gives, instruction by instruction.
//!
//! It is far from fast, and sees what a GPU would not tell: accesses out of bounds, reads of what nothing has written, races, and
//! what goes through memory.

use crate::attention::AnyAttention;
use crate::emit;
use crate::error::Error;
use crate::launch::{self, Prepared};
use crate::tensor::{Tensor, elements_of};
use crate::validate;
use half::{bf16, f16};
use purview_compiler::device_model::DeviceModel;
use purview_compiler::emit::text::ptx_launch::{self, PtxGrid, ptx_launch};
use purview_compiler::ir::{Element, Reduction};
use purview_compiler::schedule::FewQueries;
use purview_compiler::target::{KernelText, Target};
use purview_nvidia::ptx::{Counts, Fault, Launch, Memory, Module, ParseError, run};
use thiserror::Error as ThisError;

/// A launch of a kernel's PTX with all that goes in, on no device.
#[derive(Clone, Debug)]
pub struct PtxLaunch {
    /// The kernel.
    pub kernel: KernelText,
    element: Element,
    /// The elements of the output.
    elements: usize,
    /// The rows that have a log-sum-exp, of a softmax.
    rows: Option<usize>,
    /// The buffers, in the order of the parameters. None if there is nothing to compute.
    buffers: Vec<Contents>,
    /// The place of the output's buffer.
    output: usize,
    /// The place of the log-sum-exp's.
    lse: usize,
    /// The grids, with the last parameter of each.
    grids: Vec<PtxGrid>,
}

/// What a buffer holds before the launch.
#[derive(Clone, Debug)]
enum Contents {
    Bytes(Vec<u8>),
    /// Nothing yet, in so many bytes.
    Unwritten(usize),
}

/// What a launch computed, and what it cost.
#[derive(Clone, Debug)]
pub struct PtxResults {
    /// The output `[B, H, S, Dv]` in row-major order.
    pub out: Vec<f32>,
    /// The log-sum-exp `[B, H, S]`, of a softmax.
    pub lse: Option<Vec<f32>>,
    /// Instructions, and what went through memory.
    pub counts: Counts,
}

/// Why PTX could not be run to its end.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
#[non_exhaustive]
pub enum PtxError {
    /// Text that is not understood.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// The kernel did what a GPU would leave undefined.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// The kernel ended without having written all of its results.
    #[error("the kernel left a part of {0} unwritten")]
    Unwritten(&'static str),
}

impl AnyAttention {
    /// The launch of the kernel for the device `model` in PTX. Operands and captured tensors are on a device that is there, such as
    /// [`Device::cpu`](crate::Device::cpu), where captured tensors are looked at before the launch; all else is as in
    /// [`AnyAttention::run`] on a device like `model`.
    ///
    /// # Errors
    /// As [`AnyAttention::run`] and [`AnyAttention::kernel_text`], and [`Error::Launch`] for operands with gaps between the elements of
    /// the head dim, or whose rows are not whole vectors where those of dense ones would be.
    pub fn ptx(&self, model: &DeviceModel, query: &Tensor, pairs: &[(&Tensor, &Tensor)]) -> Result<PtxLaunch, Error> {
        let (spec, device) = (self.spec(), query.device());
        let operation = self.operation(query, pairs)?;
        validate::placement(spec, device, query, pairs, self.tensors())?;
        let operands = operation.operands;
        let schedule = self.schedule_for_operation(Target::Ptx, model, &operation)?;
        let program = self.program_for(&operation, schedule)?;
        let kernel = emit::emit(Target::Ptx, model, &program, self.demand(operands))?;
        let few = FewQueries::default();
        let (scalars, tensors) = (self.scalars(), self.tensors());
        let Prepared { output, data, .. } =
            launch::prepare(device, spec, &program, few, &operation, query, pairs, scalars, tensors, None)?;
        let softmax = matches!(program.reduction(), Reduction::Softmax { .. });
        let mut launch = PtxLaunch {
            kernel,
            element: operands.element,
            elements: elements_of(output.shape())?,
            rows: softmax.then_some(operation.batch * operation.heads * operation.queries),
            buffers: Vec::new(),
            output: 0,
            lse: 0,
            grids: Vec::new(),
        };
        if let Some(data) = data {
            let ptx_launch::PtxLaunch { buffers, output, lse, grids } = ptx_launch(&program, model, &data)?;
            let contents = buffers.into_iter().enumerate().map(|(place, buffer)| {
                if place == output || place == lse {
                    return Ok(Contents::Unwritten(buffer.memory.size_in_used() as usize));
                }
                let bytes = device.client().read_one(buffer.memory).map_err(Error::execution)?;
                Ok(Contents::Bytes(bytes.to_vec()))
            });
            let buffers = contents.collect::<Result<_, Error>>()?;
            launch = PtxLaunch { buffers, output, lse, grids, ..launch };
        }
        Ok(launch)
    }
}

impl PtxLaunch {
    /// Runs the kernel.
    ///
    /// # Errors
    /// [`PtxError`].
    pub fn run(&self) -> Result<PtxResults, PtxError> {
        self.run_text(&self.kernel.text)
    }

    /// Runs another kernel with the same parameters.
    ///
    /// # Errors
    /// [`PtxError`].
    pub fn run_text(&self, text: &str) -> Result<PtxResults, PtxError> {
        let module = Module::parse(text)?;
        let mut memory = Memory::new();
        let addresses: Vec<u64> = self.buffers.iter().map(|contents| contents.place(&mut memory)).collect();
        let mut counts = Counts::default();
        for PtxGrid { blocks, numbers } in &self.grids {
            let pointers = addresses.iter().map(|address| address.to_le_bytes().to_vec());
            let launch = Launch {
                grid: *blocks,
                block: self.kernel.block,
                dynamic_shared: self.kernel.shared_bytes,
                parameters: pointers.chain([numbers.clone()]).collect(),
            };
            counts += run(&module, &launch, &mut memory)?;
        }
        let results = |place: usize, count: usize, element: Element, what| {
            let Some(&address) = addresses.get(place) else { return Ok(Vec::new()) };
            let length = count * element.size();
            let written = memory.written(address).and_then(|written| written.get(..length));
            match memory.bytes(address).and_then(|bytes| bytes.get(..length)) {
                Some(bytes) if written.is_some_and(|written| !written.contains(&false)) => Ok(floats(bytes, element)),
                _ => Err(PtxError::Unwritten(what)),
            }
        };
        let out = results(self.output, self.elements, self.element, "the output")?;
        let lse = self.rows.map(|rows| results(self.lse, rows, Element::F32, "the log-sum-exp")).transpose()?;
        Ok(PtxResults { out, lse, counts })
    }
}

impl Contents {
    /// Puts them into `memory`. Returns the address.
    fn place(&self, memory: &mut Memory) -> u64 {
        match self {
            Contents::Bytes(bytes) => memory.add(bytes.clone()),
            Contents::Unwritten(length) => memory.add_uninitialised(*length),
        }
    }
}

/// The elements in `bytes`.
fn floats(bytes: &[u8], element: Element) -> Vec<f32> {
    match element {
        Element::F32 => bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect(),
        Element::F16 => bytes.as_chunks().0.iter().map(|bytes| f16::from_le_bytes(*bytes).to_f32()).collect(),
        Element::Bf16 => bytes.as_chunks().0.iter().map(|bytes| bf16::from_le_bytes(*bytes).to_f32()).collect(),
    }
}
