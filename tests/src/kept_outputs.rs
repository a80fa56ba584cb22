//! What a tool made of its inputs, kept on disk from one run of the tests to the next.
//!
//! NVIDIA's compilers are slow, and make the same of the same text. An output counts only for the very same input and the very same tool:
//! both are in its file, and compared.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::UNIX_EPOCH;

/// The outputs of one tool. Those that a run did not ask for are removed at its end.
pub struct KeptOutputs {
    directory: PathBuf,
    tool: String,
    used: Mutex<HashSet<String>>,
}

impl KeptOutputs {
    /// The outputs in `directory` of the tool that `version` and `files`, its program and libraries, are of.
    ///
    /// # Errors
    /// A file that is not there, and a directory that cannot be made.
    pub fn open(directory: &Path, version: &str, files: &[&Path]) -> io::Result<KeptOutputs> {
        let mut tool = version.to_string();
        for file in files {
            let found = file.metadata()?;
            let changed = found.modified()?.duration_since(UNIX_EPOCH).map_err(io::Error::other)?;
            tool += &format!("\n{} {} {changed:?}", file.display(), found.len());
        }
        std::fs::create_dir_all(directory)?;
        Ok(KeptOutputs { directory: directory.into(), tool, used: Mutex::default() })
    }

    /// The output for `input`, which has to be all that it depends on beside the tool: the kept one, or else what `run` gives. Errors
    /// are not kept.
    ///
    /// # Errors
    /// Those of `run`.
    pub fn output<E>(&self, input: &str, run: impl FnOnce() -> Result<String, E>) -> Result<String, E> {
        let asked = format!("{}\n{} {}\n{input}", self.tool, self.tool.len(), input.len());
        let mut hasher = DefaultHasher::new();
        asked.hash(&mut hasher);
        let name = format!("{:016x}", hasher.finish());
        let file = self.directory.join(&name);
        self.used.lock().unwrap_or_else(PoisonError::into_inner).insert(name);
        let kept = std::fs::read_to_string(&file).ok();
        if let Some(output) = kept.as_deref().and_then(|kept| kept.strip_prefix(&asked)) {
            return Ok(output.into());
        }
        let output = run()?;
        // Written elsewhere first, so that nobody reads the half of it. What cannot be kept is made anew next time.
        let unfinished = file.with_extension(format!("{}", std::process::id()));
        let written = std::fs::write(&unfinished, asked + &output);
        let _ = written.and_then(|()| std::fs::rename(&unfinished, &file));
        Ok(output)
    }
}

impl Drop for KeptOutputs {
    fn drop(&mut self) {
        let used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        for entry in std::fs::read_dir(&self.directory).into_iter().flatten().flatten() {
            if entry.file_name().to_str().is_none_or(|name| !used.contains(name)) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_is_kept_for_its_input_and_its_tool() {
        let directory = std::env::temp_dir().join(format!("purview_kept_outputs_{}", std::process::id()));
        let tool = directory.join("tool");
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(&tool, "1").unwrap();
        let kept = directory.join("kept");
        let open = |version: &str| KeptOutputs::open(&kept, version, &[&tool]).unwrap();
        let made = |outputs: &KeptOutputs, input: &str, output: &str| {
            outputs.output(input, || Ok::<_, String>(output.into())).unwrap()
        };
        let outputs = open("1");
        assert_eq!(made(&outputs, "a", "first"), "first");
        assert_eq!(made(&outputs, "b", "other"), "other");
        assert_eq!(made(&outputs, "a", "second"), "first");
        assert_eq!(outputs.output("c", || Err("no")), Err("no"));
        assert_eq!(made(&outputs, "c", "third"), "third", "an error is not kept");
        drop(outputs);
        let outputs = open("1");
        assert_eq!(made(&outputs, "a", "fourth"), "first");
        drop(outputs);
        assert_eq!(made(&open("1"), "b", "fifth"), "fifth", "what a run did not ask for is gone");
        assert_eq!(made(&open("2"), "b", "sixth"), "sixth", "another version");
        std::fs::write(&tool, "22").unwrap();
        assert_eq!(made(&open("2"), "b", "seventh"), "seventh", "another tool of that version");
        assert!(KeptOutputs::open(&kept, "2", &[&directory.join("missing")]).is_err());
        std::fs::remove_dir_all(directory).unwrap();
    }
}
