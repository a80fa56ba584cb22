//! Which keys the stripes of a query tile see some of, in the `cpu` schedule.

use super::key_tile::{Block, Part};
use crate::emit::arguments::ParameterValues;
use crate::emit::key_tiles::{KeyTiles, span, trims};
use crate::emit::place::{Ends, Place};
use crate::ir::TileLoop;
use crate::schedule::CpuSchedule;
use cubecl::prelude::*;

/// The rows of keys that each stripe of a query tile sees some of, for the `cpu` schedule, which computes no others in a tile whose
/// mask it evaluates. A stripe has the vectors of a [narrow block](Block::narrow).
#[derive(CubeType)]
pub struct StripeSpans {
    /// The first row, `[stripes, ranges]`.
    from: Array<usize>,
    /// The row after the last, `[stripes, ranges]`.
    to: Array<usize>,
}

#[cube]
impl StripeSpans {
    /// Those among `tiles` for the tile of `rows` rows at `place`.
    pub fn new<N: Size>(
        tiles: &KeyTiles,
        parameters: &ParameterValues,
        place: &Place<N>,
        rows: usize,
        #[comptime] schedule: CpuSchedule,
    ) -> StripeSpans {
        let key_loop = comptime![tiles.key_loop.clone()];
        let queries = comptime![schedule.lanes * Block::narrow(&schedule).vectors];
        let ranges = comptime![key_loop.visit.len()];
        let size = comptime![if trims(&key_loop) { ranges * schedule.vectors } else { 1 }];
        let mut from = Array::new(size);
        let mut to = Array::new(size);
        if comptime![trims(&key_loop)] {
            for stripe in 0..rows.div_ceil(queries) {
                let mut first = place.tile.rows.first;
                let mut last = place.tile.rows.last;
                // Where heads are side by side, a stripe may hold any queries of the tile.
                if comptime![!schedule.few.pack_gqa] {
                    first += (stripe * queries) as i32;
                    last = min(first + comptime![queries as i32 - 1], last);
                }
                let here = place.of_row_tile(Ends { first, last });
                #[unroll]
                for range in 0..ranges {
                    let span = span::<N>(
                        parameters,
                        &here,
                        tiles.len as i32,
                        tiles.offset,
                        comptime![key_loop.visit[range].clone()],
                    );
                    from[stripe * ranges + range] = span.from;
                    to[stripe * ranges + range] = span.to;
                }
            }
        }
        StripeSpans { from, to }
    }

    /// What `stripe` sees some of, in the tile of `count` keys at row `key0`.
    pub fn part(
        &self,
        stripe: usize,
        key0: usize,
        count: usize,
        #[comptime] key_loop: TileLoop,
        #[comptime] schedule: CpuSchedule,
    ) -> Part {
        let mut first = 0usize;
        let mut last = count;
        if comptime![trims(&key_loop)] {
            let ranges = comptime![key_loop.visit.len()];
            first = count;
            last = 0usize;
            #[unroll]
            for range in 0..ranges {
                let from = max(self.from[stripe * ranges + range], key0);
                let to = min(self.to[stripe * ranges + range], key0 + count);
                if from < to {
                    first = min(first, from - key0);
                    last = max(last, to - key0);
                }
            }
        }
        let block = comptime![Block::narrow(&schedule)];
        Part { tile: key0, vector: stripe * comptime![block.vectors], from: first, to: last }
    }
}
