//! `run`: a variant on pseudo-random inputs.

use crate::arguments::{RunFlags, device};
use crate::describe::{extend, scalars_json, scalars_text, schedule_json, shape_json, shape_text};
use crate::golden::{Errors, outputs_error, relative_error};
use crate::{FAILURE, Failure, Gallery, SUCCESS, finite, print_json, progress};
use half::{bf16, f16};
use purview::cache::kernels_compiled;
use purview::{AnyAttention, Device, Error, MAX_ELEMENTS, Shape, Tensor};
use purview_compiler::ir::Element;
use serde_json::{Value, json};
use std::io::Write;
use std::time::{Duration, Instant};

pub(crate) fn run(gallery: &Gallery, flags: &RunFlags, json: bool, out: &mut dyn Write) -> Result<u8, Failure> {
    let shape = flags.shape.shape()?;
    let device = device(flags.device.as_deref())?;
    let mut attention = flags.variant.attention(gallery, &device, &shape)?;
    if let Some(scale) = flags.scale {
        attention = attention.with_scale(scale);
    }
    if let Some(offset) = flags.position.q_offset {
        attention = attention.with_query_offset(offset);
    }

    let inputs = RandomInputs::new(&attention, &device, &shape)?;
    let measured = measure(&attention, &device, &inputs, flags.repeat)?;
    // Shown only now: drawing would take time from what is measured.
    let checked = if flags.check {
        let bar = progress(None);
        bar.set_message("computing the reference");
        Some(compare(&attention, &device, &inputs, &measured, shape.element)?)
    } else {
        None
    };

    let passed = checked.as_ref().is_none_or(Comparison::passed);
    let schedule = attention.schedule_on(&device, &shape)?;
    if json {
        let mut value = json!({
            "variant": flags.variant.name,
            "shape": shape_json(&shape),
            "device": device.name(),
            "kernels_compiled": measured.kernels,
            "first_call_ms": milliseconds(measured.first),
            "median_ms": measured.median.map(milliseconds),
            "repeat": flags.repeat,
        });
        extend(&mut value, schedule_json(schedule));
        extend(&mut value, scalars_json(&attention));
        if let Some(Comparison { errors, limits, max }) = &checked {
            extend(&mut value, errors_json(errors, limits));
            if let Some(max) = max {
                extend(&mut value, json!({ "max_error": finite(*max), "max_limit": limits.lse }));
            }
            extend(&mut value, json!({ "passed": passed }));
        }
        print_json(out, &value)?;
    } else {
        writeln!(out, "{} on {}", flags.variant.name, device.name())?;
        writeln!(out, "  shape     {}", shape_text(&shape))?;
        let (queries, keys) = (schedule.query_tile(), schedule.key_tile());
        writeln!(out, "  schedule  {}, tiles of {queries} queries by {keys} keys", schedule.name())?;
        if let Some(scalars) = scalars_text(&attention) {
            writeln!(out, "  scalars   {scalars}")?;
        }
        writeln!(out, "  kernels   {} compiled", measured.kernels)?;
        write!(out, "  time      first call {:.1} ms", milliseconds(measured.first))?;
        if let Some(median) = measured.median {
            write!(out, ", then {:.3} ms, the median of {}", milliseconds(median), flags.repeat)?;
        }
        writeln!(out, "; on this machine, in this run")?;
        if let Some(Comparison { errors, limits, max }) = &checked {
            writeln!(
                out,
                "  error     out {:.1e} (at most {:.0e}){}{}",
                errors.out,
                limits.out,
                row_text("lse", errors.lse, limits.lse),
                row_text("max", *max, limits.lse)
            )?;
            writeln!(out, "  {}", if passed { "pass" } else { "FAIL" })?;
        }
    }
    Ok(if passed { SUCCESS } else { FAILURE })
}

fn row_text(what: &str, error: Option<f64>, limit: Option<f64>) -> String {
    match (error, limit) {
        (Some(error), Some(limit)) => format!(", {what} {error:.1e} (at most {limit:.0e})"),
        _ => String::new(),
    }
}

/// A launch against the reference.
struct Comparison {
    errors: Errors,
    limits: Errors,
    /// The largest error of a row's maximum, of the kernel that gives it, where the attention has one. It may be as large as that of the
    /// log-sum-exp.
    max: Option<f64>,
}

impl Comparison {
    fn passed(&self) -> bool {
        let max = match (self.max, self.limits.lse) {
            (Some(error), Some(limit)) => error <= limit,
            (error, _) => error.is_none(),
        };
        self.errors.within(&self.limits) && max
    }
}

