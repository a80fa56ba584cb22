//! The table of cases that all benches measure: variants of the gallery at the shapes that matter, with inputs that are the same
//! in every process.

use crate::device::is_gpu;
use crate::turns;
use half::{bf16, f16};
use purview::ir::Element;
use purview::{AnyAttention, Device, Error, Shape, Tensor};
use purview_examples::alibi_causal::{alibi_causal, slope};
use purview_examples::causal::causal;
use purview_examples::chunked::chunked;
use purview_examples::document_causal::document_causal;
use purview_examples::full::full;
use purview_examples::prefix_lm::prefix_lm;
use purview_examples::sliding_window::sliding_window;
use purview_examples::tanh_softcap::tanh_softcap;
use serde_json::{Value, json};

/// The most queries of a shape that counts as decoding: it reads far more than it computes.
const MOST_DECODED: usize = 16;

/// What a query sees and how a score is formed, with the values of the scalars.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Variant {
    /// Every key.
    Full,
    /// Itself and what is before.
    Causal,
    /// Itself and the `window - 1` keys before it.
    SlidingWindow {
        /// Keys that a query sees.
        window: u32,
    },
    /// What is before in its own chunk.
    Chunked {
        /// Positions in a chunk.
        chunk: u32,
    },
    /// What is before in its own document, of documents packed into one sequence.
    Documents {
        /// Tokens in a document; the last one may be shorter.
        tokens: usize,
    },
    /// Causal with a linear bias by distance.
    AlibiCausal,
    /// Causal with scores capped by a hyperbolic tangent.
    SoftCap {
        /// The greatest absolute score.
        cap: f32,
    },
    /// A prefix that everyone sees, and what is before.
    PrefixLm {
        /// Positions in the prefix.
        prefix: u32,
    },
}

/// A variant at a shape.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Its name: the variant's, then S×D, or H×S×D of those for GPUs. When decoding for GPUs, B and then T×D.
    pub name: &'static str,
    /// The variant.
    pub variant: Variant,
    /// B. All batches have the same numbers.
    pub batch: usize,
    /// H.
    pub heads: usize,
    /// G.
    pub kv_heads: usize,
    /// S.
    pub queries: usize,
    /// T.
    pub keys: usize,
    /// D of queries, keys and values.
    pub dim: usize,
    /// Whether it is among those compared with PyTorch where nobody chooses.
    pub in_comparison: bool,
    /// Whether it is so large that, where nobody chooses, only a GPU gets it.
    pub for_gpus: bool,
}

/// A case of 8 heads with as many keys as queries.
const fn case(name: &'static str, variant: Variant, length: usize, dim: usize) -> Case {
    Case {
        name,
        variant,
        batch: 1,
        heads: 8,
        kv_heads: 8,
        queries: length,
        keys: length,
        dim,
        in_comparison: false,
        for_gpus: false,
    }
}

impl Case {
    /// Compared with PyTorch by default.
    const fn compared(self) -> Case {
        Case { in_comparison: true, ..self }
    }

    /// 32 heads, to fill a GPU, which nothing else gets by default.
    const fn for_gpus(self) -> Case {
        Case { heads: 32, kv_heads: 32, for_gpus: true, in_comparison: true, ..self }
    }

    /// 32 query heads on 8 key heads.
    const fn grouped(self) -> Case {
        Case { heads: 32, kv_heads: 8, ..self }
    }

    /// The last `queries` positions against a cache of the others.
    const fn decoding(self, queries: usize) -> Case {
        Case { queries, ..self }
    }

    /// So many sequences.
    const fn batches(self, batch: usize) -> Case {
        Case { batch, ..self }
    }
}

const WINDOW: Variant = Variant::SlidingWindow { window: 256 };
const WIDE_WINDOW: Variant = Variant::SlidingWindow { window: 1024 };
const CHUNKED: Variant = Variant::Chunked { chunk: 512 };
const DOCUMENTS: Variant = Variant::Documents { tokens: 700 };
const SOFT_CAP: Variant = Variant::SoftCap { cap: 50.0 }; // Gemma 2's
const PREFIX: Variant = Variant::PrefixLm { prefix: 512 };

