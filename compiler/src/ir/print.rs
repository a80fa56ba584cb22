//! Programs and expressions as text, which [`parse`](super::parse) reads back to the same value.
//!
//! Expressions are written as in the language, with its precedences and no parentheses that those make needless (an `if`
//! inside an operation has them, for the reader). Positions and tile bounds are `i`, `j`, `i0`, `i1`, the score is `s`; a
//! parameter that is named like one of these or like a function is written `r#name`. Floats have the fewest digits that
//! read back to the same bits; `inf` and `nan(0x7fc00000)` are the others.

use super::{Accumulator, Base, KeyLoop, KeyRange, MaskedTiles, Program, TileClass, TileOp};
use crate::expr::{BinaryOp, Expr, UnaryOp};
use crate::schedule::Schedule;
use crate::spec::Order;
use crate::typing::Parameters;
use std::fmt::{self, Display, Formatter};

/// The words that a parameter's name may not be, unless written `r#name`.
pub const RESERVED: &[&str] = &[
    "i",
    "j",
    "s",
    "o",
    "i0",
    "i1",
    "j0",
    "j1",
    "least",
    "greatest",
    "count",
    "through",
    "next",
    "hop",
    "skip",
    "unless",
    "if",
    "else",
    "as",
    "true",
    "false",
    "inf",
    "nan",
    "mask",
    "batch",
    "head",
    "kv_head",
    "scale",
    "abs",
    "exp",
    "exp2",
    "log",
    "log2",
    "sqrt",
    "tanh",
    "sigmoid",
    "relu",
    "sin",
    "cos",
    "min",
    "max",
    "pow",
    "attention",
    "for",
    "from",
    "to",
    "full",
    "all",
    "nowhere",
    "store",
    "sink",
    "schedule",
    "on",
    "where",
    "f32",
    "i32",
    "u32",
    "bool",
    "Tensor",
];

/// A parameter's name as it is written in text.
#[derive(Clone, Copy, Debug)]
pub struct Name<'a>(pub &'a str);

impl Display for Name<'_> {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        if RESERVED.contains(&self.0) { write!(f, "r#{}", self.0) } else { f.write_str(self.0) }
    }
}

/// An expression with the names of its parameters.
#[derive(Clone, Copy, Debug)]
pub struct Text<'a> {
    expr: &'a Expr,
    parameters: Parameters<'a>,
}

impl Expr {
    /// This expression as text, where its parameters are those of `parameters`.
    pub fn display<'a>(&'a self, parameters: Parameters<'a>) -> Text<'a> {
        Text { expr: self, parameters }
    }
}

/// How tightly an operation binds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Precedence {
    Or,
    And,
    Comparison,
    Sum,
    Product,
    Cast,
    Prefix,
    Atom,
}

impl Precedence {
    pub(crate) fn next(self) -> Precedence {
        use Precedence::*;
        match self {
            Or => And,
            And => Comparison,
            Comparison => Sum,
            Sum => Product,
            Product => Cast,
            Cast => Prefix,
            Prefix | Atom => Atom,
        }
    }
}

impl BinaryOp {
    /// Its sign and precedence, if it is written between its operands.
    pub(crate) fn infix(self) -> Option<(&'static str, Precedence)> {
        use BinaryOp::*;
        Some(match self {
            Add => ("+", Precedence::Sum),
            Sub => ("-", Precedence::Sum),
            Mul => ("*", Precedence::Product),
            Div => ("/", Precedence::Product),
            Rem => ("%", Precedence::Product),
            Lt => ("<", Precedence::Comparison),
            Le => ("<=", Precedence::Comparison),
            Gt => (">", Precedence::Comparison),
            Ge => (">=", Precedence::Comparison),
            Eq => ("==", Precedence::Comparison),
            Ne => ("!=", Precedence::Comparison),
            And => ("&&", Precedence::And),
            Or => ("||", Precedence::Or),
            Min | Max | Pow => return None,
        })
    }

    /// Its name, if it is written as a function.
    pub(crate) fn function(self) -> Option<&'static str> {
        match self {
            BinaryOp::Min => Some("min"),
            BinaryOp::Max => Some("max"),
            BinaryOp::Pow => Some("pow"),
            _ => None,
        }
    }
}

impl UnaryOp {
    /// The operations that are written as functions.
    pub(crate) const FUNCTIONS: [UnaryOp; 11] = {
        use UnaryOp::*;
        [Abs, Exp, Exp2, Log, Log2, Sqrt, Tanh, Sigmoid, Relu, Sin, Cos]
    };

