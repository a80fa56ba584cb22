//! The tree of a body as it is written: parsed, not yet checked. Every node knows its tokens.

use crate::names::Builtin;
use crate::source::Source;
use crate::types::ValueType;
use proc_macro2::{Ident, Span};
use std::fmt;

/// `{ … }`.
#[derive(Clone)]
pub struct Block {
    pub statements: Vec<Statement>,
    /// The closing brace.
    pub close: Span,
}

/// A statement of a block. A block's value is a last [`Statement::Value`].
#[derive(Clone)]
pub enum Statement {
    Let(Let),
    Accumulator(AccumulatorLet),
    Loop(Loop),
    Push(PushStatement),
    /// An assignment, which the language has not.
    Assignment(Assignment),
    /// A constant, which the language has not.
    Constant(ConstantItem),
    /// An expression, and its semicolon if it has one.
    Value(Expression, Option<Span>),
}

/// `let name: ty = value;`.
#[derive(Clone)]
pub struct Let {
    pub name: Ident,
    /// The word `mut`, which the language has not, where it is written.
    pub mutable: Option<Span>,
    pub ty: Option<(ValueType, Span)>,
    pub value: Expression,
}

/// `name = value;`, or `name += value;` and the like.
#[derive(Clone)]
pub struct Assignment {
    pub target: Expression,
    pub operator: Source,
    /// The operation of `+=` and the like.
    pub compound: Option<Binary>,
    pub value: Expression,
}

/// `const name: ty = value;`, or with `static`.
#[derive(Clone)]
pub struct ConstantItem {
    pub keyword: Span,
    pub name: Ident,
    pub value: Expression,
}

/// `let mut name = Softmax::new();`.
#[derive(Clone)]
pub struct AccumulatorLet {
    pub name: Ident,
    /// Whether `mut` is there.
    pub mutable: bool,
    /// Whether it is one of several names of a `let`.
    pub of_tuple: bool,
    /// `None` where the constructor is wrong, which was reported.
    pub kind: Option<AccumulatorKind>,
}

/// What a key loop pushes into.
#[derive(Clone)]
pub enum AccumulatorKind {
    /// `Softmax::new()`, or `Softmax::with_sink(…)`.
    Softmax(Option<Expression>),
    Sum,
    Mean,
}

/// `for variable in over.tiles() { … }`.
#[derive(Clone)]
pub struct Loop {
    pub head: LoopHead,
    pub body: Block,
}

/// `for variable in over.tiles()`.
#[derive(Clone)]
pub struct LoopHead {
    pub keyword: Span,
    pub variable: Ident,
    pub over: Over,
}

/// What a loop goes over.
#[derive(Clone)]
pub enum Over {
    /// `name.tiles()`.
    Tiles(Ident),
    /// Anything else, and the name in it if it is nothing but a name.
    Other(Source, Option<Ident>),
}

/// `accumulator.push(score, value);`, or `accumulator.push_weighted(score, weight, value);`.
#[derive(Clone)]
pub struct PushStatement {
    pub accumulator: Ident,
    /// The word `push` or `push_weighted`.
    pub method: Span,
    pub weighted: bool,
    pub arguments: Vec<Expression>,
}

impl PushStatement {
    /// How many arguments it takes.
    pub fn count(&self) -> usize {
        if self.weighted { 3 } else { 2 }
    }

    /// The word.
    pub fn name(&self) -> &'static str {
        if self.weighted { "push_weighted" } else { "push" }
    }

    /// Whether `other` pushes the same values into the same accumulator, by the same weight.
    pub fn is_but_for_its_score(&self, other: &PushStatement) -> bool {
        self.with_score("") == other.with_score("")
    }

    /// The statement, with another score.
    pub fn with_score(&self, score: &str) -> String {
        let rest: String = self.arguments.iter().skip(1).map(|argument| format!(", {argument}")).collect();
        format!("{}.{}({score}{rest})", self.accumulator, self.name())
    }
}

