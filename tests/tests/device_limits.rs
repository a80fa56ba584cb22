//! What a device allows, and what an attention makes of it: grids, buffers, types, strides beyond 32 bits, and the iterations of loops
//! that Mesa's driver for CPUs runs.

use cubecl::prelude::CubeElement;
use cubecl::std::tensor::TensorHandle;
use half::f16;
use purview::ir::Element;
use purview::lang::{self, Builder};
use purview::{AnyAttention, Attention, Device, Error, Tensor, attention, cubecl};
use purview_examples::block_sparse::block_sparse;
use purview_examples::document_mask::document_mask;
use purview_tests::attentions::{full, memory, window};
use purview_tests::devices;
use std::sync::Arc;

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, Error>, message: &str) {
    assert_eq!(result.expect_err(message).to_string(), message);
}

fn each_device(test: &str, mut run: impl FnMut(&Device)) {
    run(&devices::cpu());
    devices::wgpu_all(test).iter().for_each(|described| run(&described.device));
}

/// WGSL with plane operations, whose kernels differ from the default's on some drivers.
fn wgsl(test: &str) -> Option<Device> {
    devices::wgpu(test).map(|_| Device::named("wgpu-wgsl").expect("every wgpu device takes WGSL"))
}

fn floats(device: &Device, shape: impl Into<Vec<usize>>, data: &[f32]) -> Tensor {
    Tensor::from_slice(device, shape, data).unwrap()
}

/// One element as all those of a tensor.
fn repeated(tensor: &Tensor, shape: [usize; 4]) -> Tensor {
    tensor.view(0, shape, [0; 4]).unwrap()
}

/// The products themselves, times the values.
#[attention]
fn products(q: Query, k: Key, v: Value) -> Output {
    for i in q.tiles() {
        let mut o = Sum::new();
        for j in k.tiles() {
            o.push(dot(q[i], k[j]), v[j]);
        }
        o
    }
}

/// Adds an element of a captured tensor of two dimensions.
#[attention]
fn biased(q: Query, k: Key, v: Value, bias: Tensor<f32, 2>) -> Output {
    for i in q.tiles() {
        let mut o = Sum::new();
        for j in k.tiles() {
            o.push(dot(q[i], k[j]) + bias[batch()][j], v[j]);
        }
        o
    }
}

/// Reads a tensor at what is in another.
#[attention]
fn looked_up(q: Query, k: Key, v: Value, place: Tensor<i32, 3>, bias: Tensor<f32, 1>) -> Output {
    for i in q.tiles() {
        let mut o = Sum::new();
        for j in k.tiles() {
            o.push(dot(q[i], k[j]) + bias[place[0][0][j]], v[j]);
        }
        o
    }
}

const FAR: usize = 1 << 34;

#[test]
fn a_stride_of_one_element_means_nothing() {
    each_device("a_stride_of_one_element_means_nothing", |device| {
        let (k, v) = (floats(device, [1, 1, 2, 1], &[0.0; 2]), floats(device, [1, 1, 2, 1], &[1.0, 3.0]));
        let q = floats(device, [1, 1, 1, 1], &[0.0]);
        let average = |q: &Tensor, k: &Tensor, v: &Tensor| {
            assert_eq!(full().run(device, q, k, v).unwrap().to_vec::<f32>().unwrap(), [2.0], "{device:?}");
        };
        average(&q, &k.view(0, [1, 1, 2, 1], [FAR, 1, 1, 1]).unwrap(), &v);
        average(&q, &k, &v.view(0, [1, 1, 2, 1], [1, FAR, 1, usize::MAX]).unwrap());
        average(&q.view(0, [1, 1, 1, 1], [usize::MAX; 4]).unwrap(), &k, &v);
        // Nor where it comes by other views.
        let far = v.view(0, [1, 1, 2, 1], [FAR, FAR, 1, FAR]).unwrap();
        average(&q, &k, &far.permuted([3, 1, 2, 0]).unwrap());
        average(&q, &k, &far.narrow(0, 0, 1).unwrap());
        assert_eq!(far.strides(), [FAR, FAR, 1, FAR]);

        // A captured tensor's.
        let bias = floats(device, [2], &[1.0, 2.0]).view(0, [1, 2], [usize::MAX, 1]).unwrap();
        let out = biased(&bias).run(device, &q, &k, &v).unwrap().to_vec::<f32>().unwrap();
        assert_eq!(out, [1.0 * 1.0 + 2.0 * 3.0], "{device:?}");
    });
}

