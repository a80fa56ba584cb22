//! The operations that burn is extended by, for each of its backends: CubeCL's, which runs them, and those around it.
//!
//! Around CubeCL's backend there may be burn's fusion, and around that its autodiff. burn's macro makes of [`PurviewOps`] the choice between
//! them. What such an operation returns must be tensors, so whatever else comes of it (an error, or what a backward pass needs) is left in a
//! place that the caller gives with the arguments.

use crate::error::Error;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, NodeGuard, Ops, OpsKind};
use burn::backend::tensor::{BoolTensor, FloatTensor, IntTensor};
use burn::backend::{Autodiff, Backend, TensorMetadata, backend_extension};
use burn::tensor::DType;
use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;
use burn_fusion::custom::{CustomOpIr, HandleContainer, Operation, OperationIr, StreamId, TensorId, TensorIr};
use burn_fusion::{Client, ExecutionError, Fusion, FusionBackend, FusionHandle, FusionRuntime, FusionTensor};
use purview::{AnyAttention, Device, Origin, Saved, Tensor};
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Where an operation leaves what is no tensor of burn's.
#[derive(Debug)]
pub struct Outcome<T>(Arc<OnceLock<Result<T, Error>>>);

impl<T> Outcome<T> {
    /// A place with nothing in it.
    pub fn new() -> Outcome<T> {
        Outcome(Arc::new(OnceLock::new()))
    }

    fn leave(&self, result: Result<T, Error>) {
        assert!(self.0.set(result).is_ok(), "an operation has one outcome");
    }
}

impl<T: Clone> Outcome<T> {
    /// What the operation left, which has run.
    pub fn get(&self) -> Result<T, Error> {
        self.0.get().expect("an operation that has run left its outcome").clone()
    }
}

impl<T> Clone for Outcome<T> {
    fn clone(&self) -> Outcome<T> {
        Outcome(self.0.clone())
    }
}

/// What an attention is asked for besides its tensors.
#[derive(Clone, Debug)]
pub struct Call {
    /// The variant.
    pub attention: AnyAttention,
    /// Whether a backward pass may follow.
    pub saves: bool,
    /// What that needs, if so.
    pub outcome: Outcome<Option<Saved>>,
}

/// What burn is extended by. (The macro knows a tensor by the spelling `FloatTensor<Self>`.)
#[backend_extension(Cube, Autodiff)]
pub trait PurviewOps: Backend {
    /// The output of an attention; any tensor where it is refused.
    fn purview_attention(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        call: Call,
    ) -> FloatTensor<Self>;

    /// Leaves `tensor` as one of Purview's, and returns it.
    fn purview_share_float(tensor: FloatTensor<Self>, outcome: Outcome<Tensor>) -> FloatTensor<Self>;

    /// Leaves `tensor` as one of Purview's, and returns it.
    fn purview_share_int(tensor: IntTensor<Self>, outcome: Outcome<Tensor>) -> IntTensor<Self>;

    /// Leaves `tensor` as one of Purview's, and returns it.
    fn purview_share_bool(tensor: BoolTensor<Self>, outcome: Outcome<Tensor>) -> BoolTensor<Self>;
}

/// The backward pass, of a backend below autodiff.
pub trait PurviewBackward: Backend {
    /// The gradients that are wanted.
    fn purview_backward(d_out: FloatTensor<Self>, pass: Pass) -> Vec<Option<FloatTensor<Self>>>;
}

/// A backward pass.
#[derive(Clone, Debug)]
pub struct Pass {
    saved: Saved,
    /// For each parent of its node, what that is called in the signature, if its gradient is wanted.
    wanted: Vec<Option<String>>,
}

// CubeCL's backend.

impl PurviewOps for CubeBackend {
    fn purview_attention(query: CubeTensor, key: CubeTensor, value: CubeTensor, call: Call) -> CubeTensor {
        match run(&query, &key, &value, &call) {
            Ok((output, saved)) => {
                call.outcome.leave(Ok(saved));
                output
            }
            Err(error) => {
                call.outcome.leave(Err(error));
                query
            }
        }
    }

    fn purview_share_float(tensor: CubeTensor, outcome: Outcome<Tensor>) -> CubeTensor {
        outcome.leave(shared(&device(&tensor), &tensor, "a captured tensor"));
        tensor
    }

