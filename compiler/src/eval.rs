//! Evaluation of an expression on numbers: what every expression means, without a device.
//!
//! Integers are i64 and floats f64, so that nothing overflows or rounds that would not in mathematics; the interpreter and
//! the report are built on this. Where an expression is hidden by a mask it has no value, and what cannot matter there is
//! not an error: a hidden operand, a `false` of `&&` and a `true` of `||` win over an error of the other operand.

use crate::expr::{BinaryOp, Expr, UnaryOp};
use crate::ir::{SUMMARY_BLOCK, is_blocked};
use crate::launch::Keys;
use crate::philox::random;
use crate::spec::{ScalarValue, TensorParam, TensorType};
use std::ops::Range;
use thiserror::Error;

/// A number or a truth value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    /// Of an integer expression.
    Int(i64),
    /// Of a float expression.
    Float(f64),
    /// Of a predicate.
    Bool(bool),
}

impl Value {
    /// The integer; 0 of anything else, which a typed expression never is.
    pub fn int(self) -> i64 {
        if let Value::Int(value) = self { value } else { 0 }
    }

    /// The float; NaN of anything else, which a typed expression never is.
    pub fn float(self) -> f64 {
        if let Value::Float(value) = self { value } else { f64::NAN }
    }

    /// The truth value; false of anything else, which a typed expression never is.
    pub fn bool(self) -> bool {
        self == Value::Bool(true)
    }
}

impl From<ScalarValue> for Value {
    fn from(value: ScalarValue) -> Self {
        match value {
            ScalarValue::I32(value) => Value::Int(value.into()),
            ScalarValue::U32(value) => Value::Int(value.into()),
            ScalarValue::F32(value) => Value::Float(value.into()),
            ScalarValue::Bool(value) => Value::Bool(value),
        }
    }
}

/// A tensor in memory: `data` in row-major order. Integers and truth values are kept as floats; any `f64` that is not zero
/// is true.
#[derive(Clone, Debug, PartialEq)]
pub struct HostTensor {
    /// The length of each dimension.
    pub shape: Vec<usize>,
    /// The elements, the last dimension's next to each other.
    pub data: Vec<f64>,
}

/// What the leaves of an expression are.
#[derive(Clone, Copy, Debug)]
pub struct Environment<'a> {
    /// `i`.
    pub query: i64,
    /// `j`.
    pub key: i64,
    /// `batch()`.
    pub batch: i64,
    /// `head()`.
    pub head: i64,
    /// `kv_head()`.
    pub kv_head: i64,
    /// `q_len()`.
    pub query_length: i64,
    /// The sets of keys, of which `kv_len()` is a length.
    pub keys: &'a [Keys],
    /// `head_dim()`.
    pub head_dim: i64,
    /// What [`Expr::Value`] counts in: products of a query and a key, or what an output is made of.
    pub values: &'a [f64],
    /// `scale()`.
    pub scale: f64,
    /// `i0`.
    pub query_first: i64,
    /// `i1`.
    pub query_last: i64,
    /// `j0`.
    pub key_first: i64,
    /// `j1`.
    pub key_last: i64,
    /// The scalars that [`Expr::Scalar`] counts in.
    pub scalars: &'a [Value],
    /// The captured tensors that [`Expr::Load`] counts in.
    pub tensors: &'a [HostTensor],
    /// How those are declared.
    pub tensor_params: &'a [TensorParam],
    /// Whether an index outside a tensor reads its nearest element, as in kernels, or is an error.
    pub clamped: bool,
}

impl Environment<'_> {
    /// Zeros, and nothing captured.
    pub const EMPTY: Environment<'static> = Environment {
        query: 0,
        key: 0,
        batch: 0,
        head: 0,
        kv_head: 0,
        query_length: 0,
        keys: &[],
        head_dim: 0,
        values: &[],
        scale: 1.0,
        query_first: 0,
        query_last: 0,
        key_first: 0,
        key_last: 0,
        scalars: &[],
        tensors: &[],
        tensor_params: &[],
        clamped: false,
    };
}