/// An expression.
#[derive(Clone)]
pub struct Expression {
    pub kind: ExprKind,
    pub source: Source,
}

/// What an expression says.
#[derive(Clone)]
pub enum ExprKind {
    Int(i32),
    /// It may be infinite, which the language has not.
    Float(f32),
    Bool(bool),
    Name(Ident),
    /// `crate::WINDOW`: a constant of Rust by more than its name.
    Constant(syn::Path),
    /// `name[a][b]`.
    Index(Ident, Vec<Expression>),
    /// `tile[..end]`: the first elements of each row.
    Leading(Box<Expression>, Box<Expression>),
    /// `-a`, `!a`.
    Unary(Unary, Box<Expression>),
    /// `a op b`, and the operator's place.
    Binary(Binary, Span, Box<Expression>, Box<Expression>),
    /// `a as f32`.
    Cast(Box<Expression>, ValueType),
    /// `if a { … } else …`; a value has an `else`.
    If(Box<Expression>, Block, Option<Box<Expression>>),
    Block(Block),
    Paren(Box<Expression>),
    /// `(a, b)`: what an attention with several outputs gives.
    Tuple(Vec<Expression>),
    /// A function of the language, called as `f(a, b)` or `a.f(b)`; and the place of its name.
    Builtin(Builtin, Span, Vec<Expression>),
    /// A `#[mask]`, `#[score]` or `#[index]` function of the user.
    Call(syn::Path, Vec<Expression>),
    /// `continue` or `break`, which the language has not.
    Jump(&'static str),
    /// `return value`, which the language has not, and the word.
    Return(Span, Option<Box<Expression>>),
    /// Something that was reported.
    Reported,
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
    /// `&` and the rest are of Rust; the language has not got them.
    BitAnd,
    BitOr,
    BitXor,
    Shl,
    Shr,
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
            Binary::BitAnd => "&",
            Binary::BitOr => "|",
            Binary::BitXor => "^",
            Binary::Shl => "<<",
            Binary::Shr => ">>",
        }
    }

    /// How tightly it binds; a greater number binds tighter.
    fn precedence(self) -> u8 {
        match self {
            Binary::Or => 1,
            Binary::And => 2,
            Binary::Lt | Binary::Le | Binary::Gt | Binary::Ge | Binary::Eq | Binary::Ne => 3,
            Binary::BitOr => 4,
            Binary::BitXor => 5,
            Binary::BitAnd => 6,
            Binary::Shl | Binary::Shr => 7,
            Binary::Add | Binary::Sub => 8,
            Binary::Mul | Binary::Div | Binary::Rem => 9,
        }
    }

    /// Its function in `purview::lang`, where it has one.
    pub fn function(self) -> Option<&'static str> {
        Some(match self {
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
            Binary::BitAnd | Binary::BitOr | Binary::BitXor | Binary::Shl | Binary::Shr => return None,
        })
    }
}

impl Binary {
    /// Whether it gives a number from two of one type.
    pub fn is_arithmetic(self) -> bool {
        matches!(self, Binary::Add | Binary::Sub | Binary::Mul | Binary::Div | Binary::Rem)
    }

    /// Whether it gives a bool from two values of one type.
    pub fn is_comparison(self) -> bool {
        matches!(self, Binary::Lt | Binary::Le | Binary::Gt | Binary::Ge | Binary::Eq | Binary::Ne)
    }
}

impl Expression {
    /// The expression without the parentheses around it.
    pub fn inner(&self) -> &Expression {
        match &self.kind {
            ExprKind::Paren(inner) => inner.inner(),
            _ => self,
        }
    }

    /// Whether it is `f32::NEG_INFINITY`, written so or as `-f32::INFINITY`.
    pub fn is_infinite(&self) -> bool {
        match &self.inner().kind {
            ExprKind::Float(value) => *value == f32::NEG_INFINITY,
            ExprKind::Unary(Unary::Neg, operand) => matches!(operand.inner().kind, ExprKind::Float(f32::INFINITY)),
            _ => false,
        }
    }

