//! Everything that is refused before a launch, with the whole message: what was given and what was expected.
//!
//! Not here, because no caller can bring them about: `Error::Execution`, which is a failing device, and `Error::Report`, which
//! needs a program without a schedule.

use cubecl::prelude::CubeElement;
use cubecl::std::tensor::TensorHandle;
use purview::ir::Element;
use purview::ir::forward::Operands;
use purview::lang::{self, Builder};
use purview::schedule::{CpuSchedule, CubeSchedule, FewQueries, Planes, SMALL_CUBE, Schedule};
use purview::spec::{ScalarValue, Spec};
use purview::{AnyAttention, Arguments, Attention, DType, Device, Error, Shape, Target, Tensor, attention, cubecl};
use purview_examples::demo;
use purview_tests::attentions::{captured, full, memory, sink, sum, window};
use purview_tests::compare::{compare, tolerance};
use purview_tests::devices;
use purview_tests::numbers::Numbers;
use std::sync::Arc;

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, Error>, message: &str) {
    assert_eq!(result.expect_err(message).to_string(), message);
}

/// As `refused`, of a message that begins with a place in this file, where `source` must be written.
#[track_caller]
fn refused_at<T: std::fmt::Debug>(result: Result<T, Error>, source: &str, message: &str) {
    let text = result.expect_err(message).to_string();
    let (place, rest) = text.split_once(": ").expect("a place");
    assert_eq!(rest, message);
    let mut parts = place.rsplit(':').map(|part| part.parse::<usize>());
    let (Some(Ok(column)), Some(Ok(line))) = (parts.next(), parts.next()) else { panic!("no place: {place}") };
    assert!(place.contains("validation.rs"), "{place}");
    let written = include_str!("validation.rs").lines().nth(line - 1).unwrap_or_default();
    assert!(written[column - 1..].starts_with(source), "{place} is {}", &written[column - 1..]);
}

fn zeros(shape: &[usize]) -> Tensor {
    zeros_on(&devices::cpu(), shape)
}

fn zeros_on(device: &Device, shape: &[usize]) -> Tensor {
    Tensor::from_slice(device, shape, &vec![0.0f32; shape.iter().product()]).unwrap()
}

fn integers(shape: &[usize]) -> Tensor {
    Tensor::from_slice(&devices::cpu(), shape, &vec![0i32; shape.iter().product()]).unwrap()
}

/// Runs `attention` on the CPU, on zeros of these shapes.
fn run(attention: impl Into<AnyAttention>, shapes: [&[usize]; 3]) -> Result<Tensor, Error> {
    let [q, k, v] = shapes.map(zeros);
    attention.into().run(&devices::cpu(), &q, &[(&k, &v)])
}

const SMALL: [&[usize]; 3] = [&[1, 2, 5, 8], &[1, 2, 6, 8], &[1, 2, 6, 8]];

#[test]
fn no_such_device() {
    refused(Device::named("tpu"), "no device `tpu`: expected cpu, wgpu, wgpu-wgsl, wgpu-spirv, cuda or hip");
    // No test is built for ROCm.
    refused(Device::hip(0), "no device `hip`: turn on purview's feature `hip`");
}

#[test]
fn data_of_another_length() {
    let result = Tensor::from_slice(&devices::cpu(), [2, 3], &[0.0f32; 5]);
    refused(result, "a tensor of shape [2, 3] has 6 elements, 5 were given");
}

#[test]
fn too_many_elements() {
    let message = "a tensor of shape [65536, 65536] has more than 2147483647 elements";
    refused(Tensor::from_slice(&devices::cpu(), [65536, 65536], &[0.0f32; 1]), message);
    let message = "a tensor of shape [18446744073709551615, 3] has more than 2147483647 elements";
    refused(zeros(&[1]).view(0, [usize::MAX, 3], [0, 0]), message);
}

#[test]
fn a_view_past_its_memory() {
    let message = "a view of shape [2, 2] and strides [4, 1] from element 1 reaches past its 6 elements";
    refused(zeros(&[6]).view(1, [2, 2], [4, 1]), message);
    zeros(&[6]).view(0, [2, 2], [4, 1]).unwrap();
    refused(zeros(&[6]).view(0, [2, 2], [1]), "`strides` has shape [1], expected 2 dimensions");
}

#[test]
fn a_view_without_a_handle() {
    let tensor = zeros(&[2, 3]);
    tensor.clone().into_handle().unwrap();
    let message = "a view that begins at element 3 of its memory has no handle: only one that begins at 0 has";
    refused(tensor.narrow(0, 1, 1).unwrap().into_handle().map(drop), message);
}

