//! Tensors: a handle on a device's memory, a shape and strides.

use crate::device::Device;
use crate::dtype::{DType, MAX_ELEMENTS};
use crate::error::Error;
use cubecl::client::Client;
use cubecl::ir::{ElemType, IntKind};
use cubecl::server::Handle;
use cubecl::std::tensor::TensorHandle;
use half::{bf16, f16};
use purview_compiler::emit::binding::{Buffer, CapturedData, OperandData, Storage};
use purview_compiler::emit::launch as emit;
use purview_compiler::eval::HostTensor;
use purview_compiler::ir::Summary;
use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

mod sealed {
    use super::*;

    /// What [`super::TensorElement`] needs to know.
    pub trait Sealed: Copy {
        /// How the device stores elements of this type.
        fn dtype(device: &Device) -> DType;
        /// The bytes of `data` as `dtype`; the place of one that is no number of that type, where there is one.
        fn bytes(data: &[Self], dtype: DType) -> Result<Vec<u8>, Unfit>;
        /// From an element of any type: all of them are exact in f64. `None` where no value of this type is near it.
        fn from_f64(value: f64) -> Option<Self>;
        /// What the type is called in Rust.
        const NAME: &'static str;
    }

    /// An element that does not fit.
    pub struct Unfit {
        /// Its place in the data.
        pub place: usize,
        /// Its value.
        pub value: i64,
        /// Its type.
        pub element: &'static str,
    }
}

use sealed::Unfit;

/// A type that tensors are made from and read as: `f32`, `f16` and `bf16` (of the crate [`half`](https://docs.rs/half)), `i32`, `u8` and
/// `bool`. A `u8` is a truth value too. `i64` and `u32` are integers that become `i32`, if each has so many bits.
pub trait TensorElement: sealed::Sealed {}

macro_rules! element {
    ($ty:ty, $dtype:ident, $from:expr) => {
        impl sealed::Sealed for $ty {
            fn dtype(_: &Device) -> DType {
                DType::$dtype
            }
            fn bytes(data: &[Self], _: DType) -> Result<Vec<u8>, Unfit> {
                Ok(bytemuck::cast_slice(data).to_vec())
            }
            fn from_f64(value: f64) -> Option<Self> {
                $from(value)
            }
            const NAME: &'static str = stringify!($ty);
        }
        impl TensorElement for $ty {}
    };
}
element!(f32, F32, |value| Some(value as f32));
element!(f16, F16, |value| Some(f16::from_f64(value)));
element!(bf16, Bf16, |value| Some(bf16::from_f64(value)));
element!(i32, I32, |value| whole(value).and_then(|whole| whole.try_into().ok()));

macro_rules! wide {
    ($ty:ty, $from:expr) => {
        impl sealed::Sealed for $ty {
            fn dtype(_: &Device) -> DType {
                DType::I32
            }
            fn bytes(data: &[Self], _: DType) -> Result<Vec<u8>, Unfit> {
                let narrow = |(place, &value): (usize, &$ty)| {
                    let unfit = Unfit { place, value: i64::from(value), element: stringify!($ty) };
                    i32::try_from(value).map(i32::to_ne_bytes).map_err(|_| unfit)
                };
                let bytes = data.iter().enumerate().map(narrow).collect::<Result<Vec<_>, _>>()?;
                Ok(bytes.into_flattened())
            }
            fn from_f64(value: f64) -> Option<Self> {
                $from(value)
            }
            const NAME: &'static str = stringify!($ty);
        }
        impl TensorElement for $ty {}
    };
}
wide!(i64, whole);
wide!(u32, |value| whole(value).and_then(|whole| whole.try_into().ok()));

macro_rules! truth {
    ($ty:ty, $is_true:expr, $from:expr) => {
        impl sealed::Sealed for $ty {
            fn dtype(device: &Device) -> DType {
                if device.capabilities().bytes { DType::U8 } else { DType::U32 }
            }
            fn bytes(data: &[Self], dtype: DType) -> Result<Vec<u8>, Unfit> {
                let truths = data.iter().map($is_true);
                Ok(match dtype {
                    DType::U8 => truths.map(u8::from).collect(),
                    _ => truths.flat_map(|truth| u32::from(truth).to_ne_bytes()).collect(),
                })
            }
            fn from_f64(value: f64) -> Option<Self> {
                $from(value)
            }
            const NAME: &'static str = stringify!($ty);
        }
        impl TensorElement for $ty {}
    };
}
truth!(bool, |value: &bool| *value, |value| Some(value != 0.0));
truth!(u8, |value: &u8| *value != 0, |value| Some(u8::from(value != 0.0)));

