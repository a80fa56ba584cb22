//! Assignments in an `if`, which the language has not: each is reported with the `let` that says the same.

use crate::ast::{Binary, Block, Expr, ExprKind, Let, Statement};
use crate::error::Source;
use crate::parse::Parser;
use proc_macro2::{Ident, Span};
use syn::spanned::Spanned;
use syn::{BinOp, Stmt};

/// `name = value`, or `name += value` and the like.
pub struct Assignment<'a> {
    pub name: &'a Ident,
    operator: Span,
    /// The operation of `+=` and the like.
    compound: Option<Binary>,
    value: &'a syn::Expr,
}

/// The assignment to a variable that `statement` is, if it is one.
fn assignment(statement: &Stmt) -> Option<Assignment<'_>> {
    let Stmt::Expr(expr, _) = statement else { return None };
    let (target, operator, compound, value) = match expr {
        syn::Expr::Assign(assign) => (&assign.left, assign.eq_token.span(), None, &assign.right),
        syn::Expr::Binary(binary) => {
            let op = match binary.op {
                BinOp::AddAssign(_) => Binary::Add,
                BinOp::SubAssign(_) => Binary::Sub,
                BinOp::MulAssign(_) => Binary::Mul,
                BinOp::DivAssign(_) => Binary::Div,
                _ => return None,
            };
            (&binary.left, Source::of(&binary.op).start, Some(op), &binary.right)
        }
        _ => return None,
    };
    let syn::Expr::Path(path) = &**target else { return None };
    Some(Assignment { name: path.path.get_ident()?, operator, compound, value })
}

/// The first assignment that ends a branch of `branch`.
pub fn assigned_in(branch: &syn::ExprIf) -> Option<Assignment<'_>> {
    if matches!(*branch.cond, syn::Expr::Let(_)) {
        return None;
    }
    let otherwise = || match &*branch.else_branch.as_ref()?.1 {
        syn::Expr::If(branch) => assigned_in(branch),
        syn::Expr::Block(block) => block.block.stmts.last().and_then(assignment),
        _ => None,
    };
    branch.then_branch.stmts.last().and_then(assignment).or_else(otherwise)
}

impl Parser<'_> {
    /// Reports an assignment in an `if`, and checks on as if it were the `let` that is to be written.
    pub fn conditional_assignment(&self, branch: &syn::ExprIf, assignment: &Assignment) -> Statement {
        let name = assignment.name;
        let value = self.assigned_branch(branch, name);
        self.errors.push(
            assignment.operator,
            "assignments are not in the language",
            format!("write `let {name} = {value};`, or `mask({name}, …)` to hide keys"),
        );
        Statement::Let(Let { name: name.clone(), ty: None, value })
    }

    /// The value that `name` has after `branch`.
    fn assigned_branch(&self, branch: &syn::ExprIf, name: &Ident) -> Expr {
        let source = Source::of(branch);
        let condition = Box::new(self.expr(&branch.cond));
        let then = self.assigned_block(&branch.then_branch, name);
        let otherwise = match branch.else_branch.as_ref().map(|(_, otherwise)| &**otherwise) {
            Some(syn::Expr::If(branch)) => self.assigned_branch(branch, name),
            Some(syn::Expr::Block(block)) => {
                Expr { kind: ExprKind::Block(self.assigned_block(&block.block, name)), source: Source::of(block) }
            }
            _ => {
                let unchanged = Expr { kind: ExprKind::Name(name.clone()), source };
                let statements = vec![Statement::Value(unchanged, None)];
                Expr { kind: ExprKind::Block(Block { statements, close: source.end }), source }
            }
        };
        Expr { kind: ExprKind::If(condition, then, Box::new(otherwise)), source }
    }

    /// `block` with the value it gives to `name` as its last line.
    fn assigned_block(&self, block: &syn::Block, name: &Ident) -> Block {
        let last = block.stmts.last();
        let (mut statements, value) = match last.and_then(assignment).filter(|assignment| assignment.name == name) {
            Some(assignment) => {
                let statements = self.statements(&block.stmts[..block.stmts.len() - 1]);
                let kind = match (assignment.value, assignment.compound) {
                    // Mostly `f32::NEG_INFINITY`, which hides keys: one error says so.
                    (syn::Expr::Path(path), None) if path.path.get_ident().is_none() => ExprKind::Wrong,
                    (value, None) => self.expr(value).kind,
                    (value, Some(op)) => {
                        let source = Source::from(name.span());
                        let before = Expr { kind: ExprKind::Name(name.clone()), source };
                        let mut value = self.expr(value);
                        if matches!(value.kind, ExprKind::Binary(..)) {
                            let source = value.source;
                            value = Expr { kind: ExprKind::Paren(Box::new(value)), source };
                        }
                        ExprKind::Binary(op, assignment.operator, Box::new(before), Box::new(value))
                    }
                };
                (statements, Expr { kind, source: Source::of(assignment.value) })
            }
            None => {
                let source = block.brace_token.span.close().into();
                (self.statements(&block.stmts), Expr { kind: ExprKind::Wrong, source })
            }
        };
        statements.push(Statement::Value(value, None));
        Block { statements, close: block.brace_token.span.close() }
    }
}
