//! Everything that is checked before a launch, but for the ranges of integers, which the compiler checks.

use crate::device::Device;
use crate::dtype::DType;
use crate::error::Error;
use crate::operation::Operation;
use crate::request::{Call, Request};
use crate::shape::Shape;
use crate::tensor::Tensor;
use purview_compiler::expr::Expr;
use purview_compiler::ir::forward::OperandDims;
use purview_compiler::ir::{Kept, RowNumber};
use purview_compiler::launch::Keys;
use purview_compiler::lower::{check_form, scaled_dim};
use purview_compiler::passes::CompileError;
use purview_compiler::pruned::{Constants, head_dim};
use purview_compiler::schedule::MAX_HEAD_DIM;
use purview_compiler::spec::{Accumulator, Role, ScalarValue, Spec, TensorType};

/// The most pairs of a query and a key, of all heads and batches, that a report is made of.
const MAX_PAIRS: u128 = 1 << 46;

/// The sizes of a launch whose arguments and operands fit each other and are on the call's device.
pub(crate) fn call(call: &Call) -> Result<Operation, Error> {
    let operation = operands(call.request, call.operands)?;
    check_head_dims(&call.request.spec, call.operands, MAX_HEAD_DIM)?;
    placement(call)?;
    Ok(operation)
}

/// Queries, and pairs of keys and values, in the order of the signature.
pub(crate) fn in_order<'a>(
    spec: &Spec,
    query: &'a Tensor,
    pairs: &[(&'a Tensor, &'a Tensor)],
) -> Result<Vec<&'a Tensor>, Error> {
    let Some((_, places)) = spec.pairs() else {
        let operands: Vec<&str> = spec.operands.iter().map(|operand| operand.name.as_str()).collect();
        return Err(Error::NoPairs { attention: spec.name.clone(), operands: operands.join(", ") });
    };
    if places.len() != pairs.len() {
        let (attention, what) = (spec.name.clone(), "pairs of keys and values");
        return Err(Error::Count { attention, what, expected: places.len(), given: pairs.len() });
    }
    let mut operands = vec![query; spec.operands.len()];
    for ((key_place, value_place), (key, value)) in places.into_iter().zip(pairs) {
        (operands[key_place], operands[value_place]) = (*key, *value);
    }
    Ok(operands)
}

