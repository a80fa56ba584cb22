//! The process that runs PyTorch (`torch_side.py`, which is part of this program).

use crate::cases::{Case, Operand, Variant, copies};
use crate::environment;
use crate::json_process::JsonProcess;
use purview::Device;
use purview::ir::Element;
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// Says where the Python with PyTorch is; `./x bench --against torch` sets it to one that it makes, unless it is set.
pub const PYTHON: &str = "PURVIEW_TORCH_PYTHON";

const SCRIPT: &str = include_str!("torch_side.py");

/// The process, waiting for a request.
pub struct Torch {
    process: JsonProcess,
    /// PyTorch's version.
    pub version: String,
    /// What it computes on: so many threads, or the name of a GPU.
    pub hardware: String,
}

/// A way in which PyTorch computes an attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// `scaled_dot_product_attention`; on a GPU by FlashAttention-2 where that can be.
    Sdpa,
    /// The same by cuDNN, on a GPU.
    Cudnn,
    /// Compiled FlexAttention.
    Flex,
}

impl Way {
    /// All of them, in the order in which they take turns.
    pub const ALL: [Way; 3] = [Way::Sdpa, Way::Cudnn, Way::Flex];

    /// What the process calls it.
    pub fn name(self) -> &'static str {
        match self {
            Way::Sdpa => "sdpa",
            Way::Cudnn => "cudnn",
            Way::Flex => "flex",
        }
    }

    /// What people call it.
    pub fn title(self) -> &'static str {
        match self {
            Way::Sdpa => "SDPA",
            Way::Cudnn => "cuDNN",
            Way::Flex => "FlexAttention",
        }
    }
}

/// What PyTorch can do with a case, and what it gives.
pub struct Answer {
    /// The output of each way, in the order of [`Way::ALL`], or why there is none: nothing where nobody would expect one.
    pub outputs: [Result<Vec<f32>, String>; 3],
    /// Which of PyTorch's kernels SDPA is: `flash` where no other may be, or `any`, its own choice.
    pub sdpa_kernel: String,
    /// Whether FlexAttention needs a block mask.
    pub has_mask: bool,
    /// The milliseconds of FlexAttention's first call, its compilation included.
    pub flex_first: Option<f64>,
    /// Those of making its first block mask.
    pub flex_mask_first: Option<f64>,
}

impl Answer {
    /// Whether there is an output by `way`.
    pub fn can(&self, way: Way) -> bool {
        self.outputs[way as usize].is_ok()
    }

    /// The ways that one would expect and that there are not, each with the reason.
    pub fn without(&self) -> Vec<(Way, String)> {
        let reasons = Way::ALL.into_iter().zip(&self.outputs);
        reasons
            .filter_map(|(way, output)| Some((way, output.as_ref().err().filter(|why| !why.is_empty())?.clone())))
            .collect()
    }
}

impl Torch {
    /// Starts it for the device named so, with as many threads as there are `cores` where that is the CPU.
    ///
    /// # Errors
    /// A message where there is no Python with PyTorch, or it has no such device.
    pub fn open(device: &str, cores: usize) -> Result<Torch, String> {
        let python = python();
        let help =
            format!("./x bench --against torch sets PyTorch up, or set {PYTHON} to the path of a Python that has it");
        let mut process = JsonProcess::start("PyTorch", &help, |directory| {
            let script = directory.join("torch_side.py");
            fs::write(&script, SCRIPT)?;
            let mut command = Command::new(&python);
            command.arg(script);
            Ok(command)
        })?;
        let cache = process.file("inductor");
        let opened = process
            .ask(&json!({ "operation": "open", "device": device, "threads": cores, "cache": cache }))
            .map_err(|error| format!("{}: {error} ({help})", python.display()))?;
        let said = |what: &str| opened[what].as_str().unwrap_or("?").to_string();
        Ok(Torch { process, version: said("torch"), hardware: said("hardware") })
    }

    /// What it says of the machine: its versions, and the rates of its matrix products and copies.
    ///
    /// # Errors
    /// A message where it failed.
    pub fn machine(&mut self) -> Result<Value, String> {
        self.process.ask(&json!({ "operation": "machine" }))
    }

    /// The GFLOP/s of its product of two large matrices of `element`.
    ///
    /// # Errors
    /// A message where it failed.
    pub fn matmul_peak(&mut self, element: Element) -> Result<f64, String> {
        let answer = self.process.ask(&json!({ "operation": "matmul", "dtype": element.name() }))?;
        answer["gflops"].as_f64().ok_or_else(|| format!("PyTorch gave no rate: {answer}"))
    }

    /// Gives it a case with operands of `element`, and takes what it computes; by FlexAttention, which has to be compiled, only
    /// `with_flex`.
    ///
    /// # Errors
    /// A message where it failed in another way than by not being able to.
    pub fn set_case(
        &mut self,
        case: &Case,
        device: &Device,
        element: Element,
        with_flex: bool,
    ) -> Result<Answer, String> {
        let process = &mut self.process;
        let operand = |name: &str, operand: Operand| {
            let [_, heads, length, dim] = case.dimensions(operand);
            process.write(name, &case.operand(operand), &[1, heads, length, dim], f32::to_le_bytes)
        };
        let mut request = json!({
            "operation": "case",
            "variant": case.describe(),
            "batch": case.batch,
            "query": operand("query", Operand::Query)?,
            "key": operand("key", Operand::Key)?,
            "value": operand("value", Operand::Value)?,
            "dtype": element.name(),
            "copies": copies(case, device, element),
            "with_flex": with_flex,
            "outputs": Way::ALL.map(|way| (way.name().to_string(), json!(process.file(way.name()))))
                .into_iter().collect::<serde_json::Map<_, _>>(),
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
        let output = |way: Way| match answer["without"][way.name()].as_str() {
            None => process.read(way.name()).map(Ok),
            Some(reason) => Ok(Err(reason.to_string())),
        };
        let [sdpa, cudnn, flex] = Way::ALL.map(output);
        Ok(Answer {
            outputs: [sdpa?, cudnn?, flex?],
            sdpa_kernel: answer["sdpa_kernel"].as_str().unwrap_or("any").into(),
            has_mask: answer["has_mask"] == true,
            flex_first: answer["first"]["flex_ms"].as_f64(),
            flex_mask_first: answer["first"]["mask_ms"].as_f64(),
        })
    }

    /// The milliseconds of one of so many calls of `what`: a way's name, or `flex_mask`.
    ///
    /// # Errors
    /// A message where it failed.
    pub fn time(&mut self, what: &str, calls: usize) -> Result<f64, String> {
        self.process.time(&json!({ "operation": "time", "what": what, "calls": calls }))
    }
}

/// The Python to start: what the environment says, the one that `x` sets up where it has, or `python3`.
pub fn python() -> PathBuf {
    environment::path(PYTHON).unwrap_or_else(|| {
        let home = || environment::path("HOME").map(|home| home.join(".cache/purview"));
        let set_up = environment::path("PURVIEW_DATA").or_else(home).map(|data| data.join("torch/bin/python"));
        set_up.filter(|python| python.exists()).unwrap_or_else(|| "python3".into())
    })
}