#[test]
fn numbers_of_a_view_without_elements_mean_nothing() {
    each_device("numbers_of_a_view_without_elements_mean_nothing", |device| {
        let some = floats(device, [1, 1, 2, 1], &[1.0, 3.0]);
        let none = some.view(FAR, [1, 1, 0, 1], [FAR, usize::MAX, FAR, 1]).unwrap();
        let out = full().run(device, &some, &none, &none).unwrap();
        assert_eq!(out.to_vec::<f32>().unwrap(), [0.0; 2], "{device:?}");
        assert_eq!(full().run(device, &none, &some, &some).unwrap().shape(), [1, 1, 0, 1]);
        let wide = some.view(usize::MAX, [0, 5], [1, usize::MAX]).unwrap();
        assert!(wide.narrow(1, 4, 1).unwrap().to_vec::<f32>().unwrap().is_empty());
        let lengths = [0, 1 << 40, 1 << 40, 8];
        let nothing = Tensor::from_slice::<f32>(device, lengths, &[]).unwrap();
        assert_eq!(full().run(device, &nothing, &nothing, &nothing).unwrap().shape(), lengths);
    });
}

#[test]
fn strides_beyond_32_bits_are_refused() {
    let some = floats(&devices::cpu(), [8], &[0.0; 8]);
    let message =
        "a view of shape [2, 1, 2, 1] and strides [17179869184, 1, 1, 1] from element 0 reaches past its 8 elements";
    refused(some.view(0, [2, 1, 2, 1], [FAR, 1, 1, 1]), message);
    let message = format!(
        "a view of shape [3] and strides [{}] from element 0 reaches further than 2147483647 elements, which is as far as \
         kernels read",
        usize::MAX
    );
    refused(some.view(0, [3], [usize::MAX]), &message);
}

/// 65,537 batches, heads, and tiles of queries: one and a half of what wgpu launches along an axis.
#[test]
fn more_cubes_than_a_device_launches_at_once() {
    let run = |device: &Device| {
        let hardware = &device.client().properties().hardware;
        let many = if hardware.num_cpu_cores.is_some() { 65_536 } else { hardware.max_cube_count.2 as usize } + 1;
        if many > 1 << 17 {
            return eprintln!("SKIPPED on {device:?}: {many} cubes are too many to try");
        }
        let numbers = |count: usize| (0..count).map(|at| (at % 1009) as f32).collect::<Vec<f32>>();
        let check = |shape: [usize; 4], keys: [usize; 4]| {
            let q = floats(device, shape, &numbers(shape.iter().product()));
            let k = repeated(&floats(device, [1], &[1.0]), keys);
            let values: Vec<f32> = (0..keys.iter().product()).map(|at| (at % 7 + 1) as f32).collect();
            let out = products().run(device, &q, &k, &floats(device, keys, &values)).unwrap();
            let out = out.to_vec::<f32>().unwrap();
            let group = out.len() / values.len();
            let wrong = (0..out.len()).find(|at| out[*at] != (at % 1009) as f32 * values[at / group]);
            assert_eq!(wrong, None, "{shape:?} on {device:?}");
        };
        check([many, 1, 1, 1], [many, 1, 1, 1]);
        check([1, many, 1, 1], [1, many, 1, 1]);
        check([2, many, 3, 1], [2, 1, 1, 1]);
        check([1, 1, 32 * many, 1], [1; 4]);
    };
    run(&devices::cpu());
    if let Some(device) = wgsl("more_cubes_than_a_device_launches_at_once") {
        run(&device);
    }
}