    fn purview_share_int(tensor: CubeTensor, outcome: Outcome<Tensor>) -> CubeTensor {
        Self::purview_share_float(tensor, outcome)
    }

    fn purview_share_bool(tensor: CubeTensor, outcome: Outcome<Tensor>) -> CubeTensor {
        Self::purview_share_float(tensor, outcome)
    }
}

impl PurviewBackward for CubeBackend {
    fn purview_backward(d_out: CubeTensor, pass: Pass) -> Vec<Option<CubeTensor>> {
        let gradients = || -> Result<Vec<_>, Error> {
            let names: Vec<&str> = pass.wanted.iter().flatten().map(String::as_str).collect();
            let d_out_shared = shared(&device(&d_out), &d_out, "the gradient of the output")?;
            let gradients = pass.saved.only(&names)?.backward(&d_out_shared)?;
            let of = |name: &Option<String>| name.as_ref().and_then(|name| gradients.of(name)).cloned();
            pass.wanted.iter().map(|name| of(name).map(|tensor| owned(&d_out, tensor)).transpose()).collect()
        };
        // burn's backward pass returns no error. What can be refused was, in the forward pass.
        gradients().unwrap_or_else(|error| panic!("the gradients of an attention: {error}"))
    }
}

/// The output of an attention, and what its backward pass needs if it is asked for.
fn run(
    query: &CubeTensor,
    key: &CubeTensor,
    value: &CubeTensor,
    call: &Call,
) -> Result<(CubeTensor, Option<Saved>), Error> {
    let device = device(query);
    let (q, k, v) =
        (shared(&device, query, "the query")?, shared(&device, key, "the key")?, shared(&device, value, "the value")?);
    // Autodiff has taken those of its own.
    if call.attention.clone().take_origins().iter().any(Option::is_some) {
        return Err(Error::CapturedGradient);
    }
    let operands = call.attention.in_order(&q, &[(&k, &v)])?;
    let (output, saved) = if call.saves {
        let (output, saved) = call.attention.run_operands_with_gradients(&device, &operands)?;
        (output, Some(saved))
    } else {
        (call.attention.run_operands(&device, &operands)?, None)
    };
    Ok((owned(query, output)?, saved))
}

/// Purview's device of a tensor's client. What it knows of a device is asked of the device once.
fn device(tensor: &CubeTensor) -> Device {
    static KNOWN: Mutex<Vec<Device>> = Mutex::new(Vec::new());
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let service = tensor.client.service_id();
    if let Some(device) = known.iter().find(|device| device.client().service_id() == service) {
        return device.clone();
    }
    let device = Device::from_client(tensor.client.clone());
    known.push(device.clone());
    device
}

/// A tensor of burn's as one of Purview's: the same memory. burn writes to no memory that someone else also holds.
fn shared(device: &Device, tensor: &CubeTensor, what: &'static str) -> Result<Tensor, Error> {
    if tensor.qparams.is_some() || tensor.meta.is_tiled() {
        return Err(Error::Stored { what, dtype: tensor.dtype });
    }
    Ok(Tensor::from_handle(device, tensor.clone().into())?)
}

/// A tensor of Purview's as one of burn's, on the device of `like`: the same memory.
fn owned(like: &CubeTensor, tensor: Tensor) -> Result<CubeTensor, Error> {
    let dtype = match tensor.dtype() {
        purview::DType::F16 => DType::F16,
        purview::DType::Bf16 => DType::BF16,
        // Outputs and gradients are of floats.
        _ => DType::F32,
    };
    let handle = tensor.into_handle()?;
    Ok(CubeTensor::new(like.client.clone(), handle.handle, *handle.metadata, like.device.clone(), dtype))
}

// burn's fusion: what it has queued is run first, so that whether an attention is refused is known when the call returns. An operation that
// is not burn's own ends what is fused in any case.

impl<B: FusionBackend + PurviewOps> PurviewOps for Fusion<B> {
    fn purview_attention(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        call: Call,
    ) -> FloatTensor<Self> {
        let client = query.client.clone();
        let [query, key, value] = [query, key, value].map(resolve::<B>);
        // Where fusion runs its own: on one stream of the device, whose memory is then used again.
        let output = client.sync(move || B::purview_attention(query, key, value, call));
        enqueue::<B>(&client, output)
    }

