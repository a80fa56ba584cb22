//! The process that runs `torch_side.py`: requests and answers are lines of JSON, tensors are files in a directory that is
//! removed in the end.

use crate::cases::{Case, Operand, Variant, copies};
use purview::Device;
use serde_json::{Value, json};
use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// Says where the Python with PyTorch is; `./x bench --against torch` makes one and sets it.
const PYTHON: &str = "PURVIEW_TORCH_PYTHON";

/// The process, waiting for a request.
pub struct Torch {
    child: Child,
    requests: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    directory: PathBuf,
    /// PyTorch's version.
    pub version: String,
    /// How many threads it uses.
    pub threads: u64,
}

/// What PyTorch can do with a case, and what it gives.
pub struct Answer {
    /// The output of `scaled_dot_product_attention`, or why there is none.
    pub sdpa: Result<Vec<f32>, String>,
    /// That of FlexAttention, or why there is none.
    pub flex: Result<Vec<f32>, String>,
    /// Whether FlexAttention needs a block mask.
    pub has_mask: bool,
    /// The milliseconds of FlexAttention's first call, its compilation included.
    pub flex_first: Option<f64>,
    /// Those of making its first block mask.
    pub flex_mask_first: Option<f64>,
}

impl Torch {
    /// Starts it for the device named so, with as many threads as there are `cores`.
    ///
    /// # Errors
    /// A message where there is no Python with PyTorch, or it has no such device.
    pub fn open(device: &str, cores: usize) -> Result<Torch, String> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/torch_side.py");
        let python = python();
        let directory = std::env::temp_dir().join(format!("purview-against-torch-{}", std::process::id()));
        fs::create_dir_all(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
        let started = Command::new(&python)
            .arg(&script)
            // Nothing that an earlier run compiled: first calls are measured.
            .env("TORCHINDUCTOR_CACHE_DIR", directory.join("inductor"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let mut child = started.map_err(|error| {
            format!(
                "{} does not start ({error}): ./x bench --against torch sets PyTorch up, or set {PYTHON} to a Python that has it",
                python.to_string_lossy()
            )
        })?;
        let (requests, answers) = (child.stdin.take(), child.stdout.take().map(BufReader::new));
        let answers = answers.ok_or("PyTorch's process has no output")?;
        let mut torch = Torch { child, requests, answers, directory, version: String::new(), threads: 0 };
        let opened = torch.ask(&json!({ "operation": "open", "device": device, "threads": cores }))?;
        torch.version = opened["torch"].as_str().unwrap_or("?").into();
        torch.threads = opened["threads"].as_u64().unwrap_or(0);
        Ok(torch)
    }

    /// Gives it a case, and takes what it computes.
    ///
    /// # Errors
    /// A message where it failed in another way than by not being able to.
    pub fn set_case(&mut self, case: &Case, device: &Device) -> Result<Answer, String> {
        let file = |name: &str| self.directory.join(name);
        let operand = |name: &str, operand: Operand| {
            let bytes = case.operand(operand).iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<u8>>();
            write(&file(name), &bytes)?;
            Ok::<_, String>(json!({ "file": file(name), "shape": case.dimensions(operand) }))
        };
        let mut request = json!({
            "operation": "case",
            "device": device.name(),
            "variant": case.describe(),
            "query": operand("query", Operand::Query)?,
            "key": operand("key", Operand::Key)?,
            "value": operand("value", Operand::Value)?,
            "copies": copies(case, device),
            "sdpa_file": file("sdpa"),
            "flex_file": file("flex"),
        });
        if let Variant::Documents { .. } = case.variant {
            let documents = case.documents();
            write(&file("documents"), &documents.iter().flat_map(|doc| doc.to_le_bytes()).collect::<Vec<u8>>())?;
            request["documents"] = json!({ "file": file("documents"), "shape": [documents.len()] });
        }
        if let Variant::AlibiCausal = case.variant {
            let slopes = case.slopes();
            write(&file("slopes"), &slopes.iter().flat_map(|slope| slope.to_le_bytes()).collect::<Vec<u8>>())?;
            request["slopes"] = json!({ "file": file("slopes"), "shape": [slopes.len()] });
        }
        let answer = self.ask(&request)?;
        let output = |side: &str| {
            if answer[side] == true {
                read(&self.directory.join(side)).map(Ok)
            } else {
                let reason = answer[format!("{side}_without")].as_str().unwrap_or("PyTorch does not say why");
                Ok::<_, String>(Err(reason.to_string()))
            }
        };
        Ok(Answer {
            sdpa: output("sdpa")?,
            flex: output("flex")?,
            has_mask: answer["mask"] == true,
            flex_first: answer["first"]["flex_ms"].as_f64(),
            flex_mask_first: answer["first"]["mask_ms"].as_f64(),
        })
    }

    /// The milliseconds of one of so many calls of `what`: `sdpa`, `flex` or `flex_mask`.
    ///
    /// # Errors
    /// A message where it failed.
    pub fn time(&mut self, what: &str, calls: usize) -> Result<f64, String> {
        let answer = self.ask(&json!({ "operation": "time", "what": what, "calls": calls }))?;
        answer["ms"].as_f64().ok_or_else(|| format!("PyTorch gave no time of {what}: {answer}"))
    }

    fn ask(&mut self, request: &Value) -> Result<Value, String> {
        let ended = |error: String| format!("PyTorch's process ended ({error}); what it printed is above");
        let mut line = String::new();
        let requests = self.requests.as_mut().ok_or("PyTorch's process has no input")?;
        writeln!(requests, "{request}").map_err(|error| ended(error.to_string()))?;
        self.answers.read_line(&mut line).map_err(|error| ended(error.to_string()))?;
        let answer: Value = serde_json::from_str(&line).map_err(|error| ended(error.to_string()))?;
        match answer["error"].as_str() {
            Some(error) => Err(format!("PyTorch: {error}")),
            None => Ok(answer),
        }
    }
}

impl Drop for Torch {
    fn drop(&mut self) {
        // It ends with its input.
        self.requests = None;
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// The Python to start: what the environment says, or the one that `x` sets up.
fn python() -> OsString {
    std::env::var_os(PYTHON).unwrap_or_else(|| {
        let data = std::env::var_os("PURVIEW_DATA").map(PathBuf::from);
        let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache/purview");
        data.unwrap_or_else(home).join("torch/bin/python").into()
    })
}

fn write(file: &Path, bytes: &[u8]) -> Result<(), String> {
    fs::write(file, bytes).map_err(|error| format!("{}: {error}", file.display()))
}

fn read(file: &Path) -> Result<Vec<f32>, String> {
    let bytes = fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let (numbers, _) = bytes.as_chunks::<4>();
    Ok(numbers.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
}
