//! Tensors from handles of cubecl's and back: the same memory, shape and strides, with no copy.

use purview::cubecl::ir::{ElemType, UIntKind};
use purview::cubecl::server::Handle;
use purview::cubecl::std::tensor::TensorHandle;
use purview::prelude::*;
use purview_tests::devices;

fn memory(handle: &Handle) -> String {
    format!("{:?}", handle.memory)
}

#[test]
fn a_handle_becomes_a_tensor_and_a_tensor_a_handle() {
    let device = devices::cpu();
    let made = Tensor::from_slice(&device, [1, 3, 2, 4], &(0..24).map(|x| x as f32).collect::<Vec<_>>()).unwrap();
    device.sync().unwrap(); // memory has its place once it is written
    let handle: TensorHandle = made.permuted([0, 2, 1, 3]).unwrap().into_handle().unwrap();
    let before = memory(&handle.handle);

    let taken = Tensor::from_handle(&device, handle).unwrap();
    assert_eq!((taken.shape(), taken.strides()), ([1, 2, 3, 4].as_slice(), [24, 4, 8, 1].as_slice()));
    assert_eq!(taken.to_vec::<f32>().unwrap()[4..8], [8.0, 9.0, 10.0, 11.0]);
    assert_eq!(memory(&taken.into_handle().unwrap().handle), before);
}

#[test]
fn a_handle_of_another_device_is_refused() {
    let cpu = devices::cpu();
    let Some(wgpu) = devices::wgpu("a_handle_of_another_device_is_refused") else { return };
    let handle = Tensor::from_slice(&cpu, [2], &[1.0f32, 2.0]).unwrap().into_handle().unwrap();
    assert!(matches!(Tensor::from_handle(&wgpu, handle), Err(Error::OtherDevice { .. })));
}

/// Query i sees key j if the graph has that edge.
#[attention]
fn edges(q: Query, k: Key, v: Value, graph: Tensor<bool, 2>) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push(mask(dot(q[i], k[j]) * scale(), graph[i][j]), v[j]);
        }
        o
    }
}

#[test]
fn truth_values_of_all_ones() {
    let device = devices::cpu();
    // Half of the edges, in every block of 64: as 0 and 0xffff_ffff, and as the 0 and 1 that are made from a slice.
    let edge = |at: usize| (at / 128 + at % 128).is_multiple_of(2);
    let bytes: Vec<u8> = (0..128 * 128).flat_map(|at| if edge(at) { [0xff; 4] } else { [0; 4] }).collect();
    let memory = device.client().create_from_slice(&bytes);
    let handle = TensorHandle::new(memory, vec![128, 128], vec![128, 1], ElemType::UInt(UIntKind::U32));
    let ones = Tensor::from_handle(&device, handle).unwrap();
    let slice = Tensor::from_slice(&device, [128, 128], &(0..128 * 128).map(edge).collect::<Vec<bool>>()).unwrap();
    let x =
        Tensor::from_slice(&device, [1, 1, 128, 2], &(0..256).map(|at| at as f32 / 64.0).collect::<Vec<_>>()).unwrap();
    let [found, want] =
        [ones, slice].map(|graph| edges(&graph).run(&device, &x, &x, &x).unwrap().to_vec::<f32>().unwrap());
    assert_eq!(found, want);
}
