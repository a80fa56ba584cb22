//! `sass`: the machine code that NVIDIA's compiler makes of a kernel, counted.

use crate::arguments::{SassFlags, device_for_text};
use crate::describe::{extend, schedule_json, shape_json, shape_text};
#[cfg(feature = "emit")]
use crate::ptx;
#[cfg(feature = "emit")]
use crate::run::RandomInputs;
use crate::traffic::{counts_json, counts_text};
use crate::{Failure, Gallery, SUCCESS, print_json};
use purview::Shape;
use purview_compiler::device_model::DeviceModel;
use purview_compiler::target::{KernelText, Target};
use purview_nvidia::control_flow::MachineLoop;
use purview_nvidia::instruction_counts::{Class, InstructionCounts, hot_loop};
use purview_nvidia::occupancy::{BlockResources, Occupancy, occupancy};
use purview_nvidia::ptx::Counts;
use purview_nvidia::roofline::{FunctionalUnit, Roofline};
use purview_nvidia::sass::{MachineFunction, SassError, parse};
use purview_nvidia::toolchain::{Assembled, Toolchain};
use serde_json::{Map, Value, json};
use std::io::{self, Write};

/// A kernel's machine code, and what is known of it.
struct AssembledKernel {
    assembled: Assembled,
    /// Of a block.
    shared_bytes: usize,
    occupancy: Occupancy,
    code: MachineFunction,
    loops: Vec<(MachineLoop, InstructionCounts)>,
    /// The place of the hot one in `loops`.
    hot: Option<usize>,
    sm: u32,
}

pub(crate) fn sass(gallery: &Gallery, flags: &SassFlags, json: bool, out: &mut dyn Write) -> Result<u8, Failure> {
    let shape = flags.shape.shape()?;
    let model = DeviceModel::nvidia_sm(flags.sm);
    let model = model.ok_or_else(|| Failure::Usage(format!("there is no model of sm_{}", flags.sm)))?;
    let attention = flags.variant.attention(gallery, &device_for_text()?, &shape)?;
    let schedule = attention.schedule_for(Target::Ptx, &model, &shape)?;
    let text = attention.kernel_text(Target::Ptx, &model, &shape)?;
    let kernel = AssembledKernel::of(&text, flags.sm)?;
    let moved = Moved::of(gallery, flags, &model, &shape)?;
    if json {
        let mut value = json!({
            "variant": flags.variant.name,
            "shape": shape_json(&shape),
            "device": model.name,
            "block": text.block,
        });
        extend(&mut value, schedule_json(schedule));
        extend(&mut value, kernel.json());
        extend(&mut value, json!({ "moved": moved.json() }));
        if flags.text {
            extend(&mut value, json!({ "text": kernel.text() }));
        }
        print_json(out, &value)?;
    } else if flags.text {
        out.write_all(kernel.text().as_bytes())?;
    } else {
        writeln!(out, "{} on {} ({})", flags.variant.name, model.name, kernel.assembled.target)?;
        writeln!(out, "  shape      {}", shape_text(&shape))?;
        writeln!(out, "  schedule   {schedule}")?;
        kernel.print(out)?;
        moved.print(out)?;
    }
    Ok(SUCCESS)
}

/// What the kernel moves through memory, where it is run on the CPU for a part of the shape.
struct Moved {
    shape: Shape,
    counts: Counts,
}

impl Moved {
    /// Of one group of heads, and of at most 256 queries and keys.
    #[cfg(feature = "emit")]
    fn of(gallery: &Gallery, flags: &SassFlags, model: &DeviceModel, shape: &Shape) -> Result<Moved, Failure> {
        let part = |length: usize| length.min(256);
        let shape = Shape {
            queries: part(shape.queries),
            keys: shape.keys.iter().copied().map(part).collect(),
            ..shape.clone().with_one_group()
        };
        let device = device_for_text()?;
        let attention = flags.variant.attention(gallery, &device, &shape)?;
        let inputs = RandomInputs::new(&attention, &device, &shape)?;
        let counts = ptx::run(&attention.ptx_launch_operands(model, &inputs.operands())?)?.counts;
        Ok(Moved { shape, counts })
    }

