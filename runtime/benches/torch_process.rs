//! The process that runs PyTorch (`torch_side.py`).

use crate::cases::{Case, Operand, Variant, copies};
use crate::json_process::JsonProcess;
use purview::Device;
use purview::ir::Element;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Says where the Python with PyTorch is; `./x bench --against torch` makes one and sets it.
const PYTHON: &str = "PURVIEW_TORCH_PYTHON";

/// The process, waiting for a request.
pub struct Torch {
    process: JsonProcess,
    /// PyTorch's version.
    pub version: String,
    /// What it computes on: so many threads, or the name of a GPU.
    pub hardware: String,
}

/// What PyTorch can do with a case, and what it gives.
pub struct Answer {
    /// The output of `scaled_dot_product_attention`, or why there is none.
    pub sdpa: Result<Vec<f32>, String>,
    /// Which of PyTorch's kernels that is: `flash` where no other may be, or `any`, its own choice.
    pub sdpa_kernel: String,
    /// That of FlexAttention, or why there is none.
    pub flex: Result<Vec<f32>, String>,
    /// Whether FlexAttention needs a block mask.
    pub has_mask: bool,
    /// The milliseconds of FlexAttention's first call, its compilation included.
    pub flex_first: Option<f64>,
    /// Those of making its first block mask.
    pub flex_mask_first: Option<f64>,
}

impl Torch {
    /// Whether there is the Python that would be started.
    pub fn is_set_up() -> bool {
        std::env::var_os(PYTHON).is_some() || python().exists()
    }

    /// Starts it for the device named so, with as many threads as there are `cores` where that is the CPU.
    ///
    /// # Errors
    /// A message where there is no Python with PyTorch, or it has no such device.
    pub fn open(device: &str, cores: usize) -> Result<Torch, String> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/torch_side.py");
        let help =
            format!("./x bench --against torch sets PyTorch up, or set {PYTHON} to the path of a Python that has it");
        let mut process = JsonProcess::start("PyTorch", Command::new(python()).arg(&script), &help)?;
        let cache = process.file("inductor");
        let opened =
            process.ask(&json!({ "operation": "open", "device": device, "threads": cores, "cache": cache }))?;
        let said = |what: &str| opened[what].as_str().unwrap_or("?").to_string();
        Ok(Torch { process, version: said("torch"), hardware: said("hardware") })
    }

    /// Gives it a case with operands of `element`, and takes what it computes.
    ///
    /// # Errors
    /// A message where it failed in another way than by not being able to.
    pub fn set_case(&mut self, case: &Case, device: &Device, element: Element) -> Result<Answer, String> {
        let process = &mut self.process;
        let operand = |name: &str, operand: Operand| {
            process.write(name, &case.operand(operand), &case.dimensions(operand), f32::to_le_bytes)
        };
        let mut request = json!({
            "operation": "case",
            "device": device.name(),
            "variant": case.describe(),
            "query": operand("query", Operand::Query)?,
            "key": operand("key", Operand::Key)?,
            "value": operand("value", Operand::Value)?,
            "dtype": element.name(),
            "copies": copies(case, device, element),
            "sdpa_file": process.file("sdpa"),
            "flex_file": process.file("flex"),
        });
        if let Variant::Documents { .. } = case.variant {
            let documents = case.documents();
            request["documents"] = process.write("documents", &documents, &[documents.len()], i32::to_le_bytes)?;
        }
        if let Variant::AlibiCausal = case.variant {
            let slopes = case.slopes();
            request["slopes"] = process.write("slopes", &slopes, &[slopes.len()], f32::to_le_bytes)?;
        }
        let answer = process.ask(&request)?;
        let output = |side: &str| {
            if answer[side] == true {
                process.read(side).map(Ok)
            } else {
                let reason = answer[format!("{side}_without")].as_str().unwrap_or("PyTorch does not say why");
                Ok::<_, String>(Err(reason.to_string()))
            }
        };
        Ok(Answer {
            sdpa: output("sdpa")?,
            sdpa_kernel: answer["sdpa_kernel"].as_str().unwrap_or("any").into(),
            flex: output("flex")?,
            has_mask: answer["mask"] == true,
            flex_first: answer["first"]["flex_ms"].as_f64(),
            flex_mask_first: answer["first"]["mask_ms"].as_f64(),
        })
    }

    /// The milliseconds of one of so many calls of `what`: `sdpa`, `flex` or `flex_mask`.
    ///
    /// # Errors
    /// A message where it failed.
    pub fn time(&mut self, what: &str, calls: usize) -> Result<f64, String> {
        self.process.time(&json!({ "operation": "time", "what": what, "calls": calls }))
    }
}

/// The Python to start: what the environment says, or the one that `x` sets up.
fn python() -> PathBuf {
    std::env::var_os(PYTHON).map(PathBuf::from).unwrap_or_else(|| {
        let data = std::env::var_os("PURVIEW_DATA").map(PathBuf::from);
        let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache/purview");
        data.unwrap_or_else(home).join("torch/bin/python")
    })
}
