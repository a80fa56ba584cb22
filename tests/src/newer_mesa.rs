//! The Mesa 26, and the `spirv-val` beside it, that `CI=1 ./x setup` unpacks.

use std::path::PathBuf;

/// What starts a program with that lavapipe and the libraries that it needs. Where it is missing the caller says so, also with
/// `CI=1`: it comes from a server that keeps no old packages, and what Debian does to them should stop nobody's change. Where it is
/// there, what runs on it must be right.
pub fn runner() -> Option<PathBuf> {
    existing("mesa/run")
}

/// The `spirv-val` that [`runner()`] starts.
pub fn spirv_val() -> Option<PathBuf> {
    existing("mesa/usr/bin/spirv-val")
}

fn existing(path: &str) -> Option<PathBuf> {
    let data = std::env::var_os("PURVIEW_DATA").map(PathBuf::from);
    let data = data.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache/purview")))?;
    let path = data.join(path);
    path.exists().then_some(path)
}
