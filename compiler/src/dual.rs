//! Derivatives of an expression on numbers, by dual numbers: each float is computed with its derivatives by what it is made of.
//!
//! The [reference of gradients](mod@crate::interpret_backward) is built on this. It differentiates a number at a time and knows no symbolic
//! rule, so that it shares nothing with a pass that differentiates expressions. Integers and truth values have no derivative.
//!
//! Where a function has none, the conventions are PyTorch's:
//!
//! | | derivative |
//! |---|---|
//! | `abs`, `relu` | 0 at 0 |
//! | `min`, `max` of equal operands | half to each |
//! | `max(min(x, high), low)`, `min(max(x, low), high)` | 1 by x at both ends, where the ends do not depend on what x is differentiated by |
//! | `pow(a, b)` | by a 0 where b is 0, by b 0 where a is 0 and b is not negative |
//! | `floor`, `ceil`, `round` | 0 |
//! | `if` | that of the branch taken |

use crate::eval::{Environment, EvalError, Value, element_place, evaluate, function};
use crate::expr::{BinaryOp, Expr, UnaryOp};
use std::f64::consts::LN_2;

/// What an expression can be differentiated by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaf {
    /// [`Expr::Value`], such as a product of a query and a key.
    Value(usize),
    /// [`Expr::Scalar`], of a float.
    Scalar(usize),
    /// [`Expr::Scale`].
    Scale,
    /// An element of a captured tensor of floats.
    Element {
        /// The tensor's place in the list of captured tensors.
        tensor: usize,
        /// The element's place in the tensor's data.
        place: usize,
    },
}

/// A float and its derivatives.
#[derive(Clone, Debug, PartialEq)]
pub struct Dual {
    /// The float.
    pub value: f64,
    /// Its derivative by each leaf that it was computed from, each once.
    pub derivatives: Vec<(Leaf, f64)>,
}

impl Dual {
    fn constant(value: f64) -> Dual {
        Dual { value, derivatives: Vec::new() }
    }

    fn leaf(value: f64, leaf: Leaf) -> Dual {
        Dual { value, derivatives: vec![(leaf, 1.0)] }
    }

    /// The derivative by `leaf`, 0 where it was not computed from it.
    pub fn by(&self, leaf: Leaf) -> f64 {
        self.derivatives.iter().find(|(of, _)| *of == leaf).map_or(0.0, |(_, derivative)| *derivative)
    }

    fn depends_on(&self, leaf: Leaf) -> bool {
        self.derivatives.iter().any(|(of, _)| *of == leaf)
    }

    /// `value`, which is a function of this number that has the derivative `slope` here.
    fn mapped(mut self, value: f64, slope: f64) -> Dual {
        self.derivatives.iter_mut().for_each(|(_, derivative)| *derivative *= slope);
        Dual { value, ..self }
    }

    /// `value`, which is a function of two numbers, with its derivative by each.
    fn combined(value: f64, (a, by_a): (Dual, f64), (b, by_b): (Dual, f64)) -> Dual {
        let mut sum = a.mapped(value, by_a);
        for (leaf, derivative) in b.derivatives {
            match sum.derivatives.iter_mut().find(|(of, _)| *of == leaf) {
                Some((_, of_sum)) => *of_sum += derivative * by_b,
                None => sum.derivatives.push((leaf, derivative * by_b)),
            }
        }
        sum
    }
}

