//! Checks an `if` that is a statement, as in Rust: it pushes, assigns, or goes on with the next key. The language has it only
//! as a value, so each is reported with the statement that says the same, and checked on as if that were written.

use crate::ast::{self, Assignment, Binary, Block, ExprKind, Expression, Let, PushStatement, Statement};
use crate::check::assignments::assigned_value;
use crate::check::checker::Checker;
use crate::check::presence::Presence;
use crate::check::scopes::Binding;
use crate::names;
use crate::signature::Kind;
use crate::source::Source;
use crate::types::ValueType;
use proc_macro2::Ident;

impl Checker<'_> {
    /// The statement that is meant by `branch`, an `if`, where its branches do something; which is reported.
    pub fn conditional(&mut self, branch: &Expression) -> Option<Statement> {
        let ExprKind::If(condition, then, otherwise) = &branch.kind else { return None };
        let (mut pushes, moved) = self.conditional_pushes(branch);
        if let Some(first) = pushes.first() {
            let text =
                |push: &PushStatement| format!("`{};`", push.with_score(&last_line(&push.arguments[0]).to_string()));
            let texts = pushes.iter().map(text).collect::<Vec<_>>().join(" and ");
            let help = match moved {
                true => format!("move what comes before it out of the `if`, and write {texts}"),
                false => format!("write {texts}"),
            };
            self.errors.push(first.method, "`push` can't be in an `if`: keys are hidden by `mask`", help);
            if pushes.len() == 1 {
                return pushes.pop().map(Statement::Push);
            }
            self.needs.push_of_loop = Presence::Found;
            self.needs.push = Presence::Reported;
            self.needs.doubt();
            self.accumulators.iter_mut().for_each(|accumulator| accumulator.is_pushed = true);
            return Some(Statement::Value(Expression { kind: ExprKind::Reported, source: branch.source }, None));
        }
        if let Some(assigned) = several_assigned(branch) {
            return Some(self.conditional_assignments(branch, &assigned));
        }
        if let Some((name, operator)) = assigned(branch) {
            return Some(self.conditional_assignment(branch, &name, operator));
        }
        if let ([Statement::Value(Expression { kind: ExprKind::Return(keyword, Some(value)), .. }, _)], None) =
            (&then.statements[..], otherwise)
        {
            let help = format!("write `if {condition} {{ {value} }} else {{ … }}`, with what follows in the `else`");
            self.errors.push(*keyword, "`return` is not in the language", help);
            self.value(condition);
            self.value(value);
            return Some(Statement::Value(Expression { kind: ExprKind::Reported, source: branch.source }, None));
        }
        let is_jump = |expr: &Expression| matches!(expr.kind, ExprKind::Jump(_));
        let is_jump = |block: &Block| matches!(&block.statements[..], [Statement::Value(value, _)] if is_jump(value));
        if is_jump(then) && otherwise.is_none() {
            let ExprKind::Jump(keyword) = &ast::tail(then)?.kind else { return None };
            let visible = condition.negated();
            let message = format!("`{keyword}` is not in the language");
            let help = format!("hide the keys, and tiles of hidden ones are skipped: push `mask(s, {visible})`");
            self.errors.push(ast::tail(then)?.source, message, help);
            self.value(condition);
            return Some(Statement::Value(Expression { kind: ExprKind::Reported, source: branch.source }, None));
        }
        None
    }

    /// The pushes of all keys that pushes in the branches of `branch` mean, and whether there are lines before one of them. Branches that
    /// push the same values into the same accumulator are one push, of one score or the other.
    fn conditional_pushes(&self, branch: &Expression) -> (Vec<PushStatement>, bool) {
        let ExprKind::If(condition, then, otherwise) = &branch.kind else { return (Vec::new(), false) };
        let (mut first, first_moved) = self.pushes_of(then);
        let (mut second, second_moved) = match otherwise.as_deref() {
            None => (Vec::new(), false),
            Some(Expression { kind: ExprKind::Block(block), .. }) => self.pushes_of(block),
            Some(otherwise) => self.conditional_pushes(otherwise),
        };
        let moved = first_moved || second_moved;
        if let ([first], [second]) = (&mut first[..], &second[..])
            && first.is_but_for_its_score(second)
        {
            let source = branch.source;
            let block = |score: &Expression| Block {
                statements: vec![Statement::Value(score.clone(), None)],
                close: source.end,
            };
            let second = Expression { kind: ExprKind::Block(block(&second.arguments[0])), source };
            let score = block(&first.arguments[0]);
            first.arguments[0] =
                Expression { kind: ExprKind::If(condition.clone(), score, Some(Box::new(second))), source };
            return (vec![first.clone()], moved);
        }
        for push in &mut first {
            push.arguments[0] = masked(push.arguments[0].clone(), (**condition).clone());
        }
        for push in &mut second {
            push.arguments[0] = masked(push.arguments[0].clone(), condition.negated());
        }
        first.append(&mut second);
        (first, moved)
    }

    /// The pushes that end `block`, and whether there are lines before them.
    fn pushes_of(&self, block: &Block) -> (Vec<PushStatement>, bool) {
        let mut pushes = Vec::new();
        let mut before = &block.statements[..];
        let mut moved = false;
        while let Some((last, rest)) = before.split_last() {
            match last {
                Statement::Push(push) if push.arguments.len() == push.count() => pushes.insert(0, push.clone()),
                Statement::Assignment(assignment) => {
                    let pushed = match &assignment.target.inner().kind {
                        ExprKind::Name(name) if matches!(self.scopes.find(name), Some(Binding::Accumulator(_))) => {
                            self.pushed(name, assignment)
                        }
                        _ => None,
                    };
                    let Some(push) = pushed else { break };
                    pushes.insert(0, push);
                }
                Statement::Value(inner, _) if pushes.is_empty() => {
                    (pushes, moved) = self.conditional_pushes(inner);
                    if pushes.is_empty() {
                        break;
                    }
                }
                _ => break,
            }
            before = rest;
        }
        if before.is_empty() || pushes.is_empty() {
            return (pushes, moved);
        }
        for push in &mut pushes {
            let score = push.arguments[0].clone();
            let source = score.source;
            let mut statements = before.to_vec();
            statements.push(Statement::Value(score, None));
            push.arguments[0] = Expression { kind: ExprKind::Block(Block { statements, close: source.end }), source };
        }
        (pushes, true)
    }

    /// Reports an assignment in an `if`; the `let` that was meant.
    fn conditional_assignment(&mut self, branch: &Expression, name: &Ident, operator: Source) -> Statement {
        let ExprKind::If(condition, _, otherwise) = &branch.kind else { unreachable!("an `if`") };
        let (value, is_hidden) = self.value_after(branch, name);
        if self.report_carried(name, operator.start, &value) {
            return Statement::Value(Expression { kind: ExprKind::Reported, source: branch.source }, None);
        }
        let text = format!("write `let {name} = {value};`");
        let is_score = self.scopes.find(name) == Some(Binding::Local(ValueType::Float, true));
        let help = if is_hidden {
            format!("to hide keys, {text}")
        } else if self.in_key_loop() && is_score && otherwise.is_none() {
            format!("{text}, or to hide keys `let {name} = mask({name}, {});`", condition.negated())
        } else {
            text
        };
        self.errors.push(operator, "assignments are not in the language", help);
        Statement::Let(Let { name: name.clone(), mutable: None, ty: None, value })
    }

    /// Reports the assignments to several names in an `if`, each once and in one order; nothing that is left to be checked.
    fn conditional_assignments(&mut self, branch: &Expression, assigned: &[&Assignment]) -> Statement {
        let ExprKind::If(condition, then, otherwise) = &branch.kind else { unreachable!("an `if`") };
        let names: Vec<&Ident> = assigned.iter().filter_map(|assignment| target(assignment)).collect();
        let mut is_carried = false;
        for (name, assignment) in names.iter().zip(assigned) {
            is_carried |= self.report_carried(name, assignment.operator.start, &assignment.value);
        }
        if is_carried {
            return Statement::Value(Expression { kind: ExprKind::Reported, source: branch.source }, None);
        }
        let mut lets = Vec::new();
        // A condition that the first `let` would change has a name of its own.
        let mut changed = false;
        condition.visit(&mut |expr| {
            changed |= matches!(&expr.kind, ExprKind::Name(name) if names.contains(&name));
        });
        let test = if changed {
            lets.push(format!("`let changes = {condition};`"));
            Expression { kind: ExprKind::Name(Ident::new("changes", condition.source.start)), source: condition.source }
        } else {
            (**condition).clone()
        };
        // Only what belongs to `name`.
        let only = |block: &Block, name: &Ident| Block {
            statements: block.statements.iter().filter(|line| assigns(line, name)).cloned().collect(),
            close: block.close,
        };
        let mut values = Vec::new();
        for name in names {
            let otherwise = otherwise.as_deref().map(|otherwise| match &otherwise.kind {
                ExprKind::Block(block) => {
                    Box::new(Expression { kind: ExprKind::Block(only(block, name)), source: otherwise.source })
                }
                _ => unreachable!("an `else` that is a block"),
            });
            let kind = ExprKind::If(Box::new(test.clone()), only(then, name), otherwise);
            let (value, _) = self.value_after(&Expression { kind, source: branch.source }, name);
            lets.push(format!("`let {name} = {value};`"));
            values.push((name, value));
        }
        let help = format!("write {} instead of the `if`", lets.join(" and "));
        self.errors.push(assigned[0].operator, "assignments are not in the language", help);
        if changed {
            self.value_as(condition, ValueType::Bool);
            self.scopes.enter();
            self.scopes.bind(&Ident::new("changes", condition.source.start), Binding::Local(ValueType::Bool, false));
        }
        for (_, value) in values {
            self.value(&value);
        }
        if changed {
            self.scopes.leave();
        }
        Statement::Value(Expression { kind: ExprKind::Reported, source: branch.source }, None)
    }

    /// The value that `name` has after `branch`, and whether that is a mask which hides keys.
    fn value_after(&self, branch: &Expression, name: &Ident) -> (Expression, bool) {
        let ExprKind::If(condition, then, otherwise) = &branch.kind else { unreachable!("an `if`") };
        let target = Expression { kind: ExprKind::Name(name.clone()), source: branch.source };
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
            Some(Expression { kind: ExprKind::Block(block), .. }) if hides(then) => {
                let block = assigned_block(block, &target);
                let score = Expression { kind: ExprKind::Block(block), source: branch.source };
                Some(masked(last_line(&score), condition.negated()))
            }
            Some(Expression { kind: ExprKind::Block(block), .. }) if hides(block) => {
                let block = assigned_block(then, &target);
                let score = Expression { kind: ExprKind::Block(block), source: branch.source };
                Some(masked(last_line(&score), (**condition).clone()))
            }
            _ => None,
        };
        let is_hidden = hidden.is_some();
        (hidden.unwrap_or_else(|| assigned_if(branch, &target)), is_hidden)
    }
}

