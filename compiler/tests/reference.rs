//! The reference interpreter against numbers that can be checked by hand, and its speed.

use purview_compiler::eval::HostTensor;
use purview_compiler::expr::Expr;
use purview_compiler::interpret::{Inputs, InterpretError, Reference, interpret};
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
    let query = tensor(&[1, 2, 2, 1], |place| [1.0, 2.0, 3.0, 4.0][place]);
    let (key, value) =
        (tensor(&[1, 1, 3, 1], |place| place as f64), tensor(&[1, 1, 3, 1], |place| 10.0 * (place + 1) as f64));
    interpret(
        &attention(accumulator, push),
        &Inputs {
            operands: &[query, key, value],
            scalars: &[ScalarValue::I32(2)],
            tensors: &[],
            scale: 0.5,
            query_offset: 1,
            key_offsets: &[0],
        },
    )
}

fn close(found: &[f64], expected: &[f64]) {
    let same = |(a, b): (&f64, &f64)| a == b || (a - b).abs() < 1e-12 || (a.is_nan() && b.is_nan());
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
