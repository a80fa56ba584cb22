//! `emit`: a kernel's text, for a device that is not here.

use crate::arguments::{EmitFlags, device_for_text};
use crate::describe::{extend, schedule_json, shape_json};
use crate::{Failure, Gallery, SUCCESS, print_json};
use purview_compiler::device_model::{DeviceModel, Family};
use purview_compiler::target::{KernelText, Target};
use serde_json::json;
use std::io::Write;
use std::path::Path;

pub(crate) fn emit(gallery: &Gallery, flags: &EmitFlags, json: bool, out: &mut dyn Write) -> Result<u8, Failure> {
    let shape = flags.shape.shape()?;
    let target = flags.target;
    let model = model(flags)?;
    let attention = flags.kept.of(flags.variant.attention(gallery, &device_for_text()?, &shape)?);
    let schedule = attention.schedule_for(target, &model, &shape)?;
    if let Some(wanted) = &flags.schedule
        && wanted != schedule.name()
    {
        let has = schedule.name();
        return Err(Failure::Usage(format!("`{target}` has no kernel with the schedule `{wanted}`, but with `{has}`")));
    }
    let kernel = attention.kernel_text(target, &model, &shape)?;
    if let Some(path) = &flags.output {
        let failed = |error| Failure::File { path: path.clone(), error };
        return std::fs::write(path, contents(&kernel, path)).map(|()| SUCCESS).map_err(failed);
    }
    if json {
        let mut value = json!({
            "variant": flags.variant.name,
            "shape": shape_json(&shape),
            "target": target.name(),
            "device": model.name,
            "sm": sm(&model),
            "text": kernel.text,
        });
        extend(&mut value, schedule_json(schedule));
        print_json(out, &value)?;
    } else {
        out.write_all(kernel.text.as_bytes())?;
    }
    Ok(SUCCESS)
}

/// The module for a file that is named as one, else the text.
fn contents(kernel: &KernelText, path: &Path) -> Vec<u8> {
    match &kernel.words {
        Some(words) if path.extension().is_some_and(|extension| extension == "spv") => {
            words.iter().flat_map(|word| word.to_le_bytes()).collect()
        }
        _ => kernel.text.as_bytes().to_vec(),
    }
}

fn model(flags: &EmitFlags) -> Result<DeviceModel, Failure> {
    let Some(sm) = flags.sm else { return Ok(flags.target.default_model()) };
    if !matches!(flags.target, Target::Cuda | Target::Ptx) {
        return Err(Failure::Usage(format!("--sm is for the targets cuda and ptx, not {}", flags.target)));
    }
    DeviceModel::nvidia_sm(sm).ok_or_else(|| Failure::Usage(format!("there is no model of sm_{sm}")))
}

fn sm(model: &DeviceModel) -> Option<u32> {
    match model.family {
        Family::Nvidia { sm } => Some(sm),
        _ => None,
    }
}
