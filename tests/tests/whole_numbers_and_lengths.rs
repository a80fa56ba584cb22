//! Functions that give whole numbers, lengths, functions that give integers, and constants of Rust, on every device: compared with
//! Rust's own functions, which the compiler does not use for them, exactly.

use half::{bf16, f16};
use purview::cache::kernels_compiled;
use purview::cubecl::ir::{ElemType, IntKind};
use purview::cubecl::std::tensor::TensorHandle;
use purview::ir::Element;
use purview::prelude::*;
use purview::{AnyAttention, DeviceModel};
use purview_cli::ptx;
use purview_tests::attentions;
use purview_tests::compare::{Failures, compare, compare_operands, compare_ptx, tolerance};
use purview_tests::numbers::Numbers;
use purview_tests::{devices, naga_validation, spirv_val};

fn devices(test: &str) -> impl Iterator<Item = Device> {
    std::iter::once(devices::cpu()).chain(devices::wgpu(test))
}

fn sm80() -> DeviceModel {
    DeviceModel::nvidia_sm(80).expect("a model")
}

/// As many values as there are keys, of which value j is 1 in element j and 0 elsewhere: what is pushed with key j is element j of the
/// output, exactly.
fn unit_vectors(device: &Device, keys: usize) -> Tensor {
    let data: Vec<f32> = (0..keys * keys).map(|at| f32::from(u8::from(at % keys == at / keys))).collect();
    Tensor::from_slice(device, [1, 1, keys, keys], &data).unwrap()
}

fn zeros(device: &Device, shape: [usize; 4]) -> Tensor {
    Tensor::from_slice(device, shape, &vec![0.0f32; shape.iter().product()]).unwrap()
}

/// The weights that `attention`, with a `Sum`, gives to `keys` keys for each of `heads` heads and `queries` queries, on every device.
fn weights(test: &str, attention: impl Fn(&Device) -> AnyAttention, sizes: [usize; 3]) -> Vec<(String, Vec<f32>)> {
    let [heads, queries, keys] = sizes;
    let operands = |device: &Device| {
        let (query, key) = (zeros(device, [1, heads, queries, 8]), zeros(device, [1, 1, keys, 8]));
        (query, key, unit_vectors(device, keys))
    };
    let mut found = Vec::new();
    for device in devices(test) {
        let (query, key, value) = operands(&device);
        let out = attention(&device).run(&device, &query, &[(&key, &value)]).unwrap();
        found.push((device.name().to_string(), out.to_vec().unwrap()));
    }
    let cpu = devices::cpu();
    let (query, key, value) = operands(&cpu);
    let launch = attention(&cpu).ptx_launch(&sm80(), &query, &[(&key, &value)]).unwrap();
    found.push(("PTX".into(), ptx::run(&launch).unwrap().out));
    let reference = attention(&cpu).reference(&query, &[(&key, &value)]).unwrap();
    found.push(("the reference".into(), reference.out.data.iter().map(|x| *x as f32).collect()));
    found
}

/// Of key j: what each of the functions makes of a number, by head.
#[attention]
fn of_keys(q: Query, k: Key, v: Value, x: Tensor<f32, 1>) -> Output {
    for i in q.tiles() {
        let mut o = Sum::new();
        for j in k.tiles() {
            let of_key = if head() == 0 {
                floor(x[j])
            } else if head() == 1 {
                ceil(x[j])
            } else {
                round(x[j])
            };
            o.push(of_key + dot(q[i], k[j]), v[j]);
        }
        o
    }
}

/// The same of query i, and of both in one kernel: they are a vector and a scalar there.
#[attention]
fn of_queries(q: Query, k: Key, v: Value, x: Tensor<f32, 1>) -> Output {
    for i in q.tiles() {
        let mut o = Sum::new();
        for j in k.tiles() {
            let of_pair = if head() == 0 {
                floor(x[i]) - floor(x[j])
            } else if head() == 1 {
                ceil(x[i]) - ceil(x[j])
            } else {
                round(x[i]) - round(x[j])
            };
            o.push(of_pair + dot(q[i], k[j]), v[j]);
        }
        o
    }
}

