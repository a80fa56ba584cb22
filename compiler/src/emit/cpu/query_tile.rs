//! The rows' side of a tile of the `cpu` schedule: which rows it has, Qᵀ, and the accumulator from its beginning to the output. The rows are
//! those of queries, or of keys: what is said here of queries is then of keys.
//!
//! Qᵀ and Oᵀ have the rows of the tile along their vectors. With
//! [`FewQueries::along_head_dim`](crate::schedule::FewQueries::along_head_dim) they are Q and O, as they lie.

use crate::emit::arguments::{Extent, KernelInputs, ParameterValues, Partials, Results};
use crate::emit::careful::{CarefulRows, PARTS};
use crate::emit::place::{Ends, Place, TilePlace};
use crate::emit::scores::TileArrays;
use crate::emit::softmax::{Exp2, RowStart, add_part, inverse, is_finite, is_too_great, power, row_number};
use crate::expr::Expr;
use crate::ir::{Program, Reduction};
use crate::schedule::CpuSchedule;
use crate::scheduled::Compiled;
use cubecl::prelude::*;

/// One lane: for what is read or written by rows.
type One = Const<1>;

/// What the code of the schedule is made for.
#[derive(Clone)]
pub struct CpuCode {
    /// The program.
    pub program: Compiled,
    /// The sizes of tiles.
    pub schedule: CpuSchedule,
    /// Whether the tiles that are visited are counted.
    pub counting: bool,
}

/// The rows of a query tile. A row is a query of a head; with `pack_gqa` the rows of all query heads that share a key head follow
/// each other.
#[derive(CubeType)]
pub struct QueryRows {
    /// The batch.
    pub batch: usize,
    /// The query head; with `pack_gqa`, the first of the group.
    pub head: usize,
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
    pub fn new(extent: &Extent, at: usize, #[comptime] schedule: CpuSchedule) -> QueryRows {
        let size = comptime![schedule.lanes * schedule.vectors];
        let mut together = 1usize;
        if comptime![schedule.few.pack_gqa] {
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
            first,
            count: min(size, total - first),
            base: (batch * extent.heads + head) * extent.queries,
        }
    }

    /// The place of the tile: its queries' first and last, and no key; where the rows are keys, their first and last, and their first query
    /// head.
    pub fn place<N: Size>(
        &self,
        extent: &Extent,
        #[comptime] rows_are_keys: bool,
        #[comptime] schedule: CpuSchedule,
    ) -> Place<N> {
        let mut first = self.first;
        let mut last = self.first + self.count - 1;
        if comptime![schedule.few.pack_gqa] {
            first = 0;
            last = extent.queries - 1;
        }
        let first = extent.query_offset + first as i32;
        let rows = Vector::new(first);
        let ends = Ends { first, last: extent.query_offset + last as i32 };
        if rows_are_keys {
            let head = self.head * extent.group;
            let kv_head = (head / extent.kv_group) as i32;
            Place::<N>::of_keys(TilePlace::new(self.batch as i32, head as i32, kv_head, ends), rows)
        } else {
            let (batch, head) = (self.batch as i32, self.head as i32);
            let heads = Vector::new(self.head as i32);
            let kv_head = (self.head / extent.kv_group) as i32;
            Place::<N>::of_queries(
                TilePlace::new(batch, head, kv_head, ends),
                rows,
                heads,
                comptime![schedule.few.pack_gqa],
            )
        }
    }

    /// The query head of row `row` of the tile, and its query; past the last row, the last.
    fn row(&self, extent: &Extent, row: usize, #[comptime] schedule: CpuSchedule) -> (usize, usize) {
        let mut at = self.first + min(row, self.count - 1);
        let mut head = self.head;
        if comptime![schedule.few.pack_gqa] {
            head = self.head + at / extent.queries;
            at %= extent.queries;
        }
        (head, at)
    }
}

/// The rows of an output that a tile makes.
#[derive(CubeType, Clone, Copy)]
#[expand(derive(Clone, Copy))]
struct OutputRows<N: Size> {
    /// The place of the tile.
    place: Place<N>,
    /// The first.
    first: usize,
    /// How many there are.
    count: usize,
}

