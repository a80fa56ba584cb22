//! The gradients of an attention: what its forward pass saves, and the programs that are [derived](purview_compiler::backward) from it.

use crate::cache;
use crate::device::Device;
use crate::error::Error;
use crate::launch::{KeptNumber, Launched};
use crate::operation::Operation;
use crate::prove;
use crate::request::Request;
use crate::results::{Results, sealed};
use crate::schedule::{self, Constraints, CpuSchedule, Schedule};
use crate::shape::greatest_common_divisor;
use crate::tensor::Tensor;
use crate::validate;
use purview_compiler::analysis::ranges::check_tiles;
use purview_compiler::backward::{Derived, Given, RowNumbers, Source, Wanted};
use purview_compiler::emit::binding::{KeySetData, LaunchData};
use purview_compiler::emit::parts::{self, PartData, PartsData};
use purview_compiler::emit::{launch, rows};
use purview_compiler::ir::forward::Form;
use purview_compiler::ir::{Axis, Kept, Program, RowNumber};
use purview_compiler::lower::runtime_scalars;
use purview_compiler::passes;
use purview_compiler::scheduled::{Compiled, Scheduled};
use purview_compiler::spec::{Accumulator, MAX_OUTPUTS, Spec};
use std::marker::PhantomData;

/// What the forward pass of an attention leaves for its backward pass: its operands and its outputs, which are shared and not copied, and
/// numbers of each row. Where outputs are expressions, it has each accumulator's result too.
#[derive(Clone, Debug)]
pub struct Saved {
    request: Request,
    operands: Vec<Tensor>,
    /// The program's outputs: those of the attention come first.
    outputs: Vec<Tensor>,
    rows: Vec<KeptNumber>,
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
    /// [`Error::GradientCount`] where there are several outputs.
    pub fn backward(&self, d_out: &Tensor) -> Result<Gradients, Error> {
        self.backward_outputs(&[d_out])
    }

    /// As [`Saved::backward`], where `d_outputs` are the gradients of all outputs, in their order.
    ///
    /// # Errors
    /// As [`Saved::backward`], and [`Error::GradientCount`] for another number of gradients than there are outputs.
    pub fn backward_outputs(&self, d_outputs: &[&Tensor]) -> Result<Gradients, Error> {
        self.differentiate(d_outputs, None, vec![true; self.operands.len()])
    }

    /// As [`Saved::backward`], of the operands called `wanted` in the signature. Of the others nothing is computed.
    ///
    /// # Errors
    /// As [`Saved::backward`], and [`Error::NoOperand`] for another name.
    pub fn backward_of(&self, wanted: &[&str], d_out: &Tensor) -> Result<Gradients, Error> {
        self.differentiate(&[d_out], None, self.wanted(wanted)?)
    }

