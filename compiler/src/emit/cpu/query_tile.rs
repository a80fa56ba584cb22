//! The queries' side of a tile of the `cpu` schedule: which rows it has, Qᵀ, and the accumulator from its beginning to the output.
//!
//! Qᵀ and Oᵀ have the rows of the tile along their vectors. With [`FewQueries::along_head_dim`] they are Q and O, as they lie.

use crate::emit::arguments::{Extent, OperandArgument, ParameterValues, Partials};
use crate::emit::careful::{CarefulRows, PARTS};
use crate::emit::place::{Ends, Place, TilePlace};
use crate::emit::softmax::{EMPTY, exp2, is_finite, is_too_great, log_sum_exp, raise};
use crate::ir::Reduction;
use crate::ir::forward::Operands;
use crate::schedule::{CpuSchedule, FewQueries};
use crate::scheduled::Compiled;
use cubecl::prelude::*;

/// One lane: for what is read or written by rows.
type One = Const<1>;

/// The rows of a query tile. A row is a query of a head; with `pack_gqa` the rows of all query heads that share a key head follow
/// each other.
#[derive(CubeType)]
pub struct QueryRows {
    /// The batch.
    pub batch: usize,
    /// The query head; with `pack_gqa`, the first of the group.
    pub head: usize,
    /// The key and value head.
    pub kv_head: usize,
    /// The tile's first row, of those from `head` on.
    pub first: usize,
    /// How many rows the tile has.
    pub count: usize,
    /// The output's row at which `head` begins.
    pub base: usize,
}

#[cube]
impl QueryRows {
    /// Those of tile `at` of all. The last tiles of a head come first: under causal masks they see most.
    pub fn new(
        extent: &Extent,
        at: usize,
        #[comptime] schedule: CpuSchedule,
        #[comptime] few: FewQueries,
    ) -> QueryRows {
        let size = comptime![schedule.lanes * schedule.vectors];
        let mut together = 1usize;
        if comptime![few.pack_gqa] {
            together = extent.group;
        }
        let total = together * extent.queries;
        let tiles = total.div_ceil(size);
        let heads = extent.heads / together;
        let batch = at / tiles / heads;
        let head = at / tiles % heads * together;
        let first = (tiles - 1 - at % tiles) * size;
        QueryRows {
            batch,
            head,
            kv_head: head / extent.group,
            first,
            count: min(size, total - first),
            base: (batch * extent.heads + head) * extent.queries,
        }
    }

    /// The place of the tile: its queries' first and last, and no key.
    pub fn place<N: Size>(&self, extent: &Extent, #[comptime] few: FewQueries) -> Place<N> {
        let mut first = self.first;
        let mut last = self.first + self.count - 1;
        if comptime![few.pack_gqa] {
            first = 0;
            last = extent.queries - 1;
        }
        let first = extent.query_offset + first as i32;
        let rows = Vector::new(first);
        let (batch, head) = (self.batch as i32, self.head as i32);
        let heads = Vector::new(self.head as i32);
        let kv_head = self.kv_head as i32;
        let ends = Ends { first, last: extent.query_offset + last as i32 };
        Place::<N>::of_queries(TilePlace::new(batch, head, kv_head, ends), rows, heads, comptime![few.pack_gqa])
    }
}

/// What stays while the keys stream past. Vectors are indexed `[row * vectors + vector]`.
#[derive(CubeType)]
pub struct QueryTile<N: Size> {
    /// Qᵀ, `[qk_dim, vectors]`, or Q, `[rows, qk_dim / lanes]`.
    pub query: Array<Vector<f32, N>>,
    /// Oᵀ, `[v_dim, vectors]`, or O, `[rows, v_dim / lanes]`.
    pub output: Array<Vector<f32, N>>,
    /// Sᵀ and then P of the current tile of keys, `[keys, vectors]`.
    pub scores: Array<Vector<f32, N>>,
    /// The positions of the queries.
    pub positions: Array<Vector<i32, N>>,
    /// The query heads; written only where they differ.
    pub heads: Array<Vector<i32, N>>,
    /// The running maximum m; when all keys have passed, in quarters.
    pub maximum: Array<Vector<f32, N>>,
    /// The maximum with the current tile of keys.
    pub tile_maximum: Array<Vector<f32, N>>,
    /// The running sum l.
    pub sum: Array<Vector<f32, N>>,
    /// When all keys have passed, what makes the output of what was accumulated.
    pub factor: Array<Vector<f32, N>>,
}

