//! What a kernel moves through memory, as the interpreter of its PTX counts it.

use purview_nvidia::ptx::{Counts, Traffic};
use serde_json::{Map, Value, json};

/// The kinds of instructions that go to memory.
const KINDS: [&str; 10] = [
    "ld.shared",
    "st.shared",
    "ldmatrix",
    "stmatrix",
    "wmma.load",
    "wmma.store",
    "cp.async",
    "ld.global",
    "st.global",
    "atom",
];

fn kinds(counts: &Counts) -> impl Iterator<Item = (&'static str, Traffic)> {
    KINDS.into_iter().map(|kind| (kind, counts.traffic(kind))).filter(|(_, traffic)| traffic.requests > 0)
}

/// What a launch cost, for each kind of instruction that goes to memory.
pub(crate) fn counts_json(counts: &Counts) -> Value {
    let memory = kinds(counts).map(|(kind, traffic)| {
        let value = json!({
            "requests": traffic.requests,
            "wavefronts": traffic.wavefronts,
            "ideal_wavefronts": traffic.ideal_wavefronts,
            "sectors": traffic.sectors,
            "ideal_sectors": traffic.ideal_sectors,
        });
        (kind.to_string(), value)
    });
    json!({ "warp_instructions": counts.warp_instructions, "memory": Map::from_iter(memory) })
}

/// How many wavefronts, and how many sectors, there are for each that there would be at best, by kind.
pub(crate) fn counts_text(counts: &Counts) -> String {
    let ratios = |what: &str, of: fn(&Traffic) -> (u64, u64)| -> String {
        let ratios = kinds(counts).filter_map(|(kind, traffic)| {
            let (number, ideal) = of(&traffic);
            (ideal > 0).then(|| format!("{kind} {:.2}", number as f64 / ideal as f64))
        });
        format!("{what} for each at best: {}", ratios.collect::<Vec<_>>().join(", "))
    };
    let wavefronts = ratios("wavefronts", |traffic| (traffic.wavefronts, traffic.ideal_wavefronts));
    let sectors = ratios("sectors", |traffic| (traffic.sectors, traffic.ideal_sectors));
    format!("{wavefronts}; {sectors}")
}
