//! What can be typed.

use crate::{Failure, Gallery};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, CommandFactory, Parser, Subcommand, value_parser};
use purview::{AnyAttention, Arguments, Device, Error, Shape, Variant};
use purview_compiler::ir::{Element, Kept};
use purview_compiler::passes::{LOWER, PASSES, SCHEDULE};
use purview_compiler::schedule::MAX_HEAD_DIM;
use purview_compiler::spec::{ScalarType, ScalarValue, Spec};
use purview_compiler::target::Target;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Fused attention kernels, from the mask to the device.
#[derive(Parser)]
#[command(name = "purview", version)]
pub(crate) struct CommandLine {
    #[command(subcommand)]
    pub command: Command,
    /// Print JSON. The fields are described in each command's --help
    #[arg(long, global = true)]
    pub json: bool,
}

/// Appended to the help of every command that prints numbers.
const LIST_JSON: &str = "\
JSON:
  variants: a list of
    name, doc (the whole comment), accumulator (Softmax, Sum or Mean; several with commas between them),
    operands: a list of {name, role (query, key or value), set (the number of its set of keys; null along queries)},
    pairs: a list of {key, value}, the names of the keys and values; empty where there are other operands than these,
    scalars: a list of {name, type, comptime, default (null where it depends on the shape)},
    tensors: a list of {name, type, rank, sorted}";

const PROGRAM_JSON: &str = "\
JSON:
  variant, shape (see `report`), stages: a list of {stage, text}";

const REPORT_JSON: &str = "\
JSON:
  variant, schedule (its name), query_tile and key_tile (the sizes of a tile), scalars: {name: value},
  shape: {batch, heads, kv_heads, q, kv (a list: of each set of keys), dim, v_dim, dtype,
    dims, key_heads ({name: number}: of single operands; absent where none are given)},
  total_tiles, visited_tiles, full_tiles, partial_tiles, skipped_tiles: of all loops, heads and batches,
  needed_tiles: those with a visible pair, null without --verify,
  missed_full_tiles: partial ones in which every pair is visible, null without --verify,
  pairs, visible_pairs, density (their ratio); the last two are null where there are too many pairs to count,
  masked_rows: {count, positions (a list of [first, last])}: queries that see no key, null with visible_pairs,
  executed_flops (of visited tiles, as if each were whole), useful_flops (of visible pairs, null with them),
  bytes: of queries, outputs and log-sum-exp once, and of keys and values once for each visited tile,
  mask_bytes: of the summaries of captured tensors that tiles are decided by,
  notes: a list of {location, message},
  loops: a list of
    key (its name), mask (null where there is none), as text,
    pushes: a list of {accumulator (its name), mask (null where there is none, as text)},
    visit, full: lists of ranges, as text,
    kind: {some, all}, as text: which of the tiles outside full ranges are visited, and full; null if ranges say it,
    undecided: a list of the mask's conditions that give no ranges,
    total_tiles, visited_tiles, full_tiles, partial_tiles, skipped_tiles, needed_tiles,
    missed_full_tiles,
    picture: a list of lines";

const EMIT_JSON: &str = "\
The text begins with a comment: the variant, what its loops visit and do, the schedule with its sizes, and the launch. It is for a
device that stands for those of the target: webgpu, vulkan, ampere, rdna3, apple, cpu_avx512. Lengths are arguments of a kernel, so that of the
shape only the head dims and the type matter, and what variants make by default. No driver is opened.

