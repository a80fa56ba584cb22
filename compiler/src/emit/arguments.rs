//! What every kernel takes: operands with their strides, and the values of the program's parameters.

use crate::ir::{Axis, Summary};
use cubecl::prelude::*;
use half::{bf16, f16};

/// A tensor `[B, H, S, D]` of `E`, an element or a vector of them along the head dim, and its strides, in `E`s.
#[derive(CubeType, CubeLaunch)]
pub struct OperandArgument<E: CubePrimitive> {
    /// The buffer.
    pub data: Box<[E]>,
    /// The offset of the first element.
    pub start: usize,
    /// From a batch to the next.
    pub batch_stride: usize,
    /// From a head to the next.
    pub head_stride: usize,
    /// From a position to the next.
    pub row_stride: usize,
    /// From an element of the head dim to the next, where it is not 1.
    pub column_stride: usize,
    /// Query heads to one of its heads, where it has heads of its own.
    pub group: usize,
    /// Whether `column` is 1.
    #[cube(comptime)]
    pub dense: bool,
    /// Whether it has heads of its own, which query heads share.
    #[cube(comptime)]
    pub shared: bool,
}

#[cube]
impl<E: CubePrimitive> OperandArgument<E> {
    /// Where a batch begins.
    pub fn batch(&self, batch: usize) -> usize {
        self.start + batch * self.batch_stride
    }

    /// Where the rows of a head begin, `heads` further than `from`, which is a head or a batch.
    pub fn head(&self, from: usize, heads: usize) -> usize {
        from + heads * self.head_stride
    }

    /// Its head that query head `head` reads.
    pub fn head_of(&self, head: usize) -> usize {
        if comptime![self.shared] { head / self.group } else { head }
    }

    /// Where the rows begin that query head `head` reads.
    pub fn rows_of(&self, batch: usize, head: usize) -> usize {
        self.head(self.batch(batch), self.head_of(head))
    }

    /// Where row `row` begins, of a head whose rows begin at `rows`.
    pub fn row(&self, rows: usize, row: usize) -> usize {
        rows + row * self.row_stride
    }

    /// The offset of column `column` of the row that begins at `row`.
    pub fn at(&self, row: usize, column: usize) -> usize {
        if comptime![self.dense] { row + column } else { row + column * self.column_stride }
    }
}

/// The rows of an operand that a head reads.
#[derive(CubeType, Clone, Copy)]
#[expand(derive(Clone, Copy))]
pub struct HeadRows<'a, E: CubePrimitive> {
    /// The operand.
    pub operand: &'a OperandArgument<E>,
    /// Where they begin.
    first: usize,
}

