//! Checks what a function says, and gives it with names resolved and types known. This file has what is outside of
//! expressions: loops, tiles, the accumulator; [`crate::value`] has the expressions.

use crate::ast::{self, AccumulatorKind, Block, Expr, ExprKind, Function, Kind, Over, ParameterKind, Signature, Statement};
use crate::error::Errors;
use crate::names;
use crate::scope::{Binding, Scopes};
use crate::typed::{Attention, Body, KeyLoop, Let, Node, Step, Value};
use crate::types::Type;
use proc_macro2::Ident;

/// What `function` says; meaningful only if `errors` stays empty.
pub fn function(function: &Function, errors: &Errors) -> Body {
    let mut checker = Checker::new(function, errors);
    match function.signature.kind {
        Kind::Attention => Body::Attention(checker.attention(&function.body)),
        kind => {
            let expected = if kind == Kind::Mask { Type::Bool } else { Type::Float };
            let value = checker.block(&function.body);
            let value = match ast::tail(&function.body) {
                Some(tail) => checker.expect(value, expected, tail),
                None => value,
            };
            Body::Value(kind, value)
        }
    }
}

/// The kinds of tiles.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tile {
    Queries,
    Keys,
    Values,
}

impl Tile {
    fn of(binding: Binding) -> Option<Tile> {
        match binding {
            Binding::Query => Some(Tile::Queries),
            Binding::Key(_) => Some(Tile::Keys),
            Binding::Value(_) => Some(Tile::Values),
            _ => None,
        }
    }

    fn description(self) -> &'static str {
        match self {
            Tile::Queries => "a tile of queries",
            Tile::Keys => "a tile of keys",
            Tile::Values => "a tile of values",
        }
    }
}

/// The loop over keys that is being checked.
struct Current {
    /// The key parameter's place among the keys.
    key: usize,
    variable: Ident,
}

pub struct Checker<'a> {
    pub errors: &'a Errors,
    pub signature: &'a Signature,
    pub scopes: Scopes,
    /// The variable of every loop and its head, to tell a misplaced variable from an unknown one.
    loops: Vec<(String, String)>,
    /// The variable of the loop over the queries.
    query_variable: Option<Ident>,
    current: Option<Current>,
    /// The place of the value parameter that goes with each key parameter.
    values: Vec<Option<usize>>,
    /// Whether each key parameter has a loop.
    looped: Vec<bool>,
    /// Whether a loop or a push was reported, and with it perhaps the only use of a parameter.
    uncertain: bool,
    /// Whether there is no accumulator, which was reported.
    no_accumulator: bool,
    pushed: bool,
}

impl<'a> Checker<'a> {
    fn new(function: &'a Function, errors: &'a Errors) -> Self {
        let signature = &function.signature;
        let mut loops = Vec::new();
        find_loops(&function.body, &mut loops);
        let keys = signature.of_kind(ParameterKind::Key).count();
        Checker {
            errors,
            signature,
            scopes: Scopes::of_parameters(signature),
            loops,
            query_variable: None,
            current: None,
            values: vec![None; keys],
            looped: vec![false; keys],
            uncertain: false,
            no_accumulator: false,
            pushed: false,
        }
    }

    /// Whether the statement that is being checked is in a loop over keys.
    pub fn in_key_loop(&self) -> bool {
        self.current.is_some()
    }

    fn attention(&mut self, body: &Block) -> Attention {
        let mut steps = None;
        let query = self.query_name();
        for statement in &body.statements {
            match statement {
                Statement::Loop(query_loop) if steps.is_none() => steps = Some(self.query_loop(query_loop)),
                Statement::Loop(second) => self.errors.push(
                    second.keyword,
                    "an attention has one loop over its queries",
                    "move what this loop does into the first one; a function has one output",
                ),
                Statement::Let(binding) => self.outside(&binding.name, &query),
                Statement::Accumulator(accumulator) => self.outside(&accumulator.name, &query),
                Statement::Push(push) => self.errors.push(
                    push.method,
                    "`push` belongs in a loop over the keys",
                    format!("write it in `for j in {}.tiles() {{ … }}`", self.key_name(0)),
                ),
                Statement::Value(value, _) if !value.is_wrong() => self.errors.push(
                    value.source,
                    "the body of an attention is a loop over its queries, and nothing else",
                    format!("move this into `for i in {query}.tiles() {{ … }}`"),
                ),
                Statement::Value(..) => self.uncertain = true,
            }
        }
        if steps.is_none() && !self.uncertain {
            let message = "the body of an attention is a loop over its queries, and there is none";
            self.errors.push(body.close, message, format!("write `for i in {query}.tiles() {{ … }}`"));
        } else {
            self.report_unused();
        }
        let name = |kind, place| self.signature.of_kind(kind).nth(place).map(|parameter| parameter.name.clone());
        let pair = |(key, value): (usize, &Option<usize>)| {
            Some((name(ParameterKind::Key, key)?, name(ParameterKind::Value, (*value)?)?))
        };
        Attention { pairs: self.values.iter().enumerate().filter_map(pair).collect(), steps: steps.unwrap_or_default() }
    }