/// Why an expression has no value here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum EvalError {
    /// An index outside its captured tensor.
    #[error("index {index} into dimension {dimension}, of length {length}, of captured tensor {tensor}")]
    OutOfRange {
        /// The tensor's place in the list of captured tensors.
        tensor: usize,
        /// The dimension, from 0.
        dimension: usize,
        /// The index.
        index: i64,
        /// The dimension's length.
        length: usize,
    },
    /// An integer division, or remainder, by zero.
    #[error("integer division by zero")]
    DivisionByZero,
    /// An integer that leaves even 64 bits.
    #[error("an integer overflows")]
    Overflow,
    /// An expression whose operands have no common type, or that names a parameter which does not exist.
    #[error("an operation on operands of the wrong types")]
    Types,
}

/// The value of `expr`, or `None` where it is hidden.
pub fn evaluate(expr: &Expr, at: &Environment) -> Result<Option<Value>, EvalError> {
    Ok(Some(match expr {
        Expr::Query => Value::Int(at.query),
        Expr::Key => Value::Int(at.key),
        Expr::Batch => Value::Int(at.batch),
        Expr::Head => Value::Int(at.head),
        Expr::KvHead => Value::Int(at.kv_head),
        Expr::QueryLen => Value::Int(at.query_length),
        Expr::KeyLen(set) => Value::Int(at.keys.get(*set).ok_or(EvalError::Types)?.length as i64),
        Expr::HeadDim => Value::Int(at.head_dim),
        // What is evaluated without a device is of specifications and of tiles' ends.
        Expr::Number(_) => return Err(EvalError::Types),
        Expr::Value(place) => Value::Float(*at.values.get(*place).ok_or(EvalError::Types)?),
        Expr::Scale => Value::Float(at.scale),
        Expr::QueryFirst => Value::Int(at.query_first),
        Expr::QueryLast => Value::Int(at.query_last),
        Expr::KeyFirst => Value::Int(at.key_first),
        Expr::KeyLast => Value::Int(at.key_last),
        Expr::Int(value) => Value::Int((*value).into()),
        Expr::Float(value) => Value::Float(value.value().into()),
        Expr::Bool(value) => Value::Bool(*value),
        Expr::Scalar(place) => *at.scalars.get(*place).ok_or(EvalError::Types)?,
        Expr::Load { tensor, index } => return load(*tensor, index, at),
        Expr::Extreme { tensor, greatest, index } => return extreme(*tensor, *greatest, index, at),
        Expr::Count { tensor, index, value, inclusive } => return count(*tensor, index, value, *inclusive, at),
        Expr::Next { tensor, index, from } => return next(*tensor, index, from, at),
        Expr::Unary(op, a) => match evaluate(a, at)? {
            Some(a) => unary(*op, a)?,
            None => return Ok(None),
        },
        Expr::Binary(op, a, b) => {
            let decides =
                |value| matches!((op, value), (BinaryOp::And, Value::Bool(false)) | (BinaryOp::Or, Value::Bool(true)));
            let a = match evaluate(a, at) {
                Ok(Some(a)) => a,
                Ok(None) => return Ok(None),
                Err(error) => match evaluate(b, at)? {
                    None => return Ok(None),
                    Some(b) if decides(b) => return Ok(Some(b)),
                    Some(_) => return Err(error),
                },
            };
            match evaluate(b, at) {
                Ok(Some(b)) => binary(*op, a, b)?,
                Ok(None) => return Ok(None),
                Err(_) if decides(a) => a,
                Err(error) => return Err(error),
            }
        }
        Expr::Random(of) => {
            let mut integers = [0; 5];
            for (integer, expr) in integers.iter_mut().zip(of.iter()) {
                match evaluate(expr, at)? {
                    Some(value) => *integer = value.int(),
                    None => return Ok(None),
                }
            }
            let [seed, batch, head, query, key] = integers;
            Value::Float(random(seed, batch, head, query, key))
        }
        Expr::Select(condition, then, otherwise) => {
            return match evaluate(condition, at)? {
                None => Ok(None),
                Some(Value::Bool(true)) => evaluate(then, at),
                Some(Value::Bool(false)) => evaluate(otherwise, at),
                Some(_) => Err(EvalError::Types),
            };
        }
        Expr::Mask(score, visible) => {
            return match evaluate(visible, at) {
                Ok(None | Some(Value::Bool(false))) => Ok(None),
                Ok(Some(_)) => evaluate(score, at),
                Err(error) => match evaluate(score, at)? {
                    None => Ok(None),
                    Some(_) => Err(error),
                },
            };
        }
    }))
}

