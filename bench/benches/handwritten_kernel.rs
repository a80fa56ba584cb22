//! A kernel as one writes it by hand in CubeCL for three masks, with the loops and the blocking of the generated one.
//!
//! What a compiler has to derive is written down instead: between which keys of a query tile's the mask is needed at all, and
//! on which side; one comparison a score there and none elsewhere; nothing for lengths that a tile does not divide; a linear
//! bias that is a number per key, because the part that depends on the query alone leaves a softmax as it is.
//!
//! Scores are transposed, Sᵀ[j, i..], and logarithms to base 2, as in `compiler/src/emit/cpu/mod.rs`.

use cubecl::prelude::*;
use purview::schedule::CpuSchedule;

/// A score that weighs nothing, once its row has seen a key; and the maximum of a row that has not.
const HIDDEN: f32 = -1.0e30;

/// What a query sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mask {
    /// Itself and what is before.
    Causal,
    /// Itself and the `window - 1` keys before it. The window is at least a tile of queries and one of keys.
    Window,
    /// As causal, with scores that fall by the head's slope with each position of distance.
    CausalAlibi,
}

/// What the kernel is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Form {
    /// The mask.
    pub mask: Mask,
    /// The head dim.
    pub dim: usize,
    /// The blocking.
    pub schedule: CpuSchedule,
}

/// Where a tile of keys lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Edge {
    /// Every query sees all of it.
    None,
    /// On the diagonal: a query sees no key after itself.
    Diagonal,
    /// At the window's far end: a query sees no key a window or more before itself.
    Window,
}

/// What stays of a tile of queries while the keys stream past. Vectors are indexed `[row * vectors + vector]`.
#[derive(CubeType)]
struct QueryTile<N: Size> {
    /// Qᵀ, `[dim, vectors]`.
    query: Array<Vector<f32, N>>,
    /// Oᵀ, `[dim, vectors]`.
    output: Array<Vector<f32, N>>,
    /// Sᵀ, then Pᵀ, `[keys, vectors]`.
    scores: Array<Vector<f32, N>>,
    /// The queries' positions.
    positions: Array<Vector<i32, N>>,
    /// The running maximum.
    maximum: Array<Vector<f32, N>>,
    /// The maximum including the current tile.
    tile_maximum: Array<Vector<f32, N>>,
    /// The running sum.
    sum: Array<Vector<f32, N>>,
    /// By what the current tile shrinks what was accumulated.
    rescale: Array<Vector<f32, N>>,
}

