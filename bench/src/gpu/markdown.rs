//! The results as tables of Markdown, to be pasted.

use crate::against_torch::missing_sides;
use crate::torch_process::Way;
use serde_json::Value;
use std::collections::BTreeMap;

/// The whole page.
pub fn markdown(run: &Value) -> String {
    let device = step(run, "device").and_then(|step| step["rows"].as_array()?.first().cloned()).unwrap_or_default();
    let name = ["/gpu/name", "/cpu", "/device"].iter().find_map(|at| device.pointer(at)?.as_str());
    let mut page = format!("# Purview on {}\n\n", name.or(run["device"].as_str()).unwrap_or("an unknown device"));
    page += &facts(run, &device);
    page += &outcomes(run);
    let sections: [(&str, &str, Section); 4] = [
        ("correct", "Numbers", correct),
        ("sanitize", "compute-sanitizer", sanitize),
        ("times", "Times", times),
        ("profile", "ncu", profile),
    ];
    for (name, title, section) in sections {
        let rows = step(run, name).and_then(|step| step["rows"].as_array());
        if let Some(rows) = rows.filter(|rows| !rows.is_empty()) {
            page += &format!("\n## {title}\n\n{}", section(rows));
        }
    }
    if let Some(line) = run["last_line"].as_str() {
        page += &format!("\n{line}\n");
    }
    page
}

type Section = fn(&[Value]) -> String;

fn step<'a>(run: &'a Value, name: &str) -> Option<&'a Value> {
    run["steps"].as_array()?.iter().find(|step| step["step"] == name)
}

/// A table; empty cells where nothing is known, and no column in which nothing is.
fn table(head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let rows: Vec<Vec<String>> = rows.into_iter().collect();
    let known: Vec<usize> = (0..head.len()).filter(|column| rows.iter().any(|row| !row[*column].is_empty())).collect();
    let line = |cell: &dyn Fn(usize) -> String| {
        let cells: Vec<String> = known.iter().map(|column| cell(*column)).collect();
        format!("| {} |\n", cells.join(" | "))
    };
    let body: String = rows.iter().map(|row| line(&|column| row[column].clone())).collect();
    line(&|column| head[column].to_string()) + &line(&|_| "---".to_string()) + &body
}

/// What cannot break a table.
fn cell(text: &str) -> String {
    let text: String = text.chars().map(|c| if c == '\n' || c == '|' { ' ' } else { c }).take(300).collect();
    text.trim().to_string()
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => cell(text),
        value => value.to_string(),
    }
}

fn number(value: &Value, digits: usize) -> String {
    value.as_f64().map_or(String::new(), |number| format!("{number:.digits$}"))
}

fn facts(run: &Value, device: &Value) -> String {
    let rate = |at: &str, unit: f64| {
        device.pointer(at).map_or(String::new(), |value| match value.as_f64() {
            Some(rate) => format!("{:.1}", rate / unit),
            None => String::new(),
        })
    };
    let said = |at: &str| device.pointer(at).map_or(String::new(), text);
    let all = [
        ("device", said("/gpu/name") + &said("/cpu")),
        ("compute capability", said("/gpu/compute_capability")),
        ("driver", said("/gpu/driver")),
        ("PyTorch", said("/torch/torch")),
        ("no PyTorch", text(&run["without_torch"])),
        ("date", text(&run["date"])),
        ("commit", text(&run["commit"])),
        ("command", text(&run["command"])),
        ("highest clock, MHz", said("/gpu/max_sm_mhz")),
        ("bf16 matrix product by PyTorch, TFLOP/s", rate("/torch/matmul_bf16_gflops", 1e3)),
        ("f32 multiply-adds, TFLOP/s", rate("/fma_f32_gflops", 1e3)),
        ("copy by PyTorch, GB/s read and written", rate("/torch/copy_gb_s", 1.0)),
        ("memory read, GB/s", rate("/read_gb_s", 1.0)),
    ];
    let known = all.into_iter().filter(|(_, value)| !value.is_empty());
    table(&["", ""], known.map(|(name, value)| vec![name.to_string(), value]))
}

fn outcomes(run: &Value) -> String {
    let steps = run["steps"].as_array().into_iter().flatten();
    let rows = steps.map(|step| {
        let said = step["said"].as_array().into_iter().flatten().map(text).collect::<Vec<_>>().join("; ");
        vec![text(&step["step"]), text(&step["outcome"]), number(&step["seconds"], 0), cell(&said)]
    });
    format!("\n{}", table(&["step", "outcome", "s", ""], rows))
}

/// What the table of numbers leaves open.
const ABOUT_NUMBERS: &str = "\
- An error is the largest difference, relative to the largest magnitude that is expected.
- `golden`, and `MiniLM`, two layers of a sentence encoder: in f32 against what PyTorch computed, in 16 bits against the f64 reference on \
  rounded inputs.
- `gallery`: every variant at odd shapes, against that reference.
";

