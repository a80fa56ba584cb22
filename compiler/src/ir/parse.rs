//! Programs and expressions from text: the inverse of [`print`](mod@super::print).
//!
//! ```text
//! program  = "attention" "@" name "(" params ")" "->" array
//!            name ":" array  { name ":" array name ":" array }
//!            "for" "i" "in" "tiles" "(" "S" ")"
//!            "o" "=" ( "softmax" "base" ("e"|"2") [ "sink" expr ] | "sum" | "mean" )
//!            name "=" "load" name "[" "i" "]" [ "*" "(" expr ")" ]
//!            { loop }  "store" "o"
//! schedule = "schedule" name "(" name ":" integer, … ")"
//! loop     = "for" "j" "in" "tiles" "(" "T"n ")" [ "nowhere" | ranges ] [ "full" ranges ]
//!            [ "skip" "unless" expr "full" "where" expr ] [ "hop" "to" expr ] { op }
//! ranges   = range { "," range }
//! range    = ( "all" | "from" expr [ "to" expr ] | "to" expr ) [ "if" expr ]
//! op       = "s" "=" "dot" name "," name "[" "j" "]"  |  "s" "=" "map" expr
//!          | "s" "=" "mask" "s" "where" expr "on" ("all"|"partial")  |  "o" "=" "push" "s" "," name "[" "j" "]"
//! ```
//!
//! White space and line ends mean nothing but to end a word; `//` begins a comment. Nothing is checked that
//! [`verify`](super::verify) checks.

use super::print::{Precedence, RESERVED};
use super::tokens::{SIGNS, Token, tokens};
use super::{Accumulator, Base, Element, KeyLoop, KeyRange, MaskedTiles, Operands, Program, TileClass, TileOp};
use crate::expr::{BinaryOp, Expr, UnaryOp};
use crate::schedule::{CpuSchedule, CubeSchedule, MmaSchedule, Planes, Products, Schedule};
use crate::spec::{Order, Pair, ScalarParam, ScalarType, TensorParam, TensorType};
use crate::typing::Parameters;
use thiserror::Error;

/// The most parentheses, brackets and prefixes inside one another.
const MAX_DEPTH: usize = 512;

/// Why a text is not a program, or not an expression.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{line}:{column}: expected {expected}, found {found}")]
pub struct ParseError {
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1, in characters.
    pub column: usize,
    /// What could stand there.
    pub expected: String,
    /// What stands there.
    pub found: String,
}

/// The program that `text` describes.
pub fn parse(text: &str) -> Result<Program, ParseError> {
    let mut parser = Parser::new(text, Parameters { scalars: &[], tensors: &[] });
    let program = parser.program()?;
    parser.end()?;
    Ok(program)
}

/// The program that `text` describes, and the schedule in the line after it.
pub fn parse_scheduled(text: &str) -> Result<(Program, Schedule), ParseError> {
    let mut parser = Parser::new(text, Parameters { scalars: &[], tensors: &[] });
    let program = parser.program()?;
    parser.word("schedule")?;
    let schedule = parser.schedule()?;
    parser.end()?;
    Ok((program, schedule))
}

/// The expression that `text` describes, where its parameters are those of `parameters`.
pub fn parse_expr(text: &str, parameters: Parameters) -> Result<Expr, ParseError> {
    let mut parser = Parser::new(text, parameters);
    let expr = parser.expr(Precedence::Or)?;
    parser.end()?;
    Ok(expr)
}

struct Parser {
    tokens: Vec<(Token, usize, usize)>,
    at: usize,
    depth: usize,
    scalars: Vec<ScalarParam>,
    tensors: Vec<TensorParam>,
}

impl Parser {
    fn new(text: &str, parameters: Parameters) -> Self {
        let (scalars, tensors) = (parameters.scalars.to_vec(), parameters.tensors.to_vec());
        Parser { tokens: tokens(text), at: 0, depth: 0, scalars, tensors }
    }

    fn peek(&self) -> &Token {
        &self.tokens[self.at].0
    }

