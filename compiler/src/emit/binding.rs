//! The arguments of a kernel as plain data, each described once: how a launch passes it, how a kernel's definition declares it without a
//! device, and in which order PTX takes its buffers and numbers.
//!
//! The first two make all fields of the type in [`arguments`](super::arguments). Where the third forgets one, the numbers have not the
//! length that the text's last parameter has.

#[cfg(feature = "emit")]
use super::arguments::{
    CapturedArgumentCompilationArg, CapturedElementsCompilationArg, ExtentCompilationArg, KeySetCompilationArg,
    LengthArgumentCompilationArg, OperandArgumentCompilationArg, OutputBufferCompilationArg,
    ParameterValuesCompilationArg, ResultsCompilationArg, RowBufferCompilationArg, ScalarArgumentCompilationArg,
    SummaryArgumentCompilationArg,
};
use super::arguments::{
    CapturedArgumentLaunch, CapturedElementsArgs, Extent, ExtentLaunch, KeySet, KeySetLaunch, LengthArgumentLaunch,
    OperandArgument, OperandArgumentLaunch, OutputBufferLaunch, ParameterValuesLaunch, ResultsLaunch, RowBufferLaunch,
    ScalarArgumentLaunch, SummaryArgumentLaunch,
};
#[cfg(feature = "emit")]
use crate::ir::Heads;
use crate::ir::{Axis, Program, Summary};
use crate::schedule::Schedule;
use crate::scheduled::Compiled;
use crate::spec::ScalarValue;
#[cfg(feature = "emit")]
use crate::spec::{ScalarType, TensorType};
#[cfg(feature = "emit")]
use cubecl::InfoBuilder;
#[cfg(feature = "emit")]
use cubecl::ir::{AddressType, ElemType};
use cubecl::prelude::*;
use cubecl::server::Handle;

/// A buffer on the device.
#[derive(Clone)]
pub struct Buffer {
    /// Its memory.
    pub memory: Handle,
    /// Its length in elements.
    pub length: usize,
}

/// A tensor `[B, H, S, D]` in a buffer.
#[derive(Clone)]
pub struct OperandData {
    /// The buffer.
    pub buffer: Buffer,
    /// The offset of the first element.
    pub start: usize,
    /// The strides, in elements.
    pub strides: [usize; 4],
    /// Query heads to one of its heads; `None` of an operand along queries, which has the query heads.
    pub group: Option<usize>,
}

/// A set of keys.
#[derive(Clone, Copy, Debug)]
pub struct KeySetData {
    /// How many keys there are.
    pub length: usize,
    /// The position of the first.
    pub offset: i32,
}

/// How a captured tensor's elements are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// Floats.
    F32,
    /// Floats of 16 bits.
    F16,
    /// The upper 16 bits of floats.
    Bf16,
    /// Integers.
    I32,
    /// Truth values in bytes.
    U8,
    /// Truth values in 32 bits.
    U32,
}

#[cfg(feature = "emit")]
impl Storage {
    /// The bytes of an element.
    fn size(self) -> usize {
        match self {
            Storage::F32 | Storage::I32 | Storage::U32 => 4,
            Storage::F16 | Storage::Bf16 => 2,
            Storage::U8 => 1,
        }
    }
}

/// A captured tensor in a buffer.
#[derive(Clone)]
pub struct CapturedData {
    /// The buffer.
    pub buffer: Buffer,
    /// How its elements are stored.
    pub storage: Storage,
    /// The offset of the first element.
    pub start: usize,
    /// The length of each dimension.
    pub shape: Vec<usize>,
    /// The strides, in elements.
    pub strides: Vec<usize>,
}

