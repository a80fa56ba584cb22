//! What a tile program satisfies after every stage.
//!
//! 1. The attention, the operands, the tensors and the scalars have names, which are identifiers; those of parameters differ from each
//!    other, and those of accumulators and tiles from all.
//! 2. Scalars are runtime values: none is comptime.
//! 3. Captured tensors have 1 to 4 dimensions.
//! 4. Dims are at least 1. Numbers lie along the rows, or along the columns of a loop, and are only in maps of loops over those columns; where
//!    there are no loops, in sums and outputs.
//! 5. There is an output, or a sum for each element of something captured, to which loops or rows add; not both. An output is of the
//!    accumulators, of what is loaded and of the sums, with as many elements; a sum has one. Only where there are no loops are there sums, which
//!    are of what is loaded. Only where the one accumulator is a softmax is its maximum kept, and only where the one output is that accumulator
//!    is it not divided by the sum of its weights.
//! 6. What is loaded lies along the rows, once. Loops run over queries where the rows are keys, and the other way round.
//! 7. A dot has a term; each is of an operand that is loaded and of one along the columns, of as many elements as both have, or fewer. A push
//!    is of as many elements of one along the columns as that has, or fewer, and all that is pushed into an accumulator has one dim. Every
//!    accumulator is pushed into.
//! 8. Tiles are made by a dot or a map in their order, each before it is used. A mask is a tile's last change, and no map is of a masked
//!    tile. A tile is changed no more once it was pushed, and every tile is pushed or part of another. What is pushed into a softmax is
//!    used for nothing else from its mask or its push on, so that it can be scaled before.
//! 9. Expressions have types: a map, a sink, a scale and an output are floats, a mask is a bool, ends of ranges are integers.
//! 10. No expression has a `mask(…)` or `head_dim()` in it. A `kv_len()` is of a set of keys that there is.
//! 11. Tiles are only in maps.
//! 12. `i` and `j` are only in maps and masks; but the rows' position may be in sinks and outputs.
//! 13. `least`, `greatest`, `count` and the ends of the rows' tile are only in ranges, kinds and hops, those of the columns' tile only in
//!     kinds. A hop, in which alone `next` may be, has `i0`, `i1` and `j0`, and its loop runs over keys.
//! 14. A loop has at most [`MAX_RANGES`] visited and as many full ranges. It runs for each head only where the rows are keys, and then
//!     nothing outside of loops is of `head()`.
//! 15. Masks are on partial tiles where full ones can be known, and else on all.
//!
//! [`Scheduled::new`](crate::scheduled::Scheduled::new) says what a program that is run satisfies besides.
//!
//! Expressions that could leave 32 bits, divide by zero or read outside of a tensor are not the program's fault, but a
//! launch's: [`check_launch`](crate::analysis::ranges::check_launch) refuses it.

use super::print::{RESERVED, VALUES};
use super::{
    Axis, Captured, DotTerm, Kept, MAX_RANGES, MaskedTiles, Number, Program, Reduction, RowAdd, RowSum, TileKind,
    TileLoop, TileOp,
};
use crate::expr::{Expr, Type};
use crate::typing::{Parameters, type_of};
use std::collections::{BTreeSet, HashSet};
use thiserror::Error;

/// An invariant that a program breaks.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct VerifyError(pub String);

/// Checks all of the module's invariants; gives the first that is broken.
pub fn verify(program: &Program) -> Result<(), VerifyError> {
    verify_names(program)?;
    verify_parameters(program)?;
    let checked = ProgramCheck { program, parameters: program.parameters() };
    let row = program.rows.leaves().position;
    for accumulator in &program.accumulators {
        if let Reduction::Softmax { sink: Some(sink), .. } = &accumulator.reduction {
            checked.expr("the sink", sink, Type::Float, std::slice::from_ref(&row))?;
        }
    }
    verify_loads(program)?;
    for load in &program.loads {
        load.scale.iter().try_for_each(|scale| checked.expr("a scale", scale, Type::Float, &[]))?;
    }
    let scales = program.loads.iter().filter_map(|load| load.scale.as_ref());
    let mut outside = scales.chain(program.outputs.iter().map(|output| &output.value));
    if let Some(expr) = outside.find(|expr| !program.is_outside_of_loops(expr)) {
        let values = program.stored_values();
        let text = expr.display(Parameters { values: &values, ..program.parameters() });
        return fail(format!("loops run for each head, and outside of them is `{text}`"));
    }
    let mut dims = vec![None; program.accumulators.len()];
    for (place, one) in program.loops.iter().enumerate() {
        verify_loop(program, one, &mut dims).map_err(|error| VerifyError(format!("in loop {place}: {error}")))?;
    }
    if let Some(place) = dims.iter().position(Option::is_none) {
        return fail(format!("nothing is pushed into `{}`", program.accumulators[place].name));
    }
    let values = program.stored_values();
    let parameters = Parameters { values: &values, ..program.parameters() };
    let loaded = program.loads.iter().map(|load| program.operands[load.operand].dim);
    let dims: Vec<_> = dims.into_iter().flatten().chain(loaded).collect();
    verify_outputs(&ProgramCheck { program, parameters }, &row, dims)?;
    if matches!(program.kept, Kept::LogSumExpAndMaximum | Kept::Partial) && !program.has_lse() {
        return fail("the maximum of rows is kept of one softmax, and here the accumulators are others");
    }
    if program.is_undivided() && !program.stores_accumulator() {
        let found =
            if program.outputs.len() == 1 { "the output is an expression" } else { "there are several outputs" };
        return fail(format!("what is not divided by its sum is a softmax, and {found}"));
    }
    Ok(())
}

