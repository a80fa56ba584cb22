//! The process that runs cubek-attention (`benches/cubek/`): requests and answers are lines of JSON, tensors are files in a
//! directory that is removed in the end.

use crate::cases::{Case, Operand};
use serde_json::{Map, Value, json};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// Says where the built process is; `./x bench --against cubek` builds it and sets it.
const RUNNER: &str = "PURVIEW_CUBEK_RUNNER";

/// The process, waiting for a request.
pub struct Cubek {
    child: Child,
    requests: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    directory: PathBuf,
    /// cubek-attention's version.
    pub version: String,
}

/// What cubek-attention gives for a case.
pub struct Answer {
    /// Its output.
    pub output: Vec<f32>,
    /// The kernel that was fastest.
    pub kernel: String,
    /// The times of those that run.
    pub tried: Vec<Value>,
    /// Why others don't, and how many.
    pub declined: Map<String, Value>,
}

impl Cubek {
    /// Starts it for the device named so.
    ///
    /// # Errors
    /// A message where it has not been built, or there is no such device.
    pub fn open(device: &str) -> Result<Cubek, String> {
        let runner = runner();
        let started =
            Command::new(&runner).args(["--device", device]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = started.map_err(|error| {
            format!(
                "{} does not start ({error}): ./x bench --against cubek builds it; or, by hand, cargo build --release \
                 --manifest-path runtime/benches/cubek/Cargo.toml, and set {RUNNER} to the binary",
                runner.display()
            )
        })?;
        let directory = std::env::temp_dir().join(format!("purview-against-cubek-{}", std::process::id()));
        fs::create_dir_all(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
        let (requests, answers) = (child.stdin.take(), child.stdout.take().map(BufReader::new));
        let answers = answers.ok_or("cubek-attention's process has no output")?;
        let mut cubek = Cubek { child, requests, answers, directory, version: String::new() };
        let opened = cubek.ask(&json!({ "operation": "open" }))?;
        cubek.version = opened["version"].as_str().unwrap_or("?").into();
        Ok(cubek)
    }

    /// Gives it a case, and takes what its fastest kernel computes.
    ///
    /// # Errors
    /// A message where it can't.
    pub fn set_case(&mut self, case: &Case) -> Result<Answer, String> {
        let file = |name: &str| self.directory.join(name);
        for (name, operand) in [("query", Operand::Query), ("key", Operand::Key), ("value", Operand::Value)] {
            let bytes = case.operand(operand).iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<u8>>();
            fs::write(file(name), bytes).map_err(|error| format!("{}: {error}", file(name).display()))?;
        }
        let request = json!({
            "operation": "case",
            "variant": case.describe(),
            "shape": case.dimensions(Operand::Query),
            "query": file("query"),
            "key": file("key"),
            "value": file("value"),
            "output": file("output"),
        });
        let answer = self.ask(&request)?;
        Ok(Answer {
            output: read(&self.directory.join("output"))?,
            kernel: answer["kernel"].as_str().unwrap_or("?").into(),
            tried: answer["tried"].as_array().cloned().unwrap_or_default(),
            declined: answer["declined"].as_object().cloned().unwrap_or_default(),
        })
    }

    /// The milliseconds of one of so many calls.
    ///
    /// # Errors
    /// A message where it failed.
    pub fn time(&mut self, calls: usize) -> Result<f64, String> {
        let answer = self.ask(&json!({ "operation": "time", "calls": calls }))?;
        answer["ms"].as_f64().ok_or_else(|| format!("cubek-attention gave no time: {answer}"))
    }

    fn ask(&mut self, request: &Value) -> Result<Value, String> {
        let ended = |error: String| format!("cubek-attention's process ended ({error}); what it printed is above");
        let mut line = String::new();
        let requests = self.requests.as_mut().ok_or("cubek-attention's process has no input")?;
        writeln!(requests, "{request}").map_err(|error| ended(error.to_string()))?;
        self.answers.read_line(&mut line).map_err(|error| ended(error.to_string()))?;
        let answer: Value = serde_json::from_str(&line).map_err(|error| ended(error.to_string()))?;
        match answer["error"].as_str() {
            Some(error) => Err(format!("cubek-attention: {error}")),
            None => Ok(answer),
        }
    }
}

impl Drop for Cubek {
    fn drop(&mut self) {
        // It ends with its input.
        self.requests = None;
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// The process to start: what the environment says, or the one that `x` builds in this bench's target directory.
fn runner() -> PathBuf {
    std::env::var_os(RUNNER).map(PathBuf::from).unwrap_or_else(|| {
        // <target>/debug/deps/against_cubek-…
        let bench = std::env::current_exe().unwrap_or_default();
        let target = bench.ancestors().nth(3).unwrap_or(Path::new("target"));
        target.join("cubek/release/cubek-attention-runner")
    })
}

fn read(file: &Path) -> Result<Vec<f32>, String> {
    let bytes = fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let (numbers, _) = bytes.as_chunks::<4>();
    Ok(numbers.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
}