/// Everything a launch needs. Nothing is checked here: sizes, strides and buffers must fit each other, and no dimension of
/// the output may be 0.
#[derive(Clone)]
pub struct LaunchData {
    /// The operands, in the program's order.
    pub operands: Vec<OperandData>,
    /// What the columns are: the sets of keys, in the program's order, or where the rows are keys the queries.
    pub columns: Vec<KeySetData>,
    /// The numbers of rows and columns, in the program's order: `[B, H, S, 1]`.
    pub numbers: Vec<OperandData>,
    /// The outputs, in the program's order, contiguous `[B, H, S, D]`; of a program of sums like something captured, the copies of those, one
    /// after the other, all zeros.
    pub outputs: Vec<Buffer>,
    /// How many copies of such sums there are: [`Split`](super::captured::Split) says how many are needed. Otherwise 1.
    pub copies: usize,
    /// The [numbers of each row](Program::row_numbers), in that order, contiguous `[B, H, S]`.
    pub rows: Vec<Buffer>,
    /// The runtime scalars, in the program's order.
    pub scalars: Vec<ScalarValue>,
    /// The captured tensors, in the program's order.
    pub tensors: Vec<CapturedData>,
    /// The program's summaries of them, as [`summarise`](super::launch::summarise) makes them, in its order.
    pub summaries: Vec<Buffer>,
    /// Where tiles are counted, if they are: zeros, two for each key loop.
    pub counters: Option<Buffer>,
    /// `scale()`.
    pub scale: f32,
    /// B.
    pub batch: usize,
    /// The heads of the rows: H where those are queries.
    pub heads: usize,
    /// Query heads to a head of the rows; `None` where those are queries.
    pub row_group: Option<usize>,
    /// Query heads to a head of the first operand along keys, which `kv_head()` counts.
    pub kv_group: usize,
    /// How many rows there are: S where those are queries.
    pub rows_len: usize,
    /// The position of the first row.
    pub row_offset: i32,
    /// Whether the `cube` schedule computes rows again whose output is not finite. Where it does not, what a key that a row does not see
    /// holds can make the row's output a NaN.
    pub careful: bool,
}

impl LaunchData {
    /// The elements in a vector of queries, keys, values and the output: what `schedule` reads at once where all their rows are whole
    /// vectors, else 1.
    pub(super) fn width(&self, program: &Compiled, schedule: Schedule) -> usize {
        let width = schedule.width_of(program);
        // A buffer without keys has no vector to bind.
        let is_whole = |operand: &OperandData| operand.buffer.length >= width && operand.is_whole(width);
        if self.operands.iter().all(is_whole) { width } else { 1 }
    }

    /// How many queries, or keys of a set, there are, where these are the rows. Positions fit 32 bits, and so do lengths, where an expression is
    /// of one.
    fn length(&self, axis: Axis, rows: Axis) -> i32 {
        match axis {
            axis if axis == rows => self.rows_len as i32,
            Axis::Queries => self.columns[0].length as i32,
            Axis::Keys(set) => self.columns[set].length as i32,
        }
    }

    /// Query heads that share the heads of all operands along keys, or where the rows are keys a head of those.
    pub(super) fn group(&self) -> usize {
        if let Some(group) = self.row_group {
            return group;
        }
        let groups = self.operands.iter().filter_map(|operand| operand.group);
        groups.reduce(greatest_common_divisor).unwrap_or(1)
    }
}

/// Of two numbers that are not 0.
fn greatest_common_divisor(a: usize, b: usize) -> usize {
    if a.is_multiple_of(b) { b } else { greatest_common_divisor(b, a % b) }
}

impl Buffer {
    /// As a launch passes it, in vectors of `width` elements.
    pub(super) fn launch(self, width: usize) -> BufferArg {
        // SAFETY: the length is the buffer's.
        unsafe { BufferArg::from_raw_parts(self.memory, self.length / width) }
    }

    /// As a definition declares it.
    #[cfg(feature = "emit")]
    pub(super) fn definition() -> BufferCompilationArg {
        BufferCompilationArg { inplace: None }
    }
}

/// An operand's numbers in vectors of `width` elements: its start, and its strides but the last.
fn in_vectors(data: &OperandData, width: usize) -> [usize; 4] {
    let [batch, head, row, _] = data.strides;
    [data.start, batch, head, row].map(|offset| offset / width)
}

impl OperandData {
    /// Whether it is vectors of `width` elements that begin at multiples of their size.
    pub(super) fn is_whole(&self, width: usize) -> bool {
        let [batch, head, row, column] = self.strides;
        column == 1 && [self.start, batch, head, row].iter().all(|offset| offset.is_multiple_of(width))
    }

