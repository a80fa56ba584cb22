//! Expressions: what a predicate, a score, a bound or an index computes.
//!
//! One language serves the specification, the tile program and the bounds of its loops. Every expression has one of three
//! types, and one value for each (query position, key position) pair:
//!
//! | type | values | arithmetic |
//! |---|---|---|
//! | [`Type::Int`] | signed 32-bit integers | mathematical: `/` is floor division and `%` its remainder, which has the divisor's sign; a launch whose values could leave 32 bits, or divide by zero, is refused |
//! | [`Type::Float`] | f32 (f64 in the reference interpreter) | IEEE 754 |
//! | [`Type::Bool`] | truth values | `&&`, `||`, `!`; both sides may be evaluated |
//!
//! Expressions are trees of plain data: they compare, hash and print, and they never refer to a device.

use std::fmt;

/// The type of an expression's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Type {
    /// A signed 32-bit integer: a position, a scalar, an index.
    Int,
    /// A 32-bit float: a score, a slope.
    Float,
    /// A truth value: a predicate.
    Bool,
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Type::Int => "integer",
            Type::Float => "float",
            Type::Bool => "bool",
        })
    }
}

/// An f32 that compares, orders and hashes by its bits, so that expressions can be keys.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Real(u32);

impl Real {
    /// The constant `value`.
    pub fn new(value: f32) -> Self {
        Real(value.to_bits())
    }

    /// Its value.
    pub fn value(self) -> f32 {
        f32::from_bits(self.0)
    }
}

impl fmt::Debug for Real {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.value())
    }
}

/// An operation on one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum UnaryOp {
    /// `-a`, of an integer or a float.
    Neg,
    /// `!a`, of a truth value.
    Not,
    /// The absolute value of an integer or a float.
    Abs,
    /// e to the a.
    Exp,
    /// 2 to the a.
    Exp2,
    /// The natural logarithm.
    Log,
    /// The logarithm to base 2.
    Log2,
    /// The square root.
    Sqrt,
    /// The hyperbolic tangent.
    Tanh,
    /// 1 / (1 + exp(-a)).
    Sigmoid,
    /// max(a, 0).
    Relu,
    /// The sine, of radians.
    Sin,
    /// The cosine, of radians.
    Cos,
    /// The greatest whole number that is not above a float, as a float.
    Floor,
    /// The least whole number that is not below a float, as a float.
    Ceil,
    /// The whole number nearest to a float, as a float; of two that are as near, the one further from 0.
    Round,
    /// The logarithm of an integer to base 2, rounded down: an integer. It is −1 of 0 and of what is negative.
    Ilog2,
    /// An integer or a truth value as a float.
    ToFloat,
    /// A float as an integer, rounded towards zero: 0 of NaN, and the nearest of 32 bits where it has none. Or a truth value as 0
    /// or 1.
    ToInt,
}

/// An operation on two values of one type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BinaryOp {
    /// `a + b`.
    Add,
    /// `a - b`.
    Sub,
    /// `a * b`.
    Mul,
    /// `a / b`; of integers, floor division.
    Div,
    /// `a % b` of integers: the remainder of floor division.
    Rem,
    /// The smaller.
    Min,
    /// The larger.
    Max,
    /// `a` to the `b`, of floats.
    Pow,
    /// `a < b`.
    Lt,
    /// `a <= b`.
    Le,
    /// `a > b`.
    Gt,
    /// `a >= b`.
    Ge,
    /// `a == b`.
    Eq,
    /// `a != b`.
    Ne,
    /// `a && b`.
    And,
    /// `a || b`.
    Or,
}

impl BinaryOp {
    /// Whether the operation gives a truth value from two numbers (or, for `==` and `!=`, two truth values).
    pub fn is_comparison(self) -> bool {
        use BinaryOp::*;
        matches!(self, Lt | Le | Gt | Ge | Eq | Ne)
    }
}

