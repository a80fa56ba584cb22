//! The tree of a function after it is checked: names are resolved, and every value has a type.

use crate::signature::Kind;
use crate::source::Source;
use crate::types::ValueType;
use proc_macro2::{Ident, Span};

/// The most products of queries and keys in one loop over keys.
pub const MAX_DOTS: usize = 16;

/// The most outputs of an attention.
pub const MAX_OUTPUTS: usize = 8;

/// What a function says.
pub enum Body {
    /// The loops of an `#[attention]`.
    Attention(CheckedAttention),
    /// The value of a `#[mask]`, `#[score]` or `#[index]` function.
    Value(Kind, TypedValue),
}

/// What an attention says.
pub struct CheckedAttention {
    /// What lies along queries and keys, in the order of the signature. Places of operands count in these.
    pub operands: Vec<CheckedOperand>,
    /// The statements of the loop over the queries, in order.
    pub steps: Vec<QueryStep>,
    /// What that loop gives: the outputs, in order. None stands for its only accumulator as it is.
    pub outputs: Vec<TypedValue>,
}

/// A parameter that lies along queries or keys.
pub struct CheckedOperand {
    /// Its name.
    pub name: Ident,
    /// What it is.
    pub role: CheckedRole,
}

/// What an operand is. Keys and values are of a set, by its number: those that one loop reads. Sets are in the order of their first keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckedRole {
    /// `Query`.
    Query,
    /// `Key`.
    Key(usize),
    /// `Value`.
    Value(usize),
}

/// A statement of the loop over the queries.
pub enum QueryStep {
    /// A variable.
    Let(TypedLet),
    /// An accumulator and its name. [`CheckedPush::accumulator`] counts these.
    Accumulator(Ident, CheckedAccumulator),
    /// A loop over keys.
    Loop(CheckedKeyLoop),
}

/// What key loops push into.
pub enum CheckedAccumulator {
    /// `Softmax::new()`, or `Softmax::with_sink(…)` of this logit.
    Softmax(Option<TypedValue>),
    /// `Sum::new()`.
    Sum,
    /// `Mean::new()`.
    Mean,
}

/// A loop over the keys of a set.
pub struct CheckedKeyLoop {
    /// The set.
    pub set: usize,
    /// The places of the queries and keys of each product, which [`Node::Dot`] counts.
    pub dots: Vec<(usize, usize)>,
    /// Its statements, in order.
    pub steps: Vec<KeyStep>,
}

/// A statement of a loop over keys.
pub enum KeyStep {
    /// A variable.
    Let(TypedLet),
    /// A push.
    Push(CheckedPush),
}

/// What is pushed into an accumulator.
pub struct CheckedPush {
    /// The number of the accumulator.
    pub accumulator: usize,
    /// The score.
    pub score: TypedValue,
    /// What its weight is multiplied by in the output.
    pub weight: Option<TypedValue>,
    /// The place of the operand that has the values.
    pub values: usize,
    /// How many elements of a row of it are the value, if not all.
    pub leading: Option<CheckedLeading>,
}

/// How many of the first elements of a row.
pub enum CheckedLeading {
    /// So many.
    Literal(usize),
    /// The value of a comptime scalar.
    Scalar(Ident),
    /// The value of a constant of Rust.
    Constant(syn::Path),
}

/// A variable and its value.
pub struct TypedLet {
    /// The name of the variable.
    pub name: Ident,
    /// The type it is declared with, and where.
    pub ty: Option<(ValueType, Span)>,
    /// What it is.
    pub value: TypedValue,
}

/// A value and its type.
pub struct TypedValue {
    /// What it is computed from.
    pub node: Node,
    /// Its type.
    pub ty: ValueType,
    /// Whether it is computed from a product of queries and keys.
    pub score: bool,
    /// Where it is written.
    pub source: Source,
}

impl TypedValue {
    /// A call of `function` of `purview::lang`; `token` is the operator or the name.
    pub(crate) fn lang(
        function: &'static str,
        token: Span,
        operands: Vec<TypedValue>,
        ty: ValueType,
        source: Source,
    ) -> Self {
        let score = operands.iter().any(|operand| operand.score);
        let generic = match function {
            "add" | "sub" | "mul" | "div" | "min" | "max" | "neg" | "abs" | "select" => Some(ty),
            "lt" | "le" | "gt" | "ge" | "eq" | "ne" => {
                operands.iter().map(|operand| operand.ty).find(|ty| ty.is_known()).or(Some(ValueType::Unknown))
            }
            _ => None,
        };
        let generic = generic.filter(|ty| ty.is_known());
        TypedValue { node: Node::Lang { function, token, operands, generic, located: false }, ty, score, source }
    }

    /// Whether `test` finds something in the nodes that it is computed from.
    pub(crate) fn any(&self, test: &mut dyn FnMut(&Node) -> bool) -> bool {
        if test(&self.node) {
            return true;
        }
        match &self.node {
            Node::Load(_, operands) | Node::Lang { operands, .. } | Node::Call(_, operands, _) => {
                operands.iter().any(|operand| operand.any(test))
            }
            Node::Block(lets, tail) => lets.iter().any(|binding| binding.value.any(test)) || tail.any(test),
            _ => false,
        }
    }

    /// Has the place of the value, an operation, remembered for messages.
    pub(crate) fn locate(&mut self) {
        if let Node::Lang { located, .. } = &mut self.node {
            *located = true;
        }
    }

    /// The same of an integer, which a launch may find to leave 32 bits.
    pub(crate) fn locate_integer(&mut self) {
        if matches!(self.ty, ValueType::Int | ValueType::Unknown) {
            self.locate();
        }
    }

    /// What the value is, for messages.
    pub(crate) fn description(&self) -> String {
        if self.ty == ValueType::Float && self.score { "score".to_string() } else { self.ty.to_string() }
    }
}

/// What a value is computed from.
pub enum Node {
    /// An integer.
    Int(i32),
    /// A finite float.
    Float(f32),
    /// `true` or `false`.
    Bool(bool),
    /// A scalar, or a variable of a `let`.
    Local(Ident),
    /// A constant of Rust, which only rustc knows.
    Constant(syn::Path),
    /// A captured tensor, as the argument of a function.
    Tensor(Ident),
    /// An element of a captured tensor.
    Load(Ident, Vec<TypedValue>),
    /// A product of queries and keys, by its place among those of its loop, and the word `dot`.
    Dot(usize, Span),
    /// An element of what the output is made of, and its name: an accumulator by its number, or, after all accumulators, an operand along
    /// queries.
    Result(usize, Span),
    /// A function of `purview::lang`.
    Lang {
        /// Its name, such as `add` for `+`.
        function: &'static str,
        /// The operator or the name of the function, as it is written.
        token: Span,
        /// What it is of.
        operands: Vec<TypedValue>,
        /// The type parameter of the function, where it has one that is known. It makes rustc's own errors those of the
        /// argument at fault.
        generic: Option<ValueType>,
        /// Whether messages of the compiler may want the place of `token`.
        located: bool,
    },
    /// A function of the user, and the function of the language with nearly the same name.
    Call(syn::Path, Vec<TypedValue>, Option<&'static str>),
    /// Variables, and a value made of them.
    Block(Vec<TypedLet>, Box<TypedValue>),
    /// Something that was reported.
    Reported,
}