    /// As a launch passes it, in vectors of `width` elements.
    pub(super) fn launch<E: CubePrimitive>(self, width: usize) -> OperandArgumentLaunch<E> {
        let ([start, batch, head, row], column) = (in_vectors(&self, width), self.strides[3]);
        let (group, shared) = (self.group.unwrap_or(1), self.group.is_some());
        OperandArgumentLaunch::new(
            self.buffer.launch(width),
            start,
            batch,
            head,
            row,
            column,
            group,
            column == 1,
            shared,
        )
    }

    /// As a definition declares it, without gaps between elements.
    #[cfg(feature = "emit")]
    fn definition<E: CubePrimitive>(shared: bool) -> OperandArgumentCompilationArg<E> {
        OperandArgumentCompilationArg {
            data: Buffer::definition(),
            start: (),
            batch_stride: (),
            head_stride: (),
            row_stride: (),
            column_stride: (),
            group: (),
            dense: true,
            shared,
        }
    }

    /// As PTX takes it, in vectors of `width` elements, of `bytes` bytes.
    #[cfg(feature = "emit")]
    pub(super) fn register(&self, to: &mut Registered, width: usize, bytes: usize) {
        to.buffer(&self.buffer, bytes);
        let numbers = in_vectors(self, width).into_iter().chain([self.strides[3], self.group.unwrap_or(1)]);
        numbers.for_each(|size| to.size(size));
    }
}

impl KeySetData {
    /// As a launch passes it.
    fn launch(self) -> KeySetLaunch {
        KeySetLaunch::new(self.length, self.offset)
    }

    /// As PTX takes it.
    #[cfg(feature = "emit")]
    pub(super) fn register(self, to: &mut Registered) {
        to.size(self.length);
        to.number(self.offset);
    }
}

/// Operands as a launch passes them, in vectors of `width` elements.
pub(super) fn operands_launch<E: CubePrimitive>(
    operands: Vec<OperandData>,
    width: usize,
) -> SequenceArg<OperandArgument<E>> {
    sequence(operands.into_iter().map(|operand| operand.launch(width)))
}

/// Sets of keys as a launch passes them.
pub(super) fn keys_launch(keys: Vec<KeySetData>) -> SequenceArg<KeySet> {
    sequence(keys.into_iter().map(KeySetData::launch))
}

/// The operands of `program` as a definition declares them.
#[cfg(feature = "emit")]
pub(super) fn operands_definition<E: CubePrimitive>(program: &Program) -> SequenceCompilationArg<OperandArgument<E>> {
    program.operands.iter().map(|operand| OperandData::definition(operand.heads == Heads::Key)).collect()
}

/// Its columns, likewise.
#[cfg(feature = "emit")]
pub(super) fn keys_definition(program: &Program) -> SequenceCompilationArg<KeySet> {
    (0..if program.rows == Axis::Queries { program.key_sets() } else { 1 })
        .map(|_| KeySetCompilationArg { len: (), offset: () })
        .collect()
}

/// Where a kernel may read of a captured tensor: the first offset, and each dimension's last index and stride.
///
/// A tensor without elements may be captured where nothing that matters reads it. Lanes that do not matter then read the first
/// element of its buffer, which always exists.
fn reach(start: usize, shape: &[usize], strides: &[usize]) -> (i32, Vec<i32>, Vec<i32>) {
    if shape.contains(&0) {
        return (0, vec![0; shape.len()], vec![0; shape.len()]);
    }
    let last = shape.iter().map(|&length| length as i32 - 1);
    (start as i32, last.collect(), strides.iter().map(|&stride| stride as i32).collect())
}

impl CapturedData {
    /// As a launch passes it.
    pub(super) fn launch(self) -> CapturedArgumentLaunch {
        let (start, last, strides) = reach(self.start, &self.shape, &self.strides);
        let elements = self.buffer.launch(1);
        let elements = match self.storage {
            Storage::F32 => CapturedElementsArgs::F32(elements),
            Storage::F16 => CapturedElementsArgs::F16(elements),
            Storage::Bf16 => CapturedElementsArgs::Bf16(elements),
            Storage::I32 => CapturedElementsArgs::I32(elements),
            Storage::U8 => CapturedElementsArgs::U8(elements),
            Storage::U32 => CapturedElementsArgs::U32(elements),
        };
        CapturedArgumentLaunch::new(elements, start, sequence(last), sequence(strides))
    }

