//! Programs and expressions from text: the inverse of [`print`](mod@super::print).
//!
//! The grammar of programs is at the head of [`ir`](super).
//!
//! White space and line ends mean nothing but to end a word; `//` begins a comment. Nothing is checked that
//! [`verify`](super::verify) checks.

use super::print::{Precedence, RESERVED, VALUES};
use super::tokens::{Cursor, ParseError, Token};
use super::{
    Accumulator, Axis, Base, Captured, DotTerm, Element, Heads, Kept, Load, MaskedTiles, Number, Operand, Output,
    Program, Range, Reduction, RowAdd, RowSum, TileKind, TileLoop, TileOp,
};
use crate::expr::{BinaryOp, Expr, UnaryOp};
use crate::spec::{Order, ScalarParam, ScalarType, TensorParam, TensorType};
use crate::typing::Parameters;
use std::borrow::Cow;

/// The type of a tensor.
struct Array {
    element: Element,
    heads: Heads,
    axis: Axis,
    /// The elements of a row; `None` of a number.
    dim: Option<usize>,
}

/// The most parentheses, brackets and prefixes inside one another.
const MAX_DEPTH: usize = 512;

/// The program that `text` describes.
pub fn parse(text: &str) -> Result<Program, ParseError> {
    let mut cursor = Cursor::new(text);
    let program = parse_at(&mut cursor)?;
    cursor.end()?;
    Ok(program)
}

/// The program at `cursor`, which goes past it.
pub fn parse_at(cursor: &mut Cursor) -> Result<Program, ParseError> {
    Parser { cursor, depth: 0, scalars: Vec::new(), tensors: Vec::new(), values: Vec::new(), numbers: Vec::new() }
        .program()
}

/// The expression that `text` describes, where its parameters are those of `parameters`.
pub fn parse_expr(text: &str, parameters: Parameters) -> Result<Expr, ParseError> {
    let mut cursor = Cursor::new(text);
    let (scalars, tensors) = (parameters.scalars.to_vec(), parameters.tensors.to_vec());
    let (values, numbers) = (parameters.values.to_vec(), parameters.numbers.to_vec());
    let mut parser = Parser { cursor: &mut cursor, depth: 0, scalars, tensors, values, numbers };
    let expr = parser.expr(Precedence::Or)?;
    cursor.end()?;
    Ok(expr)
}

struct Parser<'a> {
    cursor: &'a mut Cursor,
    depth: usize,
    scalars: Vec<ScalarParam>,
    tensors: Vec<TensorParam>,
    values: Vec<Cow<'static, str>>,
    numbers: Vec<Number>,
}