/// `value` cut towards zero, where that has 64 bits.
fn whole(value: f64) -> Option<i64> {
    // The bound is exact in f64, as 2⁶³ - 1 is not.
    let bound = -(i64::MIN as f64);
    (-bound <= value && value < bound).then_some(value as i64)
}

/// A tensor on a device. Cheap to clone: clones and views share the memory, which nothing here writes to.
#[derive(Clone)]
pub struct Tensor {
    device: Device,
    memory: Handle,
    /// Elements that `memory` has room for.
    capacity: usize,
    dtype: DType,
    start: usize,
    shape: Vec<usize>,
    strides: Vec<usize>,
    /// What has been found of its elements.
    found: Arc<KnownFacts>,
    /// What it was made of, if that was said.
    origin: Option<Origin>,
}

/// What a tensor was made of, as whoever made it knows it: [`Tensor::with_origin`].
pub type Origin = Arc<dyn Any + Send + Sync>;

/// What kernels have found of a captured tensor's elements, each once.
#[derive(Default)]
struct KnownFacts {
    /// The least and greatest element.
    values: OnceLock<(i64, i64)>,
    /// Whether they never decrease along the last dimension.
    sorted: OnceLock<bool>,
    /// Its summaries.
    summaries: Mutex<HashMap<Summary, Buffer>>,
}

impl Tensor {
    /// A contiguous tensor of `data` in row-major order. A `bool` or `u8` becomes a truth value, and an `i64` or `u32` an `i32`.
    ///
    /// # Errors
    /// [`Error::Length`] if `data` has not the shape's number of elements, [`Error::TooLarge`] above [`MAX_ELEMENTS`],
    /// [`Error::Wide`] for an integer that has no signed 32 bits,
    /// [`Error::UnsupportedType`] where the device lacks the type, [`Error::LargeBuffer`] where it has no buffers of that size.
    pub fn from_slice<T: TensorElement>(
        device: &Device,
        shape: impl Into<Vec<usize>>,
        data: &[T],
    ) -> Result<Tensor, Error> {
        let shape = shape.into();
        let elements = elements_of(&shape)?;
        if elements != data.len() {
            return Err(Error::Length { shape, expected: elements, given: data.len() });
        }
        let dtype = T::dtype(device);
        fits(device, dtype, &shape, "a tensor")?;
        let mut bytes = T::bytes(data, dtype).map_err(|unfit| wide(&shape, unfit))?;
        // An empty tensor still has a buffer to bind.
        bytes.resize(bytes.len().max(4), 0);
        let memory = device.client().create_from_slice(&bytes);
        Ok(Tensor::contiguous(device, memory, dtype, shape))
    }

    /// An uninitialized tensor for a kernel to write, called `what` in errors.
    pub(crate) fn empty(device: &Device, dtype: DType, shape: Vec<usize>, what: &str) -> Result<Tensor, Error> {
        fits(device, dtype, &shape, what)?;
        let bytes = elements_of(&shape)? * dtype.size();
        Ok(Tensor::contiguous(device, device.client().empty(bytes.max(4)), dtype, shape))
    }

    fn contiguous(device: &Device, memory: Handle, dtype: DType, shape: Vec<usize>) -> Tensor {
        let strides = contiguous_strides(&shape);
        // No length matters beside a 0.
        let capacity = if shape.contains(&0) { 0 } else { shape.iter().product() };
        Tensor {
            device: device.clone(),
            memory,
            capacity,
            dtype,
            start: 0,
            shape,
            strides,
            found: Arc::default(),
            origin: None,
        }
    }