    #[cfg(not(feature = "emit"))]
    fn of(_: &Gallery, _: &SassFlags, _: &DeviceModel, _: &Shape) -> Result<Moved, Failure> {
        unreachable!("there is no text without the feature `emit`, which is an error before")
    }

    fn json(&self) -> Value {
        let mut value = json!({ "shape": shape_json(&self.shape) });
        extend(&mut value, counts_json(&self.counts));
        value
    }

    fn print(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "  by the interpreter, {}:", shape_text(&self.shape))?;
        writeln!(out, "    {}", counts_text(&self.counts))
    }
}

impl AssembledKernel {
    fn of(text: &KernelText, sm: u32) -> Result<AssembledKernel, Failure> {
        let toolchain = Toolchain::from_environment();
        let assembled = toolchain.assemble(&text.text)?;
        let disassembly = toolchain.disassemble(&assembled.cubin)?;
        let lines = disassembly.lines().count();
        let code = parse(&disassembly)?.into_iter().find(|function| function.name == assembled.kernel);
        let code = code.ok_or(SassError::Empty { lines })?;
        let loops: Vec<(MachineLoop, InstructionCounts)> = code
            .loops()?
            .into_iter()
            .map(|one| {
                let counts = InstructionCounts::of_loop(&code, &one);
                (one, counts)
            })
            .collect();
        let shared_bytes = text.shared_bytes + assembled.static_shared as usize;
        let block = BlockResources {
            threads: text.block.iter().product(),
            registers: assembled.registers,
            shared_bytes: u32::try_from(shared_bytes).unwrap_or(u32::MAX),
        };
        let hot = hot_loop(&loops).and_then(|hot| loops.iter().position(|one| one == hot));
        Ok(AssembledKernel { occupancy: occupancy(sm, &block)?, assembled, shared_bytes, code, hot, loops, sm })
    }

    fn spills(&self) -> u32 {
        self.assembled.spill_stores + self.assembled.spill_loads
    }

    /// The instructions of the hot loop, or of all innermost loops.
    fn text(&self) -> String {
        let mut text = String::new();
        for (at, (one, _)) in self.loops.iter().enumerate() {
            if !self.hot.map_or(one.innermost, |hot| hot == at) {
                continue;
            }
            text += &format!("// the loop at {:#06x}\n", one.header);
            for instruction in one.instructions.iter().filter_map(|place| self.code.instructions.get(*place)) {
                text += &format!("/*{:04x}*/ {} ;\n", instruction.address, instruction.text());
            }
        }
        text
    }

    fn roofline(&self, counts: &InstructionCounts) -> Option<Roofline> {
        Roofline::of(counts, self.sm)
    }

    fn json(&self) -> Value {
        let hot = self.hot.map(|hot| &self.loops[hot].1);
        let loops = self.loops.iter().enumerate().map(|(at, (one, counts))| {
            let mut value = json!({
                "address": one.header,
                "depth": one.depth,
                "innermost": one.innermost,
                "hot": self.hot == Some(at),
                "instructions": counts.total(),
                "divergent": one.divergent.len(),
                "instructions_per_hmma": counts.per_matrix(),
                "hmma_kinds": counts.kinds("HMMA"),
                "mufu_kinds": counts.kinds("MUFU"),
                "roofline": self.roofline(counts).map(|roofline| roofline_json(&roofline)),
            });
            let classes = Class::ALL.map(|class| (class.name().to_string(), json!(counts.class(class))));
            extend(&mut value, Value::Object(Map::from_iter(classes)));
            value
        });
        json!({
            "sm": self.sm,
            "registers": self.assembled.registers,
            "spills": self.spills(),
            "stack": self.assembled.stack_frame,
            "barriers": self.assembled.barriers,
            "shared_bytes": self.shared_bytes,
            "occupancy": {
                "blocks": self.occupancy.blocks,
                "warps": self.occupancy.warps,
                "max_warps": self.occupancy.max_warps,
                "limit": self.occupancy.limit.to_string(),
            },
            "instructions_per_hmma": hot.and_then(InstructionCounts::per_matrix),
            "roofline": hot.and_then(|counts| self.roofline(counts)).map(|roofline| roofline_json(&roofline)),
            "loops": loops.collect::<Vec<_>>(),
        })
    }

