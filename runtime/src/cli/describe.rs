//! `list`, `program` and `report`: what needs no run.

use super::arguments::{ProgramFlags, ReportFlags, device_for_text, specification};
use super::{Failure, Gallery, SUCCESS, print_json};
use crate::shape::Shape;
use purview_compiler::report::{LoopReport, Report, Tiles};
use purview_compiler::schedule::Schedule;
use purview_compiler::spec::Spec;
use serde_json::{Value, json};
use std::io::Write;

pub(super) fn list(gallery: &Gallery, json: bool, out: &mut dyn Write) -> Result<u8, Failure> {
    let device = device_for_text()?;
    let specs = gallery.variants.iter().map(|variant| Ok((variant.name, specification(variant, &device)?)));
    let specs = specs.collect::<Result<Vec<(&str, Spec)>, Failure>>()?;
    if json {
        let variants: Vec<Value> = specs.iter().map(|(name, spec)| variant_json(name, spec)).collect();
        print_json(out, &json!({ "variants": variants }))?;
        return Ok(SUCCESS);
    }
    let width = specs.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, spec) in &specs {
        writeln!(out, "{name:width$}  {}", first_sentence(&spec.doc))?;
        let parameters = parameters(spec);
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

/// A specification's scalars and captured tensors, as they are declared; and its pairs, if there are several.
fn parameters(spec: &Spec) -> Vec<String> {
    let several = if spec.pairs.len() > 1 { &spec.pairs[..] } else { &[] };
    let pairs = several.iter().map(|pair| format!("{}: Key, {}: Value", pair.key, pair.value));
    let scalars = spec.scalars.iter().map(|param| {
        let comptime = if param.comptime { "#[comptime] " } else { "" };
        format!("{comptime}{}: {}", param.name, param.ty.name())
    });
    let tensors =
        spec.tensors.iter().map(|param| format!("{}: Tensor<{}, {}>", param.name, param.ty.name(), param.rank));
    pairs.chain(scalars).chain(tensors).collect()
}

fn variant_json(name: &str, spec: &Spec) -> Value {
    let pairs = spec.pairs.iter().map(|pair| json!({ "key": pair.key, "value": pair.value }));
    let scalars = spec.scalars.iter();
    let scalars =
        scalars.map(|param| json!({ "name": param.name, "type": param.ty.name(), "comptime": param.comptime }));
    let tensors = spec.tensors.iter();
    let tensors = tensors.map(|param| json!({ "name": param.name, "type": param.ty.name(), "rank": param.rank }));
    json!({
        "name": name,
        "doc": spec.doc,
        "accumulator": spec.accumulator.name(),
        "pairs": pairs.collect::<Vec<_>>(),
        "scalars": scalars.collect::<Vec<_>>(),
        "tensors": tensors.collect::<Vec<_>>(),
    })
}

pub(super) fn program(gallery: &Gallery, flags: &ProgramFlags, json: bool, out: &mut dyn Write) -> Result<u8, Failure> {
    let shape = flags.shape.shape()?;
    let attention = flags.variant.attention(gallery, &device_for_text()?, &shape)?;
    let mut stages = attention.stages(&shape)?;
    stages.retain(|(stage, _)| flags.stage == "all" || flags.stage == *stage);
    if json {
        let stages = stages.iter().map(|(stage, program)| json!({ "stage": stage, "text": program.to_string() }));
        let (name, stages) = (&flags.variant.name, stages.collect::<Vec<_>>());
        print_json(out, &json!({ "variant": name, "shape": shape_json(&shape), "stages": stages }))?;
        return Ok(SUCCESS);
    }
    for (place, (stage, program)) in stages.iter().enumerate() {
        if stages.len() > 1 {
            writeln!(out, "{}// after {stage}", if place == 0 { "" } else { "\n" })?;
        }
        writeln!(out, "{}", program.to_string().trim_end())?;
    }
    Ok(SUCCESS)
}

pub(super) fn report(gallery: &Gallery, flags: &ReportFlags, json: bool, out: &mut dyn Write) -> Result<u8, Failure> {
    let shape = flags.shape.shape()?;
    let mut attention = flags.variant.attention(gallery, &device_for_text()?, &shape)?;
    if let Some(offset) = flags.position.q_offset {
        attention = attention.with_query_offset(offset);
    }
    let report = attention.report(&shape)?;
    if json {
        print_json(out, &report_json(&flags.variant.name, &report, &shape))?;
    } else {
        write!(out, "{report}")?;
        writeln!(out, "  shape      {}", shape_text(&shape))?;
    }
    Ok(SUCCESS)
}

fn report_json(name: &str, report: &Report, shape: &Shape) -> Value {
    let mut value = json!({
        "variant": name,
        "shape": shape_json(shape),
        "pairs": report.pairs,
        "visible_pairs": report.visible_pairs,
        "density": report.density(),
        "executed_flops": report.executed_flops,
        "useful_flops": report.useful_flops,
        "loops": report.loops.iter().map(loop_json).collect::<Vec<_>>(),
    });
    extend(&mut value, schedule_json(report.schedule));
    extend(&mut value, tiles_json(report.tiles));
    value
}

fn loop_json(key_loop: &LoopReport) -> Value {
    let mut value = json!({
        "key": key_loop.key,
        "mask": key_loop.mask,
        "visit": key_loop.visit,
        "full": key_loop.full,
        "class": key_loop.class.as_ref().map(|(some, all)| json!({ "some": some, "all": all })),
        "picture": key_loop.picture,
    });
    extend(&mut value, tiles_json(key_loop.tiles));
    value
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

pub(super) fn schedule_json(schedule: Schedule) -> Value {
    json!({ "schedule": schedule.name(), "query_tile": schedule.query_tile(), "key_tile": schedule.key_tile() })
}

pub(super) fn shape_json(shape: &Shape) -> Value {
    json!({
        "batch": shape.batch,
        "heads": shape.heads,
        "kv_heads": shape.kv_heads,
        "q": shape.queries,
        "kv": shape.keys,
        "dim": shape.qk_dim,
        "v_dim": shape.v_dim,
        "dtype": shape.element.name(),
    })
}

/// `batch 1, 8 heads on 2, 1024 queries, 1024 keys, head dim 64, f32`.
pub(super) fn shape_text(shape: &Shape) -> String {
    let on = if shape.kv_heads == shape.heads { String::new() } else { format!(" on {}", shape.kv_heads) };
    let keys: Vec<String> = shape.keys.iter().map(usize::to_string).collect();
    let of_values = if shape.v_dim == shape.qk_dim { String::new() } else { format!(", of values {}", shape.v_dim) };
    format!(
        "batch {}, {} heads{on}, {} queries, {} keys, head dim {}{of_values}, {}",
        shape.batch,
        shape.heads,
        shape.queries,
        keys.join(" and "),
        shape.qk_dim,
        shape.element.name()
    )
}

/// Adds the fields of `more`, an object, to `value`, another.
pub(super) fn extend(value: &mut Value, more: Value) {
    if let (Value::Object(fields), Value::Object(more)) = (value, more) {
        fields.extend(more);
    }
}
