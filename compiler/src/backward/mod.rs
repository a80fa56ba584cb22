//! The derivative of an attention, as programs of the same kind.
//!
//! From a forward program, as it is after its dots are joined, [`differentiate`] makes one with rows of queries, which gives the gradients
//! of what lies along queries, and for each set of keys one with rows of keys, which gives those of keys and values. For one softmax
//! o = Σ p·v with p = exp(f(s) − lse) they are
//!
//! ```text
//! for i in tiles(S)                                     for j in tiles(T0)
//!   for j in tiles(T0)                                    for i in tiles(S) of each head
//!     s = dot q, k[j]                                       s = dot k, q[i]
//!     dp = dot d_out, v[j]                                  dp = dot v, d_out[i]
//!     ds = map exp(f(s) - lse[i]) * (dp - delta[i]) * f'(s)   ds = …
//!     ds = mask ds where …                                  p = map exp(f(s) - lse[i])
//!     d_q = push ds, k[j]                                   d_k = push ds, q[i]
//!   store d_q                                               d_v = push p, d_out[i]
//!                                                         store d_k  store d_v
//! ```
//!
//! with delta = Σ dO·O of each row (Dao et al., "FlashAttention", 2022, appendix B.2; FlashAttention-2, 2023, §3.1), which [`RowNumbers`]
//! says of each accumulator. A score that is a sum of several products, weights after the softmax, other accumulators and several loops follow
//! the same rules:
//!
//! | accumulator | pushed f with factor g | d f | d g | weight of dV |
//! |---|---|---|---|---|
//! | `Softmax` | p = exp(f − lse) | p (g·dp − delta) | p·dp | p·g |
//! | `Sum` | f | g·dp | f·dp | f·g |
//! | `Mean` | f / Z | (g·dp − delta) / Z | f·dp / Z | f·g / Z |
//!
//! Numbers of rows are to base 2 for a softmax, so that the weight is one power of two; of a row that sees nothing the log-sum-exp is given
//! as +∞, and its weights are zero. Pairs that are hidden weigh nothing in any push, whatever they hold.

pub mod derivative;

use self::derivative::{derivative, minus, plus, times};
use crate::analysis::product::{Factor, Product};
use crate::expr::{Expr, UnaryOp};
use crate::ir::forward::Pushed;
use crate::ir::{
    Accumulator, Axis, DotTerm, Heads, Kept, Load, MaskedTiles, Number, Operand, Output, Program, Range, Reduction,
    TileLoop, TileOp,
};
use crate::passes::simplify_expressions;
use crate::passes::use_base_two::times_log2_e;
use std::borrow::Cow;
use std::collections::{BTreeSet, HashSet};
use thiserror::Error;

/// The programs that give an attention's gradients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backward {
    /// What the [numbers](Program::numbers) of the programs are, the same in all of them.
    pub numbers: Vec<RowNumbers>,
    /// The program that gives the gradients of what lies along queries, if any is wanted.
    pub queries: Option<Derived>,
    /// That of each set of keys, those that have one.
    pub keys: Vec<Derived>,
}

/// A program that gives gradients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Derived {
    /// The program.
    pub program: Program,
    /// The operands that its outputs are the gradients of, by their places in the forward program.
    pub of: Vec<usize>,
    /// What its operands are, by their places in the forward program; the gradient of the output has the place after the last.
    pub operands: Vec<usize>,
}

/// A number of each row that the forward pass leaves, or that is made of what it leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowNumbers {
    /// A softmax's log-sum-exp to base 2, and +∞ where that is −∞.
    LogSumExp(usize),
    /// Σ dA·A of an accumulator, less what is wanted of its log-sum-exp.
    Delta(usize),
    /// 1 / Z of a mean, and 0 where Z is 0.
    Inverse(usize),
}

/// Why a program has no derivative.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BackwardError {
    /// It is one that has no rows of queries.
    #[error("`{0}` has no rows of queries, expected a forward program")]
    NotForward(String),
    /// Its output is an expression.
    #[error("`{0}` has an output that is not its one accumulator, and only such have gradients")]
    Output(String),
}

/// The gradient of the output, or of an accumulator: an operand of derived programs, beside those of the forward program.
pub const OUTPUT_GRADIENT: &str = "d_out";

