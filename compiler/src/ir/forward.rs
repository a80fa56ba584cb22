//! The programs that schedules run: the body of each loop is dots, then maps, masks and pushes.
//!
//! A program may say more than that. [`check`] refuses the rest where a program is given a schedule; what reads a program after that uses
//! the accessors here, which are of programs that it has passed. [`Form`] tells how much of that a program has, since some
//! schedules run less.

use super::{
    Accumulator, Axis, DotTerm, Element, Heads, Kept, MaskedTiles, Operand, Program, Reduction, RowNumber, TileLoop, TileOp,
};
use crate::expr::Expr;
use crate::spec::MAX_OUTPUTS;
use std::fmt;

/// Element type and head dims, by which a schedule is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Operands {
    /// The element type of queries, keys, values and the output.
    pub element: Element,
    /// The head dim of queries and keys: the sum of those of all queries that are in dots, or of a loop's dots if that is more.
    pub qk_dim: usize,
    /// The head dim of values and the output: the sum of those of the accumulators.
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

/// What a loop pushes into an accumulator, as expressions of its dots: [`Expr::Value`] counts in [`TileLoop::dots`], and then in
/// [`Program::numbers`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pushed {
    /// The accumulator, by its place in [`Program::accumulators`].
    pub accumulator: usize,
    /// The score or weight.
    pub score: Expr,
    /// Where it is visible, and the tiles on which that is evaluated; `None` everywhere.
    pub mask: Option<(Expr, MaskedTiles)>,
    /// What the weight is multiplied by in what is accumulated.
    pub factor: Option<Expr>,
    /// The operand along the keys whose rows are the values, by its place in [`Program::operands`].
    pub values: usize,
    /// How many elements of them.
    pub dim: usize,
    /// The dot in whose tile it is, where no other is in it and nothing else is made of that.
    pub own_dot: Option<usize>,
}

/// What a loop adds to a sum for an element of what is captured, as [`Pushed`] has what is pushed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Added {
    /// What is added.
    pub value: Expr,
    /// Where it is visible, as in [`Pushed::mask`].
    pub mask: Option<(Expr, MaskedTiles)>,
    /// The element.
    pub element: Expr,
}

/// Refuses a [verified](super::verify) program of another form.
///
/// # Errors
/// A text that says what a schedule takes and what the program has.
pub fn check(program: &Program) -> Result<(), String> {
    let Some(Operand { element, .. }) = program.operands.first() else {
        return Err("there are operands, and here are none".into());
    };
    for operand in &program.operands {
        let (name, found) = (&operand.name, operand.element.name());
        if operand.element != *element {
            return Err(format!("all operands hold {}, and `{name}` holds {found}", element.name()));
        }
        if operand.axis == Axis::Queries && operand.heads != Heads::Query {
            return Err(format!("queries have the query heads, and `{name}` has others"));
        }
        if operand.axis != Axis::Queries && operand.heads != Heads::Key {
            return Err(format!("keys and values have heads of their own, and `{name}` has the query heads"));
        }
    }
    // The heads of what lies along the rows and of what is stored.
    let heads = if program.rows == Axis::Queries { Heads::Query } else { Heads::Key };
    if program.loops.iter().any(|one| one.each_head == (program.rows == Axis::Queries)) {
        return Err("a loop over queries runs for each head, and one over keys does not".into());
    }
    let stored = if program.is_undivided() { Element::F32 } else { *element };
    if program.outputs.len() > MAX_OUTPUTS {
        return Err(format!("there are at most {MAX_OUTPUTS} outputs, and here are {}", program.outputs.len()));
    }
    if program.outputs.iter().any(|output| output.heads != heads || output.element != stored) {
        return Err(format!("an output has the heads of the rows, in {}", stored.name()));
    }
    if let Some(unused) = (0..program.accumulators.len()).find(|place| !program.stores(*place)) {
        return Err(format!("the outputs are of all accumulators, and not of `{}`", program.accumulators[unused].name));
    }
    for (place, one) in program.loops.iter().enumerate() {
        check_loop(one).map_err(|error| format!("loop {place}: {error}"))?;
    }
    if program.loops.is_empty() {
        return Err("there is a loop over keys, and here is none".into());
    }
    for (place, load) in program.loads.iter().enumerate() {
        if load.scale.is_some() && program.stores(program.accumulators.len() + place) {
            let name = &program.operands[load.operand].name;
            return Err(format!("what an output is of is not scaled, and `{name}` is"));
        }
    }
    Ok(())
}

