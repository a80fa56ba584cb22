//! Checks expressions: what each name stands for, and that every operator gets values of the types it takes.

use crate::ast::{self, Binary, Block, ExprKind, Expression, Statement, Unary};
use crate::check::checker::Checker;
use crate::check::presence::Presence;
use crate::check::scopes::Binding;
use crate::check::tiles::OperandTile;
use crate::names;
use crate::signature::Kind;
use crate::source::Source;
use crate::tree::{Node, TypedValue};
use crate::types::ValueType;
use proc_macro2::{Ident, Span};

impl Checker<'_> {
    /// The value of `expr`.
    pub fn value(&mut self, expr: &Expression) -> TypedValue {
        let source = expr.source;
        let constant = |node, ty| TypedValue { node, ty, score: false, source };
        match &expr.kind {
            ExprKind::Int(value) => constant(Node::Int(*value), ValueType::Int),
            ExprKind::Float(value) if value.is_infinite() => {
                let help = "to hide a key, push `mask(s, visible)`";
                self.errors.push(source, format!("`{expr}` is not in the language"), help);
                self.reported(source)
            }
            ExprKind::Float(value) => constant(Node::Float(*value), ValueType::Float),
            ExprKind::Bool(value) => constant(Node::Bool(*value), ValueType::Bool),
            ExprKind::Name(name) => self.name(name, source),
            ExprKind::Constant(path) => constant(Node::Constant(path.clone()), ValueType::Unknown),
            ExprKind::Index(name, index) => match self.scopes.find(name) {
                Some(Binding::Query(query)) if self.is_of_rows() => self.row(name, query, expr),
                _ => self.load(name, index, source),
            },
            ExprKind::Leading(..) => {
                let help = format!("push them: `{}.push(score, {expr})`", self.accumulator_name());
                self.errors.push(source, format!("`{expr}` is not one value"), help);
                self.reported(source)
            }
            ExprKind::Unary(op, operand) => self.unary(*op, operand, source),
            ExprKind::Binary(op, token, a, b) => {
                let meant = self.misread(expr).or_else(|| self.bits(expr));
                meant.unwrap_or_else(|| self.binary(*op, *token, (a, b), source))
            }
            ExprKind::Cast(operand, ty) => {
                let operand = self.value(operand);
                let function = if *ty == ValueType::Float { "to_float" } else { "to_int" };
                TypedValue::lang(function, source.start, vec![operand], *ty, source)
            }
            ExprKind::If(condition, then, Some(otherwise)) => self.branch(condition, then, otherwise, source),
            ExprKind::If(condition, then, None) => self.branch_without_else(condition, then, source),
            ExprKind::Block(block) => self.block(block),
            ExprKind::Paren(inner) => TypedValue { source, ..self.value(inner) },
            ExprKind::Tuple(parts) => {
                let message = format!("a function gives one value, and here are {}", parts.len());
                let help = match &parts[..] {
                    [first, second, ..] => {
                        let operator = if first.is_condition() { "&&" } else { "-" };
                        format!("write one expression, such as `{first} {operator} {second}`")
                    }
                    parts => format!("write `{}`", parts[0]),
                };
                self.errors.push(source, message, help);
                self.reported(source)
            }
            ExprKind::Builtin(builtin, token, arguments) => self.builtin(*builtin, *token, arguments, source),
            ExprKind::Call(path, arguments) => self.call(path, arguments, source),
            ExprKind::Return(keyword, value) => {
                let help = "write the value as the last line of its block, without `;`";
                self.errors.push(*keyword, "`return` is not in the language", help);
                if let Some(value) = value {
                    self.value(value);
                }
                self.reported(source)
            }
            ExprKind::Jump(keyword) => {
                let help = "hide the keys: `mask(s, visible)`; hidden tiles are skipped";
                self.errors.push(source, format!("`{keyword}` is not in the language"), help);
                self.reported(source)
            }
            ExprKind::Reported => self.reported(source),
        }
    }

    /// The value of `expr`, which is wanted of type `ty`: so is a parameter that is missing.
    pub fn value_as(&mut self, expr: &Expression, ty: ValueType) -> TypedValue {
        match &expr.inner().kind {
            ExprKind::Name(name) if self.is_unknown(expr) => {
                self.unknown_value(name, ty);
                self.reported(expr.source)
            }
            ExprKind::Index(name, index) if self.is_unknown(expr) => {
                self.unknown_tensor(name, index.len(), ty);
                self.reported(expr.source)
            }
            _ => self.value(expr),
        }
    }

    /// The values of both, where an unknown name is taken to be of the other's type.
    pub fn value_pair(&mut self, a: &Expression, b: &Expression) -> (TypedValue, TypedValue) {
        if self.is_unknown(a) && !self.is_unknown(b) {
            let b = self.value(b);
            return (self.value_as(a, b.ty), b);
        }
        let a = self.value(a);
        let b = self.value_as(b, a.ty);
        (a, b)
    }

    /// The value of a block, which is its last line.
    pub fn block(&mut self, block: &Block) -> TypedValue {
        self.scopes.enter();
        let mut lets = Vec::new();
        let mut tail = None;
        let last = block.statements.len().saturating_sub(1);
        let place = if self.signature.kind == Kind::Attention { "this block" } else { "this function" };
        for (number, statement) in block.statements.iter().enumerate() {
            match &*self.meant_statement(statement) {
                Statement::Let(binding) => lets.push(self.binding(binding)),
                Statement::Value(value, None) if number == last => tail = Some(self.value(value)),
                Statement::Value(value, Some(semicolon)) if number == last => {
                    tail = Some(self.value(value));
                    if !value.is_reported() && !matches!(value.kind, ExprKind::Return(..)) {
                        let message = format!("{place} has a value, which its last line gives");
                        self.errors.push(*semicolon, message, format!("remove the `;`: write `{value}`"));
                    }
                }
                Statement::Value(value, _) => {
                    if !value.is_reported() {
                        let help = format!("write `let x = {value};`, or remove it");
                        self.errors.push(value.source, "this value is not used", help);
                    }
                }
                Statement::Loop(inner) => self.misplaced(inner.head.keyword, "a loop", place),
                Statement::Push(push) => self.misplaced(push.method, "`push`", place),
                Statement::Accumulator(accumulator) => {
                    self.misplaced(accumulator.name.span(), "an accumulator", place);
                }
                Statement::Assignment(_) | Statement::Constant(_) => unreachable!("something else was meant"),
            }
        }
        self.scopes.leave();
        let has_misplaced = block
            .statements
            .iter()
            .any(|statement| matches!(statement, Statement::Loop(_) | Statement::Push(_) | Statement::Accumulator(_)));
        let tail = tail.unwrap_or_else(|| {
            if !has_misplaced {
                let message = format!("{place} has a value, which its last line gives");
                self.errors.push(block.close, message, "write the value as the last line, without `;`");
            }
            self.reported(block.close.into())
        });
        let (ty, score) = (tail.ty, tail.score);
        let source = tail.source;
        if lets.is_empty() {
            return tail;
        }
        TypedValue { node: Node::Block(lets, Box::new(tail)), ty, score, source }
    }

    fn misplaced(&self, token: Span, what: &str, place: &str) {
        let message = format!("{place} gives a value, and has no place for {what}");
        let help = if self.signature.kind == Kind::Attention {
            "move it out of the block, into the loop"
        } else {
            "write it in the `#[attention]` that calls this function"
        };
        self.errors.push(token, message, help);
    }

    fn name(&mut self, name: &Ident, source: Source) -> TypedValue {
        let Some(binding) = self.scopes.find(name) else {
            if names::is_constant(&name.to_string()) {
                let node = Node::Constant(name.clone().into());
                return TypedValue { node, ty: ValueType::Unknown, score: false, source };
            }
            self.unknown_value(name, ValueType::Reported);
            return self.reported(source);
        };
        match binding {
            Binding::Local(ty, score) => return TypedValue { node: Node::Local(name.clone()), ty, score, source },
            Binding::QueryTile => {
                return TypedValue::lang("query_position", name.span(), Vec::new(), ValueType::Int, source);
            }
            Binding::KeyTile(_) => {
                return TypedValue::lang("key_position", name.span(), Vec::new(), ValueType::Int, source);
            }
            Binding::Reported => {}
            Binding::OfOutput(ty) if !self.in_key_loop() => {
                return TypedValue { node: Node::Local(name.clone()), ty, score: false, source };
            }
            Binding::OfOutput(_) => {
                let message = format!("`{name}` has a value for each element of the output, and a score has none");
                self.errors.push(source, message, "write what is made of it below the loops over keys");
            }
            Binding::Query(_) | Binding::Key(_) | Binding::Value(_) => {
                let message = format!("`{name}` is {}, not one value", binding.description());
                self.errors.push(source, message, self.tile_help(name, binding));
            }
            Binding::Tensor(_, rank) => {
                let message = format!("`{name}` is a captured tensor, not one value");
                self.errors.push(source, message, format!("write `{name}{}`", "[head()]".repeat(rank)));
            }
            Binding::Accumulator(number) if self.is_after_key_loops() => {
                if let Some(accumulator) = self.accumulators.get_mut(number) {
                    accumulator.is_used = true;
                }
                return TypedValue {
                    node: Node::Result(number, name.span()),
                    ty: ValueType::Float,
                    score: false,
                    source,
                };
            }
            Binding::Accumulator(_) if self.is_of_rows() => {
                let message = format!("the accumulator `{name}` has its value after the loops over keys");
                self.errors.push(source, message, "move this line below them");
            }
            Binding::Accumulator(_) if self.accumulator_count > 1 => {
                let message = format!("`{name}` is an accumulator, and has its value after the loops over keys");
                self.errors.push(source, message, "write what is made of it below them");
            }
            Binding::Accumulator(_) => {
                let message = format!("`{name}` is {}, not a value", binding.description());
                self.errors.push(source, message, format!("push to it, `{name}.push(score, v[j]);`, or return it"));
            }
        }
        self.reported(source)
    }

    /// Whether what is checked stands below the loops over keys, where accumulators have results.
    pub fn is_after_key_loops(&self) -> bool {
        self.is_of_rows() && self.loops_left == 0
    }

    /// Whether the statement that is being checked is about rows: in the loop over the queries, and in none over keys.
    fn is_of_rows(&self) -> bool {
        self.query_variable.is_some() && !self.in_key_loop()
    }

    /// Whether `value` is made of what the output is made of, and so has a value for each element.
    pub fn is_of_output(&self, value: &TypedValue) -> bool {
        value.any(&mut |node| match node {
            Node::Result(..) => true,
            Node::Local(name) => matches!(self.scopes.find(name), Some(Binding::OfOutput(_))),
            _ => false,
        })
    }

    /// The row of the queries `name`, of which the output is made: `expr`.
    fn row(&mut self, name: &Ident, query: usize, expr: &Expression) -> TypedValue {
        self.needs.queries[query] = Presence::Found;
        if self.tile(expr, OperandTile::Queries).is_none() {
            return self.reported(expr.source);
        }
        let place = self.accumulator_count + query;
        TypedValue { node: Node::Result(place, name.span()), ty: ValueType::Float, score: false, source: expr.source }
    }

    fn load(&mut self, name: &Ident, index: &[Expression], source: Source) -> TypedValue {
        let (element, rank) = match self.scopes.find(name) {
            None => {
                self.unknown_tensor(name, index.len(), ValueType::Reported);
                return self.reported(source);
            }
            Some(Binding::Reported) => return self.reported(source),
            Some(Binding::Tensor(element, rank)) => (element, rank),
            Some(binding @ (Binding::Query(_) | Binding::Key(_) | Binding::Value(_))) => {
                let message = format!("a tile of `{name}` is not one value");
                self.errors.push(source, message, self.tile_help(name, binding));
                return self.reported(source);
            }
            Some(binding) => {
                let message = format!("`{name}` is {}, and has no index", binding.description());
                self.errors.push(name.span(), message, format!("write `{name}`"));
                return self.reported(source);
            }
        };
        let mut values = Vec::new();
        for expr in index {
            let value = self.value(expr);
            if value.score || self.is_of_output(&value) {
                let what = if value.score { "a score" } else { "the output" };
                let message = format!("the index of a tensor can't depend on {what}");
                self.errors.push(expr.source, message, "compute it from positions, `batch()`, `head()` and scalars");
            }
            values.push(self.expect(value, ValueType::Int, expr));
        }
        if index.len() != rank {
            let mut written: Vec<String> = index.iter().map(|index| format!("[{index}]")).collect();
            written.truncate(rank);
            // Tensors have the batch first, then the head.
            let first = ["[batch()]", "[head()]", "[i]", "[j]"].map(str::to_string);
            let missing: Vec<String> = first.into_iter().filter(|index| !written.contains(index)).collect();
            let missing = missing.into_iter().take(rank - written.len());
            let written: Vec<String> = missing.chain(written.clone()).collect();
            let plural = |count| if count == 1 { "" } else { "s" };
            let message = format!(
                "`{name}` has {rank} dimension{}, found {} {}",
                plural(rank),
                index.len(),
                if index.len() == 1 { "index" } else { "indices" }
            );
            // Too many: the first that is one too many.
            let token = index.get(rank).map_or(name.span().into(), |extra| extra.source);
            self.errors.push(token, message, format!("write `{name}{}`", written.concat()));
        }
        TypedValue { node: Node::Load(name.clone(), values), ty: element.ty(), score: false, source }
    }

    fn unary(&mut self, op: Unary, operand: &Expression, source: Source) -> TypedValue {
        let value = self.value(operand);
        match op {
            Unary::Not => {
                let value = self.expect(value, ValueType::Bool, operand);
                TypedValue::lang("not", source.start, vec![value], ValueType::Bool, source)
            }
            Unary::Neg => {
                let value = self.expect_number(value, operand);
                let ty = value.ty;
                let mut value = TypedValue::lang("neg", source.start, vec![value], ty, source);
                value.locate_integer();
                value
            }
        }
    }

    fn binary(&mut self, op: Binary, token: Span, (a, b): (&Expression, &Expression), source: Source) -> TypedValue {
        let (left, right) = if matches!(op, Binary::And | Binary::Or) {
            (self.value_as(a, ValueType::Bool), self.value_as(b, ValueType::Bool))
        } else {
            self.value_pair(a, b)
        };
        if let Some(help) = self.truth_as_number(op, (&left, a), (&right, b)) {
            let at = if left.ty == ValueType::Bool { a } else { b };
            self.errors.push(at.source, "expected integer, found bool", help);
            return TypedValue { ty: ValueType::Bool, ..self.reported(source) };
        }
        let (operands, ty) = match op {
            Binary::And | Binary::Or => {
                (vec![self.expect(left, ValueType::Bool, a), self.expect(right, ValueType::Bool, b)], ValueType::Bool)
            }
            Binary::Rem if left.ty == ValueType::Float && right.ty == ValueType::Float => {
                let help = format!("write `{} % {}`", as_integer(a), as_integer(b));
                self.errors.push(token, "`%` takes integers, found floats", help);
                return self.reported(source);
            }
            Binary::Rem => {
                (vec![self.expect(left, ValueType::Int, a), self.expect(right, ValueType::Int, b)], ValueType::Int)
            }
            Binary::Add | Binary::Mul | Binary::Sub if left.ty == ValueType::Bool && right.ty == ValueType::Bool => {
                let meant = match op {
                    Binary::Add => a.clone().with(Binary::Or, b.clone()),
                    Binary::Mul => a.clone().with(Binary::And, b.clone()),
                    _ => a.clone().with(Binary::And, b.negated()),
                };
                let message = format!("`{}` takes numbers, found bools", op.symbol());
                self.errors.push(token, message, format!("write `{meant}`"));
                return TypedValue { ty: ValueType::Bool, ..self.reported(source) };
            }
            Binary::Add | Binary::Sub | Binary::Mul | Binary::Div => self.same_number(vec![(left, a), (right, b)], ""),
            Binary::Eq | Binary::Ne if left.ty == ValueType::Bool && right.ty == ValueType::Bool => {
                (vec![left, right], ValueType::Bool)
            }
            Binary::Eq | Binary::Ne if !left.ty.is_known() || !right.ty.is_known() => {
                (vec![left, right], ValueType::Bool)
            }
            Binary::Eq | Binary::Ne | Binary::Lt | Binary::Le | Binary::Gt | Binary::Ge => {
                (self.same_number(vec![(left, a), (right, b)], op.symbol()).0, ValueType::Bool)
            }
            Binary::BitAnd | Binary::BitOr | Binary::BitXor | Binary::Shl | Binary::Shr => {
                unreachable!("operations on bits were reported")
            }
        };
        // What an operand that was reported would give is not known, but for bools.
        let ty = if ty != ValueType::Bool && operands.iter().any(|operand| operand.ty == ValueType::Reported) {
            ValueType::Reported
        } else {
            ty
        };
        let function = op.function().expect("operations on bits were reported");
        let mut value = TypedValue::lang(function, token, operands, ty, source);
        if op.is_comparison() {
            value.locate();
        }
        value.locate_integer();
        value
    }

    /// What to write for a bool that is compared with 0 or 1, as one does with a `u8`.
    fn truth_as_number(
        &self,
        op: Binary,
        left: (&TypedValue, &Expression),
        right: (&TypedValue, &Expression),
    ) -> Option<String> {
        let (truth, number, op) = match (left.0.ty, right.0.ty) {
            (ValueType::Bool, ValueType::Int) => (left.1, right.1, op),
            (ValueType::Int, ValueType::Bool) => match op {
                Binary::Lt => (right.1, left.1, Binary::Gt),
                Binary::Eq | Binary::Ne => (right.1, left.1, op),
                _ => return None,
            },
            _ => return None,
        };
        let is_true = match (op, &number.inner().kind) {
            (Binary::Ne | Binary::Gt, ExprKind::Int(0)) | (Binary::Eq, ExprKind::Int(1)) => true,
            (Binary::Eq, ExprKind::Int(0)) | (Binary::Ne, ExprKind::Int(1)) => false,
            _ => return None,
        };
        let text = if is_true { truth.inner().to_string() } else { format!("!{}", truth.operand()) };
        Some(match &truth.inner().kind {
            ExprKind::Index(name, _) => {
                format!("the elements of `{name}`, of `u8` or `bool`, are truth values: write `{text}`")
            }
            _ => format!("write `{text}`"),
        })
    }

    fn branch_without_else(&mut self, condition: &Expression, then: &Block, source: Source) -> TypedValue {
        let test = self.value_as(condition, ValueType::Bool);
        self.expect(test, ValueType::Bool, condition);
        let value = self.block(then);
        if let Some(tail) = ast::tail(then) {
            let help = match value.ty {
                ValueType::Float if value.score && self.in_key_loop() => {
                    format!("to hide the keys where it is false, write `mask({tail}, {condition})`")
                }
                ValueType::Bool => format!("write `{}`", condition.clone().with(Binary::And, tail.clone())),
                _ => format!("write `if {condition} {then} else {{ … }}`"),
            };
            self.errors.push(source.start, "an `if` is a value, and needs an `else`", help);
        }
        self.reported(source)
    }

    /// Reports a branch that hides keys by `continue`, or by an infinite score; the value of the other.
    fn hiding_branch(&mut self, condition: &Expression, then: &Block, otherwise: &Expression) -> Option<TypedValue> {
        let hides = |tail: &Expression| matches!(tail.kind, ExprKind::Jump(_)) || tail.is_infinite();
        let (first, second) = (ast::tail(then)?, otherwise.tail()?);
        let (hidden, score, visible) = match (hides(first), hides(second)) {
            (false, true) => (second, first, condition.clone()),
            (true, false) => (first, second, condition.negated()),
            _ => return None,
        };
        let value = self.value(score);
        let message = format!("`{hidden}` is not in the language");
        let help = format!("to hide keys, write `mask({score}, {visible})` instead of the `if`");
        self.errors.push(hidden.source, message, help);
        Some(value)
    }

    fn branch(&mut self, condition: &Expression, then: &Block, otherwise: &Expression, source: Source) -> TypedValue {
        let test = self.value_as(condition, ValueType::Bool);
        let test = self.expect(test, ValueType::Bool, condition);
        if let Some(value) = self.hiding_branch(condition, then, otherwise) {
            return value;
        }
        let (first, second) = (self.block(then), self.value(otherwise));
        let (first_tail, second_tail) = (ast::tail(then), otherwise.tail());
        let (first, second, ty) = match (first_tail, second_tail) {
            (Some(first_tail), Some(second_tail)) => match (first.ty, second.ty) {
                (ValueType::Int, ValueType::Float) => {
                    (self.expect(first, ValueType::Float, first_tail), second, ValueType::Float)
                }
                (known, _) if known.is_known() => (first, self.expect(second, known, second_tail), known),
                (_, other) => (first, second, other),
            },
            _ => (first, second, ValueType::Reported),
        };
        TypedValue::lang("select", source.start, vec![test, first, second], ty, source)
    }
}

/// The float `expr` as an integer.
fn as_integer(expr: &Expression) -> String {
    match expr.inner().kind {
        ExprKind::Float(value) => format!("{}", value as i32),
        _ => format!("{} as i32", expr.operand()),
    }
}
