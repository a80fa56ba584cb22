//! From what was asked to a tile program: every key loop becomes a loop over all key tiles.
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
//! Each product is a tile, `s`, `s2` and so on. A push whose products nothing else needs changes the first of them into what it pushes; any
//! other push makes a tile of its own.
//!
//! Comptime scalars are replaced by their values, and the runtime ones renumbered. What a mask says of the score itself
//! (`mask(s, s > 0.0)`) becomes part of the map: `if s > 0.0 { s } else { -inf }`, or 0.0 for weights.

use crate::analysis::simplify::simplify;
use crate::expr::{BinaryOp, Expr, Type};
use crate::ir::forward::{OperandDims, Operands};
use crate::ir::print::{RESERVED, VALUES};
use crate::ir::{
    self, Axis, Base, DotTerm, Heads, Kept, Load, MaskedTiles, Operand, Output, Program, Range, Reduction, TileLoop,
    TileOp,
};
use crate::pruned::{Constants, head_dim};
use crate::schedule::MAX_HEAD_DIM;
use crate::spec::{
    Accumulator, DotParam, KeyLoop, Leading, Location, MAX_DOTS, MAX_EXPR_SIZE, MAX_OUTPUTS, Push, Role, ScalarType,
    ScalarValue, Spec,
};
use crate::typing::{Parameters, TypeError, type_of};
use std::borrow::Cow;
use std::collections::HashSet;
use thiserror::Error;

