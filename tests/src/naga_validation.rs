//! WGSL, validated by naga: what wgpu does with a shader before any driver sees it.

use naga::front::wgsl::{Frontend, Options};
use naga::valid::{Capabilities, ValidationFlags, Validator};

/// Whether naga takes `text`, with what WebGPU has by default and the optional features that the text uses: f16 and subgroups.
///
/// # Errors
/// naga's message, with the line.
pub fn validate(text: &str) -> Result<(), String> {
    let mut capabilities = Capabilities::empty();
    let enabled = |extension| text.lines().any(|line| line == format!("enable {extension};"));
    capabilities.set(Capabilities::SHADER_FLOAT16, enabled("f16"));
    // CubeCL writes no `enable subgroups;` outside of browsers: naga knows subgroups without it, and no such extension.
    capabilities.set(Capabilities::SUBGROUP, text.contains("subgroup"));
    let options = Options { capabilities, ..Options::new() };
    let module = Frontend::new_with_options(options).parse(text).map_err(|error| error.emit_to_string(text))?;
    let mut validator = Validator::new(ValidationFlags::all(), capabilities);
    validator.validate(&module).map(|_| ()).map_err(|error| error.emit_to_string(text))
}