    /// As a definition declares one of `rank` dimensions, whose truth values, if it holds some, are in bytes or not.
    #[cfg(feature = "emit")]
    fn definition(ty: TensorType, rank: usize, bytes: bool) -> CapturedArgumentCompilationArg {
        let elements = match ty {
            TensorType::F32 => CapturedElementsCompilationArg::F32(Buffer::definition()),
            TensorType::F16 => CapturedElementsCompilationArg::F16(Buffer::definition()),
            TensorType::Bf16 => CapturedElementsCompilationArg::Bf16(Buffer::definition()),
            TensorType::I32 => CapturedElementsCompilationArg::I32(Buffer::definition()),
            TensorType::Bool if bytes => CapturedElementsCompilationArg::U8(Buffer::definition()),
            TensorType::Bool => CapturedElementsCompilationArg::U32(Buffer::definition()),
        };
        let numbers = || (0..rank).map(|_| ()).collect();
        CapturedArgumentCompilationArg { elements, start: (), last: numbers(), strides: numbers() }
    }

    /// As PTX takes it.
    #[cfg(feature = "emit")]
    fn register(&self, to: &mut Registered) {
        to.buffer(&self.buffer, self.storage.size());
        let (start, last, strides) = reach(self.start, &self.shape, &self.strides);
        to.number(start);
        last.into_iter().chain(strides).for_each(|number| to.number(number));
    }
}

/// The numbers of a captured tensor's blocks, as a kernel finds them.
struct SummaryData {
    summary: Summary,
    extremes: Buffer,
    blocks: i32,
    /// From a block to the next, along each dimension.
    strides: Vec<i32>,
}

impl SummaryData {
    /// Those of `summary`, which are in `extremes`, of one of `tensors`.
    fn new(summary: Summary, extremes: Buffer, tensors: &[CapturedData]) -> SummaryData {
        let shape = summary.shape(&tensors[summary.tensor].shape);
        let stride = |dimension| shape[dimension + 1..].iter().product::<usize>() as i32;
        let strides = (0..shape.len()).map(stride).collect();
        SummaryData { summary, extremes, blocks: shape.iter().product::<usize>() as i32, strides }
    }

    fn launch(self) -> SummaryArgumentLaunch {
        SummaryArgumentLaunch::new(self.extremes.launch(1), self.blocks, sequence(self.strides), self.summary)
    }

    #[cfg(feature = "emit")]
    fn definition(summary: Summary) -> SummaryArgumentCompilationArg {
        let strides = summary.blocked.iter().map(|_| ()).collect();
        SummaryArgumentCompilationArg { extremes: Buffer::definition(), blocks: (), strides, summary }
    }

    #[cfg(feature = "emit")]
    fn register(&self, to: &mut Registered) {
        to.buffer(&self.extremes, 4);
        to.number(self.blocks);
        self.strides.iter().for_each(|stride| to.number(*stride));
    }
}

fn scalar_launch(value: ScalarValue) -> ScalarArgumentLaunch {
    let (value, truth) = match value {
        ScalarValue::I32(value) => (InputScalar::new(value, i32::cube_type()), false),
        ScalarValue::U32(value) => (InputScalar::new(value, i32::cube_type()), false),
        ScalarValue::F32(value) => (InputScalar::new(value, f32::cube_type()), false),
        ScalarValue::Bool(value) => (InputScalar::new(i32::from(value), i32::cube_type()), true),
    };
    ScalarArgumentLaunch::new(value, truth)
}

#[cfg(feature = "emit")]
fn scalar_definition(ty: ScalarType) -> ScalarArgumentCompilationArg {
    let value = match ty {
        ScalarType::F32 => f32::cube_type(),
        ScalarType::I32 | ScalarType::U32 | ScalarType::Bool => i32::cube_type(),
    };
    ScalarArgumentCompilationArg { value: InputScalarCompilationArg::new(value), truth: ty == ScalarType::Bool }
}

#[cfg(feature = "emit")]
fn register_scalar(value: ScalarValue, to: &mut Registered) {
    match value {
        ScalarValue::I32(value) => to.number(value),
        // At most i32::MAX, as are all scalars of a launch.
        ScalarValue::U32(value) => to.number(value.cast_signed()),
        ScalarValue::Bool(value) => to.number(value.into()),
        ScalarValue::F32(value) => to.float(value),
    }
}

