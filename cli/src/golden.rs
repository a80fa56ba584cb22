//! Golden cases: inputs and results from elsewhere, that a variant is compared with.
//!
//! A directory of cases has a `manifest.json`, a list of cases; a `minilm.json`, whose `cases` is such a list; or both. A case
//! has a `name`, its formula in words (`text`), scalar `params` and a file `<name>.safetensors`. In it `q`, `k` and `v` are what
//! goes in, or, for an attention of other tensors than these, those with the names of its parameters; `out` and perhaps `lse` are what must
//! come out; `dq`, `dk`, `dv` and `d_*` are the gradients where that of `out` is `w`, and every other
//! tensor is one that the attention captures. One with the name of an operand and `_norms` holds the squared norms of its rows: what it
//! gives is part of the operand's gradient. Of the params, `scale` and `q_offset` are options of a launch and the others
//! scalars of the attention.
//!
//! ```no_run
//! # use purview::{Device, Variant, ir::Element};
//! # use purview_cli::golden;
//! # fn show(variant: &Variant) -> Result<(), golden::GoldenError> {
//! for case in golden::load("tests/golden".as_ref())? {
//!     let errors = case.run(variant, &Device::cpu()?, Element::F32)?;
//!     println!("{:24} {errors} {}", case.name, if errors.within(&case.tolerance(Element::F32)) { "pass" } else { "FAIL" });
//! }
//! # Ok(())
//! # }
//! ```

#[cfg(feature = "emit")]
use crate::ptx::{self, PtxError};
use half::{bf16, f16};
use purview::{AnyAttention, Arguments, Device, Error, Shape, Tensor, Variant};
#[cfg(feature = "emit")]
use purview_compiler::device_model::DeviceModel;
use purview_compiler::expr::Type;
use purview_compiler::interpret::Reference;
use purview_compiler::ir::Element;
use purview_compiler::spec::{Role, Spec};
#[cfg(feature = "emit")]
use purview_nvidia::ptx::Counts;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use thiserror::Error as ThisError;

/// A case.
#[derive(Clone, Debug)]
pub struct GoldenCase {
    /// Its name.
    pub name: String,
    /// Its formula, in words.
    pub text: String,
    /// Whether it was computed in f32, so that it can be met less closely than one computed in f64.
    single: bool,
    params: BTreeMap<String, f64>,
    tensors: BTreeMap<String, GoldenArray>,
}