/// The name that is assigned to, if it is one.
fn target(assignment: &Assignment) -> Option<&Ident> {
    match &assignment.target.inner().kind {
        ExprKind::Name(name) => Some(name),
        _ => None,
    }
}

/// Whether `line` assigns to `name`.
fn assigns(line: &Statement, name: &Ident) -> bool {
    matches!(line, Statement::Assignment(assignment) if target(assignment) == Some(name))
}

/// The first assignment to each name in the branches of `branch`, if there is nothing else in them, no name has two in one branch, and
/// those that both branches assign to have one order.
fn several_assigned(branch: &Expression) -> Option<Vec<&Assignment>> {
    let ExprKind::If(_, then, otherwise) = &branch.kind else { return None };
    let second = match otherwise.as_deref() {
        None => None,
        Some(Expression { kind: ExprKind::Block(block), .. }) => Some(block),
        Some(_) => return None,
    };
    let mut all: Vec<&Assignment> = Vec::new();
    for block in [Some(then), second].into_iter().flatten() {
        let mut place = 0;
        let known = all.len();
        for line in &block.statements {
            let Statement::Assignment(assignment) = line else { return None };
            let name = target(assignment)?;
            match all.iter().position(|other| target(other) == Some(name)) {
                Some(at) if at < known && at >= place => place = at + 1,
                Some(_) => return None,
                // What the first block assigns to after it would change before it.
                None => {
                    place = known;
                    all.push(assignment);
                }
            }
        }
    }
    (all.len() > 1).then_some(all)
}