fn fail(message: impl Into<String>) -> Result<(), VerifyError> {
    Err(VerifyError(message.into()))
}

/// The leaves that are an axis's.
struct Leaves {
    position: Expr,
    first: Expr,
    last: Expr,
}

impl Axis {
    fn leaves(self) -> Leaves {
        match self {
            Axis::Queries => Leaves { position: Expr::Query, first: Expr::QueryFirst, last: Expr::QueryLast },
            Axis::Keys(_) => Leaves { position: Expr::Key, first: Expr::KeyFirst, last: Expr::KeyLast },
        }
    }
}

fn verify_names(program: &Program) -> Result<(), VerifyError> {
    let operands = program.operands.iter().map(|operand| &operand.name);
    let scalars = program.scalars.iter().map(|scalar| &scalar.name);
    let tensors = program.tensors.iter().map(|tensor| &tensor.name);
    let mut known = HashSet::new();
    let numbers = program.numbers.iter().map(|number| &number.name);
    for name in operands.chain(scalars).chain(tensors).chain(numbers) {
        if !known.insert(name) {
            return fail(format!("two parameters are named `{name}`"));
        }
    }
    let parameters = known.clone();
    known.insert(&program.name);
    let mut known: Vec<_> = known.into_iter().collect();
    known.sort();
    for name in known {
        if !is_name(name) {
            return fail(format!("`{name}` is not a name"));
        }
    }
    let sums = program.sums.iter().map(|sum| sum.name.as_str());
    let accumulators = program.accumulators.iter().map(|accumulator| accumulator.name.as_str()).chain(sums);
    let accumulators = || accumulators.clone();
    for tiles in program.loops.iter().map(|one| &one.tiles[..]).chain([&[][..]]) {
        let mut values = HashSet::new();
        for name in accumulators().chain(tiles.iter().map(|name| &**name)) {
            // Parameters with a reserved name are written otherwise.
            let reserved = RESERVED.contains(&name);
            if !is_name(name) || (reserved && !VALUES.contains(&name)) {
                return fail(format!("`{name}` is not a name of a value"));
            }
            if !values.insert(name) || (!reserved && parameters.iter().any(|parameter| *parameter == name)) {
                return fail(format!("something else is named `{name}`"));
            }
        }
    }
    Ok(())
}

fn is_name(name: &str) -> bool {
    let mut chars = name.chars();
    let starts = chars.next().is_some_and(|first| first == '_' || first.is_alphabetic());
    starts && chars.all(|char| char == '_' || char.is_alphanumeric())
}

fn verify_parameters(program: &Program) -> Result<(), VerifyError> {
    if let Some(scalar) = program.scalars.iter().find(|scalar| scalar.comptime) {
        return fail(format!("the scalar `{}` is comptime", scalar.name));
    }
    if let Some(tensor) = program.tensors.iter().find(|tensor| !(1..=4).contains(&tensor.rank)) {
        return fail(format!("the tensor `{}` has {} dimensions, expected 1 to 4", tensor.name, tensor.rank));
    }
    match program.operands.iter().find(|operand| operand.dim == 0) {
        Some(empty) => fail(format!("`{}` has a dim of 0", empty.name)),
        None => Ok(()),
    }
}

fn verify_loads(program: &Program) -> Result<(), VerifyError> {
    let mut loaded = HashSet::new();
    for load in &program.loads {
        match program.operands.get(load.operand) {
            Some(operand) if operand.axis != program.rows => {
                return fail(format!("`{}` is loaded and does not lie along the rows", operand.name));
            }
            Some(operand) if !loaded.insert(load.operand) => {
                return fail(format!("`{}` is loaded twice", operand.name));
            }
            Some(_) => {}
            None => return fail(format!("operand {} of {} is loaded", load.operand, program.operands.len())),
        }
    }
    Ok(())
}