#[cube]
impl<N: Size> QueryTile<N> {
    /// Room for one.
    pub fn new(#[comptime] operands: Operands, #[comptime] schedule: CpuSchedule) -> QueryTile<N> {
        let vectors = comptime![schedule.vectors];
        QueryTile::<N> {
            query: Array::new(comptime![operands.qk_dim * vectors]),
            output: Array::new(comptime![operands.v_dim * vectors]),
            scores: Array::new(comptime![schedule.keys * vectors]),
            positions: Array::new(vectors),
            heads: Array::new(vectors),
            maximum: Array::new(vectors),
            tile_maximum: Array::new(vectors),
            sum: Array::new(vectors),
            factor: Array::new(vectors),
        }
    }

    /// Takes the queries of `rows`, scaled where the program scales them; rows past the last repeat it.
    #[allow(clippy::too_many_arguments, reason = "a kernel's state cannot be bundled with borrowed operands")]
    pub fn pack<E: Float>(
        &mut self,
        query: &OperandArgument<E>,
        extent: &Extent,
        rows: &QueryRows,
        place: &Place<N>,
        parameters: &ParameterValues,
        #[comptime] program: Compiled,
        #[comptime] schedule: CpuSchedule,
        #[comptime] few: FewQueries,
    ) {
        let size = comptime![schedule.lanes * schedule.vectors];
        let packed = comptime![if few.along_head_dim > 0 { few.along_head_dim } else { size }];
        let qk_dim = comptime![program.sizes().qk_dim];
        let strides = comptime![element_strides(qk_dim, &schedule, few)];
        let mut factor = 1.0f32;
        if comptime![program.query_scale().is_some()] {
            factor = parameters
                .float::<N>(place, Vector::new(0.0), comptime![program.query_scale().cloned().unwrap()])
                .extract(0usize);
        }
        let base = query.batch(rows.batch);
        let elements = self.query.with_vector_size_mut::<One>();
        let positions = self.positions.with_vector_size_mut::<One>();
        let heads = self.heads.with_vector_size_mut::<One>();
        for row in 0..packed {
            let mut at = rows.first + min(row, rows.count - 1);
            let mut head = rows.head;
            if comptime![few.pack_gqa] {
                head = rows.head + at / extent.queries;
                at %= extent.queries;
                heads[row] = Vector::new(head as i32);
            }
            positions[row] = Vector::new(extent.query_offset + at as i32);
            let start = query.row(query.head(base, head), at);
            for x in 0..qk_dim {
                elements[row * comptime![strides.0] + x * comptime![strides.1]] =
                    Vector::new(f32::cast_from(query.data[query.at(start, x)]) * factor);
            }
        }
    }

    /// The accumulator before any key: zeros, and for softmax the sink's logit, where there is one and `sinks`.
    pub fn begin(
        &mut self,
        place: &Place<N>,
        parameters: &ParameterValues,
        sinks: bool,
        #[comptime] program: Compiled,
        #[comptime] schedule: CpuSchedule,
    ) {
        let vectors = comptime![schedule.vectors];
        self.clear(comptime![program.sizes().v_dim * schedule.vectors]);
        let sink = comptime![program.reduction().sink().cloned()];
        for vector in 0..vectors {
            self.maximum[vector] = Vector::new(EMPTY);
            self.sum[vector] = Vector::new(0.0);
            if comptime![sink.is_some()] {
                if sinks {
                    let here = place.of_rows(self.positions[vector], self.heads[vector]);
                    let logit = parameters.float::<N>(&here, Vector::new(0.0), comptime![sink.clone().unwrap()]);
                    self.maximum[vector] = raise::<N>(logit);
                    self.sum[vector] = Vector::new(1.0);
                }
            }
        }
    }

    /// Zeros for Oᵀ, of so many vectors: not by a product, since what was there may be infinite.
    fn clear(&mut self, #[comptime] vectors: usize) {
        for at in 0..vectors {
            self.output[at] = Vector::new(0.0);
        }
    }