fn load(tensor: usize, index: &[Expr], at: &Environment) -> Result<Option<Value>, EvalError> {
    let (Some(host), Some(param)) = (at.tensors.get(tensor), at.tensor_params.get(tensor)) else {
        return Err(EvalError::Types);
    };
    let Some(place) = element_place(tensor, index, at)? else { return Ok(None) };
    let element = *host.data.get(place).ok_or(EvalError::Types)?;
    Ok(Some(match param.ty {
        TensorType::F32 | TensorType::F16 | TensorType::Bf16 => Value::Float(element),
        TensorType::I32 => Value::Int(element as i64),
        TensorType::Bool => Value::Bool(element != 0.0),
    }))
}

/// The place of an element of a captured tensor in its data, or `None` where an index is hidden.
pub(crate) fn element_place(tensor: usize, index: &[Expr], at: &Environment) -> Result<Option<usize>, EvalError> {
    let host = at.tensors.get(tensor).ok_or(EvalError::Types)?;
    if index.len() != host.shape.len() {
        return Err(EvalError::Types);
    }
    let mut place = 0;
    for (dimension, (index, &length)) in index.iter().zip(&host.shape).enumerate() {
        let Some(index) = evaluate(index, at)? else { return Ok(None) };
        let Value::Int(index) = index else { return Err(EvalError::Types) };
        let index = if at.clamped { nearest(index, length) as i64 } else { index };
        if index < 0 || index >= length as i64 {
            return Err(EvalError::OutOfRange { tensor, dimension, index, length });
        }
        place = place * length + index as usize;
    }
    Ok(Some(place))
}

/// The values of integers.
fn integers<'a>(exprs: impl Iterator<Item = &'a Expr>, at: &Environment) -> Result<Option<Vec<i64>>, EvalError> {
    let mut values = Vec::new();
    for expr in exprs {
        match evaluate(expr, at)? {
            None => return Ok(None),
            Some(Value::Int(value)) => values.push(value),
            Some(_) => return Err(EvalError::Types),
        }
    }
    Ok(Some(values))
}

/// The index next to `index` in a dimension of `length`.
fn nearest(index: i64, length: usize) -> usize {
    index.clamp(0, length.saturating_sub(1) as i64) as usize
}

