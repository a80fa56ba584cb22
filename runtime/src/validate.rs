//! Everything that is checked before a launch, but for the ranges of integers, which the compiler checks.

use crate::dtype::DType;
use crate::error::Error;
use crate::operation::Operation;
use crate::request::{Call, Request};
use crate::shape::Shape;
use crate::tensor::Tensor;
use purview_compiler::ir::forward::Operands;
use purview_compiler::launch::Keys;
use purview_compiler::schedule::MAX_HEAD_DIM;
use purview_compiler::spec::{ScalarValue, Spec, TensorType};

/// The most pairs of a query and a key, of all heads and batches, that a report is made of.
const MAX_PAIRS: u128 = 1 << 46;

/// The sizes of a launch whose arguments and operands fit each other and are on the call's device.
pub(crate) fn call(call: &Call) -> Result<Operation, Error> {
    let operation = operands(call.request, call.query, call.pairs)?;
    placement(call)?;
    Ok(operation)
}

/// Checks numbers, types and ranges of scalars and captured tensors, and that there are as many pairs as there should be.
pub(crate) fn arguments(request: &Request, pairs: usize) -> Result<(), Error> {
    let Request { spec, scalars, tensors, .. } = request;
    let counts = [
        ("scalars", spec.scalars.len(), scalars.len()),
        ("captured tensors", spec.tensors.len(), tensors.len()),
        ("pairs of keys and values", spec.sets(), pairs),
    ];
    for (what, expected, given) in counts {
        if expected != given {
            return Err(Error::Count { attention: spec.name.clone(), what, expected, given });
        }
    }
    for (param, value) in spec.scalars.iter().zip(scalars) {
        let wrong = |given: String, expected: &str| {
            Err(Error::Scalar { name: param.name.clone(), given, expected: expected.into() })
        };
        match *value {
            _ if value.declared() != param.ty => return wrong(format!("{value:?}"), param.ty.name())?,
            ScalarValue::U32(value) if value > i32::MAX.unsigned_abs() => {
                return wrong(value.to_string(), "at most 2147483647: integers are signed in an attention")?;
            }
            ScalarValue::F32(value) if !value.is_finite() => return wrong(value.to_string(), "a finite number")?,
            _ => {}
        }
    }
    for (param, tensor) in spec.tensors.iter().zip(tensors) {
        if tensor.shape().len() != param.rank {
            let shape = tensor.shape().to_vec();
            return Err(Error::Rank { name: param.name.clone(), expected: param.rank, shape });
        }
        let (fits, expected) = match param.ty {
            TensorType::F32 => (tensor.dtype() == DType::F32, "f32"),
            TensorType::I32 => (tensor.dtype() == DType::I32, "i32"),
            TensorType::Bool => (matches!(tensor.dtype(), DType::U8 | DType::U32), "bool (u8 or u32)"),
        };
        if !fits {
            let (name, given) = (param.name.clone(), tensor.dtype());
            return Err(Error::Type { name, given, expected: expected.into() });
        }
    }
    Ok(())
}

/// The sizes of a launch, whose arguments are checked, and shapes and types of queries, keys and values against each other.
pub(crate) fn operands(request: &Request, query: &Tensor, pairs: &[(&Tensor, &Tensor)]) -> Result<Operation, Error> {
    arguments(request, pairs.len())?;
    let spec = &request.spec;
    let [batch, heads, queries, qk_dim] = four(spec.query(), query)?;
    let element = query.dtype().element().ok_or_else(|| Error::Type {
        name: spec.query().into(),
        given: query.dtype(),
        expected: "f32, f16 or bf16".into(),
    })?;
    let first = (spec.query(), query);
    let pair_names = spec.pair_names();
    let mut lengths = Vec::new();
    let mut heads_and_dim = None;
    for (names, (key, value)) in pair_names.iter().zip(pairs) {
        let key = (names.key.as_str(), *key);
        let value = (names.value.as_str(), *value);
        for (name, tensor) in [key, value] {
            if tensor.dtype() != query.dtype() {
                let expected = format!("{}, as `{}` does", query.dtype(), spec.query());
                return Err(Error::Type { name: name.into(), given: tensor.dtype(), expected });
            }
            same("batches", (name, tensor), first, four(name, tensor)?[0], batch)?;
        }
        let [_, kv_heads, length, key_dim] = four(key.0, key.1)?;
        let [_, value_heads, value_length, v_dim] = four(value.0, value.1)?;
        same("head dims of queries and keys", key, first, key_dim, qk_dim)?;
        same("heads of keys and values", value, key, value_heads, kv_heads)?;
        same("lengths of keys and values", value, key, value_length, length)?;
        let (expected_heads, expected_dim, other_key, other_value) =
            *heads_and_dim.get_or_insert((kv_heads, v_dim, key, value));
        same("heads of the pairs", key, other_key, kv_heads, expected_heads)?;
        same("head dims of the values", value, other_value, v_dim, expected_dim)?;
        if kv_heads == 0 && heads > 0 || kv_heads > 0 && heads % kv_heads != 0 {
            return Err(Error::Heads { query: spec.query().into(), heads, key: key.0.into(), kv_heads });
        }
        for (name, dim) in [(key.0, key_dim), (value.0, v_dim)] {
            if !(1..=MAX_HEAD_DIM).contains(&dim) {
                return Err(Error::HeadDim { name: name.into(), dim });
            }
        }
        lengths.push(length);
    }
    let (kv_heads, v_dim) = heads_and_dim.map_or((heads, qk_dim), |(heads, dim, ..)| (heads, dim));
    let operands = Operands { element, qk_dim, v_dim };
    operation(request, Operation::sizes(batch, heads, kv_heads, queries, operands), &lengths)
}