fn check_loop(one: &TileLoop) -> Result<(), String> {
    let kinds: Vec<_> = one.body.iter().map(TileOp::name).collect();
    let dots = kinds.iter().take_while(|kind| **kind == "dot").count();
    let is_of_use = kinds.contains(&"push") || kinds.contains(&"add");
    if dots == 0 || kinds[dots..].contains(&"dot") || !is_of_use {
        return Err(format!("a body is dots, then maps, masks and pushes, and here `{}`", kinds.join(", ")));
    }
    let mut made = Vec::new();
    for op in &one.body[..dots] {
        if let TileOp::Dot { tile, .. } = op {
            if made.contains(tile) {
                return Err(format!("each dot makes a tile, and `{}` is made twice", one.tiles[*tile]));
            }
            made.push(*tile);
        }
    }
    Ok(())
}

/// How much a program that [`check`] lets pass has: what a schedule may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Form {
    /// One product of a query and keys, one mask and one accumulator, which is the one output.
    Single,
    /// Pushes of a score of its own each, which is a sum of products, all of the same values; what weights are multiplied by is of no score.
    /// There is one output.
    Tiled,
    /// Whatever [`check`] lets pass.
    General,
}

impl Form {
    /// That of `program`.
    pub fn of(program: &Program) -> Form {
        match () {
            // Its output is in f32 whatever the operands are in, and is stored from registers.
            () if program.is_undivided() => Form::General,
            // Rows of keys, and numbers of rows and columns, are known to the schedules that run any products.
            () if program.rows != Axis::Queries || !program.numbers.is_empty() => Form::General,
            () if program.captured.is_some() => Form::General,
            () if program.outputs.len() > 1 || program.kept == Kept::Each => Form::General,
            () if is_single(program) => Form::Single,
            () if is_tiled(program) => Form::Tiled,
            () => Form::General,
        }
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Form::Single => "one product, one mask and one accumulator, which is the one output",
            Form::Tiled => "scores of their own for each accumulator, the same values for all, and one output",
            Form::General => "any number of products, masks, accumulators and outputs",
        })
    }
}

fn is_single(program: &Program) -> bool {
    let (one_load, one_accumulator) = (program.loads.len() == 1, program.accumulators.len() == 1);
    let is_output = program.outputs.iter().all(|output| output.value == Expr::Value(0));
    let mut read = Vec::new();
    let is_simple = |one: &TileLoop| {
        let (dots, pushes) = (one.dots(), one.pushes());
        let ([dot], [push]) = (&dots[..], &pushes[..]) else { return false };
        let [DotTerm { column, .. }] = dot[..] else { return false };
        let operands = (column, push.values);
        let is_other = read.iter().any(|(columns, of)| *columns == one.columns && *of != operands);
        read.push((one.columns, operands));
        let is_whole = program.operands[push.values].dim == push.dim;
        column != push.values && is_whole && push.factor.is_none() && push.own_dot.is_some() && !is_other
    };
    one_load && one_accumulator && is_output && program.loops.iter().all(is_simple)
}

/// Whether it is [`Form::Tiled`]. What lies side by side in shared memory must be whole matrices of 16 elements, and whole groups of those
/// whose places are exchanged with each other.
fn is_tiled(program: &Program) -> bool {
    let total = program.sizes().qk_dim;
    let group = 8 << (total / 8).trailing_zeros().min(3);
    let fits = |dim: usize| dim == total || dim.is_multiple_of(16) && dim.is_multiple_of(group);
    let scale_of = |row: usize| &program.loads[program.load_of(row)].scale;
    let is_simple = |one: &TileLoop| {
        let (dots, pushes) = (one.dots(), one.pushes());
        let alike = dots.iter().all(|dot| dot.iter().all(|term| scale_of(term.row) == scale_of(dot[0].row)));
        let in_place = dots.iter().flatten().all(|term| fits(program.operands[term.row].dim));
        let of_its_own = |push: &Pushed| {
            let same_values = (push.values, push.dim) == (pushes[0].values, program.outputs[0].dim);
            let others = pushes.iter().filter(|other| other.accumulator == push.accumulator).count();
            let by_place = !push.factor.as_ref().is_some_and(Expr::has_values);
            push.own_dot.is_some() && same_values && others == 1 && by_place
        };
        alike && in_place && pushes.iter().all(of_its_own) && dots.len() == pushes.len()
    };
    program.loops.iter().all(is_simple)
}

