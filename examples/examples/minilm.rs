//! A real sentence encoder: all six layers of all-MiniLM-L6-v2, its attention by Purview and the rest plain Rust on `ndarray`.
//!
//! Sentences of different lengths go through together, padded to the longest; the only trace of it in the model is the
//! predicate of [`padded`]. Published by Wang et al., "MiniLM: Deep Self-Attention Distillation for Task-Agnostic Compression
//! of Pre-Trained Transformers" (2020), and made a sentence encoder by <https://www.sbert.net>. `./x setup` fetches the weights.
//!
//! ```sh
//! cargo run --example minilm -- "A first sentence." "Another one." "The soup needs salt."
//! ```

use std::error::Error;
use std::path::{Path, PathBuf};

use ndarray::{Array1, Array2, Array4, ArrayView1, Axis, s};
use purview::prelude::*;
use purview_examples::padded::padded;
use safetensors::{Dtype, SafeTensors};
use tokenizers::{PaddingParams, Tokenizer, TruncationParams};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const LAYERS: usize = 6;
const HEADS: usize = 12;
const HEAD_DIM: usize = 32;
const HIDDEN: usize = HEADS * HEAD_DIM;
/// Tokens a sentence is cut to: what the encoder was trained for.
const MAX_TOKENS: usize = 256;

/// Prints how similar the sentences on the command line are to each other.
pub fn main() -> Result<()> {
    let mut sentences: Vec<String> = std::env::args().skip(1).collect();
    if sentences.is_empty() {
        sentences = ["A cat sleeps on the sofa.", "The kitten is napping on the couch.", "Interest rates rose again."]
            .map(String::from)
            .to_vec();
    }
    let sentences: Vec<&str> = sentences.iter().map(String::as_str).collect();

    let embeddings = MiniLm::load(&weights_dir())?.encode(&Device::cpu()?, &sentences)?;
    print!("{}", similarity_table(&sentences, &embeddings.dot(&embeddings.t())));
    Ok(())
}

/// Where `./x setup` puts the weights: `minilm` in `$PURVIEW_DATA`, by default `~/.cache/purview`.
pub fn weights_dir() -> PathBuf {
    let data = std::env::var_os("PURVIEW_DATA").map(PathBuf::from);
    data.unwrap_or_else(|| std::env::home_dir().unwrap_or_default().join(".cache/purview")).join("minilm")
}

/// The encoder: BERT with six layers, then the mean over each sentence's tokens.
pub struct MiniLm {
    tokenizer: Tokenizer,
    words: Array2<f32>,
    positions: Array2<f32>,
    segment: Array1<f32>,
    norm: LayerNorm,
    layers: Vec<Layer>,
}

/// Sentences as token ids, padded with 0 to the longest.
pub struct Tokens {
    /// `[sentences, tokens]`
    pub ids: Array2<u32>,
    /// How many of each row's tokens are the sentence's own.
    pub lens: Vec<i32>,
}

impl MiniLm {
    /// Reads `model.safetensors` and `tokenizer.json`, as Hugging Face publishes them.
    pub fn load(dir: &Path) -> Result<Self> {
        let read = |name: &str| {
            let path = dir.join(name);
            std::fs::read(&path).map_err(|e| format!("{}: {e}; `./x setup` fetches it", path.display()))
        };
        let file = read("model.safetensors")?;
        let weights = Weights(SafeTensors::deserialize(&file)?);

        let mut tokenizer = Tokenizer::from_bytes(read("tokenizer.json")?).map_err(|e| e.to_string())?;
        tokenizer.with_padding(Some(PaddingParams::default()));
        let truncation = TruncationParams { max_length: MAX_TOKENS, ..Default::default() };
        tokenizer.with_truncation(Some(truncation)).map_err(|e| e.to_string())?;

        Ok(Self {
            tokenizer,
            words: weights.matrix("embeddings.word_embeddings.weight")?,
            positions: weights.matrix("embeddings.position_embeddings.weight")?,
            segment: weights.matrix("embeddings.token_type_embeddings.weight")?.row(0).to_owned(),
            norm: weights.layer_norm("embeddings.LayerNorm")?,
            layers: (0..LAYERS).map(|n| Layer::load(&weights, n)).collect::<Result<_>>()?,
        })
    }

