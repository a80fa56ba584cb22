//! What a caller asks for.

use crate::device::Device;
use crate::dtype::DType;
use crate::error::Error;
use crate::schedule::Schedule;
use crate::tensor::Tensor;
use purview_compiler::eval::HostTensor;
use purview_compiler::ir::Kept;
use purview_compiler::spec::{ScalarValue, Spec, TensorType};
use std::sync::{Arc, Mutex, PoisonError};

/// A variant with the values of its scalars and captured tensors, and what a caller sets beyond them.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub spec: Arc<Spec>,
    /// In the order of the signature.
    pub scalars: Vec<ScalarValue>,
    /// In the order of the signature.
    pub tensors: Vec<Tensor>,
    /// `scale()`; [1/√D](purview_compiler::lower::scaled_dim) if `None`.
    pub scale: Option<f32>,
    /// The first query's position; the last set's `offset + T − S` if `None`.
    pub query_offset: Option<i64>,
    /// The first key's position of each set; 0 where there is none.
    pub key_offsets: Vec<i64>,
    /// The schedule; chosen from the device if `None`.
    pub schedule: Option<Schedule>,
    /// Which numbers of each row a launch gives beside the output, of a softmax.
    pub kept: Kept,
}

/// A request for a launch on a device, with the tensors that it is of.
#[derive(Clone, Copy)]
pub(crate) struct Call<'a> {
    pub request: &'a Request,
    pub device: &'a Device,
    /// What lies along queries and keys, in the order of the signature.
    pub operands: &'a [&'a Tensor],
    /// Where the kernel counts the tiles that it visits, if it does.
    pub counters: Option<&'a Tensor>,
}

impl Request {
    /// A variant with values for its parameters, and nothing set beyond them.
    pub fn new(spec: Arc<Spec>, scalars: Vec<ScalarValue>, tensors: Vec<Tensor>) -> Request {
        let spec = spec_as_given(spec, &tensors);
        let (scale, query_offset, key_offsets, schedule) = (None, None, Vec::new(), None);
        Request { spec, scalars, tensors, scale, query_offset, key_offsets, schedule, kept: Kept::default() }
    }

    /// The same, of which a launch gives these numbers of each row.
    pub fn keeping(&self, kept: Kept) -> Request {
        Request { kept, ..self.clone() }
    }

    /// Its captured tensors on the host.
    pub fn host_tensors(&self) -> Result<Vec<HostTensor>, Error> {
        self.tensors.iter().map(Tensor::to_host).collect()
    }
}

/// A specification, the types that its captured tensors are given in, and the specification with those.
type AsGiven = (Arc<Spec>, Vec<TensorType>, Arc<Spec>);

/// `spec`, with the types of captured tensors of floats that are given in 16 bits: kernels read those as they are. It is the same
/// specification for the same types, so that programs are found without comparing it.
fn spec_as_given(spec: Arc<Spec>, tensors: &[Tensor]) -> Arc<Spec> {
    static KNOWN: Mutex<Vec<AsGiven>> = Mutex::new(Vec::new());
    let given = |(declared, tensor): (TensorType, &Tensor)| match (declared, tensor.dtype()) {
        (TensorType::F32, DType::F16) => TensorType::F16,
        (TensorType::F32, DType::Bf16) => TensorType::Bf16,
        _ => declared,
    };
    // Of another number than it takes nothing is said here, as of other types.
    let types: Vec<TensorType> = spec.tensors.iter().map(|param| param.ty).zip(tensors).map(given).collect();
    if spec.tensors.iter().zip(&types).all(|(param, ty)| param.ty == *ty) {
        return spec;
    }
    // A panic elsewhere cannot have left it half written.
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((.., found)) = known.iter().find(|(of, given, _)| Arc::ptr_eq(of, &spec) && *given == types) {
        return found.clone();
    }
    let mut changed = Spec::clone(&spec);
    changed.tensors.iter_mut().zip(&types).for_each(|(param, ty)| param.ty = *ty);
    let changed = Arc::new(changed);
    known.push((spec, types, changed.clone()));
    changed
}