fn extreme(
    tensor: usize,
    greatest: bool,
    index: &[(Expr, Expr)],
    at: &Environment,
) -> Result<Option<Value>, EvalError> {
    let host = at.tensors.get(tensor).ok_or(EvalError::Types)?;
    let Some(ends) = integers(index.iter().flat_map(|(first, last)| [first, last]), at)? else { return Ok(None) };
    if index.len() != host.shape.len() {
        return Err(EvalError::Types);
    }
    if host.data.is_empty() {
        return Ok(Some(Value::Int(0)));
    }
    // The whole blocks that the box touches.
    let sides = index.iter().zip(&host.shape).enumerate().map(|(dimension, ((first, last), &length))| {
        let (from, to) = (nearest(ends[2 * dimension], length), nearest(ends[2 * dimension + 1], length));
        if is_blocked(first, last) {
            from / SUMMARY_BLOCK * SUMMARY_BLOCK..((to / SUMMARY_BLOCK + 1) * SUMMARY_BLOCK).min(length)
        } else {
            from..to + 1
        }
    });
    let sides: Vec<Range<usize>> = sides.collect();
    let boolean = at.tensor_params.get(tensor).is_some_and(|param| param.ty == TensorType::Bool);
    let integer = |&element: &f64| if boolean { i64::from(element != 0.0) } else { element as i64 };
    let mut found = if greatest { i64::MIN } else { i64::MAX };
    for_each_row(&sides, &host.shape, 0, &mut |row| {
        let elements = host.data.get(row).unwrap_or_default().iter().map(integer);
        found = if greatest { elements.fold(found, i64::max) } else { elements.fold(found, i64::min) };
    });
    Ok(Some(Value::Int(found)))
}

/// Calls `visit` with the places, next to each other in memory, of each row of a box in a tensor of `shape`: `before` counts the rows of
/// the dimensions before `sides`.
fn for_each_row(sides: &[Range<usize>], shape: &[usize], before: usize, visit: &mut impl FnMut(Range<usize>)) {
    match (sides, shape) {
        ([side], [length]) => visit(before * length + side.start..before * length + side.end),
        ([side, sides @ ..], [length, shape @ ..]) => {
            side.clone().for_each(|at| for_each_row(sides, shape, before * length + at, visit));
        }
        // A tensor without dimensions has one element.
        _ => visit(0..1),
    }
}

fn next(tensor: usize, index: &[(Expr, Expr)], from: &Expr, at: &Environment) -> Result<Option<Value>, EvalError> {
    let host = at.tensors.get(tensor).ok_or(EvalError::Types)?;
    let Some(start) = integers([from].into_iter(), at)? else { return Ok(None) };
    let length = *host.shape.last().ok_or(EvalError::Types)?;
    let block = if is_blocked(from, &Expr::KeyLast) { SUMMARY_BLOCK } else { 1 };
    let first = nearest(start[0], length) / block * block;
    for block_start in (first..length).step_by(block) {
        for column in block_start..(block_start + block).min(length) {
            let column = Expr::Int(i32::try_from(column).map_err(|_| EvalError::Overflow)?);
            let index: Vec<_> = index.iter().cloned().chain([(column.clone(), column)]).collect();
            if extreme(tensor, true, &index, at)? != Some(Value::Int(0)) {
                let found = if block_start == first { start[0] } else { block_start as i64 };
                return Ok(Some(Value::Int(found)));
            }
        }
    }
    Ok(Some(Value::Int(start[0].max(length as i64))))
}

fn count(
    tensor: usize,
    index: &[Expr],
    value: &Expr,
    inclusive: bool,
    at: &Environment,
) -> Result<Option<Value>, EvalError> {
    let host = at.tensors.get(tensor).ok_or(EvalError::Types)?;
    let Some(numbers) = integers(index.iter().chain([value]), at)? else { return Ok(None) };
    if numbers.len() != host.shape.len() {
        return Err(EvalError::Types);
    }
    let (indices, value) = (&numbers[..index.len()], numbers[index.len()] as f64);
    let length = host.shape[index.len()];
    let row = indices.iter().zip(&host.shape).fold(0, |row, (&at, &length)| row * length + nearest(at, length));
    let row = host.data.get(row * length..(row + 1) * length).unwrap_or_default();
    let found = row.partition_point(|&element| element < value || (inclusive && element == value));
    Ok(Some(Value::Int(found as i64)))
}

