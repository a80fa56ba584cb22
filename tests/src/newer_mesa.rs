//! The Mesa 26, and the `spirv-val` beside it, that `CI=1 ./x setup` unpacks.

use std::path::PathBuf;

/// What starts a program with that lavapipe and the libraries that it needs, if it is there.
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
