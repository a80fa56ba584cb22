//! The bodies of the loops of derived programs: products, what is made of them, and where that goes.

use super::derive::Derive;
use crate::analysis::product::{Factor, Product};
use crate::expr::Expr;
use crate::ir::{Axis, DotTerm, MaskedTiles, Range, TileLoop, TileOp};
use std::borrow::Cow;
use std::collections::BTreeSet;

/// The body of a loop that is made.
#[derive(Default)]
pub struct Body {
    /// The products, of which a tile each is made first: those of the forward loop, and then those of gradients and values.
    dots: Vec<Vec<DotTerm>>,
    /// How many are those of the forward loop.
    scores: usize,
    /// What is made of those, each in a tile of its own: a name, an expression of the products, and where it is visible.
    maps: Vec<(&'static str, Expr, Option<Expr>)>,
    /// What is pushed: the accumulator, the place of what is made, the values, and how many elements of them.
    pub pushes: Vec<(usize, usize, usize, usize)>,
    /// What is added to sums for elements of what is captured: the place of what is made, and the element.
    pub adds: Vec<(usize, Expr)>,
}

impl Body {
    /// A body with the products of a forward loop, `along` which rows and columns of derived programs lie, and for each of its pushes the
    /// product of its accumulator's gradient and its values, which several may share.
    pub fn with_products(derive: &Derive, one: &TileLoop, along: impl Fn(&DotTerm) -> DotTerm) -> (Body, Vec<Expr>) {
        let mut dots: Vec<Vec<DotTerm>> = one.dots().iter().map(|terms| terms.iter().map(&along).collect()).collect();
        let scores = dots.len();
        let products = one.pushes_of_tiles().into_iter().map(|push| {
            let row = derive.gradients[push.accumulator];
            let product = [along(&DotTerm { row, column: push.values, dim: push.dim })];
            let known = dots[scores..].iter().position(|terms| *terms == product);
            Expr::Value(known.map_or_else(
                || {
                    dots.push(product.to_vec());
                    dots.len() - 1
                },
                |place| scores + place,
            ))
        });
        let products = products.collect();
        (Body { dots, scores, ..Body::default() }, products)
    }

    /// An expression of its products, [simplified](Derive::simplified).
    pub fn simplified(&self, derive: &Derive, expr: &Expr) -> Expr {
        derive.simplified(expr, self.dots.len())
    }

    /// Adds something that is made of the products, and gives its place.
    pub fn map(&mut self, name: &'static str, value: Expr, visible: &Option<Expr>) -> usize {
        self.maps.push((name, value, visible.clone()));
        self.maps.len() - 1
    }

    /// Adds a push of what is made at `map`.
    pub fn push(&mut self, accumulator: usize, map: usize, values: usize, dim: usize) {
        self.pushes.push((accumulator, map, values, dim));
    }

    /// The loop with this body, which visits every tile.
    pub fn into_loop(self, derive: &Derive, columns: Axis, each_head: bool) -> TileLoop {
        let (tiles, body) = self.finish(derive);
        TileLoop {
            columns,
            each_head,
            visit: vec![Range::ALL],
            full: Vec::new(),
            kind: None,
            key_hop: None,
            tiles,
            body,
        }
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
            tiles.push(names.fresh(if tiles.len() < self.scores { "s" } else { "dp" }).into());
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
        ops.extend(self.adds.into_iter().map(|(map, element)| TileOp::Add { tile: first + map, element }));
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
pub fn take_common_factors(loops: &mut [TileLoop], accumulators: usize) -> Vec<Option<Expr>> {
    let factor_of = |one: &TileLoop, tile: usize| {
        let made = one.body.iter().rev().find_map(|op| match op {
            TileOp::Map { tile: to, value } if *to == tile => Some(value),
            _ => None,
        });
        let factor = made.and_then(|value| Product::of(value).uniform_part().ok().flatten());
        // What differs from head to head stays in a loop that runs for each.
        factor.filter(|factor| !(one.each_head && factor.mentions(&Expr::Head)))
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
    let is_taken = |accumulator: usize| agree[accumulator] && matches!(found[accumulator], Some(Some(_)));
    for one in loops.iter_mut() {
        let tiles: BTreeSet<usize> = one
            .body
            .iter()
            .filter_map(|op| match op {
                TileOp::Push { accumulator, weights, .. } if is_taken(*accumulator) => Some(*weights),
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
