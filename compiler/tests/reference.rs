//! The reference interpreter against numbers that can be checked by hand, and its speed.

use purview_compiler::eval::HostTensor;
use purview_compiler::expr::Expr;
use purview_compiler::interpret::{Inputs, InterpretError, Reference, interpret};
use purview_compiler::interpret_backward::{ReferenceGradients, interpret_backward};
use purview_compiler::ir::parse::parse_expr;
use purview_compiler::spec::{
    Accumulator, AccumulatorParam, DotParam, KeyLoop, Location, OperandParam, Push, Role, ScalarParam, ScalarType,
    ScalarValue, Spec,
};

fn attention(accumulator: Accumulator, push: &str) -> Spec {
    let mut spec = Spec {
        name: "attention".into(),
        doc: String::new(),
        source: Location { file: "a.rs".into(), line: 1, column: 1 },
        operands: vec![
            OperandParam { name: "q".into(), role: Role::Query },
            OperandParam { name: "k".into(), role: Role::Key(0) },
            OperandParam { name: "v".into(), role: Role::Value(0) },
        ],
        scalars: vec![ScalarParam { name: "w".into(), ty: ScalarType::I32, comptime: false }],
        tensors: Vec::new(),
        accumulators: vec![AccumulatorParam { name: "o".into(), kind: accumulator }],
        loops: Vec::new(),
        outputs: vec![Expr::Value(0)],
        origins: Vec::new(),
    };
    let push = parse_expr(push, spec.parameters()).unwrap();
    spec.loops.push(KeyLoop { set: 0, dots: vec![DotParam { query: 0, key: 1 }], pushes: vec![Push::new(0, push, 2)] });
    spec
}

fn tensor(shape: &[usize], element: impl Fn(usize) -> f64) -> HostTensor {
    HostTensor { shape: shape.to_vec(), data: (0..shape.iter().product()).map(element).collect() }
}

/// Two heads that share one of keys, queries 1 and 2 at positions 1 and 2, keys 0, 1, 2 with values 10, 20, 30.
fn run(accumulator: Accumulator, push: &str) -> Result<Reference, InterpretError> {
    on_inputs([10.0, 20.0, 30.0], |inputs| interpret(&attention(accumulator, push), inputs))
}

fn on_inputs<T>(values: [f64; 3], compute: impl FnOnce(&Inputs) -> T) -> T {
    let query = tensor(&[1, 2, 2, 1], |place| [1.0, 2.0, 3.0, 4.0][place]);
    let (key, value) = (tensor(&[1, 1, 3, 1], |place| place as f64), tensor(&[1, 1, 3, 1], |place| values[place]));
    compute(&Inputs {
        operands: &[query, key, value],
        scalars: &[ScalarValue::I32(2)],
        tensors: &[],
        scale: 0.5,
        query_offset: 1,
        key_offsets: &[0],
    })
}

/// The gradients where that of the output is 1, 10, 100, 1000 and that of the log-sum-exp, if there is one, `d_lse`.
fn gradients(accumulator: Accumulator, push: &str, d_lse: Option<f64>) -> ReferenceGradients {
    gradients_of([10.0, 20.0, 30.0], |place| 10f64.powi(place as i32), accumulator, push, d_lse)
}

fn gradients_of(
    values: [f64; 3],
    d_out: impl Fn(usize) -> f64,
    accumulator: Accumulator,
    push: &str,
    d_lse: Option<f64>,
) -> ReferenceGradients {
    let d_lse = d_lse.map(|d_lse| tensor(&[1, 2, 2], |_| d_lse));
    let found = on_inputs(values, |inputs| {
        interpret_backward(&attention(accumulator, push), inputs, &[tensor(&[1, 2, 2, 1], d_out)], d_lse.as_ref())
    });
    found.unwrap()
}

/// Those of queries, keys, values and the scale.
fn check_gradients(found: &ReferenceGradients, query: [f64; 4], key: [f64; 3], value: [f64; 3], scale: f64) {
    close(&found.operands[0].data, &query);
    close(&found.operands[1].data, &key);
    close(&found.operands[2].data, &value);
    close(&[found.scale], &[scale]);
    assert_eq!(found.scalars, [None], "an integer has no gradient");
}

fn close(found: &[f64], expected: &[f64]) {
    let same = |(a, b): (&f64, &f64)| a == b || (a - b).abs() < 1e-12 * b.abs().max(1.0) || (a.is_nan() && b.is_nan());
    assert!(found.len() == expected.len() && found.iter().zip(expected).all(same), "{found:?}, expected {expected:?}");
}

#[test]
fn softmax_of_visible_keys() {
    let found = run(Accumulator::Softmax { sink: None }, "mask(s * scale(), j <= i)").unwrap();
    let row = |scores: &[f64]| {
        let sum: f64 = scores.iter().map(|score| score.exp()).sum();
        let out: f64 = scores.iter().zip([10.0, 20.0, 30.0]).map(|(score, value)| score.exp() * value).sum();
        (out / sum, sum.ln())
    };
    let rows = [row(&[0.0, 0.5]), row(&[0.0, 1.0, 2.0]), row(&[0.0, 1.5]), row(&[0.0, 2.0, 4.0])];
    close(&found.out.data, &rows.map(|row| row.0));
    close(&found.lse.data, &rows.map(|row| row.1));
}

