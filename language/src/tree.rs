//! The tree of a function after it is checked: names are resolved, and every value has a type.

use crate::signature::Kind;
use crate::source::Source;
use crate::types::ValueType;
use proc_macro2::{Ident, Span};

/// What a function says.
pub enum Body {
    /// The loops of an `#[attention]`.
    Attention(CheckedAttention),
    /// The value of a `#[mask]` or `#[score]` function.
    Value(Kind, TypedValue),
}

/// What an attention says.
pub struct CheckedAttention {
    /// The names of each key parameter and of the value parameter that goes with it, in the order of the keys.
    pub pairs: Vec<(Ident, Ident)>,
    /// The statements of the loop over the queries, in order.
    pub steps: Vec<LoopStep>,
}

/// A statement of the loop over the queries.
pub enum LoopStep {
    /// A variable.
    Let(TypedLet),
    /// `Softmax::new()`, or `Softmax::with_sink(…)` of this logit.
    Softmax(Option<TypedValue>),
    /// `Sum::new()`.
    Sum,
    /// `Mean::new()`.
    Mean,
    /// A loop over keys.
    Loop(KeyLoop),
}

/// A loop over the keys of a pair.
pub struct KeyLoop {
    /// The pair's place in [`CheckedAttention::pairs`].
    pub pair: usize,
    /// The variables before the push.
    pub lets: Vec<TypedLet>,
    /// What is pushed.
    pub score: TypedValue,
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
    /// A captured tensor, as the argument of a function.
    Tensor(Ident),
    /// An element of a captured tensor.
    Load(Ident, Vec<TypedValue>),
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