#[test]
fn a_handle_of_a_type_that_the_device_lacks() {
    let Some(device) = wgsl("a_handle_of_a_type_that_the_device_lacks") else { return };
    let handle = |dtype| TensorHandle::new(device.client().create_from_slice(&[1; 16]), [8], [1], dtype);
    let message = "the device `wgpu-wgsl` has no u8: truth values are u32 there";
    refused(Tensor::from_handle(&device, handle(u8::cube_type())), message);
    refused(Tensor::from_handle(&device, handle(half::bf16::cube_type())), "the device `wgpu-wgsl` has no bf16");
    let sixteen = Tensor::from_handle(&device, handle(f16::cube_type()));
    assert_eq!(sixteen.is_ok(), device.supports(Element::F16));
    let truths = TensorHandle::new(device.client().create_from_slice(&[1; 32]), [8], [1], u32::cube_type());
    Tensor::from_handle(&device, truths).unwrap();
    // From a slice they are stored as the device can.
    assert_eq!(Tensor::from_slice(&device, [2], &[0u8, 9]).unwrap().to_vec::<u8>().unwrap(), [0, 1]);
}

#[test]
fn buffers_that_are_too_large() {
    let Some(device) = wgsl("buffers_that_are_too_large") else { return };
    let limit = device.client().properties().memory.max_page_size as usize;
    if limit > 1 << 28 {
        return eprintln!("SKIPPED: the device's buffers have {limit} bytes, too many to try");
    }
    let large = |what: &str, bytes: usize| {
        format!("{what} takes {bytes} bytes, and the device `wgpu-wgsl` has buffers of at most {limit}")
    };
    let most = limit / 4;
    let mut data: Vec<f32> = (0..=most).map(|at| (at % 1013) as f32).collect();
    let message = large(&format!("a tensor of shape [{}] in f32", most + 1), 4 * most + 4);
    refused(Tensor::from_slice(&device, [most + 1], &data), &message);
    data.pop();
    let tensor = floats(&device, [most], &data);
    assert!(tensor.to_vec::<f32>().unwrap() == data, "as large as can be");
    drop(tensor);
    refused(
        Tensor::from_slice(&device, [most + 1], &vec![true; most + 1]),
        &large(&format!("a tensor of shape [{}] in u32", most + 1), 4 * most + 4),
    );
    let memory = device.client().empty(limit + 4);
    let handle = TensorHandle::new(memory, [2], [1], f32::cube_type());
    refused(Tensor::from_handle(&device, handle), &large("the memory of a handle of f32", limit + 4));

    // The results of small operands.
    let one = floats(&device, [1], &[1.0]);
    let queries = most / 256 + 1;
    let (q, k) = (repeated(&one, [1, 1, queries, 1]), repeated(&one, [1, 1, 1, 1]));
    let message = large(&format!("the output of shape [1, 1, {queries}, 256] in f32"), 1024 * queries);
    refused(full().run(&device, &q, &k, &repeated(&one, [1, 1, 1, 256])), &message);
    if device.supports(Element::F16) {
        let one = Tensor::from_slice(&device, [1], &[f16::ONE]).unwrap();
        let (q, k) = (repeated(&one, [1, 1, most + 1, 1]), repeated(&one, [1, 1, 1, 1]));
        let message = large(&format!("the log-sum-exp of shape [1, 1, {}] in f32", most + 1), 4 * most + 4);
        refused(full().with_lse().run(&device, &q, &k, &k), &message);
    }
}