/// What stays while the keys stream past. Vectors are indexed `[row * vectors + vector]`.
#[derive(CubeType)]
pub struct QueryTile<N: Size> {
    /// Qᵀ, `[dim, vectors]`, or Q, `[rows, dim / lanes]`, of each load that is in a dot; at the end likewise of each that is in an output.
    pub queries: Sequence<Array<Vector<f32, N>>>,
    /// What the current tile of keys has for each row, `[keys, vectors]` each: [`TileArrays`] says what.
    pub tiles: Sequence<Array<Vector<f32, N>>>,
    /// What is pushed into.
    pub accumulators: Sequence<RowAccumulator<N>>,
    /// The positions of the queries.
    pub positions: Array<Vector<i32, N>>,
    /// The query heads; written only where they differ.
    pub heads: Array<Vector<i32, N>>,
    /// The numbers of rows, of those of the program that lie along the rows.
    pub numbers: Sequence<Array<Vector<f32, N>>>,
}

/// An accumulator of the rows of a tile.
#[derive(CubeType)]
pub struct RowAccumulator<N: Size> {
    /// Oᵀ, `[dim, vectors]`, or O, `[rows, dim / lanes]`.
    pub output: Array<Vector<f32, N>>,
    /// The running maximum m; when all keys have passed, in quarters.
    pub maximum: Array<Vector<f32, N>>,
    /// The maximum with the current tile of keys.
    pub tile_maximum: Array<Vector<f32, N>>,
    /// The running sum l.
    pub sum: Array<Vector<f32, N>>,
    /// When all keys have passed, what makes the output of what was accumulated.
    pub factor: Array<Vector<f32, N>>,
    /// The elements of a row.
    #[cube(comptime)]
    dim: usize,
    /// What it makes of what is pushed.
    #[cube(comptime)]
    reduction: Reduction,
    /// The sizes of tiles.
    #[cube(comptime)]
    schedule: CpuSchedule,
}

#[cube]
impl<N: Size> QueryTile<N> {
    /// Room for one.
    pub fn new(#[comptime] code: CpuCode) -> QueryTile<N> {
        let (program, schedule) = comptime![(code.program.clone(), code.schedule)];
        let vectors = comptime![schedule.vectors];
        let mut queries = Sequence::new();
        #[unroll]
        for at in 0..comptime![program.loads.len()] {
            queries.push(Array::new(comptime![program.operands[program.loads[at].operand].dim * vectors]));
        }
        let mut tiles = Sequence::new();
        #[unroll]
        for _ in 0..comptime![TileArrays::most(&program)] {
            tiles.push(Array::new(comptime![schedule.keys * vectors]));
        }
        let mut accumulators = Sequence::new();
        #[unroll]
        for at in 0..comptime![program.accumulators.len()] {
            let (dim, reduction) = comptime![(program.dim_of(at), program.accumulators[at].reduction.clone())];
            accumulators.push(RowAccumulator::<N>::new(dim, reduction, schedule));
        }
        let mut numbers = Sequence::new();
        #[unroll]
        for _ in 0..comptime![program.numbers.iter().filter(|number| number.axis == program.rows).count()] {
            numbers.push(Array::new(vectors));
        }
        let (positions, heads) = (Array::new(vectors), Array::new(vectors));
        QueryTile::<N> { queries, tiles, accumulators, positions, heads, numbers }
    }

    /// Takes the queries of `rows`, scaled where the program scales them; rows past the last repeat it.
    pub fn pack<E: Float>(
        &mut self,
        given: &KernelInputs<'_, E>,
        rows: &QueryRows,
        place: &Place<N>,
        #[comptime] code: CpuCode,
    ) {
        let program = comptime![code.program.clone()];
        self.take_positions(given.extent, rows, comptime![code.schedule]);
        #[unroll]
        for load in 0..comptime![program.loads.len()] {
            if comptime![program.is_in_dots(load)] {
                let scale = comptime![program.loads[load].scale.clone()];
                let mut factor = 1.0f32;
                if comptime![scale.is_some()] {
                    factor = given.parameters.float::<N>(place, comptime![scale.unwrap()]).extract(0usize);
                }
                self.take::<E>(given, rows, factor, load, comptime![code.clone()]);
            }
        }
        self.take_numbers::<E>(given, rows, code);
    }

