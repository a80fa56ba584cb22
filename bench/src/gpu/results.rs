//! What was found, in files that are written again whenever there is something new.

use super::locked;
use super::markdown::markdown;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

/// The results, and the folder that they are written to.
pub struct Results {
    folder: PathBuf,
    value: Mutex<Value>,
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
    /// The run ended in it.
    CutShort,
}

impl Outcome {
    fn name(self) -> &'static str {
        match self {
            Outcome::Ok => "ok",
            Outcome::Wrong => "wrong",
            Outcome::NotDone => "not done",
            Outcome::CutShort => "cut short",
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
        let results = Results { folder: folder.to_path_buf(), value: Mutex::new(value) };
        results.change(|_| {})?;
        Ok(results)
    }

    /// Begins a step.
    ///
    /// # Errors
    /// A message where a file can't be written.
    pub fn begin(&self, step: &str) -> Result<(), String> {
        let outcome = Outcome::CutShort.name();
        let step = json!({ "step": step, "outcome": outcome, "seconds": null, "said": [], "rows": [] });
        self.change(|value| {
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
        self.change(|value| {
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
        self.change(|value| {
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
        self.change(|value| {
            value["passed"] = json!(passed);
            value["last_line"] = json!(last_line);
        })
    }

    /// The rows of the step that was begun last.
    pub fn rows(&self) -> Vec<Value> {
        last_step(&mut locked(&self.value)).and_then(|step| step["rows"].as_array().cloned()).unwrap_or_default()
    }

    /// All of them as a page of Markdown.
    pub fn page(&self) -> String {
        markdown(&locked(&self.value))
    }

    /// Changes them, and writes both files.
    fn change(&self, change: impl FnOnce(&mut Value)) -> Result<(), String> {
        // Locked until they are written, so that no older state replaces a newer one.
        let mut value = locked(&self.value);
        change(&mut value);
        self.write("results.json", &format!("{:#}\n", *value))?;
        self.write("results.md", &markdown(&value))
    }

    /// Replaces a file at once, so that a cut leaves the old one or the new one.
    fn write(&self, name: &str, text: &str) -> Result<(), String> {
        let (path, new) = (self.folder.join(name), self.folder.join(format!("{name}.new")));
        let written = fs::write(&new, text).and_then(|()| fs::rename(&new, &path));
        written.map_err(|error| {
            // What was written of it is of no use, and takes what is left of a full disk.
            let _ = fs::remove_file(&new);
            format!("{}: {error}", path.display())
        })
    }
}

fn last_step(value: &mut Value) -> Option<&mut Value> {
    value["steps"].as_array_mut()?.last_mut()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(folder: &Path) -> Value {
        serde_json::from_str(&fs::read_to_string(folder.join("results.json")).unwrap()).unwrap()
    }

    #[test]
    fn each_row_is_in_the_files_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let results = Results::create(folder.path(), json!({ "device": "cuda" })).unwrap();
        results.begin("correct").unwrap();
        for name in ["a", "b", "c"] {
            let row = json!({ "name": name, "kind": "golden", "dtype": "f16", "passed": false, "error": "bad" });
            results.row(row).unwrap();
            let step = &read(folder.path())["steps"][0];
            assert_eq!(
                (&step["outcome"], &step["rows"][results.rows().len() - 1]["name"]),
                (&"cut short".into(), &name.into())
            );
            let page = fs::read_to_string(folder.path().join("results.md")).unwrap();
            assert!(page.contains(&format!("| f16 | golden | {name} | bad |")), "{page}");
        }
        results.end(Outcome::Wrong, &["3 of 3".into()], Duration::from_millis(1230)).unwrap();
        results.conclude(false, "wrong").unwrap();
        let value = read(folder.path());
        assert_eq!((&value["steps"][0]["outcome"], &value["steps"][0]["seconds"]), (&"wrong".into(), &1.2.into()));
        assert_eq!((&value["passed"], &value["last_line"]), (&false.into(), &"wrong".into()));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_said_and_leaves_what_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let results = Results::create(folder.path(), json!({ "device": "cuda" })).unwrap();
        // Whatever is written there finds no space.
        std::os::unix::fs::symlink("/dev/full", folder.path().join("results.json.new")).unwrap();
        let error = results.begin("device").unwrap_err();
        let file = folder.path().join("results.json");
        assert_eq!(error, format!("{}: No space left on device (os error 28)", file.display()));
        assert_eq!(read(folder.path()), json!({ "device": "cuda", "steps": [] }));
    }
}
