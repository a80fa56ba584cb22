//! What was found, in files that are written again whenever there is something new.

use super::markdown::markdown;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How often the files are written, at most, while a step goes on: rows may come by the hundred.
const PAUSE: Duration = Duration::from_secs(1);

/// The results, and the folder that they are written to.
pub struct Results {
    folder: PathBuf,
    state: Mutex<State>,
}

struct State {
    value: Value,
    written: Option<Instant>,
}

/// What became of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Everything was as it should be.
    Ok,
    /// Something was wrong.
    Wrong,
    /// It could not be done, or not whole; nothing says that something is wrong.
    NotDone,
}

impl Outcome {
    fn name(self) -> &'static str {
        match self {
            Outcome::Ok => "ok",
            Outcome::Wrong => "wrong",
            Outcome::NotDone => "not done",
        }
    }
}

impl Results {
    /// Results of a run that is described by the fields of `run`.
    ///
    /// # Errors
    /// A message where the folder can't be written to.
    pub fn create(folder: &Path, run: Value) -> Result<Results, String> {
        let mut value = run;
        value["steps"] = json!([]);
        let results = Results { folder: folder.to_path_buf(), state: Mutex::new(State { value, written: None }) };
        results.change(true, |_| {})?;
        Ok(results)
    }

    /// Begins a step.
    ///
    /// # Errors
    /// A message where a file can't be written.
    pub fn begin(&self, step: &str) -> Result<(), String> {
        let step = json!({ "step": step, "outcome": "cut short", "seconds": null, "said": [], "rows": [] });
        self.change(true, |value| {
            if let Some(steps) = value["steps"].as_array_mut() {
                steps.push(step);
            }
        })
    }

    /// Adds a row to the step that was begun last.
    ///
    /// # Errors
    /// A message where a file can't be written.
    pub fn row(&self, row: Value) -> Result<(), String> {
        self.change(false, |value| {
            if let Some(rows) = last_step(value).and_then(|step| step["rows"].as_array_mut()) {
                rows.push(row);
            }
        })
    }

    /// Ends the step that was begun last.
    ///
    /// # Errors
    /// A message where a file can't be written.
    pub fn end(&self, outcome: Outcome, said: &[String], time: Duration) -> Result<(), String> {
        self.change(true, |value| {
            if let Some(step) = last_step(value) {
                step["outcome"] = json!(outcome.name());
                step["seconds"] = json!((time.as_secs_f64() * 10.0).round() / 10.0);
                step["said"] = json!(said);
            }
        })
    }

    /// Adds what the whole run came to.
    ///
    /// # Errors
    /// A message where a file can't be written.
    pub fn conclude(&self, passed: bool, last_line: &str) -> Result<(), String> {
        self.change(true, |value| {
            value["passed"] = json!(passed);
            value["last_line"] = json!(last_line);
        })
    }

    /// The rows of the step that was begun last.
    pub fn rows(&self) -> Vec<Value> {
        let Ok(mut state) = self.state.lock() else { return Vec::new() };
        last_step(&mut state.value).and_then(|step| step["rows"].as_array().cloned()).unwrap_or_default()
    }

    /// All of them as a page of Markdown.
    pub fn page(&self) -> String {
        self.state.lock().map(|state| markdown(&state.value)).unwrap_or_default()
    }

    fn change(&self, now: bool, change: impl FnOnce(&mut Value)) -> Result<(), String> {
        let mut state = self.state.lock().map_err(|_| "a thread that wrote results has panicked")?;
        change(&mut state.value);
        if !now && state.written.is_some_and(|written| written.elapsed() < PAUSE) {
            return Ok(());
        }
        state.written = Some(Instant::now());
        self.write("results.json", &format!("{:#}\n", state.value))?;
        self.write("results.md", &markdown(&state.value))
    }

    /// Replaces a file at once, so that a cut leaves the old one or the new one.
    fn write(&self, name: &str, text: &str) -> Result<(), String> {
        let (path, new) = (self.folder.join(name), self.folder.join(format!("{name}.new")));
        let written = fs::write(&new, text).and_then(|()| fs::rename(&new, &path));
        written.map_err(|error| format!("{}: {error}", path.display()))
    }
}

fn last_step(value: &mut Value) -> Option<&mut Value> {
    value["steps"].as_array_mut()?.last_mut()
}
