//! Programs and expressions as text, which [`parse`](super::parse) reads back to the same value.
//!
//! Expressions are written as in the language, with its precedences and no parentheses that those make needless (an `if`
//! inside an operation has them, for the reader). Positions and tile bounds are `i`, `j`, `i0`, `i1`, the score is `s`; a
//! parameter that is named like one of these or like a function is written `r#name`. Floats have the fewest digits that
//! read back to the same bits; `inf` and `nan(0x7fc00000)` are the others. `kv_len()` is the length of the first set of
//! keys, `kv_len(1)` that of the second.

use super::{
    Axis, Base, Captured, DotTerm, Element, Heads, Kept, MaskedTiles, Program, Range, Reduction, RowAdd, RowSum,
    TileKind, TileLoop, TileOp,
};
use crate::expr::{BinaryOp, Expr, UnaryOp};
use crate::spec::Order;
use crate::typing::Parameters;
use std::borrow::Cow;
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
    "q_len",
    "kv_len",
    "head_dim",
    "scale",
    "random",
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
    "floor",
    "ceil",
    "round",
    "ilog2",
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
    "of",
    "each",
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

/// Those of them that name tiles and accumulators.
pub const VALUES: [&str; 2] = ["s", "o"];

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
    pub(crate) const FUNCTIONS: [UnaryOp; 15] = {
        use UnaryOp::*;
        [Abs, Exp, Exp2, Log, Log2, Sqrt, Tanh, Sigmoid, Relu, Sin, Cos, Floor, Ceil, Round, Ilog2]
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
            Floor => "floor",
            Ceil => "ceil",
            Round => "round",
            Ilog2 => "ilog2",
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
            Expr::QueryLen => f.write_str("q_len()"),
            Expr::KeyLen(0) => f.write_str("kv_len()"),
            Expr::KeyLen(set) => write!(f, "kv_len({set})"),
            Expr::HeadDim => f.write_str("head_dim()"),
            Expr::Value(place) => match self.parameters.values.get(*place) {
                Some(name) => f.write_str(name),
                None => write!(f, "value#{place}"),
            },
            Expr::Number(place) => match self.parameters.numbers.get(*place) {
                Some(number) => write!(f, "{}[{}]", Name(&number.name), number.axis.position()),
                None => write!(f, "number#{place}"),
            },
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
            Expr::Random(of) => {
                let [seed, batch, head, query, key] = of.each_ref().map(|expr| self.of(expr));
                write!(f, "random({seed}, {batch}, {head}, {query}, {key})")
            }
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
        let outputs = self.outputs.iter().map(|output| array(output.element, output.heads, self.rows, output.dim));
        let like = self.captured.map(|captured| format!("like {}", self.captured_name(captured)));
        writeln!(f, ") -> {}", outputs.chain(like.clone()).collect::<Vec<_>>().join(", "))?;
        for of_axis in self.operands.chunk_by(|a, b| a.axis == b.axis) {
            let operands = of_axis.iter().map(|operand| {
                let array = array(operand.element, operand.heads, operand.axis, operand.dim);
                format!("{}: {array}", Name(&operand.name))
            });
            writeln!(f, "  {}", operands.collect::<Vec<_>>().join("  "))?;
        }
        for of_axis in self.numbers.chunk_by(|a, b| a.axis == b.axis) {
            let numbers = of_axis
                .iter()
                .map(|number| format!("{}: f32[B, {}, {}]", Name(&number.name), number.heads.letter(), number.axis));
            writeln!(f, "  {}", numbers.collect::<Vec<_>>().join("  "))?;
        }
        writeln!(f, "  for {} in tiles({})", self.rows.position(), self.rows)?;
        for accumulator in &self.accumulators {
            write!(f, "    {} = ", accumulator.name)?;
            match &accumulator.reduction {
                Reduction::Softmax { base, sink } => {
                    f.write_str(match base {
                        Base::E => "softmax base e",
                        Base::Two => "softmax base 2",
                    })?;
                    if let Some(sink) = sink {
                        write!(f, " sink {}", text(sink))?;
                    }
                    writeln!(f)?;
                }
                Reduction::Sum => writeln!(f, "sum")?,
                Reduction::Mean => writeln!(f, "mean")?,
            }
        }
        for load in &self.loads {
            let name = self.operand_name(load.operand);
            write!(f, "    {name} = load {name}[{}]", self.rows.position())?;
            if let Some(scale) = &load.scale {
                write!(f, " * ({})", text(scale))?;
            }
            writeln!(f)?;
        }
        let values = self.stored_values();
        let parameters = Parameters { values: &values, ..self.parameters() };
        for RowSum { name, value } in &self.sums {
            writeln!(f, "    {name} = sum of {}", value.display(parameters))?;
        }
        for one in &self.loops {
            self.print_loop(f, one)?;
        }
        for RowAdd { value, element } in &self.adds {
            writeln!(f, "    add {} to {}", value.display(parameters), element.display(parameters))?;
        }
        if let Some(like) = like {
            writeln!(f, "    store {like}")?;
        }
        let mut outputs = self.outputs.iter();
        outputs.try_for_each(|output| writeln!(f, "    store {}", output.value.display(parameters)))?;
        match self.kept {
            Kept::LogSumExp => Ok(()),
            Kept::LogSumExpAndMaximum => writeln!(f, "    keep maximum"),
            Kept::Partial => writeln!(f, "    keep undivided"),
            Kept::Each => writeln!(f, "    keep each"),
        }
    }
}

/// The type of a tensor.
fn array(element: Element, heads: Heads, axis: Axis, dim: usize) -> String {
    format!("{}[B, {}, {axis}, {dim}]", element.name(), heads.letter())
}