/// Why a specification has no tile program.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum LowerError {
    /// A head dim outside 1 to [`MAX_HEAD_DIM`].
    #[error("`{attention}`: the head dim of `{what}` is {dim}, expected 1 to {MAX_HEAD_DIM}")]
    HeadDim {
        /// The attention's name.
        attention: String,
        /// Whose.
        what: String,
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
    /// A push, a weight, a sink or an output of a type that is not a float.
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
    /// A constant that is no number, or infinite.
    #[error("{location}: the constant is {value}, expected a finite number; to hide a key, write `mask(s, visible)`")]
    NotFinite {
        /// Where it is written.
        location: Location,
        /// The constant.
        value: String,
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
    /// An output that depends on keys.
    #[error("{location}: an output is computed after the key loops, but `{text}` depends on {what}")]
    Output {
        /// Where it is written.
        location: Location,
        /// The output.
        text: String,
        /// What it must not depend on.
        what: &'static str,
    },
    /// A mask where none can be: in a weight.
    #[error("{location}: a weight has no mask, but `{text}` has one; the score is masked")]
    MaskedWeight {
        /// Where it is written.
        location: Location,
        /// The weight.
        text: String,
    },
    /// Operands, loops and accumulators that do not fit each other.
    #[error("`{attention}`: {message}")]
    Form {
        /// The attention's name.
        attention: String,
        /// What is wrong.
        message: String,
    },
}

/// The tile program of `spec` for operands of one element type and head dims. `scalars` holds a value for each of the
/// specification's scalars, of which only the comptime ones matter.
///
/// # Errors
/// [`LowerError`].
pub fn lower(spec: &Spec, scalars: &[ScalarValue], dims: &OperandDims) -> Result<Program, LowerError> {
    for (param, &dim) in spec.operands.iter().zip(&dims.dims) {
        if !(1..=MAX_HEAD_DIM).contains(&dim) {
            return Err(LowerError::HeadDim { attention: spec.name.clone(), what: param.name.clone(), dim });
        }
    }
    lower_any(spec, scalars, dims)
}

/// Refuses what [`lower`] does, but for head dims that are too large for kernels.
///
/// # Errors
/// [`LowerError`].
pub fn check(spec: &Spec, scalars: &[ScalarValue], dims: &OperandDims) -> Result<(), LowerError> {
    lower_any(spec, scalars, dims).map(drop)
}

fn lower_any(spec: &Spec, scalars: &[ScalarValue], dims: &OperandDims) -> Result<Program, LowerError> {
    check_spec(spec)?;
    let replacements = Replacements::new(spec, scalars, head_dim(spec, dims))?;
    let output_dims = check_dims(spec, scalars, dims)?;
    let element = dims.element;
    let constants = Constants::new(spec, scalars, head_dim(spec, dims));
    let spec = spec.pruned(&constants);
    check_pruned(&spec)?;
    let spec = without_dead_products(spec, &constants);
    let spec = &with_products(spec, dims)?;

    let accumulators = spec.accumulators.iter().zip(accumulator_names(spec)).map(|(accumulator, name)| {
        let reduction = match &accumulator.kind {
            Accumulator::Softmax { sink } => {
                let sink = sink.as_ref().map(|sink| replacements.apply(sink));
                Reduction::Softmax { base: Base::E, sink }
            }
            Accumulator::Sum => Reduction::Sum,
            Accumulator::Mean => Reduction::Mean,
        };
        ir::Accumulator { name, reduction }
    });
    let accumulators: Vec<_> = accumulators.collect();
    let mut loops = Vec::new();
    for key_loop in &spec.loops {
        loops.push(lower_loop(spec, key_loop, &accumulators, (&replacements, scalars), dims));
    }
    let operands = spec.operands.iter().zip(&dims.dims).map(|(operand, dim)| {
        let (heads, axis) = match operand.role {
            Role::Query => (Heads::Query, Axis::Queries),
            Role::Key(set) | Role::Value(set) => (Heads::Key, Axis::Keys(set)),
        };
        Operand { name: operand.name.clone(), element, heads, axis, dim: *dim }
    });
    let (loads, values) = loads(spec, &replacements);
    let outputs = output_dims.into_iter().zip(values);
    let outputs = outputs.map(|(dim, value)| Output { element, heads: Heads::Query, dim, value });
    Ok(Program {
        name: spec.name.clone(),
        scalars: spec.scalars.iter().filter(|scalar| !scalar.comptime).cloned().collect(),
        tensors: spec.tensors.clone(),
        operands: operands.collect(),
        numbers: Vec::new(),
        rows: Axis::Queries,
        accumulators,
        loads,
        sums: Vec::new(),
        loops,
        outputs: outputs.collect(),
        captured: None,
        adds: Vec::new(),
        kept: Kept::default(),
    })
}

/// The operands along queries that a product or an output is of, and the outputs in terms of the accumulators and those.
fn loads(spec: &Spec, replacements: &Replacements) -> (Vec<Load>, Vec<Expr>) {
    let accumulators = spec.accumulators.len();
    let mut loads = Vec::new();
    let mut values: Vec<usize> = (0..accumulators).collect();
    for (nth, (place, _)) in spec.operands_of(Role::Query).enumerate() {
        values.push(accumulators + loads.len());
        let of_dot = spec.loops.iter().any(|key_loop| key_loop.dots.iter().any(|dot| dot.query == place));
        if of_dot || spec.stores(accumulators + nth) {
            loads.push(Load { operand: place, scale: None });
        }
    }
    let outputs = spec.outputs.iter().map(|output| at_places(&replacements.apply(output), &values));
    (loads, outputs.collect())
}

/// `expr` with each value at its new place.
fn at_places(expr: &Expr, places: &[usize]) -> Expr {
    expr.map_values(&|value| Expr::Value(places[value]))
}

/// `spec`, in whose scores and weights no product is left that only a branch which is never taken, as `constants` say, is of.
fn without_dead_products<'a>(spec: Cow<'a, Spec>, constants: &Constants) -> Cow<'a, Spec> {
    let alive = |key_loop: &KeyLoop, expr: &Expr| {
        let simple = simplify(&constants.apply(expr), spec.parameters());
        let dots = 0..key_loop.dots.len();
        let is_dead = |dot: usize| expr.mentions(&Expr::Value(dot)) && !simple.mentions(&Expr::Value(dot));
        dots.into_iter().any(is_dead).then_some(simple)
    };
    let mut changed = Vec::new();
    for (nth, key_loop) in spec.loops.iter().enumerate() {
        for (place, push) in key_loop.pushes.iter().enumerate() {
            let weight = push.weight.as_ref().and_then(|weight| alive(key_loop, weight));
            let score = alive(key_loop, &push.score);
            if score.is_some() || weight.is_some() {
                changed.push((nth, place, score, weight));
            }
        }
    }
    if changed.is_empty() {
        return spec;
    }
    let mut spec = spec.into_owned();
    for (nth, place, score, weight) in changed {
        let push = &mut spec.loops[nth].pushes[place];
        push.score = score.unwrap_or_else(|| push.score.clone());
        push.weight = weight.or(push.weight.take());
    }
    Cow::Owned(spec)
}

