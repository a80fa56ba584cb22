//! Expressions without constant parts.
//!
//! Every rule is exact: integers are mathematical, and floats keep their NaNs, infinities and signs of zero. A constant is
//! folded only to a finite f32 or to an i32, and a division by zero is left to be refused.

use crate::eval::{self, Environment, Value};
use crate::expr::{BinaryOp, Expr, Type, UnaryOp};
use crate::typing::Parameters;

/// An expression of the same value, with no constant part.
pub fn simplify(expr: &Expr, parameters: Parameters) -> Expr {
    let mut expr = expr.map_children(|child| simplify(child, parameters));
    while let Some(simpler) = fold(&expr).or_else(|| rewrite(&expr, parameters)) {
        expr = simpler;
    }
    expr
}

/// The constant that an operation on constants gives.
fn fold(expr: &Expr) -> Option<Expr> {
    let constant = |expr: &Expr| matches!(expr, Expr::Int(_) | Expr::Float(_) | Expr::Bool(_));
    let operation = matches!(expr, Expr::Unary(..) | Expr::Binary(..));
    if !operation || !expr.children().into_iter().all(constant) {
        return None;
    }
    // One operation on f32 operands in f64, rounded once: what f32 arithmetic gives.
    match eval::evaluate(expr, &Environment::EMPTY).ok()?? {
        Value::Int(value) => i32::try_from(value).ok().map(Expr::Int),
        Value::Bool(value) => Some(Expr::Bool(value)),
        Value::Float(value) => Some(value as f32).filter(|value| value.is_finite()).map(Expr::float),
    }
}

/// One rule, applied at the root; the operands are simple.
fn rewrite(expr: &Expr, parameters: Parameters) -> Option<Expr> {
    match expr {
        Expr::Unary(op, a) => rewrite_unary(*op, a, parameters),
        Expr::Binary(op, a, b) => match parameters.assume_type(a) {
            Type::Int => rewrite_int(*op, a, b),
            Type::Float => rewrite_float(*op, a, b),
            Type::Bool => rewrite_bool(*op, a, b),
        },
        Expr::Select(condition, then, otherwise) => rewrite_select(condition, then, otherwise, parameters),
        _ => None,
    }
}

fn rewrite_unary(op: UnaryOp, a: &Expr, parameters: Parameters) -> Option<Expr> {
    match (op, a) {
        (UnaryOp::Neg, Expr::Unary(UnaryOp::Neg, a)) | (UnaryOp::Not, Expr::Unary(UnaryOp::Not, a)) => {
            Some((**a).clone())
        }
        (UnaryOp::Neg, Expr::Binary(BinaryOp::Sub, a, b)) if parameters.assume_type(a) == Type::Int => {
            Some(Expr::Binary(BinaryOp::Sub, b.clone(), a.clone()))
        }
        (UnaryOp::Abs, Expr::Unary(UnaryOp::Abs, _)) => Some(a.clone()),
        (UnaryOp::Abs, Expr::Unary(UnaryOp::Neg, a)) => Some(Expr::Unary(UnaryOp::Abs, a.clone())),
        // What is whole already.
        (
            UnaryOp::Floor | UnaryOp::Ceil | UnaryOp::Round,
            Expr::Unary(UnaryOp::Floor | UnaryOp::Ceil | UnaryOp::Round | UnaryOp::ToFloat, _),
        ) => Some(a.clone()),
        (UnaryOp::Not, Expr::Binary(op, a, b)) => {
            // The negation of an order of floats is also true of NaN: it is no order.
            let ordered = parameters.assume_type(a) != Type::Float;
            let negated = match op {
                BinaryOp::Eq => BinaryOp::Ne,
                BinaryOp::Ne => BinaryOp::Eq,
                BinaryOp::Lt if ordered => BinaryOp::Ge,
                BinaryOp::Le if ordered => BinaryOp::Gt,
                BinaryOp::Gt if ordered => BinaryOp::Le,
                BinaryOp::Ge if ordered => BinaryOp::Lt,
                _ => return None,
            };
            Some(Expr::Binary(negated, a.clone(), b.clone()))
        }
        _ => None,
    }
}

fn rewrite_int(op: BinaryOp, a: &Expr, b: &Expr) -> Option<Expr> {
    use BinaryOp::*;
    use Expr::Int;
    match (op, a, b) {
        (Add, x, Int(0)) | (Add, Int(0), x) | (Sub, x, Int(0)) => Some(x.clone()),
        (Mul, x, Int(1)) | (Mul, Int(1), x) | (Div, x, Int(1)) => Some(x.clone()),
        (Mul, _, Int(0)) | (Mul, Int(0), _) | (Rem, _, Int(1)) => Some(Int(0)),
        (Mul, x, Int(-1)) | (Mul, Int(-1), x) | (Div, x, Int(-1)) => Some(Expr::unary(UnaryOp::Neg, x.clone())),
        (Sub, Int(0), x) => Some(Expr::unary(UnaryOp::Neg, x.clone())),
        (Sub, x, y) if x == y => Some(Int(0)),
        (Min | Max, x, y) if x == y => Some(x.clone()),
        (Le | Ge | Eq, x, y) if x == y => Some(Expr::Bool(true)),
        (Lt | Gt | Ne, x, y) if x == y => Some(Expr::Bool(false)),
        (Add, x, Expr::Unary(UnaryOp::Neg, y)) => Some(Expr::binary(Sub, x.clone(), (**y).clone())),
        (Sub, x, Expr::Unary(UnaryOp::Neg, y)) => Some(Expr::binary(Add, x.clone(), (**y).clone())),
        (Add, Expr::Unary(UnaryOp::Neg, x), y) => Some(Expr::binary(Sub, y.clone(), (**x).clone())),
        (Add, x, Int(c)) if *c < 0 && *c > i32::MIN => Some(Expr::binary(Sub, x.clone(), Int(-c))),
        (Sub, x, Int(c)) if *c < 0 && *c > i32::MIN => Some(Expr::binary(Add, x.clone(), Int(-c))),
        (Add, Int(c), x) if !matches!(x, Int(_)) => Some(Expr::binary(Add, x.clone(), Int(*c))),
        (Add | Sub, Expr::Binary(inner @ (Add | Sub), x, c), Int(d)) => {
            let Int(c) = **c else { return None };
            let signed = |op, value: i32| if op == Add { i64::from(value) } else { -i64::from(value) };
            let sum = signed(*inner, c) + signed(op, *d);
            Some(Expr::binary(Add, (**x).clone(), Int(i32::try_from(sum).ok()?)))
        }
        _ => None,
    }
}