/// Why there are no cases, or why one could not be run.
#[derive(Clone, Debug, ThisError)]
#[non_exhaustive]
pub enum GoldenError {
    /// A file that could not be read, or has not the form described above.
    #[error("{path}: {reason}")]
    File {
        /// The file.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// A case without a tensor that its attention takes.
    #[error("the case `{case}` has no `{name}` of four dimensions of F32")]
    Operand {
        /// The case.
        case: String,
        /// The tensor.
        name: String,
    },
    /// A case with a log-sum-exp, for an attention that has none.
    #[error("the case `{case}` has a log-sum-exp, and `{attention}` has none")]
    Lse {
        /// The case.
        case: String,
        /// The attention.
        attention: String,
    },
    /// A case of an attention with several outputs: a case has one, `out`.
    #[error("the case `{case}` has one output, and `{attention}` has {outputs}")]
    Outputs {
        /// The case.
        case: String,
        /// The attention.
        attention: String,
        /// How many outputs it has.
        outputs: usize,
    },
    /// A case with gradients, but none by something that its attention takes.
    #[error("the case `{case}` has no gradient by `{name}`")]
    Gradient {
        /// The case.
        case: String,
        /// The operand or the captured tensor.
        name: String,
    },
    /// The attention refused the case, or failed.
    #[error(transparent)]
    Run(#[from] Error),
    /// The kernel's PTX failed.
    #[cfg(feature = "emit")]
    #[error(transparent)]
    Ptx(#[from] PtxError),
}

/// An output, and a log-sum-exp if the attention has one.
type Results = (Vec<f32>, Option<Vec<f32>>);

/// The largest errors of a case.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Errors {
    /// Of the output, as [`relative_error`] has it; as a limit, the largest one allowed.
    pub out: f64,
    /// Of the log-sum-exp, where the case has one.
    pub lse: Option<f64>,
}

impl Errors {
    /// Whether neither is above its limit. What is NaN is not.
    pub fn within(&self, limit: &Errors) -> bool {
        let lse = match (self.lse, limit.lse) {
            (Some(lse), Some(limit)) => lse <= limit,
            (None, _) => true,
            (Some(_), None) => false,
        };
        self.out <= limit.out && lse
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "out {:8.1e}  lse ", self.out)?;
        match self.lse {
            Some(lse) => write!(f, "{lse:8.1e}"),
            None => write!(f, "{:>8}", "none"),
        }
    }
}

/// A tensor of a case, in memory.
#[derive(Clone, Debug)]
struct GoldenArray {
    shape: Vec<usize>,
    data: Data,
}

#[derive(Clone, Debug)]
enum Data {
    F32(Vec<f32>),
    I32(Vec<i32>),
    Bool(Vec<bool>),
}

/// The cases of `directory`, in the order they are listed.
///
/// # Errors
/// [`GoldenError::File`].
pub fn load(directory: &Path) -> Result<Vec<GoldenCase>, GoldenError> {
    let mut cases = Vec::new();
    let manifests = [("manifest.json", "", false), ("minilm.json", "/cases", true)];
    let mut found = false;
    for (name, list, single) in manifests {
        let path = directory.join(name);
        if !path.exists() {
            continue;
        }
        found = true;
        let text = std::fs::read(&path).map_err(|error| file_error(&path, error))?;
        let manifest: Value = serde_json::from_slice(&text).map_err(|error| file_error(&path, error))?;
        let list = manifest.pointer(list).and_then(Value::as_array);
        for case in list.ok_or_else(|| file_error(&path, "there is no list of cases"))? {
            cases.push(load_case(directory, &path, case, single)?);
        }
    }
    if found { Ok(cases) } else { Err(file_error(directory, "it has neither a manifest.json nor a minilm.json")) }
}

fn load_case(directory: &Path, manifest: &Path, case: &Value, single: bool) -> Result<GoldenCase, GoldenError> {
    let name = case["name"].as_str().ok_or_else(|| file_error(manifest, "a case has no name"))?;
    let no_number = |param: &str| file_error(manifest, format!("`{param}` of `{name}` is not a number"));
    let params = case["params"].as_object().into_iter().flatten().map(|(param, value)| {
        let value = value.as_f64().or(value.as_bool().map(f64::from)).ok_or_else(|| no_number(param))?;
        Ok((param.clone(), value))
    });
    let params = params.collect::<Result<_, GoldenError>>()?;

    let path = directory.join(format!("{name}.safetensors"));
    let bytes = std::fs::read(&path).map_err(|error| file_error(&path, error))?;
    let file = SafeTensors::deserialize(&bytes).map_err(|error| file_error(&path, error))?;
    let mut tensors = BTreeMap::new();
    for (tensor, view) in file.iter() {
        let data = match view.dtype() {
            Dtype::F32 => Data::F32(words(view.data()).map(f32::from_le_bytes).collect()),
            Dtype::I32 => Data::I32(words(view.data()).map(i32::from_le_bytes).collect()),
            Dtype::BOOL | Dtype::U8 => Data::Bool(view.data().iter().map(|byte| *byte != 0).collect()),
            other => return Err(file_error(&path, format!("`{tensor}` holds {other:?}, expected F32, I32 or BOOL"))),
        };
        tensors.insert(tensor.to_string(), GoldenArray { shape: view.shape().to_vec(), data });
    }
    match tensors.get("out") {
        Some(GoldenArray { shape, data: Data::F32(_) }) if shape.len() == 4 => {}
        _ => return Err(file_error(&path, "there is no `out` of four dimensions of F32")),
    }
    let text = case["text"].as_str().unwrap_or_default().to_string();
    Ok(GoldenCase { name: name.to_string(), text, single, params, tensors })
}

fn words(bytes: &[u8]) -> impl Iterator<Item = [u8; 4]> {
    bytes.as_chunks().0.iter().copied()
}

fn file_error(path: &Path, reason: impl fmt::Display) -> GoldenError {
    GoldenError::File { path: path.display().to_string(), reason: reason.to_string() }
}

impl GoldenCase {
    /// The sizes that its results tell, in `element`.
    fn shape_of_results(&self, element: Element) -> Shape {
        let &[batch, heads, queries, dim] = &self.tensors["out"].shape[..] else {
            unreachable!("checked when it was loaded")
        };
        Shape::new(batch, heads, queries, dim).with_element(element)
    }