    fn fail<T>(&self, expected: impl Into<String>) -> Result<T, ParseError> {
        let (found, line, column) = &self.tokens[self.at];
        Err(ParseError { line: *line, column: *column, expected: expected.into(), found: found.text() })
    }

    fn step(&mut self) {
        self.at = (self.at + 1).min(self.tokens.len() - 1);
    }

    fn end(&self) -> Result<(), ParseError> {
        if *self.peek() == Token::End { Ok(()) } else { self.fail("the end") }
    }

    fn at_word(&self, expected: &str) -> bool {
        matches!(self.peek(), Token::Word { word, raw: false } if word == expected)
    }

    fn skip_word(&mut self, word: &str) -> bool {
        let found = self.at_word(word);
        if found {
            self.step();
        }
        found
    }

    fn skip_sign(&mut self, sign: &str) -> bool {
        let found = matches!(self.peek(), Token::Sign(found) if *found == sign);
        if found {
            self.step();
        }
        found
    }

    fn word(&mut self, word: &str) -> Result<(), ParseError> {
        if self.skip_word(word) { Ok(()) } else { self.fail(format!("`{word}`")) }
    }

    fn sign(&mut self, sign: &str) -> Result<(), ParseError> {
        if self.skip_sign(sign) { Ok(()) } else { self.fail(format!("`{sign}`")) }
    }

    fn words(&mut self, words: &[&str]) -> Result<(), ParseError> {
        words.iter().try_for_each(|word| if SIGNS.contains(word) { self.sign(word) } else { self.word(word) })
    }

    /// One of `words`, by its place.
    fn one_of(&mut self, words: &[&str]) -> Result<usize, ParseError> {
        match words.iter().position(|word| self.skip_word(word)) {
            Some(place) => Ok(place),
            None => self.fail(words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(" or ")),
        }
    }

    fn name(&mut self) -> Result<String, ParseError> {
        match self.peek().clone() {
            Token::Word { word, raw } if raw || !RESERVED.contains(&word.as_str()) => {
                self.step();
                Ok(word)
            }
            _ => self.fail("a name"),
        }
    }

    /// The name of a tensor that was declared before.
    fn known_name(&mut self, name: &str) -> Result<(), ParseError> {
        let before = self.at;
        if self.name()? == name {
            return Ok(());
        }
        self.at = before;
        self.fail(format!("`{}`", super::print::Name(name)))
    }

    fn size(&mut self) -> Result<usize, ParseError> {
        if let Token::Number(number) = self.peek()
            && let Ok(size) = number.parse()
        {
            self.step();
            return Ok(size);
        }
        self.fail("an integer")
    }

    fn program(&mut self) -> Result<Program, ParseError> {
        self.words(&["attention", "@"])?;
        let name = self.name()?;
        self.sign("(")?;
        while !self.skip_sign(")") {
            self.parameter()?;
            if !self.skip_sign(",") {
                self.sign(")")?;
                break;
            }
        }
        self.sign("->")?;
        let (element, v_dim) = self.array(&["B", "H", "S"])?;
        let query = self.name()?;
        self.sign(":")?;
        let qk_dim = self.array_of(element, &["B", "H", "S"], None)?;
        let mut pairs: Vec<Pair> = Vec::new();
        while !self.at_word("for") {
            let length = format!("T{}", pairs.len());
            let key = self.name()?;
            self.sign(":")?;
            self.array_of(element, &["B", "G", &length], Some(qk_dim))?;
            let value = self.name()?;
            self.sign(":")?;
            self.array_of(element, &["B", "G", &length], Some(v_dim))?;
            pairs.push(Pair { key, value });
        }
        self.words(&["for", "i", "in", "tiles", "(", "S", ")", "o", "="])?;
        let accumulator = match self.one_of(&["softmax", "sum", "mean"])? {
            0 => {
                self.word("base")?;
                let base = match self.peek() {
                    Token::Number(number) if number == "2" => Base::Two,
                    Token::Word { word, raw: false } if word == "e" => Base::E,
                    _ => return self.fail("`e` or `2`"),
                };
                self.step();
                let sink = if self.skip_word("sink") { Some(self.expr(Precedence::Or)?) } else { None };
                Accumulator::Softmax { base, sink }
            }
            1 => Accumulator::Sum,
            _ => Accumulator::Mean,
        };
        self.known_name(&query)?;
        self.words(&["=", "load"])?;
        self.known_name(&query)?;
        self.words(&["[", "i", "]"])?;
        let query_scale = if self.skip_sign("*") {
            self.sign("(")?;
            let scale = self.expr(Precedence::Or)?;
            self.sign(")")?;
            Some(scale)
        } else {
            None
        };
        let mut loops = Vec::new();
        while self.skip_word("for") {
            loops.push(self.key_loop(&query, &pairs)?);
        }
        self.words(&["store", "o"])?;
        let operands = Operands { element, qk_dim, v_dim };
        let (scalars, tensors) = (std::mem::take(&mut self.scalars), std::mem::take(&mut self.tensors));
        Ok(Program { name, scalars, tensors, query, pairs, operands, query_scale, accumulator, loops })
    }

