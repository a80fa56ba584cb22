//! The generated causal kernel of the `cube` schedule against one written by hand in WGSL with the same tiling: `causal.wgsl`.
//!
//! `cargo bench --workspace --profile dev --bench handwritten_wgsl` reuses the build of the tests. The kernel is written for the
//! schedule that purview chooses on Mesa's lavapipe, and on a device for which it chooses another nothing is measured. Both sides
//! are launched by CubeCL on one device and the same operands, allocate an output and a log-sum-exp, and are waited for. Outputs
//! are compared first; then each turn measures both. Times are medians over turns, and ratios medians of the turns' own.

#![allow(missing_docs, reason = "clap derives items without")]

use clap::Parser;
use cubecl::ir::metadata::Info;
use cubecl::ir::settings::Dim3;
use cubecl::prelude::{
    AddressType, CubeCount, ElemType, ExecutionMode, KernelDefinition, KernelId, KernelMetadata, KernelSettings, Scope,
};
use cubecl::server::{Handle, KernelArguments};
use cubecl::{CubeKernel, PrecompiledSource};
use purview::schedule::{self, Constraints, CubeSchedule, Planes, Products, Schedule};
use purview::{Device, Error, ShaderLanguage, Tensor};
use purview_bench::bench_main::bench_main;
use purview_bench::cases::{Case, Operand, Variant, chosen, usual};
use purview_bench::difference::greatest_relative_difference;
use purview_bench::turns::{calls, median, time};
use purview_examples::causal::causal;
use serde_json::{Value, json};
use std::process::ExitCode;

/// The schedule that `causal.wgsl` has.
const BY_HAND: CubeSchedule = CubeSchedule {
    unit_rows: 8,
    unit_columns: 1,
    rows: 4,
    keys: 32,
    chunk: 4,
    planes: Planes::Share(8),
    products: Products::Units,
};
/// The head dim that it is for.
const DIM: usize = 64;
/// The greatest difference of outputs, and of log-sum-exps relative to numbers above 1, that counts as the same: both sum in f32.
const TOLERANCE: f32 = 2e-5;

/// The generated kernel against one by hand in WGSL, in turns.
#[derive(Parser)]
#[command(name = "handwritten_wgsl")]
struct Arguments {
    /// Cases by name: causal with 8 heads of 64; if not given, all of those
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    cases: Vec<String>,
    /// Turns per case
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..))]
    turns: u32,
    /// Prints an array of objects rather than a table
    #[arg(long)]
    json: bool,
    /// What cargo passes to benches
    #[arg(long, hide = true)]
    bench: bool,
}

/// `causal.wgsl`, for CubeCL to launch.
struct ByHand;

impl KernelMetadata for ByHand {
    fn id(&self) -> KernelId {
        // Unchecked, as the generated kernel is: else every loop is given a counter.
        KernelId::new::<Self>().cube_dim(Dim3::new_1d(BY_HAND.units() as u32)).mode(ExecutionMode::Unchecked)
    }

    fn address_type(&self) -> ElemType {
        AddressType::U32.unsigned_type()
    }
}

impl CubeKernel for ByHand {
    /// Nothing: there is a source.
    fn define(&self) -> KernelDefinition {
        let dim = Dim3::new_1d(BY_HAND.units() as u32);
        let settings = KernelSettings::new(dim, ExecutionMode::Unchecked, AddressType::U32);
        KernelDefinition { body: Scope::root(settings.clone()), settings, info: Info::default() }
    }

    fn source(&self) -> Option<PrecompiledSource> {
        Some(PrecompiledSource {
            source: unroll(include_str!("causal.wgsl")),
            entrypoint_name: "causal".into(),
            lang: "wgsl",
        })
    }
}

/// `text` with each loop that ends its first line with `// unroll` written out, as blocks in which the counter is a constant.
fn unroll(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let mut out = String::new();
    unroll_lines(text, &lines, &mut out);
    out
}