/// Of each type and kind: how many passed and the largest errors; then all that did not.
fn correct(rows: &[Value]) -> String {
    #[derive(Default)]
    struct Sum {
        passed: usize,
        total: usize,
        out: Option<f64>,
        out_limit: Option<f64>,
        lse: Option<f64>,
        lse_limit: Option<f64>,
        worst: String,
    }
    let place = |names: &[&str], name: &str| names.iter().position(|known| *known == name).unwrap_or(names.len());
    let mut sums: BTreeMap<(usize, usize, String, String), Sum> = BTreeMap::new();
    for row in rows {
        let (dtype, kind) = (text(&row["dtype"]), text(&row["kind"]));
        let order = (place(&["f32", "f16", "bf16"], &dtype), place(&["golden", "MiniLM", "gallery"], &kind));
        let sum = sums.entry((order.0, order.1, dtype, kind)).or_default();
        sum.total += 1;
        sum.passed += usize::from(row["passed"] == true);
        // `None` is less than any number.
        let (out, lse) = (row["out_error"].as_f64(), row["lse_error"].as_f64());
        if out > sum.out {
            (sum.out, sum.out_limit, sum.worst) = (out, row["out_limit"].as_f64(), text(&row["name"]));
        }
        if lse > sum.lse {
            (sum.lse, sum.lse_limit) = (lse, row["lse_limit"].as_f64());
        }
    }
    let lines = sums.into_iter().map(|((_, _, dtype, kind), sum)| {
        let passed = format!("{} of {}", sum.passed, sum.total);
        let tiny = |error: Option<f64>| error.map_or(String::new(), |error| format!("{error:.1e}"));
        vec![dtype, kind, passed, tiny(sum.out), tiny(sum.out_limit), sum.worst, tiny(sum.lse), tiny(sum.lse_limit)]
    });
    let head = ["type", "cases", "passed", "largest error", "limit", "in", "of a log-sum-exp", "limit"];
    let mut page = table(&head, lines);
    let failed: Vec<&Value> = rows.iter().filter(|row| row["passed"] != true).collect();
    if !failed.is_empty() {
        let lines = failed.iter().map(|row| {
            let why = match row["error"].as_str() {
                Some(error) => cell(error),
                None => format!("out {}, lse {}", text(&row["out_error"]), text(&row["lse_error"])),
            };
            vec![text(&row["dtype"]), text(&row["kind"]), text(&row["name"]), cell(&shape(&row["shape"])), why]
        });
        page += &format!("\n{}", table(&["type", "cases", "failed", "shape", "why"], lines));
    }
    page + "\n" + ABOUT_NUMBERS
}

fn shape(shape: &Value) -> String {
    if shape.is_null() {
        return String::new();
    }
    let keys = shape["kv"].as_array().into_iter().flatten().map(text).collect::<Vec<_>>().join(", ");
    let [batch, heads, kv_heads] = ["batch", "heads", "kv_heads"].map(|name| text(&shape[name]));
    format!("{batch}×{heads}/{kv_heads}, {} on {keys}, {}/{}", shape["q"], shape["dim"], shape["v_dim"])
}

fn sanitize(rows: &[Value]) -> String {
    let lines =
        rows.iter().map(|row| [&row["tool"], &row["case"], &row["outcome"], &row["summary"]].map(text).to_vec());
    table(&["tool", "case", "", ""], lines)
}

fn times(rows: &[Value]) -> String {
    let lines = rows.iter().map(|row| {
        let error = row["error"].as_str().map_or(String::new(), cell);
        // Without PyTorch a row has a field of another name.
        let ours = if row["ours_ms"].is_null() { &row["ms"] } else { &row["ours_ms"] };
        let percent = |share: &Value| share.as_f64().map_or(String::new(), |share| format!("{:.1}", 100.0 * share));
        // Why is below the table.
        let time = |way: Way, field: &str| {
            if row["without"][way.name()].is_string() { "no".to_string() } else { number(&row[field], 3) }
        };
        vec![
            text(&row["case"]),
            text(&row["dtype"]),
            number(ours, 3),
            row["gflops"].as_f64().map_or(String::new(), |rate| format!("{:.2}", rate / 1e3)),
            percent(&row["peak_share"]),
            percent(&row["bandwidth_share"]),
            time(Way::Sdpa, "sdpa_ms"),
            text(&row["sdpa_kernel"]),
            number(&row["ratio_sdpa"], 2),
            time(Way::Cudnn, "cudnn_ms"),
            number(&row["ratio_cudnn"], 2),
            time(Way::Flex, "flex_ms"),
            number(&row["ratio_flex"], 2),
            number(&row["flex_mask_ms"], 2),
            number(&row["first_ms"], 0),
            number(&row["flex_first_ms"], 0),
            row.pointer("/gpu/after").map_or(String::new(), |gpu| {
                format!("{} MHz, {} °C", text(&gpu["sm_mhz"]), text(&gpu["temperature_c"]))
            }),
            error,
        ]
    });
    let head = [
        "case",
        "type",
        "ours ms",
        "TFLOP/s",
        "% peak",
        "% bandwidth",
        "SDPA ms",
        "by",
        "/ours",
        "cuDNN ms",
        "/ours",
        "Flex ms",
        "/ours",
        "mask ms",
        "first ms",
        "Flex first ms",
        "after",
        "",
    ];
    let missing = missing_sides(rows).into_iter().map(|line| cell(&line));
    let has = |field: &str| rows.iter().any(|row| !row[field].is_null());
    let about = ABOUT_TIMES.into_iter().filter(|(field, _)| has(field)).map(|(_, note)| note.to_string());
    let notes: String = missing.chain(about).map(|note| format!("- {note}\n")).collect();
    format!("{}\n{notes}", table(&head, lines))
}

