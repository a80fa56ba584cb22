//! What the environment says.

use std::path::PathBuf;

/// The path that the variable `name` has; one that is empty has none, as if it were not set.
pub fn path(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}
