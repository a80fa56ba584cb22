//! Partial results: keys cut into parts, each attended to by itself, and merged; against the reference over all keys.

use purview::ir::Element;
use purview::prelude::*;
use purview::{AnyAttention, DeviceModel, Partial, merge};
use purview_cli::golden::relative_error;
use purview_cli::ptx;
use purview_tests::attentions;
use purview_tests::compare::Failures;
use purview_tests::devices::{self, Described};
use purview_tests::numbers::Numbers;

/// Capped scores of every third key, of which the first rows see none.
#[attention]
fn capped(q: Query, k: Key, v: Value, cap: f32) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push(mask(cap * tanh(dot(q[i], k[j]) * scale() / cap), j + 30 <= i && j % 3 == 0), v[j]);
        }
        o
    }
}

/// A score that a captured tensor says.
#[attention]
fn biased(q: Query, k: Key, v: Value, bias: Tensor<f32, 1>) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push(mask(dot(q[i], k[j]) + bias[j], j <= i), v[j]);
        }
        o
    }
}

/// An output that is not the accumulator itself.
#[attention]
fn doubled(q: Query, k: Key, v: Value) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push(dot(q[i], k[j]), v[j]);
        }
        o * 2.0
    }
}

fn all_devices(test: &str) -> Vec<Described> {
    let mut all = vec![Described { device: devices::cpu(), what: "cpu".into() }];
    all.extend(devices::wgpu_all(test));
    all
}

/// Queries, keys and values of 4 heads over 2.
fn operands(device: &Device, element: Element, queries: usize, keys: usize) -> [Tensor; 3] {
    let mut numbers = Numbers::new(41);
    [[2, 4, queries, 16], [2, 2, keys, 16], [2, 2, keys, 24]]
        .map(|shape| numbers.tensor(device, element, &shape).unwrap())
}

/// The partial results of `attention` over the keys between neighbours of `cuts`, which may be equal, with its queries at `offset`.
fn parts(
    attention: &Attention<1>,
    device: &Device,
    [q, k, v]: &[Tensor; 3],
    cuts: &[usize],
    offset: i64,
) -> Vec<Partial> {
    let part = |cut: &[usize]| {
        let [k, v] = [k, v].map(|tensor| tensor.narrow(2, cut[0], cut[1] - cut[0]).unwrap());
        let attention = attention.clone().with_key_offsets([cut[0] as i64]).with_query_offset(offset);
        attention.with_partial().run(device, q, &k, &v).unwrap()
    };
    cuts.windows(2).map(part).collect()
}

fn floats(tensor: &Tensor) -> Vec<f32> {
    tensor.to_vec().unwrap()
}

/// Output and log-sum-exp of all keys, against the reference.
fn check(failures: &mut Failures, what: &str, partials: &[Partial], want: &purview::interpret::Reference) {
    let (out, lse) = merge(partials).unwrap();
    assert_eq!((out.shape(), lse.shape()), (&want.out.shape[..], &want.lse.shape[..]));
    for (of, got, want) in [("out", &out, &want.out.data), ("lse", &lse, &want.lse.data)] {
        let error = relative_error(&floats(got), want);
        failures.expect(&format!("{what}: {of} {error:e}"), error <= 1e-4);
    }
}

#[test]
fn keys_in_parts() {
    let mut failures = Failures::default();
    for Described { device, what } in all_devices("keys_in_parts") {
        for element in [Element::F32, Element::F16].into_iter().filter(|element| device.supports(*element)) {
            // One is enough to see that outputs are not in 16 bits.
            let variants = [attentions::window(20), attentions::full(), capped(2.0)];
            for attention in variants.into_iter().take(if element == Element::F32 { 3 } else { 1 }) {
                for (queries, offset) in [(70, 60), (1, 129), (33, 0)] {
                    let tensors = operands(&device, element, queries, 130);
                    let [q, k, v] = &tensors;
                    let want = attention.clone().with_query_offset(offset).reference(q, k, v).unwrap();
                    for cuts in [&[0, 130][..], &[0, 50, 130], &[0, 1, 64, 130], &[0, 64, 64, 130]] {
                        let what = format!("{what} {element:?} {} {queries} {cuts:?}", attention.spec().name);
                        check(&mut failures, &what, &parts(&attention, &device, &tensors, cuts, offset), &want);
                    }
                }
            }
        }
    }
    failures.report();
}

