// Causal attention by hand, for a driver that runs on a CPU: planes of 8 units, in which a shuffle costs far less than a load.
//
// A workgroup is one plane and has 32 queries, each unit four of them. Whatever belongs to a query is a lane of a vec4 over a
// unit's queries, so that a score, a weight or an element of the output is one vec4 for all four. Scores are logarithms to base 2.
//
// The grid is (length / QUERIES, heads). Lengths are multiples of QUERIES, so that nothing has to be checked against the end.
//
// `handwritten_wgsl.rs` runs this, and writes out the loops marked `unroll` before: the arrays they index are registers only where
// every index is a number, and Mesa 22.3 does not see to that itself.
// naga 30 has subgroups without WGSL's `enable subgroups;`, and refuses that.

const UNITS = 8u;
const ROWS = 4u; // the queries of a unit
const QUERIES = UNITS * ROWS;
const KEYS = 32u; // in a tile
const DIM = 64u;
const VECTORS = 16u; // DIM / 4
const PARTS = 4u; // KEYS / UNITS
const STEP = 4u; // keys whose values a plane holds at once
const HELD = 8u; // STEP * VECTORS / UNITS
const PITCH = UNITS + 1u; // one more than there are units, so that they store into different banks
const FACTOR = 0.125 * 1.4426950408889634; // 1 / sqrt(DIM) · log2(e)
const HIDDEN = -1e30;
const LN_2 = 0.6931471805599453;

// What is only read is `read_write` too: CubeCL's allocator may place all of them in one buffer.
@group(0) @binding(0) var<storage, read_write> query: array<vec4f>;
@group(0) @binding(1) var<storage, read_write> key: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> value: array<vec4f>;
@group(0) @binding(3) var<storage, read_write> output: array<vec4f>;
@group(0) @binding(4) var<storage, read_write> lse: array<vec4f>;

// Qᵀ and Pᵀ: a row for each element of the head dim, or for each key, with a vec4 for each unit. A unit reads what it wrote
// itself, so there are no barriers.
var<workgroup> queries: array<vec4f, DIM * PITCH>;
var<workgroup> weights: array<vec4f, KEYS * PITCH>;

@compute @workgroup_size(UNITS)
fn causal(
    @builtin(workgroup_id) tile: vec3u,
    @builtin(num_workgroups) tiles: vec3u,
    @builtin(local_invocation_index) unit: u32,
) {
    let head = tile.y * tiles.x * QUERIES; // the row of its first query, and of its first key
    let query0 = tile.x * QUERIES;
    let row = head + query0 + unit * ROWS;
    let position = vec4u(query0 + unit * ROWS) + vec4u(0u, 1u, 2u, 3u);

    // Qᵀ, scaled.
    for (var x = 0u; x < VECTORS; x++) {
        let rows = transpose(mat4x4f(
            query[row * VECTORS + x],
            query[(row + 1u) * VECTORS + x],
            query[(row + 2u) * VECTORS + x],
            query[(row + 3u) * VECTORS + x],
        ));
        for (var e = 0u; e < 4u; e++) { // unroll
            queries[(4u * x + e) * PITCH + unit] = rows[e] * FACTOR;
        }
    }
    var sums: array<vec4f, DIM>; // Oᵀ: one for each element of the head dim
    for (var x = 0u; x < DIM; x++) { // unroll
        sums[x] = vec4f(0.0);
    }
    var maximum = vec4f(HIDDEN);
    var sum = vec4f(0.0);

    for (var key0 = 0u; key0 <= query0; key0 += KEYS) {
        // Sᵀ = K·Qᵀ. Each unit reads keys of its own, and has the others' by shuffles.
        var scores: array<vec4f, KEYS>;
        for (var j = 0u; j < KEYS; j++) { // unroll
            scores[j] = vec4f(0.0);
        }
        for (var x = 0u; x < VECTORS; x++) {
            let q0 = queries[(4u * x) * PITCH + unit];
            let q1 = queries[(4u * x + 1u) * PITCH + unit];
            let q2 = queries[(4u * x + 2u) * PITCH + unit];
            let q3 = queries[(4u * x + 3u) * PITCH + unit];
            for (var part = 0u; part < PARTS; part++) { // unroll
                let held = key[(head + key0 + part * UNITS + unit) * VECTORS + x];
                for (var lane = 0u; lane < UNITS; lane++) { // unroll
                    let k = subgroupShuffle(held, lane);
                    var score = scores[part * UNITS + lane];
                    score = fma(q0, vec4f(k.x), score);
                    score = fma(q1, vec4f(k.y), score);
                    score = fma(q2, vec4f(k.z), score);
                    score = fma(q3, vec4f(k.w), score);
                    scores[part * UNITS + lane] = score;
                }
            }
        }

        // Only the last tile reaches the diagonal.
        if key0 == query0 {
            for (var j = 0u; j < KEYS; j++) { // unroll
                scores[j] = select(vec4f(HIDDEN), scores[j], vec4u(key0 + j) <= position);
            }
        }

        // The online softmax.
        var next = maximum;
        for (var j = 0u; j < KEYS; j++) { // unroll
            next = max(next, scores[j]);
        }
        let rescale = exp2(maximum - next);
        maximum = next;
        sum *= rescale;
        for (var x = 0u; x < DIM; x++) { // unroll
            sums[x] *= rescale;
        }
        for (var j = 0u; j < KEYS; j++) { // unroll
            let weight = exp2(scores[j] - maximum);
            sum += weight;
            weights[j * PITCH + unit] = weight;
        }

        // Oᵀ += Vᵀ·Pᵀ. The 64 sums are more than a CPU's registers hold. A plane has the values of four keys at a time, and each
        // sum takes those of all four before the next sum: it comes and goes once for four keys.
        for (var j = 0u; j < KEYS; j += STEP) {
            var held: array<vec4f, HELD>;
            for (var part = 0u; part < HELD; part++) { // unroll
                held[part] = value[(head + key0 + j) * VECTORS + part * UNITS + unit];
            }
            var weight: array<vec4f, STEP>;
            for (var r = 0u; r < STEP; r++) { // unroll
                weight[r] = weights[(j + r) * PITCH + unit];
            }
            for (var x = 0u; x < VECTORS; x++) { // unroll
                for (var r = 0u; r < STEP; r++) { // unroll
                    let v = subgroupShuffle(held[(r * VECTORS + x) / UNITS], (r * VECTORS + x) % UNITS);
                    sums[4u * x] = fma(weight[r], vec4f(v.x), sums[4u * x]);
                    sums[4u * x + 1u] = fma(weight[r], vec4f(v.y), sums[4u * x + 1u]);
                    sums[4u * x + 2u] = fma(weight[r], vec4f(v.z), sums[4u * x + 2u]);
                    sums[4u * x + 3u] = fma(weight[r], vec4f(v.w), sums[4u * x + 3u]);
                }
            }
        }
    }

    let inverse = 1.0 / sum;
    for (var x = 0u; x < VECTORS; x++) { // unroll
        let rows = transpose(mat4x4f(
            sums[4u * x] * inverse,
            sums[4u * x + 1u] * inverse,
            sums[4u * x + 2u] * inverse,
            sums[4u * x + 3u] * inverse,
        ));
        output[row * VECTORS + x] = rows[0];
        output[(row + 1u) * VECTORS + x] = rows[1];
        output[(row + 2u) * VECTORS + x] = rows[2];
        output[(row + 3u) * VECTORS + x] = rows[3];
    }
    lse[row / 4u] = (maximum + log2(sum)) * LN_2;
}
