//! The log of a run: each command, and all that it printed.

use super::locked;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Mutex;

/// The most bytes that a log takes: what a machine sends back may be limited.
const LONGEST: usize = 8 << 20;
/// The last line of a log that took no more.
const FULL: &str = "the log is full, and what came later is not in it\n";

/// The file, and how many more bytes it takes.
pub struct Log(Mutex<(File, usize)>);

impl Log {
    /// A new one.
    ///
    /// # Errors
    /// A message where it can't be written.
    pub fn create(path: &Path) -> Result<Log, String> {
        let file = File::create(path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Log(Mutex::new((file, LONGEST))))
    }

    /// Adds a line of the process that is called `tag`.
    pub fn line(&self, tag: &str, line: &str) {
        let mut log = locked(&self.0);
        let (file, left) = &mut *log;
        if *left == 0 {
            return;
        }
        let text = format!("[{tag}] {line}\n");
        let text = if text.len() + FULL.len() <= *left { &text } else { FULL };
        *left = if text == FULL { 0 } else { *left - text.len() };
        // What counts is in the results, and a disk that is full is said where they can't be written.
        let _ = file.write_all(text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_is_full_says_so_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.txt");
        let log = Log::create(&path).unwrap();
        let long = "x".repeat(LONGEST / 2);
        for line in ["first", &long, &long, "short"] {
            log.line("a", line);
        }
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("[a] first\n[a] xx"), "{}", &text[..20]);
        assert!(text.ends_with(&format!("x\n{FULL}")), "{}", &text[text.len() - 80..]);
        assert_eq!(text.lines().count(), 3);
    }
}