#[test]
fn a_row_that_sees_nothing_is_zero() {
    let none = run(Accumulator::Softmax { sink: None }, "mask(s, j > i + 1)").unwrap();
    close(&none.out.data, &[0.0; 4]);
    close(&none.lse.data, &[f64::NEG_INFINITY; 4]);
    let infinite = run(Accumulator::Softmax { sink: None }, "s + -inf").unwrap();
    assert_eq!(infinite, none);
    let sink = Some(parse_expr("i as f32", attention(Accumulator::Sum, "s").parameters()).unwrap());
    let sunk = run(Accumulator::Softmax { sink }, "mask(s, false)").unwrap();
    close(&sunk.out.data, &[0.0; 4]);
    close(&sunk.lse.data, &[1.0, 2.0, 1.0, 2.0]);
}

#[test]
fn sums_and_means_of_weights() {
    let sum = run(Accumulator::Sum, "mask(s, j < w)").unwrap();
    close(&sum.out.data, &[20.0, 40.0, 60.0, 80.0]);
    close(&sum.lse.data, &[f64::NAN; 4]);
    let mean = run(Accumulator::Mean, "mask(s, j < w || i == 2)").unwrap();
    close(&mean.out.data, &[20.0, 80.0 / 3.0, 20.0, 80.0 / 3.0]);
    close(&run(Accumulator::Mean, "0.0 * s").unwrap().out.data, &[0.0; 4]);
}

#[test]
fn a_nan_is_not_hidden() {
    let found = run(Accumulator::Softmax { sink: None }, "s * log(-1.0)").unwrap();
    assert!(found.out.data.iter().chain(&found.lse.data).all(|value| value.is_nan()), "{found:?}");
}

#[test]
fn errors_say_where() {
    assert_eq!(
        run(Accumulator::Sum, "(1 / (j - 2)) as f32").unwrap_err().to_string(),
        "a.rs:1:1: integer division by zero at batch 0, head 0, query position 1, key position 2"
    );
    let query = tensor(&[1, 3, 2, 4], |_| 0.0);
    let (key, value) = (tensor(&[1, 2, 3, 4], |_| 0.0), tensor(&[1, 2, 3, 1], |_| 0.0));
    let inputs = Inputs {
        operands: &[query, key, value],
        scalars: &[ScalarValue::I32(2)],
        tensors: &[],
        scale: 0.5,
        query_offset: 0,
        key_offsets: &[0],
    };
    assert_eq!(
        interpret(&attention(Accumulator::Sum, "s"), &inputs).unwrap_err().to_string(),
        "`k` has shape [1, 2, 3, 4], expected [1, a divisor of 3, T, 4]"
    );
}

#[test]
fn a_thousand_tokens_take_seconds() {
    let element = |place: usize| ((place * 7919) % 101) as f64 / 50.0 - 1.0;
    let query = tensor(&[1, 8, 1024, 64], element);
    let (key, value) = (tensor(&[1, 8, 1024, 64], element), tensor(&[1, 8, 1024, 64], element));
    let inputs = Inputs {
        operands: &[query, key, value],
        scalars: &[ScalarValue::I32(256)],
        tensors: &[],
        scale: 0.125,
        query_offset: 0,
        key_offsets: &[0],
    };
    let spec = attention(Accumulator::Softmax { sink: None }, "mask(s * scale(), j <= i && i - j < 4 * w)");
    let started = std::time::Instant::now();
    interpret(&spec, &inputs).unwrap();
    assert!(started.elapsed().as_secs() < 60, "{:?}", started.elapsed());
}

#[test]
fn gradients_of_sums_and_means() {
    // Of each head's two queries, those of the keys are the sum.
    let sum = gradients(Accumulator::Sum, "mask(s * scale(), j < w)", None);
    check_gradients(&sum, [10.0, 100.0, 1000.0, 10000.0], [21605.0, 43210.0, 0.0], [0.0, 2160.5, 0.0], 86420.0);
    let squares = gradients(Accumulator::Sum, "mask(s * s, j == 2)", None);
    check_gradients(
        &squares,
        [240.0, 4800.0, 72000.0, 960000.0],
        [0.0, 0.0, 120.0 * 16941.0],
        [0.0, 0.0, 4.0 * 16941.0],
        0.0,
    );
    // Of weights 1 and 2 the mean is 50/3 for two keys.
    let mean = gradients(Accumulator::Mean, "mask((j + 1) as f32 + 0.0 * s + 0.0 * scale(), j < w)", None);
    check_gradients(&mean, [0.0; 4], [0.0; 3], [1111.0 / 3.0, 2222.0 / 3.0, 0.0], 0.0);
    let by_scale = gradients(Accumulator::Mean, "mask(if j == 0 { scale() } else { 1.0 }, j < w)", None);
    // (10 x + 20) / (x + 1) has the derivative -10 / (x + 1)², and x is 0.5.
    check_gradients(&by_scale, [0.0; 4], [0.0; 3], [1111.0 / 3.0, 2222.0 / 3.0, 0.0], -1111.0 * 10.0 / 2.25);
    // Weights whose sum is zero give nothing.
    check_gradients(&gradients(Accumulator::Mean, "0.0 * s", None), [0.0; 4], [0.0; 3], [0.0; 3], 0.0);
}