impl Pushed {
    /// The same, with its score as an expression of its own dot alone, which is [`Expr::SCORE`].
    pub fn of_own_dot(&self) -> Pushed {
        Pushed { score: self.score.map_values(&|_| Expr::SCORE), ..self.clone() }
    }
}

/// `expr` with the numbers of rows and columns as values, after the `dots`.
pub(crate) fn numbers_as_values(expr: &Expr, dots: usize) -> Expr {
    match expr {
        Expr::Number(place) => Expr::Value(dots + place),
        other => other.map_children(|child| numbers_as_values(child, dots)),
    }
}

impl TileOp {
    fn name(&self) -> &'static str {
        match self {
            TileOp::Dot { .. } => "dot",
            TileOp::Map { .. } => "map",
            TileOp::Mask { .. } => "mask",
            TileOp::Push { .. } => "push",
            TileOp::Add { .. } => "add",
        }
    }
}

impl Program {
    /// The number of sets of keys.
    pub fn key_sets(&self) -> usize {
        let sets = self.operands.iter().filter_map(|operand| match operand.axis {
            Axis::Keys(set) => Some(set + 1),
            Axis::Queries => None,
        });
        sets.max().unwrap_or(0)
    }

    /// The set of keys that `j` is of in a loop: of its columns, or where the rows are keys of those.
    pub fn key_set(&self, one: &TileLoop) -> usize {
        match self.rows {
            Axis::Keys(set) => set,
            Axis::Queries => one.column_set(),
        }
    }

    /// The name of a set of keys: that of its first operand in a dot.
    pub fn key_name(&self, set: usize) -> &str {
        let of_set = |place: &usize| self.operands[*place].axis == Axis::Keys(set);
        let dots = self.loops.iter().flat_map(TileLoop::dots).flatten().map(|term| term.column);
        let named = dots.chain(0..self.operands.len()).find(of_set);
        named.map_or("", |place| &self.operands[place].name)
    }

    /// Whether a dot multiplies fewer elements than its operands have.
    pub fn has_partial_dots(&self) -> bool {
        let mut terms = self.loops.iter().flat_map(TileLoop::dots).flatten();
        terms.any(|DotTerm { row, column, dim }| [row, column].iter().any(|of| self.operands[*of].dim != dim))
    }

    /// Whether a load is in a dot.
    pub fn is_in_dots(&self, load: usize) -> bool {
        let operand = self.loads[load].operand;
        self.loops.iter().flat_map(TileLoop::dots).flatten().any(|term| term.row == operand)
    }

    /// The place among the loads of the operand at `operand`.
    pub fn load_of(&self, operand: usize) -> usize {
        self.loads.iter().position(|load| load.operand == operand).expect("what is in a dot is loaded")
    }

    /// Element type and head dim of each operand.
    pub fn operand_dims(&self) -> OperandDims {
        let element = self.operands.first().map_or(Element::F32, |operand| operand.element);
        OperandDims { element, dims: self.operands.iter().map(|operand| operand.dim).collect() }
    }

    /// The head dim of what is pushed into an accumulator.
    pub fn dim_of(&self, accumulator: usize) -> usize {
        let pushes = self.loops.iter().flat_map(TileLoop::pushes);
        pushes.into_iter().find(|push| push.accumulator == accumulator).map_or(0, |push| push.dim)
    }

    /// The head dims of what a tile of a program with [one output](Form::Tiled) has in shared memory: the sum of those of queries, and that of
    /// values.
    pub fn memory_sizes(&self) -> Operands {
        Operands { v_dim: self.outputs.first().map_or(0, |output| output.dim), ..self.sizes() }
    }