/// The value of `expr`, a float, and its derivatives; `None` where it is hidden.
///
/// # Errors
/// As [`evaluate`].
pub fn differentiate(expr: &Expr, at: &Environment) -> Result<Option<Dual>, EvalError> {
    let leaf = |leaf| match evaluate(expr, at)? {
        Some(Value::Float(value)) => Ok(Some(Dual::leaf(value, leaf))),
        Some(_) => Err(EvalError::Types),
        None => Ok(None),
    };
    match expr {
        Expr::Value(place) => leaf(Leaf::Value(*place)),
        Expr::Scalar(place) => leaf(Leaf::Scalar(*place)),
        Expr::Scale => leaf(Leaf::Scale),
        Expr::Load { tensor, index } => match element_place(*tensor, index, at)? {
            Some(place) => leaf(Leaf::Element { tensor: *tensor, place }),
            None => Ok(None),
        },
        Expr::Unary(op, a) if *op != UnaryOp::ToFloat => {
            let Some(a) = differentiate(a, at)? else { return Ok(None) };
            unary(*op, a).map(Some)
        }
        Expr::Binary(BinaryOp::Min | BinaryOp::Max, ..) => Ok(Extreme::of(expr, at)?.map(Extreme::into_dual)),
        Expr::Binary(op, a, b) => match both(a, b, at, differentiate)? {
            Some((a, b)) => binary(*op, a, b).map(Some),
            None => Ok(None),
        },
        Expr::Select(condition, then, otherwise) => match evaluate(condition, at)? {
            None => Ok(None),
            Some(Value::Bool(true)) => differentiate(then, at),
            Some(Value::Bool(false)) => differentiate(otherwise, at),
            Some(_) => Err(EvalError::Types),
        },
        Expr::Mask(score, visible) => match evaluate(visible, at) {
            Ok(None | Some(Value::Bool(false))) => Ok(None),
            Ok(Some(_)) => differentiate(score, at),
            Err(error) => match evaluate(score, at)? {
                None => Ok(None),
                Some(_) => Err(error),
            },
        },
        // Constants, random numbers, and integers and truth values as floats.
        other => match evaluate(other, at)? {
            Some(Value::Float(value)) => Ok(Some(Dual::constant(value))),
            Some(_) => Err(EvalError::Types),
            None => Ok(None),
        },
    }
}

/// Both operands by `compute`, or `None` where one is hidden, which wins over an error of the other.
fn both<T>(
    a: &Expr,
    b: &Expr,
    at: &Environment,
    compute: impl Fn(&Expr, &Environment) -> Result<Option<T>, EvalError>,
) -> Result<Option<(T, T)>, EvalError> {
    match compute(a, at) {
        Ok(Some(a)) => Ok(compute(b, at)?.map(|b| (a, b))),
        Ok(None) => Ok(None),
        Err(error) => match compute(b, at)? {
            Some(_) => Err(error),
            None => Ok(None),
        },
    }
}

fn unary(op: UnaryOp, a: Dual) -> Result<Dual, EvalError> {
    let x = a.value;
    let y = function(op, x).ok_or(EvalError::Types)?;
    let slope = match op {
        UnaryOp::Neg => -1.0,
        UnaryOp::Abs if x == 0.0 => 0.0,
        UnaryOp::Abs => x.signum(),
        UnaryOp::Exp => y,
        UnaryOp::Exp2 => y * LN_2,
        UnaryOp::Log => 1.0 / x,
        UnaryOp::Log2 => 1.0 / (x * LN_2),
        UnaryOp::Sqrt => 0.5 / y,
        UnaryOp::Tanh => 1.0 - y * y,
        UnaryOp::Sigmoid => y * (1.0 - y),
        UnaryOp::Relu => f64::from(x > 0.0),
        UnaryOp::Sin => x.cos(),
        UnaryOp::Cos => -x.sin(),
        // Constant where they have a derivative: nothing that they are multiplied by makes one.
        UnaryOp::Floor | UnaryOp::Ceil | UnaryOp::Round => return Ok(Dual::constant(y)),
        UnaryOp::Not | UnaryOp::ToFloat | UnaryOp::ToInt | UnaryOp::Ilog2 => return Err(EvalError::Types),
    };
    Ok(a.mapped(y, slope))
}

fn binary(op: BinaryOp, a: Dual, b: Dual) -> Result<Dual, EvalError> {
    let (x, y) = (a.value, b.value);
    let (value, by_a, by_b) = match op {
        BinaryOp::Add => (x + y, 1.0, 1.0),
        BinaryOp::Sub => (x - y, 1.0, -1.0),
        BinaryOp::Mul => (x * y, y, x),
        BinaryOp::Div => (x / y, 1.0 / y, -x / (y * y)),
        BinaryOp::Pow => {
            let power = x.powf(y);
            let by_base = if y == 0.0 { 0.0 } else { y * x.powf(y - 1.0) };
            let by_exponent = if x == 0.0 && y >= 0.0 { 0.0 } else { power * x.ln() };
            (power, by_base, by_exponent)
        }
        _ => return Err(EvalError::Types),
    };
    Ok(Dual::combined(value, (a, by_a), (b, by_b)))
}

/// `max` of `min` and `min` of `max`.
fn opposite(op: BinaryOp) -> BinaryOp {
    if op == BinaryOp::Min { BinaryOp::Max } else { BinaryOp::Min }
}

/// An expression of `min` and `max`, down to what is neither: which of its operands at a kink has a derivative depends on those around and
/// inside of it.
enum Extreme {
    Other(Dual),
    Of { op: BinaryOp, value: f64, operands: Box<(Extreme, Extreme)> },
}

