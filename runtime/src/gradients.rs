//! The gradients of an attention: what its forward pass saves, and the programs that are [derived](purview_compiler::backward) from it.

use crate::cache;
use crate::device::Device;
use crate::dtype::DType;
use crate::error::Error;
use crate::launch::Launched;
use crate::operation::Operation;
use crate::prove;
use crate::request::Request;
use crate::results::{Results, sealed};
use crate::schedule::{self, Constraints, CpuSchedule, Schedule};
use crate::tensor::Tensor;
use crate::validate;
use purview_compiler::analysis::ranges::check_tiles;
use purview_compiler::backward::{Derived, RowNumbers};
use purview_compiler::emit::binding::{KeySetData, LaunchData, OperandData};
use purview_compiler::emit::delta::{self, DeltaData};
use purview_compiler::emit::launch;
use purview_compiler::ir::forward::Form;
use purview_compiler::ir::{Axis, Program, RowNumber};
use purview_compiler::lower::runtime_scalars;
use purview_compiler::passes;
use purview_compiler::scheduled::{Compiled, Scheduled};
use purview_compiler::spec::{Accumulator, Spec};

/// What the forward pass of an attention leaves for its backward pass: its operands and its output, which are shared and not copied, and each
/// row's log-sum-exp.
#[derive(Clone, Debug)]
pub struct Saved {
    request: Request,
    operands: Vec<Tensor>,
    output: Tensor,
    lse: Option<Tensor>,
}

/// The gradients of an attention's operands, each of its operand's shape and type.
#[derive(Clone, Debug)]
pub struct Gradients {
    names: Vec<String>,
    operands: Vec<Option<Tensor>>,
}

impl Gradients {
    /// That of the operand called `name` in the signature; `None` where there is no such operand, or its gradient was not asked for.
    pub fn of(&self, name: &str) -> Option<&Tensor> {
        let place = self.names.iter().position(|known| known == name)?;
        self.operands[place].as_ref()
    }

    /// Those of the operands in the order of the signature; `None` of those that were not asked for.
    pub fn operands(&self) -> &[Option<Tensor>] {
        &self.operands
    }
}

impl Saved {
    /// The gradients of all operands, where `d_out` is that of the output: `[B, H, S, Dv]`, of its type, of any strides.
    ///
    /// The same tensors give the same bits every time.
    ///
    /// # Errors
    /// [`Error::Rank`], [`Error::Mismatch`], [`Error::Type`] and [`Error::OtherDevice`] where `d_out` is not as the output, and
    /// [`Error::NoGradients`] where keys and values have different numbers of heads.
    pub fn backward(&self, d_out: &Tensor) -> Result<Gradients, Error> {
        self.differentiate(d_out, None, &vec![true; self.operands.len()])
    }

    /// As [`Saved::backward`], of the operands called `wanted` in the signature. Of the others nothing is computed.
    ///
    /// # Errors
    /// As [`Saved::backward`], and [`Error::NoOperand`] for another name.
    pub fn backward_of(&self, wanted: &[&str], d_out: &Tensor) -> Result<Gradients, Error> {
        self.differentiate(d_out, None, &self.wanted(wanted)?)
    }

    /// As [`Saved::backward`], where `d_lse` is the gradient of the log-sum-exp, `[B, H, S]` in f32: as of results that were
    /// [merged](crate::merge) afterwards.
    ///
    /// # Errors
    /// As [`Saved::backward`], and [`Error::NoRowNumber`] of an attention without a log-sum-exp.
    pub fn backward_with_lse(&self, d_out: &Tensor, d_lse: &Tensor) -> Result<Gradients, Error> {
        self.differentiate(d_out, Some(d_lse), &vec![true; self.operands.len()])
    }

    fn wanted(&self, names: &[&str]) -> Result<Vec<bool>, Error> {
        let params = &self.request.spec.operands;
        if let Some(unknown) = names.iter().find(|name| params.iter().all(|param| param.name != **name)) {
            let operands: Vec<&str> = params.iter().map(|param| param.name.as_str()).collect();
            return Err(Error::NoOperand {
                attention: self.request.spec.name.clone(),
                name: (*unknown).into(),
                operands: operands.join(", "),
            });
        }
        Ok(params.iter().map(|param| names.contains(&param.name.as_str())).collect())
    }