/// What a part holds itself: its keys alone decide.
#[test]
fn a_part_alone() {
    let mut failures = Failures::default();
    for Described { device, what } in all_devices("a_part_alone") {
        let tensors = operands(&device, Element::F32, 33, 70);
        let [q, k, v] = &tensors;
        let [partial] = &parts(&attentions::window(20), &device, &tensors, &[0, 70], 10)[..] else { unreachable!() };
        let want = attentions::window(20).with_query_offset(10).reference(q, k, v).unwrap();
        let sums: Vec<f64> = want.lse.data.iter().zip(&want.max.data).map(|(lse, max)| (lse - max).exp()).collect();
        let undivided: Vec<f64> = want.out.data.iter().enumerate().map(|(at, out)| out * sums[at / 24]).collect();
        for (of, got, want) in [
            ("output", partial.output(), &undivided),
            ("maximum", partial.maximum(), &want.max.data),
            ("sum", partial.sum(), &sums),
        ] {
            let error = relative_error(&floats(got), want);
            failures.expect(&format!("{what} {of}: {error:e}"), error <= 2e-5);
        }
        // Of keys that no query sees.
        let [none] = &parts(&attentions::window(20), &device, &tensors, &[0, 70], 1000)[..] else { unreachable!() };
        failures.expect(&format!("{what}: no sum"), floats(none.sum()).iter().all(|sum| *sum == 0.0));
        failures.expect(&format!("{what}: no output"), floats(none.output()).iter().all(|x| *x == 0.0));
        let empty = floats(none.maximum()).iter().all(|max| *max == f32::NEG_INFINITY);
        failures.expect(&format!("{what}: no maximum"), empty);
        let nothing = attentions::window(20).with_query_offset(1000).reference(q, k, v).unwrap();
        check(&mut failures, &what, &[none.clone(), none.clone()], &nothing);
    }
    failures.report();
}

/// In any order and in any groups, also in more parts than a kernel merges at once.
#[test]
fn order_and_groups() {
    let mut failures = Failures::default();
    for Described { device, what } in all_devices("order_and_groups") {
        let tensors = operands(&device, Element::F32, 33, 130);
        let [q, k, v] = &tensors;
        let attention = attentions::window(90);
        let want = attention.clone().with_query_offset(97).reference(q, k, v).unwrap();
        let cuts: Vec<usize> = (0..=20).map(|part| part * 13 / 2).collect();
        let partials = parts(&attention, &device, &tensors, &cuts, 97);
        check(&mut failures, &format!("{what} in a row"), &partials, &want);
        let reversed: Vec<Partial> = partials.iter().rev().cloned().collect();
        check(&mut failures, &format!("{what} reversed"), &reversed, &want);
        let (first, rest) = partials.split_at(7);
        let left = [&[Partial::merge(first).unwrap()], rest].concat();
        check(&mut failures, &format!("{what} from the left"), &left, &want);
        let right = [first, &[Partial::merge(rest).unwrap()]].concat();
        check(&mut failures, &format!("{what} from the right"), &right, &want);
        check(&mut failures, &format!("{what} twice"), &[Partial::merge(&left).unwrap()], &want);
    }
    failures.report();
}

