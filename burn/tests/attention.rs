//! Outputs and gradients against those of burn's own attention with a mask, and what is refused. `--features fusion` runs the same under burn's
//! fusion.

#![allow(clippy::result_large_err, reason = "a test goes on or ends, and how large it is depends on features")]

use burn::module::Module;
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{Bool, DType, Device, Distribution, Int, Tensor, TensorData, module};
use purview::AnyAttention;
use purview_burn::{Error, PurviewAttention, PurviewAttentionConfig, attention, captured};

mod attentions {
    use purview::prelude::*;

    /// Each position sees itself and the `window - 1` before it.
    #[attention]
    pub fn sliding_window(q: Query, k: Key, v: Value, window: u32) -> Output {
        for i in q.tiles() {
            let mut o = Softmax::new();
            for j in k.tiles() {
                o.push(mask(dot(q[i], k[j]) * scale(), j <= i && i - j < window), v[j]);
            }
            o
        }
    }

    /// Each position sees those of its own document before it.
    #[attention]
    pub fn document(q: Query, k: Key, v: Value, #[sorted] doc: Tensor<i32, 2>) -> Output {
        for i in q.tiles() {
            let mut o = Softmax::new();
            for j in k.tiles() {
                let s = dot(q[i], k[j]) * scale();
                o.push(mask(s, j <= i && doc[batch()][i] == doc[batch()][j]), v[j]);
            }
            o
        }
    }

    /// Each position sees what is allowed.
    #[attention]
    pub fn allowed(q: Query, k: Key, v: Value, seen: Tensor<bool, 2>) -> Output {
        for i in q.tiles() {
            let mut o = Softmax::new();
            for j in k.tiles() {
                o.push(mask(dot(q[i], k[j]) * scale(), seen[i][j]), v[j]);
            }
            o
        }
    }

    /// A bias for each head and key.
    #[attention]
    pub fn biased(q: Query, k: Key, v: Value, bias: Tensor<f32, 2>) -> Output {
        for i in q.tiles() {
            let mut o = Softmax::new();
            for j in k.tiles() {
                o.push(dot(q[i], k[j]) * scale() + bias[head()][j], v[j]);
            }
            o
        }
    }

    /// A bias for each distance, a slope for each head and key, and a gate for each head.
    #[attention]
    pub fn learned(
        q: Query,
        k: Key,
        v: Value,
        table: Tensor<f32, 2>,
        bias: Tensor<f32, 2>,
        gate: Tensor<f32, 1>,
        other: Tensor<f32, 2>,
    ) -> Output {
        for i in q.tiles() {
            let mut o = Softmax::new();
            for j in k.tiles() {
                let s = dot(q[i], k[j]) * scale() + table[head()][i - j + 80] + bias[head()][j] * other[head()][j];
                o.push(s, v[j]);
            }
            o * gate[head()]
        }
    }

    /// Many biases of keys.
    #[attention]
    #[allow(clippy::too_many_arguments)]
    pub fn many(
        q: Query,
        k: Key,
        v: Value,
        t0: Tensor<f32, 1>,
        t1: Tensor<f32, 1>,
        t2: Tensor<f32, 1>,
        t3: Tensor<f32, 1>,
        t4: Tensor<f32, 1>,
        t5: Tensor<f32, 1>,
        t6: Tensor<f32, 1>,
        t7: Tensor<f32, 1>,
        t8: Tensor<f32, 1>,
        t9: Tensor<f32, 1>,
        t10: Tensor<f32, 1>,
        t11: Tensor<f32, 1>,
        t12: Tensor<f32, 1>,
        t13: Tensor<f32, 1>,
        t14: Tensor<f32, 1>,
        t15: Tensor<f32, 1>,
        t16: Tensor<f32, 1>,
    ) -> Output {
        for i in q.tiles() {
            let mut o = Softmax::new();
            for j in k.tiles() {
                let few = t0[j] + t1[j] + t2[j] + t3[j] + t4[j] + t5[j];
                let more = t6[j] + t7[j] + t8[j] + t9[j] + t10[j] + t11[j];
                let most = t12[j] + t13[j] + t14[j] + t15[j] + t16[j];
                o.push(dot(q[i], k[j]) * scale() + few + more + most, v[j]);
            }
            o
        }
    }

