//! What was asked: an attention as data, before any decision about tiles, types or devices.
//!
//! `#[attention]` expands to code that builds a [`Spec`] through [`crate::lang`]; [`crate::lower`] turns it into a tile
//! program, and [`crate::interpret`] evaluates it as it stands.

use crate::expr::{BinaryOp, Expr, Type};
use std::borrow::Cow;
use std::fmt;

/// The most nodes of an expression of a specification, after its `let`s are expanded.
pub const MAX_EXPR_SIZE: usize = 4096;

/// The most products of queries and keys in one key loop.
pub const MAX_DOTS: usize = 16;

/// The most outputs of a specification.
pub const MAX_OUTPUTS: usize = 8;

/// An attention: parameters, accumulators, what each key loop pushes into them, and what becomes of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Spec {
    /// The function's name.
    pub name: String,
    /// The function's doc comment.
    pub doc: String,
    /// Where the function is written.
    pub source: Location,
    /// What lies along queries and keys, in the order of the signature.
    pub operands: Vec<OperandParam>,
    /// The scalar parameters, in the order of the signature.
    pub scalars: Vec<ScalarParam>,
    /// The captured tensors, in the order of the signature.
    pub tensors: Vec<TensorParam>,
    /// What the key loops push into, in the order they are declared.
    pub accumulators: Vec<AccumulatorParam>,
    /// The key loops, in the order they are written. Each set of keys has at least one.
    pub loops: Vec<KeyLoop>,
    /// What is stored for each query, a tensor for each: expressions, element by element, in which [`Expr::Value`] counts the accumulators
    /// and then the operands along queries, in the order of the signature. From one to [`MAX_OUTPUTS`].
    pub outputs: Vec<Expr>,
    /// Where sub-expressions are written, for messages.
    pub origins: Vec<Origin>,
}

/// A parameter that lies along queries or keys: a tensor of four dimensions, given where the attention is run.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OperandParam {
    /// Its name.
    pub name: String,
    /// What it is.
    pub role: Role,
}

/// What an operand is. Keys and values are of a set: those that one key loop reads, which have one length and one offset. Sets have
/// numbers from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// `Query`: a row for each query, and its heads.
    Query,
    /// `Key`: a row for each key of the set.
    Key(usize),
    /// `Value`: a row for each key of the set.
    Value(usize),
}

impl Role {
    /// The set of keys that it is of, unless it lies along queries.
    pub fn set(self) -> Option<usize> {
        match self {
            Role::Query => None,
            Role::Key(set) | Role::Value(set) => Some(set),
        }
    }
}

/// The names of the keys and the values of a set that has one of each.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pair {
    /// The keys' name.
    pub key: String,
    /// The values' name.
    pub value: String,
}

/// An accumulator and its name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AccumulatorParam {
    /// The name of the variable.
    pub name: String,
    /// What becomes of what is pushed.
    pub kind: Accumulator,
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

impl ScalarValue {
    /// It as a constant of an expression; `None` of a `u32` beyond `i32::MAX`.
    pub fn constant(self) -> Option<Expr> {
        match self {
            ScalarValue::I32(value) => Some(Expr::Int(value)),
            ScalarValue::U32(value) => i32::try_from(value).ok().map(Expr::Int),
            ScalarValue::F32(value) => Some(Expr::float(value)),
            ScalarValue::Bool(value) => Some(Expr::Bool(value)),
        }
    }
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

/// The element type of a captured tensor: what it is declared with, or for one of floats what it is given as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TensorType {
    /// `Tensor<f32, R>`.
    F32,
    /// A `Tensor<f32, R>` that is given in f16. Its elements are read as f32.
    F16,
    /// A `Tensor<f32, R>` that is given in bf16. Its elements are read as f32.
    Bf16,
    /// `Tensor<i32, R>`.
    I32,
    /// `Tensor<bool, R>`: any element that is not zero is true.
    Bool,
}