    fn outside(&self, name: &Ident, query: &str) {
        let message = format!("`{name}` is outside of the loop over the queries");
        self.errors.push(name.span(), message, format!("move this line into `for i in {query}.tiles() {{ … }}`"));
    }

    fn query_loop(&mut self, query_loop: &ast::Loop) -> Vec<Step> {
        match &query_loop.over {
            Over::Tiles(name) => match self.scopes.find(name) {
                Some(Binding::Query) => {}
                Some(binding) => {
                    let message = format!("the outer loop goes over the queries, and `{name}` is {}", binding.description());
                    self.errors.push(name.span(), message, self.query_loop_help(query_loop));
                }
                None => self.unknown_name(name),
            },
            Over::Other(source, _) => {
                self.errors.push(*source, "a loop goes over tiles", self.query_loop_help(query_loop));
            }
        }
        let body = &query_loop.body;
        let accumulator = body.statements.iter().find_map(|statement| match statement {
            Statement::Accumulator(accumulator) => Some(accumulator),
            _ => None,
        });
        if accumulator.is_none() {
            self.no_accumulator = true;
            let message = "this loop over the queries has no accumulator";
            self.errors.push(query_loop.keyword, message, "write `let mut o = Softmax::new();` as its first line");
        }

        self.scopes.enter();
        self.bind_loop(&query_loop.variable, Binding::QueryTile);
        self.query_variable = Some(query_loop.variable.clone());
        let mut steps = Vec::new();
        let mut key_loops = 0;
        let last = body.statements.len().saturating_sub(1);
        for (place, statement) in body.statements.iter().enumerate() {
            match statement {
                Statement::Let(binding) => steps.push(Step::Let(self.binding(binding))),
                Statement::Accumulator(found) => steps.extend(self.accumulator(found, accumulator)),
                Statement::Loop(key_loop) => {
                    key_loops += 1;
                    steps.extend(self.key_loop(key_loop, accumulator).map(Step::Loop));
                }
                Statement::Push(push) => {
                    self.pushed = true;
                    self.errors.push(
                        push.method,
                        "`push` belongs in a loop over the keys",
                        format!("write it in `for j in {}.tiles() {{ … }}`", self.key_name(0)),
                    );
                }
                Statement::Value(value, None) if place == last => self.output(value, accumulator),
                Statement::Value(value, Some(semicolon)) if place == last && names_accumulator(value, accumulator) => {
                    let help = format!("remove the `;`: write `{value}`");
                    self.errors.push(*semicolon, "the accumulator is not returned from the loop over the queries", help);
                }
                Statement::Value(value, _) => self.unused_value(value),
            }
        }
        self.scopes.leave();

        let returned = match body.statements.last() {
            Some(Statement::Value(value, end)) => end.is_none() || value.is_wrong() || names_accumulator(value, accumulator),
            _ => false,
        };
        if let Some(accumulator) = accumulator {
            let name = &accumulator.name;
            if !returned {
                let message = format!("the loop over the queries does not return its accumulator `{name}`");
                self.errors.push(body.close, message, format!("write `{name}` as its last line, without `;`"));
            }
            if !self.pushed && key_loops == 0 {
                let (key, value) = (self.key_name(0), self.value_name(0));
                self.errors.push(
                    name.span(),
                    format!("the accumulator `{name}` is never pushed to"),
                    format!("write `for j in {key}.tiles() {{ {name}.push(dot(q[i], {key}[j]) * scale(), {value}[j]); }}`"),
                );
            }
        }
        steps
    }

    fn query_loop_help(&self, query_loop: &ast::Loop) -> String {
        format!("write `for {} in {}.tiles()`", query_loop.variable, self.query_name())
    }