/// The sizes of a launch of `shape`, which has no tensors, with the arguments checked.
pub(crate) fn shape(request: &Request, shape: &Shape) -> Result<Operation, Error> {
    let spec = &request.spec;
    arguments(request, spec.sets())?;
    let Shape { batch, heads, kv_heads, queries, .. } = *shape;
    if kv_heads == 0 || heads % kv_heads != 0 {
        let key = spec.set_name(0).into();
        return Err(Error::Heads { query: spec.query().into(), heads, key, kv_heads });
    }
    let lengths = match shape.keys.as_slice() {
        [length] => vec![*length; spec.sets()],
        lengths if lengths.len() == spec.sets() => lengths.to_vec(),
        lengths => {
            let (attention, what) = (spec.name.clone(), "lengths of keys");
            return Err(Error::Count { attention, what, expected: spec.sets(), given: lengths.len() });
        }
    };
    // A report counts in 64 bits.
    let most = lengths.iter().max().copied().unwrap_or(0);
    let pairs = [batch, heads, queries.max(1), most.max(1)]
        .iter()
        .fold(1u128, |pairs, length| pairs.saturating_mul(*length as u128));
    if pairs > MAX_PAIRS {
        return Err(Error::TooLarge { shape: vec![batch, heads, queries, most] });
    }
    operation(request, Operation::of(shape), &lengths)
}

/// `sizes` with the scale and the positions that `request` has for keys of such lengths.
fn operation(request: &Request, sizes: Operation, lengths: &[usize]) -> Result<Operation, Error> {
    let spec = &request.spec;
    let scale = request.scale.unwrap_or(1.0 / (sizes.operands.qk_dim.max(1) as f32).sqrt());
    if !scale.is_finite() {
        return Err(Error::Scale { given: scale });
    }
    let mut keys = Vec::new();
    for (pair, &length) in lengths.iter().enumerate() {
        let offset = request.key_offsets.get(pair).copied().unwrap_or(0);
        if i32::try_from(offset).is_err() {
            return Err(Error::Offset { name: spec.set_name(pair).into(), given: offset });
        }
        keys.push(Keys { length, offset });
    }
    let query_offset = request.query_offset.unwrap_or(Operation::default_query_offset(&keys, sizes.queries));
    if i32::try_from(query_offset).is_err() {
        return Err(Error::Offset { name: spec.query().into(), given: query_offset });
    }
    Ok(Operation { scale, keys, query_offset, ..sizes })
}

/// Checks that everything is on the call's device, which has the operands' type.
fn placement(call: &Call) -> Result<(), Error> {
    let &Call { request: Request { spec, tensors, .. }, device, query, pairs, .. } = call;
    let pair_names = spec.pair_names();
    let operands = pair_names
        .iter()
        .zip(pairs)
        .flat_map(|(names, (key, value))| [(names.key.as_str(), *key), (&names.value, *value)]);
    let captured = spec.tensors.iter().map(|param| param.name.as_str()).zip(tensors);
    for (name, tensor) in std::iter::once((spec.query(), query)).chain(operands).chain(captured) {
        if !tensor.is_on(device.client()) {
            return Err(Error::OtherDevice {
                name: name.into(),
                given: tensor.device().name().into(),
                expected: device.name().into(),
            });
        }
    }
    match query.dtype().element() {
        Some(element) if !device.supports(element) => {
            Err(Error::UnsupportedType { device: device.name().into(), dtype: query.dtype() })
        }
        _ => Ok(()),
    }
}

/// That there is one accumulator, which has a log-sum-exp.
pub(crate) fn has_lse(spec: &Spec) -> Result<(), Error> {
    if spec.has_lse() {
        return Ok(());
    }
    let accumulators: Vec<&str> = spec.accumulators.iter().map(|accumulator| accumulator.kind.name()).collect();
    Err(Error::NoLse { attention: spec.name.clone(), accumulator: accumulators.join(" and ") })
}

/// The four lengths of `[B, H, S, D]`.
fn four(name: &str, tensor: &Tensor) -> Result<[usize; 4], Error> {
    let shape = tensor.shape();
    shape.try_into().map_err(|_| Error::Rank { name: name.into(), expected: 4, shape: shape.to_vec() })
}

fn same(
    what: &'static str,
    (name, tensor): (&str, &Tensor),
    (other, other_tensor): (&str, &Tensor),
    given: usize,
    expected: usize,
) -> Result<(), Error> {
    if given == expected {
        return Ok(());
    }
    Err(Error::Mismatch {
        what,
        name: name.into(),
        shape: tensor.shape().to_vec(),
        other: other.into(),
        other_shape: other_tensor.shape().to_vec(),
    })
}