    fn print(&self, out: &mut dyn Write) -> io::Result<()> {
        let Assembled { registers, stack_frame, .. } = &self.assembled;
        let (spills, shared) = (self.spills(), self.shared_bytes);
        writeln!(out, "  a thread   {registers} registers, {spills} bytes of spills, {stack_frame} bytes of stack")?;
        let Occupancy { blocks, warps, max_warps, limit } = self.occupancy;
        writeln!(out, "  a block    {shared} bytes of shared memory")?;
        writeln!(out, "  occupancy  {blocks} blocks, {warps} of {max_warps} warps, for want of {limit}")?;
        self.print_loops(out)?;
        let Some(roofline) = self.hot.and_then(|hot| self.roofline(&self.loops[hot].1)) else {
            return writeln!(out, "  no loop has an HMMA");
        };
        let cycles = FunctionalUnit::ALL.map(|unit| format!("{unit} {:.0}", roofline.cycles(unit)));
        writeln!(out, "  the hot loop's cycles of a quarter multiprocessor: {}", cycles.join(", "))?;
        let share = 100.0 * roofline.tensor_fraction();
        writeln!(out, "  bound by {}: at most {share:.0} % of the tensor cores' peak", roofline.bound())
    }

    /// A row for each loop, with a column for each class that one of them has.
    fn print_loops(&self, out: &mut dyn Write) -> io::Result<()> {
        let has = |class: &Class| self.loops.iter().any(|(_, counts)| counts.class(*class) > 0);
        let classes: Vec<Class> = Class::ALL.into_iter().filter(has).collect();
        let header = ["loop", "depth", "all", "per hmma"].into_iter().chain(classes.iter().map(|class| class.name()));
        let mut rows: Vec<Vec<String>> = vec![header.map(Into::into).collect()];
        for (at, (one, counts)) in self.loops.iter().enumerate() {
            let mark = if self.hot == Some(at) { "*" } else { "" };
            let each = counts.per_matrix().map_or("-".into(), |each| format!("{each:.2}"));
            let row = [format!("{mark}{:#06x}", one.header), one.depth.to_string(), counts.total().to_string(), each];
            rows.push(row.into_iter().chain(classes.iter().map(|class| counts.class(*class).to_string())).collect());
        }
        for row in &rows {
            let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
            let cells = row.iter().enumerate().map(|(column, cell)| format!("{cell:>width$}", width = width(column)));
            writeln!(out, "  {}", cells.collect::<Vec<_>>().join("  "))?;
        }
        let kinds = |counts: &InstructionCounts, operation: &str| -> Vec<String> {
            counts.kinds(operation).iter().map(|(kind, count)| format!("{count} {operation}.{kind}")).collect()
        };
        for (one, counts) in &self.loops {
            let all: Vec<String> = ["HMMA", "MUFU"].iter().flat_map(|operation| kinds(counts, operation)).collect();
            if one.innermost && !all.is_empty() {
                writeln!(out, "  {:#06x} has {}", one.header, all.join(", "))?;
            }
        }
        Ok(())
    }
}

fn roofline_json(roofline: &Roofline) -> Value {
    let cycles = FunctionalUnit::ALL.map(|unit| (unit.name().to_string(), json!(roofline.cycles(unit))));
    json!({
        "cycles": Map::from_iter(cycles),
        "bound": roofline.bound().name(),
        "tensor_fraction": roofline.tensor_fraction(),
    })
}