    fn accumulator(&mut self, found: &ast::Accumulator, first: Option<&ast::Accumulator>) -> Option<Step> {
        let name = &found.name;
        if let Some(first) = first.filter(|first| !std::ptr::eq(*first, found)) {
            let message = "an attention has one accumulator";
            self.errors.push(name.span(), message, format!("remove `{name}`, and push to `{}`", first.name));
            self.scopes.bind(name, Binding::Accumulator);
            return None;
        }
        if !found.mutable {
            let message = format!("`{name}` is pushed to, and is not `mut`");
            self.errors.push(name.span(), message, format!("write `let mut {name}`"));
        }
        let step = match found.kind.as_ref() {
            Some(AccumulatorKind::Softmax(None)) => Some(Step::Softmax(None)),
            Some(AccumulatorKind::Softmax(Some(sink))) => {
                let value = self.value(sink);
                Some(Step::Softmax(Some(self.expect(value, Type::Float, sink))))
            }
            Some(AccumulatorKind::Sum) => Some(Step::Sum),
            Some(AccumulatorKind::Mean) => Some(Step::Mean),
            None => None,
        };
        self.scopes.bind(name, Binding::Accumulator);
        step
    }

    /// The value of the loop over the queries, which is its accumulator.
    fn output(&mut self, value: &Expr, accumulator: Option<&ast::Accumulator>) {
        let Some(accumulator) = accumulator else { return };
        if names_accumulator(value, Some(accumulator)) || value.is_wrong() {
            return;
        }
        self.errors.push(
            value.source,
            format!("expected the accumulator `{}`, which the loop over the queries returns", accumulator.name),
            format!("write `{}`", accumulator.name),
        );
    }

    fn key_loop(&mut self, key_loop: &ast::Loop, accumulator: Option<&ast::Accumulator>) -> Option<KeyLoop> {
        let key = self.key_of(key_loop);
        if let Some(key) = key {
            self.looped[key] = true;
        } else {
            self.uncertain = true;
        }
        self.scopes.enter();
        // A loop over something else is checked as if it were over the first keys.
        let binding = key.map_or(Binding::Wrong, Binding::KeyTile);
        self.bind_loop(&key_loop.variable, binding);
        self.current = Some(Current { key: key.unwrap_or(0), variable: key_loop.variable.clone() });
        let mut lets = Vec::new();
        let mut score = None;
        let mut uncertain = false;
        for statement in &key_loop.body.statements {
            match statement {
                Statement::Push(push) if score.is_some() => self.errors.push(
                    push.method,
                    "a loop over keys pushes once",
                    format!("push from a loop of its own: `for j in {}.tiles() {{ … }}`", self.key_name(key.unwrap_or(0))),
                ),
                Statement::Push(push) => score = Some(self.push(push, key)),
                Statement::Let(binding) if score.is_some() => {
                    let message = "nothing comes after the `push` of a loop";
                    self.errors.push(binding.name.span(), message, "move this line before the `push`, or remove it");
                }
                Statement::Let(binding) => lets.push(self.binding(binding)),
                Statement::Accumulator(accumulator) => {
                    uncertain = true;
                    let message = "the accumulator is made before the loop over the keys";
                    let help = format!("move `let mut {} = …;` above this loop", accumulator.name);
                    self.errors.push(accumulator.name.span(), message, help);
                }
                Statement::Loop(inner) => {
                    uncertain = true;
                    self.uncertain = true;
                    self.nested(inner);
                }
                Statement::Value(value, _) if names_accumulator(value, accumulator) => self.errors.push(
                    value.source,
                    "the accumulator is returned after the loop over the keys",
                    format!("move `{value}` below this loop"),
                ),
                Statement::Value(value, _) => {
                    uncertain |= value.is_wrong();
                    self.unused_value(value);
                }
            }
        }
        self.pushed |= score.is_some();
        if score.is_none() && !uncertain {
            let name = accumulator.map_or("o".to_string(), |accumulator| accumulator.name.to_string());
            let value = self.value_name(key.unwrap_or(0));
            self.errors.push(
                key_loop.keyword,
                "this loop over keys pushes nothing",
                format!("write `{name}.push(score, {value}[{}]);` as its last line", key_loop.variable),
            );
            self.uncertain = true;
        }
        self.uncertain |= uncertain;
        self.scopes.leave();
        self.current = None;
        Some(KeyLoop { pair: key?, lets, score: score? })
    }

