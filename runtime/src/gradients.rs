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
use crate::tensor::{Tensor, contiguous_strides};
use crate::validate;
use purview_compiler::analysis::ranges::check_tiles;
use purview_compiler::backward::{Derived, Given, RowNumbers, Source, Wanted};
use purview_compiler::emit::binding::{KeySetData, LaunchData};
use purview_compiler::emit::captured::Split;
use purview_compiler::emit::parts::{self, PartData, PartsData};
use purview_compiler::emit::{launch, rows};
use purview_compiler::ir::forward::{Form, Operands};
use purview_compiler::ir::{Axis, Captured, Element, Kept, Program, RowNumber};
use purview_compiler::lower::runtime_scalars;
use purview_compiler::passes;
use purview_compiler::scheduled::{Compiled, Scheduled};
use purview_compiler::spec::{Accumulator, MAX_OUTPUTS, ScalarType, Spec, TensorType};
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
    /// Of which operands the gradients are wanted.
    wanted: Vec<bool>,
    /// Of what is captured likewise.
    captured: Vec<Captured>,
}

/// The gradients of an attention: of operands and captured tensors, each of its shape and type, and of scalars, `[1]` in f32.
#[derive(Clone, Debug)]
pub struct Gradients {
    names: Vec<String>,
    operands: Vec<Option<Tensor>>,
    captured: Vec<(String, Tensor)>,
}

impl Gradients {
    /// That of what is called `name` in the signature, or of `scale()`; `None` where it was not asked for.
    pub fn of(&self, name: &str) -> Option<&Tensor> {
        if let Some(place) = self.names.iter().position(|known| known == name) {
            return self.operands[place].as_ref();
        }
        self.captured.iter().find(|(known, _)| known == name).map(|(_, gradient)| gradient)
    }

    /// Those of the operands in the order of the signature; `None` of those that were not asked for.
    pub fn operands(&self) -> &[Option<Tensor>] {
        &self.operands
    }
}

impl Saved {
    /// The same, for the gradients of what is called `names` in the signature: operands, captured tensors and scalars of floats; and
    /// `scale()`. Of what is not named nothing is computed.
    ///
    /// A gradient of something captured is added up in an order that the shapes fix. Beside it that may take up to 64 MiB.
    ///
    /// # Errors
    /// [`Error::NoGradientOf`] for another name: of nothing, of integers or truth values, or of a scalar that is known when the attention is
    /// compiled.
    ///
    /// # Examples
    /// ```
    /// # use purview::prelude::*;
    /// /// Attention with linear biases (Press et al., 2022).
    /// #[attention]
    /// fn alibi(q: Query, k: Key, v: Value, slope: Tensor<f32, 1>) -> Output {
    ///     for i in q.tiles() {
    ///         let mut o = Softmax::new();
    ///         for j in k.tiles() {
    ///             let s = dot(q[i], k[j]) * scale() - slope[head()] * ((i - j) as f32);
    ///             o.push(mask(s, j <= i), v[j]);
    ///         }
    ///         o
    ///     }
    /// }
    /// # fn main() -> Result<(), Error> {
    /// let device = Device::cpu()?;
    /// let slope = Tensor::from_slice(&device, [2], &[0.5f32, 0.25])?;
    /// let q = Tensor::from_slice(&device, [1, 2, 3, 4], &[0.1f32; 24])?;
    /// let (out, saved) = alibi(&slope).with_gradients().run(&device, &q, &q, &q)?;
    /// let gradients = saved.only(&["q", "slope"])?.backward(&out)?;
    /// assert_eq!(gradients.of("slope").unwrap().shape(), [2]);
    /// assert!(gradients.of("k").is_none());
    /// # Ok(())
    /// # }
    /// ```
    pub fn only(&self, names: &[&str]) -> Result<Saved, Error> {
        let Wanted { operands: wanted, captured, .. } = wanted(&self.request.spec, Some(names))?;
        Ok(Saved { wanted, captured, ..self.clone() })
    }

