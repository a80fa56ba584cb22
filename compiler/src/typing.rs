//! The types of expressions, for specifications and tile programs alike.

use crate::expr::{BinaryOp, Expr, Type, UnaryOp};
use crate::ir::{Number, Program, TileLoop};
use crate::spec::{MAX_DOTS, ScalarParam, Spec, TensorParam, TensorType};
use std::borrow::Cow;
use thiserror::Error;

/// What the scalars, captured tensors and named values of an expression are.
#[derive(Clone, Copy, Debug)]
pub struct Parameters<'a> {
    /// What [`Expr::Scalar`] counts in.
    pub scalars: &'a [ScalarParam],
    /// What [`Expr::Load`] counts in.
    pub tensors: &'a [TensorParam],
    /// The names of what [`Expr::Value`] counts in. All are floats.
    pub values: &'a [Cow<'static, str>],
    /// What [`Expr::Number`] counts in.
    pub numbers: &'a [Number],
}

/// The values of an expression of one product: `s`.
pub const SCORE: &[Cow<'static, str>] = &[Cow::Borrowed("s")];

/// The values of the expressions of a specification's key loops: products of queries and keys.
static DOTS: [Cow<'static, str>; MAX_DOTS] = {
    use Cow::Borrowed as name;
    [
        name("s"),
        name("s2"),
        name("s3"),
        name("s4"),
        name("s5"),
        name("s6"),
        name("s7"),
        name("s8"),
        name("s9"),
        name("s10"),
        name("s11"),
        name("s12"),
        name("s13"),
        name("s14"),
        name("s15"),
        name("s16"),
    ]
};

impl Spec {
    /// What the expressions of this specification's key loops refer to.
    pub fn parameters(&self) -> Parameters<'_> {
        Parameters { scalars: &self.scalars, tensors: &self.tensors, values: &DOTS, numbers: &[] }
    }
}

impl Program {
    /// What this program's expressions refer to where there are no values.
    pub fn parameters(&self) -> Parameters<'_> {
        Parameters { scalars: &self.scalars, tensors: &self.tensors, values: &[], numbers: &self.numbers }
    }

    /// What the expressions in the body of `one`, a loop of this program, refer to.
    pub fn parameters_in<'a>(&'a self, one: &'a TileLoop) -> Parameters<'a> {
        Parameters { values: &one.tiles, ..self.parameters() }
    }
}

/// Why an expression has no type.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{message} in `{text}`")]
pub struct TypeError {
    /// What is wrong.
    pub message: String,
    /// The smallest expression at fault, as text.
    pub text: String,
    /// The smallest expression at fault.
    pub expr: Box<Expr>,
}

