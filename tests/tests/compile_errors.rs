//! What rustc prints for every mistake that the macros find, and that programs without a mistake compile without a warning.
//! `TRYBUILD=overwrite cargo test -p purview-tests --test compile_errors` writes the `.stderr` files anew.

use std::fs;

// Part of this test rather than cases of trybuild, which would build and link every dependency once more.
#[path = "../ui/pass_hygiene.rs"]
mod pass_hygiene;
#[path = "../ui/pass_masks_of_modules.rs"]
mod pass_masks_of_modules;
#[path = "../ui/pass_pairs.rs"]
mod pass_pairs;
#[path = "../ui/pass_values.rs"]
mod pass_values;

#[test]
fn programs_without_a_mistake() {
    pass_hygiene::main();
    pass_masks_of_modules::main();
    pass_pairs::main();
    pass_values::main();
}

#[test]
fn programs_with_mistakes() {
    let cases = trybuild::TestCases::new();
    let mut files: Vec<_> = fs::read_dir("ui").expect("tests/ui").map(|file| file.expect("a file").path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "rs"));
    files.sort();
    for file in files {
        let name = file.file_name().and_then(|name| name.to_str()).expect("a name");
        if name.starts_with("pass_") {
            let module = format!("mod {};", name.trim_end_matches(".rs"));
            assert!(include_str!("compile_errors.rs").contains(&module), "`{module}` is missing in this file");
        } else {
            cases.compile_fail(&file);
        }
    }
}