const NUMBERS: [f32; 32] = [
    0.0,
    -0.0,
    0.25,
    -0.25,
    0.5,
    -0.5,
    0.499_999_97, // The greatest below 0.5.
    -0.499_999_97,
    0.75,
    -0.75,
    1.0,
    -1.0,
    1.5,
    -1.5,
    2.5,
    -2.5,
    3.499_999_8,
    -3.499_999_8,
    3.500_000_2,
    -3.500_000_2,
    4_194_303.5,
    -4_194_303.5,
    8_388_607.5, // The greatest with a half.
    -8_388_607.5,
    8_388_608.0,
    -8_388_609.0,
    16_777_216.0,
    -123_456_792.0,
    1e-30,
    -1e-30,
    7.999_999_5,
    -7.999_999_5,
];

#[test]
fn floats_are_made_whole_as_rust_does() {
    let count = NUMBERS.len();
    let functions: [fn(f32) -> f32; 3] = [f32::floor, f32::ceil, f32::round];
    let x = |device: &Device| Tensor::from_slice(device, [count], &NUMBERS).unwrap();
    for (what, found) in weights("floats_are_made_whole", |device| of_keys(&x(device)).into(), [3, 5, count]) {
        for (head, function) in functions.iter().enumerate() {
            for (j, number) in NUMBERS.iter().enumerate() {
                let want = function(*number);
                for i in 0..5 {
                    let got = found[(head * 5 + i) * count + j];
                    assert_eq!(got, want, "{what}: function {head} of {number}");
                }
            }
        }
    }
    // Differences of such that are exact.
    let small = &NUMBERS[..20];
    let x = |device: &Device| Tensor::from_slice(device, [20], small).unwrap();
    for (what, found) in weights("floats_are_made_whole", |device| of_queries(&x(device)).into(), [3, 20, 20]) {
        for (head, function) in functions.iter().enumerate() {
            for (i, a) in small.iter().enumerate() {
                for (j, b) in small.iter().enumerate() {
                    let (got, want) = (found[(head * 20 + i) * 20 + j], function(*a) - function(*b));
                    assert_eq!(got, want, "{what}: function {head} of {a} and {b}");
                }
            }
        }
    }
}

/// Of key j, which is a scalar in a kernel, and of query i, which may be a vector.
#[attention]
fn logarithms(q: Query, k: Key, v: Value, n: Tensor<i32, 1>) -> Output {
    for i in q.tiles() {
        let mut o = Sum::new();
        for j in k.tiles() {
            let both = 100 * ilog2(n[i]) + n[j].ilog2();
            o.push(both as f32 + dot(q[i], k[j]), v[j]);
        }
        o
    }
}

#[test]
fn logarithms_of_integers_are_rusts_and_minus_one_of_the_others() {
    let mut numbers: Vec<i32> = vec![0, -1, i32::MIN, i32::MAX, 1, 2, 3, -7];
    numbers.extend((2..31).flat_map(|bit| [(1 << bit) - 1, 1 << bit, (1 << bit) + 1]).take(56));
    let count = numbers.len();
    let n = |device: &Device| Tensor::from_slice(device, [count], &numbers).unwrap();
    let want = |n: i32| n.checked_ilog2().map_or(-1, |log| log as i32);
    for (what, found) in weights("logarithms_of_integers", |device| logarithms(&n(device)).into(), [1, count, count]) {
        for (i, a) in numbers.iter().enumerate() {
            for (j, b) in numbers.iter().enumerate() {
                assert_eq!(found[i * count + j], (100 * want(*a) + want(*b)) as f32, "{what}: of {a} and {b}");
            }
        }
    }
}