fn unroll_lines(text: &str, mut lines: &[&str], out: &mut String) {
    while let [line, rest @ ..] = lines {
        lines = rest;
        let Some(header) = line.strip_suffix(" // unroll") else {
            *out += &format!("{line}\n");
            continue;
        };
        let words: Vec<&str> = header.split_whitespace().collect();
        let ["for", "(var", counter, "=", "0u;", _, "<", limit, _, "{"] = words[..] else {
            panic!("`{header}` should be `for (var x = 0u; x < N; x++) {{`");
        };
        let limit = limit.trim_end_matches(';');
        let count = number(limit).or_else(|| number(text.split_once(&format!("const {limit} = "))?.1));
        let count =
            count.unwrap_or_else(|| panic!("`{limit}` should be a number, or a constant that is written as one"));
        let indent = &line[..line.len() - line.trim_start().len()];
        let end = lines
            .iter()
            .position(|line| line.strip_prefix(indent) == Some("}"))
            .expect("a loop's end is below its beginning");
        for at in 0..count {
            *out += &format!("{indent}{{\n{indent}    const {counter} = {at}u;\n");
            unroll_lines(text, &lines[..end], out);
            *out += &format!("{indent}}}\n");
        }
        lines = &lines[end + 1..];
    }
}

/// The number with which `text` begins, of WGSL's form `16u`.
fn number(text: &str) -> Option<u32> {
    text.split_once('u').map_or(text, |(digits, _)| digits).parse().ok()
}

/// Causal attention at a length, with the operands.
struct Inputs {
    device: Device,
    length: usize,
    heads: usize,
    operands: [Tensor; 3],
}

impl Inputs {
    fn new(case: &Case, device: &Device) -> Result<Inputs, Error> {
        let tensor = |operand| Tensor::from_slice(device, case.dimensions(operand), &case.operand(operand));
        Ok(Inputs {
            device: device.clone(),
            length: case.queries,
            heads: case.heads,
            operands: [tensor(Operand::Query)?, tensor(Operand::Key)?, tensor(Operand::Value)?],
        })
    }

    /// Output and log-sum-exp of the generated kernel.
    fn generated(&self) -> Result<(Tensor, Tensor), Error> {
        let [q, k, v] = &self.operands;
        causal().with_schedule(Schedule::Cube(BY_HAND)).with_lse().run(&self.device, q, k, v)
    }

    /// Those of the handwritten one.
    fn handwritten(&self) -> Result<(Handle, Handle), Error> {
        let client = self.device.client();
        let rows = self.heads * self.length;
        let (output, lse) = (client.empty(4 * rows * DIM), client.empty(4 * rows));
        let mut arguments = KernelArguments::new();
        for operand in &self.operands {
            arguments = arguments.with_buffer(operand.clone().into_handle()?.handle.binding());
        }
        let arguments = arguments.with_buffer(output.clone().binding()).with_buffer(lse.clone().binding());
        let query_tiles = self.length / BY_HAND.queries();
        client.launch(Box::new(ByHand), CubeCount::Static(query_tiles as u32, self.heads as u32, 1), arguments);
        Ok((output, lse))
    }

    /// The greatest difference of the two sides' outputs and log-sum-exps.
    fn difference(&self) -> Result<f32, String> {
        let failed = |error: Error| error.to_string();
        let (output, lse) = self.generated().map_err(failed)?;
        let (output_by_hand, lse_by_hand) = self.handwritten().map_err(failed)?;
        let mut greatest = 0f32;
        for (generated, by_hand) in [(output, output_by_hand), (lse, lse_by_hand)] {
            let by_hand = self.device.client().read_one(by_hand).map_err(|error| error.to_string())?;
            let generated = generated.to_vec::<f32>().map_err(failed)?;
            greatest = greatest.max(greatest_relative_difference(&generated, &bytemuck::pod_collect_to_vec(&by_hand)));
        }
        Ok(greatest)
    }

    /// The milliseconds of one of so many calls.
    fn time<T>(&self, calls: usize, run: impl Fn(&Inputs) -> Result<T, Error>) -> Result<f64, Error> {
        time(calls, || run(self).and_then(|_| self.device.sync()))
    }
}

