//! Attentions of several products, accumulators and pushes: their tile programs as text, and the reference.

use purview_compiler::eval::HostTensor;
use purview_compiler::interpret::{Inputs, InterpretError, Reference, interpret};
use purview_compiler::ir::Element;
use purview_compiler::ir::forward::OperandDims;
use purview_compiler::ir::parse::parse;
use purview_compiler::ir::verify::verify;
use purview_compiler::lang::{self, Builder, Float, PushedValues};
use purview_compiler::lower::{lower, scaled_dim};
use purview_compiler::passes::{compile, schedule};
use purview_compiler::schedule::{CpuSchedule, Schedule};
use purview_compiler::scheduled::Compiled;
use purview_compiler::spec::{ScalarType, ScalarValue, Spec};

fn causal(score: Float) -> Float {
    lang::mask(score, lang::le(lang::key_position(), lang::query_position()))
}

fn scaled(dot: usize) -> Float {
    lang::mul(lang::dot(dot), lang::scale())
}

fn latent() -> Spec {
    let mut builder = Builder::new("latent", "", "a.rs", 1, 1);
    let (q, k, v) = (builder.query("q"), builder.key("k", 0), builder.value("v", 0));
    let (q_rope, k_rope) = (builder.query("q_rope"), builder.key("k_rope", 0));
    builder.softmax("o", None);
    builder.key_loop(0, &[(q, k), (q_rope, k_rope)]);
    builder.push(0, causal(lang::mul(lang::add(lang::dot(0), lang::dot(1)), lang::scale())), v);
    builder.finish()
}

fn differential() -> Spec {
    let mut builder = Builder::new("differential", "", "a.rs", 1, 1);
    let (q1, q2) = (builder.query("q1"), builder.query("q2"));
    let (k1, k2, v) = (builder.key("k1", 0), builder.key("k2", 0), builder.value("v", 0));
    let lambda = builder.tensor::<Float, 1>("lambda");
    builder.softmax("a", None);
    builder.softmax("b", None);
    builder.key_loop(0, &[(q1, k1), (q2, k2)]);
    builder.push(0, causal(scaled(0)), v);
    builder.push(1, causal(scaled(1)), v);
    builder.output(lang::sub(lang::result(0), lang::mul(lambda.load([lang::head()]), lang::result(1))));
    builder.finish()
}

fn gated() -> Spec {
    let mut builder = Builder::new("gated", "", "a.rs", 1, 1);
    let (q, k, v) = (builder.query("q"), builder.key("k", 0), builder.value("v", 0));
    builder.query("gate");
    builder.softmax("o", None);
    builder.key_loop(0, &[(q, k)]);
    builder.push(0, causal(scaled(0)), v);
    // Accumulators come first, and then what lies along queries: `q`, `gate`.
    builder.output(lang::mul(lang::result(0), lang::sigmoid(lang::result(2))));
    builder.finish()
}

/// Values inside the keys, and a weight that is made of the product which the score changes.
fn weighted() -> Spec {
    let mut builder = Builder::new("weighted", "", "a.rs", 1, 1);
    let (q, k) = (builder.query("q"), builder.key("k", 0));
    builder.scalar::<lang::Int>("rank", ScalarType::U32, true);
    builder.softmax("o", None);
    builder.key_loop(0, &[(q, k)]);
    builder.push_weighted(0, causal(scaled(0)), lang::sigmoid(lang::dot(0)), PushedValues::leading_by_scalar(k, 0));
    builder.finish()
}

/// Two pushes of one product, one of them without any; a scalar has the name that a tile would.
fn shared() -> Spec {
    let mut builder = Builder::new("shared", "", "a.rs", 1, 1);
    let (q, k, v) = (builder.query("q"), builder.key("k", 0), builder.value("v", 0));
    let t = builder.scalar::<Float>("t", ScalarType::F32, false);
    builder.sum("a");
    builder.mean("b");
    builder.key_loop(0, &[(q, k)]);
    builder.push(0, lang::mul(lang::dot(0), t), v);
    builder.push(1, causal(lang::exp(lang::dot(0))), v);
    builder.push(1, lang::float(1.0), v);
    builder.output(lang::add(lang::result(0), lang::result(1)));
    builder.finish()
}