#[test]
fn indices_by_whole_numbers_are_proved() {
    let mut failures = Failures::default();
    for device in devices("indices_by_whole_numbers_are_proved") {
        let [q, k, v] = operands(&device, [1, 2, 100, 16], [1, 1, 100, 16]);
        let table = |length: usize| {
            let numbers: Vec<f32> = (0..length).map(|at| (at * 7 % 5) as f32 * 0.375 - 0.5).collect();
            Tensor::from_slice(&device, [length], &numbers).unwrap()
        };
        // Distances are 0 to 99: levels 0 to 7, and parts 0 to 6.
        let attention = attentions::levels(&table(8), &table(7));
        failures.check(device.name(), compare(&attention.into(), &device, &q, &[(&k, &v)]), &tolerance(Element::F32));
        for (levels, parts, message) in [
            (7, 7, "`levels` ranges over 0..=7, its dimension 0 has length 7"),
            (8, 6, "`parts` ranges over 0..=6, its dimension 0 has length 6"),
        ] {
            let error =
                attentions::levels(&table(levels), &table(parts)).run(&device, &q, &k, &v).unwrap_err().to_string();
            failures.expect(&error, error.contains(message));
        }
    }
    failures.report();
}

#[test]
fn every_target_has_a_text() {
    let cpu = devices::cpu();
    let table = |length: usize| Tensor::from_slice(&cpu, [length], &vec![f16::ONE; length]).unwrap();
    let attention = AnyAttention::from(attentions::levels(&table(8), &table(7)));
    for element in [Element::F32, Element::F16] {
        let shape = Shape::new(1, 2, 100, 16).with_element(element);
        for target in [Target::Cuda, Target::Ptx, Target::Hip, Target::Msl, Target::Cpu] {
            attention.emit(target, &shape).unwrap_or_else(|error| panic!("{target} in {element:?}: {error}"));
        }
        let text = attention.emit(Target::Wgsl, &shape).unwrap();
        assert_eq!(naga_validation::validate(&text), Ok(()), "{text}");
        let kernel = attention.kernel_text(Target::Spirv, &Target::Spirv.default_model(), &shape).unwrap();
        let valid = spirv_val::validate("every_target_has_a_text", &kernel.words.unwrap());
        assert_eq!(valid.unwrap_or(Ok(())), Ok(()), "in {element:?}");
    }
}

fn operands(device: &Device, query: [usize; 4], keys: [usize; 4]) -> [Tensor; 3] {
    let mut numbers = Numbers::new(8);
    [query, keys, keys].map(|shape| numbers.tensor(device, Element::F32, &shape).unwrap())
}

/// All lengths in one number.
#[attention]
fn lengths(q: Query, k: Key, v: Value) -> Output {
    for i in q.tiles() {
        let mut o = Sum::new();
        let of_row = 100000 * q_len();
        for j in k.tiles() {
            o.push((of_row + 100 * kv_len() + head_dim()) as f32 + dot(q[i], k[j]), v[j]);
        }
        o
    }
}

#[test]
fn lengths_are_those_of_the_launch() {
    for [queries, keys] in [[1, 40], [33, 2]] {
        for (what, found) in weights("lengths_are_those_of_the_launch", |_| lengths().into(), [2, queries, keys]) {
            let want = (100_000 * queries + 100 * keys + 8) as f32;
            assert!(found.iter().all(|got| *got == want), "{what}: {found:?}, expected {want}");
        }
    }
}

/// Each query sees the last `recent` keys and those of its own half; the scale is of the head dim; positions are counted from the end.
#[attention]
fn from_the_end(q: Query, k: Key, v: Value, recent: u32, bias: Tensor<f32, 2>) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::with_sink((kv_len() - q_len()) as f32 * 0.125);
        for j in k.tiles() {
            let s = dot(q[i], k[j]) / sqrt(head_dim() as f32) + bias[head()][kv_len() - 1 - j + first()];
            let half = 2 * (j - first()) / kv_len() == 2 * (i - first()) / kv_len();
            o.push(mask(s * (q_len() as f32 * 0.25), j - first() >= kv_len() - recent || half), v[j]);
        }
        o * (1.0 / kv_len() as f32)
    }
}