/// Every case. At 16,384 tokens a CPU gets only the variants that skip most tiles: the others take seconds a run on a small machine
/// (`growth.rs` runs causal there). Those for GPUs are in the order of what one wants to know first: a run may be cut short, and
/// FlexAttention may be compiled for the first of them only.
pub const CASES: &[Case] = &[
    Case { heads: 2, kv_heads: 2, ..case("full-64x64", Variant::Full, 64, 64) }.compared(), // nothing but the launch
    case("full-1024x64", Variant::Full, 1024, 64).compared(),
    case("full-2048x128", Variant::Full, 2048, 128).compared(),
    case("full-4096x64", Variant::Full, 4096, 64).compared(),
    case("causal-1024x64", Variant::Causal, 1024, 64).compared(),
    case("causal-2048x128", Variant::Causal, 2048, 128).compared(),
    case("causal-4096x64", Variant::Causal, 4096, 64).compared(),
    case("window256-1024x64", WINDOW, 1024, 64),
    case("window256-2048x128", WINDOW, 2048, 128),
    case("window256-4096x64", WINDOW, 4096, 64).compared(),
    case("window256-16384x64", WINDOW, 16384, 64),
    case("chunked512-1024x64", CHUNKED, 1024, 64),
    case("chunked512-2048x128", CHUNKED, 2048, 128),
    case("chunked512-4096x64", CHUNKED, 4096, 64).compared(),
    case("chunked512-16384x64", CHUNKED, 16384, 64),
    case("documents-1024x64", DOCUMENTS, 1024, 64),
    case("documents-2048x128", DOCUMENTS, 2048, 128),
    case("documents-4096x64", DOCUMENTS, 4096, 64).compared(),
    case("documents-16384x64", DOCUMENTS, 16384, 64),
    case("alibi-1024x64", Variant::AlibiCausal, 1024, 64),
    case("alibi-2048x128", Variant::AlibiCausal, 2048, 128),
    case("alibi-4096x64", Variant::AlibiCausal, 4096, 64).compared(),
    case("softcap-1024x64", SOFT_CAP, 1024, 64),
    case("softcap-2048x128", SOFT_CAP, 2048, 128),
    case("softcap-4096x64", SOFT_CAP, 4096, 64).compared(),
    case("prefix-1024x64", PREFIX, 1024, 64),
    case("prefix-2048x128", PREFIX, 2048, 128),
    case("prefix-4096x64", PREFIX, 4096, 64).compared(),
    case("gqa-1024x64", Variant::Causal, 1024, 64).grouped(),
    case("gqa-2048x128", Variant::Causal, 2048, 128).grouped(),
    case("gqa-4096x64", Variant::Causal, 4096, 64).grouped().compared(),
    case("decode-4096x128", Variant::Causal, 4096, 128).grouped().decoding(1).compared(),
    case("decode16-4096x128", Variant::Causal, 4096, 128).grouped().decoding(MOST_DECODED),
    case("causal-32x8192x128", Variant::Causal, 8192, 128).for_gpus(),
    case("window1024-32x8192x128", WIDE_WINDOW, 8192, 128).for_gpus(),
    case("documents-32x8192x128", DOCUMENTS, 8192, 128).for_gpus(),
    case("alibi-32x8192x128", Variant::AlibiCausal, 8192, 128).for_gpus(),
    case("softcap-32x8192x128", SOFT_CAP, 8192, 128).for_gpus(),
    case("prefix-32x8192x128", PREFIX, 8192, 128).for_gpus(),
    case("full-32x8192x128", Variant::Full, 8192, 128).for_gpus(),
    case("gqa-32x8192x128", Variant::Causal, 8192, 128).for_gpus().grouped(),
    case("decode-b1-8192x128", Variant::Causal, 8192, 128).for_gpus().grouped().decoding(1).batches(1),
    case("decode-b1-32768x128", Variant::Causal, 32768, 128).for_gpus().grouped().decoding(1).batches(1),
    case("decode-b8-8192x128", Variant::Causal, 8192, 128).for_gpus().grouped().decoding(1).batches(8),
    case("decode-b8-32768x128", Variant::Causal, 32768, 128).for_gpus().grouped().decoding(1).batches(8),
    case("causal-32x8192x64", Variant::Causal, 8192, 64).for_gpus(),
    case("window1024-32x8192x64", WIDE_WINDOW, 8192, 64).for_gpus(),
    case("documents-32x8192x64", DOCUMENTS, 8192, 64).for_gpus(),
    case("alibi-32x8192x64", Variant::AlibiCausal, 8192, 64).for_gpus(),
    case("softcap-32x8192x64", SOFT_CAP, 8192, 64).for_gpus(),
    case("prefix-32x8192x64", PREFIX, 8192, 64).for_gpus(),
    case("full-32x8192x64", Variant::Full, 8192, 64).for_gpus(),
    case("gqa-32x8192x64", Variant::Causal, 8192, 64).for_gpus().grouped(),
    case("causal-32x2048x128", Variant::Causal, 2048, 128).for_gpus(),
    case("window1024-32x2048x128", WIDE_WINDOW, 2048, 128).for_gpus(),
    case("documents-32x2048x128", DOCUMENTS, 2048, 128).for_gpus(),
    case("alibi-32x2048x128", Variant::AlibiCausal, 2048, 128).for_gpus(),
    case("softcap-32x2048x128", SOFT_CAP, 2048, 128).for_gpus(),
    case("prefix-32x2048x128", PREFIX, 2048, 128).for_gpus(),
    case("full-32x2048x128", Variant::Full, 2048, 128).for_gpus(),
    case("gqa-32x2048x128", Variant::Causal, 2048, 128).for_gpus().grouped(),
];