/// Checks numbers, types and ranges of scalars and captured tensors, and that no key offset is left over.
pub(crate) fn arguments(request: &Request) -> Result<(), Error> {
    let Request { spec, scalars, tensors, .. } = request;
    // What follows goes by its places; one that is made by hand may have any.
    check_form(spec).map_err(CompileError::from)?;
    has_kept(spec, request.kept)?;
    let counts =
        [("scalars", spec.scalars.len(), scalars.len()), ("captured tensors", spec.tensors.len(), tensors.len())];
    for (what, expected, given) in counts {
        if expected != given {
            return Err(Error::Count { attention: spec.name.clone(), what, expected, given });
        }
    }
    let (sets, offsets) = (spec.sets(), request.key_offsets.len());
    if offsets > sets {
        let (attention, what) = (spec.name.clone(), "offsets of sets of keys");
        return Err(Error::Count { attention, what, expected: sets, given: offsets });
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
            TensorType::F32 => (tensor.dtype() == DType::F32, "f32, f16 or bf16"),
            TensorType::F16 => (tensor.dtype() == DType::F16, "f16"),
            TensorType::Bf16 => (tensor.dtype() == DType::Bf16, "bf16"),
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

/// The sizes of a launch, whose arguments are checked, and shapes and types of what lies along queries and keys against each other.
pub(crate) fn operands(request: &Request, operands: &[&Tensor]) -> Result<Operation, Error> {
    arguments(request)?;
    let spec = &request.spec;
    if spec.operands.len() != operands.len() {
        let (attention, expected, given) = (spec.name.clone(), spec.operands.len(), operands.len());
        return Err(Error::Count { attention, what: "tensors along queries and keys", expected, given });
    }
    let named = |place: usize| (spec.operands[place].name.as_str(), operands[place]);
    let Some((first, _)) = spec.operands_of(Role::Query).next() else {
        let attention = spec.name.clone();
        return Err(Error::Count { attention, what: "queries", expected: 1, given: 0 });
    };
    let query = named(first);
    let [batch, heads, queries, _] = four(query.0, query.1)?;
    let dtype = query.1.dtype();
    let element = dtype.element().ok_or_else(|| Error::Type {
        name: query.0.into(),
        given: dtype,
        expected: "f32, f16 or bf16".into(),
    })?;
    for place in 0..operands.len() {
        let (name, tensor) = named(place);
        if tensor.dtype() != dtype {
            let expected = format!("{dtype}, as `{}` does", query.0);
            return Err(Error::Type { name: name.into(), given: tensor.dtype(), expected });
        }
        same("batches", (name, tensor), query, four(name, tensor)?[0], batch)?;
    }
    for (place, _) in spec.operands_of(Role::Query) {
        let [_, other_heads, length, _] = four(named(place).0, named(place).1)?;
        same("heads of queries", named(place), query, other_heads, heads)?;
        same("lengths of queries", named(place), query, length, queries)?;
    }
    check_products(spec, &named)?;
    let lengths = check_sets(spec, &named, heads)?;
    check_values(request, &named)?;
    check_head_dims(spec, operands, usize::MAX)?;
    let dims: Vec<usize> = operands.iter().map(|tensor| tensor.shape()[3]).collect();
    let first_of_keys = spec.operands.iter().position(|operand| operand.role != Role::Query);
    let kv_heads = first_of_keys.map_or(heads, |place| operands[place].shape()[1]);
    let sizes = Operation::sizes(batch, heads, kv_heads, queries, OperandDims { element, dims });
    let along_keys = spec.operands.iter().zip(operands).filter(|(param, _)| param.role != Role::Query);
    let sizes = sizes.with_key_heads(along_keys.map(|(_, tensor)| tensor.shape()[1]));
    operation(request, sizes, &lengths)
}

/// Checks that head dims are from 1 to `most`.
fn check_head_dims(spec: &Spec, operands: &[&Tensor], most: usize) -> Result<(), Error> {
    let dims = operands.iter().map(|tensor| tensor.shape()[3]);
    match spec.operands.iter().zip(dims).find(|(_, dim)| !(1..=most).contains(dim)) {
        Some((param, dim)) => Err(Error::HeadDim { name: param.name.clone(), dim }),
        None => Ok(()),
    }
}

/// Checks the head dims of queries and keys that are multiplied.
fn check_products<'a>(spec: &'a Spec, named: &impl Fn(usize) -> (&'a str, &'a Tensor)) -> Result<(), Error> {
    for dot in spec.loops.iter().flat_map(|key_loop| &key_loop.dots) {
        let (query, key) = (named(dot.query), named(dot.key));
        let dims = (four(key.0, key.1)?[3], four(query.0, query.1)?[3]);
        same("head dims of queries and keys", key, query, dims.0, dims.1)?;
    }
    Ok(())
}

/// Checks lengths and heads of what lies along keys. Returns the lengths of the sets.
fn check_sets<'a>(
    spec: &'a Spec,
    named: &impl Fn(usize) -> (&'a str, &'a Tensor),
    heads: usize,
) -> Result<Vec<usize>, Error> {
    let pairs = spec.pairs().map(|(_, pairs)| pairs);
    let mut lengths = Vec::new();
    for set in 0..spec.sets() {
        let members: Vec<usize> =
            (0..spec.operands.len()).filter(|place| spec.operands[*place].role.set() == Some(set)).collect();
        // A pair is checked from its keys on.
        let Some(&first) = members.first() else {
            // Of a specification that was made by hand, which lowering refuses.
            lengths.push(0);
            continue;
        };
        let first = pairs.as_ref().map_or(first, |pairs| pairs[set].0);
        let [_, kv_heads, length, _] = four(named(first).0, named(first).1)?;
        for place in members {
            let [_, other_heads, other_length, _] = four(named(place).0, named(place).1)?;
            if pairs.is_some() {
                same("heads of keys and values", named(place), named(first), other_heads, kv_heads)?;
            }
            same("lengths of keys and values", named(place), named(first), other_length, length)?;
            if !heads.is_multiple_of(other_heads) {
                let (query, key) = (spec.query().into(), named(place).0.into());
                return Err(Error::Heads { query, heads, key, kv_heads: other_heads });
            }
        }
        if let Some(pairs) = &pairs {
            let other = named(pairs[0].0);
            same("heads of the pairs", named(first), other, kv_heads, four(other.0, other.1)?[1])?;
        }
        lengths.push(length);
    }
    Ok(lengths)
}