    fn differentiate(&self, d_out: &Tensor, d_lse: Option<&Tensor>, wanted: &[bool]) -> Result<Gradients, Error> {
        let Saved { request, operands, output, lse } = self;
        let device = output.device();
        validate::as_tensor("d_out", d_out, ("the output", output.shape(), output.dtype()), device)?;
        if let Some(d_lse) = d_lse {
            let Some(lse) = lse else {
                validate::has_row_number(&request.spec, RowNumber::LogSumExp)?;
                unreachable!("an attention with a log-sum-exp saves it")
            };
            validate::as_tensor("d_lse", d_lse, ("the log-sum-exp", lse.shape(), lse.dtype()), device)?;
        }
        let references: Vec<&Tensor> = operands.iter().collect();
        let operation = validate::operands(request, &references)?;
        let programs = cache::programs(request, &operation.operands)?;
        let backward = programs.backward(request, &operation.operands, wanted)?;
        let rows = self.rows(d_out, d_lse, &operation)?;
        let numbers = backward.numbers.iter().map(|number| match number {
            RowNumbers::Delta(_) => rows.narrow(0, 0, 1),
            RowNumbers::LogSumExp(_) => rows.narrow(0, 1, 1),
            RowNumbers::Inverse(_) => Err(no_gradients(&request.spec, "its accumulator is a `Mean`")),
        });
        let numbers = numbers.collect::<Result<Vec<_>, Error>>()?;
        let step = Step { request, device, operation: &operation, operands, d_out, numbers: &numbers };
        let mut found = vec![None; operands.len()];
        for derived in backward.queries.iter().chain(&backward.keys) {
            let gradients = step.launch(derived)?;
            for (place, gradient) in derived.of.iter().zip(gradients) {
                found[*place] = Some(gradient);
            }
        }
        let names = request.spec.operands.iter().map(|param| param.name.clone()).collect();
        Ok(Gradients { names, operands: found })
    }

    /// Each row's delta, and then each row's log-sum-exp to base 2: `[2, B, H, S]`.
    fn rows(&self, d_out: &Tensor, d_lse: Option<&Tensor>, operation: &Operation) -> Result<Tensor, Error> {
        let &Operation { batch, heads, queries, .. } = operation;
        let device = self.output.device();
        let rows = Tensor::empty(device, DType::F32, vec![2, batch, heads, queries], "the numbers of rows")?;
        let dim = self.output.shape()[3];
        if [batch, heads, queries].contains(&0) {
            return Ok(rows);
        }
        let data = DeltaData {
            element: operation.operands.element,
            output: self.output.operand(None),
            gradient: d_out.operand(None),
            lse: self.lse.as_ref().map(|lse| lse.operand(None)),
            lse_gradient: d_lse.map(|gradient| gradient.operand(None)),
            shape: [batch, heads, queries, dim],
            rows: rows.buffer(),
        };
        delta::launch(device.client(), data);
        Ok(rows)
    }
}

/// That gradients of such an attention are computed on `device`.
pub(crate) fn check(spec: &Spec, device: &Device) -> Result<(), Error> {
    let refused = |reason| Err(no_gradients(spec, reason));
    if schedule::cores(device).is_none() {
        return refused("they are computed on the CPU, and this is another device");
    }
    if spec.outputs.len() > 1 || !spec.stores_accumulator() {
        return refused("its output is not its one accumulator");
    }
    if spec.accumulators.iter().any(|accumulator| accumulator.kind == Accumulator::Mean) {
        return refused("its accumulator is a `Mean`");
    }
    if spec.pushes().any(|(_, push)| push.dim.is_some()) {
        return refused("its values are part of longer rows");
    }
    Ok(())
}

fn no_gradients(spec: &Spec, reason: &'static str) -> Error {
    Error::NoGradients { attention: spec.name.clone(), reason }
}

/// What the launches of a backward pass share.
struct Step<'a> {
    request: &'a Request,
    device: &'a Device,
    operation: &'a Operation,
    operands: &'a [Tensor],
    d_out: &'a Tensor,
    /// The numbers of rows, in the programs' order: `[1, B, H, S]`.
    numbers: &'a [Tensor],
}