/// `mask(score, visible)`; one mask of both where the score is masked already.
fn masked(score: Expression, visible: Expression) -> Expression {
    let source = score.source;
    let mask = names::find("mask").expect("a function of the language");
    let (score, visible) = match score.kind {
        ExprKind::Builtin(builtin, _, mut arguments) if builtin == mask && arguments.len() == 2 => {
            let inner = arguments.pop().expect("two arguments");
            (arguments.pop().expect("two arguments"), visible.with(Binary::And, inner))
        }
        kind => (Expression { kind, source }, visible),
    };
    Expression { kind: ExprKind::Builtin(mask, source.start, vec![score, visible]), source }
}

/// `score` without the lines before it.
fn last_line(score: &Expression) -> Expression {
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
                Box::new(Expression { kind: ExprKind::Block(block), source })
            });
            ExprKind::If(condition.clone(), Block { statements, close: then.close }, otherwise)
        }
        kind => kind.clone(),
    };
    Expression { kind, source: score.source }
}

/// The name that is assigned at the end of a branch of `branch`, and the first operator that does.
fn assigned(branch: &Expression) -> Option<(Ident, Source)> {
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
fn assigned_if(branch: &Expression, target: &Expression) -> Expression {
    let ExprKind::If(condition, then, otherwise) = &branch.kind else { return branch.clone() };
    let source = branch.source;
    let unchanged = || Block { statements: vec![Statement::Value(target.clone(), None)], close: source.end };
    let otherwise = match otherwise.as_deref() {
        None => Expression { kind: ExprKind::Block(unchanged()), source },
        Some(Expression { kind: ExprKind::Block(block), source }) => {
            Expression { kind: ExprKind::Block(assigned_block(block, target)), source: *source }
        }
        Some(inner) => assigned_if(inner, target),
    };
    let kind = ExprKind::If(condition.clone(), assigned_block(then, target), Some(Box::new(otherwise)));
    Expression { kind, source }
}

/// `block` with the value that it gives to `target` as its last line.
fn assigned_block(block: &Block, target: &Expression) -> Block {
    let mut statements = block.statements.clone();
    let value = match statements.last() {
        Some(Statement::Assignment(assignment)) if assignment.target.to_string() == target.to_string() => {
            let value = assigned_value(assignment);
            statements.pop();
            value
        }
        Some(Statement::Value(inner @ Expression { kind: ExprKind::If(..), .. }, _)) if assigned(inner).is_some() => {
            let value = assigned_if(inner, target);
            statements.pop();
            value
        }
        _ => target.clone(),
    };
    statements.push(Statement::Value(value, None));
    Block { statements, close: block.close }
}