/// The programs that give the gradients of the operands of `forward` for which `wanted` says so.
///
/// `forward` is a program as [simplified](crate::passes::simplify_expressions), with softmaxes to base e.
///
/// # Errors
/// [`BackwardError`] where it has no rows of queries, or its output is not its one accumulator.
pub fn differentiate(forward: &Program, wanted: &dyn Fn(usize) -> bool) -> Result<Backward, BackwardError> {
    if forward.rows != Axis::Queries {
        return Err(BackwardError::NotForward(forward.name.clone()));
    }
    if !forward.stores_accumulator() || forward.outputs.len() != 1 {
        return Err(BackwardError::Output(forward.name.clone()));
    }
    let names = Names::of(forward);
    let mut numbers = Vec::new();
    for (place, accumulator) in forward.accumulators.iter().enumerate() {
        match accumulator.reduction {
            Reduction::Softmax { .. } => numbers.extend([RowNumbers::LogSumExp(place), RowNumbers::Delta(place)]),
            Reduction::Mean => numbers.extend([RowNumbers::Inverse(place), RowNumbers::Delta(place)]),
            Reduction::Sum => {}
        }
    }
    let derive = Derive { forward, names, numbers: &numbers };
    let queries = derive.program(Axis::Queries, wanted);
    let sets = forward.key_sets();
    let keys = (0..sets).filter_map(|set| derive.program(Axis::Keys(set), wanted)).collect();
    Ok(Backward { queries, keys, numbers })
}

/// Names that are not taken.
#[derive(Clone)]
struct Names {
    taken: HashSet<String>,
}

impl Names {
    fn of(program: &Program) -> Names {
        let operands = program.operands.iter().map(|operand| operand.name.clone());
        let scalars = program.scalars.iter().map(|scalar| scalar.name.clone());
        let tensors = program.tensors.iter().map(|tensor| tensor.name.clone());
        Names { taken: operands.chain(scalars).chain(tensors).chain([program.name.clone()]).collect() }
    }

    /// `name`, or that with as many underscores after it as nobody has.
    fn free(&self, name: &str) -> String {
        let mut name = name.to_string();
        while self.taken.contains(&name) {
            name.push('_');
        }
        name
    }

    /// `name`, or that with a number, which is then taken.
    fn fresh(&mut self, name: &str) -> String {
        let numbered = (2..).map(|number| format!("{name}{number}"));
        let mut names = std::iter::once(name.to_string()).chain(numbered);
        names.find(|name| self.taken.insert(name.clone())).unwrap_or_default()
    }
}

/// What derived programs are made of.
struct Derive<'a> {
    forward: &'a Program,
    names: Names,
    numbers: &'a [RowNumbers],
}

/// A push of the forward program, by the products of its loop, and what becomes of it.
struct Pulled {
    /// The weight that its values have in the accumulator's result.
    weight: Expr,
    /// The derivative of what is lost by each product, in the loop's order.
    by_dot: Vec<Expr>,
    /// Where it is visible.
    mask: Option<Expr>,
    /// The values' operand, and how many elements of their rows.
    values: usize,
    dim: usize,
}

