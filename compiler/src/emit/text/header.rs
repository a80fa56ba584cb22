//! The comment above a kernel's text: what it is, for whoever reads or launches it.

use crate::device_model::{DeviceModel, Family};
use crate::schedule::Schedule;
use crate::scheduled::Compiled;
use crate::target::Target;

/// The comment: the variant, each loop of the tile program in two lines, the schedule, and the launch. `shared_bytes` is the
/// shared memory of a cube.
pub fn header(
    target: Target,
    model: &DeviceModel,
    program: &Compiled,
    schedule: Schedule,
    shared_bytes: usize,
) -> String {
    let device = match model.family {
        Family::Nvidia { sm } => format!("{} (sm_{sm})", model.name),
        _ => model.name.to_string(),
    };
    let mut lines = vec![format!("{} for {target} on {device}", program.signature())];
    for key_loop in &program.loops {
        lines.push(program.loop_head(key_loop).join("; "));
        lines.push(format!("  {}", program.loop_body(key_loop).join("; ")));
    }
    lines.push(format!("schedule {schedule}"));
    lines.push(match schedule {
        Schedule::Cpu(_) => {
            format!("launch grid 1, block {} (a unit a core), shared 0 bytes", model.cores.unwrap_or(1))
        }
        Schedule::Cube(cube) => {
            format!(
                "launch grid ceil(S/{}) x H x B, block {}, shared {shared_bytes} bytes",
                cube.queries(),
                cube.units()
            )
        }
        Schedule::Mma(mma) => {
            let (rows, heads) = if mma.pack_gqa { ("H/G*S", "G") } else { ("S", "H") };
            let (queries, units) = (mma.queries(), mma.units());
            format!("launch grid ceil({rows}/{queries}) x {heads} x B, block {units}, shared {shared_bytes} bytes")
        }
    });
    // Names of Rust may have any letter, and PTX only ASCII.
    let ascii = |line: &str| -> String { line.chars().map(|c| if c.is_ascii() { c } else { '?' }).collect() };
    lines.iter().map(|line| format!("{} {}\n", target.comment(), ascii(line))).collect()
}