    /// Weights that are divided by their sum.
    #[attention]
    pub fn mean(q: Query, k: Key, v: Value) -> Output {
        for i in q.tiles() {
            let mut o = Mean::new();
            for j in k.tiles() {
                o.push(sigmoid(dot(q[i], k[j]) * scale()), v[j]);
            }
            o
        }
    }
}

/// Queries, keys and values.
type Operands = [Tensor<4>; 3];

/// Sizes of a launch.
#[derive(Clone, Copy)]
struct Sizes {
    heads: usize,
    kv_heads: usize,
    queries: usize,
    keys: usize,
    dim: usize,
}

const BATCH: usize = 2;

/// Random numbers; keys and values lie as `[B, T, G, D]`, as projections leave them.
fn operands(sizes: Sizes, device: &Device) -> Operands {
    let Sizes { heads, kv_heads, queries, keys, dim } = sizes;
    let random = |shape: [usize; 4]| Tensor::<4>::random(shape, Distribution::Normal(0.0, 1.0), device);
    let along_keys = || random([BATCH, keys, kv_heads, dim]).swap_dims(1, 2);
    [random([BATCH, heads, queries, dim]), along_keys(), along_keys()]
}

/// burn's own attention, of which `hidden` `[S, T]` or `[B, S, T]` says what is not seen.
fn by_burn(operands: Operands, hidden: Tensor<3, Bool>) -> Tensor<4> {
    let [q, k, v] = operands;
    let [batch, heads, queries, dim] = q.dims();
    let [_, kv_heads, keys, _] = k.dims();
    let shared = |x: Tensor<4>| {
        let x = x.unsqueeze_dim::<5>(2).expand([batch, kv_heads, heads / kv_heads, keys, dim]);
        x.reshape([batch, heads, keys, dim])
    };
    let hidden = hidden.unsqueeze_dim::<4>(1).expand([batch, heads, queries, keys]);
    let options = AttentionModuleOptions { scale: None, softcap: None, is_causal: false };
    module::attention(q, shared(k), shared(v), Some(hidden), None, options)
}

/// What `is_seen` says is not, of each row of a batch, query and key.
fn hidden(sizes: Sizes, device: &Device, is_seen: impl Fn(usize, i64, i64) -> bool) -> Tensor<3, Bool> {
    let Sizes { queries, keys, .. } = sizes;
    let mut hidden = Vec::new();
    for row in 0..BATCH {
        for i in 0..queries as i64 {
            // The last query is at the last key.
            let at = i + keys as i64 - queries as i64;
            hidden.extend((0..keys as i64).map(|j| !is_seen(row, at, j)));
        }
    }
    Tensor::from_data(TensorData::new(hidden, [BATCH, queries, keys]), device)
}

fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_to_vec().unwrap()
}

/// The greatest difference, relative to the greatest magnitude.
fn error<const D: usize>(found: Tensor<D>, want: Tensor<D>) -> f32 {
    assert_eq!(found.dims(), want.dims());
    let (found, want) = (numbers(found), numbers(want));
    let magnitude = want.iter().fold(0.0f32, |most, x| most.max(x.abs()));
    found.iter().zip(&want).fold(0.0f32, |most, (a, b)| most.max((a - b).abs())) / magnitude
}

/// Checks output and gradients of `variant` on `device` against burn's own, where `hidden` says what is not seen.
fn check(variant: &AnyAttention, sizes: Sizes, device: &Device, hidden: Tensor<3, Bool>) {
    device.seed(5);
    let [q, k, v] = operands(sizes, device);
    let d_out = Tensor::<4>::random([BATCH, sizes.heads, sizes.queries, sizes.dim], Distribution::Default, device);
    let leaves = || [q.clone(), k.clone(), v.clone()].map(|leaf| leaf.detach().require_grad());
    let (ours, theirs) = (leaves(), leaves());
    // Queries are also used elsewhere, before and after.
    let scaled = |leaves: &Operands| [leaves[0].clone() * 1.5, leaves[1].clone(), leaves[2].clone()];
    let [q, k, v] = scaled(&ours);
    let found = attention(variant, q.clone(), k, v).unwrap();
    let found_sum = (found.clone() * d_out.clone()).sum() + (q * 0.5).sum();
    let [q, k, v] = scaled(&theirs);
    let want = by_burn([q.clone(), k, v], hidden);
    let want_sum = (want.clone() * d_out).sum() + (q * 0.5).sum();
    let (found_gradients, want_gradients) = (found_sum.backward(), want_sum.backward());
    let outputs = error(found, want);
    assert!(outputs <= 2e-5, "the output differs by {outputs}");
    for ((name, ours), theirs) in ["q", "k", "v"].iter().zip(&ours).zip(&theirs) {
        let gradients = error(ours.grad(&found_gradients).unwrap(), theirs.grad(&want_gradients).unwrap());
        assert!(gradients <= 2e-5, "the gradient of {name} differs by {gradients}");
    }
}