/// `spec` with a product in every loop: one whose pushes are of positions alone has none. Schedules go through keys by their products, and a
/// product that no push is of changes nothing.
fn with_products<'a>(spec: Cow<'a, Spec>, dims: &OperandDims) -> Result<Cow<'a, Spec>, LowerError> {
    let mut made = Vec::new();
    for (nth, key_loop) in spec.loops.iter().enumerate().filter(|(_, key_loop)| key_loop.dots.is_empty()) {
        let keys = || spec.operands_of(Role::Key(key_loop.set)).map(|(key, _)| key);
        let queries = spec.operands_of(Role::Query).map(|(query, _)| query);
        let products = queries.flat_map(|query| keys().map(move |key| DotParam { query, key }));
        let of_one_dim = products.filter(|dot| dims.dims[dot.query] == dims.dims[dot.key]);
        let Some(dot) = of_one_dim.min_by_key(|dot| dims.dims[dot.query]) else {
            let set = spec.set_name(key_loop.set);
            let message =
                format!("the loop over `{set}` has no product, and no queries and keys of one head dim to make one of");
            return Err(LowerError::Form { attention: spec.name.clone(), message });
        };
        made.push((nth, dot));
    }
    if made.is_empty() {
        return Ok(spec);
    }
    let mut spec = spec.into_owned();
    made.into_iter().for_each(|(nth, dot)| spec.loops[nth].dots.push(dot));
    Ok(Cow::Owned(spec))
}

/// The names of accumulators in the program: that of the only one is `o`, and others have those that they are declared with, where nothing
/// else has them.
fn accumulator_names(spec: &Spec) -> Vec<String> {
    if spec.accumulators.len() == 1 {
        return vec!["o".into()];
    }
    let mut names = Names::of(spec);
    let dots = spec.loops.iter().map(|key_loop| key_loop.dots.len()).max().unwrap_or(0);
    for _ in 0..dots {
        names.fresh("s");
    }
    spec.accumulators.iter().map(|accumulator| names.fresh(&accumulator.name)).collect()
}

/// Names that are taken.
struct Names(HashSet<String>);

impl Names {
    /// Those of the parameters, and those that have a meaning of their own.
    fn of(spec: &Spec) -> Names {
        let operands = spec.operands.iter().map(|operand| &operand.name);
        let scalars = spec.scalars.iter().map(|scalar| &scalar.name);
        let tensors = spec.tensors.iter().map(|tensor| &tensor.name);
        // A parameter with a reserved name is written otherwise.
        let parameters =
            operands.chain(scalars).chain(tensors).map(String::as_str).filter(|name| !VALUES.contains(name));
        let reserved = RESERVED.iter().copied().filter(|name| !VALUES.contains(name));
        Names(parameters.chain(reserved).map(String::from).collect())
    }

    /// `name`, or that with a number, whichever is not taken. It is then.
    fn fresh(&mut self, name: &str) -> String {
        let numbered = (2..).map(|number| format!("{name}{number}"));
        let mut names = std::iter::once(name.to_string()).chain(numbered);
        names.find(|name| self.0.insert(name.clone())).unwrap_or_default()
    }
}