#[test]
fn axes_that_are_no_permutation() {
    refused(zeros(&[2, 3]).permuted([0, 0]), "axes [0, 0] must name each dimension of [2, 3] once");
    refused(zeros(&[2, 3]).permuted([0]), "axes [0] must name each dimension of [2, 3] once");
}

#[test]
fn a_range_outside_a_dimension() {
    let message = "elements 2..2+2 of dimension 1 are not inside the shape [2, 3]";
    refused(zeros(&[2, 3]).narrow(1, 2, 2), message);
    let message = "elements 0..0+1 of dimension 2 are not inside the shape [2, 3]";
    refused(zeros(&[2, 3]).narrow(2, 0, 1), message);
}

#[test]
fn a_handle_of_another_type() {
    let device = devices::cpu();
    let memory = device.client().create_from_slice(&[0; 16]);
    let handle = TensorHandle::new(memory, [2], [1], f64::cube_type());
    refused(Tensor::from_handle(&device, handle), "a handle of f64, expected f32, f16, bf16, i32, i64, u8 or u32");
}

#[test]
fn a_type_that_the_device_lacks() {
    let Some(device) = devices::wgpu("a_type_that_the_device_lacks") else { return };
    if device.supports(Element::Bf16) {
        return eprintln!("a_type_that_the_device_lacks: SKIPPED, {} has bf16", device.name());
    }
    let result = Numbers::new(1).tensor(&device, Element::Bf16, &[1, 1, 2, 8]);
    refused(result, "the device `wgpu` has no bf16");
}

#[test]
fn tensors_on_another_device() {
    let Some(wgpu) = devices::wgpu("tensors_on_another_device") else { return };
    let (here, there) = (zeros(&[1, 2, 5, 8]), zeros_on(&wgpu, &[1, 2, 5, 8]));
    let cpu = devices::cpu();
    let message = |name: &str| format!("`{name}` is on the device `wgpu`, the kernel is to run on `cpu`");
    refused(full().run(&cpu, &there, &here, &here), &message("q"));
    refused(full().run(&cpu, &here, &there, &here), &message("k"));
    refused(full().run(&cpu, &here, &here, &there), &message("v"));
    let logits = zeros_on(&wgpu, &[2]);
    refused(sink(&logits).run(&cpu, &here, &here, &here), &message("logit"));
}

#[test]
fn a_wrong_number_of_dimensions() {
    let [q, k, v] = SMALL;
    refused(run(full(), [&[2, 5, 8], k, v]), "`q` has shape [2, 5, 8], expected 4 dimensions");
    refused(run(full(), [q, &[2, 6, 8], v]), "`k` has shape [2, 6, 8], expected 4 dimensions");
    refused(run(full(), [q, k, &[1, 1, 2, 6, 8]]), "`v` has shape [1, 1, 2, 6, 8], expected 4 dimensions");
    refused(run(sink(&zeros(&[2, 1])), SMALL), "`logit` has shape [2, 1], expected 1 dimensions");
}

#[test]
fn shapes_that_do_not_fit_each_other() {
    let [q, k, v] = SMALL;
    let message = "batches differ: `k` is [3, 2, 6, 8], `q` is [1, 2, 5, 8]";
    refused(run(full(), [q, &[3, 2, 6, 8], v]), message);
    let message = "batches differ: `v` is [3, 2, 6, 8], `q` is [1, 2, 5, 8]";
    refused(run(full(), [q, k, &[3, 2, 6, 8]]), message);
    let message = "head dims of queries and keys differ: `k` is [1, 2, 6, 9], `q` is [1, 2, 5, 8]";
    refused(run(full(), [q, &[1, 2, 6, 9], v]), message);
    let message = "heads of keys and values differ: `v` is [1, 1, 6, 8], `k` is [1, 2, 6, 8]";
    refused(run(full(), [q, k, &[1, 1, 6, 8]]), message);
    let message = "lengths of keys and values differ: `v` is [1, 2, 7, 8], `k` is [1, 2, 6, 8]";
    refused(run(full(), [q, k, &[1, 2, 7, 8]]), message);

    let pairs = |k: &[usize], v: &[usize]| {
        let [q, mk, mv] = SMALL.map(zeros);
        memory().run_pairs(&devices::cpu(), &q, [(&mk, &mv), (&zeros(k), &zeros(v))])
    };
    let message = "heads of the pairs differ: `k` is [1, 1, 5, 8], `mk` is [1, 2, 6, 8]";
    refused(pairs(&[1, 1, 5, 8], &[1, 1, 5, 8]), message);
    let message = "head dims of the values differ: `v` is [1, 2, 5, 9], `mv` is [1, 2, 6, 8]";
    refused(pairs(&[1, 2, 5, 8], &[1, 2, 5, 9]), message);
    pairs(&[1, 2, 5, 8], &[1, 2, 5, 8]).unwrap();
}

