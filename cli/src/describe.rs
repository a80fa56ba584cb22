//! `list`, `program` and `report`: what needs no run.

use crate::arguments::{ProgramFlags, ReportFlags, defaults, device_for_text, specification};
use crate::{Failure, Gallery, SUCCESS, print_json};
use purview::{AnyAttention, Shape};
use purview_compiler::report::{self, LoopReport, PICTURE_COLUMNS, Report, Tiles};
use purview_compiler::schedule::Schedule;
use purview_compiler::spec::{Role, ScalarValue, Spec};
use purview_compiler::svg::svg;
use serde_json::{Value, json};
use std::io::Write;

pub(crate) fn list(gallery: &Gallery, json: bool, out: &mut dyn Write) -> Result<u8, Failure> {
    let device = device_for_text()?;
    let specs = gallery
        .variants
        .iter()
        .map(|variant| Ok((variant.name, specification(variant, &device)?, defaults(variant, &device)?)))
        .collect::<Result<Vec<_>, Failure>>()?;
    if json {
        let variants: Vec<Value> =
            specs.iter().map(|(name, spec, defaults)| variant_json(name, spec, defaults)).collect();
        print_json(out, &json!({ "variants": variants }))?;
        return Ok(SUCCESS);
    }
    let width = specs.iter().map(|(name, ..)| name.len()).max().unwrap_or(0);
    for (name, spec, defaults) in &specs {
        writeln!(out, "{name:width$}  {}", first_sentence(&spec.doc))?;
        let parameters = parameters(spec, defaults);
        if !parameters.is_empty() {
            writeln!(out, "{:width$}  {}", "", parameters.join(", "))?;
        }
    }
    Ok(SUCCESS)
}

/// The first sentence of a doc comment, on one line.
fn first_sentence(doc: &str) -> String {
    let paragraph: Vec<&str> = doc.trim().lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
    let paragraph = paragraph.join(" ");
    let end = paragraph.find(". ").map_or(paragraph.len(), |dot| dot + 1);
    paragraph[..end].to_string()
}

/// A specification's scalars, with their defaults, and captured tensors, as they are declared; and what lies along queries and keys, if that
/// is more than one each of queries, keys and values.
fn parameters(spec: &Spec, defaults: &[Option<ScalarValue>]) -> Vec<String> {
    let pairs = spec.pairs();
    let operands = spec.operands.iter().filter(|operand| match &pairs {
        Some((_, pairs)) => pairs.len() > 1 && operand.role != Role::Query,
        None => true,
    });
    let operands =
        operands.map(|operand| format!("{}: {}", operand.name, role_name(operand.role, "Query", "Key", "Value")));
    let scalars = spec.scalars.iter().zip(defaults).map(|(param, default)| {
        let comptime = if param.comptime { "#[comptime] " } else { "" };
        let default = default.map_or(String::new(), |value| format!(" = {}", scalar_json(value)));
        format!("{comptime}{}: {}{default}", param.name, param.ty.name())
    });
    let tensors = spec.tensors.iter().map(|param| {
        let sorted = if param.order.is_sorted() { "#[sorted] " } else { "" };
        format!("{sorted}{}: Tensor<{}, {}>", param.name, param.ty.name(), param.rank)
    });
    operands.chain(scalars).chain(tensors).collect()
}