impl Derive<'_> {
    fn number(&self, wanted: RowNumbers) -> Expr {
        let place = self.numbers.iter().position(|number| *number == wanted);
        Expr::Number(place.expect("each accumulator has its numbers"))
    }

    /// The derivative of `push`, where `dp`, the product of its accumulator's gradient and its values, is a value too.
    fn pull(&self, push: &Pushed, dots: usize, dp: &Expr) -> Pulled {
        let Pushed { accumulator, score, mask, factor, values, dim, .. } = push;
        let factor = factor.clone().unwrap_or_else(|| Expr::float(1.0));
        let weighted = times(factor.clone(), dp.clone());
        // What f is multiplied by in the result, f's own derivative, and what the factor's derivative is multiplied by.
        let (weight, of_score, of_factor) = match &self.forward.accumulators[*accumulator].reduction {
            Reduction::Softmax { .. } => {
                let power = minus(times_log2_e(score), self.number(RowNumbers::LogSumExp(*accumulator)));
                let weight = Expr::unary(UnaryOp::Exp2, power);
                let lost = minus(weighted, self.number(RowNumbers::Delta(*accumulator)));
                (weight.clone(), times(weight.clone(), lost), times(weight, dp.clone()))
            }
            Reduction::Sum => (score.clone(), weighted, times(score.clone(), dp.clone())),
            Reduction::Mean => {
                let inverse = self.number(RowNumbers::Inverse(*accumulator));
                let lost = minus(weighted, self.number(RowNumbers::Delta(*accumulator)));
                let weight = times(score.clone(), inverse.clone());
                (weight.clone(), times(lost, inverse), times(weight, dp.clone()))
            }
        };
        let by_dot = (0..dots).map(|dot| {
            let leaf = Expr::Value(dot);
            let of_score = times(of_score.clone(), derivative(score, &leaf));
            plus(of_score, times(of_factor.clone(), derivative(&factor, &leaf)))
        });
        let by_dot = by_dot.collect();
        let weight = times(weight, factor);
        let mask = mask.as_ref().map(|(visible, _)| visible.clone());
        Pulled { weight, by_dot, mask, values: *values, dim: *dim }
    }

    /// The program with these rows; `None` where none of what lies along them has a gradient that is wanted.
    fn program(&self, rows: Axis, wanted: &dyn Fn(usize) -> bool) -> Option<Derived> {
        let forward = self.forward;
        let mut operands = forward.operands.clone();
        operands.push(Operand {
            name: self.names.free(OUTPUT_GRADIENT),
            element: forward.outputs[0].element,
            heads: Heads::Query,
            axis: Axis::Queries,
            dim: forward.outputs[0].dim,
        });
        let mut made = Made { of: Vec::new(), loops: Vec::new() };
        for one in forward.loops.iter().filter(|one| rows == Axis::Queries || rows == one.columns) {
            made.add_loop(self, rows, one, wanted);
        }
        let Made { of, mut loops } = made;
        if of.is_empty() {
            return None;
        }
        let accumulators = of.iter().map(|operand| Accumulator {
            name: self.names.free(&format!("d_{}", forward.operands[*operand].name)),
            reduction: Reduction::Sum,
        });
        let outputs = of.iter().zip(take_common_factors(&mut loops, of.len())).enumerate();
        let outputs = outputs.map(|(place, (operand, factor))| {
            let Operand { element, heads, dim, .. } = forward.operands[*operand];
            Output { element, heads, dim, value: factor.iter().cloned().fold(Expr::Value(place), times) }
        });
        let rows_of = if rows == Axis::Queries { "queries" } else { "keys" };
        let mut program = Program {
            name: self.names.free(&format!("{}_backward_{rows_of}", forward.name)),
            scalars: forward.scalars.clone(),
            tensors: forward.tensors.clone(),
            numbers: self.numbers.iter().map(|number| self.declared(*number)).collect(),
            operands,
            rows,
            accumulators: accumulators.collect(),
            loads: Vec::new(),
            outputs: outputs.collect(),
            loops,
            kept: Kept::default(),
        };
        simplify_expressions(&mut program);
        let operands = load_what_is_used(&mut program);
        Some(Derived { program, of, operands })
    }

    /// A number of rows as a program declares it.
    fn declared(&self, number: RowNumbers) -> Number {
        let (what, accumulator) = match number {
            RowNumbers::LogSumExp(accumulator) => ("lse", accumulator),
            RowNumbers::Delta(accumulator) => ("delta", accumulator),
            RowNumbers::Inverse(accumulator) => ("inverse", accumulator),
        };
        let name = match &self.forward.accumulators[..] {
            [_] => what.to_string(),
            several => format!("{what}_{}", several[accumulator].name),
        };
        Number { name: self.names.free(&name), heads: Heads::Query, axis: Axis::Queries }
    }
}

/// The loops of a program that is made, and the operands whose gradients it has so far: each has an accumulator.
struct Made {
    of: Vec<usize>,
    loops: Vec<TileLoop>,
}

impl Made {
    /// The accumulator of an operand's gradient.
    fn accumulator(&mut self, operand: usize) -> usize {
        let known = self.of.iter().position(|of| *of == operand);
        known.unwrap_or_else(|| {
            self.of.push(operand);
            self.of.len() - 1
        })
    }