    /// The tensor of a handle of cubecl's, without a copy: shape and strides (in elements) are the handle's. Only one of i64 is read, and
    /// copied to i32, which is what kernels have. The memory must not be written to while this tensor, or a clone of it, exists: what
    /// kernels found of a captured tensor's elements (their range, order and extremes) is kept with it. After a write, take a new tensor of
    /// the handle.
    ///
    /// # Errors
    /// [`Error::HandleType`] for an element type that is not one of [`DType`], [`Error::UnsupportedType`] for one that the device
    /// lacks (truth values are u32 where there are no bytes, as in WGSL), and [`Error::Wide`] for an integer that has no signed 32 bits;
    /// [`Error::OtherDevice`] for memory of another device;
    /// [`Error::LargeBuffer`] for more memory than a kernel can bind; and as [`Tensor::view`] where shape and strides reach too far.
    pub fn from_handle(device: &Device, handle: TensorHandle) -> Result<Tensor, Error> {
        let is_wide = handle.dtype == ElemType::Int(IntKind::I64);
        let Some(dtype) = DType::of(handle.dtype).or(is_wide.then_some(DType::I32)) else {
            return Err(Error::HandleType { given: handle.dtype.to_string() });
        };
        if handle.handle.service != device.client().service_id() {
            return Err(Error::OtherDevice {
                name: "handle".into(),
                given: format!("{:?}", handle.handle.service),
                expected: device.name().into(),
            });
        }
        if !device.stores(dtype) {
            return Err(Error::UnsupportedType { device: device.name().into(), dtype });
        }
        // A kernel binds all of the memory, also where the view is of a part.
        has_room(device, handle.handle.size_in_used(), || format!("the memory of a handle of {dtype}"))?;
        let shape: Vec<usize> = handle.shape().iter().copied().collect();
        let strides: Vec<usize> = handle.strides().iter().copied().collect();
        let tensor = Tensor {
            device: device.clone(),
            capacity: (handle.handle.size_in_used() as usize) / if is_wide { size_of::<i64>() } else { dtype.size() },
            memory: handle.handle.clone(),
            dtype,
            start: 0,
            shape: Vec::new(),
            strides: Vec::new(),
            found: Arc::default(),
            origin: None,
        };
        let tensor = tensor.view(0, shape, strides)?;
        if !is_wide {
            return Ok(tensor);
        }
        let bytes = device.client().read_one(tensor.memory.clone()).map_err(Error::execution)?;
        let mut integers = Vec::new();
        tensor.for_each_offset(|offset| integers.push(pod::<i64>(&bytes, offset)))?;
        Tensor::from_slice(device, tensor.shape, &integers)
    }

    /// The handle for cubecl, without a copy. A view that does not begin at its memory's start has none.
    ///
    /// # Errors
    /// [`Error::NotAtStart`] for such a view.
    pub fn into_handle(self) -> Result<TensorHandle, Error> {
        if self.start != 0 {
            return Err(Error::NotAtStart { start: self.start });
        }
        Ok(TensorHandle::new(self.memory, self.shape, self.strides, self.dtype.elem()))
    }

    /// A view of the same memory, beginning at element `start`, with other shape and strides (in elements). The stride of a dimension
    /// of length 1 means nothing, and neither does any number of a view without elements.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] where it reaches past the memory, [`Error::FarView`] where it reaches past [`MAX_ELEMENTS`], and
    /// [`Error::Rank`] where there is not a stride per dimension.
    pub fn view(
        &self,
        start: usize,
        shape: impl Into<Vec<usize>>,
        strides: impl Into<Vec<usize>>,
    ) -> Result<Tensor, Error> {
        let (shape, strides) = (shape.into(), strides.into());
        if shape.len() != strides.len() {
            return Err(Error::Rank { name: "strides".into(), expected: shape.len(), shape: strides });
        }
        elements_of(&shape)?;
        if !shape.contains(&0) {
            let reach = shape.iter().zip(&strides).try_fold(start, |reach, (&length, &stride)| {
                length.saturating_sub(1).checked_mul(stride).and_then(|step| reach.checked_add(step))
            });
            match reach {
                Some(reach) if reach >= self.capacity => {
                    return Err(Error::OutOfMemory { start, shape, strides, capacity: self.capacity });
                }
                Some(reach) if reach < MAX_ELEMENTS => {}
                _ => return Err(Error::FarView { start, shape, strides }),
            }
        }
        Ok(Tensor { start, shape, strides, found: Arc::default(), origin: None, ..self.clone() })
    }

