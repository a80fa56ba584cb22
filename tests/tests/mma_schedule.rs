//! The `mma` schedule, run as PTX on the CPU against the reference: head dims, lengths and positions that fit no tile, heads of a group in
//! one tile, factors of any sign, schedules that a caller asks for; and what goes through memory.

use purview::ir::Element;
use purview::schedule::{MmaSchedule, Schedule};
use purview::{AnyAttention, Arguments, DeviceModel, Error, Shape, Target, Tensor};
use purview_cli::golden::Errors;
use purview_cli::ptx;
use purview_examples::GALLERY;
use purview_examples::alibi_causal::alibi_causal;
use purview_nvidia::ptx::Traffic;
use purview_tests::attentions;
use purview_tests::compare::{Failures, compare_ptx_operands};
use purview_tests::devices;
use purview_tests::numbers::Numbers;

const HALVES: [Element; 2] = [Element::F16, Element::Bf16];
/// Softmax over one set of keys with every kind of mask and score; f16 takes these.
const SOFTMAX: [&str; 7] =
    ["causal", "sliding_window", "full", "document_causal", "alibi_causal", "attention_sink", "tanh_softcap"];
/// Weights that may be greater than 1, which bf16 holds.
const UNBOUNDED: [&str; 2] = ["linear_attention", "retention"];

/// The largest errors allowed, relative to the largest magnitude, on inputs that are what `element` can hold. Weights and outputs are rounded
/// to its precision, with a relative error of at most 2⁻¹¹ in f16 and 2⁻⁸ in bf16 each.
fn limits(element: Element) -> Errors {
    let out = if element == Element::Bf16 { 2f64.powi(-7) } else { 2e-3 };
    Errors { out, lse: Some(1e-5) }
}

/// The variant of that name, with its default arguments.
fn variant(name: &str, shape: &Shape) -> AnyAttention {
    let variant = GALLERY.iter().find(|variant| variant.name == name).expect("it is in the gallery");
    (variant.make)(&Arguments::new(devices::cpu(), shape.clone())).unwrap()
}

/// `heads` query heads on `kv_heads`, with `dims` of the queries and of the values.
fn shape(
    element: Element,
    (heads, kv_heads): (usize, usize),
    queries: usize,
    keys: usize,
    dims: (usize, usize),
) -> Shape {
    let shape = Shape::new(1, heads, queries, dims.0).with_kv_heads(kv_heads).with_keys([keys]);
    shape.with_v_dim(dims.1).with_element(element)
}

/// The schedule that would be chosen, which must be `mma`.
fn chosen(attention: &AnyAttention, shape: &Shape) -> MmaSchedule {
    match attention.schedule_for(Target::Ptx, &DeviceModel::ampere(), shape).unwrap() {
        Schedule::Mma(schedule) => schedule,
        other => panic!("`{}` of {shape:?} has {other}", attention.spec().name),
    }
}

/// Compares `attention` with the reference.
fn check(failures: &mut Failures, attention: &AnyAttention, shape: &Shape, note: &str) {
    let schedule = chosen(attention, shape);
    let device = devices::cpu();
    let operands = Numbers::new(17).all_operands(&device, attention, shape).unwrap();
    let operands: Vec<&Tensor> = operands.iter().collect();
    let Shape { heads, kv_heads, queries, qk_dim, v_dim, element, .. } = *shape;
    let keys = shape.keys[0];
    let name = &attention.spec().name;
    let what = format!(
        "{name} {} {heads}/{kv_heads} {queries}×{keys} {qk_dim}/{v_dim} {note} {}",
        element.name(),
        Schedule::Mma(schedule)
    );
    failures.check(&what, compare_ptx_operands(attention, &DeviceModel::ampere(), &operands), &limits(element));
}

fn check_variant(failures: &mut Failures, name: &str, shape: &Shape) {
    check(failures, &variant(name, shape), shape, "");
}