JSON:
  variant, shape, schedule, query_tile, key_tile (see `report`),
  target, device, sm (null where it is not NVIDIA's), text";

const SASS_JSON: &str = "\
The PTX that `emit --target ptx` prints, assembled by NVIDIA's ptxas and disassembled by its nvdisasm, which `./x setup` fetches; or those in the
directory PURVIEW_CUDA_TOOLS. No GPU is needed.

A loop is what is executed again and again, loops in it included; code for warps whose threads are apart is not counted. The hot loop, marked *, is
of the innermost ones with HMMA and MUFU, both products and the weights between them, that with the fewest instructions for each HMMA: the
one over tiles without a mask. Its roofline says for how many cycles it keeps each
unit of a quarter multiprocessor busy, and what share of the tensor cores' peak that allows at most, if nothing ever waits. Below are passes through
shared memory (wavefronts) and sectors of global memory, for each that there would be if no banks met and nothing beside what is asked for were read.

JSON:
  variant, shape, schedule, query_tile, key_tile (see `report`), device, sm, block (its threads along each axis),
  registers (of a thread), spills (bytes that it stores and loads), stack (bytes), barriers,
  shared_bytes (of a block), occupancy: {blocks, warps, max_warps, limit} of a multiprocessor,
  instructions_per_hmma (all, with the HMMA), roofline: of the hot loop; null where there is no HMMA,
  loops: a list of
    address (in bytes), depth (1 where it is in no other), innermost (no loop is in it), hot,
    instructions, divergent (those not counted), instructions_per_hmma (null where there is no HMMA),
    hmma, mufu, ldsm, ldgsts, lds, sts, ldg, stg, spill, fp32, half2, convert, integer, move, shfl, barrier, branch, other,
    hmma_kinds, mufu_kinds: {modifiers: number},
    roofline: {cycles: {tensor, issue, mufu, fp32, integer, memory}, bound (the longest), tensor_fraction},
  moved: what the kernel's PTX moves where it is run on the CPU for a part of the shape, one group of heads and at most 256 queries and keys:
    shape, warp_instructions, memory: see `check`,
  text: of the hot loop, with --text";

const RUN_JSON: &str = "\
JSON:
  variant, shape, schedule, query_tile, key_tile, scalars (see `report`), device,
  kernels_compiled, first_call_ms (with compilation), median_ms, repeat: of this run on this machine,
  with --check also
    out_error, out_limit: the largest error of an output, relative to its largest magnitude,
    lse_error, lse_limit: the same of the log-sum-exp; absent where the accumulator has none,
    max_error, max_limit: the same of each row's maximum, by the kernel that gives it,
    passed: true or false
  An error that is not finite is null.";

const CHECK_JSON: &str = "\
JSON:
  device, dtype,
  cases: a list of
    name, variant (null where no variant is known for the case), passed,
    out_error, out_limit, lse_error, lse_limit (see `run`), or
    error: why there are none,
    with --device ptx also
      warp_instructions, memory: {kind: {requests, wavefronts, ideal_wavefronts, sectors, ideal_sectors}}: of the whole
      launch, for each kind of instruction that it has; wavefronts are of shared memory, sectors (of 32 bytes) of global
  golden_passed, golden_total, minilm_passed, minilm_total, passed (all of them),
  with --gallery also
    variants: a list likewise, of each variant at each shape: also shape (see `report`),
    variants_passed, variants_total
  with --backward: of the cases with gradients
    cases: a list of name, variant, passed, limit, gradients: a list of {of (its name in the case's file), error}; or error
    golden_passed, golden_total, passed
  With --lines, each case and each variant is a line, and so is the rest, which is the last";

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Lists the variants and their parameters
    #[command(after_long_help = LIST_JSON)]
    List,
    /// Prints a variant's tile program
    #[command(after_long_help = PROGRAM_JSON)]
    Program(ProgramFlags),
    /// Reports which tiles a variant visits, which of them need no mask, and what that costs
    #[command(after_long_help = REPORT_JSON)]
    Report(ReportFlags),
    /// Prints the kernel of a variant in a target's language
    #[command(after_long_help = EMIT_JSON)]
    Emit(EmitFlags),
    /// Counts the machine code that a variant's kernel becomes on NVIDIA's GPUs, by loop
    #[command(after_long_help = SASS_JSON)]
    Sass(SassFlags),
    /// Runs a variant on pseudo-random inputs
    #[command(after_long_help = RUN_JSON)]
    Run(RunFlags),
    /// Compares variants with results from elsewhere
    #[command(after_long_help = CHECK_JSON)]
    Check(CheckFlags),
}

#[derive(Args)]
pub(crate) struct ProgramFlags {
    #[command(flatten)]
    pub variant: VariantFlags,
    #[command(flatten)]
    pub kept: KeptFlags,
    #[command(flatten)]
    pub shape: ShapeFlags,
    /// The stage after which to print it, or `all` of them
    #[arg(long, default_value = SCHEDULE, value_parser = PossibleValuesParser::new(stages()))]
    pub stage: String,
    /// The programs that give its gradients
    #[arg(long, conflicts_with = "with")]
    pub backward: bool,
    /// Those of these gradients alone, of what is called so in the signature, or of `scale()` [default: all]
    #[arg(long, value_delimiter = ',', value_name = "NAMES", conflicts_with = "with")]
    pub of: Vec<String>,
}

#[derive(Args)]
pub(crate) struct ReportFlags {
    #[command(flatten)]
    pub variant: VariantFlags,
    #[command(flatten)]
    pub shape: ShapeFlags,
    #[command(flatten)]
    pub position: PositionFlags,
    /// Look at every pair: find the tiles that are needed, and fail if one is skipped or a full one hides a pair
    #[arg(long)]
    pub verify: bool,
    /// Also draw the tiles and the mask, as an SVG
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct EmitFlags {
    #[command(flatten)]
    pub variant: VariantFlags,
    #[command(flatten)]
    pub kept: KeptFlags,
    /// The language
    #[arg(long, value_parser = target())]
    pub target: Target,
    /// NVIDIA's compute capability, ten times it, for cuda and ptx [default: 80]
    #[arg(long, value_parser = compute_capability())]
    pub sm: Option<u32>,
    /// The schedule, where the target has it: cpu for the target cpu, mma for f16 and bf16 on cuda and ptx, cube for the others [default: the one it has]
    #[arg(long, value_name = "NAME", value_parser = ["cpu", "cube", "mma"])]
    pub schedule: Option<String>,
    /// Write it to a file; to one that ends in .spv the module instead of its disassembly
    #[arg(short = 'o', long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    #[command(flatten)]
    pub shape: ShapeFlags,
}

#[derive(Args)]
pub(crate) struct SassFlags {
    #[command(flatten)]
    pub variant: VariantFlags,
    /// The compute capability, ten times it
    #[arg(long, default_value = "80", value_parser = compute_capability())]
    pub sm: u32,
    /// Print the hot loop's instructions; where no loop has an HMMA, those of all innermost loops
    #[arg(long)]
    pub text: bool,
    #[command(flatten)]
    pub shape: ShapeFlags,
}

#[derive(Args)]
pub(crate) struct RunFlags {
    #[command(flatten)]
    pub variant: VariantFlags,
    /// Where to run it [default: the best there is]
    #[arg(long, value_parser = Device::NAMES)]
    pub device: Option<String>,
    #[command(flatten)]
    pub shape: ShapeFlags,
    #[command(flatten)]
    pub position: PositionFlags,
    /// What `scale()` is [default: 1/√D, where D is the sum of the head dims of the products that the first push's score is made of]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub scale: Option<f32>,
    /// Compare with the reference, which takes time proportional to queries times keys
    #[arg(long)]
    pub check: bool,
    /// How often to run it after the first time
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub repeat: u32,
}

#[derive(Args)]
pub(crate) struct CheckFlags {
    /// The directory of the cases: `manifest.json`, `minilm.json`, or both, and a file for each case
    #[arg(long, value_name = "DIR", required_unless_present = "gallery")]
    pub golden: Option<PathBuf>,
    /// Also every variant with its default arguments, against the reference: odd lengths, shared keys, few queries
    #[arg(long)]
    pub gallery: bool,
    /// The gradients of the golden cases that have some
    #[arg(long, requires = "golden", conflicts_with = "gallery")]
    pub backward: bool,
    /// Only the cases and variants of these names
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    pub cases: Vec<String>,
    /// Where to run them [default: the best there is]. `ptx` runs the text of the kernels for NVIDIA's GPUs, on the CPU
    #[arg(long, value_parser = PossibleValuesParser::new(Device::NAMES.into_iter().chain([PTX])))]
    pub device: Option<String>,
    /// NVIDIA's compute capability, ten times it, for the device ptx [default: 80]
    #[arg(long, value_parser = compute_capability())]
    pub sm: Option<u32>,
    /// The type of queries, keys and values
    #[arg(long, default_value = "f32", value_parser = element())]
    pub dtype: Element,
    /// Print each case as a line of JSON as soon as it is done, and the totals last
    #[arg(long, conflicts_with = "json")]
    pub lines: bool,
}

#[derive(Args)]
pub(crate) struct VariantFlags {
    /// The variant's name; `list` has them all
    #[arg(id = "variant", value_name = "VARIANT", hide_possible_values = true)]
    pub name: String,
    /// A scalar parameter's value; it has a default otherwise
    #[arg(short = 'p', long = "param", value_name = "NAME=VALUE", value_parser = assignment)]
    params: Vec<(String, String)>,
}

#[derive(Args)]
pub(crate) struct ShapeFlags {
    /// Queries
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = value_parser!(u32).range(..=MAX_LENGTH))]
    q: u32,
    /// Keys; with several sets of them, of each [default: as many as queries]
    #[arg(long, value_name = "N,…", value_delimiter = ',', value_parser = value_parser!(u32).range(..=MAX_LENGTH))]
    kv: Vec<u32>,
    /// Query heads
    #[arg(long, value_name = "H", default_value_t = 8, value_parser = value_parser!(u32).range(1..=MAX_HEADS))]
    heads: u32,
    /// Key and value heads, a divisor of the query heads [default: as many]
    #[arg(long, value_name = "H", value_parser = value_parser!(u32).range(1..=MAX_HEADS))]
    kv_heads: Option<u32>,
    /// The head dim of queries and keys
    #[arg(long, value_name = "D", default_value_t = 64, value_parser = value_parser!(u32).range(1..=MAX_HEAD_DIM as i64))]
    dim: u32,
    /// The head dim of values [default: that of queries]
    #[arg(long, value_name = "D", value_parser = value_parser!(u32).range(1..=MAX_HEAD_DIM as i64))]
    v_dim: Option<u32>,
    /// The head dim of one operand, where it is another; once for each
    #[arg(long, value_name = "NAME=D", value_parser = |text: &str| of_operand(text, MAX_HEAD_DIM as i64))]
    dim_of: Vec<(String, usize)>,
    /// The heads of one operand along keys, where they are others; once for each
    #[arg(long, value_name = "NAME=H", value_parser = |text: &str| of_operand(text, MAX_HEADS))]
    heads_of: Vec<(String, usize)>,
    /// Batches
    #[arg(long, value_name = "B", default_value_t = 1, value_parser = value_parser!(u32).range(..=MAX_HEADS))]
    batch: u32,
    /// The type of queries, keys and values
    #[arg(long, default_value = "f32", value_parser = element())]
    dtype: Element,
}

#[derive(Args)]
pub(crate) struct KeptFlags {
    /// What a launch gives beside or in place of the output: each row's maximum (`with_max`), or a partial result (`with_partial`)
    #[arg(long, value_name = "RESULT", value_parser = kept())]
    with: Option<Kept>,
}

#[derive(Args)]
pub(crate) struct PositionFlags {
    /// The first query's position [default: so that the last query is at the last key]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub q_offset: Option<i64>,
}

/// What `check` takes for a device besides [`Device::NAMES`]: kernels as PTX, run on the CPU.
pub(crate) const PTX: &str = "ptx";

/// The most queries or keys: positions have 32 bits.
const MAX_LENGTH: i64 = i32::MAX as i64;
/// The most heads or batches.
const MAX_HEADS: i64 = 1 << 16;
/// The most pairs of a query and a key, so that FLOPs fit 64 bits.
const MAX_PAIRS: u64 = 1 << 52;

fn stages() -> Vec<&'static str> {
    let passes = PASSES.iter().map(|pass| pass.name);
    std::iter::once(LOWER).chain(passes).chain([SCHEDULE, "all"]).collect()
}