fn dims(dims: &[usize]) -> OperandDims {
    OperandDims { element: Element::F32, dims: dims.to_vec() }
}

/// The loop over the queries of the program that `spec` becomes, which is a valid one that the `cpu` schedule runs after all passes.
fn program(spec: &Spec, scalars: &[ScalarValue], of: &[usize]) -> String {
    let compiled = Compiled::new(compile(spec, scalars, &dims(of), purview_compiler::ir::Kept::default()).unwrap());
    schedule(compiled, Schedule::Cpu(CpuSchedule::new(8, 4, 64, 2))).unwrap();
    let program = lower(spec, scalars, &dims(of)).unwrap();
    verify(&program).unwrap();
    let text = program.to_string();
    assert_eq!(parse(&text).as_ref(), Ok(&program), "{text}");
    text[text.find("for i in").unwrap()..].to_string()
}

#[test]
fn two_products_are_one_score() {
    let expected = "\
  for i in tiles(S)
    o = softmax base e
    q = load q[i]
    q_rope = load q_rope[i]
    for j in tiles(T0)
      s = dot q, k[j]
      s2 = dot q_rope, k_rope[j]
      s = map (s + s2) * scale()
      s = mask s where j <= i on all
      o = push s, v[j]
    store o
";
    assert_eq!(program(&latent(), &[], &[4, 4, 3, 2, 2]), expected);
    assert_eq!(scaled_dim(&latent(), &[], &dims(&[4, 4, 3, 2, 2])), 6);
}

#[test]
fn two_accumulators_have_their_own_products() {
    let expected = "\
  for i in tiles(S)
    a = softmax base e
    b = softmax base e
    q1 = load q1[i]
    q2 = load q2[i]
    for j in tiles(T0)
      s = dot q1, k1[j]
      s2 = dot q2, k2[j]
      s = map s * scale()
      s = mask s where j <= i on all
      s2 = map s2 * scale()
      s2 = mask s2 where j <= i on all
      a = push s, v[j]
      b = push s2, v[j]
    store a - lambda[head()] * b
";
    assert_eq!(program(&differential(), &[], &[4, 5, 4, 5, 3]), expected);
    assert_eq!(scaled_dim(&differential(), &[], &dims(&[4, 5, 4, 5, 3])), 4);
}

#[test]
fn what_the_output_is_made_of_is_loaded() {
    let expected = "\
  for i in tiles(S)
    o = softmax base e
    q = load q[i]
    gate = load gate[i]
    for j in tiles(T0)
      s = dot q, k[j]
      s = map s * scale()
      s = mask s where j <= i on all
      o = push s, v[j]
    store o * sigmoid(gate)
";
    assert_eq!(program(&gated(), &[], &[4, 4, 3, 3]), expected);
}

#[test]
fn a_weight_is_made_before_the_score_changes() {
    let expected = "\
  for i in tiles(S)
    o = softmax base e
    q = load q[i]
    for j in tiles(T0)
      s = dot q, k[j]
      w = map sigmoid(s)
      s = map s * scale()
      s = mask s where j <= i on all
      o = push s * w, k[j][..3]
    store o
";
    assert_eq!(program(&weighted(), &[ScalarValue::U32(3)], &[4, 4]), expected);
}

#[test]
fn a_product_that_two_pushes_need_is_left_as_it_is() {
    let expected = "\
  for i in tiles(S)
    a = sum
    b = mean
    q = load q[i]
    for j in tiles(T0)
      s = dot q, k[j]
      t2 = map s * t
      t3 = map exp(s)
      t3 = mask t3 where j <= i on all
      t4 = map 1.0
      a = push t2, v[j]
      b = push t3, v[j]
      b = push t4, v[j]
    store a + b
";
    assert_eq!(program(&shared(), &[ScalarValue::F32(2.0)], &[4, 4, 3]), expected);
}