pub(crate) fn errors_json(errors: &Errors, limits: &Errors) -> Value {
    let mut value = json!({ "out_error": finite(errors.out), "out_limit": limits.out });
    if let (Some(error), Some(limit)) = (errors.lse, limits.lse) {
        extend(&mut value, json!({ "lse_error": finite(error), "lse_limit": limit }));
    }
    value
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// What lies along queries and keys, in the order of the signature.
pub(crate) struct RandomInputs(Vec<Tensor>);

impl RandomInputs {
    /// The same numbers on every device and in every run.
    pub(crate) fn new(attention: &AnyAttention, device: &Device, shape: &Shape) -> Result<RandomInputs, Error> {
        let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
        let shapes = shape.operand_shapes(attention.spec())?.into_iter();
        let tensors = shapes.map(|of_operand| numbers.tensor(device, of_operand, shape.element));
        Ok(RandomInputs(tensors.collect::<Result<_, Error>>()?))
    }

    pub(crate) fn operands(&self) -> Vec<&Tensor> {
        self.0.iter().collect()
    }
}

/// Pseudo-random numbers (xorshift64*: Vigna 2016).
struct Numbers(u64);

impl Numbers {
    /// Uniform in −1..1.
    fn next(&mut self) -> f32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let bits = (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 40) as f32;
        bits / (1 << 23) as f32 - 1.0
    }

    fn tensor(&mut self, device: &Device, shape: [usize; 4], element: Element) -> Result<Tensor, Error> {
        let elements = shape.iter().try_fold(1usize, |elements, length| elements.checked_mul(*length));
        let elements = elements.filter(|elements| *elements <= MAX_ELEMENTS);
        let elements = elements.ok_or_else(|| Error::TooLarge { shape: shape.to_vec() })?;
        let data = (0..elements).map(|_| self.next());
        match element {
            Element::F32 => Tensor::from_slice(device, shape, &data.collect::<Vec<_>>()),
            Element::F16 => Tensor::from_slice(device, shape, &data.map(f16::from_f32).collect::<Vec<_>>()),
            Element::Bf16 => Tensor::from_slice(device, shape, &data.map(bf16::from_f32).collect::<Vec<_>>()),
        }
    }
}

struct Measured {
    outputs: Vec<Tensor>,
    lse: Option<Tensor>,
    kernels: usize,
    first: Duration,
    /// `None` if it ran only once.
    median: Option<Duration>,
}

fn measure(attention: &AnyAttention, device: &Device, inputs: &RandomInputs, repeat: u32) -> Result<Measured, Error> {
    let operands = inputs.operands();
    let call = || {
        let start = Instant::now();
        let (outputs, lse) = attention.run_outputs_with_lse_if_any(device, &operands)?;
        device.sync()?;
        Ok::<_, Error>((start.elapsed(), outputs, lse))
    };
    // The inputs are there before time is taken.
    device.sync()?;
    let kernels = kernels_compiled();
    let (first, outputs, lse) = call()?;
    let kernels = kernels_compiled() - kernels;
    let mut times = (0..repeat).map(|_| call().map(|(time, ..)| time)).collect::<Result<Vec<_>, Error>>()?;
    times.sort_unstable();
    Ok(Measured { outputs, lse, kernels, first, median: times.get(times.len() / 2).copied() })
}

/// The largest errors against the reference.
pub(crate) fn compare_results(
    attention: &AnyAttention,
    inputs: &RandomInputs,
    outputs: &[impl AsRef<[f32]>],
    lse: Option<Vec<f32>>,
) -> Result<Errors, Error> {
    let want = attention.reference_operands(&inputs.operands())?;
    let lse = lse.map(|lse| relative_error(&lse, &want.lse.data));
    Ok(Errors { out: outputs_error(outputs, &want), lse })
}

/// The largest errors against the reference.
fn compare(
    attention: &AnyAttention,
    device: &Device,
    inputs: &RandomInputs,
    measured: &Measured,
    element: Element,
) -> Result<Comparison, Error> {
    let lse = measured.lse.as_ref().map(Tensor::to_vec::<f32>).transpose()?;
    let operands = inputs.operands();
    let want = attention.reference_operands(&operands)?;
    let outputs = measured.outputs.iter().map(Tensor::to_vec::<f32>).collect::<Result<Vec<_>, Error>>()?;
    let errors =
        Errors { out: outputs_error(&outputs, &want), lse: lse.map(|lse| relative_error(&lse, &want.lse.data)) };
    let max = if attention.spec().has_lse() {
        let (_, max) = attention.run_operands_with_max(device, &operands)?;
        Some(relative_error(&max.to_vec::<f32>()?, &want.max.data))
    } else {
        None
    };
    Ok(Comparison { errors, limits: limits(element), max })
}

/// The largest errors of a run that passes, relative to the largest magnitude.
pub(crate) fn limits(element: Element) -> Errors {
    match element {
        Element::F32 => Errors { out: 2e-5, lse: Some(1e-4) },
        Element::F16 => Errors { out: 2e-3, lse: Some(2e-3) },
        // Eight bits of precision against eleven.
        Element::Bf16 => Errors { out: 1.6e-2, lse: Some(2e-3) },
    }
}
