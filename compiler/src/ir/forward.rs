//! The programs that schedules run so far: rows are queries, and each loop over keys has one product, one mask and one accumulator.
//!
//! A program may say more than that. [`check`] refuses the rest where a program is given a schedule; what reads a program after that uses
//! the accessors here, which are of programs that it has passed.

use super::{Axis, Element, Heads, Load, MaskedTiles, Operand, Output, Program, Reduction, TileLoop, TileOp};
use crate::expr::Expr;
use crate::spec::Pair;

/// Element type and head dims, the same for all operands of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Operands {
    /// The element type of queries, keys, values and the output.
    pub element: Element,
    /// The head dim of queries and keys.
    pub qk_dim: usize,
    /// The head dim of values and the output.
    pub v_dim: usize,
}

/// Element type and head dim of each of a specification's operands, in their order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OperandDims {
    /// The element type of all of them.
    pub element: Element,
    /// The head dims.
    pub dims: Vec<usize>,
}

/// Refuses a [verified](super::verify) program of another form.
///
/// # Errors
/// A text that says what a schedule takes and what the program has.
pub fn check(program: &Program) -> Result<(), String> {
    if program.rows != Axis::Queries {
        return Err("rows are queries, and these are keys".into());
    }
    let [_] = program.accumulators[..] else {
        return Err(format!("there is one accumulator, and here are {}", program.accumulators.len()));
    };
    let [Load { operand: query, .. }] = program.loads[..] else {
        return Err(format!("one operand is loaded for the rows, and here are {}", program.loads.len()));
    };
    let Operand { element, heads, .. } = program.operands[query];
    if heads != Heads::Query {
        return Err("queries have the query heads, and these have one for each group".into());
    }
    if let Some(other) = program.operands.iter().find(|operand| operand.element != element) {
        let (name, found) = (&other.name, other.element.name());
        return Err(format!("all operands hold {}, and `{name}` holds {found}", element.name()));
    }
    match &program.outputs[..] {
        [Output { heads: Heads::Query, element: stored, value: Expr::Value(0), .. }] if *stored == element => {}
        [_] => return Err(format!("the output is the accumulator, with its heads, in {}", element.name())),
        outputs => return Err(format!("there is one output, and here are {}", outputs.len())),
    }
    for (place, one) in program.loops.iter().enumerate() {
        check_loop(program, one).map_err(|error| format!("loop {place}: {error}"))?;
    }
    for (place, operand) in program.operands.iter().enumerate() {
        let is_used = place == query || pairs(program).any(|(key, value)| key == place || value == place);
        if !is_used {
            return Err(format!("every operand is read, and `{}` is not", operand.name));
        }
    }
    let sizes = program.sizes();
    let mut read = Vec::new();
    for (one, (key, value)) in program.loops.iter().zip(pairs(program)) {
        if program.operands[key].dim != sizes.qk_dim || program.operands[value].dim != sizes.v_dim {
            return Err("all keys have one head dim, and all values one".into());
        }
        if read.iter().any(|(columns, of)| *columns == one.columns && *of != (key, value)) {
            return Err("all loops over a set of keys read the same keys and values".into());
        }
        read.push((one.columns, (key, value)));
    }
    let sets = program.pairs().len();
    match program.loops.iter().find(|one| one.pair() >= sets) {
        Some(outside) => Err(format!("sets of keys are T0 to T{}, and here is {}", sets - 1, outside.columns)),
        None if sets == 0 => Err("there is a loop over keys, and here is none".into()),
        None => Ok(()),
    }
}

