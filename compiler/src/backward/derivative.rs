//! The derivative of a float expression with respect to one of its leaves.
//!
//! Where a function has a kink, the conventions are PyTorch's:
//!
//! | function | at the kink |
//! |---|---|
//! | `abs(x)` | 0 at 0 |
//! | `relu(x)` | 0 at 0 |
//! | `min(a, b)`, `max(a, b)` | half for each where they are equal |
//! | `max(min(x, high), low)`, with ends that x is not in (`clamp`) | 1 at both ends |
//! | `pow(a, b)` | with respect to a: 0 where b is 0; with respect to b: 0 where a is 0 and b is not negative |
//! | `floor`, `ceil`, `round` | 0 everywhere |
//! | `if c { a } else { b }` | that of the branch that is taken; c has none |

use crate::expr::{BinaryOp, Expr, UnaryOp};

/// ∂`expr`/∂`leaf`, for each occurrence of `leaf` as it stands; 0 where it has none.
pub fn derivative(expr: &Expr, leaf: &Expr) -> Expr {
    if expr == leaf {
        return Expr::float(1.0);
    }
    if !expr.mentions(leaf) {
        return Expr::float(0.0);
    }
    match expr {
        Expr::Unary(op, a) => times(of_unary(*op, a), derivative(a, leaf)),
        Expr::Binary(BinaryOp::Max | BinaryOp::Min, ..) if clamped(expr, leaf).is_some() => {
            let (x, low, high) = clamped(expr, leaf).unwrap_or((expr, expr, expr));
            let compare = |op, end: &Expr| Expr::binary(op, x.clone(), end.clone());
            let within = Expr::binary(BinaryOp::And, compare(BinaryOp::Ge, low), compare(BinaryOp::Le, high));
            select(within, derivative(x, leaf), Expr::float(0.0))
        }
        Expr::Binary(op, a, b) => of_binary(*op, (a, derivative(a, leaf)), (b, derivative(b, leaf))),
        Expr::Select(condition, a, b) => select((**condition).clone(), derivative(a, leaf), derivative(b, leaf)),
        // Of what an index is made, or a random number, nothing is a float.
        _ => Expr::float(0.0),
    }
}

/// x and its ends in `max(min(x, high), low)` or `min(max(x, low), high)`, where the leaf is in x alone.
fn clamped<'a>(expr: &'a Expr, leaf: &Expr) -> Option<(&'a Expr, &'a Expr, &'a Expr)> {
    let Expr::Binary(outer, a, end) = expr else { return None };
    let Expr::Binary(inner, x, other) = &**a else { return None };
    if end.mentions(leaf) || other.mentions(leaf) {
        return None;
    }
    match (outer, inner) {
        (BinaryOp::Max, BinaryOp::Min) => Some((x, end, other)),
        (BinaryOp::Min, BinaryOp::Max) => Some((x, other, end)),
        _ => None,
    }
}

/// The derivative of a function at `a`.
fn of_unary(op: UnaryOp, a: &Expr) -> Expr {
    let number = Expr::float;
    let of = |op| Expr::unary(op, a.clone());
    let over = |divisor: Expr| Expr::binary(BinaryOp::Div, number(1.0), divisor);
    let is = |op| Expr::binary(op, a.clone(), number(0.0));
    match op {
        UnaryOp::Neg => number(-1.0),
        UnaryOp::Abs => select(is(BinaryOp::Gt), number(1.0), select(is(BinaryOp::Lt), number(-1.0), number(0.0))),
        UnaryOp::Exp => of(UnaryOp::Exp),
        UnaryOp::Exp2 => times(of(UnaryOp::Exp2), number(std::f32::consts::LN_2)),
        UnaryOp::Log => over(a.clone()),
        UnaryOp::Log2 => times(over(a.clone()), number(std::f32::consts::LOG2_E)),
        UnaryOp::Sqrt => Expr::binary(BinaryOp::Div, number(0.5), of(UnaryOp::Sqrt)),
        UnaryOp::Tanh => {
            let value = of(UnaryOp::Tanh);
            Expr::binary(BinaryOp::Sub, number(1.0), times(value.clone(), value))
        }
        UnaryOp::Sigmoid => {
            let value = of(UnaryOp::Sigmoid);
            times(value.clone(), Expr::binary(BinaryOp::Sub, number(1.0), value))
        }
        UnaryOp::Relu => select(is(BinaryOp::Gt), number(1.0), number(0.0)),
        UnaryOp::Sin => of(UnaryOp::Cos),
        UnaryOp::Cos => Expr::unary(UnaryOp::Neg, of(UnaryOp::Sin)),
        // Steps, and what gives no float or is given none.
        UnaryOp::Floor
        | UnaryOp::Ceil
        | UnaryOp::Round
        | UnaryOp::Not
        | UnaryOp::Ilog2
        | UnaryOp::ToFloat
        | UnaryOp::ToInt => number(0.0),
    }
}