    fn parameter(&mut self) -> Result<(), ParseError> {
        let (mut comptime, mut order) = (false, Order::Any);
        if self.skip_sign("#") {
            self.sign("[")?;
            comptime = self.one_of(&["comptime", "sorted"])? == 0;
            if !comptime {
                order = Order::Sorted;
                if self.skip_sign("(") {
                    self.words(&["unchecked", ")"])?;
                    order = Order::SortedUnchecked;
                }
            }
            self.sign("]")?;
        }
        let name = self.name()?;
        self.sign(":")?;
        if order.is_sorted() || (!comptime && self.at_word("Tensor")) {
            self.word("Tensor")?;
            self.sign("<")?;
            let ty = [TensorType::F32, TensorType::I32, TensorType::Bool][self.one_of(&["f32", "i32", "bool"])?];
            self.sign(",")?;
            let rank = self.size()?;
            self.sign(">")?;
            self.tensors.push(TensorParam { name, ty, rank, order });
        } else {
            let ty = self.one_of(&["i32", "u32", "f32", "bool"])?;
            let ty = [ScalarType::I32, ScalarType::U32, ScalarType::F32, ScalarType::Bool][ty];
            self.scalars.push(ScalarParam { name, ty, comptime });
        }
        Ok(())
    }

    /// An element type and the last dimension of an array whose first are `dims`.
    fn array(&mut self, dims: &[&str]) -> Result<(Element, usize), ParseError> {
        let element = [Element::F32, Element::F16, Element::Bf16][self.one_of(&["f32", "f16", "bf16"])?];
        self.sign("[")?;
        for dim in dims {
            self.words(&[dim, ","])?;
        }
        let last = self.size()?;
        self.sign("]")?;
        Ok((element, last))
    }

    fn array_of(&mut self, element: Element, dims: &[&str], last: Option<usize>) -> Result<usize, ParseError> {
        let before = self.at;
        let (found, dim) = self.array(dims)?;
        if found != element || last.is_some_and(|last| last != dim) {
            self.at = before;
            let last = last.map_or(String::new(), |last| last.to_string());
            return self.fail(format!("`{}[{}, {last}]`", element.name(), dims.join(", ")));
        }
        Ok(dim)
    }

