//! The emitted WGSL in a real browser: headless Chromium takes every variant's, and runs the causal kernel through WebGPU, on
//! SwiftShader; the result is compared with the golden one. The page is `tests/browser/kernel.html`.

use purview::schedule::{CubeSchedule, SMALL_CUBE, Schedule};
use purview::{Arguments, Device, Shape, Target};
use purview_cli::golden::relative_error;
use purview_examples::GALLERY;
use purview_tests::compare::tolerance;
use safetensors::SafeTensors;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

const PAGE: &str = include_str!("../browser/kernel.html");

/// How long the browser may take: it takes two seconds.
const PATIENCE: Duration = Duration::from_secs(120);

/// With which Chromium offers WebGPU on a machine without a GPU: its own SwiftShader, a Vulkan driver that runs on the CPU.
/// The sandbox does not work for root, and is not needed for a page of our own.
const FLAGS: &[&str] = &[
    "--headless=new",
    "--no-sandbox",
    "--no-first-run",
    "--disable-extensions",
    "--disable-background-networking",
    "--enable-unsafe-webgpu",
    "--use-webgpu-adapter=swiftshader",
];

#[test]
fn causal_in_chromium() {
    let file = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/golden/causal.safetensors")).unwrap();
    let golden = SafeTensors::deserialize(&file).unwrap();
    let [batch, heads, length, dim] = *golden.tensor("q").unwrap().shape() else { panic!("queries are [B, H, S, D]") };
    let shape = Shape::new(batch, heads, length, dim);

    let schedule = Schedule::Cube(SMALL_CUBE);
    let causal = GALLERY.iter().find(|variant| variant.name == "causal").unwrap();
    let attention = (causal.make)(&Arguments::new(Device::cpu().unwrap(), shape.clone())).unwrap();
    let shader = attention.with_schedule(schedule).emit(Target::Wgsl, &shape).unwrap();

    let words = |name: &str| -> Vec<u32> {
        let bytes = golden.tensor(name).unwrap().data().as_chunks().0;
        bytes.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect()
    };
    let [q, k, v, out, lse] = ["q", "k", "v", "out", "lse"].map(words);
    // The order of a kernel's buffers: operands, results, and last the numbers.
    let mut buffers = vec![q, k, v, vec![0; out.len()], vec![0; lse.len()]];
    let lengths = buffers.iter().map(|words| words.len() as u32).collect();
    buffers.push(numbers(&shader, arguments(&shape, lengths)));
    let types = binding_types(&shader);
    assert_eq!(types.len(), buffers.len(), "the kernel's buffers are others");
    let bindings = types.iter().zip(buffers).map(|(ty, words)| json!({ "type": ty, "words": words }));
    let job = json!({
        "shader": shader,
        "entry": "causal",
        "features": [],
        "bindings": bindings.collect::<Vec<Value>>(),
        "workgroups": [length.div_ceil(schedule.query_tile()), heads, batch],
        "outputs": [3, 4],
    });

    let Some(result) = in_chromium("causal_in_chromium", &job) else { return };
    if let Some(error) = result.get("error") {
        panic!("in the browser: {error}");
    }
    println!("Chromium's adapter: {}", result["adapter"]);
    let floats = |words: &[u32]| -> Vec<f32> { words.iter().map(|word| f32::from_bits(*word)).collect() };
    let limit = tolerance(shape.element);
    for (index, (name, want, limit)) in [("out", out, limit.out), ("lse", lse, limit.lse.unwrap())].iter().enumerate() {
        let got: Vec<u32> = serde_json::from_value(result["outputs"][index].clone()).unwrap();
        let want: Vec<f64> = floats(want).into_iter().map(f64::from).collect();
        let error = relative_error(&floats(&got), &want);
        println!("{name} {error:.1e}");
        assert!(error <= *limit, "{name} is off by {error:.1e}");
    }
}

