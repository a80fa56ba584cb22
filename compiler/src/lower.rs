//! From what was asked to a tile program: every push becomes a loop over all key tiles.
//!
//! ```text
//! o.push(mask(dot(q[i], k[j]) * scale(), j <= i), v[j])
//! ```
//! becomes
//! ```text
//! for j in tiles(T0)
//!   s = dot q, k[j]
//!   s = map s * scale()
//!   s = mask s where j <= i on all
//!   o = push s, v[j]
//! ```
//!
//! Comptime scalars are replaced by their values, and the runtime ones renumbered. What a mask says of the score itself
//! (`mask(s, s > 0.0)`) becomes part of the map: `if s > 0.0 { s } else { -inf }`, or 0.0 for weights.

use crate::expr::{BinaryOp, Expr, Type};
use crate::ir::forward::Operands;
use crate::ir::{
    self, Axis, Base, DotTerm, Heads, Load, MaskedTiles, Operand, Output, Program, Range, Reduction, TileLoop, TileOp,
};
use crate::schedule::MAX_HEAD_DIM;
use crate::spec::{Accumulator, Location, MAX_EXPR_SIZE, ScalarValue, Spec};
use crate::typing::{SCORE, TypeError, type_of};
use thiserror::Error;

/// Why a specification has no tile program.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum LowerError {
    /// A head dim outside 1 to [`MAX_HEAD_DIM`].
    #[error("`{attention}`: the head dim of {what} is {dim}, expected 1 to {MAX_HEAD_DIM}")]
    HeadDim {
        /// The attention's name.
        attention: String,
        /// Whose.
        what: &'static str,
        /// The head dim.
        dim: usize,
    },
    /// Another number of scalars than the attention has.
    #[error("`{attention}` takes {expected} scalars, {given} were given")]
    ScalarCount {
        /// The attention's name.
        attention: String,
        /// How many it takes.
        expected: usize,
        /// How many there are.
        given: usize,
    },
    /// A scalar of another type than it is declared with, or out of its range.
    #[error("the scalar `{name}` is {given:?}, expected {expected}")]
    Scalar {
        /// The scalar's name.
        name: String,
        /// Its value.
        given: ScalarValue,
        /// What it must be.
        expected: &'static str,
    },
    /// An expression whose operands have the wrong types.
    #[error("{location}: {error}")]
    Type {
        /// Where it is written.
        location: Location,
        /// What is wrong.
        error: TypeError,
    },
    /// A push or a sink of a type that is not a float.
    #[error("{location}: {what} is of type {ty}, expected float")]
    NotFloat {
        /// Where it is written.
        location: Location,
        /// What it is.
        what: &'static str,
        /// Its type.
        ty: Type,
    },
    /// An expression of more than [`MAX_EXPR_SIZE`] nodes.
    #[error("{location}: {what} has {size} operations after its `let`s are expanded, expected at most {MAX_EXPR_SIZE}")]
    TooLarge {
        /// Where it is written.
        location: Location,
        /// What it is.
        what: &'static str,
        /// Its size.
        size: usize,
    },
    /// A sink that is not the same for all keys.
    #[error("{location}: a sink is one logit for each query, but `{text}` depends on {what}")]
    Sink {
        /// Where it is written.
        location: Location,
        /// The sink.
        text: String,
        /// What it must not depend on.
        what: &'static str,
    },
    /// What is said of tiles, in a specification.
    #[error("{location}: `i0`, `i1`, `j0`, `j1`, `least`, `greatest` and `count` have no meaning in a specification")]
    TileBound {
        /// Where it is written.
        location: Location,
    },
    /// A loop over a pair that does not exist, or a pair without a loop.
    #[error("`{attention}`: {message}")]
    Pairs {
        /// The attention's name.
        attention: String,
        /// What is wrong.
        message: String,
    },
}