/// One accumulator, or two of which the other has a loop of its own and adds a product to the first's score.
fn switched() -> Spec {
    let mut builder = Builder::new("switched", "", "a.rs", 1, 1);
    let (q, k, v) = (builder.query("q"), builder.key("k", 0), builder.value("v", 0));
    let (r, l) = (builder.query("r"), builder.key("l", 0));
    let (mk, mv) = (builder.key("mk", 1), builder.value("mv", 1));
    let both = builder.scalar::<lang::Bool>("both", ScalarType::Bool, true);
    builder.softmax("b", None);
    builder.softmax("a", None);
    builder.key_loop(1, &[(q, mk)]);
    builder.push(0, scaled(0), mv);
    builder.key_loop(0, &[(q, k), (r, l)]);
    let sum = lang::add(lang::dot(0), lang::dot(1));
    builder.push(1, causal(lang::mul(lang::select(both.clone(), sum, lang::dot(0)), lang::scale())), v);
    builder.output(lang::select(both, lang::add(lang::result(0), lang::result(1)), lang::result(1)));
    builder.finish()
}

#[test]
fn a_comptime_scalar_takes_an_accumulator_and_its_loop_away() {
    let expected = "\
  for i in tiles(S)
    o = softmax base e
    q = load q[i]
    r = load r[i]
    for j in tiles(T0)
      s = dot q, k[j]
      s = map s * scale()
      s = mask s where j <= i on all
      o = push s, v[j]
    store o
";
    let of = [4, 4, 3, 2, 2, 4, 3];
    assert_eq!(program(&switched(), &[ScalarValue::Bool(false)], &of), expected);
    // Only products that are there count.
    assert_eq!(scaled_dim(&switched(), &[ScalarValue::Bool(false)], &dims(&of)), 4);
    // The first push is the other loop's.
    assert_eq!(scaled_dim(&switched(), &[ScalarValue::Bool(true)], &dims(&of)), 4);
    let both = program(&switched(), &[ScalarValue::Bool(true)], &of);
    assert!(both.contains("b = push s, mv[j]") && both.contains("tiles(T1)"), "{both}");
}

#[test]
fn a_comptime_scalar_that_takes_every_accumulator_away_is_refused() {
    let message =
        "`gate_or_nothing`: with these comptime scalars the output is of no accumulator, expected one at least";
    for accumulators in [1, 2] {
        let mut builder = Builder::new("gate_or_nothing", "", "a.rs", 1, 1);
        let (q, k, v) = (builder.query("q"), builder.key("k", 0), builder.value("v", 0));
        let all = builder.scalar::<lang::Bool>("all", ScalarType::Bool, true);
        builder.key_loop(0, &[(q, k)]);
        for nth in 0..accumulators {
            builder.softmax(["a", "b"][nth], None);
            builder.push(nth, causal(scaled(0)), v);
        }
        let sum = lang::add(lang::result(0), lang::result(accumulators - 1));
        // The query comes after the accumulators.
        builder.output(lang::select(all, sum, lang::result(accumulators)));
        let spec = builder.finish();
        refused(&spec, &[ScalarValue::Bool(false)], &[4, 4, 4], message);
        let operands = [&[1, 1, 2, 1]; 3].map(|shape| tensor(shape, &[0.0; 2]));
        let error = run(&spec, &operands, &[ScalarValue::Bool(false)], &[]).unwrap_err();
        assert_eq!(error.to_string(), message);
        run(&spec, &operands, &[ScalarValue::Bool(true)], &[]).unwrap();
        lower(&spec, &[ScalarValue::Bool(true)], &dims(&[4, 4, 4])).unwrap();
    }
}

/// Positions alone, with queries and keys that have one head dim, and none that have.
#[test]
fn a_loop_without_a_product_is_given_one() {
    let mut builder = Builder::new("positions", "", "a.rs", 1, 1);
    builder.query("q");
    builder.key("k", 0);
    let v = builder.value("v", 0);
    builder.mean("o");
    builder.key_loop(0, &[]);
    builder.push(0, causal(lang::float(1.0)), v);
    let spec = builder.finish();
    let expected = "\
  for i in tiles(S)
    o = mean
    q = load q[i]
    for j in tiles(T0)
      s = dot q, k[j]
      s = map 1.0
      s = mask s where j <= i on all
      o = push s, v[j]
    store o
";
    assert_eq!(program(&spec, &[], &[4, 4, 3]), expected);
    let message =
        "`positions`: the loop over `k` has no product, and no queries and keys of one head dim to make one of";
    refused(&spec, &[], &[4, 5, 3], message);
}