impl Heads {
    /// How many there are, as it is written.
    fn letter(self) -> &'static str {
        match self {
            Heads::Query => "H",
            Heads::Key => "G",
        }
    }
}

impl Display for Axis {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        match self {
            Axis::Queries => f.write_str("S"),
            Axis::Keys(set) => write!(f, "T{set}"),
        }
    }
}

impl Axis {
    /// How positions along it are written: `i` or `j`.
    pub fn position(self) -> &'static str {
        match self {
            Axis::Queries => "i",
            Axis::Keys(_) => "j",
        }
    }
}

impl Program {
    /// The program's name, parameters and result: the first line of its text.
    pub fn signature(&self) -> String {
        self.to_string().lines().next().unwrap_or_default().to_string()
    }

    /// How something captured is written.
    pub fn captured_name(&self, captured: Captured) -> String {
        let known = match captured {
            Captured::Tensor(place) => self.tensors.get(place).map(|tensor| &tensor.name),
            Captured::Scalar(place) => self.scalars.get(place).map(|scalar| &scalar.name),
            Captured::Scale => return "scale()".to_string(),
        };
        known.map_or_else(|| format!("{captured:?}"), |name| Name(name).to_string())
    }

    /// The names of the values of its outputs' expressions: the accumulators, then what is loaded, then the sums.
    pub fn stored_values(&self) -> Vec<Cow<'static, str>> {
        let accumulators = self.accumulators.iter().map(|accumulator| accumulator.name.clone());
        let loads = self.loads.iter().map(|load| self.operand_name(load.operand));
        let sums = self.sums.iter().map(|sum| sum.name.clone());
        accumulators.chain(loads).chain(sums).map(Cow::Owned).collect()
    }

    fn print_loop(&self, f: &mut Formatter, one: &TileLoop) -> fmt::Result {
        for (place, line) in self.loop_head(one).iter().enumerate() {
            writeln!(f, "    {}{line}", if place == 0 { "" } else { "    " })?;
        }
        self.loop_body(one).iter().try_for_each(|line| writeln!(f, "      {line}"))
    }

    /// Which tiles a loop visits, in lines: the keys, the full tiles, and what decides of tiles.
    pub fn loop_head(&self, one: &TileLoop) -> Vec<String> {
        let text = |expr| Expr::display(expr, self.parameters());
        let visit = if one.visit.is_empty() {
            " nowhere".to_string()
        } else if one.visit == [Range::ALL] {
            String::new()
        } else {
            format!(" {}", self.ranges(&one.visit))
        };
        let each_head = if one.each_head { " of each head" } else { "" };
        let mut lines = vec![format!("for {} in tiles({}){each_head}{visit}", one.columns.position(), one.columns)];
        if !one.full.is_empty() {
            lines.push(format!("full {}", self.ranges(&one.full)));
        }
        if let Some(TileKind { some, all }) = &one.kind {
            lines.push(format!("skip unless {}", text(some)));
            lines.push(format!("full where {}", text(all)));
        }
        if let Some(hop) = &one.key_hop {
            lines.push(format!("hop to {}", text(hop)));
        }
        lines
    }

    /// What a loop does with a tile, in lines.
    pub fn loop_body(&self, one: &TileLoop) -> Vec<String> {
        let parameters = self.parameters_in(one);
        let position = one.columns.position();
        let tile = |place: usize| Expr::Value(place).display(parameters).to_string();
        let line = |op: &TileOp| match op {
            TileOp::Dot { tile: to, terms } => {
                let terms = terms.iter().map(|DotTerm { row, column, dim }| {
                    let (left, right) = (self.operand_name(*row), self.operand_name(*column));
                    format!("{left}{}, {right}[{position}]{}", self.part(*row, *dim), self.part(*column, *dim))
                });
                format!("{} = dot {}", tile(*to), terms.collect::<Vec<_>>().join(" + "))
            }
            TileOp::Map { tile: to, value } => format!("{} = map {}", tile(*to), value.display(parameters)),
            TileOp::Mask { tile: of, visible, on } => {
                let on = match on {
                    MaskedTiles::All => "all",
                    MaskedTiles::Partial => "partial",
                };
                format!("{0} = mask {0} where {1} on {on}", tile(*of), visible.display(parameters))
            }
            TileOp::Push { accumulator, weights, factor, values, dim } => {
                let accumulator = match self.accumulators.get(*accumulator) {
                    Some(accumulator) => accumulator.name.clone(),
                    None => format!("accumulator#{accumulator}"),
                };
                let factor = factor.map_or(String::new(), |factor| format!(" * {}", tile(factor)));
                let part = self.part(*values, *dim);
                let (weights, values) = (tile(*weights), self.operand_name(*values));
                format!("{accumulator} = push {weights}{factor}, {values}[{position}]{part}")
            }
            TileOp::Add { tile: of, element } => format!("add {} to {}", tile(*of), element.display(parameters)),
        };
        one.body.iter().map(line).collect()
    }

    /// How the first `dim` elements of an operand's rows are written after it.
    fn part(&self, operand: usize, dim: usize) -> String {
        let is_whole = self.operands.get(operand).is_some_and(|operand| operand.dim == dim);
        if is_whole { String::new() } else { format!("[..{dim}]") }
    }

    /// An operand's name, as it is written.
    fn operand_name(&self, place: usize) -> String {
        match self.operands.get(place) {
            Some(operand) => Name(&operand.name).to_string(),
            None => format!("operand#{place}"),
        }
    }

    fn ranges(&self, ranges: &[Range]) -> String {
        ranges.iter().map(|range| self.range(range)).collect::<Vec<_>>().join(", ")
    }

    /// The text of a range of keys: `from A to B`, `from A`, `to B` or `all`, with `if C` after it where it has a condition.
    pub(crate) fn range(&self, range: &Range) -> String {
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
