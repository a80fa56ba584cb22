//! Partial results: what a softmax has of rows of queries after some of the keys, and how those of all keys are made one.

use crate::device::Device;
use crate::dtype::DType;
use crate::error::Error;
use crate::launch::Launched;
use crate::results::{Results, sealed};
use crate::tensor::Tensor;
use purview_compiler::emit::merge::{self as emit, MergeData, PartialData};
use purview_compiler::ir::{Kept, RowNumber};

/// A partial result of an attention of one `Softmax`: what it has of each row of queries after some of the keys. What other keys give the
/// same queries is [merged](merge()) with it: keys may be cut into parts anywhere, on one device or on many, and a mask may leave any of
/// them empty.
///
/// All tensors are in f32. A sum of values, which the output is before it is divided, may overflow where their mean does not.
#[derive(Clone, Debug)]
pub struct Partial {
    output: Tensor,
    maximum: Tensor,
    sum: Tensor,
}

impl Partial {
    /// A partial result of tensors in f32 on one device, as it was somewhere else: `output` `[B, H, S, Dv]`, and `maximum` and `sum`
    /// `[B, H, S]`, of any strides.
    ///
    /// # Errors
    /// [`Error::Rank`], [`Error::Mismatch`], [`Error::Type`] and [`Error::OtherDevice`] where they are not such.
    pub fn new(output: Tensor, maximum: Tensor, sum: Tensor) -> Result<Partial, Error> {
        let name = |of: &str| format!("the {of} of a partial result");
        if output.shape().len() != 4 {
            return Err(Error::Rank { name: name("output"), expected: 4, shape: output.shape().to_vec() });
        }
        for (of, tensor) in [("output", &output), ("maximum", &maximum), ("sum", &sum)] {
            if tensor.dtype() != DType::F32 {
                return Err(Error::Type { name: name(of), given: tensor.dtype(), expected: "f32".into() });
            }
            check_device(&name(of), tensor, output.device())?;
            if of != "output" && tensor.shape() != &output.shape()[..3] {
                return Err(Error::Mismatch {
                    what: "batches, heads and lengths of queries",
                    name: name(of),
                    shape: tensor.shape().to_vec(),
                    other: name("output"),
                    other_shape: output.shape().to_vec(),
                });
            }
        }
        Ok(Partial { output, maximum, sum })
    }

    /// Σ exp(s − m)·v of each row's scores s and values v, with the row's maximum m: `[B, H, S, Dv]`. It is the output, times the sum.
    pub fn output(&self) -> &Tensor {
        &self.output
    }

    /// Each row's maximum m, in natural units, as scores are pushed: `[B, H, S]`; −∞ where a row saw no key.
    pub fn maximum(&self) -> &Tensor {
        &self.maximum
    }

    /// Σ exp(s − m) of each row's scores: `[B, H, S]`; 0 where a row saw no key.
    pub fn sum(&self) -> &Tensor {
        &self.sum
    }

    /// The partial result of all keys of `partials` together, of one shape on one device. In which order, and which of them first, does not
    /// matter but for rounding.
    ///
    /// # Errors
    /// As [`merge()`].
    pub fn merge(partials: &[Partial]) -> Result<Partial, Error> {
        let first = check_alike(partials)?;
        let Some(groups) = merged_to(partials, 1)? else { return Ok(first.clone()) };
        groups.into_iter().next().ok_or(Error::NoPartials)
    }

    fn data(&self) -> PartialData {
        PartialData {
            output: self.output.operand(None),
            maximum: self.maximum.operand(None),
            sum: self.sum.operand(None),
        }
    }
}

/// The output `[B, H, S, Dv]` and the log-sum-exp `[B, H, S]` of all keys of `partials` together, in f32: zeros and −∞ for rows that saw none.
/// They are of one shape, on one device, and in any order.
///
/// ```
/// use purview::merge;
/// use purview::prelude::*;
///
/// #[attention]
/// fn causal(q: Query, k: Key, v: Value) -> Output {
///     for i in q.tiles() {
///         let mut o = Softmax::new();
///         for j in k.tiles() {
///             o.push(mask(dot(q[i], k[j]) * scale(), j <= i), v[j]);
///         }
///         o
///     }
/// }
///
/// # fn main() -> Result<(), purview::Error> {
/// let device = Device::cpu()?;
/// let numbers: Vec<f32> = (0..800).map(|at| (at % 13) as f32).collect();
/// let q = Tensor::from_slice(&device, [1, 1, 100, 8], &numbers)?;
/// let part = |from, length| {
///     let keys = q.narrow(2, from, length)?;
///     // Keys of a part are not at 0, and queries not at the end of a part.
///     causal().with_key_offsets([from as i64]).with_query_offset(0).with_partial().run(&device, &q, &keys, &keys)
/// };
/// let (out, _) = merge(&[part(0, 30)?, part(30, 70)?])?;
/// let whole = causal().run(&device, &q, &q, &q)?.to_vec::<f32>()?;
/// assert!(out.to_vec::<f32>()?.iter().zip(&whole).all(|(a, b)| (a - b).abs() < 1e-4));
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`Error::NoPartials`] where there are none, [`Error::Mismatch`] and [`Error::OtherDevice`] where one is not as the first, and as tensors
/// of such shapes.
pub fn merge(partials: &[Partial]) -> Result<(Tensor, Tensor), Error> {
    let first = check_alike(partials)?;
    let most = at_once(first.output.device());
    let groups = merged_to(partials, most)?;
    let (output, rows) = launch(groups.as_deref().unwrap_or(partials), true)?;
    let lse = rows.view(0, output.shape()[..3].to_vec(), contiguous(&output.shape()[..3]))?;
    Ok((output, lse))
}