    /// Adds the loop that `one` becomes where the rows are `rows`, with a push for each gradient that it has a part of.
    fn add_loop(&mut self, derive: &Derive, rows: Axis, one: &TileLoop, wanted: &dyn Fn(usize) -> bool) {
        let of_queries = rows == Axis::Queries;
        let along = |term: &DotTerm| if of_queries { *term } else { DotTerm { row: term.column, column: term.row } };
        let gradient = derive.forward.operands.len();
        let (dots, pushes) = (one.dots(), one.pushes_of_tiles());
        let mut body = Body::default();
        for terms in &dots {
            body.dots.push(terms.iter().map(along).collect());
        }
        // A product of the gradient with each of the values, which several pushes may share.
        let mut products: Vec<usize> = Vec::new();
        for push in &pushes {
            if !products.contains(&push.values) {
                products.push(push.values);
                body.dots.push(vec![along(&DotTerm { row: gradient, column: push.values })]);
            }
        }
        for push in &pushes {
            let product = products.iter().position(|values| *values == push.values).unwrap_or(0);
            let pulled = derive.pull(push, dots.len(), &Expr::Value(dots.len() + product));
            for (terms, lost) in dots.iter().zip(&pulled.by_dot) {
                let targets: Vec<DotTerm> = terms.iter().map(along).filter(|term| wanted(term.row)).collect();
                if *lost == Expr::float(0.0) || targets.is_empty() {
                    continue;
                }
                let tile = body.map("ds", lost.clone(), &pulled.mask);
                for DotTerm { row, column } in targets {
                    body.push(self.accumulator(row), tile, column, derive.forward.operands[column].dim);
                }
            }
            if !of_queries && wanted(pulled.values) {
                let tile = body.map("p", pulled.weight.clone(), &pulled.mask);
                body.push(self.accumulator(pulled.values), tile, gradient, pulled.dim);
            }
        }
        if body.pushes.is_empty() {
            return;
        }
        let (tiles, body) = body.finish(derive);
        self.loops.push(TileLoop {
            columns: if of_queries { one.columns } else { Axis::Queries },
            each_head: !of_queries,
            visit: vec![Range::ALL],
            full: Vec::new(),
            kind: None,
            key_hop: None,
            tiles,
            body,
        });
    }
}

/// The body of a loop that is made.
#[derive(Default)]
struct Body {
    /// The products, of which a tile each is made first.
    dots: Vec<Vec<DotTerm>>,
    /// What is made of those, each in a tile of its own: a name, an expression of the products, and where it is visible.
    maps: Vec<(&'static str, Expr, Option<Expr>)>,
    /// What is pushed: the accumulator, the place of what is made, the values, and how many elements of them.
    pushes: Vec<(usize, usize, usize, usize)>,
}

impl Body {
    fn map(&mut self, name: &'static str, value: Expr, visible: &Option<Expr>) -> usize {
        self.maps.push((name, value, visible.clone()));
        self.maps.len() - 1
    }

    fn push(&mut self, accumulator: usize, map: usize, values: usize, dim: usize) {
        self.pushes.push((accumulator, map, values, dim));
    }

    /// The names of the tiles, and the operations.
    fn finish(mut self, derive: &Derive) -> (Vec<Cow<'static, str>>, Vec<TileOp>) {
        let mut names = derive.names.clone();
        let taken = derive.forward.operands.iter().map(|operand| format!("d_{}", operand.name));
        names.taken.extend(taken.chain(derive.numbers.iter().map(|number| derive.declared(*number).name)));
        let mut tiles: Vec<Cow<'static, str>> = Vec::new();
        let mut ops = Vec::new();
        for terms in &self.dots {
            ops.push(TileOp::Dot { tile: tiles.len(), terms: terms.clone() });
            tiles.push(names.fresh(if tiles.len() + 1 < self.dots.len() { "s" } else { "dp" }).into());
        }
        for dot in 0..self.dots.len() {
            if let Some(value) = self.take_scale(dot) {
                ops.push(TileOp::Map { tile: dot, value });
            }
        }
        let first = tiles.len();
        for (place, (name, value, visible)) in self.maps.into_iter().enumerate() {
            ops.push(TileOp::Map { tile: first + place, value });
            tiles.push(names.fresh(name).into());
            if let Some(visible) = visible {
                ops.push(TileOp::Mask { tile: first + place, visible, on: MaskedTiles::All });
            }
        }
        for (accumulator, map, values, dim) in self.pushes {
            ops.push(TileOp::Push { accumulator, weights: first + map, factor: None, values, dim });
        }
        (tiles, ops)
    }

