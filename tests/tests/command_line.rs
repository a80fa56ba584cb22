//! The command line, in this process: what it prints, as text and as JSON, and how it ends.

use purview::prelude::*;
use purview::{Variant, report};
use purview_cli::{FAILURE, Gallery, OwnCommand, SUCCESS, USAGE};
use serde_json::{Value as Json, json};
use std::io::{self, Write};

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/golden");

/// Each query sees itself and the keys
/// before it. A second sentence.
///
/// A second paragraph.
#[attention]
fn causal(q: Query, k: Key, v: Value) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push(mask(dot(q[i], k[j]) * scale(), j <= i), v[j]);
        }
        o
    }
}

/// A shifted window, with a slope or a bias.
#[attention]
fn window(
    q: Query,
    k: Key,
    v: Value,
    window: u32,
    shift: i32,
    slope: f32,
    steep: bool,
    bias: Tensor<f32, 1>,
) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            let s = dot(q[i], k[j]) * scale() + if steep { slope * (j - i) as f32 } else { bias[head()] };
            o.push(mask(s, j <= i + shift && i + shift - j < window), v[j]);
        }
        o
    }
}

/// Each query sees every `stride`-th key before it.
#[attention]
fn strided(q: Query, k: Key, v: Value, stride: u32) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push(mask(dot(q[i], k[j]) * scale(), j <= i && (i - j) % stride == 0), v[j]);
        }
        o
    }
}

/// Weights as they are, over a memory and then the segment.
#[attention]
fn memory(q: Query, mk: Key, mv: Value, k: Key, v: Value) -> Output {
    for i in q.tiles() {
        let mut o = Sum::new();
        for j in mk.tiles() {
            o.push(sigmoid(dot(q[i], mk[j]) * scale()), mv[j]);
        }
        for j in k.tiles() {
            o.push(mask(sigmoid(dot(q[i], k[j]) * scale()), j <= i), v[j]);
        }
        o
    }
}

/// A sum of two products, of heads in two parts.
#[attention]
fn latent(q: Query, k: Key, v: Value, r: Query, l: Key) -> Output {
    for i in q.tiles() {
        let mut o = Softmax::new();
        for j in k.tiles() {
            o.push(mask((dot(q[i], k[j]) + dot(r[i], l[j])) * scale(), j <= i), v[j]);
        }
        o
    }
}

const LATENT: Variant = Variant { name: "latent", make: |_| Ok(latent().into()) };

const CAUSAL: Variant = Variant { name: "causal", make: |_| Ok(causal().into()) };

const VARIANTS: &[Variant] = &[
    CAUSAL,
    Variant {
        name: "window",
        make: |arguments| {
            let bias = arguments.tensor("bias", [arguments.shape.heads], |[head]| head as f32)?;
            let (size, shift) = (arguments.u32("window", 256)?, arguments.i32("shift", 0)?);
            Ok(window(size, shift, arguments.f32("slope", 0.0), arguments.bool("steep", false)?, &bias).into())
        },
    },
    Variant { name: "memory", make: |_| Ok(memory().into()) },
    Variant {
        name: "strided",
        // As many as there are tiles of 64.
        make: |arguments| Ok(strided(arguments.u32("stride", arguments.shape.queries.div_ceil(64) as u32)?).into()),
    },
];