    /// Takes the numbers of `rows`.
    fn take_numbers<E: Float>(&mut self, given: &KernelInputs<'_, E>, rows: &QueryRows, #[comptime] code: CpuCode) {
        let (program, schedule) = comptime![(code.program.clone(), code.schedule)];
        #[unroll]
        for at in 0..comptime![program.numbers.len()] {
            if comptime![program.numbers[at].axis == program.rows] {
                let place = comptime![number_place(&program, at)];
                let numbers = &mut self.numbers[place];
                let elements = numbers.with_vector_size_mut::<One>();
                let stored = &given.parameters.numbers[at];
                for row in 0..comptime![schedule.tile_rows()] {
                    let (head, at) = rows.row(given.extent, row, schedule);
                    elements[row] = Vector::new(stored.data[stored.row(stored.rows_of(rows.batch, head), at)]);
                }
            }
        }
    }

    /// Takes the positions of `rows`, and their heads where they differ.
    fn take_positions(&mut self, extent: &Extent, rows: &QueryRows, #[comptime] schedule: CpuSchedule) {
        let positions = self.positions.with_vector_size_mut::<One>();
        let heads = self.heads.with_vector_size_mut::<One>();
        for row in 0..comptime![schedule.tile_rows()] {
            let (head, at) = rows.row(extent, row, schedule);
            if comptime![schedule.few.pack_gqa] {
                heads[row] = Vector::new(head as i32);
            }
            positions[row] = Vector::new(extent.query_offset + at as i32);
        }
    }

    /// Takes what `load` has for `rows`, times `factor`.
    fn take<E: Float>(
        &mut self,
        given: &KernelInputs<'_, E>,
        rows: &QueryRows,
        factor: f32,
        #[comptime] load: usize,
        #[comptime] code: CpuCode,
    ) {
        let (program, schedule) = comptime![(code.program.clone(), code.schedule)];
        let operand = &given.operands[comptime![program.loads[load].operand]];
        let dim = comptime![program.operands[program.loads[load].operand].dim];
        let strides = comptime![element_strides(dim, &schedule)];
        let base = operand.batch(rows.batch);
        let queries = &mut self.queries[load];
        let elements = queries.with_vector_size_mut::<One>();
        for row in 0..comptime![schedule.tile_rows()] {
            let (head, at) = rows.row(given.extent, row, schedule);
            let start = operand.row(operand.head(base, operand.head_of(head)), at);
            for x in 0..dim {
                elements[row * comptime![strides.0] + x * comptime![strides.1]] =
                    Vector::new(f32::cast_from(operand.data[operand.at(start, x)]) * factor);
            }
        }
    }

    /// The accumulators before any key: zeros, and for softmax the sink's logit, where there is one and `sinks`; if `careful`, as those of a
    /// [careful](crate::emit::careful) row.
    pub fn begin(&mut self, place: &Place<N>, parameters: &ParameterValues, sinks: bool, careful: bool) {
        #[unroll]
        for at in 0..comptime![self.accumulators.len()] {
            let accumulator = &mut self.accumulators[at];
            accumulator.clear();
            for vector in 0..comptime![accumulator.schedule.vectors] {
                let here = place.of_rows(self.positions[vector], self.heads[vector]);
                if careful {
                    accumulator.begin_careful(&here, parameters, vector, sinks);
                } else {
                    accumulator.begin(&here, parameters, vector, sinks);
                }
            }
        }
    }

    /// Whether the first `rows` rows must be computed with [care](crate::emit::careful).
    pub fn is_doubtful(&self, rows: usize) -> bool {
        let mut found = false.runtime();
        #[unroll]
        for at in 0..comptime![self.accumulators.len()] {
            let accumulator = &self.accumulators[at];
            if accumulator.is_doubtful(rows) {
                found = true.runtime();
            }
        }
        found
    }

    /// Says what makes the outputs of what was accumulated, when all keys have passed, and what maxima are in quarters. A careful softmax has
    /// both already.
    pub fn close(&mut self, careful: bool) {
        #[unroll]
        for at in 0..comptime![self.accumulators.len()] {
            let accumulator = &mut self.accumulators[at];
            accumulator.close(careful);
        }
    }