const SIZES: [Sizes; 3] = [
    Sizes { heads: 4, kv_heads: 4, queries: 70, keys: 70, dim: 16 },
    Sizes { heads: 4, kv_heads: 2, queries: 33, keys: 129, dim: 24 },
    Sizes { heads: 3, kv_heads: 1, queries: 64, keys: 64, dim: 64 },
];

#[test]
fn windows() {
    let device = Device::cpu().autodiff();
    for sizes in SIZES {
        let hidden = hidden(sizes, &device, |_, i, j| j <= i && i - j < 20);
        check(&attentions::sliding_window(20).into(), sizes, &device, hidden);
    }
}

#[test]
fn gradient_checkpointing() {
    let device = Device::cpu().autodiff().gradient_checkpointing();
    let hidden = hidden(SIZES[1], &device, |_, i, j| j <= i && i - j < 20);
    check(&attentions::sliding_window(20).into(), SIZES[1], &device, hidden);
}

#[test]
fn packed_documents() {
    let device = Device::cpu().autodiff();
    let sizes = SIZES[0];
    let document = |row: usize, at: i64| if row == 0 { at / 30 } else { i64::from(at > 55) };
    let ids: Vec<i32> = (0..BATCH).flat_map(|row| (0..70).map(move |at| document(row, at) as i32)).collect();
    let ids = Tensor::<2, Int>::from_data(TensorData::new(ids, [BATCH, 70]), &device);
    let hidden = hidden(sizes, &device, |row, i, j| j <= i && document(row, i) == document(row, j));
    check(&attentions::document(&captured(&ids).unwrap()).into(), sizes, &device, hidden);
}

#[test]
fn a_captured_mask() {
    let device = Device::cpu().autodiff();
    let sizes = SIZES[0];
    let is_seen = |_: usize, i: i64, j: i64| (i * 7 + j * 3) % 5 < 2;
    let hidden = hidden(sizes, &device, is_seen);
    let seen = hidden.clone().slice([0..1, 0..70, 0..70]).reshape([70, 70]).bool_not();
    check(&attentions::allowed(&captured(&seen).unwrap()).into(), sizes, &device, hidden);
}

#[test]
fn without_autodiff() {
    let device = Device::cpu();
    let sizes = SIZES[1];
    let [q, k, v] = operands(sizes, &device);
    let found = attention(&attentions::sliding_window(9), q.clone(), k.clone(), v.clone()).unwrap();
    let hidden = hidden(sizes, &device, |_, i, j| j <= i && i - j < 9);
    let different = error(found, by_burn([q.clone(), k.clone(), v.clone()], hidden));
    assert!(different <= 2e-5, "{different}");
    assert_eq!(attention(&attentions::mean(), q, k, v).unwrap().dims(), [BATCH, 4, 33, 24]);
}

#[test]
fn a_captured_bias_of_burns_own_operations() {
    let device = Device::cpu().autodiff();
    let sizes = SIZES[0];
    let [q, k, v] = operands(sizes, &device);
    let bias = Tensor::<2>::random([4, 70], Distribution::Default, &device) * 2.0;
    let found = attention(&attentions::biased(&captured(&bias).unwrap()), q.clone(), k.clone(), v.clone()).unwrap();
    let bias = bias.reshape([1, 4, 1, 70]).expand([BATCH, 4, 70, 70]);
    let options = AttentionModuleOptions { scale: None, softcap: None, is_causal: false };
    let different = error(found, module::attention(q, k, v, None, Some(bias), options));
    assert!(different <= 2e-5, "{different}");
}

/// What [`attentions::learned`] captures: a table of distances, biases of keys twice over, and gates.
struct Learned {
    table: Tensor<2>,
    bias: Tensor<2>,
    gate: Tensor<1>,
}

impl Learned {
    fn leaves(&self) -> Learned {
        let Learned { table, bias, gate } = self;
        let leaf = |tensor: &Tensor<2>| tensor.clone().detach().require_grad();
        Learned { table: leaf(table), bias: leaf(bias), gate: gate.clone().detach().require_grad() }
    }
}

