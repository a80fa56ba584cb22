//! What rustc prints for every mistake that the macros find, and that a program without a mistake compiles without a
//! warning. `TRYBUILD=overwrite cargo test -p purview-tests --test compile_errors` writes the `.stderr` files anew.

use std::fs;

#[test]
fn compile_errors() {
    let cases = trybuild::TestCases::new();
    let mut files: Vec<_> = fs::read_dir("ui").expect("tests/ui").map(|file| file.expect("a file").path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "rs"));
    files.sort();
    assert!(!files.is_empty(), "no programs in tests/ui");
    for file in files {
        let name = file.file_name().and_then(|name| name.to_str()).expect("a name");
        if name.starts_with("pass_") { cases.pass(&file) } else { cases.compile_fail(&file) }
    }
}