    /// The product of a dot and of what is the same for a whole tile, where nothing is made of the dot but of that: it then takes the dot's
    /// place, so that it can be [part of what is loaded](crate::passes::scale_queries).
    fn take_scale(&mut self, dot: usize) -> Option<Expr> {
        let score = Expr::Value(dot);
        let is_scaled = |expr: &Expr| {
            let product = Product::of(expr);
            *expr != score && product.varying == [Factor::Times(score.clone())] && product.uniform_part().is_ok()
        };
        let mut found: Option<Expr> = None;
        for (_, value, _) in &self.maps {
            value.any(&mut |expr| {
                found = found.take().or_else(|| is_scaled(expr).then(|| expr.clone()));
                found.is_some()
            });
        }
        let scaled = found?;
        let replaced: Vec<Expr> = self.maps.iter().map(|(_, value, _)| without(value, &scaled)).collect();
        if replaced.iter().any(|value| value.mentions(&score)) {
            return None;
        }
        for ((_, value, _), replaced) in self.maps.iter_mut().zip(&replaced) {
            *value = put_back(replaced, &score);
        }
        Some(scaled)
    }
}

/// What stands for the scaled dot while it is looked whether the dot is anywhere else.
const TAKEN: Expr = Expr::Value(usize::MAX);

fn without(expr: &Expr, taken: &Expr) -> Expr {
    if expr == taken { TAKEN } else { expr.map_children(|child| without(child, taken)) }
}

fn put_back(expr: &Expr, score: &Expr) -> Expr {
    if *expr == TAKEN { score.clone() } else { expr.map_children(|child| put_back(child, score)) }
}

/// Takes the factors that are the same for whole tiles out of what is pushed, where all that is pushed into an accumulator has them. Returns
/// those of each accumulator.
fn take_common_factors(loops: &mut [TileLoop], accumulators: usize) -> Vec<Option<Expr>> {
    let factor_of = |one: &TileLoop, tile: usize| {
        let made = one.body.iter().rev().find_map(|op| match op {
            TileOp::Map { tile: to, value } if *to == tile => Some(value),
            _ => None,
        });
        made.and_then(|value| Product::of(value).uniform_part().ok().flatten())
    };
    let mut found: Vec<Option<Option<Expr>>> = vec![None; accumulators];
    let mut agree = vec![true; accumulators];
    let mut sharing: Vec<BTreeSet<usize>> = Vec::new();
    for one in loops.iter() {
        let mut into: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); one.tiles.len()];
        for op in &one.body {
            if let TileOp::Push { accumulator, weights, .. } = op {
                let factor = factor_of(one, *weights);
                agree[*accumulator] &= *found[*accumulator].get_or_insert_with(|| factor.clone()) == factor;
                into[*weights].insert(*accumulator);
            }
        }
        sharing.extend(into);
    }
    // A tile loses its factor for all that it is pushed into.
    while let Some(set) = sharing.iter().find(|set| set.iter().any(|of| agree[*of]) && set.iter().any(|of| !agree[*of]))
    {
        set.iter().for_each(|of| agree[*of] = false);
    }
    for one in loops.iter_mut() {
        let tiles: BTreeSet<usize> = one
            .body
            .iter()
            .filter_map(|op| match op {
                TileOp::Push { accumulator, weights, .. } if agree[*accumulator] => Some(*weights),
                _ => None,
            })
            .collect();
        for op in &mut one.body {
            if let TileOp::Map { tile, value } = op
                && tiles.contains(tile)
                && Product::of(value).uniform_part().is_ok()
            {
                *value = Product::of(value).varying_part().unwrap_or_else(|| Expr::float(1.0));
            }
        }
    }
    found.into_iter().zip(agree).map(|(factor, agree)| factor.flatten().filter(|_| agree)).collect()
}