    /// As [`Saved::backward`], where `d_lse` is the gradient of the log-sum-exp, `[B, H, S]` in f32: as of results that were
    /// [merged](crate::merge) afterwards.
    ///
    /// # Errors
    /// As [`Saved::backward`], and [`Error::NoRowNumber`] of an attention without a log-sum-exp.
    pub fn backward_with_lse(&self, d_out: &Tensor, d_lse: &Tensor) -> Result<Gradients, Error> {
        self.differentiate(&[d_out], Some(d_lse), vec![true; self.operands.len()])
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

    /// A number of each row of an accumulator that was kept.
    fn kept(&self, accumulator: usize, number: RowNumber) -> Option<&Tensor> {
        let found = self.rows.iter().find(|kept| (kept.accumulator, kept.number) == (accumulator, number));
        found.map(|kept| &kept.tensor)
    }

    fn check(&self, d_outputs: &[&Tensor], d_lse: Option<&Tensor>) -> Result<(), Error> {
        let spec = &self.request.spec;
        let device = self.outputs[0].device();
        if d_outputs.len() != spec.outputs.len() {
            let (attention, outputs) = (spec.name.clone(), spec.outputs.len());
            return Err(Error::GradientCount { attention, outputs, given: d_outputs.len() });
        }
        for (place, (d_out, output)) in d_outputs.iter().zip(&self.outputs).enumerate() {
            let (name, of) = match d_outputs {
                [_] => ("d_out".to_string(), "the output".to_string()),
                _ => (format!("d_outputs[{place}]"), format!("output {place}")),
            };
            validate::as_tensor(&name, d_out, (&of, output.shape(), output.dtype()), device)?;
        }
        let Some(d_lse) = d_lse else { return Ok(()) };
        validate::has_row_number(spec, RowNumber::LogSumExp)?;
        match self.kept(0, RowNumber::LogSumExp) {
            Some(lse) => validate::as_tensor("d_lse", d_lse, ("the log-sum-exp", lse.shape(), lse.dtype()), device),
            None => Ok(()),
        }
    }

    fn differentiate(
        &self,
        d_outputs: &[&Tensor],
        d_lse: Option<&Tensor>,
        operands: Vec<bool>,
    ) -> Result<Gradients, Error> {
        self.check(d_outputs, d_lse)?;
        let request = &self.request;
        let references: Vec<&Tensor> = self.operands.iter().collect();
        let operation = validate::operands(request, &references)?;
        let programs = cache::programs(request, &operation.operands)?;
        let wanted = Wanted { operands, of_lse: d_lse.is_some() };
        let backward = programs.backward(request, &operation.operands, &wanted)?;
        let mut step = Step {
            saved: self,
            device: self.outputs[0].device(),
            operation: &operation,
            forward: programs.program(),
            d_outputs,
            d_lse,
            given: Vec::new(),
        };
        for derived in backward.programs() {
            let tensors = step.launch(derived)?;
            step.given.extend(derived.outputs.iter().copied().zip(tensors));
        }
        let found = self.operands.iter().enumerate().zip(&wanted.operands);
        let found = found.map(|((place, operand), wanted)| wanted.then(|| step.gradient(place, operand)).transpose());
        let names = request.spec.operands.iter().map(|param| param.name.clone()).collect();
        Ok(Gradients { names, operands: found.collect::<Result<_, Error>>()? })
    }
}

/// What a forward pass keeps beside the outputs, so that a backward pass may follow: of one accumulator that is the output what it has anyway.
pub(crate) fn kept(spec: &Spec) -> Kept {
    let is_mean = spec.accumulators.iter().any(|accumulator| accumulator.kind == Accumulator::Mean);
    if spec.outputs.len() == 1 && spec.stores_accumulator() && !is_mean { Kept::LogSumExp } else { Kept::Each }
}

/// That gradients of such an attention are computed on `device`.
pub(crate) fn check(spec: &Spec, device: &Device) -> Result<(), Error> {
    if schedule::cores(device).is_none() {
        return Err(no_gradients(spec, "they are computed on the CPU, and this is another device"));
    }
    if kept(spec) == Kept::Each && spec.outputs.len() + spec.accumulators.len() > MAX_OUTPUTS {
        return Err(no_gradients(spec, "it has more than 8 outputs and accumulators"));
    }
    Ok(())
}

fn no_gradients(spec: &Spec, reason: &'static str) -> Error {
    Error::NoGradients { attention: spec.name.clone(), reason }
}

/// What the launches of a backward pass share.
struct Step<'a> {
    saved: &'a Saved,
    device: &'a Device,
    operation: &'a Operation,
    /// The program of the forward pass.
    forward: &'a Program,
    d_outputs: &'a [&'a Tensor],
    d_lse: Option<&'a Tensor>,
    /// What the programs before have given.
    given: Vec<(Given, Tensor)>,
}

/// What a derived program's rows are.
struct Rows {
    heads: usize,
    length: usize,
    /// The position of the first.
    offset: i64,
}

