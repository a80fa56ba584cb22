//! Checks a loop over keys: what it goes over, what it pushes, and which values go with its keys.

use crate::ast::{self, Expression, Over, Statement};
use crate::check::checker::{Checker, Current};
use crate::check::presence::Presence;
use crate::check::scopes::Binding;
use crate::check::tiles::OperandTile;
use crate::signature::ParameterKind;
use crate::tree::{KeyLoop, TypedValue};
use crate::types::ValueType;

impl Checker<'_> {
    pub fn key_loop(&mut self, key_loop: &ast::Loop, accumulator: Option<&ast::AccumulatorLet>) -> Option<KeyLoop> {
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
        });
        let mut lets = Vec::new();
        let mut score = None;
        for statement in &key_loop.body.statements {
            match &*self.meant_statement(statement) {
                Statement::Push(push) if score.is_some() => self.errors.push(
                    push.method,
                    "a loop over keys pushes once",
                    format!(
                        "push from a loop of its own: `for j in {}.tiles() {{ … }}`",
                        self.key_name(key.unwrap_or(0))
                    ),
                ),
                Statement::Push(push) => {
                    self.needs.push_of_loop = Presence::Found;
                    score = Some(self.push(push, key));
                }
                Statement::Let(binding) if score.is_some() => {
                    let message = "nothing comes after the `push` of a loop";
                    self.errors.push(binding.name.span(), message, "move this line before the `push`, or remove it");
                }
                Statement::Let(binding) => {
                    // It may be a push that was reported.
                    if binding.value.is_reported() {
                        self.needs.doubt();
                    }
                    lets.push(self.binding(binding));
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
                Statement::Value(value, _) if value.names(accumulator) => {
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
        if score.is_some() {
            self.needs.push = Presence::Found;
        }
        if self.needs.push_of_loop == Presence::Missing {
            let name = accumulator.map_or("o".to_string(), |accumulator| accumulator.name.to_string());
            let value = self.value_name(key.unwrap_or(0));
            self.errors.push(
                key_loop.head.keyword,
                "this loop over keys pushes nothing",
                format!("write `{name}.push(score, {value}[{}]);` as its last line", key_loop.head.variable),
            );
            self.needs.doubt();
        }
        self.scopes.leave();
        self.current = None;
        Some(KeyLoop { pair: key?, lets, score: score? })
    }

    /// The place of the key parameter that a loop goes over.
    fn key_of(&self, key_loop: &ast::Loop) -> Option<usize> {
        let help = |key: &str| format!("write `for {} in {key}.tiles()`", key_loop.head.variable);
        match &key_loop.head.over {
            Over::Tiles(name) => match self.scopes.find(name) {
                Some(Binding::Key(key)) => return Some(key),
                Some(Binding::Query) => {
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
            Over::Tiles(name) if self.scopes.find(name) == Some(Binding::Query) => self.errors.push(
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

    /// Checks a push; the score that is pushed.
    fn push(&mut self, push: &ast::PushStatement, key: Option<usize>) -> TypedValue {
        let name = &push.accumulator;
        match self.scopes.find(name) {
            Some(Binding::Accumulator | Binding::Reported) => {}
            None => self.unknown_accumulator(name),
            Some(binding) => {
                let accumulator = self.scopes.all().find(|(_, binding)| *binding == Binding::Accumulator);
                let accumulator = accumulator.map_or("o", |(name, _)| name);
                let message = format!("expected the accumulator, found {}", binding.description());
                let arguments: Vec<String> = push.arguments.iter().map(Expression::to_string).collect();
                let help = format!("write `{accumulator}.push({})`", arguments.join(", "));
                self.errors.push(name.span(), message, help);
            }
        }
        let variable = self.current.as_ref().map_or("j".to_string(), |current| current.variable.to_string());
        let value_name = self.value_name(key.and_then(|key| self.pairs[key]).or(key).unwrap_or(0));
        let [score, value] = &push.arguments[..] else {
            self.needs.doubt();
            let message =
                format!("`push` takes a score and a tile of values, found {} arguments", push.arguments.len());
            let message = message.replace("1 arguments", "1 argument");
            let score = push.arguments.first().map_or("score".to_string(), Expression::to_string);
            let help = match &push.arguments[..] {
                [_, _, visible] => format!(
                    "if `{visible}` says which keys are seen, write `{name}.push(mask({score}, {visible}), {value_name}[{variable}])`"
                ),
                _ => format!("write `{name}.push({score}, {value_name}[{variable}])`"),
            };
            self.errors.push(push.method, message, help);
            return match push.arguments.first() {
                Some(score) => self.value(score),
                None => self.reported(push.method.into()),
            };
        };
        match self.tile(value, OperandTile::Values) {
            Some(place) => self.join_pair(value, key, place),
            None => self.needs.doubt(),
        }
        let pushed = self.value_as(score, ValueType::Float);
        if pushed.ty == ValueType::Bool {
            let text = match self.scopes.all().find(|(_, binding)| *binding == Binding::Local(ValueType::Float, true)) {
                Some((score, _)) => score.to_string(),
                None => format!("{} * scale()", self.dot_text()),
            };
            let message = "expected a score, found bool";
            self.errors.push(score.source, message, format!("write `{name}.push(mask({text}, {score}), {value})`"));
            return self.reported(score.source);
        }
        self.expect(pushed, ValueType::Float, score)
    }

    /// Remembers that the values at `place` go with the keys of the loop.
    fn join_pair(&mut self, value: &Expression, key: Option<usize>, place: usize) {
        let Some(key) = key else { return };
        // As many keys as values is reported with the signature.
        if self.needs.values.len() != self.needs.keys.len() {
            return;
        }
        if let Some(other) = self.pairs[key].filter(|other| *other != place) {
            self.errors.push(
                value.source,
                format!("the keys `{}` already go with the values `{}`", self.key_name(key), self.value_name(other)),
                format!("write `{}`", self.tile_text(OperandTile::Values)),
            );
            self.needs.doubt();
        } else if let Some(other) =
            self.pairs.iter().position(|paired| *paired == Some(place)).filter(|other| *other != key)
        {
            let free = (0..self.pairs.len()).find(|place| !self.pairs.contains(&Some(*place))).unwrap_or(key);
            let variable = self.current.as_ref().map_or("j".to_string(), |current| current.variable.to_string());
            self.errors.push(
                value.source,
                format!("the values `{}` already go with the keys `{}`", self.value_name(place), self.key_name(other)),
                format!("write `{}[{variable}]`", self.value_name(free)),
            );
            self.needs.doubt();
        } else {
            self.pairs[key] = Some(place);
            self.needs.values[place] = Presence::Found;
        }
    }
}
