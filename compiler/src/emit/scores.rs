//! What a key loop does with scores between the product and the push.

use super::arguments::Parameters;
use super::expression::Place;
use super::softmax::hidden;
use crate::ir::{KeyLoop, MaskedTiles, TileOp};
use cubecl::prelude::*;

/// The scores at `place` after the loop's maps and its mask; `full` says that the tile is inside the loop's full range.
#[cube]
pub fn apply<N: Size>(
    score: Vector<f32, N>,
    place: &Place<N>,
    parameters: &Parameters,
    #[comptime] key_loop: KeyLoop,
    #[comptime] softmax: bool,
    #[comptime] full: bool,
) -> Vector<f32, N> {
    let mut score = score;
    #[unroll]
    for at in 0..comptime![key_loop.body.len()] {
        let op = comptime![key_loop.body[at].clone()];
        let map = comptime![match &op {
            TileOp::Map(expr) => Some(expr.clone()),
            _ => None,
        }];
        let mask = comptime![match &op {
            TileOp::Mask { visible, tiles } if !(full && *tiles == MaskedTiles::Partial) => Some(visible.clone()),
            _ => None,
        }];
        if comptime![map.is_some()] {
            score = parameters.float::<N>(place, score, comptime![map.clone().unwrap()]);
        }
        if comptime![mask.is_some()] {
            let visible = parameters.truth::<N>(place, comptime![mask.clone().unwrap()]);
            let nothing = comptime![hidden(softmax)];
            score = select_many(visible, score, Vector::new(nothing));
        }
    }
    score
}