#[test]
fn heads_that_do_not_divide() {
    let message = "`q` has 3 heads, which is not a multiple of the 2 heads of `k`";
    refused(run(full(), [&[1, 3, 5, 8], SMALL[1], SMALL[2]]), message);
    let message = "`q` has 2 heads, which is not a multiple of the 0 heads of `k`";
    refused(run(full(), [SMALL[0], &[1, 0, 6, 8], &[1, 0, 6, 8]]), message);
    let message = "`q` has 4 heads, which is not a multiple of the 3 heads of `k`";
    refused(full().report(&Shape::new(1, 4, 64, 16).with_kv_heads(3)), message);
}

#[test]
fn head_dims_out_of_range() {
    let message = "`q` has a head dim of 577, expected 1 to 576";
    refused(run(full(), [&[1, 1, 5, 577], &[1, 1, 6, 577], &[1, 1, 6, 8]]), message);
    let message = "`v` has a head dim of 0, expected 1 to 576";
    refused(run(full(), [&[1, 1, 5, 8], &[1, 1, 6, 8], &[1, 1, 6, 0]]), message);
    let message = "`full`: the head dim of `q` is 600, expected 1 to 576";
    refused(full().program(&Shape::new(1, 1, 5, 600)), message);
}

/// A sum of two products.
#[attention]
fn two_products(q: Query, k: Key, v: Value, r: Query, l: Key) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push(mask((dot(q[i], k[j]) + dot(r[i], l[j])) * scale(), j <= i), v[j]);
        }
        o
    }
}

/// Two accumulators, one of the first elements of keys.
#[attention]
fn leading(q: Query, k: Key, v: Value, #[comptime] rank: u32) -> Output {
    for i in q.tiles() {
        let (mut a, mut b) = (Softmax::new(), Softmax::new());
        for j in k.tiles() {
            a.push(dot(q[i], k[j]) * scale(), k[j][..rank]);
            b.push(mask(dot(q[i], k[j]), j <= i), v[j]);
        }
        a - b
    }
}

/// One accumulator of keys' first elements and of values.
#[attention]
fn one_of_both(q: Query, k: Key, v: Value, #[comptime] rank: u32) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push(mask(dot(q[i], k[j]), j <= i), k[j][..rank]);
            o.push(mask(dot(q[i], k[j]), j > i), v[j]);
        }
        o
    }
}

/// An output that is also made of the queries.
#[attention]
fn with_queries(q: Query, k: Key, #[comptime] rank: u32) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push(dot(q[i], k[j]), k[j][..rank]);
        }
        o + q[i]
    }
}

/// What takes a shape.
type User = fn(&AnyAttention, &Shape) -> Result<(), String>;

fn text<T, E: ToString>(result: Result<T, E>) -> Result<(), String> {
    result.map(drop).map_err(|error| error.to_string())
}

const USERS: [(&str, User); 11] = [
    ("program", |attention, shape| text(attention.program(shape))),
    ("stages", |attention, shape| text(attention.stages(shape))),
    ("report", |attention, shape| text(attention.report(shape))),
    ("report_verified", |attention, shape| text(attention.report_verified(shape))),
    ("emit", |attention, shape| text(attention.emit(Target::Wgsl, shape))),
    ("schedule_for", |attention, shape| {
        text(attention.schedule_for(Target::Wgsl, &Target::Wgsl.default_model(), shape))
    }),
    ("schedule_on", |attention, shape| text(attention.schedule_on(&devices::cpu(), shape))),
    ("operand_dims", |attention, shape| text(shape.operand_dims(attention.spec()))),
    ("operand_shapes", |attention, shape| text(shape.operand_shapes(attention.spec()))),
    ("all_operands", |attention, shape| text(Numbers::new(1).all_operands(&devices::cpu(), attention, shape))),
    ("demo::check", |attention, shape| text(demo::check(&devices::cpu(), attention.clone(), shape))),
];