    fn purview_share_float(tensor: FloatTensor<Self>, outcome: Outcome<Tensor>) -> FloatTensor<Self> {
        B::purview_share_float(resolve::<B>(tensor.clone()), outcome);
        tensor
    }

    fn purview_share_int(tensor: IntTensor<Self>, outcome: Outcome<Tensor>) -> IntTensor<Self> {
        let client = tensor.client.clone();
        B::purview_share_int(client.resolve_tensor_int::<B>(tensor.clone()), outcome);
        tensor
    }

    fn purview_share_bool(tensor: BoolTensor<Self>, outcome: Outcome<Tensor>) -> BoolTensor<Self> {
        let client = tensor.client.clone();
        B::purview_share_bool(client.resolve_tensor_bool::<B>(tensor.clone()), outcome);
        tensor
    }
}

impl<B: FusionBackend + PurviewBackward> PurviewBackward for Fusion<B> {
    fn purview_backward(d_out: FloatTensor<Self>, pass: Pass) -> Vec<Option<FloatTensor<Self>>> {
        let client = d_out.client.clone();
        let d_out = resolve::<B>(d_out);
        let gradients = client.sync(move || B::purview_backward(d_out, pass));
        gradients.into_iter().map(|gradient| gradient.map(|gradient| enqueue::<B>(&client, gradient))).collect()
    }
}

/// The tensor that fusion's stands for, once what makes it is run.
fn resolve<B: FusionBackend>(tensor: FusionTensor<B::FusionRuntime>) -> FloatTensor<B> {
    let client = tensor.client.clone();
    client.resolve_tensor_float::<B>(tensor)
}

/// A tensor for fusion that stands for one that is there: the output of an operation that only hands it out.
fn enqueue<B: FusionBackend>(
    client: &Client<B::FusionRuntime>,
    tensor: FloatTensor<B>,
) -> FusionTensor<B::FusionRuntime> {
    let output = TensorIr::uninit(client.create_empty_handle(), tensor.shape(), tensor.dtype());
    let operation = OperationIr::Custom(CustomOpIr::new("purview_output", &[], std::slice::from_ref(&output)));
    let handed = Handed { id: output.id, handle: Mutex::new(B::float_tensor_handle(tensor)) };
    client.register(StreamId::current(), operation, handed).remove(0)
}

/// An operation without inputs whose output is there.
struct Handed<H> {
    id: TensorId,
    /// An operation is `Sync`, which not every handle is.
    handle: Mutex<H>,
}

impl<H> fmt::Debug for Handed<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Handed({:?})", self.id)
    }
}

impl<R: FusionRuntime> Operation<R> for Handed<FusionHandle<R>> {
    fn execute(&self, handles: &mut HandleContainer<FusionHandle<R>>) -> Result<(), ExecutionError> {
        let handle = self.handle.lock().unwrap_or_else(PoisonError::into_inner).clone();
        handles.register_handle(self.id, handle);
        Ok(())
    }
}

// burn's autodiff.

impl<B: PurviewOps + PurviewBackward, C: CheckpointStrategy> PurviewOps for Autodiff<B, C> {
    fn purview_attention(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        mut call: Call,
    ) -> FloatTensor<Self> {
        // What is saved keeps no origins: a graph that holds its own tensors would never be freed.
        let captured: Vec<Option<FloatTensor<Self>>> =
            call.attention.take_origins().into_iter().map(|origin| tracked::<B, C>(&origin?)).collect();
        let found = captured.iter().flatten().count();
        if found > MOST_CAPTURED {
            call.outcome.leave(Err(Error::CapturedGradients { found, most: MOST_CAPTURED }));
            return query;
        }
        let wanted = [&query, &key, &value].map(|tensor| tensor.is_tracked());
        call.saves = wanted.contains(&true) || captured.iter().any(Option::is_some);
        let [query, key, value] = [query, key, value].map(|tensor| tensor.into_parts());
        let output = B::purview_attention(query.0, key.0, value.0, call.clone());
        let Ok(saved) = call.outcome.get() else { return FloatTensor::<Self>::new(output) };
        let spec = call.attention.spec();
        let (of_query, pairs) = spec.pairs().expect("an attention that ran on queries, keys and values has them");
        let places = [of_query, pairs[0].0, pairs[0].1];
        let operands = places.iter().zip(wanted).map(|(place, wanted)| (&spec.operands[*place].name, wanted));
        let tensors = spec.tensors.iter().zip(&captured).filter(|(_, tensor)| tensor.is_some());
        let names = operands.chain(tensors.map(|(param, _)| (&param.name, true)));
        let node = Node {
            parents: [query.1, key.1, value.1]
                .into_iter()
                .chain(captured.iter().flatten().map(|tensor| tensor.node()))
                .collect(),
            wanted: names.map(|(name, wanted)| wanted.then(|| name.clone())).collect(),
            saved,
        };
        match found {
            0 => node.finish::<B, C, 3>(output),
            1 => node.finish::<B, C, 4>(output),
            2..=4 => node.finish::<B, C, 7>(output),
            _ => node.finish::<B, C, { 3 + MOST_CAPTURED }>(output),
        }
    }