    /// Its name, if it is written as a function.
    pub(crate) fn function(self) -> Option<&'static str> {
        use UnaryOp::*;
        Some(match self {
            Abs => "abs",
            Exp => "exp",
            Exp2 => "exp2",
            Log => "log",
            Log2 => "log2",
            Sqrt => "sqrt",
            Tanh => "tanh",
            Sigmoid => "sigmoid",
            Relu => "relu",
            Sin => "sin",
            Cos => "cos",
            Neg | Not | ToFloat | ToInt => return None,
        })
    }
}

fn precedence(expr: &Expr) -> Precedence {
    match expr {
        Expr::Unary(UnaryOp::Neg | UnaryOp::Not, _) => Precedence::Prefix,
        Expr::Unary(UnaryOp::ToFloat | UnaryOp::ToInt, _) => Precedence::Cast,
        Expr::Binary(op, ..) => op.infix().map_or(Precedence::Atom, |(_, precedence)| precedence),
        Expr::Select(..) => Precedence::Or,
        _ => Precedence::Atom,
    }
}

impl Text<'_> {
    fn of<'a>(&'a self, expr: &'a Expr) -> Text<'a> {
        Text { expr, parameters: self.parameters }
    }

    /// Writes an operand that must bind at least as tightly as `least`. An `if` stands alone only outside of operations.
    fn operand(&self, f: &mut Formatter, expr: &Expr, least: Precedence) -> fmt::Result {
        if precedence(expr) < least || matches!(expr, Expr::Select(..)) {
            write!(f, "({})", self.of(expr))
        } else {
            write!(f, "{}", self.of(expr))
        }
    }

    fn tensor(&self, f: &mut Formatter, tensor: usize) -> fmt::Result {
        match self.parameters.tensors.get(tensor) {
            Some(tensor) => write!(f, "{}", Name(&tensor.name)),
            None => write!(f, "tensor#{tensor}"),
        }
    }

    /// A tensor at a box of indices.
    fn boxed(&self, f: &mut Formatter, tensor: usize, index: &[(Expr, Expr)]) -> fmt::Result {
        self.tensor(f, tensor)?;
        for (first, last) in index {
            write!(f, "[{}", self.of(first))?;
            if first != last {
                write!(f, " through {}", self.of(last))?;
            }
            f.write_str("]")?;
        }
        Ok(())
    }

    /// A tensor at indices.
    fn at(&self, f: &mut Formatter, tensor: usize, index: &[Expr]) -> fmt::Result {
        self.tensor(f, tensor)?;
        index.iter().try_for_each(|index| write!(f, "[{}]", self.of(index)))
    }
}