    /// The tensors that `spec` takes along queries and keys: those with the names of its parameters, or `q`, `k` and `v`.
    fn operands(&self, spec: &Spec) -> Result<Vec<&GoldenArray>, GoldenError> {
        let named = operand_names(spec).into_iter().map(|name| {
            let array = self.tensors.get(name).filter(|array| array.shape.len() == 4);
            let floats = array.filter(|array| matches!(array.data, Data::F32(_)));
            floats.ok_or_else(|| GoldenError::Operand { case: self.name.clone(), name: name.into() })
        });
        named.collect()
    }

    /// The shape of what `spec` takes along queries and keys, in `element`.
    fn shape(&self, spec: &Spec, element: Element) -> Result<Shape, GoldenError> {
        let operands = self.operands(spec)?;
        let mut shape = self.shape_of_results(element);
        let of_set = |set| (0..operands.len()).find(|place| spec.operands[*place].role.set() == Some(set));
        let first = of_set(0).map(|place| operands[place]);
        shape.kv_heads = first.map_or(shape.heads, |first| first.shape[1]);
        shape.qk_dim = operands.first().map_or(shape.qk_dim, |first| first.shape[3]);
        shape.keys = (0..spec.sets()).filter_map(of_set).map(|place| operands[place].shape[2]).collect();
        for (param, operand) in spec.operands.iter().zip(operands) {
            if spec.pairs().is_none() {
                shape.dims.push((param.name.clone(), operand.shape[3]));
            }
            if param.role != Role::Query && operand.shape[1] != shape.kv_heads {
                shape.key_heads.push((param.name.clone(), operand.shape[1]));
            }
        }
        Ok(shape)
    }

    /// Its scalars.
    fn scalars(&self) -> BTreeMap<String, f64> {
        let is_option = |name: &str| matches!(name, "scale" | "q_offset");
        let scalars = self.params.iter().filter(|(name, _)| !is_option(name));
        scalars.map(|(name, value)| (name.clone(), *value)).collect()
    }

    /// The tensors that `spec` captures, on `device`.
    fn captured(&self, spec: &Spec, device: &Device) -> Result<BTreeMap<String, Tensor>, Error> {
        let is_operand = |name: &str| spec.operands.iter().any(|param| param.name == name);
        let is_captured = |name: &str| {
            !matches!(name, "q" | "k" | "v" | "out" | "lse" | "w" | "dq" | "dk" | "dv")
                && !name.starts_with("d_")
                && !is_operand(name)
        };
        let captured = self.tensors.iter().filter(|(name, _)| is_captured(name));
        let captured = captured.map(|(name, GoldenArray { shape, data })| {
            let tensor = match data {
                Data::F32(data) => Tensor::from_slice(device, shape.as_slice(), data)?,
                Data::I32(data) => Tensor::from_slice(device, shape.as_slice(), data)?,
                Data::Bool(data) => Tensor::from_slice(device, shape.as_slice(), data)?,
            };
            Ok((name.clone(), tensor))
        });
        captured.collect()
    }

    /// Its attention: `variant` with its arguments, scale and query offset.
    ///
    /// # Errors
    /// As the variant's, and [`GoldenError::Operand`].
    pub fn attention(&self, variant: &Variant, device: &Device, element: Element) -> Result<AnyAttention, GoldenError> {
        let mut arguments = Arguments::new(device.clone(), self.shape_of_results(element));
        arguments.scalars = self.scalars();
        // What it takes is known when it is made, and how large that is may decide how it is made.
        let taking = (variant.make)(&arguments)?;
        arguments.shape = self.shape(taking.spec(), element)?;
        arguments.tensors = self.captured(taking.spec(), device)?;
        let mut attention = (variant.make)(&arguments)?;
        if let Some(scale) = self.params.get("scale") {
            attention = attention.with_scale(*scale as f32);
        }
        if let Some(offset) = self.params.get("q_offset") {
            attention = attention.with_query_offset(*offset as i64);
        }
        Ok(attention)
    }

