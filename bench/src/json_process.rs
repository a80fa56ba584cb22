//! A process on the other side of a comparison: requests and answers are lines of JSON, tensors are files in a directory that is
//! removed in the end.

use serde_json::{Value, json};
use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use tempfile::TempDir;

/// The process, waiting for a request.
pub struct JsonProcess {
    /// What messages call it.
    name: &'static str,
    child: Child,
    requests: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    directory: TempDir,
}

impl JsonProcess {
    /// Starts the command that `command` makes, which messages call `name`, and which may find files of its own in the directory.
    ///
    /// # Errors
    /// A message where the directory can't be written, and one that ends with `help` where the command does not start.
    pub fn start(
        name: &'static str,
        help: &str,
        command: impl FnOnce(&Path) -> io::Result<Command>,
    ) -> Result<JsonProcess, String> {
        let no_directory = |error: io::Error| format!("a folder in {}: {error}", std::env::temp_dir().display());
        let directory = tempfile::Builder::new().prefix("purview-against-").tempdir().map_err(no_directory)?;
        let mut command = command(directory.path()).map_err(no_directory)?;
        let started = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = started
            .map_err(|error| format!("{} does not start ({error}): {help}", command.get_program().to_string_lossy()))?;
        let (requests, answers) = (child.stdin.take(), child.stdout.take().map(BufReader::new));
        let answers = answers.ok_or_else(|| format!("{name}'s process has no output"))?;
        Ok(JsonProcess { name, child, requests, answers, directory })
    }

    /// What it answers to `request`.
    ///
    /// # Errors
    /// A message where it has ended, and its own where it failed.
    pub fn ask(&mut self, request: &Value) -> Result<Value, String> {
        let name = self.name;
        let ended = |error: String| format!("{name}'s process ended ({error}); what it printed is above");
        let mut line = String::new();
        let requests = self.requests.as_mut().ok_or_else(|| format!("{name}'s process has no input"))?;
        writeln!(requests, "{request}").map_err(|error| ended(error.to_string()))?;
        if self.answers.read_line(&mut line).map_err(|error| ended(error.to_string()))? == 0 {
            return Err(ended("it closed its output".into()));
        }
        let answer: Value = serde_json::from_str(&line).map_err(|error| ended(error.to_string()))?;
        match answer["error"].as_str() {
            Some(error) => Err(format!("{name}: {error}")),
            None => Ok(answer),
        }
    }

    /// The milliseconds that it answers to `request`.
    ///
    /// # Errors
    /// As [`JsonProcess::ask`], and where the answer has no time.
    pub fn time(&mut self, request: &Value) -> Result<f64, String> {
        let answer = self.ask(request)?;
        answer["ms"].as_f64().ok_or_else(|| format!("{} gave no time: {answer}", self.name))
    }

    /// The file of the tensor `name`.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a tensor of 32-bit numbers to its file, little-endian as `bytes` gives each, and says where it is and how large.
    ///
    /// # Errors
    /// A message where the file can't be written.
    pub fn write<T: Copy>(
        &self,
        name: &str,
        numbers: &[T],
        shape: &[usize],
        bytes: fn(T) -> [u8; 4],
    ) -> Result<Value, String> {
        let file = self.file(name);
        let contents: Vec<u8> = numbers.iter().flat_map(|number| bytes(*number)).collect();
        fs::write(&file, contents).map_err(|error| format!("{}: {error}", file.display()))?;
        Ok(json!({ "file": file, "shape": shape }))
    }

    /// The numbers of the tensor `name`, which the process has written as f32.
    ///
    /// # Errors
    /// A message where there is no such file.
    pub fn read(&self, name: &str) -> Result<Vec<f32>, String> {
        let file = self.file(name);
        let bytes = fs::read(&file).map_err(|error| format!("{}: {error}", file.display()))?;
        let (numbers, _) = bytes.as_chunks::<4>();
        Ok(numbers.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
    }
}

impl Drop for JsonProcess {
    fn drop(&mut self) {
        // It ends with its input, and its directory is removed after it.
        self.requests = None;
        let _ = self.child.wait();
    }
}
