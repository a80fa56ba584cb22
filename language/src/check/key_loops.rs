//! Checks a loop over keys: what it goes over, what it pushes, and which values go with its keys.

use crate::ast::{self, ExprKind, Expression, Over, Statement};
use crate::check::checker::{Checker, Current};
use crate::check::presence::Presence;
use crate::check::scopes::Binding;
use crate::check::tiles::OperandTile;
use crate::signature::ParameterKind;
use crate::tree::{CheckedKeyLoop, CheckedPush, KeyStep, Node, TypedValue};
use crate::types::ValueType;
use proc_macro2::Ident;

impl Checker<'_> {
    pub fn key_loop(&mut self, key_loop: &ast::Loop, accumulators: &[&ast::AccumulatorLet]) -> Option<CheckedKeyLoop> {
        self.loops_left = self.loops_left.saturating_sub(1);
        let key = self.key_of(key_loop);
        if let Some(key) = key {
            self.needs.keys[key] = Presence::Found;
        } else {
            self.needs.doubt();
        }
        self.needs.push_of_loop = Presence::Missing;
        self.scopes.enter();
        // A loop over something else is checked as if it were over the first keys.
        let binding = key.map_or(Binding::Reported, Binding::KeyTile);
        self.bind_loop(&key_loop.head.variable, binding);
        self.current = Some(Current {
            key: key.unwrap_or(0),
            variable: key_loop.head.variable.clone(),
            depth: self.scopes.depth(),
            dots: Vec::new(),
        });
        let mut steps = Vec::new();
        let mut has_push = false;
        let statements = &key_loop.body.statements;
        // An assignment may be a push that was meant.
        let may_push = |statement: &Statement| match statement {
            Statement::Push(_) | Statement::Assignment(_) => true,
            Statement::Value(value, _) => value.mentions(accumulators) || matches!(value.kind, ExprKind::If(..)),
            _ => false,
        };
        let last_push = statements.iter().rposition(may_push);
        for (nth, statement) in statements.iter().enumerate() {
            match &*self.meant_statement(statement) {
                Statement::Push(push) => {
                    (self.needs.push_of_loop, has_push) = (Presence::Found, true);
                    steps.extend(self.push(push, key).map(KeyStep::Push));
                }
                Statement::Let(binding) if has_push && last_push.is_none_or(|last| last < nth) => {
                    let message = "nothing comes after the `push` of a loop";
                    self.errors.push(binding.name.span(), message, "move this line before the `push`, or remove it");
                }
                Statement::Let(binding) => {
                    // It may be a push that was reported.
                    if binding.value.is_reported() {
                        self.needs.doubt();
                    }
                    steps.push(KeyStep::Let(self.binding(binding)));
                }
                Statement::Accumulator(accumulator) => {
                    self.needs.doubt();
                    let message = "the accumulator is made before the loop over the keys";
                    let help = format!("move `let mut {} = …;` above this loop", accumulator.name);
                    self.errors.push(accumulator.name.span(), message, help);
                }
                Statement::Loop(inner) => {
                    self.needs.doubt();
                    self.nested(inner);
                }
                Statement::Value(value, _)
                    if value.names(accumulators)
                        || matches!(value.kind, ExprKind::Tuple(_)) && value.mentions(accumulators) =>
                {
                    self.needs.output = Presence::Reported;
                    let message = "the accumulator is returned after the loop over the keys";
                    self.errors.push(value.source, message, format!("move `{value}` below this loop"));
                }
                Statement::Value(value, _) => {
                    if value.is_reported() {
                        self.needs.doubt();
                    }
                    self.unused_value(value);
                }
                Statement::Assignment(_) | Statement::Constant(_) => unreachable!("something else was meant"),
            }
        }
        if has_push {
            self.needs.push = Presence::Found;
        }
        if self.needs.push_of_loop == Presence::Missing {
            let name = accumulators.first().map_or("o".to_string(), |accumulator| accumulator.name.to_string());
            let values = self.tile_text(OperandTile::Values);
            self.errors.push(
                key_loop.head.keyword,
                "this loop over keys pushes nothing",
                format!("write `{name}.push(score, {values});` as its last line"),
            );
            self.needs.doubt();
        }
        self.scopes.leave();
        let dots = self.current.take().map(|current| current.dots).unwrap_or_default();
        // The set is known when all loops are.
        Some(CheckedKeyLoop { set: key?, dots, steps })
    }

    /// The place of the key parameter that a loop goes over.
    fn key_of(&self, key_loop: &ast::Loop) -> Option<usize> {
        let help = |key: &str| format!("write `for {} in {key}.tiles()`", key_loop.head.variable);
        match &key_loop.head.over {
            Over::Tiles(name) => match self.scopes.find(name) {
                Some(Binding::Key(key)) => return Some(key),
                Some(Binding::Query(_)) => {
                    self.errors.push(name.span(), "loops over the queries are not nested", help(&self.key_name(0)))
                }
                Some(Binding::Value(value)) => {
                    let message = format!("a loop goes over a `Key`, and `{name}` is a `Value`");
                    self.errors.push(name.span(), message, help(&self.key_name(value)));
                }
                Some(Binding::Reported) => {}
                Some(binding) => {
                    let message = format!("a loop goes over tiles, and `{name}` is {}", binding.description());
                    self.errors.push(name.span(), message, help(&self.key_name(0)));
                }
                None => self.unknown_tiles(name, ParameterKind::Key),
            },
            Over::Other(source, name) => {
                let key = match name.as_ref().and_then(|name| self.scopes.find(name)) {
                    Some(Binding::Key(key)) => key,
                    _ => 0,
                };
                self.errors.push(*source, "a loop goes over tiles", help(&self.key_name(key)));
            }
        }
        None
    }

    fn nested(&self, inner: &ast::Loop) {
        match &inner.head.over {
            Over::Tiles(name) if matches!(self.scopes.find(name), Some(Binding::Query(_))) => self.errors.push(
                inner.head.keyword,
                "loops over the queries are not nested",
                "an attention has one loop over its queries, the outermost",
            ),
            _ => self.errors.push(
                inner.head.keyword,
                "loops over keys are not nested",
                "write them one after another; each pushes into the same accumulator",
            ),
        }
    }

    /// Checks a push.
    fn push(&mut self, push: &ast::PushStatement, key: Option<usize>) -> Option<CheckedPush> {
        let name = &push.accumulator;
        let accumulator = match self.scopes.find(name) {
            Some(Binding::Accumulator(number)) => {
                if let Some(declared) = self.accumulators.get_mut(number) {
                    declared.is_pushed = true;
                }
                Some(number)
            }
            Some(Binding::Reported) => None,
            None => {
                self.unknown_accumulator(name);
                self.accumulators.iter_mut().for_each(|accumulator| accumulator.is_pushed = true);
                None
            }
            Some(binding) => {
                let accumulator = self.accumulator_name();
                let message = format!("expected the accumulator, found {}", binding.description());
                let arguments: Vec<String> = push.arguments.iter().map(Expression::to_string).collect();
                let help = format!("write `{accumulator}.{}({})`", push.name(), arguments.join(", "));
                self.errors.push(name.span(), message, help);
                None
            }
        };
        let (score, weight, value) = match (&push.arguments[..], push.weighted) {
            ([score, value], false) => (score, None, value),
            ([score, weight, value], true) => (score, Some(weight), value),
            _ => {
                self.wrong_count(push, key);
                return None;
            }
        };
        let values = self.values(value);
        match values {
            Some((ParameterKind::Key, place, _)) => {
                self.needs.keys[place] = Presence::Found;
                self.join_keys(key.unwrap_or(place), place);
            }
            Some((_, place, _)) => self.join_pair(value, key, place),
            None => self.needs.doubt(),
        }
        let pushed = self.value_as(score, ValueType::Float);
        if pushed.ty == ValueType::Bool {
            let text = match self.scopes.all().find(|(_, binding)| *binding == Binding::Local(ValueType::Float, true)) {
                Some((score, _)) => score.to_string(),
                None => format!("{} * scale()", self.dot_text()),
            };
            let message = "expected a score, found bool";
            let help = format!("write `{}`", push.with_score(&format!("mask({text}, {score})")));
            self.errors.push(score.source, message, help);
            return None;
        }
        let score = self.expect(pushed, ValueType::Float, score);
        let weight = weight.map(|weight| self.weight(weight, name, value));
        let (kind, place, leading) = values?;
        Some(CheckedPush { accumulator: accumulator?, score, weight, values: self.operand(kind, place), leading })
    }

    /// Reports a push of too few or too many arguments.
    fn wrong_count(&mut self, push: &ast::PushStatement, key: Option<usize>) {
        self.needs.doubt();
        let name = &push.accumulator;
        let variable = self.current.as_ref().map_or("j".to_string(), |current| current.variable.to_string());
        let value_name = self.value_name(key.and_then(|key| self.pairs[key]).or(key).unwrap_or(0));
        let takes =
            if push.weighted { "a score, a weight and a tile of values" } else { "a score and a tile of values" };
        let message = format!("`{}` takes {takes}, found {} arguments", push.name(), push.arguments.len());
        let message = message.replace("1 arguments", "1 argument");
        let score = push.arguments.first().map_or("score".to_string(), Expression::to_string);
        let is_values = |expr: &Expression| match &expr.inner().kind {
            ExprKind::Index(name, _) => matches!(self.scopes.find(name), Some(Binding::Value(_))),
            ExprKind::Leading(..) => true,
            _ => false,
        };
        let help = match &push.arguments[..] {
            [_, weight, values] if is_values(values) => {
                format!("write `{name}.push_weighted({score}, {weight}, {values})`")
            }
            [_, values] if push.weighted && is_values(values) => {
                format!("write `{name}.push_weighted({score}, weight, {values})`, or `{name}.push({score}, {values})`")
            }
            [_, _, visible] if !push.weighted => format!(
                "if `{visible}` says which keys are seen, write `{name}.push(mask({score}, {visible}), {value_name}[{variable}])`"
            ),
            _ if push.weighted => format!("write `{name}.push_weighted({score}, weight, {value_name}[{variable}])`"),
            _ => format!("write `{name}.push({score}, {value_name}[{variable}])`"),
        };
        self.errors.push(push.method, message, help);
        if let Some(score) = push.arguments.first() {
            self.value(score);
        }
    }

    /// Checks what a weight is multiplied by.
    fn weight(&mut self, expr: &Expression, accumulator: &Ident, values: &Expression) -> TypedValue {
        let value = self.value_as(expr, ValueType::Float);
        if value.ty == ValueType::Bool {
            let help = format!("write `{}`: 1.0 where it is true, and 0.0 elsewhere", as_number(expr));
            self.errors.push(expr.source, "expected a weight, found bool", help);
            return self.reported(expr.source);
        }
        if self.is_masked(&value) {
            let mut at = expr.source;
            expr.visit(&mut |part| {
                if let ExprKind::Builtin(builtin, token, _) = &part.kind
                    && builtin.name == "mask"
                {
                    at = (*token).into();
                }
            });
            let message = "a weight has no mask: a hidden key has none";
            let help = format!("mask the score: `{accumulator}.push_weighted(mask(s, visible), w, {values})`");
            self.errors.push(at, message, help);
        }
        self.expect(value, ValueType::Float, expr)
    }

    /// Whether a mask is in `value`, or in a variable that it is made of.
    pub fn is_masked(&self, value: &TypedValue) -> bool {
        value.any(&mut |node| match node {
            Node::Lang { function, .. } => *function == "mask",
            Node::Local(name) => self.masked.iter().any(|masked| *name == *masked),
            _ => false,
        })
    }

    /// Remembers that the values at `place` go with the keys of the loop.
    fn join_pair(&mut self, value: &Expression, key: Option<usize>, place: usize) {
        let Some(key) = key else { return };
        let is_free = |kind: ParameterKind, looped: bool| {
            let mut parameters = self.signature.of_kind(kind);
            let is_used = |name: &Ident| self.uses.rank(name).is_some() || looped && self.uses.is_looped(name);
            parameters.position(|parameter| !is_used(&parameter.name))
        };
        let (free_key, free_value) = (is_free(ParameterKind::Key, true), is_free(ParameterKind::Value, false));
        let other_key = self.pairs.iter().position(|paired| *paired == Some(place)).filter(|other| *other != key);
        match (self.pairs[key].filter(|other| *other != place), other_key) {
            // Other keys are never used, which is what these values are of.
            (Some(other), _) if free_key.is_some() => {
                self.errors.push(
                    value.source,
                    format!(
                        "the keys `{}` already go with the values `{}`",
                        self.key_name(key),
                        self.value_name(other)
                    ),
                    format!("write `{}`", self.tile_text(OperandTile::Values)),
                );
                self.needs.doubt();
            }
            (_, Some(other)) if free_value.is_some() => {
                let variable = self.current.as_ref().map_or("j".to_string(), |current| current.variable.to_string());
                self.errors.push(
                    value.source,
                    format!(
                        "the values `{}` already go with the keys `{}`",
                        self.value_name(place),
                        self.key_name(other)
                    ),
                    format!("write `{}[{variable}]`", self.value_name(free_value.unwrap_or(place))),
                );
                self.needs.doubt();
            }
            _ => {
                self.pairs[key].get_or_insert(place);
                self.needs.values[place] = Presence::Found;
                self.join_values(key, place);
            }
        }
    }
}

/// The bool `expr` as a number.
fn as_number(expr: &Expression) -> String {
    format!("{} as f32", expr.operand())
}
