//! Attentions of several products, accumulators or weights, each beside what would do its work otherwise: the time of both, and how fast
//! the first is by the useful work that it does.
//!
//! `cargo purview bench beside` prints it, and so does `cargo bench --bench variants -- --beside`. Useful work are the multiplications and
//! additions of all products on visible pairs alone.

use crate::cases::{element, numbers};
use crate::device::{self, is_gpu, usual_element};
use crate::turns::{calls, median, time, time_together};
use clap::Parser;
use half::{bf16, f16};
use purview::ir::Element;
use purview::{AnyAttention, Device, Error, Shape, Tensor};
use purview_examples::causal::causal;
use purview_examples::differential::differential;
use purview_examples::dropped_weights::dropped_weights;
use purview_examples::gated::gated;
use purview_examples::latent::latent;
use serde_json::{Value, json};

/// Whole attentions beside what they are compared with.
#[derive(Parser)]
pub struct Flags {
    /// The variants, by name: latent, differential, gated, dropped_weights; if not given all
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    variants: Vec<String>,
    /// Turns, each of which runs both sides of every row
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..))]
    turns: u32,
    /// Queries and keys
    #[arg(long, default_value_t = 2048, value_parser = clap::value_parser!(u32).range(1..))]
    length: u32,
    /// The device: cpu, wgpu, cuda or hip; if not given cuda in a build with that feature, and cpu in others
    #[arg(long)]
    device: Option<String>,
    /// The type of queries, keys and values: f32, f16 or bf16; if not given f16 on cuda and hip, and f32 on others
    #[arg(long, value_parser = element, value_name = "TYPE")]
    dtype: Option<Element>,
    /// Prints an array rather than a table
    #[arg(long)]
    json: bool,
    /// What asks for this table among those of the bench `variants`
    #[arg(long, hide = true)]
    beside: bool,
    /// What cargo passes to benches
    #[arg(long, hide = true)]
    bench: bool,
}

/// H of every row.
const HEADS: usize = 8;

/// A variant at a shape, and what it is compared with.
struct Beside {
    /// The variant's name.
    name: &'static str,
    /// Both, in words.
    what: &'static str,
    ours: Launch,
    other: Launch,
}

/// Attentions with their operands, which are run one after the other.
struct Launch {
    device: Device,
    calls: Vec<(AnyAttention, Vec<Tensor>)>,
    useful_flops: u64,
}

/// What was measured of a row: milliseconds, and times of the other side over ours for the same useful work.
struct Row {
    name: &'static str,
    what: &'static str,
    ours: Side,
    other: Side,
    ratio: f64,
}

struct Side {
    milliseconds: f64,
    gflops: f64,
}

/// Measures what `flags` say, and prints it.
///
/// # Errors
/// A message where there is no such device or variant, or a kernel fails.
pub fn measure(flags: &Flags) -> Result<(), String> {
    let Some(device) = device::open(flags.device.as_deref())? else { return Ok(()) };
    let element = flags.dtype.unwrap_or_else(|| usual_element(&device));
    let mut rows = all(&device, element, flags.length as usize).map_err(|error| error.to_string())?;
    if let Some(unknown) = flags.variants.iter().find(|wanted| rows.iter().all(|row| row.name != **wanted)) {
        let names: Vec<&str> = rows.iter().map(|row| row.name).collect();
        return Err(format!("no variant `{unknown}`; the variants are {}", names.join(", ")));
    }
    rows.retain(|row| flags.variants.is_empty() || flags.variants.iter().any(|wanted| row.name == wanted));
    let rows = run_turns(&rows, flags.turns).map_err(|error| error.to_string())?;
    if flags.json {
        let rows: Vec<Value> = rows.iter().map(Row::json).collect();
        println!("{}", serde_json::to_string_pretty(&rows).map_err(|error| error.to_string())?);
    } else {
        print_table(&rows, element, flags.length);
    }
    Ok(())
}

/// Every row. Each is causal, of so many queries and keys.
fn all(device: &Device, element: Element, length: usize) -> Result<Vec<Beside>, Error> {
    let shape = |dim| Shape::new(1, HEADS, length, dim).with_element(element);
    let launch = |calls| Launch::new(device, calls);
    let causal = || AnyAttention::from(causal());
    let lambda: Vec<f32> = (0..HEADS).map(|head| 0.8 - 0.6 * (-0.3 * head as f32).exp()).collect();
    let lambda = Tensor::from_slice(device, [HEADS], &lambda)?;
    let keep: Vec<bool> = numbers(HEADS * length * length, 9).iter().map(|number| *number > -1.3).collect();
    let keep = Tensor::from_slice(device, [1, HEADS, length, length], &keep)?;
    let parts = shape(128).with_dims([("q_rope", 64), ("k_rope", 64)]).with_key_heads([("k_rope", 1)]);
    Ok(vec![
        Beside {
            name: "latent",
            what: "dots of 128 + 64, values of 128; causal of one dot of 192",
            ours: launch(vec![(latent().into(), parts)])?,
            other: launch(vec![(causal(), shape(192).with_v_dim(128))])?,
        },
        Beside {
            name: "differential",
            what: "two dots of 64, values of 128; two calls of causal",
            ours: launch(vec![(differential(&lambda).into(), shape(64).with_v_dim(128))])?,
            other: launch(vec![(causal(), shape(64).with_v_dim(128)), (causal(), shape(64).with_v_dim(128))])?,
        },
        Beside {
            name: "gated",
            what: "a dot of 128, and a gate; causal without it",
            ours: launch(vec![(gated().into(), shape(128))])?,
            other: launch(vec![(causal(), shape(128))])?,
        },
        Beside {
            name: "dropped_weights",
            what: "a dot of 128, and a bool of each pair; causal without it",
            ours: launch(vec![(dropped_weights(&keep, 0.1).into(), shape(128))])?,
            other: launch(vec![(causal(), shape(128))])?,
        },
    ])
}

