//! Checks an `if` that is a statement, as in Rust: it pushes, assigns, or goes on with the next key. The language has it only
//! as a value, so each is reported with the statement that says the same, and checked on as if that were written.

use crate::ast::{self, Assignment, Binary, Block, Expr, ExprKind, Let, Push, Statement};
use crate::check::assignments::assigned_value;
use crate::check::checker::Checker;
use crate::check::scopes::Binding;
use crate::names;
use crate::signature::Kind;
use crate::source::Source;
use proc_macro2::Ident;

impl Checker<'_> {
    /// The statement that is meant by `branch`, an `if`, where its branches do something; which is reported.
    pub fn conditional(&mut self, branch: &Expr) -> Option<Statement> {
        let ExprKind::If(condition, then, otherwise) = &branch.kind else { return None };
        if let Some((push, moved)) = self.conditional_push(branch) {
            let text = format!("`{};`", push.with_score(&last_line(&push.arguments[0]).to_string()));
            let help = match moved {
                true => format!("move what comes before it out of the `if`, and write {text}"),
                false => format!("write {text}"),
            };
            self.errors.push(push.method, "`push` can't be in an `if`: keys are hidden by `mask`", help);
            return Some(Statement::Push(push));
        }
        if let Some((name, operator)) = assigned(branch) {
            return Some(self.conditional_assignment(branch, &name, operator));
        }
        if let ([Statement::Value(Expr { kind: ExprKind::Return(keyword, Some(value)), .. }, _)], None) =
            (&then.statements[..], otherwise)
        {
            let help = format!("write `if {condition} {{ {value} }} else {{ … }}`, with what follows in the `else`");
            self.errors.push(*keyword, "`return` is not in the language", help);
            self.value(condition);
            self.value(value);
            return Some(Statement::Value(Expr { kind: ExprKind::Reported, source: branch.source }, None));
        }
        let is_jump = |expr: &Expr| matches!(expr.kind, ExprKind::Jump(_));
        let is_jump = |block: &Block| matches!(&block.statements[..], [Statement::Value(value, _)] if is_jump(value));
        if is_jump(then) && otherwise.is_none() {
            let ExprKind::Jump(keyword) = &ast::tail(then)?.kind else { return None };
            let visible = condition.negated();
            let message = format!("`{keyword}` is not in the language");
            let help = format!("hide the keys, and tiles of hidden ones are skipped: push `mask(s, {visible})`");
            self.errors.push(ast::tail(then)?.source, message, help);
            self.value(condition);
            return Some(Statement::Value(Expr { kind: ExprKind::Reported, source: branch.source }, None));
        }
        None
    }

    /// The push of all keys that pushes in the branches of `branch` mean, and whether there are lines before one of them.
    fn conditional_push(&self, branch: &Expr) -> Option<(Push, bool)> {
        let ExprKind::If(condition, then, otherwise) = &branch.kind else { return None };
        let first = self.push_of(then);
        let second = otherwise.as_ref().and_then(|otherwise| match &otherwise.kind {
            ExprKind::Block(block) => self.push_of(block),
            _ => self.conditional_push(otherwise),
        });
        let masked = |(mut push, moved): (Push, bool), visible: Expr| {
            push.arguments[0] = masked(push.arguments[0].clone(), visible);
            (push, moved)
        };
        match (first, second) {
            (Some(first), None) => Some(masked(first, (**condition).clone())),
            (None, Some(second)) => Some(masked(second, condition.negated())),
            (Some((mut first, first_moved)), Some((second, second_moved))) => {
                let source = branch.source;
                let block =
                    |score: &Expr| Block { statements: vec![Statement::Value(score.clone(), None)], close: source.end };
                let second = Expr { kind: ExprKind::Block(block(&second.arguments[0])), source };
                let score = block(&first.arguments[0]);
                first.arguments[0] =
                    Expr { kind: ExprKind::If(condition.clone(), score, Some(Box::new(second))), source };
                Some((first, first_moved || second_moved))
            }
            (None, None) => None,
        }
    }

    /// The push that ends `block`, and whether there are lines before it.
    fn push_of(&self, block: &Block) -> Option<(Push, bool)> {
        let (last, before) = block.statements.split_last()?;
        let (mut push, moved) = match last {
            Statement::Push(push) if push.arguments.len() == push.count() => (push.clone(), false),
            Statement::Assignment(assignment) => match &assignment.target.inner().kind {
                ExprKind::Name(name) if matches!(self.scopes.find(name), Some(Binding::Accumulator(_))) => {
                    (self.pushed(name, assignment)?, false)
                }
                _ => return None,
            },
            Statement::Value(inner, _) => self.conditional_push(inner)?,
            _ => return None,
        };
        if before.is_empty() {
            return Some((push, moved));
        }
        let score = push.arguments[0].clone();
        let source = score.source;
        let mut statements = before.to_vec();
        statements.push(Statement::Value(score, None));
        push.arguments[0] = Expr { kind: ExprKind::Block(Block { statements, close: source.end }), source };
        Some((push, true))
    }

    /// Reports an assignment in an `if`; the `let` that was meant.
    fn conditional_assignment(&mut self, branch: &Expr, name: &Ident, operator: Source) -> Statement {
        let ExprKind::If(condition, then, otherwise) = &branch.kind else { unreachable!("an `if`") };
        let target = Expr { kind: ExprKind::Name(name.clone()), source: branch.source };
        let hides = |block: &Block| match &block.statements[..] {
            // A finite number beside another value may be meant as it is.
            [Statement::Assignment(only)] if only.compound.is_none() && only.value.hides() => {
                otherwise.is_none() || only.value.is_infinite()
            }
            _ => false,
        };
        let may_mask = self.in_key_loop() || self.signature.kind == Kind::Score;
        let hidden = match otherwise.as_deref() {
            _ if !may_mask => None,
            None if hides(then) => Some(masked(target.clone(), condition.negated())),
            Some(Expr { kind: ExprKind::Block(block), .. }) if hides(then) => {
                let block = assigned_block(block, &target);
                let score = Expr { kind: ExprKind::Block(block), source: branch.source };
                Some(masked(last_line(&score), condition.negated()))
            }
            Some(Expr { kind: ExprKind::Block(block), .. }) if hides(block) => {
                let block = assigned_block(then, &target);
                let score = Expr { kind: ExprKind::Block(block), source: branch.source };
                Some(masked(last_line(&score), (**condition).clone()))
            }
            _ => None,
        };
        let is_hidden = hidden.is_some();
        let value = hidden.unwrap_or_else(|| assigned_if(branch, &target));
        if self.report_carried(name, operator.start, &value) {
            return Statement::Value(Expr { kind: ExprKind::Reported, source: branch.source }, None);
        }
        let text = format!("write `let {name} = {value};`");
        let help = if is_hidden {
            format!("to hide keys, {text}")
        } else if self.in_key_loop() {
            format!("{text}, or `mask({name}, …)` to hide keys")
        } else {
            text
        };
        self.errors.push(operator, "assignments are not in the language", help);
        Statement::Let(Let { name: name.clone(), mutable: None, ty: None, value })
    }
}