    /// A unit vector a sentence, `[sentences, 384]`: the dot product of two is their cosine similarity.
    pub fn encode(&self, device: &Device, sentences: &[&str]) -> Result<Array2<f32>> {
        let tokens = self.tokenize(sentences)?;
        let hidden = self.hidden_states(device, &tokens)?;

        let mut embeddings = Array2::zeros((sentences.len(), HIDDEN));
        for (sentence, mut embedding) in embeddings.rows_mut().into_iter().enumerate() {
            let first = sentence * tokens.ids.ncols();
            let own = hidden.slice(s![first..first + tokens.lens[sentence] as usize, ..]);
            embedding += &own.mean_axis(Axis(0)).ok_or("a sentence without tokens")?;
            embedding /= embedding.dot(&embedding).sqrt();
        }
        Ok(embeddings)
    }

    /// Splits sentences into WordPiece tokens, between `[CLS]` and `[SEP]`.
    pub fn tokenize(&self, sentences: &[&str]) -> Result<Tokens> {
        let encodings = self.tokenizer.encode_batch(sentences.to_vec(), true).map_err(|e| e.to_string())?;
        let longest = encodings.first().map_or(0, |e| e.len());
        let ids = encodings.iter().flat_map(|e| e.get_ids().iter().copied()).collect();
        let own = |mask: &[u32]| mask.iter().sum::<u32>() as i32;
        Ok(Tokens {
            ids: Array2::from_shape_vec((sentences.len(), longest), ids)?,
            lens: encodings.iter().map(|e| own(e.get_attention_mask())).collect(),
        })
    }

    /// The last layer's output: a row of 384 for each token, sentence after sentence, padding included.
    pub fn hidden_states(&self, device: &Device, tokens: &Tokens) -> Result<Array2<f32>> {
        let kv_len = Tensor::from_slice(device, [tokens.lens.len()], &tokens.lens)?;
        let mut x = Array2::zeros((tokens.ids.len(), HIDDEN));
        for (((_, position), &id), mut row) in tokens.ids.indexed_iter().zip(x.rows_mut()) {
            row += &self.words.row(id as usize);
            row += &self.positions.row(position);
            row += &self.segment;
        }
        self.norm.apply(&mut x);
        for layer in &self.layers {
            x = layer.apply(device, x, tokens.ids.dim(), &kv_len)?;
        }
        Ok(x)
    }
}

/// A transformer layer, normalised after each half as in the original.
struct Layer {
    query: Linear,
    key: Linear,
    value: Linear,
    attended: Linear,
    attention_norm: LayerNorm,
    widen: Linear,
    narrow: Linear,
    norm: LayerNorm,
}

impl Layer {
    fn load(weights: &Weights, n: usize) -> Result<Self> {
        let name = |part: &str| format!("encoder.layer.{n}.{part}");
        Ok(Self {
            query: weights.linear(&name("attention.self.query"))?,
            key: weights.linear(&name("attention.self.key"))?,
            value: weights.linear(&name("attention.self.value"))?,
            attended: weights.linear(&name("attention.output.dense"))?,
            attention_norm: weights.layer_norm(&name("attention.output.LayerNorm"))?,
            widen: weights.linear(&name("intermediate.dense"))?,
            narrow: weights.linear(&name("output.dense"))?,
            norm: weights.layer_norm(&name("output.LayerNorm"))?,
        })
    }

    /// `x`: `[sentences · tokens, 384]`, and so is the result.
    fn apply(&self, device: &Device, x: Array2<f32>, shape: (usize, usize), kv_len: &Tensor) -> Result<Array2<f32>> {
        let mut x = self.attended.apply(&self.attention(device, &x, shape, kv_len)?) + x;
        self.attention_norm.apply(&mut x);

        let mut wide = self.widen.apply(&x);
        wide.mapv_inplace(gelu);
        let mut x = self.narrow.apply(&wide) + x;
        self.norm.apply(&mut x);
        Ok(x)
    }