/// Scores and values that the quick way has no room for, and a NaN that only some rows see.
#[test]
fn scores_and_values_at_the_ends() {
    for Described { device, what } in all_devices("scores_and_values_at_the_ends") {
        let merged = |scores: &[f32], values: &[f32], cut: usize| {
            let tensor = |values: &[f32]| Tensor::from_slice(&device, [1, 1, values.len(), 1], values).unwrap();
            let zeros = tensor(&vec![0.0; scores.len()]);
            let part = |from: usize, to: usize| {
                // The bias of a part is found by absolute positions.
                let bias = Tensor::from_slice(&device, [scores.len()], scores).unwrap();
                let attention = biased(&bias).with_key_offsets([from as i64]).with_query_offset(0);
                let keys = zeros.narrow(2, from, to - from).unwrap();
                attention.with_partial().run(&device, &zeros, &keys, &tensor(&values[from..to])).unwrap()
            };
            let (out, lse) = merge(&[part(0, cut), part(cut, scores.len())]).unwrap();
            (floats(&out), floats(&lse))
        };
        for score in [f32::MIN, -1e38, -1e30, 0.0, 1e30, 3e38] {
            let (out, lse) = merged(&[score; 4], &[1.0, 3.0, 5.0, 7.0], 2);
            assert!((out[3] - 4.0).abs() < 1e-5, "{what}: {out:?} for {score}");
            let near = |lse: &f32, keys: f32| (lse - score - keys.ln()).abs() <= 1e-6 * score.abs().max(1.0);
            assert!(near(&lse[0], 1.0) && near(&lse[3], 4.0), "{what}: {lse:?} for {score}");
        }
        let (out, lse) = merged(&[-3e38, 2.0, 3e38, 3e38], &[1.0, 2.0, 3.0, 5.0], 2);
        assert_eq!((&out[..3], out[3]), (&[1.0, 2.0, 3.0][..], 4.0), "{what}: {lse:?}");
        let (out, lse) = merged(&[0.0, 0.0, 0.0, f32::NAN], &[1.0; 4], 2);
        assert!(out[..3].iter().all(|x| (x - 1.0).abs() < 1e-6) && out[3].is_nan(), "{what}: {out:?}");
        assert!((lse[2] - 3f32.ln()).abs() < 1e-6 && lse[3].is_nan(), "{what}: {lse:?}");
        // Seen, however little it weighs.
        let (out, _) = merged(&[0.0, 1e4, 0.0, 2e4], &[f32::INFINITY, 1.0, 2.0, 3.0], 2);
        assert_eq!(out, [f32::INFINITY; 4], "{what}");
        // Of a key that no row sees.
        let (out, _) = merged(&[f32::NEG_INFINITY, 0.0, 0.0], &[f32::NAN, 1.0, 3.0], 1);
        assert_eq!((out[0], out[1], out[2]), (0.0, 1.0, 2.0), "{what}");
    }
}

/// The same as PTX, whose operands have half the bits and whose output has not.
#[test]
fn kernels_for_nvidia() {
    let mut failures = Failures::default();
    let (device, model) = (devices::cpu(), DeviceModel::nvidia_sm(80).expect("a model"));
    for element in [Element::F32, Element::F16, Element::Bf16] {
        for attention in [attentions::window(20), capped(2.0)] {
            let [q, k, v] = operands(&device, element, 40, 70);
            let attention = attention.with_query_offset(30);
            let want = attention.reference(&q, &k, &v).unwrap();
            let attention = AnyAttention::from(attention);
            let launch = attention.ptx_launch_operands_partial(&model, &[&q, &k, &v]).unwrap();
            let results = ptx::run(&launch).unwrap();
            let tensor = |data: Vec<f32>, shape: &[usize]| Tensor::from_slice(&device, shape, &data).unwrap();
            let [maximum, sum] = [results.max, results.sum].map(|of_rows| tensor(of_rows.unwrap(), &[2, 4, 40]));
            let partial = Partial::new(tensor(results.out, &[2, 4, 40, 24]), maximum, sum).unwrap();
            check(&mut failures, &format!("{element:?} {}", attention.spec().name), &[partial], &want);
        }
    }
    failures.report();
}

