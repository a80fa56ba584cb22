//! SPIR-V modules, validated by Khronos' `spirv-val` (Debian: `spirv-tools`): the one that `CI=1 ./x setup` unpacks, else the system's.

use crate::newer_mesa;
use std::io::{ErrorKind, Write};
use std::process::{Command, Stdio};

/// How a `spirv-val` from before SPV_KHR_cooperative_matrix, as Debian 12's, takes a module that needs it: by the capability's number.
const NO_MATRICES: &str = "Invalid capability operand: 6022";

/// What `spirv-val` says of a module, for Vulkan 1.3; the error is its message. `None` where there is no `spirv-val`, or one that is
/// too old for cooperative matrices, which is said out loud, and is an error on a machine whose environment has `CI=1`.
pub fn validate(test: &str, words: &[u32]) -> Option<Result<(), String>> {
    let mut command = match (newer_mesa::runner(), newer_mesa::spirv_val()) {
        (Some(runner), Some(newer)) => {
            let mut command = Command::new(runner);
            command.arg(newer);
            command
        }
        _ => Command::new("spirv-val"),
    };
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
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if said.contains(NO_MATRICES) && std::env::var("CI").as_deref() != Ok("1") {
        eprintln!(
            "{test}: SKIPPED: this spirv-val knows no cooperative matrices (`CI=1 ./x setup` brings one that does)"
        );
        return None;
    }
    Some(Err(said))
}