    fn key_loop(&mut self, query: &str, pairs: &[Pair]) -> Result<KeyLoop, ParseError> {
        self.words(&["j", "in", "tiles", "("])?;
        let pair = match self.peek() {
            Token::Word { word, .. } => word.strip_prefix('T').and_then(|place| place.parse::<usize>().ok()),
            _ => None,
        };
        let Some(pair) = pair.filter(|place| *place < pairs.len()) else {
            return self.fail(format!("`T0` to `T{}`", pairs.len().saturating_sub(1)));
        };
        self.step();
        self.sign(")")?;
        let visit = if self.at_word("from") || self.at_word("to") || self.at_word("all") {
            self.ranges()?
        } else if self.skip_word("nowhere") {
            Vec::new()
        } else {
            vec![KeyRange::ALL]
        };
        let full = if self.skip_word("full") { self.ranges()? } else { Vec::new() };
        let class = if self.skip_word("skip") {
            self.word("unless")?;
            let some = self.expr(Precedence::Or)?;
            self.words(&["full", "where"])?;
            Some(TileClass { some, all: self.expr(Precedence::Or)? })
        } else {
            None
        };
        let hop = if self.skip_word("hop") {
            self.word("to")?;
            Some(self.expr(Precedence::Or)?)
        } else {
            None
        };
        let mut body = Vec::new();
        loop {
            if self.skip_word("s") {
                self.sign("=")?;
                body.push(match self.one_of(&["dot", "map", "mask"])? {
                    0 => {
                        self.known_name(query)?;
                        self.sign(",")?;
                        self.known_name(&pairs[pair].key)?;
                        self.words(&["[", "j", "]"])?;
                        TileOp::Dot
                    }
                    1 => TileOp::Map(self.expr(Precedence::Or)?),
                    _ => {
                        self.words(&["s", "where"])?;
                        let visible = self.expr(Precedence::Or)?;
                        self.word("on")?;
                        let tiles = [MaskedTiles::All, MaskedTiles::Partial][self.one_of(&["all", "partial"])?];
                        TileOp::Mask { visible, tiles }
                    }
                });
            } else if self.skip_word("o") {
                self.words(&["=", "push", "s", ","])?;
                self.known_name(&pairs[pair].value)?;
                self.words(&["[", "j", "]"])?;
                body.push(TileOp::Push);
            } else {
                return Ok(KeyLoop { pair, visit, full, class, hop, body });
            }
        }
    }

    fn ranges(&mut self) -> Result<Vec<KeyRange>, ParseError> {
        let mut ranges = vec![self.range()?];
        while self.skip_sign(",") {
            ranges.push(self.range()?);
        }
        Ok(ranges)
    }

    fn range(&mut self) -> Result<KeyRange, ParseError> {
        let all = self.skip_word("all");
        let from = if self.skip_word("from") { Some(self.expr(Precedence::Or)?) } else { None };
        let to = if self.skip_word("to") { Some(self.expr(Precedence::Or)?) } else { None };
        if !all && from.is_none() && to.is_none() {
            return self.fail("`all`, `from` or `to`");
        }
        let when = if self.skip_word("if") { Some(self.expr(Precedence::Or)?) } else { None };
        Ok(KeyRange { when, from, to })
    }

    fn schedule(&mut self) -> Result<Schedule, ParseError> {
        let kind = self.one_of(&["cpu", "mma", "cube"])?;
        let mut sizes = [0; 5];
        let names: &[&str] = match kind {
            0 => &["lanes", "vectors", "keys", "rows"],
            1 => &["warps", "fragments", "keys"],
            _ => &["unit_rows", "unit_columns", "rows", "keys", "chunk"],
        };
        self.sign("(")?;
        for (place, name) in names.iter().enumerate() {
            if place > 0 {
                self.sign(",")?;
            }
            self.words(&[name, ":"])?;
            sizes[place] = self.size()?;
        }
        let [a, b, c, d, e] = sizes;
        let schedule = match kind {
            0 => Schedule::Cpu(CpuSchedule { lanes: a, vectors: b, keys: c, rows: d }),
            1 => {
                self.sign(",")?;
                self.words(&["pack_gqa", ":"])?;
                let pack_gqa = self.one_of(&["false", "true"])? == 1;
                Schedule::Mma(MmaSchedule { warps: a, fragments: b, keys: c, pack_gqa })
            }
            _ => {
                self.sign(",")?;
                self.words(&["planes", ":"])?;
                let planes = self.planes()?;
                self.sign(",")?;
                self.words(&["products", ":"])?;
                let products = self.products()?;
                let (unit_rows, unit_columns, rows, keys, chunk) = (a, b, c, d, e);
                Schedule::Cube(CubeSchedule { unit_rows, unit_columns, rows, keys, chunk, planes, products })
            }
        };
        self.sign(")")?;
        Ok(schedule)
    }

