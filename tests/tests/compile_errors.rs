//! What rustc prints for mistakes, and that programs without a mistake compile without a warning.
//!
//! The programs of `tests/ui` are those to which rustc has something to add: it resolves the names of functions, checks the
//! arguments of helpers, prints warnings, and parses. Every other mistake is a program of `language/tests/ui`, where the test
//! `mistakes` compares what the language says without rustc. Here rustc says the same, on the same tokens.
//!
//! rustc is run on the library that cargo has built for this test, which takes a tenth of a second for each program. trybuild
//! would check every dependency again, in a target directory of its own: minutes for CubeCL.
//!
//! `UPDATE_EXPECT=1 cargo test --workspace --test compile_errors` writes the `.stderr` files anew.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;
use std::{env, fs, thread};

#[path = "../ui/pass_hygiene.rs"]
mod pass_hygiene;
#[path = "../ui/pass_indices.rs"]
mod pass_indices;
#[path = "../ui/pass_masks_of_modules.rs"]
mod pass_masks_of_modules;
#[path = "../ui/pass_outputs.rs"]
mod pass_outputs;
#[path = "../ui/pass_pairs.rs"]
mod pass_pairs;
#[path = "../ui/pass_values.rs"]
mod pass_values;

#[test]
fn programs_without_a_mistake() {
    pass_hygiene::main();
    pass_indices::main();
    pass_masks_of_modules::main();
    pass_outputs::main();
    pass_pairs::main();
    pass_values::main();
    for program in programs("tests") {
        let module = format!("mod {};", name(&program));
        let is_here = include_str!("compile_errors.rs").contains(&module);
        assert_eq!(name(&program).starts_with("pass_"), is_here, "`{module}` in this file");
    }
}

#[test]
fn programs_that_rustc_rejects() {
    let mut programs = programs("tests");
    programs.retain(|program| !name(program).starts_with("pass_"));
    check(&programs);
}

#[test]
fn mistakes_of_the_language() {
    check(&programs("language/tests"));
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace")
}

fn name(program: &Path) -> &str {
    program.file_stem().and_then(|name| name.to_str()).expect("a name")
}

/// The programs of `ui` in a folder of the workspace.
fn programs(folder: &str) -> Vec<PathBuf> {
    let files = fs::read_dir(root().join(folder).join("ui")).expect("a folder of programs");
    let mut programs: Vec<_> = files.map(|file| file.expect("a file").path()).collect();
    programs.retain(|file| file.extension().is_some_and(|extension| extension == "rs"));
    programs.sort();
    assert!(!programs.is_empty(), "{folder} has no programs");
    programs
}

/// Compares what rustc prints for each program with the `.stderr` file beside it.
fn check(programs: &[PathBuf]) {
    // In CI nothing is written, whatever is asked for.
    let is_update = env::var_os("UPDATE_EXPECT").is_some() && env::var_os("CI").is_none();
    let (next, different) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        while let Some(program) = programs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let (found, expected) = (rustc(program), program.with_extension("stderr"));
            if fs::read_to_string(&expected).is_ok_and(|text| text == found) {
                continue;
            }
            if is_update {
                fs::write(expected, found).expect("a file that can be written");
            } else {
                let text = format!("{}, which is not what {} says:\n\n{found}", program.display(), expected.display());
                different.lock().expect("no thread panicked").push(text);
            }
        }
    };
    thread::scope(|scope| {
        (0..thread::available_parallelism().map_or(1, usize::from)).for_each(|_| drop(scope.spawn(work)))
    });
    let different = different.into_inner().expect("no thread panicked");
    assert!(different.is_empty(), "{} programs:\n\n{}", different.len(), different.join("\n"));
}

/// What rustc prints for `program`.
fn rustc(program: &Path) -> String {
    let test = env::current_exe().expect("this test");
    let dependencies = test.parent().expect("the folder of what cargo built");
    let program = program.strip_prefix(root()).expect("a file of the workspace");
    let output = Command::new("rustc")
        .args(["--edition=2024", "--crate-type=bin", "--emit=metadata", "--color=never", "--out-dir"])
        .arg(env!("CARGO_TARGET_TMPDIR"))
        .arg(format!("--extern=purview={}", library(dependencies).display()))
        .arg(format!("-Ldependency={}", dependencies.display()))
        .arg(program)
        // Where cargo built the library, so that rustc finds the lines of it that it shows.
        .current_dir(root())
        .output()
        .expect("rustc");
    let text = String::from_utf8(output.stderr).expect("text");
    assert!(!output.status.success(), "{} compiles:\n{text}", program.display());
    let folder = program.parent().and_then(Path::to_str).expect("the folder of the programs");
    normalized(&text.replace(folder, "ui"))
}

/// The library `purview` that cargo built last: for this test, or, if that was built before, from the same sources.
fn library(dependencies: &Path) -> PathBuf {
    let files = fs::read_dir(dependencies).expect("the folder of what cargo built").map(|file| file.expect("a file"));
    let libraries = files.filter(|file| {
        let name = file.file_name().to_string_lossy().into_owned();
        name.starts_with("libpurview-") && name.ends_with(".rlib")
    });
    let time = |file: &fs::DirEntry| file.metadata().and_then(|data| data.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
    libraries.max_by_key(time).expect("the library that this test is linked with").path()
}

/// `text` without what differs from one machine or change of the library to the next.
fn normalized(text: &str) -> String {
    let is_summary = |block: &&str| {
        !["error: aborting due to", "Some errors have", "For more information"]
            .iter()
            .any(|start| block.starts_with(start))
    };
    let blocks: Vec<String> = text.trim_end().split("\n\n").filter(is_summary).map(without_places_elsewhere).collect();
    blocks.join("\n\n") + "\n"
}

/// A message without the lines and columns of files other than the program, and without the margin that these need.
fn without_places_elsewhere(block: &str) -> String {
    let (mut is_elsewhere, mut width, mut needed) = (false, 0, 0);
    let mut lines = Vec::new();
    for line in block.lines() {
        let mut line = line.to_string();
        if let Some(place) = ["--> ", "::: "].iter().find_map(|arrow| line.trim_start().strip_prefix(arrow)) {
            is_elsewhere = !place.starts_with("ui/");
            if is_elsewhere && let Some((file, _)) = place.split_once(':') {
                line = line.replace(place, &format!("$WORKSPACE/{file}"));
            }
        }
        // A part such as `help: …`, which shows the program again.
        is_elsewhere &= !line.starts_with(|first: char| first.is_ascii_alphabetic());
        let start = line.len() - line.trim_start().len();
        let number = line[start..].bytes().take_while(u8::is_ascii_digit).count();
        if number > 0 {
            width = width.max(start + number);
            if is_elsewhere {
                line.replace_range(start..start + number, &" ".repeat(number));
            } else {
                needed = needed.max(number);
            }
        }
        lines.push(line);
    }
    let surplus = " ".repeat(width - needed);
    let lines: Vec<&str> = lines.iter().map(|line| line.strip_prefix(&surplus).unwrap_or(line)).collect();
    lines.join("\n")
}
