//! The processes of a run. Each has a time limit and a temporary folder of its own, what it prints is read while it runs, and
//! neither it nor a child of its own outlives the run.

use super::locked;
use super::log::Log;
use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read};
use std::ops::ControlFlow;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Lines of standard error that are kept to say why a process failed.
const TAIL: usize = 4;
/// How often a process is looked at that prints nothing.
const POLL: Duration = Duration::from_millis(20);
/// How long the rest of the output of a process that has ended is waited for: a child of its own may hold it open.
const GRACE: Duration = Duration::from_secs(1);
/// How long a process that was killed is waited for. One that a driver holds may take forever.
const KILLED: Duration = Duration::from_secs(5);

/// The processes of a run, and what they share.
pub struct Children {
    log: Log,
    /// The folder of their temporary folders, which is removed with it.
    scratch: TempDir,
    running: Arc<Mutex<Running>>,
}

#[derive(Default)]
struct Running {
    /// Whether a signal has ended the run, so that nothing more is started.
    ended: bool,
    /// The process groups, by their number.
    groups: Vec<u32>,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By itself.
    Exited(ExitStatus),
    /// It was ended, since what it printed was enough.
    Enough,
    /// It was ended, since its time was over; perhaps it was not even started.
    OutOfTime,
    /// A signal has ended the run; perhaps it was not even started.
    RunEnded,
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

    /// Whether it did not end by itself but by the run, which says nothing about it.
    pub fn was_cut_short(&self) -> bool {
        matches!(self.end, End::OutOfTime | End::RunEnded)
    }

    /// Why it did not succeed, in words.
    pub fn reason(&self) -> String {
        let said = if self.said.is_empty() { String::new() } else { format!(": {}", self.said) };
        match self.end {
            End::Exited(status) => format!("{status}{said}"),
            End::Enough => format!("stopped{said}"),
            End::OutOfTime => "its time was over".into(),
            End::RunEnded => "a signal ended the run".into(),
        }
    }
}

/// A line that a process printed.
enum Line {
    Output(String),
    Error(String),
}

impl Children {
    /// None yet; what they print goes to `log`.
    ///
    /// # Errors
    /// A message where there can be no temporary folder.
    pub fn new(log: Log) -> Result<Children, String> {
        let scratch = tempfile::Builder::new().prefix("purview-gpu-").tempdir();
        let scratch = scratch.map_err(|error| format!("a folder in {}: {error}", std::env::temp_dir().display()))?;
        Ok(Children { log, scratch, running: Arc::default() })
    }