impl Step<'_> {
    fn rows(&self, program: &Program, operands: &[&Tensor]) -> Rows {
        let &Operation { heads, queries, query_offset, .. } = self.operation;
        let Axis::Keys(set) = program.rows else { return Rows { heads, length: queries, offset: query_offset } };
        let keys = self.operation.keys[set];
        // As many as serve all that lies along them: each number divides the query heads.
        let of_rows = program.operands.iter().zip(operands).filter(|(operand, _)| operand.axis == program.rows);
        let heads = of_rows.map(|(_, tensor)| tensor.shape()[1]).fold(1, least_common_multiple);
        Rows { heads, length: keys.length, offset: keys.offset }
    }

    /// What a program before has given.
    fn given(&self, given: Given) -> &Tensor {
        let found = self.given.iter().find(|(known, _)| *known == given);
        found.map(|(_, tensor)| tensor).expect("the program over rows gives what the others are of")
    }

    fn operand(&self, source: Source) -> &Tensor {
        match source {
            Source::Operand(place) => &self.saved.operands[place],
            Source::OutputGradient(place) => self.d_outputs[place],
            Source::AccumulatorGradient(place) => self.given(Given::AccumulatorGradient(place)),
            Source::Accumulator(place) => {
                let output = self.forward.output_of(place).expect("each accumulator is kept");
                &self.saved.outputs[output]
            }
        }
    }

    fn number(&self, number: RowNumbers) -> &Tensor {
        match number {
            RowNumbers::Kept(accumulator, number) => {
                self.saved.kept(accumulator, number).expect("what a backward pass needs is kept")
            }
            RowNumbers::LseGradient(_) => self.d_lse.expect("a program is of what it was made for"),
            made => self.given(Given::Number(made)),
        }
    }

    /// The gradient of the operand at `place`, which is `operand`: the sum of its parts.
    fn gradient(&self, place: usize, operand: &Tensor) -> Result<Tensor, Error> {
        let parts: Vec<&Tensor> =
            self.given.iter().filter(|(given, _)| *given == Given::Gradient(place)).map(|(_, part)| part).collect();
        let shape = operand.shape();
        if let [whole] = parts[..]
            && whole.shape() == shape
        {
            return Ok(whole.clone());
        }
        let &[batch, heads, rows, dim] = shape else { unreachable!("operands have four dimensions") };
        let name = format!("the gradient of `{}`", self.saved.request.spec.operands[place].name);
        let output = Tensor::empty(self.device, operand.dtype(), shape.to_vec(), &name)?;
        if let Some(element) = operand.dtype().element()
            && !shape.contains(&0)
        {
            let parts = parts.iter().map(|part| PartData {
                data: part.operand(None),
                heads: part.shape()[1] / heads,
                dim: part.shape()[3],
            });
            let output = output.buffer();
            let data = PartsData { element, parts: parts.collect(), shape: [batch, heads, rows, dim], output };
            parts::launch(self.device.client(), data);
        }
        Ok(output)
    }

    /// What `derived` gives.
    fn launch(&self, derived: &Derived) -> Result<Vec<Tensor>, Error> {
        let request = &self.saved.request;
        let Operation { batch, heads, keys, .. } = self.operation;
        let program = Compiled::new(derived.program.clone());
        let tensors: Vec<&Tensor> = derived.operands.iter().map(|source| self.operand(*source)).collect();
        let of_rows = self.rows(&program, &tensors);
        let outputs = program.outputs.iter().map(|output| {
            let shape = vec![*batch, of_rows.heads, of_rows.length, output.dim];
            Tensor::empty(self.device, output.element.into(), shape, "a gradient")
        });
        let outputs = outputs.collect::<Result<Vec<_>, Error>>()?;
        if [*batch, of_rows.heads, of_rows.length].contains(&0) {
            return Ok(outputs);
        }
        let of_queries = program.rows == Axis::Queries;
        let scheduled = match program.loops[..] {
            [] => None,
            _ => Some(self.scheduled(&program, of_rows.length)?),
        };
        let operands = program.operands.iter().zip(&tensors).map(|(operand, tensor)| {
            // Heads of the rows, or query heads, that share one of its heads.
            let sharing = if of_queries { *heads } else { of_rows.heads };
            tensor.operand((operand.axis != Axis::Queries).then(|| sharing / tensor.shape()[1]))
        });
        let columns = if of_queries {
            keys.iter().map(|keys| KeySetData { length: keys.length, offset: keys.offset as i32 }).collect()
        } else {
            let &Operation { queries, query_offset, .. } = self.operation;
            vec![KeySetData { length: queries, offset: query_offset as i32 }]
        };
        let summaries = scheduled.as_ref().map_or_else(Vec::new, |scheduled| scheduled.summaries());
        let summaries = summaries.into_iter().map(|summary| {
            let tensor = &request.tensors[summary.tensor];
            if tensor.shape().contains(&0) { Ok(tensor.buffer()) } else { tensor.summary(&summary) }
        });
        let data = LaunchData {
            operands: operands.collect(),
            columns,
            numbers: derived.numbers.iter().map(|number| self.number(*number).operand(None)).collect(),
            outputs: outputs.iter().map(Tensor::buffer).collect(),
            rows: Vec::new(),
            scalars: runtime_scalars(&request.spec, &request.scalars),
            tensors: request.tensors.iter().map(Tensor::captured).collect(),
            summaries: summaries.collect::<Result<Vec<_>, Error>>()?,
            counters: None,
            scale: self.operation.scale,
            batch: *batch,
            heads: of_rows.heads,
            row_group: (!of_queries).then(|| heads / of_rows.heads),
            kv_group: heads / self.operation.kv_heads,
            rows_len: of_rows.length,
            row_offset: of_rows.offset as i32,
            careful: true,
        };
        match scheduled {
            Some(scheduled) => launch::launch(self.device.client(), &scheduled, data),
            None => rows::launch(self.device.client(), &program, data),
        }
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
        let request = &self.saved.request;
        let facts = prove::tensor_facts(request, &scheduled)?;
        let described = self.operation.described(&request.scalars, &facts);
        let fits =
            check_tiles(&request.spec, &scheduled, &described).is_ok() && prove::summaries_fit(request, &scheduled);
        Ok(if fits { scheduled } else { scheduled.without_skipping() })
    }
}

fn least_common_multiple(a: usize, b: usize) -> usize {
    a / greatest_common_divisor(a, b).max(1) * b
}

/// The outputs `O` and what a backward pass needs: [`with_gradients`](crate::AttentionOver::with_gradients).
#[derive(Clone, Copy, Debug)]
pub struct WithGradients<O>(PhantomData<O>);

impl<O: Results> sealed::Sealed for WithGradients<O> {
    const SAVES: bool = true;

    fn check(spec: &Spec) -> Result<(), Error> {
        O::check(spec)
    }
}

impl<O: Results> Results for WithGradients<O> {
    type Tensors = (O::Tensors, Saved);

    fn of(mut launched: Launched) -> (O::Tensors, Saved) {
        let (request, operands) = launched.asked.take().expect("a launch that saves is told so");
        let outputs = launched.outputs.clone();
        launched.outputs.truncate(request.spec.outputs.len());
        let saved = Saved { request, operands, outputs, rows: launched.rows.clone() };
        (O::of(launched), saved)
    }
}
