//! Trains a small GPT, character by character, on this repository's own documentation, and then lets it write.
//!
//! ```sh
//! cargo run --manifest-path burn/Cargo.toml --example train                            # by Purview
//! cargo run --manifest-path burn/Cargo.toml --example train -- --attention burn        # the same by burn's attention, beside ours
//! cargo run --manifest-path burn/Cargo.toml --example train -- --attention burn --length 4096 --batch 1 --steps 3
//! ```
//!
//! Several documents are packed into each row, and none sees another. The layers of odd number see a sliding window, those of even number
//! everything before. Both masks are a line each; by burn's attention they are tensors of length × length.

use burn::config::Config;
use burn::module::Module;
use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::{Embedding, EmbeddingConfig, LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{Bool, Device, Int, Tensor, TensorData, activation, module};
use clap::{Parser, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use purview_burn::{PurviewAttention, PurviewAttentionConfig, captured};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

/// The attentions, as Purview's language says them.
mod attentions {
    use purview::prelude::*;

    /// Each position sees those of its own document before it.
    #[attention]
    pub fn document(q: Query, k: Key, v: Value, #[sorted] doc: Tensor<i32, 2>) -> Output {
        for i in q.tiles() {
            let mut o = Softmax::new();
            for j in k.tiles() {
                let s = dot(q[i], k[j]) * scale();
                o.push(mask(s, j <= i && doc[batch()][i] == doc[batch()][j]), v[j]);
            }
            o
        }
    }

    /// As [`document`], no further back than `window` positions.
    #[attention]
    pub fn windowed(q: Query, k: Key, v: Value, #[sorted] doc: Tensor<i32, 2>, window: u32) -> Output {
        for i in q.tiles() {
            let mut o = Softmax::new();
            for j in k.tiles() {
                let s = dot(q[i], k[j]) * scale();
                o.push(mask(s, j <= i && i - j < window && doc[batch()][i] == doc[batch()][j]), v[j]);
            }
            o
        }
    }
}

/// What is trained, how, and by which attention.
#[derive(Clone, Debug, Parser)]
struct Options {
    /// By whose attention. With `burn` a process of its own trains by Purview's first, for comparison.
    #[arg(long, value_enum, default_value = "purview")]
    attention: By,
    /// How often the weights are changed.
    #[arg(long, default_value_t = 400)]
    steps: usize,
    /// Rows in a batch.
    #[arg(long, default_value_t = 8)]
    batch: usize,
    /// Positions in a row.
    #[arg(long, default_value_t = 256)]
    length: usize,
    /// Where the outcome is written, for the process that compares.
    #[arg(long, hide = true)]
    outcome: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum By {
    Purview,
    Burn,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let text = Text::of_this_repository()?;
    if options.attention == By::Purview {
        let (outcome, model) = train(&options, &text)?;
        print_written(&model, &text, &options)?;
        if let Some(path) = &options.outcome {
            outcome.write(path)?;
        }
        return Ok(());
    }
    println!("── by Purview");
    let path = std::env::temp_dir().join(format!("purview-train-{}", std::process::id()));
    let numbers = [("--steps", options.steps), ("--batch", options.batch), ("--length", options.length)];
    let arguments = numbers.iter().flat_map(|(name, value)| [name.to_string(), value.to_string()]);
    let status = Command::new(std::env::current_exe()?).args(arguments).arg("--outcome").arg(&path).status()?;
    if !status.success() {
        return Err(format!("the process that trains by Purview's attention ended with {status}").into());
    }
    let ours = Outcome::read(&path)?;
    std::fs::remove_file(&path)?;
    println!("\n── by burn");
    let (theirs, model) = train(&options, &text)?;
    print_written(&model, &text, &options)?;
    compare(&ours, &theirs)
}

/// What came of training.
struct Outcome {
    losses: Vec<f32>,
    /// Of all steps but the first, which compiles kernels.
    seconds: f64,
    /// The most memory that the process had, in MiB; 0 where the system does not say.
    peak: u64,
}

impl Outcome {
    fn write(&self, path: &Path) -> Result<()> {
        let losses: Vec<String> = self.losses.iter().map(f32::to_string).collect();
        Ok(std::fs::write(path, format!("{} {} {}", self.seconds, self.peak, losses.join(" ")))?)
    }

    fn read(path: &Path) -> Result<Outcome> {
        let text = std::fs::read_to_string(path)?;
        let mut numbers = text.split(' ');
        let mut next = || numbers.next().ok_or("an outcome begins with seconds and memory");
        let (seconds, peak) = (next()?.parse()?, next()?.parse()?);
        Ok(Outcome { seconds, peak, losses: numbers.map(str::parse).collect::<Result<_, _>>()? })
    }
}

/// Says how the two differ, and fails where the first losses do by more than rounding.
fn compare(ours: &Outcome, theirs: &Outcome) -> Result<()> {
    let first = ours.losses.len().min(20);
    let differences = ours.losses.iter().zip(&theirs.losses).take(first).map(|(a, b)| (a - b).abs());
    let greatest = differences.fold(0.0, f32::max);
    let steps = (ours.losses.len() - 1).max(1) as f64;
    println!("\n              seconds a step   peak memory");
    for (name, outcome) in [("by Purview", ours), ("by burn", theirs)] {
        println!("{name:<14}{:>14.3}{:>10} MiB", outcome.seconds / steps, outcome.peak);
    }
    println!("the first {first} losses differ by at most {greatest:.1e}");
    if greatest > 1e-4 { Err("expected at most 1e-4".into()) } else { Ok(()) }
}

/// Trains a model, which is returned without what autodiff needs.
fn train(options: &Options, text: &Text) -> Result<(Outcome, Gpt)> {
    let device = Device::cpu().autodiff();
    device.seed(1);
    let config = GptConfig::new(text.characters.len(), options.length);
    let mut model = config.init(&device);
    let mut optimizer = AdamWConfig::new().with_weight_decay(0.01).init();
    let bigram = text.bigram();
    println!("{} characters, {} kinds; {} weights", text.codes.len(), text.characters.len(), model.num_params());
    let bar = ProgressBar::new(options.steps as u64);
    bar.set_style(ProgressStyle::with_template("{bar:30} step {pos}/{len}, {eta} left, {msg}")?);
    let mut batches = Batches::new(text, options);
    let loss_of = CrossEntropyLossConfig::new().init(&device);
    let (mut losses, mut start, mut mean) = (Vec::new(), Instant::now(), None);
    for step in 0..options.steps {
        let batch = batches.next(&device);
        let logits = model.forward(batch.inputs, &batch.documents, options.attention)?;
        let [rows, length, kinds] = logits.dims();
        let loss = loss_of.forward(logits.reshape([rows * length, kinds]), batch.targets.reshape([rows * length]));
        let gradients = GradientsParams::from_grads(loss.clone().backward(), &model);
        model = optimizer.step(learning_rate(step, options.steps), model, gradients);
        let loss = loss.into_scalar::<f32>();
        losses.push(loss);
        if step == 0 {
            start = Instant::now();
        }
        let smooth = mean.map_or(loss, |mean: f32| 0.95 * mean + 0.05 * loss);
        mean = Some(smooth);
        bar.set_message(format!("loss {smooth:.3}, a bigram model {bigram:.3}"));
        bar.inc(1);
    }
    let seconds = start.elapsed().as_secs_f64();
    bar.finish();
    let last = &losses[losses.len().saturating_sub(20)..];
    let last_mean = last.iter().sum::<f32>() / last.len() as f32;
    println!(
        "{} steps in {seconds:.1} s; the last {} losses {last_mean:.3}, a bigram model {bigram:.3}",
        losses.len(),
        last.len()
    );
    Ok((Outcome { losses, seconds, peak: peak_memory() }, model.valid()))
}

/// Rises over the first steps, then falls to a tenth.
fn learning_rate(step: usize, steps: usize) -> f64 {
    let warm = ((step + 1) as f64 / 20.0).min(1.0);
    let done = step as f64 / steps as f64;
    3e-3 * warm * (0.55 + 0.45 * (std::f64::consts::PI * done).cos())
}

/// Prints what the model writes, where a row is not so long that this takes minutes.
fn print_written(model: &Gpt, text: &Text, options: &Options) -> Result<()> {
    if options.length <= 512 {
        println!("\n{}", write(model, text, options)?);
    }
    Ok(())
}

/// Lets the model write three hundred characters, each drawn as likely as it says.
fn write(model: &Gpt, text: &Text, options: &Options) -> Result<String> {
    let device = Device::cpu();
    let mut written: Vec<i32> = "The kernel".bytes().map(|byte| text.code(byte)).collect();
    let mut random = Random(7);
    for _ in 0..300 {
        let seen = &written[written.len().saturating_sub(options.length)..];
        // Rows of one length, so that no kernel is compiled for another. What comes after is not seen.
        let mut row = vec![0; options.length];
        row[..seen.len()].copy_from_slice(seen);
        let inputs = Tensor::<2, Int>::from_data(TensorData::new(row, [1, options.length]), &device);
        let documents = Documents::new(&vec![0; options.length], [1, options.length], &device);
        let logits = model.forward(inputs, &documents, options.attention)?;
        let kinds = text.characters.len();
        let next = logits.slice([0..1, seen.len() - 1..seen.len(), 0..kinds]).reshape([1, kinds]);
        let chances = activation::softmax(next / 0.7, 1).into_data().try_to_vec::<f32>()?;
        let mut draw = random.next() as f32 / (1u64 << 31) as f32;
        let drawn = chances.iter().position(|chance| {
            draw -= chance;
            draw <= 0.0
        });
        written.push(drawn.unwrap_or(kinds - 1) as i32);
    }
    Ok(written.iter().map(|code| text.characters[*code as usize] as char).collect())
}

/// The most memory that this process has had, in MiB.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) / 1024
}

// The model.

#[derive(Config, Debug)]
struct GptConfig {
    kinds: usize,
    length: usize,
    #[config(default = 128)]
    d_model: usize,
    #[config(default = 4)]
    layers: usize,
    #[config(default = 64)]
    window: u32,
}

#[derive(Module, Debug)]
struct Gpt {
    characters: Embedding,
    positions: Embedding,
    blocks: Vec<Block>,
    norm: LayerNorm,
    output: Linear,
}

#[derive(Module, Debug)]
struct Block {
    /// How far it sees; everything if `None`.
    window: Option<u32>,
    attention_norm: LayerNorm,
    attention: PurviewAttention,
    norm: LayerNorm,
    up: Linear,
    down: Linear,
}

impl GptConfig {
    fn init(&self, device: &Device) -> Gpt {
        let &GptConfig { kinds, length, d_model, layers, window } = self;
        let norm = || LayerNormConfig::new(d_model).init(device);
        let block = |layer: usize| Block {
            window: (layer % 2 == 1).then_some(window),
            attention_norm: norm(),
            attention: PurviewAttentionConfig::new(d_model, 4).with_kv_heads(Some(2)).init(device),
            norm: norm(),
            up: LinearConfig::new(d_model, 4 * d_model).init(device),
            down: LinearConfig::new(4 * d_model, d_model).init(device),
        };
        Gpt {
            characters: EmbeddingConfig::new(kinds, d_model).init(device),
            positions: EmbeddingConfig::new(length, d_model).init(device),
            blocks: (0..layers).map(block).collect(),
            norm: norm(),
            output: LinearConfig::new(d_model, kinds).init(device),
        }
    }
}

impl Gpt {
    /// What comes after each of the characters `[rows, length]`: `[rows, length, kinds]`.
    fn forward(&self, inputs: Tensor<2, Int>, documents: &Documents, by: By) -> Result<Tensor<3>> {
        let mut x = self.characters.forward(inputs) + self.positions.forward(documents.positions.clone());
        let seen = Seen::new(documents, by, &self.blocks)?;
        for block in &self.blocks {
            x = block.forward(x, &seen)?;
        }
        Ok(self.output.forward(self.norm.forward(x)))
    }
}

impl Block {
    fn forward(&self, x: Tensor<3>, seen: &Seen) -> Result<Tensor<3>> {
        let normed = self.attention_norm.forward(x.clone());
        let x = x + match (seen, self.window) {
            (Seen::Purview(doc), None) => self.attention.forward(&attentions::document(doc), normed)?,
            (Seen::Purview(doc), Some(window)) => self.attention.forward(&attentions::windowed(doc, window), normed)?,
            (Seen::Burn { all, .. }, None) => by_burn(&self.attention, normed, all.clone()),
            (Seen::Burn { windowed, .. }, Some(_)) => by_burn(&self.attention, normed, windowed.clone()),
        };
        let hidden = activation::gelu(self.up.forward(self.norm.forward(x.clone())));
        Ok(x + self.down.forward(hidden))
    }
}

/// What each position sees, as the attention wants it.
#[allow(clippy::large_enum_variant, reason = "there is one at a time, and with fusion it is small")]
enum Seen {
    /// The documents' numbers.
    Purview(purview::Tensor),
    /// What is hidden, `[rows, 1, length, length]`, with the window and without.
    Burn { all: Tensor<4, Bool>, windowed: Tensor<4, Bool> },
}

impl Seen {
    fn new(documents: &Documents, by: By, blocks: &[Block]) -> Result<Seen> {
        if by == By::Purview {
            return Ok(Seen::Purview(captured(&documents.ids)?));
        }
        let [rows, length] = documents.ids.dims();
        let device = documents.ids.device();
        let of = |shape: [usize; 4]| documents.ids.clone().reshape(shape).expand([rows, 1, length, length]);
        let other = of([rows, 1, length, 1]).not_equal(of([rows, 1, 1, length]));
        let positions = Tensor::<1, Int>::arange(0..length as i64, &device);
        let at = |shape: [usize; 4]| positions.clone().reshape(shape).expand([rows, 1, length, length]);
        let back = at([1, 1, length, 1]) - at([1, 1, 1, length]);
        let all = other.bool_or(back.clone().lower_elem(0));
        let window = blocks.iter().find_map(|block| block.window).unwrap_or(u32::MAX);
        let windowed = all.clone().bool_or(back.greater_equal_elem(window));
        Ok(Seen::Burn { all, windowed })
    }
}

/// What [`PurviewAttention::forward`] does, by burn's own attention: with a mask in memory, and with keys and values repeated for the heads
/// that share them.
fn by_burn(layer: &PurviewAttention, x: Tensor<3>, hidden: Tensor<4, Bool>) -> Tensor<3> {
    let [rows, length, _] = x.dims();
    let dim = layer.head_dim;
    let heads = |projected: Tensor<3>| {
        let count = projected.dims()[2] / dim;
        projected.reshape([rows, length, count, dim]).swap_dims(1, 2)
    };
    let query = heads(layer.query.forward(x.clone()));
    let all = query.dims()[1];
    let shared = |projected: Tensor<3>| {
        let few = heads(projected);
        let count = few.dims()[1];
        let repeated = few.unsqueeze_dim::<5>(2).expand([rows, count, all / count, length, dim]);
        repeated.reshape([rows, all, length, dim])
    };
    let (key, value) = (shared(layer.key.forward(x.clone())), shared(layer.value.forward(x)));
    let hidden = hidden.expand([rows, all, length, length]);
    let options = AttentionModuleOptions { scale: None, softcap: None, is_causal: false };
    let attended = module::attention(query, key, value, Some(hidden), None, options);
    layer.output.forward(attended.swap_dims(1, 2).reshape([rows, length, all * dim]))
}

// The text.

/// Characters by their codes.
struct Text {
    /// The character of each code.
    characters: Vec<u8>,
    codes: Vec<i32>,
    /// Where each document begins: at a paragraph, the last of which is long enough.
    documents: Vec<usize>,
}

impl Text {
    /// The documentation of this repository.
    fn of_this_repository() -> Result<Text> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut files: Vec<PathBuf> =
            ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE-APACHE"]
                .map(|name| root.join(name))
                .to_vec();
        let mut docs =
            std::fs::read_dir(root.join("docs"))?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
        docs.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
        docs.sort();
        files.extend(docs);
        let mut text = String::new();
        for file in files {
            text += &std::fs::read_to_string(&file)?;
            text += "\n\n";
        }
        Ok(Text::new(&text))
    }

    /// What is not ASCII becomes a question mark.
    fn new(text: &str) -> Text {
        let bytes: Vec<u8> = text.chars().map(|c| if c.is_ascii() { c as u8 } else { b'?' }).collect();
        let mut characters = bytes.clone();
        characters.sort_unstable();
        characters.dedup();
        // burn's product of matrices on the CPU is quick where rows are a multiple of a vector: no 97 logits, but 128.
        characters.resize(characters.len().next_multiple_of(32), 127);
        let mut found = Text { characters, codes: Vec::new(), documents: vec![0] };
        found.codes = bytes.iter().map(|byte| found.code(*byte)).collect();
        for at in 2..bytes.len() {
            let last = found.documents.last().copied().unwrap_or(0);
            if bytes[at - 2..at] == *b"\n\n" && at - last >= 100 {
                found.documents.push(at);
            }
        }
        found
    }

    fn code(&self, byte: u8) -> i32 {
        self.characters.binary_search(&byte).unwrap_or(0) as i32
    }

    /// The cross-entropy, in nats a character, of the best model that knows one character before the next: that of the text's own pairs.
    fn bigram(&self) -> f64 {
        let kinds = self.characters.len();
        let mut counts = vec![0u32; kinds * kinds];
        self.codes.windows(2).for_each(|pair| counts[pair[0] as usize * kinds + pair[1] as usize] += 1);
        let mut sum = 0.0;
        for row in counts.chunks(kinds) {
            let total: u32 = row.iter().sum();
            let of = |count: &u32| f64::from(*count) * (f64::from(*count) / f64::from(total)).ln();
            sum -= row.iter().filter(|count| **count > 0).map(of).sum::<f64>();
        }
        sum / (self.codes.len() - 1) as f64
    }
}

/// Which document each position is of, and its place in that.
struct Documents {
    /// `[rows, length]`, never less than before in a row.
    ids: Tensor<2, Int>,
    /// `[rows, length]`.
    positions: Tensor<2, Int>,
}

impl Documents {
    fn new(ids: &[i32], shape: [usize; 2], device: &Device) -> Documents {
        let mut positions = vec![0; ids.len()];
        for at in 0..ids.len() {
            let continues = at % shape[1] > 0 && ids[at] == ids[at - 1];
            positions[at] = if continues { positions[at - 1] + 1 } else { 0 };
        }
        let tensor = |numbers: Vec<i32>| Tensor::from_data(TensorData::new(numbers, shape), device);
        Documents { ids: tensor(ids.to_vec()), positions: tensor(positions) }
    }
}

struct Batch {
    inputs: Tensor<2, Int>,
    targets: Tensor<2, Int>,
    documents: Documents,
}

/// Rows of documents in random order.
struct Batches<'a> {
    text: &'a Text,
    shape: [usize; 2],
    random: Random,
}