    /// Ends the run at SIGINT, SIGTERM and SIGHUP, on a system that has them.
    ///
    /// # Errors
    /// A message where the system does not allow it.
    #[cfg(unix)]
    pub fn end_at_signals(&self) -> Result<(), String> {
        use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
        let signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP]);
        let mut signals = signals.map_err(|error| format!("signals can't be handled: {error}"))?;
        let running = Arc::clone(&self.running);
        thread::spawn(move || signals.forever().for_each(|_| end_run(&running)));
        Ok(())
    }

    #[cfg(not(unix))]
    pub fn end_at_signals(&self) -> Result<(), String> {
        Ok(())
    }

    /// Whether a signal has ended the run.
    pub fn run_has_ended(&self) -> bool {
        locked(&self.running).ended
    }

    /// Runs `command`, until `deadline` at most, with all that it prints in the log, where it is called `tag`. `line` is given each
    /// line of its standard output at once. The process and its own children are ended where they have to be.
    ///
    /// # Errors
    /// A message where it does not start.
    pub fn run(
        &self,
        command: &mut Command,
        tag: &str,
        deadline: Instant,
        mut line: impl FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Ended, String> {
        let program = command.get_program().to_string_lossy().into_owned();
        let no_start = |error: io::Error| format!("{program} does not start: {error}");
        if Instant::now() >= deadline {
            return Ok(Ended { end: End::OutOfTime, said: String::new() });
        }
        self.log.line(tag, &format!("$ {}", text_of(command)));
        let folder = tempfile::Builder::new().prefix("child-").tempdir_in(&self.scratch).map_err(no_start)?;
        command.env("TMPDIR", folder.path());
        // What the driver compiled in another run would make a first call too fast.
        command.env("CUDA_CACHE_PATH", folder.path().join("cuda"));
        // Finding out about the compiler takes PyTorch half a minute: once a run. (Cases get another folder of their own.)
        command.env("TORCHINDUCTOR_CACHE_DIR", self.scratch.path().join("inductor"));
        let Some(mut child) = self.start(command).map_err(no_start)? else {
            return Ok(Ended { end: End::RunEnded, said: String::new() });
        };

        // Not scoped threads: they end with the outputs, which a process may hold open that can't be killed.
        let (sender, lines) = mpsc::channel();
        if let Some(stdout) = child.stdout.take() {
            send_lines(stdout, sender.clone(), Line::Output);
        }
        if let Some(stderr) = child.stderr.take() {
            send_lines(stderr, sender, Line::Error);
        }
        let mut tail = VecDeque::new();
        let mut exited: Option<(ExitStatus, Instant)> = None;
        let end = loop {
            if exited.is_none() {
                exited = child.try_wait().ok().flatten().map(|status| (status, Instant::now()));
            }
            if self.run_has_ended() {
                break End::RunEnded;
            }
            if Instant::now() >= deadline {
                break exited.map_or(End::OutOfTime, |(status, _)| End::Exited(status));
            }
            match (lines.recv_timeout(POLL), exited) {
                (Ok(Line::Output(text)), _) => {
                    self.log.line(tag, &text);
                    if line(&text).is_break() {
                        break End::Enough;
                    }
                }
                (Ok(Line::Error(text)), _) => {
                    self.log.line(tag, &text);
                    if !text.trim().is_empty() {
                        tail.push_back(text.trim().to_string());
                        tail.drain(..tail.len().saturating_sub(TAIL));
                    }
                }
                (Err(RecvTimeoutError::Disconnected), Some((status, _))) => break End::Exited(status),
                (Err(RecvTimeoutError::Disconnected), None) => thread::sleep(POLL),
                (Err(RecvTimeoutError::Timeout), Some((status, at))) if at.elapsed() > GRACE => {
                    break End::Exited(status);
                }
                (Err(RecvTimeoutError::Timeout), _) => {}
            }
        };
        self.end(&mut child, tag);
        Ok(Ended { end, said: Vec::from(tail).join(" | ") })
    }

    /// Starts it in a process group of its own, unless the run has ended.
    fn start(&self, command: &mut Command) -> io::Result<Option<Child>> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(command, 0);
        // Locked until it is in the list: a signal ends either all that is there, or what would have come.
        let mut running = locked(&self.running);
        if running.ended {
            return Ok(None);
        }
        let child = command.spawn()?;
        running.groups.push(child.id());
        Ok(Some(child))
    }

    /// Kills what is left of the process and its group, and waits for it.
    fn end(&self, child: &mut Child, tag: &str) {
        let mut running = locked(&self.running);
        kill_group(child.id());
        // Its group may be what a system does not have.
        let _ = child.kill();
        running.groups.retain(|group| *group != child.id());
        drop(running);
        let until = Instant::now() + KILLED;
        while matches!(child.try_wait(), Ok(None)) {
            if Instant::now() > until {
                self.log.line(tag, &format!("the process {} was killed and is still there", child.id()));
                return;
            }
            thread::sleep(POLL);
        }
    }
}

/// Kills every process, and lets no other start.
fn end_run(running: &Mutex<Running>) {
    let mut running = locked(running);
    running.ended = true;
    running.groups.iter().copied().for_each(kill_group);
}

