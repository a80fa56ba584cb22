//! The gallery: one attention variant a file. Each is a program of its own (`cargo run --example causal`) and a module of this
//! crate, through which the tests and the command line reach it.

// A file of the gallery finds the others by the same name as a program and as a module.
extern crate self as purview_examples;

pub mod additive_bias;
pub mod alibi_causal;
pub mod attention_sink;
pub mod block_causal;
pub mod block_sparse;
pub mod cases;
pub mod causal;
pub mod chunked;
pub mod demo;
pub mod dilated_window;
pub mod document_causal;
pub mod document_mask;
pub mod forgetting;
pub mod full;
pub mod gemma2;
pub mod global_and_local;
pub mod linear_attention;
pub mod local_window;
pub mod minilm;
pub mod neighborhood_2d;
pub mod padded;
pub mod prefix_lm;
pub mod recurrent_memory;
pub mod relative_bias;
pub mod retention;
pub mod rope;
pub mod sigmoid_attention;
pub mod sliding_window;
pub mod soft_mask;
pub mod strided;
pub mod tanh_softcap;
pub mod taylor_attention;
pub mod tree;

use purview::{Arguments, Error, Shape, Tensor, Variant};

use additive_bias::additive_bias;
use alibi_causal::alibi_causal;
use attention_sink::attention_sink;
use block_causal::block_causal;
use block_sparse::block_sparse;
use causal::causal;
use chunked::chunked;
use dilated_window::dilated_window;
use document_causal::document_causal;
use document_mask::document_mask;
use forgetting::forgetting;
use full::full;
use gemma2::gemma2;
use global_and_local::global_and_local;
use linear_attention::linear_attention;
use local_window::local_window;
use neighborhood_2d::neighborhood_2d;
use padded::padded;
use prefix_lm::prefix_lm;
use recurrent_memory::recurrent_memory;
use relative_bias::relative_bias;
use retention::retention;
use sigmoid_attention::sigmoid_attention;
use sliding_window::sliding_window;
use soft_mask::soft_mask;
use strided::strided;
use tanh_softcap::tanh_softcap;
use taylor_attention::taylor_attention;
use tree::tree;