#[test]
fn operands_of_a_shape_are_checked_by_all_that_take_one() {
    let attention = AnyAttention::from(two_products());
    let shape = || Shape::new(1, 4, 16, 8);
    let right = shape().with_dims([("r", 4), ("l", 4)]).with_key_heads([("l", 1), ("k", 2)]);
    for (user, take) in USERS {
        assert_eq!(take(&attention, &right), Ok(()), "{user}");
    }
    let shapes = right.operand_shapes(attention.spec()).unwrap();
    assert_eq!(shapes, [[1, 4, 16, 8], [1, 2, 16, 8], [1, 4, 16, 8], [1, 4, 16, 4], [1, 1, 16, 4]]);

    let cases = [
        (
            shape().with_dims([("rope", 8)]),
            "`two_products` has no `rope` along queries or keys, it takes q, k, v, r, l",
        ),
        (
            shape().with_key_heads([("sink", 1)]),
            "`two_products` has no `sink` along queries or keys, it takes q, k, v, r, l",
        ),
        (shape().with_dims([("r", 4), ("l", 4), ("r", 6)]), "the head dim of `r` is given twice, as 4 and as 6"),
        (
            shape().with_key_heads([("l", 1)]).with_key_heads([("l", 2)]),
            "the number of heads of `l` is given twice, as 1 and as 2",
        ),
        (
            shape().with_key_heads([("r", 2)]),
            "2 heads are given for `r`, which lies along queries and has their 4: only operands along keys have heads of their own",
        ),
        (shape().with_key_heads([("l", 3)]), "`q` has 4 heads, which is not a multiple of the 3 heads of `l`"),
        (shape().with_key_heads([("l", 0)]), "`q` has 4 heads, which is not a multiple of the 0 heads of `l`"),
        (shape().with_kv_heads(3), "`q` has 4 heads, which is not a multiple of the 3 heads of `k`"),
        (shape().with_dims([("l", 0)]), "`l` has a head dim of 0, expected 1 to 576"),
        (Shape::new(1, 4, 16, 0), "`q` has a head dim of 0, expected 1 to 576"),
        (shape().with_v_dim(0), "`v` has a head dim of 0, expected 1 to 576"),
    ];
    for (shape, message) in cases {
        for (user, take) in USERS {
            assert_eq!(take(&attention, &shape), Err(message.into()), "{user}");
        }
    }
    let lengths = shape().with_keys([16, 17]).operand_shapes(attention.spec());
    refused(lengths, "`two_products` takes 1 lengths of keys, 2 were given");
}

#[test]
fn one_group_of_a_shape_keeps_the_groups_of_all_operands() {
    let shape = Shape::new(3, 8, 64, 16).with_kv_heads(4).with_key_heads([("l", 2)]);
    let one = Shape::new(1, 4, 64, 16).with_kv_heads(2).with_key_heads([("l", 1)]);
    assert_eq!(shape.with_one_group(), one);
    assert_eq!(Shape::new(2, 8, 64, 16).with_kv_heads(2).with_one_group(), Shape::new(1, 4, 64, 16).with_kv_heads(1));
}

#[test]
fn first_elements_that_do_not_fit() {
    let [q, k, _] = SMALL;
    for (rank, message) in [
        (9, "the first 9 elements of each row of `k` are its values, and it has a head dim of 8"),
        (0, "the first 0 elements of each row of `k` are its values, and it has a head dim of 8"),
        (
            6,
            "head dims of what the output is made of differ: 8 of the 8 elements of each row of `v`, 6 of the 8 of `k`",
        ),
    ] {
        refused(run(leading(rank), SMALL), message);
    }
    run(leading(8), SMALL).unwrap();
    run(leading(6), [q, k, &[1, 2, 6, 6]]).unwrap();

    let message = "head dims of the values differ: 8 of the 8 elements of each row of `v`, 6 of the 8 of `k`";
    refused(run(one_of_both(6), SMALL), message);
    let message = "head dims of the values differ: `v` is [1, 2, 6, 6], `k` is [1, 2, 6, 8]";
    refused(run(one_of_both(8), [q, k, &[1, 2, 6, 6]]), message);
    run(one_of_both(6), [q, k, &[1, 2, 6, 6]]).unwrap();

    let [query, key] = [q, k].map(zeros);
    let message =
        "head dims of what the output is made of differ: 8 of the 8 elements of each row of `q`, 6 of the 8 of `k`";
    refused(with_queries(6).run(&devices::cpu(), [&query, &key]), message);
    refused(with_queries(6).reference([&query, &key]), message);
    with_queries(8).run(&devices::cpu(), [&query, &key]).unwrap();
}

