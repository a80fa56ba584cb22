//! From a proved launch to the data of a kernel: memory for the results, and the captured tensors' summaries.

use crate::dtype::DType;
use crate::error::Error;
use crate::operation::Operation;
use crate::prove::Proved;
use crate::request::Call;
use crate::tensor::Tensor;
use purview_compiler::emit::binding::{KeyValueData, LaunchData, OperandData};
use purview_compiler::ir::{Reduction, Summary};
use purview_compiler::lower::runtime_scalars;
use purview_compiler::schedule::FewQueries;

/// The results of a launch, and what computes them.
pub(crate) struct Bound {
    pub output: Tensor,
    /// The log-sum-exp, which only a softmax writes.
    pub lse: Tensor,
    /// None where there is nothing to compute.
    pub data: Option<LaunchData>,
}

/// All of a launch but the launch itself.
pub(crate) fn bind(call: &Call, operation: &Operation, proved: &Proved, few: FewQueries) -> Result<Bound, Error> {
    let &Call { request, device, query, pairs, counters } = call;
    let program = &proved.program;
    let &Operation { batch, heads, kv_heads, queries, operands, .. } = operation;
    let output =
        Tensor::empty(device, operands.element.into(), vec![batch, heads, queries, operands.v_dim], "the output")?;
    let rows = match program.reduction() {
        Reduction::Softmax { .. } => queries,
        Reduction::Sum | Reduction::Mean => 0,
    };
    let lse = Tensor::empty(device, DType::F32, vec![batch, heads, rows], "the log-sum-exp")?;
    if [batch, heads, queries].contains(&0) {
        return Ok(Bound { output, lse, data: None });
    }

    let key_values = pairs.iter().zip(&operation.keys).map(|((key, value), keys)| KeyValueData {
        key: operand(key),
        value: operand(value),
        length: keys.length,
        offset: keys.offset as i32,
    });
    let summaries = program.summaries().into_iter().map(|summary| {
        let tensor = &request.tensors[summary.tensor];
        // Of a tensor without elements nothing that matters is read, but there must be something to bind.
        if tensor.shape().contains(&0) { Ok(tensor.buffer()) } else { tensor.summary(&summary) }
    });
    let summaries = summaries.collect::<Result<Vec<_>, Error>>()?;
    let needed = 3 + 2 * pairs.len() + request.tensors.len() + summaries.len() + usize::from(counters.is_some());
    if let Some(limit) = device.capabilities().most_buffers
        && needed > limit
    {
        let buffers = buffers(call, program.summaries());
        let (attention, device) = (request.spec.name.clone(), device.name().into());
        return Err(Error::ManyBuffers { attention, needed, buffers, device, limit });
    }
    let data = LaunchData {
        query: operand(query),
        pairs: key_values.collect(),
        output: output.buffer(),
        lse: lse.buffer(),
        scalars: runtime_scalars(&request.spec, &request.scalars),
        tensors: request.tensors.iter().map(Tensor::captured).collect(),
        summaries,
        counters: counters.map(Tensor::buffer),
        scale: operation.scale,
        batch,
        heads,
        group: heads / kv_heads,
        queries,
        query_offset: operation.query_offset as i32,
        careful: proved.careful,
        few,
    };
    Ok(Bound { output, lse, data: Some(data) })
}

/// What each buffer of a launch holds, in the order of the kernel's arguments.
fn buffers(call: &Call, summaries: Vec<Summary>) -> Vec<String> {
    let spec = &call.request.spec;
    let tensors = spec.tensors.iter().map(|tensor| &tensor.name);
    let operands = std::iter::once(&spec.query).chain(spec.pairs.iter().flat_map(|pair| [&pair.key, &pair.value]));
    let quoted = |name: &String| format!("`{name}`");
    let results = ["the output", "the log-sum-exp"].map(String::from);
    let summaries = summaries.iter().map(|of| format!("a summary of `{}`", spec.tensors[of.tensor].name));
    let counters = call.counters.map(|_| "the count of tiles".into());
    operands.map(quoted).chain(results).chain(tensors.map(quoted)).chain(summaries).chain(counters).collect()
}

fn operand(tensor: &Tensor) -> OperandData {
    let strides = tensor.steps();
    OperandData {
        buffer: tensor.buffer(),
        start: tensor.start(),
        strides: [strides[0], strides[1], strides[2], strides[3]],
    }
}