impl Parser<'_> {
    /// The name of a tensor that was declared before.
    fn known_name(&mut self, name: &str) -> Result<(), ParseError> {
        let before = self.cursor.place();
        if self.cursor.name()? == name {
            return Ok(());
        }
        self.cursor.back_to(before);
        self.cursor.fail(format!("`{}`", super::print::Name(name)))
    }

    fn program(&mut self) -> Result<Program, ParseError> {
        self.cursor.words(&["attention", "@"])?;
        let name = self.cursor.name()?;
        self.cursor.sign("(")?;
        while !self.cursor.skip_sign(")") {
            self.parameter()?;
            if !self.cursor.skip_sign(",") {
                self.cursor.sign(")")?;
                break;
            }
        }
        self.cursor.sign("->")?;
        let captured = if self.cursor.skip_word("like") { Some(self.captured()?) } else { None };
        let mut stored = Vec::new();
        if captured.is_none() {
            stored.push(self.array()?);
            while self.cursor.skip_sign(",") {
                stored.push(self.array()?);
            }
        }
        let mut operands = Vec::new();
        while !self.cursor.at_word("for") {
            let name = self.cursor.name()?;
            self.cursor.sign(":")?;
            let before = self.cursor.place();
            match self.array()? {
                Array { element, heads, axis, dim: Some(dim) } if self.numbers.is_empty() => {
                    operands.push(Operand { name, element, heads, axis, dim });
                }
                Array { element: Element::F32, heads, axis, dim: None } => {
                    self.numbers.push(Number { name, heads, axis });
                }
                _ => {
                    self.cursor.back_to(before);
                    return self.cursor.fail("an operand, or after all of them an f32 of each row or column");
                }
            }
        }
        let rows = self.tiles()?;
        let (mut accumulators, mut loads, mut sums) = (Vec::new(), Vec::<Load>::new(), Vec::new());
        while !self.cursor.at_word("for") && !self.cursor.at_word("store") && !self.at_add() {
            let before = self.cursor.place();
            let named = self.value_name().ok().filter(|_| self.cursor.skip_sign("="));
            match named.filter(|_| !self.cursor.at_word("load")) {
                Some(name) if loads.is_empty() => {
                    accumulators.push(Accumulator { name, reduction: self.reduction()? });
                }
                Some(name) => {
                    self.cursor.words(&["sum", "of"])?;
                    self.values = accumulators.iter().map(|accumulator| accumulator.name.clone().into()).collect();
                    self.values.extend(loads.iter().map(|load| Cow::Owned(operands[load.operand].name.clone())));
                    sums.push(RowSum { name, value: self.expr(Precedence::Or)? });
                }
                None => {
                    self.cursor.back_to(before);
                    loads.push(self.load(&operands, rows)?);
                }
            }
        }
        let mut loops = Vec::new();
        while self.cursor.at_word("for") {
            loops.push(self.tile_loop(&operands, &accumulators, rows)?);
        }
        let (scalars, tensors) = (std::mem::take(&mut self.scalars), std::mem::take(&mut self.tensors));
        let numbers = self.numbers.clone();
        let mut program = Program {
            name,
            scalars,
            tensors,
            operands,
            numbers,
            rows,
            accumulators,
            loads,
            sums,
            loops,
            outputs: Vec::new(),
            captured,
            adds: Vec::new(),
            kept: Kept::default(),
        };
        self.scalars.clone_from(&program.scalars);
        self.tensors.clone_from(&program.tensors);
        self.values = program.stored_values();
        while self.cursor.skip_word("add") {
            let value = self.expr(Precedence::Or)?;
            program.adds.push(RowAdd { value, element: self.element()? });
        }
        if let Some(captured) = captured {
            self.cursor.words(&["store", "like"])?;
            let before = self.cursor.place();
            if self.captured()? != captured {
                self.cursor.back_to(before);
                return self.cursor.fail(format!("`{}`", program.captured_name(captured)));
            }
        }
        for Array { element, heads, axis, dim } in stored {
            if axis != rows {
                return self.cursor.fail(format!("an output along {rows}, as the rows"));
            }
            let Some(dim) = dim else { return self.cursor.fail("an output with a dim") };
            self.cursor.word("store")?;
            program.outputs.push(Output { element, heads, dim, value: self.expr(Precedence::Or)? });
        }
        if self.cursor.skip_word("keep") {
            let kept = [Kept::LogSumExpAndMaximum, Kept::Partial, Kept::Each];
            program.kept = kept[self.cursor.one_of(&["maximum", "undivided", "each"])?];
        }
        Ok(program)
    }

    /// Whether something is added here, which is no value that is called so.
    fn at_add(&mut self) -> bool {
        let before = self.cursor.place();
        let found = self.cursor.skip_word("add") && !self.cursor.skip_sign("=");
        self.cursor.back_to(before);
        found
    }

    /// What is captured.
    fn captured(&mut self) -> Result<Captured, ParseError> {
        if self.cursor.skip_word("scale") {
            self.cursor.words(&["(", ")"])?;
            return Ok(Captured::Scale);
        }
        let before = self.cursor.place();
        let name = self.cursor.name()?;
        let tensor = self.tensors.iter().position(|tensor| tensor.name == name).map(Captured::Tensor);
        let scalar = || self.scalars.iter().position(|scalar| scalar.name == name).map(Captured::Scalar);
        match tensor.or_else(scalar) {
            Some(captured) => Ok(captured),
            None => {
                self.cursor.back_to(before);
                self.cursor.fail("a captured tensor, a scalar or `scale()`")
            }
        }
    }

    /// What something is added to.
    fn element(&mut self) -> Result<Expr, ParseError> {
        self.cursor.word("to")?;
        let before = self.cursor.place();
        let element = self.expr(Precedence::Or)?;
        if Captured::of(&element).is_none() {
            self.cursor.back_to(before);
            return self.cursor.fail("an element of a captured tensor, a scalar or `scale()`");
        }
        Ok(element)
    }

    /// The name of a tile or of an accumulator.
    fn value_name(&mut self) -> Result<String, ParseError> {
        match self.cursor.peek().clone() {
            Token::Word { word, raw: false } if VALUES.contains(&word.as_str()) => {
                self.cursor.step();
                Ok(word)
            }
            _ => self.cursor.name(),
        }
    }

    /// One of `names`, by its place.
    fn one_of_names<'a>(&mut self, names: impl Iterator<Item = &'a str>, what: &str) -> Result<usize, ParseError> {
        let before = self.cursor.place();
        let name = self.value_name()?;
        match names.into_iter().position(|known| known == name) {
            Some(place) => Ok(place),
            None => {
                self.cursor.back_to(before);
                self.cursor.fail(what)
            }
        }
    }

    /// An operand along `axis`, by its place.
    fn operand(&mut self, operands: &[Operand], axis: Axis) -> Result<usize, ParseError> {
        let before = self.cursor.place();
        let name = self.cursor.name()?;
        match operands.iter().position(|operand| operand.name == name && operand.axis == axis) {
            Some(place) => Ok(place),
            None => {
                self.cursor.back_to(before);
                self.cursor.fail(format!("an operand along {axis}"))
            }
        }
    }

    /// An operand at its rows, as in `k[j]`.
    fn indexed_operand(&mut self, operands: &[Operand], axis: Axis) -> Result<usize, ParseError> {
        let place = self.operand(operands, axis)?;
        self.cursor.words(&["[", axis.position(), "]"])?;
        Ok(place)
    }

    fn reduction(&mut self) -> Result<Reduction, ParseError> {
        Ok(match self.cursor.one_of(&["softmax", "sum", "mean"])? {
            0 => {
                self.cursor.word("base")?;
                let base = match self.cursor.peek() {
                    Token::Number(number) if number == "2" => Base::Two,
                    Token::Word { word, raw: false } if word == "e" => Base::E,
                    _ => return self.cursor.fail("`e` or `2`"),
                };
                self.cursor.step();
                let sink = if self.cursor.skip_word("sink") { Some(self.expr(Precedence::Or)?) } else { None };
                Reduction::Softmax { base, sink }
            }
            1 => Reduction::Sum,
            _ => Reduction::Mean,
        })
    }

    fn load(&mut self, operands: &[Operand], rows: Axis) -> Result<Load, ParseError> {
        let operand = self.operand(operands, rows)?;
        self.cursor.words(&["=", "load"])?;
        self.known_name(&operands[operand].name)?;
        self.cursor.words(&["[", rows.position(), "]"])?;
        let scale = if self.cursor.skip_sign("*") {
            self.cursor.sign("(")?;
            let scale = self.expr(Precedence::Or)?;
            self.cursor.sign(")")?;
            Some(scale)
        } else {
            None
        };
        Ok(Load { operand, scale })
    }

    fn parameter(&mut self) -> Result<(), ParseError> {
        let (mut comptime, mut order) = (false, Order::Any);
        if self.cursor.skip_sign("#") {
            self.cursor.sign("[")?;
            comptime = self.cursor.one_of(&["comptime", "sorted"])? == 0;
            if !comptime {
                order = Order::Sorted;
                if self.cursor.skip_sign("(") {
                    self.cursor.words(&["unchecked", ")"])?;
                    order = Order::SortedUnchecked;
                }
            }
            self.cursor.sign("]")?;
        }
        let name = self.cursor.name()?;
        self.cursor.sign(":")?;
        if order.is_sorted() || (!comptime && self.cursor.at_word("Tensor")) {
            self.cursor.word("Tensor")?;
            self.cursor.sign("<")?;
            let ty = self.cursor.one_of(&["f32", "f16", "bf16", "i32", "bool"])?;
            let ty = [TensorType::F32, TensorType::F16, TensorType::Bf16, TensorType::I32, TensorType::Bool][ty];
            self.cursor.sign(",")?;
            let rank = self.cursor.size()?;
            self.cursor.sign(">")?;
            self.tensors.push(TensorParam { name, ty, rank, order });
        } else {
            let ty = self.cursor.one_of(&["i32", "u32", "f32", "bool"])?;
            let ty = [ScalarType::I32, ScalarType::U32, ScalarType::F32, ScalarType::Bool][ty];
            self.scalars.push(ScalarParam { name, ty, comptime });
        }
        Ok(())
    }

    fn array(&mut self) -> Result<Array, ParseError> {
        let element = [Element::F32, Element::F16, Element::Bf16][self.cursor.one_of(&["f32", "f16", "bf16"])?];
        self.cursor.words(&["[", "B", ","])?;
        let heads = [Heads::Query, Heads::Key][self.cursor.one_of(&["H", "G"])?];
        self.cursor.sign(",")?;
        let axis = self.axis()?;
        let dim = if self.cursor.skip_sign(",") { Some(self.cursor.size()?) } else { None };
        self.cursor.sign("]")?;
        Ok(Array { element, heads, axis, dim })
    }

    fn axis(&mut self) -> Result<Axis, ParseError> {
        let axis = match self.cursor.peek() {
            Token::Word { word, raw: false } if word == "S" => Some(Axis::Queries),
            Token::Word { word, raw: false } => {
                word.strip_prefix('T').and_then(|set| set.parse::<usize>().ok()).map(Axis::Keys)
            }
            _ => None,
        };
        match axis {
            Some(axis) => {
                self.cursor.step();
                Ok(axis)
            }
            None => self.cursor.fail("`S`, `T0`, `T1` or another number of keys"),
        }
    }

    /// What a loop runs over: `for j in tiles(T0)`.
    fn tiles(&mut self) -> Result<Axis, ParseError> {
        self.cursor.word("for")?;
        let position = ["i", "j"][self.cursor.one_of(&["i", "j"])?];
        self.cursor.words(&["in", "tiles", "("])?;
        let before = self.cursor.place();
        let axis = self.axis()?;
        if axis.position() != position {
            self.cursor.back_to(before);
            return self.cursor.fail(if position == "i" { "`S`" } else { "`T0`, `T1` or another number of keys" });
        }
        self.cursor.sign(")")?;
        Ok(axis)
    }

    fn tile_loop(
        &mut self,
        operands: &[Operand],
        accumulators: &[Accumulator],
        rows: Axis,
    ) -> Result<TileLoop, ParseError> {
        let columns = self.tiles()?;
        let each_head = self.cursor.skip_word("of");
        if each_head {
            self.cursor.words(&["each", "head"])?;
        }
        let visit = if self.cursor.at_word("from") || self.cursor.at_word("to") || self.cursor.at_word("all") {
            self.ranges()?
        } else if self.cursor.skip_word("nowhere") {
            Vec::new()
        } else {
            vec![Range::ALL]
        };
        let full = if self.cursor.skip_word("full") { self.ranges()? } else { Vec::new() };
        let kind = if self.cursor.skip_word("skip") {
            self.cursor.word("unless")?;
            let some = self.expr(Precedence::Or)?;
            self.cursor.words(&["full", "where"])?;
            Some(TileKind { some, all: self.expr(Precedence::Or)? })
        } else {
            None
        };
        let key_hop = if self.cursor.skip_word("hop") {
            self.cursor.word("to")?;
            Some(self.expr(Precedence::Or)?)
        } else {
            None
        };
        let mut body = Vec::new();
        self.values.clear();
        while !self.cursor.at_word("for") && !self.cursor.at_word("store") {
            // What a row adds follows loops in no program, so that this is of the loop.
            body.push(self.op(operands, accumulators, (rows, columns))?);
        }
        let tiles = std::mem::take(&mut self.values);
        Ok(TileLoop { columns, each_head, visit, full, kind, key_hop, tiles, body })
    }

    fn op(
        &mut self,
        operands: &[Operand],
        accumulators: &[Accumulator],
        (rows, columns): (Axis, Axis),
    ) -> Result<TileOp, ParseError> {
        if self.at_add() {
            self.cursor.word("add")?;
            let tile = self.known_tile()?;
            return Ok(TileOp::Add { tile, element: self.element()? });
        }
        let start = self.cursor.place();
        let name = self.value_name()?;
        self.cursor.sign("=")?;
        let op = self.cursor.one_of(&["dot", "map", "mask", "push"])?;
        if op == 3 {
            let after = self.cursor.place();
            self.cursor.back_to(start);
            let names = accumulators.iter().map(|accumulator| accumulator.name.as_str());
            let accumulator = self.one_of_names(names, "an accumulator")?;
            self.cursor.back_to(after);
            let weights = self.known_tile()?;
            let factor = if self.cursor.skip_sign("*") { Some(self.known_tile()?) } else { None };
            self.cursor.sign(",")?;
            let values = self.indexed_operand(operands, columns)?;
            let dim = self.part()?.unwrap_or(operands[values].dim);
            return Ok(TileOp::Push { accumulator, weights, factor, values, dim });
        }
        let known = self.values.iter().position(|known| *known == name);
        let tile = known.unwrap_or(self.values.len());
        let op = match op {
            0 => {
                let mut terms = Vec::new();
                while terms.is_empty() || self.cursor.skip_sign("+") {
                    terms.push(self.dot_term(operands, rows, columns)?);
                }
                TileOp::Dot { tile, terms }
            }
            1 => TileOp::Map { tile, value: self.expr(Precedence::Or)? },
            _ => {
                let before = self.cursor.place();
                if self.known_tile()? != tile {
                    self.cursor.back_to(before);
                    return self.cursor.fail(format!("`{name}`"));
                }
                self.cursor.word("where")?;
                let visible = self.expr(Precedence::Or)?;
                self.cursor.word("on")?;
                let on = [MaskedTiles::All, MaskedTiles::Partial][self.cursor.one_of(&["all", "partial"])?];
                TileOp::Mask { tile, visible, on }
            }
        };
        if known.is_none() {
            self.values.push(name.into());
        }
        Ok(op)
    }

    fn dot_term(&mut self, operands: &[Operand], rows: Axis, columns: Axis) -> Result<DotTerm, ParseError> {
        let row = self.operand(operands, rows)?;
        let of_row = self.part()?;
        self.cursor.sign(",")?;
        let column = self.indexed_operand(operands, columns)?;
        let before = self.cursor.place();
        let of_column = self.part()?;
        let dim = of_row.or(of_column).unwrap_or(operands[row].dim);
        if of_column.is_some_and(|of_column| of_column != dim) {
            self.cursor.back_to(before);
            return self.cursor.fail(format!("`[..{dim}]`"));
        }
        Ok(DotTerm { row, column, dim })
    }

    /// How many elements of a row are meant, where that is said, as in `[..64]`.
    fn part(&mut self) -> Result<Option<usize>, ParseError> {
        if !self.cursor.skip_sign("[") {
            return Ok(None);
        }
        self.cursor.sign("..")?;
        let dim = self.cursor.size()?;
        self.cursor.sign("]")?;
        Ok(Some(dim))
    }

    /// A tile that the loop has, by its place.
    fn known_tile(&mut self) -> Result<usize, ParseError> {
        let names = self.values.clone();
        self.one_of_names(names.iter().map(|name| &**name), "a tile")
    }

    fn ranges(&mut self) -> Result<Vec<Range>, ParseError> {
        let mut ranges = vec![self.range()?];
        while self.cursor.skip_sign(",") {
            ranges.push(self.range()?);
        }
        Ok(ranges)
    }

    fn range(&mut self) -> Result<Range, ParseError> {
        let all = self.cursor.skip_word("all");
        let from = if self.cursor.skip_word("from") { Some(self.expr(Precedence::Or)?) } else { None };
        let to = if self.cursor.skip_word("to") { Some(self.expr(Precedence::Or)?) } else { None };
        if !all && from.is_none() && to.is_none() {
            return self.cursor.fail("`all`, `from` or `to`");
        }
        let when = if self.cursor.skip_word("if") { Some(self.expr(Precedence::Or)?) } else { None };
        Ok(Range { when, from, to })
    }

    /// An expression whose operations bind at least as tightly as `least`.
    fn expr(&mut self, least: Precedence) -> Result<Expr, ParseError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return self.cursor.fail(format!("at most {MAX_DEPTH} expressions inside one another"));
        }
        let mut left = self.prefix()?;
        let mut most = Precedence::Atom;
        loop {
            if Precedence::Cast >= least && self.cursor.skip_word("as") {
                let op = [UnaryOp::ToFloat, UnaryOp::ToInt][self.cursor.one_of(&["f32", "i32"])?];
                left = Expr::unary(op, left);
                continue;
            }
            let Some((op, precedence)) = self.infix() else { break };
            if precedence < least || precedence > most {
                break;
            }
            self.cursor.step();
            let right = self.expr(precedence.next())?;
            left = Expr::binary(op, left, right);
            // After a comparison only what binds less tightly can follow: comparisons do not chain.
            most = if precedence == Precedence::Comparison { Precedence::And } else { precedence };
        }
        self.depth -= 1;
        Ok(left)
    }

    fn infix(&self) -> Option<(BinaryOp, Precedence)> {
        use BinaryOp::*;
        let Token::Sign(found) = self.cursor.peek() else { return None };
        [Add, Sub, Mul, Div, Rem, Lt, Le, Gt, Ge, Eq, Ne, And, Or].into_iter().find_map(|op| match op.infix() {
            Some((sign, precedence)) if sign == *found => Some((op, precedence)),
            _ => None,
        })
    }

    fn prefix(&mut self) -> Result<Expr, ParseError> {
        if self.cursor.skip_sign("-") {
            if matches!(self.cursor.peek(), Token::Number(_)) || self.cursor.at_word("inf") {
                return self.number(true);
            }
            return Ok(Expr::unary(UnaryOp::Neg, self.expr(Precedence::Prefix)?));
        }
        if self.cursor.skip_sign("!") {
            return Ok(Expr::unary(UnaryOp::Not, self.expr(Precedence::Prefix)?));
        }
        self.atom()
    }

    fn number(&mut self, negative: bool) -> Result<Expr, ParseError> {
        let sign = if negative { "-" } else { "" };
        if self.cursor.skip_word("inf") {
            return Ok(Expr::float(if negative { f32::NEG_INFINITY } else { f32::INFINITY }));
        }
        let Token::Number(number) = self.cursor.peek().clone() else { return self.cursor.fail("a number") };
        let text = format!("{sign}{number}");
        let expr = if number.chars().all(|char| char.is_ascii_digit()) {
            text.parse().ok().map(Expr::Int)
        } else {
            text.parse().ok().filter(|value: &f32| value.is_finite()).map(Expr::float)
        };
        match expr {
            Some(expr) => {
                self.cursor.step();
                Ok(expr)
            }
            None => self.cursor.fail("a number in the range of i32 or f32"),
        }
    }

    fn atom(&mut self) -> Result<Expr, ParseError> {
        if self.cursor.skip_sign("(") {
            let expr = self.expr(Precedence::Or)?;
            self.cursor.sign(")")?;
            return Ok(expr);
        }
        let (word, raw) = match self.cursor.peek().clone() {
            Token::Word { word, raw } => (word, raw),
            Token::Number(_) => return self.number(false),
            _ => return self.cursor.fail("an expression"),
        };
        let written = if raw { format!("r#{word}") } else { word.clone() };
        if let Some(place) = self.values.iter().position(|value| *value == written) {
            self.cursor.step();
            return Ok(Expr::Value(place));
        }
        if raw || !RESERVED.contains(&word.as_str()) {
            return self.parameter_value(&word);
        }
        if word == "inf" {
            return self.number(false);
        }
        self.cursor.step();
        if let Some(op) = UnaryOp::FUNCTIONS.into_iter().find(|op| op.function() == Some(&word)) {
            let [a] = self.arguments()?;
            return Ok(Expr::unary(op, a));
        }
        if let Some(op) =
            [BinaryOp::Min, BinaryOp::Max, BinaryOp::Pow].into_iter().find(|op| op.function() == Some(&word))
        {
            let [a, b] = self.arguments()?;
            return Ok(Expr::binary(op, a, b));
        }
        let call = |parser: &mut Self, expr| parser.arguments::<0>().map(|_| expr);
        match word.as_str() {
            "i" => Ok(Expr::Query),
            "j" => Ok(Expr::Key),
            "i0" => Ok(Expr::QueryFirst),
            "i1" => Ok(Expr::QueryLast),
            "j0" => Ok(Expr::KeyFirst),
            "j1" => Ok(Expr::KeyLast),
            "least" => self.extreme(false),
            "greatest" => self.extreme(true),
            "count" => self.count(),
            "next" => self.next(),
            "true" => Ok(Expr::Bool(true)),
            "false" => Ok(Expr::Bool(false)),
            "batch" => call(self, Expr::Batch),
            "head" => call(self, Expr::Head),
            "kv_head" => call(self, Expr::KvHead),
            "q_len" => call(self, Expr::QueryLen),
            "kv_len" => self.key_length(),
            "head_dim" => call(self, Expr::HeadDim),
            "scale" => call(self, Expr::Scale),
            "random" => Ok(Expr::Random(Box::new(self.arguments()?))),
            "mask" => {
                let [score, visible] = self.arguments()?;
                Ok(Expr::Mask(Box::new(score), Box::new(visible)))
            }
            "nan" => self.nan(),
            "if" => {
                let condition = self.expr(Precedence::Or)?;
                self.cursor.sign("{")?;
                let then = self.expr(Precedence::Or)?;
                self.cursor.words(&["}", "else", "{"])?;
                let otherwise = self.expr(Precedence::Or)?;
                self.cursor.sign("}")?;
                Ok(Expr::select(condition, then, otherwise))
            }
            _ => {
                self.cursor.back_to(self.cursor.place() - 1);
                self.cursor.fail("an expression")
            }
        }
    }

    /// Of which set of keys the length is: the first, unless a number is given.
    fn key_length(&mut self) -> Result<Expr, ParseError> {
        self.cursor.sign("(")?;
        let set = match self.cursor.peek() {
            Token::Number(number) => match number.parse() {
                Ok(set) => set,
                Err(_) => return self.cursor.fail("the number of a set of keys"),
            },
            _ => {
                self.cursor.sign(")")?;
                return Ok(Expr::KeyLen(0));
            }
        };
        self.cursor.step();
        self.cursor.sign(")")?;
        Ok(Expr::KeyLen(set))
    }

    fn nan(&mut self) -> Result<Expr, ParseError> {
        self.cursor.sign("(")?;
        let bits = match self.cursor.peek() {
            Token::Number(number) => number.strip_prefix("0x").and_then(|digits| u32::from_str_radix(digits, 16).ok()),
            _ => None,
        };
        match bits.map(f32::from_bits).filter(|value| value.is_nan()) {
            None => self.cursor.fail("the bits of a NaN, such as `0x7fc00000`"),
            Some(value) => {
                self.cursor.step();
                self.cursor.sign(")")?;
                Ok(Expr::float(value))
            }
        }
    }

    fn arguments<const N: usize>(&mut self) -> Result<[Expr; N], ParseError> {
        self.cursor.sign("(")?;
        let mut exprs = Vec::new();
        for place in 0..N {
            if place > 0 {
                self.cursor.sign(",")?;
            }
            exprs.push(self.expr(Precedence::Or)?);
        }
        self.cursor.sign(")")?;
        Ok(exprs.try_into().expect("N expressions"))
    }

    fn parameter_value(&mut self, name: &str) -> Result<Expr, ParseError> {
        if let Some(place) = self.scalars.iter().position(|scalar| scalar.name == name) {
            self.cursor.step();
            return Ok(Expr::Scalar(place));
        }
        if let Some(place) = self.numbers.iter().position(|number| number.name == name) {
            self.cursor.step();
            self.cursor.words(&["[", self.numbers[place].axis.position(), "]"])?;
            return Ok(Expr::Number(place));
        }
        if !self.tensors.iter().any(|tensor| tensor.name == name) {
            return self.cursor.fail("a scalar, a captured tensor or an expression");
        }
        let tensor = self.tensor()?;
        let index = self.indices(|parser| parser.expr(Precedence::Or))?;
        if index.is_empty() {
            return self.cursor.fail("`[`");
        }
        Ok(Expr::Load { tensor, index })
    }

    /// The name of a captured tensor.
    fn tensor(&mut self) -> Result<usize, ParseError> {
        let before = self.cursor.place();
        let name = self.cursor.name()?;
        match self.tensors.iter().position(|tensor| tensor.name == name) {
            Some(tensor) => Ok(tensor),
            None => {
                self.cursor.back_to(before);
                self.cursor.fail("a captured tensor")
            }
        }
    }

    /// What stands in brackets, of which each dimension has its own.
    fn indices<T>(&mut self, mut index: impl FnMut(&mut Self) -> Result<T, ParseError>) -> Result<Vec<T>, ParseError> {
        let mut indices = Vec::new();
        while self.cursor.skip_sign("[") {
            indices.push(index(self)?);
            self.cursor.sign("]")?;
        }
        Ok(indices)
    }

    /// What follows `least` and `greatest`.
    fn extreme(&mut self, greatest: bool) -> Result<Expr, ParseError> {
        self.cursor.sign("(")?;
        let (tensor, index) = self.boxed()?;
        self.cursor.sign(")")?;
        Ok(Expr::Extreme { tensor, greatest, index })
    }

    /// What follows `next`.
    fn next(&mut self) -> Result<Expr, ParseError> {
        self.cursor.sign("(")?;
        let (tensor, index) = self.boxed()?;
        self.cursor.sign(",")?;
        let from = Box::new(self.expr(Precedence::Or)?);
        self.cursor.sign(")")?;
        Ok(Expr::Next { tensor, index, from })
    }

    /// A tensor at a box of indices.
    fn boxed(&mut self) -> Result<(usize, Vec<(Expr, Expr)>), ParseError> {
        let tensor = self.tensor()?;
        let index = self.indices(|parser| {
            let first = parser.expr(Precedence::Or)?;
            let last = if parser.cursor.skip_word("through") { parser.expr(Precedence::Or)? } else { first.clone() };
            Ok((first, last))
        })?;
        Ok((tensor, index))
    }

    /// What follows `count`.
    fn count(&mut self) -> Result<Expr, ParseError> {
        self.cursor.sign("(")?;
        let tensor = self.tensor()?;
        let index = self.indices(|parser| parser.expr(Precedence::Or))?;
        let inclusive = self.cursor.skip_sign("<=");
        if !inclusive {
            self.cursor.sign("<")?;
        }
        let value = Box::new(self.expr(Precedence::Or)?);
        self.cursor.sign(")")?;
        Ok(Expr::Count { tensor, index, value, inclusive })
    }
}