/// Reads the first element of each of `count` captured tensors, and where `masked` sees keys whose `kind` is 1.
fn many_tensors(device: &Device, count: usize, masked: bool) -> AnyAttention {
    let mut builder = Builder::new("many_tensors", "", "device_limits.rs", 1, 1);
    let query = builder.query("q");
    let (key, value) = (builder.key("k", 0), builder.value("v", 0));
    let mut score = lang::dot(0);
    for at in 0..count {
        let tensor = builder.tensor::<lang::Float, 1>(&format!("t{at}"));
        score = lang::add(score, tensor.load([lang::int(0)]));
    }
    let mut tensors: Vec<Tensor> = (0..count).map(|at| floats(device, [1], &[at as f32])).collect();
    if masked {
        let kind = builder.tensor::<lang::Int, 1>("kind");
        score = lang::mask(score, lang::eq(kind.load([lang::key_position()]), lang::int(1)));
        tensors.push(Tensor::from_slice(device, [1], &[1i32]).unwrap());
    }
    builder.sum("o");
    builder.key_loop(0, &[(query, key)]);
    builder.push(0, score, value);
    Attention::<1>::new(Arc::new(builder.finish()), Vec::new(), tensors).into()
}

#[test]
fn more_buffers_than_a_kernel_takes() {
    let Some(device) = wgsl("more_buffers_than_a_kernel_takes") else { return };
    let limit = device.client().properties().hardware.max_bindings as usize;
    if limit > 200 {
        return eprintln!("SKIPPED: {limit} buffers are too many to try");
    }
    let one = floats(&device, [1, 1, 1, 1], &[1.0]);
    let run = |count: usize| many_tensors(&device, count, false).run(&device, &one, &[(&one, &one)]);
    // Three operands and the output: a sum has no numbers of rows.
    let sum = (0..limit - 4).sum::<usize>() as f32 + 1.0;
    assert_eq!(run(limit - 4).unwrap().to_vec::<f32>().unwrap(), [sum]);
    let refused_with = |result, names: &[String]| {
        let message = format!(
            "`many_tensors` takes {} buffers, and a kernel of the device `wgpu-wgsl` has at most {limit}; they hold {}",
            limit + 1,
            names.join(", ")
        );
        refused(result, &message);
    };
    let mut names = ["`q`", "`k`", "`v`", "the output"].map(String::from).to_vec();
    names.extend((0..limit - 3).map(|at| format!("`t{at}`")));
    refused_with(run(limit - 3), &names);

    names.truncate(limit - 2);
    names.extend(["`kind`", "a summary of `kind`", "the count of tiles"].map(String::from));
    let masked = many_tensors(&device, limit - 6, true);
    refused_with(masked.run_counting(&device, &one, &[(&one, &one)]).map(|(out, _)| out), &names);
}

/// The range of a captured tensor is found over all of it: a unit that looked at a block of three dimensions would be stopped.
#[test]
fn the_range_of_a_tensor_of_three_dimensions() {
    each_device("the_range_of_a_tensor_of_three_dimensions", |device| {
        let mut places = vec![0i32; 64 * 64 * 64];
        places[64 * 64 * 64 - 1] = 5;
        let place = Tensor::from_slice(device, [64, 64, 64], &places).unwrap();
        let one = floats(device, [1, 1, 1, 1], &[1.0]);
        let run = |length: usize| {
            looked_up(&place, &floats(device, [length], &vec![1.0; length])).run(device, &one, &one, &one)
        };
        assert_eq!(run(6).unwrap().to_vec::<f32>().unwrap(), [2.0], "{device:?}");
        let error = run(5).expect_err("5 is out of range").to_string();
        assert!(error.ends_with("ranges over 0..=5, its dimension 0 has length 5"), "{error} on {device:?}");
    });
}

/// Devices whose driver ends loops.
fn with_short_loops(test: &str) -> Vec<devices::Described> {
    let all = devices::wgpu_all(test).into_iter();
    all.filter(|described| described.device.client().properties().identity.name.starts_with("llvmpipe")).collect()
}

/// Keys of zeros, and values of which the first half is 0 and the other 1.
fn halves(device: &Device, keys: usize, qk_dim: usize, v_dim: usize) -> [Tensor; 2] {
    let one = floats(device, [1], &[0.0]);
    let mut values = vec![0.0; keys * v_dim];
    values[keys / 2 * v_dim..].fill(1.0);
    [repeated(&one, [1, 1, keys, qk_dim]), floats(device, [1, 1, keys, v_dim], &values)]
}