impl Launch {
    /// `calls` with operands of their shapes, as numbers around 0 with a variance of 1.
    fn new(device: &Device, calls: Vec<(AnyAttention, Shape)>) -> Result<Launch, Error> {
        let mut launch = Launch { device: device.clone(), calls: Vec::new(), useful_flops: 0 };
        for (attention, shape) in calls {
            let shapes = shape.operand_shapes(attention.spec())?;
            let operand = |(place, dimensions): (usize, [usize; 4])| {
                let data = numbers(dimensions.iter().product(), (launch.calls.len() * 8 + place) as u64);
                match shape.element {
                    Element::F32 => Tensor::from_slice(device, dimensions, &data),
                    Element::F16 => {
                        let data: Vec<f16> = data.into_iter().map(f16::from_f32).collect();
                        Tensor::from_slice(device, dimensions, &data)
                    }
                    Element::Bf16 => {
                        let data: Vec<bf16> = data.into_iter().map(bf16::from_f32).collect();
                        Tensor::from_slice(device, dimensions, &data)
                    }
                }
            };
            let operands = shapes.into_iter().enumerate().map(operand).collect::<Result<Vec<_>, Error>>()?;
            launch.useful_flops += attention.report(&shape)?.useful_flops.unwrap_or(0);
            launch.calls.push((attention, operands));
        }
        Ok(launch)
    }

    fn launch(&self) -> Result<(), Error> {
        self.calls.iter().try_for_each(|(attention, operands)| {
            let operands: Vec<&Tensor> = operands.iter().collect();
            attention.run_operands(&self.device, &operands).map(drop)
        })
    }

    /// The milliseconds of one of so many launches. On a CPU each is waited for.
    fn time(&self, calls: usize) -> Result<f64, Error> {
        if is_gpu(&self.device) {
            return time_together(calls, || self.launch(), || self.device.sync());
        }
        time(calls, || self.launch().and_then(|()| self.device.sync()))
    }

    fn side(&self, times: &[f64]) -> Side {
        let milliseconds = median(times.iter().copied());
        Side { milliseconds, gflops: self.useful_flops as f64 / milliseconds / 1e6 }
    }
}

/// Runs both sides of every row in each turn, one right after the other, and first the one and then the other in turn.
fn run_turns(rows: &[Beside], turns: u32) -> Result<Vec<Row>, Error> {
    let mut counts = Vec::new();
    for row in rows {
        row.ours.time(1)?; // compiles it
        row.other.time(1)?;
        counts.push((calls(row.ours.time(1)?), calls(row.other.time(1)?)));
    }
    let mut times = vec![(Vec::new(), Vec::new()); rows.len()];
    for turn in 0..turns {
        for ((row, counts), times) in rows.iter().zip(&counts).zip(&mut times) {
            if turn % 2 == 0 {
                times.0.push(row.ours.time(counts.0)?);
                times.1.push(row.other.time(counts.1)?);
            } else {
                times.1.push(row.other.time(counts.1)?);
                times.0.push(row.ours.time(counts.0)?);
            }
        }
    }
    let measured = rows.iter().zip(times).map(|(row, (ours, other))| {
        let work = row.ours.useful_flops as f64 / row.other.useful_flops as f64;
        // Within a turn both have the machine as it then was.
        let ratio = median(ours.iter().zip(&other).map(|(ours, other)| work * other / ours));
        Row { name: row.name, what: row.what, ours: row.ours.side(&ours), other: row.other.side(&other), ratio }
    });
    Ok(measured.collect())
}

impl Row {
    fn json(&self) -> Value {
        json!({
            "variant": self.name,
            "what": self.what,
            "ms": self.ours.milliseconds,
            "gflops": self.ours.gflops,
            "other_ms": self.other.milliseconds,
            "other_gflops": self.other.gflops,
            "ratio": self.ratio,
        })
    }
}

fn print_table(rows: &[Row], element: Element, length: u32) {
    println!(
        "\n{HEADS} heads of {length} queries and keys in {}; the ratio is the other's time over ours for the same useful work\n",
        element.name()
    );
    println!("{:<18}{:>9}{:>10}{:>10}{:>10}{:>7}  ", "variant", "ms", "GFLOP/s", "other ms", "GFLOP/s", "ratio");
    for Row { name, what, ours, other, ratio } in rows {
        println!(
            "{name:<18}{:>9.2}{:>10.1}{:>10.2}{:>10.1}{ratio:>7.3}  {what}",
            ours.milliseconds, ours.gflops, other.milliseconds, other.gflops
        );
    }
}