/// An expression over the positions of one query and one key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Expr {
    /// `i`: the query's absolute position (row r is at `q_offset + r`).
    Query,
    /// `j`: the key's absolute position (column c is at its set's offset + c).
    Key,
    /// `batch()`: the batch index.
    Batch,
    /// `head()`: the query head.
    Head,
    /// `kv_head()`: the key and value head that the query head reads.
    KvHead,
    /// `q_len()`: how many queries there are.
    QueryLen,
    /// `kv_len()`: how many keys the set with this number has.
    KeyLen(usize),
    /// `head_dim()`: the elements of a row of the first operand along queries. Only in a specification: a program has the number.
    HeadDim,
    /// A value with a name, by its place among those that there are where the expression stands: in a specification's key loop, `s`, `s2`,
    /// …, its products q·k; in a program's, its tiles as they are before the operation; in an output, the accumulators' results and then
    /// what lies along the rows.
    Value(usize),
    /// `lse[i]`: a number of the row or of the column, by its place among [those](crate::ir::Program::numbers) of a program. Only in a
    /// program's maps.
    Number(usize),
    /// `scale()`: unless the caller says otherwise 1/√D, where D is the sum of the head dims of the products in the first push's
    /// [score](crate::lower::scaled_dim).
    Scale,
    /// `i0`: the first position of the query tile. Only in a loop's bounds and in what it says of its tiles.
    QueryFirst,
    /// `i1`: the last position of the query tile, inclusive. Only in a loop's bounds and in what it says of its tiles.
    QueryLast,
    /// `j0`: the first position of the key tile. Only in what a loop says of its tiles.
    KeyFirst,
    /// `j1`: the last position of the key tile, inclusive. Only in what a loop says of its tiles.
    KeyLast,
    /// A constant integer.
    Int(i32),
    /// A constant float.
    Float(Real),
    /// A constant truth value.
    Bool(bool),
    /// A scalar parameter, by its place in the list of scalars.
    Scalar(usize),
    /// An element of a captured tensor, by its place in the list of tensors; one index per dimension.
    Load {
        /// The tensor's place in the list of captured tensors.
        tensor: usize,
        /// One integer expression per dimension.
        index: Vec<Expr>,
    },
    /// `least(t[…, a through b])` or `greatest(…)`: an integer that no element of a captured tensor in a box of indices is below
    /// (above). Indices outside the tensor stand for its nearest element. What is found is the extreme of all the
    /// blocks of the tensor's [summary](crate::ir::Summary) that the box touches. Truth values count as 0 and 1. Only in a loop's
    /// bounds and in what it says of its tiles.
    Extreme {
        /// The tensor's place in the list of captured tensors; it holds integers or truth values.
        tensor: usize,
        /// Whether the greatest is asked for.
        greatest: bool,
        /// The first and last index of each dimension, inclusive.
        index: Vec<(Expr, Expr)>,
    },
    /// `count(t[…] < x)` or `count(t[…] <= x)`: how many elements of a row of a sorted tensor are below x (or at most x). Only in
    /// a loop's bounds.
    Count {
        /// The tensor's place in the list of captured tensors; it holds sorted integers.
        tensor: usize,
        /// The index of each dimension but the last.
        index: Vec<Expr>,
        /// x.
        value: Box<Expr>,
        /// Whether elements equal to x count.
        inclusive: bool,
    },
    /// `next(t[…, a through b], x)`: the first index of the last dimension, from x on, at which a captured tensor of truth values
    /// may be true in some of the rows; the dimension's length if there is none. If an element is true, so are all of its block
    /// of the tensor's [summary](crate::ir::Summary). Only in [hops](crate::ir::TileLoop::key_hop).
    Next {
        /// The tensor's place in the list of captured tensors; it holds truth values.
        tensor: usize,
        /// The first and last index of each dimension but the last, inclusive.
        index: Vec<(Expr, Expr)>,
        /// x.
        from: Box<Expr>,
    },
    /// `random(seed)`: a random float in [0, 1), the [same](crate::philox::random()) wherever these integers are: a seed, the batch, the head,
    /// and the positions of the query and of the key.
    Random(Box<[Expr; 5]>),
    /// An operation on one value.
    Unary(UnaryOp, Box<Expr>),
    /// An operation on two values.
    Binary(BinaryOp, Box<Expr>, Box<Expr>),
    /// `if condition { then } else { otherwise }`.
    Select(Box<Expr>, Box<Expr>, Box<Expr>),
    /// `mask(score, visible)`: the score, and the statement that the key is hidden where `visible` is false. What is
    /// computed from a masked score is masked too. Only in a specification: lowering separates the two.
    Mask(Box<Expr>, Box<Expr>),
}

impl Expr {
    /// `s`: the first product q·k of a specification's key loop.
    pub const SCORE: Expr = Expr::Value(0);

    /// The constant `value`.
    pub fn float(value: f32) -> Expr {
        Expr::Float(Real::new(value))
    }

    /// `op a`.
    pub fn unary(op: UnaryOp, a: Expr) -> Expr {
        Expr::Unary(op, Box::new(a))
    }