fn lower_loop(
    spec: &Spec,
    key_loop: &KeyLoop,
    accumulators: &[ir::Accumulator],
    (replacements, scalars): (&Replacements, &[ScalarValue]),
    dims: &OperandDims,
) -> TileLoop {
    let of_push = |push: &Push| {
        let accumulator = &spec.accumulators[push.accumulator].kind;
        let parts = Parts::of(&replacements.apply(&push.score)).hide_by_score(accumulator);
        (parts, push.weight.as_ref().map(|weight| replacements.apply(weight)))
    };
    let parts: Vec<_> = key_loop.pushes.iter().map(of_push).collect();
    let mentions = |dot: usize, (of_push, weight): &(Parts, Option<Expr>)| {
        std::iter::once(&of_push.score).chain(weight).any(|expr| expr.mentions(&Expr::Value(dot)))
    };
    // A push without a product takes the tile of one that nothing needs.
    let of_no_dot = |(of_push, _): &(Parts, Option<Expr>)| !of_push.score.has_values();
    let is_used = |dot: &usize| parts.iter().any(|part| mentions(*dot, part));
    let mut spare = (0..key_loop.dots.len()).find(|dot| !is_used(dot)).filter(|_| parts.iter().any(of_no_dot));

    let mut names = Names::of(spec);
    names.0.extend(accumulators.iter().map(|accumulator| accumulator.name.clone()));
    // What is pushed comes last.
    let (mut tiles, mut body, mut pushes) = (Vec::new(), Vec::new(), Vec::new());
    let mut tile_of_dot = vec![0; key_loop.dots.len()];
    for (dot, of) in key_loop.dots.iter().enumerate() {
        if is_used(&dot) || spare == Some(dot) {
            tile_of_dot[dot] = tiles.len();
            let terms = vec![DotTerm { row: of.query, column: of.key, dim: dims.dims[of.query] }];
            body.push(TileOp::Dot { tile: tiles.len(), terms });
            tiles.push(Cow::Owned(names.fresh("s")));
        }
    }
    for (nth, (push, part)) in key_loop.pushes.iter().zip(&parts).enumerate() {
        let (Parts { score, visible }, weight) = part;
        // Before the score, which may change what the weight is of.
        let factor = weight.as_ref().map(|weight| {
            body.push(TileOp::Map { tile: tiles.len(), value: at_places(weight, &tile_of_dot) });
            tiles.push(Cow::Owned(names.fresh("w")));
            tiles.len() - 1
        });
        let is_needed =
            |dot: &usize| parts.iter().enumerate().any(|(other, part)| other != nth && mentions(*dot, part));
        let dots: Vec<usize> = (0..key_loop.dots.len()).filter(|dot| score.mentions(&Expr::Value(*dot))).collect();
        let own = match dots.first() {
            Some(&first) => Some(first).filter(|_| !dots.iter().any(is_needed)),
            None => spare.take(),
        };
        let weights = own.map_or_else(
            || {
                tiles.push(Cow::Owned(names.fresh("t")));
                tiles.len() - 1
            },
            |dot| tile_of_dot[dot],
        );
        let value = at_places(score, &tile_of_dot);
        if value != Expr::Value(weights) {
            body.push(TileOp::Map { tile: weights, value });
        }
        if let Some(visible) = visible {
            body.push(TileOp::Mask { tile: weights, visible: visible.clone(), on: MaskedTiles::All });
        }
        let Push { accumulator, values, .. } = *push;
        let dim = leading_dim(push, scalars).unwrap_or(dims.dims[values]);
        pushes.push(TileOp::Push { accumulator, weights, factor, values, dim });
    }
    body.extend(pushes);
    TileLoop {
        columns: Axis::Keys(key_loop.set),
        each_head: false,
        visit: vec![Range::ALL],
        full: Vec::new(),
        kind: None,
        key_hop: None,
        tiles,
        body,
    }
}

/// What the expressions of a key loop refer to.
fn parameters_of<'a>(spec: &'a Spec, key_loop: &KeyLoop) -> Parameters<'a> {
    let all = spec.parameters();
    Parameters { values: &all.values[..key_loop.dots.len().min(MAX_DOTS)], ..all }
}

/// The head dims of `spec`'s operands where queries and keys that are multiplied have one, and values and what outputs are made of
/// another.
pub fn dims_of(spec: &Spec, operands: Operands) -> OperandDims {
    let Operands { element, qk_dim, v_dim } = operands;
    let is_multiplied = |place| spec.loops.iter().flat_map(|key_loop| &key_loop.dots).any(|dot| dot.query == place);
    let dims = spec.operands.iter().enumerate().map(|(place, param)| match param.role {
        Role::Query if is_multiplied(place) => qk_dim,
        Role::Key(_) => qk_dim,
        Role::Query | Role::Value(_) => v_dim,
    });
    OperandDims { element, dims: dims.collect() }
}

