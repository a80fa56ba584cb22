//! Checks operators that take something else than was likely meant: a `!` before a comparison, `&&` and `||` between masked scores,
//! and a product of tiles. Each is reported with what says it, and checked on as if that were written.

use crate::ast::{Binary, ExprKind, Expression, Unary};
use crate::check::checker::Checker;
use crate::check::scopes::Binding;
use crate::check::tiles::OperandTile;
use crate::names::{self, BuiltinOperands};
use crate::tree::{Node, TypedValue};
use crate::types::ValueType;
use proc_macro2::Span;

impl Checker<'_> {
    /// The value of `expr` as it was likely meant, where that is something else; which is reported.
    pub fn misread(&mut self, expr: &Expression) -> Option<TypedValue> {
        let ExprKind::Binary(op, token, a, b) = &expr.kind else { return None };
        match op {
            Binary::And | Binary::Or => {
                let (score, visible) = self.masked(expr)?;
                let mask = names::find("mask").expect("a function of the language");
                let meant =
                    Expression::made(ExprKind::Builtin(mask, expr.source.start, vec![score, visible]), expr.source);
                let message = format!("`{}` takes bools, and a masked score is none", op.symbol());
                self.errors.push(*token, message, format!("write `{meant}`"));
                Some(self.value(&meant))
            }
            Binary::Mul => self.product_of_tiles(expr),
            op if op.is_comparison() => {
                let (not, a) = self.without_not(a)?;
                let meant =
                    Expression::made(ExprKind::Binary(*op, *token, Box::new(a), b.clone()), expr.source).negated();
                let message = format!("`!` takes only what is next to it, not all of the `{}`", op.symbol());
                self.errors.push(not, message, format!("write `{meant}`"));
                Some(self.value(&meant))
            }
            _ => None,
        }
    }

    /// Where the `!` is with which `expr`, otherwise a number, begins, and `expr` without it.
    fn without_not(&self, expr: &Expression) -> Option<(Span, Expression)> {
        match &expr.kind {
            ExprKind::Unary(Unary::Not, operand) if self.is_number(operand) => {
                Some((expr.source.start, (**operand).clone()))
            }
            ExprKind::Binary(op, token, a, b) if op.is_arithmetic() => {
                let (not, a) = self.without_not(a)?;
                Some((not, Expression::made(ExprKind::Binary(*op, *token, Box::new(a), b.clone()), expr.source)))
            }
            _ => None,
        }
    }

    /// Whether `expr` gives a number, as far as its form shows it.
    fn is_number(&self, expr: &Expression) -> bool {
        match &expr.inner().kind {
            ExprKind::Int(_) | ExprKind::Float(_) | ExprKind::Cast(..) | ExprKind::Unary(Unary::Neg, _) => true,
            ExprKind::Binary(op, ..) => op.is_arithmetic(),
            ExprKind::Name(name) => matches!(
                self.scopes.find(name),
                Some(Binding::Local(ValueType::Int | ValueType::Float, _) | Binding::QueryTile | Binding::KeyTile(_))
            ),
            ExprKind::Index(name, _) => {
                matches!(self.scopes.find(name), Some(Binding::Tensor(element, _)) if element.ty() != ValueType::Bool)
            }
            ExprKind::Builtin(builtin, ..) => builtin.operands != BuiltinOperands::None(ValueType::Bool),
            _ => false,
        }
    }

    /// The score and the predicate of the mask that `expr` is, or of the one that `&&` and `||` of masks are meant for.
    fn masked(&self, expr: &Expression) -> Option<(Expression, Expression)> {
        match &expr.inner().kind {
            ExprKind::Builtin(builtin, _, arguments) if builtin.operands == BuiltinOperands::Mask => {
                match &arguments[..] {
                    [score, visible] => Some((score.clone(), visible.clone())),
                    _ => None,
                }
            }
            ExprKind::Binary(op @ (Binary::And | Binary::Or), _, a, b) => match (self.masked(a), self.masked(b)) {
                (Some((score, x)), Some((other, y))) if score.to_string() == other.to_string() => {
                    Some((score, x.with(*op, y)))
                }
                (Some((score, x)), None) if self.is_predicate(b) => Some((score, x.with(*op, (**b).clone()))),
                (None, Some((score, y))) if self.is_predicate(a) => Some((score, (**a).clone().with(*op, y))),
                _ => None,
            },
            _ => None,
        }
    }

    /// The value of a product in which a tile of queries meets one of keys.
    fn product_of_tiles(&mut self, product: &Expression) -> Option<TypedValue> {
        let tile = |expr: &Expression| match &expr.inner().kind {
            ExprKind::Index(name, _) | ExprKind::Name(name) => self.scopes.find(name).and_then(OperandTile::of),
            _ => None,
        };
        let (tiles, factors): (Vec<&Expression>, Vec<&Expression>) =
            factors(product).into_iter().partition(|factor| tile(factor).is_some());
        let [a, b] = tiles[..] else { return None };
        let (query, key) = match (tile(a)?, tile(b)?) {
            (OperandTile::Queries, OperandTile::Keys) => (a, b),
            (OperandTile::Keys, OperandTile::Queries) => (b, a),
            _ => return None,
        };
        let text = |expr: &Expression, wanted: OperandTile| match &expr.inner().kind {
            ExprKind::Index(..) => expr.inner().to_string(),
            _ => self.tile_text(wanted),
        };
        let dot = format!("dot({}, {})", text(query, OperandTile::Queries), text(key, OperandTile::Keys));
        let written: Vec<String> = std::iter::once(dot).chain(factors.iter().map(|factor| factor.factor())).collect();
        let source = product.source;
        self.errors.push(source, "tiles are not multiplied by `*`", format!("write `{}`", written.join(" * ")));
        // All of a tensor is one mistake with this.
        let is_indexed = [query, key].iter().all(|tile| matches!(tile.inner().kind, ExprKind::Index(..)));
        let place = if is_indexed { self.dot(source.start, &[query.clone(), key.clone()]) } else { 0 };
        for factor in factors {
            let value = self.value_as(factor, ValueType::Float);
            self.expect(value, ValueType::Float, factor);
        }
        Some(TypedValue { node: Node::Dot(place, source.start), ty: ValueType::Float, score: true, source })
    }
}

/// The factors of a product.
fn factors(expr: &Expression) -> Vec<&Expression> {
    match &expr.inner().kind {
        ExprKind::Binary(Binary::Mul, _, a, b) => factors(a).into_iter().chain(factors(b)).collect(),
        _ => vec![expr],
    }
}
