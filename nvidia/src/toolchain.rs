//! NVIDIA's compilers and disassemblers as processes. None of them needs a GPU or a driver.
//!
//! `ptxas` assembles PTX into a cubin, machine code with a table of what it uses; `nvdisasm` prints that as text, which [`crate::sass`]
//! reads. `cuobjdump -sass` prints the same by starting `nvdisasm`, without labels, and is not needed.
//!
//! They are looked for in the directory `PURVIEW_CUDA_TOOLS` or its `bin`, where that variable is set, and nowhere else then. Otherwise in
//! `${PURVIEW_DATA:-~/.cache/purview}/cuda/bin`, where `./x setup` puts them, and then in `PATH`.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use thiserror::Error;

/// Why a tool gave nothing.
#[derive(Debug, Error)]
pub enum ToolError {
    /// It is not there.
    #[error("no `{tool}` at {}: `./x setup` fetches it, or PURVIEW_CUDA_TOOLS names its directory", list(places))]
    Missing {
        /// Its name.
        tool: &'static str,
        /// The files that it could have been.
        places: Vec<PathBuf>,
    },
    /// A file that could not be written or read, or a tool that could not be started.
    #[error("{}: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        error: io::Error,
    },
    /// It did not take its input.
    #[error("{} failed ({status}): {said}", tool.display())]
    Failed {
        /// The tool.
        tool: PathBuf,
        /// How it ended.
        status: ExitStatus,
        /// What it said.
        said: String,
    },
    /// Its output is not what it should be.
    #[error("{} should have said {expected}, but said: {said}", tool.display())]
    Output {
        /// The tool.
        tool: PathBuf,
        /// What was expected.
        expected: &'static str,
        /// What it said.
        said: String,
    },
    /// The text does not say what it is for.
    #[error("the PTX has no line `.target sm_…`, which says what to assemble it for")]
    NoTarget,
}

fn list(places: &[PathBuf]) -> String {
    places.iter().map(|place| place.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// Machine code, and what `ptxas -v` says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assembled {
    /// The cubin, an ELF file.
    pub cubin: Vec<u8>,
    /// The kernel's name.
    pub kernel: String,
    /// What it is for, as the PTX says: `sm_80`, `sm_90a`.
    pub target: String,
    /// Registers of a thread.
    pub registers: u32,
    /// Bytes that a thread stores where registers do not suffice.
    pub spill_stores: u32,
    /// Bytes that it loads there.
    pub spill_loads: u32,
    /// Bytes of a thread's stack: spills, and arrays that are not in registers.
    pub stack_frame: u32,
    /// Bytes of shared memory of a block whose size is in the text; what a launch adds is not among them.
    pub static_shared: u32,
    /// Barriers of a block.
    pub barriers: u32,
}

/// What `ptxas` is told beside the target that a text names.
pub const ASSEMBLER_OPTIONS: [&str; 1] = ["-v"];

/// Where the tools are looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Toolchain {
    directories: Vec<PathBuf>,
}