/// A browser asks more of a shader than naga does: that every unit is seen to reach each barrier.
#[test]
fn every_variant_compiles_in_chromium() {
    let shape = Shape::new(1, 2, 64, 32);
    let arguments = Arguments::new(Device::cpu().unwrap(), shape.clone());
    let shaders: BTreeMap<&str, String> = GALLERY
        .iter()
        .map(|variant| (variant.name, (variant.make)(&arguments).unwrap().emit(Target::Wgsl, &shape).unwrap()))
        .collect();
    let Some(result) = in_chromium("every_variant_compiles_in_chromium", &json!({ "shaders": shaders })) else {
        return;
    };
    let errors: BTreeMap<String, Vec<String>> =
        serde_json::from_value(result["errors"].clone()).unwrap_or_else(|_| panic!("{result}"));
    assert_eq!(errors.len(), GALLERY.len());
    for (name, errors) in errors {
        assert_eq!(errors, [""; 0], "{name}");
    }
}

/// A launch's numbers, each list by the name that CubeCL's WGSL has for it: the scalars of each type in the order of
/// the kernel's arguments (`compiler/src/emit/cube/mod.rs`, `arguments.rs`), then the lengths of the buffers.
fn arguments(shape: &Shape, buffer_lengths: Vec<u32>) -> BTreeMap<&'static str, Vec<u32>> {
    let &Shape { heads, queries, qk_dim, v_dim, .. } = shape;
    let keys = shape.keys[0];
    // Its start, and the strides of batch, head and row, in vectors, and of columns; and how many query heads share a head of it.
    let group = heads / shape.kv_heads;
    let width = CubeSchedule::WIDTH;
    let operand = |heads: usize, rows: usize, dim: usize, group: usize| {
        [0, heads * rows * dim / width, rows * dim / width, dim / width, 1, group]
    };
    let mut sizes = Vec::new();
    sizes.extend(operand(heads, queries, qk_dim, 1));
    sizes.extend(operand(shape.kv_heads, keys, qk_dim, group));
    sizes.extend(operand(shape.kv_heads, keys, v_dim, group));
    sizes.push(keys);
    // The first tile, head and batch.
    let first = [0; 3];
    sizes.extend([heads, group, group, queries]);
    sizes.extend(first);
    let (key_offset, query_offset) = (0i32, keys as i32 - queries as i32);
    let careful = 1;
    let (scale, empty_lse) = (1.0 / (qk_dim as f32).sqrt(), f32::NEG_INFINITY);
    BTreeMap::from([
        ("scalars_usize", sizes.into_iter().map(|size| size as u32).collect()),
        ("scalars_i32", vec![key_offset.cast_unsigned(), query_offset.cast_unsigned(), careful]),
        ("scalars_f32", vec![scale.to_bits(), empty_lse.to_bits()]),
        ("static_meta", buffer_lengths),
    ])
}

/// The buffer of `lists`, laid out as the struct in `shader` says: one array after the other, each padded to an even length.
fn numbers(shader: &str, mut lists: BTreeMap<&str, Vec<u32>>) -> Vec<u32> {
    let fields =
        shader.split_once("struct info_st {").and_then(|(_, rest)| rest.split_once('}')).expect("its numbers").0;
    let mut words = Vec::new();
    for field in fields.split(">,") {
        let (name, ty) = field.trim().split_once(": array<").expect("a list");
        let length: usize = ty.trim_end_matches('>').split_once(", ").expect("its length").1.parse().unwrap();
        let list = lists.remove(name).unwrap_or_else(|| panic!("the kernel takes `{name}` too"));
        assert_eq!(list.len().next_multiple_of(2), length, "the kernel's `{name}` are others: `arguments` must follow");
        words.extend(list);
        words.resize(words.len().next_multiple_of(2), 0);
    }
    assert!(lists.is_empty(), "the kernel does not take {lists:?}");
    words
}