fn element() -> impl TypedValueParser<Value = Element> {
    const ELEMENTS: [Element; 3] = [Element::F32, Element::F16, Element::Bf16];
    PossibleValuesParser::new(ELEMENTS.map(Element::name))
        .try_map(|name| ELEMENTS.into_iter().find(|element| element.name() == name).ok_or("not a type"))
}

fn kept() -> impl TypedValueParser<Value = Kept> {
    const KEPT: [(&str, Kept); 2] = [("max", Kept::LogSumExpAndMaximum), ("partial", Kept::Partial)];
    PossibleValuesParser::new(KEPT.map(|(name, _)| name))
        .try_map(|name| KEPT.into_iter().find(|(known, _)| *known == name).map(|(_, kept)| kept).ok_or("not a result"))
}

fn target() -> impl TypedValueParser<Value = Target> {
    PossibleValuesParser::new(Target::ALL.map(Target::name)).try_map(|name| name.parse::<Target>())
}

/// Of a device that there is a model of.
fn compute_capability() -> impl TypedValueParser<Value = u32> {
    PossibleValuesParser::new(["80", "90"]).try_map(|sm| sm.parse::<u32>())
}

fn assignment(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.trim().into(), value.trim().into())),
        _ => Err("expected NAME=VALUE".into()),
    }
}

