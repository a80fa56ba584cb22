//! What a key loop does with scores between the product and the push.

use super::arguments::ParameterValues;
use super::place::Place;
use super::softmax::{hidden, raise};
use crate::expr::{BinaryOp, Expr, UnaryOp};
use crate::ir::{MaskedTiles, TileLoop};
use cubecl::prelude::*;

/// The scores at `place` after the loop's maps and its mask; `full` says that the tile is inside the loop's full range. In other tiles a softmax's
/// score of a key that is seen is [raised](raise()), so that it is told from those of hidden ones.
#[cube]
pub fn apply<N: Size>(
    score: Vector<f32, N>,
    place: &Place<N>,
    parameters: &ParameterValues,
    #[comptime] key_loop: TileLoop,
    #[comptime] softmax: bool,
    #[comptime] full: bool,
) -> Vector<f32, N> {
    let mut score = score;
    let raises = comptime![softmax && !full];
    let masks = comptime![key_loop.visible().is_some()];
    let maps = comptime![key_loop.maps().cloned().collect::<Vec<_>>()];
    #[unroll]
    for at in 0..comptime![maps.len()] {
        score = parameters.float::<N>(place, score, comptime![maps[at].clone()]);
    }
    let mask = comptime![evaluated_mask(&key_loop, full).cloned()];
    if comptime![mask.is_some()] {
        let visible = parameters.truth::<N>(place, comptime![mask.clone().unwrap()]);
        let nothing = comptime![hidden(softmax)];
        if raises {
            score = raise::<N>(score);
        }
        score = select_many(visible, score, Vector::new(nothing));
    }
    if comptime![raises && !masks] {
        score = raise::<N>(score);
    }
    score
}

/// The predicate of the loop's mask, where it is evaluated.
fn evaluated_mask(key_loop: &TileLoop, full: bool) -> Option<&Expr> {
    key_loop.mask().filter(|(_, on)| !(full && *on == MaskedTiles::Partial)).map(|(visible, _)| visible)
}

/// How many operations [`apply()`] does to a score; `None` if some take more than an instruction or two.
pub fn operations(key_loop: &TileLoop, full: bool) -> Option<usize> {
    let exprs = key_loop.maps().chain(evaluated_mask(key_loop, full));
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