/// Loads what lies along the rows of a product, and leaves out the operands that nothing is of. Returns the places that the others had.
fn load_what_is_used(program: &mut Program) -> Vec<usize> {
    let (mut rows, mut used) = (BTreeSet::new(), BTreeSet::new());
    for op in program.loops.iter().flat_map(|one| &one.body) {
        match op {
            TileOp::Dot { terms, .. } => {
                rows.extend(terms.iter().map(|term| term.row));
                used.extend(terms.iter().flat_map(|term| [term.row, term.column]));
            }
            TileOp::Push { values, .. } => drop(used.insert(*values)),
            TileOp::Map { .. } | TileOp::Mask { .. } => {}
        }
    }
    let place = |of: usize| used.range(..of).count();
    for op in program.loops.iter_mut().flat_map(|one| &mut one.body) {
        match op {
            TileOp::Dot { terms, .. } => {
                terms.iter_mut().for_each(|term| *term = DotTerm { row: place(term.row), column: place(term.column) });
            }
            TileOp::Push { values, .. } => *values = place(*values),
            TileOp::Map { .. } | TileOp::Mask { .. } => {}
        }
    }
    program.loads = rows.iter().map(|operand| Load { operand: place(*operand), scale: None }).collect();
    let mut at = 0;
    program.operands.retain(|_| {
        at += 1;
        used.contains(&(at - 1))
    });
    used.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::differentiate;
    use crate::ir::parse::parse;
    use crate::ir::verify::verify;
    use crate::passes::PASSES;

    /// The programs after all passes, as text.
    fn derived(forward: &str) -> String {
        let forward = parse(forward).unwrap();
        let backward = differentiate(&forward, &|_| true).unwrap();
        let mut texts = Vec::new();
        for derived in backward.queries.iter().chain(&backward.keys) {
            let mut program = derived.program.clone();
            assert_eq!(verify(&program), Ok(()), "{program}");
            for pass in PASSES {
                (pass.run)(&mut program);
                assert_eq!(verify(&program), Ok(()), "{program}");
            }
            assert_eq!(parse(&program.to_string()).as_ref(), Ok(&program));
            texts.push(program.to_string());
        }
        texts.join("\n")
    }

    const WINDOW: &str = "\
attention @window_backward_queries(window: u32) -> f32[B, H, S, 64]
  q: f32[B, H, S, 64]
  k: f32[B, G, T0, 64]  v: f32[B, G, T0, 64]
  d_out: f32[B, H, S, 64]
  lse: f32[B, H, S]  delta: f32[B, H, S]
  for i in tiles(S)
    d_q = sum
    q = load q[i] * (scale() * 1.442695)
    d_out = load d_out[i]
    for j in tiles(T0) from i0 - window + 1 to i1 + 1 if window >= 1
        full from i1 - window + 1 to i0 + 1
      s = dot q, k[j]
      dp = dot d_out, v[j]
      ds = map exp2(s - lse[i]) * (dp - delta[i])
      ds = mask ds where j <= i && i - j < window on partial
      d_q = push ds, k[j]
    store d_q * scale()

attention @window_backward_keys(window: u32) -> f32[B, G, T0, 64], f32[B, G, T0, 64]
  q: f32[B, H, S, 64]
  k: f32[B, G, T0, 64]  v: f32[B, G, T0, 64]
  d_out: f32[B, H, S, 64]
  lse: f32[B, H, S]  delta: f32[B, H, S]
  for j in tiles(T0)
    d_k = sum
    d_v = sum
    k = load k[j] * (scale() * 1.442695)
    v = load v[j]
    for i in tiles(S) of each head from j0 to j1 + window if window >= 1
        full from j1 to j0 + window
      s = dot k, q[i]
      dp = dot v, d_out[i]
      ds = map exp2(s - lse[i]) * (dp - delta[i])
      ds = mask ds where j <= i && i - j < window on partial
      p = map exp2(s - lse[i])
      p = mask p where j <= i && i - j < window on partial
      d_k = push ds, q[i]
      d_v = push p, d_out[i]
    store d_k * scale()
    store d_v
";

    #[test]
    fn a_window() {
        let forward = "\
attention @window(window: u32) -> f32[B, H, S, 64]
  q: f32[B, H, S, 64]
  k: f32[B, G, T0, 64]  v: f32[B, G, T0, 64]
  for i in tiles(S)
    o = softmax base e
    q = load q[i]
    for j in tiles(T0)
      s = dot q, k[j]
      s = map s * scale()
      s = mask s where j <= i && i - j < window on all
      o = push s, v[j]
    store o
";
        assert_eq!(derived(forward), WINDOW);
    }
}
