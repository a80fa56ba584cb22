//! NVIDIA's assembler and disassembler, where they are.

use purview_nvidia::toolchain::Toolchain;

/// The version that `./x setup` brings, for which numbers of registers are known.
pub const VERSION: &str = "12.9.86";

/// The tools, and whether they are [`VERSION`]. `None` where there are none, which is said out loud, and is an error on a machine whose
/// environment has `CI=1`, as is another version.
pub fn toolchain(test: &str) -> Option<(Toolchain, bool)> {
    let tools = Toolchain::from_environment();
    let ci = std::env::var("CI").as_deref() == Ok("1");
    match tools.assembler_version() {
        Ok(version) => {
            assert!(!ci || version == VERSION, "{test}: ptxas is {version}, expected {VERSION}");
            Some((tools, version == VERSION))
        }
        Err(error) => {
            assert!(!ci, "{test}: {error}");
            eprintln!("{test}: SKIPPED: {error}");
            None
        }
    }
}