    /// Transposes the outputs and stores `rows`, and what numbers of them the program keeps.
    pub fn finish<E: Float, O: Float>(
        &mut self,
        given: &KernelInputs<'_, E>,
        results: &mut Results<O>,
        rows: &QueryRows,
        place: Place<N>,
        #[comptime] code: CpuCode,
    ) {
        let (program, schedule) = comptime![(code.program.clone(), code.schedule)];
        let parameters = given.parameters;
        let first = rows.base + rows.first;
        if comptime![program.stores_expressions()] {
            self.take_stored::<E>(given, rows, comptime![code.clone()]);
        }
        #[unroll]
        for output in 0..comptime![program.outputs.len()] {
            let stored = &mut results.outputs[output];
            let accumulator = comptime![program.stored_accumulator(output)];
            if comptime![accumulator.is_some()] {
                let accumulator = comptime![accumulator.unwrap()];
                self.store_accumulator::<O>(
                    &mut stored.data,
                    first,
                    rows,
                    accumulator,
                    comptime![program.is_undivided()],
                );
            } else {
                let made = OutputRows::<N> { place, first, count: rows.count };
                self.store_expression::<O>(&mut stored.data, made, parameters, output, comptime![code.clone()]);
            }
        }
        #[unroll]
        for at in 0..comptime![program.row_numbers().len()] {
            let (accumulator, number) = comptime![program.row_numbers()[at]];
            let accumulator = &mut self.accumulators[accumulator];
            for vector in 0..comptime![schedule.vectors] {
                let (maximum, sum) = (accumulator.maximum[vector], accumulator.sum[vector]);
                // No tile of keys needs its place any more.
                accumulator.tile_maximum[vector] = row_number::<N>(maximum, sum, parameters.empty_lse, number, PARTS);
            }
            let numbers = accumulator.tile_maximum.with_vector_size::<One>();
            let stored = &mut results.rows[at];
            for row in 0..rows.count {
                stored.data[first + row] = numbers[row].extract(0usize);
            }
        }
    }

    /// Stores an output that is the accumulator at `place`, as it is.
    fn store_accumulator<O: Float>(
        &self,
        output: &mut [O],
        first: usize,
        rows: &QueryRows,
        #[comptime] place: usize,
        #[comptime] is_undivided: bool,
    ) {
        let accumulator = &self.accumulators[place];
        let dim = comptime![accumulator.dim];
        for row in 0..rows.count {
            let start = (first + row) * dim;
            let mut factor = accumulator.factor_of(row);
            if is_undivided {
                // With care, and where runs of keys were merged, it is divided already.
                let sums = accumulator.sum.with_vector_size::<One>();
                factor *= sums[row].extract(0usize);
            }
            for column in 0..dim {
                output[start + column] = O::cast_from(accumulator.element(row, column) * factor);
            }
        }
    }

    /// Takes what outputs are expressions of, beside the accumulators: positions, and what lies along the queries.
    fn take_stored<E: Float>(&mut self, given: &KernelInputs<'_, E>, rows: &QueryRows, #[comptime] code: CpuCode) {
        let program = comptime![code.program.clone()];
        // Where partials were merged, the tile before was another.
        self.take_positions(given.extent, rows, comptime![code.schedule]);
        #[unroll]
        for load in 0..comptime![program.loads.len()] {
            if comptime![program.stores(program.accumulators.len() + load)] {
                self.take::<E>(given, rows, 1.0f32, load, comptime![code.clone()]);
            }
        }
    }

