//! Checks what a function says, and gives it with names resolved and types known.
//!
//! This file has the outer loop and the accumulator; [`crate::check_keys`] has the loops over keys, [`crate::check_tiles`]
//! the tiles, and [`crate::check_value`] the expressions.

use crate::ast::{
    self, AccumulatorKind, Block, Expr, ExprKind, Function, Kind, LoopHead, Over, ParameterKind, Signature, Statement,
};
use crate::error::Errors;
use crate::scope::{Binding, Scopes};
use crate::typed::{Attention, Body, Let, Node, Step, Value};
use crate::types::Type;
use crate::uses::Uses;
use proc_macro2::Ident;
use std::borrow::Cow;

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
    /// The depth of the scope of its body.
    pub depth: usize,
}

pub struct Checker<'a> {
    pub errors: &'a Errors,
    pub signature: &'a Signature,
    pub uses: &'a Uses,
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
    /// The variables that are exponentials, and of what.
    pub exponentials: Vec<(String, Expr)>,
    /// Whether the accumulator is a `Softmax`.
    pub is_softmax: bool,
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
            uses: &function.uses,
            scopes: Scopes::of_parameters(signature),
            loops,
            query_variable: None,
            current: None,
            values: vec![None; keys],
            looped: vec![false; keys],
            uncertain: false,
            exponentials: Vec::new(),
            is_softmax: false,
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
        // An accumulator that is made outside of the loop is reported there, and no other is missed.
        let mut accumulator = None;
        for statement in &body.statements {
            match &*self.meant_statement(statement) {
                Statement::Loop(query_loop) if steps.is_none() => {
                    let query_loop = self.outer_loop(query_loop);
                    steps = Some(self.query_loop(&query_loop, accumulator));
                }
                Statement::Loop(second) => self.errors.push(
                    second.head.keyword,
                    "an attention has one loop over its queries",
                    "move what this loop does into the first one; a function has one output",
                ),
                Statement::Let(binding) => {
                    if matches!(statement, Statement::Let(_)) {
                        self.report_outside(&binding.name, &query);
                    }
                    self.binding(binding);
                }
                Statement::Accumulator(found) => {
                    self.report_outside(&found.name, &query);
                    self.scopes.bind(&found.name, Binding::Accumulator);
                    if let Statement::Accumulator(found) = statement {
                        accumulator = Some(found);
                    }
                }
                Statement::Push(push) => self.errors.push(
                    push.method,
                    "`push` belongs in a loop over the keys",
                    format!("write it in `for j in {}.tiles() {{ … }}`", self.key_name(0)),
                ),
                Statement::Value(value, _) if names_accumulator(value, accumulator) => {}
                Statement::Value(value, _) if !value.is_wrong() => {
                    self.uncertain = true;
                    let message = "the body of an attention is a loop over its queries, and nothing else";
                    let help = format!("move this into `for i in {query}.tiles() {{ … }}`");
                    self.errors.push(value.source, message, help);
                }
                Statement::Value(..) | Statement::Assignment(_) | Statement::Constant(_) => self.uncertain = true,
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

    fn report_outside(&self, name: &Ident, query: &str) {
        let message = format!("`{name}` is outside of the loop over the queries");
        self.errors.push(name.span(), message, format!("move this line into `for i in {query}.tiles() {{ … }}`"));
    }

    /// What `statement` is, or what was meant by it if the language has no such statement, which is reported.
    pub fn meant_statement<'s>(&mut self, statement: &'s Statement) -> Cow<'s, Statement> {
        match statement {
            Statement::Assignment(assignment) => Cow::Owned(self.assignment(assignment)),
            Statement::Constant(constant) => Cow::Owned(Statement::Let(self.constant(constant))),
            Statement::Value(Expr { kind: ExprKind::Return(keyword, Some(value)), .. }, _) if matches!(&value.inner().kind, ExprKind::Name(name) if self.scopes.find(name) == Some(Binding::Accumulator)) =>
            {
                let help = format!("write `{value}` as the last line of the loop over the queries, without `;`");
                self.errors.push(*keyword, "`return` is not in the language", help);
                Cow::Owned(Statement::Value((**value).clone(), None))
            }
            Statement::Value(value, _) => self.conditional(value).map_or(Cow::Borrowed(statement), Cow::Owned),
            _ => Cow::Borrowed(statement),
        }
    }

    /// The loop over the queries that is meant by `outer`, the outermost loop.
    fn outer_loop<'s>(&mut self, outer: &'s ast::Loop) -> Cow<'s, ast::Loop> {
        let over = |head: &LoopHead| match &head.over {
            Over::Tiles(name) => self.scopes.find(name),
            Over::Other(..) => None,
        };
        let holds_queries = |statement: &Statement| match statement {
            Statement::Loop(inner) => {
                let mut holds = over(&inner.head) == Some(Binding::Query);
                inner.body.visit_statements(&mut |statement| {
                    holds |= matches!(statement, Statement::Loop(inner) if over(&inner.head) == Some(Binding::Query));
                });
                holds
            }
            _ => false,
        };
        let Some(place) = outer.body.statements.iter().position(holds_queries) else { return Cow::Borrowed(outer) };
        let Statement::Loop(inner) = &outer.body.statements[place] else { unreachable!("a loop was found") };
        match over(&outer.head) {
            Some(Binding::Key(_)) if over(&inner.head) == Some(Binding::Query) => {
                let mut swapped = outer.clone();
                let (mut new_outer, mut new_inner) = (inner.head.clone(), outer.head.clone());
                // What the body takes a tile of queries by is the variable of the loop over them.
                let mut taken_by_outer = false;
                outer.body.visit(&mut |expr| {
                    if let ExprKind::Index(name, index) = &expr.kind
                        && self.scopes.find(name) == Some(Binding::Query)
                        && let [index] = &index[..]
                    {
                        taken_by_outer |= outer.head.variable == index.inner().to_string();
                    }
                });
                if taken_by_outer {
                    std::mem::swap(&mut new_outer.variable, &mut new_inner.variable);
                }
                let text = |head: &LoopHead| match &head.over {
                    Over::Tiles(name) => format!("`for {} in {name}.tiles()`", head.variable),
                    Over::Other(..) => "…".to_string(),
                };
                let help = format!("write {} outside, and {} inside", text(&new_outer), text(&new_inner));
                let message = "the loops are swapped: the loop over the queries goes outside";
                self.errors.push(outer.head.keyword, message, help);
                swapped.head = new_outer;
                if let Statement::Loop(inner) = &mut swapped.body.statements[place] {
                    inner.head = new_inner;
                }
                self.loops.clear();
                find_loop(&swapped, &mut self.loops);
                Cow::Owned(swapped)
            }
            None | Some(Binding::Local(..)) => {
                let message = "an attention is computed for every batch and head, and has no loop over them";
                let help = "remove this loop; `batch()` and `head()` say which are computed";
                self.errors.push(outer.head.keyword, message, help);
                self.scopes.bind(&outer.head.variable, Binding::Local(Type::Int, false));
                self.outer_loop(inner)
            }
            _ => Cow::Borrowed(outer),
        }
    }

    fn query_loop(&mut self, query_loop: &ast::Loop, outside: Option<&ast::Accumulator>) -> Vec<Step> {
        match &query_loop.head.over {
            Over::Tiles(name) => match self.scopes.find(name) {
                Some(Binding::Query) => {}
                Some(binding) => {
                    let message =
                        format!("the outer loop goes over the `Query`, and `{name}` is {}", binding.description());
                    self.errors.push(name.span(), message, self.query_loop_help(query_loop));
                }
                // A missing `Query` is reported with the signature.
                None if !self.has(ParameterKind::Query) => self.uncertain = true,
                None => self.unknown_tiles(name, ParameterKind::Query),
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
        let first_accumulator =
            body.statements.iter().position(|statement| matches!(statement, Statement::Accumulator(_))).unwrap_or(0);
        let accumulator = accumulator.or(outside);
        if let (None, Some(place)) = (accumulator, self.summed(body)) {
            let mut meant = query_loop.clone();
            if let Statement::Let(binding) = &body.statements[place] {
                let name = binding.name.clone();
                let message = format!("`{name}` is summed over the keys, and is no accumulator");
                self.errors.push(name.span(), message, format!("write `let mut {name} = Softmax::new();`"));
                let kind = Some(AccumulatorKind::Softmax(None));
                let accumulator = ast::Accumulator { name, mutable: true, kind };
                meant.body.statements[place] = Statement::Accumulator(accumulator);
            }
            return self.query_loop(&meant, None);
        }
        if accumulator.is_none() {
            self.no_accumulator = true;
            let message = "this loop over the queries has no accumulator";
            self.errors.push(query_loop.head.keyword, message, "write `let mut o = Softmax::new();` as its first line");
        }

        self.scopes.enter();
        self.bind_loop(&query_loop.head.variable, Binding::QueryTile);
        self.query_variable = Some(query_loop.head.variable.clone());
        let mut steps = Vec::new();
        let mut key_loops = 0;
        let mut returned = false;
        let last = body.statements.len().saturating_sub(1);
        for (place, statement) in body.statements.iter().enumerate() {
            let statement = self.meant_statement(statement);
            returned = match &*statement {
                Statement::Value(value, end) => {
                    end.is_none() || value.is_wrong() || names_accumulator(value, accumulator)
                }
                _ => false,
            };
            match &*statement {
                Statement::Let(binding) => steps.push(Step::Let(self.binding(binding))),
                Statement::Accumulator(found) => {
                    steps.extend(self.accumulator(found, accumulator, place == first_accumulator))
                }
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
                Statement::Assignment(_) | Statement::Constant(_) => unreachable!("something else was meant"),
            }
        }
        self.scopes.leave();

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

    /// The place in `body` of a variable to which products with values are added, as to an accumulator.
    fn summed(&self, body: &Block) -> Option<usize> {
        let is_summed = |binding: &ast::Let| {
            let mut summed = false;
            body.visit_statements(&mut |statement| {
                if let Statement::Assignment(assignment) = statement
                    && binding.name == assignment.target.to_string()
                {
                    summed |= self.pushed(&binding.name, assignment).is_some();
                }
            });
            summed
        };
        body.statements.iter().position(|statement| matches!(statement, Statement::Let(binding) if is_summed(binding)))
    }

    fn query_loop_help(&self, query_loop: &ast::Loop) -> String {
        format!("write `for {} in {}.tiles()`", query_loop.head.variable, self.query_name())
    }

    fn accumulator(
        &mut self,
        found: &ast::Accumulator,
        first: Option<&ast::Accumulator>,
        is_first: bool,
    ) -> Option<Step> {
        let name = &found.name;
        if let Some(first) = first.filter(|_| !is_first) {
            let message = "an attention has one accumulator";
            self.errors.push(name.span(), message, format!("remove `{name}`, and push to `{}`", first.name));
            self.scopes.bind(name, Binding::Accumulator);
            return None;
        }
        if !found.mutable {
            let message = format!("`{name}` is pushed to, and is not `mut`");
            self.errors.push(name.span(), message, format!("write `let mut {name}`"));
        }
        self.is_softmax = matches!(found.kind, Some(AccumulatorKind::Softmax(_)));
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
        // Where it is assigned to, each assignment is reported.
        if let Some(token) = binding.mutable.filter(|_| !self.uses.is_assigned(&binding.name)) {
            self.errors.push(token, "only an accumulator is `mut`", format!("write `let {} = …;`", binding.name));
        }
        if let ExprKind::Builtin(builtin, _, arguments) = &binding.value.inner().kind
            && let ("exp", [exponent]) = (builtin.name, &arguments[..])
        {
            self.exponentials.push((binding.name.to_string(), exponent.clone()));
        }
        let starts_at_infinity = binding.value.is_infinite() && self.uses.is_assigned(&binding.name);
        let mut value = match binding.ty {
            // What is wrong is the assignment, which is reported.
            _ if starts_at_infinity => Value { ty: Type::Float, ..self.wrong(binding.value.source) },
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

    /// The value of `expr`, which is wanted of type `ty`: so is a parameter that is missing.
    pub fn value_as(&mut self, expr: &Expr, ty: Type) -> Value {
        match &expr.inner().kind {
            ExprKind::Name(name) if self.is_unknown(expr) => {
                self.unknown_value(name, ty);
                self.wrong(expr.source)
            }
            ExprKind::Index(name, index) if self.is_unknown(expr) => {
                self.unknown_tensor(name, index.len(), ty);
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

    pub fn unused_value(&mut self, value: &Expr) {
        if value.is_wrong() {
            return;
        }
        self.value(value);
        if matches!(value.kind, ExprKind::Return(..) | ExprKind::Jump(_)) {
            return;
        }
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
            find_loop(found, loops);
        }
    }
}

fn find_loop(found: &ast::Loop, loops: &mut Vec<(String, String)>) {
    let variable = &found.head.variable;
    if let Over::Tiles(over) = &found.head.over {
        loops.push((variable.to_string(), format!("for {variable} in {over}.tiles()")));
    }
    find_loops(&found.body, loops);
}