    fn attention(
        &self,
        device: &Device,
        x: &Array2<f32>,
        (batch, tokens): (usize, usize),
        kv_len: &Tensor,
    ) -> Result<Array2<f32>> {
        // A projection is a row per token with its heads side by side: [B, S, H, D] in memory, viewed as [B, H, S, D].
        let heads = |projection: &Linear| -> Result<Tensor> {
            let rows = projection.apply(x);
            let rows = rows.as_slice().ok_or("a projection is not in row order")?;
            Ok(Tensor::from_slice(device, [batch, tokens, HEADS, HEAD_DIM], rows)?.permuted([0, 2, 1, 3])?)
        };
        let out = padded(kv_len).run(device, &heads(&self.query)?, &heads(&self.key)?, &heads(&self.value)?)?;

        let out = Array4::from_shape_vec((batch, HEADS, tokens, HEAD_DIM), out.to_vec()?)?.permuted_axes([0, 2, 1, 3]);
        Ok(out.as_standard_layout().into_owned().into_shape_with_order((batch * tokens, HIDDEN))?)
    }
}

struct Linear {
    /// `[in, out]`
    weight: Array2<f32>,
    bias: Array1<f32>,
}

impl Linear {
    fn apply(&self, x: &Array2<f32>) -> Array2<f32> {
        x.dot(&self.weight) + &self.bias
    }
}

struct LayerNorm {
    weight: Array1<f32>,
    bias: Array1<f32>,
}

impl LayerNorm {
    const EPSILON: f32 = 1e-12;

    fn apply(&self, x: &mut Array2<f32>) {
        for mut row in x.rows_mut() {
            row -= row.sum() / row.len() as f32;
            let variance = row.dot(&row) / row.len() as f32;
            row /= (variance + Self::EPSILON).sqrt();
            row *= &self.weight;
            row += &self.bias;
        }
    }
}

/// The exact form with the error function, which the weights were trained with.
fn gelu(x: f32) -> f32 {
    0.5 * x * (1.0 + libm::erff(x * std::f32::consts::FRAC_1_SQRT_2))
}

/// Tensors by the names PyTorch gave them.
struct Weights<'a>(SafeTensors<'a>);

impl Weights<'_> {
    fn matrix(&self, name: &str) -> Result<Array2<f32>> {
        let (shape, numbers) = self.read::<2>(name)?;
        Ok(Array2::from_shape_vec(shape, numbers)?)
    }

    fn vector(&self, name: &str) -> Result<Array1<f32>> {
        Ok(self.read::<1>(name)?.1.into())
    }

    fn read<const RANK: usize>(&self, name: &str) -> Result<([usize; RANK], Vec<f32>)> {
        let tensor = self.0.tensor(name)?;
        let (Dtype::F32, Ok(shape)) = (tensor.dtype(), tensor.shape().try_into()) else {
            let got = format!("{:?} of shape {:?}", tensor.dtype(), tensor.shape());
            return Err(format!("{name} is {got}, where f32 of rank {RANK} is expected").into());
        };
        let (numbers, _) = tensor.data().as_chunks();
        Ok((shape, numbers.iter().map(|&n| f32::from_le_bytes(n)).collect()))
    }

    fn linear(&self, name: &str) -> Result<Linear> {
        let weight = self.matrix(&format!("{name}.weight"))?.reversed_axes(); // PyTorch keeps [out, in]
        Ok(Linear { weight, bias: self.vector(&format!("{name}.bias"))? })
    }

    fn layer_norm(&self, name: &str) -> Result<LayerNorm> {
        Ok(LayerNorm { weight: self.vector(&format!("{name}.weight"))?, bias: self.vector(&format!("{name}.bias"))? })
    }
}

/// The sentences, numbered, above a matrix of their similarities.
fn similarity_table(sentences: &[&str], similarity: &Array2<f32>) -> String {
    let mut table = String::new();
    for (n, sentence) in (1..).zip(sentences) {
        table += &format!("{n:>4}  {sentence}\n");
    }
    let line = |label: String, cells: Vec<String>| format!("{label:>4}{}\n", cells.concat());
    table += "\n";
    table += &line(String::new(), (1..=sentences.len()).map(|n| format!("{n:>7}")).collect());
    for (n, row) in (1..).zip(similarity.rows()) {
        let cells = |row: ArrayView1<f32>| row.iter().map(|x| format!("{x:>7.2}")).collect();
        table += &line(n.to_string(), cells(row));
    }
    table
}
