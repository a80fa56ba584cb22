//! The process that runs cubek-attention (`benches/cubek/`).

use purview_bench::cases::{Case, Operand};
use purview_bench::environment;
use purview_bench::json_process::JsonProcess;
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Says where the built process is; `./x bench --against cubek` builds it and sets it.
const RUNNER: &str = "PURVIEW_CUBEK_RUNNER";

/// The process, waiting for a request.
pub struct Cubek {
    process: JsonProcess,
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
    /// Whether it has been built.
    pub fn is_built() -> bool {
        environment::path(RUNNER).is_some() || runner().exists()
    }

    /// Starts it for the device named so.
    ///
    /// # Errors
    /// A message where it has not been built, or there is no such device.
    pub fn open(device: &str) -> Result<Cubek, String> {
        let help = format!(
            "./x bench --against cubek builds it; or, by hand, cargo build --release --manifest-path \
             bench/benches/cubek/Cargo.toml, and set {RUNNER} to the binary"
        );
        let mut process = JsonProcess::start("cubek-attention", &help, |_| {
            let mut command = Command::new(runner());
            command.args(["--device", device]);
            Ok(command)
        })?;
        let opened = process.ask(&json!({ "operation": "open" }))?;
        Ok(Cubek { process, version: opened["version"].as_str().unwrap_or("?").into() })
    }

    /// Gives it a case, and takes what its fastest kernel computes.
    ///
    /// # Errors
    /// A message where it can't.
    pub fn set_case(&mut self, case: &Case) -> Result<Answer, String> {
        for (name, operand) in [("query", Operand::Query), ("key", Operand::Key), ("value", Operand::Value)] {
            self.process.write(
                name,
                &case.operand(operand).repeat(case.batch),
                &case.dimensions(operand),
                f32::to_le_bytes,
            )?;
        }
        let answer = self.process.ask(&json!({
            "operation": "case",
            "variant": case.describe(),
            "shape": case.dimensions(Operand::Query),
            "query": self.process.file("query"),
            "key": self.process.file("key"),
            "value": self.process.file("value"),
            "output": self.process.file("output"),
        }))?;
        Ok(Answer {
            output: self.process.read("output")?,
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
        self.process.time(&json!({ "operation": "time", "calls": calls }))
    }
}

/// The process to start: what the environment says, or the one that `x` builds in this bench's target directory.
fn runner() -> PathBuf {
    environment::path(RUNNER).unwrap_or_else(|| {
        // <target>/debug/deps/against_cubek-…
        let bench = std::env::current_exe().unwrap_or_default();
        let target = bench.ancestors().nth(3).unwrap_or(Path::new("target"));
        target.join("cubek/release/cubek-attention-runner")
    })
}
