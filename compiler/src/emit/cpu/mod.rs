//! The `cpu` schedule: a unit per core takes query tiles from a counter, and vectors run over queries.
//!
//! Scores are kept transposed, Sᵀ[j, i..]: a vector holds one key's scores for as many queries as the machine has lanes. Both
//! products then multiply a broadcast element of K or V, read as they lie, with vectors that are contiguous; and maximum,
//! sum, rescale and mask are lane-wise, with nothing reduced across lanes. Only Q is packed, transposed, once per query tile.
//!
//! ```text
//! pack Qᵀ                                      query_tile
//! for each tile of keys:                       key_tile
//!     Sᵀ = K·Qᵀ                    register blocks
//!     map, mask, maximum; rescale Oᵀ where it moved
//!     P = 2^(S − m), running sum
//!     Oᵀ = Oᵀ + Vᵀ·P               register blocks
//! once more, with care, if Oᵀ is not finite    key_tile
//! O = Oᵀ / l, transposed                       query_tile
//! ```
//!
//! CubeCL's CPU runtime runs the cubes of a launch one after another on every unit, so that parallelism is the number of
//! units: one cube, a unit per core, and an atomic counter of query tiles. The tiles that see most are taken first.
//!
//! Where there are few queries, [`FewQueries`] puts the heads of a group side by side in a tile, so that their keys are read once,
//! and splits the keys, so that all cores have work.

pub mod key_tile;
pub mod query_tile;
mod stripes;

use self::key_tile::{Block, CpuTileCode, KeyRows, Part, careful_tile, visit_part};
use self::query_tile::{QueryRows, QueryTile};
use self::stripes::StripeSpans;
use crate::emit::arguments::{Counters, Extent, KeyValue, OperandArgument, ParameterValues, Partials};
use crate::emit::count_kernel;
use crate::emit::key_tiles::{FULL, KeyTiles, PARTIAL, SKIPPED, count_tile};
use crate::schedule::{CpuSchedule, FewQueries};
use crate::scheduled::Compiled;
use cubecl::prelude::*;