fn check_loop(program: &Program, one: &TileLoop) -> Result<(), String> {
    let kinds: Vec<_> = one.body.iter().map(TileOp::name).collect();
    let middle = match &kinds[..] {
        ["dot", middle @ .., "push"] => middle,
        _ => &["none"],
    };
    let maps = middle.iter().take_while(|kind| **kind == "map").count();
    if !matches!(middle[maps..], [] | ["mask"]) || one.tiles.len() != 1 {
        return Err(format!("the body is a dot, maps of it, a mask and a push, and here `{}`", kinds.join(", ")));
    }
    let columns = program.operands.iter().filter(|operand| operand.axis == one.columns);
    if columns.clone().count() != 2 || columns.clone().any(|operand| operand.heads != Heads::Key) {
        return Err("keys and values lie along the columns, with a head for each group, and nothing else".into());
    }
    Ok(())
}

/// The keys and values of each loop, by their places in the program's operands.
fn pairs(program: &Program) -> impl Iterator<Item = (usize, usize)> + '_ {
    program.loops.iter().filter_map(|one| match (one.body.first(), one.body.last()) {
        (Some(TileOp::Dot { column, .. }), Some(TileOp::Push { values, .. })) => Some((*column, *values)),
        _ => None,
    })
}

impl TileOp {
    fn name(&self) -> &'static str {
        match self {
            TileOp::Dot { .. } => "dot",
            TileOp::Map { .. } => "map",
            TileOp::Mask { .. } => "mask",
            TileOp::Push { .. } => "push",
        }
    }
}

impl Program {
    /// The name of the queries.
    pub fn query(&self) -> &str {
        &self.operands[self.loads[0].operand].name
    }

    /// What queries are multiplied by as they are loaded.
    pub fn query_scale(&self) -> Option<&Expr> {
        self.loads[0].scale.as_ref()
    }

    /// What the accumulator makes of what is pushed.
    pub fn reduction(&self) -> &Reduction {
        &self.accumulators[0].reduction
    }

    /// Element type and head dims.
    pub fn sizes(&self) -> Operands {
        let query = &self.operands[self.loads[0].operand];
        Operands { element: query.element, qk_dim: query.dim, v_dim: self.outputs[0].dim }
    }

    /// Element type and head dim of each operand.
    pub fn operand_dims(&self) -> OperandDims {
        let element = self.operands.first().map_or(Element::F32, |operand| operand.element);
        OperandDims { element, dims: self.operands.iter().map(|operand| operand.dim).collect() }
    }

    /// The names of the keys and values of each set of keys, in the sets' order.
    pub fn pairs(&self) -> Vec<Pair> {
        let mut found: Vec<_> = self.loops.iter().map(TileLoop::pair).zip(pairs(self)).collect();
        found.sort();
        found.dedup();
        let name = |place: usize| self.operands[place].name.clone();
        found.into_iter().map(|(_, (key, value))| Pair { key: name(key), value: name(value) }).collect()
    }
}

impl TileLoop {
    /// The number of the set of keys that it runs over.
    pub fn pair(&self) -> usize {
        match self.columns {
            Axis::Keys(pair) => pair,
            Axis::Queries => panic!("schedules run loops over keys"),
        }
    }

    /// What its maps make of the scores, in their order.
    pub fn maps(&self) -> impl Iterator<Item = &Expr> {
        self.body.iter().filter_map(|op| if let TileOp::Map { value, .. } = op { Some(value) } else { None })
    }

    /// Its mask, and the tiles on which it is evaluated.
    pub fn mask(&self) -> Option<(&Expr, MaskedTiles)> {
        self.body
            .iter()
            .find_map(|op| if let TileOp::Mask { visible, on, .. } = op { Some((visible, *on)) } else { None })
    }

    /// The predicate of its mask.
    pub fn visible(&self) -> Option<&Expr> {
        self.mask().map(|(visible, _)| visible)
    }

    /// Whether a tile can be full, or else partial: full where there is no mask, or one that is not evaluated on all tiles; partial where
    /// there is one.
    pub fn occurs(&self, full: bool) -> bool {
        match self.mask() {
            Some((_, MaskedTiles::All)) => !full,
            Some((_, MaskedTiles::Partial)) => true,
            None => full,
        }
    }
}
