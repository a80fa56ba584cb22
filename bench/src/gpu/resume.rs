//! A process that takes a list of names and prints lines of JSON for each: begun again after the one at which it ended.

use super::child::{self, Ended, Flow, Log};
use serde_json::{Value, json};
use std::process::Command;
use std::time::Instant;

/// How often it may end without having printed anything.
const MOST_SILENT: usize = 2;

/// The names, and what is printed for each.
pub struct Work<'a> {
    /// What messages and the log call the process.
    pub tag: &'a str,
    /// The names, in the order in which the process takes them.
    pub names: Vec<String>,
    /// The field of a line that has the name.
    pub field: &'static str,
    /// How many lines there are for a name.
    pub lines: usize,
    /// Whether an error may leave nothing that works behind, as on a GPU: two in a row then end the process.
    pub errors_spread: bool,
}

/// Runs the process that `command` makes of names, until each has been taken or the time is over. `row` is given every line that has
/// a name, and one with an `error` for each name at which the process ended. Returns what else was wrong.
///
/// # Errors
/// That of `row`.
pub fn resume(
    work: Work,
    deadline: Instant,
    log: &Log,
    mut command: impl FnMut(&[String]) -> Command,
    mut row: impl FnMut(Value) -> Result<(), String>,
) -> Result<Option<String>, String> {
    let Work { tag, mut names, field, lines, errors_spread } = work;
    let mut silent = 0;
    while !names.is_empty() {
        let mut failed = None;
        let mut last: Option<(String, usize)> = None;
        let mut after_error: Option<String> = None;
        let mut again_from: Option<String> = None;
        let ended = child::run(&mut command(&names), tag, deadline, log, |line| {
            let Ok(value) = serde_json::from_str::<Value>(line) else { return Flow::Continue };
            let Some(name) = value[field].as_str().map(String::from) else { return Flow::Continue };
            let has_error = value["error"].is_string();
            if errors_spread && has_error && after_error.as_ref().is_some_and(|before| *before != name) {
                again_from = Some(name);
                return Flow::Stop;
            }
            after_error = has_error.then(|| name.clone());
            last = match last.take() {
                Some((before, count)) if before == name => Some((before, count + 1)),
                _ => Some((name, 1)),
            };
            if let Err(error) = row(value) {
                failed = Some(error);
                return Flow::Stop;
            }
            Flow::Continue
        });
        if let Some(failed) = failed {
            return Err(failed);
        }
        let ended = match ended {
            Ok(ended) => ended,
            Err(error) => return Ok(Some(format!("{tag}: {error}"))),
        };
        if let Some(name) = again_from {
            skip_to(&mut names, &name);
            silent = 0;
            continue;
        }
        // What it did not come to the end of.
        silent = if last.is_some() { 0 } else { silent + 1 };
        if let Some((name, count)) = last {
            skip_to(&mut names, &name);
            if count >= lines || after_error.is_some() {
                names.remove(0);
            }
        }
        if names.is_empty() {
            return Ok(None);
        }
        if matches!(ended.end, child::End::OutOfTime) {
            return Ok(Some(format!("{tag}: {} were not done in its time: {}", names.len(), names.join(", "))));
        }
        if silent == MOST_SILENT {
            return Ok(Some(format!("{tag}: {}", reason(&ended))));
        }
        let name = names.remove(0);
        row(json!({ field: name, "passed": false, "error": format!("the process ended: {}", reason(&ended)) }))?;
    }
    Ok(None)
}

fn reason(ended: &Ended) -> String {
    ended.reason()
}

/// Takes away what comes before `name`.
fn skip_to(names: &mut Vec<String>, name: &str) {
    if let Some(place) = names.iter().position(|other| other == name) {
        names.drain(..place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// What a shell function `each NAME` does of each name, until the time is over.
    fn rows_of(each: &str, errors_spread: bool, seconds: f64) -> (Vec<String>, Option<String>) {
        let log = std::env::temp_dir().join(format!("purview-resume-{}-{}", std::process::id(), each.len()));
        let names = ["a", "b", "c", "d"].map(String::from).to_vec();
        let work = Work { tag: "test", names, field: "name", lines: 1, errors_spread };
        let mut rows = Vec::new();
        let command = |names: &[String]| {
            let script = format!("each() {{ {each}; }}\nfor name in {}; do each $name; done", names.join(" "));
            let mut command = Command::new("sh");
            command.args(["-c", &script]);
            command
        };
        let deadline = Instant::now() + Duration::from_secs_f64(seconds);
        let wrong = resume(work, deadline, &Log::create(&log).unwrap(), command, |row| {
            let error = row["error"].as_str().map_or(String::new(), |error| format!(" {error}"));
            rows.push(format!("{}{error}", row["name"].as_str().unwrap()));
            Ok(())
        });
        std::fs::remove_file(log).unwrap();
        (rows, wrong.unwrap())
    }

    #[test]
    fn what_ends_at_a_name_goes_on_after_it() {
        let fine = r#"echo "{\"name\": \"$1\"}""#;
        assert_eq!(rows_of(fine, true, 60.0), (vec!["a".into(), "b".into(), "c".into(), "d".into()], None));
        let crash = format!("[ $1 != b ] || kill -SEGV $$; {fine}");
        let (rows, wrong) = rows_of(&crash, true, 60.0);
        assert_eq!((rows.len(), wrong), (4, None));
        assert!(rows[1].starts_with("b the process ended: signal: 11"), "{rows:?}");
        assert_eq!([&rows[0], &rows[2], &rows[3]], ["a", "c", "d"]);
    }

    #[test]
    fn an_error_that_spreads_is_not_believed_of_the_next() {
        // All after `b` fail in the process in which `b` failed.
        let spread = r#"[ $1 != b ] || bad=', "error": "fault"'; echo "{\"name\": \"$1\"$bad}""#;
        assert_eq!(rows_of(spread, true, 60.0), (vec!["a".into(), "b fault".into(), "c".into(), "d".into()], None));
        let each = vec!["a".into(), "b fault".into(), "c fault".into(), "d fault".into()];
        assert_eq!(rows_of(spread, false, 60.0), (each, None));
    }

    #[test]
    fn what_was_not_done_is_said() {
        let slow = r#"[ $1 != c ] || sleep 1000; echo "{\"name\": \"$1\"}""#;
        let (rows, wrong) = rows_of(slow, true, 5.0);
        assert_eq!(rows, ["a", "b"]);
        assert_eq!(wrong.unwrap(), "test: 2 were not done in its time: c, d");
        let (rows, wrong) = rows_of("echo no such thing >&2; exit 2", true, 60.0);
        assert_eq!((rows.len(), wrong.unwrap().as_str()), (1, "test: exit status: 2: no such thing"));
    }
}
