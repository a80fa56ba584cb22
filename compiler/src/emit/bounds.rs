//! A key loop's bounds at a query tile, as rows of the pair's keys.

use super::arguments::Parameters;
use super::expression::Place;
use crate::expr::Expr;
use crate::ir::KeyLoop;
use cubecl::prelude::*;

/// The rows of a pair's keys that a query tile visits.
#[derive(CubeType, Clone, Copy)]
#[expand(derive(Clone, Copy))]
pub struct Visits {
    /// The first.
    pub from: usize,
    /// The one after the last.
    pub to: usize,
    /// The first that every query sees.
    pub full_from: usize,
    /// The one after the last that every query sees.
    pub full_to: usize,
}

/// The bounds of the loop's range number `range`, for `len` keys of which the first is at position `offset`. Where nothing
/// is proved full, `full_to` is 0.
#[cube]
pub fn visits<N: Size>(
    parameters: &Parameters,
    place: &Place<N>,
    len: usize,
    offset: i32,
    #[comptime] key_loop: KeyLoop,
    #[comptime] range: usize,
) -> Visits {
    let all = len as i32;
    let visit = comptime![key_loop.visit[range].clone()];
    let full = comptime![key_loop.full.clone()];
    let from = row::<N>(parameters, place, all, offset, comptime![visit.from.clone()], 0i32);
    let to = row::<N>(parameters, place, all, offset, comptime![visit.to.clone()], all);
    let mut full_from = 0usize;
    let mut full_to = 0usize;
    if comptime![full.is_some()] {
        let full = comptime![full.clone().unwrap()];
        full_from = row::<N>(parameters, place, all, offset, comptime![full.from.clone()], 0i32);
        full_to = row::<N>(parameters, place, all, offset, comptime![full.to.clone()], all);
    }
    Visits { from, to, full_from, full_to }
}

/// The row of the key at position `bound`, within 0..=len; `otherwise` where there is no bound.
#[cube]
fn row<N: Size>(
    parameters: &Parameters,
    place: &Place<N>,
    len: i32,
    offset: i32,
    #[comptime] bound: Option<Expr>,
    otherwise: i32,
) -> usize {
    let mut row = otherwise;
    if comptime![bound.is_some()] {
        // Clamped before it is moved, so that no bound can overflow.
        let bound = parameters.uniform::<N>(place, comptime![bound.clone().unwrap()]);
        row = clamp(bound, offset, offset + len) - offset;
    }
    row as usize
}
