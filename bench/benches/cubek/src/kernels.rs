//! What cubek-attention has for f32 queries, keys and values of any length: every routine of its newer family at every setting it
//! lists for the device and at some that it does not, and the unit routine of the older family.
//!
//! Left out is the older family's `BlackboxAccelerated`, which rounds to f16.

use cubecl::client::Client;
use cubecl::ir::{ElemType, FloatKind, UIntKind};
use cubecl::server::Handle;
use cubecl::std::tensor::TensorHandle;
use cubek_attention::forward::definition::{AccumulatorPrecision, AttentionGlobalTypes, AttentionOptions};
use cubek_attention::forward::launch::{BlueprintStrategy, Strategy, launch_ref};
use cubek_attention::kernels::{
    AttentionBlueprint, AttentionRoutine, AttentionScoring, AttentionTensors, AttentionVisibility,
    CubeShuffleAttentionRoutine, CubeStagedAttentionRoutine, HypercubeLastArrivalShuffleAttentionRoutine,
    HypercubeSecondLaunchFragmentAttentionRoutine, HypercubeSecondLaunchShuffleAttentionRoutine,
    PlaneFragmentAttentionRoutine, QueryPlacement, UnitAttentionRoutine, UnitAttentionRoutineSettings,
};
use cubek_matmul::kernels::tensor::PlainTensor;
use cubek_microkernel::attention::AttentionMicrokernel;
use cubek_microkernel::attention::unit::UnitAttentionMicrokernelSettings;
use cubek_std::Hardware;
use cubek_std::routine::Routine;
use std::num::NonZeroUsize;

/// Rows and keys of a unit that the unit routine does not list, and that are faster than those it does on CPUs.
const UNLISTED: [(usize, usize); 4] = [(2, 4), (4, 4), (4, 8), (8, 4)];

const F32: ElemType = ElemType::Float(FloatKind::F32);

/// The keys that a query sees.
#[derive(Clone, Copy, Debug)]
pub enum Visible {
    /// Every one.
    All,
    /// Its own and those before.
    Causal,
    /// Its own and so many less one before.
    Window(usize),
}

/// Queries, keys and values on a device, `[batch, heads, length, dim]`.
pub struct Operands {
    client: Client,
    shape: [usize; 4],
    visible: Visible,
    query: Handle,
    key: Handle,
    value: Handle,
    /// The length of each sequence of the batch.
    lengths: Handle,
}

impl Operands {
    /// Those with the elements `query`, `key` and `value`.
    ///
    /// # Errors
    /// A message where one of them has not the shape's number of elements.
    pub fn new(
        client: &Client,
        shape: [usize; 4],
        visible: Visible,
        query: &[f32],
        key: &[f32],
        value: &[f32],
    ) -> Result<Operands, String> {
        let elements: usize = shape.iter().product();
        let upload = |name: &str, data: &[f32]| {
            if data.len() != elements {
                return Err(format!(
                    "`{name}` has {} numbers, expected {elements} for the shape {shape:?}",
                    data.len()
                ));
            }
            Ok(client.create_from_slice(bytemuck::cast_slice(data)))
        };
        let lengths = vec![shape[2] as u32; shape[0]];
        Ok(Operands {
            client: client.clone(),
            shape,
            visible,
            query: upload("query", query)?,
            key: upload("key", key)?,
            value: upload("value", value)?,
            lengths: client.create_from_slice(bytemuck::cast_slice(&lengths)),
        })
    }

    fn tensor(&self, handle: &Handle) -> TensorHandle {
        TensorHandle::new_contiguous(self.shape, handle.clone(), F32)
    }
}

/// A kernel's launch, and what it gives: `[batch, heads, length, dim]`, or `[batch, length, heads, dim]`.
type Launch = Box<dyn Fn(&Operands) -> Result<TensorHandle, String>>;

/// A kernel of cubek-attention.
pub struct Kernel {
    /// What it is called there.
    pub name: String,
    launch: Launch,
    tokens_first: bool,
}

impl Kernel {
    /// Runs it to its end.
    ///
    /// # Errors
    /// A message where it can't run on the device.
    pub fn run(&self, operands: &Operands) -> Result<(), String> {
        // The output lives until the end, so that the allocator does not give its memory away.
        let output = (self.launch)(operands)?;
        cubecl::future::block_on(operands.client.sync()).map_err(|error| format!("{error:?}"))?;
        drop(output);
        Ok(())
    }

    /// Its output, `[batch, heads, length, dim]`.
    ///
    /// # Errors
    /// A message where it can't run on the device.
    pub fn output(&self, operands: &Operands) -> Result<Vec<f32>, String> {
        let output = (self.launch)(operands)?;
        let bytes = operands.client.read_one_unchecked_tensor(output.into_copy_descriptor());
        let numbers: Vec<f32> = bytemuck::pod_collect_to_vec(&bytes);
        if !self.tokens_first {
            return Ok(numbers);
        }
        let [batch, heads, length, dim] = operands.shape;
        let mut turned = Vec::with_capacity(numbers.len());
        for (b, h) in (0..batch).flat_map(|b| (0..heads).map(move |h| (b, h))) {
            for token in 0..length {
                let start = ((b * length + token) * heads + h) * dim;
                turned.extend_from_slice(&numbers[start..start + dim]);
            }
        }
        Ok(turned)
    }
}