/// How many partial results a kernel merges at once: a kernel for each number is compiled, and some devices bind few buffers to one.
fn at_once(device: &Device) -> usize {
    // Three buffers each, and two for what is merged.
    let bound = device.capabilities().most_buffers.map_or(usize::MAX, |buffers| buffers.saturating_sub(2) / 3);
    bound.clamp(2, 8)
}

/// `partials` merged in groups until they are at most `most`; `None` where they are so already.
fn merged_to(partials: &[Partial], most: usize) -> Result<Option<Vec<Partial>>, Error> {
    if partials.len() <= most {
        return Ok(None);
    }
    let merged = partials.chunks(at_once(partials[0].output.device())).map(|group| {
        let [alone] = group else { return merged(group) };
        Ok(alone.clone())
    });
    let merged = merged.collect::<Result<Vec<_>, Error>>()?;
    Ok(merged_to(&merged, most)?.or(Some(merged)))
}

fn merged(group: &[Partial]) -> Result<Partial, Error> {
    let (output, rows) = launch(group, false)?;
    let shape = &output.shape()[..3];
    let number = |at: usize| rows.view(at * shape.iter().product::<usize>(), shape, contiguous(shape));
    Ok(Partial { maximum: number(0)?, sum: number(1)?, output })
}

/// The output of `partials`, and the numbers of its rows, one behind the other: the log-sum-exp if it `divides`, else maximum and sum.
fn launch(partials: &[Partial], divides: bool) -> Result<(Tensor, Tensor), Error> {
    let Some(first) = partials.first() else { return Err(Error::NoPartials) };
    let device = first.output.device();
    let &[batch, heads, queries, dim] = first.output.shape() else {
        unreachable!("a partial result has four dimensions")
    };
    let shape = [batch, heads, queries, dim];
    let output = Tensor::empty(device, DType::F32, shape.to_vec(), "the output")?;
    let numbers = if divides { 1 } else { 2 };
    let rows = Tensor::empty(device, DType::F32, vec![numbers, batch, heads, queries], "the numbers of rows")?;
    if !shape.contains(&0) {
        let data = MergeData {
            partials: partials.iter().map(Partial::data).collect(),
            shape,
            output: output.buffer(),
            rows: rows.buffer(),
            divides,
        };
        emit::launch(device.client(), data);
    }
    Ok((output, rows))
}

/// That there are some, of one shape on one device. Returns the first.
fn check_alike(partials: &[Partial]) -> Result<&Partial, Error> {
    let Some(first) = partials.first() else { return Err(Error::NoPartials) };
    for (place, partial) in partials.iter().enumerate() {
        let name = format!("partial result {place}");
        check_device(&name, &partial.output, first.output.device())?;
        if partial.output.shape() != first.output.shape() {
            return Err(Error::Mismatch {
                what: "shapes",
                name,
                shape: partial.output.shape().to_vec(),
                other: "partial result 0".into(),
                other_shape: first.output.shape().to_vec(),
            });
        }
    }
    Ok(first)
}

fn check_device(name: &str, tensor: &Tensor, device: &Device) -> Result<(), Error> {
    if tensor.is_on(device.client()) {
        return Ok(());
    }
    let (name, given) = (name.to_string(), tensor.device().name().to_string());
    Err(Error::OtherDevice { name, given, expected: device.name().into() })
}

/// The strides of a tensor without gaps.
fn contiguous(shape: &[usize]) -> Vec<usize> {
    (1..=shape.len()).map(|from| shape[from..].iter().product()).collect()
}

/// A [`Partial`] in place of the output: [`with_partial`](crate::AttentionOver::with_partial).
#[derive(Clone, Copy, Debug)]
pub enum AsPartial {}

impl sealed::Sealed for AsPartial {
    const KEPT: Kept = Kept::Partial;
}

impl Results for AsPartial {
    type Tensors = Partial;

    fn of(mut launched: Launched) -> Partial {
        let (maximum, sum) = (launched.number(RowNumber::Maximum), launched.number(RowNumber::Sum));
        Partial { output: launched.outputs.remove(0), maximum, sum }
    }
}
