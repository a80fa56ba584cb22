//! What makes a kernel another one, by the number of kernels that this process has compiled, and what makes a program another one.
//! One test, in a program of its own: the numbers are the whole process's.

use purview::cache::{kernels_compiled, programs_compiled};
use purview::ir::Element;
use purview::schedule::{CpuSchedule, Schedule};
use purview::{AnyAttention, Shape, Target, Tensor};
use purview_examples::document_causal::document_causal;
use purview_examples::document_mask::document_mask;
use purview_examples::global_and_local::global_and_local;
use purview_tests::numbers::Numbers;
use purview_tests::{attentions, devices};

#[test]
fn programs_and_kernels_are_compiled_once() {
    programs();
    kernels();
}

/// A program is compiled once for all schedules, devices and texts.
fn programs() {
    let before = programs_compiled();
    let mut numbers = Numbers::new(1);
    let device = devices::cpu();
    let attention: AnyAttention = attentions::window(10).into();
    for queries in [1, 7, 40, 300] {
        let mut tensor =
            |heads: usize, length: usize| numbers.tensor(&device, Element::F32, &[1, heads, length, 40]).unwrap();
        let (q, k, v) = (tensor(4, queries), tensor(2, 300), tensor(2, 300));
        // Read, so that no kernel is compiled later.
        attention.run(&device, &q, &[(&k, &v)]).unwrap().to_vec::<f32>().unwrap();
        let sizes = CpuSchedule::new(8, 2, 32, 2);
        let small = attention.clone().with_schedule(Schedule::Cpu(sizes));
        small.run(&device, &q, &[(&k, &v)]).unwrap().to_vec::<f32>().unwrap();
    }
    for target in [Target::Ptx, Target::Wgsl, Target::Cpu] {
        for heads in [2, 8] {
            let shape = Shape::new(1, heads, 1, 40).with_kv_heads(2);
            attention.emit(target, &shape).unwrap();
            attention.program(&shape).unwrap();
            attention.report(&shape).unwrap();
        }
    }
    assert_eq!(programs_compiled() - before, 1);
    attention.emit(Target::Wgsl, &Shape::new(1, 2, 1, 48)).unwrap();
    assert_eq!(programs_compiled() - before, 2, "other head dims");
}

fn kernels() {
    for device in [Some(devices::cpu()), devices::wgpu("programs_and_kernels_are_compiled_once")].into_iter().flatten()
    {
        let run = |attention: AnyAttention, element: Element, [queries, keys, dim, v_dim]: [usize; 4]| -> usize {
            let before = kernels_compiled();
            let mut numbers = Numbers::new(1);
            let mut tensor =
                |length: usize, dim: usize| numbers.tensor(&device, element, &[1, 2, length, dim]).unwrap();
            let (q, k, v) = (tensor(queries, dim), tensor(keys, dim), tensor(keys, v_dim));
            attention.run(&device, &q, &[(&k, &v)]).unwrap().to_vec::<f32>().unwrap();
            kernels_compiled() - before
        };
        let f32 = Element::F32;
        let name = device.name();
        let (dim, sizes) = (24, [50, 50, 24, 24]);

        let lengths = [(1, 1), (2, 90), (31, 32), (32, 31), (33, 33), (64, 64), (65, 64), (100, 1), (128, 200), (7, 0)];
        let compiled: usize =
            lengths.iter().map(|&(q, k)| run(attentions::window(10).into(), f32, [q, k, dim, dim])).sum();
        // On a CPU, one for few queries (7 or less here), one for some (32), and one for all lengths above. Elsewhere one for all, and
        // one for no keys: a buffer without any holds no vector to bind.
        assert_eq!(compiled, if name == "cpu" { 3 } else { 2 }, "{name}: ten lengths");
        let longer: usize = [(1, 500), (2, 2000), (5, 9)]
            .map(|(q, k)| run(attentions::window(10).into(), f32, [q, k, dim, dim]))
            .iter()
            .sum();
        assert_eq!(longer, 0, "{name}: few queries and more keys");
        let compiled: usize = (1..=10).map(|window| run(attentions::window(window * 7).into(), f32, sizes)).sum();
        assert_eq!(compiled, 0, "{name}: ten windows");
        let offset = |offset| attentions::window(10).with_query_offset(offset).with_key_offsets([-offset]).into();
        assert_eq!((-5..5).map(|at| run(offset(at), f32, sizes)).sum::<usize>(), 0, "{name}: ten offsets");
        assert_eq!(run(attentions::window(10).with_scale(0.3).into(), f32, sizes), 0, "{name}: a scale");

        assert_eq!(run(attentions::window(10).into(), f32, [50, 50, 32, 24]), 1, "{name}: a head dim of queries");
        assert_eq!(run(attentions::window(10).into(), f32, [50, 50, 24, 32]), 1, "{name}: a head dim of values");
        if device.supports(Element::F16) {
            assert_eq!(run(attentions::window(10).into(), Element::F16, sizes), 1, "{name}: another type");
            assert_eq!(run(attentions::window(11).into(), Element::F16, sizes), 0, "{name}: that type again");
        }
        assert_eq!(run(attentions::full().into(), f32, sizes), 1, "{name}: another attention");

        assert_eq!(run(attentions::fixed_window(10).into(), f32, sizes), 1, "{name}: a comptime scalar");
        assert_eq!(run(attentions::fixed_window(10).into(), f32, sizes), 0, "{name}: the same value");
        assert_eq!(run(attentions::fixed_window(11).into(), f32, sizes), 1, "{name}: another value");
        assert_eq!(run(attentions::fixed_window(10).into(), f32, sizes), 0, "{name}: the first value again");

        // Several ranges, conditions, and tiles decided by a tensor's extremes or by bisection in it.
        let unions = |globals, window| global_and_local(globals, window).into();
        assert_eq!(run(unions(3, 10), f32, sizes), 1, "{name}: a union");
        let compiled: usize = (0..10).map(|at| run(unions(at, 20 - 2 * at), f32, [50, 40 + at as usize, 24, 24])).sum();
        assert_eq!(compiled, 0, "{name}: other globals and windows, at ten lengths");
        let tags = |length: usize, step: usize| {
            let tags: Vec<i32> = (0..length).map(|at| (at / step) as i32).collect();
            Tensor::from_slice(&device, [1, length], &tags).unwrap()
        };
        assert_eq!(run(document_mask(&tags(50, 7)).into(), f32, sizes), 2, "{name}: the attention, and its summary");
        assert_eq!(run(document_mask(&tags(90, 20)).into(), f32, [90, 90, 24, 24]), 0, "{name}: other tags");
        assert_eq!(
            run(document_causal(&tags(50, 7)).into(), f32, sizes),
            2,
            "{name}: the attention, and a look at the order"
        );
        assert_eq!(run(document_causal(&tags(90, 20)).into(), f32, [90, 90, 24, 24]), 0, "{name}: other documents");

        // Captured tensors are arguments too: their lengths, strides and elements.
        let sink = |logits: &[f32]| Tensor::from_slice(&device, [logits.len()], logits).unwrap();
        assert_eq!(run(attentions::sink(&sink(&[1.0, 2.0])).into(), f32, sizes), 1, "{name}: a captured tensor");
        assert_eq!(run(attentions::sink(&sink(&[3.0; 9])).into(), f32, sizes), 0, "{name}: another tensor");
    }
}