/// The derivative of an operation on two floats, each given with its own.
fn of_binary(op: BinaryOp, (a, of_a): (&Expr, Expr), (b, of_b): (&Expr, Expr)) -> Expr {
    let number = Expr::float;
    let binary = |op, a: &Expr, b: &Expr| Expr::binary(op, a.clone(), b.clone());
    match op {
        BinaryOp::Add => plus(of_a, of_b),
        BinaryOp::Sub => minus(of_a, of_b),
        BinaryOp::Mul => plus(times(of_a, b.clone()), times(a.clone(), of_b)),
        // (a / b)' = a' / b − (a / b) · b' / b
        BinaryOp::Div => {
            let by_b = times(of_b, Expr::binary(BinaryOp::Div, binary(BinaryOp::Div, a, b), b.clone()));
            minus(divided(of_a, b.clone()), by_b)
        }
        BinaryOp::Min | BinaryOp::Max => {
            let first = if op == BinaryOp::Min { BinaryOp::Lt } else { BinaryOp::Gt };
            let half = times(number(0.5), plus(of_a.clone(), of_b.clone()));
            select(binary(first, a, b), of_a, select(binary(BinaryOp::Eq, a, b), half, of_b))
        }
        BinaryOp::Pow => {
            let is_zero = |of: &Expr| Expr::binary(BinaryOp::Eq, of.clone(), number(0.0));
            let less = Expr::binary(BinaryOp::Sub, b.clone(), number(1.0));
            let by_a = times(b.clone(), Expr::binary(BinaryOp::Pow, a.clone(), less));
            let by_a = select(is_zero(b), number(0.0), by_a);
            let by_b = times(binary(BinaryOp::Pow, a, b), Expr::unary(UnaryOp::Log, a.clone()));
            let flat = Expr::binary(BinaryOp::And, is_zero(a), Expr::binary(BinaryOp::Ge, b.clone(), number(0.0)));
            plus(times(of_a, by_a), times(of_b, select(flat, number(0.0), by_b)))
        }
        // Of integers and truth values.
        _ => number(0.0),
    }
}

fn is(expr: &Expr, value: f32) -> bool {
    *expr == Expr::float(value)
}

/// `a + b`.
pub fn plus(a: Expr, b: Expr) -> Expr {
    match (a, b) {
        (a, b) if is(&b, 0.0) => a,
        (a, b) if is(&a, 0.0) => b,
        (a, b) => Expr::binary(BinaryOp::Add, a, b),
    }
}

/// `a - b`.
pub fn minus(a: Expr, b: Expr) -> Expr {
    match (a, b) {
        (a, b) if is(&b, 0.0) => a,
        (a, b) if is(&a, 0.0) => Expr::unary(UnaryOp::Neg, b),
        (a, b) => Expr::binary(BinaryOp::Sub, a, b),
    }
}

/// `a * b`, and 0 where one of them is: a derivative that does not depend on something has none of it, whatever the other factor is.
pub fn times(a: Expr, b: Expr) -> Expr {
    match (a, b) {
        (a, b) if is(&a, 0.0) || is(&b, 0.0) => Expr::float(0.0),
        (a, b) if is(&a, 1.0) => b,
        (a, b) if is(&b, 1.0) => a,
        (a, b) => Expr::binary(BinaryOp::Mul, a, b),
    }
}