impl Extreme {
    fn of(expr: &Expr, at: &Environment) -> Result<Option<Extreme>, EvalError> {
        let Expr::Binary(op @ (BinaryOp::Min | BinaryOp::Max), a, b) = expr else {
            return Ok(differentiate(expr, at)?.map(Extreme::Other));
        };
        let Some((a, b)) = both(a, b, at, Extreme::of)? else { return Ok(None) };
        let value = if *op == BinaryOp::Min { a.value().min(b.value()) } else { a.value().max(b.value()) };
        Ok(Some(Extreme::Of { op: *op, value, operands: Box::new((a, b)) }))
    }

    fn value(&self) -> f64 {
        match self {
            Extreme::Other(dual) => dual.value,
            Extreme::Of { value, .. } => *value,
        }
    }

    fn depends_on(&self, leaf: Leaf) -> bool {
        match self {
            Extreme::Other(dual) => dual.depends_on(leaf),
            Extreme::Of { operands, .. } => operands.0.depends_on(leaf) || operands.1.depends_on(leaf),
        }
    }

    fn add_leaves(&self, leaves: &mut Vec<Leaf>) {
        match self {
            Extreme::Other(dual) => {
                for (leaf, _) in &dual.derivatives {
                    if !leaves.contains(leaf) {
                        leaves.push(*leaf);
                    }
                }
            }
            Extreme::Of { operands, .. } => {
                operands.0.add_leaves(leaves);
                operands.1.add_leaves(leaves);
            }
        }
    }

    fn into_dual(self) -> Dual {
        let mut leaves = Vec::new();
        self.add_leaves(&mut leaves);
        let derivatives = leaves.into_iter().map(|leaf| (leaf, self.derivative(leaf, None))).collect();
        Dual { value: self.value(), derivatives }
    }

    /// Whether it is `op(x, end)`, where x depends on `leaf` and the end does not.
    fn ends(&self, op: BinaryOp, leaf: Leaf) -> bool {
        match self {
            Extreme::Other(_) => false,
            Extreme::Of { op: own, operands, .. } => {
                *own == op && operands.0.depends_on(leaf) && !operands.1.depends_on(leaf)
            }
        }
    }

