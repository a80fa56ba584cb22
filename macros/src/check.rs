//! Checks what a function says, and gives it with names resolved and types known.
//!
//! This file has the outer loop and the accumulator; [`crate::check_keys`] has the loops over keys, [`crate::check_tiles`]
//! the tiles, and [`crate::check_value`] the expressions.

use crate::ast::{
    self, AccumulatorKind, Block, Expr, ExprKind, Function, Kind, Over, ParameterKind, Signature, Statement,
};
use crate::error::Errors;
use crate::names;
use crate::scope::{Binding, Scopes};
use crate::typed::{Attention, Body, Let, Node, Step, Value};
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
                Some(tail) if function.signature.has_output => checker.expect(value, expected, tail),
                _ => value,
            };
            Body::Value(kind, value)
        }
    }
}

/// The loop over keys that is being checked.
pub struct Current {
    /// The key parameter's place among the keys.
    pub key: usize,
    pub variable: Ident,
}

pub struct Checker<'a> {
    pub errors: &'a Errors,
    pub signature: &'a Signature,
    pub scopes: Scopes,
    /// The variable of every loop and its head, to tell a misplaced variable from an unknown one.
    pub loops: Vec<(String, String)>,
    /// The variable of the loop over the queries.
    pub query_variable: Option<Ident>,
    pub current: Option<Current>,
    /// The place of the value parameter that goes with each key parameter.
    pub values: Vec<Option<usize>>,
    /// Whether each key parameter has a loop.
    pub looped: Vec<bool>,
    /// Whether a loop or a push was reported, and with it perhaps the only use of a parameter.
    pub uncertain: bool,
    /// Whether there is no accumulator, which was reported.
    pub no_accumulator: bool,
    pub pushed: bool,
    /// Whether the accumulator is returned from a loop over keys, which was reported.
    pub returned_early: bool,
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
            returned_early: false,
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
                    let message =
                        format!("the outer loop goes over the `Query`, and `{name}` is {}", binding.description());
                    self.errors.push(name.span(), message, self.query_loop_help(query_loop));
                }
                // A missing `Query` is reported with the signature.
                None if !self.has(ParameterKind::Query) => self.uncertain = true,
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
                    self.errors.push(
                        *semicolon,
                        "the accumulator is not returned from the loop over the queries",
                        help,
                    );
                }
                Statement::Value(value, _) => {
                    self.uncertain |= value.is_wrong();
                    self.unused_value(value);
                }
            }
        }
        self.scopes.leave();

        let returned = match body.statements.last() {
            Some(Statement::Value(value, end)) => {
                end.is_none() || value.is_wrong() || names_accumulator(value, accumulator)
            }
            _ => false,
        };
        if let Some(accumulator) = accumulator {
            let name = &accumulator.name;
            if !returned && !self.returned_early {
                let message = format!("the loop over the queries does not return its accumulator `{name}`");
                self.errors.push(body.close, message, format!("write `{name}` as its last line, without `;`"));
            }
            if !self.pushed && key_loops == 0 && !self.uncertain {
                self.uncertain = true;
                let (key, value) = (self.key_name(0), self.value_name(0));
                self.errors.push(
                    name.span(),
                    format!("the accumulator `{name}` is never pushed to"),
                    format!(
                        "write `for j in {key}.tiles() {{ {name}.push(dot(q[i], {key}[j]) * scale(), {value}[j]); }}`"
                    ),
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
                let value = self.value_as(sink, Type::Float);
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

    pub fn bind_loop(&mut self, variable: &Ident, binding: Binding) {
        let taken = self.scopes.find(variable);
        if self.scopes.is_parameter(variable) || matches!(taken, Some(Binding::QueryTile | Binding::Accumulator)) {
            let what = taken
                .map_or("a parameter", |_| if self.scopes.is_parameter(variable) { "a parameter" } else { "in use" });
            let message = format!("the variable of a loop can't be named `{variable}`: that is {what}");
            let name = if binding == Binding::QueryTile { "i" } else { "j" };
            let name = if self.scopes.find(&name).is_none() { name } else { "position" };
            self.errors.push(variable.span(), message, format!("rename it, such as `{name}`"));
            return self.scopes.bind(variable, Binding::Wrong);
        }
        self.scopes.bind(variable, binding);
    }

    /// Checks a `let`, and makes its name known.
    pub fn binding(&mut self, binding: &ast::Let) -> Let {
        let mut value = match binding.ty {
            Some((ty, _)) => self.value_as(&binding.value, ty),
            None => self.value(&binding.value),
        };
        if let Some((ty, _)) = binding.ty {
            value = self.expect(value, ty, &binding.value);
            value.ty = ty;
        }
        self.scopes.bind(&binding.name, Binding::Local(value.ty, value.score));
        Let { name: binding.name.clone(), ty: binding.ty, value }
    }

    /// Reports that nothing is known by `name`.
    pub fn unknown_name(&self, name: &Ident) {
        self.unknown(name, "u32");
    }

    /// The value of `expr`, which is wanted of type `ty`: so is a parameter that is missing.
    pub fn value_as(&mut self, expr: &Expr, ty: Type) -> Value {
        match &expr.inner().kind {
            ExprKind::Name(name) if self.is_unknown(expr) => {
                let ty = match ty {
                    Type::Float => "f32",
                    Type::Bool => "bool",
                    _ => "u32",
                };
                self.unknown(name, ty);
                self.wrong(expr.source)
            }
            _ => self.value(expr),
        }
    }

    /// The values of both, where an unknown name is taken to be of the other's type.
    pub fn value_pair(&mut self, a: &Expr, b: &Expr) -> (Value, Value) {
        if self.is_unknown(a) && !self.is_unknown(b) {
            let b = self.value(b);
            return (self.value_as(a, b.ty), b);
        }
        let a = self.value(a);
        let b = self.value_as(b, a.ty);
        (a, b)
    }

    /// Whether `expr` is a name that is not known.
    fn is_unknown(&self, expr: &Expr) -> bool {
        matches!(&expr.inner().kind, ExprKind::Name(name) if self.scopes.find(name).is_none())
    }

    /// Reports that nothing is known by `name`, which may be meant as a parameter of type `ty`.
    pub fn unknown(&self, name: &Ident, ty: &str) {
        let text = name.to_string();
        if let Some((_, head)) = self.loops.iter().find(|(variable, _)| *variable == text) {
            let message = format!("`{text}` is known only inside its loop, `{head}`");
            self.errors.push(name.span(), message, format!("move this into `{head} {{ … }}`"));
            return;
        }
        if let Some(builtin) = names::find(&text) {
            let message = format!("`{text}` is a function of the language, not a value");
            self.errors.push(name.span(), message, format!("call it: `{}`", builtin.usage));
            return;
        }
        let message = format!("cannot find `{text}` in this function");
        let help = if let Some(nearest) = names::nearest(&text, self.scopes.all().map(|(name, _)| name)) {
            format!("write `{nearest}`")
        } else {
            let parameter = format!("add a parameter, such as `{text}: {ty}`");
            if text.chars().any(char::is_lowercase) {
                parameter
            } else {
                format!("{parameter}; constants of Rust are not visible in the body")
            }
        };
        self.errors.push(name.span(), message, help);
    }

    pub fn unused_value(&mut self, value: &Expr) {
        if value.is_wrong() {
            return;
        }
        self.value(value);
        self.errors.push(value.source, "this value is not used", format!("write `let x = {value};`, or remove it"));
    }

    fn report_unused(&self) {
        // As many keys as values is reported with the signature.
        if self.uncertain || self.signature.of_kind(ParameterKind::Value).count() != self.values.len() {
            return;
        }
        for (place, parameter) in self.signature.of_kind(ParameterKind::Key).enumerate() {
            if !self.looped[place] {
                let (key, value) = (&parameter.name, self.value_name(place));
                let code = format!("for j in {key}.tiles() {{ o.push(score, {value}[j]); }}");
                let help = format!("write `{code}`, or remove `{key}` and its values");
                self.errors.push(key.span(), format!("the keys `{key}` are never used"), help);
            }
        }
        if self.looped.iter().all(|looped| *looped) {
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

    pub fn has(&self, kind: ParameterKind) -> bool {
        self.signature.of_kind(kind).next().is_some()
    }

    pub fn query_name(&self) -> String {
        self.name_of(ParameterKind::Query, 0, "q")
    }

    pub fn key_name(&self, place: usize) -> String {
        self.name_of(ParameterKind::Key, place, "k")
    }

    pub fn value_name(&self, place: usize) -> String {
        self.name_of(ParameterKind::Value, place, "v")
    }

    /// A value that was reported.
    pub fn wrong(&self, source: crate::error::Source) -> Value {
        Value { node: Node::Wrong, ty: Type::Wrong, score: false, source }
    }
}

/// Whether `value` is the name of `accumulator`.
pub fn names_accumulator(value: &Expr, accumulator: Option<&ast::Accumulator>) -> bool {
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
