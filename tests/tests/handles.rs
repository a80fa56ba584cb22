//! Tensors from handles of cubecl's and back: the same memory, shape and strides, with no copy.

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
