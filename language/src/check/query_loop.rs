//! Checks the body of an attention: its loop over the queries, and the accumulator in it.

use crate::ast::{self, AccumulatorKind, Block, ExprKind, Expression, LoopHead, Over, Statement};
use crate::check::checker::{Checker, find_loop};
use crate::check::presence::Presence;
use crate::check::scopes::Binding;
use crate::signature::ParameterKind;
use crate::tree::{CheckedAttention, LoopStep};
use crate::types::ValueType;
use proc_macro2::Ident;
use std::borrow::Cow;

impl Checker<'_> {
    /// What the `body` of an attention says.
    pub fn attention(&mut self, body: &Block) -> CheckedAttention {
        let mut steps = None;
        let query = self.query_name();
        // An accumulator that is made outside of the loop is reported there, and no other is missed.
        let mut accumulator = None;
        for statement in &body.statements {
            match &*self.meant_statement(statement) {
                Statement::Loop(query_loop) if steps.is_none() => {
                    self.needs.query_loop = Presence::Found;
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
                Statement::Value(value, _) if value.names(accumulator) => {}
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
        let name = |kind, place| self.signature.of_kind(kind).nth(place).map(|parameter| parameter.name.clone());
        let pair = |(key, value): (usize, &Option<usize>)| {
            Some((name(ParameterKind::Key, key)?, name(ParameterKind::Value, (*value)?)?))
        };
        CheckedAttention {
            pairs: self.pairs.iter().enumerate().filter_map(pair).collect(),
            steps: steps.unwrap_or_default(),
        }
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
                self.scopes.bind(&outer.head.variable, Binding::Local(ValueType::Int, false));
                self.outer_loop(inner)
            }
            _ => Cow::Borrowed(outer),
        }
    }

    fn query_loop(&mut self, query_loop: &ast::Loop, outside: Option<&ast::AccumulatorLet>) -> Vec<LoopStep> {
        match &query_loop.head.over {
            Over::Tiles(name) => match self.scopes.find(name) {
                Some(Binding::Query) => {}
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
                let accumulator = ast::AccumulatorLet { name, mutable: true, kind };
                meant.body.statements[place] = Statement::Accumulator(accumulator);
            }
            return self.query_loop(&meant, None);
        }
        if accumulator.is_none() {
            let message = "this loop over the queries has no accumulator";
            self.errors.push(query_loop.head.keyword, message, "write `let mut o = Softmax::new();` as its first line");
        }

        self.scopes.enter();
        if accumulator.is_none() {
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
        let mut key_loops = 0;
        let last = body.statements.len().saturating_sub(1);
        for (place, statement) in body.statements.iter().enumerate() {
            let statement = self.meant_statement(statement);
            if let Statement::Value(value, end) = &*statement
                && place == last
                && (end.is_none() || value.is_reported() || value.names(accumulator))
            {
                self.needs.output = Presence::Found;
            }
            match &*statement {
                Statement::Let(binding) => steps.push(LoopStep::Let(self.binding(binding))),
                Statement::Accumulator(found) => {
                    steps.extend(self.accumulator(found, accumulator, place == first_accumulator))
                }
                Statement::Loop(key_loop) => {
                    key_loops += 1;
                    steps.extend(self.key_loop(key_loop, accumulator).map(LoopStep::Loop));
                }
                Statement::Push(push) => {
                    self.needs.push = Presence::Reported;
                    self.errors.push(
                        push.method,
                        "`push` belongs in a loop over the keys",
                        format!("write it in `for j in {}.tiles() {{ … }}`", self.key_name(0)),
                    );
                }
                Statement::Value(value, None) if place == last => self.output(value, accumulator),
                Statement::Value(value, Some(semicolon)) if place == last && value.names(accumulator) => {
                    let help = format!("remove the `;`: write `{value}`");
                    self.errors.push(
                        *semicolon,
                        "the accumulator is not returned from the loop over the queries",
                        help,
                    );
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

        if let Some(accumulator) = accumulator {
            let name = &accumulator.name;
            if self.needs.output == Presence::Missing {
                let message = format!("the loop over the queries does not return its accumulator `{name}`");
                self.errors.push(body.close, message, format!("write `{name}` as its last line, without `;`"));
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
        found: &ast::AccumulatorLet,
        first: Option<&ast::AccumulatorLet>,
        is_first: bool,
    ) -> Option<LoopStep> {
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
            Some(AccumulatorKind::Softmax(None)) => Some(LoopStep::Softmax(None)),
            Some(AccumulatorKind::Softmax(Some(sink))) => {
                let value = self.value_as(sink, ValueType::Float);
                Some(LoopStep::Softmax(Some(self.expect(value, ValueType::Float, sink))))
            }
            Some(AccumulatorKind::Sum) => Some(LoopStep::Sum),
            Some(AccumulatorKind::Mean) => Some(LoopStep::Mean),
            None => None,
        };
        self.scopes.bind(name, Binding::Accumulator);
        step
    }

    /// The value of the loop over the queries, which is its accumulator.
    fn output(&mut self, value: &Expression, accumulator: Option<&ast::AccumulatorLet>) {
        let Some(accumulator) = accumulator else { return };
        if value.names(Some(accumulator)) || value.is_reported() {
            return;
        }
        self.errors.push(
            value.source,
            format!("expected the accumulator `{}`, which the loop over the queries returns", accumulator.name),
            format!("write `{}`", accumulator.name),
        );
    }

    fn report_unused(&self) {
        for (place, parameter) in self.signature.of_kind(ParameterKind::Key).enumerate() {
            if self.needs.keys[place] == Presence::Missing {
                let (key, value) = (&parameter.name, self.value_name(place));
                let code = format!("for j in {key}.tiles() {{ o.push(score, {value}[j]); }}");
                let help = format!("write `{code}`, or remove `{key}` and its values");
                self.errors.push(key.span(), format!("the keys `{key}` are never used"), help);
            }
        }
        if self.needs.keys.iter().all(|key| *key == Presence::Found) {
            for (place, parameter) in self.signature.of_kind(ParameterKind::Value).enumerate() {
                if self.needs.values[place] == Presence::Missing {
                    let value = &parameter.name;
                    let message = format!("the values `{value}` are never used");
                    self.errors.push(value.span(), message, format!("push them: `o.push(score, {value}[j]);`"));
                }
            }
        }
    }
}
