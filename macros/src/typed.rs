//! The tree of a function after it is checked: names are resolved, and every value has a type.

use crate::ast::Kind;
use crate::error::Source;
use crate::types::Type;
use proc_macro2::{Ident, Span};

/// What a function says.
pub enum Body {
    Attention(Attention),
    /// The value of a `#[mask]` or `#[score]` function.
    Value(Kind, Value),
}

/// What an attention says.
pub struct Attention {
    /// The names of each key parameter and of the value parameter that goes with it, in the order of the keys.
    pub pairs: Vec<(Ident, Ident)>,
    pub steps: Vec<Step>,
}

/// A statement of the loop over the queries.
pub enum Step {
    Let(Let),
    Softmax(Option<Value>),
    Sum,
    Mean,
    Loop(KeyLoop),
}

/// A loop over the keys of a pair.
pub struct KeyLoop {
    /// The pair's place in [`Attention::pairs`].
    pub pair: usize,
    pub lets: Vec<Let>,
    /// What is pushed.
    pub score: Value,
}

/// A variable and its value.
pub struct Let {
    pub name: Ident,
    /// The type it is declared with.
    pub ty: Option<(Type, Span)>,
    pub value: Value,
}

/// A value and its type.
pub struct Value {
    pub node: Node,
    pub ty: Type,
    /// Whether it is computed from a product of queries and keys.
    pub score: bool,
    pub source: Source,
}

impl Value {
    /// What the value is, for messages.
    pub fn description(&self) -> String {
        if self.ty == Type::Float && self.score { "score".to_string() } else { self.ty.to_string() }
    }
}

/// What a value is computed from.
pub enum Node {
    Int(i32),
    Float(f32),
    Bool(bool),
    /// A scalar, or a variable of a `let`.
    Local(Ident),
    /// A captured tensor, as the argument of a function.
    Tensor(Ident),
    /// An element of a captured tensor.
    Load(Ident, Vec<Value>),
    /// A function of `purview::lang`.
    Lang {
        function: &'static str,
        /// The operator or the name of the function.
        token: Span,
        operands: Vec<Value>,
        /// The type parameter of the function, where it has one and the macro knows it. It makes rustc's own errors
        /// those of the argument at fault.
        generic: Option<Type>,
        /// Whether messages of the compiler may want the place of `token`.
        located: bool,
    },
    /// A function of the user, and the function of the language with nearly the same name.
    Call(syn::Path, Vec<Value>, Option<&'static str>),
    Block(Vec<Let>, Box<Value>),
    /// Something that was reported.
    Wrong,
}
