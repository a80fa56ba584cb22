//! The tree of a function as it is written: parsed, not yet checked. Every node knows its tokens.

use crate::error::Source;
use crate::names::Builtin;
use crate::types::Type;
use proc_macro2::{Ident, Span};
use std::fmt;

/// Which macro a function is written with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Attention,
    Mask,
    Score,
}

impl Kind {
    /// The attribute, as it is written.
    pub fn attribute(self) -> &'static str {
        match self {
            Kind::Attention => "#[attention]",
            Kind::Mask => "#[mask]",
            Kind::Score => "#[score]",
        }
    }
}

/// A function with one of the attributes.
pub struct Function {
    pub signature: Signature,
    pub body: Block,
}

/// All of a function but its body.
pub struct Signature {
    pub kind: Kind,
    /// The other attributes, doc comments among them.
    pub attributes: Vec<syn::Attribute>,
    pub visibility: syn::Visibility,
    pub name: Ident,
    pub parameters: Vec<Parameter>,
    /// Whether the output is declared as it must be.
    pub has_output: bool,
}

impl Signature {
    /// The parameters of a kind, in order.
    pub fn of_kind(&self, kind: ParameterKind) -> impl Iterator<Item = &Parameter> {
        self.parameters.iter().filter(move |parameter| parameter.kind == kind)
    }
}

/// A parameter of a function.
pub struct Parameter {
    pub name: Ident,
    pub kind: ParameterKind,
    /// Whether it is marked `#[comptime]`.
    pub comptime: bool,
    /// How it is marked `#[sorted]`, if it is.
    pub sorted: Option<Sorted>,
}

/// That the elements of a captured tensor never decrease along its last dimension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sorted {
    /// `#[sorted]`: a launch makes sure of it.
    Checked,
    /// `#[sorted(unchecked)]`: the caller answers for it.
    Unchecked,
}

/// What a parameter is declared as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParameterKind {
    Query,
    Key,
    Value,
    Scalar(Scalar),
    Tensor(Element, usize),
    /// `Pos`, of a `#[mask]` or `#[score]`.
    Position,
    /// `Score`, of a `#[mask]` or `#[score]`.
    Score,
    /// Something that was reported.
    Wrong,
}

/// The type of a scalar parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scalar {
    I32,
    U32,
    F32,
    Bool,
}

impl Scalar {
    /// The type that is written `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "i32" => Some(Scalar::I32),
            "u32" => Some(Scalar::U32),
            "f32" => Some(Scalar::F32),
            "bool" => Some(Scalar::Bool),
            _ => None,
        }
    }

    /// How it is written.
    pub fn name(self) -> &'static str {
        match self {
            Scalar::I32 => "i32",
            Scalar::U32 => "u32",
            Scalar::F32 => "f32",
            Scalar::Bool => "bool",
        }
    }

    /// Its variant in `spec::ScalarType` and `spec::ScalarValue`.
    pub fn variant(self) -> &'static str {
        match self {
            Scalar::I32 => "I32",
            Scalar::U32 => "U32",
            Scalar::F32 => "F32",
            Scalar::Bool => "Bool",
        }
    }

    /// The type of its value in expressions.
    pub fn ty(self) -> Type {
        match self {
            Scalar::I32 | Scalar::U32 => Type::Int,
            Scalar::F32 => Type::Float,
            Scalar::Bool => Type::Bool,
        }
    }
}

/// The element type of a captured tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    F32,
    I32,
    /// `bool`, and `u8` where any value but zero is true.
    Bool,
}

impl Element {
    /// The type of an element in expressions.
    pub fn ty(self) -> Type {
        match self {
            Element::F32 => Type::Float,
            Element::I32 => Type::Int,
            Element::Bool => Type::Bool,
        }
    }
}

/// `{ … }`.
pub struct Block {
    pub statements: Vec<Statement>,
    /// The closing brace.
    pub close: Span,
}

/// A statement of a block. A block's value is a last [`Statement::Value`].
pub enum Statement {
    Let(Let),
    Accumulator(Accumulator),
    Loop(Loop),
    Push(Push),
    /// An expression, and its semicolon if it has one.
    Value(Expr, Option<Span>),
}

/// `let name: ty = value;`.
pub struct Let {
    pub name: Ident,
    pub ty: Option<(Type, Span)>,
    pub value: Expr,
}

/// `let mut name = Softmax::new();`.
pub struct Accumulator {
    pub name: Ident,
    /// Whether `mut` is there.
    pub mutable: bool,
    /// `None` where the constructor is wrong, which was reported.
    pub kind: Option<AccumulatorKind>,
}

/// What a key loop pushes into.
pub enum AccumulatorKind {
    /// `Softmax::new()`, or `Softmax::with_sink(…)`.
    Softmax(Option<Expr>),
    Sum,
    Mean,
}

/// `for variable in over.tiles() { … }`.
pub struct Loop {
    pub keyword: Span,
    pub variable: Ident,
    pub over: Over,
    pub body: Block,
}

/// What a loop goes over.
pub enum Over {
    /// `name.tiles()`.
    Tiles(Ident),
    /// Anything else, and the name in it if it is nothing but a name.
    Other(Source, Option<Ident>),
}

/// `accumulator.push(score, value);`.
pub struct Push {
    pub accumulator: Ident,
    /// The word `push`.
    pub method: Span,
    pub arguments: Vec<Expr>,
}

/// An expression.
pub struct Expr {
    pub kind: ExprKind,
    pub source: Source,
}