#[cube]
impl<'a, E: CubePrimitive> HeadRows<'a, E> {
    /// Those that query head `head` reads.
    pub fn new(operand: &'a OperandArgument<E>, batch: usize, head: usize) -> HeadRows<'a, E> {
        HeadRows::<'a, E> { operand, first: operand.rows_of(batch, head) }
    }

    /// Where row `row` begins.
    pub fn row(&self, row: usize) -> usize {
        self.operand.row(self.first, row)
    }
}

/// What a kernel writes.
#[derive(CubeType, CubeLaunch)]
pub struct Results<O: CubePrimitive> {
    /// The outputs, in the program's order: contiguous `[B, H, S, D]`, of elements or of vectors of them along the head dim.
    pub outputs: Sequence<OutputBuffer<O>>,
    /// The [numbers of each row](crate::ir::Program::row_numbers), in that order: contiguous `[B, H, S]`.
    pub rows: Sequence<RowBuffer>,
}

/// An output.
#[derive(CubeType, CubeLaunch)]
pub struct OutputBuffer<O: CubePrimitive> {
    /// The buffer.
    pub data: Box<[O]>,
}

/// A number of each row.
#[derive(CubeType, CubeLaunch)]
pub struct RowBuffer {
    /// The buffer.
    pub data: Box<[f32]>,
}

/// A partial result: what a softmax has of each row after some of the keys.
#[derive(CubeType, CubeLaunch)]
pub struct PartialArgument {
    /// The output, not divided by the sum: `[B, H, S, D]`.
    pub output: OperandArgument<f32>,
    /// Each row's maximum in natural units: `[B, H, S, 1]`.
    pub maximum: OperandArgument<f32>,
    /// Each row's sum of exponentials of scores less the maximum: `[B, H, S, 1]`.
    pub sum: OperandArgument<f32>,
}

/// A set of keys, which operands lie along.
#[derive(CubeType, CubeLaunch)]
pub struct KeySet {
    /// How many keys there are: T.
    pub len: usize,
    /// The position of the first key.
    pub offset: i32,
}

/// The elements of a captured tensor. The element type is part of the kernel's key.
#[derive(CubeType, CubeLaunch)]
pub enum CapturedElements {
    /// Of a `Tensor<f32, R>`.
    F32(Box<[f32]>),
    /// Of one that is given in f16.
    F16(Box<[f16]>),
    /// Of one that is given in bf16.
    Bf16(Box<[bf16]>),
    /// Of a `Tensor<i32, R>`.
    I32(Box<[i32]>),
    /// Of a `Tensor<bool, R>` on a device with bytes.
    U8(Box<[u8]>),
    /// Of a `Tensor<bool, R>` on a device without.
    U32(Box<[u32]>),
}

/// A captured tensor.
#[derive(CubeType, CubeLaunch)]
pub struct CapturedArgument {
    /// Its buffer.
    pub elements: CapturedElements,
    /// The offset of the first element.
    pub start: i32,
    /// The last index of each dimension.
    pub last: Sequence<i32>,
    /// The stride of each dimension, in elements.
    pub strides: Sequence<i32>,
}

/// The extremes of a captured tensor's blocks.
#[derive(CubeType, CubeLaunch)]
pub struct SummaryArgument {
    /// The least element of each block in row-major order, then the greatest of each, and for a summary that links keys then the place,
    /// along the last dimension, of the first block from each on that is not all zero.
    pub extremes: Box<[i32]>,
    /// How many blocks there are.
    pub blocks: i32,
    /// From a block to the next, along each dimension.
    pub strides: Sequence<i32>,
    /// What it is a summary of.
    #[cube(comptime)]
    pub summary: Summary,
}

/// Blocks of a summary along one dimension.
#[derive(CubeType, Clone, Copy)]
#[expand(derive(Clone, Copy))]
pub struct Blocks {
    /// The first.
    pub first: i32,
    /// The last.
    pub last: i32,
    /// From a block to the next.
    pub stride: i32,
}

#[cube]
impl SummaryArgument {
    /// The extreme of the blocks of `rows` and `columns` from `base`.
    pub fn extreme(&self, base: i32, rows: Blocks, columns: Blocks, #[comptime] greatest: bool) -> i32 {
        let base = if greatest { base + self.blocks } else { base };
        let mut found = self.extremes[(base + rows.first * rows.stride + columns.first * columns.stride) as usize];
        let mut row = rows.first;
        while row <= rows.last {
            let mut column = columns.first;
            while column <= columns.last {
                let block = self.extremes[(base + row * rows.stride + column * columns.stride) as usize];
                found = if greatest { max(found, block) } else { min(found, block) };
                column += 1;
            }
            row += 1;
        }
        found
    }

