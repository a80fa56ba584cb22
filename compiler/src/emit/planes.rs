//! How a device's planes (subgroups, warps) are made, measured by a kernel. Some drivers have planes and do not say how large they
//! are: Mesa's lavapipe 22.3 has 8 units in each, and wgpu reports 4 to 128.

use cubecl::client::Client;
use cubecl::prelude::*;

/// The units of the cube that is looked at: what every WebGPU device can run, and a multiple of every size of a plane.
const UNITS: usize = 256;

/// What each unit of a cube sees: the size of its plane, its place in the plane, and how many units a sum over the plane counts.
///
/// Not counted as a kernel that was compiled: it belongs to the device, not to an attention.
#[cube(launch_unchecked)]
fn describe_planes(found: &mut [u32]) {
    let unit = UNIT_POS as usize;
    found[3 * unit] = PLANE_DIM;
    found[3 * unit + 1] = UNIT_POS_PLANE;
    found[3 * unit + 2] = plane_sum(1u32.runtime());
}

/// The size of the planes of `client`'s device, which must have plane operations: if every plane of a cube has it, its units are
/// consecutive, and a sum over a plane counts them all. `None` otherwise, and where the kernel fails.
pub fn measure_plane_size(client: &Client) -> Option<usize> {
    let found = client.empty(3 * UNITS * size_of::<u32>());
    // SAFETY: each unit of the one cube writes its own three numbers.
    unsafe {
        let argument = BufferArg::from_raw_parts(found.clone(), 3 * UNITS);
        describe_planes::launch_unchecked(client, CubeCount::new_single(), CubeDim::new_1d(UNITS as u32), argument);
    }
    let bytes = client.read_one(found).ok()?;
    let numbers: Vec<usize> = bytes.as_chunks().0.iter().map(|bytes| u32::from_ne_bytes(*bytes) as usize).collect();
    let size = *numbers.first()?;
    let is_plane = |(unit, seen): (usize, &[usize])| *seen == [size, unit % size, size];
    (size.is_power_of_two() && numbers.chunks(3).enumerate().all(is_plane)).then_some(size)
}
