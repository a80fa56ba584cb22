//! Kernels for NVIDIA's GPUs, run on the CPU: the launch that [`AnyAttention::ptx_launch`] gives, instruction by instruction.
//!
//! It is far from fast, and sees what a GPU would not tell: accesses out of bounds, reads of what nothing has written, races, and
//! what goes through memory.
//!
//! [`AnyAttention::ptx_launch`]: purview::AnyAttention::ptx_launch

use half::{bf16, f16};
use purview::ir::Element;
use purview::{PtxBuffer, PtxGrid, PtxLaunch, PtxResult};
use purview_nvidia::ptx::{self, Counts, DeviceMemory, Fault, GridLaunch, Module, PtxParseError};
use thiserror::Error;

/// What a launch computed, and what it cost.
#[derive(Clone, Debug)]
pub struct PtxResults {
    /// The output, or the first of them: `[B, H, S, Dv]` in row-major order.
    pub out: Vec<f32>,
    /// The outputs after the first, likewise.
    pub further: Vec<Vec<f32>>,
    /// The log-sum-exp `[B, H, S]`, of a softmax.
    pub lse: Option<Vec<f32>>,
    /// Each row's maximum `[B, H, S]`, where the launch gives it.
    pub max: Option<Vec<f32>>,
    /// Each row's sum `[B, H, S]`, of a partial result.
    pub sum: Option<Vec<f32>>,
    /// Instructions, and what went through memory.
    pub counts: Counts,
}

impl PtxResults {
    /// All outputs, in the order of the attention.
    pub fn outputs(&self) -> impl Iterator<Item = &[f32]> {
        std::iter::once(&self.out).chain(&self.further).map(Vec::as_slice)
    }
}

/// Why PTX could not be run to its end.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PtxError {
    /// Text that is not understood.
    #[error(transparent)]
    Parse(#[from] PtxParseError),
    /// The kernel did what a GPU would leave undefined.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// The kernel ended without having written all of its results.
    #[error("the kernel left a part of {0} unwritten")]
    Unwritten(&'static str),
}

/// Runs `launch`.
///
/// # Errors
/// [`PtxError`].
pub fn run(launch: &PtxLaunch) -> Result<PtxResults, PtxError> {
    run_text(launch, &launch.kernel.text)
}

/// Runs another kernel, whose PTX is `text`, with the arguments of `launch`.
///
/// # Errors
/// [`PtxError`].
pub fn run_text(launch: &PtxLaunch, text: &str) -> Result<PtxResults, PtxError> {
    let module = Module::parse(text)?;
    let mut memory = DeviceMemory::new();
    let place = |buffer: &PtxBuffer| match buffer {
        PtxBuffer::Bytes(bytes) => memory.add(bytes.clone()),
        PtxBuffer::Unwritten(length) => memory.add_uninitialised(*length),
    };
    let addresses: Vec<u64> = launch.buffers.iter().map(place).collect();
    let mut counts = Counts::default();
    for PtxGrid { blocks, numbers } in &launch.grids {
        let pointers = addresses.iter().map(|address| address.to_le_bytes().to_vec());
        let grid = GridLaunch {
            grid: *blocks,
            block: launch.kernel.block,
            dynamic_shared: launch.kernel.shared_bytes,
            parameters: pointers.chain([numbers.clone()]).collect(),
        };
        counts += ptx::run(&module, &grid, &mut memory)?;
    }
    let read = |result: PtxResult, what| {
        let Some(&address) = addresses.get(result.buffer) else { return Ok(Vec::new()) };
        let length = result.elements * result.element.size();
        let written = memory.written(address).and_then(|written| written.get(..length));
        match memory.bytes(address).and_then(|bytes| bytes.get(..length)) {
            Some(bytes) if written.is_some_and(|written| !written.contains(&false)) => {
                Ok(floats(bytes, result.element))
            }
            _ => Err(PtxError::Unwritten(what)),
        }
    };
    let out = read(launch.output, "the output")?;
    let further = launch.further.iter().map(|output| read(*output, "an output")).collect::<Result<_, _>>()?;
    let lse = launch.lse.map(|lse| read(lse, "the log-sum-exp")).transpose()?;
    let max = launch.max.map(|max| read(max, "the maximum")).transpose()?;
    let sum = launch.sum.map(|sum| read(sum, "the sum")).transpose()?;
    Ok(PtxResults { out, further, lse, max, sum, counts })
}

/// The elements in `bytes`.
fn floats(bytes: &[u8], element: Element) -> Vec<f32> {
    match element {
        Element::F32 => bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect(),
        Element::F16 => bytes.as_chunks().0.iter().map(|bytes| f16::from_le_bytes(*bytes).to_f32()).collect(),
        Element::Bf16 => bytes.as_chunks().0.iter().map(|bytes| bf16::from_le_bytes(*bytes).to_f32()).collect(),
    }
}