    fn products(&mut self) -> Result<Products, ParseError> {
        if self.one_of(&["units", "matrices"])? == 0 {
            return Ok(Products::Units);
        }
        self.sign("(")?;
        let m = self.size()?;
        self.sign(",")?;
        let n = self.size()?;
        self.sign(",")?;
        let k = self.size()?;
        self.sign(")")?;
        self.words(&["by"])?;
        let plane = self.size()?;
        Ok(Products::Matrices { m, n, k, plane })
    }

    fn planes(&mut self) -> Result<Planes, ParseError> {
        Ok(match self.one_of(&["unused", "reduce", "share"])? {
            0 => Planes::Unused,
            1 => Planes::Reduce,
            _ => {
                self.sign("(")?;
                let size = self.size()?;
                self.sign(")")?;
                Planes::Share(size)
            }
        })
    }

    /// An expression whose operations bind at least as tightly as `least`.
    fn expr(&mut self, least: Precedence) -> Result<Expr, ParseError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return self.fail(format!("at most {MAX_DEPTH} expressions inside one another"));
        }
        let mut left = self.prefix()?;
        let mut most = Precedence::Atom;
        loop {
            if Precedence::Cast >= least && self.skip_word("as") {
                let op = [UnaryOp::ToFloat, UnaryOp::ToInt][self.one_of(&["f32", "i32"])?];
                left = Expr::unary(op, left);
                continue;
            }
            let Some((op, precedence)) = self.infix() else { break };
            if precedence < least || precedence > most {
                break;
            }
            self.step();
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
        let Token::Sign(found) = self.peek() else { return None };
        [Add, Sub, Mul, Div, Rem, Lt, Le, Gt, Ge, Eq, Ne, And, Or].into_iter().find_map(|op| match op.infix() {
            Some((sign, precedence)) if sign == *found => Some((op, precedence)),
            _ => None,
        })
    }

    fn prefix(&mut self) -> Result<Expr, ParseError> {
        if self.skip_sign("-") {
            if matches!(self.peek(), Token::Number(_)) || self.at_word("inf") {
                return self.number(true);
            }
            return Ok(Expr::unary(UnaryOp::Neg, self.expr(Precedence::Prefix)?));
        }
        if self.skip_sign("!") {
            return Ok(Expr::unary(UnaryOp::Not, self.expr(Precedence::Prefix)?));
        }
        self.atom()
    }

    fn number(&mut self, negative: bool) -> Result<Expr, ParseError> {
        let sign = if negative { "-" } else { "" };
        if self.skip_word("inf") {
            return Ok(Expr::float(if negative { f32::NEG_INFINITY } else { f32::INFINITY }));
        }
        let Token::Number(number) = self.peek().clone() else { return self.fail("a number") };
        let text = format!("{sign}{number}");
        let expr = if number.chars().all(|char| char.is_ascii_digit()) {
            text.parse().ok().map(Expr::Int)
        } else {
            text.parse().ok().filter(|value: &f32| value.is_finite()).map(Expr::float)
        };
        match expr {
            Some(expr) => {
                self.step();
                Ok(expr)
            }
            None => self.fail("a number in the range of i32 or f32"),
        }
    }

    fn atom(&mut self) -> Result<Expr, ParseError> {
        if self.skip_sign("(") {
            let expr = self.expr(Precedence::Or)?;
            self.sign(")")?;
            return Ok(expr);
        }
        let (word, raw) = match self.peek().clone() {
            Token::Word { word, raw } => (word, raw),
            Token::Number(_) => return self.number(false),
            _ => return self.fail("an expression"),
        };
        if raw || !RESERVED.contains(&word.as_str()) {
            return self.parameter_value(&word);
        }
        if word == "inf" {
            return self.number(false);
        }
        self.step();
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
            "s" => Ok(Expr::Score),
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
            "scale" => call(self, Expr::Scale),
            "mask" => {
                let [score, visible] = self.arguments()?;
                Ok(Expr::Mask(Box::new(score), Box::new(visible)))
            }
            "nan" => self.nan(),
            "if" => {
                let condition = self.expr(Precedence::Or)?;
                self.sign("{")?;
                let then = self.expr(Precedence::Or)?;
                self.words(&["}", "else", "{"])?;
                let otherwise = self.expr(Precedence::Or)?;
                self.sign("}")?;
                Ok(Expr::select(condition, then, otherwise))
            }
            _ => {
                self.at -= 1;
                self.fail("an expression")
            }
        }
    }

    fn nan(&mut self) -> Result<Expr, ParseError> {
        self.sign("(")?;
        let bits = match self.peek() {
            Token::Number(number) => number.strip_prefix("0x").and_then(|digits| u32::from_str_radix(digits, 16).ok()),
            _ => None,
        };
        match bits.map(f32::from_bits).filter(|value| value.is_nan()) {
            None => self.fail("the bits of a NaN, such as `0x7fc00000`"),
            Some(value) => {
                self.step();
                self.sign(")")?;
                Ok(Expr::float(value))
            }
        }
    }

    fn arguments<const N: usize>(&mut self) -> Result<[Expr; N], ParseError> {
        self.sign("(")?;
        let mut exprs = Vec::new();
        for place in 0..N {
            if place > 0 {
                self.sign(",")?;
            }
            exprs.push(self.expr(Precedence::Or)?);
        }
        self.sign(")")?;
        Ok(exprs.try_into().expect("N expressions"))
    }

    fn parameter_value(&mut self, name: &str) -> Result<Expr, ParseError> {
        if let Some(place) = self.scalars.iter().position(|scalar| scalar.name == name) {
            self.step();
            return Ok(Expr::Scalar(place));
        }
        if !self.tensors.iter().any(|tensor| tensor.name == name) {
            return self.fail("a scalar, a captured tensor or an expression");
        }
        let tensor = self.tensor()?;
        let index = self.indices(|parser| parser.expr(Precedence::Or))?;
        if index.is_empty() {
            return self.fail("`[`");
        }
        Ok(Expr::Load { tensor, index })
    }

    /// The name of a captured tensor.
    fn tensor(&mut self) -> Result<usize, ParseError> {
        let before = self.at;
        let name = self.name()?;
        match self.tensors.iter().position(|tensor| tensor.name == name) {
            Some(tensor) => Ok(tensor),
            None => {
                self.at = before;
                self.fail("a captured tensor")
            }
        }
    }

    /// What stands in brackets, of which each dimension has its own.
    fn indices<T>(&mut self, mut index: impl FnMut(&mut Self) -> Result<T, ParseError>) -> Result<Vec<T>, ParseError> {
        let mut indices = Vec::new();
        while self.skip_sign("[") {
            indices.push(index(self)?);
            self.sign("]")?;
        }
        Ok(indices)
    }

    /// What follows `least` and `greatest`.
    fn extreme(&mut self, greatest: bool) -> Result<Expr, ParseError> {
        self.sign("(")?;
        let (tensor, index) = self.boxed()?;
        self.sign(")")?;
        Ok(Expr::Extreme { tensor, greatest, index })
    }

    /// What follows `next`.
    fn next(&mut self) -> Result<Expr, ParseError> {
        self.sign("(")?;
        let (tensor, index) = self.boxed()?;
        self.sign(",")?;
        let from = Box::new(self.expr(Precedence::Or)?);
        self.sign(")")?;
        Ok(Expr::Next { tensor, index, from })
    }

    /// A tensor at a box of indices.
    fn boxed(&mut self) -> Result<(usize, Vec<(Expr, Expr)>), ParseError> {
        let tensor = self.tensor()?;
        let index = self.indices(|parser| {
            let first = parser.expr(Precedence::Or)?;
            let last = if parser.skip_word("through") { parser.expr(Precedence::Or)? } else { first.clone() };
            Ok((first, last))
        })?;
        Ok((tensor, index))
    }

    /// What follows `count`.
    fn count(&mut self) -> Result<Expr, ParseError> {
        self.sign("(")?;
        let tensor = self.tensor()?;
        let index = self.indices(|parser| parser.expr(Precedence::Or))?;
        let inclusive = self.skip_sign("<=");
        if !inclusive {
            self.sign("<")?;
        }
        let value = Box::new(self.expr(Precedence::Or)?);
        self.sign(")")?;
        Ok(Expr::Count { tensor, index, value, inclusive })
    }
}