/// The standard library kills a process, but not the group that was made of it and its children.
fn kill_group(group: u32) {
    #[cfg(unix)]
    if let Some(group) = i32::try_from(group).ok().and_then(rustix::process::Pid::from_raw) {
        // Where there is none any more, all have ended.
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
    #[cfg(not(unix))]
    let _ = group;
}

fn send_lines(from: impl Read + Send + 'static, to: Sender<Line>, make: fn(String) -> Line) {
    thread::spawn(move || {
        let mut reader = BufReader::new(from);
        let mut bytes = Vec::new();
        while let Ok(1..) = reader.read_until(b'\n', &mut bytes) {
            // Nobody listens any more where the process was ended.
            if to.send(make(String::from_utf8_lossy(&bytes).trim_end().to_string())).is_err() {
                return;
            }
            bytes.clear();
        }
    });
}

/// A command as it could be typed.
fn text_of(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words = words.map(|word| {
        let word = word.to_string_lossy();
        if word.contains(' ') { format!("'{word}'") } else { word.into_owned() }
    });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::path::Path;

    const CONTINUE: ControlFlow<()> = ControlFlow::Continue(());
    const LONG: Duration = Duration::from_secs(600);

    fn children(folder: &Path) -> Children {
        Children::new(Log::create(&folder.join("log.txt")).unwrap()).unwrap()
    }

    fn sh(children: &Children, script: &str, limit: Duration, line: impl FnMut(&str) -> ControlFlow<()>) -> Ended {
        children.run(Command::new("sh").args(["-c", script]), "test", Instant::now() + limit, line).unwrap()
    }

    /// Whether the process of this number, which a script printed, is still there, or goes away now that it was killed.
    fn stays(number: &str) -> bool {
        // One that has ended and that nobody has waited for has a number and no command.
        let command = format!("/proc/{}/cmdline", number.trim());
        let runs = || std::fs::read(&command).is_ok_and(|command| !command.is_empty());
        (0..500).all(|_| {
            thread::sleep(POLL);
            runs()
        })
    }

    #[test]
    fn lines_and_the_reason_of_a_failure_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let children = children(folder.path());
        let mut lines = Vec::new();
        let ended = sh(&children, "echo one; echo two; echo bad >&2; exit 3", LONG, |line| {
            lines.push(line.to_string());
            CONTINUE
        });
        assert_eq!(lines, ["one", "two"]);
        assert!(!ended.succeeded() && !ended.was_cut_short());
        assert_eq!(ended.reason(), "exit status: 3: bad");
        let log = std::fs::read_to_string(folder.path().join("log.txt")).unwrap();
        assert!(log.contains("[test] $ sh -c 'echo one;") && log.contains("[test] bad\n"), "{log}");
    }

    #[test]
    fn a_process_and_its_children_end_with_their_time() {
        let folder = tempfile::tempdir().unwrap();
        let children = children(folder.path());
        let mut numbers = Vec::new();
        let mut keep = |line: &str| {
            numbers.push(line.to_string());
            CONTINUE
        };
        let both = "echo $$; sleep 1000 & echo $!; wait";
        assert_eq!(sh(&children, both, Duration::from_millis(500), &mut keep).end, End::OutOfTime);
        // One that prints without end too.
        let ended = sh(&children, "yes", Duration::from_millis(300), |_| CONTINUE);
        assert_eq!(ended.end, End::OutOfTime);
        // What holds the output open of a process that has ended is not waited for, and ended.
        let start = Instant::now();
        let ended = sh(&children, "sleep 1000 & echo $!; exit 7", LONG, &mut keep);
        assert_eq!(ended.reason(), "exit status: 7");
        assert!(start.elapsed() < LONG / 2);
        assert_eq!(numbers.len(), 3);
        assert!(numbers.iter().all(|number| !stays(number)), "{numbers:?}");
    }

    #[test]
    fn enough_ends_a_process() {
        let folder = tempfile::tempdir().unwrap();
        let children = children(folder.path());
        let mut number = String::new();
        let ended = sh(&children, "echo $$; sleep 1000", LONG, |line| {
            number = line.to_string();
            ControlFlow::Break(())
        });
        assert_eq!(ended.end, End::Enough);
        assert!(!stays(&number));
    }

    #[test]
    fn the_end_of_a_run_ends_its_processes_and_starts_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let children = children(folder.path());
        let mut numbers = Vec::new();
        let ended = sh(&children, "echo $$; sleep 1000 & echo $!; wait", LONG, |line| {
            numbers.push(line.to_string());
            if numbers.len() == 2 {
                end_run(&children.running);
            }
            CONTINUE
        });
        assert_eq!(ended.end, End::RunEnded);
        assert!(numbers.iter().all(|number| !stays(number)), "{numbers:?}");
        let never = |line: &str| panic!("{line} was printed");
        assert_eq!(sh(&children, "echo more", Duration::ZERO, never).end, End::OutOfTime);
        let ended = sh(&children, "echo more", LONG, never);
        assert_eq!(ended.end, End::RunEnded);
        assert_eq!(ended.reason(), "a signal ended the run");
    }

    #[test]
    fn temporary_folders_are_of_one_process_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        let children = children(folder.path());
        let mut folders = Vec::new();
        for _ in 0..2 {
            let ended = sh(&children, "touch $TMPDIR/here && echo $TMPDIR", LONG, |line| {
                folders.push(line.to_string());
                CONTINUE
            });
            assert!(ended.succeeded(), "{ended:?}");
        }
        let scratch = children.scratch.path().to_path_buf();
        assert!(folders.iter().all(|folder| Path::new(folder).starts_with(&scratch)), "{folders:?}");
        assert_ne!(folders[0], folders[1]);
        assert!(folders.iter().all(|folder| !Path::new(folder).exists()), "{folders:?}");
        drop(children);
        assert!(!scratch.exists());
    }
}