const FIRST: i32 = 5;

/// The position of the first key.
#[index]
fn first() -> i32 {
    FIRST
}

/// A length of its own for each loop, in scores, masks and, by a function, captured tensors.
#[attention]
fn lengths_of_two(q: Query, mk: Key, mv: Value, k: Key, v: Value, bias: Tensor<f32, 1>) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in mk.tiles() {
            let s = dot(q[i], mk[j]) * scale() + (kv_len() as f32) * 0.01 + bias[last_first(j)];
            o.push(mask(s, j < kv_len() - 2), mv[j]);
        }
        for j in k.tiles() {
            let s = dot(q[i], k[j]) * scale() + (kv_len() as f32) * 0.01 + bias[last_first(j)];
            o.push(mask(s, j <= i && 2 * j >= kv_len() - q_len()), v[j]);
        }
        o
    }
}

/// Keys counted from the last.
#[index]
fn last_first(j: Pos) -> i32 {
    kv_len() - 1 - j
}

#[test]
fn lengths_in_every_place() {
    let mut failures = Failures::default();
    let limit = tolerance(Element::F32);
    for (queries, keys) in [(1, 300), (70, 64)] {
        let shapes = ([2, 4, queries, 16], [2, 2, keys, 16]);
        let of = |device: &Device| {
            let numbers: Vec<f32> = (0..4 * keys).map(|at| (at * 11 % 7) as f32 * 0.25).collect();
            let bias = Tensor::from_slice(device, [4, keys], &numbers).unwrap();
            from_the_end(9, &bias).with_key_offsets([5]).with_query_offset(5 + keys as i64 / 3).into()
        };
        for device in devices("lengths_in_every_place") {
            let [q, k, v] = operands(&device, shapes.0, shapes.1);
            let what = format!("{} {queries}×{keys}", device.name());
            failures.check(&what, compare(&of(&device), &device, &q, &[(&k, &v)]), &limit);
        }
        let cpu = devices::cpu();
        let [q, k, v] = operands(&cpu, shapes.0, shapes.1);
        let errors = compare_ptx(&of(&cpu), &sm80(), &q, &[(&k, &v)]);
        failures.check(&format!("PTX {queries}×{keys}"), errors, &limit);
    }
    for (queries, first, second) in [(33, 70, 34), (33, 3, 0)] {
        for device in devices("lengths_in_every_place") {
            let length = first.max(second).max(1);
            let bias: Vec<f32> = (0..length).map(|at| (at % 5) as f32 * 0.5).collect();
            let bias = Tensor::from_slice(&device, [length], &bias).unwrap();
            let [q, mk, mv] = operands(&device, [1, 2, queries, 8], [1, 2, first, 8]);
            let [_, k, v] = operands(&device, [1, 2, queries, 8], [1, 2, second, 8]);
            let what = format!("{} {queries}×({first} + {second})", device.name());
            let attention = AnyAttention::from(lengths_of_two(&bias));
            failures.check(&what, compare_operands(&attention, &device, &[&q, &mk, &mv, &k, &v]), &limit);
        }
    }
    failures.report();
}

#[test]
fn lengths_recompile_nothing() {
    let device = devices::cpu();
    let run = |queries: usize, keys: usize| {
        let [q, k, v] = operands(&device, [1, 1, queries, 8], [1, 1, keys, 8]);
        lengths().run(&device, &q, &k, &v).unwrap().to_vec::<f32>().unwrap();
    };
    run(40, 60);
    let before = kernels_compiled();
    run(50, 77);
    assert_eq!(kernels_compiled(), before);
}