    /// Multiplies what was accumulated for the rows of `vector`.
    pub fn rescale(
        &mut self,
        vector: usize,
        factor: Vector<f32, N>,
        #[comptime] v_dim: usize,
        #[comptime] schedule: CpuSchedule,
        #[comptime] few: FewQueries,
    ) {
        if comptime![few.along_head_dim > 0] {
            let row_vectors = comptime![v_dim / schedule.lanes];
            #[unroll]
            for row in 0..comptime![few.along_head_dim] {
                let factor = Vector::<f32, N>::new(factor.extract(row));
                for at in row * row_vectors..(row + 1) * row_vectors {
                    self.output[at] *= factor;
                }
            }
        } else {
            for column in 0..v_dim {
                self.output[column * comptime![schedule.vectors] + vector] *= factor;
            }
        }
    }

    /// The accumulator of a [careful](crate::emit::careful) row before any key.
    pub fn begin_careful(
        &mut self,
        place: &Place<N>,
        parameters: &ParameterValues,
        sinks: bool,
        #[comptime] program: Compiled,
        #[comptime] schedule: CpuSchedule,
    ) {
        self.clear(comptime![program.sizes().v_dim * schedule.vectors]);
        for vector in 0..comptime![schedule.vectors] {
            let here = place.of_rows(self.positions[vector], self.heads[vector]);
            let rows = CarefulRows::<N>::new(&here, parameters, sinks, comptime![program.reduction().clone()]);
            self.maximum[vector] = rows.maximum.read();
            self.sum[vector] = rows.sum.read();
        }
    }

    /// Makes element `x` of the output of `vector`, of `dim`, `output`.
    pub fn put_output_element(
        &mut self,
        output: Vector<f32, N>,
        x: usize,
        vector: usize,
        #[comptime] dim: usize,
        #[comptime] schedule: CpuSchedule,
        #[comptime] few: FewQueries,
    ) {
        if comptime![few.along_head_dim > 0] {
            let elements = self.output.with_vector_size_mut::<One>();
            #[unroll]
            for row in 0..comptime![few.along_head_dim] {
                elements[row * dim + x] = Vector::new(output.extract(row));
            }
        } else {
            self.output[x * comptime![schedule.vectors] + vector] = output;
        }
    }

    /// Whether the first `rows` rows must be computed with [care](crate::emit::careful).
    pub fn is_doubtful(
        &self,
        rows: usize,
        #[comptime] program: Compiled,
        #[comptime] schedule: CpuSchedule,
        #[comptime] few: FewQueries,
    ) -> bool {
        let v_dim = comptime![program.sizes().v_dim];
        let vectors = comptime![if few.along_head_dim > 0 {
            few.along_head_dim * v_dim / schedule.lanes
        } else {
            v_dim * schedule.vectors
        }];
        let mut doubtful = Vector::<u32, N>::new(0u32);
        for at in 0..vectors {
            doubtful = select_many(is_finite::<N>(self.output[at]), doubtful, Vector::new(1u32));
        }
        let mut found = doubtful.vector_sum() != 0;
        if comptime![program.reduction().is_softmax()] {
            let (maxima, sums) = (self.maximum.with_vector_size::<One>(), self.sum.with_vector_size::<One>());
            for row in 0..rows {
                if is_too_great::<One>(maxima[row], sums[row]).extract(0usize) != 0 {
                    found = true;
                }
            }
        }
        found
    }

    /// Says what makes the output of what was accumulated, when all keys have passed, and what the maximum is in quarters. A careful softmax
    /// has both already.
    pub fn close(&mut self, careful: bool, #[comptime] program: Compiled, #[comptime] schedule: CpuSchedule) {
        let softmax = comptime![program.reduction().is_softmax()];
        for vector in 0..comptime![schedule.vectors] {
            let sum = self.sum[vector];
            let mut factor = Vector::<f32, N>::new(1.0);
            if comptime![!matches!(program.reduction(), Reduction::Sum)] {
                let zero = Vector::<f32, N>::new(0.0);
                let one = Vector::<f32, N>::new(1.0);
                let empty = sum.equal(&zero);
                factor = select_many(empty, zero, one / select_many(empty, one, sum));
                if softmax {
                    if careful {
                        factor = one;
                    } else {
                        // A row that has seen nothing must not have a greater one than a careful row of a partial.
                        let quarter = self.maximum[vector] * Vector::new(comptime![1.0 / PARTS]);
                        self.maximum[vector] = select_many(empty, Vector::new(f32::MIN), quarter);
                    }
                }
            }
            self.factor[vector] = factor;
        }
    }

