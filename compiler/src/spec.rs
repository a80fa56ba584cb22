//! What was asked: an attention as data, before any decision about tiles, types or devices.
//!
//! `#[attention]` expands to code that builds a [`Spec`] through [`crate::lang`]; [`crate::lower`] turns it into a tile
//! program, and [`crate::interpret`] evaluates it as it stands.

use crate::expr::{BinaryOp, Expr, Type};
use std::fmt;

/// The most nodes a push's or a sink's expression may have, after its `let`s are expanded.
pub const MAX_EXPR_SIZE: usize = 4096;

/// An attention: parameters, the accumulator, and what each key loop pushes into it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Spec {
    /// The function's name.
    pub name: String,
    /// The function's doc comment.
    pub doc: String,
    /// Where the function is written.
    pub source: Location,
    /// The name of the query parameter.
    pub query: String,
    /// The key and value parameters, in the order of the keys in the signature.
    pub pairs: Vec<Pair>,
    /// The scalar parameters, in the order of the signature.
    pub scalars: Vec<ScalarParam>,
    /// The captured tensors, in the order of the signature.
    pub tensors: Vec<TensorParam>,
    /// What the key loops push into.
    pub accumulator: Accumulator,
    /// The key loops, in the order they are written. Each pair has at least one.
    pub loops: Vec<PushLoop>,
    /// Where sub-expressions are written, for messages.
    pub origins: Vec<Origin>,
}

/// A key tensor and the value tensor that goes with it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pair {
    /// The key parameter's name.
    pub key: String,
    /// The value parameter's name.
    pub value: String,
}

/// The type a scalar parameter is declared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ScalarType {
    /// `i32`.
    I32,
    /// `u32`; at most `i32::MAX`, since the language's integers are signed.
    U32,
    /// `f32`.
    F32,
    /// `bool`.
    Bool,
}

impl ScalarType {
    /// The type of the scalar in an expression.
    pub fn ty(self) -> Type {
        match self {
            ScalarType::I32 | ScalarType::U32 => Type::Int,
            ScalarType::F32 => Type::Float,
            ScalarType::Bool => Type::Bool,
        }
    }

    /// The name it is declared with.
    pub fn name(self) -> &'static str {
        match self {
            ScalarType::I32 => "i32",
            ScalarType::U32 => "u32",
            ScalarType::F32 => "f32",
            ScalarType::Bool => "bool",
        }
    }
}

/// The value given for a scalar parameter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ScalarValue {
    /// Of an `i32`.
    I32(i32),
    /// Of a `u32`.
    U32(u32),
    /// Of an `f32`.
    F32(f32),
    /// Of a `bool`.
    Bool(bool),
}

/// A scalar parameter.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ScalarParam {
    /// Its name.
    pub name: String,
    /// Its declared type.
    pub ty: ScalarType,
    /// Whether its value is baked into the kernel (`#[comptime]`).
    pub comptime: bool,
}

/// The element type a captured tensor is declared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TensorType {
    /// `Tensor<f32, R>`.
    F32,
    /// `Tensor<i32, R>`.
    I32,
    /// `Tensor<bool, R>`: any element that is not zero is true.
    Bool,
}

impl TensorType {
    /// The type of an element in an expression.
    pub fn ty(self) -> Type {
        match self {
            TensorType::F32 => Type::Float,
            TensorType::I32 => Type::Int,
            TensorType::Bool => Type::Bool,
        }
    }

    /// The name it is declared with.
    pub fn name(self) -> &'static str {
        match self {
            TensorType::F32 => "f32",
            TensorType::I32 => "i32",
            TensorType::Bool => "bool",
        }
    }
}

/// A captured tensor.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TensorParam {
    /// Its name.
    pub name: String,
    /// Its declared element type.
    pub ty: TensorType,
    /// Its number of dimensions, 1 to 4.
    pub rank: usize,
    /// What is said of the order of its elements.
    pub order: Order,
}

/// What is said of the order of a captured tensor's elements along its last dimension.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Order {
    /// Nothing.
    Any,
    /// They never decrease (`#[sorted]`), which is checked before a launch.
    Sorted,
    /// They never decrease (`#[sorted(unchecked)]`); the caller answers for it.
    SortedUnchecked,
}

impl Order {
    /// Whether elements never decrease along the last dimension.
    pub fn is_sorted(self) -> bool {
        self != Order::Any
    }
}

/// What the key loops push into, and what becomes of it at the end.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Accumulator {
    /// Σ exp(s)·v / Σ exp(s). A sink is one more logit in the denominator, with no value ("attention sinks",
    /// gpt-oss; StreamingLLM, Xiao et al. 2023, without the learned logit).
    Softmax {
        /// The sink's logit: an expression of the query's position, heads, batch, scalars and captured tensors.
        sink: Option<Expr>,
    },
    /// Σ s·v: weights as they are.
    Sum,
    /// Σ s·v / Σ s, and zero where Σ s is zero.
    Mean,
}

impl Spec {
    /// Whether its scores take much code for each pair of a query and a key: remainders, or elements of captured tensors that are
    /// the pair's own.
    pub fn is_intricate(&self) -> bool {
        let of_pairs = |expr: &Expr| match expr {
            Expr::Binary(BinaryOp::Rem, a, b) => {
                [a, b].iter().any(|of| of.mentions(&Expr::Query) || of.mentions(&Expr::Key))
            }
            Expr::Load { index, .. } => {
                [Expr::Query, Expr::Key].iter().all(|position| index.iter().any(|of| of.mentions(position)))
            }
            _ => false,
        };
        self.loops.iter().any(|key_loop| key_loop.push.any(&mut |expr| of_pairs(expr)))
    }
}

impl Accumulator {
    /// Whether no weight is greater than 1.
    pub fn is_bounded(&self) -> bool {
        matches!(self, Accumulator::Softmax { .. })
    }

    /// The name it has in a program.
    pub fn name(&self) -> &'static str {
        match self {
            Accumulator::Softmax { .. } => "Softmax",
            Accumulator::Sum => "Sum",
            Accumulator::Mean => "Mean",
        }
    }
}

/// One key loop: for every key of the pair, `push` is pushed with the key's value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PushLoop {
    /// The pair whose keys it visits, by its place in [`Spec::pairs`].
    pub pair: usize,
    /// The (masked) score or weight.
    pub push: Expr,
}

/// A place in a source file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Location {
    /// The file, as rustc names it.
    pub file: String,
    /// The line, from 1.
    pub line: u32,
    /// The column, from 1.
    pub column: u32,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// Where a sub-expression is written.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The sub-expression, as it stands in the specification.
    pub expr: Expr,
    /// The place of its operator.
    pub location: Location,
}

impl Spec {
    /// Where `expr` is written: the place of an equal sub-expression, or else the function's.
    pub fn locate(&self, expr: &Expr) -> &Location {
        self.origins.iter().find(|origin| origin.expr == *expr).map_or(&self.source, |origin| &origin.location)
    }
}