#[test]
fn an_attention_of_other_tensors_than_pairs() {
    let (cpu, attention) = (devices::cpu(), AnyAttention::from(two_products()));
    let [q, k, v] = SMALL.map(zeros);
    let pairs = [(&k, &v)];
    let message = "`two_products` takes more than queries and pairs of keys and values: give q, k, v, r, l, in this order, to \
                   `run_operands`";
    refused(attention.in_order(&q, &pairs), message);
    refused(attention.run(&cpu, &q, &pairs), message);
    refused(attention.run_with_lse(&cpu, &q, &pairs), message);
    refused(attention.run_counting(&cpu, &q, &pairs), message);
    refused(attention.reference(&q, &pairs), message);
    refused(attention.ptx_launch(&Target::Ptx.default_model(), &q, &pairs), message);
    refused(
        attention.run_operands(&cpu, &[&q, &k, &v]),
        "`two_products` takes 5 tensors along queries and keys, 3 were given",
    );
    attention.run_operands(&cpu, &[&q, &k, &v, &q, &k]).unwrap();
}

#[test]
fn more_key_offsets_than_sets_of_keys() {
    let [q, k, v] = SMALL.map(zeros);
    let operands = [&q, &k, &v, &q, &k];
    let message = "`two_products` takes 1 offsets of sets of keys, 2 were given";
    let attention = two_products().with_key_offsets(&[0, 1]);
    refused(attention.run(&devices::cpu(), operands), message);
    refused(attention.reference(operands), message);
    refused(attention.program(&Shape::new(1, 2, 5, 8)), message);
    let message = "the offset of `k` is 2147483648, expected a signed 32-bit number";
    refused(two_products().with_key_offsets(&[1 << 31]).run(&devices::cpu(), operands), message);
    two_products().with_key_offsets(&[]).run(&devices::cpu(), operands).unwrap();
}

#[test]
fn the_language_and_the_compiler_allow_as_many_products() {
    assert_eq!(purview_language::tree::MAX_DOTS, purview::spec::MAX_DOTS);
}

#[test]
fn elements_of_the_wrong_type() {
    let cpu = devices::cpu();
    let floats = zeros(&[1, 1, 5, 8]);
    let numbers = integers(&[1, 1, 5, 8]);
    refused(full().run(&cpu, &numbers, &numbers, &numbers), "`q` holds i32, expected f32, f16 or bf16");
    refused(full().run(&cpu, &floats, &numbers, &floats), "`k` holds i32, expected f32, as `q` does");
    let half = Numbers::new(1).tensor(&cpu, Element::F16, &[1, 1, 5, 8]).unwrap();
    refused(full().run(&cpu, &floats, &floats, &half), "`v` holds f16, expected f32, as `q` does");

    let truths = Tensor::from_slice(&cpu, [1, 5], &[true; 5]).unwrap();
    let (slope, document, bias) = (zeros(&[1]), integers(&[1, 5]), zeros(&[1, 1, 5, 5]));
    let run = |slope: &Tensor, document: &Tensor, keep: &Tensor| {
        captured(slope, document, keep, &bias).run(&cpu, &floats, &floats, &floats)
    };
    refused(run(&integers(&[1]), &document, &truths), "`slope` holds i32, expected f32, f16 or bf16");
    refused(run(&slope, &zeros(&[1, 5]), &truths), "`document` holds f32, expected i32");
    refused(run(&slope, &document, &document), "`keep` holds i32, expected bool (u8 or u32)");
    run(&slope, &document, &truths).unwrap();
}

/// A score with a float and a truth value to get wrong.
#[attention]
fn scalars(q: Query, k: Key, v: Value, factor: f32, reach: u32) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push(mask(dot(q[i], k[j]) * factor, i - j < reach), v[j]);
        }
        o
    }
}