/// Where a launch writes `outputs`, in vectors of `width` elements, and the numbers of `rows`.
pub(super) fn results_launch<O: CubePrimitive>(
    outputs: Vec<Buffer>,
    rows: Vec<Buffer>,
    width: usize,
) -> ResultsLaunch<O> {
    let outputs = outputs.into_iter().map(|output| OutputBufferLaunch::new(output.launch(width)));
    let rows = rows.into_iter().map(|numbers| RowBufferLaunch::new(numbers.launch(1)));
    ResultsLaunch::new(sequence(outputs), sequence(rows))
}

/// As a definition of `program`'s kernel declares it.
#[cfg(feature = "emit")]
pub(super) fn results_definition<O: CubePrimitive>(program: &Program) -> ResultsCompilationArg<O> {
    let outputs = program.outputs.iter().map(|_| OutputBufferCompilationArg { data: Buffer::definition() });
    let rows = program.row_numbers().into_iter().map(|_| RowBufferCompilationArg { data: Buffer::definition() });
    ResultsCompilationArg { outputs: outputs.collect(), rows: rows.collect() }
}

/// The values of a program's parameters.
pub(super) struct ParametersData {
    scalars: Vec<ScalarValue>,
    tensors: Vec<CapturedData>,
    summaries: Vec<SummaryData>,
    lengths: Vec<(Axis, i32)>,
    numbers: Vec<OperandData>,
    scale: f32,
    approximate: bool,
}

impl ParametersData {
    /// Those of a launch of `program`, whose schedule `approximate`s or not.
    pub(super) fn new(program: &Program, data: &LaunchData, approximate: bool) -> ParametersData {
        let summaries = program.summaries().into_iter().zip(data.summaries.iter().cloned());
        ParametersData {
            scalars: data.scalars.clone(),
            tensors: data.tensors.clone(),
            summaries: summaries
                .map(|(summary, extremes)| SummaryData::new(summary, extremes, &data.tensors))
                .collect(),
            lengths: program.lengths().into_iter().map(|axis| (axis, data.length(axis, program.rows))).collect(),
            numbers: data.numbers.clone(),
            scale: data.scale,
            approximate,
        }
    }

    /// As a launch passes them.
    pub(super) fn launch(self) -> ParameterValuesLaunch {
        ParameterValuesLaunch::new(
            sequence(self.scalars.into_iter().map(scalar_launch)),
            sequence(self.tensors.into_iter().map(CapturedData::launch)),
            sequence(self.summaries.into_iter().map(SummaryData::launch)),
            sequence(self.lengths.into_iter().map(|(axis, length)| LengthArgumentLaunch::new(length, axis))),
            sequence(self.numbers.into_iter().map(|numbers| numbers.launch(1))),
            self.scale,
            f32::NEG_INFINITY,
            self.approximate,
        )
    }

    /// As a definition of `program`'s kernel declares them, whose truth values are in bytes or not.
    #[cfg(feature = "emit")]
    pub(super) fn definition(program: &Program, approximate: bool, bytes: bool) -> ParameterValuesCompilationArg {
        let tensors = program.tensors.iter().map(|param| CapturedData::definition(param.ty, param.rank, bytes));
        let lengths = program.lengths().into_iter().map(|axis| LengthArgumentCompilationArg { value: (), axis });
        ParameterValuesCompilationArg {
            scalars: program.scalars.iter().map(|param| scalar_definition(param.ty)).collect(),
            tensors: tensors.collect(),
            summaries: program.summaries().into_iter().map(SummaryData::definition).collect(),
            lengths: lengths.collect(),
            numbers: program.numbers.iter().map(|_| OperandData::definition(false)).collect(),
            scale: (),
            empty_lse: (),
            approximate,
        }
    }