    /// Whether it is a number that is added to a score, or stands for one, to hide a key.
    pub fn hides(&self) -> bool {
        match &self.inner().kind {
            ExprKind::Float(value) => *value <= -1e4,
            ExprKind::Unary(Unary::Neg, operand) => {
                matches!(operand.inner().kind, ExprKind::Float(value) if value >= 1e4)
            }
            _ => false,
        }
    }

    /// Whether it is a bool, as far as that is seen without what names stand for.
    pub fn is_condition(&self) -> bool {
        match &self.inner().kind {
            ExprKind::Bool(_) | ExprKind::Unary(Unary::Not, _) => true,
            ExprKind::Binary(op, ..) => op.is_comparison() || matches!(op, Binary::And | Binary::Or),
            _ => false,
        }
    }

    /// Whether it is the name of one of `accumulators`.
    pub fn names(&self, accumulators: &[&AccumulatorLet]) -> bool {
        matches!(&self.kind, ExprKind::Name(name) if accumulators.iter().any(|accumulator| *name == accumulator.name))
    }

    /// Whether the name of one of `accumulators` is in it.
    pub fn mentions(&self, accumulators: &[&AccumulatorLet]) -> bool {
        let mut found = false;
        self.visit(&mut |expr| found |= expr.names(accumulators));
        found
    }

    /// Whether the expression is nothing but something that was reported.
    pub fn is_reported(&self) -> bool {
        matches!(self.kind, ExprKind::Reported)
    }

    /// The expression that `kind` makes of others, at their place.
    pub fn made(kind: ExprKind, source: Source) -> Expression {
        Expression { kind, source }
    }

    /// `self op other`, for what is to be written instead of `self`.
    pub fn with(self, op: Binary, other: Expression) -> Expression {
        let source = self.source;
        Expression::made(ExprKind::Binary(op, source.start, Box::new(self), Box::new(other)), source)
    }

    /// What is true where the expression, a bool, is false.
    pub fn negated(&self) -> Expression {
        let inner = self.inner();
        let kind = match &inner.kind {
            ExprKind::Unary(Unary::Not, operand) => operand.inner().kind.clone(),
            ExprKind::Bool(value) => ExprKind::Bool(!value),
            ExprKind::Binary(op, token, a, b) => {
                let opposite = match op {
                    Binary::Lt => Some(Binary::Ge),
                    Binary::Le => Some(Binary::Gt),
                    Binary::Gt => Some(Binary::Le),
                    Binary::Ge => Some(Binary::Lt),
                    Binary::Eq => Some(Binary::Ne),
                    Binary::Ne => Some(Binary::Eq),
                    _ => None,
                };
                match (op, opposite) {
                    (_, Some(op)) => ExprKind::Binary(op, *token, a.clone(), b.clone()),
                    (Binary::And, _) => ExprKind::Binary(Binary::Or, *token, a.negated().into(), b.negated().into()),
                    (Binary::Or, _) => ExprKind::Binary(Binary::And, *token, a.negated().into(), b.negated().into()),
                    _ => ExprKind::Unary(Unary::Not, Box::new(inner.clone())),
                }
            }
            _ => ExprKind::Unary(Unary::Not, Box::new(inner.clone())),
        };
        Expression { kind, source: self.source }
    }