/// The cases that `device` gets where nobody chooses.
pub fn usual(device: &Device) -> impl Iterator<Item = &'static Case> {
    let on_gpu = is_gpu(device);
    CASES.iter().filter(move |case| on_gpu || !case.for_gpus)
}

/// The cases that `wanted` names: each a case, or the part of a name before the shape, which stands for every shape that `device` gets
/// where nobody chooses.
///
/// # Errors
/// A message with what there is, where a name is none of these.
pub fn chosen(wanted: &[String], device: &Device) -> Result<Vec<&'static Case>, String> {
    let mut cases: Vec<&Case> = Vec::new();
    for name in wanted {
        let of_name = match CASES.iter().find(|case| case.name == name) {
            Some(case) => vec![case],
            None => usual(device).filter(|case| case.family() == name).collect(),
        };
        if of_name.is_empty() {
            let names: Vec<&str> = CASES.iter().map(|case| case.name).collect();
            return Err(format!(
                "no case `{name}`; the cases are {}, and the part before the shape stands for every shape",
                names.join(", ")
            ));
        }
        cases.extend(of_name);
    }
    Ok(cases)
}

impl Case {
    /// The name without the shape.
    pub fn family(&self) -> &'static str {
        self.name.split_once('-').map_or(self.name, |(family, _)| family)
    }

    /// The sizes of the launch.
    pub fn shape(&self) -> Shape {
        Shape::new(self.batch, self.heads, self.queries, self.dim).with_kv_heads(self.kv_heads).with_keys([self.keys])
    }

    /// Whether few queries read a long cache, so that memory bounds it.
    pub fn is_decoding(&self) -> bool {
        self.queries <= MOST_DECODED && self.keys > self.queries
    }

    /// The bytes that have to be read and written once: queries, keys, values and the output.
    pub fn bytes(&self, element: Element) -> u64 {
        let rows = 2 * self.batch * (self.heads * self.queries + self.kv_heads * self.keys);
        (rows * self.dim * element.size()) as u64
    }

    /// Q, K or V of one batch as numbers around 0 with a variance of 1, the same in every process.
    pub fn operand(&self, operand: Operand) -> Vec<f32> {
        numbers(self.dimensions(operand)[1..].iter().product(), operand as u64)
    }

    /// The shape of Q, K or V.
    pub fn dimensions(&self, operand: Operand) -> [usize; 4] {
        match operand {
            Operand::Query => [self.batch, self.heads, self.queries, self.dim],
            Operand::Key | Operand::Value => [self.batch, self.kv_heads, self.keys, self.dim],
        }
    }

    /// The document of each position.
    pub fn documents(&self) -> Vec<i32> {
        let Variant::Documents { tokens } = self.variant else { return Vec::new() };
        (0..self.keys).map(|position| (position / tokens) as i32).collect()
    }

    /// ALiBi's slope of each head.
    pub fn slopes(&self) -> Vec<f32> {
        (0..self.heads).map(|head| slope(head, self.heads)).collect()
    }

    /// The attention, with its captured tensors on `device`.
    ///
    /// # Errors
    /// As [`Tensor::from_slice`].
    pub fn attention(&self, device: &Device) -> Result<AnyAttention, Error> {
        Ok(match self.variant {
            Variant::Full => full().into(),
            Variant::Causal => causal().into(),
            Variant::SlidingWindow { window } => sliding_window(window).into(),
            Variant::Chunked { chunk } => chunked(chunk).into(),
            Variant::Documents { .. } => {
                let documents = self.documents().repeat(self.batch);
                document_causal(&Tensor::from_slice(device, [self.batch, self.keys], &documents)?).into()
            }
            Variant::AlibiCausal => alibi_causal(&Tensor::from_slice(device, [self.heads], &self.slopes())?).into(),
            Variant::SoftCap { cap } => tanh_softcap(cap).into(),
            Variant::PrefixLm { prefix } => prefix_lm(prefix).into(),
        })
    }

    /// The variant as another program is told of it.
    pub fn describe(&self) -> Value {
        match self.variant {
            Variant::Full => json!({ "kind": "full" }),
            Variant::Causal => json!({ "kind": "causal" }),
            Variant::SlidingWindow { window } => json!({ "kind": "sliding_window", "window": window }),
            Variant::Chunked { chunk } => json!({ "kind": "chunked", "chunk": chunk }),
            Variant::Documents { .. } => json!({ "kind": "documents" }),
            Variant::AlibiCausal => json!({ "kind": "alibi_causal" }),
            Variant::SoftCap { cap } => json!({ "kind": "softcap", "cap": cap }),
            Variant::PrefixLm { prefix } => json!({ "kind": "prefix_lm", "prefix": prefix }),
        }
    }
}