    /// Stores an output that is an expression of accumulators and of what was [taken](Self::take_stored) for it.
    fn store_expression<O: Float>(
        &mut self,
        output: &mut [O],
        rows: OutputRows<N>,
        parameters: &ParameterValues,
        #[comptime] number: usize,
        #[comptime] code: CpuCode,
    ) {
        let (program, schedule) = comptime![(code.program.clone(), code.schedule)];
        let dim = comptime![program.outputs[number].dim];
        let value = comptime![program.outputs[number].value.clone()];
        let accumulators = comptime![program.accumulators.len()];
        for vector in 0..rows.count.div_ceil(comptime![schedule.lanes]) {
            let here = rows.place.of_rows(self.positions[vector], self.heads[vector]);
            let row = vector * comptime![schedule.lanes];
            let count = min(rows.count - row, comptime![schedule.lanes]);
            for column in 0..dim {
                let mut values = Sequence::<Vector<f32, N>>::new();
                #[unroll]
                for at in 0..accumulators {
                    let mut element = Vector::<f32, N>::new(0.0);
                    if comptime![value.mentions(&Expr::Value(at))] {
                        let accumulator = &self.accumulators[at];
                        element = accumulator.get(column, vector) * accumulator.factor[vector];
                    }
                    values.push(element);
                }
                #[unroll]
                for load in 0..comptime![program.loads.len()] {
                    let mut element = Vector::<f32, N>::new(0.0);
                    if comptime![value.mentions(&Expr::Value(accumulators + load))] {
                        element = of_rows::<N>(&self.queries[load], column, vector, dim, schedule);
                    }
                    values.push(element);
                }
                // No tile of keys needs its place any more.
                let made = &mut self.accumulators[0];
                made.tile_maximum[0] = parameters.float_of::<N>(&here, &values, comptime![value.clone()]);
                let elements = made.tile_maximum.with_vector_size::<One>();
                for lane in 0..count {
                    output[(rows.first + row + lane) * dim + column] = O::cast_from(elements[lane].extract(0usize));
                }
            }
        }
    }

    /// The numbers of the rows of `vector`.
    pub fn numbers_of(&self, vector: usize) -> Sequence<Vector<f32, N>> {
        let mut found = Sequence::new();
        #[unroll]
        for at in 0..comptime![self.numbers.len()] {
            let numbers = &self.numbers[at];
            found.push(numbers[vector]);
        }
        found
    }

    /// Stores the accumulators as number `item` of `partials`.
    pub fn store_partial(&self, partials: &mut Partials<N>, item: usize, #[comptime] program: Compiled) {
        #[unroll]
        for at in 0..comptime![self.accumulators.len()] {
            let accumulator = &self.accumulators[at];
            let (size, before) = comptime![partial_place(&program, &accumulator.schedule, at)];
            accumulator.store_partial(partials, item * size + before);
        }
    }

    /// The accumulators of the keys of `count` partials from number `first` on.
    pub fn merge_partials(
        &mut self,
        partials: &Partials<N>,
        first: usize,
        count: usize,
        #[comptime] program: Compiled,
    ) {
        #[unroll]
        for at in 0..comptime![self.accumulators.len()] {
            let accumulator = &mut self.accumulators[at];
            let (size, before) = comptime![partial_place(&program, &accumulator.schedule, at)];
            accumulator.merge_partials(partials, first, count, size, before);
        }
    }
}

#[cube]
impl<N: Size> RowAccumulator<N> {
    /// Room for one.
    fn new(
        #[comptime] dim: usize,
        #[comptime] reduction: Reduction,
        #[comptime] schedule: CpuSchedule,
    ) -> RowAccumulator<N> {
        let vectors = comptime![schedule.vectors];
        RowAccumulator::<N> {
            output: Array::new(comptime![dim * vectors]),
            maximum: Array::new(vectors),
            tile_maximum: Array::new(vectors),
            sum: Array::new(vectors),
            factor: Array::new(vectors),
            dim,
            reduction,
            schedule,
        }
    }

    /// Zeros: not by a product, since what was there may be infinite.
    fn clear(&mut self) {
        for at in 0..comptime![self.dim * self.schedule.vectors] {
            self.output[at] = Vector::new(0.0);
        }
    }

    fn begin(&mut self, place: &Place<N>, parameters: &ParameterValues, vector: usize, sinks: bool) {
        let sink = comptime![self.reduction.sink().cloned()];
        let start = RowStart::<N>::unseen();
        self.maximum[vector] = start.maximum();
        self.sum[vector] = start.sum();
        if comptime![sink.is_some()] {
            if sinks {
                let start = RowStart::<N>::of_sink(place, parameters, comptime![sink.clone().unwrap()]);
                self.maximum[vector] = start.maximum();
                self.sum[vector] = start.sum();
            }
        }
    }

    fn begin_careful(&mut self, place: &Place<N>, parameters: &ParameterValues, vector: usize, sinks: bool) {
        let rows = CarefulRows::<N>::new(place, parameters, sinks, comptime![self.reduction.clone()]);
        self.maximum[vector] = rows.maximum.read();
        self.sum[vector] = rows.sum.read();
    }