    /// Transposes the output and stores `rows`.
    #[allow(clippy::too_many_arguments, reason = "a kernel's state cannot be bundled with borrowed operands")]
    pub fn finish<E: Float>(
        &mut self,
        output: &mut [E],
        lse: &mut [f32],
        rows: &QueryRows,
        empty_lse: f32,
        #[comptime] program: Compiled,
        #[comptime] schedule: CpuSchedule,
        #[comptime] few: FewQueries,
    ) {
        let v_dim = comptime![program.sizes().v_dim];
        let strides = comptime![element_strides(v_dim, &schedule, few)];
        let first = rows.base + rows.first;
        let elements = self.output.with_vector_size::<One>();
        let factors = self.factor.with_vector_size::<One>();
        for row in 0..rows.count {
            let factor = factors[row].extract(0usize);
            let start = (first + row) * v_dim;
            for column in 0..v_dim {
                output[start + column] = E::cast_from(
                    elements[row * comptime![strides.0] + column * comptime![strides.1]].extract(0usize) * factor,
                );
            }
        }
        if comptime![program.reduction().is_softmax()] {
            for vector in 0..comptime![schedule.vectors] {
                self.maximum[vector] = log_sum_exp::<N>(self.maximum[vector], self.sum[vector], empty_lse, PARTS);
            }
            let logs = self.maximum.with_vector_size::<One>();
            for row in 0..rows.count {
                lse[first + row] = logs[row].extract(0usize);
            }
        }
    }

    /// Stores the accumulator as number `item` of `partials`: Oᵀ, of a softmax already divided by the sum, m and l.
    pub fn store_partial(
        &self,
        partials: &mut Partials<N>,
        item: usize,
        #[comptime] program: Compiled,
        #[comptime] schedule: CpuSchedule,
        #[comptime] few: FewQueries,
    ) {
        let vectors = comptime![schedule.vectors];
        let columns = comptime![program.sizes().v_dim * schedule.vectors];
        let base = item * comptime![partial_vectors(&program.sizes(), &schedule)];
        if comptime![program.reduction().is_softmax()] {
            for vector in 0..vectors {
                let factor = self.factor[vector];
                if comptime![few.along_head_dim > 0] {
                    let row_vectors = comptime![program.sizes().v_dim / schedule.lanes];
                    #[unroll]
                    for row in 0..comptime![few.along_head_dim] {
                        let factor = Vector::<f32, N>::new(factor.extract(row));
                        for at in row * row_vectors..(row + 1) * row_vectors {
                            partials.vectors[base + at] = self.output[at] * factor;
                        }
                    }
                } else {
                    for column in 0..comptime![program.sizes().v_dim] {
                        let at = column * vectors + vector;
                        partials.vectors[base + at] = self.output[at] * factor;
                    }
                }
            }
        } else {
            for at in 0..columns {
                partials.vectors[base + at] = self.output[at];
            }
        }
        for vector in 0..vectors {
            partials.vectors[base + columns + vector] = self.maximum[vector];
            partials.vectors[base + comptime![columns + vectors] + vector] = self.sum[vector];
        }
    }