fn unary(op: UnaryOp, a: Value) -> Result<Value, EvalError> {
    Ok(match (op, a) {
        (UnaryOp::Neg, Value::Int(a)) => Value::Int(a.checked_neg().ok_or(EvalError::Overflow)?),
        (UnaryOp::Neg, Value::Float(a)) => Value::Float(-a),
        (UnaryOp::Not, Value::Bool(a)) => Value::Bool(!a),
        (UnaryOp::Abs, Value::Int(a)) => Value::Int(a.checked_abs().ok_or(EvalError::Overflow)?),
        (UnaryOp::Abs, Value::Float(a)) => Value::Float(a.abs()),
        (UnaryOp::Ilog2, Value::Int(a)) => Value::Int(ilog2(a)),
        (UnaryOp::ToFloat, Value::Int(a)) => Value::Float(a as f64),
        (UnaryOp::ToFloat, Value::Bool(a)) => Value::Float(a.into()),
        (UnaryOp::ToInt, Value::Float(a)) => Value::Int((a as i32).into()),
        (UnaryOp::ToInt, Value::Bool(a)) => Value::Int(a.into()),
        (_, Value::Float(a)) => Value::Float(function(op, a).ok_or(EvalError::Types)?),
        _ => return Err(EvalError::Types),
    })
}

/// `op` of a float, where that is a function from floats to floats.
pub(crate) fn function(op: UnaryOp, a: f64) -> Option<f64> {
    Some(match op {
        UnaryOp::Exp => a.exp(),
        UnaryOp::Exp2 => a.exp2(),
        UnaryOp::Log => a.ln(),
        UnaryOp::Log2 => a.log2(),
        UnaryOp::Sqrt => a.sqrt(),
        UnaryOp::Tanh => a.tanh(),
        UnaryOp::Sigmoid => 1.0 / (1.0 + (-a).exp()),
        UnaryOp::Relu => a.max(0.0),
        UnaryOp::Sin => a.sin(),
        UnaryOp::Cos => a.cos(),
        UnaryOp::Floor => a.floor(),
        UnaryOp::Ceil => a.ceil(),
        UnaryOp::Round => a.round(),
        UnaryOp::Neg => -a,
        UnaryOp::Abs => a.abs(),
        UnaryOp::Not | UnaryOp::ToFloat | UnaryOp::ToInt | UnaryOp::Ilog2 => return None,
    })
}

/// The place of the highest bit of a positive number, from 0, and −1 of any other: it never decreases.
pub fn ilog2(a: i64) -> i64 {
    a.checked_ilog2().map_or(-1, i64::from)
}

fn binary(op: BinaryOp, a: Value, b: Value) -> Result<Value, EvalError> {
    use BinaryOp::*;
    Ok(match (a, b) {
        (Value::Int(a), Value::Int(b)) => {
            let number = match op {
                Add => a.checked_add(b),
                Sub => a.checked_sub(b),
                Mul => a.checked_mul(b),
                Div if b == 0 => return Err(EvalError::DivisionByZero),
                Rem if b == 0 => return Err(EvalError::DivisionByZero),
                Div => floor_div(a, b),
                Rem => floor_rem(a, b),
                Min => Some(a.min(b)),
                Max => Some(a.max(b)),
                _ => return compare(op, &a, &b),
            };
            Value::Int(number.ok_or(EvalError::Overflow)?)
        }
        (Value::Float(a), Value::Float(b)) => Value::Float(match op {
            Add => a + b,
            Sub => a - b,
            Mul => a * b,
            Div => a / b,
            Min => a.min(b),
            Max => a.max(b),
            Pow => a.powf(b),
            _ => return compare(op, &a, &b),
        }),
        (Value::Bool(a), Value::Bool(b)) => Value::Bool(match op {
            And => a && b,
            Or => a || b,
            Eq => a == b,
            Ne => a != b,
            _ => return Err(EvalError::Types),
        }),
        _ => return Err(EvalError::Types),
    })
}