/// What the names of columns leave open, by the field that is not null where there is such a column.
const ABOUT_TIMES: [(&str, &str); 7] = [
    (
        "gflops",
        "Times are medians of turns, in which the sides are measured one after the other. TFLOP/s count visible pairs alone.",
    ),
    (
        "peak_share",
        "`% peak`: of the most that the device did in this run, which is PyTorch's product of two large matrices on a GPU in 16 bits, and \
         multiply-adds in registers elsewhere.",
    ),
    ("bandwidth_share", "`% bandwidth`: of the rate at which this run reads memory."),
    ("ratio_sdpa", "`/ours`: the time before it over ours. Above 1, Purview is faster."),
    (
        "sdpa_kernel",
        "`by`: `flash` is FlashAttention-2; `any` is what PyTorch chooses, where it may need a dense mask in memory.",
    ),
    ("flex_ms", "`Flex` is compiled FlexAttention. Its block mask has a column of its own, and is not in its time."),
    (
        "first_ms",
        "`first ms`: the first call in a new process, which compiles the kernel. Cases that differ in their shapes alone have one.",
    ),
];

fn profile(rows: &[Value]) -> String {
    rows.iter()
        .map(|row| {
            let title = format!("{} (kernel `{}`)", text(&row["case"]), text(&row["kernel"]));
            let metrics = row["metrics"].as_array().into_iter().flatten();
            let lines = metrics.map(|metric| {
                let value = format!("{} {}", text(&metric["value"]), text(&metric["unit"]));
                vec![text(&metric["what"]), cell(&value), text(&metric["counter"])]
            });
            format!("{title}\n\n{}\n", table(&["", "", "counter"], lines))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_page_has_what_is_known_and_what_failed() {
        let rows = json!([
            { "name": "causal", "kind": "golden", "dtype": "f16", "passed": true, "out_error": 2e-4, "lse_error": 1e-7 },
            { "name": "full", "kind": "golden", "dtype": "f16", "passed": false, "error": "a | b\nc" },
        ]);
        let times = json!([
            { "case": "causal-1024x64", "dtype": "bf16", "ours_ms": 1.5, "gflops": 2500.0, "peak_share": 0.5, "cudnn_ms": 3.0,
              "ratio_cudnn": 2.0, "without": { "flex": "no compiler" } },
            { "case": "full-1024x64", "dtype": "bf16", "error": "the process ended" },
        ]);
        let metrics = json!([{ "what": "time", "value": "1.25", "unit": "ms", "counter": "gpu__time_duration.sum" }]);
        let page = markdown(&json!({
            "device": "cuda",
            "steps": [
                { "step": "device", "outcome": "ok", "seconds": 3.2, "said": [], "rows": [{ "gpu": { "name": "A GPU" } }] },
                { "step": "correct", "outcome": "wrong", "seconds": 7.0, "said": ["1 of 2"], "rows": rows },
                { "step": "times", "outcome": "cut short", "seconds": null, "said": [], "rows": times },
                { "step": "profile", "outcome": "ok", "seconds": 1.0, "said": [],
                  "rows": [{ "case": "run causal", "kernel": "causal", "metrics": metrics }] },
            ],
        }));
        let expected = "\
# Purview on A GPU

|  |  |
| --- | --- |
| device | A GPU |

| step | outcome | s |  |
| --- | --- | --- | --- |
| device | ok | 3 |  |
| correct | wrong | 7 | 1 of 2 |
| times | cut short |  |  |
| profile | ok | 1 |  |

## Numbers

| type |  | passed | largest error | of | of the log-sum-exp |
| --- | --- | --- | --- | --- | --- |
| f16 | golden | 1 of 2 | 2.0e-4 | causal | 1.0e-7 |

| type |  | failed | why |
| --- | --- | --- | --- |
| f16 | golden | full | a   b c |

## Times

| case | type | ours ms | TFLOP/s | % peak | cuDNN ms | /ours | Flex ms |  |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |
| causal-1024x64 | bf16 | 1.500 | 2.50 | 50.0 | 3.000 | 2.00 | no |  |
| full-1024x64 | bf16 |  |  |  |  |  |  | the process ended |

- no FlexAttention in causal-1024x64: no compiler

Medians of interleaved turns. TFLOP/s are of visible pairs alone; `/ours` is that side's time over ours, so that more than \
1 is slower than Purview. `by`: `flash` is FlashAttention-2, `any` PyTorch's choice for a dense mask. Flex is compiled \
FlexAttention; its block mask is apart.

## ncu

run causal (kernel `causal`)

|  |  | counter |
| --- | --- | --- |
| time | 1.25 ms | gpu__time_duration.sum |

";
        assert_eq!(page, expected);
    }
}