    /// `a op b`.
    pub fn binary(op: BinaryOp, a: Expr, b: Expr) -> Expr {
        Expr::Binary(op, Box::new(a), Box::new(b))
    }

    /// `if condition { then } else { otherwise }`.
    pub fn select(condition: Expr, then: Expr, otherwise: Expr) -> Expr {
        Expr::Select(Box::new(condition), Box::new(then), Box::new(otherwise))
    }

    /// `random(seed)`, for the pair of positions.
    pub fn random(seed: Expr) -> Expr {
        Expr::Random(Box::new([seed, Expr::Batch, Expr::Head, Expr::Query, Expr::Key]))
    }

    /// The operands, in order.
    pub fn children(&self) -> Vec<&Expr> {
        match self {
            Expr::Load { index, .. } => index.iter().collect(),
            Expr::Extreme { index, .. } => index.iter().flat_map(|(first, last)| [first, last]).collect(),
            Expr::Count { index, value, .. } => index.iter().chain([&**value]).collect(),
            Expr::Next { index, from, .. } => index.iter().flat_map(|(a, b)| [a, b]).chain([&**from]).collect(),
            Expr::Random(of) => of.iter().collect(),
            Expr::Unary(_, a) => vec![a],
            Expr::Binary(_, a, b) | Expr::Mask(a, b) => vec![a, b],
            Expr::Select(a, b, c) => vec![a, b, c],
            _ => Vec::new(),
        }
    }

    /// The same operation on `change`d operands.
    pub fn map_children(&self, mut change: impl FnMut(&Expr) -> Expr) -> Expr {
        match self {
            Expr::Load { tensor, index } => Expr::Load { tensor: *tensor, index: index.iter().map(change).collect() },
            Expr::Extreme { tensor, greatest, index } => Expr::Extreme {
                tensor: *tensor,
                greatest: *greatest,
                index: index.iter().map(|(first, last)| (change(first), change(last))).collect(),
            },
            Expr::Count { tensor, index, value, inclusive } => Expr::Count {
                tensor: *tensor,
                index: index.iter().map(&mut change).collect(),
                value: Box::new(change(value)),
                inclusive: *inclusive,
            },
            Expr::Next { tensor, index, from } => Expr::Next {
                tensor: *tensor,
                index: index.iter().map(|(first, last)| (change(first), change(last))).collect(),
                from: Box::new(change(from)),
            },
            Expr::Random(of) => Expr::Random(Box::new(of.each_ref().map(change))),
            Expr::Unary(op, a) => Expr::unary(*op, change(a)),
            Expr::Binary(op, a, b) => {
                let a = change(a);
                Expr::binary(*op, a, change(b))
            }
            Expr::Mask(a, b) => {
                let a = Box::new(change(a));
                Expr::Mask(a, Box::new(change(b)))
            }
            Expr::Select(a, b, c) => {
                let (a, b) = (change(a), change(b));
                Expr::select(a, b, change(c))
            }
            leaf => leaf.clone(),
        }
    }

    /// The same expression with each [value](Expr::Value), by its place, replaced by what `change` makes of it.
    pub fn map_values(&self, change: &impl Fn(usize) -> Expr) -> Expr {
        match self {
            Expr::Value(place) => change(*place),
            other => other.map_children(|child| child.map_values(change)),
        }
    }

    /// Whether this expression or any operand, at any depth, satisfies `test`.
    pub fn any(&self, test: &mut impl FnMut(&Expr) -> bool) -> bool {
        test(self) || self.children().into_iter().any(|child| child.any(test))
    }

    /// How many nodes the tree has.
    pub fn size(&self) -> usize {
        1 + self.children().into_iter().map(Expr::size).sum::<usize>()
    }

    /// Whether the value is the same for all pairs of a query tile and its keys: made of scalars, constants, heads, batch,
    /// the scale, and captured tensors at such indices.
    pub fn is_uniform(&self) -> bool {
        !self.any(&mut |expr| {
            use Expr::*;
            matches!(expr, Query | Key | Value(_) | Number(_) | QueryFirst | QueryLast | KeyFirst | KeyLast | Mask(..))
        })
    }

    /// Whether it is made of any [value with a name](Expr::Value).
    pub fn has_values(&self) -> bool {
        self.any(&mut |expr| matches!(expr, Expr::Value(_)))
    }

    /// Whether `leaf` occurs in it.
    pub fn mentions(&self, leaf: &Expr) -> bool {
        self.any(&mut |expr| expr == leaf)
    }
}