/// `a / b`, likewise.
pub fn divided(a: Expr, b: Expr) -> Expr {
    if is(&a, 0.0) { a } else { Expr::binary(BinaryOp::Div, a, b) }
}

/// `if condition { a } else { b }`, and `a` where both are the same.
pub fn select(condition: Expr, a: Expr, b: Expr) -> Expr {
    if a == b { a } else { Expr::select(condition, a, b) }
}

#[cfg(test)]
mod tests {
    use super::derivative;
    use crate::eval::{Environment, Value, evaluate};
    use crate::expr::Expr;
    use crate::ir::parse::parse_expr;
    use crate::typing::{Parameters, SCORE};

    const NOTHING: Parameters = Parameters { scalars: &[], tensors: &[], values: SCORE, numbers: &[] };

    fn value(expr: &Expr, s: f64) -> f64 {
        let at = Environment { values: &[s], query: 7, key: 3, ..Environment::EMPTY };
        evaluate(expr, &at).unwrap().map_or(f64::NAN, Value::float)
    }

    /// Checks the derivative of `text` by s against a difference quotient at some points.
    #[track_caller]
    fn check(text: &str) {
        let expr = parse_expr(text, NOTHING).unwrap();
        let found = derivative(&expr, &Expr::SCORE);
        for s in [-2.3, -0.7, 0.4, 1.6] {
            let step = 1e-5;
            let expected = (value(&expr, s + step) - value(&expr, s - step)) / (2.0 * step);
            let given = value(&found, s);
            let close = (given - expected).abs() <= 1e-6 * expected.abs().max(1.0);
            assert!(close, "{text} at {s}: {given}, expected {expected}; {}", found.display(NOTHING));
        }
    }

    #[test]
    fn every_function_has_its_derivative() {
        let functions = [
            "-s",
            "abs(s)",
            "exp(s)",
            "exp2(s)",
            "log(s * s + 1.0)",
            "log2(abs(s))",
            "sqrt(s * s + 0.5)",
            "tanh(s)",
            "sigmoid(s)",
            "relu(s)",
            "sin(s)",
            "cos(s)",
            "floor(s)",
            "ceil(s)",
            "round(s)",
            "min(s, 0.5)",
            "max(s, s * s)",
            "pow(abs(s), 1.7)",
            "pow(2.0, s)",
            "s / (1.0 + s * s)",
            "3.0 * s - s * s * (i - j) as f32",
            "if i > j { s * s } else { 0.0 }",
            "if s > 0.0 { s * s } else { exp(s) }",
            "max(min(s, 0.9), -0.9) * s",
            "30.0 * tanh(s / 30.0)",
        ];
        functions.into_iter().for_each(check);
    }

    #[test]
    fn kinks_are_pytorchs() {
        let at = |text: &str, s: f64| value(&derivative(&parse_expr(text, NOTHING).unwrap(), &Expr::SCORE), s);
        assert_eq!([at("abs(s)", 0.0), at("relu(s)", 0.0)], [0.0, 0.0]);
        assert_eq!([at("max(s, 0.0)", 0.0), at("min(s, -s)", 0.0), at("max(s, s)", 1.0)], [0.5, 0.0, 1.0]);
        assert_eq!([at("max(min(s, 1.0), -1.0)", 1.0), at("min(max(s, -1.0), 1.0)", -1.0)], [1.0, 1.0]);
        assert_eq!(at("max(min(s, 1.0), -1.0)", 1.5), 0.0);
        assert_eq!([at("pow(s, 0.0)", 0.0), at("pow(0.0, abs(s))", 2.0)], [0.0, 0.0]);
    }

    #[test]
    fn what_is_not_there_has_none() {
        let expr = parse_expr("exp(i as f32) + 2.0", NOTHING).unwrap();
        assert_eq!(derivative(&expr, &Expr::SCORE), Expr::float(0.0));
        let expr = parse_expr("s * scale() + (j - i) as f32", NOTHING).unwrap();
        assert_eq!(derivative(&expr, &Expr::SCORE).display(NOTHING).to_string(), "scale()");
        assert_eq!(derivative(&expr, &Expr::Scale).display(NOTHING).to_string(), "s");
    }
}