/// The type of `expr`, all of whose operands, at any depth, must have the types that their operations take.
pub fn type_of(expr: &Expr, parameters: Parameters) -> Result<Type, TypeError> {
    fn fail<T>(expr: &Expr, parameters: Parameters, message: String) -> Result<T, TypeError> {
        Err(TypeError { message, text: expr.display(parameters).to_string(), expr: Box::new(expr.clone()) })
    }
    let wrong = |message: String| fail(expr, parameters, message);
    let captured = |tensor: usize, indices: usize| match parameters.tensors.get(tensor) {
        None => fail(expr, parameters, format!("captured tensor {tensor} of {}", parameters.tensors.len())),
        Some(param) if param.rank != indices => {
            fail(expr, parameters, format!("{indices} indices into `{}` of rank {}", param.name, param.rank))
        }
        Some(param) => Ok(param),
    };
    let integer = |index: &Expr| match type_of(index, parameters)? {
        Type::Int => Ok(()),
        ty => fail(expr, parameters, format!("an index of type {ty}, expected integer,")),
    };
    match expr {
        Expr::Query | Expr::Key | Expr::Batch | Expr::Head | Expr::KvHead => Ok(Type::Int),
        Expr::QueryLen | Expr::KeyLen(_) | Expr::HeadDim => Ok(Type::Int),
        Expr::QueryFirst | Expr::QueryLast | Expr::KeyFirst | Expr::KeyLast | Expr::Int(_) => Ok(Type::Int),
        Expr::Scale | Expr::Float(_) => Ok(Type::Float),
        Expr::Number(place) if *place < parameters.numbers.len() => Ok(Type::Float),
        Expr::Number(place) => wrong(format!("number {place} of {}", parameters.numbers.len())),
        Expr::Value(place) if *place < parameters.values.len() => Ok(Type::Float),
        Expr::Value(place) => wrong(format!("value {place} of {}", parameters.values.len())),
        Expr::Bool(_) => Ok(Type::Bool),
        Expr::Scalar(place) => match parameters.scalars.get(*place) {
            Some(scalar) => Ok(scalar.ty.ty()),
            None => wrong(format!("scalar {place} of {}", parameters.scalars.len())),
        },
        Expr::Load { tensor, index } => {
            let param = captured(*tensor, index.len())?;
            index.iter().try_for_each(integer)?;
            Ok(param.ty.ty())
        }
        Expr::Extreme { tensor, index, .. } => {
            let param = captured(*tensor, index.len())?;
            index.iter().flat_map(|(first, last)| [first, last]).try_for_each(integer)?;
            if param.ty.ty() == Type::Float {
                return wrong(format!("an extreme of `{}`, which holds floats,", param.name));
            }
            Ok(Type::Int)
        }
        Expr::Next { tensor, index, from } => {
            let param = captured(*tensor, index.len() + 1)?;
            index.iter().flat_map(|(first, last)| [first, last]).chain([&**from]).try_for_each(integer)?;
            if param.ty != TensorType::Bool {
                return wrong(format!("the next of `{}`, which does not hold truth values,", param.name));
            }
            Ok(Type::Int)
        }
        Expr::Count { tensor, index, value, .. } => {
            let param = captured(*tensor, index.len() + 1)?;
            index.iter().chain([&**value]).try_for_each(integer)?;
            if param.ty != TensorType::I32 || !param.order.is_sorted() {
                return wrong(format!("a count in `{}`, which is not a sorted tensor of integers,", param.name));
            }
            Ok(Type::Int)
        }
        Expr::Unary(op, a) => {
            let ty = type_of(a, parameters)?;
            let (takes, gives): (&[Type], Type) = match op {
                UnaryOp::Neg | UnaryOp::Abs => (&[Type::Int, Type::Float], ty),
                UnaryOp::Not => (&[Type::Bool], Type::Bool),
                UnaryOp::Ilog2 => (&[Type::Int], Type::Int),
                UnaryOp::ToFloat => (&[Type::Int, Type::Bool], Type::Float),
                UnaryOp::ToInt => (&[Type::Float, Type::Bool], Type::Int),
                _ => (&[Type::Float], Type::Float),
            };
            if takes.contains(&ty) {
                Ok(gives)
            } else {
                wrong(format!("an operand of type {ty}, expected {}", names(takes)))
            }
        }
        Expr::Binary(op, a, b) => {
            let (left, right) = (type_of(a, parameters)?, type_of(b, parameters)?);
            if left != right {
                return wrong(format!("operands of types {left} and {right}"));
            }
            use BinaryOp::*;
            let takes: &[Type] = match op {
                Add | Sub | Mul | Div | Min | Max | Lt | Le | Gt | Ge => &[Type::Int, Type::Float],
                Rem => &[Type::Int],
                Pow => &[Type::Float],
                Eq | Ne => &[Type::Int, Type::Float, Type::Bool],
                And | Or => &[Type::Bool],
            };
            if !takes.contains(&left) {
                return wrong(format!("operands of type {left}, expected {}", names(takes)));
            }
            Ok(if op.is_comparison() { Type::Bool } else { left })
        }
        Expr::Random(of) => {
            let of_integer = |part: &Expr| match type_of(part, parameters)? {
                Type::Int => Ok(()),
                ty => wrong(format!("a seed of type {ty}, expected integer,")).map(drop),
            };
            of.iter().try_for_each(of_integer).map(|()| Type::Float)
        }
        Expr::Select(condition, then, otherwise) => {
            let condition = type_of(condition, parameters)?;
            if condition != Type::Bool {
                return wrong(format!("a condition of type {condition}, expected bool,"));
            }
            let (then, otherwise) = (type_of(then, parameters)?, type_of(otherwise, parameters)?);
            if then == otherwise { Ok(then) } else { wrong(format!("branches of types {then} and {otherwise}")) }
        }
        Expr::Mask(score, visible) => match (type_of(score, parameters)?, type_of(visible, parameters)?) {
            (Type::Float, Type::Bool) => Ok(Type::Float),
            (score, visible) => wrong(format!("a mask of {score} by {visible}, expected float by bool,")),
        },
    }
}

impl Parameters<'_> {
    /// The type of an expression that is known to have one.
    pub fn assume_type(&self, expr: &Expr) -> Type {
        match expr {
            Expr::Value(_) | Expr::Scale | Expr::Float(_) | Expr::Mask(..) | Expr::Random(_) => Type::Float,
            Expr::Bool(_) => Type::Bool,
            Expr::Scalar(place) => self.scalars[*place].ty.ty(),
            Expr::Load { tensor, .. } => self.tensors[*tensor].ty.ty(),
            Expr::Unary(UnaryOp::Neg | UnaryOp::Abs, a) => self.assume_type(a),
            Expr::Unary(UnaryOp::Not, _) => Type::Bool,
            Expr::Unary(UnaryOp::ToInt | UnaryOp::Ilog2, _) => Type::Int,
            Expr::Unary(..) => Type::Float,
            Expr::Binary(op, ..) if op.is_comparison() => Type::Bool,
            Expr::Binary(_, a, _) | Expr::Select(_, a, _) => self.assume_type(a),
            _ => Type::Int,
        }
    }
}

fn names(types: &[Type]) -> String {
    types.iter().map(Type::to_string).collect::<Vec<_>>().join(" or ")
}