fn role_name(role: Role, query: &'static str, key: &'static str, value: &'static str) -> &'static str {
    match role {
        Role::Query => query,
        Role::Key(_) => key,
        Role::Value(_) => value,
    }
}

fn variant_json(name: &str, spec: &Spec, defaults: &[Option<ScalarValue>]) -> Value {
    let pairs = spec.pair_names().into_iter().map(|pair| json!({ "key": pair.key, "value": pair.value }));
    let scalars = spec.scalars.iter().zip(defaults).map(|(param, default)| {
        let default = default.map(scalar_json);
        json!({ "name": param.name, "type": param.ty.name(), "comptime": param.comptime, "default": default })
    });
    let accumulators: Vec<&str> = spec.accumulators.iter().map(|accumulator| accumulator.kind.name()).collect();
    let operands = spec.operands.iter().map(|operand| {
        let role = role_name(operand.role, "query", "key", "value");
        json!({ "name": operand.name, "role": role, "set": operand.role.set() })
    });
    let tensors = spec.tensors.iter();
    let tensors = tensors.map(|param| json!({ "name": param.name, "type": param.ty.name(), "rank": param.rank, "sorted": param.order.is_sorted() }));
    json!({
        "name": name,
        "doc": spec.doc,
        "accumulator": accumulators.join(", "),
        "operands": operands.collect::<Vec<_>>(),
        "pairs": pairs.collect::<Vec<_>>(),
        "scalars": scalars.collect::<Vec<_>>(),
        "tensors": tensors.collect::<Vec<_>>(),
    })
}

pub(crate) fn program(gallery: &Gallery, flags: &ProgramFlags, json: bool, out: &mut dyn Write) -> Result<u8, Failure> {
    let shape = flags.shape.shape()?;
    let attention = flags.kept.of(flags.variant.attention(gallery, &device_for_text()?, &shape)?);
    let mut stages: Vec<(&str, String)> = if flags.backward || !flags.of.is_empty() {
        let names: Vec<&str> = flags.of.iter().map(String::as_str).collect();
        let stages = attention.backward_stages(&shape, Some(&names[..]).filter(|names| !names.is_empty()))?;
        stages.into_iter().map(|(stage, programs)| (stage, programs.join("\n"))).collect()
    } else {
        attention.stages(&shape)?
    };
    stages.retain(|(stage, _)| flags.stage == "all" || flags.stage == *stage);
    if json {
        let stages = stages.iter().map(|(stage, text)| json!({ "stage": stage, "text": text }));
        let (name, stages) = (&flags.variant.name, stages.collect::<Vec<_>>());
        print_json(out, &json!({ "variant": name, "shape": shape_json(&shape), "stages": stages }))?;
        return Ok(SUCCESS);
    }
    for (place, (stage, text)) in stages.iter().enumerate() {
        if stages.len() > 1 {
            writeln!(out, "{}// after {stage}", if place == 0 { "" } else { "\n" })?;
        }
        writeln!(out, "{}", text.trim_end())?;
    }
    Ok(SUCCESS)
}

pub(crate) fn report(
    gallery: &Gallery,
    flags: &ReportFlags,
    json: bool,
    columns: usize,
    out: &mut dyn Write,
) -> Result<u8, Failure> {
    let shape = flags.shape.shape()?;
    let mut attention = flags.variant.attention(gallery, &device_for_text()?, &shape)?;
    if let Some(offset) = flags.position.q_offset {
        attention = attention.with_query_offset(offset);
    }
    let report = if flags.verify { attention.report_verified(&shape)? } else { attention.report(&shape)? };
    if let Some(path) = &flags.svg {
        let drawn = svg(&report, &report.shape);
        std::fs::write(path, drawn).map_err(|error| Failure::File { path: path.clone(), error })?;
    }
    if json {
        let mut value = report_json(&flags.variant.name, &report, &shape);
        extend(&mut value, scalars_json(&attention));
        print_json(out, &value)?;
    } else {
        write!(out, "{}", report.text(columns.saturating_sub(INDENT)))?;
    }
    Ok(SUCCESS)
}

/// The columns before a picture.
pub(crate) const INDENT: usize = 6;

fn report_json(name: &str, report: &Report, shape: &Shape) -> Value {
    let masked = report.masked_rows.as_ref().map(|masked| {
        let positions: Vec<Value> = masked.positions.iter().map(|range| json!([range.start(), range.end()])).collect();
        json!({ "count": masked.count, "positions": positions })
    });
    let notes = report.notes.iter();
    let notes = notes.map(|note| json!({ "location": note.location.to_string(), "message": note.message }));
    let mut value = json!({
        "variant": name,
        "shape": shape_json(shape),
        "needed_tiles": report.needed_tiles,
        "missed_full_tiles": report.missed_full_tiles,
        "pairs": report.pairs,
        "visible_pairs": report.visible_pairs,
        "density": report.density(),
        "masked_rows": masked,
        "executed_flops": report.executed_flops,
        "useful_flops": report.useful_flops,
        "bytes": report.bytes,
        "mask_bytes": report.mask_bytes,
        "notes": notes.collect::<Vec<_>>(),
        "loops": report.loops.iter().map(loop_json).collect::<Vec<_>>(),
    });
    extend(&mut value, schedule_json(report.schedule));
    extend(&mut value, tiles_json(report.tiles));
    value
}

fn loop_json(key_loop: &LoopReport) -> Value {
    let pushes = key_loop.pushes.iter();
    let pushes = pushes.map(|(accumulator, mask)| json!({ "accumulator": accumulator, "mask": mask }));
    let mut value = json!({
        "key": key_loop.key,
        "mask": key_loop.mask,
        "pushes": pushes.collect::<Vec<_>>(),
        "visit": key_loop.visit,
        "full": key_loop.full,
        "kind": key_loop.kind.as_ref().map(|(some, all)| json!({ "some": some, "all": all })),
        "undecided": key_loop.undecided,
        "needed_tiles": key_loop.needed_tiles,
        "missed_full_tiles": key_loop.missed_full_tiles,
        "picture": key_loop.picture.lines(PICTURE_COLUMNS),
    });
    extend(&mut value, tiles_json(key_loop.tiles));
    value
}

/// The values that an attention has for its scalars: `window 256, shift 0`.
pub(crate) fn scalars_text(attention: &AnyAttention) -> Option<String> {
    let scalars = attention.spec().scalars.iter().zip(attention.scalars());
    report::scalars_text(scalars.map(|(param, value)| (param.name.as_str(), *value)))
}

/// The same as an object in the field `scalars`.
pub(crate) fn scalars_json(attention: &AnyAttention) -> Value {
    let scalars = attention.spec().scalars.iter().zip(attention.scalars());
    let scalars: serde_json::Map<String, Value> =
        scalars.map(|(param, value)| (param.name.clone(), scalar_json(*value))).collect();
    json!({ "scalars": scalars })
}

fn scalar_json(value: ScalarValue) -> Value {
    match value {
        ScalarValue::I32(value) => json!(value),
        ScalarValue::U32(value) => json!(value),
        ScalarValue::F32(value) => json!(value),
        ScalarValue::Bool(value) => json!(value),
    }
}

fn tiles_json(tiles: Tiles) -> Value {
    json!({
        "total_tiles": tiles.total,
        "visited_tiles": tiles.visited,
        "full_tiles": tiles.full,
        "partial_tiles": tiles.partial(),
        "skipped_tiles": tiles.skipped(),
    })
}

pub(crate) fn schedule_json(schedule: Schedule) -> Value {
    json!({ "schedule": schedule.name(), "query_tile": schedule.query_tile(), "key_tile": schedule.key_tile() })
}

pub(crate) fn shape_json(shape: &Shape) -> Value {
    let mut value = json!({
        "batch": shape.batch,
        "heads": shape.heads,
        "kv_heads": shape.kv_heads,
        "q": shape.queries,
        "kv": shape.keys,
        "dim": shape.qk_dim,
        "v_dim": shape.v_dim,
        "dtype": shape.element.name(),
    });
    for (field, of_operands) in [("dims", &shape.dims), ("key_heads", &shape.key_heads)] {
        if !of_operands.is_empty() {
            let of_operands = of_operands.iter().map(|(name, number)| (name.clone(), json!(number)));
            extend(&mut value, json!({ field: of_operands.collect::<serde_json::Map<_, _>>() }));
        }
    }
    value
}

/// `batch 1, 8 heads on 2, 1024 queries, 1024 keys, head dim 64, f32`, and where single operands have others, also
/// `; head dim of q_rope 32, of k_rope 32; heads of k_rope 1`.
pub(crate) fn shape_text(shape: &Shape) -> String {
    let heads = (shape.batch, shape.heads, shape.kv_heads);
    let mut text = report::shape_text(heads, shape.queries, &shape.keys, shape.operands());
    for (what, of_operands) in [("head dim", &shape.dims), ("heads", &shape.key_heads)] {
        if !of_operands.is_empty() {
            let each: Vec<String> = of_operands.iter().map(|(name, number)| format!("of {name} {number}")).collect();
            text += &format!("; {what} {}", each.join(", "));
        }
    }
    text
}

/// Adds the fields of `more`, an object, to `value`, another.
pub(crate) fn extend(value: &mut Value, more: Value) {
    if let (Value::Object(fields), Value::Object(more)) = (value, more) {
        fields.extend(more);
    }
}