    /// Calls `see` with the expression and with every one in it, from the outside in.
    pub fn visit(&self, see: &mut dyn FnMut(&Expression)) {
        see(self);
        match &self.kind {
            ExprKind::Index(_, parts)
            | ExprKind::Builtin(_, _, parts)
            | ExprKind::Call(_, parts)
            | ExprKind::Tuple(parts) => {
                parts.iter().for_each(|part| part.visit(see));
            }
            ExprKind::Unary(_, a) | ExprKind::Cast(a, _) | ExprKind::Paren(a) | ExprKind::Return(_, Some(a)) => {
                a.visit(see);
            }
            ExprKind::Binary(_, _, a, b) | ExprKind::Leading(a, b) => [a, b].iter().for_each(|part| part.visit(see)),
            ExprKind::If(condition, then, otherwise) => {
                condition.visit(see);
                then.visit(see);
                otherwise.iter().for_each(|otherwise| otherwise.visit(see));
            }
            ExprKind::Block(block) => block.visit(see),
            ExprKind::Int(_)
            | ExprKind::Float(_)
            | ExprKind::Bool(_)
            | ExprKind::Name(_)
            | ExprKind::Constant(_)
            | ExprKind::Jump(_)
            | ExprKind::Return(_, None)
            | ExprKind::Reported => {}
        }
    }

    /// The expression that gives its value: the last line of a block, through every `else`.
    pub fn tail(&self) -> Option<&Expression> {
        match &self.kind {
            ExprKind::Block(block) => tail(block),
            _ => Some(self),
        }
    }

    /// Its text as the operand of `as`, of `!` and `-`, and of a method: in parentheses if it needs them.
    pub fn operand(&self) -> String {
        match self.kind {
            ExprKind::Unary(..)
            | ExprKind::Binary(..)
            | ExprKind::Cast(..)
            | ExprKind::If(..)
            | ExprKind::Block(..) => format!("({self})"),
            _ => self.to_string(),
        }
    }
}

impl Expression {
    /// Its text as a factor of a product.
    pub fn factor(&self) -> String {
        match &self.kind {
            ExprKind::Binary(op, ..) if op.precedence() < Binary::Mul.precedence() => format!("({self})"),
            ExprKind::If(..) | ExprKind::Block(..) => format!("({self})"),
            _ => self.to_string(),
        }
    }

    /// Its text where a float is needed: an integer with `.0`.
    pub fn as_float(&self) -> String {
        match self.inner().kind {
            ExprKind::Int(value) => format!("{value}.0"),
            _ => self.to_string(),
        }
    }
}

impl Block {
    /// Calls `see` with every expression in the block.
    pub fn visit(&self, see: &mut dyn FnMut(&Expression)) {
        for statement in &self.statements {
            match statement {
                Statement::Let(Let { value, .. }) | Statement::Constant(ConstantItem { value, .. }) => value.visit(see),
                Statement::Accumulator(AccumulatorLet { kind: Some(AccumulatorKind::Softmax(Some(sink))), .. }) => {
                    sink.visit(see);
                }
                Statement::Accumulator(_) => {}
                Statement::Loop(inner) => inner.body.visit(see),
                Statement::Push(push) => push.arguments.iter().for_each(|argument| argument.visit(see)),
                Statement::Assignment(Assignment { target, value, .. }) => {
                    target.visit(see);
                    value.visit(see);
                }
                Statement::Value(value, _) => value.visit(see),
            }
        }
    }

    /// Calls `see` with every statement of the block, and with those of the loops and `if`s among them.
    pub fn visit_statements(&self, see: &mut dyn FnMut(&Statement)) {
        fn through(expr: &Expression, see: &mut dyn FnMut(&Statement)) {
            match &expr.kind {
                ExprKind::If(_, then, otherwise) => {
                    then.visit_statements(see);
                    otherwise.iter().for_each(|otherwise| through(otherwise, see));
                }
                ExprKind::Block(block) => block.visit_statements(see),
                _ => {}
            }
        }
        for statement in &self.statements {
            see(statement);
            match statement {
                Statement::Loop(inner) => inner.body.visit_statements(see),
                Statement::Value(value, _) => through(value, see),
                Statement::Let(binding) => through(&binding.value, see),
                Statement::Accumulator(_) | Statement::Push(_) | Statement::Assignment(_) | Statement::Constant(_) => {}
            }
        }
    }
}

/// The expression that gives the value of `block`.
pub fn tail(block: &Block) -> Option<&Expression> {
    match block.statements.last() {
        Some(Statement::Value(value, _)) => value.tail(),
        _ => None,
    }
}