fn refused(spec: &Spec, scalars: &[ScalarValue], of: &[usize], message: &str) {
    assert_eq!(lower(spec, scalars, &dims(of)).unwrap_err().to_string(), message);
}

#[test]
fn what_does_not_fit_is_refused() {
    let product = "`latent`: a product of `q_rope`, of head dim 2, and `k_rope`, of 3";
    refused(&latent(), &[], &[4, 4, 3, 2, 3], product);
    refused(&latent(), &[], &[4, 4, 3], "`latent`: 3 head dims of 5 operands");
    refused(&gated(), &[], &[4, 4, 3, 4], "`gated`: an output of `o`, of 3 elements, and `gate`, of 4");
    let rank = [ScalarValue::U32(5)];
    refused(&weighted(), &rank, &[4, 4], "`weighted`: the first 5 elements of `k`, of head dim 4");

    let by_hand = |build: &dyn Fn(&mut Builder)| {
        let mut builder = Builder::new("by_hand", "", "a.rs", 1, 1);
        builder.query("q");
        builder.key("k", 0);
        builder.value("v", 0);
        builder.softmax("o", None);
        build(&mut builder);
        builder.finish()
    };
    let refused = |build: &dyn Fn(&mut Builder), message: &str| refused(&by_hand(build), &[], &[4, 4, 4], message);
    refused(
        &|builder| {
            builder.key_loop(0, &[(1, 1)]);
            builder.push(0, lang::dot(0), 2);
        },
        "`by_hand`: loop 0 has a product that is not of queries and of its keys",
    );
    refused(
        &|builder| {
            builder.key_loop(0, &[(0, 1)]);
            builder.push(1, lang::dot(0), 2);
        },
        "`by_hand`: loop 0 has a push of what is not its own, or into nothing",
    );
    refused(
        &|builder| {
            builder.scalar::<lang::Int>("rank", ScalarType::U32, false);
            builder.key_loop(0, &[(0, 1)]);
            builder.push(0, lang::dot(0), PushedValues::leading_by_scalar(2, 0));
        },
        "`by_hand`: loop 0 has a push of as many elements as no comptime `u32` says",
    );
    refused(&|builder| builder.key_loop(0, &[(0, 1)]), "`by_hand`: nothing is pushed for `k`");
    refused(
        &|builder| {
            builder.key_loop(0, &[(0, 1)]);
            builder.push(0, lang::dot(1), 2);
        },
        "a.rs:1:1: value 1 of 1 in `value#1`",
    );
    refused(
        &|builder| {
            builder.sum("p");
            builder.key_loop(0, &[(0, 1)]);
            builder.push(0, lang::dot(0), 2);
        },
        "`by_hand`: nothing is pushed into `p`",
    );
    refused(
        &|builder| {
            builder.key_loop(0, &[(0, 1)]);
            builder.push_weighted(0, lang::dot(0), causal(lang::float(1.0)), 2);
        },
        "a.rs:1:1: a weight has no mask, but `mask(1.0, j <= i)` has one; the score is masked",
    );
    refused(
        &|builder| {
            builder.key_loop(0, &[(0, 1)]);
            builder.push(0, lang::dot(0), 2);
            builder.output(lang::mul(lang::result(0), lang::to_float(lang::key_position())));
        },
        "a.rs:1:1: an output is computed after the key loops, but `o * j as f32` depends on the key's position",
    );
}

fn tensor(shape: &[usize], data: &[f64]) -> HostTensor {
    assert_eq!(shape.iter().product::<usize>(), data.len());
    HostTensor { shape: shape.to_vec(), data: data.to_vec() }
}

fn run(
    spec: &Spec,
    operands: &[HostTensor],
    scalars: &[ScalarValue],
    tensors: &[HostTensor],
) -> Result<Reference, InterpretError> {
    interpret(spec, &Inputs { operands, scalars, tensors, scale: 1.0, query_offset: 0, key_offsets: &[0] })
}