    /// Runs it by `variant` on `device`, and compares. In f32 the results are compared with the case's own. In f16 and bf16 the
    /// inputs are rounded first, which in some cases moves the results much further than any kernel does; so they are compared
    /// with the reference on the rounded inputs.
    ///
    /// # Errors
    /// As [`AnyAttention::run`] and [`AnyAttention::reference`].
    pub fn run(&self, variant: &Variant, device: &Device, element: Element) -> Result<Errors, GoldenError> {
        self.compare(variant, device, element, |attention, operands| {
            let (out, lse) = attention.run_operands_with_lse_if_any(device, operands)?;
            Ok((out.to_vec()?, lse.map(|lse| lse.to_vec()).transpose()?))
        })
    }

    /// Whether it has gradients.
    pub fn has_gradients(&self) -> bool {
        self.tensors.get("w").is_some_and(|w| matches!(w.data, Data::F32(_)))
    }

    /// The largest error of the gradient of each operand and captured tensor of floats by `variant` on `device`, where that of the output is
    /// the case's weights, with the name that it has in the case's file; nothing for a case without gradients. As [`GoldenCase::run`], in f16
    /// and bf16 they are compared with the reference's on rounded inputs.
    ///
    /// # Errors
    /// As [`AnyAttention::run`] and [`Saved::backward`](purview::Saved::backward), and [`GoldenError::Gradient`].
    pub fn run_backward(
        &self,
        variant: &Variant,
        device: &Device,
        element: Element,
    ) -> Result<Vec<(String, f64)>, GoldenError> {
        let Some(w) = self.tensors.get("w").filter(|_| self.has_gradients()) else { return Ok(Vec::new()) };
        let attention = self.attention(variant, device, element)?;
        let spec = attention.spec();
        let arrays = self.operands(spec)?;
        let operands = arrays.iter().map(|array| operand(array, device, element));
        let operands = operands.collect::<Result<Vec<_>, _>>()?;
        let operands: Vec<&Tensor> = operands.iter().collect();
        let d_out = operand(w, device, element)?;
        let (_, saved) = attention.run_operands_with_gradients(device, &operands)?;
        let of_tensors = spec.tensors.iter().filter(|param| param.ty.ty() == Type::Float).map(|param| &param.name);
        let names: Vec<&str> =
            spec.operands.iter().map(|param| &param.name).chain(of_tensors).map(String::as_str).collect();
        let gradients = saved.only(&names)?.backward(&d_out)?;
        let floats = |name: &String| {
            let gradient = gradients.of(name).map(|of| of.to_vec::<f32>()).transpose()?;
            Ok::<_, Error>(gradient.map(|of| of.into_iter().map(f64::from).collect::<Vec<_>>()))
        };
        let found: Vec<Option<Vec<f64>>> =
            spec.operands.iter().map(|param| floats(&param.name)).collect::<Result<_, _>>()?;
        let found: Vec<Vec<f64>> = found.into_iter().flatten().collect();
        let of_tensors: Vec<Option<Vec<f64>>> =
            spec.tensors.iter().map(|param| floats(&param.name)).collect::<Result<_, _>>()?;
        if element == Element::F32 {
            return self.gradient_errors(spec, found, of_tensors);
        }
        let want = attention.reference_gradients(&operands, &[&d_out], None)?;
        let of_operands = spec.operands.iter().map(|param| &param.name).zip(found.iter().zip(&want.operands));
        let of_tensors = spec.tensors.iter().map(|param| &param.name).zip(&of_tensors).zip(&want.tensors);
        let of_tensors = of_tensors.filter_map(|((name, found), want)| Some((name, (found.as_ref()?, want.as_ref()?))));
        // What is the same for all scores of a row has a gradient of nothing, and is all rounding of the output: norms of queries are.
        let of_tensors = of_tensors.filter(|(name, _)| !name.ends_with("_norms"));
        let errors = of_operands.chain(of_tensors);
        Ok(errors.map(|(name, (found, want))| (format!("d_{name}"), gradient_error(found, &want.data))).collect())
    }

