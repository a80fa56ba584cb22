//! A process with a time limit, what it prints being read while it runs.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// The most bytes that the log takes: what a machine sends back may be limited.
const LONGEST_LOG: usize = 8 << 20;
/// Lines of standard error that are kept to say why a process failed.
const TAIL: usize = 4;
/// How long output is waited for after a process has ended: a child of its own may hold it open.
const GRACE: Duration = Duration::from_secs(1);

/// A file of everything that processes print.
pub struct Log(Mutex<(File, usize)>);

impl Log {
    /// A new one.
    ///
    /// # Errors
    /// A message where it can't be written.
    pub fn create(path: &Path) -> Result<Log, String> {
        let file = File::create(path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Log(Mutex::new((file, 0))))
    }

    /// Adds a line of the process that is called `tag`.
    pub fn line(&self, tag: &str, line: &str) {
        let Ok(mut log) = self.0.lock() else { return };
        let text = format!("[{tag}] {line}\n");
        if log.1 + text.len() <= LONGEST_LOG {
            log.1 += text.len();
            // What counts is in the results, whose file says it when the disk is full.
            let _ = log.0.write_all(text.as_bytes());
        }
    }
}

/// How a process ended.
#[derive(Debug)]
pub enum End {
    /// By itself.
    Exited(ExitStatus),
    /// It was ended, since what it printed was enough.
    Stopped,
    /// It was ended, since its time was over.
    OutOfTime,
}

/// How a process ended, and the last it said.
#[derive(Debug)]
pub struct Ended {
    pub end: End,
    /// The last lines of standard error, joined.
    pub said: String,
}

impl Ended {
    pub fn succeeded(&self) -> bool {
        matches!(self.end, End::Exited(status) if status.success())
    }

    /// Why it did not succeed, in words.
    pub fn reason(&self) -> String {
        let said = if self.said.is_empty() { String::new() } else { format!(": {}", self.said) };
        match self.end {
            End::Exited(status) => format!("{status}{said}"),
            End::Stopped => format!("stopped{said}"),
            End::OutOfTime => "its time was over".into(),
        }
    }
}

/// What a line of output means for the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    Continue,
    Stop,
}

/// Runs `command`, until `deadline` at most, with all that it prints in `log`. `line` is given each line of its standard output at
/// once. The process and its own children are ended where they have to be.
///
/// # Errors
/// A message where it does not start.
pub fn run(
    command: &mut Command,
    tag: &str,
    deadline: Instant,
    log: &Log,
    mut line: impl FnMut(&str) -> Flow,
) -> Result<Ended, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    log.line(tag, &format!("$ {}", text_of(command)));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(command, 0);
    let mut child = command.spawn().map_err(|error| format!("{program} does not start: {error}"))?;
    let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(format!("{program} has no output"));
    };
    let (sender, lines) = mpsc::channel();
    let tail = Mutex::new(VecDeque::new());
    let end = thread::scope(|scope| {
        scope.spawn(move || {
            read_lines(stdout, |line| {
                let _ = sender.send(line.to_string());
            });
        });
        scope.spawn(|| {
            read_lines(stderr, |line| {
                log.line(tag, line);
                if let Ok(mut tail) = tail.lock()
                    && !line.trim().is_empty()
                {
                    tail.push_back(line.trim().to_string());
                    if tail.len() > TAIL {
                        tail.pop_front();
                    }
                }
            });
        });
        let end = loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match lines.recv_timeout(left) {
                Ok(text) => {
                    log.line(tag, &text);
                    if line(&text) == Flow::Stop {
                        break End::Stopped;
                    }
                }
                Err(RecvTimeoutError::Timeout) => break End::OutOfTime,
                // Its output is closed: it has ended, or is about to.
                Err(RecvTimeoutError::Disconnected) => break wait(&mut child, deadline),
            }
        };
        // Its children too, which hold its outputs open.
        kill_group(&child);
        let _ = child.kill();
        let _ = child.wait();
        end
    });
    let tail = tail.into_inner().map(Vec::from).unwrap_or_default();
    Ok(Ended { end, said: tail.join(" | ") })
}

fn wait(child: &mut Child, deadline: Instant) -> End {
    let deadline = deadline.max(Instant::now() + GRACE);
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return End::Exited(status),
            Ok(None) if Instant::now() < deadline => thread::sleep(Duration::from_millis(5)),
            _ => return End::OutOfTime,
        }
    }
}

/// The standard library ends a process, but not the group that was made of it and its children.
fn kill_group(child: &Child) {
    let group = format!("-{}", child.id());
    let _ = Command::new("kill").args(["-KILL", "--", &group]).stderr(Stdio::null()).status();
}

fn read_lines(from: impl Read, mut each: impl FnMut(&str)) {
    let mut reader = BufReader::new(from);
    let mut bytes = Vec::new();
    while let Ok(1..) = reader.read_until(b'\n', &mut bytes) {
        each(String::from_utf8_lossy(&bytes).trim_end());
        bytes.clear();
    }
}

/// A command as it could be typed.
pub fn text_of(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words = words.map(|word| {
        let word = word.to_string_lossy();
        if word.contains(' ') { format!("'{word}'") } else { word.into_owned() }
    });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, limit: Duration, line: impl FnMut(&str) -> Flow) -> (Ended, String) {
        let path = std::env::temp_dir().join(format!("purview-child-{}-{}", std::process::id(), script.len()));
        let log = Log::create(&path).unwrap();
        let ended = run(Command::new("sh").args(["-c", script]), "test", Instant::now() + limit, &log, line).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        (ended, text)
    }

    #[test]
    fn lines_and_the_reason_of_a_failure_are_read() {
        let mut lines = Vec::new();
        let (ended, log) = sh("echo one; echo two; echo bad >&2; exit 3", Duration::from_secs(20), |line| {
            lines.push(line.to_string());
            Flow::Continue
        });
        assert_eq!(lines, ["one", "two"]);
        assert!(!ended.succeeded());
        assert_eq!(ended.reason(), "exit status: 3: bad");
        assert!(log.contains("[test] $ sh -c 'echo one;") && log.contains("[test] bad\n"), "{log}");
    }

    #[test]
    fn a_process_and_its_children_end_with_their_time() {
        let start = Instant::now();
        let (ended, _) = sh("echo one; sleep 1000 & sleep 1000", Duration::from_millis(300), |_| Flow::Continue);
        assert!(matches!(ended.end, End::OutOfTime), "{ended:?}");
        let (ended, _) = sh("echo first; sleep 1000", Duration::from_secs(300), |_| Flow::Stop);
        assert!(matches!(ended.end, End::Stopped), "{ended:?}");
        // A grandchild holds the output open; what is left is ended too.
        let (ended, _) = sh("sleep 1000 & exit 0", Duration::from_millis(400), |_| Flow::Continue);
        assert!(matches!(ended.end, End::OutOfTime | End::Exited(_)), "{ended:?}");
        assert!(start.elapsed() < Duration::from_secs(60));
    }
}