/// The tile program of `spec` for operands of one element type and head dims. `scalars` holds a value for each of the
/// specification's scalars, of which only the comptime ones matter.
pub fn lower(spec: &Spec, scalars: &[ScalarValue], operands: Operands) -> Result<Program, LowerError> {
    check_operands(spec, operands)?;
    check_pairs(spec)?;
    let replacements = scalar_replacements(spec, scalars)?;

    let reduction = match &spec.accumulator {
        Accumulator::Softmax { sink } => {
            if let Some(sink) = sink {
                check_expression(spec, sink, "the sink")?;
                check_sink(spec, sink)?;
            }
            Reduction::Softmax { base: Base::E, sink: sink.as_ref().map(|sink| replace_scalars(sink, &replacements)) }
        }
        Accumulator::Sum => Reduction::Sum,
        Accumulator::Mean => Reduction::Mean,
    };
    let mut loops = Vec::new();
    for push_loop in &spec.loops {
        check_expression(spec, &push_loop.push, "a push")?;
        let parts = Parts::of(&replace_scalars(&push_loop.push, &replacements)).hide_by_score(&spec.accumulator);
        for part in std::iter::once(&parts.score).chain(&parts.visible) {
            check_size(spec, part, "a push")?;
        }
        let (key, value) = (1 + 2 * push_loop.pair, 2 + 2 * push_loop.pair);
        let mut body = vec![TileOp::Dot { tile: 0, terms: vec![DotTerm { row: 0, column: key }] }];
        if parts.score != Expr::SCORE {
            body.push(TileOp::Map { tile: 0, value: parts.score });
        }
        if let Some(visible) = parts.visible {
            body.push(TileOp::Mask { tile: 0, visible, on: MaskedTiles::All });
        }
        body.push(TileOp::Push { accumulator: 0, weights: 0, factor: None, values: value, dim: operands.v_dim });
        loops.push(TileLoop {
            columns: Axis::Keys(push_loop.pair),
            each_head: false,
            visit: vec![Range::ALL],
            full: Vec::new(),
            kind: None,
            key_hop: None,
            tiles: SCORE.to_vec(),
            body,
        });
    }
    let Operands { element, qk_dim, v_dim } = operands;
    let operand = |name: &String, heads, axis, dim| Operand { name: name.clone(), element, heads, axis, dim };
    let mut operands = vec![operand(&spec.query, Heads::Query, Axis::Queries, qk_dim)];
    for (set, pair) in spec.pairs.iter().enumerate() {
        operands.push(operand(&pair.key, Heads::Key, Axis::Keys(set), qk_dim));
        operands.push(operand(&pair.value, Heads::Key, Axis::Keys(set), v_dim));
    }
    Ok(Program {
        name: spec.name.clone(),
        scalars: spec.scalars.iter().filter(|scalar| !scalar.comptime).cloned().collect(),
        tensors: spec.tensors.clone(),
        operands,
        rows: Axis::Queries,
        accumulators: vec![ir::Accumulator { name: "o".into(), reduction }],
        loads: vec![Load { operand: 0, scale: None }],
        loops,
        outputs: vec![Output { element, heads: Heads::Query, dim: v_dim, value: Expr::Value(0) }],
    })
}

/// The values of the scalars that a program lowered from `spec` keeps, in its order, of all the specification's.
pub fn runtime_scalars(spec: &Spec, scalars: &[ScalarValue]) -> Vec<ScalarValue> {
    spec.scalars.iter().zip(scalars).filter(|(param, _)| !param.comptime).map(|(_, value)| *value).collect()
}

/// A push, taken apart: the score, and the predicate that says where it is visible, neither with a mask in it.
pub(crate) struct Parts {
    pub score: Expr,
    pub visible: Option<Expr>,
}

impl Parts {
    /// What is computed from a masked score is masked too: the predicate is that of all operands together.
    pub fn of(expr: &Expr) -> Parts {
        match expr {
            Expr::Mask(score, visible) => {
                let (score, by) = (Parts::of(score), Parts::of(visible));
                Parts { score: score.score, visible: and(and(score.visible, by.visible), Some(by.score)) }
            }
            Expr::Select(condition, then, otherwise) => {
                let (condition, then, otherwise) = (Parts::of(condition), Parts::of(then), Parts::of(otherwise));
                let branches = if then.visible == otherwise.visible {
                    then.visible
                } else {
                    let visible = |part: Option<Expr>| part.unwrap_or(Expr::Bool(true));
                    Some(Expr::select(condition.score.clone(), visible(then.visible), visible(otherwise.visible)))
                };
                let score = Expr::select(condition.score, then.score, otherwise.score);
                Parts { score, visible: and(condition.visible, branches) }
            }
            other => {
                let mut visible = None;
                let score = other.map_children(|child| {
                    let part = Parts::of(child);
                    visible = and(visible.take(), part.visible);
                    part.score
                });
                Parts { score, visible }
            }
        }
    }

    /// A mask comes after the map, where `s` is no longer q·k, and decides by position alone: the conditions on q·k move into
    /// the map, which gives hidden keys a score of −∞ or a weight of zero.
    pub fn hide_by_score(mut self, accumulator: &Accumulator) -> Parts {
        let Some(visible) = self.visible.take() else { return self };
        let mut conjuncts = Vec::new();
        split_conjunction(visible, &mut conjuncts);
        let (by_score, by_position): (Vec<_>, Vec<_>) =
            conjuncts.into_iter().partition(|conjunct| conjunct.mentions(&Expr::SCORE));
        self.visible = by_position.into_iter().fold(None, |all, conjunct| and(all, Some(conjunct)));
        if let Some(condition) = by_score.into_iter().fold(None, |all, conjunct| and(all, Some(conjunct))) {
            let hidden = match accumulator {
                Accumulator::Softmax { .. } => f32::NEG_INFINITY,
                Accumulator::Sum | Accumulator::Mean => 0.0,
            };
            self.score = Expr::select(condition, self.score, Expr::float(hidden));
        }
        self
    }
}

