//! What a caller asks for.

use crate::device::Device;
use crate::error::Error;
use crate::schedule::Schedule;
use crate::tensor::Tensor;
use purview_compiler::eval::HostTensor;
use purview_compiler::ir::Kept;
use purview_compiler::spec::{ScalarValue, Spec};
use std::sync::Arc;

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