    /// A view with dimension `axes[d]` in place d, without a copy: `[0, 2, 1, 3]` makes `[B, H, S, D]` of `[B, S, H, D]`.
    ///
    /// # Errors
    /// [`Error::Axes`] unless `axes` names each dimension once.
    pub fn permuted(&self, axes: impl Into<Vec<usize>>) -> Result<Tensor, Error> {
        let axes = axes.into();
        let mut sorted = axes.clone();
        sorted.sort_unstable();
        if sorted != (0..self.shape.len()).collect::<Vec<_>>() {
            return Err(Error::Axes { axes, shape: self.shape.clone() });
        }
        let pick = |from: &[usize]| axes.iter().map(|&axis| from[axis]).collect::<Vec<_>>();
        Ok(Tensor {
            shape: pick(&self.shape),
            strides: pick(&self.strides),
            found: Arc::default(),
            origin: None,
            ..self.clone()
        })
    }

    /// A view of `length` elements from `start` along dimension `axis`, without a copy.
    ///
    /// # Errors
    /// [`Error::Narrow`] where they are not inside.
    pub fn narrow(&self, axis: usize, start: usize, length: usize) -> Result<Tensor, Error> {
        let end = start.checked_add(length);
        match (self.shape.get(axis), end) {
            (Some(&whole), Some(end)) if end <= whole => {}
            _ => return Err(Error::Narrow { axis, start, length, shape: self.shape.clone() }),
        }
        let mut shape = self.shape.clone();
        shape[axis] = length;
        let start = self.start + if shape.contains(&0) { 0 } else { start * self.strides[axis] };
        Ok(Tensor { start, shape, found: Arc::default(), origin: None, ..self.clone() })
    }

    /// The same tensor, with what it was made of. Where it is captured, [`AttentionOver::take_origins`](crate::AttentionOver::take_origins)
    /// gives that back: so another library finds which of its own tensors an attention captures. Views of it have no origin.
    pub fn with_origin(self, origin: Origin) -> Tensor {
        Tensor { origin: Some(origin), ..self }
    }

    /// Takes what it was made of, if that was said.
    pub(crate) fn take_origin(&mut self) -> Option<Origin> {
        self.origin.take()
    }

    /// The device it is on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The length of each dimension.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Whether its rows, along the last dimension, are whole vectors of `lanes` elements and begin at multiples of that.
    pub(crate) fn is_in_vectors(&self, lanes: usize) -> bool {
        let (strides, Some(row)) = (self.steps(), self.shape.last()) else { return false };
        let Some((1, strides)) = strides.split_last() else { return false };
        strides.iter().chain([row, &self.start()]).all(|offset| offset.is_multiple_of(lanes))
    }

    /// The distance of neighbours along each dimension, in elements.
    pub fn strides(&self) -> &[usize] {
        &self.strides
    }

    /// The strides as kernels are given them, in 32 bits: of a dimension without a second index, 0, or 1 where it is the last. The others
    /// are inside the memory.
    pub(crate) fn steps(&self) -> Vec<usize> {
        let (last, empty) = (self.shape.len().saturating_sub(1), self.shape.contains(&0));
        let step = |(axis, (&length, &stride))| match length {
            _ if !empty && length > 1 => stride,
            _ => usize::from(axis == last),
        };
        self.shape.iter().zip(&self.strides).enumerate().map(step).collect()
    }

    /// It as a kernel reads it, with dimensions of length 1 behind those that it has, up to four. Each of its heads is read by `group` query
    /// heads, if it has heads of its own.
    pub(crate) fn operand(&self, group: Option<usize>) -> OperandData {
        let steps = self.steps();
        // The last stride is that of the elements of a row, of which there is one where there are fewer dimensions.
        let stride = |axis: usize| steps.get(axis).copied().unwrap_or(1);
        OperandData { buffer: self.buffer(), start: self.start(), strides: [0, 1, 2, 3].map(stride), group }
    }

    /// The type of its elements.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The offset of the first element, if there is one.
    pub(crate) fn start(&self) -> usize {
        if self.shape.contains(&0) { 0 } else { self.start }
    }

    pub(crate) fn is_on(&self, client: &Client) -> bool {
        self.device.client().service_id() == client.service_id()
    }

