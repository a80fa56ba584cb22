//! The tiles that kernels visit, as they count them themselves, against the report; and what kernels find of captured tensors.

use purview::cubecl::ir::{ElemType, UIntKind};
use purview::cubecl::std::tensor::TensorHandle;
use purview::prelude::*;
use purview::schedule::{CpuSchedule, SMALL_CUBE, Schedule};
use purview::spec::TensorType;
use purview::{AnyAttention, Arguments};
use purview_cli::golden::{Errors, relative_error};
use purview_examples::GALLERY;
use purview_tests::compare::{Failures, tolerance};
use purview_tests::devices;
use purview_tests::numbers::Numbers;
use purview_tests::predicates::{EXACT, SOUND, case};
use std::sync::Arc;

/// A schedule with small tiles for `device`.
fn small(device: &Device) -> Schedule {
    match device.name() {
        "cpu" => Schedule::Cpu(CpuSchedule::new(8, 2, 16, 4)),
        _ => Schedule::Cube(SMALL_CUBE),
    }
}

/// Runs `attention`, and checks that it visits the tiles of the report and gives what the reference gives.
fn check(what: &str, attention: &AnyAttention, device: &Device, shape: &Shape, failures: &mut Failures) {
    let operands = Numbers::new(5).all_operands(device, attention, shape).unwrap();
    let operands: Vec<&Tensor> = operands.iter().collect();

    let what = format!("{} {what}", device.name());
    let (out, counted) =
        attention.run_operands_counting(device, &operands).unwrap_or_else(|error| panic!("{what}: {error}"));
    let report = attention.report(shape).unwrap();
    for (counted, reported) in counted.iter().zip(&report.loops) {
        let tiles = reported.tiles;
        let text = format!("{what}: {counted:?}, reported {tiles:?}\n{report}");
        failures.expect(&text, (counted.visited, counted.full) == (tiles.visited, tiles.full));
    }
    let want = attention.reference_operands(&operands).unwrap();
    let error = relative_error(&out.to_vec::<f32>().unwrap(), &want.out.data);
    let errors = Errors { out: error, lse: None };
    failures.check(&what, Ok::<_, Error>(errors), &Errors { lse: None, ..tolerance(shape.element) });
}

fn check_gallery(device: &Device, shape: &Shape) {
    let mut failures = Failures::default();
    for variant in GALLERY {
        let attention = (variant.make)(&Arguments::new(device.clone(), shape.clone())).unwrap();
        check(variant.name, &attention.with_schedule(small(device)), device, shape, &mut failures);
    }
    failures.report();
}

/// Every `step`th predicate, with queries at positions 7 to 59 and keys at 0 to 59.
fn check_predicates(device: &Device, step: usize) {
    let mut failures = Failures::default();
    for (name, text) in EXACT.iter().chain(SOUND).step_by(step) {
        let case = case(text);
        let tensors = case.tensors.iter().zip(&case.spec.tensors).map(|(host, param)| match param.ty {
            TensorType::F32 | TensorType::F16 | TensorType::Bf16 => {
                let data: Vec<f32> = host.data.iter().map(|element| *element as f32).collect();
                Tensor::from_slice(device, host.shape.clone(), &data).unwrap()
            }
            TensorType::I32 => {
                let data: Vec<i32> = host.data.iter().map(|element| *element as i32).collect();
                Tensor::from_slice(device, host.shape.clone(), &data).unwrap()
            }
            TensorType::Bool => {
                let data: Vec<bool> = host.data.iter().map(|element| *element != 0.0).collect();
                Tensor::from_slice(device, host.shape.clone(), &data).unwrap()
            }
        });
        let tensors = tensors.collect();
        let attention = Attention::<1>::new(Arc::new(case.spec), case.scalars, tensors);
        let attention = attention.with_schedule(small(device)).with_query_offset(7).into();
        check(name, &attention, device, &Shape::new(2, 4, 60, 8).with_kv_heads(2).with_queries(53), &mut failures);
    }
    failures.report();
}

#[test]
fn the_gallery_on_the_cpu() {
    check_gallery(&devices::cpu(), &Shape::new(2, 4, 200, 8).with_kv_heads(2).with_queries(150));
}

#[test]
fn the_gallery_on_wgpu() {
    if let Some(device) = devices::wgpu("the_gallery_on_wgpu") {
        check_gallery(&device, &Shape::new(2, 4, 150, 8).with_kv_heads(2));
    }
}

#[test]
fn predicates_on_the_cpu() {
    check_predicates(&devices::cpu(), 3);
}

#[test]
fn predicates_on_wgpu() {
    if let Some(device) = devices::wgpu("predicates_on_wgpu") {
        check_predicates(&device, 8);
    }
}

/// Query and key have the same tag.
#[attention]
fn tagged(q: Query, k: Key, v: Value, tag: Tensor<i32, 2>) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push(mask(dot(q[i], k[j]) * scale(), tag[batch()][i] == tag[batch()][j]), v[j]);
        }
        o
    }
}

/// As `tagged`, where tags never decrease.
#[attention]
fn tagged_in_order(q: Query, k: Key, v: Value, #[sorted] tag: Tensor<i32, 2>) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push(mask(dot(q[i], k[j]) * scale(), tag[batch()][i] == tag[batch()][j]), v[j]);
        }
        o
    }
}