    /// Multiplies what was accumulated for the rows of `vector`.
    pub fn rescale(&mut self, vector: usize, factor: Vector<f32, N>) {
        let (along, lanes, vectors) =
            comptime![(self.schedule.few.along_head_dim, self.schedule.lanes, self.schedule.vectors)];
        if comptime![along > 0] {
            let row_vectors = comptime![self.dim / lanes];
            #[unroll]
            for row in 0..along {
                let factor = Vector::<f32, N>::new(factor.extract(row));
                for at in row * row_vectors..(row + 1) * row_vectors {
                    self.output[at] *= factor;
                }
            }
        } else {
            for column in 0..comptime![self.dim] {
                self.output[column * vectors + vector] *= factor;
            }
        }
    }

    /// Makes element `x` of the output of `vector` `output`.
    pub fn put(&mut self, output: Vector<f32, N>, x: usize, vector: usize) {
        if comptime![self.schedule.few.along_head_dim > 0] {
            let elements = self.output.with_vector_size_mut::<One>();
            #[unroll]
            for row in 0..comptime![self.schedule.few.along_head_dim] {
                elements[row * comptime![self.dim] + x] = Vector::new(output.extract(row));
            }
        } else {
            self.output[x * comptime![self.schedule.vectors] + vector] = output;
        }
    }

    /// Element `x` of the output of the rows of `vector`.
    pub fn get(&self, x: usize, vector: usize) -> Vector<f32, N> {
        of_rows::<N>(&self.output, x, vector, comptime![self.dim], comptime![self.schedule])
    }

    /// Element `column` of what was accumulated for row `row`.
    fn element(&self, row: usize, column: usize) -> f32 {
        let strides = comptime![element_strides(self.dim, &self.schedule)];
        let elements = self.output.with_vector_size::<One>();
        elements[row * comptime![strides.0] + column * comptime![strides.1]].extract(0usize)
    }

    /// What it is multiplied by.
    fn factor_of(&self, row: usize) -> f32 {
        let factors = self.factor.with_vector_size::<One>();
        factors[row].extract(0usize)
    }

    fn is_doubtful(&self, rows: usize) -> bool {
        let schedule = comptime![self.schedule];
        let vectors = comptime![if schedule.few.along_head_dim > 0 {
            schedule.few.along_head_dim * self.dim / schedule.lanes
        } else {
            self.dim * schedule.vectors
        }];
        let mut doubtful = Vector::<u32, N>::new(0u32);
        for at in 0..vectors {
            doubtful = select_many(is_finite::<N>(self.output[at]), doubtful, Vector::new(1u32));
        }
        let mut found = doubtful.vector_sum() != 0;
        if comptime![self.reduction.is_softmax()] {
            let (maxima, sums) = (self.maximum.with_vector_size::<One>(), self.sum.with_vector_size::<One>());
            for row in 0..rows {
                if is_too_great::<One>(maxima[row], sums[row]).extract(0usize) != 0 {
                    found = true;
                }
            }
        }
        found
    }

    fn close(&mut self, careful: bool) {
        for vector in 0..comptime![self.schedule.vectors] {
            let sum = self.sum[vector];
            let mut factor = Vector::<f32, N>::new(1.0);
            if comptime![self.reduction.is_divided()] {
                factor = inverse::<N>(sum);
            }
            if comptime![self.reduction.is_softmax()] {
                if careful {
                    factor = Vector::new(1.0);
                } else {
                    // A row that has seen nothing must not have a greater one than a careful row of a partial.
                    let quarter = self.maximum[vector] * Vector::new(comptime![1.0 / PARTS]);
                    self.maximum[vector] = select_many(sum.equal(&Vector::new(0.0)), Vector::new(f32::MIN), quarter);
                }
            }
            self.factor[vector] = factor;
        }
    }