    /// The elements in row-major order, converted to `T`: to floats by rounding, to integers by cutting towards zero, and to truth values,
    /// `bool` and `u8`, by whether they are not 0. Waits for the kernels that write them.
    ///
    /// # Errors
    /// [`Error::Execution`] where one of those failed, and [`Error::Unread`] for an element that the integers of `T` do not reach: a
    /// negative one for `u32`, a NaN, an infinity.
    pub fn to_vec<T: TensorElement>(&self) -> Result<Vec<T>, Error> {
        let bytes = self.device.client().read_one(self.memory.clone()).map_err(Error::execution)?;
        let read = |at: usize| -> f64 {
            match self.dtype {
                DType::F32 => f64::from(pod::<f32>(&bytes, at)),
                DType::F16 => f64::from(pod::<f16>(&bytes, at)),
                DType::Bf16 => f64::from(pod::<bf16>(&bytes, at)),
                DType::I32 => f64::from(pod::<i32>(&bytes, at)),
                DType::U8 => f64::from(bytes[at]),
                DType::U32 => f64::from(pod::<u32>(&bytes, at)),
            }
        };
        let mut values = Vec::with_capacity(elements_of(&self.shape)?);
        let mut unread = None;
        self.for_each_offset(|offset| {
            let value = read(offset);
            match T::from_f64(value) {
                Some(value) => values.push(value),
                None => {
                    unread.get_or_insert((values.len(), value));
                }
            }
        })?;
        match unread {
            None => Ok(values),
            Some((place, value)) => Err(Error::Unread {
                dtype: self.dtype,
                shape: self.shape.clone(),
                index: index_of(&self.shape, place),
                value,
                element: T::NAME,
            }),
        }
    }

    /// Calls `visit` with the place in memory of each element, in row-major order.
    fn for_each_offset(&self, mut visit: impl FnMut(usize)) -> Result<(), Error> {
        let mut index = vec![0usize; self.shape.len()];
        for _ in 0..elements_of(&self.shape)? {
            let offset: usize = index.iter().zip(&self.strides).map(|(at, stride)| at * stride).sum();
            visit(self.start + offset);
            for axis in (0..index.len()).rev() {
                index[axis] += 1;
                if index[axis] < self.shape[axis] {
                    break;
                }
                index[axis] = 0;
            }
        }
        Ok(())
    }

    /// The elements for the reference and the analyses. Truth values are 0 or 1.
    pub(crate) fn to_host(&self) -> Result<HostTensor, Error> {
        let data = match self.dtype {
            DType::I32 => self.to_vec::<i32>()?.into_iter().map(f64::from).collect(),
            DType::U8 | DType::U32 => self.to_vec::<u8>()?.into_iter().map(f64::from).collect(),
            DType::F32 | DType::F16 | DType::Bf16 => self.to_vec::<f32>()?.into_iter().map(f64::from).collect(),
        };
        Ok(HostTensor { shape: self.shape.clone(), data })
    }

    /// The least and the greatest element of a tensor of integers, found once, on the device; `None` where it is empty.
    pub(crate) fn value_range(&self) -> Result<Option<(i64, i64)>, Error> {
        if self.shape.contains(&0) {
            return Ok(None);
        }
        if let Some(range) = self.found.values.get() {
            return Ok(Some(*range));
        }
        // Along two dimensions at most, so that no unit looks at more than a few thousand elements: some drivers end long loops.
        let rank = self.shape.len();
        let blocked = (0..rank).map(|dimension| dimension + 2 >= rank).collect();
        let everything = Summary { tensor: 0, blocked, links_keys: false };
        let extremes = self.read_blocks(&self.summary(&everything)?)?;
        let (least, greatest) = extremes.split_at(extremes.len() / 2);
        let least = least.iter().copied().min().map_or(0, i64::from);
        let greatest = greatest.iter().copied().max().map_or(0, i64::from);
        Ok(Some(*self.found.values.get_or_init(|| (least, greatest))))
    }

    /// Whether the integers never decrease along the last dimension, found once, on the device.
    pub(crate) fn is_sorted(&self) -> Result<bool, Error> {
        if self.shape.last().is_none_or(|length| *length < 2) || self.shape.contains(&0) {
            return Ok(true);
        }
        if let Some(sorted) = self.found.sorted.get() {
            return Ok(*sorted);
        }
        let numbers = emit::descents_of(&self.shape).shape(&self.shape).iter().product::<usize>() as u64;
        has_room(&self.device, 4 * numbers, || format!("what is found of the order of {self:?}"))?;
        let descents = emit::find_descents(self.device.client(), self.captured());
        let sorted = self.read_blocks(&descents)?.iter().all(|descent| *descent == 0);
        Ok(*self.found.sorted.get_or_init(|| sorted))
    }