/// Every variant by name. Scalars and captured tensors that are not given have values for trying it.
pub const GALLERY: &[Variant] = &[
    Variant {
        name: "additive_bias",
        make: |args| {
            let (batch, heads, queries, keys) =
                (args.shape.batch, args.shape.heads, args.shape.queries, keys(&args.shape));
            let bias = args.tensor("bias", [batch, heads, queries, keys], |[b, h, i, j]| {
                ((b + 3 * h + 5 * i + 7 * j) % 11) as f32 / 5.0 - 1.0
            })?;
            Ok(additive_bias(&bias, args.i32("first", keys as i32 - queries as i32)?).into())
        },
    },
    Variant {
        name: "alibi_causal",
        make: |args| {
            let heads = args.shape.heads;
            Ok(alibi_causal(&args.tensor("slope", [heads], |[h]| alibi_causal::slope(h, heads))?).into())
        },
    },
    Variant {
        name: "attention_sink",
        make: |args| {
            let sink = args.tensor("sink", [args.shape.heads], |[h]| h as f32 / 4.0 - 1.0)?;
            Ok(attention_sink(&sink, args.u32("window", 64)?).into())
        },
    },
    Variant { name: "block_causal", make: |args| Ok(block_causal(args.u32("block", 32)?).into()) },
    Variant {
        name: "block_sparse",
        make: |args| {
            let block = args.u32("block", 32)?;
            let blocks = keys(&args.shape).div_ceil(block.max(1) as usize);
            let layout = args.tensor("layout", [blocks, blocks], |[i, j]| block_sparse::in_layout(i, j))?;
            Ok(block_sparse(&layout, block).into())
        },
    },
    Variant { name: "causal", make: |_| Ok(causal().into()) },
    Variant { name: "chunked", make: |args| Ok(chunked(args.u32("chunk", 48)?).into()) },
    Variant {
        name: "dilated_window",
        make: |args| Ok(dilated_window(args.u32("window", 60)?, args.u32("dilation", 3)?).into()),
    },
    Variant {
        name: "document_causal",
        make: |args| Ok(document_causal(&documents(args, |position, keys| position * 4 / keys)?).into()),
    },
    Variant {
        name: "document_mask",
        make: |args| Ok(document_mask(&documents(args, |position, _| position * 7 % 5)?).into()),
    },
    Variant {
        name: "forgetting",
        make: |args| {
            let shape = [args.shape.batch, args.shape.heads, keys(&args.shape)];
            let log_forget = args.tensor("log_forget", shape, |[_, h, t]| -0.05 * t as f32 / (h + 1) as f32)?;
            Ok(forgetting(&log_forget).into())
        },
    },
    Variant { name: "full", make: |_| Ok(full().into()) },
    Variant { name: "gemma2", make: |args| Ok(gemma2(args.u32("window", 64)?, args.f32("cap", 50.0)).into()) },
    Variant {
        name: "global_and_local",
        make: |args| Ok(global_and_local(args.u32("globals", 4)?, args.u32("window", 32)?).into()),
    },
    Variant { name: "linear_attention", make: |_| Ok(linear_attention().into()) },
    Variant { name: "local_window", make: |args| Ok(local_window(args.u32("radius", 32)?).into()) },
    Variant {
        name: "neighborhood_2d",
        make: |args| Ok(neighborhood_2d(args.u32("width", 16)?, args.u32("radius", 3)?).into()),
    },
    Variant {
        name: "padded",
        make: |args| {
            let (batch, keys) = (args.shape.batch, keys(&args.shape));
            let kv_len = args.tensor("kv_len", [batch], |[b]| (keys * (batch - b) / batch) as i32)?;
            Ok(padded(&kv_len).into())
        },
    },
    Variant { name: "prefix_lm", make: |args| Ok(prefix_lm(args.u32("prefix", 50)?).into()) },
    Variant { name: "recurrent_memory", make: |_| Ok(recurrent_memory().into()) },
    Variant {
        name: "relative_bias",
        make: |args| {
            // A table's own reach, where one is given: [heads, 2 · reach + 1].
            let reach =
                args.tensors.get("table").map_or(64, |table| table.shape().last().map_or(0, |length| length / 2));
            let reach = args.u32("reach", reach as u32)?;
            let shape = [args.shape.heads, 2 * reach as usize + 1];
            let table =
                args.tensor("table", shape, |[h, distance]| ((3 * h + 5 * distance) % 11) as f32 / 5.0 - 1.0)?;
            Ok(relative_bias(&table, reach).into())
        },
    },
    Variant {
        name: "retention",
        make: |args| {
            Ok(retention(&args.tensor("log2_decay", [args.shape.heads], |[h]| retention::log2_decay(h))?).into())
        },
    },
    Variant {
        name: "sigmoid_attention",
        make: |args| Ok(sigmoid_attention(args.f32("bias", -(keys(&args.shape).max(1) as f32).ln())).into()),
    },
    Variant { name: "sliding_window", make: |args| Ok(sliding_window(args.u32("window", 64)?).into()) },
    Variant {
        name: "soft_mask",
        make: |args| {
            let shape = [args.shape.heads, keys(&args.shape)];
            let gate = args.tensor("gate", shape, |[h, j]| ((3 * h + 5 * j) % 11) as f32 / 2.0 - 2.5)?;
            Ok(soft_mask(&gate).into())
        },
    },
    Variant { name: "strided", make: |args| Ok(strided(args.u32("stride", 32)?).into()) },
    Variant { name: "tanh_softcap", make: |args| Ok(tanh_softcap(args.f32("cap", 3.0)).into()) },
    Variant { name: "taylor_attention", make: |_| Ok(taylor_attention().into()) },
    Variant {
        name: "tree",
        make: |args| {
            let nodes = args.shape.queries;
            let ancestor = args.tensor("ancestor", [nodes, nodes], |[node, other]| tree::is_ancestor(other, node))?;
            Ok(tree(&ancestor, args.i32("past", keys(&args.shape) as i32 - nodes as i32)?).into())
        },
    },
];

/// T of the last pair: the keys whose positions the queries share.
fn keys(shape: &Shape) -> usize {
    shape.keys.last().copied().unwrap_or(0)
}

/// The captured tensor `doc`, or `number(position, keys)` for each position.
fn documents(args: &Arguments, number: impl Fn(usize, usize) -> usize) -> Result<Tensor, Error> {
    let keys = keys(&args.shape);
    args.tensor("doc", [args.shape.batch, keys], |[_, position]| number(position, keys) as i32)
}