/// The keys that fit, from the error of a launch with far more.
fn fitting(error: Error) -> usize {
    match error {
        Error::LoopIterations { fitting, needed, limit, .. } => {
            assert!(needed > limit && limit == 65_535, "{needed} > {limit}");
            fitting as usize
        }
        other => panic!("{other}"),
    }
}

#[test]
fn loops_that_a_driver_ends() {
    for devices::Described { device, what } in with_short_loops("loops_that_a_driver_ends") {
        for (qk_dim, v_dim) in [(64, 64), (128, 128), (256, 256), (1, 40)] {
            let q = repeated(&floats(&device, [1], &[0.0]), [1, 1, 1, qk_dim]);
            let run = |keys: usize| {
                let [k, v] = halves(&device, keys, qk_dim, v_dim);
                full().run_with_counts(&device, &q, &k, &v)
            };
            let [k, v] = [qk_dim, v_dim].map(|dim| repeated(&floats(&device, [1], &[0.0]), [1, 1, 1 << 20, dim]));
            let fitting = fitting(full().run(&device, &q, &k, &v).expect_err("a million keys"));
            println!("{what}: {qk_dim}/{v_dim}: {fitting} keys fit");
            assert!(fitting > 256);
            let out = run(fitting).unwrap();
            assert!(out.iter().all(|x| (x - 0.5).abs() < 1e-4), "{what}: {qk_dim}/{v_dim}: {}", out[0]);
            assert!(run(fitting + 1).is_err(), "{what}: {qk_dim}/{v_dim}: a tile more");
        }
    }
}

/// Runs the kernel that also counts its tiles, which must be all there are.
trait RunWithCounts {
    fn run_with_counts(self, device: &Device, q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Vec<f32>, Error>;
}

impl RunWithCounts for Attention<1> {
    fn run_with_counts(self, device: &Device, q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Vec<f32>, Error> {
        let attention: AnyAttention = self.into();
        let (out, counts) = attention.run_counting(device, q, &[(k, v)])?;
        assert!(counts[0].visited * 64 >= k.shape()[2] as u64, "{counts:?}");
        out.to_vec::<f32>()
    }
}

/// Hides one key.
#[attention]
fn all_but(q: Query, k: Key, v: Value, hidden: i32) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push(mask(dot(q[i], k[j]) * scale(), j != hidden), v[j]);
        }
        o
    }
}

/// What a hidden key holds makes a row be computed a second time, which takes more loops.
#[test]
fn loops_of_rows_that_are_computed_again() {
    for devices::Described { device, what } in with_short_loops("loops_of_rows_that_are_computed_again") {
        for dim in [64, 256] {
            let zero = floats(&device, [1], &[0.0]);
            // In rows of elements side by side, which are read four at a time: with one at a time a row with care has more loops.
            let queries = |count: usize| floats(&device, [1, 1, count, dim], &vec![0.0; count * dim]);
            let many = repeated(&zero, [1, 1, 1 << 20, dim]);
            let fitting = fitting(all_but(5).run(&device, &queries(1), &many, &many).expect_err("a million keys"));
            for (rows, keys) in [(1, 512), (6, 64), (1, fitting)] {
                let mut values = vec![0.0; keys * dim];
                let k = floats(&device, [1, 1, keys, dim], &values);
                values[keys / 2 * dim..].fill(1.0);
                values[5 * dim..6 * dim].fill(f32::NAN);
                let v = floats(&device, [1, 1, keys, dim], &values);
                let out = all_but(5).run(&device, &queries(rows), &k, &v).unwrap().to_vec::<f32>().unwrap();
                println!("{what}: {dim}: {rows} queries, {keys} keys: {}", out[0]);
                let want = keys as f32 / 2.0 / (keys - 1) as f32;
                let right = out.iter().all(|x| (x - want).abs() < 1e-3);
                // With as many keys as fit, there is no room to compute it again, and a NaN says so.
                let unknown = keys == fitting && out.iter().all(|x| x.is_nan());
                assert!(right || unknown, "{what}: {dim}: {rows} queries, {keys} keys: {}", out[0]);
            }
        }
    }
}

