//! The `cpu` schedule: a unit per core takes query tiles from a counter, and vectors run over queries.
//!
//! Scores are kept transposed, Sᵀ[j, i..]: a vector holds one key's scores for as many queries as the machine has lanes. Both
//! products then multiply a broadcast element of K or V, read as they lie, with vectors that are contiguous; and maximum,
//! sum, rescale and mask are lane-wise, with nothing reduced across lanes. Only Q is packed, transposed, once per query tile.
//!
//! ```text
//! pack Qᵀ                                      query_tile
//! for each tile of keys:                       key_tile
//!     Sᵀ = K·Qᵀ                    register blocks, for each dot
//!     map, mask, maximum; rescale Oᵀ where it moved
//!     P = 2^(S − m), running sum
//!     Oᵀ = Oᵀ + Vᵀ·P               register blocks, for each push
//! once more, with care, if Oᵀ is not finite    key_tile
//! O = Oᵀ / l, transposed                       query_tile
//! ```
//!
//! CubeCL's CPU runtime runs the cubes of a launch one after another on every unit, so that parallelism is the number of
//! units: one cube, a unit per core, and an atomic counter of query tiles. The tiles that see most are taken first.
//!
//! Where there are few queries, [`FewQueries`](crate::schedule::FewQueries) puts the heads of a group side by side in a tile, so that their keys are read once,
//! and splits the keys, so that all cores have work.

pub mod captured;
pub mod key_tile;
pub mod query_tile;
mod stripes;

use self::captured::add_part;
use self::key_tile::{Block, CpuTileCode, KeyRows, Part, careful_tile, visit_part};
use self::query_tile::{CpuCode, QueryRows, QueryTile};
use self::stripes::StripeSpans;
use crate::emit::arguments::{
    Counters, Extent, KernelInputs, KeySet, OperandArgument, OutputBuffer, ParameterValues, Partials, Results,
};
use crate::emit::count_kernel;
use crate::emit::key_tiles::{FULL, KeyTiles, PARTIAL, SKIPPED, count_tile};
use crate::emit::place::Place;
use crate::ir::Axis;
use crate::schedule::CpuSchedule;
use crate::scheduled::Compiled;
use cubecl::prelude::*;

/// The attention of `program` with the `cpu` schedule, of operands in `E`, with outputs in `O`.
///
/// `counter` holds the next item, then the next tile to merge. An item is one of the `tiles` query tiles, or with `split_kv` a query
/// tile and one of `splits` runs of keys: those leave what they accumulated in the one of `partials`, and are merged when all have.
#[cube(launch_unchecked)]
pub fn attention_cpu<E: Float, O: Float, N: Size>(
    operands: &Sequence<OperandArgument<E>>,
    keys: &Sequence<KeySet>,
    results: &mut Results<O>,
    counter: &[Atomic<u32>],
    partials: &mut Sequence<Partials<N>>,
    extent: &Extent,
    parameters: &ParameterValues,
    tiles: usize,
    splits: usize,
    counters: &Sequence<Counters>,
    #[comptime] program: Compiled,
    #[comptime] schedule: CpuSchedule,
    #[comptime] counting: bool,
) {
    comptime!(count_kernel());
    let given = KernelInputs::<E>::new(operands, keys, extent, parameters);
    let code = comptime![CpuCode { program: program.clone(), schedule, counting }];
    let split_kv = comptime![schedule.few.split_kv];
    let rows_are_keys = comptime![program.rows != Axis::Queries];
    let mut tile = QueryTile::<N>::new(comptime![code.clone()]);
    // Its loops add to no sums.
    let mut sums = Sequence::<OutputBuffer<f32>>::new();
    let mut items = tiles;
    if split_kv {
        items = tiles * splits;
    }

    let mut item = counter[0].fetch_add(1u32) as usize;
    while item < items {
        let mut at = item;
        let mut split = 0usize;
        if split_kv {
            at = item / splits;
            split = item % splits;
        }
        let rows = QueryRows::new(extent, at, schedule);
        let place = rows.place::<N>(extent, rows_are_keys, schedule);
        tile.pack::<E>(&given, &rows, &place, comptime![code.clone()]);
        // Computed once, and a second time with care if the first shows that it must be.
        let careful = RuntimeCell::<bool>::new(false.runtime());
        let again = RuntimeCell::<bool>::new(true.runtime());
        while again.read() {
            tile.begin(&place, parameters, split == 0, careful.read());

            #[unroll]
            for at in 0..comptime![program.loops.len()] {
                if comptime![program.loops[at].each_head] {
                    // The rows are keys, and each query head that reads them has queries of its own.
                    for nth in 0..extent.group {
                        let head = rows.head * extent.group + nth;
                        let here = place.of_head(head as i32, (head / extent.kv_group) as i32);
                        let run = Run::<N> { place: here, head, careful: careful.read(), split, splits, sums: 0usize.runtime() };
                        let code = comptime![code.clone()];
                        visit_columns::<E, N>(&mut tile, given, &rows, run, counters, &mut sums, at, code);
                    }
                } else {
                    let run = Run::<N> {
                        place,
                        head: rows.head,
                        careful: careful.read(),
                        split,
                        splits,
                        sums: 0usize.runtime(),
                    };
                    let code = comptime![code.clone()];
                    visit_columns::<E, N>(&mut tile, given, &rows, run, counters, &mut sums, at, code);
                }
            }
            again.store(false.runtime());
            if !careful.read() {
                if tile.is_doubtful(rows.count) {
                    careful.store(true.runtime());
                    again.store(true.runtime());
                }
            }
        }
        tile.close(careful.read());
        if split_kv {
            tile.store_partial(&mut partials[0], item, comptime![program.clone()]);
        } else {
            tile.finish::<E, O>(&given, results, &rows, place, comptime![code.clone()]);
        }
        item = counter[0].fetch_add(1u32) as usize;
    }

    if split_kv {
        // Every item is done and seen by all.
        sync_cube();
        let mut at = counter[1].fetch_add(1u32) as usize;
        while at < tiles {
            tile.merge_partials(&partials[0], at * splits, splits, comptime![program.clone()]);
            let rows = QueryRows::new(extent, at, schedule);
            let place = rows.place::<N>(extent, rows_are_keys, schedule);
            tile.finish::<E, O>(&given, results, &rows, place, comptime![code.clone()]);
            at = counter[1].fetch_add(1u32) as usize;
        }
    }
}

