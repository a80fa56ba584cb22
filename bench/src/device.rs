//! The device that a bench measures. `cargo bench --features cuda` runs every bench, one after another until one fails: where there
//! is no such device, and nobody named it, a bench says so and does not fail.

use purview::Device;
use purview::ir::Element;

/// The device of this name; where there is no name the CUDA device in a build with that feature, and the CPU in others. `None` where
/// a build for CUDA has no device and nobody named one, which is then said on standard output.
///
/// # Errors
/// A message where there is no device of this name.
pub fn open(name: Option<&str>) -> Result<Option<Device>, String> {
    let usual = if cfg!(feature = "cuda") { "cuda" } else { "cpu" };
    let wanted = name.unwrap_or(usual);
    match (Device::named(wanted), wanted) {
        (Ok(device), _) => Ok(Some(device)),
        (Err(error), "cuda") if name.is_none() => {
            println!("no CUDA device, so nothing is measured; with --device cpu the CPU is ({error})");
            Ok(None)
        }
        (Err(error), "cuda") => Err(format!("no CUDA device: {error}")),
        (Err(error), _) => Err(error.to_string()),
    }
}

/// Whether it is a GPU in any case: what wgpu finds may be a driver that runs on the CPU.
pub fn is_gpu(device: &Device) -> bool {
    matches!(device.name(), "cuda" | "hip")
}

/// The type of queries, keys and values where nobody says one: what models have on such a device.
pub fn usual_element(device: &Device) -> Element {
    if is_gpu(device) { Element::F16 } else { Element::F32 }
}