#[test]
fn gradients_of_a_softmax() {
    let softmax = || Accumulator::Softmax { sink: None };
    // All of the weight is one key's, whatever its score is.
    let one = gradients(softmax(), "mask(s * scale(), j == 1)", None);
    check_gradients(&one, [0.0; 4], [0.0; 3], [0.0, 1111.0, 0.0], 0.0);
    // Its log-sum-exp is the score.
    let one = gradients(softmax(), "mask(s * scale(), j == 1)", Some(2.0));
    check_gradients(&one, [1.0; 4], [0.0, 10.0, 0.0], [0.0, 1111.0, 0.0], 20.0);
    // Two keys: p = sigmoid(q / 2) of the second, whose value is 10 more.
    let two = gradients(softmax(), "mask(s * scale(), j < w)", None);
    let p = [1.0, 2.0, 3.0, 4.0].map(|q: f64| 1.0 / (1.0 + (-q / 2.0).exp()));
    let d_score = [0, 1, 2, 3].map(|row| 10f64.powi(row as i32) * 10.0 * p[row] * (1.0 - p[row]));
    let of_keys: f64 = d_score.iter().zip([1.0, 2.0, 3.0, 4.0]).map(|(d, q)| d * q).sum();
    let of_values: f64 = p.iter().enumerate().map(|(row, p)| 10f64.powi(row as i32) * p).sum();
    check_gradients(
        &two,
        d_score.map(|d| 0.5 * d),
        [-0.5 * of_keys, 0.5 * of_keys, 0.0],
        [1111.0 - of_values, of_values, 0.0],
        of_keys,
    );
    // A sink without keys: the log-sum-exp is the sink.
    let sink = Some(parse_expr("scale() * scale()", attention(Accumulator::Sum, "s").parameters()).unwrap());
    let sunk = gradients(Accumulator::Softmax { sink }, "mask(s, false)", Some(3.0));
    check_gradients(&sunk, [0.0; 4], [0.0; 3], [0.0; 3], 12.0);
}

#[test]
fn the_same_product_twice_is_no_kink() {
    let gradients = |push: &str| {
        let mut spec = attention(Accumulator::Sum, push);
        let dot = spec.loops[0].dots[0];
        spec.loops[0].dots.push(dot);
        let d_out = tensor(&[1, 2, 2, 1], |place| 1.0 + place as f64);
        on_inputs([10.0, 20.0, 30.0], |inputs| interpret_backward(&spec, inputs, &[d_out], None)).unwrap()
    };
    assert_eq!(gradients("max(min(max(s, s2), 100.0), -100.0)"), gradients("s"));
}

#[test]
fn what_no_query_sees_reaches_no_gradient() {
    for hidden in ["mask(s, j < w)", "if j < w { s } else { log(0.0) }", "s + log(relu(1.5 - j as f32))"] {
        let found = |value| {
            let softmax = Accumulator::Softmax { sink: None };
            gradients_of([10.0, 20.0, value], |place| place as f64, softmax, hidden, Some(1.0))
        };
        let gradients = found(f64::NAN);
        assert!(gradients.operands[0].data.iter().all(|d| d.is_finite()), "{hidden}: {gradients:?}");
        assert_eq!(gradients, found(30.0), "{hidden}");
    }
    for accumulator in [Accumulator::Softmax { sink: None }, Accumulator::Sum, Accumulator::Mean] {
        let found = gradients_of([10.0, 20.0, 30.0], |_| f64::NAN, accumulator, "mask(s * scale(), j > i + 1)", None);
        check_gradients(&found, [0.0; 4], [0.0; 3], [0.0; 3], 0.0);
    }
}

#[test]
fn gradients_that_do_not_fit_are_errors() {
    let error = |accumulator, d_out: &[usize], d_lse: &[usize]| {
        let (d_out, d_lse) = (tensor(d_out, |_| 0.0), tensor(d_lse, |_| 0.0));
        let spec = attention(accumulator, "s");
        let found =
            on_inputs([0.0; 3], |inputs| interpret_backward(&spec, inputs, std::slice::from_ref(&d_out), Some(&d_lse)));
        found.unwrap_err().to_string()
    };
    assert_eq!(
        error(Accumulator::Softmax { sink: None }, &[1, 2, 2, 3], &[1, 2, 2]),
        "`d_out` has shape [1, 2, 2, 3], expected [1, 2, 2, 1]"
    );
    assert_eq!(
        error(Accumulator::Softmax { sink: None }, &[1, 2, 2, 1], &[1, 2]),
        "`d_lse` has shape [1, 2], expected [1, 2, 2]"
    );
    assert_eq!(
        error(Accumulator::Sum, &[1, 2, 2, 1], &[1, 2, 2]),
        "a gradient of the log-sum-exp of `attention`, which has none"
    );
}
