//! A process that takes a list of names and prints lines of JSON for each: begun again after the one at which it ended.

use super::Report;
use super::children::{Children, End};
use serde_json::{Value, json};
use std::ops::ControlFlow;
use std::process::Command;
use std::time::Instant;

/// The names, and what is printed for each.
pub struct Work<'a> {
    /// What messages and the log call the process.
    pub tag: &'a str,
    /// The names, in the order in which the process takes them.
    pub names: Vec<String>,
    /// The field of a line that has the name.
    pub field: &'static str,
    /// How many lines there are for a name, unless one has an `error`.
    pub lines: usize,
    /// Whether an error may leave nothing that works behind, as on a GPU: two in a row then end the process.
    pub errors_spread: bool,
}

/// How far a process came.
#[derive(Default)]
struct Progress {
    /// The name of the last row, and how many rows of that name there were.
    last: Option<(String, usize)>,
    /// Whether the last row has an error.
    last_is_error: bool,
    /// The name of a row that was not taken, since its error may be that of the name before.
    doubted: Option<String>,
}

/// Runs the process that `command` makes of names, until each has been taken or the time is over. `row` is given every line that has
/// a name, and one with an `error` for each name at which the process ended. Returns what else was wrong, and what was not done.
///
/// A process that ends after a row with an error has given up there, which is not the fault of the next name. One that ends without
/// a word ends at its first name; if another does the same at the next, nothing is expected of a third.
///
/// # Errors
/// That of `row`.
pub fn resume(
    work: Work,
    deadline: Instant,
    children: &Children,
    mut command: impl FnMut(&[String]) -> Command,
    mut row: impl FnMut(Value) -> Result<(), String>,
) -> Result<Report, String> {
    let Work { tag, mut names, field, lines, errors_spread } = work;
    let mut report = Report::default();
    let mut was_silent = false;
    while !names.is_empty() {
        let mut progress = Progress::default();
        let mut failed = None;
        let ended = children.run(&mut command(&names), tag, deadline, |line| {
            let Ok(value) = serde_json::from_str::<Value>(line) else { return ControlFlow::Continue(()) };
            let Some(name) = value[field].as_str().map(String::from) else { return ControlFlow::Continue(()) };
            if progress.doubts(&name, value["error"].is_string(), errors_spread) {
                return ControlFlow::Break(());
            }
            match row(value) {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    failed = Some(error);
                    ControlFlow::Break(())
                }
            }
        });
        if let Some(failed) = failed {
            return Err(failed);
        }
        let ended = match ended {
            Ok(ended) => ended,
            Err(error) => {
                report.wrong.push(format!("{tag}: {error}"));
                return Ok(report);
            }
        };
        let Progress { last, last_is_error, doubted } = progress;
        let is_silent = last.is_none();
        if let Some(name) = doubted {
            skip_to(&mut names, &name);
            was_silent = false;
            continue;
        }
        if let Some((name, rows)) = last {
            skip_to(&mut names, &name);
            if rows >= lines || last_is_error {
                names.remove(0);
            }
        }
        if names.is_empty() {
            // A check that failed has an exit code, and a row that says why.
            if let End::Exited(status) = ended.end
                && status.code().is_none()
            {
                report.wrong.push(format!("{tag}: the process ended after the last of its work: {}", ended.reason()));
            }
            return Ok(report);
        }
        if ended.was_cut_short() {
            report.not_done.push(format!("{tag}: {}: {}", ended.reason(), left(&names)));
            return Ok(report);
        }
        if is_silent && was_silent {
            report.wrong.push(format!("{tag}: {}", ended.reason()));
            report.not_done.push(format!("{tag}: {}", left(&names)));
            return Ok(report);
        }
        was_silent = is_silent;
        if !last_is_error {
            let name = names.remove(0);
            let error = format!("the process ended: {}", ended.reason());
            row(json!({ field: name, "passed": false, "error": error }))?;
        }
    }
    Ok(report)
}

impl Progress {
    /// Takes note of a row. Returns whether its error may be that of the name before, so that the row does not count.
    fn doubts(&mut self, name: &str, is_error: bool, errors_spread: bool) -> bool {
        let rows = self.last.as_ref().and_then(|(last, rows)| (last == name).then_some(*rows));
        if errors_spread && is_error && self.last_is_error && rows.is_none() {
            self.doubted = Some(name.to_string());
            return true;
        }
        self.last = Some((name.to_string(), rows.unwrap_or(0) + 1));
        self.last_is_error = is_error;
        false
    }
}

/// Takes away what comes before `name`.
fn skip_to(names: &mut Vec<String>, name: &str) {
    if let Some(place) = names.iter().position(|other| other == name) {
        names.drain(..place);
    }
}

/// What was not done.
fn left(names: &[String]) -> String {
    format!("{} not done: {}", names.len(), names.join(", "))
}