/// The attention of `program` with the `cpu` schedule. `lse` is written for softmax only.
///
/// `counter` holds the next item, then the next tile to merge. An item is one of the `tiles` query tiles, or with `few.split_kv` a query
/// tile and one of `splits` runs of keys: those leave what they accumulated in the one of `partials`, and are merged when all have.
#[cube(launch_unchecked)]
pub fn attention_cpu<E: Float, N: Size>(
    query: &OperandArgument<E>,
    pairs: &Sequence<KeyValue<E>>,
    output: &mut [E],
    lse: &mut [f32],
    counter: &[Atomic<u32>],
    partials: &mut Sequence<Partials<N>>,
    extent: &Extent,
    parameters: &ParameterValues,
    tiles: usize,
    splits: usize,
    counters: &Sequence<Counters>,
    #[comptime] program: Compiled,
    #[comptime] schedule: CpuSchedule,
    #[comptime] few: FewQueries,
    #[comptime] counting: bool,
) {
    comptime!(count_kernel());
    let mut tile = QueryTile::<N>::new(comptime![program.sizes()], schedule);
    let mut items = tiles;
    if comptime![few.split_kv] {
        items = tiles * splits;
    }

    let mut item = counter[0].fetch_add(1u32) as usize;
    while item < items {
        let mut at = item;
        let mut split = 0usize;
        if comptime![few.split_kv] {
            at = item / splits;
            split = item % splits;
        }
        let rows = QueryRows::new(extent, at, schedule, few);
        let place = rows.place::<N>(extent, few);
        tile.pack::<E>(query, extent, &rows, &place, parameters, comptime![program.clone()], schedule, few);
        // Computed once, and a second time with care if the first shows that it must be.
        let careful = RuntimeCell::<bool>::new(false.runtime());
        let again = RuntimeCell::<bool>::new(true.runtime());
        while again.read() {
            if careful.read() {
                tile.begin_careful(&place, parameters, split == 0, comptime![program.clone()], schedule);
            } else {
                tile.begin(&place, parameters, split == 0, comptime![program.clone()], schedule);
            }

            #[unroll]
            for at in 0..comptime![program.loops.len()] {
                let key_loop = comptime![program.loops[at].clone()];
                let code = comptime![CpuTileCode {
                    program: program.clone(),
                    key_loop: key_loop.clone(),
                    schedule,
                    few,
                    full: false,
                }];
                let pair = &pairs[comptime![key_loop.pair()]];
                let size = comptime![schedule.keys];
                let mut from = 0usize;
                let mut to = pair.len;
                if comptime![few.split_kv] {
                    let run = pair.len.div_ceil(size).div_ceil(splits) * size;
                    from = split * run;
                    to = min(pair.len, from + run);
                }
                let key_base = pair.key.rows_of(rows.batch, rows.kv_head);
                let value_base = pair.value.rows_of(rows.batch, rows.kv_head);
                let key_tiles =
                    KeyTiles::new::<N>(parameters, &place, pair.len, pair.offset, size, comptime![key_loop.clone()]);
                let spans = StripeSpans::new::<N>(&key_tiles, parameters, &place, rows.count, schedule, few);
                let mut key0 = from;
                loop {
                    key0 = key_tiles.next::<N>(parameters, &place, key0);
                    if key0 >= to {
                        break;
                    }
                    let count = min(size, pair.len - key0);
                    let keys = KeyRows { key_base, value_base, first: key0, count };
                    let mut kind = key_tiles.kind::<N>(parameters, &place, key0, count);
                    if counting {
                        if !careful.read() {
                            count_tile(&counters[0], kind, at);
                        }
                    }
                    if careful.read() && kind != SKIPPED {
                        // Here keys are hidden one by one.
                        kind = SKIPPED.runtime();
                        careful_tile::<E, N>(
                            &mut tile,
                            pair,
                            &place,
                            parameters,
                            keys,
                            rows.count,
                            comptime![code.clone()],
                        );
                    }
                    if comptime![key_loop.occurs(true)] {
                        if kind == FULL {
                            visit_part::<E, N>(
                                &mut tile,
                                pair,
                                &place,
                                parameters,
                                keys,
                                Part { vector: 0usize.runtime(), from: 0usize.runtime(), to: count },
                                comptime![code.with_all_visible()],
                            );
                        }
                    }
                    if comptime![key_loop.occurs(false)] {
                        if kind == PARTIAL {
                            // A stripe of queries at a time, with only the keys that it sees some of.
                            let narrow = comptime![Block::narrow(&schedule)];
                            for stripe in 0..rows.count.div_ceil(comptime![narrow.vectors * schedule.lanes]) {
                                let part = spans.part(stripe, key0, count, comptime![key_loop.clone()], schedule);
                                if part.from < part.to {
                                    visit_part::<E, N>(
                                        &mut tile,
                                        pair,
                                        &place,
                                        parameters,
                                        keys,
                                        part,
                                        comptime![code.clone()],
                                    );
                                }
                            }
                        }
                    }
                    key0 += size;
                }
            }
            again.store(false.runtime());
            if !careful.read() {
                if tile.is_doubtful(rows.count, comptime![program.clone()], schedule, few) {
                    careful.store(true.runtime());
                    again.store(true.runtime());
                }
            }
        }
        tile.close(careful.read(), comptime![program.clone()], schedule);
        if comptime![few.split_kv] {
            tile.store_partial(&mut partials[0], item, comptime![program.clone()], schedule, few);
        } else {
            tile.finish::<E>(output, lse, &rows, parameters.empty_lse, comptime![program.clone()], schedule, few);
        }
        item = counter[0].fetch_add(1u32) as usize;
    }

    if comptime![few.split_kv] {
        // Every item is done and seen by all.
        sync_cube();
        let mut at = counter[1].fetch_add(1u32) as usize;
        while at < tiles {
            tile.merge_partials(&partials[0], at * splits, splits, comptime![program.clone()], schedule, few);
            let rows = QueryRows::new(extent, at, schedule, few);
            tile.finish::<E>(output, lse, &rows, parameters.empty_lse, comptime![program.clone()], schedule, few);
            at = counter[1].fetch_add(1u32) as usize;
        }
    }
}