/// The variants that `element` has the schedule for.
fn variants(element: Element) -> impl Iterator<Item = &'static str> {
    let unbounded: &[&str] = if element == Element::Bf16 { &UNBOUNDED } else { &[] };
    SOFTMAX.iter().chain(&["recurrent_memory"]).chain(unbounded).copied()
}

#[test]
fn every_variant() {
    let mut failures = Failures::default();
    for element in HALVES {
        // In bf16 those that f16 has not.
        for name in variants(element).filter(|name| element == Element::F16 || UNBOUNDED.contains(name)) {
            check_variant(&mut failures, name, &shape(element, (1, 1), 67, 100, (32, 32)));
        }
    }
    failures.report();
}

/// Rows of whole vectors are copied 16 bytes at once; others, the last four, element by element.
#[test]
fn head_dims() {
    let alike = [8, 16, 24, 40, 48, 64, 72, 80, 96, 128, 160, 256].map(|dim| (dim, dim));
    let dims = alike.into_iter().chain([(48, 32), (64, 128), (128, 64), (16, 256), (256, 8)]);
    let dims = dims.chain([(20, 20), (33, 33), (40, 33), (1, 64)]);
    let mut failures = Failures::default();
    for (at, dims) in dims.enumerate() {
        let element = HALVES[at % 2];
        let names: Vec<&str> = variants(element).collect();
        check_variant(&mut failures, names[at % names.len()], &shape(element, (1, 1), 19, 70, dims));
    }
    failures.report();
}

#[test]
fn lengths() {
    let mut failures = Failures::default();
    const LENGTHS: [usize; 9] = [1, 15, 17, 63, 64, 65, 127, 129, 200];
    let mut at = 0;
    for (place, queries) in LENGTHS.into_iter().enumerate() {
        // All pairs would be many: those of like lengths, and of lengths far apart.
        for keys in [queries, LENGTHS[LENGTHS.len() - 1 - place]] {
            let element = HALVES[at % 2];
            // Documents have no number before the first key.
            let names: Vec<&str> =
                variants(element).filter(|name| queries <= keys || *name != "document_causal").collect();
            check_variant(
                &mut failures,
                names[(at / 2 + place) % names.len()],
                &shape(element, (1, 1), queries, keys, (32, 32)),
            );
            at += 1;
        }
    }
    failures.report();
}

/// What queries see that are elsewhere than at the keys' end: all of them, some, none.
#[test]
fn positions() {
    let mut failures = Failures::default();
    let names = ["causal", "sliding_window", "alibi_causal", "attention_sink", "recurrent_memory"];
    for (at, name) in names.into_iter().enumerate() {
        let shape = shape(HALVES[at % 2], (1, 1), 70, 100, (32, 32));
        for offset in [-35, 29, 400] {
            let attention = variant(name, &shape).with_query_offset(offset);
            check(&mut failures, &attention, &shape, &format!("from {offset}"));
        }
    }
    failures.report();
}

/// No keys, or none that is visible: rows of zeros, and a log-sum-exp of −∞.
#[test]
fn rows_that_see_no_key() {
    let device = devices::cpu();
    for element in HALVES {
        for (keys, offset, empty) in [(0, 0, 70), (100, -70, 70), (100, -1000, 70), (100, -35, 35)] {
            let shape = shape(element, (2, 1), 70, keys, (32, 16));
            let attention = variant("causal", &shape).with_query_offset(offset);
            chosen(&attention, &shape);
            let (q, pairs) = Numbers::new(1).operands(&device, &attention, &shape).unwrap();
            let launch = attention.ptx_launch(&DeviceModel::ampere(), &q, &[(&pairs[0].0, &pairs[0].1)]).unwrap();
            let results = ptx::run(&launch).unwrap();
            let lse = results.lse.expect("a softmax has it");
            assert_eq!((results.out.len(), lse.len()), (2 * 70 * 16, 2 * 70));
            for (row, (out, lse)) in results.out.chunks(16).zip(&lse).enumerate() {
                let sees_none = row % 70 < empty;
                let what = format!("{element:?} {keys} keys, queries from {offset}, row {row}: {lse} {out:?}");
                assert_eq!(*lse == f32::NEG_INFINITY, sees_none, "{what}");
                assert_eq!(out.iter().all(|x| *x == 0.0), sees_none, "{what}");
            }
        }
    }
}