    /// Whether it has a log-sum-exp: if its one accumulator is a softmax.
    pub fn has_lse(&self) -> bool {
        matches!(&self.accumulators[..], [one] if one.reduction.is_softmax())
    }

    /// The numbers of each row that it stores, in order, and the accumulators that they are of.
    pub fn row_numbers(&self) -> Vec<(usize, RowNumber)> {
        let of_softmax: &[RowNumber] = match self.kept {
            Kept::LogSumExp => &[RowNumber::LogSumExp],
            Kept::LogSumExpAndMaximum => &[RowNumber::LogSumExp, RowNumber::Maximum],
            Kept::Partial => &[RowNumber::Maximum, RowNumber::Sum],
            Kept::Each => {
                let of_each = |(place, one): (usize, &Accumulator)| match one.reduction {
                    Reduction::Softmax { .. } => Some((place, RowNumber::LogSumExp)),
                    Reduction::Mean => Some((place, RowNumber::Sum)),
                    Reduction::Sum => None,
                };
                return self.accumulators.iter().enumerate().filter_map(of_each).collect();
            }
        };
        if self.has_lse() { of_softmax.iter().map(|number| (0, *number)).collect() } else { Vec::new() }
    }

    /// Whether it has one output, which is its one accumulator.
    pub fn stores_accumulator(&self) -> bool {
        self.accumulators.len() == 1 && self.outputs.len() == 1 && self.stored_accumulator(0).is_some()
    }

    /// Whether some output is of this value: of an accumulator, or of a load after those.
    pub fn stores(&self, value: usize) -> bool {
        self.outputs.iter().any(|output| output.value.mentions(&Expr::Value(value)))
    }

    /// Whether some output is not an accumulator as it is.
    pub fn stores_expressions(&self) -> bool {
        (0..self.outputs.len()).any(|output| self.stored_accumulator(output).is_none())
    }

    /// The output that an accumulator is as it is, the first of several.
    pub fn output_of(&self, accumulator: usize) -> Option<usize> {
        (0..self.outputs.len()).find(|output| self.stored_accumulator(*output) == Some(accumulator))
    }

    /// The accumulator that an output is, where it is one as it is.
    pub fn stored_accumulator(&self, output: usize) -> Option<usize> {
        match self.outputs[output].value {
            Expr::Value(place) if place < self.accumulators.len() => Some(place),
            _ => None,
        }
    }

    /// Element type and head dims.
    pub fn sizes(&self) -> Operands {
        let of_loop =
            |one: &TileLoop| one.dots().iter().flatten().map(|term| term.dim).sum::<usize>();
        let OperandDims { element, .. } = self.operand_dims();
        let in_dots = (0..self.loads.len()).filter(|load| self.is_in_dots(*load));
        let dims: Vec<usize> = in_dots.map(|load| self.operands[self.loads[load].operand].dim).collect();
        // Each is made up to whole vectors where it lies beside others.
        let queries = if dims.len() == 1 { dims[0] } else { dims.iter().map(|dim| dim.next_multiple_of(4)).sum() };
        let qk_dim = self.loops.iter().map(of_loop).chain([queries]).max().unwrap_or(0);
        Operands { element, qk_dim, v_dim: (0..self.accumulators.len()).map(|place| self.dim_of(place)).sum() }
    }
}

impl TileLoop {
    /// The number of the set of columns that it runs over: of keys, or the only one, of queries.
    pub fn column_set(&self) -> usize {
        match self.columns {
            Axis::Keys(set) => set,
            Axis::Queries => 0,
        }
    }

    /// Its dots, in their order.
    pub fn dots(&self) -> Vec<Vec<DotTerm>> {
        let dots = self.body.iter().filter_map(|op| match op {
            TileOp::Dot { terms, .. } => Some(terms.clone()),
            _ => None,
        });
        dots.collect()
    }

    /// What it pushes, in its order.
    pub fn pushes(&self) -> Vec<Pushed> {
        let mut pushes = self.pushes_of_tiles();
        let dots = self.dots().len();
        for push in &mut pushes {
            let exprs = std::iter::once(&mut push.score).chain(&mut push.factor);
            exprs.for_each(|expr| *expr = numbers_as_values(expr, dots));
        }
        pushes
    }