    /// The gradients of all operands, or of what was [asked for](Self::only), where `d_out` is that of the output: `[B, H, S, Dv]`, of its type,
    /// of any strides.
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
        self.differentiate(d_outputs, None)
    }

    /// As [`Saved::backward`], where `d_lse` is the gradient of the log-sum-exp, `[B, H, S]` in f32: as of results that were
    /// [merged](crate::merge) afterwards.
    ///
    /// # Errors
    /// As [`Saved::backward`], and [`Error::NoRowNumber`] of an attention without a log-sum-exp.
    pub fn backward_with_lse(&self, d_out: &Tensor, d_lse: &Tensor) -> Result<Gradients, Error> {
        self.differentiate(&[d_out], Some(d_lse))
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

    fn differentiate(&self, d_outputs: &[&Tensor], d_lse: Option<&Tensor>) -> Result<Gradients, Error> {
        self.check(d_outputs, d_lse)?;
        let request = &self.request;
        let references: Vec<&Tensor> = self.operands.iter().collect();
        let operation = validate::operands(request, &references)?;
        let programs = cache::programs(request, &operation.operands)?;
        let (operands, captured) = (self.wanted.clone(), self.captured.clone());
        let wanted = Wanted { operands, captured, of_lse: d_lse.is_some() };
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
        let operands = found.collect::<Result<_, Error>>()?;
        let names_of_captured = captured_floats(&request.spec);
        let captured = self.captured.iter().filter_map(|captured| {
            let (name, _) = names_of_captured.iter().find(|(_, known)| known == captured)?;
            Some(step.captured_gradient(*captured, name).map(|gradient| (name.clone(), gradient)))
        });
        Ok(Gradients { names, operands, captured: captured.collect::<Result<_, Error>>()? })
    }
}

/// The gradients of what is called `names`, or of all that `spec` has some of.
pub(crate) fn wanted(spec: &Spec, names: Option<&[&str]>) -> Result<Wanted, Error> {
    let of_captured = captured_floats(spec);
    let operands = spec.operands.iter().map(|param| param.name.clone());
    let known: Vec<String> = operands.chain(of_captured.iter().map(|(name, _)| name.clone())).collect();
    if let Some(unknown) = names.into_iter().flatten().find(|name| !known.iter().any(|known| known == *name)) {
        let (attention, name) = (spec.name.clone(), (*unknown).into());
        return Err(Error::NoGradientOf { attention, name, known: known.join(", ") });
    }
    let is_wanted = |name: &str| names.is_none_or(|names| names.contains(&name));
    let captured = of_captured.into_iter().filter(|(name, _)| is_wanted(name)).map(|(_, captured)| captured);
    Ok(Wanted {
        operands: spec.operands.iter().map(|param| is_wanted(&param.name)).collect(),
        captured: captured.collect(),
        of_lse: false,
    })
}