impl Toolchain {
    /// The places that the environment names; the module says which.
    pub fn from_environment() -> Toolchain {
        if let Some(tools) = std::env::var_os("PURVIEW_CUDA_TOOLS") {
            return Toolchain::at(Path::new(&tools));
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        let directories = data_directory().map(|data| data.join("bin"));
        Toolchain { directories: directories.into_iter().chain(std::env::split_paths(&path)).collect() }
    }

    /// Tools in `directory` or in its `bin`.
    pub fn at(directory: &Path) -> Toolchain {
        Toolchain { directories: vec![directory.join("bin"), directory.to_path_buf()] }
    }

    /// Assembles `ptx`, a module with one kernel, for the target that it names.
    ///
    /// # Errors
    /// [`ToolError`], with what `ptxas` says where it does not take the text.
    pub fn assemble(&self, ptx: &str) -> Result<Assembled, ToolError> {
        let target = target(ptx).ok_or(ToolError::NoTarget)?;
        let directory = scratch()?;
        let (input, cubin) = (directory.path().join("kernel.ptx"), directory.path().join("kernel.cubin"));
        write(&input, ptx.as_bytes())?;
        let architecture = format!("-arch={target}");
        let files = [architecture.as_ref(), input.as_ref(), "-o".as_ref(), cubin.as_ref()];
        let arguments: Vec<&OsStr> = ASSEMBLER_OPTIONS.iter().map(OsStr::new).chain(files).collect();
        let (tool, said) = self.run("ptxas", &arguments)?;
        let used = resources(&said).map_err(|expected| ToolError::Output { tool, expected, said })?;
        let cubin = std::fs::read(&cubin).map_err(|error| ToolError::File { path: cubin, error })?;
        Ok(Assembled { cubin, target: target.into(), ..used })
    }

    /// The machine code of `cubin` as text, with labels.
    ///
    /// # Errors
    /// [`ToolError`].
    pub fn disassemble(&self, cubin: &[u8]) -> Result<String, ToolError> {
        let directory = scratch()?;
        let input = directory.path().join("kernel.cubin");
        write(&input, cubin)?;
        self.run("nvdisasm", &[OsStr::new("--print-code"), input.as_ref()]).map(|(_, said)| said)
    }

    /// The version of `ptxas`, as `12.9.86`.
    ///
    /// # Errors
    /// [`ToolError`].
    pub fn assembler_version(&self) -> Result<String, ToolError> {
        let (tool, said) = self.run("ptxas", &[OsStr::new("--version")])?;
        let version = said.split_whitespace().find_map(|word| word.strip_prefix('V')).map(Into::into);
        version.ok_or(ToolError::Output { tool, expected: "its version, as V12.9.86", said })
    }

    /// The file of `ptxas`.
    ///
    /// # Errors
    /// [`ToolError::Missing`].
    pub fn assembler(&self) -> Result<PathBuf, ToolError> {
        self.find("ptxas")
    }

    fn find(&self, tool: &'static str) -> Result<PathBuf, ToolError> {
        let name = format!("{tool}{}", std::env::consts::EXE_SUFFIX);
        let places: Vec<PathBuf> = self.directories.iter().map(|directory| directory.join(&name)).collect();
        places.iter().find(|place| place.is_file()).cloned().ok_or(ToolError::Missing { tool, places })
    }

    /// The path of `tool`, and what it prints.
    fn run(&self, tool: &'static str, arguments: &[&OsStr]) -> Result<(PathBuf, String), ToolError> {
        let tool = self.find(tool)?;
        let output = Command::new(&tool).args(arguments).output();
        let output = output.map_err(|error| ToolError::File { path: tool.clone(), error })?;
        let said = |stream: &[u8]| String::from_utf8_lossy(stream).into_owned();
        // `ptxas -v` reports where errors go.
        let printed = if output.stdout.is_empty() { said(&output.stderr) } else { said(&output.stdout) };
        if !output.status.success() {
            let said = format!("{}{}", said(&output.stdout), said(&output.stderr)).trim().into();
            return Err(ToolError::Failed { tool, status: output.status, said });
        }
        Ok((tool, printed))
    }
}

/// Where `./x` puts NVIDIA's tools and headers: `${PURVIEW_DATA:-~/.cache/purview}/cuda`, where the environment says which that is.
pub fn data_directory() -> Option<PathBuf> {
    let data = std::env::var_os("PURVIEW_DATA").map(PathBuf::from);
    let data = data.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache/purview")))?;
    Some(data.join("cuda"))
}

fn scratch() -> Result<tempfile::TempDir, ToolError> {
    tempfile::tempdir().map_err(|error| ToolError::File { path: std::env::temp_dir(), error })
}

fn write(path: &Path, contents: &[u8]) -> Result<(), ToolError> {
    std::fs::write(path, contents).map_err(|error| ToolError::File { path: path.into(), error })
}

/// What `.target` names.
fn target(ptx: &str) -> Option<&str> {
    let line = ptx.lines().find_map(|line| line.trim().strip_prefix(".target"))?;
    line.split([',', ' ', '\t']).find(|word| word.starts_with("sm_"))
}

/// What a kernel uses, of the output of `ptxas -v`; or else what is missing there. Neither the cubin nor its target are there.
fn resources(said: &str) -> Result<Assembled, &'static str> {
    if said.matches("Compiling entry function").count() != 1 {
        return Err("that it compiled one kernel");
    }
    // Properties of functions that are not inlined have lines of their own; a kernel's follow its name.
    let kernel = said.split("Compiling entry function").nth(1).unwrap_or_default();
    // `126 registers`: the number before each name, on a line of phrases that begin with one or with `used`.
    let number = |name: &str| -> Option<u32> {
        let phrase =
            kernel.lines().flat_map(|line| line.split([',', ':'])).find(|phrase| phrase.trim().ends_with(name))?;
        phrase.split_whitespace().find_map(|word| word.parse().ok())
    };
    let name = kernel.split('\'').nth(1).ok_or("the kernel's name")?;
    Ok(Assembled {
        cubin: Vec::new(),
        kernel: name.into(),
        target: String::new(),
        registers: number("registers").ok_or("the number of registers")?,
        spill_stores: number("bytes spill stores").ok_or("the bytes of spills")?,
        spill_loads: number("bytes spill loads").ok_or("the bytes of spills")?,
        stack_frame: number("bytes stack frame").ok_or("the bytes of the stack frame")?,
        // Not said where there are none.
        static_shared: number("bytes smem").unwrap_or(0),
        barriers: number("barriers").unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "\
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'document_causal' for 'sm_90a'
ptxas info    : Function properties for document_causal
    24 bytes stack frame, 16 bytes spill stores, 20 bytes spill loads
ptxas info    : Used 128 registers, used 1 barriers, 24 bytes cumulative stack size, 1040 bytes smem, 512 bytes cmem[0]
ptxas info    : Compile time = 199.741 ms
";

    #[test]
    fn what_a_kernel_uses_is_read() {
        let used = resources(SAID).unwrap();
        assert_eq!((used.registers, used.spill_stores, used.spill_loads, used.stack_frame), (128, 16, 20, 24));
        assert_eq!((used.static_shared, used.barriers, used.kernel.as_str()), (1040, 1, "document_causal"));
        let without = SAID.replace(", used 1 barriers", "").replace(", 1040 bytes smem", "");
        let used = resources(&without).unwrap();
        assert_eq!((used.static_shared, used.barriers), (0, 0));
        assert_eq!(resources(&format!("{SAID}{SAID}")), Err("that it compiled one kernel"));
        assert_eq!(resources(&SAID.replace("registers", "")), Err("the number of registers"));
    }

    #[test]
    fn the_text_says_what_it_is_for() {
        assert_eq!(target("// for sm_70\n.version 8.7\n.target sm_90a, debug\n"), Some("sm_90a"));
        assert_eq!(target(".version 8.7\n"), None);
        assert!(matches!(Toolchain::at(Path::new("/")).assemble(".version 8.7\n"), Err(ToolError::NoTarget)));
    }

    #[test]
    fn a_tool_that_is_not_there_is_an_error_that_says_where_it_was_looked_for() {
        let error = Toolchain::at(Path::new("/nowhere")).disassemble(&[]).unwrap_err().to_string();
        let expected = "no `nvdisasm` at /nowhere/bin/nvdisasm, /nowhere/nvdisasm: `./x setup` fetches it, or \
                        PURVIEW_CUDA_TOOLS names its directory";
        assert_eq!(error, expected);
    }
}