    /// The place of the key parameter that a loop goes over.
    fn key_of(&self, key_loop: &ast::Loop) -> Option<usize> {
        let help = |key: &str| format!("write `for {} in {key}.tiles()`", key_loop.variable);
        match &key_loop.over {
            Over::Tiles(name) => match self.scopes.find(name) {
                Some(Binding::Key(key)) => return Some(key),
                Some(Binding::Query) => self.errors.push(
                    name.span(),
                    "loops over the queries are not nested",
                    help(&self.key_name(0)),
                ),
                Some(Binding::Value(value)) => {
                    let message = format!("a loop goes over keys, and `{name}` is values");
                    self.errors.push(name.span(), message, help(&self.key_name(value)));
                }
                Some(Binding::Wrong) => {}
                Some(binding) => {
                    let message = format!("a loop goes over tiles, and `{name}` is {}", binding.description());
                    self.errors.push(name.span(), message, help(&self.key_name(0)));
                }
                None => self.unknown_name(name),
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
        match &inner.over {
            Over::Tiles(name) if self.scopes.find(name) == Some(Binding::Query) => self.errors.push(
                inner.keyword,
                "loops over the queries are not nested",
                "an attention has one loop over its queries, the outermost",
            ),
            _ => self.errors.push(
                inner.keyword,
                "loops over keys are not nested",
                "write them one after another; each pushes into the same accumulator",
            ),
        }
    }

    fn bind_loop(&mut self, variable: &Ident, binding: Binding) {
        let taken = self.scopes.find(variable);
        if self.scopes.is_parameter(variable) || matches!(taken, Some(Binding::QueryTile | Binding::Accumulator)) {
            let what = taken.map_or("a parameter", |_| if self.scopes.is_parameter(variable) { "a parameter" } else { "in use" });
            let message = format!("the variable of a loop can't be named `{variable}`: that is {what}");
            let name = if binding == Binding::QueryTile { "i" } else { "j" };
            let name = if self.scopes.find(&name).is_none() { name } else { "position" };
            self.errors.push(variable.span(), message, format!("rename it, such as `{name}`"));
        }
        self.scopes.bind(variable, binding);
    }

    /// Checks a `let`, and makes its name known.
    pub fn binding(&mut self, binding: &ast::Let) -> Let {
        let mut value = self.value(&binding.value);
        if let Some((ty, _)) = binding.ty {
            value = self.expect(value, ty, &binding.value);
            value.ty = ty;
        }
        self.scopes.bind(&binding.name, Binding::Local(value.ty, value.score));
        Let { name: binding.name.clone(), ty: binding.ty, value }
    }

    /// Checks a push; the score that is pushed.
    fn push(&mut self, push: &ast::Push, key: Option<usize>) -> Value {
        let name = &push.accumulator;
        match self.scopes.find(name) {
            Some(Binding::Accumulator | Binding::Wrong) => {}
            None if self.no_accumulator => {}
            None => self.unknown_name(name),
            Some(binding) => {
                let accumulator = self.scopes.all().find(|(_, binding)| *binding == Binding::Accumulator);
                let accumulator = accumulator.map_or("o", |(name, _)| name);
                let message = format!("expected the accumulator, found {}", binding.description());
                self.errors.push(name.span(), message, format!("write `{accumulator}.push(…)`"));
            }
        }
        let variable = self.current.as_ref().map_or("j".to_string(), |current| current.variable.to_string());
        let value_name = self.value_name(key.and_then(|key| self.values[key]).or(key).unwrap_or(0));
        let [score, value] = &push.arguments[..] else {
            self.uncertain = true;
            let message = format!("`push` takes a score and a tile of values, found {} arguments", push.arguments.len());
            let message = message.replace("1 arguments", "1 argument");
            let score = push.arguments.first().map_or("score".to_string(), Expr::to_string);
            self.errors.push(push.method, message, format!("write `{name}.push({score}, {value_name}[{variable}])`"));
            return match push.arguments.first() {
                Some(score) => self.value(score),
                None => self.wrong(push.method.into()),
            };
        };
        match self.tile(value, Tile::Values) {
            Some(place) => self.join_pair(value, key, place),
            None => self.uncertain = true,
        }
        let pushed = self.value(score);
        if pushed.ty == Type::Bool {
            let text = match self.scopes.all().find(|(_, binding)| *binding == Binding::Local(Type::Float, true)) {
                Some((score, _)) => score.to_string(),
                None => format!("{} * scale()", self.dot_text()),
            };
            let message = "expected a score, found bool";
            self.errors.push(score.source, message, format!("write `{name}.push(mask({text}, {score}), {value})`"));
            return self.wrong(score.source);
        }
        self.expect(pushed, Type::Float, score)
    }

    /// `dot(q[i], k[j])` with the names of this loop.
    fn dot_text(&self) -> String {
        format!("dot({}, {})", self.tile_text(Tile::Queries), self.tile_text(Tile::Keys))
    }

    /// A tile of the current loops, as it is written.
    fn tile_text(&self, tile: Tile) -> String {
        let query = self.query_variable.as_ref().map_or("i".to_string(), Ident::to_string);
        let (key, variable) = match &self.current {
            Some(current) => (current.key, current.variable.to_string()),
            None => (0, "j".to_string()),
        };
        match tile {
            Tile::Queries => format!("{}[{query}]", self.query_name()),
            Tile::Keys => format!("{}[{variable}]", self.key_name(key)),
            Tile::Values => {
                let place = self.values.get(key).copied().flatten().unwrap_or(key);
                format!("{}[{variable}]", self.value_name(place))
            }
        }
    }

    /// Remembers that the values at `place` go with the keys of the loop.
    fn join_pair(&mut self, value: &Expr, key: Option<usize>, place: usize) {
        let Some(key) = key else { return };
        // As many keys as values is reported with the signature.
        if self.signature.of_kind(ParameterKind::Value).count() != self.values.len() {
            return;
        }
        if let Some(other) = self.values[key].filter(|other| *other != place) {
            self.errors.push(
                value.source,
                format!("the keys `{}` already go with the values `{}`", self.key_name(key), self.value_name(other)),
                format!("write `{}`", self.tile_text(Tile::Values)),
            );
            self.uncertain = true;
        } else if let Some(other) = self.values.iter().position(|paired| *paired == Some(place)).filter(|other| *other != key) {
            let free = (0..self.values.len()).find(|place| !self.values.contains(&Some(*place))).unwrap_or(key);
            let variable = self.current.as_ref().map_or("j".to_string(), |current| current.variable.to_string());
            self.errors.push(
                value.source,
                format!("the values `{}` already go with the keys `{}`", self.value_name(place), self.key_name(other)),
                format!("write `{}[{variable}]`", self.value_name(free)),
            );
            self.uncertain = true;
        } else {
            self.values[key] = Some(place);
        }
    }

    /// Checks `dot(a, b)`.
    pub fn dot(&mut self, arguments: &[Expr]) {
        let is_query = |expr: &Expr| match &expr.inner().kind {
            ExprKind::Index(name, _) | ExprKind::Name(name) => self.scopes.find(name) == Some(Binding::Query),
            _ => false,
        };
        let [a, b] = arguments else { return };
        let swapped = !is_query(a) && is_query(b);
        let (query, key) = if swapped { (b, a) } else { (a, b) };
        self.tile(query, Tile::Queries);
        self.tile(key, Tile::Keys);
    }

    /// Checks that `expr` is a tile of the kind `wanted` in the current loops; the place of its parameter.
    fn tile(&self, expr: &Expr, wanted: Tile) -> Option<usize> {
        let text = self.tile_text(wanted);
        let help = format!("write `{text}`");
        let (name, index) = match &expr.inner().kind {
            ExprKind::Index(name, index) => (name, index),
            ExprKind::Wrong => return None,
            _ => {
                let message = format!("expected {}", wanted.description());
                self.errors.push(expr.source, message, help);
                return None;
            }
        };
        let binding = match self.scopes.find(name) {
            Some(Binding::Wrong) => return None,
            Some(binding) => binding,
            None => {
                self.unknown_name(name);
                return None;
            }
        };
        let found = Tile::of(binding);
        if found != Some(wanted) {
            let found = found.map_or("an element of another tensor", Tile::description);
            self.errors.push(name.span(), format!("expected {}, found {found}", wanted.description()), help);
            return None;
        }
        let [index] = &index[..] else {
            self.errors.push(index[1].source, format!("{} has one index", wanted.description()), help);
            return None;
        };
        let ExprKind::Name(variable) = &index.inner().kind else {
            if !index.is_wrong() {
                self.errors.push(index.source, "a tile is taken by the variable of its loop", help);
            }
            return None;
        };
        let tiled = match self.scopes.find(variable) {
            Some(tiled) => tiled,
            None => {
                self.unknown_name(variable);
                return None;
            }
        };
        let (place, fits) = match (binding, tiled) {
            (Binding::Query, tiled) => (0, tiled == Binding::QueryTile),
            (Binding::Key(key), Binding::KeyTile(tiled)) => (key, key == tiled),
            (Binding::Value(value), Binding::KeyTile(_)) => (value, true),
            (Binding::Key(place) | Binding::Value(place), _) => (place, tiled == Binding::Wrong),
            _ => (0, false),
        };
        if fits {
            return Some(place);
        }
        let tiles_of = match tiled {
            Binding::QueryTile => format!("a tile of `{}`", self.query_name()),
            Binding::KeyTile(key) => format!("a tile of `{}`", self.key_name(key)),
            other => other.description().to_string(),
        };
        let message = format!("expected a tile of `{name}`, and `{variable}` is {tiles_of}");
        self.errors.push(variable.span(), message, help);
        None
    }

    /// Reports that nothing is known by `name`.
    pub fn unknown_name(&self, name: &Ident) {
        let text = name.to_string();
        if let Some((_, head)) = self.loops.iter().find(|(variable, _)| *variable == text) {
            let message = format!("`{text}` is known only inside its loop, `{head}`");
            self.errors.push(name.span(), message, format!("move this into `{head} {{ … }}`"));
            return;
        }
        let message = format!("cannot find `{text}` in this function");
        let help = if let Some(builtin) = names::find(&text) {
            format!("call the function: `{}`", builtin.usage)
        } else if let Some(nearest) = names::nearest(&text, self.scopes.all().map(|(name, _)| name)) {
            format!("write `{nearest}`")
        } else {
            format!("take it as a parameter: `{text}: u32`, `f32` or a `Tensor<f32, 1>`")
        };
        self.errors.push(name.span(), message, help);
    }

    fn unused_value(&mut self, value: &Expr) {
        if value.is_wrong() {
            return;
        }
        self.value(value);
        self.errors.push(value.source, "this value is not used", format!("write `let x = {value};`, or remove it"));
    }

    fn report_unused(&self) {
        if self.uncertain {
            return;
        }
        let values = self.signature.of_kind(ParameterKind::Value).count();
        for (place, parameter) in self.signature.of_kind(ParameterKind::Key).enumerate() {
            if !self.looped[place] {
                let (key, value) = (&parameter.name, self.value_name(place));
                self.errors.push(
                    key.span(),
                    format!("the keys `{key}` are never used"),
                    format!("write `for j in {key}.tiles() {{ o.push(score, {value}[j]); }}`, or remove `{key}` and its values"),
                );
            }
        }
        if values == self.values.len() && self.looped.iter().all(|looped| *looped) {
            for (place, parameter) in self.signature.of_kind(ParameterKind::Value).enumerate() {
                if !self.values.contains(&Some(place)) {
                    let value = &parameter.name;
                    let message = format!("the values `{value}` are never used");
                    self.errors.push(value.span(), message, format!("push them: `o.push(score, {value}[j]);`"));
                }
            }
        }
    }

    fn name_of(&self, kind: ParameterKind, place: usize, otherwise: &str) -> String {
        let mut parameters = self.signature.of_kind(kind);
        parameters.nth(place).map_or(otherwise.to_string(), |parameter| parameter.name.to_string())
    }

    fn query_name(&self) -> String {
        self.name_of(ParameterKind::Query, 0, "q")
    }

    fn key_name(&self, place: usize) -> String {
        self.name_of(ParameterKind::Key, place, "k")
    }

    fn value_name(&self, place: usize) -> String {
        self.name_of(ParameterKind::Value, place, "v")
    }

    /// A value that was reported.
    pub fn wrong(&self, source: crate::error::Source) -> Value {
        Value { node: Node::Wrong, ty: Type::Wrong, score: false, source }
    }

    /// What to write for a value of `name`, which stands for tiles.
    pub fn tile_help(&self, binding: Binding) -> String {
        match binding {
            Binding::Value(_) => format!("push them: `o.push(score, {})`", self.tile_text(Tile::Values)),
            _ => format!("take the product of queries and keys: `{}`", self.dot_text()),
        }
    }
}

/// Whether `value` is the name of `accumulator`.
fn names_accumulator(value: &Expr, accumulator: Option<&ast::Accumulator>) -> bool {
    match (&value.kind, accumulator) {
        (ExprKind::Name(name), Some(accumulator)) => *name == accumulator.name,
        _ => false,
    }
}

/// The variable and the head of every loop in `block`.
fn find_loops(block: &Block, loops: &mut Vec<(String, String)>) {
    for statement in &block.statements {
        if let Statement::Loop(found) = statement {
            if let Over::Tiles(over) = &found.over {
                loops.push((found.variable.to_string(), format!("for {} in {over}.tiles()", found.variable)));
            }
            find_loops(&found.body, loops);
        }
    }
}