/// An operand's name and a number from 1 to `most`.
fn of_operand(text: &str, most: i64) -> Result<(String, usize), String> {
    let (name, number) = assignment(text)?;
    match number.parse::<i64>() {
        Ok(number) if (1..=most).contains(&number) => Ok((name, number as usize)),
        _ => Err(format!("expected NAME=NUMBER, a number in 1..={most}")),
    }
}

/// `given`, of which no name may be there twice.
fn once(flag: &str, given: &[(String, usize)]) -> Result<Vec<(String, usize)>, Failure> {
    for (place, (name, _)) in given.iter().enumerate() {
        if given[..place].iter().any(|(other, _)| other == name) {
            return Err(Failure::Usage(format!("{flag} gives `{name}` twice")));
        }
    }
    Ok(given.to_vec())
}

/// The command line's grammar, in which a variant is one of the gallery's.
pub(crate) fn command(gallery: &Gallery) -> clap::Command {
    let names: Vec<&'static str> = gallery.variants.iter().map(|variant| variant.name).collect();
    // Products of matrices are what `sass` is for, and f32 has none.
    let command = CommandLine::command()
        .mut_subcommand("sass", |sass| sass.mut_arg("dtype", |dtype| dtype.default_value(Element::F16.name())));
    let own = gallery.commands.iter().map(|own| clap::Command::new(own.name).about(own.about));
    let command = command.subcommands(own);
    ["program", "report", "emit", "sass", "run"].into_iter().fold(command, |command, with_variant| {
        let names = names.clone();
        command.mut_subcommand(with_variant, |command| {
            command.mut_arg("variant", |arg| arg.value_parser(PossibleValuesParser::new(names)))
        })
    })
}