fn close(found: &[f64], expected: &[f64]) {
    let same = |(a, b): (&f64, &f64)| (a - b).abs() < 1e-12 || (a.is_nan() && b.is_nan());
    assert!(found.len() == expected.len() && found.iter().zip(expected).all(same), "{found:?}, expected {expected:?}");
}

/// Two queries of two heads, keys of which one head serves both, and values of two.
#[test]
fn operands_have_heads_of_their_own() {
    let ones = |shape: &[usize]| tensor(shape, &vec![1.0; shape.iter().product()]);
    let operands = [
        ones(&[1, 2, 2, 1]),
        tensor(&[1, 1, 2, 1], &[0.0, 3f64.ln()]),
        tensor(&[1, 2, 2, 1], &[1.0, 2.0, 3.0, 4.0]),
        ones(&[1, 2, 2, 1]),
        tensor(&[1, 2, 2, 1], &[0.0, 0.0, 0.0, 2f64.ln()]),
    ];
    let found = run(&latent(), &operands, &[], &[]).unwrap();
    // Weights of the second query: 1 to 3, and in the second head 1 to 6.
    close(&found.out.data, &[1.0, 7.0 / 4.0, 3.0, 27.0 / 7.0]);
    close(&found.lse.data, &[0.0, 4f64.ln(), 0.0, 7f64.ln()]);
    let mut wrong = operands.clone();
    wrong[4] = ones(&[1, 2, 3, 1]);
    let error = run(&latent(), &wrong, &[], &[]).unwrap_err().to_string();
    assert_eq!(error, "`k_rope` has shape [1, 2, 3, 1], expected [1, a divisor of 2, 2, 1]");
}

#[test]
fn an_output_is_computed_of_accumulators() {
    let q = tensor(&[1, 1, 2, 1], &[0.0, 1.0]);
    let operands = [
        q.clone(),
        q.clone(),
        tensor(&[1, 1, 2, 1], &[0.0, 3f64.ln()]),
        tensor(&[1, 1, 2, 1], &[0.0, 0.0]),
        tensor(&[1, 1, 2, 1], &[4.0, 8.0]),
    ];
    let found = run(&differential(), &operands, &[], &[tensor(&[1], &[0.5])]).unwrap();
    close(&found.out.data, &[4.0 - 0.5 * 4.0, 7.0 - 0.5 * 6.0]);
    close(&found.lse.data, &[f64::NAN; 2]);

    let gate = tensor(&[1, 1, 2, 1], &[0.0, 3f64.ln()]);
    let operands = [q, operands[2].clone(), operands[4].clone(), gate];
    close(&run(&gated(), &operands, &[], &[]).unwrap().out.data, &[2.0, 7.0 * 0.75]);
    let mut wrong = operands;
    wrong[3] = tensor(&[1, 1, 2, 2], &[0.0; 4]);
    let error = run(&gated(), &wrong, &[], &[]).unwrap_err().to_string();
    assert_eq!(error, "an output of `gated` is of `o`, of dim 1, and of `gate`, of dim 2");
}

#[test]
fn a_weight_is_not_in_the_sum() {
    // Keys of two elements, of which the first is the value.
    let operands = [tensor(&[1, 1, 2, 2], &[0.0, 1.0, 0.0, 1.0]), tensor(&[1, 1, 2, 2], &[4.0, 0.0, 8.0, 3f64.ln()])];
    let found = run(&weighted(), &operands, &[ScalarValue::U32(1)], &[]).unwrap();
    // The weights 1/4 and 3/4 times the sigmoids 1/2 and 3/4.
    close(&found.out.data, &[2.0, 0.25 * 0.5 * 4.0 + 0.75 * 0.75 * 8.0]);
    close(&found.lse.data, &[0.0, 4f64.ln()]);
}

/// Two accumulators with values of their own dims, and a gate: each result, and an expression.
fn several() -> Spec {
    let mut builder = Builder::new("several", "", "a.rs", 1, 1);
    let (q, k) = (builder.query("q"), builder.key("k", 0));
    let (v, w) = (builder.value("v", 0), builder.value("w", 0));
    builder.query("gate");
    builder.scalar::<lang::Bool>("all", ScalarType::Bool, true);
    builder.softmax("a", None);
    builder.mean("b");
    builder.key_loop(0, &[(q, k)]);
    builder.push(0, causal(scaled(0)), v);
    builder.push(1, causal(lang::exp(scaled(0))), w);
    builder.output(lang::mul(lang::result(0), lang::result(3)));
    builder.output(lang::select(several_all(), lang::result(1), lang::float(0.5)));
    builder.output(lang::result(0));
    builder.finish()
}

