//! From validated tensors to a launch.

use crate::device::Device;
use crate::error::Error;
use crate::tensor::{DType, Tensor};
use purview_compiler::emit::binding::{KeyValueData, LaunchData, OperandData};
use purview_compiler::emit::launch as emit;
use purview_compiler::ir::forward::Operands;
use purview_compiler::ir::{Program, Reduction};
use purview_compiler::launch::Keys;
use purview_compiler::lower::runtime_scalars;
use purview_compiler::schedule::FewQueries;
use purview_compiler::scheduled::Scheduled;
use purview_compiler::spec::{ScalarValue, Spec};

/// The sizes of a validated launch.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    pub batch: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub queries: usize,
    pub operands: Operands,
    /// Each pair's keys.
    pub keys: Vec<Keys>,
    /// The first query's position.
    pub query_offset: i64,
    /// `scale()`.
    pub scale: f32,
}

impl Operation {
    /// Sizes, with nothing said of keys, positions and scale.
    pub(crate) fn sizes(batch: usize, heads: usize, kv_heads: usize, queries: usize, operands: Operands) -> Operation {
        Operation { batch, heads, kv_heads, queries, operands, keys: Vec::new(), query_offset: 0, scale: 1.0 }
    }
}

/// A launch that only wants a device: the output, the log-sum-exp, which only softmax writes, and what computes them, unless there
/// is nothing to compute.
pub(crate) struct Prepared {
    pub output: Tensor,
    pub lse: Tensor,
    pub data: Option<LaunchData>,
}

impl Prepared {
    /// Launches what `program` computes, on `device`. Returns the output and the log-sum-exp.
    pub(crate) fn launch(self, device: &Device, program: &Scheduled) -> (Tensor, Tensor) {
        if let Some(data) = self.data {
            emit::launch(device.client(), program, data);
        }
        (self.output, self.lse)
    }
}

/// All of a launch but the launch: the results' memory on `device`, and the captured tensors' summaries.
#[allow(
    clippy::too_many_arguments,
    reason = "what a launch is made of; a struct of these would have two makers, and this as its one user"
)]
pub(crate) fn prepare(
    device: &Device,
    spec: &Spec,
    program: &Program,
    few: FewQueries,
    operation: &Operation,
    query: &Tensor,
    pairs: &[(&Tensor, &Tensor)],
    scalars: &[ScalarValue],
    tensors: &[Tensor],
    counters: Option<&Tensor>,
) -> Result<Prepared, Error> {
    let &Operation { batch, heads, kv_heads, queries, operands, .. } = operation;
    let output =
        Tensor::empty(device, operands.element.into(), vec![batch, heads, queries, operands.v_dim], "the output")?;
    let rows = match program.reduction() {
        Reduction::Softmax { .. } => queries,
        Reduction::Sum | Reduction::Mean => 0,
    };
    let lse = Tensor::empty(device, DType::F32, vec![batch, heads, rows], "the log-sum-exp")?;
    if [batch, heads, queries].contains(&0) {
        return Ok(Prepared { output, lse, data: None });
    }

    let key_values = pairs.iter().zip(&operation.keys).map(|((key, value), keys)| KeyValueData {
        key: operand(key),
        value: operand(value),
        length: keys.length,
        offset: keys.offset as i32,
    });
    let summaries = program.summaries().into_iter().map(|summary| {
        let tensor = &tensors[summary.tensor];
        // Of a tensor without elements nothing that matters is read, but there must be something to bind.
        if tensor.shape().contains(&0) { Ok(tensor.buffer()) } else { tensor.summary(&summary) }
    });
    let summaries = summaries.collect::<Result<Vec<_>, Error>>()?;
    let buffers = 3 + 2 * pairs.len() + tensors.len() + summaries.len() + usize::from(counters.is_some());
    if let Some(limit) = device.most_buffers()
        && buffers > limit
    {
        let (attention, device) = (spec.name.clone(), device.name().into());
        return Err(Error::ManyBuffers { attention, needed: buffers, device, limit });
    }
    let data = LaunchData {
        query: operand(query),
        pairs: key_values.collect(),
        output: output.buffer(),
        lse: lse.buffer(),
        scalars: runtime_scalars(spec, scalars),
        tensors: tensors.iter().map(Tensor::captured).collect(),
        summaries,
        counters: counters.map(Tensor::buffer),
        scale: operation.scale,
        batch,
        heads,
        group: heads / kv_heads,
        queries,
        query_offset: operation.query_offset as i32,
        careful: true,
        few,
    };
    Ok(Prepared { output, lse, data: Some(data) })
}

fn operand(tensor: &Tensor) -> OperandData {
    let strides = tensor.steps();
    OperandData {
        buffer: tensor.buffer(),
        start: tensor.start(),
        strides: [strides[0], strides[1], strides[2], strides[3]],
    }
}