/// The first elements of each row of an operand: all of them, or those that are pushed.
#[derive(Clone, Copy)]
struct ResultElements {
    /// How many.
    count: usize,
    /// The operand's place in the signature.
    place: usize,
}

/// Checks that what is pushed into an accumulator has one number of elements, and so has all that the output is made of.
fn check_values<'a>(request: &'a Request, named: &impl Fn(usize) -> (&'a str, &'a Tensor)) -> Result<(), Error> {
    let spec = &request.spec;
    let dim = |place: usize| four(named(place).0, named(place).1).map(|[_, _, _, dim]| dim);
    let alike = |what: &'static str, elements: ResultElements, others: ResultElements| {
        let (name, other) = (named(elements.place), named(others.place));
        let (dim, other_dim) = (dim(elements.place)?, dim(others.place)?);
        if elements.count == others.count || elements.count == dim && others.count == other_dim {
            return same(what, name, other, elements.count, others.count);
        }
        Err(Error::Elements {
            what,
            name: name.0.into(),
            elements: elements.count,
            dim,
            other: other.0.into(),
            other_elements: others.count,
            other_dim,
        })
    };
    // The elements of each accumulator's result, by the first values that are pushed into it.
    let mut results: Vec<Option<ResultElements>> = vec![None; spec.accumulators.len()];
    for (_, push) in spec.pushes() {
        let whole = dim(push.values)?;
        let count = push.dim.map_or(Some(whole), |leading| leading.value(&request.scalars)).unwrap_or(0);
        if !(1..=whole).contains(&count) && push.dim.is_some() {
            return Err(Error::Leading { name: named(push.values).0.into(), dim: whole, leading: count });
        }
        let elements = ResultElements { count, place: push.values };
        let first = *results[push.accumulator].get_or_insert(elements);
        alike("head dims of the values", elements, first)?;
    }
    let queries = spec.operands_of(Role::Query);
    let queries = queries.map(|(place, _)| Ok(Some(ResultElements { count: dim(place)?, place })));
    let queries = queries.collect::<Result<Vec<_>, Error>>()?;
    let values: Vec<Option<ResultElements>> = results.into_iter().chain(queries).collect();
    for output in &spec.outputs {
        let mut made_of = None;
        for (value, found) in values.iter().enumerate() {
            let Some(elements) = found.filter(|_| output.mentions(&Expr::Value(value))) else { continue };
            let first = *made_of.get_or_insert(elements);
            alike("head dims of what the output is made of", elements, first)?;
        }
    }
    Ok(())
}

/// The sizes of a launch of `shape`, which has no tensors, with the arguments checked.
pub(crate) fn shape(request: &Request, shape: &Shape) -> Result<Operation, Error> {
    let spec = &request.spec;
    arguments(request)?;
    let Shape { batch, heads, queries, .. } = *shape;
    let sizes = Operation::of(shape, spec)?;
    let lengths = shape.lengths_of_keys(spec)?;
    // A report counts in 64 bits.
    let most = lengths.iter().max().copied().unwrap_or(0);
    let pairs = [batch, heads, queries.max(1), most.max(1)]
        .iter()
        .fold(1u128, |pairs, length| pairs.saturating_mul(*length as u128));
    if pairs > MAX_PAIRS {
        return Err(Error::TooLarge { shape: vec![batch, heads, queries, most] });
    }
    operation(request, sizes, &lengths)
}

/// `sizes` with the scale and the positions that `request` has for keys of such lengths.
fn operation(request: &Request, sizes: Operation, lengths: &[usize]) -> Result<Operation, Error> {
    let spec = &request.spec;
    let scale =
        request.scale.unwrap_or(1.0 / (scaled_dim(spec, &request.scalars, &sizes.operands).max(1) as f32).sqrt());
    if !scale.is_finite() {
        return Err(Error::Scale { given: scale });
    }
    let mut keys = Vec::new();
    for (set, &length) in lengths.iter().enumerate() {
        let offset = request.key_offsets.get(set).copied().unwrap_or(0);
        if i32::try_from(offset).is_err() {
            return Err(Error::Offset { name: spec.set_name(set).into(), given: offset });
        }
        keys.push(Keys { length, offset });
    }
    // Of the last set that is read.
    let constants = Constants::new(spec, &request.scalars, head_dim(spec, &sizes.operands));
    let last = keys.get(spec.pruned(&constants).last_set());
    let query_offset = request.query_offset.unwrap_or(Operation::default_query_offset(last, sizes.queries));
    if i32::try_from(query_offset).is_err() {
        return Err(Error::Offset { name: spec.query().into(), given: query_offset });
    }
    Ok(Operation { scale, keys, query_offset, ..sizes })
}