/// Attention over contiguous `[heads, length, dim]`, of which a tile of queries divides the length, and 4 the lanes and the head
/// dim. `factor` is what scores are multiplied with, log₂e included. The two counters are 0, and 0 again in the end.
#[cube(launch_unchecked)]
pub fn attention_by_hand<N: Size>(
    query: &[f32],
    key: &[f32],
    value: &[f32],
    slopes: &[f32],
    output: &mut [f32],
    lse: &mut [f32],
    counters: &[Atomic<u32>],
    heads: usize,
    length: usize,
    window: usize,
    factor: f32,
    #[comptime] form: Form,
) {
    let lanes = comptime![form.schedule.lanes];
    let vectors = comptime![form.schedule.vectors];
    let keys = comptime![form.schedule.keys];
    let query_tile = comptime![form.schedule.lanes * form.schedule.vectors];
    let mut tile = QueryTile::<N> {
        query: Array::new(comptime![form.dim * vectors]),
        output: Array::new(comptime![form.dim * vectors]),
        scores: Array::new(comptime![keys * vectors]),
        positions: Array::new(vectors),
        maximum: Array::new(vectors),
        tile_maximum: Array::new(vectors),
        sum: Array::new(vectors),
        rescale: Array::new(vectors),
    };
    let mut lane_of = Vector::<i32, N>::new(0);
    #[unroll]
    for lane in 0..lanes {
        lane_of.insert(lane, lane as i32);
    }

    let query_tiles = length / query_tile;
    let items = heads * query_tiles;
    let mut item = counters[0].fetch_add(1u32) as usize;
    while item < items {
        let head = item / query_tiles;
        let row0 = (query_tiles - 1 - item % query_tiles) * query_tile;
        let base = head * length * form.dim;
        let mut slope = 0.0f32;
        if comptime![form.mask == Mask::CausalAlibi] {
            slope = slopes[head] * std::f32::consts::LOG2_E;
        }

        for vector in 0..vectors {
            let start = base + (row0 + vector * lanes) * form.dim;
            for x in 0..comptime![form.dim / 4] {
                let mut block = load_quads::<N>(query, start + 4 * x, form.dim, lanes);
                transpose_quads::<N>(&mut block, lanes);
                #[unroll]
                for r in 0..4usize {
                    tile.query[(4 * x + r) * vectors + vector] = block[r] * Vector::new(factor);
                }
            }
        }
        for at in 0..comptime![form.dim * vectors] {
            tile.output[at] = Vector::new(0.0);
        }
        for vector in 0..vectors {
            tile.positions[vector] = lane_of + Vector::new((row0 + vector * lanes) as i32);
            tile.maximum[vector] = Vector::new(HIDDEN);
            tile.sum[vector] = Vector::new(0.0);
        }

        // Three stretches of keys: at the window's far end, those that every query sees, and those on the diagonal.
        let mut key0 = 0usize;
        if comptime![form.mask == Mask::Window] {
            key0 = (max(row0 + 1, window) - window) / keys * keys;
            let far_end = max(row0 + query_tile, window) - window;
            while key0 < far_end {
                key_tile::<N>(&mut tile, key, value, base, key0, keys, slope, row0, window, form, Edge::Window);
                key0 += keys;
            }
        }
        let diagonal = (row0 + 1) / keys * keys;
        while key0 < diagonal {
            key_tile::<N>(&mut tile, key, value, base, key0, keys, slope, row0, window, form, Edge::None);
            key0 += keys;
        }
        let end = row0 + query_tile;
        while key0 < end {
            let count = min(keys, end - key0);
            key_tile::<N>(&mut tile, key, value, base, key0, count, slope, row0, window, form, Edge::Diagonal);
            key0 += keys;
        }

        for vector in 0..vectors {
            let sum = tile.sum[vector];
            let inverse = Vector::<f32, N>::new(1.0) / sum;
            let start = base + (row0 + vector * lanes) * form.dim;
            for x in 0..comptime![form.dim / 4] {
                let mut block = Array::<Vector<f32, N>>::new(4usize);
                #[unroll]
                for r in 0..4usize {
                    block[r] = tile.output[(4 * x + r) * vectors + vector] * inverse;
                }
                transpose_quads::<N>(&mut block, lanes);
                store_quads::<N>(&block, output, start + 4 * x, form.dim, lanes);
            }
            let mut maximum = tile.maximum[vector];
            if comptime![form.mask == Mask::CausalAlibi] {
                // What was left out of the scores.
                maximum -= Vector::<f32, N>::cast_from(lane_of) * Vector::new(slope);
            }
            let logs = fma(maximum, Vector::new(std::f32::consts::LN_2), sum.ln());
            #[unroll]
            for lane in 0..lanes {
                lse[head * length + row0 + vector * lanes + lane] = logs.extract(lane);
            }
        }
        item = counters[0].fetch_add(1u32) as usize;
    }
    if counters[1].fetch_add(1u32) == CUBE_DIM - 1 {
        counters[0].store(0u32);
        counters[1].store(0u32);
    }
}

/// One tile of `count` keys from `key0`.
#[cube]
#[allow(clippy::too_many_arguments, reason = "a kernel's state cannot be bundled with borrowed operands")]
fn key_tile<N: Size>(
    tile: &mut QueryTile<N>,
    key: &[f32],
    value: &[f32],
    base: usize,
    key0: usize,
    count: usize,
    slope: f32,
    row0: usize,
    window: usize,
    #[comptime] form: Form,
    #[comptime] edge: Edge,
) {
    let vectors = comptime![form.schedule.vectors];
    let rows = comptime![form.schedule.rows];
    let last = row0 + comptime![form.schedule.lanes * form.schedule.vectors] - 1;
    for vector in 0..vectors {
        tile.tile_maximum[vector] = tile.maximum[vector];
    }
    let whole = comptime![form.schedule.keys / rows * rows];
    let mut row = 0usize;
    while row < whole {
        score_rows::<N>(tile, key, base, key0 + row, row, slope, last, window, rows, form, edge);
        row += rows;
    }
    if comptime![whole < form.schedule.keys] {
        let rest = comptime![form.schedule.keys - whole];
        score_rows::<N>(tile, key, base, key0 + whole, whole, slope, last, window, rest, form, edge);
    }

    for vector in 0..vectors {
        let maximum = tile.tile_maximum[vector];
        let rescale = exp2::<N>(tile.maximum[vector] - maximum);
        tile.maximum[vector] = maximum;
        tile.rescale[vector] = rescale;
        let mut sum = tile.sum[vector] * rescale;
        for at in 0..count {
            let weight = exp2::<N>(tile.scores[at * vectors + vector] - maximum);
            tile.scores[at * vectors + vector] = weight;
            sum += weight;
        }
        tile.sum[vector] = sum;
    }

    let whole = comptime![form.dim / rows * rows];
    let mut column = 0usize;
    while column < whole {
        accumulate_columns::<N>(tile, value, base + key0 * form.dim, count, column, rows, form);
        column += rows;
    }
    if comptime![whole < form.dim] {
        let rest = comptime![form.dim - whole];
        accumulate_columns::<N>(tile, value, base + key0 * form.dim, count, whole, rest, form);
    }
}