/// Sizes as a crate has them.
mod sizes {
    pub const WINDOW: usize = 12;
    pub const CAP: f32 = 3.0;
    pub const IS_CAUSAL: bool = true;
    pub const RANK: usize = 8;
    pub const FAR: u32 = 3_000_000_000;
    pub const ENDLESS: f32 = f32::INFINITY;
}

/// By constants of Rust.
#[attention]
fn by_constants(q: Query, k: Key, v: Value) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            let s = tanh(dot(q[i], k[j]) / sizes::CAP) * sizes::CAP;
            o.push(mask(s, (j <= i || !sizes::IS_CAUSAL) && i - j < sizes::WINDOW), v[j][..sizes::RANK]);
        }
        o
    }
}

/// The same by parameters.
#[attention]
fn by_parameters(q: Query, k: Key, v: Value, window: u32, cap: f32, #[comptime] rank: u32) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push(mask(tanh(dot(q[i], k[j]) / cap) * cap, j <= i && i - j < window), v[j][..rank]);
        }
        o
    }
}

/// Constants that no kernel has.
#[attention]
fn by_far(q: Query, k: Key, v: Value) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push(mask(dot(q[i], k[j]), i - j < sizes::FAR), v[j]);
        }
        o
    }
}

/// See [`by_far`].
#[attention]
fn by_infinity(q: Query, k: Key, v: Value) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push(min(dot(q[i], k[j]), sizes::ENDLESS), v[j]);
        }
        o
    }
}

#[test]
fn constants_of_rust() {
    let device = devices::cpu();
    let [q, k, v] = operands(&device, [1, 2, 50, 16], [1, 2, 50, 16]);
    let rank = sizes::RANK as u32;
    let by_parameters = by_parameters(sizes::WINDOW as u32, sizes::CAP, rank).run(&device, &q, &k, &v).unwrap();
    let by_constants = by_constants().run(&device, &q, &k, &v).unwrap();
    assert_eq!(by_constants.shape(), [1, 2, 50, 8]);
    assert_eq!(by_constants.to_vec::<f32>().unwrap(), by_parameters.to_vec::<f32>().unwrap());

    let error = by_far().run(&device, &q, &k, &v).unwrap_err().to_string();
    assert!(error.contains("3000000000") && error.contains("whole_numbers_and_lengths.rs:"), "{error}");
    let error = by_infinity().run(&device, &q, &k, &v).unwrap_err().to_string();
    assert!(
        error.ends_with("the constant is inf, expected a finite number; to hide a key, write `mask(s, visible)`"),
        "{error}"
    );
}

/// A bias, and a window of each batch.
#[attention]
fn biased(q: Query, k: Key, v: Value, bias: Tensor<f32, 2>, window: Tensor<i32, 1>) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push(mask(dot(q[i], k[j]) * scale() + bias[i][j] * bias[0][j], i - j < window[batch()]), v[j]);
        }
        o
    }
}