    /// The derivative by `leaf`, inside of `around(…, end)` with an end that does not depend on it.
    fn derivative(&self, leaf: Leaf, around: Option<BinaryOp>) -> f64 {
        let (op, a, b) = match self {
            Extreme::Other(dual) => return dual.by(leaf),
            Extreme::Of { op, operands, .. } => (*op, &operands.0, &operands.1),
        };
        let has_end = self.ends(op, leaf);
        let of_a = a.derivative(leaf, has_end.then_some(op));
        let of_b = b.derivative(leaf, None);
        let (x, y) = (a.value(), b.value());
        let is_clamp = has_end && (around == Some(opposite(op)) || a.ends(opposite(op), leaf));
        match () {
            () if x == y && is_clamp => of_a,
            () if x == y => 0.5 * (of_a + of_b),
            // A NaN is passed over.
            () if y.is_nan() => of_a,
            () if x.is_nan() || (x < y) != (op == BinaryOp::Min) => of_b,
            () => of_a,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::HostTensor;
    use crate::ir::parse::parse_expr;
    use crate::spec::{Order, ScalarParam, ScalarType, TensorParam, TensorType};
    use crate::typing::Parameters;
    use std::borrow::Cow;

    /// Values of the leaves: `s`, `s2`, the scalar `c`, the scale, and the elements of `t`.
    #[derive(Clone)]
    struct Leaves {
        values: [f64; 2],
        c: f64,
        scale: f64,
        t: [f64; 3],
    }

    const LEAVES: Leaves = Leaves { values: [0.7, -1.3], c: 1.9, scale: 0.4, t: [0.3, -0.6, 2.1] };

    /// What `compute` makes of an expression at query 3, key 5.
    fn at_three<T>(text: &str, leaves: &Leaves, compute: impl Fn(&Expr, &Environment) -> T) -> T {
        let param = |name: &str, ty| TensorParam { name: name.into(), ty, rank: 1, order: Order::Any };
        let tensors = [param("t", TensorType::F32), param("places", TensorType::I32)];
        let scalar = |name: &str, ty| ScalarParam { name: name.into(), ty, comptime: false };
        let scalars = [scalar("c", ScalarType::F32), scalar("n", ScalarType::I32)];
        let values = [Cow::Borrowed("s"), Cow::Borrowed("s2")];
        let parameters = Parameters { scalars: &scalars, tensors: &tensors, values: &values, numbers: &[] };
        let expr = parse_expr(text, parameters).unwrap_or_else(|error| panic!("{text}: {error:?}"));
        let host = |data: &[f64]| HostTensor { shape: vec![data.len()], data: data.to_vec() };
        let at = Environment {
            query: 3,
            key: 5,
            values: &leaves.values,
            scale: leaves.scale,
            scalars: &[Value::Float(leaves.c), Value::Int(2)],
            tensors: &[host(&leaves.t), host(&[2.0, 0.0])],
            tensor_params: &tensors,
            ..Environment::EMPTY
        };
        compute(&expr, &at)
    }

    fn dual(text: &str, leaves: &Leaves) -> Dual {
        at_three(text, leaves, differentiate).unwrap().unwrap()
    }

    /// By each leaf, with the leaf itself.
    fn all_leaves(leaves: &mut Leaves) -> Vec<(Leaf, &mut f64)> {
        let Leaves { values: [s, s2], c, scale, t } = leaves;
        let mut all = vec![(Leaf::Value(0), s), (Leaf::Value(1), s2), (Leaf::Scalar(0), c), (Leaf::Scale, scale)];
        all.extend(t.iter_mut().enumerate().map(|(place, element)| (Leaf::Element { tensor: 0, place }, element)));
        all
    }

    /// Every derivative is what small steps of its leaf say.
    fn check_quotients(text: &str) {
        let value = |leaves: &Leaves| at_three(text, leaves, evaluate).unwrap().unwrap().float();
        let found = dual(text, &LEAVES);
        assert_eq!(found.value, value(&LEAVES), "{text}");
        let mut leaves = LEAVES;
        for nth in 0..all_leaves(&mut leaves).len() {
            let mut leaf = Leaf::Scale;
            let mut moved = |step: f64| {
                let mut leaves = LEAVES;
                let mut all = all_leaves(&mut leaves);
                leaf = all[nth].0;
                *all[nth].1 += step;
                value(&leaves)
            };
            let step = 1.0 / 4096.0;
            let mut quotient = |step: f64| (moved(step) - moved(-step)) / (2.0 * step);
            let expected = (4.0 * quotient(step / 2.0) - quotient(step)) / 3.0;
            let error = (found.by(leaf) - expected).abs();
            assert!(error < 1e-9 * expected.abs().max(1.0), "{text} by {leaf:?}: {}, not {expected}", found.by(leaf));
        }
    }

    #[test]
    fn derivatives_are_limits_of_quotients() {
        for text in [
            "s",
            "-s * s2",
            "s + s2 - c",
            "s / s2 + 1.0 / c",
            "abs(s) + abs(s2)",
            "exp(s * c)",
            "exp2(s - s2)",
            "log(c + s)",
            "log2(c)",
            "sqrt(c * s)",
            "tanh(s2)",
            "sigmoid(s * scale())",
            "relu(s) + relu(s2)",
            "sin(s) * cos(s2)",
            "floor(c) * s + ceil(s2) * s2 - round(s)",
            "pow(c, s)",
            "pow(c, 2.0) - pow(2.0, s2)",
            "min(s, s2) + max(s, c)",
            "max(min(s, 0.5), -0.5) + min(max(s2, -1.5), 0.5)",
            "if i < j { s * c } else { s2 }",
            "if s > s2 { exp(s2) } else { s }",
            "mask(s * 2.0, j > i) * c",
            "t[0] * s + t[n] * t[2] + t[j - 4]",
            "t[places[0]] * exp(t[places[1]])",
            "(i - j) as f32 * s + (i < j) as f32",
            "random(n, batch(), head(), i, j) * s",
            "c * tanh(s * scale() / c) - log(1.0 + exp(t[1]))",
            "max(max(min(s, c), s2), min(t[0], t[1]))",
        ] {
            check_quotients(text);
        }
    }

    #[test]
    fn at_kinks_the_conventions_hold() {
        let (s, s2, c) = (Leaf::Value(0), Leaf::Value(1), Leaf::Scalar(0));
        let at = |values: [f64; 2], c: f64| Leaves { values, c, ..LEAVES };
        for (text, leaves, leaf, expected) in [
            ("abs(s)", at([0.0, 0.0], 0.0), s, 0.0),
            ("abs(s)", at([-0.0, 0.0], 0.0), s, 0.0),
            ("relu(s)", at([0.0, 0.0], 0.0), s, 0.0),
            ("min(s, s2)", at([2.0, 2.0], 0.0), s, 0.5),
            ("min(s, s2)", at([2.0, 2.0], 0.0), s2, 0.5),
            ("max(3.0 * s, s2)", at([1.0, 3.0], 0.0), s, 1.5),
            ("max(s, 0.0)", at([0.0, 0.0], 0.0), s, 0.5),
            ("max(s, s)", at([2.0, 0.0], 0.0), s, 1.0),
            // Clamps, at either end, and beyond.
            ("max(min(s, 4.0), -4.0)", at([4.0, 0.0], 0.0), s, 1.0),
            ("max(min(s, 4.0), -4.0)", at([-4.0, 0.0], 0.0), s, 1.0),
            ("max(min(s, 4.0), -4.0)", at([4.5, 0.0], 0.0), s, 0.0),
            ("min(max(s, -4.0), 4.0)", at([4.0, 0.0], 0.0), s, 1.0),
            ("min(max(s, -4.0), 4.0)", at([-4.0, 0.0], 0.0), s, 1.0),
            ("min(max(s * s, -c), c)", at([2.0, 0.0], 4.0), s, 4.0),
            // By an end it is none.
            ("min(max(s, -c), c)", at([4.0, 0.0], 4.0), c, 0.5),
            ("min(max(s, -s2), s2)", at([4.0, 4.0], 0.0), s, 1.0),
            ("min(max(s, -s), s * s)", at([1.0, 0.0], 0.0), s, 1.5),
            // A clamp of a clamp, and of what is no clamp.
            ("min(max(min(max(s, -4.0), 4.0), -4.0), 4.0)", at([4.0, 0.0], 0.0), s, 1.0),
            ("min(max(min(s, s2), -4.0), 4.0)", at([4.0, 4.0], 0.0), s2, 0.5),
            ("max(max(s, 4.0), 0.0)", at([4.0, 0.0], 0.0), s, 0.5),
            ("pow(s, c)", at([0.0, 0.0], 0.0), s, 0.0),
            ("pow(s, c)", at([3.0, 0.0], 0.0), s, 0.0),
            ("pow(s, c)", at([0.0, 0.0], 2.0), c, 0.0),
            ("pow(s, c)", at([0.0, 0.0], 0.0), c, 0.0),
            ("pow(s, c)", at([-2.0, 0.0], 3.0), s, 12.0),
            ("floor(s) + ceil(s) + round(s + 0.5)", at([2.0, 0.0], 0.0), s, 0.0),
            ("log(floor(s))", at([0.5, 0.0], 0.0), s, 0.0),
            ("if s > 1.0 { s * s } else { 3.0 * s }", at([1.0, 0.0], 0.0), s, 3.0),
        ] {
            assert_eq!(dual(text, &leaves).by(leaf), expected, "{text} at {:?}", leaves.values);
        }
    }

    #[test]
    fn elements_are_named_by_their_places() {
        let found = dual("t[0] * s + t[n] * t[2]", &LEAVES);
        let element = |place| Leaf::Element { tensor: 0, place };
        assert_eq!(found.derivatives.len(), 3);
        assert_eq!((found.by(element(0)), found.by(element(1)), found.by(element(2))), (0.7, 0.0, 4.2));
    }

    #[test]
    fn what_is_hidden_has_no_derivative() {
        let at = |text| at_three(text, &LEAVES, differentiate);
        assert_eq!(at("mask(s, j <= i) * 2.0"), Ok(None));
        assert_eq!(at("min(mask(s, j <= i), s2)"), Ok(None));
        assert_eq!(at("if j <= i { mask(s, false) } else { s }").unwrap().unwrap().by(Leaf::Value(0)), 1.0);
        // A hidden operand wins over an error, and an error over a number.
        assert_eq!(at("t[i] + mask(s, j <= i)"), Ok(None));
        assert_eq!(at("max(t[i], mask(s, j <= i))"), Ok(None));
        assert_eq!(at("mask(t[i], j <= i)"), Ok(None));
        let out_of_range = Err(EvalError::OutOfRange { tensor: 0, dimension: 0, index: 3, length: 3 });
        assert_eq!(at("t[i] + s"), out_of_range);
        assert_eq!(at("(1 / (i - 3)) as f32"), Err(EvalError::DivisionByZero));
    }
}