    /// The largest errors of the reference by `variant`: in f64, on the case's own numbers.
    ///
    /// # Errors
    /// As [`AnyAttention::reference`].
    pub fn run_reference(&self, variant: &Variant) -> Result<Errors, GoldenError> {
        self.compare(variant, &Device::cpu()?, Element::F32, |attention, operands| {
            let found = attention.reference_operands(operands)?;
            let single = |data: &[f64]| data.iter().map(|x| *x as f32).collect();
            Ok((single(&found.out.data), Some(single(&found.lse.data))))
        })
    }

    /// The same, by the PTX of the kernel for `model`, on the CPU: see [`ptx`]. Returns also what the launch cost.
    ///
    /// # Errors
    /// As [`AnyAttention::ptx_launch`], [`ptx::run`] and [`AnyAttention::reference`].
    #[cfg(feature = "emit")]
    pub fn run_ptx(
        &self,
        variant: &Variant,
        model: &DeviceModel,
        element: Element,
    ) -> Result<(Errors, Counts), GoldenError> {
        let mut counts = Counts::default();
        let errors = self.compare(variant, &Device::cpu()?, element, |attention, operands| {
            let results = ptx::run(&attention.ptx_launch_operands(model, operands)?)?;
            counts = results.counts;
            Ok((results.out, results.lse))
        })?;
        Ok((errors, counts))
    }

    /// The largest error of each gradient by the reference, with the name that it has in the case's file; nothing for a case without
    /// gradients.
    ///
    /// # Errors
    /// As [`AnyAttention::reference_gradients`], and [`GoldenError::Gradient`].
    pub fn run_reference_gradients(&self, variant: &Variant) -> Result<Vec<(String, f64)>, GoldenError> {
        let Some(w) = self.tensors.get("w").filter(|_| self.has_gradients()) else { return Ok(Vec::new()) };
        let device = Device::cpu()?;
        let attention = self.attention(variant, &device, Element::F32)?;
        let spec = attention.spec();
        let arrays = self.operands(spec)?;
        let operands =
            arrays.iter().map(|array| operand(array, &device, Element::F32)).collect::<Result<Vec<_>, _>>()?;
        let operands: Vec<&Tensor> = operands.iter().collect();
        let d_out = operand(w, &device, Element::F32)?;
        let gradients = attention.reference_gradients(&operands, &[&d_out], None)?;
        let of_tensors = gradients.tensors.into_iter().map(|of| of.map(|of| of.data)).collect();
        self.gradient_errors(spec, gradients.operands.into_iter().map(|of| of.data).collect(), of_tensors)
    }

    /// The errors of the gradients of what `spec` takes along queries and keys, and of what it captures.
    fn gradient_errors(
        &self,
        spec: &Spec,
        mut operands: Vec<Vec<f64>>,
        tensors: Vec<Option<Vec<f64>>>,
    ) -> Result<Vec<(String, f64)>, GoldenError> {
        let names = operand_names(spec);
        let arrays = self.operands(spec)?;
        let mut errors = Vec::new();
        for (param, of_tensor) in spec.tensors.iter().zip(&tensors) {
            let Some(of_tensor) = of_tensor else { continue };
            let Some(of) = names.iter().position(|name| param.name == format!("{name}_norms")) else {
                errors.push(self.gradient_error(&[format!("d_{}", param.name)], of_tensor, &param.name)?);
                continue;
            };
            // The derivative of a row's squared norm is twice the row.
            let dim = arrays[of].shape[3];
            let rows = self.floats(names[of]);
            for ((row, d_row), d) in rows.chunks(dim).zip(operands[of].chunks_mut(dim)).zip(of_tensor) {
                d_row.iter_mut().zip(row).for_each(|(d_element, element)| *d_element += 2.0 * element * d);
            }
        }
        for (name, of_operand) in names.iter().zip(&operands) {
            errors.push(self.gradient_error(&[format!("d{name}"), format!("d_{name}")], of_operand, name)?);
        }
        Ok(errors)
    }