#[test]
fn captured_tensors_of_16_bits_are_read_as_they_are() {
    let (length, mut failures) = (45, Failures::default());
    // Numbers that 16 bits hold, and so the same for every type.
    let numbers = Numbers::new(3).eighths(length * length);
    let bias = |device: &Device, dtype: &str| match dtype {
        "f32" => Tensor::from_slice(device, [length, length], &numbers),
        "f16" => {
            let numbers: Vec<f16> = numbers.iter().map(|x| f16::from_f32(*x)).collect();
            Tensor::from_slice(device, [length, length], &numbers)
        }
        _ => {
            let numbers: Vec<bf16> = numbers.iter().map(|x| bf16::from_f32(*x)).collect();
            Tensor::from_slice(device, [length, length], &numbers)
        }
    };
    for device in devices("captured_tensors_of_16_bits") {
        let window = Tensor::from_slice(&device, [2], &[9i64, 30]).unwrap();
        let [q, k, v] = operands(&device, [2, 2, length, 16], [2, 1, length, 16]);
        let plain = biased(&bias(&device, "f32").unwrap(), &window).run(&device, &q, &k, &v).unwrap();
        for dtype in ["f16", "bf16"] {
            let bias = match bias(&device, dtype) {
                Ok(bias) => bias,
                Err(error) => {
                    let expected = format!("the device `{}` has no {dtype}", device.name());
                    failures.expect(&format!("{error}"), device.name() != "cpu" && error.to_string() == expected);
                    continue;
                }
            };
            // As it is, and with its rows and columns exchanged, from the second element of its memory on.
            let views = [bias.clone(), bias.permuted([1, 0]).unwrap(), bias.narrow(1, 1, length - 1).unwrap()];
            for bias in &views[..2] {
                let attention = AnyAttention::from(biased(bias, &window));
                let errors = compare(&attention, &device, &q, &[(&k, &v)]);
                failures.check(&format!("{} {dtype}", device.name()), errors, &tolerance(Element::F32));
            }
            let out = biased(&views[0], &window).run(&device, &q, &k, &v).unwrap();
            let same = out.to_vec::<f32>().unwrap() == plain.to_vec::<f32>().unwrap();
            failures.expect(&format!("{} {dtype} gives what f32 does", device.name()), same);
            let error = biased(&views[2], &window).run(&device, &q, &k, &v).unwrap_err().to_string();
            failures.expect(&error, error.contains("`bias`") && error.contains("length 44"));
        }
    }
    let cpu = devices::cpu();
    let window = Tensor::from_slice(&cpu, [2], &[9u32, 30]).unwrap();
    let [q, k, v] = operands(&cpu, [2, 2, length, 16], [2, 1, length, 16]);
    for dtype in ["f16", "bf16"] {
        let attention = AnyAttention::from(biased(&bias(&cpu, dtype).unwrap(), &window));
        failures.check(
            &format!("PTX {dtype}"),
            compare_ptx(&attention, &sm80(), &q, &[(&k, &v)]),
            &tolerance(Element::F32),
        );
        let program = attention.program(&Shape::new(2, 2, length, 16)).unwrap().to_string();
        failures.expect(&program, program.contains(&format!("bias: Tensor<{dtype}, 2>")));
    }
    // A kernel's text on a target without the type.
    let wgsl = AnyAttention::from(biased(&bias(&cpu, "bf16").unwrap(), &window));
    let error = wgsl.emit(Target::Wgsl, &Shape::new(2, 2, length, 16)).unwrap_err().to_string();
    failures.expect(&error, error.contains("has no bf16"));
    failures.report();
}