fn rewrite_float(op: BinaryOp, a: &Expr, b: &Expr) -> Option<Expr> {
    use BinaryOp::*;
    // x + 0.0 would turn -0.0 into 0.0, and x * 0.0 is not zero for a NaN or an infinity.
    let is = |expr: &Expr, value: f32| *expr == Expr::float(value);
    match op {
        Mul if is(b, 1.0) => Some(a.clone()),
        Mul if is(a, 1.0) => Some(b.clone()),
        Div if is(b, 1.0) => Some(a.clone()),
        Mul if is(b, -1.0) => Some(Expr::unary(UnaryOp::Neg, a.clone())),
        Mul if is(a, -1.0) => Some(Expr::unary(UnaryOp::Neg, b.clone())),
        Add if is(b, -0.0) => Some(a.clone()),
        Add if is(a, -0.0) => Some(b.clone()),
        Sub if is(b, 0.0) => Some(a.clone()),
        Min | Max if a == b => Some(a.clone()),
        Add => match b {
            Expr::Unary(UnaryOp::Neg, b) => Some(Expr::binary(Sub, a.clone(), (**b).clone())),
            _ => None,
        },
        Sub => match b {
            Expr::Unary(UnaryOp::Neg, b) => Some(Expr::binary(Add, a.clone(), (**b).clone())),
            _ => None,
        },
        _ => None,
    }
}

fn rewrite_bool(op: BinaryOp, a: &Expr, b: &Expr) -> Option<Expr> {
    use BinaryOp::*;
    use Expr::Bool;
    let not = |x: &Expr| Expr::unary(UnaryOp::Not, x.clone());
    match (op, a, b) {
        (And, x, Bool(true)) | (And, Bool(true), x) | (Or, x, Bool(false)) | (Or, Bool(false), x) => Some(x.clone()),
        (And, _, Bool(false)) | (And, Bool(false), _) => Some(Bool(false)),
        (Or, _, Bool(true)) | (Or, Bool(true), _) => Some(Bool(true)),
        (And | Or, x, y) if x == y => Some(x.clone()),
        (And, Expr::Binary(And, x, y), z) if **x == *z || **y == *z => Some(a.clone()),
        (Or, Expr::Binary(Or, x, y), z) if **x == *z || **y == *z => Some(a.clone()),
        (And, x, y) if *y == not(x) || *x == not(y) => Some(Bool(false)),
        (Or, x, y) if *y == not(x) || *x == not(y) => Some(Bool(true)),
        (Eq, x, Bool(true)) | (Eq, Bool(true), x) | (Ne, x, Bool(false)) | (Ne, Bool(false), x) => Some(x.clone()),
        (Eq, x, Bool(false)) | (Eq, Bool(false), x) | (Ne, x, Bool(true)) | (Ne, Bool(true), x) => Some(not(x)),
        (Eq, x, y) if x == y => Some(Bool(true)),
        (Ne, x, y) if x == y => Some(Bool(false)),
        _ => None,
    }
}

fn rewrite_select(condition: &Expr, then: &Expr, otherwise: &Expr, parameters: Parameters) -> Option<Expr> {
    let not = |x: &Expr| Expr::unary(UnaryOp::Not, x.clone());
    match (condition, then, otherwise) {
        (Expr::Bool(true), then, _) => Some(then.clone()),
        (Expr::Bool(false), _, otherwise) => Some(otherwise.clone()),
        (_, then, otherwise) if then == otherwise => Some(then.clone()),
        (Expr::Unary(UnaryOp::Not, condition), _, _) => {
            Some(Expr::select((**condition).clone(), otherwise.clone(), then.clone()))
        }
        (_, Expr::Bool(true), Expr::Bool(false)) => Some(condition.clone()),
        (_, Expr::Bool(false), Expr::Bool(true)) => Some(simplify(&not(condition), parameters)),
        (_, Expr::Bool(true), b) => Some(Expr::binary(BinaryOp::Or, condition.clone(), b.clone())),
        (_, a, Expr::Bool(false)) => Some(Expr::binary(BinaryOp::And, condition.clone(), a.clone())),
        (_, Expr::Bool(false), b) => {
            Some(Expr::binary(BinaryOp::And, simplify(&not(condition), parameters), b.clone()))
        }
        (_, a, Expr::Bool(true)) => Some(Expr::binary(BinaryOp::Or, simplify(&not(condition), parameters), a.clone())),
        _ => None,
    }
}