    /// The same, in which numbers of rows and columns are those.
    pub fn pushes_of_tiles(&self) -> Vec<Pushed> {
        // What was pushed is not changed after that, so that it is what it is when all is made.
        let (exprs, masks) = self.made();
        let mut dot_of_tile = vec![None; self.tiles.len()];
        let mut dots = 0;
        let mut pushes: Vec<Pushed> = Vec::new();
        for op in &self.body {
            match *op {
                TileOp::Dot { tile, .. } => {
                    dot_of_tile[tile] = Some(dots);
                    dots += 1;
                }
                TileOp::Push { accumulator, weights, factor, values, dim } => pushes.push(Pushed {
                    accumulator,
                    score: exprs[weights].clone(),
                    mask: masks[weights].clone(),
                    factor: factor.map(|factor| exprs[factor].clone()),
                    values,
                    dim,
                    own_dot: dot_of_tile[weights],
                }),
                TileOp::Map { .. } | TileOp::Mask { .. } | TileOp::Add { .. } => {}
            }
        }
        let is_own = |(place, push): (usize, &Pushed)| {
            let own = push.own_dot?;
            let is_of = |expr: &Expr, dot: usize| expr.mentions(&Expr::Value(dot));
            let others = pushes.iter().enumerate().filter(|(other, _)| *other != place).map(|(_, push)| &push.score);
            let factors = pushes.iter().filter_map(|push| push.factor.as_ref());
            let is_used = others.chain(factors).any(|expr| is_of(expr, own));
            let is_alone = (0..dots).all(|dot| dot == own || !is_of(&push.score, dot));
            (is_alone && !is_used).then_some(own)
        };
        let owned: Vec<_> = pushes.iter().enumerate().map(is_own).collect();
        for (push, own_dot) in pushes.iter_mut().zip(owned) {
            push.own_dot = own_dot;
        }
        pushes
    }

    /// What it adds to sums for elements of what is captured, in its order.
    pub fn adds(&self) -> Vec<Added> {
        let (exprs, masks) = self.made();
        let dots = self.dots().len();
        let adds = self.body.iter().filter_map(|op| match op {
            TileOp::Add { tile, element } => Some(Added {
                value: numbers_as_values(&exprs[*tile], dots),
                mask: masks[*tile].clone(),
                element: element.clone(),
            }),
            _ => None,
        });
        adds.collect()
    }

    /// The elements of what is captured to whose sums it adds.
    pub fn elements(&self) -> impl Iterator<Item = &Expr> {
        self.body.iter().filter_map(|op| if let TileOp::Add { element, .. } = op { Some(element) } else { None })
    }

    /// What each tile is when all is made, as an expression of the dots, and where it is visible.
    fn made(&self) -> (Vec<Expr>, Vec<Option<(Expr, MaskedTiles)>>) {
        let mut exprs = vec![Expr::float(0.0); self.tiles.len()];
        let mut masks = vec![None; self.tiles.len()];
        let mut dots = 0;
        for op in &self.body {
            match op {
                TileOp::Dot { tile, .. } => {
                    exprs[*tile] = Expr::Value(dots);
                    dots += 1;
                }
                TileOp::Map { tile, value } => exprs[*tile] = value.map_values(&|place| exprs[place].clone()),
                TileOp::Mask { tile, visible, on } => masks[*tile] = Some((visible.clone(), *on)),
                TileOp::Push { .. } | TileOp::Add { .. } => {}
            }
        }
        (exprs, masks)
    }

    /// The expressions of its maps.
    pub fn maps(&self) -> impl Iterator<Item = &Expr> {
        self.body.iter().filter_map(|op| if let TileOp::Map { value, .. } = op { Some(value) } else { None })
    }

    /// Whether a tile can be full, or else partial: full where there is no mask, or one that is not evaluated on all tiles; partial where
    /// there is one.
    pub fn occurs(&self, full: bool) -> bool {
        let on = self.body.iter().find_map(|op| if let TileOp::Mask { on, .. } = op { Some(*on) } else { None });
        match on {
            Some(MaskedTiles::All) => !full,
            Some(MaskedTiles::Partial) => true,
            None => full,
        }
    }
}