/// Checks sums and outputs. `dims` are those of the accumulators and of what is loaded.
fn verify_outputs(checked: &ProgramCheck, row: &Expr, mut dims: Vec<usize>) -> Result<(), VerifyError> {
    let program = checked.program;
    let mut uniform = vec![row.clone()];
    if program.loops.is_empty() {
        let along_rows = (0..program.numbers.len()).filter(|place| program.numbers[*place].axis == program.rows);
        uniform.extend(along_rows.map(Expr::Number));
    }
    let values = |count: usize| (0..count).map(Expr::Value).chain(uniform.iter().cloned()).collect::<Vec<_>>();
    if let Some(sum) = program.sums.first().filter(|_| !program.loops.is_empty()) {
        return fail(format!("`{}` is a sum over elements, and there are loops", sum.name));
    }
    for RowSum { name, value } in &program.sums {
        checked.expr("a sum", value, Type::Float, &values(dims.len()))?;
        let mut of = dims.iter().enumerate().filter(|(place, _)| value.mentions(&Expr::Value(*place)));
        let Some((first, dim)) = of.next() else {
            return fail(format!("`{name}` is a sum over elements of nothing that is loaded"));
        };
        if let Some((other, found)) = of.find(|(_, found)| *found != dim) {
            let [first, other] = [first, other].map(|place| &checked.parameters.values[place]);
            return fail(format!("a sum of `{first}`, of dim {dim}, and `{other}`, of dim {found}"));
        }
    }
    let elements = dims.len();
    dims.extend(program.sums.iter().map(|_| 1));
    let of_rows = values(dims.len())[elements..].to_vec();
    for RowAdd { value, element } in &program.adds {
        checked.expr("what a row adds", value, Type::Float, &of_rows)?;
        checked.element(element, std::slice::from_ref(row))?;
    }
    if let Some(captured) = program.captured {
        let found = if program.outputs.is_empty() { "accumulators" } else { "outputs" };
        if !program.outputs.is_empty() || !program.accumulators.is_empty() {
            return fail(format!("sums like `{}`, and {found} too", program.captured_name(captured)));
        }
        if program.adds.is_empty() && program.loops.iter().all(|one| one.elements().next().is_none()) {
            return fail(format!("nothing is added to `{}`", program.captured_name(captured)));
        }
        if !program.adds.is_empty() && !program.loops.is_empty() {
            return fail("rows add to sums, and there are loops");
        }
        return Ok(());
    }
    if program.outputs.is_empty() {
        return fail("no output");
    }
    for output in &program.outputs {
        checked.expr("an output", &output.value, Type::Float, &values(dims.len()))?;
        for (value, dim) in dims.iter().enumerate() {
            if output.value.mentions(&Expr::Value(value)) && *dim != output.dim {
                let name = &checked.parameters.values[value];
                return fail(format!("an output of dim {} is of `{name}`, of dim {dim}", output.dim));
            }
        }
    }
    Ok(())
}

/// Checks a loop, and notes in `dims` of what dim the values are that it pushes.
fn verify_loop(program: &Program, one: &TileLoop, dims: &mut [Option<usize>]) -> Result<(), VerifyError> {
    let of_keys = matches!(one.columns, Axis::Keys(_));
    if of_keys == matches!(program.rows, Axis::Keys(_)) {
        return fail(format!("rows along {} and columns along {}", program.rows, one.columns));
    }
    if one.each_head && of_keys {
        return fail("it runs for each head, and its rows are queries, of one head");
    }
    let checked = ProgramCheck { program, parameters: program.parameters_in(one) };
    let (rows, columns) = (program.rows.leaves(), one.columns.leaves());
    let tile = [rows.first, rows.last];
    for (what, ranges) in [("a visited range", &one.visit), ("a full range", &one.full)] {
        if ranges.len() > MAX_RANGES {
            return fail(format!("{} of {what}, expected at most {MAX_RANGES}", ranges.len()));
        }
        for range in ranges {
            range.when.iter().try_for_each(|when| checked.expr(what, when, Type::Bool, &tile))?;
            let mut ends = range.from.iter().chain(&range.to);
            ends.try_for_each(|end| checked.expr(what, end, Type::Int, &tile))?;
        }
    }
    if let Some(TileKind { some, all }) = &one.kind {
        let both = [&tile[..], &[columns.first, columns.last]].concat();
        [some, all].into_iter().try_for_each(|expr| checked.expr("a tile's kind", expr, Type::Bool, &both))?;
    }
    if let Some(hop) = &one.key_hop {
        if !of_keys {
            return fail("a hop to a key, in a loop over queries");
        }
        checked.expr("a hop", hop, Type::Int, &[Expr::QueryFirst, Expr::QueryLast, Expr::KeyFirst])?;
    }
    verify_body(&checked, one, dims)
}