    /// The error of the gradient by `name`, which has one of these names in the file.
    fn gradient_error(&self, stored: &[String], found: &[f64], name: &str) -> Result<(String, f64), GoldenError> {
        let missing = || GoldenError::Gradient { case: self.name.clone(), name: name.into() };
        let stored = stored.iter().find(|stored| self.tensors.contains_key(*stored)).ok_or_else(missing)?;
        Ok((stored.clone(), relative_error(found, &self.floats(stored))))
    }

    fn has_lse(&self) -> bool {
        self.tensors.contains_key("lse")
    }

    /// The errors of the output and log-sum-exp that `compute` makes of the attention and its operands.
    fn compare(
        &self,
        variant: &Variant,
        device: &Device,
        element: Element,
        compute: impl FnOnce(&AnyAttention, &[&Tensor]) -> Result<Results, GoldenError>,
    ) -> Result<Errors, GoldenError> {
        let attention = self.attention(variant, device, element)?;
        if self.has_lse() && !attention.spec().has_lse() {
            return Err(GoldenError::Lse { case: self.name.clone(), attention: attention.spec().name.clone() });
        }
        let outputs = attention.spec().outputs.len();
        if outputs != 1 {
            let (case, attention) = (self.name.clone(), attention.spec().name.clone());
            return Err(GoldenError::Outputs { case, attention, outputs });
        }
        let arrays = self.operands(attention.spec())?;
        let operands = arrays.into_iter().map(|array| operand(array, device, element));
        let operands = operands.collect::<Result<Vec<_>, Error>>()?;
        let operands: Vec<&Tensor> = operands.iter().collect();
        let (out, lse) = compute(&attention, &operands)?;
        let (want_out, want_lse) = match element {
            Element::F32 => (self.floats("out"), self.has_lse().then(|| self.floats("lse"))),
            Element::F16 | Element::Bf16 => {
                let reference = attention.reference_operands(&operands)?;
                (reference.out.data, self.has_lse().then_some(reference.lse.data))
            }
        };
        let lse = lse.zip(want_lse).map(|(lse, want)| relative_error(&lse, &want));
        Ok(Errors { out: relative_error(&out, &want_out), lse })
    }

    /// The largest errors with which it passes.
    pub fn tolerance(&self, element: Element) -> Errors {
        match element {
            Element::F32 if self.single => Errors { out: 1e-4, lse: Some(1e-4) },
            Element::F32 => Errors { out: 2e-5, lse: Some(1e-4) },
            Element::F16 => Errors { out: 2e-3, lse: Some(2e-3) },
            // Eight bits of precision against eleven.
            Element::Bf16 => Errors { out: 1.6e-2, lse: Some(2e-3) },
        }
    }

    /// The largest error of a gradient with which it passes. In f32 a log-sum-exp of 10⁴ has 10⁻³, and so have gradients. In bf16 two cases add
    /// up what the rounding of the output leaves in each row: scores of 10⁴ weigh one key, and distances do not cancel.
    pub fn gradient_tolerance(&self, element: Element) -> f64 {
        match element {
            Element::F32 if self.name == "large_logits" => 1e-3,
            Element::Bf16 if matches!(self.name.as_str(), "large_logits" | "point_distance") => 2.5e-2,
            Element::F32 => 2e-5,
            Element::F16 | Element::Bf16 => 1e-2,
        }
    }

