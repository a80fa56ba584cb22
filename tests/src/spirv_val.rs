//! SPIR-V modules, validated by Khronos' `spirv-val` (Debian: `spirv-tools`).

use std::io::{ErrorKind, Write};
use std::process::{Command, Stdio};

/// What `spirv-val` says of a module, for Vulkan 1.3; the error is its message. `None` where there is no `spirv-val`, which is
/// said out loud, and is an error on a machine whose environment has `CI=1`, which must have it.
pub fn validate(test: &str, words: &[u32]) -> Option<Result<(), String>> {
    let mut command = Command::new("spirv-val");
    command.args(["--target-env", "vulkan1.3", "-"]);
    let process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut process = match process {
        Ok(process) => process,
        Err(error) if error.kind() == ErrorKind::NotFound && std::env::var("CI").as_deref() != Ok("1") => {
            eprintln!("{test}: SKIPPED: there is no spirv-val here (Debian: apt-get install spirv-tools)");
            return None;
        }
        Err(error) => panic!("{test}: spirv-val (Debian: spirv-tools): {error}"),
    };
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    process.stdin.take().expect("it is piped").write_all(&bytes).expect("spirv-val reads its whole input");
    let output = process.wait_with_output().expect("spirv-val ends");
    if output.status.success() {
        return Some(Ok(()));
    }
    Some(Err(format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))))
}