/// Eight query heads on two: a tile has the queries of four, where which tiles are visited does not depend on the head.
#[test]
fn heads_of_a_group_in_one_tile() {
    let mut failures = Failures::default();
    for (at, queries) in [1, 3, 17, 40].into_iter().enumerate() {
        let element = HALVES[at % 2];
        let shape = shape(element, (8, 2), queries, 80, (32, 32));
        for (place, name) in variants(element).enumerate() {
            let attention = variant(name, &shape);
            assert!(chosen(&attention, &shape).pack_gqa, "{name}, {queries} queries");
            if name == "alibi_causal" || (at / 2 + place).is_multiple_of(2) {
                check(&mut failures, &attention, &shape, "");
            }
        }
        let attention = AnyAttention::from(attentions::window_by_head());
        assert!(!chosen(&attention, &shape).pack_gqa, "{queries} queries");
        check(&mut failures, &attention, &shape, "");
    }
    failures.report();
    // Queries that fill a tile stay by themselves.
    let many = shape(Element::F16, (8, 2), 128, 128, (64, 64));
    assert!(!chosen(&variant("causal", &many), &many).pack_gqa);
    let alone = shape(Element::F16, (2, 2), 1, 150, (64, 64));
    assert!(!chosen(&variant("causal", &alone), &alone).pack_gqa);
}

/// A negative factor makes of the greatest product the least score.
#[test]
fn factors_of_any_sign() {
    let mut failures = Failures::default();
    // With two heads of 33 queries a warp has one fragment; with eight in a tile, two. Queries of 20 elements are not copied at once.
    for (element, heads, dims) in [(Element::F16, (2, 2), (32, 32)), (Element::Bf16, (8, 2), (20, 16))] {
        let shape = shape(element, heads, 17, 80, dims);
        for (at, name) in variants(element).enumerate() {
            let scale = if at % 4 == 3 { 0.0 } else { -0.3 };
            let attention = variant(name, &shape).with_scale(scale);
            check(&mut failures, &attention, &shape, &format!("scale {scale}"));
        }
        check(&mut failures, &variant("causal", &shape).with_scale(0.0), &shape, "scale 0");
    }
    failures.report();
}

/// Biases that grow with distance, or fall, or both in turn: on full tiles they are added by columns and rows.
#[test]
fn slopes_of_any_sign() {
    let device = devices::cpu();
    let mut failures = Failures::default();
    for (at, (heads, queries, dims)) in
        [((2, 2), 33, (32, 32)), ((1, 1), 130, (64, 64)), ((4, 2), 17, (128, 128)), ((1, 1), 20, (20, 256))]
            .into_iter()
            .enumerate()
    {
        let slopes: Vec<f32> = (0..heads.0).map(|head| [-0.25, 0.125, 0.0, -0.01][(head + at) % 4]).collect();
        let slopes = Tensor::from_slice(&device, [heads.0], &slopes).unwrap();
        let shape = shape(HALVES[at % 2], heads, queries, 150, dims);
        for scale in [0.25, -0.25] {
            let attention = alibi_causal(&slopes).with_scale(scale).into();
            check(&mut failures, &attention, &shape, &format!("scale {scale}"));
        }
    }
    failures.report();
}

const fn schedule(warps: usize, fragments: usize, keys: usize) -> MmaSchedule {
    MmaSchedule { warps, fragments, keys, pack_gqa: false, split_columns: false }
}