/// The types of the buffers that `shader` declares, by binding, as WebGPU calls them.
fn binding_types(shader: &str) -> Vec<&'static str> {
    let declared = shader.lines().filter_map(|line| {
        let (binding, access) = line.strip_prefix("@group(0) @binding(")?.split_once(") var<storage, ")?;
        let ty = if access.starts_with("read_write>") { "storage" } else { "read-only-storage" };
        Some((binding.parse::<usize>().unwrap(), ty))
    });
    let declared: BTreeMap<usize, &str> = declared.collect();
    assert!(declared.keys().copied().eq(0..declared.len()), "bindings have no gaps");
    declared.into_values().collect()
}

/// What the page says of `job`. Where there is no Chromium that is said out loud, and is an error on a machine whose environment
/// has `CI=1`, which must have it.
fn in_chromium(test: &str, job: &Value) -> Option<Value> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, results) = channel();
    serve(listener, job.to_string(), sender);

    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(test);
    let _ = std::fs::remove_dir_all(&directory);
    std::fs::create_dir_all(&directory).unwrap();
    let Some(mut browser) = start_chromium(&directory, &format!("http://{address}/")) else {
        assert!(std::env::var("CI").as_deref() != Ok("1"), "{test}: there is no Chromium (Debian: chromium)");
        eprintln!("{test}: SKIPPED: there is no Chromium here (Debian: apt-get install chromium)");
        return None;
    };
    let result = results.recv_timeout(PATIENCE);
    browser.kill().expect("it is still there");
    browser.wait().expect("it was killed");
    let said = || std::fs::read_to_string(directory.join("log")).unwrap_or_default();
    let result = result.unwrap_or_else(|_| panic!("Chromium said nothing for {PATIENCE:?}:\n{}", said()));
    Some(serde_json::from_str(&result).unwrap())
}

/// Chromium at `address`, with its profile and its messages in `directory`. `PURVIEW_CHROMIUM` names another program.
fn start_chromium(directory: &Path, address: &str) -> Option<Child> {
    let named = std::env::var("PURVIEW_CHROMIUM").ok();
    let names = named.as_deref().map_or(vec!["chromium", "chromium-browser", "google-chrome"], |name| vec![name]);
    for name in names {
        let log = std::fs::File::create(directory.join("log")).unwrap();
        let mut command = Command::new(name);
        command.args(FLAGS).arg(format!("--user-data-dir={}", directory.display())).arg(address);
        match command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn() {
            Ok(browser) => return Some(browser),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => panic!("{name}: {error}"),
        }
    }
    None
}

/// Answers requests, each in a thread of its own, for a browser opens connections it does not use.
fn serve(listener: TcpListener, job: String, results: Sender<String>) {
    let job = Arc::new(job);
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let (job, results) = (job.clone(), results.clone());
            // An error is a connection that the browser closed.
            std::thread::spawn(move || connection.and_then(|stream| answer(stream, &job, &results)));
        }
    });
}

fn answer(stream: TcpStream, job: &str, results: &Sender<String>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut request = String::new();
    reader.read_line(&mut request)?;
    let mut length = 0;
    loop {
        let mut header = String::new();
        if reader.read_line(&mut header)? == 0 || header.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = header.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().unwrap_or(0);
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;

    let (status, kind, text) = match request.split(' ').take(2).collect::<Vec<_>>()[..] {
        ["GET", "/"] => ("200 OK", "text/html", PAGE),
        ["GET", "/job"] => ("200 OK", "application/json", job),
        ["POST", "/result"] => ("200 OK", "text/plain", ""),
        _ => ("404 Not Found", "text/plain", ""),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        text.len()
    );
    (&stream).write_all(head.as_bytes())?;
    (&stream).write_all(text.as_bytes())?;
    if request.starts_with("POST /result") {
        // After the answer: the browser is killed when this arrives.
        let _ = results.send(String::from_utf8_lossy(&body).into_owned());
    }
    Ok(())
}