/// The scalar of [`several`].
fn several_all() -> lang::Bool {
    Builder::new("", "", "", 1, 1).scalar("all", ScalarType::Bool, true)
}

#[test]
fn several_outputs_have_dims_of_their_own() {
    let of = [4, 4, 3, 2, 3];
    let expected = "\
for i in tiles(S)
    a = softmax base e
    b = mean
    q = load q[i]
    gate = load gate[i]
    for j in tiles(T0)
      s = dot q, k[j]
      t = map s * scale()
      t = mask t where j <= i on all
      t2 = map exp(s * scale())
      t2 = mask t2 where j <= i on all
      a = push t, v[j]
      b = push t2, w[j]
    store a * gate
    store if true { b } else { 0.5 }
    store a
";
    assert_eq!(program(&several(), &[ScalarValue::Bool(true)], &of), expected);
    let lowered = lower(&several(), &[ScalarValue::Bool(true)], &dims(&of)).unwrap();
    assert_eq!(lowered.outputs.iter().map(|output| output.dim).collect::<Vec<_>>(), [3, 2, 3]);
    // An output that is left without an accumulator keeps its dim.
    let lowered = lower(&several(), &[ScalarValue::Bool(false)], &dims(&of)).unwrap();
    assert_eq!(lowered.outputs.iter().map(|output| output.dim).collect::<Vec<_>>(), [3, 2, 3]);
    assert_eq!(lowered.accumulators.len(), 1);
    let error = lower(&several(), &[ScalarValue::Bool(true)], &dims(&[4, 4, 3, 2, 2])).unwrap_err().to_string();
    assert_eq!(error, "`several`: an output of `a`, of 3 elements, and `gate`, of 2");

    let mut spec = several();
    spec.outputs = vec![spec.outputs[0].clone(); 9];
    let error = lower(&spec, &[ScalarValue::Bool(true)], &dims(&of)).unwrap_err().to_string();
    assert_eq!(error, "`several`: it has 9 outputs, expected 1 to 8");
    spec.outputs.clear();
    let error = lower(&spec, &[ScalarValue::Bool(true)], &dims(&of)).unwrap_err().to_string();
    assert_eq!(error, "`several`: it has 0 outputs, expected 1 to 8");
}

#[test]
fn the_reference_gives_every_output() {
    let operands = [
        tensor(&[1, 1, 2, 1], &[0.0, 1.0]),
        tensor(&[1, 1, 2, 1], &[0.0, 3f64.ln()]),
        tensor(&[1, 1, 2, 1], &[4.0, 8.0]),
        tensor(&[1, 1, 2, 2], &[1.0, -1.0, 5.0, 3.0]),
        tensor(&[1, 1, 2, 1], &[2.0, 0.5]),
    ];
    let found = run(&several(), &operands, &[ScalarValue::Bool(true)], &[]).unwrap();
    // The second query weighs its keys by 1 and 3.
    let expected: [&[f64]; 3] = [&[8.0, 3.5], &[1.0, -1.0, 4.0, 2.0], &[4.0, 7.0]];
    let outputs: Vec<_> = found.outputs().collect();
    assert_eq!(outputs.len(), 3);
    outputs.iter().zip(expected).for_each(|(output, expected)| close(&output.data, expected));
    assert_eq!(outputs[1].shape, [1, 1, 2, 2]);
    assert_eq!(found.further.len(), 2);
    // Where the second is of no accumulator, it has as many elements.
    let found = run(&several(), &operands, &[ScalarValue::Bool(false)], &[]).unwrap();
    assert_eq!(found.further[0], tensor(&[1, 1, 2, 2], &[0.5; 4]));
    assert!(found.lse.data.iter().all(|value| value.is_nan()), "it has two accumulators");
}