    /// The accumulator of the keys of `count` partials from number `first` on.
    pub fn merge_partials(
        &mut self,
        partials: &Partials<N>,
        first: usize,
        count: usize,
        #[comptime] program: Compiled,
        #[comptime] schedule: CpuSchedule,
        #[comptime] few: FewQueries,
    ) {
        let vectors = comptime![schedule.vectors];
        let columns = comptime![program.sizes().v_dim * vectors];
        let size = comptime![partial_vectors(&program.sizes(), &schedule)];
        let softmax = comptime![program.reduction().is_softmax()];
        self.clear(columns);
        for vector in 0..vectors {
            let mut maximum = Vector::<f32, N>::new(f32::MIN);
            for partial in first..first + count {
                maximum = max(maximum, partials.vectors[partial * size + columns + vector]);
            }
            let mut sum = Vector::<f32, N>::new(0.0);
            for partial in first..first + count {
                sum += partial_weight::<N>(partials, partial * size + columns + vector, maximum, vectors, softmax);
            }
            self.maximum[vector] = maximum;
            self.sum[vector] = sum;
            let zero = Vector::<f32, N>::new(0.0);
            let one = Vector::<f32, N>::new(1.0);
            let divisor = select_many(sum.equal(&zero), one, sum);
            for partial in first..first + count {
                let base = partial * size;
                let mut factor = one;
                if softmax {
                    let weight = partial_weight::<N>(partials, base + columns + vector, maximum, vectors, softmax);
                    factor = weight / divisor;
                }
                if comptime![few.along_head_dim > 0] {
                    let row_vectors = comptime![program.sizes().v_dim / schedule.lanes];
                    #[unroll]
                    for row in 0..comptime![few.along_head_dim] {
                        let factor = Vector::<f32, N>::new(factor.extract(row));
                        for at in row * row_vectors..(row + 1) * row_vectors {
                            self.output[at] = merged::<N>(self.output[at], partials.vectors[base + at], factor);
                        }
                    }
                } else {
                    for column in 0..comptime![program.sizes().v_dim] {
                        let at = column * vectors + vector;
                        self.output[at] = merged::<N>(self.output[at], partials.vectors[base + at], factor);
                    }
                }
            }
            self.factor[vector] = one;
            if comptime![matches!(program.reduction(), Reduction::Mean)] {
                self.factor[vector] = select_many(sum.equal(&zero), zero, one / divisor);
            }
        }
    }
}

/// Element `x`, of `dim`, of the rows of `vector`, in Qᵀ or Oᵀ, or where vectors run along the head dim in Q or O.
#[cube]
pub fn of_rows<N: Size>(
    elements: &Array<Vector<f32, N>>,
    x: usize,
    vector: usize,
    #[comptime] dim: usize,
    #[comptime] schedule: CpuSchedule,
    #[comptime] few: FewQueries,
) -> Vector<f32, N> {
    if comptime![few.along_head_dim > 0] {
        let elements = elements.with_vector_size::<One>();
        let mut found = Vector::<f32, N>::new(0.0);
        #[unroll]
        for row in 0..comptime![few.along_head_dim] {
            found.insert(row, elements[row * dim + x].extract(0usize));
        }
        found
    } else {
        elements[x * comptime![schedule.vectors] + vector]
    }
}

/// The sum of the partial whose maximum is vector `at`, and whose sum lies `vectors` further: of a softmax, in units of 2 to the
/// power of `maximum`.
#[cube]
fn partial_weight<N: Size>(
    partials: &Partials<N>,
    at: usize,
    maximum: Vector<f32, N>,
    #[comptime] vectors: usize,
    #[comptime] softmax: bool,
) -> Vector<f32, N> {
    let mut weight = partials.vectors[at + vectors];
    if softmax {
        weight *= exp2::<N>((partials.vectors[at] - maximum) * Vector::new(PARTS));
    }
    weight
}

/// `output` and `factor` times that of a partial. One that is not finite counts as it is: its keys have been seen.
#[cube]
fn merged<N: Size>(output: Vector<f32, N>, partial: Vector<f32, N>, factor: Vector<f32, N>) -> Vector<f32, N> {
    select_many(is_finite::<N>(partial), fma(partial, factor, output), output + partial)
}

/// From an element of Qᵀ or Oᵀ to the next row's, and to the next one of the same row, of `dim`.
fn element_strides(dim: usize, schedule: &CpuSchedule, few: FewQueries) -> (usize, usize) {
    if few.along_head_dim > 0 { (dim, 1) } else { (1, schedule.lanes * schedule.vectors) }
}

/// The vectors of a partial: Oᵀ, m and l.
pub fn partial_vectors(operands: &Operands, schedule: &CpuSchedule) -> usize {
    (operands.v_dim + 2) * schedule.vectors
}