impl Display for Text<'_> {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        match self.expr {
            Expr::Query => f.write_str("i"),
            Expr::Key => f.write_str("j"),
            Expr::Batch => f.write_str("batch()"),
            Expr::Head => f.write_str("head()"),
            Expr::KvHead => f.write_str("kv_head()"),
            Expr::Score => f.write_str("s"),
            Expr::Scale => f.write_str("scale()"),
            Expr::QueryFirst => f.write_str("i0"),
            Expr::QueryLast => f.write_str("i1"),
            Expr::KeyFirst => f.write_str("j0"),
            Expr::KeyLast => f.write_str("j1"),
            Expr::Int(value) => write!(f, "{value}"),
            Expr::Float(value) => {
                let value = value.value();
                if value.is_nan() { write!(f, "nan({:#010x})", value.to_bits()) } else { write!(f, "{value:?}") }
            }
            Expr::Bool(value) => write!(f, "{value}"),
            Expr::Scalar(place) => match self.parameters.scalars.get(*place) {
                Some(scalar) => write!(f, "{}", Name(&scalar.name)),
                None => write!(f, "scalar#{place}"),
            },
            Expr::Load { tensor, index } => self.at(f, *tensor, index),
            Expr::Extreme { tensor, greatest, index } => {
                f.write_str(if *greatest { "greatest(" } else { "least(" })?;
                self.boxed(f, *tensor, index)?;
                f.write_str(")")
            }
            Expr::Next { tensor, index, from } => {
                f.write_str("next(")?;
                self.boxed(f, *tensor, index)?;
                write!(f, ", {})", self.of(from))
            }
            Expr::Count { tensor, index, value, inclusive } => {
                f.write_str("count(")?;
                self.at(f, *tensor, index)?;
                write!(f, " {} {})", if *inclusive { "<=" } else { "<" }, self.of(value))
            }
            Expr::Unary(op @ (UnaryOp::Neg | UnaryOp::Not), a) => {
                f.write_str(if *op == UnaryOp::Neg { "-" } else { "!" })?;
                // `-5` is a constant, so that the negation of the constant 5 needs its parentheses.
                let literal = match **a {
                    Expr::Int(value) => value >= 0,
                    Expr::Float(value) => value.value().is_sign_positive() && !value.value().is_nan(),
                    _ => false,
                };
                let least = if *op == UnaryOp::Neg && literal {
                    return write!(f, "({})", self.of(a));
                } else {
                    Precedence::Prefix
                };
                self.operand(f, a, least)
            }
            Expr::Unary(UnaryOp::ToFloat, a) => {
                self.operand(f, a, Precedence::Cast)?;
                f.write_str(" as f32")
            }
            Expr::Unary(UnaryOp::ToInt, a) => {
                self.operand(f, a, Precedence::Cast)?;
                f.write_str(" as i32")
            }
            Expr::Unary(op, a) => write!(f, "{}({})", op.function().unwrap_or("?"), self.of(a)),
            Expr::Binary(op, a, b) => match op.infix() {
                Some((sign, precedence)) => {
                    // Comparisons do not chain; the others group to the left.
                    let left = if precedence == Precedence::Comparison { precedence.next() } else { precedence };
                    self.operand(f, a, left)?;
                    write!(f, " {sign} ")?;
                    self.operand(f, b, precedence.next())
                }
                None => write!(f, "{}({}, {})", op.function().unwrap_or("?"), self.of(a), self.of(b)),
            },
            Expr::Select(condition, then, otherwise) => {
                write!(f, "if {} {{ {} }} else {{ {} }}", self.of(condition), self.of(then), self.of(otherwise))
            }
            Expr::Mask(score, visible) => write!(f, "mask({}, {})", self.of(score), self.of(visible)),
        }
    }
}

impl Display for Program {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        let text = |expr| Expr::display(expr, self.parameters());
        let (element, qk_dim, v_dim) = (self.operands.element.name(), self.operands.qk_dim, self.operands.v_dim);
        let query = Name(&self.query);

        write!(f, "attention @{}(", Name(&self.name))?;
        let scalars = self.scalars.iter().map(|scalar| {
            let comptime = if scalar.comptime { "#[comptime] " } else { "" };
            format!("{comptime}{}: {}", Name(&scalar.name), scalar.ty.name())
        });
        let tensors = self.tensors.iter().map(|tensor| {
            let order = match tensor.order {
                Order::Any => "",
                Order::Sorted => "#[sorted] ",
                Order::SortedUnchecked => "#[sorted(unchecked)] ",
            };
            format!("{order}{}: Tensor<{}, {}>", Name(&tensor.name), tensor.ty.name(), tensor.rank)
        });
        f.write_str(&scalars.chain(tensors).collect::<Vec<_>>().join(", "))?;
        writeln!(f, ") -> {element}[B, H, S, {v_dim}]")?;
        writeln!(f, "  {query}: {element}[B, H, S, {qk_dim}]")?;
        for (place, pair) in self.pairs.iter().enumerate() {
            let (key, value) = (Name(&pair.key), Name(&pair.value));
            writeln!(f, "  {key}: {element}[B, G, T{place}, {qk_dim}]  {value}: {element}[B, G, T{place}, {v_dim}]")?;
        }
        writeln!(f, "  for i in tiles(S)")?;
        match &self.accumulator {
            Accumulator::Softmax { base, sink } => {
                let base = match base {
                    Base::E => "e",
                    Base::Two => "2",
                };
                write!(f, "    o = softmax base {base}")?;
                if let Some(sink) = sink {
                    write!(f, " sink {}", text(sink))?;
                }
                writeln!(f)?;
            }
            Accumulator::Sum => writeln!(f, "    o = sum")?,
            Accumulator::Mean => writeln!(f, "    o = mean")?,
        }
        write!(f, "    {query} = load {query}[i]")?;
        if let Some(scale) = &self.query_scale {
            write!(f, " * ({})", text(scale))?;
        }
        writeln!(f)?;
        for key_loop in &self.loops {
            self.print_loop(f, key_loop)?;
        }
        writeln!(f, "    store o")
    }
}