#[test]
fn captured_tensors_have_gradients() {
    let device = Device::cpu().autodiff();
    device.seed(9);
    let sizes = SIZES[0];
    let operands = operands(sizes, &device);
    let Sizes { heads, queries, keys, .. } = sizes;
    let random = |length: usize| Tensor::<2>::random([heads, length], Distribution::Default, &device);
    let given = Learned { table: random(160), bias: random(keys), gate: random(1).reshape([heads]) };
    let (ours, theirs) = (given.leaves(), given.leaves());
    let d_out = random(BATCH * queries * sizes.dim).reshape([heads, BATCH, queries, sizes.dim]).swap_dims(0, 1);

    let [q, k, v] = operands.clone();
    // Captured twice, as it is and as what an operation makes of it; and used elsewhere.
    let doubled = ours.bias.clone() * 2.0;
    let variant = attentions::learned(
        &captured(&ours.table).unwrap(),
        &captured(&ours.bias).unwrap(),
        &captured(&ours.gate).unwrap(),
        &captured(&doubled).unwrap(),
    );
    let found = attention(&variant, q, k, v).unwrap();
    let found_sum = (found.clone() * d_out.clone()).sum() + ours.bias.clone().sum();

    let [q, k, v] = operands;
    let at = |i: usize, j: usize| (i + 80 - j) as i32;
    let places: Vec<i32> = (0..queries).flat_map(|i| (0..keys).map(move |j| at(i, j))).collect();
    let places = Tensor::<1, Int>::from_data(TensorData::new(places, [queries * keys]), &device);
    let of_distances = theirs.table.clone().select(1, places).reshape([1, heads, queries, keys]);
    let of_keys = (theirs.bias.clone() * theirs.bias.clone() * 2.0).reshape([1, heads, 1, keys]);
    let bias = (of_distances + of_keys).expand([BATCH, heads, queries, keys]);
    let options = AttentionModuleOptions { scale: None, softcap: None, is_causal: false };
    let want = module::attention(q, k, v, None, Some(bias), options) * theirs.gate.clone().reshape([1, heads, 1, 1]);
    let want_sum = (want.clone() * d_out).sum() + theirs.bias.clone().sum();

    let (found_gradients, want_gradients) = (found_sum.backward(), want_sum.backward());
    let outputs = error(found, want);
    assert!(outputs <= 2e-5, "the output differs by {outputs}");
    let different = [
        error(ours.table.grad(&found_gradients).unwrap(), theirs.table.grad(&want_gradients).unwrap()),
        error(ours.bias.grad(&found_gradients).unwrap(), theirs.bias.grad(&want_gradients).unwrap()),
        error(ours.gate.grad(&found_gradients).unwrap(), theirs.gate.grad(&want_gradients).unwrap()),
    ];
    assert!(different.iter().all(|different| *different <= 2e-5), "{different:?}");
}

#[test]
fn a_captured_tensor_without_a_gradient_beside_one_with() {
    let device = Device::cpu().autodiff();
    let [q, k, v] = operands(SIZES[0], &device);
    let bias = Tensor::<2>::ones([4, 70], &device);
    let (wanted, frozen) = (bias.clone().require_grad(), bias);
    for (tensor, has_one) in [(&wanted, true), (&frozen, false)] {
        let variant = attentions::biased(&captured(tensor).unwrap());
        let q = q.clone().require_grad();
        let out = attention(&variant, q.clone(), k.clone(), v.clone()).unwrap();
        let gradients = out.sum().backward();
        assert_eq!(tensor.grad(&gradients).is_some(), has_one);
        assert!(q.grad(&gradients).is_some());
    }
}

#[test]
fn many_captured_tensors() {
    let device = Device::cpu().autodiff();
    let [q, k, v] = operands(SIZES[0], &device);
    let bias = Tensor::<1>::random([70], Distribution::Default, &device);
    // All are alike, and so are their gradients, whatever the number of those that are wanted.
    let gradients = |wanted: usize| {
        let leaves: Vec<Tensor<1>> =
            (0..17).map(|at| if at < wanted { bias.clone().detach().require_grad() } else { bias.clone() }).collect();
        let t: Vec<purview::Tensor> = leaves.iter().map(|leaf| captured(leaf).unwrap()).collect();
        let many = attentions::many(
            &t[0], &t[1], &t[2], &t[3], &t[4], &t[5], &t[6], &t[7], &t[8], &t[9], &t[10], &t[11], &t[12], &t[13],
            &t[14], &t[15], &t[16],
        );
        let out = attention(&many, q.clone(), k.clone(), v.clone())?;
        let gradients = (out.clone() * out).sum().backward();
        Ok(leaves.iter().map_while(|leaf| leaf.grad(&gradients)).map(numbers).collect::<Vec<_>>())
    };
    let one = gradients(1).unwrap();
    for wanted in [2, 16] {
        assert_eq!(gradients(wanted).unwrap(), vec![one[0].clone(); wanted]);
    }
    assert_eq!(text(gradients(17)), "17 captured tensors require a gradient, expected at most 16");
}