impl TensorType {
    /// The type of an element in an expression.
    pub fn ty(self) -> Type {
        match self {
            TensorType::F32 | TensorType::F16 | TensorType::Bf16 => Type::Float,
            TensorType::I32 => Type::Int,
            TensorType::Bool => Type::Bool,
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            TensorType::F32 => "f32",
            TensorType::F16 => "f16",
            TensorType::Bf16 => "bf16",
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
    /// Its element type.
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
    /// The number of sets of keys.
    pub fn sets(&self) -> usize {
        self.operands.iter().filter_map(|operand| operand.role.set()).max().map_or(0, |last| last + 1)
    }

    /// The last set of keys that a loop reads.
    pub fn last_set(&self) -> usize {
        self.loops.iter().map(|key_loop| key_loop.set).max().unwrap_or(0)
    }

    /// The operands of a role, with their places in [`Spec::operands`].
    pub fn operands_of(&self, role: Role) -> impl Iterator<Item = (usize, &OperandParam)> {
        self.operands.iter().enumerate().filter(move |(_, operand)| operand.role == role)
    }

    /// The name of the first operand along queries.
    pub fn query(&self) -> &str {
        self.operands_of(Role::Query).next().map_or("", |(_, operand)| &operand.name)
    }

    /// The name that a set of keys has in messages: that of its first keys, or else values.
    pub fn set_name(&self, set: usize) -> &str {
        let first = self.operands_of(Role::Key(set)).chain(self.operands_of(Role::Value(set))).next();
        first.map_or("", |(_, operand)| &operand.name)
    }

    /// The places of the queries, and of the keys and values of each set, where there are one of each.
    pub fn pairs(&self) -> Option<(usize, Vec<(usize, usize)>)> {
        let one = |role| {
            let mut places = self.operands_of(role).map(|(place, _)| place);
            places.next().filter(|_| places.next().is_none())
        };
        let pairs = (0..self.sets()).map(|set| Some((one(Role::Key(set))?, one(Role::Value(set))?)));
        Some((one(Role::Query)?, pairs.collect::<Option<_>>()?))
    }

    /// The names of the keys and values of each set, where there are one of each.
    pub fn pair_names(&self) -> Vec<Pair> {
        let name = |place: usize| self.operands[place].name.clone();
        let pairs = self.pairs().map(|(_, pairs)| pairs).unwrap_or_default();
        pairs.into_iter().map(|(key, value)| Pair { key: name(key), value: name(value) }).collect()
    }

    /// Whether its rows have a log-sum-exp: that of the only accumulator, where it is a softmax.
    pub fn has_lse(&self) -> bool {
        matches!(&self.accumulators[..], [AccumulatorParam { kind: Accumulator::Softmax { .. }, .. }])
    }

    /// Whether it has one output, which is its first accumulator as it is.
    pub fn stores_accumulator(&self) -> bool {
        self.outputs == [Expr::Value(0)]
    }

    /// Whether some output is of the value at this place among [`Spec::output_values`].
    pub fn stores(&self, value: usize) -> bool {
        self.outputs.iter().any(|output| output.mentions(&Expr::Value(value)))
    }

    /// Whether no weight is greater than 1.
    pub fn is_bounded(&self) -> bool {
        self.accumulators.iter().all(|accumulator| accumulator.kind.is_bounded())
            && self.pushes().all(|(_, push)| push.weight.is_none())
    }

    /// All pushes, each with its loop.
    pub fn pushes(&self) -> impl Iterator<Item = (&KeyLoop, &Push)> {
        self.loops.iter().flat_map(|key_loop| key_loop.pushes.iter().map(move |push| (key_loop, push)))
    }

    /// The names of the values of [`Spec::outputs`].
    pub fn output_values(&self) -> Vec<Cow<'static, str>> {
        let accumulators = self.accumulators.iter().map(|accumulator| &accumulator.name);
        let queries = self.operands_of(Role::Query).map(|(_, operand)| &operand.name);
        accumulators.chain(queries).map(|name| Cow::Owned(name.clone())).collect()
    }

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
        let mut exprs = self.pushes().flat_map(|(_, push)| std::iter::once(&push.score).chain(&push.weight));
        exprs.any(|expr| expr.any(&mut |expr| of_pairs(expr)))
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

/// One key loop: for every key of a set, products of queries with it, and what is pushed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeyLoop {
    /// The set whose keys it visits.
    pub set: usize,
    /// The products that the loop's expressions are of: [`Expr::Value`] counts in them. At most [`MAX_DOTS`].
    pub dots: Vec<DotParam>,
    /// What is pushed, in order.
    pub pushes: Vec<Push>,
}

/// A product of a query and a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DotParam {
    /// The place of the queries in [`Spec::operands`].
    pub query: usize,
    /// The place of the keys.
    pub key: usize,
}

/// What is pushed into an accumulator for every key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Push {
    /// The accumulator's place in [`Spec::accumulators`].
    pub accumulator: usize,
    /// The (masked) score, or weight of a `Sum` or a `Mean`.
    pub score: Expr,
    /// What the key's weight is multiplied by in the output, and not in the sum of weights: a float without a mask.
    pub weight: Option<Expr>,
    /// The place in [`Spec::operands`] of the values, or of keys that serve as values.
    pub values: usize,
    /// How many of the first elements of a row are the value, if not all.
    pub dim: Option<Leading>,
}

impl Push {
    /// A push of `score` with all of the values' elements.
    pub fn new(accumulator: usize, score: Expr, values: usize) -> Push {
        Push { accumulator, score, weight: None, values, dim: None }
    }
}

/// How many of the first elements of a row: `..512`, or `..rank`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Leading {
    /// So many.
    Literal(usize),
    /// The value of a comptime `u32`, by its place in [`Spec::scalars`].
    Scalar(usize),
}

impl Leading {
    /// The number, with the values of a specification's scalars.
    pub fn value(self, scalars: &[ScalarValue]) -> Option<usize> {
        match self {
            Leading::Literal(number) => Some(number),
            Leading::Scalar(place) => match scalars.get(place) {
                Some(ScalarValue::U32(number)) => usize::try_from(*number).ok(),
                _ => None,
            },
        }
    }
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