    /// Stores it from vector `base` of `partials` on: Oᵀ, of a softmax already divided by the sum, m and l.
    fn store_partial(&self, partials: &mut Partials<N>, base: usize) {
        let vectors = comptime![self.schedule.vectors];
        let columns = comptime![self.dim * vectors];
        if comptime![self.reduction.is_softmax()] {
            for vector in 0..vectors {
                let factor = self.factor[vector];
                if comptime![self.schedule.few.along_head_dim > 0] {
                    let row_vectors = comptime![self.dim / self.schedule.lanes];
                    #[unroll]
                    for row in 0..comptime![self.schedule.few.along_head_dim] {
                        let factor = Vector::<f32, N>::new(factor.extract(row));
                        for at in row * row_vectors..(row + 1) * row_vectors {
                            partials.vectors[base + at] = self.output[at] * factor;
                        }
                    }
                } else {
                    for column in 0..comptime![self.dim] {
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

    /// The accumulator of the keys of `count` partials from number `first` on, of `size` vectors each, in which it begins at vector `before`.
    fn merge_partials(
        &mut self,
        partials: &Partials<N>,
        first: usize,
        count: usize,
        #[comptime] size: usize,
        #[comptime] before: usize,
    ) {
        let vectors = comptime![self.schedule.vectors];
        let columns = comptime![self.dim * vectors];
        let softmax = comptime![self.reduction.is_softmax()];
        self.clear();
        for vector in 0..vectors {
            let mut maximum = Vector::<f32, N>::new(f32::MIN);
            for partial in first..first + count {
                maximum = max(maximum, partials.vectors[partial * size + before + columns + vector]);
            }
            let mut sum = Vector::<f32, N>::new(0.0);
            for partial in first..first + count {
                let at = partial * size + before + columns + vector;
                sum += partial_weight::<N>(partials, at, maximum, vectors, softmax);
            }
            self.maximum[vector] = maximum;
            self.sum[vector] = sum;
            let one = Vector::<f32, N>::new(1.0);
            let divisor = select_many(sum.equal(&Vector::new(0.0)), one, sum);
            for partial in first..first + count {
                let base = partial * size + before;
                let mut factor = one;
                if softmax {
                    let weight = partial_weight::<N>(partials, base + columns + vector, maximum, vectors, softmax);
                    factor = weight / divisor;
                }
                if comptime![self.schedule.few.along_head_dim > 0] {
                    let row_vectors = comptime![self.dim / self.schedule.lanes];
                    #[unroll]
                    for row in 0..comptime![self.schedule.few.along_head_dim] {
                        let factor = Vector::<f32, N>::new(factor.extract(row));
                        for at in row * row_vectors..(row + 1) * row_vectors {
                            self.output[at] = add_part::<N>(self.output[at], partials.vectors[base + at], factor);
                        }
                    }
                } else {
                    for column in 0..comptime![self.dim] {
                        let at = column * vectors + vector;
                        self.output[at] = add_part::<N>(self.output[at], partials.vectors[base + at], factor);
                    }
                }
            }
            self.factor[vector] = one;
            if comptime![self.reduction == Reduction::Mean] {
                self.factor[vector] = inverse::<N>(sum);
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
) -> Vector<f32, N> {
    if comptime![schedule.few.along_head_dim > 0] {
        let elements = elements.with_vector_size::<One>();
        let mut found = Vector::<f32, N>::new(0.0);
        #[unroll]
        for row in 0..comptime![schedule.few.along_head_dim] {
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
        weight *= power::<N>((partials.vectors[at] - maximum) * Vector::new(PARTS), Exp2::Polynomial);
    }
    weight
}

/// Which of the numbers that lie along the rows the one at `number` of all is.
pub fn number_place(program: &Program, number: usize) -> usize {
    program.numbers[..number].iter().filter(|other| other.axis == program.rows).count()
}

/// From an element of Qᵀ or Oᵀ to the next row's, and to the next one of the same row, of `dim`.
fn element_strides(dim: usize, schedule: &CpuSchedule) -> (usize, usize) {
    if schedule.few.along_head_dim > 0 { (dim, 1) } else { (1, schedule.lanes * schedule.vectors) }
}

/// The vectors of a partial: Oᵀ, m and l of each accumulator; and where those of `accumulator` begin.
fn partial_place(program: &Program, schedule: &CpuSchedule, accumulator: usize) -> (usize, usize) {
    let before = |accumulator| (0..accumulator).map(|at| program.dim_of(at) + 2).sum::<usize>() * schedule.vectors;
    (before(program.accumulators.len()), before(accumulator))
}

/// The vectors of a partial.
pub fn partial_vectors(program: &Program, schedule: &CpuSchedule) -> usize {
    partial_place(program, schedule, 0).0
}