    /// As PTX takes them.
    #[cfg(feature = "emit")]
    pub(super) fn register(&self, to: &mut Registered) {
        let ParametersData { scalars, tensors, summaries, lengths, numbers, scale, approximate: _ } = self;
        scalars.iter().for_each(|value| register_scalar(*value, to));
        tensors.iter().for_each(|tensor| tensor.register(to));
        summaries.iter().for_each(|summary| summary.register(to));
        lengths.iter().for_each(|(_, length)| to.number(*length));
        numbers.iter().for_each(|numbers| numbers.register(to, 1, 4));
        to.float(*scale);
        to.float(f32::NEG_INFINITY);
    }
}

impl Extent {
    /// That of the cubes of a launch from `first` on, along each axis.
    pub(super) fn of(data: &LaunchData, first: [usize; 3]) -> Extent {
        let [first_tile, first_head, first_batch] = first;
        let LaunchData { heads, kv_group, rows_len: queries, row_offset: query_offset, careful, .. } = *data;
        let (group, careful) = (data.group(), careful.into());
        Extent { heads, group, kv_group, queries, query_offset, first_tile, first_head, first_batch, careful }
    }

    /// As a launch passes it.
    pub(super) fn launch(self) -> ExtentLaunch {
        let Extent { heads, group, kv_group, queries, query_offset, first_tile, first_head, first_batch, careful } =
            self;
        ExtentLaunch::new(heads, group, kv_group, queries, query_offset, first_tile, first_head, first_batch, careful)
    }

    /// As a definition declares it.
    #[cfg(feature = "emit")]
    pub(super) fn definition() -> ExtentCompilationArg {
        ExtentCompilationArg {
            heads: (),
            group: (),
            kv_group: (),
            queries: (),
            query_offset: (),
            first_tile: (),
            first_head: (),
            first_batch: (),
            careful: (),
        }
    }

    /// As PTX takes it.
    #[cfg(feature = "emit")]
    pub(super) fn register(self, to: &mut Registered) {
        let Extent { heads, group, kv_group, queries, query_offset, first_tile, first_head, first_batch, careful } =
            self;
        [heads, group, kv_group, queries].into_iter().for_each(|size| to.size(size));
        to.number(query_offset);
        [first_tile, first_head, first_batch].into_iter().for_each(|size| to.size(size));
        to.number(careful);
    }
}

/// `arguments` as a kernel takes a sequence of them.
pub(super) fn sequence<T: LaunchArg>(arguments: impl IntoIterator<Item = T::RuntimeArg>) -> SequenceArg<T> {
    let mut sequence = SequenceArg::new();
    arguments.into_iter().for_each(|argument| sequence.push(argument));
    sequence
}

/// Kernels count elements in 32 bits.
#[cfg(feature = "emit")]
pub(super) const ADDRESSES: AddressType = AddressType::U32;

/// The buffers and numbers of a kernel in PTX, in the order of its arguments. CubeCL's own builder lays the numbers out.
#[cfg(feature = "emit")]
#[derive(Default)]
pub(super) struct Registered {
    /// The buffers.
    pub buffers: Vec<Buffer>,
    /// The numbers.
    pub info: InfoBuilder,
}

#[cfg(feature = "emit")]
impl Registered {
    /// A buffer of elements, or vectors of them, of `size` bytes. Returns its place.
    pub(super) fn buffer(&mut self, buffer: &Buffer, size: usize) -> usize {
        self.info.metadata.register_buffer(buffer.memory.size_in_used() / size as u64, ADDRESSES);
        self.buffers.push(buffer.clone());
        self.buffers.len() - 1
    }

    /// A `usize` of the kernel's.
    pub(super) fn size(&mut self, size: usize) {
        self.info.scalars.push_raw(&(size as u32).to_le_bytes(), ElemType::Index);
    }

    /// An `i32`.
    pub(super) fn number(&mut self, number: i32) {
        self.info.scalars.push(number);
    }

    /// An `f32`.
    pub(super) fn float(&mut self, number: f32) {
        self.info.scalars.push(number);
    }
}

#[cfg(test)]
mod tests {
    use super::reach;

    #[test]
    fn a_tensor_without_elements_is_read_at_its_buffers_start() {
        assert_eq!(reach(5, &[2, 3], &[4, 1]), (5, vec![1, 2], vec![4, 1]));
        assert_eq!(reach(5, &[2, 0], &[4, 1]), (0, vec![0, 0], vec![0, 0]));
    }
}