    /// Its `summary` (whatever tensor that says it is of), found once, on the device. It must have an element.
    pub(crate) fn summary(&self, summary: &Summary) -> Result<Buffer, Error> {
        let bytes = summary.bytes(&self.shape) as u64;
        has_room(&self.device, bytes, || format!("the summary of {self:?}, by which tiles are decided,"))?;
        // A panic elsewhere cannot have left the map half written.
        let mut summaries = self.found.summaries.lock().unwrap_or_else(PoisonError::into_inner);
        let summarise = || emit::summarise(self.device.client(), self.captured(), summary);
        Ok(summaries.entry(Summary { tensor: 0, ..summary.clone() }).or_insert_with(summarise).clone())
    }

    fn read_blocks(&self, found: &Buffer) -> Result<Vec<i32>, Error> {
        let bytes = self.device.client().read_one(found.memory.clone()).map_err(Error::execution)?;
        Ok((0..found.length).map(|at| pod::<i32>(&bytes, at)).collect())
    }

    /// As what a kernel reads by index.
    pub(crate) fn captured(&self) -> CapturedData {
        CapturedData {
            buffer: self.buffer(),
            storage: match self.dtype {
                DType::I32 => Storage::I32,
                DType::U8 => Storage::U8,
                DType::U32 => Storage::U32,
                DType::F32 => Storage::F32,
                DType::F16 => Storage::F16,
                DType::Bf16 => Storage::Bf16,
            },
            start: self.start(),
            shape: self.shape.clone(),
            strides: self.steps(),
        }
    }

    /// Its memory.
    pub(crate) fn buffer(&self) -> Buffer {
        Buffer { memory: self.memory.clone(), length: self.capacity.max(1) }
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tensor({}{:?} on {})", self.dtype, self.shape, self.device.name())
    }
}

/// That an element of what is to be a tensor of `shape` has more than 32 bits.
fn wide(shape: &[usize], Unfit { place, value, element }: Unfit) -> Error {
    Error::Wide { shape: shape.to_vec(), element, index: index_of(shape, place), value }
}

/// The index of the element at `place` in row-major order.
fn index_of(shape: &[usize], mut place: usize) -> Vec<usize> {
    let mut index: Vec<usize> = shape.iter().rev().map(|length| (place % length, place /= length).0).collect();
    index.reverse();
    index
}

/// That `device` has elements of `dtype`, and buffers that hold a dense tensor of `shape`, called `what`.
fn fits(device: &Device, dtype: DType, shape: &[usize], what: &str) -> Result<(), Error> {
    if !device.stores(dtype) {
        return Err(Error::UnsupportedType { device: device.name().into(), dtype });
    }
    let bytes = elements_of(shape)? as u64 * dtype.size() as u64;
    has_room(device, bytes, || format!("{what} of shape {shape:?} in {dtype}"))
}

/// That `device` has buffers of `bytes`, which hold `what`.
pub(crate) fn has_room(device: &Device, bytes: u64, what: impl FnOnce() -> String) -> Result<(), Error> {
    let limit = device.capabilities().largest_buffer;
    if bytes <= limit {
        return Ok(());
    }
    Err(Error::LargeBuffer { what: what(), bytes, device: device.name().into(), limit })
}

/// Element `at` of `bytes` as `T`.
fn pod<T: bytemuck::AnyBitPattern>(bytes: &[u8], at: usize) -> T {
    let size = size_of::<T>();
    bytemuck::pod_read_unaligned(&bytes[at * size..(at + 1) * size])
}

/// The number of elements of `shape`.
pub(crate) fn elements_of(shape: &[usize]) -> Result<usize, Error> {
    let elements = shape.iter().try_fold(1usize, |product, &length| product.checked_mul(length));
    match elements {
        Some(elements) if elements <= MAX_ELEMENTS => Ok(elements),
        _ if shape.contains(&0) => Ok(0),
        _ => Err(Error::TooLarge { shape: shape.to_vec() }),
    }
}

/// The strides of a row-major tensor.
pub(crate) fn contiguous_strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1usize; shape.len()];
    for axis in (1..shape.len()).rev() {
        // Of a tensor without elements they mean nothing, and its other lengths may be anything.
        strides[axis - 1] = strides[axis].saturating_mul(shape[axis].max(1));
    }
    strides
}
