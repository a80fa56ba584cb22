//! What can go wrong, each with what was given and what was expected.

use crate::dtype::{DType, MAX_ELEMENTS};
use purview_compiler::analysis::range_error::RangeError;
use purview_compiler::emit::launch::LaunchError;
use purview_compiler::interpret::InterpretError;
use purview_compiler::passes::CompileError;
use purview_compiler::report::ReportError;
use thiserror::Error as ThisError;

/// Why something could not be done. Every error is found before an attention is launched, but for [`Error::Execution`].
#[derive(Clone, Debug, ThisError)]
#[non_exhaustive]
pub enum Error {
    /// There is no such device in this build or on this machine.
    #[error("no device `{wanted}`: {reason}")]
    NoDevice {
        /// The device that was asked for.
        wanted: String,
        /// Why there is none.
        reason: String,
    },
    /// Something that was launched failed on the device.
    #[error("the device failed: {reason}")]
    Execution {
        /// What the device says.
        reason: String,
    },
    /// A captured tensor that is declared sorted and is not.
    #[error(
        "`{name}` of shape {shape:?} is declared `#[sorted]`, but an element of it is less than the one before it along the last dimension"
    )]
    NotSorted {
        /// The parameter.
        name: String,
        /// The tensor's shape.
        shape: Vec<usize>,
    },
    /// Data whose length is not its shape's.
    #[error("a tensor of shape {shape:?} has {expected} elements, {given} were given")]
    Length {
        /// The shape.
        shape: Vec<usize>,
        /// Its number of elements.
        expected: usize,
        /// The number given.
        given: usize,
    },
    /// An integer of a tensor that has more than 32 bits.
    #[error(
        "element {index:?} of a tensor of {element} of shape {shape:?} is {value}, expected a signed 32-bit number: integers are i32 in \
         kernels"
    )]
    Wide {
        /// The tensor's shape.
        shape: Vec<usize>,
        /// The type of the elements that were given.
        element: &'static str,
        /// Where the element is.
        index: Vec<usize>,
        /// The element.
        value: i64,
    },
    /// An element that can't be read as the type that was asked for.
    #[error("element {index:?} of a tensor of {dtype} of shape {shape:?} is {value}, expected a number of {element}")]
    Unread {
        /// The type of the tensor's elements.
        dtype: DType,
        /// The tensor's shape.
        shape: Vec<usize>,
        /// Where the element is: the first such.
        index: Vec<usize>,
        /// The element.
        value: f64,
        /// The type that was asked for.
        element: &'static str,
    },
    /// A shape with more elements than offsets can count.
    #[error("a tensor of shape {shape:?} has more than {} elements", MAX_ELEMENTS)]
    TooLarge {
        /// The shape.
        shape: Vec<usize>,
    },
    /// A view that reaches past its memory.
    #[error(
        "a view of shape {shape:?} and strides {strides:?} from element {start} reaches past its {capacity} elements"
    )]
    OutOfMemory {
        /// The first element.
        start: usize,
        /// The shape.
        shape: Vec<usize>,
        /// The strides.
        strides: Vec<usize>,
        /// How many elements there are.
        capacity: usize,
    },
    /// A view that reaches further than kernels address.
    #[error(
        "a view of shape {shape:?} and strides {strides:?} from element {start} reaches further than {} elements, \
         which is as far as kernels read",
        MAX_ELEMENTS
    )]
    FarView {
        /// The first element.
        start: usize,
        /// The shape.
        shape: Vec<usize>,
        /// The strides.
        strides: Vec<usize>,
    },
    /// A buffer that is larger than the device allows.
    #[error("{what} takes {bytes} bytes, and the device `{device}` has buffers of at most {limit}")]
    LargeBuffer {
        /// What it holds.
        what: String,
        /// Its size in bytes.
        bytes: u64,
        /// The device.
        device: String,
        /// The most bytes of one.
        limit: u64,
    },
    /// More buffers than the device gives to a kernel.
    #[error(
        "`{attention}` takes {needed} buffers, and a kernel of the device `{device}` has at most {limit}; they hold {}",
        buffers.join(", ")
    )]
    ManyBuffers {
        /// The attention.
        attention: String,
        /// How many it takes.
        needed: usize,
        /// What each of them holds: parameters in backticks, results, summaries of captured tensors.
        buffers: Vec<String>,
        /// The device.
        device: String,
        /// The most of them.
        limit: usize,
    },
    /// More iterations of loops than the device's driver runs.
    #[error(
        "the driver of `{device}`, {driver}, ends all loops of an invocation after {limit} iterations without a word, and this \
         launch of `{attention}` may need {needed}: {fitting} keys fit for each query, {given} were given; the device `cpu` has no \
         such limit"
    )]
    LoopIterations {
        /// The attention.
        attention: String,
        /// The device.
        device: String,
        /// What its driver calls it.
        driver: String,
        /// How many iterations the driver runs.
        limit: u64,
        /// How many the launch takes at most.
        needed: u64,
        /// The keys of all sets that a query tile could visit.
        fitting: u64,
        /// The keys of all sets that a query tile of this launch may visit.
        given: u64,
    },
    /// A view that a handle of cubecl's cannot express.
    #[error("a view that begins at element {start} of its memory has no handle: only one that begins at 0 has")]
    NotAtStart {
        /// The first element.
        start: usize,
    },
    /// Axes that are not a permutation.
    #[error("axes {axes:?} must name each dimension of {shape:?} once")]
    Axes {
        /// The axes.
        axes: Vec<usize>,
        /// The shape.
        shape: Vec<usize>,
    },
    /// A range outside a dimension.
    #[error("elements {start}..{start}+{length} of dimension {axis} are not inside the shape {shape:?}")]
    Narrow {
        /// The dimension.
        axis: usize,
        /// The first element.
        start: usize,
        /// How many.
        length: usize,
        /// The shape.
        shape: Vec<usize>,
    },
    /// A handle with elements of a type that Purview has no use for.
    #[error("a handle of {given}, expected f32, f16, bf16, i32, i64, u8 or u32")]
    HandleType {
        /// Its type.
        given: String,
    },
    /// A type that the device lacks.
    #[error("the device `{device}` has no {dtype}{}", if *dtype == DType::U8 { ": truth values are u32 there" } else { "" })]
    UnsupportedType {
        /// The device.
        device: String,
        /// The type.
        dtype: DType,
    },
    /// A tensor on another device.
    #[error("`{name}` is on the device `{given}`, the kernel is to run on `{expected}`")]
    OtherDevice {
        /// The tensor.
        name: String,
        /// Its device.
        given: String,
        /// The launch's device.
        expected: String,
    },
    /// A wrong number of dimensions.
    #[error("`{name}` has shape {shape:?}, expected {expected} dimensions")]
    Rank {
        /// The tensor.
        name: String,
        /// The number of dimensions expected.
        expected: usize,
        /// The shape given.
        shape: Vec<usize>,
    },
    /// A tensor that does not fit another.
    #[error("{what} differ: `{name}` is {shape:?}, `{other}` is {other_shape:?}")]
    Mismatch {
        /// What ought to be the same: "batches", "head dims", "lengths".
        what: &'static str,
        /// One tensor.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
        /// The other.
        other: String,
        /// Its shape.
        other_shape: Vec<usize>,
    },
    /// Values, or what an output is made of, of different numbers of elements, where some are only the first elements of rows.
    #[error(
        "{what} differ: {elements} of the {dim} elements of each row of `{name}`, {other_elements} of the {other_dim} of `{other}`"
    )]
    Elements {
        /// What ought to be the same: "head dims of the values".
        what: &'static str,
        /// One tensor.
        name: String,
        /// How many elements of its rows are taken.
        elements: usize,
        /// Its head dim.
        dim: usize,
        /// The other.
        other: String,
        /// How many elements of its rows are taken.
        other_elements: usize,
        /// Its head dim.
        other_dim: usize,
    },
    /// Query heads that key heads do not divide.
    #[error("`{query}` has {heads} heads, which is not a multiple of the {kv_heads} heads of `{key}`")]
    Heads {
        /// The query tensor.
        query: String,
        /// Its heads.
        heads: usize,
        /// The key tensor.
        key: String,
        /// Its heads.
        kv_heads: usize,
    },
    /// A head dim out of range.
    #[error("`{name}` has a head dim of {dim}, expected 1 to {}", purview_compiler::schedule::MAX_HEAD_DIM)]
    HeadDim {
        /// The tensor.
        name: String,
        /// Its head dim.
        dim: usize,
    },
    /// More of the first elements of each row than there are, or none.
    #[error("the first {leading} elements of each row of `{name}` are its values, and it has a head dim of {dim}")]
    Leading {
        /// The tensor.
        name: String,
        /// Its head dim.
        dim: usize,
        /// How many elements are taken.
        leading: usize,
    },
    /// Heads of a single operand, in a [`Shape`](crate::Shape), for one that lies along queries.
    #[error(
        "{given} heads are given for `{name}`, which lies along queries and has their {heads}: only operands along keys have heads of their own"
    )]
    QueryHeads {
        /// The operand.
        name: String,
        /// The shape's query heads.
        heads: usize,
        /// The heads given for the operand.
        given: usize,
    },
    /// A number of a single operand, in a [`Shape`](crate::Shape), that is given twice.
    #[error("the {what} of `{name}` is given twice, as {first} and as {second}")]
    GivenTwice {
        /// What is given: "head dim", "number of heads".
        what: &'static str,
        /// The operand.
        name: String,
        /// The number that was given first.
        first: usize,
        /// The other.
        second: usize,
    },
    /// A shape of an operand that the attention has not.
    #[error("`{attention}` has no `{name}` along queries or keys, it takes {operands}")]
    NoOperand {
        /// The attention.
        attention: String,
        /// The name that was given.
        name: String,
        /// The names of the tensors that it takes.
        operands: String,
    },
    /// The gradient of something that has none.
    #[error("`{attention}` has no gradient of `{name}`, expected one of {known}")]
    NoGradientOf {
        /// The attention.
        attention: String,
        /// The name that was given.
        name: String,
        /// What it has gradients of.
        known: String,
    },
    /// Queries, keys and values for an attention that has more than pairs of them.
    #[error(
        "`{attention}` takes more than queries and pairs of keys and values: give {operands}, in this order, to `run_operands`"
    )]
    NoPairs {
        /// The attention.
        attention: String,
        /// The names of the tensors that it takes.
        operands: String,
    },
    /// A tensor of the wrong element type.
    #[error("`{name}` holds {given}, expected {expected}")]
    Type {
        /// The tensor.
        name: String,
        /// Its type.
        given: DType,
        /// The types it may have.
        expected: String,
    },
    /// A scalar out of range.
    #[error("the scalar `{name}` is {given}, expected {expected}")]
    Scalar {
        /// The scalar.
        name: String,
        /// Its value.
        given: String,
        /// What is allowed.
        expected: String,
    },
    /// A scale that is not a finite number.
    #[error("the scale is {given}, expected a finite number")]
    Scale {
        /// The scale.
        given: f32,
    },
    /// An offset that leaves 32 bits.
    #[error("the offset of `{name}` is {given}, expected a signed 32-bit number")]
    Offset {
        /// The tensor.
        name: String,
        /// The offset.
        given: i64,
    },
    /// A wrong number of scalars, captured tensors or operands, or of lengths or offsets of keys.
    #[error("`{attention}` takes {expected} {what}, {given} were given")]
    Count {
        /// The attention.
        attention: String,
        /// What is counted.
        what: &'static str,
        /// How many it takes.
        expected: usize,
        /// How many were given.
        given: usize,
    },
    /// Another number of outputs than the attention has.
    #[error("`{attention}` has {outputs} outputs, and {asked} asked for; `AnyAttention::run_outputs` gives them all",
        asked = if *asked == 1 { "one was".to_string() } else { format!("{asked} were") })]
    OutputCount {
        /// The attention.
        attention: String,
        /// How many it has.
        outputs: usize,
        /// How many were asked for.
        asked: usize,
    },
    /// Another number of gradients of outputs than there are outputs.
    #[error("`{attention}` has {outputs} outputs, and {given} given; `Saved::backward_outputs` takes the gradient of each",
        given = if *given == 1 { "one gradient was".to_string() } else { format!("{given} gradients were") })]
    GradientCount {
        /// The attention.
        attention: String,
        /// How many outputs it has.
        outputs: usize,
        /// How many gradients were given.
        given: usize,
    },
    /// A log-sum-exp, or another number of a row, of an accumulator that has none, or of several.
    #[error("`{attention}` accumulates with `{accumulator}`, and only one `Softmax` has {number}")]
    NoRowNumber {
        /// The attention.
        attention: String,
        /// Its accumulator, or accumulators.
        accumulator: String,
        /// What was asked for.
        number: &'static str,
    },
    /// A partial result of an attention that has none.
    #[error("`{attention}` has no partial result: {reason}")]
    NoPartial {
        /// The attention.
        attention: String,
        /// Why.
        reason: &'static str,
    },
    /// Gradients of an attention that has none.
    #[error("`{attention}` has no gradients yet: {reason}")]
    NoGradients {
        /// The attention.
        attention: String,
        /// Why.
        reason: &'static str,
    },
    /// No partial result to merge.
    #[error("there is no partial result to merge, and at least one is needed")]
    NoPartials,
    /// A schedule that is not for this device or these head dims.
    #[error("the schedule {schedule} does not fit: {reason}")]
    Schedule {
        /// The schedule.
        schedule: String,
        /// Why.
        reason: String,
    },
    /// A kernel text that this build cannot make.
    #[error("no text for the target `{target}`: {reason}")]
    Target {
        /// The target.
        target: &'static str,
        /// Why.
        reason: String,
    },
    /// A specification that has no program.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// An index, an integer or a divisor that can leave its range.
    #[error(transparent)]
    Range(#[from] RangeError),
    /// A launch that the device's limits forbid.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// No report.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// No reference.
    #[error(transparent)]
    Interpret(#[from] InterpretError),
}

impl Error {
    pub(crate) fn execution(error: impl std::fmt::Display) -> Error {
        // The first lines say what happened; the rest is a backtrace.
        let text = error.to_string();
        let reason = text.split("Backtrace:").next().unwrap_or(&text).trim().to_string();
        Error::Execution { reason }
    }
}