fn verify_body(checked: &ProgramCheck, one: &TileLoop, dims: &mut [Option<usize>]) -> Result<(), VerifyError> {
    let program = checked.program;
    let along = |place: usize, axis: Axis| match program.operands.get(place) {
        Some(operand) if operand.axis == axis => Ok(operand),
        Some(operand) => Err(VerifyError(format!("`{}` does not lie along {axis}", operand.name))),
        None => Err(VerifyError(format!("operand {place} of {}", program.operands.len()))),
    };
    let known = |place: usize, made: &HashSet<usize>| match one.tiles.get(place) {
        Some(_) if made.contains(&place) => Ok(()),
        Some(name) => fail(format!("`{name}` is used before it is made")),
        None => fail(format!("tile {place} of {}", one.tiles.len())),
    };
    let make = |place: usize, made: &mut HashSet<usize>| {
        if !made.contains(&place) && made.len() != place && place < one.tiles.len() {
            return fail(format!("`{}` is made before the tiles in front of it", one.tiles[place]));
        }
        made.insert(place);
        known(place, made)
    };
    let (mut made, mut masked, mut used, mut pushed) =
        (HashSet::new(), BTreeSet::new(), HashSet::new(), BTreeSet::new());
    for op in &one.body {
        if let Some(masked) = masked.iter().find(|tile| op.changes(**tile)) {
            return fail(format!("`{}` is changed after its mask", one.tiles[*masked]));
        }
        if let Some(pushed) = pushed.iter().find(|tile| op.changes(**tile)) {
            return fail(format!("`{}` is changed after it was pushed", one.tiles[*pushed]));
        }
        if let TileOp::Map { value, .. } = op
            && let Some(masked) = masked.iter().find(|tile| value.mentions(&Expr::Value(**tile)))
        {
            return fail(format!("a map is of `{}`, which is masked", one.tiles[*masked]));
        }
        match op {
            TileOp::Dot { tile, terms } => {
                if terms.is_empty() {
                    return fail("a dot of nothing");
                }
                for DotTerm { row, column, dim } in terms {
                    let (left, right) = (along(*row, program.rows)?, along(*column, one.columns)?);
                    if !program.loads.iter().any(|load| load.operand == *row) {
                        return fail(format!("`{}` is not loaded", left.name));
                    }
                    if *dim == 0 || *dim > left.dim || *dim > right.dim {
                        let (a, b) = (&left.name, &right.name);
                        return fail(format!(
                            "a dot of {dim} elements of `{a}`, of dim {}, and `{b}`, of dim {}",
                            left.dim, right.dim
                        ));
                    }
                }
                make(*tile, &mut made)?;
            }
            TileOp::Map { tile, value } => {
                let values: Vec<_> = (0..one.tiles.len()).filter(|tile| made.contains(tile)).map(Expr::Value).collect();
                let of_columns = |number: &Number| number.axis == program.rows || number.axis == one.columns;
                let numbers = (0..program.numbers.len()).filter(|place| of_columns(&program.numbers[*place]));
                let numbers: Vec<_> = numbers.map(Expr::Number).collect();
                let allowed = [&values[..], &numbers[..], &[Expr::Query, Expr::Key]].concat();
                checked.expr("a map", value, Type::Float, &allowed)?;
                used.extend((0..one.tiles.len()).filter(|of| op.uses(*of)));
                make(*tile, &mut made)?;
            }
            TileOp::Mask { tile, visible, on } => {
                known(*tile, &made)?;
                checked.expr("a mask", visible, Type::Bool, &[Expr::Query, Expr::Key])?;
                let is_known = !one.full.is_empty() || one.kind.is_some();
                match on {
                    MaskedTiles::Partial if !is_known => {
                        return fail("a mask on partial tiles, but nothing says which are full");
                    }
                    MaskedTiles::All if is_known => return fail("a mask on all tiles, but it is known which are full"),
                    _ => {}
                }
                masked.insert(*tile);
            }
            TileOp::Add { tile, element } => {
                known(*tile, &made)?;
                used.insert(*tile);
                pushed.insert(*tile);
                checked.element(element, &[Expr::Query, Expr::Key])?;
            }
            TileOp::Push { accumulator, weights, factor, values, dim } => {
                known(*weights, &made)?;
                factor.map_or(Ok(()), |factor| known(factor, &made))?;
                used.extend([*weights].into_iter().chain(*factor));
                pushed.extend([*weights].into_iter().chain(*factor));
                if let Some(masked) = factor.filter(|factor| masked.contains(factor)) {
                    return fail(format!("`{}` is a factor, and masked", one.tiles[masked]));
                }
                let operand = along(*values, one.columns)?;
                if *dim == 0 || *dim > operand.dim {
                    return fail(format!("{dim} elements of `{}`, which has {}", operand.name, operand.dim));
                }
                let Some(before) = dims.get_mut(*accumulator) else {
                    return fail(format!("accumulator {accumulator} of {}", program.accumulators.len()));
                };
                if before.is_some_and(|before| before != *dim) {
                    let name = &program.accumulators[*accumulator].name;
                    return fail(format!("values of different dims are pushed into `{name}`"));
                }
                *before = Some(*dim);
            }
        }
    }
    for (place, op) in one.body.iter().enumerate() {
        let TileOp::Push { accumulator, weights, .. } = op else { continue };
        let is_softmax = program.accumulators[*accumulator].reduction.is_softmax();
        let is_mask = |op: &TileOp| matches!(op, TileOp::Mask { tile, .. } if tile == weights);
        let end = one.body.iter().position(is_mask).unwrap_or(place).min(place);
        let mut later = one.body.iter().enumerate().filter(|(at, _)| *at != place && *at >= end);
        if is_softmax && later.any(|(_, op)| op.uses(*weights)) {
            return fail(format!("`{}` is pushed into a softmax, and used for something else", one.tiles[*weights]));
        }
    }
    match (0..one.tiles.len()).find(|tile| !used.contains(tile)) {
        Some(tile) => fail(format!("`{}` is made for nothing", one.tiles[tile])),
        None => Ok(()),
    }
}

/// A program, and the parameters of those of its expressions that are looked at.
struct ProgramCheck<'a> {
    program: &'a Program,
    parameters: Parameters<'a>,
}