impl Step<'_> {
    /// What a derived program's rows are: their heads, how many there are, and the position of the first.
    fn rows(&self, program: &Program, operands: &[&Tensor]) -> Result<(usize, usize, i64), Error> {
        let &Operation { heads, queries, query_offset, .. } = self.operation;
        let Axis::Keys(set) = program.rows else { return Ok((heads, queries, query_offset)) };
        let of_rows = program.operands.iter().zip(operands).filter(|(operand, _)| operand.axis == program.rows);
        let of_rows: Vec<usize> = of_rows.map(|(_, tensor)| tensor.shape()[1]).collect();
        let most = of_rows.iter().copied().max().unwrap_or(1);
        if of_rows.iter().any(|heads| *heads != most) {
            return Err(no_gradients(&self.request.spec, "its keys and values have different numbers of heads"));
        }
        let keys = self.operation.keys[set];
        Ok((most, keys.length, keys.offset))
    }

    /// The gradients that `derived` gives.
    fn launch(&self, derived: &Derived) -> Result<Vec<Tensor>, Error> {
        let Operation { batch, heads, keys, .. } = self.operation;
        let program = Compiled::new(derived.program.clone());
        let tensor = |place: &usize| self.operands.get(*place).unwrap_or(self.d_out);
        let tensors: Vec<&Tensor> = derived.operands.iter().map(tensor).collect();
        let (row_heads, rows_len, row_offset) = self.rows(&program, &tensors)?;
        let outputs = program.outputs.iter().zip(&derived.of).map(|(output, of)| {
            let name = format!("the gradient of `{}`", self.request.spec.operands[*of].name);
            Tensor::empty(self.device, output.element.into(), vec![*batch, row_heads, rows_len, output.dim], &name)
        });
        let outputs = outputs.collect::<Result<Vec<_>, Error>>()?;
        if [*batch, row_heads, rows_len].contains(&0) {
            return Ok(outputs);
        }
        let of_queries = program.rows == Axis::Queries;
        let scheduled = self.scheduled(&program, rows_len)?;
        let operands = program.operands.iter().zip(&tensors).map(|(operand, tensor)| {
            let along_keys = operand.axis != Axis::Queries;
            tensor.operand(along_keys.then(|| if of_queries { heads / tensor.shape()[1] } else { 1 }))
        });
        let columns = if of_queries {
            keys.iter().map(|keys| KeySetData { length: keys.length, offset: keys.offset as i32 }).collect()
        } else {
            let &Operation { queries, query_offset, .. } = self.operation;
            vec![KeySetData { length: queries, offset: query_offset as i32 }]
        };
        let summaries = scheduled.summaries().into_iter().map(|summary| {
            let tensor = &self.request.tensors[summary.tensor];
            if tensor.shape().contains(&0) { Ok(tensor.buffer()) } else { tensor.summary(&summary) }
        });
        let number = |tensor: &Tensor| -> OperandData {
            let OperandData { buffer, start, strides: [_, batch, head, row], .. } = tensor.operand(None);
            OperandData { buffer, start, strides: [batch, head, row, 1], group: None }
        };
        let data = LaunchData {
            operands: operands.collect(),
            columns,
            numbers: self.numbers.iter().map(number).collect(),
            outputs: outputs.iter().map(Tensor::buffer).collect(),
            rows: Vec::new(),
            scalars: runtime_scalars(&self.request.spec, &self.request.scalars),
            tensors: self.request.tensors.iter().map(Tensor::captured).collect(),
            summaries: summaries.collect::<Result<Vec<_>, Error>>()?,
            counters: None,
            scale: self.operation.scale,
            batch: *batch,
            heads: row_heads,
            row_group: (!of_queries).then(|| heads / row_heads),
            kv_group: heads / self.operation.kv_heads,
            rows_len,
            row_offset: row_offset as i32,
            careful: true,
        };
        launch::launch(self.device.client(), &scheduled, data);
        Ok(outputs)
    }

    /// `program` with the schedule for the device and so many rows. It visits every tile where the numbers that decide of tiles could leave
    /// 32 bits.
    fn scheduled(&self, program: &Compiled, rows: usize) -> Result<Scheduled, Error> {
        let constraints = Constraints {
            operands: program.sizes(),
            value_dim: program.memory_sizes().v_dim,
            bounded: false,
            intricate: true,
            form: Form::of(program),
        };
        let schedule = match schedule::choose(self.device, constraints)? {
            Schedule::Cpu(base) => {
                let vectors = rows.div_ceil(base.lanes).next_power_of_two().min(base.vectors);
                Schedule::Cpu(CpuSchedule { vectors, rows: (base.rows * base.vectors / vectors).min(8), ..base })
            }
            other => other,
        };
        let scheduled = passes::schedule(program.clone(), schedule)?;
        let facts = prove::tensor_facts(self.request, &scheduled)?;
        let described = self.operation.described(&self.request.scalars, &facts);
        let fits = check_tiles(&self.request.spec, &scheduled, &described).is_ok()
            && prove::summaries_fit(self.request, &scheduled);
        Ok(if fits { scheduled } else { scheduled.without_skipping() })
    }
}

/// The output and what a backward pass needs: [`with_gradients`](crate::AttentionOver::with_gradients).
#[derive(Clone, Copy, Debug)]
pub enum WithGradients {}

impl sealed::Sealed for WithGradients {
    const SAVES: bool = true;

    fn check(spec: &Spec) -> Result<(), Error> {
        validate::has_outputs(spec, 1)
    }
}

impl Results for WithGradients {
    type Tensors = (Tensor, Saved);

    fn of(mut launched: Launched) -> (Tensor, Saved) {
        let output = launched.outputs.remove(0);
        let lse = launched.rows.into_iter().find(|(number, _)| *number == RowNumber::LogSumExp).map(|(_, lse)| lse);
        let (request, operands) = launched.asked.take().expect("a launch that saves is told so");
        let saved = Saved { request, operands, output: output.clone(), lse };
        (output, saved)
    }
}
