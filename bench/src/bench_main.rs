//! What the `main` functions of benches have in common.

use std::process::ExitCode;

/// The `main` of a bench of this name, which measures on `devices` alone: runs it where cargo asks for a benchmark (`--bench`, and
/// not where it tests benches) and the build is not one for CUDA, else says on standard output why nothing is measured. `how` is the
/// command that runs it.
pub fn bench_main(name: &str, how: &str, devices: &str, run: impl FnOnce() -> Result<(), String>) -> ExitCode {
    if !std::env::args().any(|argument| argument == "--bench") {
        println!("{name} measures only as a benchmark: {how}");
        return ExitCode::SUCCESS;
    }
    // `cargo bench --features cuda` runs every bench, one after another until one fails.
    if cfg!(feature = "cuda") {
        println!("{name} measures {devices}, and nothing in a build for CUDA");
        return ExitCode::SUCCESS;
    }
    exit_code(run())
}

/// The exit code of `result`, whose error is printed.
pub fn exit_code(result: Result<(), String>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
