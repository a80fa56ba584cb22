//! What a key loop does with scores between the products and a push.

use super::arguments::ParameterValues;
use super::place::Place;
use super::softmax::{hidden, raise};
use crate::expr::{BinaryOp, Expr, UnaryOp};
use crate::ir::forward::{Added, Pushed};
use crate::ir::{MaskedTiles, Program, TileLoop};
use cubecl::prelude::*;

/// Which array of a tile has what: first the dots, then the weights of pushes that have no dot of their own in whose place they could be, and
/// the factors.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TileArrays {
    /// How many dots there are.
    pub dots: usize,
    /// How many arrays there are.
    pub count: usize,
    /// Where the weights of each push are.
    pub weights: Vec<usize>,
    /// Where its factors are, if it has some.
    pub factors: Vec<Option<usize>>,
    /// Where what is added to sums is, of each add.
    pub added: Vec<usize>,
}

impl TileArrays {
    /// Those of a loop with so many dots that pushes `pushes`, and adds so many tiles to sums.
    pub fn new(dots: usize, pushes: &[Pushed], adds: usize) -> TileArrays {
        let mut count = dots;
        let mut next = || {
            count += 1;
            count - 1
        };
        let weights = pushes.iter().map(|push| push.own_dot.unwrap_or_else(&mut next)).collect();
        let factors = pushes.iter().map(|push| push.factor.as_ref().map(|_| next())).collect();
        let added = (0..adds).map(|_| next()).collect();
        TileArrays { dots, count, weights, factors, added }
    }

    /// The most that a loop of `program` has.
    pub fn most(program: &Program) -> usize {
        let of_loop = |one: &TileLoop| TileArrays::new(one.dots().len(), &one.pushes(), one.adds().len()).count;
        program.loops.iter().map(of_loop).max().unwrap_or(0)
    }
}

/// What is pushed at `place`, of the products `dots`, after its maps and its mask; `full` says that the tile is inside the loop's full range.
/// In other tiles a softmax's score of a key that is seen is [raised](raise()), so that it is told from those of hidden ones.
#[cube]
pub fn apply<N: Size>(
    dots: &Sequence<Vector<f32, N>>,
    place: &Place<N>,
    parameters: &ParameterValues,
    #[comptime] push: Pushed,
    #[comptime] softmax: bool,
    #[comptime] full: bool,
) -> Vector<f32, N> {
    let raises = comptime![softmax && !full];
    let mut score = parameters.float_of::<N>(place, dots, comptime![push.score.clone()]);
    let mask = comptime![evaluated_mask(&push.mask, full).cloned()];
    if comptime![mask.is_some()] {
        let visible = parameters.truth::<N>(place, comptime![mask.clone().unwrap()]);
        let nothing = comptime![hidden(softmax)];
        if raises {
            score = raise::<N>(score);
        }
        score = select_many(visible, score, Vector::new(nothing));
    }
    if comptime![raises && push.mask.is_none()] {
        score = raise::<N>(score);
    }
    score
}

/// What is added to a sum at `place`, likewise.
#[cube]
pub fn added<N: Size>(
    dots: &Sequence<Vector<f32, N>>,
    place: &Place<N>,
    parameters: &ParameterValues,
    #[comptime] add: Added,
    #[comptime] full: bool,
) -> Vector<f32, N> {
    let value = parameters.float_of::<N>(place, dots, comptime![add.value.clone()]);
    let mask = comptime![evaluated_mask(&add.mask, full).cloned()];
    if comptime![mask.is_some()] {
        let visible = parameters.truth::<N>(place, comptime![mask.clone().unwrap()]);
        select_many(visible, value, Vector::new(0.0))
    } else {
        value
    }
}

/// The predicate of a mask, where it is evaluated.
fn evaluated_mask(mask: &Option<(Expr, MaskedTiles)>, full: bool) -> Option<&Expr> {
    mask.as_ref().filter(|(_, on)| !(full && *on == MaskedTiles::Partial)).map(|(visible, _)| visible)
}

/// How many operations [`apply()`] does to a score; `None` if some take more than an instruction or two.
pub fn operations(push: &Pushed, full: bool) -> Option<usize> {
    let exprs = [&push.score].into_iter().chain(evaluated_mask(&push.mask, full));
    let mut operations = 0;
    for expr in exprs {
        if expr.any(&mut is_long) {
            return None;
        }
        operations += expr.size() / 2;
    }
    Some(operations)
}

/// Whether an operation on vectors is many instructions: a gather, a division, a function.
fn is_long(expr: &Expr) -> bool {
    match expr {
        Expr::Load { index, .. } => index.iter().any(|index| index.mentions(&Expr::Query)),
        Expr::Unary(op, _) => !matches!(
            op,
            UnaryOp::Neg | UnaryOp::Not | UnaryOp::Abs | UnaryOp::Relu | UnaryOp::ToFloat | UnaryOp::ToInt
        ),
        Expr::Binary(op, ..) => matches!(op, BinaryOp::Div | BinaryOp::Rem | BinaryOp::Pow),
        _ => false,
    }
}