/// The scores of the keys from `first`, rows from `row` of Sᵀ, and the maximum with them.
#[cube]
#[allow(clippy::too_many_arguments, reason = "a kernel's state cannot be bundled with borrowed operands")]
fn score_rows<N: Size>(
    tile: &mut QueryTile<N>,
    key: &[f32],
    base: usize,
    first: usize,
    row: usize,
    slope: f32,
    last: usize,
    window: usize,
    #[comptime] rows: usize,
    #[comptime] form: Form,
    #[comptime] edge: Edge,
) {
    let vectors = comptime![form.schedule.vectors];
    let mut sums = Array::<Vector<f32, N>>::new(comptime![rows * vectors]);
    let mut starts = Array::<usize>::new(rows);
    #[unroll]
    for r in 0..rows {
        #[unroll]
        for vector in 0..vectors {
            sums[r * vectors + vector] = Vector::new(0.0);
        }
        let mut at = first + r;
        if comptime![edge == Edge::Diagonal] {
            at = min(at, last); // where the rows of a block do not divide the tile
        }
        starts[r] = base + at * form.dim;
    }
    for x in 0..comptime![form.dim] {
        let mut queries = Array::<Vector<f32, N>>::new(vectors);
        #[unroll]
        for vector in 0..vectors {
            queries[vector] = tile.query[x * vectors + vector];
        }
        #[unroll]
        for r in 0..rows {
            let element = Vector::<f32, N>::new(key[starts[r] + x]);
            #[unroll]
            for vector in 0..vectors {
                sums[r * vectors + vector] = fma(element, queries[vector], sums[r * vectors + vector]);
            }
        }
    }
    #[unroll]
    for vector in 0..vectors {
        let mut maximum = tile.tile_maximum[vector];
        #[unroll]
        for r in 0..rows {
            let mut score = sums[r * vectors + vector];
            if comptime![form.mask == Mask::CausalAlibi] {
                // By the distance from the vector's first query, near enough to cost the score no digits.
                let ahead = (first + r) as i32 - (last + 1) as i32
                    + comptime![((vectors - vector) * form.schedule.lanes) as i32];
                score += Vector::new(slope * ahead as f32);
            }
            let position = tile.positions[vector];
            if comptime![edge == Edge::Diagonal] {
                let visible = position.greater_equal(&Vector::new((first + r) as i32));
                score = select_many(visible, score, Vector::new(HIDDEN));
            }
            if comptime![edge == Edge::Window] {
                let visible = position.less_than(&Vector::new((first + r + window) as i32));
                score = select_many(visible, score, Vector::new(HIDDEN));
            }
            maximum = max(maximum, score);
            tile.scores[(row + r) * vectors + vector] = score;
        }
        tile.tile_maximum[vector] = maximum;
    }
}

