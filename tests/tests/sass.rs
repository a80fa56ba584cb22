//! `cargo purview sass`, in this process, with NVIDIA's tools: what it prints, as text and as JSON.

use purview_cli::{Gallery, SUCCESS, USAGE};
use purview_examples::GALLERY;
use purview_tests::nvidia_tools;
use serde_json::{Value as Json, json};

/// Exit code, output and errors of `purview` with these arguments, separated by blanks.
fn purview(line: &str) -> (u8, String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let args = std::iter::once("purview").chain(line.split_whitespace());
    let code = purview_cli::run(args, &Gallery { variants: GALLERY, golden: &[], commands: &[] }, &mut out, &mut err);
    (code, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
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

/// The number in a field, which must be one.
#[track_caller]
fn number(value: &Json, field: &str) -> f64 {
    value[field].as_f64().unwrap_or_else(|| panic!("`{field}` is {}", value[field]))
}

#[test]
fn the_hot_loop_of_tensor_cores_is_counted() {
    if nvidia_tools::toolchain("the_hot_loop_of_tensor_cores_is_counted").is_none() {
        return;
    }
    for sm in [80, 90] {
        let got = json(&format!("sass causal --sm {sm} --dim 64 --json --text"));
        assert_eq!(
            (&got["variant"], &got["sm"], &got["shape"]["dtype"]),
            (&json!("causal"), &json!(sm), &json!("f16"))
        );
        assert!((24.0..=255.0).contains(&number(&got, "registers")), "{}", got["registers"]);
        assert!(number(&got, "spills") >= 0.0 && number(&got, "stack") >= 0.0 && number(&got, "barriers") >= 1.0);
        assert!(number(&got, "shared_bytes") > 0.0);
        let occupancy = &got["occupancy"];
        assert!(number(occupancy, "blocks") >= 1.0 && number(occupancy, "warps") <= number(occupancy, "max_warps"));

        let loops = got["loops"].as_array().unwrap();
        let hot: Vec<&Json> = loops.iter().filter(|one| one["hot"] == true).collect();
        assert_eq!(hot.len(), 1, "{loops:?}");
        assert!(number(hot[0], "hmma") > 0.0 && number(hot[0], "mufu") > 0.0, "{}", hot[0]);
        assert_eq!(hot[0]["instructions_per_hmma"], got["instructions_per_hmma"]);
        assert_eq!(hot[0]["roofline"], got["roofline"]);
        let each = number(hot[0], "instructions") / number(hot[0], "hmma");
        assert_eq!(number(&got, "instructions_per_hmma"), each);

        // Eight cycles on 8.0 for each product, four on 9.0.
        let roofline = &got["roofline"];
        let products: f64 =
            hot[0]["hmma_kinds"].as_object().unwrap().values().map(|count| count.as_f64().unwrap()).sum();
        assert_eq!(hot[0]["hmma_kinds"]["16816.F32"].as_f64(), Some(products));
        let cycles = |unit| roofline["cycles"][unit].as_f64().unwrap();
        assert_eq!(cycles("tensor"), products * if sm == 80 { 8.0 } else { 4.0 });
        assert_eq!(cycles("issue"), number(hot[0], "instructions"));
        let longest = cycles(roofline["bound"].as_str().unwrap());
        assert_eq!(number(roofline, "tensor_fraction"), cycles("tensor") / longest);

        // The text is that of this loop.
        let shown = got["text"].as_str().unwrap();
        let opcode = |line: &&str| line.contains(" HMMA.16816.F32 ") && line.starts_with("/*");
        assert_eq!(shown.lines().filter(opcode).count() as f64, products, "{shown}");
        assert_eq!(text(&format!("sass causal --sm {sm} --dim 64 --text")), shown);
    }
}

/// The hot loop's instructions for each HMMA on sm_80 in f16, of a kernel that does not spill.
#[track_caller]
fn density(variant: &str, dim: usize) -> f64 {
    let got = json(&format!("sass {variant} --sm 80 --dim {dim} --json"));
    assert_eq!((number(&got, "spills"), number(&got, "stack")), (0.0, 0.0), "{variant} {dim}");
    number(&got, "instructions_per_hmma")
}

#[test]
fn hot_loops_are_as_dense_as_flash_attention_2s() {
    if nvidia_tools::toolchain("hot_loops_are_as_dense_as_flash_attention_2s").is_none() {
        return;
    }
    // The denser of FlashAttention-2's two main loops for a head dim, without a mask, inside PyTorch 2.9.1.
    for (dim, instructions, products) in [(64, 1601.0, 256.0), (128, 1184.0, 256.0)] {
        let most = 1.15 * instructions / products;
        let causal = density("causal", dim);
        for (variant, each) in [
            ("causal", causal),
            ("sliding_window", density("sliding_window", dim)),
            ("document_causal", density("document_causal", dim)),
        ] {
            assert!(each <= most, "{variant} of {dim}: {each} instructions for each HMMA, at most {most}");
        }
        let alibi = density("alibi_causal", dim) / causal;
        assert!(alibi <= 1.12, "alibi_causal of {dim} has {alibi} times the instructions of causal");
    }
    // Of the products that the formula has: both warps that share rows compute all scores.
    let absorbed = json("sass latent_absorbed --sm 80 --dim 576 --v-dim 512 --kv-heads 1 --json");
    assert_eq!((number(&absorbed, "spills"), number(&absorbed, "stack")), (0.0, 0.0));
    let useful = (576.0 + 512.0) / (2.0 * 576.0 + 512.0);
    let each = number(&absorbed, "instructions_per_hmma") / useful;
    assert!(each <= 1.6 * density("causal", 256), "{each} instructions for each useful HMMA of latent_absorbed");
    let capped = json("sass tanh_softcap --sm 80 --dim 64 --json");
    let hot = capped["loops"].as_array().unwrap().iter().find(|one| one["hot"] == true).unwrap();
    // A score of each of 64 in a thread.
    assert_eq!(hot["mufu_kinds"]["TANH"], 64, "{hot}");
}

#[test]
fn what_a_kernel_moves_is_counted() {
    if nvidia_tools::toolchain("what_a_kernel_moves_is_counted").is_none() {
        return;
    }
    let line = "sass causal --sm 80 --heads 8 --kv-heads 2 --q 1000 --kv 1000";
    let got = json(&format!("{line} --json"));
    let moved = &got["moved"];
    let shape = &moved["shape"];
    assert_eq!((&shape["heads"], &shape["kv_heads"], &shape["q"]), (&json!(4), &json!(1), &json!(256)), "{shape}");
    let memory = moved["memory"].as_object().unwrap();
    for kind in ["ldmatrix", "cp.async", "st.shared", "ld.shared"] {
        assert!(number(&memory[kind], "wavefronts") <= 1.1 * number(&memory[kind], "ideal_wavefronts"), "{kind}");
    }
    for kind in ["cp.async", "st.global"] {
        assert!(number(&memory[kind], "sectors") <= 1.1 * number(&memory[kind], "ideal_sectors"), "{kind}");
    }
    let printed = text(line);
    assert!(printed.contains("  by the interpreter, batch 1, 4 heads on 1, 256 queries, 256 keys"), "{printed}");
    assert!(printed.contains("ldmatrix 1.00, cp.async 1.00; sectors for each at best: cp.async 1.00"), "{printed}");
}

#[test]
fn without_tensor_cores_there_is_no_hot_loop() {
    if nvidia_tools::toolchain("without_tensor_cores_there_is_no_hot_loop").is_none() {
        return;
    }
    let got = json("sass causal --dtype f32 --json");
    assert_eq!((&got["instructions_per_hmma"], &got["roofline"]), (&Json::Null, &Json::Null));
    let loops = got["loops"].as_array().unwrap();
    assert!(loops.iter().all(|one| one["hot"] == false && one["hmma"] == 0 && one["instructions_per_hmma"].is_null()));
    let multiplies = loops.iter().any(|one| one["innermost"] == true && number(one, "fp32") >= 64.0);
    assert!(multiplies, "the loop of the products has its multiply-adds");
    assert!(text("sass causal --dtype f32 --text").contains(" FFMA "));

    let printed = text("sass causal --dtype f32");
    let (registers, shared) = (got["registers"].as_u64().unwrap(), got["shared_bytes"].as_u64().unwrap());
    assert!(printed.starts_with("causal on ampere (sm_80)\n  shape      batch 1, 8 heads,"), "{printed}");
    assert!(printed.contains(&format!("\n  a thread   {registers} registers, ")), "{printed}");
    assert!(printed.contains(&format!("\n  a block    {shared} bytes of shared memory\n")), "{printed}");
    assert!(printed.contains("\n  no loop has an HMMA\n"), "{printed}");
}

#[test]
fn arguments_are_checked() {
    let (code, out, err) = purview("sass causal --sm 75");
    assert!(err.starts_with("error: invalid value '75' for '--sm <SM>'\n  [possible values: 80, 90]"), "{err}");
    assert_eq!((code, out.as_str()), (USAGE, ""));
    let (code, _, err) = purview("sass casual");
    assert!(err.starts_with("error: invalid value 'casual' for '<VARIANT>'"), "{err}");
    assert_eq!(code, USAGE);
}