#[test]
fn schedules_that_a_caller_asks_for() {
    let mut failures = Failures::default();
    let sizes = [schedule(1, 1, 16), schedule(2, 2, 48), schedule(4, 1, 32), schedule(8, 1, 64)];
    for (at, size) in sizes.into_iter().enumerate() {
        for (name, dims) in [("causal", (64, 64)), ("alibi_causal", (48, 32)), ("document_causal", (24, 33))] {
            let shape = shape(HALVES[at % 2], (4, 2), 70, 150, dims);
            let attention = variant(name, &shape).with_schedule(Schedule::Mma(size));
            check(&mut failures, &attention, &shape, "");
        }
        let shape = shape(HALVES[at % 2], (4, 2), 33, 150, (32, 32));
        let packed = MmaSchedule { pack_gqa: true, ..size };
        let attention = variant("alibi_causal", &shape).with_schedule(Schedule::Mma(packed));
        check(&mut failures, &attention, &shape, "");
    }
    failures.report();
}

/// Two warps that have the same rows, and half of the output's columns each: where a caller asks for them, and where values are so large
/// that one has no registers for their output.
#[test]
fn warps_that_share_rows() {
    let mut failures = Failures::default();
    let split = |size| MmaSchedule { split_columns: true, ..size };
    for (at, size) in [split(schedule(2, 1, 16)), split(schedule(4, 2, 32))].into_iter().enumerate() {
        for (name, dims) in [("causal", (64, 128)), ("attention_sink", (48, 33)), ("differential", (64, 72))] {
            let shape = shape(HALVES[at % 2], (4, 2), 70, 150, dims);
            let attention = variant(name, &shape).with_schedule(Schedule::Mma(size));
            check(&mut failures, &attention, &shape, "");
        }
        let shape = shape(HALVES[at % 2], (4, 2), 33, 150, (32, 32));
        let attention = variant("alibi_causal", &shape);
        let attention = attention.with_schedule(Schedule::Mma(MmaSchedule { pack_gqa: true, ..size }));
        check(&mut failures, &attention, &shape, "");
    }
    for (name, dims) in [("causal", (320, 320)), ("sliding_window", (64, 512)), ("latent_absorbed", (576, 512))] {
        let shape = shape(Element::Bf16, (2, 1), 40, 70, dims);
        let attention = variant(name, &shape);
        assert!(chosen(&attention, &shape).split_columns, "{name} {dims:?}");
        check(&mut failures, &attention, &shape, "");
    }
    // Wide keys and narrow values need no such thing.
    let shape = shape(Element::F16, (2, 1), 40, 70, (576, 64));
    let attention = variant("causal", &shape);
    assert!(!chosen(&attention, &shape).split_columns);
    check(&mut failures, &attention, &shape, "");
    failures.report();
}

/// The reason why a kernel with this schedule for head dims of 64 is refused.
#[track_caller]
fn refused(attention: &AnyAttention, schedule: MmaSchedule, element: Element) -> String {
    let attention = attention.clone().with_schedule(Schedule::Mma(schedule));
    match attention.kernel_text(Target::Ptx, &DeviceModel::ampere(), &shape(element, (2, 2), 64, 64, (64, 64))) {
        Err(Error::Schedule { schedule: named, reason }) => {
            assert_eq!(named, Schedule::Mma(schedule).to_string());
            reason
        }
        Err(other) => panic!("another error: {other}"),
        Ok(_) => panic!("{schedule:?} is not refused"),
    }
}