/// Exit code, output and errors of `purview` with these arguments, separated by blanks.
fn purview_with(gallery: &Gallery, line: &str) -> (u8, String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let args = std::iter::once("purview").chain(line.split_whitespace());
    let code = purview_cli::run(args, gallery, &mut out, &mut err);
    (code, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

fn purview(line: &str) -> (u8, String, String) {
    purview_with(&Gallery { variants: VARIANTS, golden: &[("causal", CAUSAL)], commands: &[] }, line)
}

#[track_caller]
fn text(line: &str) -> String {
    let (code, out, err) = purview(line);
    assert_eq!((code, err.as_str()), (SUCCESS, ""), "{line}");
    out
}

#[track_caller]
fn json(line: &str) -> Json {
    serde_json::from_str(&text(line)).unwrap()
}

/// Asserts that the command ends with `code` and prints nothing but an error that begins with `message`.
#[track_caller]
fn fails(line: &str, code: u8, message: &str) {
    let (got, out, err) = purview(line);
    assert!(err.starts_with(message), "{line}\nexpected {message}\ngot {err}");
    assert_eq!((got, out.as_str()), (code, ""), "{line}");
}

#[test]
fn list_has_names_first_sentences_and_parameters() {
    assert_eq!(
        text("list"),
        "\
causal   Each query sees itself and the keys before it.
window   A shifted window, with a slope or a bias.
         window: u32 = 256, shift: i32 = 0, slope: f32 = 0.0, steep: bool = false, bias: Tensor<f32, 1>
memory   Weights as they are, over a memory and then the segment.
         mk: Key, mv: Value, k: Key, v: Value
strided  Each query sees every `stride`-th key before it.
         stride: u32
"
    );
    let variants = json("list --json");
    assert_eq!(variants["variants"].as_array().unwrap().len(), 4);
    let window = &variants["variants"][1];
    assert_eq!(window["name"], "window");
    assert_eq!(window["accumulator"], "Softmax");
    assert_eq!(window["pairs"], json!([{ "key": "k", "value": "v" }]));
    assert_eq!(window["scalars"][3], json!({ "name": "steep", "type": "bool", "comptime": false, "default": false }));
    assert_eq!(window["tensors"], json!([{ "name": "bias", "type": "f32", "rank": 1, "sorted": false }]));
    assert_eq!(variants["variants"][2]["accumulator"], "Sum");
    // What depends on the shape is no default.
    assert_eq!(variants["variants"][3]["scalars"][0]["default"], Json::Null);
}

#[test]
fn program_prints_the_stage_that_was_asked_for() {
    let shape = Shape::new(1, 8, 1024, 40);
    let program = causal().program(&shape).unwrap().to_string();
    assert_eq!(text("program causal --dim 40").trim_end(), program.trim_end());

    let stages = json("program causal --dim 40 --stage all --json");
    assert_eq!(stages["shape"]["dim"], 40);
    let stages: Vec<(String, String)> = stages["stages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|stage| (stage["stage"].as_str().unwrap().into(), stage["text"].as_str().unwrap().into()))
        .collect();
    let want: Vec<(String, String)> =
        causal().stages(&shape).unwrap().into_iter().map(|(stage, text)| (stage.into(), text)).collect();
    assert_eq!(stages, want);

    let all = text("program causal --dim 40 --stage all");
    assert!(stages.iter().all(|(stage, text)| all.contains(&format!("// after {stage}\n{}\n", text.trim_end()))));
    assert_eq!(text("program causal --dim 40 --stage lower").trim_end(), stages[0].1.trim_end());
}

#[test]
fn programs_and_kernels_are_of_launches_that_give_more() {
    let shape = Shape::new(1, 8, 1024, 40);
    let (max, partial) = (causal().with_max(), causal().with_partial());
    let with_max = text("program causal --dim 40 --with max");
    assert_eq!(with_max.trim_end(), max.program(&shape).unwrap().to_string().trim_end());
    assert!(with_max.contains("\n    keep maximum\n"), "{with_max}");
    let undivided = text("program causal --dim 40 --with partial --stage lower");
    assert_eq!(undivided.trim_end(), partial.stages(&shape).unwrap()[0].1.trim_end());
    assert!(undivided.ends_with("\n    keep undivided\n"), "{undivided}");
    let wgsl = text("emit causal --dim 40 --target wgsl --with max");
    assert_eq!(wgsl, max.emit(Target::Wgsl, &shape).unwrap());
    assert_ne!(wgsl, text("emit causal --dim 40 --target wgsl"));

    let message = "error: `memory` accumulates with `Sum`, and only one `Softmax` has a partial result\n";
    fails("program memory --with partial", FAILURE, message);
    fails("program causal --with sum", USAGE, "error: invalid value 'sum' for '--with <RESULT>'");
}

#[test]
fn program_prints_the_programs_of_gradients() {
    let shape = "--q 64 --dim 16";
    let printed = text(&format!("program window {shape} --backward"));
    let heads: Vec<&str> =
        printed.lines().filter_map(|line| line.strip_prefix("attention @window_backward_")).collect();
    let names: Vec<&str> = heads.iter().filter_map(|head| head.split('(').next()).collect();
    let all = ["rows", "queries", "keys", "bias_of_pairs", "slope_of_pairs", "scale_of_pairs"];
    assert_eq!(names, all);
    // What lies along rows alone has no schedule.
    assert_eq!(printed.matches("  schedule cpu(").count(), 5);
    let of_bias = text(&format!("program window {shape} --of bias"));
    assert!(of_bias.contains("-> like bias\n") && of_bias.contains("      add ds to bias[head()]\n"), "{of_bias}");
    assert!(!of_bias.contains("window_backward_queries"), "{of_bias}");
    let stages = json(&format!("program causal {shape} --backward --stage all --json"));
    let stages: Vec<&str> =
        stages["stages"].as_array().unwrap().iter().map(|of| of["stage"].as_str().unwrap()).collect();
    assert_eq!((stages[0], stages[stages.len() - 1]), ("lower", "schedule"));
    let message = "error: `window` has no gradient of `window`, expected one of q, k, v, bias, slope, scale()";
    fails(&format!("program window {shape} --of window"), FAILURE, message);
}

#[test]
fn check_compares_gradients() {
    let cases = "--cases causal,alibi_causal,attention_sink";
    let variants = purview_examples::golden();
    let gallery = Gallery { variants: VARIANTS, golden: &variants, commands: &[] };
    let line = format!("check --golden {GOLDEN} --backward --device cpu {cases}");
    let (code, out, err) = purview_with(&gallery, &line);
    assert_eq!((code, err.as_str()), (SUCCESS, ""), "{out}");
    assert!(out.contains("d_slope") && out.ends_with("gradients of 3 of 3 golden cases on cpu in f32\n"), "{out}");
    let (_, out, _) = purview_with(&gallery, &format!("{line} --json"));
    let found: Json = serde_json::from_str(&out).unwrap();
    let alibi = found["cases"].as_array().unwrap().iter().find(|case| case["name"] == "alibi_causal").unwrap();
    assert_eq!(alibi["gradients"].as_array().unwrap().len(), 4);
    fails(
        &format!("check --golden {GOLDEN} --backward --device ptx"),
        USAGE,
        "error: gradients are computed on the CPU",
    );
}

#[test]
fn report_has_the_numbers_and_the_picture() {
    let line =
        "report window --q 256 --kv 512 --heads 4 --kv-heads 2 --batch 3 -p window=200 -p shift=-1 --q-offset 100";
    let shape = Shape::new(3, 4, 512, 64).with_kv_heads(2).with_queries(256);
    let device = Device::cpu().unwrap();
    let bias = Tensor::from_slice(&device, [4], &[0.0f32, 1.0, 2.0, 3.0]).unwrap();
    let want = window(200, -1, 0.0, false, &bias).with_query_offset(100).report(&shape).unwrap();
    let printed = text(line);
    assert_eq!(printed, want.to_string());
    let lines: Vec<&str> = printed.lines().collect();
    assert_eq!(lines[1], "  shape      batch 3, 4 heads on 2, 256 queries, 512 keys, head dim 64, f32");
    assert_eq!(lines[2], "  scalars    window 200, shift -1, slope 0.0, steep false");

    let got = json(&format!("{line} --json"));
    let report::Tiles { total, visited, full } = want.tiles;
    assert!(0 < full && full < visited && visited < total);
    for part in [&got, &got["loops"][0]] {
        assert_eq!(part["total_tiles"], total);
        assert_eq!(part["visited_tiles"], visited);
        assert_eq!(part["full_tiles"], full);
        assert_eq!(part["partial_tiles"], visited - full);
        assert_eq!(part["skipped_tiles"], total - visited);
    }
    assert_eq!(got["pairs"], 3 * 4 * 256 * 512);
    assert_eq!(got["visible_pairs"].as_u64(), want.visible_pairs);
    assert_eq!(got["density"].as_f64(), want.density());
    assert_eq!(got["executed_flops"], want.executed_flops);
    assert_eq!(got["useful_flops"].as_u64(), want.useful_flops);
    assert_eq!(got["loops"][0]["picture"], json!(want.loops[0].picture.lines(64)));
    assert_eq!(got["bytes"], want.bytes);
    assert_eq!((&got["mask_bytes"], &got["needed_tiles"]), (&json!(0), &Json::Null));
    assert_eq!(got["scalars"], json!({ "window": 200, "shift": -1, "slope": 0.0, "steep": false }));
    assert_eq!(got["masked_rows"], json!({ "count": 0, "positions": [] }));
    let (visit, full) = (&want.loops[0].visit, &want.loops[0].full);
    assert_eq!((&got["loops"][0]["visit"], &got["loops"][0]["full"]), (&json!(visit), &json!(full)));
    assert_eq!((&got["loops"][0]["undecided"], &got["loops"][0]["kind"]), (&json!([]), &Json::Null));
    assert_eq!(got["shape"]["kv_heads"], 2);
    assert_eq!(got["shape"]["kv"], json!([512]));
    assert_eq!((&got["schedule"], &got["query_tile"], &got["key_tile"]), (&json!("cpu"), &json!(64), &json!(64)));

    // Of several sets of keys, each has its own length.
    let two = json("report memory --q 64 --kv 128,64 --json");
    assert_eq!(two["shape"]["kv"], json!([128, 64]));
    assert_eq!((&two["loops"][0]["total_tiles"], &two["loops"][1]["total_tiles"]), (&json!(16), &json!(8)));
    // A million tokens.
    let million = 1u64 << 20;
    let visible = json("report causal --q 1048576 --heads 3 --json")["visible_pairs"].as_u64();
    assert_eq!(visible, Some(3 * million * (million + 1) / 2));
}

#[test]
fn report_verifies_the_tiles() {
    for line in [
        "report causal --q 100 --kv 300",
        "report window --q 300 -p window=70",
        "report window --q 300 --kv 200 -p window=0",
        "report memory --q 64 --kv 128,64",
    ] {
        let got = json(&format!("{line} --verify --json"));
        assert_eq!(got["needed_tiles"], got["visited_tiles"], "{line}");
        assert_eq!(got["loops"][0]["needed_tiles"], got["loops"][0]["visited_tiles"], "{line}");
        assert_eq!(
            (&got["missed_full_tiles"], &got["loops"][0]["missed_full_tiles"]),
            (&json!(0), &json!(0)),
            "{line}"
        );
    }
    let printed = text("report causal --q 128 --heads 2 --verify");
    assert!(printed.contains("\n    needed   6, each of which is visited; no full tile hides a pair\n"), "{printed}");
}

#[test]
fn report_has_notes() {
    let line = "report causal --q 20 --kv 10 --heads 1";
    let got = json(&format!("{line} --json"));
    assert_eq!(got["masked_rows"], json!({ "count": 10, "positions": [[-10, -1]] }));
    let note = &got["notes"][0];
    let message = "the queries at -10..=-1 see no key, and their output is zero: there are more queries (20) than keys (10), and \
                   the first ones are before the first key";
    assert_eq!(note["message"], message);
    let location = note["location"].as_str().unwrap();
    assert!(location.starts_with(&format!("{}:", file!())), "{location}");
    assert!(text(line).contains(&format!("\n  {location}: note: {message}\n")));

    let got = json("report strided --q 200 --json");
    assert_eq!(got["loops"][0]["undecided"], json!(["(i - j) % stride == 0"]));
    assert_eq!(got["loops"][0]["kind"]["some"], "(i1 - j0) / stride > (i0 - j1 - 1) / stride");
    assert_eq!(
        got["notes"][0]["message"],
        "`(i - j) % stride == 0` gives no ranges, because of its remainder: tiles are decided one by one"
    );
}

#[test]
fn report_draws_an_svg() {
    let path = std::env::temp_dir().join(format!("purview-report-{}.svg", std::process::id()));
    let printed = text(&format!("report causal --q 300 --svg {}", path.display()));
    assert_eq!(printed, text("report causal --q 300"));
    let drawn = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(path).unwrap();
    assert!(drawn.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\""), "{drawn}");
    assert!(drawn.contains(">batch 1, 8 heads, 300 queries, 300 keys, head dim 64, f32</text>"), "{drawn}");
    fails("report causal --svg nowhere/a.svg", FAILURE, "error: nowhere/a.svg: ");
}

#[test]
fn run_prints_what_it_ran_and_checks_it() {
    let line = "run window --device cpu --q 100 --kv 130 --heads 4 --kv-heads 2 --dim 24 --v-dim 40 --batch 2 \
                -p window=33 -p slope=0.125 -p steep=true --scale 0.5 --q-offset -3 --repeat 2 --check";
    let printed = text(line);
    let lines: Vec<&str> = printed.lines().collect();
    assert_eq!(lines[0], "window on cpu");
    assert_eq!(lines[1], "  shape     batch 2, 4 heads on 2, 100 queries, 130 keys, head dim 24, of values 40, f32");
    assert_eq!(lines[3], "  scalars   window 33, shift 0, slope 0.125, steep true");
    assert!(lines[4].ends_with("compiled"), "{printed}");
    assert!(lines[5].contains("median of 2; on this machine"), "{printed}");
    assert_eq!(lines.last(), Some(&"  pass"));

    let got = json(&format!("{line} --json"));
    assert_eq!((&got["variant"], &got["device"], &got["repeat"]), (&json!("window"), &json!("cpu"), &json!(2)));
    assert_eq!(got["passed"], true);
    assert_eq!(got["scalars"]["slope"], 0.125);
    assert!(got["first_call_ms"].as_f64() > Some(0.0) && got["median_ms"].as_f64() > Some(0.0));
    assert!(got["kernels_compiled"].is_u64());
    assert!(
        got["out_error"].as_f64() <= got["out_limit"].as_f64()
            && got["lse_error"].as_f64() <= got["lse_limit"].as_f64()
            && got["max_error"].as_f64() <= got["max_limit"].as_f64()
    );
    assert!(printed.contains(", max "), "{printed}");

    // No log-sum-exp, two sets of keys, half the bits, once.
    let got =
        json("run memory --device cpu --q 40 --kv 70,40 --heads 2 --dim 16 --dtype f16 --repeat 0 --check --json");
    assert_eq!((&got["passed"], &got["median_ms"], got.get("lse_error")), (&json!(true), &Json::Null, None));
    assert_eq!(got["shape"]["dtype"], "f16");
    // Unless asked, nothing is checked.
    assert_eq!(json("run causal --device cpu --q 8 --json").get("passed"), None);
}

fn of_latent(line: &str) -> (u8, String, String) {
    purview_with(&Gallery { variants: &[LATENT], golden: &[], commands: &[] }, line)
}

#[test]
fn operands_have_head_dims_and_heads_of_their_own() {
    let flags = "--q 40 --heads 4 --kv-heads 2 --dim 16 --dim-of r=8 --dim-of l=8 --heads-of l=1";
    let (code, printed, err) = of_latent(&format!("run latent --device cpu {flags} --repeat 0 --check"));
    assert_eq!((code, err.as_str()), (SUCCESS, ""), "{printed}");
    let shape = "  shape     batch 1, 4 heads on 2, 40 queries, 40 keys, head dim 16, f32; head dim of r 8, of l 8; heads of l 1";
    assert_eq!(printed.lines().nth(1), Some(shape));
    assert_eq!(printed.lines().last(), Some("  pass"));

    let (_, printed, _) = of_latent(&format!("run latent --device cpu {flags} --repeat 0 --json"));
    let got: Json = serde_json::from_str(&printed).unwrap();
    assert_eq!(got["shape"]["dims"], json!({ "r": 8, "l": 8 }));
    assert_eq!(got["shape"]["key_heads"], json!({ "l": 1 }));

    let shape = Shape::new(1, 4, 40, 16).with_kv_heads(2).with_dims([("r", 8), ("l", 8)]).with_key_heads([("l", 1)]);
    let (_, printed, _) = of_latent(&format!("program latent {flags}"));
    assert_eq!(printed.trim_end(), latent().program(&shape).unwrap().to_string().trim_end());
    assert!(printed.contains("l: f32[B, G, T0, 8]"), "{printed}");
}

#[test]
fn what_is_wrong_with_single_operands_is_said() {
    let head_dim = "expected NAME=NUMBER, a number in 1..=576";
    let heads = "expected NAME=NUMBER, a number in 1..=65536";
    let invalid = |flag: &str, value: &str, of: &str, expected: &str| {
        format!("error: invalid value '{value}' for '{flag} <NAME={of}>': {expected}")
    };
    let unknown = "error: `latent` has no `x` along queries or keys, it takes q, k, v, r, l".to_string();
    let cases = [
        ("--dim-of r=0", USAGE, invalid("--dim-of", "r=0", "D", head_dim)),
        ("--dim-of r=577", USAGE, invalid("--dim-of", "r=577", "D", head_dim)),
        ("--dim-of r=wide", USAGE, invalid("--dim-of", "r=wide", "D", head_dim)),
        ("--dim-of r", USAGE, invalid("--dim-of", "r", "D", "expected NAME=VALUE")),
        ("--heads-of l=0", USAGE, invalid("--heads-of", "l=0", "H", heads)),
        ("--heads-of l=65537", USAGE, invalid("--heads-of", "l=65537", "H", heads)),
        ("--dim-of r=8 --dim-of l=8 --dim-of r=8", USAGE, "error: --dim-of gives `r` twice".into()),
        ("--heads-of l=1 --heads-of l=2", USAGE, "error: --heads-of gives `l` twice".into()),
        ("--dim-of x=8", FAILURE, unknown.clone()),
        ("--heads-of x=1", FAILURE, unknown),
        ("--heads-of l=3", FAILURE, "error: `q` has 8 heads, which is not a multiple of the 3 heads of `l`".into()),
        (
            "--heads-of r=2",
            FAILURE,
            "error: 2 heads are given for `r`, which lies along queries and has their 8".into(),
        ),
    ];
    for (flags, code, message) in cases {
        for command in ["run latent --device cpu", "program latent", "report latent", "emit latent --target wgsl"] {
            let line = format!("{command} {flags}");
            let (got, out, err) = of_latent(&line);
            assert!(err.starts_with(&message), "{line}\nexpected {message}\ngot {err}");
            assert_eq!((got, out.as_str()), (code, ""), "{line}");
        }
    }
}

#[test]
fn check_compares_every_case_and_counts() {
    let (code, out, err) = purview(&format!("check --golden {GOLDEN} --device cpu"));
    assert_eq!((code, err.as_str()), (FAILURE, ""));
    let line = |name: &str| out.lines().find(|line| line.split_whitespace().next() == Some(name)).unwrap();
    assert!(line("causal").ends_with("pass"), "{out}");
    assert!(line("full").ends_with("FAIL: no variant is known for it"), "{out}");
    assert!(out.ends_with("1 of 34 golden cases, 0 of 2 MiniLM cases on cpu in f32\n"), "{out}");

    // A variant that gives other numbers.
    let gallery = Gallery { variants: VARIANTS, golden: &[("full", CAUSAL), ("causal", CAUSAL)], commands: &[] };
    let (code, out, _) = purview_with(&gallery, &format!("check --golden {GOLDEN} --device cpu --json"));
    assert_eq!(code, FAILURE);
    let got: Json = serde_json::from_str(&out).unwrap();
    assert_eq!((&got["golden_passed"], &got["golden_total"]), (&json!(1), &json!(34)));
    assert_eq!((&got["minilm_passed"], &got["minilm_total"]), (&json!(0), &json!(2)));
    assert_eq!((&got["passed"], &got["device"], &got["dtype"]), (&json!(false), &json!("cpu"), &json!("f32")));
    let case = |name: &str| got["cases"].as_array().unwrap().iter().find(|case| case["name"] == name).unwrap();
    assert_eq!((&case("full")["passed"], &case("full")["variant"]), (&json!(false), &json!("causal")));
    assert!(case("full")["out_error"].as_f64() > Some(0.01));
    assert_eq!(case("causal")["passed"], true);
    assert!(case("causal")["lse_error"].as_f64() < case("causal")["lse_limit"].as_f64());
    assert_eq!(case("chunked")["error"], "no variant is known for it");
}

#[test]
fn a_check_in_which_everything_passes_succeeds() {
    let directory = std::env::temp_dir().join(format!("purview-command-line-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let manifest: Json = serde_json::from_slice(&std::fs::read(format!("{GOLDEN}/manifest.json")).unwrap()).unwrap();
    let causal = manifest.as_array().unwrap().iter().find(|case| case["name"] == "causal").unwrap();
    std::fs::write(directory.join("manifest.json"), json!([causal]).to_string()).unwrap();
    std::fs::copy(format!("{GOLDEN}/causal.safetensors"), directory.join("causal.safetensors")).unwrap();
    let printed = text(&format!("check --golden {} --device cpu --dtype f16", directory.display()));
    assert!(printed.ends_with("1 of 1 golden cases on cpu in f16\n"), "{printed}");

    // No case is not a success.
    std::fs::write(directory.join("manifest.json"), "[]").unwrap();
    fails(&format!("check --golden {} --device cpu", directory.display()), USAGE, "error: there is no case in ");
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
fn check_takes_the_gallery_and_names_and_prints_lines() {
    let printed = text("check --gallery --cases causal,strided --device cpu");
    let lines: Vec<&str> = printed.lines().collect();
    assert_eq!(lines.len(), 9, "{printed}");
    assert!(lines[0].starts_with("causal ") && lines[0].ends_with("pass"), "{printed}");
    assert_eq!(lines[8], "8 of 8 variants at a shape on cpu in f32");

    let lines = text(&format!("check --gallery --golden {GOLDEN} --cases causal --device cpu --dtype f16 --lines"));
    let lines: Vec<Json> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 6);
    assert!(lines[..5].iter().all(|line| line["name"] == "causal" && line["passed"] == true), "{lines:?}");
    assert_eq!((&lines[0]["shape"], &lines[1]["shape"]["q"]), (&Json::Null, &json!(150)));
    let shape = &lines[4]["shape"];
    assert_eq!((&shape["batch"], &shape["q"], &shape["kv"]), (&json!(2), &json!(1), &json!([333])));
    let last = &lines[5];
    assert_eq!((&last["variants_passed"], &last["variants_total"]), (&json!(4), &json!(4)));
    assert_eq!((&last["golden_total"], &last["passed"]), (&json!(1), &json!(true)));

    let got = json("check --gallery --cases memory --device cpu --json");
    assert_eq!(got["cases"], json!([]));
    assert_eq!(got["variants"].as_array().unwrap().len(), 4);
    assert!(got["variants"][0]["out_error"].as_f64() < got["variants"][0]["out_limit"].as_f64());
    let expected = "error: --cases names `casual`, expected some of causal, window, memory, strided";
    fails("check --gallery --cases casual --device cpu", USAGE, expected);
    fails("check --gallery --lines --json --device cpu", USAGE, "error: the argument '--lines' cannot be used with");
}

#[test]
fn a_crate_adds_commands_of_its_own() {
    let own = OwnCommand { name: "count", about: "Counts its arguments", run: |args| args.len() as u8 };
    let gallery = Gallery { variants: VARIANTS, golden: &[], commands: &[own] };
    assert_eq!(purview_with(&gallery, "count --json two --help"), (4, String::new(), String::new()));
    let (code, help, _) = purview_with(&gallery, "--help");
    assert_eq!(code, SUCCESS);
    assert!(help.contains("count    Counts its arguments"), "{help}");
}

#[test]
fn what_makes_no_sense_is_said_and_ends_with_2() {
    let (code, _, err) = purview("run casual");
    assert_eq!(code, USAGE);
    assert!(err.starts_with("error: invalid value 'casual' for '<VARIANT>'"), "{err}");
    assert!(err.contains("tip: a similar value exists: 'causal'"), "{err}");

    fails("", USAGE, "Fused attention kernels");
    fails("lits", USAGE, "error: unrecognized subcommand 'lits'");
    fails("program causal --stage lowr", USAGE, "error: invalid value 'lowr' for '--stage <STAGE>'");
    fails("run causal --device tpu", USAGE, "error: invalid value 'tpu' for '--device <DEVICE>'");
    fails("run causal --dtype f64", USAGE, "error: invalid value 'f64' for '--dtype <DTYPE>'");
    fails("run causal --dim 577", USAGE, "error: invalid value '577' for '--dim <D>': 577 is not in 1..=576");
    fails("run causal --q -1", USAGE, "error: ");
    fails("check --device cpu", USAGE, "error: the following required arguments were not provided");
    let most = "report causal --q 2147483647 --heads 65536 --batch 65536";
    fails(most, USAGE, "error: a shape of more than ");

    let no_scalar =
        "error: `window` has no scalar `windw`; it takes `window` (u32), `shift` (i32), `slope` (f32), `steep` (bool)";
    fails("report window -p windw=3", USAGE, no_scalar);
    fails("run causal -p window=3", USAGE, "error: `causal` has no scalar `window`; it takes none");
    fails(
        "report window -p window",
        USAGE,
        "error: invalid value 'window' for '--param <NAME=VALUE>': expected NAME=VALUE",
    );
    fails("report window -p window=1 -p window=2", USAGE, "error: `window` is given twice");
    for (given, expected) in [
        ("window=-4", "an integer from 0 to 2147483647"),
        ("window=4.5", "an integer from 0 to 2147483647"),
        ("window=", "an integer from 0 to 2147483647"),
        ("shift=2147483648", "an integer from -2147483648 to 2147483647"),
        ("slope=steep", "a finite number"),
        ("slope=1e39", "a finite number"),
        ("steep=2", "true or false"),
    ] {
        let (name, value) = given.split_once('=').unwrap();
        let message = format!("error: `{name}` of `window` is {value:?}, expected {expected}");
        fails(&format!("report window -p {given}"), USAGE, &message);
    }
}

#[test]
fn what_cannot_be_done_is_said_and_ends_with_1() {
    fails("run causal --device hip", FAILURE, "error: no device `hip`: ");
    let heads = "error: `q` has 6 heads, which is not a multiple of the 4 heads of `k`";
    fails("run causal --device cpu --heads 6 --kv-heads 4", FAILURE, heads);
    fails("report causal --heads 6 --kv-heads 4", FAILURE, heads);
    fails("report causal --kv 1,2", FAILURE, "error: `causal` takes 1 lengths of keys, 2 were given");
    fails("run causal --device cpu --kv 1,2", FAILURE, "error: `causal` takes 1 lengths of keys, 2 were given");
    fails("run causal --device cpu --q 2000000000 --kv 1 --heads 8", FAILURE, "error: a tensor of shape ");
    fails("run causal --device cpu --scale inf", FAILURE, "error: the scale is inf, expected a finite number");
    fails("check --golden nowhere --device cpu", FAILURE, "error: nowhere: ");
}

#[test]
fn help_describes_the_json() {
    for (command, fields) in [
        ("list", &["operands", "pairs", "scalars", "tensors", "sorted"][..]),
        ("program", &["stages", "text"]),
        (
            "report",
            &[
                "dims",
                "key_heads",
                "pushes",
                "total_tiles",
                "visited_tiles",
                "full_tiles",
                "partial_tiles",
                "skipped_tiles",
                "needed_tiles",
                "missed_full_tiles",
                "density",
                "bytes",
                "mask_bytes",
                "executed_flops",
                "useful_flops",
                "notes",
                "undecided",
                "kind",
                "picture",
            ],
        ),
        ("run", &["kernels_compiled", "first_call_ms", "median_ms", "out_error", "lse_error", "max_error", "passed"]),
        ("check", &["golden_passed", "golden_total", "minilm_passed", "minilm_total", "passed"]),
    ] {
        let help = text(&format!("{command} --help"));
        let missing: Vec<_> = fields.iter().filter(|field| !help.contains(**field)).collect();
        assert!(missing.is_empty(), "{command}: {missing:?}");
    }
}

/// What `| head -1` leaves behind.
struct ClosedPipe;

impl Write for ClosedPipe {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_closed_pipe_is_no_error() {
    let gallery = Gallery { variants: VARIANTS, golden: &[], commands: &[] };
    for line in ["list", "list --json", "program causal", "report causal", "run causal --device cpu --q 8", "--help"] {
        let mut err = Vec::new();
        let args = std::iter::once("purview").chain(line.split_whitespace());
        assert_eq!(purview_cli::run(args, &gallery, &mut ClosedPipe, &mut err), SUCCESS, "{line}");
        assert_eq!(String::from_utf8(err).unwrap(), "", "{line}");
    }
}

#[test]
fn emit_prints_a_kernel_for_every_target() {
    for (target, has) in [
        ("wgsl", "@compute"),
        ("spirv", "OpEntryPoint"),
        ("cuda", "__global__"),
        ("ptx", ".target sm_80"),
        ("hip", "__global__"),
        ("msl", "[[kernel]]"),
        ("cpu", "define void @causal("),
    ] {
        let kernel = text(&format!("emit causal --target {target} --dim 16 --dtype f16"));
        assert!(kernel.contains(has), "{target} has no {has}");
        let first = kernel.lines().next().unwrap();
        assert!(first.contains(" attention @causal() -> f16[B, H, S, 16] for "), "{first}");
    }
    let window = text("emit window --target wgsl --dim 16 -p window=7");
    let header: Vec<&str> = window.lines().take(5).collect();
    assert_eq!(
        header[..3],
        [
            "// attention @window(window: u32, shift: i32, slope: f32, steep: bool, bias: Tensor<f32, 1>) -> f32[B, H, S, 16] for wgsl on webgpu",
            "// for j in tiles(T0) from i0 + shift - window + 1 to i1 + shift + 1 if window >= 1; full from i1 + shift - window + 1 to i0 + shift + 1",
            "//   s = dot q, k[j]; s = map (s * scale() + (if steep { slope * (j - i) as f32 } else { bias[head()] })) * 1.442695; s = mask s where j <= i + shift && i + shift - j < window on partial; o = push s, v[j]",
        ]
    );
    assert!(header[3].starts_with("// schedule cube("), "{}", header[3]);
    assert!(header[4].starts_with("// launch grid ceil(S/"), "{}", header[4]);
}

#[test]
fn emit_has_json_and_compute_capabilities() {
    let kernel = json("emit causal --target ptx --sm 90 --dim 16 --json");
    assert_eq!((&kernel["target"], &kernel["device"], &kernel["sm"]), (&json!("ptx"), &json!("hopper"), &json!(90)));
    assert_eq!(kernel["schedule"], "cube");
    assert!(kernel["text"].as_str().unwrap().contains(".target sm_90"));
    assert_eq!(json("emit causal --target wgsl --dim 16 --json")["sm"], Json::Null);
}

#[test]
fn emit_writes_files() {
    let directory = std::env::temp_dir().join(format!("purview-emit-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let file = |name: &str| {
        let path = directory.join(name);
        assert_eq!(text(&format!("emit causal --target spirv --dim 16 -o {}", path.display())), "");
        std::fs::read(path).unwrap()
    };
    assert_eq!(file("causal.spv")[..4], 0x0723_0203u32.to_le_bytes(), "SPIR-V's magic number");
    assert!(file("causal.spvasm").starts_with(b"; attention @causal()"));
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
fn emit_says_what_makes_no_sense() {
    fails("emit causal", USAGE, "error: the following required arguments were not provided:\n  --target <TARGET>");
    fails("emit causal --target opencl", USAGE, "error: invalid value 'opencl' for '--target <TARGET>'");
    fails("emit causal --target wgsl --sm 80", USAGE, "error: --sm is for the targets cuda and ptx, not wgsl");
    fails("emit causal --target cuda --sm 70", USAGE, "error: invalid value '70' for '--sm <SM>'");
    fails(
        "emit causal --target wgsl --schedule cpu",
        USAGE,
        "error: `wgsl` has no kernel with the schedule `cpu`, but with `cube`",
    );
    fails(
        "emit causal --target wgsl --dtype bf16",
        FAILURE,
        "error: no text for the target `wgsl`: `webgpu` has no bf16 there",
    );
    assert!(text("emit causal --target cpu --schedule cpu --dim 16").contains("; schedule cpu("));
}

#[test]
fn check_runs_ptx_on_the_cpu() {
    let golden = format!("check --golden {GOLDEN} --json --device ptx --dtype f16");
    // All cases but one have no variant in this gallery, so that the check fails.
    for (sm, device) in [("", "ptx for ampere"), (" --sm 90", "ptx for hopper")] {
        let (code, out, err) = purview(&format!("{golden}{sm}"));
        assert_eq!((code, err.as_str()), (FAILURE, ""));
        let json: Json = serde_json::from_str(&out).unwrap();
        assert_eq!((&json["device"], &json["golden_passed"]), (&json!(device), &json!(1)));
        let cases = json["cases"].as_array().unwrap();
        let case = cases.iter().find(|case| case["name"] == "causal").unwrap();
        assert_eq!(case["passed"], true);
        assert!(case["warp_instructions"].as_u64().unwrap() > 1000);
        let read = &case["memory"]["cp.async"];
        assert!(read["sectors"].as_u64().unwrap() >= read["ideal_sectors"].as_u64().unwrap());
        assert!(read["ideal_sectors"].as_u64().unwrap() > 0 && read["ideal_wavefronts"].as_u64().unwrap() > 0);
        let shared = &case["memory"]["ldmatrix"];
        assert!(shared["wavefronts"].as_u64().unwrap() >= shared["ideal_wavefronts"].as_u64().unwrap());
        assert!(shared["ideal_wavefronts"].as_u64().unwrap() > 0 && shared["sectors"] == 0);
    }
    fails(&format!("check --golden {GOLDEN} --device cpu --sm 80"), USAGE, "error: --sm is for the device ptx");
    fails("run causal --device ptx", USAGE, "error: invalid value 'ptx' for '--device <DEVICE>'");
}