impl ProgramCheck<'_> {
    /// Checks what something is added to, where its index may be of the leaves `allowed`.
    fn element(&self, element: &Expr, allowed: &[Expr]) -> Result<(), VerifyError> {
        self.expr("what is added to", element, Type::Float, allowed)?;
        match Captured::of(element) {
            Some(captured) if self.program.captured == Some(captured) => Ok(()),
            _ => fail(format!("`{}` is added to, and is not stored", element.display(self.parameters))),
        }
    }

    /// Checks the type of an expression, and that of the leaves which have a place, only `allowed` occur.
    fn expr(&self, what: &str, expr: &Expr, ty: Type, allowed: &[Expr]) -> Result<(), VerifyError> {
        let found = type_of(expr, self.parameters).map_err(|error| VerifyError(format!("{what}: {error}")))?;
        let text = expr.display(self.parameters);
        if found != ty {
            return fail(format!("{what} is of type {found}, expected {ty}: `{text}`"));
        }
        if expr.any(&mut |expr| matches!(expr, Expr::Mask(..))) {
            return fail(format!("{what} has a mask in it: `{text}`"));
        }
        if expr.mentions(&Expr::HeadDim) {
            return fail(format!("{what} has `head_dim()` in it, not the number: `{text}`"));
        }
        let sets = self.program.key_sets();
        if expr.any(&mut |expr| matches!(expr, Expr::KeyLen(set) if *set >= sets)) {
            return fail(format!(
                "{what} is of the length of a set of keys beyond the {sets} that there are: `{text}`"
            ));
        }
        let of_tiles = allowed.iter().any(|leaf| matches!(leaf, Expr::QueryFirst | Expr::KeyFirst));
        let of_hops = allowed.contains(&Expr::KeyFirst) && !allowed.contains(&Expr::KeyLast);
        let is_misplaced = |expr: &Expr| match expr {
            Expr::Extreme { .. } | Expr::Count { .. } => !of_tiles,
            Expr::Next { .. } => !of_hops,
            _ => false,
        };
        if expr.any(&mut |expr| is_misplaced(expr)) {
            return fail(format!("{what} depends on a summary of a captured tensor: `{text}`"));
        }
        let values = (0..self.parameters.values.len()).map(Expr::Value);
        let ends = [Expr::QueryFirst, Expr::QueryLast, Expr::KeyFirst, Expr::KeyLast];
        let numbers = (0..self.parameters.numbers.len()).map(Expr::Number);
        for leaf in [Expr::Query, Expr::Key].into_iter().chain(values).chain(numbers).chain(ends) {
            if !allowed.contains(&leaf) && expr.mentions(&leaf) {
                return fail(format!("{what} depends on `{}`: `{text}`", leaf.display(self.parameters)));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::parse::parse;

    const PROGRAM: &str = "\
attention @window(w: u32, doc: Tensor<i32, 1>) -> f32[B, H, S, 8]
  q: f32[B, H, S, 4]
  k: f32[B, G, T0, 4]  v: f32[B, G, T0, 8]
  for i in tiles(S)
    o = softmax base 2 sink i as f32
    q = load q[i] * (scale())
    for j in tiles(T0) from i0 - w + 1 to i1 + 1
        full from i1 - w + 1 to i0 + 1
      s = dot q, k[j]
      s = map s * 2.0
      s = mask s where j <= i on partial
      o = push s, v[j]
    store o
";

    /// Checks that the program with `from` replaced by `to` is refused with `message`.
    fn refused(from: &str, to: &str, message: &str) {
        assert_eq!(PROGRAM.matches(from).count(), 1, "`{from}` once");
        let program = parse(&PROGRAM.replace(from, to)).unwrap();
        assert_eq!(verify(&program).map_err(|error| error.to_string()), Err(message.to_string()));
    }

    #[test]
    fn a_program_that_breaks_nothing_is_accepted() {
        assert_eq!(verify(&parse(PROGRAM).unwrap()), Ok(()));
    }

    #[test]
    fn names() {
        refused("(w: u32", "(q: u32, w: u32", "two parameters are named `q`");
        let mut program = parse(PROGRAM).unwrap();
        program.name = "a b".into();
        assert_eq!(verify(&program).unwrap_err().to_string(), "`a b` is not a name");
    }

    #[test]
    fn parameters() {
        refused("(w: u32", "(#[comptime] w: u32", "the scalar `w` is comptime");
        refused("<i32, 1>", "<i32, 5>", "the tensor `doc` has 5 dimensions, expected 1 to 4");
    }

    /// The difference of two softmaxes.
    const DIFFERENCE: &str = "\
attention @difference(lambda: Tensor<f32, 1>) -> f32[B, H, S, 8]
  q1: f32[B, H, S, 4]  q2: f32[B, H, S, 4]
  k1: f32[B, G, T0, 4]  k2: f32[B, G, T0, 4]  v: f32[B, G, T0, 8]
  for i in tiles(S)
    a = softmax base e
    b = softmax base e
    q1 = load q1[i]
    q2 = load q2[i]
    for j in tiles(T0)
      s1 = dot q1, k1[j]
      s1 = map s1 * scale()
      s1 = mask s1 where j <= i on all
      s2 = dot q2, k2[j]
      s2 = map s2 * scale()
      s2 = mask s2 where j <= i on all
      a = push s1, v[j]
      b = push s2, v[j]
    store a - lambda[head()] * b
";

    /// What keys and values need for their gradients, of all queries of a group.
    const TRANSPOSED: &str = "\
attention @transposed(lse: Tensor<f32, 3>, delta: Tensor<f32, 3>) -> f32[B, G, T0, 4], f32[B, G, T0, 8]
  k: f32[B, G, T0, 4]  v: f32[B, G, T0, 8]
  q: f32[B, H, S, 4]  do: f32[B, H, S, 8]
  for j in tiles(T0)
    dk = sum
    dv = sum
    k = load k[j] * (scale())
    v = load v[j]
    for i in tiles(S) of each head from j0
        full from j1
      p = dot k, q[i]
      p = map exp(p - lse[batch()][head()][i])
      dp = dot v, do[i]
      ds = map p * (dp - delta[batch()][head()][i])
      p = mask p where j <= i on partial
      ds = mask ds where j <= i on partial
      dv = push p, do[i]
      dk = push ds, q[i]
    store dk
    store dv
";

    /// Rows alone.
    const ROWS: &str = "\
attention @gate(gate: Tensor<f32, 2>) -> f32[B, H, S, 8]
  x: f32[B, H, S, 8]  y: f32[B, H, S, 8]
  for i in tiles(S)
    x = load x[i]
    y = load y[i]
    store x * y * gate[batch()][i]
";

    /// Rows alone, of sums and numbers.
    const SUMS: &str = "\
attention @sums() -> f32[B, H, S, 1], f32[B, H, S, 8]
  x: f32[B, H, S, 8]  y: f32[B, H, S, 8]
  lse: f32[B, H, S]
  for i in tiles(S)
    x = load x[i]
    y = load y[i]
    delta = sum of x * y
    store delta - lse[i]
    store x * lse[i]
";

    /// What rows add to sums like something captured.
    const SINK: &str = "\
attention @d_sink(logit: Tensor<f32, 1>) -> like logit
  lse: f32[B, H, S]  delta: f32[B, H, S]
  for i in tiles(S)
    add exp(logit[head()] - lse[i]) * -delta[i] to logit[head()]
    store like logit
";

    /// What pairs add to such sums.
    const BIAS: &str = "\
attention @d_bias(bias: Tensor<f32, 2>) -> like bias
  q: f32[B, H, S, 8]
  k: f32[B, G, T0, 4]
  for i in tiles(S)
    q = load q[i]
    for j in tiles(T0) to i1 + 1
        full to i0 + 1
      s = dot q[..4], k[j]
      s = mask s where j <= i on partial
      add s to bias[i][j]
    store like bias
";

    /// Checks that `text` with `from` replaced by `to` is refused with `message`.
    fn refused_in(text: &str, from: &str, to: &str, message: &str) {
        assert_eq!(text.matches(from).count(), 1, "`{from}` once");
        let program = parse(&text.replace(from, to)).unwrap();
        assert_eq!(verify(&program).map_err(|error| error.to_string()), Err(message.to_string()));
    }

    #[test]
    fn programs_of_all_forms_are_accepted_and_read_back() {
        let with_maximum = format!("{PROGRAM}    keep maximum\n");
        let undivided = format!("{PROGRAM}    keep undivided\n");
        let each = format!("{DIFFERENCE}    keep each\n");
        let of_rows = [ROWS, SUMS, SINK];
        for text in [PROGRAM, DIFFERENCE, TRANSPOSED, BIAS, &with_maximum, &undivided, &each].into_iter().chain(of_rows)
        {
            let program = parse(text).unwrap();
            assert_eq!(verify(&program), Ok(()), "{text}");
            assert_eq!(program.to_string(), text);
        }
    }

    #[test]
    fn dims() {
        let message = "in loop 0: a dot of 4 elements of `q`, of dim 4, and `k`, of dim 3";
        refused("k: f32[B, G, T0, 4]", "k: f32[B, G, T0, 3]", message);
        let message = "in loop 0: a dot of 5 elements of `q`, of dim 4, and `k`, of dim 4";
        refused("dot q, k[j]", "dot q, k[j][..5]", message);
        refused("-> f32[B, H, S, 8]", "-> f32[B, H, S, 9]", "an output of dim 9 is of `o`, of dim 8");
        refused("  v: f32[B, G, T0, 8]", "  v: f32[B, G, T0, 0]", "`v` has a dim of 0");
        refused_in(ROWS, "y: f32[B, H, S, 8]", "y: f32[B, H, S, 1]", "an output of dim 8 is of `y`, of dim 1");
        let message = "in loop 0: values of different dims are pushed into `a`";
        refused_in(DIFFERENCE, "b = push s2, v[j]", "b = push s2, v[j]\n      a = push s2, k1[j]", message);
    }

    #[test]
    fn sums_over_elements() {
        let message = "`delta` is a sum over elements of nothing that is loaded";
        refused_in(SUMS, "sum of x * y", "sum of lse[i]", message);
        refused_in(SUMS, "y: f32[B, H, S, 8]", "y: f32[B, H, S, 1]", "a sum of `x`, of dim 8, and `y`, of dim 1");
        refused_in(SUMS, "store x * lse[i]", "store x * delta", "an output of dim 8 is of `delta`, of dim 1");
        let message = "`t` is a sum over elements, and there are loops";
        refused("load q[i] * (scale())", "load q[i]\n    t = sum of q", message);
    }

    #[test]
    fn sums_like_something_captured() {
        refused_in(BIAS, "to bias[i][j]", "to scale()", "in loop 0: `scale()` is added to, and is not stored");
        let message = "in loop 0: what is added to depends on `j0`: `bias[i][j0]`";
        refused_in(BIAS, "to bias[i][j]", "to bias[i][j0]", message);
        refused_in(SINK, "to logit[head()]", "to logit[j]", "what is added to depends on `j`: `logit[j]`");
        let message = "in loop 0: `s` is changed after it was pushed";
        refused_in(
            BIAS,
            "      s = mask s where j <= i on partial\n      add s to bias[i][j]\n",
            "      add s to bias[i][j]\n      s = mask s where j <= i on partial\n",
            message,
        );
        let mut program = parse(BIAS).unwrap();
        program.outputs = parse(PROGRAM).unwrap().outputs;
        assert_eq!(verify(&program).unwrap_err().to_string(), "sums like `bias`, and outputs too");
        program.outputs.clear();
        program.loops.clear();
        assert_eq!(verify(&program).unwrap_err().to_string(), "nothing is added to `bias`");
        let mut program = parse(SINK).unwrap();
        program.adds[0].value = Expr::Int(1);
        assert_eq!(
            verify(&program).unwrap_err().to_string(),
            "what a row adds is of type integer, expected float: `1`"
        );
        let place = |text: &str| parse(text).unwrap_err().to_string();
        let other = SINK.replace("store like logit", "store like scale()");
        assert_eq!(place(&other), "5:16: expected `logit`, found `scale`");
        let other = SINK.replace("to logit[head()]", "to 2.0");
        assert_eq!(place(&other), "4:52: expected an element of a captured tensor, a scalar or `scale()`, found `2.0`");
    }

    #[test]
    fn kept_numbers() {
        let message = "the maximum of rows is kept of one softmax, and here the accumulators are others";
        for (text, last) in [(DIFFERENCE, "store a - lambda[head()] * b"), (ROWS, "store x * y * gate[batch()][i]")] {
            refused_in(text, last, &format!("{last}\n    keep maximum"), message);
            refused_in(text, last, &format!("{last}\n    keep undivided"), message);
        }
        let message = "what is not divided by its sum is a softmax, and the output is an expression";
        refused("store o", "store o * 2.0\n    keep undivided", message);
    }

    #[test]
    fn rows_and_columns() {
        let mut program = parse(PROGRAM).unwrap();
        program.loads.push(program.loads[0].clone());
        assert_eq!(verify(&program).unwrap_err().to_string(), "`q` is loaded twice");
        program.loads[1].operand = 1;
        assert_eq!(verify(&program).unwrap_err().to_string(), "`k` is loaded and does not lie along the rows");
        program.loads.clear();
        assert_eq!(verify(&program).unwrap_err().to_string(), "in loop 0: `q` is not loaded");
        let mut program = parse(PROGRAM).unwrap();
        program.loops[0].columns = Axis::Keys(3);
        assert_eq!(verify(&program).unwrap_err().to_string(), "in loop 0: `k` does not lie along T3");
        program.loops[0].columns = Axis::Queries;
        assert_eq!(verify(&program).unwrap_err().to_string(), "in loop 0: rows along S and columns along S");
        let message = "in loop 0: it runs for each head, and its rows are queries, of one head";
        refused("tiles(T0) from", "tiles(T0) of each head from", message);
        let message = "loops run for each head, and outside of them is `dk * head() as f32`";
        refused_in(TRANSPOSED, "store dk", "store dk * (head() as f32)", message);
        refused_in(TRANSPOSED, "full from j1", "full from i1", "in loop 0: a full range depends on `i1`: `i1`");
        refused_in(
            TRANSPOSED,
            "full from j1",
            "full from j1 hop to j0",
            "in loop 0: a hop to a key, in a loop over queries",
        );
    }

    #[test]
    fn tiles_and_accumulators() {
        let mask = "s = mask s where j <= i on partial\n      s = map s * 2.0";
        refused(
            "s = map s * 2.0\n      s = mask s where j <= i on partial",
            mask,
            "in loop 0: `s` is changed after its mask",
        );
        refused("      o = push s, v[j]\n", "", "in loop 0: `s` is made for nothing");
        let message = "in loop 0: `s` is changed after it was pushed";
        refused(
            "s = mask s where j <= i on partial\n      o = push s, v[j]",
            "o = push s, v[j]\n      s = map s * 2.0",
            message,
        );
        refused("o = push s, v[j]", "t = map s\n      o = push t, v[j]", "in loop 0: a map is of `s`, which is masked");
        refused("o = push s, v[j]", "t = dot q, k[j]\n      o = push s, v[j]", "in loop 0: `t` is made for nothing");
        refused_in(DIFFERENCE, "      b = push s2, v[j]\n", "      a = push s2, v[j]\n", "nothing is pushed into `b`");
        let message = "in loop 0: `s1` is pushed into a softmax, and used for something else";
        refused_in(DIFFERENCE, "b = push s2", "b = push s1, v[j]\n      b = push s2", message);
        refused_in(
            DIFFERENCE,
            "a = push s1, v",
            "w = map s1\n      a = push s1 * w, v",
            "in loop 0: a map is of `s1`, which is masked",
        );
        let mut program = parse(DIFFERENCE).unwrap();
        program.accumulators[1].name = "lambda".into();
        assert_eq!(verify(&program).unwrap_err().to_string(), "something else is named `lambda`");
        program.accumulators[1].name = "b".into();
        program.loops[0].tiles[1] = "s1".into();
        assert_eq!(verify(&program).unwrap_err().to_string(), "something else is named `s1`");
        program.loops[0].tiles[1] = "if".into();
        assert_eq!(verify(&program).unwrap_err().to_string(), "`if` is not a name of a value");
        program.loops[0].tiles[1] = "s2".into();
        program.loops[0].body.swap(0, 3);
        assert_eq!(
            verify(&program).unwrap_err().to_string(),
            "in loop 0: `s2` is made before the tiles in front of it"
        );
        program.loops[0].body.swap(0, 3);
        program.outputs.clear();
        assert_eq!(verify(&program).unwrap_err().to_string(), "no output");
    }

    #[test]
    fn what_pairs_are_pushed() {
        let text = |program: &Program, every| {
            let pushed = program.loops[0].visible(every);
            pushed.map(|pushed| pushed.display(program.parameters()).to_string())
        };
        let program = parse(DIFFERENCE).unwrap();
        assert_eq!((text(&program, false), text(&program, true)), (Some("j <= i".into()), Some("j <= i".into())));
        let program = parse(&DIFFERENCE.replacen("j <= i", "j < 5", 1)).unwrap();
        assert_eq!(text(&program, false), Some("j < 5 || j <= i".into()));
        assert_eq!(text(&program, true), Some("j < 5 && j <= i".into()));
        let program = parse(&DIFFERENCE.replacen("      s1 = mask s1 where j <= i on all\n", "", 1)).unwrap();
        assert_eq!((text(&program, false), text(&program, true)), (None, Some("j <= i".into())));
    }

    #[test]
    fn types() {
        refused("map s * 2.0", "map j", "in loop 0: a map is of type integer, expected float: `j`");
        refused("map s * 2.0", "map s * i", "in loop 0: a map: operands of types float and integer in `s * i`");
        refused("where j <= i", "where s", "in loop 0: a mask is of type float, expected bool: `s`");
        refused("map s * 2.0", "map doc[i][j] as f32", {
            "in loop 0: a map: 2 indices into `doc` of rank 1 in `doc[i][j]`"
        });
    }

    #[test]
    fn places_of_leaves() {
        refused("map s * 2.0", "map mask(s, j <= i)", "in loop 0: a map has a mask in it: `mask(s, j <= i)`");
        refused("where j <= i", "where s > 0.0", "in loop 0: a mask depends on `s`: `s > 0.0`");
        refused("sink i as f32", "sink j as f32", "the sink depends on `j`: `j as f32`");
        refused("(scale())", "(i as f32)", "a scale depends on `i`: `i as f32`");
        refused("map s * 2.0", "map i0 as f32", "in loop 0: a map depends on `i0`: `i0 as f32`");
        refused("to i1 + 1", "to i + 1", "in loop 0: a visited range depends on `i`: `i + 1`");
        refused("to i0 + 1", "to j", "in loop 0: a full range depends on `j`: `j`");
        refused("to i0 + 1", "to j0", "in loop 0: a full range depends on `j0`: `j0`");
        refused("map s * 2.0", "map least(doc[i through i]) as f32", {
            "in loop 0: a map depends on a summary of a captured tensor: `least(doc[i]) as f32`"
        });
        refused("to i1 + 1", "to count(doc < i1)", {
            "in loop 0: a visited range: a count in `doc`, which is not a sorted tensor of integers, in `count(doc < i1)`"
        });
    }

    #[test]
    fn ranges() {
        let ranges = |count: i32| (0..count).map(|end| format!("to {end}")).collect::<Vec<_>>().join(", ");
        refused("to i1 + 1", &ranges(9), "in loop 0: 9 of a visited range, expected at most 8");
        assert_eq!(verify(&parse(&PROGRAM.replace("to i1 + 1", &ranges(8))).unwrap()), Ok(()));
        refused("to i1 + 1", "to i1 + 1 if w", "in loop 0: a visited range is of type integer, expected bool: `w`");
    }

    #[test]
    fn masks_on_partial_tiles() {
        refused(
            "        full from i1 - w + 1 to i0 + 1\n",
            "",
            "in loop 0: a mask on partial tiles, but nothing says which are full",
        );
    }
}