    /// The least place, along the last dimension, of a block from `column` on that is not all zero, of the `rows` from `base`.
    pub fn next(&self, base: i32, rows: Blocks, column: i32) -> i32 {
        let base = base + 2 * self.blocks + column;
        let mut found = self.extremes[(base + rows.first * rows.stride) as usize];
        let mut row = rows.first + 1;
        while row <= rows.last {
            found = min(found, self.extremes[(base + row * rows.stride) as usize]);
            row += 1;
        }
        found
    }
}

/// Where a kernel counts the tiles that it visits: for each key loop the visited ones and the full ones.
#[derive(CubeType, CubeLaunch)]
pub struct Counters {
    /// The counts.
    pub tiles: Box<[Atomic<u32>]>,
}

/// Where the accumulators of runs of keys are left, for as many units to merge.
#[derive(CubeType, CubeLaunch)]
pub struct Partials<N: Size> {
    /// Those of each item.
    pub vectors: Box<[Vector<f32, N>]>,
}

/// A scalar parameter.
#[derive(CubeType, CubeLaunch)]
pub struct ScalarArgument {
    /// Its value: an i32 or an f32.
    pub value: InputScalar,
    /// Whether it is a truth value, passed as an i32.
    #[cube(comptime)]
    pub truth: bool,
}

/// How many queries, or keys of a set, there are, for expressions.
#[derive(CubeType, CubeLaunch)]
pub struct LengthArgument {
    /// The number.
    pub value: i32,
    /// Of what.
    #[cube(comptime)]
    pub axis: Axis,
}

/// The values of a program's parameters.
#[derive(CubeType, CubeLaunch)]
pub struct ParameterValues {
    /// The runtime scalars, in the program's order.
    pub scalars: Sequence<ScalarArgument>,
    /// The captured tensors, in the program's order.
    pub tensors: Sequence<CapturedArgument>,
    /// The program's summaries of them, in its order.
    pub summaries: Sequence<SummaryArgument>,
    /// The lengths that the program's expressions are of, in its order.
    pub lengths: Sequence<LengthArgument>,
    /// The numbers of rows and columns, in the program's order: `[B, H, S, 1]`.
    pub numbers: Sequence<OperandArgument<f32>>,
    /// `scale()`.
    pub scale: f32,
    /// The log-sum-exp and the maximum of a row that sees nothing: −∞, which WGSL has no constant for.
    pub empty_lse: f32,
    /// Whether scores need no more than 10 bits, as where weights are rounded to f16 or bf16: then by the device's own approximations.
    #[cube(comptime)]
    pub approximate: bool,
}

/// Lengths and heads of a launch. Where the rows are keys, the queries of which it says how many there are and where they begin are those.
#[derive(CubeType, CubeLaunch)]
pub struct Extent {
    /// Heads of the rows: query heads, H, where the rows are queries.
    pub heads: usize,
    /// Query heads that share the heads of all operands along keys; where the rows are keys, the query heads to a head of the rows.
    pub group: usize,
    /// Query heads to a head of the first operand along keys, which `kv_head()` counts: H/G.
    pub kv_group: usize,
    /// Queries: S.
    pub queries: usize,
    /// The position of the first query.
    pub query_offset: i32,
    /// The query tile of the grid's first cube. A launch with more cubes along an axis than the device launches is several grids.
    pub first_tile: usize,
    /// Its head; where query heads share tiles, its key head.
    pub first_head: usize,
    /// Its batch.
    pub first_batch: usize,
    /// Whether rows may be computed [again, with care](super::careful), as 1 or 0: not where a driver would end the loops of that. Of the
    /// `cube` schedule only.
    pub careful: i32,
}

/// What a kernel reads, for functions that it is made of.
#[derive(CubeType, Clone, Copy)]
#[expand(derive(Clone, Copy))]
pub struct KernelInputs<'a, E: CubePrimitive> {
    /// The operands, in the program's order.
    pub operands: &'a Sequence<OperandArgument<E>>,
    /// The sets of keys.
    pub keys: &'a Sequence<KeySet>,
    /// Lengths and heads.
    pub extent: &'a Extent,
    /// The values of the program's parameters.
    pub parameters: &'a ParameterValues,
}

#[cube]
impl<'a, E: CubePrimitive> KernelInputs<'a, E> {
    /// Them together. The expansion of a literal needs a lifetime with a name, which a kernel has not.
    pub fn new(
        operands: &'a Sequence<OperandArgument<E>>,
        keys: &'a Sequence<KeySet>,
        extent: &'a Extent,
        parameters: &'a ParameterValues,
    ) -> KernelInputs<'a, E> {
        KernelInputs::<'a, E> { operands, keys, extent, parameters }
    }
}