/// As it would be written on one line, for the `help:` of a message.
impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            ExprKind::Int(value) => write!(f, "{value}"),
            ExprKind::Float(f32::INFINITY) => f.write_str("f32::INFINITY"),
            ExprKind::Float(f32::NEG_INFINITY) => f.write_str("f32::NEG_INFINITY"),
            ExprKind::Float(value) => write!(f, "{value:?}"),
            ExprKind::Bool(value) => write!(f, "{value}"),
            ExprKind::Name(name) => write!(f, "{name}"),
            ExprKind::Constant(path) => f.write_str(&path_text(path)),
            ExprKind::Index(name, index) => {
                write!(f, "{name}")?;
                index.iter().try_for_each(|index| write!(f, "[{index}]"))
            }
            ExprKind::Leading(tile, end) => write!(f, "{tile}[..{end}]"),
            ExprKind::Unary(Unary::Neg, a) => write!(f, "-{}", a.operand()),
            ExprKind::Unary(Unary::Not, a) => write!(f, "!{}", a.operand()),
            ExprKind::Binary(op, _, a, b) => {
                let side = |side: &Expression, is_right: bool| match side.kind {
                    ExprKind::Binary(inner, ..) => {
                        let (inner_precedence, precedence) = (inner.precedence(), op.precedence());
                        // Comparisons have no order among each other.
                        let equal = is_right || op.is_comparison();
                        let loose = inner_precedence < precedence || equal && inner_precedence == precedence;
                        if loose { format!("({side})") } else { side.to_string() }
                    }
                    ExprKind::If(..) | ExprKind::Block(..) => format!("({side})"),
                    // `a as f32 < b` is not Rust.
                    ExprKind::Cast(..) if !is_right && matches!(op, Binary::Lt | Binary::Shl) => format!("({side})"),
                    _ => side.to_string(),
                };
                write!(f, "{} {} {}", side(a, false), op.symbol(), side(b, true))
            }
            ExprKind::Cast(a, ty) => {
                write!(f, "{} as {}", a.operand(), if *ty == ValueType::Float { "f32" } else { "i32" })
            }
            ExprKind::If(condition, then, None) => write!(f, "if {condition} {then}"),
            ExprKind::If(condition, then, Some(otherwise)) => write!(f, "if {condition} {then} else {otherwise}"),
            ExprKind::Block(block) => write!(f, "{block}"),
            ExprKind::Paren(a) => write!(f, "({a})"),
            ExprKind::Tuple(parts) => match &parts[..] {
                [one] => write!(f, "({one},)"),
                parts => write!(f, "({})", list(parts)),
            },
            ExprKind::Builtin(builtin, _, arguments) => write!(f, "{}({})", builtin.name, list(arguments)),
            ExprKind::Call(path, arguments) => {
                write!(f, "{}({})", path_text(path), list(arguments))
            }
            ExprKind::Jump(keyword) => f.write_str(keyword),
            ExprKind::Return(_, None) => f.write_str("return"),
            ExprKind::Return(_, Some(value)) => write!(f, "return {value}"),
            ExprKind::Reported => f.write_str("…"),
        }
    }
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.statements[..] {
            [lets @ .., Statement::Value(value, None)] if lets.iter().all(|line| matches!(line, Statement::Let(_))) => {
                f.write_str("{ ")?;
                for line in lets {
                    let Statement::Let(Let { name, value, .. }) = line else { unreachable!("all are") };
                    write!(f, "let {name} = {value}; ")?;
                }
                write!(f, "{value} }}")
            }
            _ => f.write_str("{ … }"),
        }
    }
}

fn list(arguments: &[Expression]) -> String {
    arguments.iter().map(Expression::to_string).collect::<Vec<_>>().join(", ")
}

fn path_text(path: &syn::Path) -> String {
    let names: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
    names.join("::")
}