impl ShapeFlags {
    pub fn shape(&self) -> Result<Shape, Failure> {
        let keys = if self.kv.is_empty() { &[self.q][..] } else { &self.kv };
        // As many as there are in whole tiles of 256, which none exceeds.
        let padded = |length: u32| u64::from(length).next_multiple_of(256);
        let most_keys: u64 = keys.iter().map(|length| padded(*length)).sum();
        let sizes = [padded(self.q), most_keys, self.heads.into(), self.batch.into()];
        let pairs = sizes.into_iter().try_fold(1u64, u64::checked_mul);
        if pairs.is_none_or(|pairs| pairs > MAX_PAIRS) {
            return Err(Failure::Usage(format!("a shape of more than {MAX_PAIRS:.0e} pairs of a query and a key")));
        }
        Ok(Shape {
            batch: self.batch as usize,
            heads: self.heads as usize,
            kv_heads: self.kv_heads.unwrap_or(self.heads) as usize,
            queries: self.q as usize,
            keys: keys.iter().map(|length| *length as usize).collect(),
            qk_dim: self.dim as usize,
            v_dim: self.v_dim.unwrap_or(self.dim) as usize,
            element: self.dtype,
            dims: once("--dim-of", &self.dim_of)?,
            key_heads: once("--heads-of", &self.heads_of)?,
        })
    }
}