impl<'a> Batches<'a> {
    fn new(text: &'a Text, options: &Options) -> Batches<'a> {
        Batches { text, shape: [options.batch, options.length], random: Random(3) }
    }

    fn next(&mut self, device: &Device) -> Batch {
        let Batches { text, shape, random } = self;
        let [rows, length] = *shape;
        let (mut inputs, mut targets, mut ids) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..rows {
            // One character more than a row has: the last one's target.
            let (mut row, mut of) = (Vec::new(), Vec::new());
            let mut id = 0;
            while row.len() <= length {
                let chosen = random.next() as usize % text.documents.len();
                let begin = text.documents[chosen];
                let end = text.documents.get(chosen + 1).copied().unwrap_or(text.codes.len());
                row.extend_from_slice(&text.codes[begin..end]);
                of.resize(row.len(), id);
                id += 1;
            }
            inputs.extend_from_slice(&row[..length]);
            targets.extend_from_slice(&row[1..=length]);
            ids.extend_from_slice(&of[..length]);
        }
        let tensor = |numbers: Vec<i32>| Tensor::from_data(TensorData::new(numbers, *shape), device);
        Batch { inputs: tensor(inputs), targets: tensor(targets), documents: Documents::new(&ids, *shape, device) }
    }
}

/// Numbers of 31 bits, the same every time: Knuth's multiplier.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        self.0 >> 33
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_agree() {
        let text = Text::of_this_repository().unwrap();
        let train = |attention| {
            let options = Options { attention, steps: 3, batch: 2, length: 96, outcome: None };
            train(&options, &text).unwrap().0
        };
        let (ours, theirs) = (train(By::Purview), train(By::Burn));
        assert_eq!((ours.losses.len(), theirs.losses.len()), (3, 3));
        assert!(ours.losses[2] < ours.losses[0], "{:?}", ours.losses);
        compare(&ours, &theirs).unwrap();
    }

    #[test]
    fn pairs_of_characters() {
        assert_eq!(Text::new("abababab").bigram(), 0.0);
        // After an `a`, either is as likely; a `b` is always followed by an `a`.
        let text = Text::new("aabaabaabaa");
        let expected = 7.0 * (3.0 / 7.0 * (7.0f64 / 3.0).ln() + 4.0 / 7.0 * (7.0f64 / 4.0).ln()) / 10.0;
        assert!((text.bigram() - expected).abs() < 1e-12, "{} and {expected}", text.bigram());
    }

    #[test]
    fn documents_are_packed() {
        let device = Device::cpu();
        let documents = Documents::new(&[0, 0, 0, 1, 1, 0, 1, 1, 1, 2], [2, 5], &device);
        let positions: Vec<i32> = documents.positions.into_data().try_to_vec().unwrap();
        assert_eq!(positions, [0, 1, 2, 0, 1, 0, 0, 1, 2, 0]);
    }
}
