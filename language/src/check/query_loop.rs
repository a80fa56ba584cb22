//! Checks the body of an attention: its loop over the queries, and the accumulator in it.

use crate::ast::{self, AccumulatorKind, Block, ExprKind, Expression, LoopHead, Over, Statement};
use crate::check::checker::{Checker, DeclaredAccumulator, find_loop};
use crate::check::presence::Presence;
use crate::check::scopes::Binding;
use crate::signature::ParameterKind;
use crate::tree::{CheckedAccumulator, CheckedAttention, MAX_OUTPUTS, QueryStep, TypedValue};
use crate::types::ValueType;
use proc_macro2::Ident;
use std::borrow::Cow;

impl Checker<'_> {
    /// What the `body` of an attention says.
    pub fn attention(&mut self, body: &Block) -> CheckedAttention {
        let mut found = None;
        let query = self.query_name();
        // An accumulator that is made outside of the loop is reported there, and no other is missed.
        let mut accumulator = None;
        for statement in &body.statements {
            match &*self.meant_statement(statement) {
                Statement::Loop(query_loop) if found.is_none() => {
                    self.needs.query_loop = Presence::Found;
                    let query_loop = self.outer_loop(query_loop);
                    found = Some(self.query_loop(&query_loop, accumulator));
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
                    self.scopes.bind(&found.name, Binding::Accumulator(0));
                    if let Statement::Accumulator(found) = statement {
                        accumulator = Some(found);
                    }
                }
                Statement::Push(push) => self.errors.push(
                    push.method,
                    "`push` belongs in a loop over the keys",
                    format!("write it in `for j in {}.tiles() {{ … }}`", self.key_name(0)),
                ),
                Statement::Value(value, _) if accumulator.is_some_and(|only| value.names(&[only])) => {}
                Statement::Value(value, _) if !value.is_reported() => {
                    self.needs.doubt();
                    let message = "the body of an attention is a loop over its queries, and nothing else";
                    let help = format!("move this into `for i in {query}.tiles() {{ … }}`");
                    self.errors.push(value.source, message, help);
                }
                Statement::Value(..) | Statement::Assignment(_) | Statement::Constant(_) => self.needs.doubt(),
            }
        }
        if self.needs.query_loop == Presence::Missing {
            let message = "the body of an attention is a loop over its queries, and there is none";
            self.errors.push(body.close, message, format!("write `for i in {query}.tiles() {{ … }}`"));
        } else {
            self.report_unused();
        }
        let (mut steps, outputs) = found.unwrap_or_default();
        for step in &mut steps {
            if let QueryStep::Loop(key_loop) = step {
                key_loop.set = self.set_of_key(key_loop.set);
            }
        }
        CheckedAttention { operands: self.roles(), steps, outputs }
    }

    fn report_outside(&self, name: &Ident, query: &str) {
        let message = format!("`{name}` is outside of the loop over the queries");
        self.errors.push(name.span(), message, format!("move this line into `for i in {query}.tiles() {{ … }}`"));
    }

    /// The loop over the queries that is meant by `outer`, the outermost loop.
    fn outer_loop<'s>(&mut self, outer: &'s ast::Loop) -> Cow<'s, ast::Loop> {
        let over = |head: &LoopHead| match &head.over {
            Over::Tiles(name) => self.scopes.find(name),
            Over::Other(..) => None,
        };
        let holds_queries = |statement: &Statement| match statement {
            Statement::Loop(inner) => {
                let mut holds = is_query(over(&inner.head));
                inner.body.visit_statements(&mut |statement| {
                    holds |= matches!(statement, Statement::Loop(inner) if is_query(over(&inner.head)));
                });
                holds
            }
            _ => false,
        };
        let Some(place) = outer.body.statements.iter().position(holds_queries) else { return Cow::Borrowed(outer) };
        let Statement::Loop(inner) = &outer.body.statements[place] else { unreachable!("a loop was found") };
        match over(&outer.head) {
            Some(Binding::Key(_)) if is_query(over(&inner.head)) => {
                let mut swapped = outer.clone();
                let (mut new_outer, mut new_inner) = (inner.head.clone(), outer.head.clone());
                // What the body takes a tile of queries by is the variable of the loop over them.
                let mut taken_by_outer = false;
                outer.body.visit(&mut |expr| {
                    if let ExprKind::Index(name, index) = &expr.kind
                        && is_query(self.scopes.find(name))
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
                self.scopes.bind(&outer.head.variable, Binding::Local(ValueType::Int, false));
                self.outer_loop(inner)
            }
            _ => Cow::Borrowed(outer),
        }
    }

    fn query_loop(
        &mut self,
        query_loop: &ast::Loop,
        outside: Option<&ast::AccumulatorLet>,
    ) -> (Vec<QueryStep>, Vec<TypedValue>) {
        match &query_loop.head.over {
            Over::Tiles(name) => match self.scopes.find(name) {
                Some(Binding::Query(_)) => {}
                Some(binding) => {
                    let message =
                        format!("the outer loop goes over the `Query`, and `{name}` is {}", binding.description());
                    self.errors.push(name.span(), message, self.query_loop_help(query_loop));
                }
                None => self.unknown_tiles(name, ParameterKind::Query),
            },
            Over::Other(source, _) => {
                self.errors.push(*source, "a loop goes over tiles", self.query_loop_help(query_loop));
            }
        }
        let body = &query_loop.body;
        let of_body = body.statements.iter().filter_map(|statement| match statement {
            Statement::Accumulator(accumulator) => Some(accumulator),
            _ => None,
        });
        let mut accumulators: Vec<&ast::AccumulatorLet> = of_body.collect();
        self.accumulator_count = accumulators.len();
        self.loops_left = body.statements.iter().filter(|statement| matches!(statement, Statement::Loop(_))).count();
        if accumulators.is_empty() {
            accumulators.extend(outside);
        }
        if let (true, Some(place)) = (accumulators.is_empty(), self.summed(body)) {
            let mut meant = query_loop.clone();
            if let Statement::Let(binding) = &body.statements[place] {
                let name = binding.name.clone();
                let message = format!("`{name}` is summed over the keys, and is no accumulator");
                self.errors.push(name.span(), message, format!("write `let mut {name} = Softmax::new();`"));
                let kind = Some(AccumulatorKind::Softmax(None));
                let accumulator = ast::AccumulatorLet { name, mutable: true, of_tuple: false, kind };
                meant.body.statements[place] = Statement::Accumulator(accumulator);
            }
            return self.query_loop(&meant, None);
        }
        if accumulators.is_empty() {
            let message = "this loop over the queries has no accumulator";
            self.errors.push(query_loop.head.keyword, message, "write `let mut o = Softmax::new();` as its first line");
        }

        self.scopes.enter();
        if accumulators.is_empty() {
            // What is pushed to would be it.
            body.visit_statements(&mut |statement| {
                if let Statement::Push(push) = statement
                    && self.scopes.find(&push.accumulator).is_none()
                {
                    self.scopes.bind(&push.accumulator, Binding::Reported);
                }
            });
        }
        self.bind_loop(&query_loop.head.variable, Binding::QueryTile);
        self.query_variable = Some(query_loop.head.variable.clone());
        let mut steps = Vec::new();
        let mut outputs = Vec::new();
        let mut key_loops = 0;
        let last = body.statements.len().saturating_sub(1);
        for (place, statement) in body.statements.iter().enumerate() {
            let statement = self.meant_statement(statement);
            if let Statement::Value(value, end) = &*statement
                && place == last
                && (end.is_none() || value.is_reported() || value.mentions(&accumulators))
            {
                self.needs.output = Presence::Found;
            }
            match &*statement {
                Statement::Let(binding) => steps.push(QueryStep::Let(self.binding(binding))),
                Statement::Accumulator(found) => {
                    let kind = self.accumulator(found);
                    steps.extend(kind.map(|kind| QueryStep::Accumulator(found.name.clone(), kind)));
                }
                Statement::Loop(key_loop) => {
                    key_loops += 1;
                    steps.extend(self.key_loop(key_loop, &accumulators).map(QueryStep::Loop));
                }
                Statement::Push(push) => {
                    self.needs.push = Presence::Reported;
                    self.accumulators.iter_mut().for_each(|accumulator| accumulator.is_pushed = true);
                    self.errors.push(
                        push.method,
                        format!("`{}` belongs in a loop over the keys", push.name()),
                        format!("write it in `for j in {}.tiles() {{ … }}`", self.key_name(0)),
                    );
                }
                Statement::Value(value, None) if place == last => outputs = self.outputs(value, &accumulators),
                Statement::Value(value, Some(semicolon)) if place == last && value.mentions(&accumulators) => {
                    self.accumulators.iter_mut().for_each(|accumulator| accumulator.is_used = true);
                    let help = format!("remove the `;`: write `{value}`");
                    let what = if value.names(&accumulators) { "accumulator" } else { "output" };
                    let message = format!("the {what} is not returned from the loop over the queries");
                    self.errors.push(*semicolon, message, help);
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
        self.scopes.leave();

        if let Some(first) = accumulators.first() {
            let name = &first.name;
            if self.needs.output == Presence::Missing {
                let (message, help) = match &accumulators[..] {
                    _ if self.gives_several() => (
                        "the loop over the queries does not return its outputs".to_string(),
                        format!("write `{}` as its last line, without `;`", self.outputs_help(&[], &accumulators)),
                    ),
                    [_] => (
                        format!("the loop over the queries does not return its accumulator `{name}`"),
                        format!("write `{name}` as its last line, without `;`"),
                    ),
                    [_, second, ..] => (
                        "the loop over the queries does not return what is made of its accumulators".to_string(),
                        format!("write it as its last line, without `;`, such as `{name} - {}`", second.name),
                    ),
                    [] => unreachable!("there is a first one"),
                };
                self.errors.push(body.close, message, help);
            }
            if self.needs.push == Presence::Missing && key_loops == 0 {
                self.needs.doubt();
                let (key, value) = (self.key_name(0), self.value_name(0));
                self.errors.push(
                    name.span(),
                    format!("the accumulator `{name}` is never pushed to"),
                    format!(
                        "write `for j in {key}.tiles() {{ {name}.push(dot(q[i], {key}[j]) * scale(), {value}[j]); }}`"
                    ),
                );
            } else if self.needs.push == Presence::Found && (self.accumulators.len() > 1 || self.gives_several()) {
                self.report_idle();
            }
        }
        (steps, outputs)
    }

    /// Reports accumulators, of several, that are not pushed to or not part of the output.
    fn report_idle(&self) {
        for (number, accumulator) in self.accumulators.iter().enumerate() {
            let name = &accumulator.name;
            if !accumulator.is_pushed {
                let value = self.value_name(0);
                let help = format!("push to it, `{name}.push(score, {value}[j]);`, or remove it");
                self.errors.push(name.span(), format!("the accumulator `{name}` is never pushed to"), help);
            } else if !accumulator.is_used && self.needs.output == Presence::Found {
                let other = self.accumulators.iter().enumerate().find(|(other, _)| *other != number);
                let other = other.map_or("o".to_string(), |(_, other)| other.name.to_string());
                let help =
                    format!("write it in the last line of the loop over the queries, such as `{other} - {name}`");
                let what = if self.gives_several() { "in no output" } else { "not part of the output" };
                self.errors.push(name.span(), format!("the accumulator `{name}` is {what}"), help);
            }
        }
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

    fn accumulator(&mut self, found: &ast::AccumulatorLet) -> Option<CheckedAccumulator> {
        let name = &found.name;
        if !found.mutable {
            let message = format!("`{name}` is pushed to, and is not `mut`");
            let help = if found.of_tuple { format!("write `mut {name}`") } else { format!("write `let mut {name}`") };
            self.errors.push(name.span(), message, help);
        }
        let kind = match found.kind.as_ref() {
            Some(AccumulatorKind::Softmax(None)) => Some(CheckedAccumulator::Softmax(None)),
            Some(AccumulatorKind::Softmax(Some(sink))) => {
                let value = self.value_as(sink, ValueType::Float);
                if self.is_of_output(&value) {
                    let message = "a sink is one score for each query, and this has one for each element of its row";
                    self.errors.push(sink.source, message, "take it as a captured tensor: `sink[head()]`");
                }
                Some(CheckedAccumulator::Softmax(Some(self.expect(value, ValueType::Float, sink))))
            }
            Some(AccumulatorKind::Sum) => Some(CheckedAccumulator::Sum),
            Some(AccumulatorKind::Mean) => Some(CheckedAccumulator::Mean),
            None => None,
        };
        let is_softmax = matches!(found.kind, Some(AccumulatorKind::Softmax(_)));
        self.scopes.bind(name, Binding::Accumulator(self.accumulators.len()));
        self.accumulators.push(DeclaredAccumulator {
            name: name.clone(),
            is_softmax,
            is_pushed: false,
            is_used: false,
        });
        kind
    }

    /// Whether the signature says that there are several outputs.
    fn gives_several(&self) -> bool {
        self.signature.outputs.is_some_and(|count| count > 1)
    }

    /// What to write for as many outputs as the signature says, of which `given` are there.
    fn outputs_help(&self, given: &[&Expression], accumulators: &[&ast::AccumulatorLet]) -> String {
        let count = self.signature.outputs.unwrap_or(1);
        // Those that are nowhere come first, and then those that are part of something.
        let free = |accumulator: &ast::AccumulatorLet| given.iter().all(|value| !value.mentions(&[accumulator]));
        let part = |accumulator: &ast::AccumulatorLet| given.iter().all(|value| !value.names(&[accumulator]));
        let others = accumulators.iter().filter(|accumulator| free(accumulator));
        let others = others.chain(accumulators.iter().filter(|accumulator| !free(accumulator) && part(accumulator)));
        let others = others.map(|accumulator| accumulator.name.to_string());
        let given = given.iter().map(|value| value.to_string());
        let all = given.chain(others).chain(std::iter::repeat("…".to_string()));
        format!("({})", all.take(count).collect::<Vec<_>>().join(", "))
    }

    /// The values of the loop over the queries: as many as the signature says. None, where that is its only accumulator as it is.
    fn outputs(&mut self, expr: &Expression, accumulators: &[&ast::AccumulatorLet]) -> Vec<TypedValue> {
        let declared = self.signature.outputs;
        let ExprKind::Tuple(values) = &expr.kind else {
            if !self.gives_several() || expr.is_reported() || accumulators.is_empty() {
                return self.output(expr, accumulators).into_iter().collect();
            }
            let message = format!("the signature has {} outputs, and here is one", declared.unwrap_or(1));
            let help = format!("write `{}`, or `-> Output`", self.outputs_help(&[expr], accumulators));
            self.refuse_outputs(expr, message, help);
            return Vec::new();
        };
        let given: Vec<&Expression> = values.iter().collect();
        let arrow = format!("-> {}", outputs_text(given.len()));
        match declared {
            Some(1) => {
                let message = format!("the signature has one output, and here are {}", given.len());
                let help = match &given[..] {
                    [first, second, ..] => format!("write `{arrow}`, or one expression, such as `{first} - {second}`"),
                    _ => format!("write `{}`", given[0]),
                };
                let message =
                    if given.len() == 1 { "a tuple of outputs has several, and here is one".into() } else { message };
                self.refuse_outputs(expr, message, help);
                return Vec::new();
            }
            Some(count) if given.len() > count => {
                let message = format!("the signature has {count} outputs, and here are {}", given.len());
                let help = match given.len() {
                    found if found > MAX_OUTPUTS => format!("remove `{}`", given[count]),
                    _ => format!("remove `{}`, or write `{arrow}`", given[count]),
                };
                self.refuse_outputs(given[count], message, help);
                return Vec::new();
            }
            Some(count) if given.len() < count => {
                let are = if given.len() == 1 { "is one".to_string() } else { format!("are {}", given.len()) };
                let message = format!("the signature has {count} outputs, and here {are}");
                let help = format!("write `{}`, or `{arrow}`", self.outputs_help(&given, accumulators));
                self.refuse_outputs(expr, message, help);
                return Vec::new();
            }
            _ => {}
        }
        given.into_iter().filter_map(|value| self.one_of_outputs(value, accumulators)).collect()
    }

    /// Reports `expr`, which is to be what the loop over the queries gives. What accumulators are in it is not looked at.
    fn refuse_outputs(&mut self, expr: &Expression, message: String, help: String) {
        self.accumulators.iter_mut().for_each(|accumulator| accumulator.is_used = true);
        self.errors.push(expr.source, message, help);
    }

    /// The value of one of several outputs.
    fn one_of_outputs(&mut self, expr: &Expression, accumulators: &[&ast::AccumulatorLet]) -> Option<TypedValue> {
        let before = self.errors.count();
        let value = self.value_as(expr, ValueType::Float);
        if self.errors.count() > before || value.ty == ValueType::Reported || expr.is_reported() {
            self.accumulators.iter_mut().for_each(|accumulator| accumulator.is_used = true);
            return None;
        }
        if !self.is_of_output(&value) {
            let name = accumulators.first().map_or("o".to_string(), |first| first.name.to_string());
            let message =
                "an output has a value for each element of a row, and this has one for each query".to_string();
            self.refuse_outputs(expr, message, format!("make it of an accumulator, such as `{name}`"));
            return None;
        }
        Some(self.expect(value, ValueType::Float, expr))
    }

    /// The value of the loop over the queries, unless that is its only accumulator as it is.
    fn output(&mut self, expr: &Expression, accumulators: &[&ast::AccumulatorLet]) -> Option<TypedValue> {
        let (Some(first), false) = (accumulators.first(), expr.is_reported()) else {
            self.accumulators.iter_mut().for_each(|accumulator| accumulator.is_used = true);
            return None;
        };
        // A `let` of the accumulator's name is something else.
        let is_accumulator = matches!(&expr.kind, ExprKind::Name(name) if matches!(self.scopes.find(name), Some(Binding::Accumulator(_))));
        if is_accumulator && accumulators.len() == 1 {
            return None;
        }
        let before = self.errors.count();
        let value = self.value_as(expr, ValueType::Float);
        if self.errors.count() > before || value.ty == ValueType::Reported {
            self.accumulators.iter_mut().for_each(|accumulator| accumulator.is_used = true);
            return None;
        }
        // What was carried from key to key, as a sum to divide by, was reported.
        let mut is_carried = false;
        expr.visit(&mut |part| is_carried |= matches!(&part.kind, ExprKind::Name(name) if self.uses.is_assigned(name)));
        if is_carried || !self.accumulators.iter().any(|accumulator| accumulator.is_used) {
            let (message, help) = match accumulators {
                [_, second, ..] => (
                    "expected what is made of the accumulators, which the loop over the queries returns".to_string(),
                    format!("write an expression of them, such as `{} - {}`", first.name, second.name),
                ),
                _ => (
                    format!("expected the accumulator `{}`, which the loop over the queries returns", first.name),
                    format!("write `{}`", first.name),
                ),
            };
            self.accumulators.iter_mut().for_each(|accumulator| accumulator.is_used = true);
            self.errors.push(expr.source, message, help);
            return None;
        }
        Some(self.expect(value, ValueType::Float, expr))
    }

    fn report_unused(&self) {
        let several = self.needs.queries.len() > 1;
        for (place, parameter) in self.signature.of_kind(ParameterKind::Query).enumerate().filter(|_| several) {
            if self.needs.queries[place] == Presence::Missing {
                let query = &parameter.name;
                let variable = self.query_variable.as_ref().map_or("i".to_string(), Ident::to_string);
                let help = format!("write `dot({query}[{variable}], {}[j])`, or remove `{query}`", self.key_name(0));
                self.errors.push(query.span(), format!("the queries `{query}` are never used"), help);
            }
        }
        for (place, parameter) in self.signature.of_kind(ParameterKind::Key).enumerate() {
            if self.needs.keys[place] == Presence::Missing {
                let key = &parameter.name;
                let help = if place < self.needs.values.len() {
                    let (o, value) = (self.accumulator_name(), self.value_name(place));
                    let code = format!("for j in {key}.tiles() {{ {o}.push(score, {value}[j]); }}");
                    format!("write `{code}`, or remove `{key}` and its values")
                } else {
                    format!("write `dot({}[i], {key}[j])` in a score, or remove `{key}`", self.query_name())
                };
                self.errors.push(key.span(), format!("the keys `{key}` are never used"), help);
            }
        }
        if self.needs.keys.iter().all(|key| *key == Presence::Found) {
            for (place, parameter) in self.signature.of_kind(ParameterKind::Value).enumerate() {
                if self.needs.values[place] == Presence::Missing {
                    let value = &parameter.name;
                    let message = format!("the values `{value}` are never used");
                    let help = format!("push them: `{}.push(score, {value}[j]);`", self.accumulator_name());
                    self.errors.push(value.span(), message, help);
                }
            }
        }
    }
}

/// What an attention with so many outputs returns, as it is written.
fn outputs_text(count: usize) -> String {
    if count == 1 { "Output".to_string() } else { format!("({})", ["Output"].repeat(count).join(", ")) }
}

fn is_query(binding: Option<Binding>) -> bool {
    matches!(binding, Some(Binding::Query(_)))
}