/// `mask(score, visible)`; one mask of both where the score is masked already.
fn masked(score: Expr, visible: Expr) -> Expr {
    let source = score.source;
    let mask = names::find("mask").expect("a function of the language");
    let (score, visible) = match score.kind {
        ExprKind::Builtin(builtin, _, mut arguments) if builtin == mask && arguments.len() == 2 => {
            let inner = arguments.pop().expect("two arguments");
            (arguments.pop().expect("two arguments"), visible.with(Binary::And, inner))
        }
        kind => (Expr { kind, source }, visible),
    };
    Expr { kind: ExprKind::Builtin(mask, source.start, vec![score, visible]), source }
}

/// `score` without the lines before it.
fn last_line(score: &Expr) -> Expr {
    let kind = match &score.kind {
        ExprKind::Builtin(builtin, token, arguments) => {
            ExprKind::Builtin(*builtin, *token, arguments.iter().map(last_line).collect())
        }
        ExprKind::Block(block) => return ast::tail(block).map_or_else(|| score.clone(), last_line),
        ExprKind::If(condition, then, otherwise) => {
            let line = ast::tail(then).map(last_line);
            let statements = line.map_or_else(|| then.statements.clone(), |line| vec![Statement::Value(line, None)]);
            let otherwise = otherwise.as_ref().map(|otherwise| {
                let line = last_line(otherwise);
                let source = line.source;
                let block = Block { statements: vec![Statement::Value(line, None)], close: source.end };
                Box::new(Expr { kind: ExprKind::Block(block), source })
            });
            ExprKind::If(condition.clone(), Block { statements, close: then.close }, otherwise)
        }
        kind => kind.clone(),
    };
    Expr { kind, source: score.source }
}

/// The name that is assigned at the end of a branch of `branch`, and the first operator that does.
fn assigned(branch: &Expr) -> Option<(Ident, Source)> {
    let ExprKind::If(_, then, otherwise) = &branch.kind else { return None };
    let of_block = |block: &Block| match block.statements.last()? {
        Statement::Assignment(Assignment { target, operator, .. }) => match &target.inner().kind {
            ExprKind::Name(name) => Some((name.clone(), *operator)),
            _ => None,
        },
        Statement::Value(inner, _) => assigned(inner),
        _ => None,
    };
    of_block(then).or_else(|| match &otherwise.as_ref()?.kind {
        ExprKind::Block(block) => of_block(block),
        _ => assigned(otherwise.as_ref()?),
    })
}

/// The value that `target` has after `branch`.
fn assigned_if(branch: &Expr, target: &Expr) -> Expr {
    let ExprKind::If(condition, then, otherwise) = &branch.kind else { return branch.clone() };
    let source = branch.source;
    let unchanged = || Block { statements: vec![Statement::Value(target.clone(), None)], close: source.end };
    let otherwise = match otherwise.as_deref() {
        None => Expr { kind: ExprKind::Block(unchanged()), source },
        Some(Expr { kind: ExprKind::Block(block), source }) => {
            Expr { kind: ExprKind::Block(assigned_block(block, target)), source: *source }
        }
        Some(inner) => assigned_if(inner, target),
    };
    let kind = ExprKind::If(condition.clone(), assigned_block(then, target), Some(Box::new(otherwise)));
    Expr { kind, source }
}

/// `block` with the value that it gives to `target` as its last line.
fn assigned_block(block: &Block, target: &Expr) -> Block {
    let mut statements = block.statements.clone();
    let value = match statements.last() {
        Some(Statement::Assignment(assignment)) if assignment.target.to_string() == target.to_string() => {
            let value = assigned_value(assignment);
            statements.pop();
            value
        }
        Some(Statement::Value(inner @ Expr { kind: ExprKind::If(..), .. }, _)) if assigned(inner).is_some() => {
            let value = assigned_if(inner, target);
            statements.pop();
            value
        }
        _ => target.clone(),
    };
    statements.push(Statement::Value(value, None));
    Block { statements, close: block.close }
}