/// Every kernel for the device of `client`.
pub fn all(client: &Client) -> Vec<Kernel> {
    let hardware = Hardware::from_client(client);
    let mut kernels = vec![older_unit()];
    add(&mut kernels, UnitAttentionRoutine, &hardware);
    let planes = UnitAttentionRoutineSettings::DEFAULT.planes;
    for (rows, keys) in UNLISTED {
        let microkernel = UnitAttentionMicrokernelSettings::new(rows, keys);
        kernels.push(kernel(UnitAttentionRoutine, &hardware, UnitAttentionRoutineSettings { microkernel, planes }));
    }
    add(&mut kernels, PlaneFragmentAttentionRoutine, &hardware);
    add(&mut kernels, CubeStagedAttentionRoutine, &hardware);
    add(&mut kernels, CubeShuffleAttentionRoutine, &hardware);
    add(&mut kernels, HypercubeLastArrivalShuffleAttentionRoutine::new(), &hardware);
    add(&mut kernels, HypercubeSecondLaunchShuffleAttentionRoutine::new(), &hardware);
    add(&mut kernels, HypercubeSecondLaunchFragmentAttentionRoutine, &hardware);
    kernels
}

/// `routine` at each of its settings.
fn add<M, SM, R>(kernels: &mut Vec<Kernel>, routine: R, hardware: &Hardware)
where
    M: AttentionMicrokernel,
    R: AttentionRoutine<M, SM> + Routine<Microkernel = M, Blueprint = AttentionBlueprint<M, SM>> + Copy + 'static,
    R::Settings: 'static,
{
    for settings in routine.settings(hardware) {
        kernels.push(kernel(routine, hardware, settings));
    }
}

/// `routine` with `settings`.
fn kernel<M, SM, R>(routine: R, hardware: &Hardware, settings: R::Settings) -> Kernel
where
    M: AttentionMicrokernel,
    R: AttentionRoutine<M, SM> + Routine<Microkernel = M, Blueprint = AttentionBlueprint<M, SM>> + Copy + 'static,
    R::Settings: 'static,
{
    let name = settings.to_string();
    let hardware = hardware.clone();
    let launch = move |operands: &Operands| {
        let plain = |handle: &Handle| PlainTensor::of_handle(operands.tensor(handle));
        let lengths =
            TensorHandle::new_contiguous([operands.shape[0]], operands.lengths.clone(), ElemType::UInt(UIntKind::U32));
        let queries = QueryPlacement::Last;
        let visibility = match operands.visible {
            Visible::All => AttentionVisibility::Attended,
            Visible::Causal => AttentionVisibility::Causal { queries },
            Visible::Window(window) => {
                let window = NonZeroUsize::new(window).ok_or("a window of 0 keys")?;
                AttentionVisibility::Windowed { window, queries }
            }
        };
        let tensors = AttentionTensors::new(
            &operands.client,
            plain(&operands.query),
            plain(&operands.key),
            plain(&operands.value),
            PlainTensor::of_handle(lengths),
            AttentionScoring::standard(visibility, operands.shape[3]),
        );
        let launched = tensors.and_then(|tensors| routine.launch_on(&hardware, tensors, &settings));
        launched.map_err(|refusal| refusal.to_string())
    };
    Kernel { name, launch: Box::new(launch), tokens_first: true }
}

/// The unit routine of the older family.
fn older_unit() -> Kernel {
    let launch = |operands: &Operands| {
        let [_, _, length, _] = operands.shape;
        let elements: usize = operands.shape.iter().product();
        let output = operands.tensor(&operands.client.empty(elements * size_of::<f32>()));
        let (causal, sliding_window) = match operands.visible {
            Visible::All => (false, None),
            Visible::Causal => (true, None),
            Visible::Window(window) => (true, Some(window.min(length) as u32)),
        };
        let binding = |handle: &Handle| operands.tensor(handle).binding();
        let types =
            AttentionGlobalTypes::from_single_float_dtype(F32, AttentionGlobalTypes::mask_dtype(&operands.client));
        let launched = launch_ref(
            Strategy::Unit(BlueprintStrategy::Inferred(())),
            &operands.client,
            binding(&operands.query),
            binding(&operands.key),
            binding(&operands.value),
            None,
            output.clone().binding(),
            &types,
            AttentionOptions { causal, sliding_window, accumulator_precision: AccumulatorPrecision::Loose },
        );
        launched.map(|()| output).map_err(|error| format!("{error:?}"))
    };
    Kernel { name: "forward unit".into(), launch: Box::new(launch), tokens_first: false }
}