#[test]
fn schedules_that_do_not_fit() {
    let ampere = DeviceModel::ampere();
    let shape = |element| shape(element, (2, 2), 64, 64, (64, 64));
    let causal = variant("causal", &shape(Element::F16));
    assert_eq!(refused(&causal, schedule(4, 1, 64), Element::F32), "tensor cores multiply f16 and bf16, not f32");
    let reason = refused(&causal, schedule(4, 1, 24), Element::F16);
    assert_eq!(reason, "its keys must be whole matrices of 16, and no size 0");
    for empty in [schedule(4, 1, 0), schedule(0, 1, 64), schedule(4, 0, 64)] {
        let attention = causal.clone().with_schedule(Schedule::Mma(empty));
        let error = attention.kernel_text(Target::Ptx, &ampere, &shape(Element::F16)).unwrap_err().to_string();
        assert_eq!(error, "the program after `schedule` is not valid: the schedule `mma` has a size of zero");
    }
    let reason = refused(&causal, MmaSchedule { split_columns: true, ..schedule(3, 1, 64) }, Element::F16);
    assert_eq!(reason, "2 warps share rows, and it has 3");
    let reason = refused(&causal, schedule(4, 2, 640), Element::F16);
    let needed = 2 * (128 * 64 + 2 * 640 * 64);
    assert_eq!(reason, format!("it needs {needed} bytes of shared memory, the device has {}", ampere.shared_bytes));
    let reason = refused(&causal, schedule(64, 1, 16), Element::F16);
    assert_eq!(reason, format!("it needs 2048 units, the device has {}", ampere.max_units));
    let retention = variant("retention", &shape(Element::F16));
    let reason = refused(&retention, schedule(4, 1, 64), Element::F16);
    assert_eq!(reason, "weights that may be greater than 1, as these, are not rounded to f16");
    let by_head = AnyAttention::from(attentions::window_by_head());
    let reason = refused(&by_head, MmaSchedule { pack_gqa: true, ..schedule(4, 1, 64) }, Element::F16);
    assert_eq!(reason, "which keys are visited depends on the head, as here, and heads in one tile visit the same");
}

/// A CPU, a GPU without tensor cores, and languages that have no such instructions.
#[test]
fn devices_without_such_tensor_cores() {
    let shape = shape(Element::F16, (2, 2), 64, 64, (64, 64));
    let causal = variant("causal", &shape).with_schedule(Schedule::Mma(schedule(4, 1, 64)));
    let wgpu = devices::wgpu("devices_without_such_tensor_cores").filter(|device| device.supports(Element::F16));
    for device in [Some(devices::cpu()), wgpu].into_iter().flatten() {
        let (q, pairs) = Numbers::new(5).operands(&device, &causal, &shape).unwrap();
        match causal.run(&device, &q, &[(&pairs[0].0, &pairs[0].1)]) {
            Err(Error::Schedule { reason, .. }) => {
                assert_eq!(reason, "the device has no `mma` of 16×8×16 f16 by warps of 32, with `ldmatrix`");
            }
            other => panic!("{device:?}: {:?}", other.err()),
        }
    }
    for target in [Target::Wgsl, Target::Spirv, Target::Hip, Target::Msl] {
        let error = causal.emit(target, &shape).unwrap_err().to_string();
        let name = target.name();
        assert_eq!(error, format!("no text for the target `{name}`: it has no kernel with the schedule `mma`"));
    }
}

/// The factors by which what goes through memory is more than it need be.
#[test]
fn what_goes_through_memory() {
    const LIMIT: f64 = 1.1;
    let device = devices::cpu();
    let mut failures = Failures::default();
    for dim in [64, 128] {
        let shape = shape(Element::F16, (1, 1), 256, 256, (dim, dim));
        let attention = variant("causal", &shape);
        let (q, pairs) = Numbers::new(5).operands(&device, &attention, &shape).unwrap();
        let launch = attention.ptx_launch(&DeviceModel::ampere(), &q, &[(&pairs[0].0, &pairs[0].1)]).unwrap();
        let counts = ptx::run(&launch).unwrap().counts;
        for opcode in ["ldmatrix", "cp.async", "st.shared", "ld.shared"] {
            let Traffic { requests, wavefronts, ideal_wavefronts, .. } = counts.traffic(opcode);
            let factor = wavefronts as f64 / ideal_wavefronts as f64;
            let what = format!("head dim {dim}: {opcode} {requests} requests, wavefronts {factor:.3} of ideal");
            println!("{what}");
            failures.expect(&what, factor <= LIMIT);
        }
        for opcode in ["cp.async", "st.global"] {
            let Traffic { requests, sectors, ideal_sectors, .. } = counts.traffic(opcode);
            let factor = sectors as f64 / ideal_sectors as f64;
            let what = format!("head dim {dim}: {opcode} {requests} requests, sectors {factor:.3} of ideal");
            println!("{what}");
            failures.expect(&what, factor <= LIMIT);
        }
    }
    failures.report();
}
