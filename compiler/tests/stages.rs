//! The tile program after every stage.

use purview_compiler::ir::forward::Operands;
use purview_compiler::ir::{Element, Kept, parse::parse};
use purview_compiler::lang::{self, Builder, Float, Int};
use purview_compiler::lower::dims_of;
use purview_compiler::passes::{schedule, stages};
use purview_compiler::schedule::{CpuSchedule, Schedule};
use purview_compiler::scheduled::Compiled;
use purview_compiler::spec::{ScalarType, ScalarValue, Spec};

const SCHEDULE: Schedule = Schedule::Cpu(CpuSchedule::new(16, 2, 64, 8));
const OPERANDS: Operands = Operands { element: Element::F32, qk_dim: 64, v_dim: 32 };

fn sliding_window() -> Spec {
    let mut builder = Builder::new("sliding_window", "", "window.rs", 3, 1);
    let query = builder.query("q");
    let (key, value) = (builder.key("k", 0), builder.value("v", 0));
    let window: Int = builder.scalar("window", ScalarType::U32, false);
    let (i, j) = (lang::query_position, lang::key_position);
    builder.softmax("o", None);
    builder.key_loop(0, &[(query, key)]);
    let visible = lang::and(lang::le(j(), i()), lang::lt(lang::sub(i(), j()), window));
    builder.push(0, lang::mask(lang::mul(lang::dot(0), lang::scale()), visible), value);
    builder.finish()
}

/// The last stage of `spec`; every stage parses back to itself.
fn last_stage(spec: &Spec, scalars: &[ScalarValue]) -> String {
    let stages = stages(spec, scalars, &dims_of(spec, OPERANDS), Kept::default()).unwrap();
    for (stage, program) in &stages {
        assert_eq!(parse(&program.to_string()).as_ref(), Ok(program), "{stage}\n{program}");
    }
    let (_, last) = stages.last().unwrap();
    let scheduled = schedule(Compiled::new(last.clone()), SCHEDULE).unwrap();
    assert_eq!(scheduled.to_string().parse().as_ref(), Ok(&scheduled), "{scheduled}");
    scheduled.to_string()
}

#[test]
fn a_window_is_bounded_on_both_sides() {
    let expected = "\
attention @sliding_window(window: u32) -> f32[B, H, S, 32]
  q: f32[B, H, S, 64]
  k: f32[B, G, T0, 64]  v: f32[B, G, T0, 32]
  for i in tiles(S)
    o = softmax base 2
    q = load q[i] * (scale() * 1.442695)
    for j in tiles(T0) from i0 - window + 1 to i1 + 1 if window >= 1
        full from i1 - window + 1 to i0 + 1
      s = dot q, k[j]
      s = mask s where j <= i && i - j < window on partial
      o = push s, v[j]
    store o
  schedule cpu(lanes: 16, vectors: 2, keys: 64, rows: 8)
";
    assert_eq!(last_stage(&sliding_window(), &[ScalarValue::U32(256)]), expected);
}

#[test]
fn a_condition_on_the_score_becomes_part_of_the_map() {
    let mut builder = Builder::new("thresholded", "", "thresholded.rs", 3, 1);
    let query = builder.query("q");
    let (key, value) = (builder.key("k", 0), builder.value("v", 0));
    let cap: Float = builder.scalar("cap", ScalarType::F32, true);
    let sinks = builder.tensor::<Float, 1>("sinks");
    builder.softmax("o", Some(sinks.load([lang::head()])));
    builder.key_loop(0, &[(query, key)]);
    let visible =
        lang::and(lang::gt(lang::dot(0), lang::float(0.0)), lang::le(lang::key_position(), lang::query_position()));
    builder.push(0, lang::mask(lang::mul(lang::tanh(lang::div(lang::dot(0), cap.clone())), cap), visible), value);
    let expected = "\
attention @thresholded(sinks: Tensor<f32, 1>) -> f32[B, H, S, 32]
  q: f32[B, H, S, 64]
  k: f32[B, G, T0, 64]  v: f32[B, G, T0, 32]
  for i in tiles(S)
    o = softmax base 2 sink sinks[head()] * 1.442695
    q = load q[i]
    for j in tiles(T0) to i1 + 1
        full to i0 + 1
      s = dot q, k[j]
      s = map (if s > 0.0 { tanh(s / 30.0) * 30.0 } else { -inf }) * 1.442695
      s = mask s where j <= i on partial
      o = push s, v[j]
    store o
  schedule cpu(lanes: 16, vectors: 2, keys: 64, rows: 8)
";
    assert_eq!(last_stage(&builder.finish(), &[ScalarValue::F32(30.0)]), expected);
}
