//! Which bools are the same for every query and key, as far as the text of a function shows it.

use crate::tree::{Node, TypedValue};
use crate::types::ValueType;
use std::cmp::Ordering;

/// Whether `value` is always true, or always false; nothing if that depends on more than its text.
pub fn truth(value: &TypedValue) -> Option<bool> {
    match &value.node {
        Node::Bool(truth) => Some(*truth),
        Node::Block(_, tail) => truth(tail),
        Node::Lang { function, operands, .. } => match (*function, &operands[..]) {
            ("not", [a]) => truth(a).map(|a| !a),
            ("and", [a, b]) => absorbing(a, b, false),
            ("or", [a, b]) => absorbing(a, b, true),
            ("select", [test, then, otherwise]) => match truth(test) {
                Some(true) => truth(then),
                Some(false) => truth(otherwise),
                None => truth(then).filter(|then| truth(otherwise) == Some(*then)),
            },
            (comparison, [a, b]) => {
                let order = order(a, b)?;
                match comparison {
                    "lt" => Some(order.is_lt()),
                    "le" => Some(order.is_le()),
                    "gt" => Some(order.is_gt()),
                    "ge" => Some(order.is_ge()),
                    "eq" => Some(order.is_eq()),
                    "ne" => Some(order.is_ne()),
                    _ => None,
                }
            }
            _ => None,
        },
        _ => None,
    }
}

/// `a && b`, where `zero` is false, or `a || b`, where it is true.
fn absorbing(a: &TypedValue, b: &TypedValue, zero: bool) -> Option<bool> {
    match (truth(a), truth(b)) {
        (Some(truth), _) | (_, Some(truth)) if truth == zero => Some(zero),
        (Some(_), Some(_)) => Some(!zero),
        _ => None,
    }
}

/// How two bools, or two integers, compare. Not of floats: NaN is not equal to itself.
fn order(a: &TypedValue, b: &TypedValue) -> Option<Ordering> {
    if matches!(a.ty, ValueType::Int | ValueType::Bool) && is_same(a, b) {
        return Some(Ordering::Equal);
    }
    match (truth(a), truth(b)) {
        (Some(a), Some(b)) => Some(a.cmp(&b)),
        _ => Some(integer(a)?.cmp(&integer(b)?)),
    }
}

/// Whether `a` and `b` are written the same way, and so have the same value: no function of the language has an effect.
fn is_same(a: &TypedValue, b: &TypedValue) -> bool {
    let all = |a: &[TypedValue], b: &[TypedValue]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_same(a, b));
    match (&a.node, &b.node) {
        (Node::Int(a), Node::Int(b)) => a == b,
        (Node::Float(a), Node::Float(b)) => a == b,
        (Node::Bool(a), Node::Bool(b)) => a == b,
        (Node::Local(a), Node::Local(b)) | (Node::Tensor(a), Node::Tensor(b)) => a == b,
        (Node::Constant(a), Node::Constant(b)) => a == b,
        (Node::Load(a, a_index), Node::Load(b, b_index)) => a == b && all(a_index, b_index),
        (
            Node::Lang { function: a, operands: a_operands, .. },
            Node::Lang { function: b, operands: b_operands, .. },
        ) => a == b && all(a_operands, b_operands),
        (Node::Call(a, a_arguments, _), Node::Call(b, b_arguments, _)) => a == b && all(a_arguments, b_arguments),
        // A name in a block may be another one than outside of it.
        _ => false,
    }
}

/// The integer that `value` is, if it is made of literals and every step fits in 32 bits.
fn integer(value: &TypedValue) -> Option<i32> {
    let result = match &value.node {
        Node::Int(number) => i64::from(*number),
        Node::Lang { function, operands, .. } => {
            let numbers: Option<Vec<i64>> = operands.iter().map(|operand| integer(operand).map(i64::from)).collect();
            match (*function, &numbers?[..]) {
                ("neg", [a]) => -a,
                ("abs", [a]) => a.abs(),
                ("to_int", [a]) => *a,
                ("add", [a, b]) => a + b,
                ("sub", [a, b]) => a - b,
                ("mul", [a, b]) => a * b,
                ("min", [a, b]) => *a.min(b),
                ("max", [a, b]) => *a.max(b),
                ("div", [a, b]) if *b != 0 => floor_div(*a, *b),
                ("rem", [a, b]) if *b != 0 => a - b * floor_div(*a, *b),
                _ => return None,
            }
        }
        _ => return None,
    };
    i32::try_from(result).ok()
}

fn floor_div(a: i64, b: i64) -> i64 {
    let rounds_up = a % b != 0 && (a < 0) != (b < 0);
    a / b - i64::from(rounds_up)
}