/// The same weights, `d_out` and steps by both attentions: the weights agree after them.
#[test]
fn steps_of_an_optimizer() {
    let device = Device::cpu().autodiff();
    device.seed(3);
    let sizes = Sizes { heads: 6, kv_heads: 2, queries: 40, keys: 40, dim: 8 };
    let hidden = hidden(sizes, &device, |_, i, j| j <= i && i - j < 8);
    let x = Tensor::<3>::random([BATCH, 40, 48], Distribution::Default, &device);
    let target = Tensor::<3>::random([BATCH, 40, 48], Distribution::Default, &device);
    let first = layer(&device);
    let train = |is_burns: bool| {
        let mut model = first.clone();
        let mut optimizer = burn::optim::AdamWConfig::new().init();
        let mut losses = Vec::new();
        for _ in 0..4 {
            let out = if is_burns {
                let of = |linear: &burn::nn::Linear| {
                    let projected = linear.forward(x.clone());
                    let heads = projected.dims()[2] / 8;
                    projected.reshape([BATCH, 40, heads, 8]).swap_dims(1, 2)
                };
                let out = by_burn([of(&model.query), of(&model.key), of(&model.value)], hidden.clone());
                model.output.forward(out.swap_dims(1, 2).reshape([BATCH, 40, 48]))
            } else {
                model.forward(&attentions::sliding_window(8), x.clone()).unwrap()
            };
            let wrong = out - target.clone();
            let loss = (wrong.clone() * wrong).mean();
            let gradients = burn::optim::GradientsParams::from_grads(loss.backward(), &model);
            model = optimizer.step(1e-2, model, gradients);
            losses.push(loss.into_scalar::<f32>());
        }
        (model, losses)
    };
    let ((ours, found), (theirs, want)) = (train(false), train(true));
    assert!(found[3] < found[0], "{found:?}");
    assert!(found.iter().zip(&want).all(|(a, b)| (a - b).abs() <= 1e-5), "{found:?} and {want:?}");
    let weights = |model: &PurviewAttention| {
        [&model.query, &model.key, &model.value, &model.output].map(|linear| linear.weight.val().inner())
    };
    for ((name, ours), theirs) in ["query", "key", "value", "output"].iter().zip(weights(&ours)).zip(weights(&theirs)) {
        let different = error(ours, theirs);
        assert!(different <= 1e-3, "the weights of {name} differ by {different}");
    }
}

#[test]
fn the_same_tensors_give_the_same_bits() {
    let device = Device::cpu().autodiff();
    let operands = operands(SIZES[1], &device);
    let gradients = || {
        let [q, k, v] = operands.clone().map(|leaf| leaf.detach().require_grad());
        let out = attention(&attentions::sliding_window(9), q.clone(), k.clone(), v.clone()).unwrap();
        let gradients = (out.clone() * out).sum().backward();
        [q, k, v].map(|leaf| numbers(leaf.grad(&gradients).unwrap()))
    };
    assert_eq!(gradients(), gradients());
}

#[test]
fn only_what_is_wanted_has_a_gradient() {
    let device = Device::cpu().autodiff();
    let [q, k, v] = operands(SIZES[0], &device);
    let v = v.require_grad();
    let out = attention(&attentions::sliding_window(9), q.clone(), k.clone(), v.clone()).unwrap();
    let gradients = out.sum().backward();
    assert!(q.grad(&gradients).is_none() && k.grad(&gradients).is_none());
    assert_eq!(v.grad(&gradients).unwrap().dims(), v.dims());
}