#[test]
fn scalars_out_of_range() {
    let message = "the scalar `reach` is 2147483648, expected at most 2147483647: integers are signed in an attention";
    refused(run(scalars(1.0, 1 << 31), SMALL), message);
    refused(run(scalars(f32::NAN, 1), SMALL), "the scalar `factor` is NaN, expected a finite number");
    refused(run(scalars(f32::INFINITY, 1), SMALL), "the scalar `factor` is inf, expected a finite number");
    let wrong = Attention::<1>::new(
        Arc::new(scalars(1.0, 1).spec().clone()),
        vec![ScalarValue::F32(1.0), ScalarValue::I32(1)],
        Vec::new(),
    );
    refused(run(wrong, SMALL), "the scalar `reach` is I32(1), expected u32");

    let mut arguments = Arguments::new(devices::cpu(), Shape::new(1, 1, 5, 8));
    arguments.scalars.insert("reach".into(), -1.0);
    let message = "the scalar `reach` is -1, expected an integer from 0 to 4294967295";
    refused(arguments.u32("reach", 1), message);
    arguments.scalars.insert("reach".into(), 0.5);
    let message = "the scalar `reach` is 0.5, expected an integer from -2147483648 to 2147483647";
    refused(arguments.i32("reach", 1), message);
}

#[test]
fn a_scale_that_is_no_number() {
    refused(run(full().with_scale(f32::NAN), SMALL), "the scale is NaN, expected a finite number");
    refused(run(full().with_scale(f32::NEG_INFINITY), SMALL), "the scale is -inf, expected a finite number");
}

#[test]
fn offsets_that_leave_32_bits() {
    let message = "the offset of `q` is 2147483648, expected a signed 32-bit number";
    refused(run(full().with_query_offset(1 << 31), SMALL), message);
    let message = "the offset of `k` is -2147483649, expected a signed 32-bit number";
    refused(run(full().with_key_offsets([-(1 << 31) - 1]), SMALL), message);
    // The offset does, and positions from there do not.
    let message = "the positions of `q` are at 2147483647..=2147483667, which leaves 32 bits";
    refused(run(full().with_query_offset(i64::from(i32::MAX)), SMALL), message);
}

#[test]
fn another_number_of_arguments() {
    let spec = |attention: &Attention<1>| Arc::new(attention.spec().clone());
    let without = Attention::<1>::new(spec(&window(1)), Vec::new(), Vec::new());
    refused(run(without, SMALL), "`window` takes 1 scalars, 0 were given");
    let without = Attention::<1>::new(spec(&sink(&zeros(&[2]))), Vec::new(), Vec::new());
    refused(run(without, SMALL), "`sink` takes 1 captured tensors, 0 were given");
    refused(run(memory(), SMALL), "`memory` takes 2 pairs of keys and values, 1 were given");
    let lengths = Shape::new(1, 1, 5, 8).with_keys([1, 2, 3]);
    refused(memory().report(&lengths), "`memory` takes 2 lengths of keys, 3 were given");
}

#[test]
fn a_log_sum_exp_of_weights() {
    let [q, k, v] = SMALL.map(zeros);
    let message = "`sum` accumulates with `Sum`, and only one `Softmax` has a log-sum-exp";
    refused(sum().with_lse().run(&devices::cpu(), &q, &k, &v), message);
    let message = "`leading` accumulates with `Softmax and Softmax`, and only one `Softmax` has a log-sum-exp";
    refused(leading(8).with_lse().run(&devices::cpu(), &q, &k, &v), message);
    let message = "`sum` accumulates with `Sum`, and only one `Softmax` has a maximum of its scores";
    refused(sum().with_max().run(&devices::cpu(), &q, &k, &v), message);
    refused(AnyAttention::from(sum()).run_operands_with_lse_and_max(&devices::cpu(), &[&q, &k, &v]), message);
}