/// A case's results.
struct Row {
    case: &'static Case,
    ours: f64,
    handwritten: f64,
    ratio: f64,
    difference: f32,
}

impl Row {
    fn json(&self) -> Value {
        json!({
            "case": self.case.name,
            "ours_ms": self.ours,
            "handwritten_ms": self.handwritten,
            "ratio": self.ratio,
            "max_difference": self.difference,
        })
    }
}

/// Measures a case.
fn row(case: &'static Case, device: &Device, turns: u32) -> Result<Row, String> {
    let failed = |error: Error| format!("{}: {error}", case.name);
    let inputs = Inputs::new(case, device).map_err(failed)?;
    let difference = inputs.difference().map_err(|error| format!("{}: {error}", case.name))?;
    if difference > TOLERANCE {
        return Err(format!("{}: outputs differ by {difference:e}; at most {TOLERANCE:e} is rounding", case.name));
    }
    let (mut ours, mut handwritten, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    let calls = calls(inputs.time(1, Inputs::generated).map_err(failed)?);
    for turn in 0..turns {
        // Who is first takes turns too.
        let ours_first = turn % 2 == 0;
        let before = if ours_first { inputs.time(calls, Inputs::generated).map_err(failed)? } else { 0.0 };
        let by_hand = inputs.time(calls, Inputs::handwritten).map_err(failed)?;
        let generated = if ours_first { before } else { inputs.time(calls, Inputs::generated).map_err(failed)? };
        ours.push(generated);
        handwritten.push(by_hand);
        ratios.push(by_hand / generated);
    }
    Ok(Row { case, ours: median(ours), handwritten: median(handwritten), ratio: median(ratios), difference })
}

/// Whether `causal.wgsl` is a kernel for the case.
fn is_by_hand(case: &Case) -> bool {
    let square = case.heads == case.kv_heads && case.queries == case.keys;
    case.variant == Variant::Causal && square && case.dim == DIM && case.queries.is_multiple_of(BY_HAND.queries())
}

fn run(arguments: &Arguments) -> Result<(), String> {
    let device = Device::wgpu_with(ShaderLanguage::Wgsl).map_err(|error| error.to_string())?;
    let cases = match &arguments.cases[..] {
        [] => usual(&device).filter(|case| is_by_hand(case)).collect(),
        names => chosen(names, &device)?,
    };
    if let Some(case) = cases.iter().find(|case| !is_by_hand(case)) {
        return Err(format!("`{}` is not causal with as many key heads as heads, of {DIM}", case.name));
    }
    let mut rows = Vec::new();
    for case in cases {
        let chosen = schedule::choose(
            &device,
            Constraints {
                operands: case.shape().operands(),
                value_dim: case.shape().v_dim,
                bounded: true,
                intricate: false,
                form: purview::ir::forward::Form::Single,
            },
        )
        .map_err(|error| error.to_string())?;
        if chosen != Schedule::Cube(BY_HAND) {
            return Err(format!(
                "purview chose `{chosen}` for this device, and by hand there is only `{}`",
                Schedule::Cube(BY_HAND)
            ));
        }
        rows.push(row(case, &device, arguments.turns)?);
    }
    if arguments.json {
        let rows: Vec<Value> = rows.iter().map(Row::json).collect();
        println!("{}", serde_json::to_string_pretty(&rows).map_err(|error| error.to_string())?);
        return Ok(());
    }
    println!("{:<20}{:>14}{:>16}{:>9}{:>14}", "case", "generated ms", "handwritten ms", "ratio", "difference");
    for Row { case, ours, handwritten, ratio, difference } in &rows {
        println!("{:<20}{ours:>14.2}{handwritten:>16.2}{ratio:>9.3}{difference:>14.1e}", case.name);
    }
    println!("\nratio: throughput of the generated kernel in that of the handwritten one");
    Ok(())
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let how = "cargo bench --workspace --profile dev --bench handwritten_wgsl";
    bench_main("handwritten_wgsl", how, "wgpu", || run(&arguments))
}
