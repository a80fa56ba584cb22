//! Checks assignments and constants, which the language has not. Each is reported with what says the same, if anything does,
//! and checked on as if that were written.

use crate::ast::{Assignment, Binary, ConstantItem, ExprKind, Expression, Let, PushStatement, Statement};
use crate::check::checker::Checker;
use crate::check::scopes::Binding;
use crate::check::tiles::OperandTile;
use crate::names;
use crate::signature::Kind;
use crate::types::ValueType;
use proc_macro2::{Ident, Span};

impl Checker<'_> {
    /// Reports `assignment`; the statement that was meant.
    pub fn assignment(&mut self, assignment: &Assignment) -> Statement {
        let Assignment { target, operator, value, .. } = assignment;
        let nothing = Statement::Value(Expression { kind: ExprKind::Reported, source: target.source }, None);
        let ExprKind::Name(name) = &target.inner().kind else {
            if !target.is_reported() {
                let help = format!(
                    "the output is what is pushed: `{}.push(score, {})`",
                    self.accumulator_name(),
                    self.tile_text(OperandTile::Values)
                );
                self.errors.push(*operator, "assignments are not in the language", help);
            }
            return nothing;
        };
        match self.scopes.find(name) {
            Some(Binding::QueryTile | Binding::KeyTile(_)) => {
                let value = assigned_value(assignment);
                let message = format!("the variable `{name}` of a loop does not change");
                self.errors.push(*operator, message, format!("write `{value}` where it is needed"));
                return nothing;
            }
            Some(Binding::Accumulator(_)) => return self.assigned_accumulator(name, assignment),
            None => {
                self.unknown_value(name, ValueType::Reported);
                return nothing;
            }
            _ => {}
        }
        if self.report_carried(name, operator.start, value) {
            return nothing;
        }
        let value = assigned_value(assignment);
        let message = match assignment.compound {
            Some(op) => format!("the assignment `{}=` is not in the language", op.symbol()),
            None => "assignments are not in the language".to_string(),
        };
        // `&` and the rest are of bools: `let a = a && b`.
        let meant = match &value.kind {
            ExprKind::Binary(op, token, a, b) if op.function().is_none() && assignment.compound.is_some() => {
                let op = match op {
                    Binary::BitAnd => Some(Binary::And),
                    Binary::BitOr => Some(Binary::Or),
                    Binary::BitXor => Some(Binary::Ne),
                    _ => None,
                };
                op.map(|op| ExprKind::Binary(op, *token, a.clone(), b.clone()))
            }
            _ => None,
        };
        let value = Expression { kind: meant.unwrap_or(value.kind), source: value.source };
        self.errors.push(*operator, message, format!("write `let {name} = {value};`"));
        Statement::Let(Let { name: name.clone(), mutable: None, ty: None, value })
    }

    /// Whether `name` is of outside the loop over keys, so that an assignment carries it from key to key; which is reported.
    pub fn report_carried(&mut self, name: &Ident, operator: Span, value: &Expression) -> bool {
        let Some(current) = &self.current else { return false };
        if self.scopes.depth_of(name).is_none_or(|depth| depth >= current.depth) {
            return false;
        }
        let key = current.variable.clone();
        let query = self.query_variable.as_ref().map_or("i".to_string(), Ident::to_string);
        let value = self.value(value);
        let message = format!("`{name}` would be carried from key to key, and only the accumulator is");
        let help = match (value.score, value.ty) {
            (true, ValueType::Float) => {
                let values = self.tile_text(OperandTile::Values);
                let push = format!("{}.push(s, {values});", self.accumulator_name());
                format!("the accumulator keeps the maximum and the sum itself: push the score, `{push}`")
            }
            (true, _) => "a score can't depend on the scores of other keys: leave it out".to_string(),
            _ => {
                format!("compute it from the positions `{query}` and `{key}`: keys are visited by tiles, in any order")
            }
        };
        self.errors.push(operator, message, help);
        true
    }

    /// Reports an assignment to the accumulator; the push that was meant, if it is one.
    fn assigned_accumulator(&mut self, name: &Ident, assignment: &Assignment) -> Statement {
        let message = format!("the accumulator `{name}` is not assigned to");
        let token = assignment.operator;
        let tile = self.tile_text(OperandTile::Values);
        if let Some(push) = self.pushed(name, assignment) {
            let [score, tile] = &push.arguments[..] else { unreachable!("a push of a score and values") };
            let exponent = match &score.kind {
                ExprKind::Name(score) if self.is_softmax(name) => {
                    self.exponentials.iter().rev().find(|(known, _)| *score == *known)
                }
                _ => None,
            };
            let help = match exponent {
                Some((_, exponent)) => {
                    format!("`Softmax` takes the exponential itself: write `{name}.push({exponent}, {tile});`")
                }
                None => format!("write `{name}.push({score}, {tile});`"),
            };
            self.errors.push(token, message, help);
            return Statement::Push(push);
        }
        if assignment.value.is_reported() {
            return Statement::Value(assignment.value.clone(), None);
        }
        let scaled = match (assignment.compound, &assignment.value.inner().kind) {
            (Some(op), _) => Some(op),
            (None, ExprKind::Binary(op, _, a, b)) if is_name(a, name) || is_name(b, name) => Some(*op),
            _ => None,
        };
        let help = match scaled {
            Some(_) if self.is_after_key_loops() => {
                let value = assigned_value(assignment);
                let divided = match scaled {
                    Some(Binary::Div) => "; `Softmax` and `Mean` divide by the sum of their weights already",
                    _ => "",
                };
                format!("write `{value}` where it is used, as in the last line of this loop{divided}")
            }
            Some(Binary::Div) => {
                "remove this line: `Softmax` and `Mean` divide by the sum of their weights".to_string()
            }
            Some(Binary::Mul) if self.in_key_loop() => {
                "remove this line: what is pushed needs no rescaling, the accumulator does that".to_string()
            }
            _ => format!("push to it, in the loop over the keys: `{name}.push(score, {tile});`"),
        };
        self.errors.push(token, message, help);
        Statement::Value(Expression { kind: ExprKind::Reported, source: assignment.target.source }, None)
    }

    /// The push that `accumulator += score * values[j]` is, if it is one.
    pub fn pushed(&self, accumulator: &Ident, assignment: &Assignment) -> Option<PushStatement> {
        let value = &assignment.value;
        let (score, tile) = match assignment.compound {
            Some(Binary::Add) => self.weighted(value)?,
            None => self.weighted(value)?,
            _ => return None,
        };
        let score = match &score.inner().kind {
            ExprKind::Call(path, arguments) if path.is_ident("softmax") && !arguments.is_empty() => {
                arguments[0].inner().clone()
            }
            // The accumulator takes the exponential itself.
            ExprKind::Builtin(builtin, _, arguments)
                if builtin.name == "exp" && arguments.len() == 1 && self.is_softmax(accumulator) =>
            {
                arguments[0].inner().clone()
            }
            _ => score.inner().clone(),
        };
        let arguments = vec![score, tile.inner().clone()];
        let (accumulator, method) = (accumulator.clone(), assignment.operator.start);
        Some(PushStatement { accumulator, method, weighted: false, arguments })
    }

    /// The score and the tile of values of a product of both, which may stand in a sum.
    fn weighted<'e>(&self, value: &'e Expression) -> Option<(&'e Expression, &'e Expression)> {
        let is_values = |expr: &Expression| match &expr.inner().kind {
            ExprKind::Name(name) | ExprKind::Index(name, _) => {
                matches!(self.scopes.find(name), Some(Binding::Value(_)))
            }
            _ => false,
        };
        let product = |a: &'e Expression, b: &'e Expression| {
            if is_values(b) { Some((a, b)) } else { is_values(a).then_some((b, a)) }
        };
        match &value.inner().kind {
            ExprKind::Binary(Binary::Mul, _, a, b) => product(a, b),
            ExprKind::Builtin(builtin, _, arguments) if builtin.name == "dot" => match &arguments[..] {
                [a, b] => product(a, b),
                _ => None,
            },
            ExprKind::Binary(Binary::Add, _, a, b) => self.weighted(a).or_else(|| self.weighted(b)),
            _ => None,
        }
    }

    /// Reports `constant`; the `let` that was meant.
    pub fn constant(&mut self, constant: &ConstantItem) -> Let {
        let ConstantItem { keyword, name, value } = constant;
        let lower = names::parameter_name(&name.to_string());
        let place = if self.query_variable.is_some() || self.signature.kind != Kind::Attention {
            ""
        } else {
            " in the loop over the queries"
        };
        let help = format!("write `let {lower} = {value};`{place}, and `{lower}` where it is used");
        self.errors.push(*keyword, "constants inside a function are not in the language", help);
        Let { name: name.clone(), mutable: None, ty: None, value: value.clone() }
    }
}

/// The value that `assignment` gives to its target.
pub fn assigned_value(assignment: &Assignment) -> Expression {
    let value = assignment.value.clone();
    match assignment.compound {
        Some(op) => {
            let source = value.source;
            let target = Box::new(assignment.target.clone());
            Expression { kind: ExprKind::Binary(op, assignment.operator.start, target, Box::new(value)), source }
        }
        None => value,
    }
}

fn is_name(expr: &Expression, name: &Ident) -> bool {
    matches!(&expr.inner().kind, ExprKind::Name(found) if found == name)
}