/// Columns `column..column + rows` of the output: rescaled, plus the values from element `start` times the weights.
#[cube]
fn accumulate_columns<N: Size>(
    tile: &mut QueryTile<N>,
    value: &[f32],
    start: usize,
    count: usize,
    column: usize,
    #[comptime] rows: usize,
    #[comptime] form: Form,
) {
    let vectors = comptime![form.schedule.vectors];
    let mut sums = Array::<Vector<f32, N>>::new(comptime![rows * vectors]);
    #[unroll]
    for r in 0..rows {
        #[unroll]
        for vector in 0..vectors {
            sums[r * vectors + vector] = tile.output[(column + r) * vectors + vector] * tile.rescale[vector];
        }
    }
    for at in 0..count {
        let mut weights = Array::<Vector<f32, N>>::new(vectors);
        #[unroll]
        for vector in 0..vectors {
            weights[vector] = tile.scores[at * vectors + vector];
        }
        #[unroll]
        for r in 0..rows {
            let element = Vector::<f32, N>::new(value[start + at * form.dim + column + r]);
            #[unroll]
            for vector in 0..vectors {
                sums[r * vectors + vector] = fma(element, weights[vector], sums[r * vectors + vector]);
            }
        }
    }
    #[unroll]
    for r in 0..rows {
        #[unroll]
        for vector in 0..vectors {
            tile.output[(column + r) * vectors + vector] = sums[r * vectors + vector];
        }
    }
}

/// Four columns, from element `start`, of as many rows as there are lanes: `block[r]` has those of row r in its lanes 0 to 3, of
/// row 4 + r in 4 to 7, and so on. Four elements that are adjacent in memory are adjacent in a vector, and load at once.
#[cube]
fn load_quads<N: Size>(
    data: &[f32],
    start: usize,
    #[comptime] stride: usize,
    #[comptime] lanes: usize,
) -> Array<Vector<f32, N>> {
    let mut block = Array::<Vector<f32, N>>::new(4usize);
    #[unroll]
    for r in 0..4usize {
        let mut quads = Vector::<f32, N>::new(0.0);
        #[unroll]
        for lane in 0..lanes {
            quads.insert(lane, data[start + comptime![(lane / 4 * 4 + r) * stride + lane % 4]]);
        }
        block[r] = quads;
    }
    block
}

/// The other way.
#[cube]
fn store_quads<N: Size>(
    block: &Array<Vector<f32, N>>,
    data: &mut [f32],
    start: usize,
    #[comptime] stride: usize,
    #[comptime] lanes: usize,
) {
    #[unroll]
    for r in 0..4usize {
        #[unroll]
        for lane in 0..lanes {
            data[start + comptime![(lane / 4 * 4 + r) * stride + lane % 4]] = block[r].extract(lane);
        }
    }
}

/// Transposes each square of four vectors and four adjacent lanes, so that `block[c]` has what was lane 4·g + c of `block[r]` in
/// lane 4·g + r: first elements across the squares' diagonals, then their quarters (Eklundh 1972). LLVM makes one shuffle of
/// each vector's extracts and inserts.
#[cube]
fn transpose_quads<N: Size>(block: &mut Array<Vector<f32, N>>, #[comptime] lanes: usize) {
    #[unroll]
    for step in 0..2usize {
        let step = comptime![1 << step];
        #[unroll]
        for pair in 0..2usize {
            let first = comptime![pair / step * 2 * step + pair % step];
            let a = block[first];
            let b = block[comptime![first + step]];
            let mut low = a;
            let mut high = b;
            #[unroll]
            for lane in 0..lanes {
                if comptime![lane & step == 0] {
                    high.insert(lane, a.extract(comptime![lane + step]));
                } else {
                    low.insert(lane, b.extract(comptime![lane - step]));
                }
            }
            block[first] = low;
            block[comptime![first + step]] = high;
        }
    }
}

/// 2 to the x, for x ≤ 0, by the polynomial of `compiler/src/emit/softmax.rs`: within 2 ulp from −126 on, and exactly 0 from −127
/// down, where the exponent −127 cancels that of 1. Anything else as small would be denormal, and a hundred times slower.
#[cube]
fn exp2<N: Size>(x: Vector<f32, N>) -> Vector<f32, N> {
    let x = max(x, Vector::new(-127.0));
    let round = Vector::<f32, N>::new(12582912.0);
    let shifted = x + round;
    let fraction = x - (shifted - round);
    let mut power = Vector::<f32, N>::new(0.0013276471);
    power = fma(power, fraction, Vector::new(0.009675541));
    power = fma(power, fraction, Vector::new(0.05550713));
    power = fma(power, fraction, Vector::new(0.2402212));
    power = fma(power, fraction, Vector::new(0.69314694));
    power = fma(power, fraction, Vector::new(1.0));
    let exponent = Vector::<u32, N>::reinterpret(shifted) << Vector::<u32, N>::new(23);
    Vector::<f32, N>::reinterpret(Vector::<u32, N>::reinterpret(power) + exponent)
}