/// What is captured of floats, with its name: gradients of that can be asked for.
fn captured_floats(spec: &Spec) -> Vec<(String, Captured)> {
    let is_float = |ty: TensorType| matches!(ty, TensorType::F32 | TensorType::F16 | TensorType::Bf16);
    let tensors = spec.tensors.iter().enumerate().filter(|(_, param)| is_float(param.ty));
    let tensors = tensors.map(|(place, param)| (param.name.clone(), Captured::Tensor(place)));
    let scalars = spec.scalars.iter().filter(|param| !param.comptime).enumerate();
    let scalars = scalars.filter(|(_, param)| param.ty == ScalarType::F32);
    let scalars = scalars.map(|(place, param)| (param.name.clone(), Captured::Scalar(place)));
    tensors.chain(scalars).chain([("scale()".to_string(), Captured::Scale)]).collect()
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
    fn rows(&self, derived: &Derived, operands: &[&Tensor]) -> Rows {
        let program = &derived.program;
        let &Operation { heads, queries, query_offset, .. } = self.operation;
        let Axis::Keys(set) = program.rows else { return Rows { heads, length: queries, offset: query_offset } };
        let keys = self.operation.keys[set];
        // As many as serve all that lies along them: each number divides the query heads.
        let of_rows = program.operands.iter().zip(operands).filter(|(operand, _)| operand.axis == program.rows);
        let of_rows = of_rows.map(|(_, tensor)| tensor.shape()[1]);
        let of_outputs = derived.outputs.iter().filter_map(|given| match given {
            Given::Gradient(place) => Some(self.saved.operands[*place].shape()[1]),
            _ => None,
        });
        let heads = of_rows.chain(of_outputs).fold(1, least_common_multiple);
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
            let shape = [batch, heads, rows, dim];
            let data = PartsData { element, in_f32: false, parts: parts.collect(), shape, output };
            parts::launch(self.device.client(), data);
        }
        Ok(output)
    }

    /// The shape of what is captured.
    fn captured_shape(&self, captured: Captured) -> &[usize] {
        match captured {
            Captured::Tensor(place) => self.saved.request.tensors[place].shape(),
            Captured::Scalar(_) | Captured::Scale => &[1],
        }
    }

    /// The gradient of what is captured, which is called `name`: the sum of all copies of sums like it.
    fn captured_gradient(&self, captured: Captured, name: &str) -> Result<Tensor, Error> {
        let shape = self.captured_shape(captured);
        let elements = shape.iter().product();
        let dtype = match captured {
            Captured::Tensor(place) => self.saved.request.tensors[place].dtype(),
            Captured::Scalar(_) | Captured::Scale => Element::F32.into(),
        };
        let parts = self.given.iter().filter(|(given, _)| *given == Given::Captured(captured));
        let parts: Vec<&Tensor> = parts.map(|(_, copies)| copies).collect();
        if let [one] = parts[..]
            && one.shape()[1] == 1
            && one.dtype() == dtype
        {
            return one.view(0, shape, contiguous_strides(shape));
        }
        let output = Tensor::empty(self.device, dtype, shape.to_vec(), &format!("the gradient of `{name}`"))?;
        if let Some(element) = dtype.element()
            && elements > 0
        {
            let parts = parts.iter().map(|copies| PartData {
                data: copies.operand(None),
                heads: copies.shape()[1],
                dim: elements,
            });
            let (parts, output) = (parts.collect(), output.buffer());
            let data = PartsData { element, in_f32: true, parts, shape: [1, 1, 1, elements], output };
            parts::launch(self.device.client(), data);
        }
        Ok(output)
    }

    /// Zeros for the copies of sums like what is captured: `[1, copies, 1, elements]` in f32.
    fn copies(&self, captured: Captured, split: impl FnOnce(usize) -> Split) -> Result<Tensor, Error> {
        let elements = self.captured_shape(captured).iter().product();
        let Split { copies, .. } = split(elements);
        let sums = Tensor::empty(self.device, Element::F32.into(), vec![1, copies, 1, elements], "a gradient")?;
        if elements > 0 {
            parts::clear(self.device.client(), sums.buffer());
        }
        Ok(sums)
    }

    /// What `derived` gives.
    fn launch(&self, derived: &Derived) -> Result<Vec<Tensor>, Error> {
        let request = &self.saved.request;
        let Operation { batch, heads, keys, .. } = self.operation;
        let program = Compiled::new(derived.program.clone());
        let tensors: Vec<&Tensor> = derived.operands.iter().map(|source| self.operand(*source)).collect();
        let of_rows = self.rows(derived, &tensors);
        let of_queries = program.rows == Axis::Queries;
        let scheduled = match program.loops[..] {
            [] => None,
            _ => Some(self.scheduled(&program, of_rows.length)?),
        };
        let shape = [*batch, of_rows.heads, of_rows.length];
        let outputs = match program.captured {
            None => {
                let outputs = program.outputs.iter().map(|output| {
                    let shape = [&shape[..], &[output.dim]].concat();
                    Tensor::empty(self.device, output.element.into(), shape, "a gradient")
                });
                outputs.collect::<Result<Vec<_>, Error>>()?
            }
            Some(captured) => {
                let split = |elements| match &scheduled {
                    Some(scheduled) => launch::split(&program, scheduled.schedule(), shape, elements),
                    None => Split::of_rows(shape.iter().product(), elements),
                };
                vec![self.copies(captured, split)?]
            }
        };
        if shape.contains(&0) || outputs.iter().any(|output| output.shape().contains(&0)) {
            return Ok(outputs);
        }
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
            copies: if program.captured.is_some() { outputs[0].shape()[1] } else { 1 },
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
            // A loop may have no product.
            operands: Operands { qk_dim: program.sizes().qk_dim.max(1), ..program.sizes() },
            value_dim: program.memory_sizes().v_dim.max(1),
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
        let wanted = vec![true; operands.len()];
        let rows = launched.rows.clone();
        let saved = Saved { request, operands, outputs, rows, wanted, captured: Vec::new() };
        (O::of(launched), saved)
    }
}