impl Display for Schedule {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        match self {
            Schedule::Cpu(cpu) => {
                let crate::schedule::CpuSchedule { lanes, vectors, keys, rows } = cpu;
                write!(f, "cpu(lanes: {lanes}, vectors: {vectors}, keys: {keys}, rows: {rows})")
            }
            Schedule::Cube(cube) => {
                let crate::schedule::CubeSchedule { unit_rows, unit_columns, rows, keys, chunk, planes, products } =
                    cube;
                write!(f, "cube(unit_rows: {unit_rows}, unit_columns: {unit_columns}, rows: {rows}, ")?;
                write!(f, "keys: {keys}, chunk: {chunk}, planes: {planes}, products: {products})")
            }
            Schedule::Mma(crate::schedule::MmaSchedule { warps, fragments, keys, pack_gqa }) => {
                write!(f, "mma(warps: {warps}, fragments: {fragments}, keys: {keys}, pack_gqa: {pack_gqa})")
            }
        }
    }
}

impl Program {
    /// The program's name, parameters and result: the first line of its text.
    pub fn signature(&self) -> String {
        self.to_string().lines().next().unwrap_or_default().to_string()
    }

    fn print_loop(&self, f: &mut Formatter, key_loop: &KeyLoop) -> fmt::Result {
        for (place, line) in self.loop_head(key_loop).iter().enumerate() {
            writeln!(f, "    {}{line}", if place == 0 { "" } else { "    " })?;
        }
        self.loop_body(key_loop).iter().try_for_each(|line| writeln!(f, "      {line}"))
    }

    /// Which tiles a loop visits, in lines: the keys, the full tiles, and what decides of tiles.
    pub fn loop_head(&self, key_loop: &KeyLoop) -> Vec<String> {
        let text = |expr| Expr::display(expr, self.parameters());
        let visit = if key_loop.visit.is_empty() {
            " nowhere".to_string()
        } else if key_loop.visit == [KeyRange::ALL] {
            String::new()
        } else {
            format!(" {}", self.ranges(&key_loop.visit))
        };
        let mut lines = vec![format!("for j in tiles(T{}){visit}", key_loop.pair)];
        if !key_loop.full.is_empty() {
            lines.push(format!("full {}", self.ranges(&key_loop.full)));
        }
        if let Some(TileClass { some, all }) = &key_loop.class {
            lines.push(format!("skip unless {}", text(some)));
            lines.push(format!("full where {}", text(all)));
        }
        if let Some(hop) = &key_loop.hop {
            lines.push(format!("hop to {}", text(hop)));
        }
        lines
    }

    /// What a loop does with a tile, in lines.
    pub fn loop_body(&self, key_loop: &KeyLoop) -> Vec<String> {
        let parameters = self.parameters();
        let unknown =
            || crate::spec::Pair { key: format!("key#{}", key_loop.pair), value: format!("value#{}", key_loop.pair) };
        let pair = self.pairs.get(key_loop.pair).cloned().unwrap_or_else(unknown);
        let line = |op: &TileOp| match op {
            TileOp::Dot => format!("s = dot {}, {}[j]", Name(&self.query), Name(&pair.key)),
            TileOp::Map(expr) => format!("s = map {}", expr.display(parameters)),
            TileOp::Mask { visible, tiles } => {
                let tiles = match tiles {
                    MaskedTiles::All => "all",
                    MaskedTiles::Partial => "partial",
                };
                format!("s = mask s where {} on {tiles}", visible.display(parameters))
            }
            TileOp::Push => format!("o = push s, {}[j]", Name(&pair.value)),
        };
        key_loop.body.iter().map(line).collect()
    }

    fn ranges(&self, ranges: &[KeyRange]) -> String {
        ranges.iter().map(|range| self.range(range)).collect::<Vec<_>>().join(", ")
    }

    /// The text of a range of keys: `from A to B`, `from A`, `to B` or `all`, with `if C` after it where it has a condition.
    pub(crate) fn range(&self, range: &KeyRange) -> String {
        let text = |expr| Expr::display(expr, self.parameters());
        let ends = match (&range.from, &range.to) {
            (None, None) => "all".to_string(),
            (Some(from), None) => format!("from {}", text(from)),
            (None, Some(to)) => format!("to {}", text(to)),
            (Some(from), Some(to)) => format!("from {} to {}", text(from), text(to)),
        };
        match &range.when {
            None => ends,
            Some(when) => format!("{ends} if {}", text(when)),
        }
    }
}