/// The device of that name, or the best.
pub(crate) fn device(name: Option<&str>) -> Result<Device, Error> {
    name.map_or_else(Device::best, Device::named)
}

/// A device for captured tensors, where nothing is run.
pub(crate) fn device_for_text() -> Result<Device, Error> {
    Device::cpu().or_else(|_| Device::best())
}

/// What a variant takes, for which it is made at a small shape.
pub(crate) fn specification(variant: &Variant, device: &Device) -> Result<Spec, Error> {
    Ok(at_shape(variant, device, Shape::new(1, 2, 64, 16))?.spec().clone())
}

/// The scalars' values where none are given; `None` for one that depends on the shape.
pub(crate) fn defaults(variant: &Variant, device: &Device) -> Result<Vec<Option<ScalarValue>>, Error> {
    let one = at_shape(variant, device, Shape::new(1, 2, 64, 16))?;
    let other = at_shape(variant, device, Shape::new(3, 4, 160, 32).with_kv_heads(2).with_queries(96))?;
    let pairs = one.scalars().iter().zip(other.scalars());
    Ok(pairs.map(|(one, other)| Some(*one).filter(|_| one == other)).collect())
}

fn at_shape(variant: &Variant, device: &Device, shape: Shape) -> Result<AnyAttention, Error> {
    (variant.make)(&Arguments::new(device.clone(), shape))
}

impl KeptFlags {
    /// `attention`, of which texts are of kernels that give what was asked for.
    pub fn of(&self, attention: AnyAttention) -> AnyAttention {
        attention.with_kept(self.with.unwrap_or_default())
    }
}

impl VariantFlags {
    /// The variant with its parameters, for `shape`.
    pub fn attention(&self, gallery: &Gallery, device: &Device, shape: &Shape) -> Result<AnyAttention, Failure> {
        let variant = gallery.variants.iter().find(|variant| variant.name == self.name);
        let variant = variant.ok_or_else(|| Failure::Usage(format!("there is no variant `{}`", self.name)))?;
        let mut arguments = Arguments::new(device.clone(), shape.clone());
        if !self.params.is_empty() {
            arguments.scalars = self.scalars(&specification(variant, device)?)?;
        }
        Ok((variant.make)(&arguments)?)
    }

    /// The values given for `spec`'s scalars.
    fn scalars(&self, spec: &Spec) -> Result<BTreeMap<String, f64>, Failure> {
        let mut scalars = BTreeMap::new();
        for (name, text) in &self.params {
            let Some(param) = spec.scalars.iter().find(|param| param.name == *name) else {
                return Err(Failure::Usage(format!("`{}` has no scalar `{name}`; {}", self.name, takes(spec))));
            };
            let value = parse(text, param.ty).map_err(|expected| {
                Failure::Usage(format!("`{name}` of `{}` is {text:?}, expected {expected}", self.name))
            })?;
            if scalars.insert(name.clone(), value).is_some() {
                return Err(Failure::Usage(format!("`{name}` is given twice")));
            }
        }
        Ok(scalars)
    }
}

fn takes(spec: &Spec) -> String {
    let params: Vec<String> =
        spec.scalars.iter().map(|param| format!("`{}` ({})", param.name, param.ty.name())).collect();
    if params.is_empty() { "it takes none".into() } else { format!("it takes {}", params.join(", ")) }
}

/// A scalar's value, or what is expected.
fn parse(text: &str, ty: ScalarType) -> Result<f64, String> {
    let integer = |low: i32| {
        let value = text.parse().ok().filter(|value| (low..=i32::MAX).contains(value));
        value.map(f64::from).ok_or_else(|| format!("an integer from {low} to {}", i32::MAX))
    };
    match ty {
        ScalarType::I32 => integer(i32::MIN),
        ScalarType::U32 => integer(0),
        ScalarType::F32 => match text.parse::<f32>() {
            Ok(value) if value.is_finite() => Ok(f64::from(value)),
            _ => Err("a finite number".into()),
        },
        ScalarType::Bool => match text {
            "true" | "1" => Ok(1.0),
            "false" | "0" => Ok(0.0),
            _ => Err("true or false".into()),
        },
    }
}
