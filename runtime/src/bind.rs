//! From a proved launch to the data of a kernel: memory for the results, and the captured tensors' summaries.

use crate::dtype::DType;
use crate::error::Error;
use crate::operation::Operation;
use crate::prove::Proved;
use crate::request::Call;
use crate::tensor::Tensor;
use purview_compiler::emit::binding::{KeySetData, LaunchData};
use purview_compiler::ir::Program;
use purview_compiler::lower::runtime_scalars;
use purview_compiler::spec::Role;

/// The results of a launch, and what computes them.
pub(crate) struct Bound {
    /// The outputs, in the program's order.
    pub outputs: Vec<Tensor>,
    /// The numbers of each row that the program keeps, in its order.
    pub rows: Vec<Tensor>,
    /// None where there is nothing to compute.
    pub data: Option<LaunchData>,
}

/// All of a launch but the launch itself.
pub(crate) fn bind(call: &Call, operation: &Operation, proved: &Proved) -> Result<Bound, Error> {
    let &Call { request, device, operands: tensors, counters } = call;
    let program = &proved.program;
    let &Operation { batch, heads, queries, .. } = operation;
    let outputs = program.outputs.iter().zip(output_names(program)).map(|(output, name)| {
        let shape = vec![batch, heads, queries, output.dim];
        Tensor::empty(device, output.element.into(), shape, &name)
    });
    let outputs = outputs.collect::<Result<Vec<_>, Error>>()?;
    let numbers = program.row_numbers().into_iter();
    let rows = numbers.map(|(_, number)| Tensor::empty(device, DType::F32, vec![batch, heads, queries], number.name()));
    let rows = rows.collect::<Result<Vec<_>, Error>>()?;
    if [batch, heads, queries].contains(&0) {
        return Ok(Bound { outputs, rows, data: None });
    }

    let operands = request.spec.operands.iter().zip(tensors).map(|(param, tensor)| {
        let group = (param.role != Role::Query).then(|| heads / tensor.shape()[1]);
        tensor.operand(group)
    });
    let keys = operation.keys.iter().map(|keys| KeySetData { length: keys.length, offset: keys.offset as i32 });
    let summaries = program.summaries().into_iter().map(|summary| {
        let tensor = &request.tensors[summary.tensor];
        // Of a tensor without elements nothing that matters is read, but there must be something to bind.
        if tensor.shape().contains(&0) { Ok(tensor.buffer()) } else { tensor.summary(&summary) }
    });
    let summaries = summaries.collect::<Result<Vec<_>, Error>>()?;
    let results = outputs.len() + rows.len();
    let needed = results + tensors.len() + request.tensors.len() + summaries.len() + usize::from(counters.is_some());
    if let Some(limit) = device.capabilities().most_buffers
        && needed > limit
    {
        let buffers = buffers(call, program);
        let (attention, device) = (request.spec.name.clone(), device.name().into());
        return Err(Error::ManyBuffers { attention, needed, buffers, device, limit });
    }
    let data = LaunchData {
        operands: operands.collect(),
        columns: keys.collect(),
        numbers: Vec::new(),
        outputs: outputs.iter().map(Tensor::buffer).collect(),
        copies: 1,
        rows: rows.iter().map(Tensor::buffer).collect(),
        scalars: runtime_scalars(&request.spec, &request.scalars),
        tensors: request.tensors.iter().map(Tensor::captured).collect(),
        summaries,
        counters: counters.map(Tensor::buffer),
        scale: operation.scale,
        batch,
        heads,
        row_group: None,
        kv_group: heads / operation.kv_heads,
        rows_len: queries,
        row_offset: operation.query_offset as i32,
        careful: proved.careful,
    };
    Ok(Bound { outputs, rows, data: Some(data) })
}

/// What outputs are called in messages.
fn output_names(program: &Program) -> Vec<String> {
    match program.outputs.len() {
        1 => vec!["the output".into()],
        count => (0..count).map(|place| format!("output {place}")).collect(),
    }
}

/// What each buffer of a launch holds, in the order of the kernel's arguments.
fn buffers(call: &Call, program: &Program) -> Vec<String> {
    let spec = &call.request.spec;
    let tensors = spec.tensors.iter().map(|tensor| &tensor.name);
    let operands = spec.operands.iter().map(|operand| &operand.name);
    let quoted = |name: &String| format!("`{name}`");
    let numbers = program.row_numbers().into_iter().map(|(_, number)| number.name().to_string());
    let results = output_names(program).into_iter().chain(numbers);
    let summaries = program.summaries();
    let summaries = summaries.iter().map(|of| format!("a summary of `{}`", spec.tensors[of.tensor].name));
    let counters = call.counters.map(|_| "the count of tiles".into());
    operands.map(quoted).chain(results).chain(tensors.map(quoted)).chain(summaries).chain(counters).collect()
}