/// How the columns of a tile are gone through.
#[derive(CubeType, Clone, Copy)]
#[expand(derive(Clone, Copy))]
struct Run<N: Size> {
    /// The place of the tile.
    place: Place<N>,
    /// The query head that reads the columns.
    head: usize,
    /// Whether rows are computed again, with care.
    careful: bool,
    /// Which of the runs of columns this is, where they are split.
    split: usize,
    /// How many there are.
    splits: usize,
    /// The first of the sums that are added to.
    sums: usize,
}

/// Pushes what loop number `at` has for the tile of `rows`, and adds what it has to `sums`.
#[cube]
fn visit_columns<E: Float, N: Size>(
    tile: &mut QueryTile<N>,
    given: KernelInputs<'_, E>,
    rows: &QueryRows,
    run: Run<N>,
    counters: &Sequence<Counters>,
    sums: &mut Sequence<OutputBuffer<f32>>,
    #[comptime] at: usize,
    #[comptime] code: CpuCode,
) {
    let (program, schedule, counting) = comptime![(code.program.clone(), code.schedule, code.counting)];
    let (place, parameters) = (run.place, given.parameters);
    let key_loop = comptime![program.loops[at].clone()];
    let code = comptime![CpuTileCode::new(program.clone(), key_loop.clone(), schedule)];
    let set = &given.keys[comptime![key_loop.column_set()]];
    let size = comptime![schedule.keys];
    let mut from = 0usize;
    let mut to = set.len;
    if comptime![schedule.few.split_kv] {
        let length = set.len.div_ceil(size).div_ceil(run.splits) * size;
        from = run.split * length;
        to = min(set.len, from + length);
    }
    let key_rows = KeyRows::<E>::new(given, set, rows.batch, run.head, comptime![program.clone()], at);
    let key_tiles = KeyTiles::new::<N>(parameters, &place, set.len, set.offset, size, comptime![key_loop.clone()]);
    let spans = StripeSpans::new::<N>(&key_tiles, parameters, &place, rows.count, schedule);
    let mut key0 = from;
    loop {
        key0 = key_tiles.next::<N>(parameters, &place, key0);
        if key0 >= to {
            break;
        }
        let count = min(size, set.len - key0);
        let whole = Part { tile: key0, vector: 0usize.runtime(), from: 0usize.runtime(), to: count };
        let mut kind = key_tiles.kind::<N>(parameters, &place, key0, count);
        if counting {
            if !run.careful {
                count_tile(&counters[0], kind, at);
            }
        }
        if run.careful && kind != SKIPPED {
            // Here keys are hidden one by one.
            kind = SKIPPED.runtime();
            careful_tile::<E, N>(tile, &key_rows, &place, whole, rows.count, comptime![code.clone()]);
        }
        if comptime![key_loop.occurs(true)] {
            if kind == FULL {
                let code = comptime![code.with_all_visible()];
                visit_part::<E, N>(tile, &key_rows, &place, whole, comptime![code.clone()]);
                if comptime![!code.adds.is_empty()] {
                    add_part::<E, N>(tile, &key_rows, &place, whole, rows.count, &mut sums[0], run.sums, code);
                }
            }
        }
        if comptime![key_loop.occurs(false)] {
            if kind == PARTIAL {
                // A stripe of queries at a time, with only the keys that it sees some of.
                let narrow = comptime![Block::narrow(&schedule)];
                for stripe in 0..rows.count.div_ceil(comptime![narrow.vectors * schedule.lanes]) {
                    let part = spans.part(stripe, key0, count, comptime![key_loop.clone()], schedule);
                    if part.from < part.to {
                        let code = comptime![code.clone()];
                        visit_part::<E, N>(tile, &key_rows, &place, part, comptime![code.clone()]);
                        if comptime![!code.adds.is_empty()] {
                            add_part::<E, N>(tile, &key_rows, &place, part, rows.count, &mut sums[0], run.sums, code);
                        }
                    }
                }
            }
        }
        key0 += size;
    }
}