/// Checks that everything is on the call's device, which has the operands' type.
fn placement(call: &Call) -> Result<(), Error> {
    let &Call { request: Request { spec, tensors, .. }, device, operands, .. } = call;
    let along = spec.operands.iter().map(|param| &param.name).zip(operands.iter().copied());
    let captured = spec.tensors.iter().map(|param| &param.name).zip(tensors);
    for (name, tensor) in along.chain(captured) {
        if !tensor.is_on(device.client()) {
            return Err(Error::OtherDevice {
                name: name.clone(),
                given: tensor.device().name().into(),
                expected: device.name().into(),
            });
        }
    }
    let Some(query) = operands.first() else { return Ok(()) };
    match query.dtype().element() {
        Some(element) if !device.supports(element) => {
            Err(Error::UnsupportedType { device: device.name().into(), dtype: query.dtype() })
        }
        _ => Ok(()),
    }
}

/// That there is one accumulator, whose rows have `number`.
pub(crate) fn has_row_number(spec: &Spec, number: RowNumber) -> Result<(), Error> {
    if spec.has_lse() {
        return Ok(());
    }
    let accumulators: Vec<&str> = spec.accumulators.iter().map(|accumulator| accumulator.kind.name()).collect();
    let (attention, accumulator) = (spec.name.clone(), accumulators.join(" and "));
    let number = match number {
        RowNumber::LogSumExp => "a log-sum-exp",
        RowNumber::Maximum => "a maximum of its scores",
        RowNumber::Sum => "a partial result",
    };
    Err(Error::NoRowNumber { attention, accumulator, number })
}

/// Refuses an attention that has another number of outputs than `asked`.
pub(crate) fn has_outputs(spec: &Spec, asked: usize) -> Result<(), Error> {
    let outputs = spec.outputs.len();
    if outputs == asked {
        return Ok(());
    }
    Err(Error::OutputCount { attention: spec.name.clone(), outputs, asked })
}

/// That an attention has what is kept of its rows. The log-sum-exp is kept where there is one.
pub(crate) fn has_kept(spec: &Spec, kept: Kept) -> Result<(), Error> {
    match kept {
        Kept::LogSumExp | Kept::Each => return Ok(()),
        Kept::LogSumExpAndMaximum => return has_row_number(spec, RowNumber::Maximum),
        Kept::Partial => has_row_number(spec, RowNumber::Sum)?,
    }
    let refused = |reason: &'static str| Err(Error::NoPartial { attention: spec.name.clone(), reason });
    if spec.outputs.len() > 1 {
        return refused("it has several outputs");
    }
    if !spec.stores_accumulator() {
        return refused("its output is an expression of its accumulator");
    }
    match &spec.accumulators[..] {
        [one] if matches!(one.kind, Accumulator::Softmax { sink: Some(_) }) => {
            refused("its sink would be counted once for each part of the keys")
        }
        _ => Ok(()),
    }
}

/// That `tensor`, called `name`, has the shape and type of another tensor, and is on `device`.
pub(crate) fn as_tensor(
    name: &str,
    tensor: &Tensor,
    (other, shape, dtype): (&str, &[usize], DType),
    device: &Device,
) -> Result<(), Error> {
    if tensor.shape().len() != shape.len() {
        return Err(Error::Rank { name: name.into(), expected: shape.len(), shape: tensor.shape().to_vec() });
    }
    if tensor.shape() != shape {
        return Err(Error::Mismatch {
            what: "shapes",
            name: name.into(),
            shape: tensor.shape().to_vec(),
            other: other.into(),
            other_shape: shape.to_vec(),
        });
    }
    if tensor.dtype() != dtype {
        let expected = format!("{dtype}, as {other}");
        return Err(Error::Type { name: name.into(), given: tensor.dtype(), expected });
    }
    if !tensor.is_on(device.client()) {
        let (name, given) = (name.to_string(), tensor.device().name().to_string());
        return Err(Error::OtherDevice { name, given, expected: device.name().into() });
    }
    Ok(())
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