fn compare<T: PartialOrd>(op: BinaryOp, a: &T, b: &T) -> Result<Value, EvalError> {
    Ok(Value::Bool(match op {
        BinaryOp::Lt => a < b,
        BinaryOp::Le => a <= b,
        BinaryOp::Gt => a > b,
        BinaryOp::Ge => a >= b,
        BinaryOp::Eq => a == b,
        BinaryOp::Ne => a != b,
        _ => return Err(EvalError::Types),
    }))
}

/// The largest integer not above a / b; `None` where b is zero or the quotient overflows.
pub fn floor_div(a: i64, b: i64) -> Option<i64> {
    let quotient = a.checked_div(b)?;
    Some(if a % b != 0 && (a < 0) != (b < 0) { quotient - 1 } else { quotient })
}

/// a - b ⌊a / b⌋, which has the sign of b; `None` where b is zero.
pub fn floor_rem(a: i64, b: i64) -> Option<i64> {
    if b == -1 {
        return Some(0);
    }
    let remainder = a.checked_rem(b)?;
    Some(if remainder != 0 && (remainder < 0) != (b < 0) { remainder + b } else { remainder })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::parse::parse_expr;
    use crate::spec::{Order, ScalarParam, ScalarType};
    use crate::typing::Parameters;

    fn at_three(text: &str) -> Result<Option<Value>, EvalError> {
        let tensors = [TensorParam { name: "t".into(), ty: TensorType::I32, rank: 1, order: Order::Any }];
        let scalars = [ScalarParam { name: "w".into(), ty: ScalarType::I32, comptime: false }];
        let expr = parse_expr(
            text,
            Parameters { scalars: &scalars, tensors: &tensors, values: crate::typing::SCORE, numbers: &[] },
        )
        .unwrap();
        let host = [HostTensor { shape: vec![2], data: vec![10.0, 20.0] }];
        let environment = Environment {
            query: 3,
            key: 5,
            values: &[2.0],
            scalars: &[Value::Int(7)],
            tensors: &host,
            tensor_params: &tensors,
            ..Environment::EMPTY
        };
        evaluate(&expr, &environment)
    }

    #[test]
    fn division_is_floor_division() {
        for (a, b, quotient, remainder) in
            [(7, 2, 3, 1), (-7, 2, -4, 1), (7, -2, -4, -1), (-7, -2, 3, -1), (6, -3, -2, 0)]
        {
            assert_eq!(floor_div(a, b), Some(quotient), "{a} / {b}");
            assert_eq!(floor_rem(a, b), Some(remainder), "{a} % {b}");
        }
        assert_eq!(at_three("(i - j - 1) / 2"), Ok(Some(Value::Int(-2))));
        assert_eq!(at_three("1 / (i - 3)"), Err(EvalError::DivisionByZero));
    }

    #[test]
    fn what_is_computed_from_a_masked_score_is_hidden() {
        assert_eq!(at_three("mask(s, j <= i) * 2.0"), Ok(None));
        assert_eq!(at_three("mask(s, j > i) * 2.0"), Ok(Some(Value::Float(4.0))));
        assert_eq!(at_three("if j <= i { mask(s, false) } else { s }"), Ok(Some(Value::Float(2.0))));
        assert_eq!(at_three("if j > i { mask(s, false) } else { s }"), Ok(None));
    }

    #[test]
    fn an_error_that_cannot_matter_is_none() {
        let out_of_range = Err(EvalError::OutOfRange { tensor: 0, dimension: 0, index: -2, length: 2 });
        assert_eq!(at_three("t[i - j]"), out_of_range);
        assert_eq!(at_three("j <= i && t[i - j] > 0"), Ok(Some(Value::Bool(false))));
        assert_eq!(at_three("t[i - j] > 0 || w == 7"), Ok(Some(Value::Bool(true))));
        assert_eq!(at_three("t[i - j] as f32 + mask(s, j <= i)"), Ok(None));
        assert_eq!(at_three("t[j - i - 1]"), Ok(Some(Value::Int(20))));
    }
}