fn text<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn errors() {
    let device = Device::cpu().autodiff();
    let [q, k, v] = operands(SIZES[0], &device);
    let window = attentions::sliding_window(9);
    let other = Tensor::<4>::zeros([BATCH, 4, 70, 8], &device);
    assert_eq!(
        text(attention(&window, q.clone(), other, v.clone())),
        "head dims of queries and keys differ: `k` is [2, 4, 70, 8], `q` is [2, 4, 70, 16]"
    );
    // Also of tensors that a gradient is wanted of, and after it burn goes on.
    let few = Tensor::<4>::zeros([BATCH, 3, 70, 16], &device).require_grad();
    assert_eq!(
        text(attention(&window, q.clone(), few.clone(), few)),
        "`q` has 4 heads, which is not a multiple of the 3 heads of `k`"
    );
    let unsorted = Tensor::<2, Int>::from_data([[3, 2, 1], [1, 1, 1]], &device);
    let unsorted = attentions::document(&captured(&unsorted).unwrap());
    let short = |x: &Tensor<4>| x.clone().slice([0..2, 0..4, 0..3, 0..16]);
    assert_eq!(
        text(attention(&unsorted, short(&q), short(&k), short(&v))),
        "`doc` of shape [2, 3] is declared `#[sorted]`, but an element of it is less than the one before it along the last dimension"
    );
    let bias = captured(&Tensor::<2>::zeros([4, 70], &device).require_grad()).unwrap();
    let plain = [&q, &k, &v].map(|tensor| tensor.clone().inner());
    let [plain_q, plain_k, plain_v] = plain;
    assert_eq!(
        text(attention(&attentions::biased(&bias), plain_q, plain_k, plain_v)),
        "a captured tensor requires a gradient, and the query is on a device without autodiff\n\
         help: `captured(&tensor.inner())`, if it is not to be trained"
    );
    let wide = Tensor::<1>::zeros([3], &device).cast(DType::F64);
    assert_eq!(text(captured(&wide)), "a handle of f64, expected f32, f16, bf16, i32, i64, u8 or u32");
    assert_eq!(attention(&window, q, k, v).unwrap().dims(), [BATCH, 4, 70, 16]);
}

/// A layer with shared keys, and its output for `x`.
fn layer(device: &Device) -> PurviewAttention {
    PurviewAttentionConfig::new(48, 6).with_kv_heads(Some(2)).init(device)
}

#[test]
fn a_record_brings_a_module_back() {
    let device = Device::cpu();
    let (first, second) = (layer(&device), layer(&device));
    let x = Tensor::<3>::random([2, 40, 48], Distribution::Default, &device);
    let run = |layer: &PurviewAttention| numbers(layer.forward(&attentions::sliding_window(8), x.clone()).unwrap());
    let want = run(&first);
    assert_ne!(run(&second), want);
    let bytes = first.clone().into_record().into_bytes().unwrap();
    let second = second.load_record(burn::store::ModuleRecord::from_bytes(bytes).unwrap());
    assert_eq!(run(&second), want);
    let path = std::env::temp_dir().join(format!("purview-burn-{}.bpk", std::process::id()));
    first.into_record().save(&path).unwrap();
    let third = layer(&device).load_record(burn::store::ModuleRecord::load(&path).unwrap());
    // It is read where it is needed.
    assert_eq!(run(&third), want);
    std::fs::remove_file(path).unwrap();
}

#[test]
fn every_weight_of_a_module_has_a_gradient() {
    let device = Device::cpu().autodiff();
    let layer = layer(&device);
    let [x, to] = [40, 50].map(|length| Tensor::<3>::random([2, length, 48], Distribution::Default, &device));
    let out = layer.forward_cross(&attentions::sliding_window(30), x, to).unwrap();
    let gradients = (out.clone() * out).sum().backward();
    for linear in [&layer.query, &layer.key, &layer.value, &layer.output] {
        assert!(numbers(linear.weight.val().grad(&gradients).unwrap()).iter().any(|x| *x != 0.0));
    }
}

#[test]
fn a_configuration_says_what_is_wrong_with_it() {
    let said = |config: PurviewAttentionConfig| {
        let panicked = std::panic::catch_unwind(|| config.init(&Device::cpu())).unwrap_err();
        panicked.downcast_ref::<String>().unwrap().clone()
    };
    assert_eq!(
        said(PurviewAttentionConfig::new(48, 6).with_kv_heads(Some(4))),
        "query heads must be a multiple of key heads: heads is 6, kv_heads is 4"
    );
    assert_eq!(
        said(PurviewAttentionConfig::new(50, 6)),
        "without head_dim, heads must divide d_model: d_model is 50, heads is 6"
    );
}