    fn floats(&self, name: &str) -> Vec<f64> {
        match &self.tensors[name].data {
            Data::F32(data) => data.iter().map(|x| f64::from(*x)).collect(),
            // No number is near enough to these.
            Data::I32(data) => vec![f64::NAN; data.len()],
            Data::Bool(data) => vec![f64::NAN; data.len()],
        }
    }
}

/// The names that what `spec` takes along queries and keys has in a file: those of its parameters, or `q`, `k` and `v`.
fn operand_names(spec: &Spec) -> Vec<&str> {
    let pair = spec.pairs().filter(|(_, pairs)| pairs.len() == 1);
    let named = spec.operands.iter().enumerate().map(|(place, param)| match &pair {
        Some((query, _)) if place == *query => "q",
        Some((_, pairs)) if place == pairs[0].0 => "k",
        Some(_) => "v",
        None => &param.name,
    });
    named.collect()
}

/// An array of floats on `device`, in `element`.
fn operand(array: &GoldenArray, device: &Device, element: Element) -> Result<Tensor, Error> {
    let GoldenArray { shape, data: Data::F32(data) } = array else {
        unreachable!("what is taken along queries and keys is F32")
    };
    let shape = shape.as_slice();
    match element {
        Element::F32 => Tensor::from_slice(device, shape, data),
        Element::F16 => Tensor::from_slice(device, shape, &data.iter().map(|x| f16::from_f32(*x)).collect::<Vec<_>>()),
        Element::Bf16 => {
            Tensor::from_slice(device, shape, &data.iter().map(|x| bf16::from_f32(*x)).collect::<Vec<_>>())
        }
    }
}

/// The largest distance of `got` from `want`, relative to the largest magnitude among the finite numbers of `want` (absolute if
/// that is zero). It is infinite where the lengths differ, where either is NaN, and where one is infinite and the other not the
/// same.
pub fn relative_error<T: Copy + Into<f64>>(got: &[T], want: &[f64]) -> f64 {
    if got.len() != want.len() {
        return f64::INFINITY;
    }
    let largest = want.iter().filter(|x| x.is_finite()).fold(0.0, |largest: f64, x| largest.max(x.abs()));
    let unit = if largest > 0.0 { largest } else { 1.0 };
    let error = |(got, want): (&T, &f64)| match (*got).into() - want {
        _ if (*got).into() == *want => 0.0,
        difference if difference.is_finite() => difference.abs() / unit,
        _ => f64::INFINITY,
    };
    got.iter().zip(want).map(error).fold(0.0, f64::max)
}

/// The largest distance of a gradient `got` from `want`, relative to the largest magnitude of `want`, or to a twentieth where that is more: of a
/// gradient that is nothing, rounding is all that is seen.
pub fn gradient_error<T: Copy + Into<f64>>(got: &[T], want: &[f64]) -> f64 {
    let largest = want.iter().filter(|x| x.is_finite()).fold(0.0, |largest: f64, x| largest.max(x.abs()));
    let unit = if largest > 0.0 { largest } else { 1.0 };
    relative_error(got, want) * unit / largest.max(0.05)
}

/// The largest [`relative_error`] of the outputs of an attention. It is infinite where there is another number of them than in `want`.
pub fn outputs_error(got: &[impl AsRef<[f32]>], want: &Reference) -> f64 {
    let want: Vec<_> = want.outputs().collect();
    if got.len() != want.len() {
        return f64::INFINITY;
    }
    got.iter().zip(want).map(|(got, want)| relative_error(got.as_ref(), &want.data)).fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn infinities_must_be_met_and_nan_never_passes() {
        let (minus, nan) = (f32::NEG_INFINITY, f32::NAN);
        assert_eq!(relative_error(&[1.0, -4.5], &[1.0, -4.0]), 0.125);
        assert_eq!(relative_error(&[0.25], &[0.0]), 0.25);
        assert_eq!(relative_error::<f32>(&[], &[]), 0.0);
        assert_eq!(relative_error(&[minus, 2.0], &[f64::NEG_INFINITY, 2.0]), 0.0);
        for (got, want) in [(minus, -1e30), (-1e30, f64::NEG_INFINITY), (nan, 1.0), (1.0, f64::NAN), (nan, f64::NAN)] {
            let error = relative_error(&[got, 1.0], &[want, 1.0]);
            assert_eq!(error, f64::INFINITY, "{got} for {want}");
            assert!(!Errors { out: error, lse: None }.within(&Errors { out: 1e30, lse: None }));
        }
        assert_eq!(relative_error(&[1.0], &[1.0, 1.0]), f64::INFINITY);
        assert!(!Errors { out: f64::NAN, lse: None }.within(&Errors { out: 1.0, lse: None }));
        assert!(!Errors { out: 0.0, lse: Some(f64::NAN) }.within(&Errors { out: 1.0, lse: Some(1.0) }));
    }
}