#[test]
fn schedules_that_do_not_fit() {
    let cpu = CpuSchedule::new(8, 2, 32, 4);
    let refuse = |schedule: Schedule, reason: &str| {
        let message = format!("the schedule {schedule} does not fit: {reason}");
        refused(run(full().with_schedule(schedule), SMALL), &message);
    };
    let sizes = "lanes must be a power of two, rows no more than the keys, and no size 0";
    refuse(Schedule::Cpu(CpuSchedule { rows: 33, ..cpu }), sizes);
    refuse(Schedule::Cpu(CpuSchedule { lanes: 0, ..cpu }), sizes);
    refuse(Schedule::Cpu(CpuSchedule { lanes: 3, ..cpu }), sizes);
    let along = |along_head_dim, vectors| {
        let few = FewQueries { along_head_dim, ..FewQueries::default() };
        Schedule::Cpu(CpuSchedule { vectors, few, ..cpu })
    };
    let one_vector =
        "with vectors along the head dims a tile has one vector, and as its rows a power of two, at most the lanes";
    refuse(along(2, 2), one_vector);
    refuse(along(3, 1), one_vector);
    refuse(along(16, 1), one_vector);
    refuse(along(4, 1), "a tile has at most 4 rows, and the launch 5");
    let cube = SMALL_CUBE;
    refuse(Schedule::Cube(cube), "a CPU needs the `cpu` schedule: its units do not share memory at one speed");

    let Some(wgpu) = devices::wgpu("schedules_that_do_not_fit") else { return };
    let refuse = |schedule: Schedule, reason: &str| {
        let tensor = zeros_on(&wgpu, &[1, 1, 5, 8]);
        let message = format!("the schedule {schedule} does not fit: {reason}");
        refused(full().with_schedule(schedule).run(&wgpu, &tensor, &tensor, &tensor), &message);
    };
    refuse(Schedule::Cpu(cpu), "`wgpu` is not a CPU, and its cubes need the `cube` schedule");
    let message = "unit columns must divide the keys, and four times as many the chunk";
    refuse(Schedule::Cube(CubeSchedule { keys: 15, ..cube }), message);
    refuse(Schedule::Cube(CubeSchedule { unit_columns: 0, ..cube }), message);
    refuse(Schedule::Cube(CubeSchedule { chunk: 18, ..cube }), message);
    refuse(Schedule::Cube(CubeSchedule { rows: 3, ..cube }), "a unit has 1, 2 or 4 rows, and there must be units");
    let planes = format!("its use of planes, `share(3)`, does not fit the device's, {:?}", wgpu.planes());
    refuse(Schedule::Cube(CubeSchedule { planes: Planes::Share(3), ..cube }), &planes);
    let operands = Operands { element: Element::F32, qk_dim: 8, v_dim: 8 };
    let large = CubeSchedule { keys: 8192, ..cube };
    let there = wgpu.client().properties().hardware.max_shared_memory_size;
    let message = format!("it needs {} bytes of shared memory, the device has {there}", large.shared_bytes(&operands));
    refuse(Schedule::Cube(large), &message);
    let units = wgpu.client().properties().hardware.max_units_per_cube as usize;
    let wide = CubeSchedule { unit_rows: 2 * units, unit_columns: 1, rows: 1, keys: 1, ..cube };
    if wide.shared_bytes(&operands) <= there {
        refuse(Schedule::Cube(wide), &format!("it needs {} units, the device has {units}", 2 * units));
    }
}

/// Reads a bias at the distance, which is negative unless the mask holds.
#[attention]
fn table(q: Query, k: Key, v: Value, bias: Tensor<f32, 1>, causal: bool) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push(mask(dot(q[i], k[j]) + bias[i - j], j <= i || !causal), v[j]);
        }
        o
    }
}

#[attention]
fn arithmetic(q: Query, k: Key, v: Value, factor: i32, chunk: u32) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push(mask(dot(q[i], k[j]), factor * i < j / chunk), v[j]);
        }
        o
    }
}

#[test]
fn integers_out_of_range() {
    let bias = |length: usize| zeros(&[length]);
    run(table(&bias(6), true), SMALL).unwrap();
    let message = "index `i - j` of `bias` ranges over 0..=5, its dimension 0 has length 5";
    refused_at(run(table(&bias(5), true), SMALL), "bias[i - j]", message);
    let message = "index `i - j` of `bias` ranges over -4..=5, its dimension 0 has length 6";
    refused_at(run(table(&bias(6), false), SMALL), "bias[i - j]", message);

    run(arithmetic(1000, 3), SMALL).unwrap();
    let message = "`factor * i` ranges over 1000000000..=5000000000, which leaves 32 bits";
    refused_at(run(arithmetic(1_000_000_000, 3), SMALL), "* i", message);
    let message = "the divisor of `j / chunk` ranges over 0..=0, which includes zero";
    refused_at(run(arithmetic(1, 0), SMALL), "/ chunk", message);
}

/// A bias at a captured number, which is cut to an integer.
#[attention]
fn at_a_number(q: Query, k: Key, v: Value, x: Tensor<f32, 1>, bias: Tensor<f32, 1>) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push(dot(q[i], k[j]) + bias[clamp((x[j] as i32) + 3, 0, 6)], v[j]);
        }
        o
    }
}

/// The same, as the help says.
#[attention]
fn at_a_clamped_number(q: Query, k: Key, v: Value, x: Tensor<f32, 1>, bias: Tensor<f32, 1>) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push(dot(q[i], k[j]) + bias[clamp(clamp(x[j], -1000000.0, 1000000.0) as i32 + 3, 0, 6)], v[j]);
        }
        o
    }
}