#[cfg(all(test, unix))]
mod tests {
    use super::super::log::Log;
    use super::*;
    use std::time::Duration;

    /// What a shell function `each NAME` does of each name, until the time is over: the rows, what was wrong, and what was not done.
    fn rows_of(each: &str, errors_spread: bool, seconds: f64) -> (Vec<String>, Vec<String>, Vec<String>) {
        let folder = tempfile::tempdir().unwrap();
        let children = Children::new(Log::create(&folder.path().join("log.txt")).unwrap()).unwrap();
        let names = ["a", "b", "c", "d"].map(String::from).to_vec();
        let work = Work { tag: "test", names, field: "name", lines: 1, errors_spread };
        let command = |names: &[String]| {
            let script = format!("each() {{ {each}; }}\nfor name in {}; do each $name; done", names.join(" "));
            let mut command = Command::new("sh");
            command.args(["-c", &script]);
            command
        };
        let deadline = Instant::now() + Duration::from_secs_f64(seconds);
        let mut rows = Vec::new();
        let report = resume(work, deadline, &children, command, |row| {
            let error = row["error"].as_str().map_or(String::new(), |error| format!(" {error}"));
            rows.push(format!("{}{error}", row["name"].as_str().unwrap()));
            Ok(())
        });
        let Report { wrong, not_done, .. } = report.unwrap();
        (rows, wrong, not_done)
    }

    /// The same, where nothing but rows may come of it.
    fn rows_alone(each: &str, errors_spread: bool) -> Vec<String> {
        let (rows, wrong, not_done) = rows_of(each, errors_spread, 600.0);
        assert_eq!((wrong, not_done), (vec![], vec![]), "{rows:?}");
        rows
    }

    const FINE: &str = r#"echo "{\"name\": \"$1\"}""#;

    #[test]
    fn what_ends_at_a_name_goes_on_after_it() {
        assert_eq!(rows_alone(FINE, true), ["a", "b", "c", "d"]);
        let rows = rows_alone(&format!("[ $1 != b ] || kill -SEGV $$; {FINE}"), true);
        assert!(rows[1].starts_with("b the process ended: signal: 11"), "{rows:?}");
        assert_eq!([&rows[0], &rows[2], &rows[3]], ["a", "c", "d"]);
        assert_eq!(rows.len(), 4);
    }

    #[test]
    fn a_process_that_gives_up_after_an_error_is_no_fault_of_the_next_name() {
        for errors_spread in [true, false] {
            let gives_up = r#"[ $1 != b ] || { echo '{"name": "b", "error": "bad"}'; exit 1; }"#;
            assert_eq!(rows_alone(&format!("{gives_up}; {FINE}"), errors_spread), ["a", "b bad", "c", "d"]);
            // One that goes on after an error and then crashes.
            let goes_on =
                r#"[ $1 != b ] || { echo '{"name": "b", "error": "bad"}'; return; }; [ $1 != c ] || kill -SEGV $$"#;
            let rows = rows_alone(&format!("{goes_on}; {FINE}"), errors_spread);
            assert_eq!([&rows[0], &rows[1], &rows[3]], ["a", "b bad", "d"]);
            assert!(rows[2].starts_with("c the process ended: signal: 11"), "{rows:?}");
        }
    }

    #[test]
    fn an_error_that_spreads_is_not_believed_of_the_next() {
        // All after `b` fail in the process in which `b` failed.
        let spread = r#"[ $1 != b ] || bad=', "error": "fault"'; echo "{\"name\": \"$1\"$bad}""#;
        assert_eq!(rows_alone(spread, true), ["a", "b fault", "c", "d"]);
        assert_eq!(rows_alone(spread, false), ["a", "b fault", "c fault", "d fault"]);
    }

    #[test]
    fn what_was_not_done_is_said() {
        let slow = format!("[ $1 != c ] || sleep 1000; {FINE}");
        let (rows, wrong, not_done) = rows_of(&slow, true, 5.0);
        assert_eq!((rows, wrong), (vec!["a".into(), "b".into()], vec![]));
        assert_eq!(not_done, ["test: its time was over: 2 not done: c, d"]);
        let (rows, wrong, not_done) = rows_of("echo no such thing >&2; exit 2", true, 600.0);
        assert_eq!(rows, ["a the process ended: exit status: 2: no such thing"]);
        assert_eq!(wrong, ["test: exit status: 2: no such thing"]);
        assert_eq!(not_done, ["test: 3 not done: b, c, d"]);
    }

    #[test]
    fn a_crash_after_the_last_name_is_wrong() {
        let (rows, wrong, not_done) = rows_of(&format!("{FINE}; [ $1 != d ] || kill -SEGV $$"), true, 600.0);
        assert_eq!(rows, ["a", "b", "c", "d"]);
        assert!(wrong[0].starts_with("test: the process ended after the last of its work: signal: 11"), "{wrong:?}");
        assert_eq!((wrong.len(), not_done.len()), (1, 0));
    }
}