/// As `tagged_in_order`, on the caller's word.
#[attention]
fn tagged_on_trust(q: Query, k: Key, v: Value, #[sorted(unchecked)] tag: Tensor<i32, 2>) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push(mask(dot(q[i], k[j]) * scale(), tag[batch()][i] == tag[batch()][j]), v[j]);
        }
        o
    }
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

fn all_devices(test: &str) -> impl Iterator<Item = Device> {
    std::iter::once(devices::cpu()).chain(devices::wgpu(test))
}

#[test]
fn captured_tensors_rule_tiles_out() {
    for device in all_devices("captured_tensors_rule_tiles_out") {
        let mut failures = Failures::default();
        let shape = Shape::new(2, 1, 512, 8);
        // Four tags a batch of 128 positions each; those of the second batch come in another order.
        let order = [[0, 1, 2, 3], [2, 0, 3, 1]];
        let tags: Vec<i32> = (0..1024).map(|at| order[at / 512][at % 512 / 128]).collect();
        let tags = Tensor::from_slice(&device, [2, 512], &tags).unwrap();
        let attention: AnyAttention = tagged(&tags).with_schedule(small(&device)).into();
        check("tagged", &attention, &device, &shape, &mut failures);
        let report = attention.report(&shape).unwrap();
        assert_eq!(report.tiles.visited * 4, report.tiles.total, "{report}");
        assert_eq!(report.tiles.full, report.tiles.visited, "{report}");

        let sorted: Vec<i32> = (0..1024).map(|at| at % 512 / 100).collect();
        let sorted = Tensor::from_slice(&device, [2, 512], &sorted).unwrap();
        for attention in [tagged_in_order(&sorted), tagged_on_trust(&sorted)] {
            let attention = attention.with_schedule(small(&device)).into();
            check("tagged in order", &attention, &device, &shape, &mut failures);
        }

        // Edges within blocks of 64, but for the second block, which has none.
        let graph: Vec<bool> = (0..512 * 512).map(|at| at / 512 / 64 == at % 512 / 64 && at / 512 / 64 != 1).collect();
        let graph = Tensor::from_slice(&device, [512, 512], &graph).unwrap();
        let attention: AnyAttention = edges(&graph).with_schedule(small(&device)).into();
        check("edges", &attention, &device, &shape, &mut failures);
        let report = attention.report(&shape).unwrap();
        assert_eq!((report.tiles.visited * 64, report.tiles.full), (report.tiles.total * 7, report.tiles.visited));
        failures.report();
    }
}

#[test]
fn what_is_found_of_a_tensor_is_not_that_of_its_views() {
    let device = Device::cpu().unwrap();
    let mut failures = Failures::default();
    // Sorted along the first dimension, not along the second.
    let across = Tensor::from_slice(&device, [2, 2], &[3, 1, 4, 2]).unwrap();
    let along = across.permuted([1, 0]).unwrap();
    let one = Tensor::from_slice(&device, [2, 1, 2, 1], &[1.0f32; 4]).unwrap();
    let message = "`tag` of shape [2, 2] is declared `#[sorted]`, but an element of it is less than the one before it along \
                   the last dimension";
    let refused = tagged_in_order(&across).run(&device, &one, &one, &one);
    assert_eq!(refused.err().map(|error| error.to_string()).as_deref(), Some(message));
    assert!(tagged_on_trust(&across).run(&device, &one, &one, &one).is_ok());
    let shape = Shape::new(2, 1, 2, 1);
    check("a view", &tagged_in_order(&along).into(), &device, &shape, &mut failures);
    for start in [0, 1] {
        let row = across.narrow(1, start, 1).unwrap();
        let short = Shape::new(2, 1, 1, 1);
        check("a narrow view", &tagged_in_order(&row).into(), &device, &short, &mut failures);
    }
    failures.report();
}

/// Query and key are less than `distance` apart, the query after the key.
#[attention]
fn nearer(q: Query, k: Key, v: Value, distance: i32) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push(mask(dot(q[i], k[j]) * scale(), i - j < distance), v[j]);
        }
        o
    }
}

#[test]
fn a_launch_is_not_refused_for_what_decides_of_tiles() {
    let device = devices::cpu();
    let mut failures = Failures::default();
    // `i0 - distance` leaves 32 bits, `i - j < distance` does not.
    for (distance, visited) in [(i32::MIN, 64), (-20, 28), (i32::MAX, 64)] {
        let attention: AnyAttention = nearer(distance).with_schedule(small(&device)).into();
        let shape = Shape::new(1, 1, 128, 8);
        check(&format!("nearer({distance})"), &attention, &device, &shape, &mut failures);
        let tiles = attention.report(&shape).unwrap().tiles;
        assert_eq!((tiles.visited, tiles.total), (visited, 64), "distance {distance}");
    }
    failures.report();
}

#[test]
fn a_divisor_of_zero_does_not_matter_without_keys() {
    for device in all_devices("a_divisor_of_zero_does_not_matter_without_keys") {
        let query = Tensor::from_slice(&device, [1, 1, 4, 2], &[1.0f32; 8]).unwrap();
        let none = Tensor::from_slice::<f32>(&device, [1, 1, 0, 2], &[]).unwrap();
        let attention = purview_examples::block_causal::block_causal(0);
        assert_eq!(attention.run(&device, &query, &none, &none).unwrap().to_vec::<f32>().unwrap(), [0.0; 8]);
        let report = attention.report(&Shape::new(1, 1, 4, 2).with_keys([0])).unwrap();
        assert_eq!((report.tiles.visited, report.tiles.total), (0, 0));
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