/// The same without a sum.
#[attention]
fn at_a_number_alone(q: Query, k: Key, v: Value, x: Tensor<f32, 1>, bias: Tensor<f32, 1>) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push(dot(q[i], k[j]) + bias[(x[j] * 2.0) as i32], v[j]);
        }
        o
    }
}

/// The same, as the help says.
#[attention]
fn at_a_clamped_index(q: Query, k: Key, v: Value, x: Tensor<f32, 1>, bias: Tensor<f32, 1>) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push(dot(q[i], k[j]) + bias[clamp((x[j] * 2.0) as i32, 0, 6)], v[j]);
        }
        o
    }
}

#[test]
fn numbers_that_are_cut_to_integers_without_bounds() {
    let cpu = devices::cpu();
    let numbers = [0.0, -2.9, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 3e9];
    let x = Tensor::from_slice(&cpu, [6], &numbers).unwrap();
    let bias = Tensor::from_slice(&cpu, [7], &[0.0f32, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
    let message = "`x[j] as i32 + 3` ranges over -2147483645..=2147483650, which leaves 32 bits\n\
                   help: clamp before you add: write `clamp(x[j], -1000000.0, 1000000.0) as i32`";
    refused_at(run(at_a_number(&x, &bias), SMALL), "+ 3, 0, 6", message);
    let message = "index `(x[j] * 2.0) as i32` of `bias` ranges over -2147483648..=2147483647, its dimension 0 has length 7\n\
                   help: clamp it: write `clamp((x[j] * 2.0) as i32, 0, 6)`";
    refused_at(run(at_a_number_alone(&x, &bias), SMALL), "bias[(x[j]", message);
    for attention in [at_a_clamped_number(&x, &bias), at_a_clamped_index(&x, &bias)] {
        let mut numbers = Numbers::new(3);
        let [q, k, v] = SMALL.map(|shape| numbers.tensor(&cpu, Element::F32, shape).unwrap());
        let errors = compare(&attention.into(), &cpu, &q, &[(&k, &v)]).unwrap();
        assert!(errors.within(&tolerance(Element::F32)), "{errors}");
    }
}

#[test]
fn the_reference_refuses_the_pair_that_has_no_value() {
    let [q, k, v] = SMALL.map(zeros);
    let message = "index -1 is outside dimension 0 of `bias`, which has length 6, at batch 0, head 0, query position 1, \
                   key position 2";
    refused_at(table(&zeros(&[6]), false).reference(&q, &k, &v), "table", message);
}

/// An attention built by hand, which rustc has not checked.
fn by_hand(build: impl FnOnce(&mut Builder)) -> Attention<1> {
    let mut builder = Builder::new("by_hand", "", "validation.rs", 1, 1);
    builder.query("q");
    builder.key("k", 0);
    builder.value("v", 0);
    build(&mut builder);
    let spec: Spec = builder.finish();
    Attention::new(Arc::new(spec), Vec::new(), Vec::new())
}

#[test]
fn specifications_without_a_program() {
    let keys = by_hand(|builder| {
        builder.softmax("o", Some(lang::to_float(lang::key_position())));
        builder.key_loop(0, &[(0, 1)]);
        builder.push(0, lang::dot(0), 2);
    });
    refused_at(
        run(keys, SMALL),
        "//!",
        "a sink is one logit for each query, but `j as f32` depends on the key's position",
    );
    refused(run(by_hand(|builder| builder.softmax("o", None)), SMALL), "`by_hand`: no loop over `k`");
    let large = by_hand(|builder| {
        builder.softmax("o", None);
        builder.key_loop(0, &[(0, 1)]);
        let sum = (0..12).fold(lang::dot(0), |sum, _| lang::mul(sum.clone(), sum));
        builder.push(0, sum, 2);
    });
    let message = "a push has 8191 operations after its `let`s are expanded, expected at most 4096";
    refused_at(run(large, SMALL), "//!", message);
}

#[test]
fn a_text_that_cannot_be_made() {
    let shape = Shape::new(1, 2, 64, 16);
    full().emit(Target::Wgsl, &shape).unwrap();
    let message = "no text for the target `wgsl`: `webgpu` has no bf16 there";
    refused(full().emit(Target::Wgsl, &shape.with_element(Element::Bf16)), message);
}

#[test]
fn dtypes_have_names() {
    let names = [DType::F32, DType::F16, DType::Bf16, DType::I32, DType::U8, DType::U32].map(|dtype| dtype.to_string());
    assert_eq!(names, ["f32", "f16", "bf16", "i32", "u8", "u32"]);
}
