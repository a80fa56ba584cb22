//! Checks statements wherever they stand: what is meant by those that the language has not, and `let`s.

use crate::ast::{self, ExprKind, Expression, Statement};
use crate::check::checker::Checker;
use crate::check::scopes::Binding;
use crate::tree::{TypedLet, TypedValue};
use crate::types::ValueType;
use std::borrow::Cow;

impl Checker<'_> {
    /// What `statement` is, or what was meant by it if the language has no such statement, which is reported.
    pub fn meant_statement<'s>(&mut self, statement: &'s Statement) -> Cow<'s, Statement> {
        match statement {
            Statement::Assignment(assignment) => Cow::Owned(self.assignment(assignment)),
            Statement::Constant(constant) => Cow::Owned(Statement::Let(self.constant(constant))),
            Statement::Value(Expression { kind: ExprKind::Return(keyword, Some(value)), .. }, _) if matches!(&value.inner().kind, ExprKind::Name(name) if matches!(self.scopes.find(name), Some(Binding::Accumulator(_)))) =>
            {
                let help = format!("write `{value}` as the last line of the loop over the queries, without `;`");
                self.errors.push(*keyword, "`return` is not in the language", help);
                Cow::Owned(Statement::Value((**value).clone(), None))
            }
            Statement::Value(value, _) => self.conditional(value).map_or(Cow::Borrowed(statement), Cow::Owned),
            _ => Cow::Borrowed(statement),
        }
    }

    /// Checks a `let`, and makes its name known.
    pub fn binding(&mut self, binding: &ast::Let) -> TypedLet {
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
            _ if starts_at_infinity => TypedValue { ty: ValueType::Float, ..self.reported(binding.value.source) },
            Some((ty, _)) => self.value_as(&binding.value, ty),
            None => self.value(&binding.value),
        };
        if let Some((ty, _)) = binding.ty {
            value = self.expect(value, ty, &binding.value);
            value.ty = ty;
        }
        self.masked.retain(|masked| binding.name != *masked);
        if self.is_masked(&value) {
            self.masked.push(binding.name.to_string());
        }
        let of_output = self.is_of_output(&value);
        let bound = if of_output { Binding::OfOutput(value.ty) } else { Binding::Local(value.ty, value.score) };
        self.scopes.bind(&binding.name, bound);
        TypedLet { name: binding.name.clone(), ty: binding.ty, value }
    }

    /// Checks a value that is nothing but a statement.
    pub fn unused_value(&mut self, value: &Expression) {
        if value.is_reported() {
            return;
        }
        self.value(value);
        if matches!(value.kind, ExprKind::Return(..) | ExprKind::Jump(_) | ExprKind::Tuple(_)) {
            return;
        }
        self.errors.push(value.source, "this value is not used", format!("write `let x = {value};`, or remove it"));
    }
}