/// What an expression says.
pub enum ExprKind {
    Int(i32),
    Float(f32),
    Bool(bool),
    Name(Ident),
    /// `name[a][b]`.
    Index(Ident, Vec<Expr>),
    /// `-a`, `!a`.
    Unary(Unary, Box<Expr>),
    /// `a op b`, and the operator's place.
    Binary(Binary, Span, Box<Expr>, Box<Expr>),
    /// `a as f32`.
    Cast(Box<Expr>, Type),
    If(Box<Expr>, Block, Box<Expr>),
    Block(Block),
    Paren(Box<Expr>),
    /// A function of the language, called as `f(a, b)` or `a.f(b)`; and the place of its name.
    Builtin(Builtin, Span, Vec<Expr>),
    /// A `#[mask]` or `#[score]` function of the user.
    Call(syn::Path, Vec<Expr>),
    /// Something that was reported.
    Wrong,
}

/// An operator on one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unary {
    Neg,
    Not,
}

/// An operator on two values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binary {
    Add,
    Sub,
    Mul,
    Div,
    Rem,
    Lt,
    Le,
    Gt,
    Ge,
    Eq,
    Ne,
    And,
    Or,
}

impl Binary {
    /// How it is written.
    pub fn symbol(self) -> &'static str {
        match self {
            Binary::Add => "+",
            Binary::Sub => "-",
            Binary::Mul => "*",
            Binary::Div => "/",
            Binary::Rem => "%",
            Binary::Lt => "<",
            Binary::Le => "<=",
            Binary::Gt => ">",
            Binary::Ge => ">=",
            Binary::Eq => "==",
            Binary::Ne => "!=",
            Binary::And => "&&",
            Binary::Or => "||",
        }
    }

    /// Its function in `purview::lang`.
    pub fn function(self) -> &'static str {
        match self {
            Binary::Add => "add",
            Binary::Sub => "sub",
            Binary::Mul => "mul",
            Binary::Div => "div",
            Binary::Rem => "rem",
            Binary::Lt => "lt",
            Binary::Le => "le",
            Binary::Gt => "gt",
            Binary::Ge => "ge",
            Binary::Eq => "eq",
            Binary::Ne => "ne",
            Binary::And => "and",
            Binary::Or => "or",
        }
    }
}

impl Binary {
    /// Whether it gives a bool from two values of one type.
    pub fn is_comparison(self) -> bool {
        matches!(self, Binary::Lt | Binary::Le | Binary::Gt | Binary::Ge | Binary::Eq | Binary::Ne)
    }
}

impl Expr {
    /// The expression without the parentheses around it.
    pub fn inner(&self) -> &Expr {
        match &self.kind {
            ExprKind::Paren(inner) => inner.inner(),
            _ => self,
        }
    }

    /// Whether the expression is nothing but something that was reported.
    pub fn is_wrong(&self) -> bool {
        matches!(self.kind, ExprKind::Wrong)
    }

    /// The expression that gives its value: the last line of a block, through every `else`.
    pub fn tail(&self) -> Option<&Expr> {
        match &self.kind {
            ExprKind::Block(block) => tail(block),
            _ => Some(self),
        }
    }

    /// Its text as an operand of `as`: in parentheses if it needs them.
    pub fn operand(&self) -> String {
        match self.kind {
            ExprKind::Unary(..) | ExprKind::Binary(..) | ExprKind::If(..) | ExprKind::Block(..) => format!("({self})"),
            _ => self.to_string(),
        }
    }
}

/// The expression that gives the value of `block`.
pub fn tail(block: &Block) -> Option<&Expr> {
    match block.statements.last() {
        Some(Statement::Value(value, _)) => value.tail(),
        _ => None,
    }
}

/// As it would be written on one line, for the `help:` of a message.
impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            ExprKind::Int(value) => write!(f, "{value}"),
            ExprKind::Float(value) => write!(f, "{value:?}"),
            ExprKind::Bool(value) => write!(f, "{value}"),
            ExprKind::Name(name) => write!(f, "{name}"),
            ExprKind::Index(name, index) => {
                write!(f, "{name}")?;
                index.iter().try_for_each(|index| write!(f, "[{index}]"))
            }
            ExprKind::Unary(Unary::Neg, a) => write!(f, "-{a}"),
            ExprKind::Unary(Unary::Not, a) => write!(f, "!{a}"),
            ExprKind::Binary(op, _, a, b) => write!(f, "{a} {} {b}", op.symbol()),
            ExprKind::Cast(a, ty) => write!(f, "{a} as {}", if *ty == Type::Float { "f32" } else { "i32" }),
            ExprKind::If(condition, then, otherwise) => write!(f, "if {condition} {then} else {otherwise}"),
            ExprKind::Block(block) => write!(f, "{block}"),
            ExprKind::Paren(a) => write!(f, "({a})"),
            ExprKind::Builtin(builtin, _, arguments) => write!(f, "{}({})", builtin.name, list(arguments)),
            ExprKind::Call(path, arguments) => {
                let path: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
                write!(f, "{}({})", path.join("::"), list(arguments))
            }
            ExprKind::Wrong => f.write_str("…"),
        }
    }
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.statements[..] {
            [Statement::Value(value, None)] => write!(f, "{{ {value} }}"),
            _ => f.write_str("{ … }"),
        }
    }
}

fn list(arguments: &[Expr]) -> String {
    arguments.iter().map(Expr::to_string).collect::<Vec<_>>().join(", ")
}
