//! Reads blocks and statements, and reports those of Rust that the language has not.

use crate::ast::{AccumulatorLet, Block, ExprKind, Expression, Let, Loop, LoopHead, Over, PushStatement, Statement};
use crate::parse::parameters::scalar_like;
use crate::parse::parser::BodyParser;
use crate::parse::signature;
use crate::source::Source;
use crate::types::ValueType;
use proc_macro2::{Ident, Span, TokenTree};
use quote::ToTokens;
use syn::spanned::Spanned;
use syn::{Pat, Stmt};

impl BodyParser<'_> {
    pub fn block(&self, block: &syn::Block) -> Block {
        Block { statements: self.statements(&block.stmts), close: block.brace_token.span.close() }
    }

    fn statements(&self, statements: &[Stmt]) -> Vec<Statement> {
        let read = |statement| match self.several_accumulators(statement) {
            Some(accumulators) => accumulators,
            None => self.statement(statement).into_iter().collect(),
        };
        statements.iter().flat_map(read).collect()
    }

    /// The accumulators that `let (mut a, mut b) = (…, …);` makes, if it does.
    fn several_accumulators(&self, statement: &Stmt) -> Option<Vec<Statement>> {
        let Stmt::Local(local) = statement else { return None };
        let (Pat::Tuple(names), Some(init)) = (&local.pat, &local.init) else { return None };
        let syn::Expr::Tuple(values) = &*init.expr else { return None };
        let names_of_accumulators = names.elems.iter().map(|name| match name {
            Pat::Ident(name) if name.by_ref.is_none() && name.subpat.is_none() => Some(name),
            _ => None,
        });
        let names_of_accumulators = names_of_accumulators.collect::<Option<Vec<_>>>()?;
        if !values.elems.iter().any(BodyParser::makes_accumulator) {
            return None;
        }
        self.attributes(&local.attrs);
        let (left, right) = (names_of_accumulators.len(), values.elems.len());
        if left != right {
            let message = format!("there are {left} names here, and {right} values");
            let help = "write as many, or a `let mut o = Softmax::new();` for each";
            self.errors.push(Source::of(&local.pat), message, help);
        }
        let made = names_of_accumulators.into_iter().zip(&values.elems).map(|(name, value)| {
            signature::reject_reserved(&name.ident, "variable", self.errors);
            if let Some(accumulator) = self.accumulator(name, value) {
                return Statement::Accumulator(AccumulatorLet { of_tuple: true, ..accumulator });
            }
            let help = format!("write `let {} = {};` on a line of its own", name.ident, self.expr(value));
            self.unsupported(Source::of(name), "patterns, but of accumulators,", help);
            let (name, mutable) = (name.ident.clone(), name.mutability.as_ref().map(|token| token.span()));
            Statement::Let(Let { name, mutable, ty: None, value: self.expr(value) })
        });
        Some(made.collect())
    }

    fn statement(&self, statement: &Stmt) -> Option<Statement> {
        match statement {
            Stmt::Local(local) => self.local(local),
            Stmt::Item(item) => self.item(item),
            Stmt::Macro(call) => {
                self.macro_call(&call.mac);
                None
            }
            Stmt::Expr(syn::Expr::ForLoop(for_loop), _) => self.for_loop(for_loop),
            Stmt::Expr(syn::Expr::Tuple(tuple), semicolon) if !tuple.elems.is_empty() => {
                let kind = ExprKind::Tuple(tuple.elems.iter().map(|value| self.expr(value)).collect());
                let value = Expression { kind, source: Source::of(tuple) };
                Some(Statement::Value(value, semicolon.map(|semicolon| semicolon.span())))
            }
            Stmt::Expr(expr, semicolon) => {
                if let Some(push) = self.push(expr) {
                    return Some(Statement::Push(push));
                }
                if let Some(assignment) = self.assignment(expr) {
                    return Some(Statement::Assignment(assignment));
                }
                Some(Statement::Value(self.expr(expr), semicolon.map(|semicolon| semicolon.span())))
            }
        }
    }

    /// The push that `expr` is, if it is one.
    fn push(&self, expr: &syn::Expr) -> Option<PushStatement> {
        let syn::Expr::MethodCall(call) = expr else { return None };
        let syn::Expr::Path(path) = &*call.receiver else { return None };
        let weighted = call.method == "push_weighted";
        let accumulator = path.path.get_ident().filter(|_| weighted || call.method == "push")?.clone();
        let arguments = call.args.iter().map(|argument| self.expr(argument)).collect();
        Some(PushStatement { accumulator, method: call.method.span(), weighted, arguments })
    }

    fn local(&self, local: &syn::Local) -> Option<Statement> {
        self.attributes(&local.attrs);
        let (pattern, ty) = match &local.pat {
            Pat::Type(typed) => (&*typed.pat, self.annotation(&typed.ty)),
            pattern => (pattern, None),
        };
        let Some(init) = &local.init else {
            let message = "a `let` has a value";
            self.errors.push(Source::of(pattern), message, format!("write `let {} = …;`", pattern.to_token_stream()));
            return None;
        };
        if let Some((token, _)) = &init.diverge {
            self.unsupported(token.span().into(), "`let … else`", "write `let x = if … { … } else { … };`");
        }
        let Pat::Ident(name) = pattern else {
            let help = "write a `let` for each value, such as `let x = …;`";
            self.unsupported(Source::of(pattern), "patterns", help);
            self.expr(&init.expr);
            return None;
        };
        if name.by_ref.is_some() || name.subpat.is_some() {
            self.unsupported(Source::of(pattern), "patterns", format!("write `let {} = …;`", name.ident));
        }
        signature::reject_reserved(&name.ident, "variable", self.errors);
        if let Some(accumulator) = self.accumulator(name, &init.expr) {
            return Some(Statement::Accumulator(accumulator));
        }
        let mutable = name.mutability.as_ref().map(|token| token.span());
        Some(Statement::Let(Let { name: name.ident.clone(), mutable, ty, value: self.expr(&init.expr) }))
    }

    fn annotation(&self, ty: &syn::Type) -> Option<(ValueType, Span)> {
        let text = ty.to_token_stream().to_string();
        let known = match text.as_str() {
            "i32" | "u32" | "Pos" => ValueType::Int,
            "f32" | "Score" => ValueType::Float,
            "bool" => ValueType::Bool,
            _ => {
                self.errors.push(
                    Source::of(ty),
                    format!("unknown type `{text}` of a variable"),
                    format!("write `{}`, or leave the type out", scalar_like(&text)),
                );
                return None;
            }
        };
        Some((known, ty.span()))
    }

    fn for_loop(&self, for_loop: &syn::ExprForLoop) -> Option<Statement> {
        self.attributes(&for_loop.attrs);
        if let Some(label) = &for_loop.label {
            self.unsupported(Source::of(label), "labels", "remove it: a loop has no `break` or `continue`");
        }
        let variable = match &*for_loop.pat {
            Pat::Ident(name) if name.by_ref.is_none() && name.mutability.is_none() && name.subpat.is_none() => {
                signature::reject_reserved(&name.ident, "variable", self.errors);
                name.ident.clone()
            }
            pattern => {
                let message = "a loop over tiles has one variable, a plain name";
                self.errors.push(Source::of(pattern), message, "write `for j in k.tiles()`");
                // A likely name, so that the loop is checked nonetheless.
                let names = pattern.to_token_stream().into_iter().flat_map(|token| match token {
                    TokenTree::Group(group) => group.stream(),
                    token => token.into(),
                });
                let mut names = names.filter_map(|token| syn::parse2::<Ident>(token.into()).ok());
                names.next().unwrap_or_else(|| Ident::new("_", pattern.span()))
            }
        };
        let over = match &*for_loop.expr {
            syn::Expr::MethodCall(call) if call.method == "tiles" && call.args.is_empty() => match &*call.receiver {
                syn::Expr::Path(path) => path.path.get_ident().cloned().map(Over::Tiles),
                _ => None,
            },
            syn::Expr::Path(path) => {
                path.path.get_ident().map(|name| Over::Other(name.span().into(), Some(name.clone())))
            }
            _ => None,
        };
        let over = over.unwrap_or_else(|| Over::Other(Source::of(&for_loop.expr), None));
        let keyword = for_loop.for_token.span();
        let head = LoopHead { keyword, variable, over };
        Some(Statement::Loop(Loop { head, body: self.block(&for_loop.body) }))
    }

    fn attributes(&self, attributes: &[syn::Attribute]) {
        if let Some(attribute) = attributes.first() {
            self.unsupported(
                Source::of(&attribute.meta),
                "attributes inside a function",
                "write it above the function",
            );
        }
    }
}