#[test]
fn loops_over_few_of_many_keys() {
    for devices::Described { device, what } in with_short_loops("loops_over_few_of_many_keys") {
        // A window visits what it sees, however many keys there are.
        let (keys, size) = (1 << 20, 512);
        let mut values = vec![1.0; keys];
        values[keys - size / 2..].fill(3.0);
        let zero = floats(&device, [1], &[0.0]);
        let (q, k) = (repeated(&zero, [1, 1, 1, 64]), repeated(&zero, [1, 1, keys, 64]));
        let v = floats(&device, [1, 1, keys, 1], &values);
        let out = window(size as u32).run(&device, &q, &k, &v).unwrap().to_vec::<f32>().unwrap();
        assert_eq!(out, [2.0], "{what}");
        fitting(window(keys as u32).run(&device, &q, &k, &v).expect_err("a window of a million keys"));

        // The keys of two pairs count together.
        let v = repeated(&zero, [1, 1, keys, 64]);
        let [small_k, small_v] = halves(&device, 64, 64, 64);
        let pairs = [(&k, &v), (&small_k, &small_v)];
        let fitting = fitting(memory().run_pairs(&device, &q, pairs).expect_err("a million keys")) / 128 * 64;
        let [k, v] = halves(&device, fitting - 64, 64, 64);
        let out = memory().run_pairs(&device, &q, [(&k, &v), (&k, &v)]).unwrap().to_vec::<f32>().unwrap();
        assert!(out.iter().all(|x| (x - 0.5).abs() < 1e-4), "{what}: {}", out[0]);
        let [k, v] = halves(&device, fitting + 64, 64, 64);
        assert!(memory().run_pairs(&device, &q, [(&k, &v), (&k, &v)]).is_err(), "{what}");
    }
}

#[test]
fn loops_over_summaries() {
    for devices::Described { device, what } in with_short_loops("loops_over_summaries") {
        let zero = floats(&device, [1], &[0.0]);
        let q = repeated(&zero, [1, 1, 1, 64]);
        let check = |name: &str, attention: &dyn Fn(usize) -> AnyAttention| {
            // Not so many that a summary of blocks were too large for a buffer, and every tile visited.
            let many = repeated(&zero, [1, 1, 1 << 17, 64]);
            let error = attention(1 << 17).run(&device, &q, &[(&many, &many)]).expect_err("many keys");
            let fitting = fitting(error);
            println!("{what}: {name}: {fitting} keys fit");
            assert!(fitting > 256, "{name}: {fitting}");
            let [k, v] = halves(&device, fitting, 64, 64);
            let out = attention(fitting).run(&device, &q, &[(&k, &v)]).unwrap().to_vec::<f32>().unwrap();
            assert!(out.iter().all(|x| (x - 0.5).abs() < 1e-4), "{what}: {name}: {}", out[0]);
            assert!(attention(fitting + 64).run(&device, &q, &[(&k, &v)]).is_ok(), "only the keys count");
            let [k, v] = halves(&device, fitting + 64, 64, 64);
            assert!(attention(fitting + 64).run(&device, &q, &[(&k, &v)]).is_err(), "{what}: {name}");
        };
        check("documents in any order", &|keys| {
            document_mask(&Tensor::from_slice(&device, [1, keys], &vec![3i32; keys]).unwrap()).into()
        });
        check("blocks", &|keys| {
            let blocks = keys.div_ceil(64);
            let layout = Tensor::from_slice(&device, [1, blocks], &vec![true; blocks]).unwrap();
            block_sparse(&layout.view(0, [blocks, blocks], [0, 1]).unwrap(), 64).into()
        });
    }
}