/// One of the operands.
#[derive(Clone, Copy, Debug)]
pub enum Operand {
    /// Q.
    Query,
    /// K.
    Key,
    /// V.
    Value,
}

/// A case on a device, ready to run.
pub struct Inputs {
    /// What is run.
    pub attention: AnyAttention,
    device: Device,
    query: Tensor,
    pairs: Vec<(Tensor, Tensor)>,
    next: usize,
}

impl Inputs {
    /// The operands of `case` as f32 on `device`, with so many copies of the keys and values as [`copies`] says.
    ///
    /// # Errors
    /// As [`Tensor::from_slice`].
    pub fn new(case: &Case, device: &Device) -> Result<Inputs, Error> {
        Inputs::with_element(case, device, Element::F32)
    }

    /// The operands of `case` as numbers of `element` on `device`, with so many copies of the keys and values as [`copies`] says.
    ///
    /// # Errors
    /// As [`Tensor::from_slice`].
    pub fn with_element(case: &Case, device: &Device, element: Element) -> Result<Inputs, Error> {
        let tensor = |operand: Operand, data: &[f32]| {
            let dimensions = case.dimensions(operand);
            match element {
                Element::F32 => Tensor::from_slice(device, dimensions, &data.repeat(case.batch)),
                Element::F16 => {
                    Tensor::from_slice(device, dimensions, &rounded(data, f16::from_f32).repeat(case.batch))
                }
                Element::Bf16 => {
                    Tensor::from_slice(device, dimensions, &rounded(data, bf16::from_f32).repeat(case.batch))
                }
            }
        };
        let (keys, values) = (case.operand(Operand::Key), case.operand(Operand::Value));
        let pair = |_| Ok((tensor(Operand::Key, &keys)?, tensor(Operand::Value, &values)?));
        Ok(Inputs {
            attention: case.attention(device)?,
            device: device.clone(),
            query: tensor(Operand::Query, &case.operand(Operand::Query))?,
            pairs: (0..copies(case, device, element)).map(pair).collect::<Result<_, Error>>()?,
            next: 0,
        })
    }

    /// Launches it once, and waits until it is done: what a user waits for, with the allocation of the output.
    ///
    /// # Errors
    /// As [`AnyAttention::run`] and [`Device::sync`].
    pub fn run(&mut self) -> Result<Tensor, Error> {
        let out = self.launch()?;
        self.device.sync()?;
        Ok(out)
    }

    /// The milliseconds of one of so many calls. On a CPU each is waited for. A GPU gets them one after the other and is waited for
    /// once, as in a model, where a launch takes no time while another kernel runs.
    ///
    /// # Errors
    /// As [`Inputs::run`].
    pub fn time(&mut self, calls: usize) -> Result<f64, Error> {
        if !is_gpu(&self.device) {
            return turns::time(calls, || self.run());
        }
        let device = self.device.clone();
        turns::time_together(calls, || self.launch(), || device.sync())
    }

    /// Launches it once.
    ///
    /// # Errors
    /// As [`AnyAttention::run`].
    pub fn launch(&mut self) -> Result<Tensor, Error> {
        let (key, value) = &self.pairs[self.next];
        self.next = (self.next + 1) % self.pairs.len();
        self.attention.run(&self.device, &self.query, &[(key, value)])
    }
}

/// So many numbers around 0 with a variance of 1, the same in every process; others for each `seed`.
pub fn numbers(length: usize, seed: u64) -> Vec<f32> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed + 1);
    let numbers = (0..length).map(|_| {
        // xorshift64*: Vigna 2016.
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        let uniform = (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 40) as f32 / (1u64 << 24) as f32;
        (uniform - 0.5) * 12f32.sqrt()
    });
    numbers.collect()
}

fn rounded<T>(data: &[f32], round: fn(f32) -> T) -> Vec<T> {
    data.iter().copied().map(round).collect()
}

/// The element type of this name.
///
/// # Errors
/// A message with the names that there are.
pub fn element(name: &str) -> Result<Element, String> {
    let elements = [Element::F32, Element::F16, Element::Bf16];
    let found = elements.into_iter().find(|element| element.name() == name);
    found.ok_or_else(|| "expected f32, f16 or bf16".into())
}

/// How many copies of the keys and values are run in turn: 1, but when decoding enough not to stay in the last-level cache, as
/// the caches of a model's layers do not.
pub fn copies(case: &Case, device: &Device, element: Element) -> usize {
    if !case.is_decoding() {
        return 1;
    }
    let cache = device.client().properties().hardware.last_level_cache_size.unwrap_or(64 << 20);
    (2 * cache).div_ceil(case.bytes(element) as usize).clamp(2, 64)
}