fn split_conjunction(expr: Expr, into: &mut Vec<Expr>) {
    match expr {
        Expr::Binary(BinaryOp::And, a, b) => {
            split_conjunction(*a, into);
            split_conjunction(*b, into);
        }
        other => into.push(other),
    }
}

fn and(a: Option<Expr>, b: Option<Expr>) -> Option<Expr> {
    match (a, b) {
        (Some(a), Some(b)) if a == b => Some(a),
        (Some(a), Some(b)) => Some(Expr::binary(BinaryOp::And, a, b)),
        (a, b) => a.or(b),
    }
}

/// What each of the specification's scalars becomes in the program.
pub(crate) fn scalar_replacements(spec: &Spec, scalars: &[ScalarValue]) -> Result<Vec<Expr>, LowerError> {
    if scalars.len() != spec.scalars.len() {
        let attention = spec.name.clone();
        return Err(LowerError::ScalarCount { attention, expected: spec.scalars.len(), given: scalars.len() });
    }
    let mut runtime = 0;
    let mut replacements = Vec::new();
    for (param, &given) in spec.scalars.iter().zip(scalars) {
        let wrong = |expected| Err(LowerError::Scalar { name: param.name.clone(), given, expected });
        if given.declared() != param.ty {
            return wrong(param.ty.name());
        }
        let constant = match given {
            ScalarValue::I32(value) => Expr::Int(value),
            ScalarValue::U32(value) => match i32::try_from(value) {
                Ok(value) => Expr::Int(value),
                Err(_) => return wrong("at most 2147483647, since integers are signed"),
            },
            ScalarValue::F32(value) => Expr::float(value),
            ScalarValue::Bool(value) => Expr::Bool(value),
        };
        if param.comptime {
            replacements.push(constant);
        } else {
            replacements.push(Expr::Scalar(runtime));
            runtime += 1;
        }
    }
    Ok(replacements)
}

pub(crate) fn replace_scalars(expr: &Expr, replacements: &[Expr]) -> Expr {
    match expr {
        Expr::Scalar(place) => replacements[*place].clone(),
        other => other.map_children(|child| replace_scalars(child, replacements)),
    }
}

fn check_operands(spec: &Spec, operands: Operands) -> Result<(), LowerError> {
    for (what, dim) in [("queries and keys", operands.qk_dim), ("values", operands.v_dim)] {
        if !(1..=MAX_HEAD_DIM).contains(&dim) {
            return Err(LowerError::HeadDim { attention: spec.name.clone(), what, dim });
        }
    }
    Ok(())
}

fn check_pairs(spec: &Spec) -> Result<(), LowerError> {
    let wrong = |message| Err(LowerError::Pairs { attention: spec.name.clone(), message });
    if let Some(outside) = spec.loops.iter().find(|push_loop| push_loop.pair >= spec.pairs.len()) {
        return wrong(format!("a loop over pair {} of {}", outside.pair, spec.pairs.len()));
    }
    for (place, pair) in spec.pairs.iter().enumerate() {
        if !spec.loops.iter().any(|push_loop| push_loop.pair == place) {
            return wrong(format!("no loop over `{}`", pair.key));
        }
    }
    if spec.pairs.is_empty() {
        return wrong("no keys".into());
    }
    Ok(())
}

fn check_expression(spec: &Spec, expr: &Expr, what: &'static str) -> Result<(), LowerError> {
    check_size(spec, expr, what)?;
    match type_of(expr, spec.parameters()) {
        Ok(Type::Float) => {}
        Ok(ty) => return Err(LowerError::NotFloat { location: spec.locate(expr).clone(), what, ty }),
        Err(error) => return Err(LowerError::Type { location: spec.locate(&error.expr).clone(), error }),
    }
    let of_tiles = |expr: &Expr| {
        use Expr::*;
        matches!(expr, QueryFirst | QueryLast | KeyFirst | KeyLast | Extreme { .. } | Count { .. } | Next { .. })
    };
    if expr.any(&mut |expr| of_tiles(expr)) {
        return Err(LowerError::TileBound { location: spec.locate(expr).clone() });
    }
    Ok(())
}

fn check_size(spec: &Spec, expr: &Expr, what: &'static str) -> Result<(), LowerError> {
    let size = expr.size();
    if size > MAX_EXPR_SIZE {
        return Err(LowerError::TooLarge { location: spec.locate(expr).clone(), what, size });
    }
    Ok(())
}

fn check_sink(spec: &Spec, sink: &Expr) -> Result<(), LowerError> {
    let depends_on = [
        ("the key's position", sink.mentions(&Expr::Key)),
        ("the score", sink.mentions(&Expr::SCORE)),
        ("a mask", sink.any(&mut |expr| matches!(expr, Expr::Mask(..)))),
    ];
    match depends_on.iter().find(|(_, depends)| *depends) {
        None => Ok(()),
        Some((what, _)) => {
            let text = sink.display(spec.parameters()).to_string();
            Err(LowerError::Sink { location: spec.locate(sink).clone(), text, what })
        }
    }
}