#[test]
fn integers_of_more_than_32_bits_are_refused() {
    let device = devices::cpu();
    let refused = |result: Result<Tensor, Error>, message: &str| assert_eq!(result.unwrap_err().to_string(), message);
    refused(
        Tensor::from_slice(&device, [2, 3], &[1i64, 2, 3, 4, 5, -2_147_483_649]),
        "element [1, 2] of a tensor of i64 of shape [2, 3] is -2147483649, expected a signed 32-bit number: integers are i32 in kernels",
    );
    refused(
        Tensor::from_slice(&device, [2], &[u32::MAX, 0]),
        "element [0] of a tensor of u32 of shape [2] is 4294967295, expected a signed 32-bit number: integers are i32 in kernels",
    );
    let wide = |numbers: &[i64], shape: [usize; 2], strides: [usize; 2]| {
        let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_ne_bytes()).collect();
        let memory = device.client().create_from_slice(&bytes);
        Tensor::from_handle(&device, TensorHandle::new(memory, shape, strides, ElemType::Int(IntKind::I64)))
    };
    let turned = wide(&[1, -2, 3, 4, 5, i64::from(i32::MAX)], [3, 2], [1, 3]).unwrap();
    assert_eq!(turned.dtype(), purview::DType::I32);
    assert_eq!(turned.to_vec::<i64>().unwrap(), [1, 4, -2, 5, 3, i64::from(i32::MAX)]);
    // What the view does not show may be anything.
    assert_eq!(wide(&[1, i64::MAX, 3, i64::MIN], [2, 1], [2, 1]).unwrap().to_vec::<i32>().unwrap(), [1, 3]);
    refused(
        wide(&[1, 2, 3, 1 << 40], [2, 2], [2, 1]),
        "element [1, 1] of a tensor of i64 of shape [2, 2] is 1099511627776, expected a signed 32-bit number: integers are i32 in kernels",
    );
    let error = wide(&[1, 2], [2, 2], [2, 1]).unwrap_err();
    assert!(matches!(error, Error::OutOfMemory { capacity: 2, .. }), "{error}");
    let doubles = Tensor::from_slice(&device, [2, 2], &[1.0f32; 4]).unwrap();
    let [q, k, v] = operands(&device, [1, 1, 2, 8], [1, 1, 2, 8]);
    let window = Tensor::from_slice(&device, [1], &[1i64]).unwrap();
    let error = biased(&turned, &window).run(&device, &q, &k, &v).unwrap_err().to_string();
    assert_eq!(error, "`bias` holds i32, expected f32, f16 or bf16");
    let error = biased(&doubles, &doubles.narrow(0, 0, 1).unwrap().view(0, [1], [1]).unwrap());
    let error = error.run(&device, &q, &k, &v).unwrap_err().to_string();
    assert_eq!(error, "`window` holds f32, expected i32");
}

#[test]
fn numbers_that_a_type_does_not_reach_are_not_read_as_it() {
    let device = devices::cpu();
    let integers = Tensor::from_slice(&device, [2, 3], &[1i32, 2, 3, 4, -5, i32::MIN]).unwrap();
    let message = "element [1, 1] of a tensor of i32 of shape [2, 3] is -5, expected a number of u32";
    assert_eq!(integers.to_vec::<u32>().unwrap_err().to_string(), message);
    assert_eq!(integers.narrow(0, 0, 1).unwrap().to_vec::<u32>().unwrap(), [1, 2, 3]);
    assert_eq!(integers.to_vec::<i64>().unwrap(), [1, 2, 3, 4, -5, i64::from(i32::MIN)]);
    assert_eq!(integers.to_vec::<f32>().unwrap(), [1.0, 2.0, 3.0, 4.0, -5.0, -2_147_483_648.0]);

    let floats = |numbers: &[f32]| Tensor::from_slice(&device, [numbers.len()], numbers).unwrap();
    let cut = floats(&[-1.9, 1.9, -0.9, 2_147_483_520.0, -2_147_483_648.0]);
    assert_eq!(cut.to_vec::<i32>().unwrap(), [-1, 1, 0, 2_147_483_520, i32::MIN]);
    assert_eq!(floats(&[-0.9, 4_294_967_040.0]).to_vec::<u32>().unwrap(), [0, 4_294_967_040]);
    for (number, shown) in
        [(2_147_483_648.0, "2147483648"), (f32::NAN, "NaN"), (f32::INFINITY, "inf"), (-1e20, "-100000002004087730000")]
    {
        let message = format!("element [1] of a tensor of f32 of shape [2] is {shown}, expected a number of i32");
        assert_eq!(floats(&[0.0, number]).to_vec::<i32>().unwrap_err().to_string(), message);
    }
    for number in [9_223_372_036_854_775_808.0, f32::NAN] {
        floats(&[number]).to_vec::<i64>().unwrap_err();
    }
    assert_eq!(floats(&[-9_223_372_036_854_775_808.0]).to_vec::<i64>().unwrap(), [i64::MIN]);
    assert_eq!(floats(&[0.0, f32::NAN, -2.0]).to_vec::<bool>().unwrap(), [false, true, true]);
}