/// Tensors of any strides, and of none.
#[test]
fn partials_from_tensors() {
    let device = devices::cpu();
    let [output, maximum, sum] = [[2, 3, 4].as_slice(), &[2, 3], &[2, 3]].map(|rest| {
        let shape = [&[1][..], rest].concat();
        let count = shape.iter().product::<usize>();
        let values: Vec<f32> = (0..count).map(|at| at as f32 + 1.0).collect();
        Tensor::from_slice(&device, shape, &values).unwrap()
    });
    let plain = Partial::new(output.clone(), maximum.clone(), sum.clone()).unwrap();
    let copied = |tensor: &Tensor, axes: &[usize]| {
        let turned = tensor.permuted(axes).unwrap();
        let values = turned.to_vec::<f32>().unwrap();
        Tensor::from_slice(&device, turned.shape(), &values).unwrap().permuted(axes).unwrap()
    };
    let turned = Partial::new(copied(&output, &[0, 3, 2, 1]), copied(&maximum, &[0, 2, 1]), copied(&sum, &[0, 2, 1]));
    let (out, lse) = merge(&[plain, turned.unwrap()]).unwrap();
    let want: Vec<f32> = (0..24).map(|at| (at + 1) as f32 / (at / 4 + 1) as f32).collect();
    assert!(floats(&out).iter().zip(&want).all(|(got, want)| (got - want).abs() < 1e-5), "{:?}", floats(&out));
    let want: Vec<f32> = (1..=6).map(|at| at as f32 + (2.0 * at as f32).ln()).collect();
    assert!(floats(&lse).iter().zip(&want).all(|(got, want)| (got - want).abs() < 1e-5), "{:?}", floats(&lse));

    let zeros = |shape: &[usize]| Tensor::from_slice::<f32>(&device, shape, &[]).unwrap();
    let nothing = Partial::new(zeros(&[1, 2, 0, 4]), zeros(&[1, 2, 0]), zeros(&[1, 2, 0])).unwrap();
    let (out, lse) = merge(&[nothing.clone(), nothing]).unwrap();
    assert_eq!((out.shape(), lse.shape()), (&[1, 2, 0, 4][..], &[1, 2, 0][..]));
}

#[test]
fn mistakes() {
    #[track_caller]
    fn refused<T: std::fmt::Debug>(result: Result<T, Error>, message: &str) {
        assert_eq!(result.map_err(|error| error.to_string()).map(|_| ()), Err(message.to_string()));
    }
    let device = devices::cpu();
    let [q, k, v] = operands(&device, Element::F32, 3, 5);
    let logits = Tensor::from_slice(&device, [4], &[0.5f32; 4]).unwrap();
    let message = "`sink` has no partial result: its sink would be counted once for each part of the keys";
    refused(attentions::sink(&logits).with_partial().run(&device, &q, &k, &v), message);
    let message = "`doubled` has no partial result: its output is an expression of its accumulator";
    refused(doubled().with_partial().run(&device, &q, &k, &v), message);
    refused(doubled().with_partial().program(&Shape::new(1, 1, 8, 8)), message);
    let message = "`sum` accumulates with `Sum`, and only one `Softmax` has a partial result";
    refused(AnyAttention::from(attentions::sum()).run_partial(&device, &q, &[(&k, &v)]), message);

    refused(merge(&[]), "there is no partial result to merge, and at least one is needed");
    refused(Partial::merge(&[]), "there is no partial result to merge, and at least one is needed");
    let partial = attentions::full().with_partial().run(&device, &q, &k, &v).unwrap();
    let fewer = attentions::full().with_partial().run(&device, &q.narrow(2, 0, 2).unwrap(), &k, &v).unwrap();
    let message = "shapes differ: `partial result 1` is [2, 4, 2, 24], `partial result 0` is [2, 4, 3, 24]";
    refused(merge(&[partial.clone(), fewer.clone()]), message);
    let (output, maximum, sum) = (partial.output(), partial.maximum(), partial.sum());
    let message = "batches, heads and lengths of queries differ: `the sum of a partial result` is [2, 4, 2], `the output of a partial result` \
                   is [2, 4, 3, 24]";
    refused(Partial::new(output.clone(), maximum.clone(), fewer.sum().clone()), message);
    let whole = Tensor::from_slice(&device, [2, 4, 3], &[1i32; 24]).unwrap();
    let message = "`the maximum of a partial result` holds i32, expected f32";
    refused(Partial::new(output.clone(), whole, sum.clone()), message);
    let message = "`the output of a partial result` has shape [2, 4, 3], expected 4 dimensions";
    refused(Partial::new(sum.clone(), maximum.clone(), sum.clone()), message);
}