    fn purview_share_float(tensor: FloatTensor<Self>, outcome: Outcome<Tensor>) -> FloatTensor<Self> {
        if !tensor.is_tracked() {
            B::purview_share_float(tensor.primitive().clone(), outcome);
            return tensor;
        }
        let below = Outcome::new();
        B::purview_share_float(tensor.primitive().clone(), below.clone());
        // `purview_attention` finds it again: it is a parent of the attention's node.
        outcome.leave(below.get().map(|shared| shared.with_origin(Arc::new(tensor.clone()))));
        tensor
    }

    fn purview_share_int(tensor: IntTensor<Self>, outcome: Outcome<Tensor>) -> IntTensor<Self> {
        B::purview_share_int(tensor, outcome)
    }

    fn purview_share_bool(tensor: BoolTensor<Self>, outcome: Outcome<Tensor>) -> BoolTensor<Self> {
        B::purview_share_bool(tensor, outcome)
    }
}

/// So many captured tensors may require a gradient in one attention: the parents of a node of burn's are of a number that is known when it is
/// compiled.
const MOST_CAPTURED: usize = 16;

/// The tensor that `captured` was given.
fn tracked<B: Backend, C: CheckpointStrategy>(origin: &Origin) -> Option<FloatTensor<Autodiff<B, C>>> {
    origin.downcast_ref::<FloatTensor<Autodiff<B, C>>>().cloned()
}

/// What a node of an attention in burn's graph is made of.
struct Node {
    /// Queries, keys, values, and the captured tensors that require a gradient.
    parents: Vec<NodeGuard>,
    /// What each is called in the signature, of those that are wanted.
    wanted: Vec<Option<String>>,
    saved: Option<Saved>,
}

impl Node {
    /// `output` as the node's, which has N parents: what it lacks of those is filled up with tensors that want nothing.
    fn finish<B, C, const N: usize>(self, output: FloatTensor<B>) -> FloatTensor<Autodiff<B, C>>
    where
        B: PurviewBackward,
        C: CheckpointStrategy,
    {
        let Node { parents, wanted, saved } = self;
        let mut parents = parents.into_iter();
        let parents: [NodeGuard; N] = std::array::from_fn(|_| match parents.next() {
            Some(parent) => parent,
            None => FloatTensor::<Autodiff<B, C>>::new(output.clone()).node(),
        });
        match Attended.prepare::<C>(parents).compute_bound().stateful() {
            OpsKind::UnTracked(step) => step.finish(output),
            OpsKind::Tracked(step) => {
                let saved = saved.expect("a call that saves leaves what it saved");
                step.finish(Pass { saved, wanted }, output)
            }
        }
    }
}

/// The node of an attention in burn's graph.
#[derive(Debug)]
struct Attended;

impl<B: PurviewBackward, const N: usize> Backward<B, N> for Attended {
    type State = Pass;

    fn backward(self, ops: Ops<Pass, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let d_out = grads.consume::<B>(&ops.node);
        for (parent, gradient) in ops.parents.into_iter().zip(B::purview_backward(d_out, ops.state)) {
            if let (Some(node), Some(gradient)) = (parent, gradient) {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}