/// D in the default 1/√D of `scale()`: the sum of the head dims of the products that the first push's score is of, with the values of
/// comptime scalars; or, where it is of none, the head dim of the first product or the first operand.
pub fn scaled_dim(spec: &Spec, scalars: &[ScalarValue], dims: &OperandDims) -> usize {
    let constants = Constants::new(spec, scalars, head_dim(spec, dims));
    let spec = &spec.pruned(&constants);
    let Some((key_loop, push)) = spec.pushes().next() else { return 1 };
    let dim = |place: usize| dims.dims.get(place).copied().unwrap_or(1);
    let score = simplify(&constants.apply(&push.score), spec.parameters());
    let is_of = |(place, _): &(usize, &DotParam)| score.mentions(&Expr::Value(*place));
    let of_score = key_loop.dots.iter().enumerate().filter(is_of).map(|(_, dot)| dim(dot.query)).sum();
    let first = key_loop.dots.first().map_or(0, |dot| dot.query);
    if of_score == 0 { dim(first) } else { of_score }
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
        let (by_score, by_position): (Vec<_>, Vec<_>) = conjuncts.into_iter().partition(Expr::has_values);
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

/// Refuses other scalars than the specification's, and those that have no value in a program.
fn check_scalars(spec: &Spec, scalars: &[ScalarValue]) -> Result<(), LowerError> {
    if scalars.len() != spec.scalars.len() {
        let attention = spec.name.clone();
        return Err(LowerError::ScalarCount { attention, expected: spec.scalars.len(), given: scalars.len() });
    }
    for (param, &given) in spec.scalars.iter().zip(scalars) {
        let wrong = |expected| Err(LowerError::Scalar { name: param.name.clone(), given, expected });
        if given.declared() != param.ty {
            return wrong(param.ty.name());
        }
        if given.constant().is_none() {
            return wrong("at most 2147483647, since integers are signed");
        }
    }
    Ok(())
}

/// What leaves of a specification become in its program.
pub(crate) struct Replacements {
    constants: Constants,
    /// The place of each scalar that is not a constant among those.
    scalars: Vec<usize>,
}

impl Replacements {
    /// Those of `spec` with `scalars` and a head dim.
    pub fn new(spec: &Spec, scalars: &[ScalarValue], head_dim: usize) -> Result<Replacements, LowerError> {
        check_scalars(spec, scalars)?;
        let constants = Constants::new(spec, scalars, head_dim);
        let before = |place: usize| (0..place).filter(|other| constants.scalar(*other).is_none()).count();
        let scalars = (0..scalars.len()).map(before).collect();
        Ok(Replacements { constants, scalars })
    }

    /// `expr` with what its leaves become.
    pub fn apply(&self, expr: &Expr) -> Expr {
        fn renumbered(expr: &Expr, places: &[usize]) -> Expr {
            match expr {
                Expr::Scalar(place) => Expr::Scalar(places[*place]),
                other => other.map_children(|child| renumbered(child, places)),
            }
        }
        renumbered(&self.constants.apply(expr), &self.scalars)
    }
}

/// Checks head dims against each other. Returns those of the outputs.
fn check_dims(spec: &Spec, scalars: &[ScalarValue], dims: &OperandDims) -> Result<Vec<usize>, LowerError> {
    let wrong = |message| Err(LowerError::Form { attention: spec.name.clone(), message });
    let dims = &dims.dims;
    if dims.len() != spec.operands.len() {
        return wrong(format!("{} head dims of {} operands", dims.len(), spec.operands.len()));
    }
    let name = |place: usize| &spec.operands[place].name;
    for dot in spec.loops.iter().flat_map(|key_loop| &key_loop.dots) {
        let (query, key) = (dims[dot.query], dims[dot.key]);
        if query != key {
            let (query_name, key_name) = (name(dot.query), name(dot.key));
            return wrong(format!("a product of `{query_name}`, of head dim {query}, and `{key_name}`, of {key}"));
        }
    }
    let mut results = vec![None; spec.accumulators.len()];
    for (_, push) in spec.pushes() {
        let (values, whole) = (name(push.values), dims[push.values]);
        let dim = leading_dim(push, scalars).unwrap_or(whole);
        if !(1..=whole).contains(&dim) {
            return wrong(format!("the first {dim} elements of `{values}`, of head dim {whole}"));
        }
        let expected = *results[push.accumulator].get_or_insert(dim);
        if dim != expected {
            let accumulator = &spec.accumulators[push.accumulator].name;
            return wrong(format!("`{accumulator}` gets {expected} elements for each key, and {dim} of `{values}`"));
        }
    }
    let queries = spec.operands_of(Role::Query).map(|(place, _)| Some(dims[place]));
    let values: Vec<_> = results.into_iter().chain(queries).flatten().zip(spec.output_values()).collect();
    let mut output_dims = Vec::new();
    for output in &spec.outputs {
        let is_of = |place: usize| output.mentions(&Expr::Value(place));
        let mut made_of = values.iter().enumerate().filter(|(place, _)| is_of(*place)).map(|(_, of)| of);
        let Some((dim, first)) = made_of.next() else { return wrong("an output of nothing".into()) };
        if let Some((other, name)) = made_of.find(|(other, _)| other != dim) {
            return wrong(format!("an output of `{first}`, of {dim} elements, and `{name}`, of {other}"));
        }
        output_dims.push(*dim);
    }
    Ok(output_dims)
}

/// How many of the first elements of a row a push takes, if not all.
fn leading_dim(push: &Push, scalars: &[ScalarValue]) -> Option<usize> {
    push.dim.map(|leading| leading.value(scalars).unwrap_or(0))
}

/// Refuses a specification whose parts refer to what there is not, or which leaves something unused: a set of keys, or an accumulator.
///
/// # Errors
/// [`LowerError::Form`].
pub fn check_form(spec: &Spec) -> Result<(), LowerError> {
    let wrong = |message| Err(LowerError::Form { attention: spec.name.clone(), message });
    let role = |place: usize| spec.operands.get(place).map(|operand| operand.role);
    let sets = spec.sets();
    let sinks = spec.accumulators.iter().filter_map(|accumulator| match &accumulator.kind {
        Accumulator::Softmax { sink } => sink.as_ref(),
        Accumulator::Sum | Accumulator::Mean => None,
    });
    let pushed = spec.pushes().flat_map(|(_, push)| std::iter::once(&push.score).chain(&push.weight));
    let is_missing = |expr: &Expr| match expr {
        Expr::Scalar(place) => *place >= spec.scalars.len(),
        Expr::Load { tensor, .. } => *tensor >= spec.tensors.len(),
        _ => false,
    };
    if pushed.chain(sinks).chain(&spec.outputs).any(|expr| expr.any(&mut |expr| is_missing(expr))) {
        return wrong("an expression is of a scalar or a captured tensor that there is not".into());
    }
    if !(1..=MAX_OUTPUTS).contains(&spec.outputs.len()) {
        return wrong(format!("it has {} outputs, expected 1 to {MAX_OUTPUTS}", spec.outputs.len()));
    }
    for (nth, key_loop) in spec.loops.iter().enumerate() {
        let set = key_loop.set;
        if set >= sets {
            return wrong(format!("a loop over set {set} of {sets}"));
        }
        if key_loop.dots.len() > MAX_DOTS {
            return wrong(format!("loop {nth} has {} products, expected at most {MAX_DOTS}", key_loop.dots.len()));
        }
        for dot in &key_loop.dots {
            if role(dot.query) != Some(Role::Query) || role(dot.key) != Some(Role::Key(set)) {
                return wrong(format!("loop {nth} has a product that is not of queries and of its keys"));
            }
        }
        for push in &key_loop.pushes {
            let is_number = |place: usize| {
                spec.scalars.get(place).is_some_and(|scalar| scalar.comptime && scalar.ty == ScalarType::U32)
            };
            if let Some(Leading::Scalar(place)) = push.dim
                && !is_number(place)
            {
                return wrong(format!("loop {nth} has a push of as many elements as no comptime `u32` says"));
            }
            let is_its_own = role(push.values).is_some_and(|role| role.set() == Some(set));
            if push.accumulator >= spec.accumulators.len() || !is_its_own {
                return wrong(format!("loop {nth} has a push of what is not its own, or into nothing"));
            }
        }
        if key_loop.pushes.is_empty() {
            return wrong(format!("nothing is pushed for `{}`", spec.set_name(set)));
        }
    }
    if let Some(set) = (0..sets).find(|set| spec.loops.iter().all(|key_loop| key_loop.set != *set)) {
        return wrong(format!("no loop over `{}`", spec.set_name(set)));
    }
    if sets == 0 {
        return wrong("no keys".into());
    }
    for (place, accumulator) in spec.accumulators.iter().enumerate() {
        if spec.pushes().all(|(_, push)| push.accumulator != place) {
            return wrong(format!("nothing is pushed into `{}`", accumulator.name));
        }
    }
    Ok(())
}

/// Refuses a specification that no scalars, captured tensors and operands fit: what [`check_form`] does, and a sink, a score, a weight or an
/// output of another type, too large, or of what it must not depend on.
///
/// # Errors
/// [`LowerError`].
fn check_spec(spec: &Spec) -> Result<(), LowerError> {
    check_form(spec)?;
    for accumulator in &spec.accumulators {
        if let Accumulator::Softmax { sink: Some(sink) } = &accumulator.kind {
            check_expression(spec, spec.parameters(), sink, "the sink")?;
            check_sink(spec, sink)?;
        }
    }
    for (key_loop, push) in spec.pushes() {
        check_expression(spec, parameters_of(spec, key_loop), &push.score, "a push")?;
        let parts = Parts::of(&push.score).hide_by_score(&spec.accumulators[push.accumulator].kind);
        std::iter::once(&parts.score).chain(&parts.visible).try_for_each(|part| check_size(spec, part, "a push"))?;
        if let Some(weight) = &push.weight {
            check_weight(spec, key_loop, weight)?;
        }
    }
    spec.outputs.iter().try_for_each(|output| check_output(spec, output))
}

fn check_expression(spec: &Spec, parameters: Parameters, expr: &Expr, what: &'static str) -> Result<(), LowerError> {
    check_size(spec, expr, what)?;
    match type_of(expr, parameters) {
        Ok(Type::Float) => {}
        Ok(ty) => return Err(LowerError::NotFloat { location: spec.locate(expr).clone(), what, ty }),
        Err(error) => return Err(LowerError::Type { location: spec.locate(&error.expr).clone(), error }),
    }
    let mut infinite = None;
    expr.any(&mut |expr| match expr {
        Expr::Float(value) if !value.value().is_finite() => {
            infinite =
                Some(LowerError::NotFinite { location: spec.locate(expr).clone(), value: value.value().to_string() });
            true
        }
        _ => false,
    });
    if let Some(error) = infinite {
        return Err(error);
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

fn check_weight(spec: &Spec, key_loop: &KeyLoop, weight: &Expr) -> Result<(), LowerError> {
    let parameters = parameters_of(spec, key_loop);
    check_expression(spec, parameters, weight, "a weight")?;
    if is_masked(weight) {
        let text = weight.display(parameters).to_string();
        return Err(LowerError::MaskedWeight { location: spec.locate(weight).clone(), text });
    }
    Ok(())
}

fn is_masked(expr: &Expr) -> bool {
    expr.any(&mut |expr| matches!(expr, Expr::Mask(..)))
}

/// What an expression of a row depends on that is not a row's.
fn depends_on_keys(expr: &Expr) -> Option<&'static str> {
    let depends = [("the key's position", expr.mentions(&Expr::Key)), ("a mask", is_masked(expr))];
    depends.into_iter().find(|(_, depends)| *depends).map(|(what, _)| what)
}

fn check_sink(spec: &Spec, sink: &Expr) -> Result<(), LowerError> {
    let score = sink.has_values().then_some("the score");
    let Some(what) = depends_on_keys(sink).or(score) else { return Ok(()) };
    let text = sink.display(spec.parameters()).to_string();
    Err(LowerError::Sink { location: spec.locate(sink).clone(), text, what })
}

/// Refuses a [pruned](Spec::pruned) specification of which nothing is left.
///
/// # Errors
/// [`LowerError::Form`].
pub(crate) fn check_pruned(pruned: &Spec) -> Result<(), LowerError> {
    if pruned.loops.is_empty() {
        let outputs = if pruned.outputs.len() == 1 { "the output is" } else { "the outputs are" };
        let message = format!("with these comptime scalars {outputs} of no accumulator, expected one at least");
        return Err(LowerError::Form { attention: pruned.name.clone(), message });
    }
    Ok(())
}

fn check_output(spec: &Spec, output: &Expr) -> Result<(), LowerError> {
    let values = spec.output_values();
    let parameters = Parameters { values: &values, ..spec.parameters() };
    check_expression(spec, parameters, output, "the output")?;
    let Some(what) = depends_on_keys(output) else { return Ok(()) };
    let text = output.display(parameters).to_string();
    Err(LowerError::Output { location: spec.locate(output).clone(), text, what })
}
